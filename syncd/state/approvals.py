"""Approvals: the release of exactly what a guard holds, once; and who gave it, for `history` and `why`."""

import sqlite3
from dataclasses import dataclass

from syncd.errors import UsageError
from syncd.state import held
from syncd.state.store import State


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody has released what a guard held. run: in which it was held; by: the user of the machine."""

    run: int
    sync: str
    at_s: int
    by: str


def approve(
    db: sqlite3.Connection,
    number: int,
    sync: str | None,
    *,
    by: str,
    now_s: float,
    seal: bytes | None = None,
) -> int:
    """Release exactly what a guard held in this run; how many changes that are (inside a transaction).

    by: the user of the machine who does so. seal: of what was shown to them (`state.held`); another one is not released.
    Raises UsageError when there is nothing to release, and says why.
    """
    if seal is not None and sync is not None:
        _refuse_another(db, number, sync, seal)
    where, values = ("run=?", [number]) if sync is None else ("run=? AND sync=?", [number, sync])
    released = db.execute(
        f"UPDATE held SET approved=1 WHERE approved=0 AND {where} RETURNING email,sync", values
    ).fetchall()
    db.executemany(
        "INSERT OR REPLACE INTO approval(run,sync,at,by) VALUES(?,?,?,?)",
        [(number, name, int(now_s), by) for name in {row["sync"] for row in released}],
    )
    if released:  # a shrunken source stands there without an address, maybe alone
        return sum(row["email"] != "" for row in released) or 1
    done = db.execute(f"SELECT count(*) FROM held WHERE {where}", values).fetchone()[0]
    of = f" of {sync}" if sync else ""
    if done:
        raise UsageError(
            f"Run {number}{of} is approved already",
            hint=f"`syncd sync{' ' + sync if sync else ''}` sends the {done:,} changes now",
        )
    waiting = db.execute(
        "SELECT DISTINCT run,sync FROM held WHERE approved=0 ORDER BY run"
    ).fetchall()
    names = "; ".join(f"syncd approve {row['run']} {row['sync']}" for row in waiting)
    raise UsageError(
        f"Nothing{of} is held in run {number}",
        why="It held nothing, or a later run has replaced what it held",
        hint=f"Waiting are: {names}" if names else "Nothing waits for an approval",
    )


def _refuse_another(db: sqlite3.Connection, number: int, sync: str, seal: bytes) -> None:
    now = held.of_sync(db, sync)
    if now is not None and now.run == number and now.seal != seal:
        raise UsageError(
            f"What is held of {sync} is not what was shown",
            why="It has been replaced meanwhile, or somebody has approved a part of it",
            hint="Nothing was approved: look at what is held now",
        )


def use(state: State, sync: str, *, run: int) -> None:
    """This run carries out what was approved of the sync; what was overtaken is forgotten (inside a transaction)."""
    waits = "SELECT 1 FROM held WHERE sync=?2 AND approved=1"
    state.write(
        f"UPDATE approval SET used=?1 WHERE sync=?2 AND used IS NULL AND EXISTS({waits})", run, sync
    )
    state.write("DELETE FROM approval WHERE sync=? AND used IS NULL", sync)


def note_carried_out(state: State, cid: int, *, run: int) -> None:
    """What this run does to the contact is what was approved (inside a transaction)."""
    state.write("INSERT OR IGNORE INTO carried VALUES(?,?)", cid, run)


def carried_out_by(db: sqlite3.Connection, run: int) -> tuple[Approval, ...]:
    """The approvals that a run has carried out."""
    rows = db.execute("SELECT run,sync,at,by FROM approval WHERE used=? ORDER BY run,sync", (run,))
    return tuple(Approval(*row) for row in rows)


def of_person(db: sqlite3.Connection, cid: int) -> dict[int, tuple[Approval, ...]]:
    """run -> the approvals on which it changed this contact."""
    runs = db.execute("SELECT run FROM carried WHERE cid=?", (cid,)).fetchall()
    return {row[0]: carried_out_by(db, row[0]) for row in runs}
