"""Erasing people from the state: who is meant, what goes, what is still to be deleted in FluenzR, and that no trace stays.

The order is always the same: the keys are in the file `.forgotten` first, then one transaction erases by these keys. So a command
that was killed in between, and a database that was restored from a backup, are one case: keys that the ledger does not know yet.
Nothing here imports the store: the store itself erases when it opens a state.
"""

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from syncd.errors import StateError
from syncd.state import forgotten, inbox

_ADDRESS = re.compile(
    r"[^\s@<>\"'(),;:=\[\]{}]+@[^\s@<>\"'(),;:=\[\]{}]+\.[^\s@<>\"'(),;:=\[\]{}.]+"
)

if TYPE_CHECKING:
    from syncd.state.store import State

TRACES = "traces"  # meta: rows were erased, and the file was not written anew since
COPIES = "copies_due"  # meta: people were erased, and the copies were not gone through since
CUT = "…"  # where words that are too long end
TOLD_CHARS_MIN = 3  # of an address that was cut; fewer tell nobody
NAMED = "The words of this error are gone: they named somebody who was forgotten"

KEYS = "CREATE TABLE IF NOT EXISTS scratch.erasing(k TEXT PRIMARY KEY, done INTEGER NOT NULL) WITHOUT ROWID"

# The contact of the address; and one that is on its way to it, unless a record of somebody else wants its old address, or hangs on it.
MEANT = """
SELECT c.cid, c.email FROM contact c WHERE c.email=?1 OR c.cid IN (SELECT cid FROM record WHERE email=?1)
AND NOT EXISTS (SELECT 1 FROM record o WHERE o.live=1 AND (o.email=c.email OR o.cid=c.cid AND o.email IS NOT ?1))
"""

IN_KEYS = "(SELECT k FROM scratch.erasing)"

# Contacts at other addresses that are linked to erased records, and whether somebody else's record wants them.
LINKED = f"""
SELECT c.cid, c.rid, EXISTS(SELECT 1 FROM record o WHERE o.email=c.email AND o.live=1 AND o.cid IS NOT c.cid) AS claimed
FROM contact c WHERE ekey(c.email) NOT IN {IN_KEYS} AND c.cid IN
  (SELECT cid FROM record WHERE ekey(email) IN {IN_KEYS} OR rkey(sync,key) IN {IN_KEYS})
"""

ERASE = """
UPDATE contact SET state='forget',email=?,origin=NULL,status=NULL,policy=NULL,want=NULL,sent_as=NULL,move_to=NULL,body=NULL,
err=NULL,touch=0,todo=1,tries=0,not_before=0 WHERE cid=?
"""

MOVED = "ekey(json_extract(detail,'$.fields.email[0]')) IN {k} OR ekey(json_extract(detail,'$.fields.email[1]')) IN {k}"


def forget(state: "State", email: str) -> list[int]:
    """Forget an address (lower case) and everybody who stands behind it; the contacts that are to be deleted in FluenzR.

    First the file, then the database: from the first line on, whatever happens, the address is never created again.
    """
    addresses, keys = _meant(state, email)
    forgotten.write_forget(state.forgotten, keys)
    if inbox.exists(state.path):
        with inbox.opened(state.path) as box:
            for address in addresses:
                box.erase(address)
    with state.tx():
        erased = _erase(state, dict.fromkeys(keys, False), {email})
        # Also somebody whom no source ever had may be in FluenzR.
        state.write("INSERT OR IGNORE INTO contact(email,state,todo) VALUES(?,'forget',1)", email)
        erased.add(state.value("SELECT cid FROM contact WHERE email=?", email))
    return sorted(erased)


def _meant(state: "State", email: str) -> tuple[set[str], list[str]]:
    """The addresses and the keys: of the address, of every contact that is meant with it, and of every record of theirs."""
    contacts = {row["cid"]: row["email"] for row in state.rows(MEANT, email)}
    records = state.rows("SELECT sync,key FROM record WHERE email=?", email)
    for cid in contacts:
        records += state.rows("SELECT sync,key FROM record WHERE cid=?", cid)
    addresses = {email, *(known for known in contacts.values() if not known.startswith("?"))}
    keys = [state.address_key(address) for address in sorted(addresses)]
    keys += [state.record_key(row["sync"], row["key"]) for row in records]
    return addresses, [key for key in dict.fromkeys(keys) if key is not None]


