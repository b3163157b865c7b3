"""What stands in deploy/ and the README fits the product: commands, paths, links, and when mail comes."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from syncd import config

DEPLOY = Path(__file__).parents[1] / "deploy"
ROOT = DEPLOY.parent
SYNCD = Path(sys.executable).with_name("syncd")

PROGRAM = "/opt/fluenzr-syncd/bin/syncd"
CONFIG = "/etc/fluenzr-syncd/config.toml"
SERVICES = sorted((DEPLOY / "systemd").glob("*.service"))
TIMERS = sorted((DEPLOY / "systemd").glob("*.timer"))
CRON = DEPLOY / "cron" / "fluenzr-syncd"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
VERIFIER = shutil.which("systemd-analyze")

Unit = dict[str, dict[str, list[str]]]


def unit(path: Path) -> Unit:
    """Section -> key -> its values, in order. A line that is neither is a mistake."""
    sections: Unit = {}
    section: dict[str, list[str]] = {}
    for line in path.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if found := re.fullmatch(r"\[(\w+)\]", line):
            section = sections.setdefault(found[1], {})
            continue
        key, equals, value = line.partition("=")
        assert equals, f"{path.name}: {line!r} is no assignment"
        assert re.fullmatch(r"[A-Z]\w*", key), f"{path.name}: {key!r} is no key"
        section.setdefault(key, []).append(value)
    return sections


def exists(*command: str) -> bool:
    """Whether the product has this command."""
    done = subprocess.run([SYNCD, *command, "--help"], capture_output=True, check=False)
    return done.returncode == 0


def test_the_check_for_commands_can_fail() -> None:
    assert not exists("no-such-command")


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_service_starts_a_command_that_exists(path: Path) -> None:
    [start] = unit(path)["Service"]["ExecStart"]
    program, option, config, *command = start.split()
    assert (program, option, config) == (PROGRAM, "--config", CONFIG)
    assert exists(*command)


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_service_runs_with_as_little_as_it_needs(path: Path) -> None:
    service = unit(path)["Service"]
    assert service["User"] == ["fluenzr-syncd"]
    assert service["StateDirectory"] == ["fluenzr-syncd"]
    assert service["UMask"] == ["0077"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["LimitCORE"] == ["0"]
    [credential] = service["LoadCredential"]
    name, _, file = credential.partition(":")
    assert file == f"/etc/fluenzr-syncd/credentials/{name}"


def test_daemon_is_watched_and_started_again_but_not_with_a_wrong_configuration() -> None:
    service = unit(DEPLOY / "systemd" / "fluenzr-syncd.service")["Service"]
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]
    assert service["WatchdogSec"] == ["2h"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]


def test_all_services_are_hardened_alike() -> None:
    own = {
        "LoadCredential",
        *("Type", "ExecStart", "ExecReload", "WatchdogSec", "Restart", "RestartSec"),
        *("RestartPreventExitStatus", "SuccessExitStatus", "TimeoutStartSec", "TimeoutStopSec"),
    }
    first, *others = (
        {key: value for key, value in unit(path)["Service"].items() if key not in own}
        for path in SERVICES
    )
    assert others == [first, first]


def test_the_dead_man_needs_no_more_than_the_address_it_tells() -> None:
    service = unit(DEPLOY / "systemd" / "fluenzr-syncd-deadman.service")["Service"]
    assert service["Type"] == ["oneshot"]
    assert service["ExecStart"] == [f"{PROGRAM} --config {CONFIG} notify"]
    assert service["LoadCredential"] == ["alert_url:/etc/fluenzr-syncd/credentials/alert_url"]


@pytest.mark.parametrize("path", TIMERS, ids=lambda path: path.name)
def test_timer_has_its_service_and_catches_up(path: Path) -> None:
    assert path.with_suffix(".service") in SERVICES
    assert unit(path)["Timer"]["Persistent"] == ["yes"]


@pytest.mark.skipif(VERIFIER is None, reason="this machine has no systemd-analyze")
@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_score_is_what_the_readme_says(path: Path) -> None:
    assert VERIFIER is not None
    done = subprocess.run(
        [VERIFIER, "security", "--no-pager", "--offline=true", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip("this systemd-analyze judges no file")
    said = re.search(r"gives it ([\d.]+) of 10", (DEPLOY / "README.md").read_text("utf-8"))
    assert said is not None
    assert float(found[1]) <= float(said[1])


@pytest.mark.skipif(VERIFIER is None, reason="this machine has no systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    assert VERIFIER is not None
    for path in SERVICES + TIMERS:
        # The program is not installed here; everything else is judged as it stands.
        text = path.read_text("utf-8").replace(PROGRAM, sys.executable)
        (tmp_path / path.name).write_text(text, "utf-8")
    done = subprocess.run(
        [VERIFIER, "verify", "--man=no", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("code", "mailed"),
    [(0, False), (1, True), (2, True), (3, True), (4, True), (5, False)],
)
def test_cron_is_quiet_when_well_and_mails_when_not(
    tmp_path: Path, code: int, *, mailed: bool
) -> None:
    [line] = [x for x in CRON.read_text("utf-8").splitlines() if x.startswith("*")]
    *when, user, command = line.split(maxsplit=6)
    assert (len(when), user) == (5, "fluenzr-syncd")
    assert "%" not in command, "cron would end the command there"
    assert f"{PROGRAM} --config {CONFIG} sync " in command
    stand_in = tmp_path / "syncd"
    stand_in.write_text(f'#!/bin/sh\necho "on stdout: $*"; echo "on stderr" >&2; exit {code}\n')
    stand_in.chmod(0o755)
    command = command.replace(PROGRAM, str(stand_in))
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    # cron mails whatever is printed
    assert bool(done.stdout + done.stderr) is mailed
    if mailed:
        assert f"exit code {code}" in done.stdout
        assert f"on stdout: --config {CONFIG} sync\non stderr" in done.stdout


def test_image_is_built_from_files_that_exist_and_does_not_run_as_root() -> None:
    text = DOCKERFILE.read_text("utf-8")
    copied = [
        name
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE)
        for name in line.split()[:-1]
    ]
    assert copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
    last_stage = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last_stage, re.MULTILINE)
    commands = re.findall(r'^CMD \["(\w+)"\]|CMD \["syncd", "(\w+)"\]$', text, re.MULTILINE)
    assert {a or b for a, b in commands} == {"run", "status"}
    assert all(exists(a or b) for a, b in commands)


def test_paths_are_the_same_everywhere() -> None:
    """One configuration fits the service, cron and the container."""
    assert f"SYNCD_CONFIG={CONFIG}" in DOCKERFILE.read_text("utf-8")
    compose = (DEPLOY / "docker" / "compose.yaml").read_text("utf-8")
    assert f"./config.toml:{CONFIG}:ro" in compose
    assert "state:/var/lib/fluenzr-syncd\n" in compose
    assert "CREDENTIALS_DIRECTORY=/etc/fluenzr-syncd/credentials\n" in CRON.read_text("utf-8")
    for name in ("fluenzr_api_key", CONFIG, "/var/lib/fluenzr-syncd/syncd.db"):
        assert name in (DEPLOY / "README.md").read_text("utf-8")


def test_readme_names_commands_and_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    commands = set(re.findall(r"`syncd ([a-z]+)", text))
    assert {"init", "check", "plan", "sync", "run"} <= commands
    assert [name for name in sorted(commands) if not exists(name)] == []
    links = re.findall(r"\]\((?!https:)([^)]+)\)", text)
    assert [name for name in links if not (ROOT / name).exists()] == []
    targets = re.findall(r"^make (\w+)", text, re.MULTILINE)
    rules = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(targets) == {"demo", "test"} <= set(rules)


def test_configuration_of_the_readme_is_right(tmp_path: Path) -> None:
    [block] = re.findall(r"```toml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "config.toml").write_text(textwrap.dedent(block), "utf-8")
    settings = config.load(tmp_path / "config.toml")
    assert list(settings.syncs) == ["customers"]
