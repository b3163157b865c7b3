"""What all endpoints share: the connection to one account, ids in paths, bodies, and listings page by page.

Pacing, retries and statuses are `wire.py`'s business. Source: FluenzR reference, "Transport": `page`
from 1, `perPage` at most 100, `meta.total` [I].
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import orjson

from syncd.clock import Clock
from syncd.core.pace import BudgetView
from syncd.errors import Unanswered
from syncd.fluenzr import types
from syncd.wire import Reply, Wire

BASE_URL = "https://api.fluenzr.co/v1"  # [I]
PER_PAGE_MAX = 100  # [I]
PAGES_MAX = 100_000  # 10 million contacts: no account has them, so the pages do not end

Item = TypeVar("Item")
Body = bytes | Mapping[str, Any]  # JSON that is ready, or an object by the API's names
Rows = tuple[int | None, list[Item]]  # the total, where it is said, and one page


class Endpoints:
    """One FluenzR account; safe to use from up to 40 threads.

    requests_per_minute: an upper bound, the server's own headers can lower it. share: of the limit,
    the rest is left to others. timeout_s: of a single wait; a request is over after twice that.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = BASE_URL,
        requests_per_minute: int = 1000,
        share: float = 0.9,
        clock: Clock | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._wire = Wire(
            api_key,
            base_url=base_url,
            requests_per_minute=requests_per_minute,
            share=share,
            clock=clock,
            timeout_s=timeout_s,
        )

    def close(self) -> None:
        """Close every connection."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def requests(self) -> int:
        """How many requests were sent so far, retries included."""
        return self._wire.requests

    @property
    def throttled(self) -> int:
        """How many were answered with 429."""
        return self._wire.throttled

    def budget(self) -> BudgetView:
        """The limit, what is left of it for us now, and the wait for the next request."""
        return self._wire.budget()

    def server_time_ms(self) -> int | None:
        """A lower bound of FluenzR's clock now, in epoch ms; None until a Date was seen."""
        return self._wire.server_time_ms()

    def digest(self, salt: bytes) -> str:
        """The same for the same key at the same base URL; nobody can tell either from it."""
        return self._wire.digest(salt)

    def _listed(
        self,
        path: str,
        parse: Callable[[Any], Item],
        identity: Callable[[Item], str],
        *,
        asked: Mapping[str, str | None] | None = None,
        optional: bool = False,
    ) -> Iterator[Item]:
        """Every item of a listing. asked: filters and order; with filters, what FluenzR counts may be anything [?]."""
        given = {name: value for name, value in (asked or {}).items() if value is not None}

        def page(number: int) -> Rows[Item]:
            query = urlencode({"page": number, "perPage": PER_PAGE_MAX} | given)
            return self._wire.read(path, listing(parse), query=query, optional=optional)

        return every(f"GET {path}", page, identity, counted=not given.keys() - {"sort", "order"})


def every(
    what: str,
    page: Callable[[int], Rows[Item]],
    identity: Callable[[Item], str],
    *,
    counted: bool,
) -> Iterator[Item]:
    """The items of all pages, in order; what moves from one page to the next meanwhile comes once.

    page: of a number from 1. identity: "" for what has none. counted: the total can be believed, and
    then fewer items are no listing. Raises Unanswered when the pages do not end, or end too soon.
    """
    came = 0
    before: list[Item] = []
    for number in range(1, PAGES_MAX + 1):
        total, rows = page(number)
        # A server that does not know `page` gives the same one for ever.
        repeated = bool(rows) and rows == before
        if not rows or repeated:
            if total is not None and came < total and (counted or repeated):
                raise _endless(what, f"{came} came of {total}")
            return
        known = {identity(item) for item in before}
        yield from (item for item in rows if not identity(item) or identity(item) not in known)
        came += len(rows)
        # Without a total only a page that adds nothing is the last: a short one may just be what a
        # server gives that knows no perPage.
        if counted and total is not None and came >= total:
            return
        before = rows
    raise _endless(what, f"more than {PAGES_MAX} pages")


def part(identity: str) -> str:
    """An id as a part of a path. Dots are quoted too: `..` would lead elsewhere."""
    return quote(identity, safe="").replace(".", "%2E")


def encode(body: Body) -> bytes:
    """A body as JSON."""
    return body if isinstance(body, bytes) else orjson.dumps(dict(body))


def given(**values: Any) -> bytes:
    """The body of those values that are not None."""
    return orjson.dumps({name: value for name, value in values.items() if value is not None})


def named(name: str, values: Iterable[str]) -> bytes:
    """A body of one list."""
    return orjson.dumps({name: list(values)})


def listing(parse: Callable[[Any], Item]) -> Callable[[Reply], Rows[Item]]:
    """The reading of one page."""
    return lambda reply: (types.count(reply.meta, "total"), types.items(reply.data, parse))


def _endless(what: str, why: str) -> Unanswered:
    return Unanswered(
        f"{what}: the pages do not end where they should",
        why=why,
        hint="Try again; if this goes on, check fluenzr.base_url",
        answered=True,
    )
