"""FluenzR's events, received: judged, kept on the disk, answered. What they mean is found out later, by whoever holds the state.

An event is answered with 2xx only when it is on the disk. Events that arrive together are written together: one wait for the disk
for all that came while the last one lasted. Source: FluenzR reference, "Webhooks" [D]: 4xx is final, 5xx is tried again.
"""

import asyncio
from collections.abc import Callable

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from syncd.clock import Clock
from syncd.core import event
from syncd.core.event import Fault
from syncd.errors import ConfigError, StateError
from syncd.state.inbox import Inbox, Letter
from syncd.web import body

log = structlog.get_logger(__name__)
WEBHOOK_REFUSED = "webhook.refused"  # not proven to be FluenzR's
INBOX_FAILED = "inbox.failed"  # events could not be written down; FluenzR sends them again

BODY_BYTES_MAX = 1024 * 1024  # an event with a contact in it has a few thousand
BODY_S_MAX = 10.0  # for a body to arrive; FluenzR waits 30 s for the answer [D]
WAITING_MAX = 10_000  # events that wait for the disk; more is a flood, and 503 lets them come again

STATUS_OF = {Fault.SIGNATURE: 401, Fault.TIME: 400, Fault.FORM: 400}


class Receiver:
    """The endpoint. secrets: those that may have signed, asked for each event. on_news: called when events were kept."""

    def __init__(
        self,
        inbox: Inbox,
        secrets: Callable[[], tuple[str, ...]],
        *,
        clock: Clock,
        on_news: Callable[[], None],
    ) -> None:
        self._inbox, self._secrets, self._clock, self._on_news = inbox, secrets, clock, on_news
        self._waiting: list[tuple[Letter, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def endpoint(self, request: Request) -> Response:
        """POST: 200 kept, or known already; 400 and 401 not FluenzR's; 408, 413 too slow, too large; 503 try again."""
        try:
            async with asyncio.timeout(BODY_S_MAX):
                content = await body.read(request, bytes_max=BODY_BYTES_MAX)
        except TimeoutError:
            return _answer(408, f"The body did not arrive within {BODY_S_MAX:.0f} seconds")
        except ClientDisconnect:
            return _answer(400, "The body did not arrive")
        if content is None:
            return _answer(413, f"An event has at most {BODY_BYTES_MAX} bytes")
        try:
            fault = self._fault(request, content)
        except ConfigError as error:
            log.error(WEBHOOK_REFUSED, why=str(error))  # noqa: TRY400 - ours explains itself
            return _answer(503, "The secret cannot be read here")
        found = event.parse(content) if fault is None else None
        if fault is None and found is None:
            fault = Fault.FORM
        if fault is not None or found is None:
            assert fault is not None
            log.warning(WEBHOOK_REFUSED, why=fault.value)
            return _answer(STATUS_OF[fault], fault.value)
        if len(self._waiting) >= WAITING_MAX or not await self._keep(
            Letter(found.id, found.type, content)
        ):
            return _answer(503, "It could not be kept: send it again")
        return _answer(200, "kept")

    def _fault(self, request: Request, content: bytes) -> Fault | None:
        return event.fault(
            self._secrets(),
            signature=request.headers.get("x-fluenzr-signature", ""),
            timestamp=request.headers.get("x-fluenzr-timestamp", ""),
            body=content,
            now_s=self._clock.now_s(),
        )

    async def _keep(self, letter: Letter) -> bool:
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((letter, kept))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await kept

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            letters = [letter for letter, _ in batch]
            try:
                await asyncio.to_thread(self._inbox.put, letters, now_s=int(self._clock.now_s()))
            except StateError as error:
                log.error(INBOX_FAILED, why=str(error), events=len(batch))  # noqa: TRY400
                done = False
            else:
                done = True
                self._on_news()
            for _, kept in batch:
                if not kept.done():  # whoever sent it may be gone
                    kept.set_result(done)


def _answer(status: int, words: str) -> Response:
    # What was not read of a body would be taken for the next request.
    headers = {"Connection": "close"} if status in (408, 413) else None
    return PlainTextResponse(words + "\n", status_code=status, headers=headers)
