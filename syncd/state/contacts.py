"""What FluenzR has: marking a contact as in flight, confirming, and taking over what a read shows.

Every function stands inside one transaction. A write is committed as in flight before it is sent (`mark`); only the perfectly
expected answer confirms it; anything else is read back (`absorb`, `absent`) before anything else happens to the contact.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from syncd.core.model import OPT_OUT_UNREAD, GroupKind
from syncd.core.person import EMPTY, Payload, Person, load, work
from syncd.core.seen import Claim, Shown, is_just_made, is_ours, ours_of
from syncd.state import ledger
from syncd.state.links import drop, unlink
from syncd.state.store import State

DOUBT_S = (
    60  # the first back-off after answers that left us in doubt; the first two rounds come at once
)
REFUSED_S = 3600  # the first back-off after a refusal in FluenzR's own words
BACKOFF_S_MAX = 24 * 3600

NOTHING_KNOWN: frozenset[str] = frozenset()
NONE: frozenset[int] = frozenset()

# A linked record cannot be read; or one that never could be, at this address, may be an opt-out.
# Whether there is any such record is asked once a query: nearly always there is none.
BLOCKED = f"""(EXISTS(SELECT 1 FROM record INDEXED BY record_blocked WHERE skip='blocked')
  AND (EXISTS(SELECT 1 FROM record r WHERE r.cid=c.cid AND r.skip='blocked')
  OR EXISTS(SELECT 1 FROM record r INDEXED BY record_unread WHERE r.email=c.email AND r.cid IS NULL AND r.skip='blocked'
    AND r.note LIKE '{OPT_OUT_UNREAD}%')))"""

PERSON = f"""
SELECT c.*, {BLOCKED} AS blocked FROM contact c
"""


def person(state: State, cid: int) -> Person | None:
    """One contact, with what the ledger says of it."""
    row = state.one(PERSON + " WHERE c.cid=?", cid)
    if row is None:
        return None
    return _person(row, ledger.of_contact(state, cid), _judged(state, [cid]).get(cid, NONE))


def people_of(state: State, rows: Sequence[sqlite3.Row]) -> list[Person]:
    """The same from rows of PERSON, a few hundred at a time."""
    never = ledger.of_contacts(state, {row["cid"]: row["email"] for row in rows})
    judged = _judged(state, [row["cid"] for row in rows])
    return [
        _person(row, never.get(row["cid"], NOTHING_KNOWN), judged.get(row["cid"], NONE))
        for row in rows
    ]


def _judged(state: State, cids: Sequence[int]) -> dict[int, frozenset[int]]:
    """cid -> the enrolments that the guards have let pass; contacts without any are left out."""
    if state.value("SELECT 1 FROM judged LIMIT 1") is None:
        return {}
    found: dict[int, set[int]] = {}
    marks = ",".join("?" * len(cids))
    for cid, gid in state.rows(f"SELECT cid,gid FROM judged WHERE cid IN ({marks})", *cids):
        found.setdefault(cid, set()).add(gid)
    return {cid: frozenset(gids) for cid, gids in found.items()}


def _person(row: sqlite3.Row, never: frozenset[str], judged: frozenset[int]) -> Person:
    return Person(
        cid=row["cid"],
        email=row["email"],
        rid=row["rid"],
        origin=row["origin"],
        status=row["status"],
        state=row["state"],
        policy=row["policy"],
        want=load(row["want"]),
        sent=load(row["sent"]) or EMPTY,
        move_to=row["move_to"],
        never=never,
        tries=row["tries"],
        blocked=bool(row["blocked"]),
        judged=judged,
    )


def claim_of(row: sqlite3.Row) -> Claim:
    """How the row came to be."""
    return Claim(
        row["rid"],
        row["origin"],
        row["made_from"],
        row["made"],
        row["inflight"],
        row["inflight_at"],
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """A write that is about to be sent. server_ms: the server's clock, at most; now_s: ours."""

    kind: str
    server_ms: int | None
    now_s: int


