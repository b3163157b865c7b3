"""The books of one sync's step: what became of each record of a read, so that `read + gone` is accounted for.

`scratch.candidate` holds the records of the run that were new, changed or gone; the rest was unchanged and is only counted.
"""

from collections import Counter
from dataclasses import dataclass

from syncd.state.reads import SyncRow
from syncd.state.store import State

CANDIDATE = """
CREATE TABLE IF NOT EXISTS scratch.candidate(
  sync INTEGER NOT NULL, rowno INTEGER NOT NULL, was TEXT NOT NULL, PRIMARY KEY(sync, rowno)) WITHOUT ROWID
"""

COUNTED = "CREATE TABLE IF NOT EXISTS scratch.counted(cid INTEGER NOT NULL, what TEXT NOT NULL, PRIMARY KEY(cid, what)) WITHOUT ROWID"

# One line per real-world case, the first that holds decides.
FATE = """
SELECT CASE
  WHEN k.was='gone' AND r.rowno IS NULL THEN 'changed'
  WHEN k.was IN ('filtered','address','blocked') THEN 'skipped:' || k.was
  WHEN k.was='opted_out' THEN 'opted_out'
  WHEN r.rowno IS NULL THEN 'skipped:forgotten'
  WHEN r.skip IN ('filtered','address') THEN 'skipped:' || r.skip
  WHEN r.skip='opted_out' THEN 'opted_out'
  WHEN r.skip='blocked' THEN 'quarantined'
  WHEN r.dirty=1 THEN 'quarantined'
  WHEN k.was='gone' AND c.todo=1 AND c.policy IS NOT 'delete' AND c.inflight IS NOT NULL THEN 'quarantined'
  WHEN k.was='gone' THEN 'changed'
  WHEN c.cid IS NULL THEN 'quarantined'
  WHEN c.inflight IS NOT NULL OR c.not_before>? THEN 'quarantined'
  WHEN c.state='new' AND EXISTS(SELECT 1 FROM never n WHERE n.what='!'
       AND (n.k=ekey(c.email) OR n.k=rkey(r.sync,r.key))) THEN 'opted_out'
  WHEN c.state='new' AND EXISTS(SELECT 1 FROM never n WHERE n.what='x'
       AND (n.k=ekey(c.email) OR n.k=rkey(r.sync,r.key))) THEN 'skipped:deleted by hand'
  WHEN c.state='new' AND EXISTS(SELECT 1 FROM never n WHERE n.what IN ('#','?')
       AND (n.k=ekey(c.email) OR n.k=rkey(r.sync,r.key))) THEN 'skipped:never'
  WHEN c.state='new' THEN 'quarantined'
  WHEN c.wrote_run=? THEN 'changed'
  WHEN c.todo=1 THEN 'quarantined'
  ELSE 'unchanged' END AS fate
FROM scratch.candidate k LEFT JOIN record r ON r.rowno=k.rowno LEFT JOIN contact c ON c.cid=r.cid
WHERE k.sync=?
"""


# The same question when the step is held: a record is held where its contact would have changed.
HELD_FATE = """
SELECT CASE
  WHEN k.was='opted_out' OR r.skip='opted_out' THEN 'opted_out'
  WHEN k.was='gone' OR r.cid IN (SELECT cid FROM scratch.changing) THEN 'held'
  WHEN k.was IN ('filtered','address','blocked') THEN 'skipped:' || k.was
  WHEN r.skip='blocked' THEN 'quarantined'
  WHEN r.rowno IS NULL THEN 'skipped:forgotten'
  WHEN r.skip IN ('filtered','address') THEN 'skipped:' || r.skip
  WHEN r.dirty=1 THEN 'held'
  ELSE 'unchanged' END AS fate, count(*)
FROM scratch.candidate k LEFT JOIN record r ON r.rowno=k.rowno WHERE k.sync=? GROUP BY fate
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a sync has waiting. Counts of people."""

    quarantined: int
    deletes_waiting: int


def prepare_counted(state: State) -> None:
    """Make the table of who is counted under what in this run."""
    state.db.execute(COUNTED)


def count_once(state: State, cid: int, what: str) -> bool:
    """Whether this contact is not yet counted under that name: several groups are one person who was grouped."""
    return bool(state.write("INSERT OR IGNORE INTO scratch.counted VALUES(?,?)", cid, what))


def prepare_books(state: State) -> None:
    """Make the scratch table."""
    state.db.execute(CANDIDATE)


def note_candidates(state: State, sync: SyncRow, *, first_new: int) -> None:
    """After a promotion: what must be accounted for at the end (inside a transaction). first_new: rowno of the first new record."""
    state.write(
        "INSERT OR REPLACE INTO scratch.candidate SELECT r.sync,r.rowno,'staged' FROM scratch.stage s"
        " JOIN record r ON r.rowno=s.rowno WHERE s.kind IS NULL AND s.same=0"
    )
    state.write(
        "INSERT OR REPLACE INTO scratch.candidate SELECT sync,rowno,'staged' FROM record WHERE rowno BETWEEN ? AND ?",
        first_new, sync.last_rowno,
    )  # fmt: skip


def note_gone(state: State, sync: SyncRow) -> None:
    """Before a promotion: records that are gone, by what they were (inside a transaction)."""
    state.write(
        "INSERT OR REPLACE INTO scratch.candidate SELECT r.sync,r.rowno,CASE WHEN r.live=1 THEN 'gone' ELSE"
        " coalesce(r.skip,'gone') END FROM scratch.gone g CROSS JOIN record r USING(rowno) WHERE r.sync=?",
        sync.sync,
    )


def fates(state: State, sync: SyncRow, *, run: int, now_s: int) -> dict[str, int]:
    """What became of the candidates of one sync: fate -> records."""
    # Counted here: grouping in SQL would sort them all.
    return Counter(row[0] for row in state.db.execute(FATE, (now_s, run, sync.sync)))


def held_fates(state: State, sync: SyncRow) -> dict[str, int]:
    """What becomes of the candidates when the step is held: fate -> records (inside the step's transaction)."""
    return state.pairs(HELD_FATE, sync.sync)


def backlog(state: State, sync: int, *, now_s: int) -> Backlog:
    """People of one sync who wait: in back-off, or to be deleted when every sync has been read."""
    quarantined = state.value(
        "SELECT count(*) FROM contact WHERE sync=? AND tries>0 AND not_before>?", sync, now_s
    )
    deletes = state.value(
        "SELECT count(*) FROM contact WHERE sync=? AND todo=1 AND want IS NULL AND policy='delete'"
        " AND state='ok' AND origin='created'",
        sync,
    )
    return Backlog(quarantined, deletes)
