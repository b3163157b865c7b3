"""What the product logs, and how: to stderr, as lines on a terminal, else JSON; never a secret.

Owns the set-up of structlog and of the standard library's logging. Modules take
`structlog.get_logger(__name__)` and name their events `noun.past_participle`, as constants.
Two nets catch what a caller overlooked: values of known secrets and key-like strings are replaced
everywhere, and e-mail addresses everywhere above the level debug.
"""

import io
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from pathlib import Path
from traceback import extract_tb
from typing import Any, TextIO, cast
from urllib.parse import unquote

import structlog

ERROR_UNEXPECTED = "error.unexpected"  # our bug: the traceback stands here, at the level debug
SECRET_CHARS_MIN = 6  # a shorter "secret" would blank out ordinary words
HIDDEN, ADDRESS = "[secret]", "[address]"
PLACES_MAX = 8  # of a bug
DEPTH_MAX = 6  # nested values are searched this deep, then shown as hidden

_KEY_LIKE = re.compile(
    r"flz_sk_\w+"  # FluenzR
    r"|\bpat-[a-z0-9]+-[0-9a-f-]{20,}"  # HubSpot
    r"|\bBearer\s+[\w.~+/=-]{8,}|\bBasic\s+[A-Za-z0-9+/=]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"  # JSON web tokens
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"  # user:password of a URL
    r"|(?<=[?&])(?:api_?key|token|access_token|client_secret|password|hapikey)=[^&\s]+",
    re.IGNORECASE,
)
_ADDRESS = re.compile(
    r"[^\s@<>\"'(),;:=\[\]{}]+@[^\s@<>\"'(),;:=\[\]{}]+\.[^\s@<>\"'(),;:=\[\]{}]+"
)

Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]


def told_bug(log: Any, problem: Exception, **fields: object) -> None:
    """A bug of ours that ends nothing else: where it was. Its words may name somebody, so they stand at the level debug.

    log: the logger of the module that goes on. fields: what it was about.
    """
    where = [f"{Path(f.filename).name}:{f.lineno}" for f in extract_tb(problem.__traceback__)]
    log.error(
        ERROR_UNEXPECTED, **fields, error="this is our bug",
        kind=type(problem).__name__, where=where[-PLACES_MAX:],
    )  # fmt: skip
    log.debug(ERROR_UNEXPECTED, **fields, exc_info=problem)


def configure(*, level: int, secrets: Iterable[str] = (), stream: TextIO | None = None) -> None:
    """Send all logs of `level` and above to stderr; called again once the secrets are known.

    secrets: values that must never be shown. stream: stderr unless told; a terminal gets lines,
    anything else JSON.
    """
    terminal = (stream or sys.stderr).isatty()
    stream = stream or cast("TextIO", _Stderr())
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redactor(secrets),
    ]
    render: Any = (
        structlog.dev.ConsoleRenderer(colors=_coloured(), exception_formatter=_plain)
        if terminal
        else structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    )
    structlog.configure(
        processors=[*chain, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )
    _adopt_standard_library(level, chain, render, stream)


def redactor(secrets: Iterable[str]) -> Processor:
    """The processor that takes secrets out of events, and addresses out of all but debug ones."""
    parts = {part for secret in secrets for part in _parts(secret)}
    known = sorted((p for p in parts if len(p) >= SECRET_CHARS_MIN), key=len, reverse=True)
    values = re.compile("|".join(map(re.escape, known))) if known else None

    def clean(text: str, *, addresses: bool) -> str:
        if values is not None:
            text = values.sub(HIDDEN, text)
        text = _KEY_LIKE.sub(HIDDEN, text)
        return text if addresses else _ADDRESS.sub(ADDRESS, text)

    def search(value: Any, depth: int, *, addresses: bool) -> Any:
        if isinstance(value, str):
            return clean(value, addresses=addresses)
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth == 0:
            return HIDDEN
        if isinstance(value, dict):
            return {
                search(k, depth - 1, addresses=addresses): search(v, depth - 1, addresses=addresses)
                for k, v in value.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [search(v, depth - 1, addresses=addresses) for v in value]
        return clean(str(value), addresses=addresses)

    def redact(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        addresses = event.get("level", method) == "debug"
        return {key: search(value, DEPTH_MAX, addresses=addresses) for key, value in event.items()}

    return redact


def without_addresses(text: str) -> str:
    """For what is said beside the log."""
    return _ADDRESS.sub(ADDRESS, text)


def _parts(secret: str) -> Iterator[str]:
    """The secret, and of a URL its password too, which a driver may show alone."""
    yield secret
    if "://" in secret:
        authority = secret.partition("://")[2].rpartition("@")[0]
        password = authority.partition(":")[2]
        yield from (password, unquote(password))


def _coloured() -> bool:
    return not os.environ.get("NO_COLOR")


def _plain(stream: TextIO, exc_info: Any) -> None:
    """Tracebacks as Python writes them: no local variables, which may hold addresses."""
    structlog.dev.plain_traceback(stream, exc_info)


class _Stderr(io.TextIOBase):
    """stderr as it is at each moment: a progress bar on the screen puts itself in between."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _adopt_standard_library(level: int, chain: list[Any], render: Any, stream: TextIO) -> None:
    """Route what libraries log (APScheduler, uvicorn, httpx) through the same processors."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if level <= logging.DEBUG else logging.WARNING)
    # It logs whole request headers at debug, the key among them.
    logging.getLogger("httpcore").setLevel(logging.WARNING)