def mark(
    state: State,
    who: Person,
    how: Mark,
    *,
    joins: Iterable[int] = (),
    enters: Iterable[int] = (),
    mails: Sequence[int] = (),
    tags: Iterable[str] = (),
) -> None:
    """Commit the intent. joins, enters, tags: what it claims; mails: those of the groups and campaigns that mail whoever joins."""
    body = {"g": sorted(joins), "t": sorted(tags)} if how.kind in ("group", "tag") else None
    claimed = replace(
        who.sent,
        groups=who.sent.groups | set(joins),
        tags=who.sent.tags | set(tags),
        campaigns=who.sent.campaigns | set(enters),
    )
    state.write(
        "UPDATE contact SET inflight=?,inflight_at=?,unsettled=?,sent_as=?,body=? WHERE cid=?",
        how.kind, how.server_ms, how.now_s, claimed.dump(),
        None if body is None else orjson.dumps(body).decode(), who.cid,
    )  # fmt: skip
    if mails:
        ledger.claim(state, who.cid, who.email, mails)


def mark_updates(state: State, bodies: Iterable[tuple[int, Mapping[str, Any]]], how: Mark) -> None:
    """The same for field updates, which claim nothing. bodies: cid and the fields that are sent."""
    state.db.executemany(
        "UPDATE contact SET inflight=?,inflight_at=?,unsettled=?,body=? WHERE cid=?",
        (
            (how.kind, how.server_ms, how.now_s, orjson.dumps(body).decode(), cid)
            for cid, body in bodies
        ),
    )


def unmark_updates(state: State, cids: Sequence[int]) -> None:
    """Definitely not applied: as if they had not been marked (inside a transaction)."""
    state.db.executemany(
        "UPDATE contact SET inflight=NULL,body=NULL,unsettled=0 WHERE cid=?",
        [(cid,) for cid in cids],
    )


def answered(state: State, cids: Iterable[int]) -> None:
    """An answer came, if only a useless one: nothing of it is on its way any more, it may be read at once."""
    state.db.executemany("UPDATE contact SET unsettled=0 WHERE cid=?", [(cid,) for cid in cids])


def unanswered(state: State, cids: Iterable[int], *, now_s: int) -> None:
    """No answer came: it may still take effect for the settle time from now, whenever it was marked."""
    state.db.executemany(
        "UPDATE contact SET unsettled=? WHERE cid=?", [(now_s, cid) for cid in cids]
    )


def unmark(state: State, who: Person) -> None:
    """Definitely not applied: back to where it was before the mark."""
    sent = None if who.state == "new" else who.sent.dump()
    state.write(
        "UPDATE contact SET inflight=NULL,body=NULL,unsettled=0,sent_as=? WHERE cid=?",
        sent,
        who.cid,
    )
    state.write("DELETE FROM never WHERE cid=? AND sure=0", who.cid)


def confirm(state: State, cid: int, sent: Payload, *, run: int) -> None:
    """The perfectly expected answer: FluenzR has `sent` of ours. Where that is what is wanted, nothing is left to do."""
    state.write(
        "UPDATE contact SET sent_as=iif(want=?1,'=',?1),todo=iif(want=?1 AND state='ok' AND move_to IS NULL,0,todo),"
        "inflight=NULL,body=NULL,unsettled=0,err=NULL,tries=0,wrote_run=?2 WHERE cid=?3",
        sent.dump(), run, cid,
    )  # fmt: skip
    ledger.confirm(state, cid)


def set_email(state: State, cid: int, email: str) -> None:
    """The server shows the contact of this row under `email`."""
    old = state.value("SELECT email FROM contact WHERE cid=?", cid)
    if old == email:
        return
    other = state.one("SELECT cid,rid FROM contact WHERE email=? AND cid<>?", email, cid)
    if other is not None and other["rid"] is None:
        drop(state, other["cid"], to=cid)  # the same contact, or nobody
    elif other is not None:  # that one must have been renamed or deleted by hand: it is read itself
        state.write(
            "UPDATE contact SET email='?'||cid,inflight=coalesce(inflight,'check') WHERE cid=?",
            other["cid"],
        )
        state.write("UPDATE record SET dirty=live WHERE cid=?", other["cid"])
    state.write("UPDATE contact SET email=?,move_to=NULL,touch=1 WHERE cid=?", email, cid)
    state.write("UPDATE record SET dirty=live WHERE cid=?", cid)
    ledger.copy(state, state.address_key(old), state.address_key(email))


