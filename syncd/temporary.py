"""What a read keeps on disk for its own length: a folder that nobody else can read, and rows that wait for their last version.

Both are deleted at the end, whichever way the read ends. Full disks become SourceErrors.
"""

import json
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
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


def _no_room(error: OSError) -> SourceError:
    return SourceError(
        f"A temporary file cannot be written in {tempfile.gettempdir()}",
        why=error.strerror or str(error),
        hint="Make room there, or set TMPDIR to another folder",
    )
