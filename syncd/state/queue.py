"""Which contacts are due, in flight, in doubt or contested: what the upload asks before it decides.

Everything here touches only rows that a partial index names: todo, in flight, dirty.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from syncd.core.person import Payload, Person
from syncd.state.contacts import BACKOFF_S_MAX, PERSON, people_of
from syncd.state.store import State

NOBODY = -1  # no contact's number
CHUNK_ROWS = 500  # due contacts that are loaded at a time

DUE = """{person} INDEXED BY {index} WHERE c.todo=1 AND c.touch=0 AND c.inflight IS NULL AND c.not_before<=? AND c.cid>?
AND {where} ORDER BY c.cid LIMIT ?"""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which of the due contacts a step asks for; made here only, so that no query is put together elsewhere."""

    where: str
    index: str = "contact_todo"


ANYBODY = Filter("c.state IN ('ok','new')")
ABSENT = Filter("c.state='new'")
PRESENT = Filter("c.state='ok'")
# ... with custom fields wanted: see `Payload.dump`.
CUSTOMISED = Filter("c.state='ok' AND c.want NOT GLOB '{\"c\":{},*'")
IDENTIFIED = Filter("c.state='ok' AND c.rid IS NOT NULL")
LEAVING = Filter(f"c.want='{Payload(out=True).dump()}'")  # opted out in a source
MOVING = Filter("c.state='ok' AND c.rid IS NOT NULL AND c.move_to IS NOT NULL", "contact_move")


def due(state: State, which: Filter, *, now_s: int, only_stepped: bool) -> Iterator[Person]:
    """Contacts that are due, in the order of their rows, loaded a chunk at a time."""
    where = which.where
    if only_stepped:
        where += " AND c.cid IN (SELECT cid FROM scratch.stepped)"
    query, last = DUE.format(person=PERSON, index=which.index, where=where), 0
    while True:
        rows = state.rows(query, now_s, last, CHUNK_ROWS)
        yield from people_of(state, rows)
        if len(rows) < CHUNK_ROWS:
            return
        last = rows[-1]["cid"]


def rein_in(state: State, *, now_s: int) -> None:
    """Whoever is put off for longer than anybody ever is was so by a clock that was ahead: due now (inside a transaction)."""
    state.write(
        "UPDATE contact SET not_before=0 WHERE tries>0 AND not_before>?", now_s + BACKOFF_S_MAX
    )


def due_count(state: State) -> int:
    """How many contacts wait, in back-off or not: the length of the progress bar."""
    count: int = state.value("SELECT count(*) FROM contact WHERE todo=1")
    return count


def known_count(state: State) -> int:
    """People whom FluenzR is known to have."""
    count: int = state.value("SELECT count(*) FROM contact WHERE state='ok'")
    return count


def first_and_last(state: State, count: int) -> list[sqlite3.Row]:
    """The contacts whom FluenzR is known to have longest and shortest, so many of each at most."""
    query = "SELECT * FROM (SELECT * FROM contact WHERE state='ok' ORDER BY cid {way} LIMIT ?)"
    ways = " UNION ".join(query.format(way=way) for way in ("ASC", "DESC"))
    return state.rows(ways, count, count)


def leave_queue(state: State, cids: Iterable[int]) -> None:
    """Nothing is left to do for these (inside a transaction)."""
    state.db.executemany(
        "UPDATE contact SET todo=0,tries=0,err=NULL WHERE cid=?", [(c,) for c in cids]
    )


def contested(state: State, person: Person) -> bool:
    """A record that is not decided yet claims this address: nothing is created, enrolled, taken away or deleted there."""
    found = state.value(
        "SELECT 1 FROM record WHERE email=? AND live=1 AND dirty=1 AND cid IS NOT ?",
        person.email,
        person.cid,
    )
    return found is not None


def contested_addresses(state: State) -> set[str]:
    """All addresses of which that may hold; usually none."""
    rows = state.rows("SELECT email FROM record INDEXED BY record_dirty WHERE dirty=1 AND live=1")
    return {row[0] for row in rows}


