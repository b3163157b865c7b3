"""The log: JSON where no terminal is, and neither a secret nor an address in it."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from shell import KEY, Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import log

SECRET = "s3cr3t-value"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(level: int, **event: object) -> dict[str, object]:
    stream = io.StringIO()
    log.configure(level=logging.DEBUG, secrets=[SECRET], stream=stream)
    structlog.get_logger("test").log(level, "thing.happened", **event)
    found: dict[str, object] = json.loads(stream.getvalue())
    return found


@pytest.mark.parametrize(
    "hidden",
    [
        SECRET,
        KEY,
        "pat-eu1-0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f",
        "Bearer abcdefgh.ijklmnop",
        "Basic dXNlcjpwYXNz",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
        "user:passw0rd",
    ],
)
def test_no_secret_is_logged_at_any_level_or_depth(hidden: str) -> None:
    text = f"https://{hidden}@host/x" if ":" in hidden else f"say {hidden} now"
    for level in (logging.DEBUG, logging.ERROR):
        event = logged(
            level, plain=text, deep={"a": [{"b": (text,)}], text: 1}, error=ValueError(text)
        )
        assert hidden not in json.dumps(event)
        assert log.HIDDEN in str(event["plain"])


def test_no_secret_of_a_query_is_logged() -> None:
    event = logged(logging.ERROR, url="https://host/x?a=1&api_key=abc&token=def&b=2")
    assert "abc" not in str(event["url"])
    assert "def" not in str(event["url"])
    assert "b=2" in str(event["url"])


def test_the_password_of_a_url_is_hidden_alone_too() -> None:
    stream = io.StringIO()
    url = "postgresql://me:p%40ss-word@db.example.com/crm"
    log.configure(level=logging.INFO, secrets=[url], stream=stream)
    structlog.get_logger().error("source.failed", a=url, b="tried p@ss-word", c="tried p%40ss-word")
    event = json.loads(stream.getvalue())
    assert event["b"] == event["c"] == f"tried {log.HIDDEN}"
    assert "ss-word" not in event["a"]


def test_addresses_are_for_debug_only() -> None:
    assert "ann@example.com" in str(logged(logging.DEBUG, email="ann@example.com")["email"])
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        event = logged(
            level, email="ann@example.com", why="<Ann.O'Hara+x@mail.example.com> bounced"
        )
        assert "@" not in json.dumps(event)
        assert "bounced" in str(event["why"])


def test_tracebacks_are_redacted_too() -> None:
    stream = io.StringIO()
    log.configure(level=logging.INFO, secrets=[SECRET], stream=stream)
    try:
        raise ValueError(f"{SECRET} ann@example.com")
    except ValueError:
        structlog.get_logger().exception("thing.broken")
    assert "ValueError" in stream.getvalue()
    assert SECRET not in stream.getvalue()
    assert "ann@example.com" not in stream.getvalue()


def test_libraries_are_logged_the_same_way() -> None:
    stream = io.StringIO()
    log.configure(level=logging.INFO, secrets=[SECRET], stream=stream)
    logging.getLogger("apscheduler.x").warning("job of %s: %s", "ann@example.com", SECRET)
    logging.getLogger("apscheduler.x").info("too much")
    (line,) = stream.getvalue().splitlines()
    event = json.loads(line)
    assert event["event"] == f"job of {log.ADDRESS}: {log.HIDDEN}"
    assert event["level"] == "warning"


def test_a_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    log.configure(level=logging.INFO, stream=stream)
    structlog.get_logger().info("thing.happened", count=3)
    assert "thing.happened" in stream.getvalue()
    assert "count=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_a_whole_run_shows_no_key_and_no_address(shell: Shell) -> None:
    """Whatever is logged: JSON, on stderr alone, and clean."""
    shell.people((1, "ann@example.com", "Ann", 10))
    said = shell("sync", "--json")
    assert said.code == 0
    for line in said.err.splitlines():
        assert json.loads(line)["event"]
    assert "ann@example.com" not in said.err
    debug = shell("--debug", "sync", "--full")
    assert KEY not in debug.out + debug.err


TALKATIVE = """\
import json, sys
print("reading ann@example.com with ENV_SECRET", file=sys.stderr)
ann = {"id": "1", "email": "ann@example.com", "first": "Ann", "score": "1", "out": "no"}
schema = {"properties": {name: {"type": "string"} for name in ann}}
people = {"tap_stream_id": "people", "stream": "people", "schema": schema, "key_properties": ["id"]}
if "--discover" in sys.argv:
    print(json.dumps({"streams": [people]}))
else:
    print(json.dumps({"type": "SCHEMA", **people}))
    print(json.dumps({"type": "RECORD", "stream": "people", "record": ann}))
"""


@pytest.mark.parametrize(
    "words",
    [
        ("check", "--json"),
        ("plan", "--json"),
        ("--config", "new.toml", "init", "--connector", "singer", "--yes"),
    ],
    ids=" ".join,
)
def test_what_is_logged_never_stands_among_the_answers(
    shell: Shell, words: tuple[str, ...]
) -> None:
    """A tap says things on its stderr, at the level debug: nobody has asked for that."""
    shell.write("tap.py", TALKATIVE.replace("ENV_SECRET", SECRET))
    command = f"{sys.executable} tap.py"
    text = (shell.folder / "config.toml").read_text()
    old = 'connector = "csv"\npath = "people.csv"\nkey = "id"\n'
    new = f'connector = "singer"\ncommand = "{command}"\nstream = "people"\n'
    new += 'config = { password = "env:TAP_PASSWORD" }\n'
    assert old in text
    shell.write("config.toml", text.replace(old, new))
    if "init" in words:
        words = (*words, "--set", f"command={command}", "--set", "stream=people")
    said = shell(*words, env={"TAP_PASSWORD": SECRET})
    assert said.code == 0, said.out
    if "--json" in words:
        assert {"check", "sync"} & set(said.objects[-1]), said.out
    assert "program.said" not in said.out + said.err
    assert "reading ann@example.com" not in said.out + said.err
    debug = shell("--debug", "check", env={"TAP_PASSWORD": SECRET})
    assert "reading ann@example.com" in debug.err
    assert SECRET not in debug.out + debug.err
