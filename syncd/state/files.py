"""The files that stand beside the state: where they are, and that only their owner reads them."""

import contextlib
import os
from pathlib import Path

from syncd.errors import StateError


def beside(path: Path, suffix: str) -> Path:
    """The file that stands beside the state, such as `syncd.db.lock`."""
    return path.with_name(path.name + suffix)


def to_disk(path: Path) -> None:
    """What was written to this file, or made and renamed in this folder, outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_private(path: Path) -> int:
    """A descriptor of the file, made with its folder when it is not there, for its owner only. Raises StateError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise StateError(f"{path.parent} is not a folder", hint="Correct [state] path") from None
    except OSError as error:
        raise StateError(
            f"The folder {path.parent} cannot be made",
            why=str(error.strerror),
            hint="Correct [state] path, or make the folder for the user that runs syncd",
        ) from None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(
            f"{path} cannot be written",
            why=str(error.strerror),
            hint="Give the user that runs syncd a folder of its own for [state] path",
        ) from None
    with contextlib.suppress(OSError):  # a copy that was put back may be open to others
        os.fchmod(descriptor, 0o600)
    return descriptor


def make_private(path: Path) -> None:
    """The database's file is there, for its owner only. Raises StateError.

    One that is there is not opened: closing it would drop the locks that SQLite holds on it in this process, those of whoever
    just reads too, and with them the writer's, which SQLite shares (POSIX, advisory locks).
    """
    if not path.exists():
        os.close(open_private(path))
        return
    with contextlib.suppress(OSError):  # a copy that was put back may be open to others
        path.chmod(0o600)