def read_in(state: State, cid: int) -> int | None:
    """The run that last read the contact whole."""
    run: int | None = state.value("SELECT read_run FROM contact WHERE cid=?", cid)
    return run


def made_run(state: State, cid: int) -> int | None:
    """The run that has created the contact in FluenzR."""
    run: int | None = state.value("SELECT made_run FROM contact WHERE cid=?", cid)
    return run


def is_touched(state: State, cid: int) -> bool:
    """Whether the contact must be merged again before anything is done."""
    return bool(state.value("SELECT touch FROM contact WHERE cid=?", cid))


def is_in_flight(state: State, cid: int) -> bool:
    """Whether something of the contact is in flight."""
    return (
        state.value("SELECT 1 FROM contact WHERE cid=? AND inflight IS NOT NULL", cid) is not None
    )


def sync_of(state: State, cid: int) -> int | None:
    """The sync that a contact is counted under."""
    sync: int | None = state.value("SELECT sync FROM contact WHERE cid=?", cid)
    return sync


def row(state: State, cid: int) -> sqlite3.Row | None:
    """The contact's whole row, with what is in flight."""
    return state.one("SELECT * FROM contact WHERE cid=?", cid)


def is_group_wanted(state: State, gid: int) -> bool:
    """Whether a waiting contact wants this group."""
    found = state.value(
        "SELECT 1 FROM contact c WHERE c.todo=1"
        " AND EXISTS(SELECT 1 FROM json_each(c.want,'$.g') WHERE value=?) LIMIT 1",
        gid,
    )
    return found is not None


# --- in doubt -----------------------------------------------------------------------------------------------------


def in_flight(state: State) -> list[int]:
    """Contacts of which something is in flight."""
    return [
        r[0] for r in state.rows("SELECT cid FROM contact WHERE inflight IS NOT NULL ORDER BY cid")
    ]


@dataclass(frozen=True, slots=True)
class Unsettled:
    """The last request that got no answer and may still take effect.

    at_s: when it was sent, by our clock, epoch seconds. server_ms: FluenzR's clock just before; None where it was not known.
    """

    at_s: int
    server_ms: int | None


def last_unsettled(state: State, cids: Iterable[int] | None = None) -> Unsettled | None:
    """The last request without an answer about anybody, or one of these; None: there is none."""
    rows = state.rows(
        "SELECT cid,unsettled,inflight_at FROM contact WHERE inflight IS NOT NULL AND unsettled>0"
    )
    wanted = None if cids is None else set(cids)
    found = [(row[1], row[2]) for row in rows if wanted is None or row[0] in wanted]
    if not found:
        return None
    known = [server_ms for _, server_ms in found if server_ms is not None]
    return Unsettled(
        at_s=max(at_s for at_s, _ in found),
        server_ms=max(known) if len(known) == len(found) else None,
    )


def sent_at_most_now(state: State, *, since_s: int, now_s: int) -> None:
    """Whatever was marked since then and has no answer may have been sent as late as now (inside a transaction)."""
    state.write(
        "UPDATE contact SET unsettled=? WHERE inflight IS NOT NULL AND unsettled BETWEEN max(1,?) AND ?",
        now_s, since_s, now_s - 1,
    )  # fmt: skip


def in_flight_of(state: State, kind: str) -> list[sqlite3.Row]:
    """cid, email and inflight_at of what was sent as one kind."""
    return state.rows(
        "SELECT cid,email,inflight_at FROM contact WHERE inflight=? AND state IN ('new','ok')", kind
    )


def enrolling(state: State) -> set[int]:
    """Contacts whose enrolment in a campaign is in flight."""
    return {row[0] for row in state.rows("SELECT cid FROM contact WHERE inflight='enrol'")}


