"""A planted key, a planted password and made-up people are searched for in everything that a run writes.

    the key     in no form, in no file and on no stream, not even with --debug
    people      in no line of stderr at the default level: the log, and what is said beside an answer
    forgotten   in no byte of any file that the product made

Real processes against the real sandbox. Between them stands a mirror that answers with what it was asked, the
Authorization header included: the worst that a proxy, or FluenzR's own words, can do. What is asked for on
stdout (`plan`, `why`, `quarantine list`) may name people; that is what these commands are for.
"""

import base64
import contextlib
import os
import pty
import signal
import stat
from pathlib import Path
from urllib.parse import quote

import orjson
import pytest
from planted import (
    BRAM,
    BROKEN,
    EVERYBODY,
    HURRY,
    KEY,
    ODIL,
    PART_CHARS,
    PASSWORD,
    QUILL,
    Answer,
    Scene,
    Trail,
    garbage,
    page,
    refusal,
    reset,
    scene_fixture,  # noqa: F401 - a fixture
)
from shell import PATIENCE_S, Said

from syncd.sandbox import Rule
from syncd.sandbox.faults import Act


def assert_clean(scene: Scene, *secrets: str) -> None:
    """No secret anywhere, nobody in what was said at the default level."""
    assert scene.trail.secrets(KEY, PASSWORD, *secrets) == []
    assert scene.trail.people() == []


# --- the searcher itself --------------------------------------------------------------------------------------------

HEADER = f"Bearer {KEY}"


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        HEADER,
        f"...{KEY[:PART_CHARS]}...",
        f"...{KEY[-PART_CHARS:]}",
        quote(f"key={PASSWORD}", safe=""),
        base64.b64encode(HEADER.encode()).decode(),
        base64.b64encode(f"user:{PASSWORD}".encode()).decode(),
        base64.b64encode(KEY.encode()).decode(),
        KEY.encode().hex(),
        f"postgresql://me:{PASSWORD}@db/crm",
    ],
)
def test_the_searcher_finds_a_secret_in_every_form(tmp_path: Path, text: str) -> None:
    trail = Trail(tmp_path, ["mine.txt"])
    (tmp_path / "mine.txt").write_text(f"a {text} b")
    assert trail.secrets(KEY, PASSWORD) == []  # what the test has written does not count
    (tmp_path / "state.db").write_bytes(b"\x00\xff" + text.encode() + b"\x00")
    assert trail.secrets(KEY, PASSWORD)
    said = Trail(tmp_path / "empty", [])
    said.add("--debug sync", Said(0, "", f"a {text} b"))
    assert said.secrets(KEY, PASSWORD)


def test_the_searcher_finds_a_line_that_leaks(scene: Scene) -> None:
    """A line of the log with the key in base64 and a name in it: both are found, in a real process."""
    leak = (
        "import structlog, base64\n"
        "from syncd.cli import invocation\n"
        "whole = invocation.Invocation.settings\n"
        "def settings(self, **given):\n"
        "    found = whole(self, **given)\n"
        f"    text = base64.b64encode(b'{HEADER}').decode()\n"
        f"    structlog.get_logger().warning('key.used', key=text, who='{QUILL.last}')\n"
        "    return found\n"
        "invocation.Invocation.settings = settings\n"
    )
    scene("status", prelude=leak)
    assert any(
        "base64" in found and "status: stderr" in found for found in scene.trail.secrets(KEY)
    )
    assert any(QUILL.last.lower() in found.lower() for found in scene.trail.people())
    assert scene.trail.bytes_of(QUILL) == []
    (scene.folder / "left.db-wal").write_bytes(b"\x00" + QUILL.email.upper().encode())
    assert scene.trail.bytes_of(QUILL)


# --- the repertoire ---------------------------------------------------------------------------------------------------


def test_from_the_first_check_to_a_sealed_plan(scene: Scene) -> None:
    """With the key in a file; every file is its owner's alone, those of the moment of sending too."""
    scene.write("key.txt", KEY + "\n")
    scene.configure(key="file:key.txt", enrolments=0)
    modes = dict[str, int]()

    def look() -> None:
        modes.update({one.name: stat.S_IMODE(one.stat().st_mode) for one in scene.trail.made()})

    scene.sandbox.faults.add(Rule(name="look", effect=Act(action=look), path="/contacts/bulk"))
    scene("check --probe")
    scene("sync --json", 4)
    scene("approve 1")
    scene("plan --out friday.plan")
    scene.people((QUILL, "hot"), (BRAM, "cold"), (ODIL, "cold"))
    assert ODIL.email not in scene("sync --plan friday.plan", 0, 3).out
    scene("plan --json")
    scene("--debug sync")
    for line in ("plan", "check", "history 2", "status", "why " + QUILL.email):
        scene.inside(line)
    assert set(scene.sandbox.account.contacts_by_email()) == {one.email for one in EVERYBODY}
    look()
    made = {"", "-wal", "-shm", ".lock", ".installed", ".forgotten", ".scratch"}
    assert modes.keys() >= {f"syncd.db{end}" for end in made} | {"friday.plan"}
    assert set(modes.values()) == {0o600}, modes
    assert_clean(scene)


