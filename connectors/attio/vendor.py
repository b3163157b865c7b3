"""Attio's API as it is: scopes, errors, listings, queries. Source: connectors reference, section 8; docs.attio.com/rest-api."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import orjson

from syncd.errors import SourceError
from syncd.http import Answer, Api, Pace, Vendor, keyset, parse_time, rfc3339, within

PEOPLE, COMPANIES = "people", "companies"
LISTS, MEMBERS = "/v2/lists", "/v2/workspace_members"
READ_RECORDS = "the scopes record_permission:read and object_configuration:read"
READ_ENTRIES = "the scopes list_entry:read and list_configuration:read"
READ_MEMBERS = "the scope user_management:read"
PAGE_ROWS = 500  # the largest page of a query
LISTING_PAGES = 1_000
INSTANT_ROWS = 50_000  # made in one instant: more than any import makes
QUERIES_MAX = 3  # of one stretch, where rows come or go between its pages

Row = dict[str, Any]


def _words(answer: Answer) -> str:
    found = orjson.loads(answer.body)
    return f"{found['code']}: {found['message']}"


# 100 requests a second [S5]; queries have a limit of their own, of all who use the workspace, which nobody can reckon [S6].
ATTIO = Vendor("Attio", Pace(20, 1.0), words=_words)


def rows_of(found: Any, path: str) -> list[Row]:
    """The rows of an answer. Raises SourceError where it has none, which is not the same as an empty list."""
    rows = found.get("data") if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(
            f"Attio: {path} answered without `data`", hint="Check base_url: is this Attio's API?"
        )
    return rows


def ident(row: Mapping[str, Any], name: str) -> str:
    """One part of the composite id of a row: "record_id", "entry_id", ... Raises SourceError where it has none."""
    parts = row.get("id")
    key = parts.get(name) if isinstance(parts, dict) else None
    if not isinstance(key, str) or not key:
        raise SourceError(
            f"Attio: a row came without its {name}",
            hint="Nothing is lost: the next run reads it anew",
        )
    return key


def listed(api: Api, path: str, *, needs: str) -> list[Row]:
    """All rows of a short listing. Nobody says of each whether it has pages [?]: what is asked for after the last row is empty,
    or the first rows again."""
    rows = rows_of(api.get(path, needs=needs), path)
    for _ in range(LISTING_PAGES):
        more = rows and rows_of(api.get(path, {"offset": len(rows)}, needs=needs), path)
        if not more or more[0] == rows[0]:
            return rows
        rows += more
    raise SourceError(f"Attio: {path} does not end")


def query(api: Api, path: str, *, name: str, needs: str) -> Iterator[list[Row]]:
    """Pages of everything that a query finds, in the order in which it was made. name: of the part of the id that tells rows apart."""

    def stretch(anchor: datetime | None) -> tuple[list[Row], bool]:
        for _ in range(QUERIES_MAX):
            rows = _stretch(api, path, anchor, name, needs)
            if rows is not None:
                return rows, True  # the largest page may be less than was asked for: none is last
        raise SourceError(
            f"Attio: {path} changes while it is read",
            hint="Nothing is lost: the next run reads it anew",
        )

    return keyset(stretch, key=lambda row: ident(row, name), made=_made, what=f"Attio: {path}")


def _stretch(
    api: Api, path: str, anchor: datetime | None, name: str, needs: str
) -> list[Row] | None:
    """The next page, and those after it as long as all were made in one instant; None where two of these do not fit together.

    Each begins with the last row of the one before: where that is another row, or one comes again, one may have been passed over. At the
    end, the last one comes alone: whichever it is, for nobody says that they keep their order [?], there are as many as have come.
    """
    rows = _page(api, path, anchor, 0, needs)
    seen = {ident(row, name) for row in rows}
    while rows and within(_made(rows[-1]), anchor):
        more = _page(api, path, anchor, len(rows) - 1, needs)
        first, *others = [ident(row, name) for row in more] or [""]
        if first in seen and not others and not _page(api, path, anchor, len(rows), needs):
            break
        if first != ident(rows[-1], name) or not others or not seen.isdisjoint(others):
            return None
        rows += more[1:]
        seen.update(others)
        if len(rows) > INSTANT_ROWS:
            raise SourceError(f"Attio: {path} does not end")
    return rows


def _page(api: Api, path: str, anchor: datetime | None, offset: int, needs: str) -> list[Row]:
    body: dict[str, Any] = {
        "limit": PAGE_ROWS,
        "offset": offset,
        "sorts": [{"attribute": "created_at", "direction": "asc"}],
    }
    if anchor is not None:
        body["filter"] = {"created_at": {"$gte": rfc3339(anchor, timespec="milliseconds")}}
    return rows_of(api.post(path, body, needs=needs), path)


def _made(row: Row) -> datetime:
    made = parse_time(row.get("created_at"))
    if made is None:
        raise SourceError("Attio: a row came without the time at which it was made")
    return made


def records(name: str) -> str:
    """Where the records of an object are queried."""
    return f"/v2/objects/{name}/records/query"
