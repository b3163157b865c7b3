"""Close's API as it is: limits, errors, listings by offset, single objects. Source: connectors reference, section 9."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from syncd.errors import SourceError, SourceRefused
from syncd.http import (
    Again,
    Answer,
    Api,
    Denied,
    Trail,
    Vendor,
    Verdict,
    by_status,
    retry_after_s,
)

CONTACTS, LEADS, USERS, VIEWS = "/contact/", "/lead/", "/user/", "/saved_search/"
UNSUBSCRIBED = "/unsubscribe/email/"
READ_CONTACTS = "a role that may see leads and contacts"
READ_USERS = "a role that may see users"
READ_VIEWS = "a role that may see Smart Views"
READ_UNSUBSCRIBED = "a role that may see unsubscribed addresses"
CUSTOM = "custom."  # before the id of a custom field
LIST_ROWS = 100  # of a listing by offset
LISTINGS_MAX = 3  # of one thing, where rows come or go between its pages

Row = dict[str, Any]

_RATE = re.compile(r"(remaining|reset)\s*=\s*([\d.]+)")


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status == 429:
        wait_s = retry_after_s(answer.headers, now_s)
        return Again(_rate(answer).get("reset") if wait_s is None else wait_s)
    if answer.status == 402:
        return Denied("The organization's subscription has ended: Close says what is to be paid")
    return by_status(answer, now_s)


def _heed(answer: Answer, _: float) -> float:
    """The limit is that of one group of requests, nobody says of which: all of them wait."""
    rate = _rate(answer)
    return rate.get("reset", 0.0) if rate.get("remaining") == 0 else 0.0


def _rate(answer: Answer) -> dict[str, float]:
    """ "RateLimit: limit=100, remaining=50, reset=5" [S6], also seen with semicolons."""
    found = _RATE.findall(answer.headers.get("ratelimit", ""))
    return {name: float(value) for name, value in found if value.count(".") < 2}


def _words(answer: Answer) -> str:
    found = orjson.loads(answer.body)
    error = found.get("error") or ""
    words = [str(error.get("message", "")) if isinstance(error, dict) else str(error)]
    words += map(str, found.get("errors") or ())
    words += [f"{name}: {text}" for name, text in (found.get("field-errors") or {}).items()]
    return "; ".join(word for word in words if word)


CLOSE = Vendor("Close", judge=_judge, words=_words, heed=_heed)


def rows_of(found: Any, path: str, name: str = "data") -> list[Row]:
    """The rows of an answer. Raises SourceError where it has none, which is not the same as an empty list."""
    rows = found.get(name) if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(
            f"Close: {path} answered without `{name}`", hint="Check base_url: is this Close's API?"
        )
    return rows


def ident(row: Mapping[str, Any], what: str) -> str:
    """The id of an object. Raises SourceError where it has none."""
    key = row.get("id")
    if not isinstance(key, str) or not key:
        raise SourceError(
            f"Close: a {what} came without an id",
            hint="The next run reads it anew: nothing is lost",
        )
    return key


def single(api: Api, path: str, key: str, query: Mapping[str, str] | None = None) -> Row | None:
    """One object by its id, as it is now: the search may know it of a while ago. None where there is none."""
    place = f"{path}{quote(key, safe='')}/"
    try:
        found = api.get(place, query or {}, needs=READ_CONTACTS)
    except SourceRefused as error:
        if error.status == 404:
            return None
        raise
    if not isinstance(found, dict) or found.get("id") != key:
        raise SourceError(f"Close: {path} answered with another object than the one asked for")
    return found


def listed(
    api: Api,
    path: str,
    query: Mapping[str, str | int],
    *,
    needs: str,
    rows_in: Callable[[Any, str], list[Row]] = rows_of,
) -> list[Row]:
    """All rows of a listing by offset. rows_in: the rows of an answer at a path.

    Each page begins with the last row of the one before: where that is another row, some have come or gone meanwhile, and one may
    have been passed over. Then it is listed once more.
    """
    for _ in range(LISTINGS_MAX):
        rows = _joined(_pages(api, path, query, needs, rows_in))
        if rows is not None:
            return rows
    raise SourceError(
        f"Close: {path} changes while it is read",
        hint="Nothing is lost: the next run reads it anew",
    )


def _joined(pages: Iterable[list[Row]]) -> list[Row] | None:
    """The rows of all pages; None where two pages do not fit together."""
    rows: list[Row] = []
    for page in pages:
        if rows and (not page or page[0] != rows[-1]):
            return None
        rows += page[1:] if rows else page
    return rows


def _pages(
    api: Api,
    path: str,
    query: Mapping[str, str | int],
    needs: str,
    rows_in: Callable[[Any, str], list[Row]],
) -> Iterator[list[Row]]:
    trail, skip = Trail(f"Close: {path}"), 0
    while True:
        found = api.get(path, {**query, "_limit": LIST_ROWS, "_skip": skip}, needs=needs)
        rows = rows_in(found, path)
        yield rows
        if not isinstance(found, dict) or found.get("has_more") is not True:
            return
        skip += len(rows) - 1
        trail.step(skip)
