"""Airtable's API as it is: errors, limits, scopes, listings that are forgotten, the formulas that a read asks with.

A listing's records and their order are those of its first request, their values those of each page [S1]; where it is forgotten after
some minutes, or a restart, it begins anew. Source: connectors reference, section 11; airtable.com/developers/web/api, "List records"
and "Errors"; S1: what Estuary's connector for Airtable has seen (estuary/connectors, source-airtable-native/README.md).
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import orjson

from syncd.errors import SourceError, SourceRefused
from syncd.http import (
    Again,
    Answer,
    Api,
    Exhausted,
    Pace,
    Refused,
    Trail,
    Vendor,
    Verdict,
    by_status,
    retry_after_s,
    rfc3339,
)

PAGE_ROWS, BATCH_IDS = 100, 100  # the largest page; ids in one formula: 5,000 characters of a URL
PENALTY_S = 30.0  # who asks too often is not answered for so long [S2]
COLUMNS_MAX = 300  # that a URL of 16,000 characters has room for
BEGINNINGS_MAX = 5  # of one listing
FORGOTTEN = "LIST_RECORDS_ITERATOR_NOT_AVAILABLE"
BILLED = b"PUBLIC_API_BILLING_LIMIT_EXCEEDED"  # the month's requests are used up
READ_RECORDS = "the scope data.records:read, and this base (airtable.com/create/tokens)"
READ_SCHEMA = "the scope schema.bases:read, and this base (airtable.com/create/tokens)"

_ID = re.compile(r"rec[A-Za-z0-9]{1,40}")

Row = dict[str, Any]
Pairs = Sequence[tuple[str, str]]


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status >= 400 and BILLED in answer.body:
        return Exhausted("with the next month of Airtable's plan")
    if answer.status == 429:
        return Again(max(PENALTY_S, retry_after_s(answer.headers, now_s) or 0.0))
    if answer.status == 404:
        return Refused("Check `base`: it begins with app, and stands in the base's address")
    return by_status(answer, now_s)


def _words(answer: Answer) -> str:
    """An error is an object, a word, or the first of a list."""
    found = orjson.loads(answer.body)
    error = found["errors"][0] if "errors" in found else found["error"]
    if isinstance(error, str):
        return error
    return f"{error.get('type') or error.get('error')}: {error.get('message') or ''}"


# One of the five requests a second that a base allows is left to its other users.
AIRTABLE = Vendor("Airtable", Pace(4, 1.0), _judge, _words)


def records(
    api: Api, path: str, fields: Sequence[str], *, where: Pairs = ()
) -> Iterator[list[Row]]:
    """The records of a table, page by page, each once. fields: ids of columns, at least one; with too many for a URL all columns come.

    An empty cell is left out of a record, as is one that was not asked for: so nothing else may come.
    """
    named = fields if len(fields) <= COLUMNS_MAX else ()
    query = [("returnFieldsByFieldId", "true"), ("pageSize", str(PAGE_ROWS))]
    query += [*(("fields[]", one) for one in named), *where]
    told, asked = set[str](), frozenset(named)
    for _ in range(BEGINNINGS_MAX):
        try:
            for rows in _listing(api, path, query):
                fresh = [row for row in rows if ident(row.get("id")) not in told]
                for row in fresh:
                    _check(row, asked)
                once = {row["id"]: row for row in fresh}  # the same one twice on a page
                told.update(once)
                yield list(once.values())
        except _Forgotten:
            continue
        return
    raise SourceError(
        f"Airtable: {path} is forgotten again and again before its end",
        hint="Airtable may be in trouble just now: the next run reads it anew",
    )


class _Forgotten(Exception):
    """Airtable does not know a listing any more."""


def _listing(api: Api, path: str, query: Pairs) -> Iterator[list[Row]]:
    trail = Trail(f"Airtable: {path}")
    offset: Pairs = ()
    while True:
        try:
            found = api.get(path, [*query, *offset], needs=READ_RECORDS)
        except SourceRefused as error:
            if offset and FORGOTTEN in error.why:
                raise _Forgotten from None
            raise
        yield rows_of(found, path, "records")
        following = found.get("offset")
        if not following:
            return
        trail.step(str(following))
        offset = (("offset", str(following)),)


def rows_of(found: Any, path: str, name: str) -> list[Row]:
    """The rows of an answer. Raises SourceError where it has none, which is not the same as an empty list."""
    rows = found.get(name) if isinstance(found, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(
            f"Airtable: {path} answered without `{name}`",
            hint="Check base_url: is this Airtable's API?",
        )
    return rows


def ident(value: Any) -> str:
    """A record's id. Raises SourceError for anything else: ids stand in formulas."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise SourceError(
            "Airtable: a record without an id",
            hint="Nothing is lost: the next run reads it anew",
        )
    return value


def _check(row: Row, asked: frozenset[str]) -> None:
    """An answer under other names would make every cell look empty: also an opt-out."""
    cells = row.get("fields")
    if isinstance(cells, dict):
        fits = cells.keys() <= asked if asked else all(one.startswith("fld") for one in cells)
    if not isinstance(cells, dict) or not fits:
        raise SourceError(
            f"Airtable: the record {row['id']} came without the cells that were asked for",
            hint="Check base_url: does something between here and Airtable change its answers?",
        )


def changed_since(moment: datetime) -> Pairs:
    """Records that somebody has changed or made since then. A new one may have no time of a change yet [?]."""
    changed = "IF(LAST_MODIFIED_TIME(), LAST_MODIFIED_TIME(), CREATED_TIME())"
    since = f"DATETIME_PARSE('{rfc3339(moment, timespec='milliseconds')}')"
    return [("filterByFormula", f"IS_AFTER({changed}, {since})")]


def among(ids: Sequence[str]) -> Pairs:
    """Those of these records that are there; at most BATCH_IDS."""
    conditions = [f"RECORD_ID()='{ident(one)}'" for one in ids]
    return [("filterByFormula", f"OR({','.join(conditions)})")]
