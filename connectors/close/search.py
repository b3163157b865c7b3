"""Close's search (Advanced Filtering): everything of a kind, in the order in which it was made.

A cursor of the search lives for 30 seconds and reaches 10,000 objects, and `_skip` of a listing ends somewhere. So each page is a search
of its own, from where the last one ended: the time at which an object was made never changes, so nothing moves between two pages. The
cursor only steps over objects that were made in one instant, as those of an import.

What it finds may be some seconds old, or hours on a bad day: the index is late. See `events`.

Source: developer.close.com/api/resources/advanced-filtering (cursors, 10,000, sorting); `fixed_utc` and the limit of some hundred
fields as others' connectors have seen them [?].
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.close.vendor import READ_CONTACTS, Row, ident, rows_of
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api, Trail, keyset, parse_time, rfc3339, within

SEARCH, MADE = "/data/search/", "date_created"
PAGE_ROWS, PAGE_ROWS_SURE = 200, 100  # the largest page that others have seen, and that of listings
REACH_ROWS = 10_000  # of one cursor
FIELDS_MAX = 60  # of one request; more are asked for by id
IDS_MAX = 100  # in one search
ADDRESSES_MAX = 20  # in one search

Query = Mapping[str, Any]


def changed_since(kind: str, since: datetime) -> Query:
    """Objects that were changed at this time or later."""
    return _from(kind, "date_updated", since)


def having(addresses: Iterable[str]) -> Query:
    """Contacts with one of these addresses among others: the words of an address are compared, not the whole."""
    conditions = [
        {
            "type": "field_condition",
            "field": _field("contact_email", "email"),
            "condition": {"type": "text", "mode": "phrase", "value": address},
        }
        for address in addresses
    ]
    return {
        "type": "has_related",
        "this_object_type": "contact",
        "related_object_type": "contact_email",
        "related_query": {"type": "or", "queries": conditions},
    }


class Search:
    """The search of one read."""

    def __init__(self, api: Api) -> None:
        self._api, self._page_rows = api, PAGE_ROWS

    def everything(
        self, kind: str, fields: Sequence[str], queries: Sequence[Query] = ()
    ) -> Iterator[list[Row]]:
        """Pages of all objects of a kind ("contact", "lead") for which these hold, each once. Raises SourceError."""

        def stretch(anchor: datetime | None) -> tuple[list[Row], bool]:
            return self._stretch(kind, fields, queries, anchor)

        what = f"Close: the search for {kind}s"
        for rows in keyset(stretch, key=lambda row: ident(row, kind), made=_made, what=what):
            yield self._complete(kind, fields, rows)

    def by_ids(self, kind: str, ids: Sequence[str], fields: Sequence[str]) -> list[Row]:
        """Those of these objects that the search knows."""
        rows: list[Row] = []
        for start in range(0, len(ids), IDS_MAX):
            some = self._of_ids(kind, ids[start : start + IDS_MAX], _parts(fields)[0])
            rows += self._complete(kind, fields, some)
        return rows

    def _stretch(
        self, kind: str, fields: Sequence[str], queries: Sequence[Query], anchor: datetime | None
    ) -> tuple[list[Row], bool]:
        """The next page, and those after it as long as all were made in one instant; and whether there may be more."""
        first, asked = _parts(fields)[0], [*queries]
        if anchor is not None:
            asked.append(_from(kind, MADE, anchor))
        rows, cursor = self._page(kind, first, asked)
        trail = Trail(f"Close: the search for {kind}s")
        while cursor and rows and within(_made(rows[-1]), anchor):
            if len(rows) >= REACH_ROWS - PAGE_ROWS:
                raise SourceError(
                    f"Close: some {REACH_ROWS:,} {kind}s or more were made in one instant",
                    why="Its search cannot tell them all",
                    hint="Ask Close's support for an export, and read that file instead",
                )
            trail.step(cursor)
            more, cursor = self._page(kind, first, asked, cursor)
            rows += more
        return rows, cursor is not None

    def _page(
        self, kind: str, fields: Sequence[str], queries: Sequence[Query], cursor: str | None = None
    ) -> tuple[list[Row], str | None]:
        """(rows, the cursor of the page after it): None where there is no such page, "" where the answer does not say."""
        of_kind = {"type": "object_type", "object_type": kind}
        body: dict[str, Any] = {
            "query": {"type": "and", "queries": [of_kind, *queries]},
            "_fields": {kind: list(fields)},
            "sort": [{"direction": "asc", "field": _field(kind, MADE)}],
            "_limit": self._page_rows,
        }
        if cursor is not None:
            body["cursor"] = cursor
        try:
            found = self._api.post(SEARCH, body, needs=READ_CONTACTS)
        except SourceRefused as error:
            if cursor is not None or error.status != 400 or self._page_rows == PAGE_ROWS_SURE:
                raise
            self._page_rows = PAGE_ROWS_SURE  # it may be the size
            return self._page(kind, fields, queries)
        following = found.get("cursor", "") if isinstance(found, dict) else ""
        return rows_of(found, SEARCH), None if following is None else str(following)

    def _of_ids(self, kind: str, ids: Sequence[str], fields: Sequence[str]) -> list[Row]:
        wanted = set(ids)
        either = {"type": "or", "queries": [{"type": "id", "value": key} for key in ids]}
        rows, _ = self._page(kind, fields, [either])
        return [row for row in rows if ident(row, kind) in wanted]

    def _complete(self, kind: str, fields: Sequence[str], rows: list[Row]) -> list[Row]:
        """The rows with the fields beyond those of one request. A row that is gone meanwhile is left out."""
        for part in _parts(fields)[1:]:
            found: dict[str, Row] = {}
            for start in range(0, len(rows), IDS_MAX):
                ids = [str(row["id"]) for row in rows[start : start + IDS_MAX]]
                found |= {str(row["id"]): row for row in self._of_ids(kind, ids, part)}
            rows = [{**row, **found[row["id"]]} for row in rows if row["id"] in found]
        return rows


def _parts(fields: Sequence[str]) -> list[list[str]]:
    """Each part has the id and the time of making."""
    others = [name for name in fields if name not in {"id", MADE}]
    starts = range(0, max(1, len(others)), FIELDS_MAX)
    return [["id", MADE, *others[start : start + FIELDS_MAX]] for start in starts]


def _from(kind: str, name: str, since: datetime) -> Query:
    value = rfc3339(since, timespec="milliseconds")
    return {
        "type": "field_condition",
        "field": _field(kind, name),
        "condition": {"type": "moment_range", "on_or_after": {"type": "fixed_utc", "value": value}},
    }


def _field(kind: str, name: str) -> Query:
    return {"type": "regular_field", "object_type": kind, "field_name": name}


def _made(row: Row) -> datetime:
    made = parse_time(row.get(MADE))
    if made is None:
        raise SourceError(f"Close: an object came without the time at which it was made ({MADE})")
    return made
