"""Queries and their pages: always by the order of ids, so that no page depends on a locator that may die.

Only names that `describe` has shown, ids and times are put into a query; nothing that a user or a record has written.
Source: connectors reference, section 2; a query ends at 2,000 rows, and earlier where rows are wide [S1].
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from connectors.salesforce.vendor import ident, needs
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api, Trail, parse_time, rfc3339

PAGE_ROWS = 2000  # the largest page
IN_IDS = 400  # ids in one query: about 10,800 characters of its URL
URL_CHARS_MAX = 12_000  # of a query in a URL; URL and headers have 16,384 bytes together

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Deleted:
    """Who was deleted within a time. when: id -> moment. covered: up to when this is known, where Salesforce says so."""

    when: dict[str, datetime | None]
    covered: datetime | None


class Gap(Exception):
    """Salesforce does not show any more what has changed since then; its text says why."""


class Soql:
    """The queries of one read."""

    def __init__(self, api: Api, version: str) -> None:
        self._api, self._base = api, f"/services/data/v{version}"

    def pages(
        self,
        columns: Sequence[str],
        table: str,
        conditions: Sequence[str] = (),
        *,
        deleted: bool = False,
    ) -> Iterator[list[Row]]:
        """All rows in the order of their ids. deleted: also those in the recycle bin."""
        trail, last = Trail(f"Salesforce: {table}"), ""
        plain = {column for column in columns if "." not in column}
        while True:
            after = [f"Id > '{last}'"] if last else []
            soql = select(columns, table, [*conditions, *after], limit=PAGE_ROWS)
            found = self._ask(soql, table, deleted=deleted)
            rows = found["records"]
            if rows and not plain <= rows[0].keys():
                lacking = sorted(plain - rows[0].keys())
                raise SourceError(f"Salesforce: the rows of {table} lack {', '.join(lacking)}")
            if rows:
                last = ident(rows[-1].get("Id"))
                trail.step(last)
                yield rows
            # Wide rows end a page early: `done` is false then. Its locator is not used, for it may die meanwhile.
            if found.get("done") is True and len(rows) < PAGE_ROWS:
                return
            if not rows:
                raise SourceError(
                    f"Salesforce: a page of {table} is empty, and not the last one",
                    hint="Nothing is lost: the next run reads it anew",
                )

    def count(self, table: str) -> int:
        """How many live rows there are."""
        found = self._ask(select(["COUNT()"], table), table)
        count = found.get("totalSize")
        return count if isinstance(count, int) else 0

    def deleted(self, table: str, since: datetime, start: datetime, end: datetime) -> Deleted:
        """Who was deleted from `start` to `end`. Raises Gap where what was deleted after `since` is not known any more [S5]."""
        path = f"{self._base}/sobjects/{table}/deleted/"
        query = {"start": _offset(start), "end": _offset(end)}
        try:
            found = self._api.get(path, query, needs=needs(table))
        except SourceRefused as error:  # too long ago, or too many: EXCEEDED_ID_LIMIT
            raise Gap(
                f"Salesforce does not tell which {table} were deleted ({error.why})"
            ) from None
        rows = found.get("deletedRecords") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise SourceError(f"Salesforce: {path} answered without `deletedRecords`")
        earliest = parse_time(found.get("earliestDateAvailable"))
        if earliest is not None and earliest > since:
            raise Gap(f"Salesforce knows deletions of {table} from {rfc3339(earliest)} on only")
        when = {ident(row.get("id")): parse_time(row.get("deletedDate")) for row in rows}
        return Deleted(when, parse_time(found.get("latestDateCovered")))

    def _ask(self, soql: str, table: str, *, deleted: bool = False) -> Row:
        path = f"{self._base}/{'queryAll' if deleted else 'query'}"
        text = quote(soql)
        if len(text) <= URL_CHARS_MAX:
            found = self._api.get(path, {"q": soql}, needs=needs(table))
        else:  # the same request, within the body of another one
            one = {"method": "GET", "url": f"{path}?q={text}", "referenceId": "query"}
            answers = self._api.post(
                f"{self._base}/composite", {"compositeRequest": [one]}, needs=needs(table)
            )
            found = answers["compositeResponse"][0]["body"]
        if not isinstance(found, dict) or not isinstance(found.get("records"), list):
            raise SourceError(
                f"Salesforce: a query of {table} answered without `records`",
                hint="Check login_url: is this Salesforce's API?",
            )
        return found


def select(
    columns: Sequence[str], table: str, conditions: Sequence[str] = (), *, limit: int | None = None
) -> str:
    """A query, by the order of ids where it has a limit. columns: names that `describe` has shown, or our own."""
    where = [" WHERE ", " AND ".join(conditions)] if conditions else []
    end = [] if limit is None else [f" ORDER BY Id LIMIT {limit}"]
    return "".join(["SELECT ", ",".join(columns), " FROM ", table, *where, *end])


def within(column: str, start: datetime, end: datetime) -> list[str]:
    """The conditions of a time, both ends included; Salesforce's stamps have whole seconds."""
    return [f"{column} >= {rfc3339(start)}", f"{column} <= {rfc3339(end)}"]


def among(column: str, ids: Sequence[str]) -> str:
    """The condition that a column holds one of at most IN_IDS ids."""
    listed = ",".join([f"'{ident(one)}'" for one in ids])
    return f"{column} IN ({listed})"


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many ids at a time as one query takes."""
    return (ids[start : start + IN_IDS] for start in range(0, len(ids), IN_IDS))


def truth(value: Any) -> bool:
    """A boolean of the API, or of a CSV file."""
    return value is True or value == "true"


def _offset(moment: datetime) -> str:
    return rfc3339(moment).replace("Z", "+00:00")
