"""The state file, looked at from outside: by a connection of its own that only reads."""

import json
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from syncd.state import forgotten, store
from world.sources import Key, Who

Rows = list[sqlite3.Row]


@dataclass(frozen=True, slots=True)
class PutBack:
    """One exception from what the sources want, made by `undo`. part: f, c, g or t; name: of it; left: nobody wanted the person."""

    part: str
    name: str
    undone: Any
    instead: Any
    left: bool


class Peek:
    """One state file, or a copy of one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def query(self, sql: str, *values: object) -> Rows:
        """Rows of the state file; none while there is no state."""
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            try:
                return db.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):  # died before the state was made
                    return []
                raise

    def tables(self) -> list[list[tuple[Any, ...]]]:
        """Everything that stands in it."""
        names = [
            row[0]
            for row in self.query("SELECT name FROM sqlite_master WHERE type='table' ORDER BY name")
        ]
        return [[tuple(row) for row in self.query(f"SELECT * FROM {name}")] for name in names]

    def records_at(self, email: str) -> list[Key]:
        """The live records of an address, as promoted."""
        rows = self.query(
            "SELECT s.name,r.key FROM record r JOIN sync s USING(sync) WHERE r.email=? AND r.live=1",
            email,
        )
        return [(row[0], row[1]) for row in rows]

    def records_of(self, cid: int) -> list[tuple[Key, sqlite3.Row]]:
        """The records that are linked to a contact."""
        rows = self.query(
            "SELECT s.name,r.* FROM record r JOIN sync s USING(sync) WHERE r.cid=?", cid
        )
        return [((row["name"], row["key"]), row) for row in rows]

    def people(self) -> set[Who]:
        """Every address and every key that it has a row of."""
        rows = self.query("SELECT s.name,r.key,r.email FROM record r JOIN sync s USING(sync)")
        found: set[Who] = {(row[0], row[1]) for row in rows}
        found |= {row[2] for row in rows if row[2] is not None}
        return found | {row[0] for row in self.query("SELECT email FROM contact")}

    def never(self, email: str, records: Iterable[Key]) -> set[str]:
        """What the ledger holds against an address and these records; groups by their name."""
        return set().union(*self.marks([email, *records]).values())

    def marks(self, everybody: Iterable[Who]) -> dict[Who, set[str]]:
        """Who -> what the ledger holds against them; groups by their name."""
        everybody = list(everybody)
        if not self.query("SELECT 1 FROM meta WHERE k='salt'"):
            return {who: set() for who in everybody}
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            syncs = dict(db.execute("SELECT name,sync FROM sync").fetchall())
            names = dict(db.execute("SELECT 'g'||gid,name FROM grp").fetchall())
            found: dict[Who, set[str]] = {}
            for who in everybody:
                key = _ledger_key(db, who, syncs)
                rows = db.execute("SELECT what FROM never WHERE k=?", (key,)).fetchall()
                found[who] = {names.get(what, what) for (what,) in rows}
            return found

    def forgotten(self, everybody: Iterable[Who]) -> set[Who]:
        """Whom the file `.forgotten` has."""
        keys = forgotten.read(store.beside(self.path, ".forgotten")).keys
        if not keys or not self.query("SELECT 1 FROM meta WHERE k='salt'"):
            return set()
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as db:
            syncs = dict(db.execute("SELECT name,sync FROM sync").fetchall())
            return {who for who in everybody if _ledger_key(db, who, syncs) in keys}

    def exceptions(self) -> dict[str, list[PutBack]]:
        """Address -> what `undo` has put back there."""
        names = {str(row[0]): row[1] for row in self.query("SELECT gid,name FROM grp")}
        found: dict[str, list[PutBack]] = {}
        for row in self.query("SELECT c.email,u.* FROM undone u JOIN contact c USING(cid)"):
            name = names[row["name"]] if row["part"] == "g" else row["name"]
            one = PutBack(
                row["part"], name, json.loads(row["undone"]), json.loads(row["instead"]),
                bool(row["left_all"]),
            )  # fmt: skip
            found.setdefault(row["email"], []).append(one)
        return found

    # --- what happens to the file -----------------------------------------------------------------------------

    def back_up(self, target: Path) -> "Peek":
        """A copy as an operator makes it, of the database alone."""
        target.unlink(missing_ok=True)
        with closing(sqlite3.connect(self.path)) as db, closing(sqlite3.connect(target)) as copy:
            db.backup(copy)
        return Peek(target)

    def lose(self, *more: str) -> None:
        """The database is gone; with `more`, its neighbours too."""
        for suffix in ("", "-wal", "-shm", *more):
            store.beside(self.path, suffix).unlink(missing_ok=True)

    def restore(self, copy: "Peek") -> None:
        """The copy stands in the state's place."""
        self.lose()
        shutil.copy(copy.path, self.path)

    def holds(self, text: str) -> list[str]:
        """The names of the state's files in which this text stands, whatever the letter case."""
        needle = text.lower().encode()
        files = sorted(self.path.parent.glob(self.path.name + "*"))
        return [file.name for file in files if needle in file.read_bytes().lower()]


def _ledger_key(db: sqlite3.Connection, who: Who, syncs: dict[str, int]) -> str:
    if isinstance(who, str):
        return store.address_key(db, who)
    sync, key = who
    return store.record_key(db, syncs[sync], key) if sync in syncs else ""
