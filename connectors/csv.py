"""CSV files: one, or several by a pattern, with a header line; plain or gzip.

A record is a row; its values are text, exactly as they stand in the file. Each read is a full
read: what is no longer in the file is gone. The rules are those of RFC 4180, with any delimiter,
and strict: a row with too few or too many fields, a quote that is never closed or a file that
changes while it is read ends the read, for a slipped column would write one person's data to
another.
"""

import csv
import io
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import ClassVar

from pydantic import field_validator

from syncd.connector import Abilities, Context, Options, Record, Request, SourceField
from syncd.errors import ConfigError, SourceError
from syncd.files import FileOptions, TextFile, digest, examples, find, shown

FIELD_CHARS_MAX = 128 * 1024  # the csv module's own limit: longer is a quote that was never closed
SAMPLE_ROWS = 50  # rows that decide on the delimiter and give the examples
DELIMITERS = (",", ";", "\t", "|")

_Pick = Callable[[list[str]], Sequence[str]]


class CsvOptions(FileOptions):
    """The options of a CSV source. key: a column. delimiter: one character, "tab", or "auto"."""

    delimiter: str = "auto"

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str) -> str:
        if value == "tab":
            return "\t"
        if value != "auto" and (len(value) != 1 or value in '"\r\n\0'):
            raise ValueError('one character, "tab" or "auto" is expected')
        return value


class CsvConnector:
    """One configured CSV source."""

    OPTIONS: ClassVar[type[Options]] = CsvOptions
    ABILITIES: ClassVar[Abilities] = Abilities(token=True, fields_known=True)
    SUMMARY: ClassVar[str] = (
        "CSV files with a header line: one, or several by a pattern; plain or gzip"
    )

    def __init__(self, options: CsvOptions, context: Context) -> None:
        self._options, self._folder = options, context.folder

    def check(self) -> str:
        """Read everything and count: what a run would stumble over is found here."""
        files = find(self._options.path, self._folder)
        rows = sum(1 for _ in self.read(Request(fields=frozenset())))
        what = shown(files[0], self._folder) if len(files) == 1 else f"{len(files)} files"
        return f"{what}, {rows:,} rows"

    def fields(self) -> list[SourceField]:
        """The columns of the first file, in its order, with examples from its first rows."""
        path = find(self._options.path, self._folder)[0]
        with self._open(path) as file:
            table = _Table(file, path, self._options, self._folder)
            rows = (record.fields for record in islice(table.records(None), SAMPLE_ROWS))
            return examples(table.header, rows)

    def preset(self) -> None:
        """There is none: the names are the user's own."""

    def token(self) -> str:
        """A digest of the bytes of all files, of their names, and of the options."""
        return digest(
            find(self._options.path, self._folder), self._folder, self._options.model_dump_json()
        )

    def read(self, request: Request) -> Generator[Record, None, None]:
        """Yield each row of each file, in order."""
        first: _Table | None = None
        for path in find(self._options.path, self._folder):
            with self._open(path) as file:
                table = _Table(file, path, self._options, self._folder)
                first = first or table
                _same_columns(first, table)
                yield from table.records(request.fields)

    def _open(self, path: Path) -> TextFile:
        return TextFile(path, shown(path, self._folder), self._options.encoding)


