"""What a guard holds of a sync and nobody has approved yet: to be looked at before it is approved, and the seal of just that.

Every function is one question, is given a connection and writes nothing.
"""

import hashlib
import sqlite3
from dataclasses import dataclass

import orjson

from syncd.core.change import Change

OPEN = "FROM held WHERE sync=? AND approved=0"
PEOPLE = f"{OPEN} AND email<>''"  # a shrunken source stands there without an address


@dataclass(frozen=True, slots=True)
class HeldNow:
    """What waits for an approval. by_kind: people by what would happen to them; mailed: who would be mailed, mailed_by: by group
    or campaign; shrunk: the source itself is held, as it shrank. seal: of all of it: another one is another thing to approve.
    """

    run: int
    sync: str
    people: int
    by_kind: dict[str, int]
    mailed: int
    mailed_by: dict[str, int]
    shrunk: bool
    seal: bytes


def of_sync(db: sqlite3.Connection, sync: str) -> HeldNow | None:
    """What is held of this sync now; None: nothing, or all of it is approved."""
    run = db.execute(f"SELECT max(run) {OPEN}", (sync,)).fetchone()[0]
    if run is None:
        return None
    kinds = f"SELECT json_extract(change,'$.change'),count(*) {PEOPLE} GROUP BY 1"
    by_kind = dict(db.execute(kinds, (sync,)).fetchall())
    mailed = f"SELECT count(*) {PEOPLE} AND json_array_length(change,'$.enrol')>0"
    groups = (
        "SELECT j.value,count(*) FROM held h, json_each(h.change,'$.enrol') j"
        " WHERE h.sync=? AND h.approved=0 AND h.email<>'' GROUP BY 1"
    )
    return HeldNow(
        run=run,
        sync=sync,
        people=sum(by_kind.values()),
        by_kind=by_kind,
        mailed=db.execute(mailed, (sync,)).fetchone()[0],
        mailed_by=dict(db.execute(groups, (sync,)).fetchall()),
        shrunk=db.execute(f"SELECT 1 {OPEN} AND email=''", (sync,)).fetchone() is not None,
        seal=_seal(db, sync),
    )


def changes(db: sqlite3.Connection, sync: str, *, first: int, limit: int) -> list[Change]:
    """So many of the held changes from the first (0) on, those who would be mailed before all others."""
    rows = db.execute(
        f"SELECT change {PEOPLE} ORDER BY json_array_length(change,'$.enrol')=0,email LIMIT ? OFFSET ?",
        (sync, limit, first),
    )
    return [Change.of_contract(orjson.loads(text), sync=sync) for (text,) in rows]


def _seal(db: sqlite3.Connection, sync: str) -> bytes:
    """Of the run, and of every change: its digest, by which it is approved, and what was shown of it."""
    digest = hashlib.sha256()
    for row in db.execute(f"SELECT run,email,digest,change {OPEN} ORDER BY email", (sync,)):
        for part in (str(row[0]).encode(), row[1].encode(), row[2], row[3].encode()):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
