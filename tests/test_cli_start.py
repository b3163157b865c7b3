"""The command before it does anything: its version, its help, wrong usage, and what it says of a bug."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from shell import Shell, shell_fixture  # noqa: F401 - a fixture
from typer.main import get_command

from syncd import __version__
from syncd.cli import guarded
from syncd.cli.app import app
from syncd.errors import Interrupted, SourceError
from syncd.report import text


def commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    """(its words, the command) of each command that does something itself."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
            if not command.invoke_without_command:
                continue
        yield " ".join((*before, name)), command


ROOT = get_command(app)
COMMANDS = dict(commands(ROOT))
HEAVY = ("typer", "pydantic", "httpx", "rich", "structlog", "syncd.config", "syncd.run")


def test_version_is_said_alone(shell: Shell) -> None:
    said = shell("--version")
    assert (said.code, said.out, said.err) == (0, f"syncd {__version__}\n", "")
    assert shell("--debug", "--version").out == said.out


def test_version_imports_nothing_heavy(shell: Shell) -> None:
    script = (
        "import sys; from syncd.cli import main; main(['--version']);"
        f"sys.exit(str([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == "[]"


def test_version_starts_at_once(shell: Shell) -> None:
    def best_s(*words: str) -> float:
        took = []
        for _ in range(5):
            start_s = time.perf_counter()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            took.append(time.perf_counter() - start_s)
        return min(took)

    assert best_s("-m", "syncd", "--version") < 12 * best_s("-c", "pass")


def test_help_names_every_command(shell: Shell) -> None:
    said = shell.inside("--help")
    assert said.code == 0
    for command in ROOT.commands:
        assert f"\n  {command} " in said.out
    assert "..." not in said.out.partition("Commands:")[2], "a summary is cut"


@pytest.mark.parametrize("words", COMMANDS)
def test_help_has_an_example_that_can_be_typed(shell: Shell, words: str) -> None:
    said = shell.inside(*words.split(), "--help")
    assert said.code == 0
    examples = re.findall(r"Example:  (syncd .+)", said.out)
    assert examples
    for example in examples:
        options, command, rest = example.partition(f" {words}")
        assert command, "another command's example"
        assert options == "syncd" or re.fullmatch("syncd --(config|debug)( [^ ]+)?", options)
        COMMANDS[words].make_context(words, shlex.split(rest))  # raises where it is not understood


def test_every_command_is_looked_at() -> None:
    """The walk finds those of groups, too."""
    assert {"init", "sync", "run", "quarantine retry", "webhooks serve"} <= COMMANDS.keys()


@pytest.mark.parametrize(
    "words",
    [
        ("bogus",),
        ("plan", "--bogus"),
        ("plan", "--limit", "0"),
        ("plan", "--limit", "many"),
        ("sync", "--wait", "-1"),
        ("sync", "nobody"),
        ("plan", "--email", "no address"),
        ("why",),
        ("why", "no address"),
        ("history", "first"),
        ("check", "--offline", "--probe"),
        ("connectors", "bogus"),
        ("init", "--yes"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2_and_says_nothing_on_stdout(shell: Shell, words: tuple[str, ...]) -> None:
    said = shell.inside(*words)
    assert said.code == 2
    assert said.out == ""
    assert said.err


def test_no_configuration_says_what_to_do(shell: Shell) -> None:
    (shell.folder / "config.toml").unlink()
    said = shell("plan")
    assert said.code == 2
    assert said.out == ""
    assert "syncd init" in said.err


def test_broken_configuration_lists_every_mistake_on_stderr(shell: Shell) -> None:
    shell.write("config.toml", "[fluenzr]\n[sync.a]\nsorce = 'x'\n")
    said = shell("sync", "--json")
    assert said.code == 2
    assert said.out == ""
    for place in ("fluenzr.api_key", "sync.a.sorce", "sync.a.fields.email"):
        assert place in said.err


def test_errors_stand_on_three_lines(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise SourceError("It broke", why="Because", hint="Mend it")

    assert guarded(command) == 1
    assert capsys.readouterr().err == "error: It broke\n  why: Because\n  next: Mend it\n"


def test_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise Interrupted("Stopped on request")

    assert guarded(command) == 130
    assert capsys.readouterr().err.startswith("stopped: ")


def test_a_bug_is_called_one_and_shows_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise ZeroDivisionError("ann@example.com")

    assert guarded(command) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "this is our bug (reference " in said.err
    assert "Traceback" not in said.err
    assert "ann@example.com" not in said.err


def test_a_reader_that_has_seen_enough_ends_nothing(shell: Shell) -> None:
    shell.people(*((n, f"p{n}@example.com", "x" * 50) for n in range(500)))
    process = shell.start("plan", "--json")
    assert process.stdout is not None
    process.stdout.close()  # as `| head -0` does
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0


def test_a_terminal_without_the_characters_gets_escapes(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Zoë"))
    said = shell("plan", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert said.code == 0
    assert "Zo\\xeb" in said.out


# The words that every answer is made of


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (12, "12 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (3 * 86400, "3 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("then_s", "words"),
    [(98, "just now"), (40, "1 minute ago"), (-7300, "2 hours ago"), (400, "in 5 minutes")],
)
def test_ages(then_s: float, words: str) -> None:
    assert text.ago(then_s, now_s=100) == words


def test_control_characters_never_reach_the_terminal() -> None:
    assert "\x1b" not in text.clean("Ann\x1b[2J")
    assert "\x1b" not in "".join(text.table([("Ann\x1b[2J\r", "x")]))
    assert text.clean("Zoë 漢字") == "Zoë 漢字"


def test_columns_are_aligned_by_what_a_terminal_shows() -> None:
    lines = text.table([("漢字", "1"), ("e\u0301", "22")], right=[1])
    assert lines == ["漢字   1", "e\u0301     22"]


def test_colour_is_for_terminals_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert text.style("held", "red") == "held"


def test_closed_and_full_streams_are_no_bugs(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann"))
    script = f"{sys.executable} -m syncd"
    for command, code in (
        (f"{script} plan >&-", 0),
        (f"{script} plan 2>&-", 0),
        (f"{script} plan >/dev/full", 1),
    ):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=shell.folder,
            env=shell.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (command, done.stderr)
        assert "bug" not in done.stderr
        assert "Traceback" not in done.stderr
    assert "No space left" in done.stderr
