"""Change tracking: a token first, and what has changed since a token.

A token comes with the last page of a listing. Nobody says whether it stands for the listing's beginning or its end, and rows
that change meanwhile may come twice or not at all. So a listing of nothing but ids is walked through first, only for its token;
then everybody is read. What changes in between is in the next delta, whichever way the token is meant. A delta's rows are not
used either, for they may be parts of rows: they say whose row is to be read.

Source: connectors reference, section 5 [S1]: no filter, order or expand; tokens live 7 days; the caller needs read access of the
level Organization. Any refusal of a token means that it is of no use any more.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from connectors.dynamics.vendor import (
    PAGE_ROWS,
    Pairs,
    Row,
    Table,
    answers,
    ident,
    needs,
    rows_of,
    within,
)
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.http import Api, Query

ROWS_MAX = 200_000  # of a delta: with more, reading everything is cheaper
TRACK = "odata.track-changes"
NO_RIGHT = "the user may not read all rows of the organization"
IS_OFF = "change tracking is off for the table (Power Apps: the table's properties, Track changes)"


class Gap(Exception):
    """What has changed cannot be told; its text says why."""


@dataclass(frozen=True, slots=True)
class Delta:
    """What has changed since a token. changed: whose row is to be read. gone: who is deleted, unless the row is there. token: the next."""

    changed: frozenset[str]
    gone: frozenset[str]
    token: str


def begin(api: Api, table: Table) -> str | None:
    """A token from which on all changes are told; None where there is none for this table or this user."""
    if not table.tracked:
        return None
    token = None
    try:
        for found in _listing(api, table, _first(table)):
            rows_of(found, table.path)
            token = _token(api, found)
    except (SourceDenied, SourceRefused):
        return None  # who may read nothing at all is told so by the read itself
    return token


def untracked(api: Api, table: Table) -> str:
    """Why changes of this table cannot be tracked; empty where they can."""
    if not table.tracked:
        return IS_OFF
    try:
        found = next(answers(api, table.path, _first(table), prefer=(TRACK, "odata.maxpagesize=1")))
    except SourceDenied:
        return NO_RIGHT
    except SourceRefused as error:
        return error.why
    rows_of(found, table.path)
    return ""


def changes(api: Api, table: Table, token: str) -> Delta:
    """Everything since a token. Raises Gap where the token is of no use, or has too much behind it."""
    changed, gone = set[str](), set[str]()
    try:
        for found in _listing(api, table, token):
            # Where nothing has changed, the answer may be an empty object [S1].
            for row in rows_of(found, table.path) if found.keys() & {"value", NEXT} else ():
                reason = _reason(row)
                if reason is None:
                    changed.add(ident(row.get(table.id)))
                    continue
                gone.add(_removed(row))
                if reason != "deleted":  # it may have left the listing, and be there
                    changed.add(_removed(row))
            if len(changed) + len(gone) > ROWS_MAX:
                raise Gap(f"more than {ROWS_MAX:,} rows of {table.name} have changed")
            token = _token(api, found) or token
    except (SourceDenied, SourceRefused) as error:
        raise Gap(f"the changes of {table.name} are not told any more ({error.why})") from None
    return Delta(frozenset(changed), frozenset(gone), token)


NEXT = "@odata.nextLink"


def _first(table: Table) -> Pairs:
    """Each change moves `modifiedon`, so that it is seen even if only changes of named columns are told."""
    return [("$select", f"{table.id},modifiedon")]


def _listing(api: Api, table: Table, query: Query) -> Iterator[Row]:
    prefer = (TRACK, f"odata.maxpagesize={PAGE_ROWS}")
    return answers(api, table.path, query, prefer=prefer, needs=needs(table.name))


def _token(api: Api, found: Row) -> str | None:
    """The query of a delta link: its host and path are known."""
    link = found.get("@odata.deltaLink")
    if link is None:
        return None
    _, query = within(api.base_url, link)
    if not any(name == "$deltatoken" and value for name, value in parse_qsl(query)):
        raise SourceError("Dynamics 365: a delta link without $deltatoken")
    return query


def _reason(row: Row) -> str | None:
    """Why a row is said to be gone: OData 4.0 says $deletedEntity, 4.01 @removed. None: it is not gone."""
    removed: Any = row.get("@removed")
    if isinstance(removed, dict):
        return str(removed.get("reason"))
    context = str(row.get("@odata.context") or row.get("@context") or "")
    if removed is None and not context.endswith("/$deletedEntity"):
        return None
    return str(row.get("reason"))


def _removed(row: Row) -> str:
    link = str(row.get("id") or row.get("@odata.id") or row.get("@id") or "")
    return ident(link.rpartition("(")[2].rstrip(")"))