def test_from_the_quarantine_to_oblivion(scene: Scene) -> None:
    """With the key from systemd. What FluenzR says of people stays where somebody asks for it."""
    account, more = scene.sandbox.account, {"CREDENTIALS_DIRECTORY": str(scene.folder)}
    scene.write("key.txt", KEY)
    scene.configure(key="credential:key.txt")
    account.refuse(BRAM.email, f"{BRAM.email} is refused for {KEY}")
    account.refuse(ODIL.email, f"refused: {'x' * 250} {ODIL.email}")
    scene.people((QUILL, "hot"), (BRAM, "cold"), (ODIL, "cold"))
    scene("sync", 3, **more)
    assert f"{BRAM.email} is refused" in scene.inside("quarantine list").out
    scene.inside("quarantine retry --all")
    scene.inside(f"quarantine drop {BRAM.email}", 2)
    scene("sync", 3, **more)
    scene.inside(f"quarantine drop {BRAM.email}")
    scene("undo 1 --yes", 0, 3, **more)
    account.remove(QUILL.email)
    scene("reconcile", 0, 3, **more)
    scene.inside("release " + QUILL.email)
    for one, command in zip(EVERYBODY, (scene, scene.inside, scene.inside), strict=True):
        command(f"forget {one.email} --yes", **more)
        assert scene.trail.bytes_of(one) == []
    scene("sync --full", **more)
    assert account.contacts_by_email() == {}
    assert scene.trail.bytes_of(*EVERYBODY) == []
    assert_clean(scene)


# --- what goes wrong on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "answers"),
    [
        pytest.param(1, [refusal(401, "UNAUTHORIZED")], id="401"),
        pytest.param(1, [refusal(403, "FORBIDDEN")], id="403"),
        pytest.param(3, [refusal(400, "VALIDATION_ERROR")] * 2, id="400"),
        pytest.param(0, [refusal(429, "RATE_LIMIT_EXCEEDED")], id="429"),
        pytest.param(
            0, [refusal(500, "INTERNAL"), page(502), page(200), garbage, reset], id="no answer"
        ),
    ],
)
def test_fluenzr_repeats_what_it_was_asked(scene: Scene, code: int, answers: list[Answer]) -> None:
    scene.mirror.strikes("POST", "/contacts.*", *answers)
    for _ in answers:
        scene("sync", code, 0, 3)
        if not scene.mirror.waiting:
            break
    assert scene.mirror.waiting == []
    assert_clean(scene)


def test_nothing_answers(scene: Scene) -> None:
    scene.mirror.strikes("POST", "/contacts.*", scene.mirror.silence)
    scene("sync", 0, 1, 3, prelude=HURRY)
    assert scene.mirror.waiting == []
    text = scene.configure().replace("http://127", "https://127")
    scene.write("config.toml", text)
    assert "TLS" in scene("sync", 1, prelude=HURRY).err
    assert_clean(scene)


