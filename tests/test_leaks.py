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
import http.client
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import orjson
import pytest
from shell import PATIENCE_S, Said

from syncd.sandbox import Rule, Sandbox
from syncd.sandbox.faults import Act, Cut, Drop, Effect, Garbage, Page, Status

KEY = "flz_sk_Zq7Xw2Lp9Rt4Vn8Bm3Kc6Hd1Jf5Gs0Ty"
PASSWORD = "Tr0ub4dor+Wq8/zL3x"
PART_CHARS = 12  # so much of a secret is as good as the secret


class Human(NamedTuple):
    """Somebody made up. phone: of the numbers that are kept for films."""

    key: int
    email: str
    first: str
    last: str
    phone: str


QUILL = Human(1, "quillonia.zyxwvut@example.com", "Quillonia", "Zyxwvutson", "+33639980011")
BRAM = Human(2, "bramblewick.vandrost@example.com", "Bramblewick", "Vandrostov", "+33639980022")
ODIL = Human(3, "odilbrecht.ferrowyn@example.com", "Odilbrecht", "Ferrowyn", "+33639980033")
EVERYBODY = (QUILL, BRAM, ODIL)

CONFIG = """\
[fluenzr]
api_key = "{key}"
base_url = "{url}"
settle = "0 seconds"
{more}
[guard]
max_enrolments = {enrolments}

[source.crm]
connector = "csv"
path = "people.csv"
key = "id"

[sync.customers]
source = "crm"
schedule = "every 1 hour"
opted_out = "out"
groups = ["Customers", {{ name = "Drip", when = "score == 'hot'" }}]

[sync.customers.fields]
email = "email"
firstName = "first"
lastName = "last"
phone = "phone"

[sync.customers.custom_fields]
rank = {{ path = "rank", as = "number" }}
"""
# Reads are tried again after seconds; a time-out of 30 of them is the same after less.
HURRY = """
import syncd.fluenzr, syncd.wire
syncd.wire.BACK_OFF_S = 0.0
syncd.fluenzr.FluenzR.__init__.__kwdefaults__["timeout_s"] = 0.3
"""
BROKEN = """
import syncd.run
whole = syncd.run.sync
def sync(*given, **named):
    syncd.run.sync = whole  # the next one works
    raise ValueError({words!r})
syncd.run.sync = sync
"""
LAUNCH = "{prelude}\nimport sys\nfrom syncd.cli import main\nsys.exit(main())"


# --- the searcher -------------------------------------------------------------------------------------------------


def forms(secret: str) -> dict[str, bytes]:
    """Everything that would give the secret away. Of base64 what is the same wherever in a text it stood."""
    raw = secret.encode()
    found = {
        "as it is": raw,
        "its beginning": raw[:PART_CHARS],
        "its end": raw[-PART_CHARS:],
        "in a URL": quote(secret, safe="").encode(),
        "in hex": raw.hex().encode(),
    }
    for before in range(3):
        text = base64.b64encode(b"x" * before + raw)
        begin, end = (before * 8 + 5) // 6, (before + len(raw)) * 8 // 6
        found[f"in base64, after {before}"] = text[begin:end]
    return found


def traces_of(people: Iterable[Human]) -> dict[str, bytes]:
    """What tells who somebody is; the local part alone, too, and a number however it begins."""
    found = {}
    for one in people:
        local = one.email.partition("@")[0]
        for text in (one.email, local, one.first, one.last, one.phone[-9:]):
            found[text] = text.lower().encode()
    return found


class Trail:
    """Everything that processes have left: streams by the words of the command, and files."""

    def __init__(self, folder: Path, ours: Iterable[str]) -> None:
        """ours: names of files that the tests themselves have written."""
        self.folder, self.ours = folder, set(ours)
        self.streams: list[tuple[str, bytes]] = []
        self.talk: list[tuple[str, bytes]] = []  # of them, stderr at the default level

    def add(self, line: str, said: Said) -> None:
        """What a command has said. An address that somebody has typed may be repeated to them."""
        self.streams += [(f"{line}: stdout", said.out.encode())]
        self.streams += [(f"{line}: stderr", said.err.encode())]
        words = line.split()
        if "--debug" not in words:
            typed = [word for word in words if "@" in word]
            err = said.err if not typed else said.err.replace(typed[0], "")
            self.talk.append((line, err.encode()))

    def files(self) -> list[tuple[str, bytes]]:
        """What the product made."""
        return [(str(file), file.read_bytes()) for file in self.made()]

    def made(self) -> list[Path]:
        return [
            file
            for file in sorted(self.folder.rglob("*"))
            if file.is_file() and file.name not in self.ours
        ]

    def secrets(self, *secrets: str) -> list[str]:
        """Where one of them stands, and how."""
        needles = {f"{name} {secret}": form for secret in secrets for name, form in forms(secret).items()}  # fmt: skip
        return _search([*self.streams, *self.files()], needles)

    def people(self, people: Iterable[Human] = EVERYBODY) -> list[str]:
        """Who stands in a line of stderr."""
        return _search(self.talk, traces_of(people), lower=True)

    def bytes_of(self, *people: Human) -> list[str]:
        """Who stands in a file, whatever the file is."""
        return _search(self.files(), traces_of(people), lower=True)


