"""The listener as a running server: a thread of its own, a socket that is taken before anything is promised, an end.

uvicorn speaks HTTP. TLS and whoever may reach the address are a proxy's business (`deploy/README.md`).
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from syncd.errors import UsageError

BACKLOG = 256
CONNECTIONS_MAX = 500  # at once; what is beyond is answered with 503
KEEP_ALIVE_S = 10
HEAD_BYTES_MAX = 64 * 1024  # of a request's head; no proxy adds so much
HEAD_S_MAX = 10.0  # for a request's head, and between two requests: longer is no client
START_S_MAX = 10.0
STOP_S_MAX = 3


class _Protocol(HttpToolsProtocol):
    """Ends connections on which nothing is asked, also where a request's head comes a letter at a time, or never ends."""

    _head_bytes: int | None = 0  # so far; None outside a head

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._seen = self.cycle
        self.loop.call_later(HEAD_S_MAX, self._end_silent)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_bytes = None

    def _end_silent(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is self._seen and (self.cycle is None or self.cycle.response_complete):
            self.transport.close()
        else:
            self._seen = self.cycle
            self.loop.call_later(HEAD_S_MAX, self._end_silent)


@contextlib.contextmanager
def listening(app: Starlette, address: tuple[str, int]) -> Iterator[tuple[str, int]]:
    """Serve `app` from a thread while the block lasts; yields host and port. port 0: a free one.

    Raises UsageError when the address cannot be taken.
    """
    sock = _socket(*address)
    with contextlib.closing(sock):
        server = uvicorn.Server(uvicorn.Config(app, **_options()))
        thread = threading.Thread(target=server.run, args=([sock],), name="http", daemon=True)
        thread.start()
        try:
            yield (address[0], sock.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(timeout=START_S_MAX)


def _options() -> dict[str, Any]:
    options: dict[str, Any] = {"http": _Protocol, "ws": "none", "lifespan": "off"}
    options |= {"interface": "asgi3", "proxy_headers": False, "server_header": False}
    options |= {"log_config": None, "access_log": False, "timeout_keep_alive": KEEP_ALIVE_S}
    options |= {"timeout_graceful_shutdown": STOP_S_MAX, "backlog": BACKLOG}
    return options | {"limit_concurrency": CONNECTIONS_MAX}


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened on",
            why=error.strerror or str(error),
            hint="Another process may have it: choose another address in [http] listen",
        ) from None
