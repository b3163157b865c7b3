"""What stood in the state's place, kept aside while a copy is put there, until that has succeeded.

The database with its log, and `.installed`: put back together they are what they were. `.forgotten` and `.inbox` stay where they are:
they hold what no copy may undo. Killed at any point, either the old state stands in its place, or nothing, or the copy, which
counts as restored; `put_back` ends in the same from each of them. To be called by the holder of the state's lock.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from syncd.errors import StateError
from syncd.state import marker
from syncd.state.files import beside, to_disk

ASIDE = ".before-restore"
NUMBER = (
    ASIDE + ".installed"
)  # written first and removed last: while it is there, so is what was put aside
THERE, NOT_THERE = b"+", b"-"
LOGS = ("-wal", "-shm", "-journal")  # of SQLite, beside a database


def put(path: Path) -> None:
    """Put the state that stands there aside, if there is one. Raises StateError."""
    with _explained(path):
        _empty_log(path)
        if path.exists():
            _note_number(path)
            path.rename(beside(path, ASIDE))
            if beside(path, "-wal").exists():
                beside(path, "-wal").rename(beside(path, ASIDE + "-wal"))
        for suffix in LOGS:
            beside(path, suffix).unlink(missing_ok=True)
        to_disk(path.parent)


def _note_number(path: Path) -> None:
    """`.installed` as it is, behind a sign that tells a file without a number from none."""
    file, note = marker.installed(path), beside(path, NUMBER)
    note.touch(mode=0o600)
    note.write_bytes(THERE + file.read_bytes() if file.exists() else NOT_THERE)
    to_disk(note)


def put_back(path: Path) -> bool:
    """Put back what was put aside, as it was; False when there is nothing. Raises StateError."""
    note = beside(path, NUMBER)
    if not note.exists():
        return False
    with _explained(path):
        old = beside(path, ASIDE)
        if old.exists():
            if path.exists():  # the copy; without it, the log that may stand there is the old one's
                for suffix in (*LOGS, ""):
                    beside(path, suffix).unlink(missing_ok=True)
            if beside(path, ASIDE + "-wal").exists():
                beside(path, ASIDE + "-wal").rename(beside(path, "-wal"))
            old.rename(path)
        _put_number_back(path, note.read_bytes())
        note.unlink()
        to_disk(path.parent)
    return True


def _put_number_back(path: Path, noted: bytes) -> None:
    file = marker.installed(path)
    if noted.startswith(THERE):
        part = file.with_name(file.name + ".part")
        part.touch(mode=0o600)
        part.write_bytes(noted.removeprefix(THERE))
        part.replace(file)
    elif noted == NOT_THERE:
        file.unlink(missing_ok=True)


def drop(path: Path) -> None:
    """It is not needed any more. Raises StateError."""
    with _explained(path):
        for suffix in (ASIDE, ASIDE + "-wal", ASIDE + "-shm", NUMBER):
            beside(path, suffix).unlink(missing_ok=True)


def there(path: Path) -> Path | None:
    """The database that was put aside; None when there is none."""
    old = beside(path, ASIDE)
    return old if old.exists() else None


def _empty_log(path: Path) -> None:
    """Bring what stands in the log into the file, as far as it is sound and nobody reads it; else the log goes along."""
    if path.exists():
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db,
        ):
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"The files beside {path} cannot be moved",
            why=str(error.strerror),
            hint="Make the folder writable for the user that runs syncd, then run the same command again",
        ) from None