def _search(
    places: Iterable[tuple[str, bytes]], needles: Mapping[str, bytes], *, lower: bool = False
) -> list[str]:
    found = []
    for place, content in places:
        content = content.lower() if lower else content
        for name, needle in needles.items():
            at = content.find(needle)
            if at >= 0:
                around = content[max(0, at - 200) : at + len(needle) + 40]
                found.append(f"{place} holds {name}: ...{around!r}...")
    return found


# --- who repeats what was asked -----------------------------------------------------------------------------------

Answer = Callable[[str], tuple[int, bytes, str]]  # what was asked -> status (0: none), body, its type


class Mirror:
    """Stands before the sandbox. What `strikes` names gets an answer that repeats the request; the rest goes on."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._target = urlsplit(sandbox.url)
        self._method = self._path = ""
        self.waiting: list[Answer] = []
        self._closing = threading.Event()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                mirror.answer(self, body)

            do_GET = do_POST = do_PUT = do_DELETE = _serve

            def log_message(self, *given: Any) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._target.path}"

    def strikes(self, method: str, path: str, *answers: Answer) -> None:
        """Requests of which these patterns match the whole get these answers, one each."""
        self._method, self._path, self.waiting = method, path, list(answers)

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        path = urlsplit(handler.path).path.removeprefix(self._target.path)
        struck = re.fullmatch(self._method, handler.command) and re.fullmatch(self._path, path)
        if struck and self.waiting:
            asked = f"{handler.path} {handler.headers['Authorization']} {body.decode()}"
            status, content, kind = self.waiting.pop(0)(asked)
            if not status:
                handler.close_connection = True
                return
        else:
            status, content, kind = self._forwarded(handler, body)
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(content)))
        handler.send_header("Retry-After", "1")
        handler.end_headers()
        handler.wfile.write(content)

    def _forwarded(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection(self._target.netloc, timeout=PATIENCE_S)
        try:
            headers = {"Authorization": handler.headers["Authorization"], "Content-Type": "application/json"}  # fmt: skip
            connection.request(handler.command, handler.path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.read(), "application/json"
        finally:
            connection.close()

    def silence(self, asked: str) -> tuple[int, bytes, str]:
        """No answer, until everything is over."""
        self._closing.wait(PATIENCE_S)
        return 0, b"", ""

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def refusal(status: int, code: str) -> Answer:
    """FluenzR's own envelope, with what was asked in its words and in its details."""

    def answer(asked: str) -> tuple[int, bytes, str]:
        error = {"code": code, "message": f"Bad request: {asked[-400:]}", "details": {"asked": asked}}
        return status, orjson.dumps({"success": False, "error": error}), "application/json"

    return answer


def page(status: int) -> Answer:
    """A proxy's page, as one that explains too much."""
    return lambda asked: (status, f"<html><pre>{asked}</pre></html>".encode(), "text/html")


def garbage(asked: str) -> tuple[int, bytes, str]:
    """No JSON, with everything in it."""
    return 200, b'{"success": true, ' + asked.encode(), "application/json"


def reset(asked: str) -> tuple[int, bytes, str]:
    """The connection ends."""
    return 0, b"", ""


# --- the scene ----------------------------------------------------------------------------------------------------


