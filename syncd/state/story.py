"""The questions of `status` and `history`.

Every function is one question and is given a connection; nothing is written, so none of them needs the lock.
What the tables mean is told in `syncd/migrations.py`; words for people are `syncd.report`'s business.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import orjson

from syncd.errors import UsageError
from syncd.state import approvals, feedback
from syncd.state.approvals import Approval
from syncd.state.store import explained, open_for_reading

FAILED_RUNS_MAX = 1000  # counted; more of them say the same
CHANGES_SHOWN_MAX = 50  # of one run or one person; a first run has as many as there are people


@dataclass(frozen=True, slots=True)
class Part:
    """One sync's part of one run. counts: the numbers of `syncd sync --json`; trips: what guards said."""

    run: int
    sync: str
    status: str
    counts: dict[str, Any]
    error: str | None
    trips: list[str]
    started_s: int
    ended_s: int | None


@dataclass(frozen=True, slots=True)
class SyncNow:
    """How one sync stands. completed_s: the last run that ended well; promoted_s: the age of its data.

    held, held_run, approved: changes that wait for an approval, of which run, and how many have it.
    trips: what the guards of that run said. stuck: people whom FluenzR refuses, or whose change was
    put off after answers that left us in doubt. failures: runs that failed since the last one that did not.
    """

    name: str
    last: Part | None
    completed_s: int | None
    promoted_s: int | None
    held: int
    held_run: int | None
    approved: int
    trips: list[str]
    stuck: int
    deletes_waiting: int
    bounced: int = 0
    unsubscribed: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """What the state knows beside the syncs, counted in people. unended: the last run, where it has not ended."""

    unended: "PastRun | None"
    in_flight: int
    deleted_by_hand: int
    opted_out: int
    to_erase: int  # forgotten, and still to be deleted in FluenzR


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run; ended_s is None while it goes on, and for ever when it was killed.

    created: how many people it made, and the first of them. approved: what it carried out of what a guard had held.
    """

    run: int
    kind: str
    started_s: int
    ended_s: int | None
    parts: list[Part]
    change_count: int = 0
    created_count: int = 0
    created: tuple[str, ...] = ()
    approved: tuple[Approval, ...] = ()


@dataclass(frozen=True, slots=True)
class PastChange:
    """One confirmed change. detail: {"fields": {name: [old, new]}, "groups": ..., "tags": ...}."""

    run: int
    at_s: int
    email: str
    kind: str
    detail: dict[str, Any]


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """The state for questions; None before the first run. Raises StateError, StateLost."""
    db = open_for_reading(path)
    if db is None:
        yield None
        return
    with closing(db), explained(path):
        yield db


def sync_now(db: sqlite3.Connection, name: str) -> SyncNow:
    """How this sync stands; all None and 0 for one that has never run."""
    row = db.execute("SELECT * FROM sync WHERE name=?", (name,)).fetchone()
    number = None if row is None else row["sync"]
    held = db.execute(
        "SELECT count(nullif(email,'')),max(run),coalesce(sum(approved),0) FROM held WHERE sync=?",
        (name,),
    ).fetchone()
    stuck = db.execute(
        "SELECT count(*) FROM contact WHERE tries>0 AND not_before>0 AND sync IS ?", (number,)
    ).fetchone()
    deletes = db.execute(
        "SELECT count(*) FROM contact WHERE todo=1 AND want IS NULL AND policy='delete' AND sync IS ?",
        (number,),
    ).fetchone()
    heard = {} if number is None else feedback.of_sync(db, number)
    return SyncNow(
        name=name,
        last=next(iter(_parts(db, "WHERE p.sync=? ORDER BY p.run DESC LIMIT 1", name)), None),
        completed_s=None if row is None else row["completed_at"],
        promoted_s=None if row is None else row["promoted_at"],
        held=held[0],
        held_run=held[1],
        approved=held[2],
        trips=[
            trip
            for part in _parts(db, "WHERE p.sync=? AND p.run=?", name, held[1])
            for trip in part.trips
        ],
        stuck=0 if number is None else stuck[0],
        deletes_waiting=0 if number is None else deletes[0],
        bounced=heard.get("bounced", 0),
        unsubscribed=heard.get("unsubscribed", 0),
        failures=_failures(db, name),
    )


def _failures(db: sqlite3.Connection, sync: str) -> int:
    """How many runs of this sync have failed since the last one that did not."""
    rows = db.execute(
        "SELECT status FROM run_sync WHERE sync=? ORDER BY run DESC LIMIT ?",
        (sync, FAILED_RUNS_MAX),
    )
    count = 0
    for (status,) in rows:
        if status != "failed":
            break
        count += 1
    return count


def never_run(name: str) -> SyncNow:
    """How a sync stands before there is any state."""
    return SyncNow(name, None, None, None, 0, None, 0, [], 0, 0)


def account(db: sqlite3.Connection) -> Account:
    """What is the same for all syncs."""
    in_flight = db.execute("SELECT count(*) FROM contact WHERE inflight IS NOT NULL").fetchone()[0]
    by_what = dict(
        db.execute(
            "SELECT what,count(*) FROM never WHERE k LIKE 'e:%' AND what IN ('x','!') GROUP BY what"
        ).fetchall()
    )
    to_erase = db.execute(
        "SELECT count(*) FROM contact WHERE todo=1 AND state='forget'"
    ).fetchone()[0]
    unended = next((one for one in runs(db, limit=1) if one.ended_s is None), None)
    return Account(unended, in_flight, by_what.get("x", 0), by_what.get("!", 0), to_erase)


def runs(db: sqlite3.Connection, *, limit: int) -> list[PastRun]:
    """The last runs, newest first."""
    rows = db.execute("SELECT * FROM run ORDER BY run DESC LIMIT ?", (limit,)).fetchall()
    return [_run_of(db, row) for row in rows]


def run(db: sqlite3.Connection, number: int) -> PastRun:
    """One run. Raises UsageError when there is none of this number."""
    row = db.execute("SELECT * FROM run WHERE run=?", (number,)).fetchone()
    if row is None:
        no_run(number, last=db.execute("SELECT max(run) FROM run").fetchone()[0])
    made = "FROM contact WHERE made_run=? AND state<>'forget'"
    created = db.execute(
        f"SELECT email {made} ORDER BY cid LIMIT ?", (number, CHANGES_SHOWN_MAX)
    ).fetchall()
    return replace(
        _run_of(db, row),
        created_count=db.execute(f"SELECT count(*) {made}", (number,)).fetchone()[0],
        created=tuple(found["email"] for found in created),
        approved=approvals.carried_out_by(db, number),
    )


def no_run(number: int, *, last: int | None = None) -> NoReturn:
    """Raises UsageError. last: the newest run there is."""
    raise UsageError(
        f"There is no run {number}",
        why=f"The last one is run {last}" if last else "Nothing has run yet",
        hint="`syncd history` lists the runs that are kept",
    )


def changes_of_run(db: sqlite3.Connection, number: int) -> list[PastChange]:
    """The first changes that this run made, oldest first; creates are told by the run."""
    return changes(
        db, "WHERE kind<>'lost' AND run=? ORDER BY id LIMIT ?", number, CHANGES_SHOWN_MAX
    )


def _parts(db: sqlite3.Connection, where: str, *values: Any) -> list[Part]:
    rows = db.execute(
        "SELECT p.*,r.started_at,r.ended_at FROM run_sync p JOIN run r ON r.run=p.run "
        + where,  # a fixed text of the callers above
        values,
    )
    return [
        Part(
            run=row["run"],
            sync=row["sync"],
            status=row["status"],
            counts=orjson.loads(row["counts"]),
            error=row["error"],
            trips=orjson.loads(row["trips"] or "[]"),
            started_s=row["started_at"],
            ended_s=row["ended_at"],
        )
        for row in rows
    ]


def _run_of(db: sqlite3.Connection, row: sqlite3.Row) -> PastRun:
    parts = _parts(db, "WHERE p.run=? ORDER BY p.sync", row["run"])
    count = db.execute(
        "SELECT count(*) FROM change WHERE run=? AND kind<>'lost'", (row["run"],)
    ).fetchone()[0]
    return PastRun(row["run"], row["kind"], row["started_at"], row["ended_at"], parts, count)


def changes(db: sqlite3.Connection, where: str, *values: Any) -> list[PastChange]:
    """Past changes. where: a fixed text of the callers."""
    rows = db.execute(
        "SELECT run,at,email,kind,detail FROM change " + where,
        values,
    )
    return [
        PastChange(row["run"], row["at"], row["email"], row["kind"], orjson.loads(row["detail"]))
        for row in rows
    ]
