"""A small HTTP server on 127.0.0.1 that plays a vendor in tests: a clock, faults to order, a record of what was asked.

    class Acme(Double):
        def answer(self, asked):
            return Told(200, {"people": self.people})

Time is the clock's: `Date` headers, and whatever the double stamps its rows with.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from syncd.testing.clock import FakeClock


@dataclass
class Asked:
    """One request as it arrived.

    query: the first value of each name; queries: all of them; headers: names in lower case; target: path and query as they came.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    queries: Mapping[str, list[str]] = field(default_factory=dict)
    target: str = ""

    @property
    def json(self) -> Any:
        """The body, where it is JSON."""
        return json.loads(self.body) if self.body else None

    @property
    def form(self) -> dict[str, str]:
        """The body, where it is a form: the first value of each name."""
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


@dataclass
class Told:
    """One answer. body: JSON, or bytes as they are."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def _nothing(_: Asked) -> None:
    """What a double does before an answer unless told otherwise."""


class Double:
    """One vendor's server; use it in a `with`.

    faults: answers that are given instead of the next ones, in order; None lets one request through. broken_after: from this many
    requests on, every answer is a 500. before_answer: called with each request before it is answered.
    """

    date = True  # whether answers carry a Date header

    def __init__(self, clock: FakeClock | None = None) -> None:
        self.clock = clock or FakeClock()
        self.asked: list[Asked] = []
        self.faults: list[Told | None] = []
        self.broken_after: int | None = None
        self.before_answer: Callable[[Asked], None] = _nothing
        self._lock = threading.Lock()

    def answer(self, asked: Asked) -> Told:
        """What the vendor says."""
        raise NotImplementedError

    def respond(self, asked: Asked) -> Told:
        """A fault that was ordered, else what the vendor says."""
        with self._lock:
            self.asked.append(asked)
            if self.broken_after is not None and len(self.asked) > self.broken_after:
                return Told(500, b"out of order")
            told = self.faults.pop(0) if self.faults else None
            if told is not None:
                return told
            self.before_answer(asked)
            return self.answer(asked)

    def paths(self) -> list[str]:
        """Method and path of everything that was asked so far."""
        return [f"{one.method} {one.path}" for one in self.asked]

    def __enter__(self) -> Self:
        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._server.double = self  # type: ignore[attr-defined]
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Quiet(ThreadingHTTPServer):
    """A client that closes early is what some tests are about, and nothing to print."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing."""


class Handler(BaseHTTPRequestHandler):
    """Bytes in, `Asked` out; `Told` in, bytes out."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Say nothing: the double keeps what was asked."""

    def handle_any(self) -> None:
        """Answer one request of any method."""
        double: Double = self.server.double  # type: ignore[attr-defined]
        told = double.respond(self._asked())
        content = told.body
        if not isinstance(content, bytes):
            content = b"" if content is None else json.dumps(content).encode()
        self.send_response_only(told.status)
        headers = {"Content-Type": "application/json", **told.headers}
        if double.date:
            headers["Date"] = formatdate(double.clock.now_s(), usegmt=True)
        if told.status not in {204, 304}:
            headers["Content-Length"] = str(len(content))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if told.status not in {204, 304}:
            self.wfile.write(content)

    def _asked(self) -> Asked:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = urlsplit(self.path)
        queries = parse_qs(parts.query, keep_blank_values=True)
        query = {name: values[0] for name, values in queries.items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(self.command, parts.path, query, headers, body, queries, self.path)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the library's names
