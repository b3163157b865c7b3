"""Taking over what FluenzR shows of everybody, and what must be written down when nobody knows any more who was mailed.

Every function stands inside one transaction, but for those that say otherwise. What the listing has shown stands in `scratch.listed`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from syncd.core.person import EMPTY, Payload, differing, load
from syncd.state import contacts
from syncd.state.listed import load_listed
from syncd.state.reads import SyncRow
from syncd.state.store import State

EXAMPLES_MAX = 20  # of people who are named; the others are counted
CHUNK_ROWS = 500  # contacts taken over in one transaction; bounds memory, not correctness

BEFORE = """
CREATE TABLE IF NOT EXISTS scratch.before(
  cid INTEGER PRIMARY KEY, email TEXT NOT NULL, rid TEXT, status TEXT, state TEXT NOT NULL, sent TEXT)
"""

# Whom the listing shows: by the id where it is known, for ids outlive a renaming by hand; else by the address.
SHOWN = """
SELECT c.cid, l.email, l.rid, l.shown FROM contact c JOIN scratch.listed l ON {match}
WHERE c.cid>? AND coalesce(c.inflight,'check')='check' AND c.state IN ('ok','new') ORDER BY c.cid LIMIT ?
"""
MATCHES = ("l.rid=c.rid", "c.rid IS NULL AND l.email=c.email")

FORGOTTEN = "EXISTS(SELECT 1 FROM never WHERE what='#' AND k=ekey(s.email))"
# An address that FluenzR has: the listing shows it, or a contact there could not be read just now.
PRESENT = "SELECT email FROM scratch.listed UNION SELECT email FROM contact WHERE state='ok'"


def note_before(state: State) -> None:
    """Keep what was known, to tell afterwards what was repaired."""
    state.db.execute(BEFORE)
    state.write("DELETE FROM scratch.before")
    state.write(
        "INSERT INTO scratch.before SELECT cid,email,rid,status,state,sent FROM contact WHERE state IN ('ok','new')"
    )


def distrust(state: State) -> None:
    """Of what a backup says, this may be overtaken: what is in flight, what was approved, whom a sync has met in FluenzR."""
    # It ended long ago, and nobody knows how: it is read, and nothing of it is undone.
    state.write(
        "UPDATE contact SET inflight=CASE WHEN state='forget' THEN NULL ELSE 'check' END,inflight_at=NULL,body=NULL,unsettled=0"
        " WHERE inflight IS NOT NULL"
    )
    state.write("UPDATE held SET approved=0")  # an approval counts once, and may have
    state.write("UPDATE sync SET listed=0")


def take_over_listed(state: State, *, run: int) -> Iterator[int]:
    """Make every contact what the listing shows of it; yields how many, a transaction of its own each time."""
    state.db.execute("CREATE INDEX IF NOT EXISTS scratch.listed_rid ON listed(rid)")
    for match in MATCHES:
        last = 0
        while rows := state.rows(SHOWN.format(match=match), last, CHUNK_ROWS):
            last = rows[-1]["cid"]
            with state.tx():
                for cid, email, rid, text in rows:
                    # One before it in this chunk may have turned out to be the same contact.
                    if state.value("SELECT 1 FROM contact WHERE cid=?", cid):
                        shown = load_listed(email, rid, text).shown
                        contacts.absorb(state, cid, shown, run=run)
            yield len(rows)


# --- what nobody knows any more -----------------------------------------------------------------------------------


def bar_staged(state: State, sync: SyncRow) -> None:
    """Before a promotion: nobody on the stage is enrolled by it, and nobody is created who is not in FluenzR.

    Also those whose address is forgotten, or cannot be used today: their keys are barred.
    """
    here = f"(s.email IN ({PRESENT}) OR c.state IS 'ok')"
    staged = "FROM scratch.stage s LEFT JOIN record r ON r.rowno=s.rowno LEFT JOIN contact c ON c.cid=r.cid"
    _bar(state, f"SELECT rkey({sync.sync},s.key),'*' {staged}")
    _bar(state, f"SELECT ekey(s.email),'*' {staged} WHERE s.email IS NOT NULL")
    absent = f"{staged} WHERE (s.email IS NULL OR NOT {here})"
    _bar(state, f"SELECT rkey({sync.sync},s.key),'?' {absent} OR {FORGOTTEN}")
    _bar(state, f"SELECT ekey(s.email),'?' {staged} WHERE s.email IS NOT NULL AND NOT {here}")


def bar_known(state: State) -> None:
    """Whoever a copy knows may have been mailed since, also under an address that nobody has any more after the sources were read."""
    _bar(state, "SELECT ekey(email),'*' FROM contact WHERE email NOT LIKE '?%' AND state<>'forget'")
    _bar(state, "SELECT rkey(sync,key),'*' FROM record")
    _bar(state, "SELECT ekey(email),'*' FROM record WHERE email IS NOT NULL")


def bar_everybody(state: State) -> None:
    """Whoever is known may have been mailed: never enrolled. Who is not in FluenzR may have been deleted: not created."""
    here = f"(r.email IN ({PRESENT}) OR c.state IS 'ok')"
    known = "FROM record r LEFT JOIN contact c ON c.cid=r.cid"
    _bar(state, "SELECT ekey(email),'*' FROM scratch.listed")
    bar_known(state)
    # An address that cannot be used today may be another one tomorrow: only the key tells that it is the same person.
    absent = f"{known} WHERE r.email IS NULL OR r.skip='address' OR NOT {here}"
    _bar(state, f"SELECT rkey(r.sync,r.key),'?' {absent}")
    _bar(state, f"SELECT ekey(r.email),'?' {known} WHERE r.email IS NOT NULL AND NOT {here}")
    # Nobody knows to which contact an unwanted record once belonged: what is known of its address travels with it.
    state.write(
        "INSERT OR IGNORE INTO never SELECT rkey(r.sync,r.key),n.what,NULL,1 FROM record r CROSS JOIN never n"
        " WHERE r.cid IS NULL AND r.email IS NOT NULL AND n.k=ekey(r.email) AND n.what IN ('!','-','x')"
    )


def _bar(state: State, keys: str) -> None:
    """keys: a query of (key, what)."""
    state.write(
        f"INSERT OR IGNORE INTO never SELECT k,what,NULL,1 FROM (SELECT NULL AS k,NULL AS what WHERE 0 UNION ALL {keys})"
    )


def mark_listed(state: State, sync: SyncRow) -> None:
    """Everybody of this sync has met whoever is in FluenzR."""
    state.write("UPDATE sync SET listed=1 WHERE sync=?", sync.sync)


# --- what came of it ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Repaired:
    """Contacts of which something was known before, and is known otherwise now. edited: fields, tags or groups changed by hand.

    deleted: by hand in FluenzR; back: put there by hand. doubtful: could not be read.
    """

    ids: int = 0
    statuses: int = 0
    edited: int = 0
    renamed: int = 0
    deleted: int = 0
    back: int = 0
    doubtful: int = 0


PAIRS = "FROM scratch.before b JOIN contact c USING(cid)"


def repaired(state: State) -> Repaired:
    """What differs from `note_before`."""

    def count(where: str) -> int:
        number: int = state.value(f"SELECT count(*) {PAIRS} WHERE {where}")
        return number

    there = "b.state='ok' AND c.state='ok'"
    texts = state.db.execute(f"SELECT b.sent,c.sent {PAIRS} WHERE {there} AND b.sent IS NOT c.sent")
    return Repaired(
        ids=count("b.rid IS NULL AND c.rid IS NOT NULL AND b.state='ok'"),
        statuses=count(f"{there} AND b.status IS NOT c.status"),
        edited=sum(_differs(load(old) or EMPTY, load(new) or EMPTY) for old, new in texts),
        renamed=count("b.state='ok' AND b.email<>c.email"),
        deleted=count("b.state='ok' AND c.state='new'"),
        back=count("b.state='new' AND c.state='ok'"),
        doubtful=state.value("SELECT count(*) FROM contact WHERE inflight IS NOT NULL"),
    )


def _differs(old: Payload, new: Payload) -> bool:
    """Whether FluenzR shows something else than we had written; not whether it only writes it otherwise."""
    fields = differing(old.fields, new.fields) or differing(old.custom_fields, new.custom_fields)
    return bool(fields) or (old.groups, old.tags) != (new.groups, new.tags)


@dataclass(frozen=True, slots=True)
class People:
    """Whom the sources want, and where they are. present, absent: in FluenzR or not; opted_out: addresses of whom that is known.

    examples: the first of the absent. unwanted: records that are filtered out, or have no usable address today. listed: everybody
    in FluenzR.
    """

    present: int
    absent: int
    examples: tuple[str, ...]
    opted_out: int
    unwanted: int
    listed: int


def people(state: State) -> People:
    """How everybody stands after a rebuild."""
    wanted = "FROM contact c WHERE EXISTS(SELECT 1 FROM record r WHERE r.cid=c.cid AND r.live=1) AND c.state=?"
    first = state.rows(f"SELECT email {wanted} ORDER BY email LIMIT ?", "new", EXAMPLES_MAX)
    return People(
        present=state.value(f"SELECT count(*) {wanted}", "ok"),
        absent=state.value(f"SELECT count(*) {wanted}", "new"),
        examples=tuple(row["email"] for row in first),
        opted_out=state.value("SELECT count(*) FROM never WHERE what='!' AND k LIKE 'e:%'"),
        unwanted=state.value(
            "SELECT count(*) FROM record WHERE live=0 AND skip IN ('filtered','address','blocked')"
        ),
        listed=state.value("SELECT count(*) FROM scratch.listed"),
    )