def absorb(state: State, cid: int, shown: Shown, *, run: int) -> None:
    """The row becomes what the server shows."""
    row = state.one("SELECT * FROM contact WHERE cid=?", cid)
    assert row is not None
    claim = claim_of(row)
    if _was_replaced(claim, shown):
        ledger.bar_address(state, row["email"], "x")
    ledger.latch(
        state, row["email"], shown.status
    )  # as the contact of this row, wherever it is now
    other = state.one(
        "SELECT cid,inflight,email,state FROM contact WHERE rid=? AND cid<>?", shown.rid, cid
    )
    if other is not None and other["state"] == "forget":
        # Somebody who is being erased, renamed by hand to our address: what is there then is read when that is done.
        state.write("UPDATE contact SET inflight=coalesce(inflight,'check') WHERE cid=?", cid)
        return
    if other is not None:
        _absorb_into(state, cid, other, shown, run=run)
        return
    if ledger.has_address(state, shown.email, "#"):
        _to_be_erased(state, cid, shown)
        return
    want, sent = load(row["want"]) or EMPTY, load(row["sent"]) or EMPTY
    ours = is_just_made(claim, want, shown) or is_ours(claim, shown)
    new = _less_not_entered(state, cid, ours_of(want, sent, shown), shown)
    state.write(
        "UPDATE contact SET rid=?,status=?,state='ok',origin=?,sent_as=?,inflight=NULL,body=NULL,unsettled=0,"
        "todo=1,touch=max(touch,origin IS NOT ?),read_run=? WHERE cid=?",
        shown.rid, shown.status, "created" if ours else "adopted", new.dump(),
        "created" if ours else "adopted", run, cid,
    )  # fmt: skip
    if shown.groups is None:
        ledger.confirm(state, cid)  # not told whether it joined: it counts as enrolled
    else:
        ledger.withdraw(state, cid, but=shown.groups | new.campaigns)
        _note_memberships(state, row["email"], new.groups)
    set_email(state, cid, shown.email)


def _less_not_entered(state: State, cid: int, sent: Payload, shown: Shown) -> Payload:
    """Less the campaigns whose enrolment was in doubt and has not come true; where nobody can tell, it counts as done."""
    if shown.campaigns is None:
        return sent
    claimed = {
        int(row[0][1:]) for row in state.rows("SELECT what FROM never WHERE cid=? AND sure=0", cid)
    }
    return replace(sent, campaigns=sent.campaigns - (claimed - shown.campaigns))


def _was_replaced(claim: Claim, shown: Shown) -> bool:
    """Somebody else's contact stands where ours was: ours was deleted by hand, perhaps after an opt-out nobody has shown us."""
    if claim.rid is not None:
        return claim.rid != shown.rid
    return claim.origin == "created" and not is_ours(claim, shown)


def _note_memberships(state: State, email: str, gids: Iterable[int]) -> None:
    """Seen in a wanted dynamic group: has been mailed by it."""
    for gid in gids:
        if state.value("SELECT kind FROM grp WHERE gid=?", gid) != GroupKind.STATIC:
            ledger.bar_address(state, email, f"g{gid}")


def _absorb_into(state: State, cid: int, other: sqlite3.Row, shown: Shown, *, run: int) -> None:
    """Another row owns this id (renamed by hand onto our address): one row for one contact."""
    drop(state, cid, to=other["cid"])
    if other["inflight"] is None:
        absorb(state, other["cid"], shown, run=run)  # a fresh read of that row as well
        return
    ledger.latch(state, other["email"], shown.status)
    set_email(state, other["cid"], shown.email)


def _to_be_erased(state: State, cid: int, shown: Shown) -> None:
    """Renamed by hand to an address that was forgotten: it goes, and its records look for another contact."""
    for rowno, sync, key in state.rows("SELECT rowno,sync,key FROM record WHERE cid=?", cid):
        unlink(state, rowno, sync, key, cid, None)
        state.write("UPDATE record SET dirty=live WHERE rowno=?", rowno)
    taken = state.value("SELECT 1 FROM contact WHERE email=? AND cid<>?", shown.email, cid)
    state.write(
        "UPDATE contact SET state='forget',rid=?,inflight=NULL,unsettled=0,todo=1,touch=0,want=NULL,sent_as=NULL,"
        "move_to=NULL,email=CASE WHEN ? THEN '?'||cid ELSE ? END WHERE cid=?",
        shown.rid, taken, shown.email, cid,
    )  # fmt: skip