MISTAKES = {
    "inline": ('api_key = "env:THE_KEY"', f'api_key = "{KEY}"'),
    "without quotes": ('api_key = "env:THE_KEY"', f"api_key = {KEY}"),
    "one quote": ('api_key = "env:THE_KEY"', f'api_key = "{KEY}'),
    "another name": ('api_key = "env:THE_KEY"', f'apikey = "{KEY}"'),
    "in a URL": ("http://", f"http://me:{PASSWORD}@"),
    "in a query": ("/v1", f"/v1?key={KEY}"),
    "in a URL of a database": (
        'connector = "csv"',
        f'connector = "sql"\nurl = "postgresql://me:{PASSWORD}@h/d"',
    ),
    "as an option": ('connector = "csv"', f'connector = "sql"\npassword = "{PASSWORD}"'),
    "as an option that is none": (
        'connector = "csv"',
        f'connector = "csv"\npassword = "{PASSWORD}"',
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_secret_in_a_line_that_is_wrong(scene: Scene, name: str) -> None:
    text, (right, wrong) = scene.configure(), MISTAKES[name]
    assert right in text
    scene.write("config.toml", text.replace(right, wrong, 1))
    scene.inside("sync", 2)
    assert_clean(scene)


def test_a_secret_in_an_override(scene: Scene) -> None:
    scene.inside("sync", 2, SYNCD_FLUENZR__API_KEY=KEY)
    url = f"https://me:{quote(PASSWORD, safe='')}@example.com/v1"
    scene.inside("sync", 2, SYNCD_FLUENZR__BASE_URL=url)
    assert_clean(scene, quote(PASSWORD, safe=""))


def test_a_secret_in_the_place_of_a_name(scene: Scene) -> None:
    scene.write("config.toml", scene.configure().replace("api_key =", f"{KEY} ="))
    scene.inside("sync", 2)
    assert scene.trail.secrets(KEY) == []


def test_a_secret_in_the_place_of_its_reference(scene: Scene) -> None:
    for scheme in ("env", "file", "credential"):
        scene.configure(key=f"{scheme}:{KEY}")
        scene.inside("sync", 2)
    assert scene.trail.secrets(KEY) == []


DATABASE = """
[source.shop]
connector = "sql"
url = "env:SHOP"
query = "SELECT 1 AS id"

[sync.buyers]
source = "shop"
fields = { email = "email" }
"""


def test_a_source_that_cannot_be_read(scene: Scene) -> None:
    """A closed database; rows with values that no rule takes; one field too many."""
    scene.write("config.toml", scene.configure() + DATABASE)
    shop = f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1:1/shop"
    scene.people((QUILL, "hot"), rank=f"none: {QUILL.email}", out=f"ask {QUILL.first}")
    assert "buyers" in scene("sync", 1, SHOP=shop).err
    scene.inside("status", SHOP=shop)
    scene.people((QUILL, "hot"), (BRAM, f"cold,{BRAM.email},too much"))
    scene("sync customers", 1, SHOP=shop)
    assert_clean(scene, quote(PASSWORD, safe=""))


def test_a_key_that_is_an_address_and_is_there_twice(scene: Scene) -> None:
    scene.write("config.toml", scene.configure().replace('key = "id"', 'key = "email"'))
    scene.people((QUILL, "hot"), (QUILL, "cold"))
    scene.inside("sync", 1)
    assert_clean(scene)


def test_a_bug_of_ours(scene: Scene) -> None:
    words = f"{KEY} of {QUILL.first} {QUILL.last} <{QUILL.email}>, {QUILL.phone}"
    said = scene("sync", 1, prelude=BROKEN.format(words=words))
    assert "this is our bug" in said.err
    assert QUILL.last in scene("--debug sync", 1, prelude=BROKEN.format(words=words)).err
    assert_clean(scene)


def daemon(scene: Scene, *events: str, words: str) -> None:
    """A run that breaks with these words and one that works, then a configuration with the key in it; heard in this order."""
    text = scene.configure().replace("every 1 hour", "every 1 second")
    scene.write("config.toml", text)
    with scene.popen("run", prelude=BROKEN.format(words=words)) as process:
        assert process.stderr is not None
        lines = list[str]()

        def heard(event: str) -> None:
            for line in process.stderr or ():
                lines.append(line)
                if event in line:
                    return
            raise AssertionError((event, lines))

        for event in ("error.unexpected", *events, "sync.completed"):
            heard(event)
        scene.write("config.toml", text.replace("env:THE_KEY", KEY))
        process.send_signal(signal.SIGHUP)
        heard("config.refused")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    lines += err.splitlines()
    assert all(orjson.loads(line)["event"] for line in lines)
    scene.trail.add("run", Said(0, out, "".join(lines)))


def test_the_daemon(scene: Scene) -> None:
    scene.sandbox.account.refuse(BRAM.email, f"{BRAM.email} is refused for {KEY}")
    daemon(scene, "contact.quarantined", words=f"{KEY} of <{QUILL.email}>")
    assert_clean(scene)


def test_a_name_in_a_bug_of_the_daemon(scene: Scene) -> None:
    daemon(scene, words=f"{QUILL.first} {QUILL.last}, {QUILL.phone}")
    assert scene.trail.people() == []


def on_a_terminal(scene: Scene) -> str:
    """What `sync` writes to a terminal that is its stderr."""
    ours, theirs = pty.openpty()
    with scene.popen("sync", stderr=theirs, TERM="xterm", COLUMNS="200") as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while part := os.read(ours, 65536):
                seen += part
        out, _ = process.communicate(timeout=PATIENCE_S)
    os.close(ours)
    scene.trail.add("sync", Said(process.wait(), out, seen.decode()))
    return seen.decode()


def test_a_terminal(scene: Scene) -> None:
    """Lines for people, a progress bar, and nobody in them."""
    scene.sandbox.account.refuse(BRAM.email, f"{BRAM.email} is refused for {KEY}")
    seen = on_a_terminal(scene)
    assert "contact.quarantined" in seen
    assert '{"contact"' not in seen
    assert_clean(scene)
