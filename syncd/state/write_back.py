"""What of FluenzR a source is still to be told, what it was told, and what it does not take.

A record is told a status once it has been written; a later, other status is news again. One row of `written_back` a record.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from syncd.state.reads import SyncRow
from syncd.state.store import Connection, State

REFUSED_S = 3600  # the first back-off, doubling
BACKOFF_S_MAX = 24 * 3600

NEWS = """
SELECT r.rowno,r.key,c.email,c.status FROM contact c JOIN record r ON r.cid=c.cid
LEFT JOIN written_back w ON w.rowno=r.rowno
WHERE c.status<>'active' AND c.status IN ({marks})
AND r.rowno BETWEEN ? AND ? AND r.rowno>? AND r.skip IS NOT 'gone'
AND w.told IS NOT c.status AND coalesce(w.not_before,0)<=? ORDER BY r.rowno LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Due:
    """One record whose source is to be told a status."""

    rowno: int
    key: str
    email: str
    status: str


@dataclass(frozen=True, slots=True)
class Untold:
    """One record whose source does not take it. not_before_s: when it is tried again."""

    sync: str
    key: str
    email: str
    error: str
    tries: int
    not_before_s: int


def due(
    state: State, sync: SyncRow, statuses: Collection[str], *, after: int, now_s: int, limit: int
) -> list[Due]:
    """The next records that have news of these statuses, in the order of the source."""
    query = NEWS.format(marks=",".join("?" * len(statuses)))
    span = (sync.first_rowno, sync.last_rowno, after, now_s, limit)
    return [Due(*row) for row in state.rows(query, *statuses, *span)]


def told(state: State, written: Sequence[Due]) -> None:
    """The source has these now (inside a transaction)."""
    state.db.executemany(
        "INSERT OR REPLACE INTO written_back(rowno,told) VALUES(?,?)",
        [(one.rowno, one.status) for one in written],
    )


def refused(state: State, one: Due, why: str, *, now_s: int) -> None:
    """The source does not take this one: again later, and later each time (inside a transaction)."""
    tries = state.value("SELECT tries FROM written_back WHERE rowno=?", one.rowno) or 0
    wait_s = min(REFUSED_S << min(tries, 10), BACKOFF_S_MAX)
    state.write(
        "INSERT INTO written_back(rowno,tries,not_before,err) VALUES(?1,1,?2,?3)"
        " ON CONFLICT(rowno) DO UPDATE SET tries=tries+1,not_before=?2,err=?3",
        one.rowno, now_s + wait_s, why,
    )  # fmt: skip


def stuck(db: Connection) -> list[Untold]:
    """Whatever sources do not take, those who wait longest first."""
    rows = db.execute(
        "SELECT s.name,r.key,coalesce(c.email,r.email,''),w.err,w.tries,w.not_before FROM written_back w"
        " JOIN record r USING(rowno) JOIN sync s ON s.sync=r.sync LEFT JOIN contact c ON c.cid=r.cid"
        " WHERE w.tries>0 ORDER BY w.tries DESC,r.rowno"
    )
    return [Untold(*row) for row in rows]


def retry(state: State) -> int:
    """Everything that was refused is tried again in the next run (inside a transaction); how many."""
    return state.write("UPDATE written_back SET not_before=0 WHERE tries>0")
