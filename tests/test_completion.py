"""Completion by the shell: what may stand at a place, in any shell; quickly, and with a broken configuration too."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from shell import Said, Shell, shell_fixture  # noqa: F401 - a fixture

BASH = shutil.which("bash") or ""
COMMAND = Path(sys.executable).parent / "syncd"
HEAVY = ("httpx", "structlog", "sqlite_utils", "jinja2", "syncd.config", "connectors")


def completed(shell: Shell, words: str, *, env: dict[str, str] | None = None) -> list[str]:
    """What bash is told at the end of these words."""
    count = len(words.split()) - (not words.endswith(" "))
    asked = {"_SYNCD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    said = shell(env={**asked, **(env or {})})
    assert (said.code, said.err) == (0, "")
    return said.out.split()


def in_bash(shell: Shell, script: str) -> Said:
    """A bash that has read nobody's settings but those of the test's folder."""
    environment = {**shell.environment, "PATH": f"{COMMAND.parent}:{shell.environment['PATH']}"}
    done = subprocess.run(
        [BASH, "--norc", "-c", script],
        cwd=shell.folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


def test_syncs_of_the_configuration_that_is_meant(shell: Shell) -> None:
    shell.write("other.toml", "[sync.alpha]\n[sync.beta]\n[sync.beta-2]\n")
    assert completed(shell, "syncd sync ") == ["customers"]
    assert completed(shell, "syncd approve 12 c") == ["customers"]
    assert completed(shell, "syncd -c other.toml plan ") == ["alpha", "beta", "beta-2"]
    assert completed(shell, "syncd -c other.toml plan beta ") == ["alpha", "beta-2"]
    assert completed(shell, "syncd plan b", env={"SYNCD_CONFIG": "other.toml"}) == [
        "beta",
        "beta-2",
    ]


def test_connectors_and_commands(shell: Shell) -> None:
    assert completed(shell, "syncd connectors sa") == ["salesforce"]
    assert completed(shell, "syncd init --connector hub") == ["hubspot"]
    assert completed(shell, "syncd rec") == ["reconcile"]
    assert completed(shell, "syncd sync --dr") == ["--dry-run"]


@pytest.mark.parametrize(
    "text",
    ["[sync", "sync = 3", "sync = [1]", "\ufeff[fluenzr]\nsync.x = 1\n[sync]", "a = " + "[" * 5000],
    ids=["broken", "number", "list", "twice", "deep"],
)
def test_a_broken_configuration_completes_nothing(shell: Shell, text: str) -> None:
    shell.write("config.toml", text)
    assert completed(shell, "syncd sync ") == []


def test_no_configuration_and_no_text(shell: Shell) -> None:
    assert completed(shell, "syncd -c nowhere.toml sync ") == []
    assert completed(shell, "syncd -c . sync ") == []
    (shell.folder / "config.toml").write_bytes(b"\xff\xfe[")
    assert completed(shell, "syncd sync ") == []
    (shell.folder / "config.toml").write_bytes(b"#" * (1024 * 1024 + 1))
    assert completed(shell, "syncd sync ") == []


def test_completion_imports_nothing_heavy(shell: Shell) -> None:
    script = (
        "import sys; from syncd.cli import main; main([]);"
        f"sys.exit(str([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **shell.environment,
            "_SYNCD_COMPLETE": "complete_bash",
            "COMP_WORDS": "syncd sync ",
            "COMP_CWORD": "2",
        },
        capture_output=True, text=True, check=False, cwd=shell.folder,
    )  # fmt: skip
    assert (done.stdout.split(), done.stderr.strip()) == (["customers"], "[]")


@pytest.mark.parametrize(
    ("name", "shown"),
    [("zsh", ['"customers"']), ("fish", ["customers"])],
)
def test_other_shells(shell: Shell, name: str, shown: list[str]) -> None:
    env = {"_SYNCD_COMPLETE": f"complete_{name}", "_TYPER_COMPLETE_ARGS": "syncd sync "}
    env["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    said = shell(env=env)
    assert (said.code, said.err) == (0, "")
    assert all(word in said.out for word in shown)
    assert "_SYNCD_COMPLETE" in shell(env={"_SYNCD_COMPLETE": f"source_{name}"}).out


@pytest.mark.skipif(not BASH, reason="this machine has no bash")
def test_bash_completes(shell: Shell) -> None:
    script = (
        'eval "$(_SYNCD_COMPLETE=source_bash syncd)"; COMP_WORDS=(syncd sync ""); COMP_CWORD=2;'
        ' _syncd_completion syncd; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    said = in_bash(shell, script)
    assert (said.code, said.out, said.err) == (0, "customers\n", "")


@pytest.mark.skipif(not BASH, reason="this machine has no bash")
def test_completion_is_installed_for_the_shell_that_asks(shell: Shell) -> None:
    said = in_bash(shell, "syncd --install-completion; echo $?")
    assert said.out.endswith("\n0\n"), said
    written = (shell.folder / ".bash_completions" / "syncd.sh").read_text()
    assert "complete -o default -F _syncd_completion syncd" in written
    assert "syncd.sh" in (shell.folder / ".bashrc").read_text()
    shown = in_bash(shell, "syncd --show-completion; true")
    assert "_SYNCD_COMPLETE=complete_bash" in shown.out
