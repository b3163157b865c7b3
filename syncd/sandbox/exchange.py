"""One HTTP exchange as plain values: the request, the answer, FluenzR's envelope, and paging.

Source: FluenzR reference, "Transport" [I]. How an answer gets lost is the faults' business.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson

PER_PAGE_DEFAULT = 20  # [I]
PER_PAGE_MAX = 100  # [I]; more is answered with this many [?]
PAGE_MAX = 10**9

JSON = (b"content-type", b"application/json")
HTML = (b"content-type", b"text/html; charset=utf-8")

Item = TypeVar("Item")


class Refusal(Exception):
    """FluenzR says no: an HTTP status with the error of its envelope."""

    def __init__(self, status: int, code: str, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details


def invalid(message: str, details: Any = None) -> Refusal:
    """400 VALIDATION_ERROR."""
    return Refusal(400, "VALIDATION_ERROR", message, details)


def missing(what: str) -> Refusal:
    """404 NOT_FOUND."""
    return Refusal(404, "NOT_FOUND", f"{what} not found")


def conflict(message: str) -> Refusal:
    """409 CONFLICT."""
    return Refusal(409, "CONFLICT", message)


@dataclass(slots=True)
class Request:
    """What arrived. path: without the base path ("/contacts/con_1"); query: each name once."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    authorization: str = ""
    body: bytes = b""

    def json(self) -> dict[str, Any]:
        """The body as an object. Raises Refusal."""
        try:
            value = orjson.loads(self.body or b"{}")
        except orjson.JSONDecodeError as error:
            raise invalid(f"Invalid JSON: {error}") from None
        if not isinstance(value, dict):
            raise invalid("The body must be a JSON object")
        return value


@dataclass(slots=True)
class Answer:
    """What goes back, and how much of it arrives.

    dropped: the connection closes without a byte. cut: it closes in the middle of the body.
    slow_s: the second half of the body comes so many real seconds after the first.
    """

    status: int
    body: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=lambda: [JSON])
    dropped: bool = False
    cut: bool = False
    slow_s: float = 0.0


def success(data: Any, *, status: int = 200, meta: dict[str, int] | None = None) -> Answer:
    """The success envelope [I]."""
    envelope = {"success": True, "data": data}
    if meta is not None:
        envelope["meta"] = meta
    return Answer(status, orjson.dumps(envelope))


def failure(refusal: Refusal) -> Answer:
    """The error envelope [I]."""
    error = {"code": refusal.code, "message": refusal.message, "details": refusal.details}
    return Answer(refusal.status, orjson.dumps({"success": False, "error": error}))


def html(text: str, *, status: int = 200) -> Answer:
    """A page, or what a proxy says instead of the API."""
    return Answer(status, text.encode(), [HTML])


def paged(
    items: Sequence[Item],
    view: Callable[[Item], Any],
    asked: dict[str, Any],
    *,
    total_pages: bool,
    total: Callable[[int, int], int | None] = lambda count, _rows: count,
) -> Answer:
    """One page of `items`. asked: `page` from 1 and `perPage` [I]. Raises Refusal.

    total: what `meta` says, of the number of items and of those on this page; None: it does not say.
    """
    page = _count(asked, "page", 1, PAGE_MAX)
    per_page = min(_count(asked, "perPage", PER_PAGE_DEFAULT, PAGE_MAX), PER_PAGE_MAX)
    start = (page - 1) * per_page
    shown = items[start : start + per_page]
    meta = {"page": page, "perPage": per_page}
    said = total(len(items), len(shown))
    if said is not None:
        meta["total"] = said
        if total_pages:
            meta["totalPages"] = -(-said // per_page)
    return success([view(item) for item in shown], meta=meta)


def _count(asked: dict[str, Any], name: str, default: int, most: int) -> int:
    try:
        value = int(asked.get(name, default))
    except (TypeError, ValueError):
        raise invalid(f"{name} must be a number") from None
    if not 1 <= value <= most:
        raise invalid(f"{name} must be at least 1")
    return value
