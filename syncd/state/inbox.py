"""The inbox: FluenzR's events, kept in a file of their own before they are answered, and applied by whoever holds the state's lock.

It owns `syncd.db.inbox`. A file of its own, because events come while a run holds the state; two processes may have it open.
What an applied event said is deleted; its id stays for ID_KEEP_S, so that a replay is known, also after a restart.
"""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from syncd.errors import StateError
from syncd.state.files import beside, make_private

SUFFIX = ".inbox"
ID_KEEP_S = 30 * 24 * 3600  # FluenzR tries again for less than three hours [D]
PRUNED_ROWS_MAX = (
    10_000  # at once; more than are ever applied at once, so that the file does not grow
)
UNKNOWN_ROWS_MAX = 100_000  # events that mean nothing to us and are kept to be looked at
PRAGMAS = {
    "busy_timeout": 5_000,  # ms: the other process writes a thousand events at the most
    "journal_mode": "WAL",
    "synchronous": "FULL",  # an event is on the disk before it is answered
    "secure_delete": "ON",
    "journal_size_limit": 8 * 1024 * 1024,
}

TABLES = """
CREATE TABLE IF NOT EXISTS event(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  type TEXT NOT NULL,
  received_at INTEGER NOT NULL,  -- epoch seconds
  body BLOB,                     -- as it came; NULL once it is applied
  applied_at INTEGER             -- NULL: waits
) STRICT;
CREATE INDEX IF NOT EXISTS event_waiting ON event(seq) WHERE applied_at IS NULL;
CREATE INDEX IF NOT EXISTS event_kept ON event(seq) WHERE applied_at IS NOT NULL AND body IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Letter:
    """An event on its way into the inbox."""

    id: str
    type: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event that is not applied yet. seq: in the order of their arrival. received_s: epoch seconds."""

    seq: int
    received_s: int
    body: bytes


class Inbox:
    """One connection to the file; to be used by one thread at a time."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def put(self, letters: Sequence[Letter], *, now_s: int) -> int:
        """Keep these, on the disk when it returns; how many are new. Raises StateError: then none of them is kept."""
        with self._tx():
            return self._db.executemany(
                "INSERT OR IGNORE INTO event(id,type,received_at,body) VALUES(?,?,?,?)",
                [(one.id, one.type, now_s, one.body) for one in letters],
            ).rowcount

    def waiting(self, limit: int, *, after: int = 0) -> list[Waiting]:
        """The oldest that are not applied yet."""
        rows = self._db.execute(
            "SELECT seq,received_at,body FROM event WHERE applied_at IS NULL AND seq>? ORDER BY seq LIMIT ?",
            (after, limit),
        )
        return [Waiting(*row) for row in rows]

    def waiting_count(self) -> int:
        """How many are not applied yet."""
        return int(
            self._db.execute("SELECT count(*) FROM event WHERE applied_at IS NULL").fetchone()[0]
        )

    def applied(self, seqs: Sequence[int], *, kept: Sequence[int], now_s: int) -> None:
        """These are done. kept: those that mean nothing to us; their words stay for a while, to be looked at."""
        with self._tx():
            self._db.executemany(
                "UPDATE event SET applied_at=?,body=NULL WHERE seq=?",
                [(now_s, seq) for seq in set(seqs).difference(kept)],
            )
            self._db.executemany(
                "UPDATE event SET applied_at=? WHERE seq=?", [(now_s, seq) for seq in kept]
            )
            # They came in this order: only the oldest are looked at, however many there are.
            self._db.execute(
                "DELETE FROM event WHERE applied_at<? AND seq IN (SELECT seq FROM event ORDER BY seq LIMIT ?)",
                (now_s - ID_KEEP_S, PRUNED_ROWS_MAX),
            )
            self._db.execute(
                "UPDATE event SET body=NULL WHERE applied_at IS NOT NULL AND body IS NOT NULL AND seq<="
                "(SELECT seq FROM event WHERE applied_at IS NOT NULL AND body IS NOT NULL ORDER BY seq DESC LIMIT 1 OFFSET ?)",
                (UNKNOWN_ROWS_MAX,),
            )

    def erase(self, words: str) -> None:
        """Forget what any event says in which these words stand; that it came is known still."""
        with self._tx():
            self._db.execute(
                "UPDATE event SET body=NULL,applied_at=coalesce(applied_at,received_at)"
                " WHERE body IS NOT NULL AND instr(lower(CAST(body AS TEXT)),?)",
                (words.lower(),),
            )
        self.leave_no_trace()

    def leave_no_trace(self) -> None:
        """What was deleted stands in the journal no more, as far as nobody reads it just now."""
        with _explained():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextlib.contextmanager
    def _tx(self) -> Iterator[None]:
        with _explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(
            "The inbox of FluenzR's events cannot be used",
            why=str(error),
            hint="Look at the disk; a damaged file may be moved away, for each run reads the opt-outs from FluenzR itself",
        ) from None


def exists(state: Path) -> bool:
    """Whether events ever came to this state. state: its path."""
    return beside(state, SUFFIX).exists()


@contextlib.contextmanager
def opened(state: Path) -> Iterator[Inbox]:
    """The inbox of a state, made when it is not there; for its owner only. Raises StateError."""
    path = beside(state, SUFFIX)
    make_private(path)
    with _explained():
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with contextlib.closing(Inbox(db)) as inbox:
        with _explained():
            for name, value in PRAGMAS.items():
                db.execute(f"PRAGMA {name}={value}")
            for statement in TABLES.split(";\n"):
                db.execute(statement)
        yield inbox