def lost_enrolments(state: State) -> dict[int, dict[int, str | None]]:
    """The same by campaign: gid -> cid -> FluenzR's id of the contact."""
    found: dict[int, dict[int, str | None]] = {}
    for cid, rid, what in state.rows(
        "SELECT c.cid,c.rid,n.what FROM contact c JOIN never n ON n.cid=c.cid AND n.sure=0 WHERE c.inflight='enrol'"
    ):
        found.setdefault(int(what[1:]), {})[cid] = rid
    return found


def made_in(state: State, cids: Iterable[int], *, run: int) -> list[sqlite3.Row]:
    """cid, email and made_from of those of these contacts that this run has created, and whose id is not known."""
    wanted = set(cids)
    rows = state.rows(
        "SELECT cid,email,made_from FROM contact WHERE todo=1 AND rid IS NULL AND made_run=?", run
    )
    return [row for row in rows if row["cid"] in wanted]


def email_of(state: State, rid: str) -> str | None:
    """The address of the contact with FluenzR's id, where it is known."""
    email: str | None = state.value("SELECT email FROM contact WHERE rid=?", rid)
    return email


def body_of(state: State, cid: int) -> dict[str, Any]:
    """The fields of the bulk update that is in flight: {"f", "c"}."""
    text = state.value("SELECT body FROM contact WHERE cid=?", cid)
    body: dict[str, Any] = orjson.loads(text) if text else {}
    return body


def send_again(state: State, cid: int, known: Payload) -> None:
    """What was in flight is sent again, all of its fields (inside a transaction)."""
    state.write(
        "UPDATE contact SET inflight=NULL,body=NULL,unsettled=0,todo=1,sent_as=? WHERE cid=?",
        known.dump(),
        cid,
    )


def not_in_flight(state: State, cid: int) -> None:
    """Being erased: what was sent before has taken effect by now (inside a transaction)."""
    state.write("UPDATE contact SET inflight=NULL,unsettled=0 WHERE cid=?", cid)


# --- moved --------------------------------------------------------------------------------------------------------


def undecidable(state: State) -> set[int]:
    """Contacts of which nothing can be decided now: in flight, or being erased."""
    return {
        r[0]
        for r in state.rows(
            "SELECT cid FROM contact WHERE inflight IS NOT NULL UNION SELECT cid FROM contact WHERE state='forget'"
        )
    }


def moved(state: State) -> list[int]:
    """Contacts of live records whose link is open and whose address is another one."""
    rows = state.rows(
        "SELECT DISTINCT c.cid FROM record r INDEXED BY record_dirty CROSS JOIN contact c ON c.cid=r.cid"
        " WHERE r.dirty=1 AND r.live=1 AND r.email<>c.email AND c.state='ok'"
    )
    return [r[0] for r in rows]


def in_back_off(state: State, cids: Iterable[int], *, now_s: int) -> set[int]:
    """Those of these contacts that are put off."""
    late = {
        r[0] for r in state.rows("SELECT cid FROM contact WHERE tries>0 AND not_before>?", now_s)
    }
    return late.intersection(cids)


def stay_put(state: State, cid: int) -> None:
    """The contact does not move after all (inside a transaction)."""
    state.write("UPDATE contact SET move_to=NULL WHERE cid=?", cid)


def cid_of(state: State, rid: str, email: str) -> int | None:
    """The row that has this id, or else this address."""
    return owner_of(state, rid, email, but=NOBODY)


def owner_of(state: State, rid: str, email: str, *, but: int) -> int | None:
    """Another row of ours that has this id, or else this address."""
    by_id = state.value("SELECT cid FROM contact WHERE rid=? AND cid<>?", rid, but)
    if by_id is not None:
        return int(by_id)
    by_email: int | None = state.value(
        "SELECT cid FROM contact WHERE email=? AND cid<>?", email, but
    )
    return by_email


def note_error(state: State, cid: int, words: str) -> None:
    """FluenzR's words, until a read tells what came of it (inside a transaction)."""
    state.write("UPDATE contact SET err=? WHERE cid=?", words, cid)
