"""Putting a copy of the state back: looked at first, then put in place and reconciled with FluenzR, all of it or nothing.

A copy does not know who was mailed since it was made; so nothing is sent from it before `syncd.reconcile` has rebuilt it, which mails
nobody. What stood there before is kept aside until that has succeeded, and put back when it does not.
"""

from dataclasses import dataclass
from pathlib import Path

from syncd.clock import Clock
from syncd.config import Settings
from syncd.errors import StateError, UsageError
from syncd.fluenzr import FluenzR
from syncd.reconcile import Reconciled, reconcile_held
from syncd.state import aside, copies, copy, forgotten, marker
from syncd.state.copy import Copy
from syncd.state.files import beside
from syncd.state.marker import Standing
from syncd.state.store import hold, open_state
from syncd.watch import Watch

STAGED = ".restoring"  # beside the state: what is to stand in its place


@dataclass(frozen=True, slots=True)
class Offer:
    """What would be put back, and over what. was: None: something that cannot be read."""

    copy: Copy
    was: Standing | None


def offer(settings: Settings, file: Path) -> Offer:
    """Look at a copy, thoroughly, before anything is asked or done. Raises UsageError, CopyRefused, StateError."""
    path = settings.state.path
    if not file.is_file():
        raise UsageError(
            f"There is no file {file}", hint="Name a copy that `syncd backup` has made"
        )
    if path.exists() and file.samefile(path):
        raise UsageError(f"{file} is the state itself", hint="Name a copy of it")
    return Offer(copy.look(file, salt=_salt(path), thorough=True), standing(settings))


def standing(settings: Settings) -> Standing | None:
    """What stands in the state's place; None: something that cannot be read."""
    try:
        return marker.standing(settings.state.path)
    except StateError:
        return None


def _salt(path: Path) -> bytes | None:
    """That of the state of this place, also where its database is lost or damaged; None where there never was one. Raises StateError."""
    logged = forgotten.read(beside(path, ".forgotten")).salt
    if logged is not None or not path.exists():
        return logged
    try:
        return copy.look(path).salt
    except StateError:
        return None


def restore(
    settings: Settings, file: Path, *, api: FluenzR, clock: Clock, watch: Watch, wait_s: float
) -> Reconciled:
    """Put the copy in the state's place, and rebuild from it what is known today. wait_s: for the lock.

    Raises UsageError, CopyRefused, StateError, SourceError, FluenzrError, ConfigError, Interrupted: then what stood there before stands
    there again; where nothing stood, the copy does, and nothing is sent from it before `syncd reconcile`.
    """
    path = settings.state.path
    with hold(path, wait_s=wait_s, clock=clock):
        aside.put_back(path)  # of a restoring that was killed
        found = offer(settings, file).copy
        elsewhere = copies.remembered_at(path) if path.exists() else []
        _put(path, found)
        try:
            done = reconcile_held(settings, api=api, clock=clock, watch=watch, lost=True)
        except BaseException:
            aside.put_back(path)
            raise
        with open_state(path) as state:
            copies.remember(state, elsewhere)  # those that the older one did not know yet
    return done


def _put(path: Path, found: Copy) -> None:
    """The copy stands in the state's place, and counts as restored from its first moment on; what was there is aside."""
    staged = beside(path, STAGED)
    try:
        with copy.reading(found.path) as db:
            copy.write(db, staged)
        copy.look(staged, salt=found.salt)
        aside.put(path)
        marker.write(
            marker.installed(path), max(found.number, marker.read(marker.installed(path)) or 0) + 1
        )
        staged.replace(path)
    except BaseException:
        copy.remove(staged)
        aside.put_back(path)
        raise
