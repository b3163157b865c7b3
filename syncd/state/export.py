"""Statistics in an SQLite file of the user's: two tables of ours, whatever else stands in it.

It is not the state: nothing is read from it again, and it may be deleted at any time.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sqlite_utils import Database

from syncd.state.files import open_private
from syncd.state.store import explained

CAMPAIGNS, DAYS = "campaign", "campaign_day"


def export(
    path: Path,
    campaigns: Iterable[Mapping[str, object]],
    days: Iterable[Mapping[str, object]],
    *,
    columns: Sequence[str],
) -> None:
    """Put rows into the file: a row of the same campaign, or of its day, is replaced. Raises StateError.

    columns: of a campaign; a day's has `date` before them.
    """
    os.close(open_private(path))
    with explained(path):
        database = Database(path)
        try:
            _put(database, CAMPAIGNS, campaigns, ("id",), columns)
            _put(database, DAYS, days, ("date", "id"), ("date", *columns))
        finally:
            database.close()


def _put(
    database: Database,
    name: str,
    rows: Iterable[Mapping[str, object]],
    key: tuple[str, ...],
    columns: Sequence[str],
) -> None:
    table = database.table(name, pk=key, column_order=list(columns))
    table.create({one: _type(one) for one in columns}, pk=key, if_not_exists=True)
    table.upsert_all((dict(row) for row in rows), pk=key)


def _type(column: str) -> type:
    if column.endswith("Rate"):
        return float
    return str if column in ("date", "id", "name", "status", "createdAt", "startedAt") else int
