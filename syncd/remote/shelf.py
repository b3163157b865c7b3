"""Files that fsspec reaches: which ones a pattern names, what is told of them, their bytes.

What is particular to a kind of place (how to connect, what its errors mean) is its own module's business. The place is connected anew
for each download: between two files of a pattern, an hour may pass.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import PurePosixPath
from typing import Any, Protocol

from syncd.errors import SourceError
from syncd.remote.intake import Intake, Stamp

FILES_MAX = 10_000  # more files than this is a pattern that took in the wrong folder
PIECE_BYTES = 1024 * 1024

_MAGIC = re.compile(r"[*?\[]")


class Place(Protocol):
    """A kind of place. root: what stands before fsspec's path in the name of a file."""

    root: str

    def path(self, url: str) -> str:
        """The path or pattern in a URL, as fsspec writes it."""

    def reached(self, name: str) -> AbstractContextManager[Any]:
        """The file system, connected; whatever goes wrong with `name` inside becomes SourceError."""

    def stamp(self, info: Mapping[str, Any]) -> Stamp:
        """What fsspec's `info` of a file tells."""

    def opened(self, system: Any, path: str) -> AbstractContextManager[Any]:
        """The file, to be read from its beginning to its end."""


class Shelf:
    """The store of one URL, which may be a pattern."""

    def __init__(self, url: str, place: Place) -> None:
        self._place = place
        self._path = place.path(url)
        self.pattern = place.root + self._path
        self._system: Any = None  # connected, within a session

    @contextmanager
    def session(self, name: str) -> Iterator[None]:
        """One connection for all questions inside."""
        if self._system is not None:
            yield
            return
        with self._place.reached(name) as self._system:
            try:
                yield
            finally:
                self._system = None

    @contextmanager
    def _reached(self, name: str) -> Iterator[Any]:
        if self._system is not None:
            yield self._system
            return
        with self._place.reached(name) as system:
            yield system

    def names(self) -> list[str]:
        """The files, sorted; a path that exists is taken literally. Raises SourceError."""
        name = self.pattern
        if not _MAGIC.search(self._path):
            return [name]
        with self._reached(name) as system:
            if system.exists(self._path):
                return [name]
            found = system.glob(self._path, detail=True)
        return self._files(name, found.items())

    def _files(self, pattern: str, found: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
        hidden = PurePosixPath(self._path).name.startswith(".")
        paths = [path for path, info in found if info["type"] != "directory"]
        paths = [path for path in paths if hidden or not PurePosixPath(path).name.startswith(".")]
        if len(paths) > FILES_MAX:
            raise SourceError(
                f"{pattern} matches more than {FILES_MAX} files", hint="Narrow `path`"
            )
        if not paths:
            raise SourceError(f"No file matches {pattern}", hint="Correct `path`")
        return sorted(self._place.root + path for path in paths)

    def stamp(self, name: str) -> Stamp:
        """What the place tells of a file. Raises SourceError."""
        with self._reached(name) as system:
            info = system.info(name.removeprefix(self._place.root))
        if info["type"] == "directory":
            raise SourceError(
                f"{name} is not a file, but a folder",
                hint="Let `path` name a file in it, or a pattern such as people/*.csv",
            )
        return self._place.stamp(info)

    def fetch(self, name: str, into: Intake) -> None:
        """Download a file. Raises SourceError."""
        path = name.removeprefix(self._place.root)
        with self._reached(name) as system, self._place.opened(system, path) as file:
            while piece := file.read(PIECE_BYTES):
                into.take(piece)
