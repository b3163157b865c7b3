"""Programs as sources: started without a shell, listened to with a limit on silence, and ended with all that they started.

It owns what connectors share that run a program: its environment, its two pipes, its last words in an error without secrets and
addresses, and its end, whichever way the read ends. What it is given and what it says is the connector's business. POSIX only.
"""

import os
import re
import select
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import orjson
import structlog

from syncd.clock import Clock
from syncd.errors import ConfigError, SourceError
from syncd.secret import SCHEMES, Secret

PROGRAM_SAID = "program.said"  # a line that a Singer tap wrote to its stderr
LINE_BYTES_MAX = 16 * 1024 * 1024  # longer is no record of a person
CHUNK_BYTES = 64 * 1024  # what a pipe holds
POLL_MS = 100  # how long a request to stop may go unseen
GRACE_S = 5.0  # between SIGTERM and SIGKILL
WORDS_LINES, WORDS_CHARS_MAX = 3, 200  # of its last words: lines, and of each its beginning
SHOWN_CHARS_MAX = 2000  # of one line in the log
LINE_OF_SECRET_CHARS_MIN = 6  # a private key has many lines: each is hidden, but for the shortest
PASSED_ON = re.compile(  # of our environment; the rest, our own secrets among it, stays here
    r"PATH|HOME|USER|LOGNAME|LANG(UAGE)?|LC_\w+|TZ|TMPDIR|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE"
    r"|LD_LIBRARY_PATH|(https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY"
)
_FRAME = re.compile(r'File ".*", line \d+|[\^~ ]+$')  # of a Python traceback: no words of anybody
_ADDRESS = re.compile(r"[^\s\"'<>(),;:]+@[^\s\"'<>(),;:]+")
_SECRET_NAME = re.compile(r"pass|secret|token|credential|api_?key|private", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:([^/\s]+)@")

Hide = Callable[[str], str]
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """A program that can be run, many times.

    command: the program and its first arguments; a relative path starts at `folder`, where it runs. environment: what it gets
    beside PASSED_ON. silence_s_max: between two lines of stdout. hide: see `hider`.
    """

    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    silence_s_max: float
    clock: Clock
    hide: Hide

    @property
    def name(self) -> str:
        """As errors call it: its arguments are nobody's business."""
        return Path(self.command[0]).name

    def output(self, *arguments: str) -> Generator[bytes, None, None]:
        """Yield what it writes to stdout, as it comes. Closing the generator ends it.

        Raises ConfigError when it cannot be started; SourceError when it is silent for too long or exits with anything but 0;
        Interrupted.
        """
        process = self._started(arguments)
        try:
            yield from self._heard(process)
        finally:
            _end(process)

    def _started(self, arguments: tuple[str, ...]) -> "subprocess.Popen[bytes]":
        path, *first = self.command
        ours = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
        try:
            return subprocess.Popen(
                [str(Path(path).expanduser()) if path[:1] == "~" else path, *first, *arguments],
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=self.folder,
                env={**ours, **self.environment},
                start_new_session=True,  # a group of its own, to be ended as one; and no terminal
                preexec_fn=_heed_signals,
            )
        except (OSError, ValueError, RuntimeError) as error:  # ValueError: a NUL in an argument
            raise ConfigError(
                f"{self.name} cannot be started",
                why=getattr(error, "strerror", None) or str(error),
                hint="Install it, and write its full path in `command`",
            ) from None

    def _heard(self, process: "subprocess.Popen[bytes]") -> Generator[bytes, None, None]:
        out, err = (pipe.fileno() for pipe in (process.stdout, process.stderr) if pipe)
        talk, poll, still = _Talk(self.name, self.hide), select.poll(), {out, err}
        for pipe in still:
            poll.register(pipe, select.POLLIN)
        heard_s = self.clock.monotonic_s()
        ready: list[tuple[int, int]] = []
        while process.poll() is None or (out in still and (ready or process.returncode == 0)):
            ready = poll.poll(POLL_MS) if still else []
            self.clock.sleep_s(0.0)  # raises Interrupted, when a stop was asked for
            for pipe, _ in ready:
                data = os.read(pipe, CHUNK_BYTES)
                if not data:
                    poll.unregister(pipe)
                    still.remove(pipe)
                elif pipe == err:
                    talk.hear(data)
                else:
                    yield data
                    heard_s = self.clock.monotonic_s() if b"\n" in data else heard_s
            self._judge_silence(heard_s, talk)
            if not still:  # it has closed both pipes, and is about to exit
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=POLL_MS / 1000)
        if err in still and poll.poll(0):  # what it started may keep this pipe open
            talk.hear(os.read(err, CHUNK_BYTES))
        self._judge_end(process.returncode, talk)

    def _judge_silence(self, heard_s: float, talk: "_Talk") -> None:
        if self.clock.monotonic_s() - heard_s > self.silence_s_max:
            raise SourceError(
                f"{self.name} was silent for {self.silence_s_max:.0f} seconds, and was ended",
                why=talk.last_words(),
                hint="Where it needs so long between two records, set a longer `timeout`",
            )

    def _judge_end(self, code: int, talk: "_Talk") -> None:
        words = talk.last_words()
        if code != 0:
            raise SourceError(
                f"{self.name} {_fate(code)}, so what it gave is not complete",
                why=words,
                hint="Its own documentation knows what that means; --debug shows all that it said",
            )


