"""The sealed plan: a file with a digest per change, so that exactly what somebody has looked at is sent, and nothing else.

JSON lines: a head that says for which account and configuration it was made, a row per person and sync with everything that
would be sent to that person, and an end with the number of rows. The words of a row are what its digest is made of.
"""

import contextlib
import hmac
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from syncd.core.change import Change
from syncd.core.step import digest_of
from syncd.errors import ConfigError, UsageError

FORMAT = "fluenzr-syncd plan"
VERSION = 1
LINE_BYTES_MAX = 4 * 1024 * 1024  # one person's fields; a longer line is not ours


@dataclass(frozen=True, slots=True)
class Head:
    """For what a plan was made. syncs: name -> version of its mapping and its source's options. made: ISO 8601."""

    fluenzr: str
    syncs: Mapping[str, str]
    made: str

    def dump(self) -> bytes:
        """The first line of the file."""
        return orjson.dumps(
            {
                "format": FORMAT,
                "version": VERSION,
                "made": self.made,
                "fluenzr": self.fluenzr,
                "syncs": dict(self.syncs),
            }
        )


class Writer:
    """Writes the file beside its place, readable by its owner only; `finish` puts it there, anything else leaves no trace."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path, self._part = path, path.with_name(path.name + ".part")
        self.count = 0
        _refuse_to_replace(path)
        with _explained(path):
            # A new file: one that lies there (of a killed process, or somebody's trap) may be open to others.
            self._part.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.fdopen(os.open(self._part, flags, 0o600), "wb")
            self._file.write(head.dump() + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._part.unlink()

    def add(self, change: Change) -> None:
        """One row more."""
        row = {**orjson.loads(change.dump()), "digest": digest_of(change).hex()}
        with _explained(self._path):
            self._file.write(orjson.dumps(row) + b"\n")
        self.count += 1

    def finish(self) -> None:
        """The plan is whole: from now on the file is there."""
        with _explained(self._path):
            self._file.write(orjson.dumps({"rows": self.count}) + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self._part.replace(self._path)


def _refuse_to_replace(path: Path) -> None:
    """Only an older plan is replaced, never somebody's own file."""
    if not path.exists():
        return
    try:
        read(path, whole=False)
    except UsageError as error:
        raise UsageError(
            f"{path} is there already, and it is no plan of syncd",
            why=error.why or error.what,
            hint="Name another file",
        ) from None


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"The plan {path} cannot be written", why=error.strerror or str(error),
            hint="Nothing was sent; name a file in a folder that you may write to",
        ) from None  # fmt: skip


@dataclass(frozen=True, slots=True)
class SealedPlan:
    """A plan that was read and found whole; its rows are read again when they are needed, for they may be many."""

    path: Path
    head: Head

    def check(self, *, fluenzr: str, syncs: Mapping[str, str]) -> None:
        """It was made for this account and this configuration. syncs: those of the configuration. Raises ConfigError."""
        hint = f"Make a new one: syncd plan --out {self.path}"
        if self.head.fluenzr != fluenzr:
            raise ConfigError(
                f"The plan {self.path} was made for another FluenzR: {self.head.fluenzr}",
                place="fluenzr.base_url", hint=hint,
            )  # fmt: skip
        for name, version in self.head.syncs.items():
            if syncs.get(name) != version:
                raise ConfigError(
                    f"The plan {self.path} was made with another configuration of this sync",
                    place=f"sync.{name}",
                    why="Its mapping, its filter or its source has changed since"
                    if name in syncs
                    else "The configuration no longer has it",
                    hint=hint,
                )

    def rows(self) -> Iterator[tuple[Change, bytes]]:
        """Every change, with its digest. Raises UsageError when the file is not whole, or a row is not as it was written."""
        with _opened(self.path) as lines:
            next(lines)
            for count, line in enumerate(lines):
                number = count + 2
                row = _object(self.path, line, number)
                if "rows" in row:
                    if row["rows"] != count or next(lines, None) is not None:
                        raise _broken(self.path, f"line {number}: it had {row['rows']} rows")
                    return
                yield _row(self.path, row, number)
        raise _broken(self.path, "its end is missing")


def read(path: Path, *, whole: bool = True) -> SealedPlan:
    """Open a sealed plan. whole: every row is looked at, too. Raises UsageError."""
    with _opened(path) as lines:
        head = _object(path, next(lines, b""), 1)
    if head.get("format") != FORMAT:
        raise _broken(path, "It does not begin as a plan does")
    if head.get("version") != VERSION:
        raise UsageError(
            f"The plan {path} was written by another version of fluenzr-syncd",
            why=f"It has version {head.get('version')} of the file's form; this one knows {VERSION}",
            hint=f"Make a new one: syncd plan --out {path}",
        )
    try:
        syncs = {str(name): str(version) for name, version in head["syncs"].items()}
        plan = SealedPlan(path, Head(str(head["fluenzr"]), syncs, str(head["made"])))
    except (KeyError, AttributeError):
        raise _broken(path, "line 1 lacks something") from None
    if whole:
        for change, _ in plan.rows():
            if change.sync not in syncs:
                raise _broken(path, f"its head does not name the sync {change.sync!r}")
    return plan


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Iterator[bytes]]:
    try:
        with path.open("rb") as file:
            yield iter(lambda: file.readline(LINE_BYTES_MAX), b"")
    except OSError as error:
        raise UsageError(
            f"The plan {path} cannot be read", why=error.strerror or str(error),
            hint=f"Make one: syncd plan --out {path}",
        ) from None  # fmt: skip


def _object(path: Path, line: bytes, number: int) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except ValueError:
        raise _broken(path, f"line {number} is not JSON") from None
    if not isinstance(found, dict):
        raise _broken(path, f"line {number} is not an object")
    return found


def _row(path: Path, row: dict[str, Any], number: int) -> tuple[Change, bytes]:
    try:
        change, digest = Change.load(orjson.dumps(row)), bytes.fromhex(row["digest"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _broken(path, f"line {number} lacks something") from None
    if not hmac.compare_digest(digest, digest_of(change)):
        raise _broken(path, f"line {number} was changed since it was written")
    return change, digest


def _broken(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} is not a sealed plan that can be used",
        why=why,
        hint="Make one: syncd plan --out FILE",
    )