class _Table:
    """One file: its header, read and judged, and its rows to come."""

    def __init__(self, file: TextFile, path: Path, options: CsvOptions, folder: Path) -> None:
        self._path, self._options = path, options
        self.name = shown(path, folder)
        self._delimiter = options.delimiter
        if self._delimiter == "auto":
            self._delimiter = _delimiter(file.sample(), path)
        csv.field_size_limit(FIELD_CHARS_MAX)
        self._reader = csv.reader(file.lines(), delimiter=self._delimiter, strict=True)
        self._line = 0  # the last line of the last whole row
        self.header = self._read_header()
        self._key = self._find_key()

    def _read_header(self) -> list[str]:
        try:
            row = next((row for row in self._reader if row), None)
        except csv.Error as error:
            raise self._broken(error) from None
        if row is None:
            raise SourceError(
                f"{self.name} is empty",
                why="There is no header line",
                hint="Check the export; a list that is really empty still has its header line",
            )
        self._line = self._reader.line_num
        header = [name.strip() for name in row]
        for number, name in enumerate(header, 1):
            if not name:
                raise self._bad_header(f"column {number} has no name")
            if header.index(name) != number - 1:
                first = header.index(name) + 1
                raise self._bad_header(f"columns {first} and {number} are both called {name!r}")
        return header

    def _bad_header(self, what: str) -> SourceError:
        return SourceError(
            f"{self.name}:{self._line}: {what}", hint="Each column needs a name of its own"
        )

    def _find_key(self) -> int | None:
        key = self._options.key
        if key is None:
            return None
        if key in self.header:
            return self.header.index(key)
        near = get_close_matches(key, self.header, n=1, cutoff=0.5)
        raise ConfigError(
            f"The key column {key!r} is not in {self.name}",
            why=f"Its columns are {', '.join(self.header)}",
            hint=f"Did you mean {near[0]!r}?" if near else "Set `key` to one of them",
        )

    def records(self, fields: frozenset[str] | None) -> Iterator[Record]:
        """The rows after the header; of each only the columns in `fields`, None for all."""
        # The hot loop: what csv.reader and a Record cost, and as little as possible besides.
        reader, width, prefix, line = self._reader, len(self.header), f"{self.name}:", self._line
        keyed, at = self._key is not None, self._key or 0
        names, pick = _columns(self.header, fields)
        try:
            for row in reader:
                if len(row) != width or not row[at]:
                    if not any(row):  # a blank line, also one of delimiters, as spreadsheets write
                        line = reader.line_num
                        continue
                    if len(row) != width:
                        raise self._ragged(line + 1, len(row))
                    if keyed:
                        raise self._keyless(line + 1)
                values = pick(row) if pick else row
                yield Record(
                    row[at] if keyed else "",
                    dict(zip(names, values)),  # noqa: B905  the lengths were compared above
                    f"{prefix}{line + 1}",
                )
                line = reader.line_num
        except csv.Error as error:
            self._line = line
            raise self._broken(error) from None

    def _ragged(self, line: int, width: int) -> SourceError:
        return SourceError(
            f"{self.name}:{line}: the row has {width} fields, the header has {len(self.header)}",
            hint="A delimiter inside a value needs quotes around the value",
        )

    def _keyless(self, line: int) -> SourceError:
        return SourceError(
            f"{self.name}:{line}: the key column {self._options.key!r} is empty",
            hint="Each row needs a key; choose another column as `key`, or leave `key` out",
        )

    def _broken(self, error: csv.Error) -> SourceError:
        opened, seen = self._last_opening(), self._reader.line_num
        hint = 'A quote inside a quoted value is written twice: ""'
        if str(error).startswith("field larger"):
            what = f"the field that begins here is longer than {FIELD_CHARS_MAX} characters"
            hint = "Usually a quote in this line is never closed; else leave this column out"
        elif str(error).startswith("unexpected end"):
            what = "the quoted field that opens here is never closed"
        else:
            what = f"the quoted field that opens here is closed wrongly in line {seen}"
        return SourceError(
            f"{self.name}:{opened}: {what}",
            why=str(error),
            hint=hint,
        )

    def _last_opening(self) -> int:
        """The line where the quoted field opened that the reader could not finish; else the row's.

        csv.reader tells only where it gave up, often the end of the file: the row is read again.
        """
        start = self._line
        with TextFile(self._path, self.name, self._options.encoding) as file:
            text = "".join(islice(file.lines(), start, self._reader.line_num))
        field = re.compile(f'"[^"]*(?:""[^"]*)*"?|[^{re.escape(self._delimiter)}\r\n]*')
        at = opened = 0
        while at < len(text):
            found = field.match(text, at)
            quoted, end = text[at] == '"', found.end() if found else at
            opened = at if quoted else opened
            if quoted and text[end : end + 1] not in (self._delimiter, "\r", "\n"):
                break
            at = end + 1
        return start + 1 + (text.count("\n", 0, opened) or text.count("\r", 0, opened))


def _columns(header: list[str], fields: frozenset[str] | None) -> tuple[list[str], _Pick | None]:
    """The names to read and how to pick their values out of a row; None for the row as it is."""
    if fields is None or fields.issuperset(header):
        return header, None
    columns = [number for number, name in enumerate(header) if name in fields]
    names = [header[number] for number in columns]
    if len(columns) > 1:
        return names, itemgetter(*columns)
    return names, lambda row: [row[number] for number in columns]


def _same_columns(first: _Table, other: _Table) -> None:
    lacking, added = set(first.header) - set(other.header), set(other.header) - set(first.header)
    if lacking or added:
        difference = [f"without {name!r}" for name in sorted(lacking)]
        difference += [f"with {name!r}" for name in sorted(added)]
        raise SourceError(
            f"{first.name} and {other.name} do not have the same columns",
            why=f"{other.name} is {', '.join(difference)}",
            hint="Make `path` match files of one kind only",
        )


def _delimiter(sample: str, path: Path) -> str:
    """The delimiter that divides most rows of `sample` as it divides the first one.

    Among equals the one with more columns; with no evidence at all, a comma, or a tab in a .tsv.
    """
    usual = "\t" if ".tsv" in path.suffixes else ","
    candidates = sorted(DELIMITERS, key=lambda delimiter: delimiter != usual)
    return max(candidates, key=lambda delimiter: _evidence(sample, delimiter))


def _evidence(sample: str, delimiter: str) -> tuple[float, int]:
    """The share of rows that have as many fields as the first, and that number; 0, 0 if it is 1."""
    widths: list[int] = []
    try:
        rows = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter)
        widths.extend(len(row) for row in islice(rows, SAMPLE_ROWS) if row)
    except csv.Error:
        pass  # a field that does not end: what was counted before it counts
    if not widths or widths[0] == 1:
        return 0.0, 0
    return widths.count(widths[0]) / len(widths), widths[0]
