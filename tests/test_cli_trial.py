"""`demo`, `sandbox` and `run`, as real processes."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from shell import KEY, PATIENCE_S, Shell, shell_fixture  # noqa: F401 - a fixture
from warm import Command


def test_the_demo_tells_the_whole_story(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    said = shell("demo", "--folder", str(folder))
    assert said.code == 0, said.err
    for words in (
        "5,000 people would be created",
        "5,000 people created",
        "5,000 people unchanged, 0 changes sent",
        "72 of 5,020 people sent: 20 created, 52 updated, by 2 requests",
        "and be mailed; the limit is 100",
        "the exit code is 4",
        "0 changes to send",
    ):
        assert words in said.out
    mails = [int(text.replace(",", "")) for text in re.findall(r"e-mails sent: ([\d,]+)", said.out)]
    planned = re.search(r"([\d,]+) of them would join", said.out)
    assert planned is not None
    assert mails == [0, int(planned[1]), 0, 0, 0]
    assert 0 < mails[1] < 100

    config = str(folder / "config.toml")
    (status,) = shell("--config", config, "status", "--json").objects
    assert status["status"] == "ok"
    why = re.search(r"syncd --config \S+ (why \S+)", said.out)
    assert why is not None
    assert 'dynamic group "Drip" once' in shell("--config", config, *why[1].split()).out


def test_the_demo_wants_an_empty_folder(shell: Shell) -> None:
    said = shell.inside("demo", "--folder", str(shell.folder))
    assert said.code == 2
    assert "is not empty" in said.err


@pytest.fixture(name="sandbox")
def sandbox_fixture(shell: Shell) -> Command:
    return shell.start("sandbox", "--port", "0", "--limit", "50")


def test_the_sandbox_says_how_to_use_it(shell: Shell, sandbox: Command) -> None:
    assert sandbox.stdout is not None
    told = "".join(sandbox.stdout.readline() for _ in range(6))
    key, url = re.search(
        r"FLUENZR_API_KEY=(\S+) SYNCD_FLUENZR__BASE_URL=(\S+) syncd plan", told
    ).groups()  # type: ignore[union-attr]
    page = re.search(r"page  (\S+)", told)
    assert page is not None
    with urllib.request.urlopen(page[1], timeout=PATIENCE_S) as answer:
        assert answer.status == 200
    shell.people((1, "ann@example.com", "Ann", 10))
    environment = {"FLUENZR_API_KEY": key, "SYNCD_FLUENZR__BASE_URL": url}
    (result,) = shell("sync", "--json", env=environment).objects
    assert result["created"] == 1
    request = urllib.request.Request(f"{url}/groups", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        assert answer.headers["X-RateLimit-Limit"] == "50"
        assert [group["name"] for group in json.load(answer)["data"]] == ["Customers"]
    sandbox.send_signal(signal.SIGTERM)
    _, err = sandbox.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in err
    assert sandbox.returncode in (0, -signal.SIGTERM)


def test_a_port_that_is_taken_is_2(shell: Shell, sandbox: Command) -> None:
    assert sandbox.stdout is not None
    sandbox.stdout.readline()
    port = sandbox.stdout.readline().rpartition(":")[2].partition("/")[0]
    said = shell("sandbox", "--port", port)
    assert (said.code, said.out) == (2, "")
    assert "another port" in said.err


def test_progress_is_shown_on_a_terminal_and_only_on_stderr(shell: Shell) -> None:
    shell.people(*((n, f"p{n}@example.com", "P", 0) for n in range(3000)))
    controller, terminal = os.openpty()
    environment = {**shell.environment, "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "120"}
    process = Command("sync", folder=shell.folder, env=environment, stderr=terminal)
    shell.started.append(process)
    os.close(terminal)
    seen = ""
    with suppress(OSError):  # how a closed terminal ends
        while piece := os.read(controller, 65536):
            seen += piece.decode("utf-8", "replace")
    os.close(controller)
    assert process.stdout is not None
    out = process.stdout.read()
    assert process.wait() == 0
    assert "customers: reading the source" in seen
    assert "sending" in seen
    assert "/3000" in seen
    assert not re.search(r"\x1b\[3\dm", seen), "NO_COLOR is honoured"
    assert "\x1b" not in out
    assert "people: created 3,000" in out
    assert "sending" not in shell("sync", "--full").err


def test_init_asks_on_a_terminal(shell: Shell) -> None:
    """Return takes what is suggested; one question after the other."""
    (shell.folder / "config.toml").unlink()
    shell.write("people.csv", "id,E-Mail,Vorname\n1,ann@example.com,Ann\n")
    controller, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "syncd", "init", "--connector", "csv", "--set", "path=people.csv"],
        cwd=shell.folder,
        env={**shell.environment, "TERM": "xterm"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    seen = ""
    with suppress(OSError):
        while piece := os.read(controller, 65536):
            seen += piece.decode("utf-8", "replace")
            if "\x1b[6n" in seen:  # where is the cursor? It is asked before each answer
                seen = seen.replace("\x1b[6n", "")
                os.write(controller, b"\x1b[1;1R\r")
    os.close(controller)
    assert process.wait() == 0
    assert "Wrote " in seen
    written = tomllib.loads((shell.folder / "config.toml").read_text("utf-8"))
    assert written["sync"]["customers"]["fields"] == {"email": "E-Mail", "firstName": "Vorname"}
    assert written["sync"]["customers"]["schedule"] == "every 15 minutes"


def test_run_serves_until_sigterm_and_ends_with_0(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann", 10))
    process = shell.start("run")
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "sync.completed":
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert out == ""
    assert all(json.loads(line)["event"] for line in err.splitlines())
    assert set(shell.account.contacts_by_email()) == {"ann@example.com"}


def test_run_refuses_a_wrong_configuration(shell: Shell) -> None:
    shell.write("config.toml", "[fluenzr]\n")
    assert shell.inside("run").code == 2