def take_over(state: "State") -> None:
    """Erase whom the file knows as forgotten and the database does not: it was restored, or a command was killed."""
    logged = forgotten.read(state.forgotten).keys
    known = {row[0] for row in state.rows("SELECT k FROM never WHERE what='#'")}
    new = {key: done for key, done in logged.items() if key not in known}
    if new:
        with state.tx():
            _erase(state, new, set())
    lost = known - logged.keys()
    if lost and not state.rehearsal:  # the database came without its file
        open_keys = {
            row[0] for row in state.rows("SELECT ekey(email) FROM contact WHERE state='forget'")
        }
        forgotten.write_forget(state.forgotten, sorted(lost))
        forgotten.write_done(state.forgotten, sorted(lost - open_keys))


def erase_in_copy(copy: "State", keys: Mapping[str, bool], *, named: Iterable[str]) -> bool:
    """Erase in a copy whom these keys mean, as the state itself has; whether there was anything to do, or traces of it are left.

    named: addresses that are known in plain text, for words that quote them.
    """
    known = {row[0] for row in copy.rows("SELECT k FROM never WHERE what='#'")}
    new = {key: done for key, done in keys.items() if key not in known}
    gone = [
        row["cid"]
        for row in copy.rows("SELECT cid,ekey(email) AS k FROM contact WHERE state='forget'")
        if keys.get(row["k"])
    ]
    if new or gone:
        with copy.tx():
            _erase(copy, new, set(named))
            for cid in gone:  # deleted in FluenzR since
                drop_erased(copy, cid)
    return copy.meta(TRACES) is not None


def _erase(state: "State", keys: Mapping[str, bool], named: set[str]) -> set[int]:
    """Bar these keys and erase what they mean (inside a transaction); the contacts that are to be deleted in FluenzR.

    keys: with whether FluenzR has nobody of it any more. named: addresses that are known in plain text.
    """
    state.db.execute(KEYS)
    state.write("DELETE FROM scratch.erasing")
    state.db.executemany("INSERT INTO scratch.erasing VALUES(?,?)", keys.items())
    state.write("INSERT OR IGNORE INTO never SELECT k,'#',NULL,1 FROM scratch.erasing")
    linked = state.rows(LINKED)
    records = state.rows(
        f"SELECT rowno,cid,email FROM record WHERE ekey(email) IN {IN_KEYS} OR rkey(sync,key) IN {IN_KEYS}"
    )
    state.db.executemany("DELETE FROM record WHERE rowno=?", [(row["rowno"],) for row in records])
    contacts = state.rows(
        "SELECT c.cid,c.email,e.done FROM contact c JOIN scratch.erasing e ON e.k=ekey(c.email)"
    )
    gone = {row["cid"]: bool(row["done"]) for row in contacts}
    for cid, email, done in contacts:
        state.write(ERASE, email, cid)
        if done:
            drop_erased(state, cid)
    gone |= _let_go(state, linked)
    _purge_history(state, gone)
    _purge_words(state, named.union(row["email"] for row in (*records, *contacts) if row["email"]))
    state.set_meta(TRACES, 1)
    state.set_meta(COPIES, 1)
    return {cid for cid, done in gone.items() if not done}


def _let_go(state: "State", linked: Iterable[sqlite3.Row]) -> dict[int, bool]:
    """Contacts at other addresses that lost a record: others may want them; else they are of the forgotten person.

    The latter, each with whether there is nothing to be deleted in FluenzR.
    """
    state.write(
        f"UPDATE contact SET move_to=NULL,touch=1 WHERE move_to IS NOT NULL AND ekey(move_to) IN {IN_KEYS}"
    )
    gone = {}
    for cid, rid, claimed in linked:
        if claimed or state.value("SELECT 1 FROM record WHERE cid=?", cid) is not None:
            state.write("UPDATE contact SET touch=1 WHERE cid=?", cid)
        elif rid is None:
            drop_erased(state, cid)
            gone[cid] = True
        else:
            # By its id: whoever has its address today may be somebody else.
            state.write(ERASE, f"?{cid}", cid)
            gone[cid] = False
    return gone


def _purge_history(state: "State", cids: Iterable[int]) -> None:
    state.db.executemany("DELETE FROM change WHERE cid=?", [(cid,) for cid in cids])
    moved = MOVED.format(k=IN_KEYS)
    state.write(f"DELETE FROM change WHERE ekey(email) IN {IN_KEYS} OR kind='move' AND ({moved})")
    moved = moved.replace("detail", "change")
    state.write(f"DELETE FROM held WHERE ekey(email) IN {IN_KEYS} OR {moved}")


