"""The state file: opening, locking, transactions, and the keyed hashes of the never-ledger.

Owns the files `syncd.db`, `.lock`, `.installed`, `.forgotten` and the scratch file; knows nothing of what the tables mean.
One process writes at a time (flock); one thread of it owns the connection.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import sqlite3
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from sqlite_utils import Database

from syncd.clock import Clock
from syncd.errors import StateBusy, StateError, StateLost, StateRestored
from syncd.migrations import APPLICATION_ID, migrations, unknown
from syncd.state import copy, erase, events, forgotten, marker
from syncd.state.files import beside, make_private, open_private

Connection: TypeAlias = sqlite3.Connection  # for those who only pass them on
Row: TypeAlias = sqlite3.Row

# 32 MiB: a page that is written again soon, marked and then confirmed, goes into the file once (2 us of a new contact).
WAL_PAGES = 8000
CACHE_KIB = 2 * 1024  # larger caches were within the noise at a million contacts
SQLITE_MIN = (3, 37, 0)  # STRICT tables; Debian 12, Ubuntu 22.04 and python.org's builds have it
BUSY_MS = 5_000  # a reader may hold a checkpoint up for a moment
WAL_BYTES_MAX = 64 * 1024 * 1024  # the file is cut back to this after a large transaction
LOCK_POLL_S = 0.2


@contextlib.contextmanager
def hold(path: Path, *, wait_s: float, clock: Clock) -> Iterator[None]:
    """Hold the state's lock, kept by the kernel, for the length of a run. Raises StateBusy after `wait_s`."""
    descriptor = open_private(beside(path, ".lock"))
    try:
        deadline_s = clock.monotonic_s() + wait_s
        while not _locked(descriptor):
            if clock.monotonic_s() >= deadline_s:
                raise StateBusy(
                    f"Another process is using {path}",
                    why="" if not wait_s else f"It was waited for {wait_s:g} s",
                    hint="Wait for it to end; `syncd sync`, `plan` and `reconcile` take --wait SECONDS",
                )
            clock.sleep_s(LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise StateError("The state's lock cannot be taken", why=str(error.strerror)) from None
    return True


class State:
    """The open state. `db` is in autocommit mode; every write stands inside `tx()`.

    rehearsal: nothing is kept: transactions become savepoints of one outer transaction that `close` rolls back.
    whole: the same, but `keep` keeps it, all or nothing.
    """

    def __init__(
        self,
        path: Path,
        db: sqlite3.Connection,
        salt: bytes,
        *,
        rehearsal: bool,
        whole: bool = False,
    ) -> None:
        self.path, self.db, self.salt, self.rehearsal = path, db, salt, rehearsal
        self._outer = rehearsal or whole
        self.scratch, self.forgotten = beside(path, ".scratch"), beside(path, ".forgotten")
        self._depth = 0
        self._names = dict[int, str]()  # of syncs, by their number
        db.create_function("ekey", 1, self.address_key, deterministic=True)
        db.create_function("rkey", 2, self.record_key, deterministic=True)
        if self._outer:
            db.execute("BEGIN IMMEDIATE")

    @property
    def keeps(self) -> bool:
        """Whether a transaction that has ended stays, whatever comes after it."""
        return not self._outer

    @contextlib.contextmanager
    def tx(self, *, scratch_only: bool = False) -> Iterator[None]:
        """What must hold together: all of it is kept, or nothing. Not to be nested.

        scratch_only: only the scratch file is written, so the state itself stays free for other writers.
        """
        assert self._depth == 0, "transactions do not nest"
        begin, keep, undo = (
            ("SAVEPOINT step", "RELEASE step", "ROLLBACK TO step")
            if self._outer
            else ("BEGIN" if scratch_only else "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        )
        with explained(self.path):
            self.db.execute(begin)
            self._depth = 1
            try:
                yield
                self.db.execute(keep)
            except BaseException:
                # A full disk may have rolled back already; then there is nothing left to undo.
                if self.db.in_transaction:
                    self.db.execute(undo)
                self._names.clear()  # a number that was given within it may be given again
                raise
            finally:
                self._depth = 0

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """All rows of a query whose answer is known to be small."""
        return self.db.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """The first row, or None."""
        row: sqlite3.Row | None = self.db.execute(sql, values).fetchone()
        return row

    def pairs(self, sql: str, *values: Any) -> dict[Any, Any]:
        """The first two columns of a query whose answer is known to be small, as a dict."""
        return {row[0]: row[1] for row in self.db.execute(sql, values)}

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.db.execute(sql, values).fetchone()
        return None if row is None else row[0]

    def write(self, sql: str, *values: Any) -> int:
        """Execute one statement; how many rows it changed."""
        return self.db.execute(sql, values).rowcount

    def address_key(self, email: str | None) -> str | None:
        """The ledger's key of an address (lower case): a keyed hash, so that no address stays in the ledger."""
        return None if email is None else "e:" + self._hash(email.encode())

    def record_key(self, sync: int | None, key: str | None) -> str | None:
        """The ledger's key of a record; hashed too, since the key may be an address. None for no record.

        Made of the sync's name: it outlives the database in `.forgotten`, and a state that is built anew counts the syncs anew.
        """
        if sync is None or key is None:
            return None
        if sync not in self._names:
            self._names[sync] = _name_of(self.db, sync)
        return "r:" + self._hash(_record_text(self._names[sync], key))

    def _hash(self, text: bytes) -> str:
        return hashlib.blake2b(text, key=self.salt, digest_size=16).hexdigest()

    def meta(self, name: str) -> Any:
        """A value of the meta table, or None."""
        text = self.value("SELECT v FROM meta WHERE k=?", name)
        return None if text is None else orjson.loads(text)

    def set_meta(self, name: str, value: Any) -> None:
        """Write a value of the meta table (inside a transaction)."""
        self.write("INSERT OR REPLACE INTO meta VALUES(?,?)", name, orjson.dumps(value).decode())

    def move_mark(self) -> None:
        """The newest state is this one: no copy that was made before can pass for it. Raises StateError."""
        file = marker.installed(self.path)
        number = max(marker.number_of(self.db), marker.read(file) or 0) + 1
        with self.tx():
            self.set_meta(marker.MARK, number)
        if not self._outer:
            marker.write(file, number)

    def keep(self) -> None:
        """The end of what was to be whole: all of it is kept, and this state is the newest one. Raises StateError."""
        assert self._outer
        assert not self.rehearsal
        with explained(self.path):
            self.move_mark()
            self.db.execute("COMMIT")
        self._outer = False
        marker.write(marker.installed(self.path), marker.number_of(self.db))

    def close(self) -> None:
        """Drop the scratch file and close; a rehearsal, and what was to be whole and is not, is rolled back."""
        with contextlib.suppress(sqlite3.Error):
            if self._outer and self.db.in_transaction:
                self.db.execute("ROLLBACK")
        self.db.close()
        remove_scratch(self.path)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's words into ours."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        raise StateError(
            f"The state {path} cannot be used", why=str(error), hint=_hint(name)
        ) from None


def _hint(name: str) -> str:
    hints = {
        "SQLITE_FULL": "The disk is full: make room; the next run goes on where this one stopped",
        "SQLITE_IOERR": "Look at the disk, its room and its limits; the next run goes on where this one stopped",
        "SQLITE_READONLY": "Make the file and its folder writable for the user that runs syncd",
        "SQLITE_CANTOPEN": "Make the folder writable for the user that runs syncd",
        "SQLITE_NOTADB": "It is not a state of syncd: set [state] path to another file",
        "SQLITE_CORRUPT": "It is damaged: restore it from a backup: syncd restore FILE",
        "SQLITE_BUSY": "Another program holds it open: close it",
    }
    return next(
        (hint for key, hint in hints.items() if name.startswith(key)),
        "Run `syncd check`; if it says the same, restore the state from a backup: syncd restore FILE",
    )


def remove_scratch(path: Path) -> None:
    """Delete the scratch file, also one that a killed run left behind."""
    for suffix in (".scratch", ".scratch-journal", ".scratch-wal", ".scratch-shm"):
        with contextlib.suppress(OSError):
            beside(path, suffix).unlink()


@contextlib.contextmanager
def open_state(path: Path, *, rehearsal: bool = False, rebuild: bool = False) -> Iterator[State]:
    """Open the state for the holder of its lock: created and migrated as needed, with an empty scratch database attached.

    rehearsal: see State; a state that is not there yet is then made in memory, and nothing is left on the disk.
    rebuild: also one that is lost or restored; nothing of what is done is kept but by `State.keep`.
    Raises StateError, StateLost, StateRestored.
    """
    fresh = not path.exists()
    if rebuild:
        marker.distrust(path)
    elif fresh and marker.installed(path).exists():
        raise _lost(path)
    in_memory = fresh and rehearsal
    with explained(path):
        if not in_memory:
            make_private(path)
        db = sqlite3.connect(
            ":memory:" if in_memory else path, isolation_level=None, check_same_thread=False
        )
        try:
            if _is_empty(db, path) and not rebuild and marker.installed(path).exists():
                raise _lost(path)  # cut to nothing
            _prepare(db, path, in_memory=in_memory)
            if not rebuild and marker.is_behind(
                marker.number_of(db), marker.read(marker.installed(path))
            ):
                raise _restored(path)
            salt = _salt(path, db, keep=not in_memory)
        except BaseException:
            db.close()
            raise
    state = State(path, db, salt, rehearsal=rehearsal, whole=rebuild)
    try:
        if fresh and not (in_memory or rebuild):
            marker.write(marker.installed(path), 0)  # from here on, a number without it is strange
        with explained(path):
            erase.take_over(state)  # whoever was forgotten is not known again by a backup
            events.take_over(state)  # what FluenzR has told meanwhile comes before anything else
        erase.leave_no_trace(state)
        with (
            explained(path),  # also what stands outside a transaction: scratch tables, queries
            _marked(state) if not (rehearsal or rebuild) else contextlib.nullcontext(),
        ):
            yield state
    finally:
        state.close()


@contextlib.contextmanager
def _marked(state: State) -> Iterator[None]:
    """Before anything is done with the state, and after it, every copy that was made so far becomes an old one."""
    state.move_mark()
    try:
        yield
    finally:
        with contextlib.suppress(StateError):  # the next one who opens it moves it on
            state.move_mark()


def _lost(path: Path) -> StateLost:
    return StateLost(
        f"The state {path} was here and is gone",
        why="Without it nobody knows who was mailed already",
        hint="Restore it from a backup: syncd restore FILE; without one run `syncd reconcile`, which builds it anew and mails nobody",
    )


def _restored(path: Path) -> StateRestored:
    return StateRestored(
        f"The state {path} is not the newest one",
        why="It was restored from a backup, or its rebuilding did not end: it does not know who was mailed since",
        hint="Run `syncd reconcile` first: it makes up for that from FluenzR and the sources, and mails nobody",
    )


def _prepare(db: sqlite3.Connection, path: Path, *, in_memory: bool) -> None:
    if sqlite3.sqlite_version_info < SQLITE_MIN:
        raise StateError(
            f"This Python comes with SQLite {sqlite3.sqlite_version}",
            why=f"The state needs {'.'.join(map(str, SQLITE_MIN))} or newer",
            hint="Use a newer Python, such as that of Debian 12, Ubuntu 22.04 or python.org",
        )
    db.row_factory = sqlite3.Row
    new = _is_empty(db, path)
    db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
    db.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    db.execute(f"PRAGMA journal_size_limit={WAL_BYTES_MAX}")
    db.execute("PRAGMA secure_delete=ON")
    if (
        new
    ):  # also where the file was there: a full disk or a crash may have ended the very first start
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
    else:
        copy.before_migration(db, path)
    migrations.apply(Database(db, execute_plugins=False))
    if not in_memory:
        remove_scratch(path)
        os.close(open_private(beside(path, ".scratch")))
    db.execute("ATTACH ? AS scratch", ("" if in_memory else str(beside(path, ".scratch")),))
    # The scratch is thrown away after a crash: it needs no journal on the disk.
    db.execute("PRAGMA scratch.journal_mode=MEMORY")
    db.execute("PRAGMA scratch.synchronous=OFF")


def _has_salt(db: sqlite3.Connection) -> bool:
    """Whether the very first start has come to its end: the salt is the last that it writes."""
    found = db.execute("SELECT 1 FROM sqlite_master WHERE type='table' AND name='meta'").fetchone()
    return bool(found and db.execute("SELECT 1 FROM meta WHERE k='salt'").fetchone())


def _is_empty(db: sqlite3.Connection, path: Path) -> bool:
    """Whether it has no tables yet. Refuses a database that is not ours, or that a newer version has written."""
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    identity = db.execute("PRAGMA application_id").fetchone()[0]
    if not tables and identity in (0, APPLICATION_ID):
        return True
    if identity != APPLICATION_ID:
        raise StateError(
            f"{path} is a database of something else",
            hint="Set [state] path to a file of its own",
        )
    done = (
        "SELECT name FROM _sqlite_migrations"
        if "_sqlite_migrations" in tables
        else "SELECT 1 LIMIT 0"
    )
    if newer := unknown(row[0] for row in db.execute(done)):
        raise StateError(
            f"{path} was written by a newer version of fluenzr-syncd",
            why=f"It has {', '.join(newer)}, which this version does not know",
            hint="Install the newer version again, or restore a backup from before it",
        )
    return False


def _salt(path: Path, db: sqlite3.Connection, *, keep: bool) -> bytes:
    """The key of the hashes. It stands in `.forgotten` too, which outlives the database. Raises StateError."""
    file = beside(path, ".forgotten")
    logged = forgotten.read(file).salt
    row = db.execute("SELECT v FROM meta WHERE k='salt'").fetchone()
    known = None if row is None else bytes.fromhex(orjson.loads(row[0]))
    if known is not None and logged is not None and known != logged:
        raise StateError(
            f"{file} belongs to another state than {path}",
            why="Its hashes mean nothing here: people who were forgotten would not be recognised",
            hint="Restore both from the same backup",
        )
    salt = known or logged or secrets.token_bytes(32)
    if keep and logged is None:
        forgotten.write_salt(file, salt)
    if known is None:
        db.execute("INSERT INTO meta VALUES('salt',?)", (orjson.dumps(salt.hex()).decode(),))
    return salt


def open_for_reading(path: Path) -> sqlite3.Connection | None:
    """The state for a command that only asks; no lock. None when there is no state yet. Raises StateError, StateLost."""
    if not path.exists():
        if marker.installed(path).exists():
            raise _lost(path)
        return None
    with explained(path):
        db = sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            empty = _is_empty(db, path) or not _has_salt(db)
        except BaseException:
            db.close()
            raise
    if not empty:
        return db
    db.close()  # the very first start is under way, or a full disk has ended it; else it was cut to nothing
    if marker.installed(path).exists():
        raise _lost(path)
    return None


def address_key(db: sqlite3.Connection, email: str) -> str:
    """As State.address_key, for a connection that only reads."""
    return _key(db, "e:", email.encode())


def record_key(db: sqlite3.Connection, sync: int, key: str) -> str:
    """As State.record_key, for a connection that only reads."""
    return _key(db, "r:", _record_text(_name_of(db, sync), key))


def _name_of(db: sqlite3.Connection, sync: int) -> str:
    return str(db.execute("SELECT name FROM sync WHERE sync=?", (sync,)).fetchone()[0])


def _record_text(sync: str, key: str) -> bytes:
    return b"%s\0%s" % (sync.encode(), key.encode())


def _key(db: sqlite3.Connection, prefix: str, text: bytes) -> str:
    salt = bytes.fromhex(
        orjson.loads(db.execute("SELECT v FROM meta WHERE k='salt'").fetchone()[0])
    )
    return prefix + hashlib.blake2b(text, key=salt, digest_size=16).hexdigest()


def forgotten_keys(path: Path) -> Container[str]:
    """Who was forgotten, also where the database was restored and does not know it yet. Raises StateError."""
    return forgotten.read(beside(path, ".forgotten")).keys


def save_probe(path: Path, answers: dict[str, Any], *, clock: Clock) -> None:
    """Keep what `check --probe` found out about the API's undocumented parts."""
    change(path, lambda state: state.set_meta("probe", answers), clock=clock)


def change(path: Path, work: Callable[[State], Any], *, clock: Clock, wait_s: float = 60.0) -> Any:
    """Take the lock, open the state, and do `work` in one transaction: what `approve` and its like need."""
    with hold(path, wait_s=wait_s, clock=clock), open_state(path) as state, state.tx():
        return work(state)
