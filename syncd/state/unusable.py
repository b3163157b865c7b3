"""Records that cannot be used as they are: no usable address, or a value that a rule of the mapping cannot read.

Such a record is frozen at its last good state until its source is put right; here is said which ones these are, and why.
"""

from dataclasses import dataclass

from syncd.state.reads import Read, SyncRow
from syncd.state.store import Connection, State

# Who may be kept from an opt-out stands first.
KNOWN = """
FROM record r JOIN sync s ON s.sync=r.sync WHERE r.skip IN ({skips}) ORDER BY r.skip='address',s.name,r.key
"""

STAGED = """
SELECT iif(place='','key '||key,place),coalesce(note,'') FROM scratch.stage WHERE skip IN ('address','blocked') ORDER BY id LIMIT ?
"""
UNCHANGED = """
SELECT 'key '||key,coalesce(note,'') FROM record r WHERE rowno BETWEEN ? AND ? AND skip IN ('address','blocked')
AND NOT EXISTS (SELECT 1 FROM scratch.stage s WHERE s.key=r.key) ORDER BY rowno LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Unusable:
    """One record. email: its last good one; note: which rule, and why. readable: only its address is missing."""

    sync: str
    key: str
    email: str | None
    note: str | None
    readable: bool


def known(db: Connection, *, limit: int | None = None) -> tuple[list[Unusable], int]:
    """The first of all records that cannot be used, and how many there are."""
    return _known(db, "'blocked','address'", limit)


def unreadable(db: Connection, *, limit: int | None = None) -> tuple[list[Unusable], int]:
    """Those of which a value cannot be read: they count as quarantined."""
    return _known(db, "'blocked'", limit)


def _known(db: Connection, skips: str, limit: int | None) -> tuple[list[Unusable], int]:
    query = KNOWN.format(skips=skips)
    rows = db.execute(
        f"SELECT s.name,r.key,r.email,r.note,r.skip='address' {query} LIMIT ?",
        (-1 if limit is None else limit,),
    )
    found = [Unusable(name, key, email, note, bool(only)) for name, key, email, note, only in rows]
    return found, db.execute(f"SELECT count(*) {query}").fetchone()[0]


def of_read(state: State, sync: SyncRow, found: Read, *, limit: int) -> list[tuple[str, str]]:
    """(place, why) of the first such records of the read that is staged; of unchanged ones only the key is known."""
    rows = state.rows(STAGED, limit)
    if found.same_skipped:
        rows += state.rows(UNCHANGED, sync.first_rowno, sync.last_rowno, limit)
    nameless = [(place, "no e-mail address, and no key") for place in found.nameless_places]
    return [*nameless, *((place, note) for place, note in rows)][:limit]
