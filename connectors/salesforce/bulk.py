"""Large full reads as jobs of the Bulk API 2.0: a query is handed in, waited for, and its rows come as CSV.

Source: connectors reference, section 2 [M]; Salesforce's pages on query jobs: no ORDER BY (it makes jobs slow), results by a
locator that is "null" at the end, `Sforce-NumberOfRecords` for each part. Jobs are dropped by Salesforce after a week.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence

from connectors.salesforce.soql import Row, select
from connectors.salesforce.vendor import needs
from syncd.errors import SourceError
from syncd.files import CSV_VALUE_CHARS_MAX
from syncd.http import Api, Reply, Trail

FROM_ROWS = 50_000  # with fewer, queries are faster than a job
POLLS_MAX = 720  # every ten seconds: two hours
PART_CELLS = 100_000  # rows times columns of one part: a few MB
PART_ROWS_MIN, PART_ROWS_MAX = 200, 10_000


class Bulk:
    """Query jobs. patient: opens the same API at the pace of somebody who waits."""

    def __init__(self, api: Api, patient: Callable[[], Api], version: str) -> None:
        self._api, self._patient = api, patient
        self._base = f"/services/data/v{version}/jobs/query"

    def start(self, columns: Sequence[str], table: str) -> str:
        """Hand in the query of all live rows; the path of its job. Raises SourceError."""
        job = {
            "operation": "query",
            "query": select(columns, table),
            "contentType": "CSV",
            "columnDelimiter": "COMMA",
            "lineEnding": "LF",
        }
        found = self._api.post(self._base, job, needs=needs(table))
        key = found.get("id") if isinstance(found, dict) else None
        if not isinstance(key, str) or not key.isalnum():
            raise SourceError("Salesforce: a query job without an id")
        return f"{self._base}/{key}"

    def pages(self, path: str, columns: Sequence[str], table: str) -> Iterator[list[Row]]:
        """All rows of a job, once it is done."""
        expected, seen = self._wait(path), 0
        size = min(max(PART_CELLS // len(columns), PART_ROWS_MIN), PART_ROWS_MAX)
        query: dict[str, str | int] = {"maxRecords": size}
        trail, header = Trail(f"Salesforce: {path}"), list[str]()
        while True:
            reply = self._api.ask(
                "GET", f"{path}/results", query=query, headers={"Accept": "text/csv"}, plain=True,
                needs=needs(table),
            )  # fmt: skip
            header, rows = _rows(reply, header, columns)
            seen += len(rows)
            yield rows
            locator = reply.headers.get("sforce-locator", "null")
            if locator in ("null", ""):
                break
            trail.step(locator)
            query = {"maxRecords": size, "locator": locator}
        if expected is not None and seen < expected:
            raise SourceError(
                f"Salesforce: a job of {expected:,} rows gave {seen:,} only",
                hint='The next run reads it anew; or set bulk = "off"',
            )

    def _wait(self, path: str) -> int | None:
        """Until the job is done; the number of its rows, where it is told."""
        api = self._patient()
        for _ in range(POLLS_MAX):
            job = api.get(path)
            state = job.get("state")
            if state == "JobComplete":
                count = job.get("numberRecordsProcessed")
                return count if isinstance(count, int) else None
            if state not in ("UploadComplete", "InProgress"):
                raise SourceError(
                    f"Salesforce: the query job has ended as {str(state)[:40]!r}",
                    why=str(job.get("errorMessage") or "")[:300],
                    hint='The next run tries again; or set bulk = "off"',
                )
        raise SourceError(
            "Salesforce: the query job was not done within two hours",
            hint='The next run tries again; or set bulk = "off"',
        )


def _rows(reply: Reply, header: list[str], columns: Sequence[str]) -> tuple[list[str], list[Row]]:
    """One part. The header may stand in the first part or in each: both have been seen."""
    csv.field_size_limit(CSV_VALUE_CHARS_MAX)
    try:
        lines = list(csv.reader(io.StringIO(reply.body.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(
            "Salesforce: the rows of a job cannot be read as CSV", why=type(error).__name__
        ) from None
    if lines and (not header or lines[0] == header):
        header = lines.pop(0)
    stated = reply.headers.get("sforce-numberofrecords", "")
    if stated.isdigit() and int(stated) != len(lines):
        raise SourceError(f"Salesforce: a part of {stated} rows has {len(lines)}")
    if lines and (lacking := set(columns) - set(header)):
        raise SourceError(f"Salesforce: the rows of a job lack {', '.join(sorted(lacking))}")
    if any(len(line) != len(header) for line in lines):
        raise SourceError("Salesforce: a row of a job has more or fewer columns than its header")
    return header, [dict(zip(header, line, strict=True)) for line in lines]
