"""What the listener answers, by path."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from syncd.clock import Clock
from syncd.config_models import WebhooksSettings
from syncd.config_values import WEBHOOKS_PATH
from syncd.state import inbox
from syncd.web.listener import listening
from syncd.web.receive import Receiver


@contextlib.contextmanager
def serving(
    webhooks: WebhooksSettings | None,
    state: Path,
    address: tuple[str, int],
    *,
    clock: Clock,
    on_news: Callable[[], None],
    more: Sequence[BaseRoute] = (),
) -> Iterator[tuple[str, int]]:
    """Listen while the block lasts; yields host and port.

    webhooks: None: no events are taken. state: the path beside which they are kept. on_news: called when some have come,
    from another thread. more: what else is answered.
    """
    routes: list[BaseRoute] = [Route("/healthz", healthy), *more]
    with ExitStack() as held:
        if webhooks is not None:
            box = held.enter_context(inbox.opened(state))
            secrets = partial(_secrets, webhooks)
            receiver = Receiver(box, secrets, clock=clock, on_news=on_news)
            routes.append(Route(WEBHOOKS_PATH, receiver.endpoint, methods=["POST"]))
        yield held.enter_context(listening(Starlette(routes=routes), address))


def healthy(_: Request) -> Response:
    """GET /healthz: this process answers."""
    return PlainTextResponse("ok\n")


def _secrets(webhooks: WebhooksSettings) -> tuple[str, ...]:
    """Read anew for each event, so that a secret can be replaced while the daemon runs. Raises ConfigError.

    A file may hold two, a line each, while one is being replaced.
    """
    return tuple(webhooks.secret.reveal().split())
