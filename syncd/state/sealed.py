"""What a sealed plan allows in this run, and what of a read leads beyond it. All of it stands in the scratch file.

`scratch.sealed` holds the plan's rows; `met` says that the run found the same change again. `scratch.stray` holds
contacts to whom something else would be sent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from syncd.core.change import Change
from syncd.state.reads import SyncRow
from syncd.state.store import State

TABLES = """
CREATE TABLE IF NOT EXISTS scratch.sealed(
  sync TEXT NOT NULL, digest BLOB NOT NULL, email TEXT NOT NULL, kind TEXT NOT NULL, met INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY(sync, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scratch.stray(cid INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS scratch.differs(sync TEXT NOT NULL, email TEXT NOT NULL, PRIMARY KEY(sync, email)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS scratch.cause(part TEXT NOT NULL, id INTEGER NOT NULL, cid INTEGER NOT NULL)
"""

# Rows of the read by the contact that they touch. An opt-out of the source is never left out.
STAGED = (
    "SELECT 'stage',s.id,r.cid FROM scratch.stage s JOIN record r ON r.sync=? AND r.key=s.key"
    " WHERE r.cid IS NOT NULL AND s.skip IS NOT 'opted_out'"
)
LEAVING = (
    "SELECT 'gone',g.rowno,r.cid FROM scratch.gone g JOIN record r USING(rowno)"
    " WHERE r.sync=? AND r.cid IS NOT NULL"
)


@dataclass(frozen=True, slots=True)
class Unmet:
    """A row of the plan that this run did not find again. differs: another change is due now."""

    email: str
    kind: str
    differs: bool


def prepare(state: State, rows: Iterable[tuple[Change, bytes]]) -> None:
    """Take over the rows of the plan."""
    for statement in TABLES.split(";\n"):
        state.db.execute(statement)
    with state.tx(scratch_only=True):
        state.db.executemany(
            "INSERT OR IGNORE INTO scratch.sealed(sync,digest,email,kind) VALUES(?,?,?,?)",
            ((change.sync, digest, change.email, change.kind.value) for change, digest in rows),
        )


def meet(state: State, sync: str, digest: bytes) -> bool:
    """Whether the plan has this change (inside a transaction)."""
    return bool(
        state.write("UPDATE scratch.sealed SET met=1 WHERE sync=? AND digest=?", sync, digest)
    )


def note_stray(state: State, cid: int) -> None:
    """Something else would be sent to this contact (inside a transaction)."""
    state.write("INSERT OR IGNORE INTO scratch.stray VALUES(?)", cid)


def note_causes(state: State, sync: SyncRow) -> None:
    """Before a promotion: which contacts the rows of the read belong to as yet."""
    with state.tx(scratch_only=True):
        state.write("DELETE FROM scratch.cause")
        state.write("DELETE FROM scratch.stray")
        state.write(f"INSERT INTO scratch.cause {STAGED}", sync.sync)
        state.write(f"INSERT INTO scratch.cause {LEAVING}", sync.sync)


@dataclass(frozen=True, slots=True)
class Strays:
    """What a promotion on trial has shown; it outlives the roll-back. emails: of people; stage, gone: rows of the read."""

    emails: frozenset[str]
    stage: frozenset[int]
    gone: frozenset[int]


NOBODY = Strays(frozenset(), frozenset(), frozenset())


def strays(state: State, sync: SyncRow) -> Strays:
    """Whom the promotion would change otherwise than planned, and which rows lead there (inside its transaction)."""
    emails = state.rows("SELECT email FROM contact WHERE cid IN (SELECT cid FROM scratch.stray)")
    causes = state.rows(
        f"SELECT DISTINCT part,id FROM (SELECT part,id,cid FROM scratch.cause UNION ALL {STAGED} UNION ALL {LEAVING})"
        " WHERE cid IN (SELECT cid FROM scratch.stray)",
        sync.sync, sync.sync,
    )  # fmt: skip
    return Strays(
        frozenset(row[0] for row in emails),
        frozenset(number for part, number in causes if part == "stage"),
        frozenset(number for part, number in causes if part == "gone"),
    )


def take_off(state: State, sync: SyncRow, found: Strays, *, all_of_it: bool) -> int:
    """Leave these rows out of the read; how many. all_of_it: everything but opt-outs."""
    with state.tx(scratch_only=True):
        state.db.executemany(
            "INSERT OR IGNORE INTO scratch.differs VALUES(?,?)",
            ((sync.name, email) for email in found.emails),
        )
        if all_of_it and (found.stage or found.gone):
            return state.write(
                "DELETE FROM scratch.stage WHERE skip IS NOT 'opted_out'"
            ) + state.write("DELETE FROM scratch.gone")
        for table, column, rows in (("stage", "id", found.stage), ("gone", "rowno", found.gone)):
            state.db.executemany(
                f"DELETE FROM scratch.{table} WHERE {column}=?", ((row,) for row in rows)
            )
    return len(found.stage) + len(found.gone)


def step_only_planned(state: State, sync: str) -> None:
    """Strays are not sent, though a step has touched them (inside a transaction)."""
    state.write("DELETE FROM scratch.stepped WHERE cid IN (SELECT cid FROM scratch.stray)")
    _note_differing(state, sync)


def step_pending(state: State, sync: SyncRow) -> None:
    """What waits since an earlier run and is no stray is sent, too (inside a transaction)."""
    state.write(
        "INSERT OR IGNORE INTO scratch.stepped SELECT cid FROM contact WHERE todo=1 AND sync=?"
        " AND cid NOT IN (SELECT cid FROM scratch.stray)",
        sync.sync,
    )
    _note_differing(state, sync.name)


def _note_differing(state: State, sync: str) -> None:
    state.write(
        "INSERT OR IGNORE INTO scratch.differs SELECT ?,email FROM contact"
        " WHERE cid IN (SELECT cid FROM scratch.stray)",
        sync,
    )


def unmet(state: State, sync: str) -> Iterator[Unmet]:
    """Rows of the plan that this run did not find again."""
    for email, kind, differs in state.db.execute(
        "SELECT s.email,s.kind,d.email IS NOT NULL FROM scratch.sealed s"
        " LEFT JOIN scratch.differs d USING(sync,email) WHERE s.sync=? AND s.met=0 ORDER BY s.email",
        (sync,),
    ):
        yield Unmet(email, kind, bool(differs))


def unplanned(state: State, sync: str) -> int:
    """People who have a change now, and none in the plan."""
    count: int = state.value(
        "SELECT count(*) FROM scratch.differs d WHERE d.sync=? AND NOT EXISTS"
        " (SELECT 1 FROM scratch.sealed s WHERE s.sync=d.sync AND s.email=d.email)",
        sync,
    )
    return count
