"""Apollo's API as it is: keys that may read some endpoints, three budgets an endpoint, pages that end at 500, errors in three forms.

Each endpoint has a budget a minute, an hour and a day for the whole team, in windows that open with their first request; the headers say
what is left of each, and nobody says when a window ends, but for the `retry-after` of a 429.

Source: connectors reference, section 10, and its S1 to S3 (docs.apollo.io: search for contacts, rate limits, status codes).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import orjson

from syncd.errors import SourceError
from syncd.http import (
    Again,
    Answer,
    Api,
    Denied,
    Exhausted,
    Pace,
    Vendor,
    Verdict,
    by_status,
    retry_after_s,
)

CONTACTS, LABELS, STAGES = "/contacts/search", "/labels", "/contact_stages"
USERS, CUSTOM_FIELDS = "/users/search", "/typed_custom_fields"
MESSAGES = "/emailer_messages/search"
PAGE_ROWS, PAGES_MAX = 100, 500  # the largest page, and the last one that is shown
SHOWN_MAX = PAGE_ROWS * PAGES_MAX
BY_CREATION, BY_CHANGE = "contact_created_at", "contact_updated_at"
WAITED_FOR_S = 110.0  # a window that ends later ends the read: one page is waited for two minutes
MINUTE_S = 60.0
# With so few requests left of the hour, two a minute: that is what the rest of it can bear, whenever it ends.
HOURS_REST, REST_S = 120, 30.0
PAID = b"paid plan"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Row = dict[str, Any]


def reads(endpoint: str) -> str:
    """The right that asking an endpoint needs."""
    return f"access to api/v1{endpoint}, or make it a master key (Settings > Integrations > API)"


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status == 429:
        wait_s = retry_after_s(answer.headers, now_s)
        if wait_s is not None and wait_s > WAITED_FOR_S:
            return Exhausted(f"in {ceil(wait_s / MINUTE_S):,} minutes")
        if wait_s is None and b"per day" in answer.body:
            return Exhausted()
        return Again(MINUTE_S if wait_s is None else wait_s)
    if answer.status == 403 and PAID in answer.body:
        return Denied("Apollo shows this to paid plans only")
    return by_status(answer, now_s)


def _heed(answer: Answer, _: float) -> float:
    if _left(answer, "minute") == 0:
        return MINUTE_S
    hourly = _left(answer, "hourly")
    return REST_S if hourly is not None and hourly <= HOURS_REST else 0.0


def _left(answer: Answer, window: str) -> int | None:
    """What is left of a window; None where it has no limit."""
    text = answer.headers.get(f"x-{window}-requests-left", "").strip()
    return int(text) if text.isdigit() else None


def _words(answer: Answer) -> str:
    """JSON with `message` or `error`; plain text where a key is refused."""
    if answer.headers.get("content-type", "").startswith("text/plain"):
        return answer.body.decode("utf-8", "replace")
    found = orjson.loads(answer.body)
    words = str(found.get("message") or found.get("error") or "")
    return f"{found['error_code']}: {words}" if found.get("error_code") else words


APOLLO = Vendor("Apollo", Pace(3, 1.0), _judge, _words, _heed)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of contacts. total: of all pages, as far as Apollo counts. is_last: nobody stands behind it."""

    rows: list[Row]
    total: int
    is_last: bool


def contacts(api: Api, number: int, *, sort: str, ascending: bool = False, label: str = "") -> Page:
    """A page of contacts. label: the id of a list, whose members alone are shown. Raises SourceError."""
    body: dict[str, Any] = {"page": number, "per_page": PAGE_ROWS}
    body |= {"sort_by_field": sort, "sort_ascending": ascending}
    if label:
        body["contact_label_ids"] = [label]
    found = api.post(CONTACTS, body, needs=reads(CONTACTS))
    rows = rows_of(found, CONTACTS, "contacts")
    pagination = found.get("pagination")
    total = pagination.get("total_entries") if isinstance(pagination, dict) else None
    if not isinstance(total, int) or _is_partial(found, total):
        raise SourceError(
            f"Apollo: {CONTACTS} does not show all contacts, or not how many there are",
            hint="Apollo may be in trouble just now: the next run tries again",
        )
    size = pagination.get("per_page")
    size = size if isinstance(size, int) and size > 0 else PAGE_ROWS
    # A total may be no more than what Apollo cares to count [?]: behind a full page there may be others.
    return Page(rows, total, not rows or (len(rows) < size and number * size >= total))


def _is_partial(found: Mapping[str, Any], total: int) -> bool:
    """Whether the total is that of a part only: where it is more than the limit of a part, it is not [?]."""
    limit = found.get("partial_results_limit")
    return found.get("partial_results_only") is True and not (
        isinstance(limit, int) and total > limit
    )


def rows_of(found: Any, path: str, name: str) -> list[Row]:
    """The rows of an answer, or SourceError where it has none, which is not the same as an empty list."""
    rows = found.get(name) if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(
            f"Apollo: {path} answered without `{name}`",
            hint="Check base_url: is this Apollo's API?",
        )
    return rows


def listed(api: Api, path: str, name: str, query: Mapping[str, str] | None = None) -> Iterator[Row]:
    """All rows of a listing by page numbers; some do not say how many pages they have, and end with a page that is not full."""
    for number in range(1, PAGES_MAX + 1):
        asked = {**(query or {}), "page": number, "per_page": PAGE_ROWS}
        found = api.get(path, asked, needs=reads(path))
        rows = rows_of(found, path, name)
        yield from rows
        pagination = found.get("pagination")
        last = pagination.get("total_pages") if isinstance(pagination, dict) else None
        if not rows or (number >= last if isinstance(last, int) else len(rows) < PAGE_ROWS):
            return
    raise SourceError(f"Apollo: {path} has more rows than it shows")


def ident(row: Mapping[str, Any]) -> str:
    """A row's id. Raises SourceError for anything else: ids stand in paths."""
    found = row.get("id")
    if not isinstance(found, str) or not _ID.fullmatch(found):
        raise SourceError(
            "Apollo: a contact without an id",
            hint="Nothing is lost: the next run reads it anew",
        )
    return found
