"""What a download is judged by: the stamp of the file elsewhere, and the size of what comes."""

import tempfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO, Protocol

from syncd.errors import SourceError

BYTES_MAX = 2 * 1024**3  # some ten million people; more is not the file that was meant
SETTLED_S = 120  # times of files have whole seconds: one that is older than this stays what it is


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a place tells of a file without its bytes.

    text: another one means another file; "" when the place tells too little. size: in bytes. modified_s: epoch seconds. by_content:
    the text is made from the bytes, so that it cannot stay when they change.
    """

    text: str = ""
    size: int | None = None
    modified_s: float | None = None
    by_content: bool = False

    def lasting(self, now_s: float) -> str:
        """The text if the file cannot have changed behind it: within a second, times tell nothing."""
        if self.by_content or self.modified_s is None:
            return self.text
        return self.text if now_s - self.modified_s > SETTLED_S else ""


class Store(Protocol):
    """One place. A `name` is a URL without user and query. Whatever goes wrong is SourceError.

    pattern: the name of all files together.
    """

    pattern: str

    def session(self, name: str) -> AbstractContextManager[None]:
        """Several questions about this file, or these, over one connection."""

    def names(self) -> list[str]:
        """The files that the URL names."""

    def stamp(self, name: str) -> Stamp:
        """What the place tells of this file."""

    def fetch(self, name: str, into: "Intake") -> None:
        """The bytes of this file."""


class Intake:
    """Where a download goes: it counts, and refuses what is too large."""

    def __init__(self, name: str, file: IO[bytes]) -> None:
        self._name, self._file, self.size = name, file, 0

    def take(self, piece: bytes) -> None:
        """Write the next bytes. Raises SourceError."""
        self.size += len(piece)
        self.expect(self.size)
        try:
            self._file.write(piece)
        except OSError as error:
            raise SourceError(
                f"{self._name} cannot be kept while it is read",
                why=error.strerror or str(error),
                hint=f"Free space in {tempfile.gettempdir()}, or set TMPDIR to a larger folder",
            ) from None

    def expect(self, size: int) -> None:
        """Refuse a size that is too large, before it comes."""
        if size > BYTES_MAX:
            raise SourceError(
                f"{self._name} is larger than {BYTES_MAX // 1024**3} GiB",
                hint="Export only the columns that are needed, or several files",
            )
