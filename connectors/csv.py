"""CSV files: one, or several by a pattern, here or at a URL, with a header line; plain or gzip.

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
from itertools import chain, islice, repeat
from operator import itemgetter
from pathlib import PurePath
from typing import ClassVar

from pydantic import field_validator

from syncd.connector import Abilities, Context, Options, Record, Request, SourceField, Table
from syncd.errors import SourceError
from syncd.files import (
    CSV_VALUE_CHARS_MAX,
    File,
    Files,
    TextFile,
    TextOptions,
    examples,
    key_column,
    same_columns,
)

BATCH_ROWS = 500  # rows at a time; their texts still fit into the processor's cache
SAMPLE_ROWS = 50  # rows that decide on the delimiter and give the examples
DELIMITERS = (",", ";", "\t", "|")

_Pick = Callable[[list[str]], Sequence[str]]


class CsvOptions(TextOptions):
    """Rows of text; the key is a column."""

    delimiter: str = "auto"
    """One character, `tab`, or `auto`."""

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
    ABILITIES: ClassVar[Abilities] = Abilities(token=True, fields_known=True, tables=True)
    SUMMARY: ClassVar[str] = (
        "CSV files with a header line: one, or several by a pattern; plain or gzip"
    )

    def __init__(self, options: CsvOptions, context: Context) -> None:
        self._options, self._files = options, Files(options, context)

    def check(self) -> str:
        """Read everything and count: what a run would stumble over is found here."""
        rows = sum(1 for _ in self.read(Request(fields=frozenset())))
        return self._files.counted(rows, "rows")

    def fields(self) -> list[SourceField]:
        """The columns of the first file, in its order, with examples from its first rows."""
        first = self._files.all()[0]
        with TextFile(first, self._options.encoding, keep=True) as text:
            table = _Table(text, first, self._options)
            rows = (record.fields for record in islice(table.records(None), SAMPLE_ROWS))
            return examples(table.header, rows)

    def preset(self) -> None:
        """There is none: the names are the user's own."""

    def token(self) -> str:
        """A digest of all files, of their names, and of the options."""
        return self._files.token()

    def read(self, request: Request) -> Generator[Record, None, None]:
        """Yield each row of each file, in order."""
        for table in self.tables(request):
            yield from table.records()

    def tables(self, request: Request) -> Generator[Table, None, None]:
        """The same, many rows at a time."""
        first: _Table | None = None
        for file in self._files.all():
            with TextFile(file, self._options.encoding) as text:
                table = _Table(text, file, self._options)
                first = first or table
                same_columns(first.header, first.name, table.header, table.name)
                yield from table.tables(request.fields)


class _Table:
    """One file: its header, read and judged, and its rows to come."""

    def __init__(self, text: TextFile, file: File, options: CsvOptions) -> None:
        self._file, self._options = file, options
        self.name = file.name
        self._delimiter = options.delimiter
        if self._delimiter == "auto":
            self._delimiter = _delimiter(text.sample(), self.name)
        csv.field_size_limit(CSV_VALUE_CHARS_MAX)
        self._reader = csv.reader(text.lines(), delimiter=self._delimiter, strict=True)
        self._line = 0  # the last line of the last whole row
        self.header = self._read_header()
        self._key = key_column(options.key, self.header, self.name)

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

    def records(self, fields: frozenset[str] | None) -> Iterator[Record]:
        """The rows after the header; of each only the columns in `fields`, None for all."""
        for table in self.tables(fields):
            yield from table.records()

    def tables(self, fields: frozenset[str] | None) -> Iterator[Table]:
        """The same, many rows at a time."""
        # The hot path: what csv.reader costs, and for a whole batch, not for a row, what there is to check.
        names, pick = _columns(self.header, fields)
        # The first row is out at once: whoever asks for a few does not wait for a thousand.
        for count in chain((1,), repeat(BATCH_ROWS)):
            rows, error = list[list[str]](), None
            try:
                rows.extend(islice(self._reader, count))
                if not rows:
                    return
            except (csv.Error, SourceError) as broken:  # the rows before it may say who opted out
                error = broken
            if rows:
                yield from self._judged(rows, names, pick, ordinary=error is None)
            if isinstance(error, csv.Error):
                raise self._broken(error) from None
            if error is not None:
                raise error

    def _judged(
        self, rows: list[list[str]], names: list[str], pick: _Pick | None, *, ordinary: bool
    ) -> Iterator[Table]:
        """These rows as a table, without blank ones. Raises SourceError at a wrong one, after those before it."""
        first, width, at = self._line, len(self.header), self._key or 0
        if (
            ordinary
            and self._reader.line_num - first == len(rows)
            and all(map(width.__eq__, map(len, rows)))
            and all(map(itemgetter(at), rows))
        ):
            self._line = self._reader.line_num
            yield self._table(rows, names, pick, range(first + 1, self._line + 1))
            return
        good, lines = list[list[str]](), list[int]()
        wrong: SourceError | None = None
        for row in rows:
            line = self._line + 1
            if len(row) == width and (row[at] or (self._key is None and any(row))):
                good.append(row)
                lines.append(line)
            elif any(row):  # else it is blank, also one of delimiters, as spreadsheets write
                wrong = self._keyless(line) if len(row) == width else self._ragged(line, len(row))
                break
            self._line = line + sum(map(_line_ends, row))
        yield self._table(good, names, pick, lines)
        if wrong is not None:
            raise wrong

    def _table(
        self, rows: list[list[str]], names: list[str], pick: _Pick | None, lines: Sequence[int]
    ) -> Table:
        prefix = f"{self.name}:"
        keys = [""] * len(rows) if self._key is None else list(map(itemgetter(self._key), rows))
        values = rows if pick is None else list(map(pick, rows))
        return Table(names, keys, values, lambda index: f"{prefix}{lines[index]}")

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
            what = f"the field that begins here is longer than {CSV_VALUE_CHARS_MAX} characters"
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
        with TextFile(self._file, self._options.encoding) as again:
            text = "".join(islice(again.lines(), start, self._reader.line_num))
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


def _line_ends(field: str) -> int:
    return field.count("\n") + field.count("\r") - field.count("\r\n")


def _columns(header: list[str], fields: frozenset[str] | None) -> tuple[list[str], _Pick | None]:
    """The names to read and how to pick their values out of a row; None for the row as it is."""
    if fields is None or fields.issuperset(header):
        return header, None
    names = sorted(name for name in header if name in fields)  # as a fingerprint takes them
    columns = [header.index(name) for name in names]
    if len(columns) > 1:
        return names, itemgetter(*columns)
    return names, lambda row: [row[number] for number in columns]


def _delimiter(sample: str, name: str) -> str:
    """The delimiter that divides most rows of `sample` as it divides the first one.

    Among equals the one with more columns; with no evidence at all, a comma, or a tab in a .tsv.
    """
    usual = "\t" if ".tsv" in PurePath(name).suffixes else ","
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
