"""What a read keeps on disk for its own length: a folder that nobody else can read, rows that wait for their last version, and
everything that a source gives before its run begins.

Both are deleted at the end, whichever way the read ends. Full disks become SourceErrors.
"""

import json
import pickle
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import orjson

from syncd.connector import Record, Tombstone
from syncd.errors import SourceError

PARTS, PART_BYTES = 32, 128 * 1024  # files of waiting rows; a smaller one stays in memory


class Folder:
    """A temporary folder (0700) of JSON files (0600); a context manager."""

    def __init__(self) -> None:
        try:
            self._folder = tempfile.TemporaryDirectory(prefix="syncd-")
        except OSError as error:
            raise _no_room(error) from None

    def __enter__(self) -> "Folder":
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.cleanup()

    def write(self, name: str, value: Any) -> str:
        """The path of a file that holds `value` as JSON. Raises SourceError."""
        path = Path(self._folder.name) / name
        try:
            path.touch(mode=0o600)
            path.write_text(json.dumps(value), encoding="utf-8")
        except OSError as error:
            raise _no_room(error) from None
        return str(path)

    def read(self, name: str) -> Any:
        """What a file holds now; None if it is gone, or not JSON any more."""
        try:
            return orjson.loads((Path(self._folder.name) / name).read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return None


class Latest:
    """Rows that wait until all have come; of each key the last one counts. A context manager; iterate once.

    The checksum of a key says its part: so one part at a time is in memory, and the order is the same in each read.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._parts = [
            self._stack.enter_context(
                tempfile.SpooledTemporaryFile(max_size=PART_BYTES)  # noqa: SIM115  it is in a stack
            )
            for _ in range(PARTS)
        ]

    def __enter__(self) -> "Latest":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def take(self, rows: Iterable[Record | Tombstone]) -> SourceError | None:
        """Keep `rows`; their values are plain JSON. Returns the error with which they ended."""
        parts, dumps, checksum = self._parts, orjson.dumps, zlib.crc32
        try:
            for row in rows:
                key = row.key
                kept = (key, row.fields, row.place) if isinstance(row, Record) else (key, row.kind)
                parts[checksum(key.encode()) % PARTS].write(dumps(kept) + b"\n")
        except SourceError as error:
            return error
        except OSError as error:
            return _no_room(error)
        return None

    def __iter__(self) -> Iterator[Record | Tombstone]:
        for part in self._parts:
            part.seek(0)
            last = {row[0]: row for row in map(orjson.loads, part)}
            yield from (Record(*row) if len(row) == 3 else Tombstone(*row) for row in last.values())


class Spool:
    """Things in their order, as many as there are, in a file without a name that only this process can read."""

    def __init__(self) -> None:
        """Raises SourceError where there is no room."""
        self._count = 0
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115  `close` is its end
        except OSError as error:
            raise _no_room(error) from None

    def put(self, thing: object) -> None:
        """Keep one more. Raises SourceError."""
        try:
            kept = pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise SourceError(
                "A record has a value that cannot be kept on disk until its turn comes",
                why=str(error),
                hint="Tell the connector's author: plain values such as text, numbers, dates, lists",
            ) from None
        try:
            self._file.write(kept)
        except OSError as error:
            raise _no_room(error) from None
        self._count += 1

    def __iter__(self) -> Iterator[Any]:
        """All of them. Raises SourceError."""
        try:
            self._file.seek(0)  # what is not written yet is written now
        except OSError as error:
            raise _no_room(error) from None
        for _ in range(self._count):
            yield pickle.load(self._file)  # noqa: S301  nobody else could write it

    def close(self) -> None:
        """Its room is free again."""
        with suppress(OSError):  # a full disk says so here once more
            self._file.close()


def _no_room(error: OSError) -> SourceError:
    return SourceError(
        f"A temporary file cannot be written in {tempfile.gettempdir()}",
        why=error.strerror or str(error),
        hint="Make room there, or set TMPDIR to another folder",
    )
