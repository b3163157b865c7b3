"""One step of a sync, from what was known to what was read: what it touches, and what it comes to.

A step is one transaction (`syncd.promotion`); these are the questions that it asks inside it, and the book that outlives its roll-back.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from syncd.core.change import Change
from syncd.core.person import Person, load
from syncd.state.contacts import PERSON, people_of
from syncd.state.links import TOUCHED_BEFORE
from syncd.state.newcomers import NOBODY, Newcomers
from syncd.state.reads import Read, SyncRow
from syncd.state.store import State

CHUNK_ROWS = 500
CID_MAX = 2**63 - 1  # SQLite's largest number

STEPPED = "CREATE TABLE IF NOT EXISTS scratch.stepped(cid INTEGER PRIMARY KEY)"

# leaves: a record of this sync has left the contact, and none is there any more, whoever else wants it
TOUCHED = (
    PERSON.replace(
        "SELECT c.*",
        "SELECT c.*, t.want AS want_before, t.policy AS policy_before, EXISTS(SELECT 1 FROM scratch.left l WHERE l.cid=c.cid)"
        " AND NOT EXISTS(SELECT 1 FROM record r WHERE r.cid=c.cid AND r.sync=?1 AND r.live=1) AS leaves",
    ).replace("FROM contact c", "FROM scratch.touched t CROSS JOIN contact c ON c.cid=t.cid")
    + " WHERE t.cid>?2 AND t.cid<=?3 ORDER BY t.cid LIMIT ?4"
)

PENDING = (
    PERSON
    + " WHERE c.todo=1 AND c.sync=? AND c.cid>? AND c.cid NOT IN (SELECT cid FROM scratch.stepped)"
    " ORDER BY c.cid LIMIT ?"
)


def prepare_stepped(state: State) -> None:
    """Make the table of a run's touched contacts."""
    state.db.execute(STEPPED)


def prepare_touched(state: State) -> None:
    """Empty the table in which merging keeps what the touched contacts wanted before."""
    state.db.execute(TOUCHED_BEFORE)
    state.write("DELETE FROM scratch.touched")
    state.db.execute("CREATE TABLE IF NOT EXISTS scratch.changing(cid INTEGER PRIMARY KEY)")
    state.write("DELETE FROM scratch.changing")


def moved_contacts(state: State, sync: SyncRow) -> list[int]:
    """Contacts whose records have another address in the read that is staged."""
    rows = state.rows(
        "SELECT DISTINCT c.cid FROM scratch.stage s CROSS JOIN record r ON r.rowno=s.rowno CROSS JOIN contact c ON c.cid=r.cid"
        " WHERE r.sync=? AND s.kind IS NULL AND s.skip IS NULL AND s.email<>c.email AND c.state='ok'",
        sync.sync,
    )
    return [row[0] for row in rows]