class Scene:
    """A folder, a sandbox behind a mirror, and everything that was said so far."""

    def __init__(self, folder: Path, sandbox: Sandbox, mirror: Mirror) -> None:
        self.folder, self.sandbox, self.mirror = folder, sandbox, mirror
        self.trail = Trail(folder, ["config.toml", "people.csv", "key.txt"])
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONWARNINGS": "error",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SSL_CERT_DIR": str(folder),  # reading the machine's certificates is half of a small run
            "THE_KEY": KEY,
            "DB_PASSWORD": PASSWORD,
        }
        self.configure()

    def configure(self, *, key: str = "env:THE_KEY", enrolments: int = 100, more: str = "") -> str:
        """Write the configuration, and return it."""
        text = CONFIG.format(key=key, url=self.mirror.url, enrolments=enrolments, more=more)
        self.write("config.toml", text)
        return text

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, "utf-8")

    def people(self, *rows: tuple[Human, str], rank: str = "1", out: str = "no") -> None:
        """What the source holds: people, each with a score."""
        lines = ["id,email,first,last,phone,score,rank,out"]
        lines += [
            f"{one.key},{one.email},{one.first},{one.last},{one.phone},{score},{rank},{out}"
            for one, score in rows
        ]
        self.write("people.csv", "\n".join(lines) + "\n")

    def popen(self, *words: str, prelude: str = "", stderr: int = subprocess.PIPE, **env: str) -> "subprocess.Popen[str]":  # fmt: skip
        """A process of `syncd`, as a careless login would start it."""
        start = ["-c", LAUNCH.format(prelude=prelude)] if prelude else ["-m", "syncd"]
        return subprocess.Popen(
            [sys.executable, *start, *words],
            cwd=self.folder,
            env={**self.environment, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            umask=0o022,
        )

    def __call__(self, line: str, *codes: int, prelude: str = "", **env: str) -> Said:
        """Run a command; its exit code must be one of these (0). What it says goes onto the trail."""
        words = line.split()
        with self.popen(*words, prelude=prelude, **env) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        said = Said(process.returncode, out, err)
        self.trail.add(line, said)
        assert said.code in (codes or (0,)), (line, said)
        return said


@pytest.fixture(name="scene")
def scene_fixture(tmp_path: Path) -> Iterator[Scene]:
    """Nobody anywhere, and a group that mails whoever joins."""
    with Sandbox(api_key=KEY).serve() as sandbox:
        mirror = Mirror(sandbox)
        sandbox.account.add_group("Drip", dynamic=True)
        try:
            scene = Scene(tmp_path, sandbox, mirror)
            scene.people((QUILL, "hot"), (BRAM, "cold"))
            yield scene
        finally:
            mirror.close()


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
    assert any("base64" in found and "status: stderr" in found for found in scene.trail.secrets(KEY))
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
    scene("plan")
    scene("--debug sync")
    scene("history 2")
    scene("why " + QUILL.email)
    scene("status")
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
    account.refuse(BRAM.email, f"{BRAM.email} ({BRAM.first} {BRAM.last}, {BRAM.phone}): {KEY}")
    account.refuse(ODIL.email, f"refused: {'x' * 240} {ODIL.email}")
    scene.people((QUILL, "hot"), (BRAM, "cold"), (ODIL, "cold"))
    scene("sync", 3, **more)
    assert BRAM.last in scene("quarantine list").out
    scene("quarantine retry --all")
    scene(f"quarantine drop {BRAM.email}", 2)
    scene("sync", 3, **more)
    scene(f"quarantine drop {BRAM.email}")
    scene("undo 1 --yes", 0, 3, **more)
    account.remove(QUILL.email)
    scene("reconcile", 0, 3, **more)
    scene("release " + QUILL.email)
    for one in EVERYBODY:
        scene(f"forget {one.email} --yes", **more)
        assert scene.trail.bytes_of(one) == []
    scene("sync --full", **more)
    assert account.contacts_by_email() == {}
    assert scene.trail.bytes_of(*EVERYBODY) == []
    assert_clean(scene)


# --- what goes wrong on the way ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "answers"),
    [
        (1, [refusal(401, "UNAUTHORIZED")]),
        (1, [refusal(403, "FORBIDDEN")]),
        (3, [refusal(400, "VALIDATION_ERROR")] * 3),
        (0, [refusal(429, "RATE_LIMIT_EXCEEDED")]),
        (0, [refusal(500, "INTERNAL"), page(502), page(200), garbage, reset]),
    ],
    ids=["401", "403", "400", "429", "no answer"],
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
    "as a name": ('api_key = "env:THE_KEY"', f'"{KEY}" = "api_key"'),
    "as a section": ("[fluenzr]", f"[fluenzr.{KEY}]"),
    "in a URL": ("http://", f"http://me:{PASSWORD}@"),
    "in a query": ("/v1", f"/v1?key={KEY}"),
    "in a URL of a database": ('connector = "csv"', f'connector = "sql"\nurl = "postgresql://me:{PASSWORD}@h/d"'),  # fmt: skip
    "as an option": ('connector = "csv"', f'connector = "sql"\npassword = "{PASSWORD}"'),
    "as an option that is none": ('connector = "csv"', f'connector = "csv"\npassword = "{PASSWORD}"'),  # fmt: skip
}


