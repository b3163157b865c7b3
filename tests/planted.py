"""What is planted, who repeats it, and the searcher: for the tests of leaks.

scene("sync", 3)                      a real process, behind a mirror that repeats what it was asked
assert scene.trail.secrets(KEY) == [] nothing of the key in any file or stream, in any form
assert scene.trail.people() == []     nobody in a line of stderr at the default level
"""

import base64
import contextlib
import http.client
import io
import logging
import os
import re
import subprocess
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import orjson
import pytest
import structlog
from shell import PATIENCE_S, Said
from warm import STARTED_WITH, Command

from syncd.cli import main
from syncd.sandbox import Sandbox

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

Answer = Callable[
    [str], tuple[int, bytes, str]
]  # what was asked -> status (0: none), body, its type


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
        error = {
            "code": code,
            "message": f"Bad request: {asked[-400:]}",
            "details": {"asked": asked},
        }
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
            **STARTED_WITH,
            "SSL_CERT_DIR": os.environ["SSL_CERT_DIR"],
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

    def popen(self, *words: str, prelude: str = "", stderr: int = subprocess.PIPE, **env: str) -> Command:  # fmt: skip
        """A process of `syncd`, as a careless login would start it."""
        environment = {**self.environment, **env}
        return Command(*words, folder=self.folder, env=environment, stderr=stderr, prelude=prelude)

    def __call__(self, line: str, *codes: int, prelude: str = "", **env: str) -> Said:
        """A command in a process of its own; its exit code must be one of these (0)."""
        with self.popen(*line.split(), prelude=prelude, **env) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        return self.heard(line, Said(process.wait(), out, err), codes)

    def inside(self, line: str, *codes: int, **env: str) -> Said:
        """The same in this process, for what tells nothing more in another one."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.chdir(self.folder):
            for name, value in {**self.environment, **env}.items():
                patch.setenv(name, value)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(line.split())
        return self.heard(line, Said(code, out.getvalue(), err.getvalue()), codes)

    def heard(self, line: str, said: Said, codes: Collection[int]) -> Said:
        """It goes onto the trail."""
        self.trail.add(line, said)
        assert said.code in (codes or (0,)), (line, said)
        return said


@pytest.fixture(name="scene")
def scene_fixture(tmp_path: Path) -> Iterator[Scene]:
    """Nobody anywhere, and a group that mails whoever joins."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with Sandbox(api_key=KEY).serve() as sandbox:
        mirror = Mirror(sandbox)
        sandbox.account.add_group("Drip", dynamic=True)
        try:
            scene = Scene(tmp_path, sandbox, mirror)
            scene.people((QUILL, "hot"), (BRAM, "cold"))
            yield scene
        finally:
            mirror.close()
            structlog.reset_defaults()
            root.handlers[:] = handlers
            root.setLevel(level)