def touch(state: State, newcomers: Newcomers) -> None:
    """Newcomers count as touched, too: they were not wanted before."""
    state.write(
        "INSERT OR IGNORE INTO scratch.touched SELECT cid,NULL,NULL FROM contact WHERE cid BETWEEN ? AND ?",
        newcomers.first, newcomers.last,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Touched:
    """A contact that the step has touched, as it is now and as it was. known: FluenzR was known to have it. leaves: the sync."""

    now: Person
    before: Person | None
    known: bool
    leaves: bool


def touched(
    state: State, sync: SyncRow, *, first: int = 1, last: int = CID_MAX
) -> Iterator[Touched]:
    """Contacts that this step of a sync has touched. first, last: of their cids."""
    done = first - 1
    while rows := state.rows(TOUCHED, sync.sync, done, last, CHUNK_ROWS):
        for row, person in zip(rows, people_of(state, rows), strict=True):
            known = row["want_before"] is not None and row["state"] == "ok"
            yield Touched(person, _before(person, row), known, bool(row["leaves"]))
        done = rows[-1]["cid"]


def _before(person: Person, row: sqlite3.Row) -> Person | None:
    want = load(row["want_before"])
    if want is None and row["policy_before"] is None:
        return None
    return replace(person, want=want, policy=row["policy_before"], move_to=None)


# Somebody who waits to be enrolled and was judged by no guard yet: not to be before, or only since the last step was over.
WAITING = """
SELECT cid,want,policy FROM contact c INDEXED BY contact_todo WHERE todo=1 AND sync=? AND cid NOT BETWEEN ? AND ? AND EXISTS(
  SELECT 1 FROM (SELECT value FROM json_each(c.want,'$.g') UNION ALL SELECT value FROM json_each(c.want,'$.p')) w
  JOIN grp g ON g.gid=w.value WHERE g.kind<>'static' AND NOT EXISTS(SELECT 1 FROM judged j WHERE j.cid=c.cid AND j.gid=w.value))
"""


def touch_waiting(state: State, sync: SyncRow, *, but: Newcomers = NOBODY) -> None:
    """Judge those too whose enrolment waits for it, though nothing of this step concerns them (inside a transaction).

    but: nobody mails these.
    """
    state.write(f"INSERT OR IGNORE INTO scratch.touched {WAITING}", sync.sync, but.first, but.last)


def let_pass(state: State, cid: int, gids: Iterable[int]) -> None:
    """The guards let these enrolments pass: they may be sent (inside a transaction)."""
    for gid in gids:
        state.write("INSERT OR IGNORE INTO judged VALUES(?,?)", cid, gid)


def forget_judged(state: State) -> None:
    """Of whom nothing waits any more, a later enrolment is judged anew (inside a transaction)."""
    state.write(
        "DELETE FROM judged WHERE EXISTS(SELECT 1 FROM contact c WHERE c.cid=judged.cid AND c.todo=0)"
    )


def touched_groups(state: State) -> set[int]:
    """gid of every group that a contact touched by the step wants."""
    rows = state.rows(
        "SELECT DISTINCT j.value FROM scratch.touched t JOIN contact c ON c.cid=t.cid, json_each(c.want,'$.g') j"
    )
    return {row[0] for row in rows}


def note_changing(state: State, cid: int) -> None:
    """The step would change this contact in FluenzR."""
    state.write("INSERT INTO scratch.changing VALUES(?)", cid)


def group_sizes(state: State, sync: SyncRow) -> dict[int, int]:
    """gid -> to how many people of this sync the group was given."""
    return state.pairs(
        "SELECT j.value,count(*) FROM contact c, json_each(c.sent,'$.g') j WHERE c.sync=? GROUP BY j.value",
        sync.sync,
    )


def confirmed_count(state: State, sync: SyncRow, *, at_most: int | None) -> int:
    """People of this sync whom FluenzR is known to have; more than `at_most` are not counted."""
    count: int = state.value(
        "SELECT count(*) FROM (SELECT 1 FROM contact WHERE sync=? AND state='ok' LIMIT ?)",
        sync.sync,
        -1 if at_most is None else at_most,
    )
    return count


def save_read(state: State, sync: SyncRow, read: Read, *, version: str, now_s: int) -> None:
    """The read is the known one now: its cursor and token are saved in the transaction that promotes it."""
    state.write(
        "UPDATE sync SET version=?,token=?,cursor=CASE WHEN ? THEN ? ELSE coalesce(?,cursor) END,promoted_at=?,"
        "full_at=CASE WHEN ? THEN ? ELSE full_at END, read_count=CASE WHEN ? THEN ? ELSE read_count END WHERE sync=?",
        version, read.token, read.full, read.cursor, read.cursor, now_s, read.full, now_s, read.full, read.read, sync.sync,
    )  # fmt: skip


def note_stepped(state: State) -> None:
    """Keep in mind for the rest of the run whom its promoted steps have touched."""
    state.write("INSERT OR IGNORE INTO scratch.stepped SELECT cid FROM scratch.touched")


def step(state: State, cid: int) -> None:
    """This contact is meant, though no step of a sync has touched it."""
    state.write("INSERT OR IGNORE INTO scratch.stepped VALUES(?)", cid)


def mark_listed(state: State, sync: SyncRow) -> None:
    """The account was listed for this sync: whoever was there is known."""
    state.write("UPDATE sync SET listed=1 WHERE sync=?", sync.sync)


def drop_token(state: State, sync: SyncRow) -> None:
    """The read did not count, or only some of it: the next one must not be skipped as unchanged."""
    state.write("UPDATE sync SET token=NULL WHERE sync=?", sync.sync)


class ChangeBook:
    """The changes of one step, in a database of their own: they outlive the roll-back, and memory stays flat."""

    def __init__(self) -> None:
        # SQLite's own temporary file: private, and gone when it is closed or the process dies.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE change(change BLOB, digest BLOB, free INTEGER)")
        self._rows: list[tuple[bytes, bytes, bool]] = []
        self.count = 0  # of those that a guard can hold

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def add(self, change: Change, digest: bytes, *, free: bool) -> None:
        """Keep one change. free: no guard holds it."""
        self._rows.append((change.dump(), digest, free))
        self.count += not free
        if len(self._rows) >= CHUNK_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO change VALUES(?,?,?)", self._rows)
        self._db.execute("COMMIT")
        self._rows.clear()

    def changes(self, *, free: bool = True) -> Iterator[tuple[Change, bytes]]:
        """In order: all of them, or only those that a guard can hold."""
        self._flush()
        query = "SELECT change,digest FROM change WHERE free<=? ORDER BY rowid"
        for text, digest in self._db.execute(query, (free,)):
            yield Change.load(text), digest


def pending(state: State, sync: SyncRow) -> Iterator[Person]:
    """People of this sync with something to be done that this run's steps have not touched."""
    last = 0
    while rows := state.rows(PENDING, sync.sync, last, CHUNK_ROWS):
        yield from people_of(state, rows)
        last = rows[-1]["cid"]