def with_secrets(value: Any, folder: Path | None) -> Any:
    """The same with a Secret for each reference, and TOML's times as text; `file://...` is a URL, and stays one."""
    match value:
        case str():
            scheme, _, rest = value.partition(":")
            if scheme in SCHEMES and rest and not rest.startswith("//"):
                return Secret(value, folder=folder)
        case dict():
            return {name: with_secrets(each, folder) for name, each in value.items()}
        case list():
            return [with_secrets(each, folder) for each in value]
        case datetime() | date() | time():
            return value.isoformat()
    return value


def revealed(value: Any, secrets: list[str], name: str = "") -> Any:
    """What `with_secrets` gave, with the secrets' values. Raises ConfigError.

    secrets: to this list each value is added, and any text under a telling name.
    """
    match value:
        case Secret():
            secrets.append(value.reveal())
            return secrets[-1]
        case dict():
            return {key: revealed(each, secrets, key) for key, each in value.items()}
        case list():
            return [revealed(each, secrets, name) for each in value]
        case str() if _SECRET_NAME.search(name):
            secrets.append(value)
    return value


def lines(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The lines of an output, without their ends; the last one needs none. Raises SourceError for one that has no end."""
    pieces = _Lines(name)
    for chunk in chunks:
        yield from pieces.add(chunk)
    yield from pieces.add(b"\n") if pieces.size else ()


def hider(secrets: Iterable[str]) -> Hide:
    """What takes `secrets` out of a text: as they are, as URLs and JSON write them, and each line of one that has many."""
    parts = set(secrets)
    parts |= {found for secret in parts for found in _PASSWORD_IN_URL.findall(secret)}
    split = {line.strip() for secret in parts for line in secret.splitlines()}
    parts |= {line for line in split if len(line) >= LINE_OF_SECRET_CHARS_MIN}
    forms = {form for part in parts for form in (
        part, quote(part), quote(part, safe=""), quote_plus(part), orjson.dumps(part).decode()[1:-1],
    )} - {""}  # fmt: skip
    if not forms:
        return lambda text: text
    pattern = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
    return lambda text: pattern.sub("(secret)", text)


class _Lines:
    """Lines out of pieces. size: bytes of the one that has no end yet."""

    def __init__(self, name: str) -> None:
        self._name, self._parts, self.size = name, list[bytes](), 0

    def add(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`. Raises SourceError."""
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = b"".join((*self._parts, whole[0]))
            self._parts, self.size = [], 0
        self._parts.append(rest)
        self.size += len(rest)
        if self.size > LINE_BYTES_MAX:
            raise SourceError(
                f"{self._name} wrote a line of more than {LINE_BYTES_MAX} bytes",
                hint="It is to write one message a line; no record of a person is as long",
            )
        return whole


class _Talk:
    """What a program says on stderr, line by line."""

    def __init__(self, name: str, hide: Hide) -> None:
        self._name, self._hide, self._lines = name, hide, _Lines(name)
        self._last: deque[str] = deque(maxlen=WORDS_LINES)

    def hear(self, data: bytes) -> None:
        """Log what is whole, and keep the last of it."""
        for line in self._lines.add(data):
            said = self._hide(line.decode("utf-8", "replace")).strip()
            if said:
                log.debug(PROGRAM_SAID, program=self._name, line=said[:SHOWN_CHARS_MAX])
                if not _FRAME.match(said):
                    near = said[
                        : 2 * WORDS_CHARS_MAX
                    ]  # the pattern would take hours for a long line
                    self._last.append(_ADDRESS.sub("(address)", near)[:WORDS_CHARS_MAX])

    def last_words(self) -> str:
        """The last lines as one, without addresses."""
        self.hear(b"\n")
        return " / ".join(self._last)


def _fate(code: int) -> str:
    if code > 0:
        return f"failed with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


def _heed_signals() -> None:
    """A run blocks SIGTERM in its own thread, and children inherit that: they could not be asked to end."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the program with its whole group, take back its pipes, and leave no zombie."""
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    gone = (ProcessLookupError, PermissionError)  # the latter: macOS, of a group of zombies
    with suppress(*gone, subprocess.TimeoutExpired):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=GRACE_S)
    with suppress(*gone):
        os.killpg(process.pid, signal.SIGKILL)  # and whatever has outlived its parent
    process.wait()
