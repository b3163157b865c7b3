"""The sandbox as a running server: in a thread for tests and the demo, or in the foreground.

It owns the socket, the event loop and the threads; uvicorn speaks HTTP.
"""

import asyncio
import signal
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from syncd.clock import Clock, SystemClock
from syncd.errors import SyncdError, UsageError
from syncd.sandbox.app import BASE_PATH, App, Seen
from syncd.sandbox.asgi import asgi
from syncd.sandbox.exchange import Answer, Request, html
from syncd.sandbox.faults import Faults
from syncd.sandbox.limits import REQUESTS_PER_MINUTE, Limit, Window
from syncd.sandbox.people import Account
from syncd.sandbox.quirks import Quirks

HOST = "127.0.0.1"
BACKLOG = 128
KEEP_ALIVE_S = 75  # longer than a client keeps an idle connection, so that the client closes first
START_S_MAX = 10.0


class _Protocol(H11Protocol):
    """Gives the application its connection, which it cuts on a fault's order."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {"transport": transport}
        # Head and body are two writes; without this the second waits 40 ms for an acknowledgement.
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Sandbox:
    """A FluenzR account with its API on a local port.

    account: what it holds, for tests and as "people's hands". limit: requests a minute.
    api_key: the only key that is accepted; None accepts every key of the right shape.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        quirks: Quirks | None = None,
        faults: Faults | None = None,
        limit: int = REQUESTS_PER_MINUTE,
        window: Window = "fixed",
        api_key: str | None = None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.quirks = quirks or Quirks()
        self.faults = faults or Faults()
        self.account = Account(self.now_s, self.quirks)
        self.limit = Limit(self.now_s, requests=limit, window=window)
        self.app = App(self.account, faults=self.faults, limit=self.limit, api_key=api_key)
        self.address = ("", 0)  # host and port, while it is served

    def now_s(self) -> float:
        """The server's clock: epoch seconds."""
        return self.clock.now_s() + self.quirks.clock_ahead_s

    # what was seen

    @property
    def url(self) -> str:
        """The base URL of the API, while it is served."""
        return self.page_url.removesuffix("/") + BASE_PATH

    @property
    def page_url(self) -> str:
        """The page for people, while it is served."""
        return f"http://{self.address[0]}:{self.address[1]}/"

    @property
    def requests(self) -> deque[Seen]:
        """The last requests, oldest first."""
        return self.app.requests

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How many requests arrived, by method and endpoint: ("GET", "/contacts/:id")."""
        return self.app.counts

    @property
    def bodies(self) -> deque[tuple[str, str, bytes]]:
        """Method, path and body of the last writes, oldest first."""
        return self.app.bodies

    @property
    def throttled(self) -> int:
        """Requests beyond the limit; faults count their own 429."""
        return self.app.throttled

    def writes(self) -> int:
        """Requests answered, whatever the status, that may have changed something."""
        return self.app.writes

    def consume(self, requests: int) -> None:
        """Another user of the account takes so many requests of this window."""
        with self.account.lock:
            self.limit.consume(requests)

    def settle(self) -> None:
        """Everything that is still on its way takes effect now."""
        self.app.settle()

    # serving

    @contextmanager
    def serve(self, *, host: str = HOST, port: int = 0) -> Iterator["Sandbox"]:
        """Serve from a thread of its own until the block ends. port 0: a free one."""
        listener = self._listen(host, port)
        loop, ready = asyncio.new_event_loop(), threading.Event()
        arguments = (self._server(), loop, listener, ready.set)
        thread = threading.Thread(target=_run, args=arguments, name="sandbox", daemon=True)
        thread.start()
        try:
            if not ready.wait(START_S_MAX):
                raise SyncdError("The sandbox did not start")
            yield self
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            listener.close()
            self.address = ("", 0)

    def run_forever(
        self, host: str, port: int, *, on_ready: Callable[["Sandbox"], object] | None = None
    ) -> None:
        """Serve from the main thread until SIGINT or SIGTERM. on_ready: is told when `url` is known."""
        listener, loop = self._listen(host, port), asyncio.new_event_loop()
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signal_number, loop.stop)
        try:
            _run(self._server(), loop, listener, lambda: on_ready and on_ready(self))
        finally:
            listener.close()
            self.address = ("", 0)

    def answer(self, request: Request) -> Answer:
        """The API under its base path; everything else is for people."""
        if request.path.startswith(BASE_PATH + "/"):
            request.path = request.path.removeprefix(BASE_PATH)
            return self.app.answer(request)
        if request.path == "/" and request.method == "GET":
            from syncd.sandbox.page import page

            return page(self.account, self.requests, request.query)
        return html("<h1>404 Not Found</h1>", status=404)

    def _listen(self, host: str, port: int) -> socket.socket:
        try:
            listener = socket.create_server((host, port), backlog=BACKLOG)
        except OSError as error:
            raise UsageError(
                f"The sandbox cannot listen on {host}:{port}",
                why=error.strerror or str(error),
                hint="Choose another port, or 0 for a free one",
            ) from None
        self.address = (host, listener.getsockname()[1])
        return listener

    def _server(self) -> uvicorn.Server:
        config: dict[str, Any] = {"http": _Protocol, "ws": "none", "lifespan": "off"}
        config |= {"loop": "asyncio", "interface": "asgi3", "proxy_headers": False}
        config |= {"log_config": None, "access_log": False}
        config |= {"server_header": False, "date_header": False}
        config |= {"backlog": BACKLOG, "timeout_keep_alive": KEEP_ALIVE_S}
        return uvicorn.Server(uvicorn.Config(asgi(self.answer), **config))


def _run(
    server: uvicorn.Server,
    loop: asyncio.AbstractEventLoop,
    listener: socket.socket,
    on_ready: Callable[[], object],
) -> None:
    """Serve until the loop is stopped, then leave nothing open.

    uvicorn's own loop looks every 0.1 s whether it should end, and then waits again. That is too
    slow for a test, so its parts are called here.
    """
    config = server.config
    config.load()
    server.lifespan = config.lifespan_class(config)
    try:
        loop.run_until_complete(server.startup(sockets=[listener]))
        loop.call_soon(on_ready)
        loop.run_forever()
    finally:
        for listening in server.servers:
            listening.close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        for task in (tasks := asyncio.all_tasks(loop)):
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
