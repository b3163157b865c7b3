"""What was told to whom: the file `syncd.db.alerts`, which is locked while somebody is told.

A file of its own: a trouble must also be told while a run holds the state, and when the state is lost or the daemon hangs in it; and a
state that is restored from a backup must not forget what was told. It holds names of syncs and references of secrets, nobody's address.
"""

import contextlib
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from syncd.state.files import beside, open_private
from syncd.state.store import explained

SUFFIX = ".alerts"
PROOF = ""  # the name of no sync
TABLES = """
CREATE TABLE IF NOT EXISTS told(
  place TEXT NOT NULL,    -- the reference of the address that was told
  trouble TEXT NOT NULL,  -- kind:sync
  size INTEGER NOT NULL,  -- how large it was then
  PRIMARY KEY(place, trouble)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS seen(sync TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID
"""


class Told:
    """The file, while this process alone has it."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def of(self, place: str) -> dict[str, int]:
        """key -> size of what this place was told, and is not over."""
        return dict(
            self._db.execute("SELECT trouble,size FROM told WHERE place=?", (place,)).fetchall()
        )

    def prove(self, *, now_s: float) -> None:
        """Something can be kept: what is told and not kept would be told again and again. Raises StateError."""
        self._db.execute("INSERT OR REPLACE INTO seen VALUES(?,?)", (PROOF, int(now_s)))
        self._db.execute("COMMIT")
        self._db.execute("BEGIN EXCLUSIVE")

    def keep(self, place: str, told: Mapping[str, int]) -> None:
        """This is what the place has been told. Kept when this returns; the file stays ours. Raises StateError."""
        self._db.execute("DELETE FROM told WHERE place=?", (place,))
        self._db.executemany(
            "INSERT INTO told VALUES(?,?,?)", [(place, key, size) for key, size in told.items()]
        )
        self._db.execute("COMMIT")
        self._db.execute("BEGIN EXCLUSIVE")

    def seen_s(self, syncs: Collection[str], *, now_s: float) -> dict[str, int]:
        """When each of these syncs was first looked at; those that are gone are forgotten."""
        marks = ",".join("?" * len(syncs))
        self._db.execute(f"DELETE FROM seen WHERE sync NOT IN ({marks})", list(syncs))
        self._db.executemany(
            "INSERT OR IGNORE INTO seen VALUES(?,?)", [(name, int(now_s)) for name in syncs]
        )
        return dict(self._db.execute("SELECT sync,at FROM seen").fetchall())

    def forget_others(self, places: Collection[str]) -> None:
        """Only these are still told."""
        marks = ",".join("?" * len(places))
        self._db.execute(f"DELETE FROM told WHERE place NOT IN ({marks})", list(places))


@contextlib.contextmanager
def opened(state: Path) -> Iterator[Told | None]:
    """The file beside this state, for this process alone; None: another one is telling just now. Raises StateError."""
    file = beside(state, SUFFIX)
    os.close(open_private(file))
    with (
        explained(file),
        contextlib.closing(sqlite3.connect(file, isolation_level=None, timeout=0.0)) as db,
    ):
        try:
            # The journal stays and is written over: what fits once fits also when the disk is full.
            db.execute("PRAGMA journal_mode=PERSIST")
            db.execute("PRAGMA synchronous=FULL")
            db.execute("BEGIN EXCLUSIVE")
            for statement in TABLES.split(";\n"):
                db.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
            yield None
            return
        yield Told(db)
        db.execute("COMMIT")
