"""The body of a request: read as far as it is allowed to go, and as a form."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from urllib.parse import parse_qsl

from anyio import CapacityLimiter, to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

Form: TypeAlias = dict[str, str]
FORM_BYTES_MAX = 16 * 1024
FORM_FIELDS_MAX = 20
FORM_S_MAX = 10.0  # for a form to arrive


async def read(request: Request, *, bytes_max: int) -> bytes | None:
    """The body; None when it is too large: the rest of it is not read."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > bytes_max:
        return None
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def form_endpoint(
    work: Callable[[Request, Form], Response], limiter: CapacityLimiter
) -> Callable[[Request], Awaitable[Response]]:
    """`work` as an endpoint: its form is read, then it does its work in a thread, as many at a time as `limiter` lets."""

    async def endpoint(request: Request) -> Response:
        form: Form | None = {}
        if request.method == "POST":
            try:
                async with asyncio.timeout(FORM_S_MAX):
                    form = _fields(await read(request, bytes_max=FORM_BYTES_MAX))
            except (TimeoutError, ClientDisconnect):
                form = None
        if form is None:
            # What was not read of a body would be taken for the next request.
            words, close = "This is not a form of this page\n", {"Connection": "close"}
            return PlainTextResponse(words, status_code=400, headers=close)
        return await to_thread.run_sync(work, request, form, limiter=limiter)

    return endpoint


def _fields(body: bytes | None) -> Form | None:
    if body is None:
        return None
    try:
        return dict(parse_qsl(body.decode(), strict_parsing=bool(body), keep_blank_values=True,
                              max_num_fields=FORM_FIELDS_MAX, errors="strict"))  # fmt: skip
    except ValueError:
        return None
