"""A server of plain sockets, for what no well-behaved server sends."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Script = Callable[[socket.socket], None]


class RawServer:
    """Runs the script on each connection once its request has arrived; keeps what arrived."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.requests: list[bytes] = []
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._run(self._listen)

    def _run(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            self.requests.append(whole_request(connection))
            self._script(connection)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()


def whole_request(connection: socket.socket) -> bytes:
    """Head and body, so that closing resets nothing; or a TLS greeting, which is neither."""
    got = b""
    while True:
        part = connection.recv(65536)
        got += part
        head, end, body = got.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if not part or got[:1] == b"\x16" or (end and len(body) >= int(length[1] if length else 0)):
            return got


@contextmanager
def serving(script: Script | bytes) -> Iterator[RawServer]:
    """The script, or just these bytes, behind a port."""
    if isinstance(script, bytes):
        answer = script

        def script(connection: socket.socket) -> None:
            connection.sendall(answer)

    server = RawServer(script)
    try:
        yield server
    finally:
        server.close()


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body
