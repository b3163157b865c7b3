"""The questions of `status`, `history` and `why`, and the approval of what a guard holds.

Every function is one question and is given a connection; but for `approve` nothing is written, so none
of them needs the lock. What the tables mean is told in `syncd/migrations.py`; words for people are
`syncd.report`'s business.
"""

import sqlite3
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import orjson

from syncd.errors import UsageError
from syncd.state import feedback
from syncd.state.groups import CAMPAIGNS
from syncd.state.store import address_key, explained, open_for_reading, record_key
from syncd.state.undone import PutBack, put_back

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
    put off after answers that left us in doubt.
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


@dataclass(frozen=True, slots=True)
class Account:
    """What the state knows beside the syncs, counted in people."""

    in_flight: int
    deleted_by_hand: int
    opted_out: int
    to_erase: int  # forgotten, and still to be deleted in FluenzR


@dataclass(frozen=True, slots=True)
class PastRun:
    """One run; ended_s is None while it goes on, and for ever when it was killed."""

    run: int
    kind: str
    started_s: int
    ended_s: int | None
    parts: list[Part]
    change_count: int = 0


@dataclass(frozen=True, slots=True)
class PastChange:
    """One confirmed change. detail: {"fields": {name: [old, new]}, "groups": ..., "tags": ...}."""

    run: int
    at_s: int
    email: str
    kind: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LinkedRecord:
    """One record of a person. skip: why it is not wanted (None: wanted), note: the same in words."""

    sync: str
    key: str
    email: str | None
    live: bool
    skip: str | None
    note: str | None
    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Value:
    """One field as it is wanted. sync: whose value won; confirmed: whether FluenzR has it."""

    name: str
    value: Any
    sync: str | None
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Membership:
    """One group or campaign. by: the syncs that ask for it; there: whether FluenzR was confirmed to have it from us."""

    name: str
    kind: str
    by: list[str]
    wanted: bool
    there: bool


@dataclass(frozen=True, slots=True)
class Person:
    """Everything that is known about one address. Empty: nothing is known, or nothing may be told."""

    email: str
    in_fluenzr: bool | None = None  # None: no source ever wanted this address
    origin: str | None = None
    status: str | None = None
    opted_out_here: bool = False  # a source wants the person taken out of every group
    move_to: str | None = None
    in_flight: str | None = None
    tries: int = 0
    not_before_s: int = 0
    error: str | None = None
    created_ms: int | None = None
    records: list[LinkedRecord] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    groups: list[Membership] = field(default_factory=list)
    campaigns: list[Membership] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    # as in the ledger, group ids as "g:" + name, campaigns as "p:" + name
    never: list[str] = field(default_factory=list)
    held: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)  # run, sync, change
    changes: list[PastChange] = field(default_factory=list)
    put_back: list[PutBack] = field(default_factory=list)  # by `undo`, against what is wanted

    @property
    def known(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.records or self.in_fluenzr is not None or self.never or self.held)


@dataclass(frozen=True, slots=True)
class _Group:
    """aliases: what the configuration and the sources call it."""

    name: str
    kind: str
    aliases: frozenset[str]


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
    )


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
    return Account(in_flight, by_what.get("x", 0), by_what.get("!", 0), to_erase)


def runs(db: sqlite3.Connection, *, limit: int) -> list[PastRun]:
    """The last runs, newest first."""
    rows = db.execute("SELECT * FROM run ORDER BY run DESC LIMIT ?", (limit,)).fetchall()
    return [_run_of(db, row) for row in rows]


def run(db: sqlite3.Connection, number: int) -> PastRun:
    """One run. Raises UsageError when there is none of this number."""
    row = db.execute("SELECT * FROM run WHERE run=?", (number,)).fetchone()
    if row is None:
        no_run(number, last=db.execute("SELECT max(run) FROM run").fetchone()[0])
    return _run_of(db, row)


def no_run(number: int, *, last: int | None = None) -> NoReturn:
    """Raises UsageError. last: the newest run there is."""
    raise UsageError(
        f"There is no run {number}",
        why=f"The last one is run {last}" if last else "Nothing has run yet",
        hint="`syncd history` lists the runs that are kept",
    )


def changes_of_run(db: sqlite3.Connection, number: int) -> list[PastChange]:
    """The first changes that this run made, oldest first; creates are only counted."""
    return _changes(
        db, "WHERE kind<>'lost' AND run=? ORDER BY id LIMIT ?", number, CHANGES_SHOWN_MAX
    )


def person(
    db: sqlite3.Connection, email: str, order: Sequence[str], *, forgotten: Container[str] = ()
) -> Person:
    """Everything that is known about an address (lower case). order: the syncs as the file has them.

    Of a forgotten address it says exactly what it says of an unknown one. forgotten: keys that the database may not
    know as such yet, having been restored from a backup.
    """
    key = address_key(db, email)
    barred = _never(db, key)
    if "#" in barred or key in forgotten:
        return Person(email)
    contact = db.execute(
        "SELECT * FROM contact WHERE email=?1 OR move_to=?1 ORDER BY email<>?1 LIMIT 1", (email,)
    ).fetchone()
    if contact is not None and contact["state"] == "forget":
        return Person(email)
    cid = None if contact is None else contact["cid"]
    rows = _records(db, email, cid, order)
    records = [record for _, record in rows]
    barred |= {what for key, _ in rows for what in _never(db, key) if what != "#"}
    groups = _groups(db)
    held = [
        (row["run"], row["sync"], orjson.loads(row["change"]))
        for row in db.execute(
            "SELECT run,sync,change FROM held WHERE email=? ORDER BY sync", (email,)
        )
    ]
    never = [_ledger_name(what, groups) for what in sorted(barred)]
    if contact is None:
        return Person(email, records=records, never=never, held=held)
    want, sent = _payload(contact["want"]), _payload(contact["sent"])
    shown = _changes(
        db, "WHERE kind<>'lost' AND cid=? ORDER BY id DESC LIMIT ?", cid, CHANGES_SHOWN_MAX
    )
    return Person(
        email,
        in_fluenzr=contact["state"] == "ok",
        origin=contact["origin"],
        status=contact["status"],
        opted_out_here=bool(want.get("out")),
        move_to=contact["move_to"],
        in_flight=contact["inflight"],
        tries=contact["tries"],
        not_before_s=contact["not_before"],
        error=contact["err"],
        created_ms=contact["made"] if contact["origin"] == "created" else None,
        records=records,
        values=_values(want, sent, records),
        groups=_memberships("g", want, sent, records, groups),
        campaigns=_memberships("p", want, sent, records, groups),
        tags=sorted(want.get("t", ())),
        never=never,
        held=held,
        changes=shown[::-1],
        put_back=put_back(db, contact["cid"], {gid: one.name for gid, one in groups.items()}),
    )