def _purge_words(state: "State", emails: Iterable[str]) -> None:
    """Errors of others and of runs may quote an address: FluenzR's words, or a key that stands twice in a source."""
    folded = [email.casefold() for email in emails]
    state.db.create_function("quotes", 1, lambda text: text is not None and _quotes(text, folded))
    state.write("UPDATE contact SET err=NULL WHERE quotes(err)")
    state.write("UPDATE written_back SET err=NULL WHERE quotes(err)")
    state.write(
        "UPDATE run_sync SET error=?1,counts=json_set(counts,'$.error',?1) WHERE quotes(error)",
        NAMED,
    )


def _quotes(text: str, emails: Iterable[str]) -> bool:
    """Whether it names one of them; words that were cut (`core.answer.clean`) may end within an address."""
    text = text.casefold()
    ends = text.split(CUT)[:-1]
    return any(
        email in text
        or any(end.endswith(email[:size]) for end in ends for size in range(TOLD_CHARS_MIN, len(email)))
        for email in emails
    )  # fmt: skip


def unnamed(state: "State", words: str | None) -> str | None:
    """Words that are about to be kept, none where they name somebody who was forgotten: a source may go on holding the address."""
    for found in _ADDRESS.finditer(words or ""):
        key = state.address_key(found[0].lower())
        if state.value("SELECT 1 FROM never WHERE k=? AND what='#'", key) is not None:
            return NAMED
    return words


def drop_erased(state: "State", cid: int) -> None:
    """Remove the row of somebody whom FluenzR has no more (inside a transaction); the ledger stays."""
    state.write("DELETE FROM contact WHERE cid=?", cid)
    # Its number may be given to another contact: claims of this one must not become that one's.
    state.write("UPDATE never SET sure=1,cid=NULL WHERE cid=? AND sure=0", cid)
    state.set_meta(TRACES, 1)
    state.set_meta(COPIES, 1)


def to_delete(state: "State") -> list[int]:
    """Contacts that are to be deleted in FluenzR, and of which nothing is in flight."""
    rows = state.rows(
        "SELECT cid FROM contact WHERE todo=1 AND state='forget' AND inflight IS NULL ORDER BY cid"
    )
    return [row[0] for row in rows]


def settle(state: "State", cids: Iterable[int]) -> None:
    """What was sent about these before has taken effect by now, or never will (inside a transaction)."""
    state.db.executemany(
        "UPDATE contact SET inflight=NULL,unsettled=0 WHERE cid=? AND state='forget'",
        [(cid,) for cid in cids],
    )


def note_deleted(state: "State", cid: int) -> None:
    """FluenzR has nobody of this contact any more: first the file, then the row goes."""
    row = state.one("SELECT email FROM contact WHERE cid=? AND state='forget'", cid)
    if row is None:
        return
    key = state.address_key(row["email"])
    if key is not None and not row["email"].startswith("?"):
        forgotten.write_done(state.forgotten, [key])
    with state.tx():
        drop_erased(state, cid)


def note_listed(state: "State") -> None:
    """After a listing of the account (inside a transaction): somebody forgotten is still there, and no row knows it any more."""
    logged = forgotten.read(state.forgotten).keys
    waiting = {key: False for key, done in logged.items() if not done and key.startswith("e:")}
    if not waiting:
        return
    state.db.execute(KEYS)
    state.write("DELETE FROM scratch.erasing")
    state.db.executemany("INSERT INTO scratch.erasing VALUES(?,?)", waiting.items())
    state.write(
        "INSERT OR IGNORE INTO contact(email,state,todo) SELECT email,'forget',1 FROM scratch.listed"
        f" WHERE ekey(email) IN {IN_KEYS}"
    )


def leave_no_trace(state: "State") -> bool:
    """Write the file anew where rows were erased, and empty its log; False: it could not be done now, and is tried again.

    `secure_delete` overwrites deleted rows, but not the copies that SQLite leaves in the gaps of a page when it moves rows about.
    """
    if state.rehearsal or state.meta(TRACES) is None:
        return True
    with contextlib.suppress(sqlite3.Error, StateError):
        state.db.execute("VACUUM main")
        busy: int = state.value("PRAGMA main.wal_checkpoint(TRUNCATE)")
        if not busy:  # else a reader still needs the old pages, and they stand in both files
            with state.tx():
                state.write("DELETE FROM meta WHERE k=?", TRACES)
            return True
    return False
