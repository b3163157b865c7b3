"""The dossier of one person: everything that is known about an address, from its records to what FluenzR has, and why not.

Every function is one question, is given a connection and writes nothing. What the tables mean is told in `syncd/migrations.py`;
words for people are `syncd.report`'s business.
"""

import sqlite3
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from syncd.state import approvals, story
from syncd.state.approvals import Approval
from syncd.state.groups import CAMPAIGNS
from syncd.state.store import address_key, forgotten_keys, record_key
from syncd.state.story import CHANGES_SHOWN_MAX, PastChange
from syncd.state.undone import PutBack, put_back


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
    """One group or campaign. by: the syncs that ask for it; there: whether FluenzR was confirmed to have it from us.

    names: what the configuration and the sources call it.
    """

    name: str
    names: list[str]
    kind: str
    by: list[str]
    wanted: bool
    there: bool


@dataclass(frozen=True, slots=True)
class Held:
    """A change that a guard holds. change: as `plan` shows it; trips: what the guards of that run said."""

    run: int
    sync: str
    change: dict[str, Any]
    trips: list[str]


@dataclass(frozen=True, slots=True)
class LastRead:
    """When a sync's source was last read and used; None: never."""

    sync: str
    at_s: int | None


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
    created_run: int | None = None
    records: list[LinkedRecord] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    groups: list[Membership] = field(default_factory=list)
    campaigns: list[Membership] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    # as in the ledger, group ids as "g:" + name, campaigns as "p:" + name
    never: list[str] = field(default_factory=list)
    since_s: dict[str, int] = field(default_factory=dict)  # of them, since when, where it is known
    held: list[Held] = field(default_factory=list)
    changes: list[PastChange] = field(default_factory=list)
    approvals: dict[int, tuple[Approval, ...]] = field(
        default_factory=dict
    )  # by the run that used them
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


def of_address(
    path: Path, db: sqlite3.Connection | None, email: str, order: Sequence[str]
) -> tuple[Person, list[LastRead]]:
    """Everything that is known about an address (lower case), and when each source was last read. Raises StateError.

    path, db: the state, None before there is any. order: the syncs as the file has them.
    """
    if db is None:
        return Person(email), [LastRead(name, None) for name in order]
    return person(db, email, order, forgotten=forgotten_keys(path)), last_reads(db, order)


def last_reads(db: sqlite3.Connection, order: Sequence[str]) -> list[LastRead]:
    """When each source was last read. order: the syncs as the file has them."""
    known = dict(db.execute("SELECT name,promoted_at FROM sync").fetchall())
    return [LastRead(name, known.get(name)) for name in order]


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
    for ledger_key, _ in rows:
        for what, at_s in _never(db, ledger_key).items():
            if what != "#":
                barred[what] = min(filter(None, (barred.get(what), at_s)), default=None)
    groups = _groups(db)
    held = _held(db, email)
    never = [_ledger_name(what, groups) for what in sorted(barred)]
    since_s = {_ledger_name(what, groups): at_s for what, at_s in barred.items() if at_s}
    if contact is None:
        return Person(email, records=records, never=never, since_s=since_s, held=held)
    want, sent = _payload(contact["want"]), _payload(contact["sent"])
    shown = story.changes(
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
        created_run=contact["made_run"],
        records=records,
        values=_values(want, sent, records),
        groups=_memberships("g", want, sent, records, groups),
        campaigns=_memberships("p", want, sent, records, groups),
        tags=sorted(want.get("t", ())),
        never=never,
        since_s=since_s,
        held=held,
        changes=shown[::-1],
        approvals=approvals.of_person(db, contact["cid"]),
        put_back=put_back(db, contact["cid"], {gid: one.name for gid, one in groups.items()}),
    )


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
                names=sorted({group.name, *group.aliases}),
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


def _never(db: sqlite3.Connection, key: str) -> dict[str, int | None]:
    """What holds for a key, with since when (epoch s), where that is known."""
    rows = db.execute(
        "SELECT n.what,s.at FROM never n LEFT JOIN since s USING(k,what) WHERE n.k=?", (key,)
    )
    return dict(rows.fetchall())


def _held(db: sqlite3.Connection, email: str) -> list[Held]:
    rows = db.execute(
        "SELECT h.run,h.sync,h.change,p.trips FROM held h LEFT JOIN run_sync p USING(run,sync)"
        " WHERE h.email=? ORDER BY h.sync",
        (email,),
    )
    return [
        Held(run, sync, orjson.loads(change), orjson.loads(trips or "[]"))
        for run, sync, change, trips in rows
    ]


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