def approve(db: sqlite3.Connection, number: int, sync: str | None) -> int:
    """Release exactly what a guard held in this run; how many changes that are (inside a transaction).

    Raises UsageError when there is nothing to release, and says why.
    """
    where, values = ("run=?", [number]) if sync is None else ("run=? AND sync=?", [number, sync])
    released = db.execute(
        f"UPDATE held SET approved=1 WHERE approved=0 AND {where} RETURNING email", values
    ).fetchall()
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


def _changes(db: sqlite3.Connection, where: str, *values: Any) -> list[PastChange]:
    rows = db.execute(
        "SELECT run,at,email,kind,detail FROM change " + where,
        values,
    )
    return [
        PastChange(row["run"], row["at"], row["email"], row["kind"], orjson.loads(row["detail"]))
        for row in rows
    ]


def _records(
    db: sqlite3.Connection, email: str, cid: int | None, order: Sequence[str]
) -> list[tuple[str, LinkedRecord]]:
    """(key in the ledger, record) of each record that has the address or is linked to its contact.

    In the order in which they are merged: those that contribute first, then by the file's order and key.
    """
    rank = {name: place for place, name in enumerate(order)}
    rows = db.execute(
        "SELECT r.*,s.name FROM record r JOIN sync s ON s.sync=r.sync"
        " WHERE r.rowno IN (SELECT rowno FROM record WHERE email=?"
        " UNION SELECT rowno FROM record WHERE cid=?)",
        (email, cid),
    ).fetchall()
    rows.sort(key=lambda r: (not r["live"], rank.get(r["name"], len(rank)), r["sync"], r["key"]))
    return [
        (
            record_key(db, row["sync"], row["key"]),
            LinkedRecord(
                sync=row["name"],
                key=row["key"],
                email=row["email"],
                live=bool(row["live"]),
                skip=row["skip"],
                note=row["note"],
                data=None if row["data"] is None else orjson.loads(row["data"]),
            ),
        )
        for row in rows
    ]


def _values(
    want: dict[str, Any], sent: dict[str, Any], records: Iterable[LinkedRecord]
) -> list[Value]:
    """The wanted fields, each with the first record that has it, as `syncd.core.merge` decides."""
    used = [record for record in records if record.data]
    found = []
    for part, prefix in (("f", ""), ("c", "customFields.")):
        for name, value in want.get(part, {}).items():
            first = next(
                (r.sync for r in used if r.data and r.data.get(part, {}).get(name) is not None),
                None,
            )
            has = sent.get(part, {})
            confirmed = has.get(name) == value
            found.append(Value(prefix + name, value, first, confirmed))
    return found


def _memberships(
    part: str,
    want: dict[str, Any],
    sent: dict[str, Any],
    records: Iterable[LinkedRecord],
    groups: dict[int, _Group],
) -> list[Membership]:
    wanted, there = set(want.get(part, ())), set(sent.get(part, ()))
    used = [record for record in records if record.data]
    found = []
    for gid in sorted(wanted | there):
        group = groups.get(gid) or _Group(f"group {gid}", "unknown", frozenset())
        by = [
            r.sync for r in used if r.data and r.live and group.aliases & set(r.data.get(part, ()))
        ]
        found.append(
            Membership(
                name=group.name,
                kind=group.kind,
                by=list(dict.fromkeys(by)),
                wanted=gid in wanted,
                there=gid in there,
            )
        )
    return found


def _groups(db: sqlite3.Connection) -> dict[int, _Group]:
    aliases: dict[int, set[str]] = {}
    for name, gid in db.execute("SELECT * FROM grp_name UNION ALL SELECT * FROM campaign_name"):
        aliases.setdefault(gid, set()).add(name)
    return {
        row["gid"]: _Group(row["name"], row["kind"], frozenset(aliases.get(row["gid"], ())))
        for row in db.execute("SELECT gid,name,kind FROM grp")
    }


def _never(db: sqlite3.Connection, key: str) -> set[str]:
    return {row[0] for row in db.execute("SELECT what FROM never WHERE k=?", (key,))}


def _ledger_name(what: str, groups: dict[int, _Group]) -> str:
    if not what.startswith("g"):
        return what
    group = groups.get(int(what[1:]))
    if group is None:
        return f"g:group {what[1:]}"
    return f"p:{group.name}" if group.kind in CAMPAIGNS else f"g:{group.name}"


def _payload(text: str | None) -> dict[str, Any]:
    payload: dict[str, Any] = orjson.loads(text) if text else {}
    return payload
