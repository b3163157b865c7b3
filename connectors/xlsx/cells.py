"""The rows of one sheet, cell by cell, and what the values of cells mean.

Numbers are what the cell holds, to the 15 digits that Excel shows; what its format adds (percent signs, leading zeros) is no part of
them. Dates are ISO texts without a zone, for a workbook has none. What has no value that could be sent (a formula that was never
computed, #N/A) raises with the name of the cell, and is never taken for empty.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from connectors.xlsx.package import SHEET_BYTES_MAX, Formats, Package, Sheet, unescaped, whole
from syncd.errors import SourceError

ROWS_MAX, COLUMNS_MAX = 1_048_576, 16_384  # of Excel
TEXT_CHARS_MAX = 16 * 1024**2  # of one cell; Excel's own limit is 32,767
MERGED_MAX = 100_000
INT_MAX = 2**63  # larger whole numbers become text, for JSON cannot carry them
DAYS_MAX = 2_958_466  # 10000-01-01
DAY_MS = 24 * 3600 * 1000
TEXTUAL = frozenset({"str", "inlineStr"})

Value = str | int | float | bool | None

_RANGE = re.compile(r"([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})")
_WHOLE = re.compile(r"-?[0-9]{1,40}")


class Cell(NamedTuple):
    """One cell as it is written. kind: the attribute t. text: None where there is no value."""

    column: int
    kind: str
    style: int
    text: str | None
    formula: bool


class Rows:
    """The rows of a sheet that are not empty, in order, for one pass.

    merged: the ranges of merged cells, known after the last row.
    """

    def __init__(self, package: Package, sheet: Sheet) -> None:
        self._package, self._sheet = package, sheet
        self.merged: list[str] = []
        self._rows: list[tuple[int, list[Cell]]] = []
        self._number, self._column = 0, 0
        self._cells: list[Cell] = []
        self._kind, self._style, self._formula = "n", 0, False
        self._text: list[str] | None = None  # None: there is no value
        self._collecting, self._inside, self._phonetic = False, False, False
        self._columns: dict[str, int] = {}

    def __iter__(self) -> Iterator[tuple[int, list[Cell]]]:
        package, part = self._package, self._sheet.part
        for _ in package.parsing(part, SHEET_BYTES_MAX, self._start, self._end, self._take):
            yield from self._rows
            self._rows.clear()

    def _start(self, tag: str, attributes: Mapping[str, str]) -> None:
        # The hot path: two or three calls for each cell.
        if tag == "c":
            reference = attributes.get("r")
            letters = reference.rstrip("0123456789") if reference else ""
            self._column = self._columns.get(letters) or self._position(letters)
            self._kind = attributes.get("t", "n")
            style = attributes.get("s")
            self._style = whole(style) if style else 0
            self._text, self._formula, self._inside = None, False, True
        elif tag == "v" or (tag == "t" and not self._phonetic):
            if self._inside:
                self._text = [] if self._text is None else self._text
                self._collecting = True
        elif tag == "f":
            self._formula = True
        elif tag == "row":
            self._begin_row(attributes.get("r"))
        elif tag == "rPh":
            self._phonetic = True
        elif tag == "mergeCell":
            self.merged.append(attributes.get("ref", ""))
            if len(self.merged) > MERGED_MAX:
                raise self._broken(f"It has more than {MERGED_MAX:,} merged cells")

    def _take(self, text: str) -> None:
        if self._collecting and self._text is not None:
            self._text.append(text)

    def _end(self, tag: str) -> None:
        if tag in {"v", "t"}:
            self._collecting = False
        elif tag == "c":
            text = "".join(self._text) if self._text is not None else None
            if text is not None and len(text) > TEXT_CHARS_MAX:
                raise self._broken(f"A cell of row {self._number} is too long")
            if text or self._formula:
                self._cells.append(Cell(self._column, self._kind, self._style, text, self._formula))
            self._inside = False
        elif tag == "row":
            if self._cells:
                self._rows.append((self._number, self._cells))
        elif tag == "rPh":
            self._phonetic = False

    def _begin_row(self, written: str | None) -> None:
        before = self._number
        self._number = whole(written) if written else before + 1
        if not before < self._number <= ROWS_MAX:
            raise self._broken(f"Row {self._number} follows row {before}")
        self._cells, self._column = [], 0

    def _position(self, letters: str) -> int:
        """The number of a column; without letters, the next one."""
        if not letters:
            return self._column + 1
        column = column_number(letters)
        if not 0 < column <= COLUMNS_MAX:
            raise self._broken(f"There is no column {letters[:8]}")
        self._columns[letters] = column
        return column

    def _broken(self, why: str) -> SourceError:
        return SourceError(
            f"{self._package.name}: the sheet {self._sheet.name!r} is damaged",
            why=why,
            hint="Save the workbook again, as .xlsx",
        )


class Reader:
    """What the cells of one workbook mean."""

    def __init__(self, package: Package) -> None:
        self._strings: Sequence[str] = package.strings()
        self._formats: Formats = package.formats()
        self._uncomputed = package.uncomputed
        self._epoch = datetime(1904, 1, 1) if package.from_1904 else datetime(1899, 12, 30)  # noqa: DTZ001
        self._from_1900 = not package.from_1904

    def value(self, cell: Cell) -> Value:
        """The value; None for an empty cell. Raises ValueError with the reason why there is none."""
        _, kind, style, text, formula = cell
        if formula and self._uncomputed:
            raise ValueError("Its formula was never computed: a program wrote the file, not Excel")
        if text is None or (not text and kind not in TEXTUAL):
            if formula:
                raise ValueError("Its formula has no value: it was never computed")
            return None
        if kind == "s":
            at = whole(text) if text.isdecimal() else -1
            if not 0 <= at < len(self._strings):
                raise ValueError("Its text is missing in the file")
            return self._strings[at]
        if kind == "n":
            return self._number(text, style)
        if kind in TEXTUAL:
            return unescaped(text)
        if kind == "b":
            return text in ("1", "true")
        if kind == "e":
            raise ValueError(f"It shows the error {text[:20]}")
        return text  # "d", a date in ISO 8601

    def _number(self, text: str, style: int) -> Value:
        if style in self._formats.dates or style in self._formats.spans:
            try:
                return self._moment(float(text), span=style in self._formats.spans)
            except (OverflowError, ValueError):
                raise ValueError("It is shown as a date, and is outside the calendar") from None
        if _WHOLE.fullmatch(text):
            whole = int(text)
            return whole if -INT_MAX < whole < INT_MAX else text
        number = float(f"{float(text):.15g}")
        if not -1e308 < number < 1e308:  # of NaN and infinity neither is true
            raise ValueError("It is no number")
        return int(number) if number.is_integer() and abs(number) < INT_MAX else number

    def _moment(self, serial: float, *, span: bool) -> str:
        """Days since the epoch, as a span "26:30:00", a time, a date, or both."""
        days, rest = divmod(round(serial * DAY_MS), DAY_MS)
        if span:
            seconds, milliseconds = divmod(abs(round(serial * DAY_MS)), 1000)
            text = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
            return f"{'-' * (serial < 0)}{text}" + (f".{milliseconds:03}" if milliseconds else "")
        if not 0 <= days < DAYS_MAX:
            raise ValueError
        if days == 0:
            return (self._epoch + timedelta(milliseconds=rest)).time().isoformat()
        if self._from_1900 and days < 60:
            days += 1  # Excel counts a 29 February 1900, which never was
        found = self._epoch + timedelta(days=days, milliseconds=rest)
        return found.isoformat() if rest else found.date().isoformat()


def column_number(letters: str) -> int:
    """A is 1, AA is 27; 0 for what is no column."""
    number = 0
    for letter in letters[:4]:
        if not "A" <= letter <= "Z":
            return 0
        number = number * 26 + ord(letter) - ord("A") + 1
    return number


def column_letters(number: int) -> str:
    """1 is A, 27 is AA."""
    letters = ""
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def merged_below(ranges: Sequence[str], row: int, width: int) -> str:
    """The first merged range that reaches below `row` in the first `width` columns; "" if none."""
    for written in ranges:
        found = _RANGE.fullmatch(written)
        if found and int(found[4]) > row and column_number(found[1]) <= width:
            return written
    return ""
