"""One copy of the state: made whole or not at all, and looked at before it is believed.

A copy is one file and needs no other: the salt and the ledger stand in it, whoever was forgotten included, so that `.forgotten` can be
written anew from it. `.installed` is left out on purpose (`syncd.state.marker`): by it a copy is told from the newest state.
It is made by SQLite's online backup, by whoever holds the lock: a copy made while others are mailed would not know of them.
"""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from sqlite_utils import Database

from syncd.errors import CopyRefused, StateError
from syncd.migrations import APPLICATION_ID, migrations, unknown
from syncd.state import marker
from syncd.state.erase import TRACES
from syncd.state.files import beside, to_disk

PART = ".part"  # what is not whole yet
STEP_PAGES = 2048  # 8 MiB: how far it goes before it may be stopped
MADE = "copied_at"  # in the copy's meta: epoch seconds
BEFORE = ".before-"  # beside the state: the copy that is made before its form is changed
DAMAGED = "SQLITE_CORRUPT", "SQLITE_NOTADB"


@dataclass(frozen=True, slots=True)
class Copy:
    """What a copy is. made_s: epoch seconds; None where somebody else made it. number: of `syncd.state.marker`; a newer one has more."""

    path: Path
    made_s: int | None
    number: int
    salt: bytes
    contact_count: int
    size: int


def write(
    db: sqlite3.Connection,
    to: Path,
    *,
    now_s: int | None = None,
    tell: Callable[[int, int], None] = lambda _done, _of: None,
) -> None:
    """Copy this database to `to`, in its place only when it is whole and sound; for its owner only.

    tell: called with the pages done, and of how many; what it raises ends the copy. Raises StateError: then nothing is left of it.
    """
    part = part_of(to)
    try:
        with _explained(to):
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
            part.chmod(0o600)
            with contextlib.closing(sqlite3.connect(part, isolation_level=None)) as new:
                db.backup(
                    new,
                    pages=STEP_PAGES,
                    progress=lambda _, left, pages: tell(pages - left, pages),
                )
                _finish(new, now_s)
                problem = damage(new)
            if problem is not None:
                raise StateError(
                    f"The copy {to} is not sound, so it was not kept",
                    why=problem,
                    hint="Run `syncd check`; if the state itself is damaged, restore an older copy: syncd restore FILE",
                )
            to_disk(part)
            part.replace(to)
            to_disk(to.parent)
    finally:
        remove(part)


def part_of(to: Path) -> Path:
    """Where a copy stands until it is whole; what a killed process has left of it."""
    return to.with_name(to.name + PART)


def _finish(new: sqlite3.Connection, now_s: int | None) -> None:
    """One file without a log beside it, which says when it was made, and has no trace of erased rows."""
    new.execute("PRAGMA journal_mode=DELETE")
    if new.execute("DELETE FROM meta WHERE k=?", (TRACES,)).rowcount:
        new.execute("VACUUM")
    if now_s is not None:
        new.execute("INSERT OR REPLACE INTO meta VALUES(?,?)", (MADE, str(now_s)))


def damage(db: sqlite3.Connection, *, thorough: bool = False) -> str | None:
    """What is wrong with the file, in SQLite's words; None when it is sound. thorough: each index entry is looked up as well."""
    check = "integrity_check" if thorough else "quick_check"
    try:
        found = str(db.execute(f"PRAGMA main.{check}(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "").startswith(DAMAGED):
            return str(error)
        raise
    return None if found == "ok" else found


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A copy that is open for reading; nothing is left beside it. Raises CopyRefused."""
    log = beside(file, "-wal")
    alone = "" if log.exists() and log.stat().st_size else "&immutable=1"
    try:
        with contextlib.closing(
            sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro{alone}", uri=True)
        ) as db:
            yield db
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        raise CopyRefused(
            f"{file} cannot be read as a copy of a state",
            why=str(error),
            hint="Name another copy",
            damaged=name == "SQLITE_CORRUPT",
        ) from None


def look(file: Path, *, salt: bytes | None = None, thorough: bool | None = None) -> Copy:
    """What this copy is. Raises CopyRefused: not a state, a newer version's, or a damaged one.

    salt: of the state that it must belong to, where that is known. thorough: whether its soundness is looked at, and how; None: it is not.
    """
    with reading(file) as db:
        _check_identity(db, file)
        if thorough is not None and (problem := damage(db, thorough=thorough)):
            raise _damaged(file, problem)
        found = _described(db, file)
    if salt not in (None, found.salt):
        raise CopyRefused(
            f"{file} is a copy of another state",
            why="Its hashes mean nothing here: people who were forgotten would not be recognised",
            hint="Name a copy of this one; or, if that state is meant, set [state] path to a file of its own",
        )
    return found


def _check_identity(db: sqlite3.Connection, file: Path) -> None:
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID or "meta" not in tables:
        raise CopyRefused(f"{file} is not a copy of a state of syncd", hint="Name another file")
    if newer := unknown(row[0] for row in db.execute("SELECT name FROM _sqlite_migrations")):
        raise CopyRefused(
            f"{file} was written by a newer version of fluenzr-syncd",
            why=f"It has {', '.join(newer)}, which this version does not know",
            hint="Install the newer version, or name an older copy",
        )


def _described(db: sqlite3.Connection, file: Path) -> Copy:
    meta = dict(db.execute("SELECT k,v FROM meta WHERE k IN ('salt',?)", (MADE,)))
    if "salt" not in meta:
        raise _damaged(file, "it has no salt: the very first start had not come to its end")
    return Copy(
        path=file,
        made_s=int(meta[MADE]) if MADE in meta else None,
        number=marker.number_of(db),
        salt=bytes.fromhex(orjson.loads(meta["salt"])),
        contact_count=db.execute("SELECT count(*) FROM contact").fetchone()[0],
        size=file.stat().st_size,
    )


def _damaged(file: Path, problem: str) -> CopyRefused:
    return CopyRefused(f"{file} is damaged", why=problem, hint="Name another copy", damaged=True)


def before_migration(db: sqlite3.Connection, path: Path) -> None:
    """Keep a copy beside an older state before it is brought to the form of this version. Raises StateError: then it is left as it is."""
    pending = migrations.pending(Database(db, execute_plugins=False))
    if not pending or not db.execute("SELECT 1 FROM sqlite_master WHERE name='meta'").fetchone():
        return
    try:
        write(db, beside(path, BEFORE + pending[0].name))
    except StateError as error:
        raise StateError(
            f"The state {path} is of an older version, and stays so: it is not changed without a copy beside it",
            why=f"{error.what}: {error.why}",
            hint=error.hint,
        ) from None


def kept_before_migration(path: Path) -> list[Path]:
    """The copies that `before_migration` has left beside the state."""
    return sorted(path.parent.glob(f"{_literal(path.name)}{BEFORE}m[0-9]*"))


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def remove(file: Path) -> None:
    """Delete a copy, and what SQLite may have left beside it, as far as that is possible."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            beside(file, suffix).unlink()


@contextlib.contextmanager
def _explained(to: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if (getattr(error, "sqlite_errorname", "") or "").startswith(DAMAGED):
            raise StateError(
                "The state is damaged, so no copy of it was made",
                why=str(error),
                hint="Restore a copy that is sound: syncd restore FILE",
            ) from None
        raise _unwritable(to, str(error)) from None
    except OSError as error:
        raise _unwritable(to, str(error.strerror)) from None


def _unwritable(to: Path, why: str) -> StateError:
    return StateError(
        f"The copy {to} cannot be written",
        why=why,
        hint="Make room there, and its folder writable for the user that runs syncd; the state itself is untouched",
    )
