"""Writes back into a CSV file: one line a thing that FluenzR has heard, for whatever reads it next.

The columns are key, email, heard, at. A line is written once: what stands in the file already is not appended again, so whoever has
read the file may empty it, but should keep its header. It is readable by its owner only.
"""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from syncd.connector import Context, Options
from syncd.errors import SourceError
from syncd.writer import News, Unwritten

HEADER = ("key", "email", "heard", "at")


class CsvWriterOptions(Options):
    """A file beside the source."""

    file: Path
    """The file to append to; made when it is not there."""


class CsvWriter:
    """One file that grows."""

    OPTIONS: ClassVar[type[Options]] = CsvWriterOptions
    SUMMARY: ClassVar[str] = "Appends to a CSV file: key, email, heard, at"
    BATCH_MAX: ClassVar[int] = 1000

    def __init__(self, options: CsvWriterOptions, context: Context) -> None:
        self._path = context.folder / options.file.expanduser()

    def check(self) -> str:
        """Whether the file, or its folder, can be written."""
        target = self._path if self._path.exists() else self._path.parent
        if not os.access(target, os.W_OK):
            raise SourceError(
                f"{self._path} cannot be written",
                hint="Make it writable for the user that runs syncd, or name another `file`",
            )
        return f"appends to {self._path.name}"

    def write(self, news: Sequence[News]) -> Iterator[Unwritten]:
        """Append what does not stand there yet, on the disk when it is over."""
        try:
            self._append(news)
        except OSError as error:
            raise SourceError(
                f"{self._path} cannot be written",
                why=error.strerror or str(error),
                hint="Make room or mend its rights; the next run writes it",
            ) from None
        yield from ()

    def _append(self, news: Sequence[News]) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(handle, "r+", newline="", encoding="utf-8") as file:
            wanted = {(one.key, one.heard.value): one for one in news}
            rows = csv.reader(file)
            is_empty = next(rows, None) is None
            for row in rows:
                if len(row) == len(HEADER):  # a line that a crash has cut is written again
                    wanted.pop((row[0], row[2]), None)
            out = csv.writer(file)
            if is_empty:
                out.writerow(HEADER)
            elif not self._ends_with_a_line():
                file.write("\r\n")
            out.writerows(
                (one.key, one.email, one.heard.value, one.at.isoformat()) for one in wanted.values()
            )
            file.flush()
            os.fsync(file.fileno())

    def _ends_with_a_line(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) in b"\r\n"
