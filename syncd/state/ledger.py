"""The never-ledger: what must not happen (again) to an address or a record. Rows are only ever added, but by `release`.

`!` opted out, bounced or blocked; `-` the source said so; `x` deleted by hand; `#` forgotten; `?` absent when the state was rebuilt;
`*` no dynamic group ever; `~` replied: the same; `g<gid>` enrolled there. sure=0: a request that may have enrolled is in flight.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from syncd.core.person import LATCHES

if TYPE_CHECKING:
    from syncd.state.store import State


def bar_address(state: "State", email: str, what: str) -> bool:
    """Write one thing down for an address; whether it is new."""
    return bool(
        state.write(
            "INSERT OR IGNORE INTO never VALUES(?,?,NULL,1)", state.address_key(email), what
        )
    )


def bar_record(state: "State", sync: int, key: str, what: str) -> bool:
    """Write one thing down for a record; whether it is new."""
    return bool(
        state.write(
            "INSERT OR IGNORE INTO never VALUES(?,?,NULL,1)", state.record_key(sync, key), what
        )
    )


def latch(state: "State", email: str, status: str) -> None:
    """FluenzR shows this status at the address: what stays of it for ever."""
    if status in LATCHES:
        bar_address(state, email, LATCHES[status])


def note_status(state: "State", email: str | None, rid: str | None, status: str) -> None:
    """FluenzR tells of somebody who opted out or replied: known for ever, wanted or not. email, rid: as far as they are told."""
    if email is not None:
        latch(state, email, status)
    for cid, old in state.rows("SELECT cid,email FROM contact WHERE rid=? OR email=?", rid, email):
        latch(state, old, status)
        state.write(  # who opted out and replied has opted out
            "UPDATE contact SET status=?1 WHERE cid=?2 AND status IS NOT ?1 AND (?1<>'replied' OR coalesce(status,'active')='active')",
            status, cid,
        )  # fmt: skip


def copy(state: "State", source: str | None, target: str | None) -> None:
    """What holds for one key holds for the other too; being forgotten does not travel."""
    state.write(
        "INSERT OR IGNORE INTO never SELECT ?,what,cid,sure FROM never WHERE k=? AND what<>'#'",
        target, source,
    )  # fmt: skip


def of_contact(state: "State", cid: int) -> frozenset[str]:
    """Everything that holds for a contact: of its address, and of every record that is linked to it."""
    rows = state.rows(
        "SELECT what FROM never WHERE k=(SELECT ekey(email) FROM contact WHERE cid=?1)"
        " UNION SELECT n.what FROM record r JOIN never n ON n.k=rkey(r.sync,r.key) WHERE r.cid=?1",
        cid,
    )
    return frozenset(row[0] for row in rows)


def of_contacts(state: "State", emails: Mapping[int, str]) -> dict[int, frozenset[str]]:
    """The same for many contacts at once: cid -> address in, cid -> what holds out; contacts of whom nothing is known are left out."""
    if state.value("SELECT 1 FROM never LIMIT 1") is None:
        return {}
    keys = {state.address_key(email): cid for cid, email in emails.items()}
    found: dict[int, set[str]] = {}
    for key, what in state.rows(f"SELECT k,what FROM never WHERE k IN ({_marks(keys)})", *keys):
        found.setdefault(keys[key], set()).add(what)
    for cid, what in state.rows(
        "SELECT r.cid,n.what FROM record r CROSS JOIN never n"
        f" WHERE n.k=rkey(r.sync,r.key) AND r.cid IN ({_marks(emails)})",
        *emails,
    ):
        found.setdefault(cid, set()).add(what)
    return {cid: frozenset(what) for cid, what in found.items()}


def _marks(values: Collection[object]) -> str:
    return ",".join("?" * len(values))


def has_address(state: "State", email: str, *what: str) -> bool:
    """Whether any of these holds for the address."""
    found = state.value(
        f"SELECT 1 FROM never WHERE k=? AND what IN ({_marks(what)})",
        state.address_key(email), *what,
    )  # fmt: skip
    return found is not None


def of_keys(state: "State", keys: Collection[str]) -> frozenset[str]:
    """Everything that holds for any of these keys."""
    rows = (state.rows("SELECT what FROM never WHERE k=?", key) for key in keys)
    return frozenset(row[0] for found in rows for row in found)


def end(state: "State", key: str, marks: Iterable[str]) -> None:
    """These hold no more for the key: somebody has released it."""
    state.db.executemany("DELETE FROM never WHERE k=? AND what=?", [(key, what) for what in marks])


def claim(state: "State", cid: int, email: str, gids: Iterable[int]) -> None:
    """Before a request that may enrol: it has happened, until a read shows that it has not."""
    state.db.executemany(
        "INSERT OR IGNORE INTO never VALUES(?,?,?,0)",
        [(state.address_key(email), f"g{gid}", cid) for gid in gids],
    )


def confirm(state: "State", cid: int) -> None:
    """The claims of this contact have come true."""
    state.write("UPDATE never SET sure=1,cid=NULL WHERE cid=? AND sure=0", cid)


def withdraw(state: "State", cid: int, *, but: Iterable[int] = ()) -> None:
    """The claims have not come true, except those of groups in which the contact was seen."""
    seen = [f"g{gid}" for gid in but]
    state.write(
        f"DELETE FROM never WHERE cid=? AND sure=0 AND what NOT IN ({_marks(seen)})",
        cid, *seen,
    )  # fmt: skip
    confirm(state, cid)
