"""The file `.forgotten`, which outlives the database: the salt of the keyed hashes, and the keys of everybody who was forgotten.

One line a fact, appended and synced to the disk before anything else happens. Of several lines about one key the last one
counts; a line that a crash has cut is no line.

    salt <hex>            the key of the hashes; the first one counts
    forget <ledger key>   never created again; a contact of this address is to be deleted in FluenzR
    done <ledger key>     ... and was deleted there
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from syncd.errors import StateError

_SALT = re.compile(r"salt ([0-9a-f]{64})")
_FACT = re.compile(r"(forget|done) ([er]:[0-9a-f]{32})")


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What the file says. keys: of the never-ledger, each with whether FluenzR has nobody of it any more."""

    salt: bytes | None = None
    keys: dict[str, bool] = field(default_factory=dict)


def read(file: Path) -> Forgotten:
    """Everything that stands in the file; nothing where there is none. Raises StateError."""
    try:
        lines = file.read_text("ascii", errors="replace").splitlines()
    except FileNotFoundError:
        return Forgotten()
    except OSError as error:
        raise _unusable(file, error) from None
    salt, keys = None, dict[str, bool]()
    for line in lines:
        if salt is None and (found := _SALT.fullmatch(line)):
            salt = bytes.fromhex(found[1])
        elif found := _FACT.fullmatch(line):
            keys[found[2]] = found[1] == "done"
    return Forgotten(salt, keys)


def write_salt(file: Path, salt: bytes) -> None:
    """Keep the salt, before anything is hashed with it. Raises StateError."""
    _append(file, [f"salt {salt.hex()}"])


def write_forget(file: Path, keys: Iterable[str]) -> None:
    """These are forgotten from now on, whatever happens to the database. Raises StateError."""
    _append(file, [f"forget {key}" for key in keys])


def write_done(file: Path, keys: Iterable[str]) -> None:
    """FluenzR has nobody of these any more. Raises StateError."""
    _append(file, [f"done {key}" for key in keys])


def _append(file: Path, lines: list[str]) -> None:
    if not lines:
        return
    text = "".join(line + "\n" for line in lines).encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                text = b"\n" + text  # a crash has cut the last line
            while text:
                text = text[os.write(descriptor, text) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unusable(file, error) from None


def _unusable(file: Path, error: OSError) -> StateError:
    return StateError(
        f"{file} cannot be used",
        why=str(error.strerror),
        hint="It holds who was forgotten: make it readable and writable for the user that runs syncd",
    )
