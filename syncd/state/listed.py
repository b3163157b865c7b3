"""What this run's reads have shown of the account: one row an address in the scratch file, never in memory."""

from dataclasses import dataclass

import orjson

from syncd.core.seen import Shown
from syncd.state import contacts
from syncd.state.store import State

LISTED = """
CREATE TABLE IF NOT EXISTS scratch.listed(
  email TEXT PRIMARY KEY, rid TEXT NOT NULL, shown TEXT NOT NULL) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Listed:
    """One contact as a read of this run has shown it. group_rids: FluenzR's ids of all its groups, ours or not."""

    shown: Shown
    group_rids: tuple[str, ...]


def prepare_listed(state: State) -> None:
    """Make the scratch table."""
    state.db.execute(LISTED)


def note(state: State, listed: Listed) -> None:
    """Keep what FluenzR shows of a contact for the rest of the run."""
    shown = listed.shown
    data = {
        "status": shown.status,
        "f": dict(shown.fields),
        "c": dict(shown.custom_fields),
        "g": None if shown.groups is None else sorted(shown.groups),
        "t": None if shown.tags is None else sorted(shown.tags),
        "created_ms": shown.created_ms,
        "all": listed.group_rids,
    }
    state.write(
        "INSERT OR REPLACE INTO scratch.listed VALUES(?,?,?)",
        shown.email, shown.rid, orjson.dumps(data).decode(),
    )  # fmt: skip


def load_listed(email: str, rid: str, text: str) -> Listed:
    """A row of `scratch.listed`."""
    data = orjson.loads(text)
    shown = Shown(
        rid=rid,
        email=email,
        status=data["status"],
        fields=data["f"],
        custom_fields=data["c"],
        groups=None if data["g"] is None else frozenset(data["g"]),
        tags=None if data["t"] is None else frozenset(data["t"]),
        created_ms=data["created_ms"],
    )
    return Listed(shown, tuple(data["all"]))


def find(state: State, email: str) -> Listed | None:
    """What this run's reads have shown of an address."""
    row = state.one("SELECT rid,shown FROM scratch.listed WHERE email=?", email)
    return None if row is None else load_listed(email, row["rid"], row["shown"])


def email_of(state: State, rid: str) -> str | None:
    """The address under which this run has seen FluenzR's id."""
    state.db.execute("CREATE INDEX IF NOT EXISTS scratch.listed_rid ON listed(rid)")
    email: str | None = state.value("SELECT email FROM scratch.listed WHERE rid=?", rid)
    return email


def any_listed(state: State) -> bool:
    """Whether this run has read anybody."""
    return state.value("SELECT 1 FROM scratch.listed LIMIT 1") is not None


def adopt(state: State, *, run: int) -> int:
    """Take over everybody who is wanted and was listed (inside a transaction); how many."""
    rows = state.rows(
        "SELECT c.cid,c.email,l.rid,l.shown FROM contact c JOIN scratch.listed l ON l.email=c.email"
        " WHERE c.state='new' AND c.inflight IS NULL"
    )
    for cid, email, rid, text in rows:
        contacts.absorb(state, cid, load_listed(email, rid, text).shown, run=run)
    return len(rows)


def forget_absent_opt_outs(state: State) -> None:
    """After a whole listing: who opted out in the source and is not in FluenzR needs no look-up (inside a transaction)."""
    if state.value("SELECT 1 FROM never WHERE what='-' LIMIT 1") is None:
        return
    state.write(
        "DELETE FROM contact WHERE state='new' AND inflight IS NULL AND want LIKE '%\"out\":true%'"
        " AND NOT EXISTS (SELECT 1 FROM scratch.listed l WHERE l.email=contact.email)"
        " AND NOT EXISTS (SELECT 1 FROM record r WHERE r.cid=contact.cid)"
    )


# A contact as the listing shows it, where that is no surprise: its own id, or the first one for a row that we made.
AS_EXPECTED = """
FROM scratch.listed l WHERE l.email=contact.email AND contact.state='ok' AND contact.inflight IS NULL
AND (contact.rid=l.rid OR contact.rid IS NULL AND NOT EXISTS(SELECT 1 FROM contact o WHERE o.rid=l.rid)
  AND (json_extract(l.shown,'$.created_ms')) BETWEEN contact.made_from AND contact.made AND contact.origin='created')
"""


def take_over(state: State, *, run: int) -> int:
    """Ids and statuses of everybody whom a whole listing shows as expected (inside a transaction); how many."""
    return state.write(
        f"UPDATE contact SET rid=l.rid,status=json_extract(l.shown,'$.status'),read_run=? {AS_EXPECTED}",
        run,
    )


def absorb_unnamed(state: State, *, run: int) -> None:
    """Contacts whose id was never known and of which nothing proves whose they are: the listing shows all of them there is to read."""
    rows = state.rows(
        "SELECT c.cid,c.email,l.rid,l.shown FROM contact c JOIN scratch.listed l ON l.email=c.email"
        " WHERE c.state='ok' AND c.inflight IS NULL AND c.rid IS NULL AND c.origin='adopted'"
    )
    for cid, email, rid, text in rows:
        contacts.absorb(state, cid, load_listed(email, rid, text).shown, run=run)


def to_verify(state: State, *, run: int) -> list[int]:
    """Contacts that the listing does not show, or otherwise than expected; and those that somebody has put back."""
    rows = state.rows(
        "SELECT cid FROM contact c WHERE inflight IS NULL AND read_run IS NOT ? AND (state='ok' OR state='new'"
        " AND EXISTS(SELECT 1 FROM scratch.listed l WHERE l.email=c.email)) ORDER BY cid",
        run,
    )
    return [row[0] for row in rows]
