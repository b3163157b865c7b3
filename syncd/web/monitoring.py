"""What machines that look after this one ask: /metrics for Prometheus, /readyz for whoever takes it out of service."""

from collections.abc import Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from syncd import standing
from syncd.clock import Clock
from syncd.config import Settings
from syncd.core import alert
from syncd.core.alert import Facts
from syncd.metrics import Numbers

READY, NOT_READY = 200, 503


def routes(settings: Callable[[], Settings], *, clock: Clock) -> list[Route]:
    """The paths. settings: asked for each request, for a reload may have changed them."""
    numbers = Numbers()

    # No coroutines: they read the state, and a pool of threads does that without keeping events waiting.
    def metrics(request: Request) -> Response:
        body, kind = numbers.exposition(settings(), accept=request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": kind})

    def ready(_: Request) -> Response:
        status, body = readiness(settings(), clock=clock)
        return Response(body, status, media_type="application/json")

    return [Route("/metrics", metrics), Route("/readyz", ready)]


def readiness(settings: Settings, *, clock: Clock) -> tuple[int, bytes]:
    """The status and the body of /readyz: ready is when every sync has succeeded and nothing is wrong that an alert would tell."""
    facts = standing.facts(settings, now_s=clock.now_s(), seen_s={})
    why = [one.title for one in alert.troubles(facts, standing.limits(settings))]
    why += [f"{one.name} has not succeeded yet" for one in facts.syncs if one.success_s is None]
    body = {"ready": not why, "why": why, "syncs": _syncs(facts)}
    return (NOT_READY if why else READY), orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE)


def _syncs(facts: Facts) -> dict[str, dict[str, float | None]]:
    """Times are epoch seconds, as in /metrics."""
    return {
        one.name: {
            "last_success": one.success_s,
            "held": one.held,
            "quarantined": one.quarantined,
        }
        for one in facts.syncs
    }
