"""The file `.installed`: a number that stands in the database too, so that a lost and a restored database are noticed.

Whoever opens the state to write moves the number on, before anything is sent and again at the end: first in the database, then in the
file. So the database is never behind, whenever the process dies; one that is behind was restored from a backup. A database that
has a number and no file came from elsewhere, alone: a backup as well.

What it cannot notice: both put back from the same copy; and a copy made within a run that was killed later, put back before any
other command. So backups leave this file out (`deploy/README.md`).
"""

import contextlib
import os
import sqlite3
from enum import StrEnum
from pathlib import Path

from syncd.errors import StateError

MARK = "mark"  # the number's name in the table meta
DIGITS_MAX = 18  # of a number; anything longer is none of ours


class Standing(StrEnum):
    """What stands at the state's place."""

    ABSENT = "absent"  # no state, and no trace of one
    LOST = "lost"  # it was here, and is gone
    RESTORED = "restored"  # it is older than what was sent, or its rebuilding did not end
    GOOD = "good"


def standing(path: Path) -> Standing:
    """How the state at `path` stands. Raises StateError."""
    if not path.exists():
        return Standing.LOST if installed(path).exists() else Standing.ABSENT
    behind = is_behind(_number_at(path), read(installed(path)))
    return Standing.RESTORED if behind else Standing.GOOD


def distrust(path: Path) -> None:
    """Whatever database stands there counts as restored from now on, also one that is yet to be made. Raises StateError."""
    file, known = installed(path), _number_at(path)
    if (read(file) or 0) <= known:
        write(file, known + 1)


def installed(path: Path) -> Path:
    """The file beside the state at `path`."""
    return path.with_name(path.name + ".installed")


def is_behind(known: int, file: int | None) -> bool:
    """Whether a database with this number is older than what was sent from here. file: None where there is none."""
    return known > 0 if file is None else known < file


def number_of(db: sqlite3.Connection) -> int:
    """The database's number; 0 before it has one."""
    row = db.execute("SELECT v FROM meta WHERE k=?", (MARK,)).fetchone()
    return 0 if row is None else int(row[0])


def read(file: Path) -> int | None:
    """The file's number; None where there is no file, or it holds something else. Raises StateError."""
    try:
        text = file.read_bytes().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(file, error) from None
    if not text:
        return 0
    return int(text) if text.isdigit() and len(text) <= DIGITS_MAX else None


def write(file: Path, number: int) -> None:
    """Put the number into the file, the whole of it or nothing. Raises StateError.

    A power cut may bring the number before this one back: that one too is newer than any copy of an earlier day.
    """
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"%d\n" % number)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(file)
    except OSError as error:
        raise _unusable(file, error) from None


def _number_at(path: Path) -> int:
    """The number of the database at `path`; 0 for none, or an empty one. Raises StateError."""
    if not path.exists():
        return 0
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as db:
            made = db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone()
            return 0 if made is None else number_of(db)
    except sqlite3.Error as error:
        raise StateError(
            f"The state {path} cannot be read", why=str(error), hint="Restore it from a backup"
        ) from None


def _unusable(file: Path, error: OSError) -> StateError:
    return StateError(
        f"{file} cannot be used",
        why=str(error.strerror),
        hint="It tells a restored state from the newest one: make it and its folder writable for the user that runs syncd",
    )
