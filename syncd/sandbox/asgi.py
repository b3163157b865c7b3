"""The entry from the HTTP server: bytes in, bytes out, and the ways in which an answer gets lost.

The one asynchronous function of the product: plain ASGI, so that a request costs no thread. What is
answered is decided elsewhere, synchronously.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from syncd.sandbox.exchange import Answer, Request

BODY_BYTES_MAX = (
    64 * 1024 * 1024
)  # what is read at most; `Quirks.body_bytes_max` answers long before

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
ASGI = Callable[[Scope, Receive, Send], Awaitable[None]]


def asgi(answered: Callable[[Request], Answer]) -> ASGI:
    """An ASGI application of a synchronous function, which must be fast: it runs in the event loop.

    The server puts the connection into the scope's state as `transport`, so that it can be cut.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        chunks, size, more = [], 0, True
        while more and size <= BODY_BYTES_MAX:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            chunks.append(message["body"])
            size += len(message["body"])
            more = message["more_body"]
        answer = answered(_request(scope, b"".join(chunks)))
        if not answer.dropped:
            length = (b"content-length", str(len(answer.body)).encode())
            start = {"status": answer.status, "headers": [*answer.headers, length]}
            await send({"type": "http.response.start", **start})
            half = len(answer.body) // 2 if answer.cut or answer.slow_s else len(answer.body)
            whole = not answer.cut and not answer.slow_s
            body = {"type": "http.response.body", "more_body": not whole}
            await send({**body, "body": answer.body[:half]})
            if answer.slow_s:
                await asyncio.sleep(answer.slow_s)
                await send({"type": "http.response.body", "body": answer.body[half:]})
        if answer.cut:
            scope["state"]["transport"].close()  # what was sent arrives, and no more
        elif answer.dropped:
            scope["state"]["transport"].abort()
        while answer.cut or answer.dropped:
            if (await receive())["type"] == "http.disconnect":
                return

    return app


def _request(scope: Scope, body: bytes) -> Request:
    query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    authorization = next(
        (value for name, value in scope["headers"] if name == b"authorization"), b""
    )
    return Request(
        method=scope["method"],
        path=scope["path"],
        query=query,
        authorization=authorization.decode("latin-1"),
        body=body,
    )
