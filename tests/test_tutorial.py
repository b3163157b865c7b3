"""The tutorial is true: its commands run one after the other, as they stand there, and say what it shows."""

import re
import subprocess
import sys
from pathlib import Path

from shell import Shell, shell_fixture  # noqa: F401 - a fixture

PAGE = (Path(__file__).parents[1] / "docs/tutorial.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
INSTALL, SANDBOX, *STORY = BLOCKS
END = "--- end of block {} ---"
URL = "http://127.0.0.1:8025/v1"


def alike(line: str) -> str:
    """The line with times, durations and numbers of requests made equal."""
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN", line)
    return re.sub(r"\d+(\.\d+)? s\b", "N s", line)


def test_the_tutorial_runs_as_it_stands(shell: Shell) -> None:
    """In one bash that stops at the first command that fails, with the sandbox of the tests in place of the other terminal's."""
    (shell.folder / "config.toml").unlink()
    commands = [text for kind, text in STORY if kind == "sh"]
    assert sum(text.count(URL) for text in commands) == 1
    key = shell.environment["FLUENZR_API_KEY"]
    script = "set -e\n" + "".join(f"{c}echo '{END.format(n)}'\n" for n, c in enumerate(commands))
    script = script.replace(URL, shell.sandbox.url)
    script = re.sub(r"flz_sk_0{32}", key, script)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=shell.folder,
        env={**shell.environment, "PATH": f"{Path(sys.executable).parent}:{shell.environment['PATH']}"},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (shell.folder / "first-sync" / "syncd.db").exists()
    said, number = done.stdout, -1
    for kind, text in STORY:
        if kind == "sh":
            number += 1
            here, _, said = said.partition(END.format(number) + "\n")
            lines = [alike(line) for line in here.splitlines()]
        else:
            for line in text.splitlines():
                assert alike(line) in lines, f"after {commands[number]!r} there is no {line!r}"
    assert shell.account.groups_of("bob@example.com") == {"Customers"}
    assert shell.account.mailed() == []


def test_what_stands_before_it_is_possible() -> None:
    """Installing takes too long to be tried here: `make dist` does. The other terminal has one command."""
    assert "pip install -c constraints.txt ." in INSTALL[1]
    assert SANDBOX == ("sh", "syncd sandbox\n")
