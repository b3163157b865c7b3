"""All copies of the state that we made: where they are, which are kept, and that whoever is forgotten is forgotten in them, too.

A copy is known by its name in the folder of `[backup]`, and, wherever it is, by the list in the state's meta. It is ours by its salt:
two states may share a folder, and a file that is not ours is never touched. To be called by the holder of the state's lock.
"""

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import orjson
from sqlite_utils import Database

from syncd.errors import CopyRefused, StateError
from syncd.migrations import migrations
from syncd.state import aside, copy, erase, forgotten
from syncd.state.copy import Copy
from syncd.state.erase import COPIES, TRACES
from syncd.state.store import State, explained

MADE_AT = "copies"  # meta: the paths of all copies that were made
BACKED_UP_AT = (
    "backed_up_at"  # meta: when the last one was made in the folder of `[backup]`; epoch seconds
)
SAME_SECOND_MAX = 100  # copies of one second


def next_name(state: Path, folder: Path, *, now_s: float) -> Path:
    """Where the next copy goes: named after the state and the time, so that names sort by age."""
    stamp = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
    names = [f"{state.stem}-{stamp}{more}.db" for more in ("", *_suffixes())]
    return next(folder / name for name in names if not (folder / name).exists())


def _suffixes() -> Iterator[str]:
    return (f"-{number}" for number in range(2, SAME_SECOND_MAX))


def in_folder(state: Path, folder: Path, *, salt: bytes) -> list[Copy]:
    """Our copies of this state in a folder, the newest first; what is damaged or another's is not among them. Raises StateError."""
    found = []
    for file in _named(state, folder):
        try:
            found.append(copy.look(file, salt=salt))
        except CopyRefused:
            continue
    return sorted(found, key=lambda one: (one.number, one.path.name), reverse=True)


def damaged_in(state: Path, folder: Path) -> list[Path]:
    """Files named as copies of this state that are damaged, as far as that shows at their beginning. Raises StateError."""
    return [file for file in _named(state, folder) if _is_damaged(file, thorough=None)]


def _named(state: Path, folder: Path) -> list[Path]:
    name = re.compile(re.escape(state.stem) + r"-\d{8}T\d{6}Z(-\d+)?\.db")
    try:
        return sorted(file for file in folder.iterdir() if name.fullmatch(file.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateError(
            f"The folder {folder} cannot be read",
            why=str(error.strerror),
            hint="Correct [backup] folder, or make it readable for the user that runs syncd",
        ) from None


def make(state: State, to: Path, *, now_s: int, tell: Callable[[int, int], None]) -> Copy:
    """Copy the state to `to`, and remember where. Raises StateError: then nothing is left of it."""
    with state.tx():  # before it is there: whatever becomes of this process, `forget` finds it
        _remember(state, [to])
    copy.write(state.db, to, now_s=now_s, tell=tell)
    return copy.look(to, salt=state.salt)


def _remember(state: State, paths: Iterable[Path]) -> None:
    """Also of these copies is known where they are; of those that are there no more it is forgotten (inside a transaction)."""
    known = []
    for path in remembered(state):
        copy.remove(copy.part_of(path))  # of a process that was killed
        if path.exists():
            known.append(path)
    state.set_meta(MADE_AT, sorted({str(path.absolute()) for path in (*known, *paths)}))


def remembered(state: State) -> list[Path]:
    """Where copies of this state were made."""
    return [Path(text) for text in state.meta(MADE_AT) or []]


def remembered_at(path: Path) -> list[Path]:
    """The same of a state that need not be sound; nothing where it cannot be read."""
    try:
        with copy.reading(path) as db:
            row = db.execute("SELECT v FROM meta WHERE k=?", (MADE_AT,)).fetchone()
    except StateError:
        return []
    return [Path(text) for text in orjson.loads(row[0])] if row else []


def remember(state: State, paths: Iterable[Path]) -> None:
    """Also these are copies of this state."""
    with state.tx():
        _remember(state, paths)


def note_backup(state: State, *, now_s: int) -> None:
    """A copy in the folder of `[backup]` was made."""
    with state.tx():
        state.set_meta(BACKED_UP_AT, now_s)


def backed_up_s(db: sqlite3.Connection) -> float | None:
    """When that was last; None: never."""
    row = db.execute("SELECT v FROM meta WHERE k=?", (BACKED_UP_AT,)).fetchone()
    return None if row is None else float(row[0])


def prune(state: State, folder: Path, *, keep: int) -> list[Path]:
    """Delete all but the newest copies in the folder; those that were deleted. Raises StateError."""
    old = [one.path for one in in_folder(state.path, folder, salt=state.salt)[keep:]]
    for file in old:
        copy.remove(file)
    return old


def drop_before_migration(path: Path) -> None:
    """The state works in its new form: the copies from before are not needed any more."""
    for file in copy.kept_before_migration(path):
        copy.remove(file)


def clean(state: State, folder: Path | None, *, named: Iterable[str] = ()) -> list[str]:
    """Erase everybody who was forgotten from every copy that we made; what is in the way of it, in words.

    A copy in which that cannot be done, for it is damaged, is deleted; so is one from before a change of the state's form.
    folder: of `[backup]`. named: as in `erase.erase_in_copy`.
    """
    keys = forgotten.read(state.forgotten).keys
    drop_before_migration(state.path)
    aside.drop(state.path)
    problems = []
    for file in _everywhere(state, folder):
        copy.remove(copy.part_of(file))  # of a process that was killed
        try:
            _clean(file, state.salt, keys, named)
        except StateError as error:
            if _is_damaged(file):
                copy.remove(file)
            elif not isinstance(error, CopyRefused):
                problems.append(f"The copy {file} may still hold the person: {error}")
    if not problems:
        with state.tx():
            state.write("DELETE FROM meta WHERE k=?", COPIES)
    return problems


def are_due(state: State) -> bool:
    """Whether somebody was erased, and the copies were not gone through since."""
    return state.meta(COPIES) is not None


def _everywhere(state: State, folder: Path | None) -> list[Path]:
    """Every file that may be a copy of ours; also one that is not whole yet."""
    found = set(remembered(state))
    if folder is not None:
        found |= set(_named(state.path, folder))
    return sorted(file for file in found if file.exists() or copy.part_of(file).exists())


def _clean(file: Path, salt: bytes, keys: dict[str, bool], named: Iterable[str]) -> None:
    """Raises CopyRefused: it is not ours, or damaged; StateError: it cannot be written."""
    if not file.exists():
        return
    copy.look(file, salt=salt)
    with explained(file), _opened(file, salt) as state:
        if erase.erase_in_copy(state, keys, named=named):
            state.db.execute("VACUUM")
            with state.tx():
                state.write("DELETE FROM meta WHERE k=?", TRACES)


def _is_damaged(file: Path, *, thorough: bool | None = False) -> bool:
    try:
        copy.look(file, thorough=thorough)
    except CopyRefused as refused:
        return refused.damaged
    return False


@contextmanager
def _opened(file: Path, salt: bytes) -> Iterator[State]:
    """A copy that is open for erasing, in the form of this version."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA secure_delete=ON")
        db.execute("PRAGMA journal_mode=DELETE")
        migrations.apply(Database(db, execute_plugins=False))
        db.execute("ATTACH '' AS scratch")
        yield State(file, db, salt, rehearsal=False)
