"""Backups: copies of the state, by hand at any time, on a schedule by the daemon; and what follows a run to keep the state in shape.

Where copies are, and that nobody who was forgotten stays in them: `syncd.state.copies`. Putting one back: `syncd.restore`.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import structlog

from syncd.clock import Clock
from syncd.config import BackupSettings, Settings
from syncd.core.result import Status, SyncResult
from syncd.errors import CopyRefused, Interrupted, StateBusy, StateError, SyncdError, UsageError
from syncd.state import copies, copy, forgotten, marker, room
from syncd.state.copy import Copy
from syncd.state.files import beside
from syncd.state.marker import Standing
from syncd.state.store import State, hold, open_for_reading, open_state
from syncd.watch import Watch

PHASE = "copy"
AGAIN_S = 3600.0  # after a copy that could not be made: a disk that is full stays so for a while
LATE_TIMES = 2  # `every`: after that something is wrong, and not just busy
BUSY_AGAIN_S = 60.0  # another process holds the state: a run of the command takes about that long

log = structlog.get_logger(__name__)
BACKUP_FAILED = "backup.failed"  # the copy that was due could not be made; tried again
BACKUP_MADE = "backup.made"  # the daemon has made a copy of the state
BACKUP_POSTPONED = "backup.postponed"  # another process holds the state; tried again
COPIES_POSTPONED = "copies.postponed"  # somebody who was forgotten may stand in a copy still; tried again after the next run


@dataclass(frozen=True, slots=True)
class Made:
    """A copy that was made and found sound. dropped: older ones that had to go for it. kept: how many are there now; None: by hand."""

    copy: Copy
    dropped: int = 0
    kept: int | None = None
    seconds: float = 0.0


def back_up(
    settings: Settings, file: Path | None, *, clock: Clock, watch: Watch, wait_s: float
) -> Made:
    """Copy the state to `file`, else into the folder of `[backup]`, where the oldest ones leave. wait_s: for the lock.

    Raises UsageError, StateError (nothing is left of the copy; the state is untouched), Interrupted.
    """
    path, started_s = settings.state.path, clock.monotonic_s()
    folder = _folder(settings.backup) if file is None else None
    if file is not None:
        _check_file(path, file)
    with hold(path, wait_s=wait_s, clock=clock):
        if marker.standing(path) is Standing.ABSENT:
            raise StateError(
                f"There is no state at {path}, so there is nothing to copy",
                hint="The first run makes it: syncd sync",
            )
        with open_state(path) as state:
            now_s = clock.now_s()
            to = file or copies.next_name(path, folder, now_s=now_s)  # type: ignore[arg-type]
            if file is not None and file.exists():
                copy.look(file, salt=state.salt)  # nothing else is ever overwritten
            found = copies.make(state, to, now_s=int(now_s), tell=_Teller(clock, watch).tell)
            dropped: list[Path] = []
            if settings.backup is not None and folder is not None:
                dropped = copies.prune(state, folder, keep=settings.backup.keep)
                copies.note_backup(state, now_s=int(now_s))
            if copies.are_due(state):
                _say_problems(copies.clean(state, folder_of(settings)))
            kept = None if folder is None else len(copies.in_folder(path, folder, salt=state.salt))
    watch.done()
    return Made(found, len(dropped), kept, round(clock.monotonic_s() - started_s, 3))


class _Teller:
    """Shows how far a copy is, and ends it when a stop was asked for."""

    def __init__(self, clock: Clock, watch: Watch) -> None:
        self._clock, self._watch, self._done = clock, watch, 0

    def tell(self, done: int, pages: int) -> None:
        """So many pages are done, of so many. Raises Interrupted."""
        if self._clock.stopped():
            raise Interrupted("Stopped on request: no copy was made")
        if not self._done:
            self._watch.phase("", PHASE, pages)
        self._watch.advance(done - self._done)
        self._done = done


def _folder(backup: BackupSettings | None) -> Path:
    """The folder of `[backup]`, made when only the last part of its path is missing."""
    if backup is None:
        raise UsageError(
            "It is not said where the copy goes",
            hint='Name a file: syncd backup FILE, or write [backup] with folder = "backups"',
        )
    try:
        backup.folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"The folder {backup.folder} cannot be made",
            why=str(error.strerror),
            hint="Correct [backup] folder, or make it for the user that runs syncd; is its disk mounted?",
        ) from None
    return backup.folder


def folder_of(settings: Settings) -> Path | None:
    """The folder of `[backup]`; None without that table."""
    return None if settings.backup is None else settings.backup.folder


def _check_file(path: Path, file: Path) -> None:
    if file.is_dir():
        raise UsageError(f"{file} is a folder", hint="Name a file in it")
    if not file.absolute().parent.is_dir():
        raise UsageError(
            f"There is no folder {file.absolute().parent}",
            hint="Make it, or correct the path; is its disk mounted?",
        )
    if file.absolute().parent.resolve() == path.parent.resolve() and (
        file.name == path.name or file.name.startswith(path.name + ".")
    ):
        raise UsageError(f"{file} is a name of the state's own files", hint="Name another file")


def last_s(settings: Settings) -> float | None:
    """When the last copy was made in the folder of `[backup]`; None: never, or nobody knows."""
    try:
        db = open_for_reading(settings.state.path)
    except StateError:
        return None
    if db is None:
        return None
    with closing(db):
        return copies.backed_up_s(db)


@dataclass(frozen=True, slots=True)
class Shelf:
    """The copies in the folder of `[backup]`. late: the newest one should have been followed by another."""

    folder: Path
    copies: list[Copy]
    damaged: list[Path]
    late: bool


def shelf(settings: Settings, *, now_s: float) -> Shelf | None:
    """What is there, the newest one looked at; None without `[backup]`. Raises StateError."""
    if settings.backup is None:
        return None
    folder, path = settings.backup.folder, settings.state.path
    salt = forgotten.read(beside(path, ".forgotten")).salt
    found = [] if salt is None else copies.in_folder(path, folder, salt=salt)
    damaged = copies.damaged_in(path, folder)
    if found:
        try:
            copy.look(found[0].path, thorough=False)
        except CopyRefused:
            damaged.append(found.pop(0).path)
    made_s = None if not found else found[0].made_s
    late = made_s is not None and now_s - made_s > LATE_TIMES * settings.backup.every_s
    return Shelf(folder, found, damaged, late)


def due_s(settings: Settings, *, now_s: float) -> float | None:
    """When the daemon makes the next copy; None: `[backup]` is not there."""
    if settings.backup is None:
        return None
    last = last_s(settings)
    if last is None:
        return now_s
    # A clock that was ahead once must not put it off for longer than usual.
    return max(now_s, min(last, now_s) + settings.backup.every_s)


def keep_up(settings: Settings, *, clock: Clock, watch: Watch) -> float | None:
    """Make the copy that is due, and say when the next one is. What is in the way of it is told in the log, and it is tried again.

    settings: as they are now; a reload may have taken `[backup]` away.
    """
    now_s = clock.now_s()
    at_s = due_s(settings, now_s=now_s)
    if settings.backup is None or at_s is None or at_s > now_s:
        return at_s
    again_s = min(AGAIN_S, settings.backup.every_s)
    try:
        if marker.standing(settings.state.path) is Standing.ABSENT:
            return now_s + again_s  # nothing has run yet
        made = back_up(settings, None, clock=clock, watch=watch, wait_s=0.0)
    except Interrupted:
        return now_s
    except StateBusy as error:
        log.info(BACKUP_POSTPONED, why=str(error), again_s=BUSY_AGAIN_S)
        return now_s + BUSY_AGAIN_S
    except (SyncdError, OSError) as error:
        log.error(BACKUP_FAILED, error=str(error), again_s=again_s)  # noqa: TRY400
        return now_s + again_s
    log.info(
        BACKUP_MADE, file=str(made.copy.path), contacts=made.copy.contact_count,
        bytes=made.copy.size, kept=made.kept, dropped=made.dropped, seconds=made.seconds,
    )  # fmt: skip
    return due_s(settings, now_s=now_s)


def after_run(settings: Settings, state: State, results: Iterable[SyncResult]) -> None:
    """What a run leaves to be done for the state itself. It fails no run: what cannot be done now is done after the next."""
    try:
        if copies.are_due(state):
            _say_problems(copies.clean(state, folder_of(settings)))
        if not any(result.status is Status.FAILED for result in results):
            copies.drop_before_migration(state.path)
        room.give_back(state)
    except StateError as error:
        log.warning(COPIES_POSTPONED, why=str(error))


def _say_problems(problems: list[str]) -> None:
    for problem in problems:
        log.warning(COPIES_POSTPONED, why=problem)
