"""Files elsewhere as things that can be opened: downloaded, judged, kept for a moment, gone.

A file is downloaded whole into a nameless temporary file for its owner only, which is gone with its last use, also after a crash. Its
stamp (a checksum, or size and time, as far as the place tells them) says without a download whether it is still the same.
"""

import tempfile
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from syncd.clock import Clock
from syncd.errors import SourceError
from syncd.remote.bucket import Bucket
from syncd.remote.intake import Intake, Store
from syncd.remote.options import Storage
from syncd.remote.sftp import Sftp
from syncd.remote.shelf import Shelf
from syncd.remote.web import Web


class RemoteFile:
    """One file elsewhere. name: its URL, without user and query, for places and errors."""

    def __init__(self, remote: "Remote", name: str) -> None:
        self._remote, self.name = remote, name

    def stamp(self) -> str:
        """What tells it from any other content; "" if only its bytes do. Raises SourceError."""
        return self._remote.stamp(self.name)

    @contextmanager
    def open(self, *, keep: bool = False) -> Iterator[IO[bytes]]:
        """The bytes, in a temporary file. keep: it will be read again soon. Raises SourceError."""
        file, lasting = self._remote.take(self.name)
        try:
            file.seek(0)
            yield file
        finally:
            if keep and lasting and not file.closed:
                self._remote.keep(self.name, lasting, file)
            else:
                file.close()


class Remote:
    """The files that one URL names, and at most one of them kept from one reading to the next."""

    def __init__(self, url: str, storage: Storage, folder: Path, clock: Clock) -> None:
        self._store = _store(url, storage, folder)
        self._clock = clock
        self._kept: tuple[str, str, IO[bytes]] | None = None

    def files(self) -> list[RemoteFile]:
        """The files, sorted; at least one, or SourceError."""
        return [RemoteFile(self, name) for name in self._store.names()]

    def session(self) -> AbstractContextManager[None]:
        """One connection for all questions inside."""
        return self._store.session(self._store.pattern)

    def stamp(self, name: str) -> str:
        """The stamp of a file if it lasts, else ""."""
        return self._store.stamp(name).lasting(self._clock.now_s())

    def take(self, name: str) -> tuple[IO[bytes], str]:
        """A file's bytes, for whoever closes them, and its stamp if it lasts."""
        with self._store.session(name):
            return self._take(name)

    def _take(self, name: str) -> tuple[IO[bytes], str]:
        before = self._store.stamp(name)
        lasting = before.lasting(self._clock.now_s())
        kept, self._kept = self._kept, None
        if kept is not None:
            if lasting and kept[:2] == (name, lasting):
                return kept[2], lasting
            kept[2].close()
        file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
        try:
            intake = Intake(name, file)
            intake.expect(before.size or 0)
            self._store.fetch(name, intake)
            after = self._store.stamp(name)
            if before.text != after.text or after.size not in (None, intake.size):
                raise SourceError(
                    f"{name} was changed while it was read",
                    why="Somebody is writing it: what was read may be half of it",
                    hint="It is read again in the next run; write to another name, then rename",
                )
            file.flush()
        except BaseException:
            file.close()
            raise
        return file, lasting

    def keep(self, name: str, stamp: str, file: IO[bytes]) -> None:
        """Hold these bytes for the next `take`, at most as long as this object lives."""
        self._kept = (name, stamp, file)
        weakref.finalize(self, file.close)


def _store(url: str, storage: Storage, folder: Path) -> Store:
    scheme = urlsplit(url).scheme
    if scheme == "https":
        return Web(url, storage)
    if scheme == "s3":
        return Shelf(url, Bucket(storage))
    return Shelf(url, Sftp(url, storage, folder))