def absent(state: State, cid: int, *, run: int) -> None:
    """The server does not have it."""
    row = state.one("SELECT email,state,inflight,want FROM contact WHERE cid=?", cid)
    assert row is not None
    if row["inflight"] == "delete":
        drop(state, cid)
    elif row["inflight"] == "create":  # the create was not applied
        state.write(
            "UPDATE contact SET state='new',rid=NULL,sent_as=NULL,inflight=NULL,unsettled=0,todo=1,read_run=? WHERE cid=?",
            run, cid,
        )  # fmt: skip
        state.write("DELETE FROM never WHERE cid=? AND sure=0", cid)
    elif (
        row["state"] == "new"
    ):  # opted out in the source, and not in FluenzR: nothing to take out of anything
        state.write(
            "UPDATE contact SET sent_as=?,inflight=NULL,unsettled=0,touch=1,read_run=? WHERE cid=?",
            Payload(out=True).dump() if (load(row["want"]) or EMPTY).out else None, run, cid,
        )  # fmt: skip
    else:  # somebody deleted it by hand: it stays deleted
        state.write(
            "UPDATE contact SET state='new',rid=NULL,sent_as=NULL,origin=NULL,made_run=NULL,inflight=NULL,body=NULL,unsettled=0,"
            "todo=1,touch=1,move_to=NULL,read_run=? WHERE cid=?",
            run, cid,
        )  # fmt: skip
        ledger.bar_address(state, row["email"], "x")
        ledger.confirm(state, cid)


@dataclass(frozen=True, slots=True)
class Settled:
    """How a doubt ended. kind: what was in flight, None for a mere read. claims: groups that it might have enrolled in.

    joins, tags: what the request was to give.
    put_off: it was not applied, and the contact has to wait.
    """

    kind: str | None
    before: Person
    after: Person | None
    claims: frozenset[int]
    put_off: bool
    joins: frozenset[int] = frozenset()
    tags: frozenset[str] = frozenset()


def settle(
    state: State,
    cid: int,
    shown: Shown | None,
    *,
    run: int,
    now_s: int,
    kinds: Mapping[int, GroupKind],
) -> Settled | None:
    """Take over what a read has shown; None when the row is gone meanwhile."""
    before = person(state, cid)
    if before is None:
        return None
    kind, body = state.rows("SELECT nullif(inflight,'check'),body FROM contact WHERE cid=?", cid)[0]
    asked = orjson.loads(body) if body and kind in ("group", "tag") else {"g": (), "t": ()}
    claims = frozenset(
        int(row[0][1:]) for row in state.rows("SELECT what FROM never WHERE cid=? AND sure=0", cid)
    )
    if shown is None:
        absent(state, cid, run=run)
    else:
        absorb(state, cid, shown, run=run)
    words = "The answer was lost, and the change was not applied"
    put_off = kind is not None and bump(state, cid, words, now_s=now_s, kinds=kinds)
    return Settled(
        kind,
        before,
        person(state, cid),
        claims,
        put_off,
        frozenset(asked["g"]),
        frozenset(asked["t"]),
    )


def note_sent(state: State, cid: int, sent: Payload) -> None:
    """What counts as sent, whatever a read has shown (inside a transaction)."""
    state.write("UPDATE contact SET sent_as=? WHERE cid=?", sent.dump(), cid)


def note_written(state: State, cid: int, *, run: int, created: bool) -> None:
    """A change of this run turned out to be applied."""
    state.write(
        "UPDATE contact SET wrote_run=?1,made_run=iif(?2,?1,made_run),tries=0,err=NULL,not_before=0 WHERE cid=?3",
        run, created, cid,
    )  # fmt: skip


def bump(
    state: State,
    cid: int,
    error: str,
    *,
    now_s: int,
    kinds: Mapping[int, GroupKind],
    refused: bool = False,
    alone: bool = True,
) -> bool:
    """Put the contact off, longer each time; whether it is really put off (the first two doubts are not).

    alone: the contact itself was tried; else it is not put off longer than the first time.
    Nothing happens when nothing is left to do.
    """
    who = person(state, cid)
    if who is None or (who.state == "ok" and not work(who, kinds).any):
        return False
    tries = who.tries + 1 if alone else max(who.tries, 1)
    if refused:
        wait_s = min(REFUSED_S << min(tries - 1, 10), BACKOFF_S_MAX)
    else:
        wait_s = 0 if tries < 3 else min(DOUBT_S << min(tries - 3, 20), BACKOFF_S_MAX)
    state.write(
        "UPDATE contact SET tries=?,err=?,not_before=? WHERE cid=?",
        tries, error, now_s + wait_s if wait_s else 0, cid,
    )  # fmt: skip
    return wait_s > 0