def test_a_secret_in_a_line_that_is_wrong(scene: Scene) -> None:
    text, started = scene.configure(), list[tuple[str, subprocess.Popen[str]]]()
    for number, (name, (right, wrong)) in enumerate(MISTAKES.items()):
        assert right in text
        scene.trail.ours.add(f"{number}.toml")
        scene.write(f"{number}.toml", text.replace(right, wrong, 1))
        started.append((name, scene.popen("--config", f"{number}.toml", "sync")))
    override = {"SYNCD_FLUENZR__API_KEY": KEY, "SYNCD_FLUENZR__BASE_URL": f"https://{PASSWORD}@h/"}
    for name, value in override.items():
        started.append((name, scene.popen("sync", **{name: value})))
    for name, process in started:
        with process:
            out, err = process.communicate(timeout=PATIENCE_S)
        scene.trail.add(name, Said(process.returncode, out, err))
        assert process.returncode == 2, (name, err)
    assert_clean(scene)


@pytest.mark.parametrize("scheme", ["env", "file", "credential"])
def test_a_secret_in_the_place_of_its_reference(scene: Scene, scheme: str) -> None:
    scene.configure(key=f"{scheme}:{KEY}")
    scene("sync", 1, 2)
    assert_clean(scene)


def test_a_source_that_cannot_be_read(scene: Scene) -> None:
    """Rows with a value that no rule takes, a row with too many fields, an address that is there twice; a closed database."""
    database = '\n[source.shop]\nconnector = "sql"\nurl = "env:SHOP"\nquery = "SELECT 1"\n[sync.buyers]\nsource = "shop"\nfields = { email = "email" }\n'
    text = scene.configure() + database
    scene.write("config.toml", text)
    shop = f"postgresql://me:{quote(PASSWORD)}@127.0.0.1:1/shop"
    scene.people((QUILL, "hot"), rank=f"none: {QUILL.email}", out=f"ask {QUILL.first}")
    scene("sync", 1, SHOP=shop)
    scene("sync customers", 3, SHOP=shop)
    scene.people((QUILL, "hot"), (BRAM, f"cold,{BRAM.email},too much"))
    scene("sync customers", 1, SHOP=shop)
    scene.write("config.toml", text.replace('key = "id"', 'key = "email"'))
    scene.people((QUILL, "hot"), (QUILL, "cold"))
    scene("sync customers", 1, SHOP=shop)
    assert_clean(scene, quote(PASSWORD))


def test_a_bug_of_ours(scene: Scene) -> None:
    words = f"{KEY} of {QUILL.first} {QUILL.last} <{QUILL.email}>, {QUILL.phone}"
    said = scene("sync", 1, prelude=BROKEN.format(words=words))
    assert "this is our bug" in said.err
    assert QUILL.last in scene("--debug sync", 1, prelude=BROKEN.format(words=words)).err
    assert_clean(scene)


def test_the_daemon(scene: Scene) -> None:
    """A bug, then a run in which FluenzR refuses somebody, then a configuration with the key in it."""
    account = scene.sandbox.account
    account.refuse(BRAM.email, f"{BRAM.email} ({BRAM.first} {BRAM.last}, {BRAM.phone}): {KEY}")
    words = f"{KEY} of {QUILL.first} {QUILL.last} <{QUILL.email}>, {QUILL.phone}"
    text = scene.configure().replace("every 1 hour", "every 1 second")
    scene.write("config.toml", text)
    lines = list[str]()
    with scene.popen("run", prelude=BROKEN.format(words=words)) as process:
        assert process.stderr is not None

        def heard(event: str) -> None:
            for line in process.stderr or ():
                lines.append(line)
                if event in line:
                    return
            raise AssertionError((event, lines))

        heard("error.unexpected")
        heard("contact.quarantined")
        heard("sync.completed")
        scene.write("config.toml", text.replace("env:THE_KEY", KEY))
        process.send_signal(signal.SIGHUP)
        heard("config.refused")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    for line in [*lines, *err.splitlines()]:
        assert orjson.loads(line)["event"]
    scene.trail.add("run", Said(0, out, "".join(lines) + err))
    assert_clean(scene)


def test_a_terminal(scene: Scene) -> None:
    """Lines for people, a progress bar, and nobody in them."""
    account = scene.sandbox.account
    account.refuse(BRAM.email, f"{BRAM.email} ({BRAM.first} {BRAM.last}, {BRAM.phone}): {KEY}")
    ours, theirs = pty.openpty()
    with scene.popen("sync", stderr=theirs, TERM="xterm", COLUMNS="200") as process:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while part := os.read(ours, 65536):
                seen += part
        out, _ = process.communicate(timeout=PATIENCE_S)
    os.close(ours)
    assert b"contact.quarantined" in seen
    assert not seen.lstrip().startswith(b"{")
    scene.trail.add("sync on a terminal", Said(process.returncode, out, seen.decode()))
    assert_clean(scene)
