"""What each campaign had come to, one row a day and campaign: the trend where FluenzR has no timeline, and beyond its end."""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from syncd.state.runs import KEEP_S
from syncd.state.store import Connection, Row, State

TAKEN_AT = "snapshots_at"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One campaign on one day. day: YYYY-MM-DD, UTC; at_s: when it was read; stats: by the API's names, None: not told."""

    day: str
    at_s: int
    id: str
    name: str
    status: str
    stats: dict[str, float | None]


def taken_at_s(db: Connection) -> int | None:
    """When the last ones were taken; None: never."""
    row = db.execute("SELECT v FROM meta WHERE k=?", (TAKEN_AT,)).fetchone()
    return None if row is None else int(orjson.loads(row[0]))


def save(state: State, found: Iterable[Snapshot], *, now_s: int) -> None:
    """Keep these; of each day the first counts (inside a transaction). What is older than the history goes."""
    state.db.executemany(
        "INSERT OR IGNORE INTO snapshot(day,campaign,at,name,status,stats) VALUES(?,?,?,?,?,?)",
        [
            (one.day, one.id, one.at_s, one.name, one.status, orjson.dumps(one.stats).decode())
            for one in found
        ],
    )
    state.write("DELETE FROM snapshot WHERE at<?", now_s - KEEP_S)
    state.set_meta(TAKEN_AT, now_s)


def since(db: Connection, day: str) -> list[Snapshot]:
    """All from this day on, by campaign, the oldest first."""
    rows = db.execute("SELECT * FROM snapshot WHERE day>=? ORDER BY campaign,day", (day,))
    return [_snapshot(row) for row in rows]


def _snapshot(row: Row) -> Snapshot:
    stats = orjson.loads(row["stats"])
    return Snapshot(row["day"], row["at"], row["campaign"], row["name"], row["status"], stats)
