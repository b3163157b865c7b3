"""Excel workbooks (.xlsx, .xlsm): the rows of one sheet under a header row; one file, or several by a pattern.

A record is a row; its values are what its cells hold: text, numbers, booleans, dates as ISO texts. Each read is a full read: what is no
longer in the sheet is gone. Of formulas the value counts that was stored with them. Hidden rows and columns, and those that a filter
hides, are read like all others; a hidden sheet only if it is named. Merged cells below the header would leave people without the value
that is shown beside them, so they end the read, as whatever else cannot be read for sure.
"""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, ClassVar

from pydantic import Field

from connectors.xlsx.cells import Cell, Reader, Rows, Value, column_letters, merged_below
from connectors.xlsx.package import Package, Sheet
from syncd.connector import Abilities, Context, Options, Record, Request, SourceField
from syncd.errors import ConfigError, SourceError
from syncd.files import File, FileOptions, Files, examples, key_column, same_columns

SAMPLE_ROWS = 50  # rows that give the examples
ROW_MAX = 1_048_576


class XlsxOptions(FileOptions):
    """The rows of one sheet; the key is a column."""

    sheet: Annotated[str, Field(min_length=1)] | Annotated[int, Field(ge=1)] = 1
    """Its name, or its number among the visible tabs."""
    header_row: Annotated[int, Field(ge=1, le=ROW_MAX)] | None = None
    """Its number; without it, the first row that is not empty."""


class XlsxConnector:
    """One configured Excel source."""

    OPTIONS: ClassVar[type[Options]] = XlsxOptions
    ABILITIES: ClassVar[Abilities] = Abilities(token=True, fields_known=True)
    SUMMARY: ClassVar[str] = "Excel workbooks (.xlsx): the rows of one sheet, under a header row"

    def __init__(self, options: XlsxOptions, context: Context) -> None:
        self._options, self._files = options, Files(options, context)

    def check(self) -> str:
        """Read everything and count: what a run would stumble over is found here."""
        rows = sum(1 for _ in self.read(Request()))
        return self._files.counted(rows, "rows")

    def fields(self) -> list[SourceField]:
        """The columns of the first file, in its order, with examples from its first rows."""
        with self._table(self._files.all()[0], keep=True) as table:
            rows = (record.fields for record in islice(table.records(None), SAMPLE_ROWS))
            return examples(table.header, rows)

    def preset(self) -> None:
        """There is none: the names are the user's own."""

    def token(self) -> str:
        """A digest of all files, of their names, and of the options."""
        return self._files.token()

    def read(self, request: Request) -> Generator[Record, None, None]:
        """Yield each row of each file, in order."""
        first: list[str] = []
        first_name = ""
        for file in self._files.all():
            with self._table(file) as table:
                if not first_name:
                    first, first_name = table.header, file.name
                same_columns(first, first_name, table.header, file.name)
                yield from table.records(request.fields)

    @contextmanager
    def _table(self, file: File, *, keep: bool = False) -> Iterator["_Table"]:
        with file.open(keep=keep) as content, closing(Package(content, file.name)) as package:
            yield _Table(package, self._sheet(package), self._options)

    def _sheet(self, package: Package) -> Sheet:
        wanted = self._options.sheet
        if isinstance(wanted, int):
            visible = [sheet for sheet in package.sheets if not sheet.hidden]
            if wanted <= len(visible):
                return visible[wanted - 1]
            raise ConfigError(
                f"{package.name} has no sheet number {wanted}",
                why=f"Its visible sheets are {', '.join(repr(each.name) for each in visible)}",
                hint="Set `sheet` to one of them",
            )
        for sheet in package.sheets:
            if sheet.name == wanted:
                return sheet
        names = [sheet.name for sheet in package.sheets]
        near = get_close_matches(wanted, names, n=1, cutoff=0.5)
        raise ConfigError(
            f"{package.name} has no sheet {wanted!r}",
            why=f"Its sheets are {', '.join(repr(name) for name in names)}",
            hint=f"Did you mean {near[0]!r}?" if near else "Set `sheet` to one of them",
        )


class _Table:
    """One sheet: its header, read and judged, and its rows to come."""

    def __init__(self, package: Package, sheet: Sheet, options: XlsxOptions) -> None:
        self._options, self._reader = options, Reader(package)
        self._name = f"{package.name}:{sheet.name}"
        self._rows = Rows(package, sheet)
        self._pending = iter(self._rows)
        self._header_row, cells = self._find_header()
        self._columns = self._read_header(cells)  # column -> name
        self.header = list(self._columns.values())
        at = key_column(options.key, self.header, self._name)
        self._key = None if at is None else list(self._columns)[at]

    def _find_header(self) -> tuple[int, list[Cell]]:
        wanted = self._options.header_row
        for number, cells in self._pending:
            if number == wanted or (wanted is None and any(cell.text for cell in cells)):
                return number, cells
            if wanted is not None and number > wanted:
                break
        where = f"row {wanted} is" if wanted is not None else "the sheet is"
        raise SourceError(
            f"{self._name}: {where} empty",
            why="There is no header row",
            hint="Check `sheet` and `header_row`; a list that is really empty still has its header",
        )

    def _read_header(self, cells: list[Cell]) -> dict[int, str]:
        found: dict[int, str] = {}
        for cell in cells:
            name = str(self._value(cell, self._header_row) or "").strip()
            if not name:
                continue
            for column, other in found.items():
                if other == name:
                    raise SourceError(
                        f"{self._place(column, self._header_row)} and"
                        f" {column_letters(cell.column)}{self._header_row} are both called {name!r}",
                        hint="Each column needs a name of its own",
                    )
            found[cell.column] = name
        if not found:
            raise SourceError(
                f"{self._name}: row {self._header_row} names no column", hint="Set `header_row`"
            )
        return found

    def records(self, fields: frozenset[str] | None) -> Iterator[Record]:
        """The rows after the header; of each only the columns in `fields`, None for all."""
        columns, key_at, value = self._columns, self._key, self._value
        chosen = {
            column: name for column, name in columns.items() if fields is None or name in fields
        }
        empty: dict[str, Value] = dict.fromkeys(chosen.values())
        for number, cells in self._pending:
            found, key, blank = empty.copy(), "", True
            for cell in cells:
                column = cell.column
                if cell.text:
                    blank = False
                    if column not in columns:
                        raise self._nameless(column, number)
                if column in chosen:
                    found[chosen[column]] = value(cell, number)
                if column == key_at:
                    key = self._key_of(cell, number)
            if blank:
                continue
            if key_at is not None and not key:
                raise self._keyless(number)
            yield Record(key, found, f"{self._name}!{number}")
        merged = merged_below(self._rows.merged, self._header_row, max(columns))
        if merged:
            raise SourceError(
                f"{self._name}!{merged}: these cells are merged",
                why="Only the first of them holds the value that all of them show",
                hint="Select them, unmerge them, and fill in the value in each row",
            )

    def _value(self, cell: Cell, row: int) -> Value:
        try:
            return self._reader.value(cell)
        except ValueError as error:
            raise SourceError(
                f"{self._place(cell.column, row)}: the cell has no usable value",
                why=str(error),
                hint="Correct the cell, or open the file in Excel, let it compute, and save it",
            ) from None

    def _key_of(self, cell: Cell, row: int) -> str:
        key = self._value(cell, row)
        if isinstance(key, bool | float):
            raise self._keyless(row)
        return str(key) if key is not None else ""

    def _keyless(self, row: int) -> SourceError:
        return SourceError(
            f"{self._place(self._key or 1, row)}: there is no usable key in {self._options.key!r}",
            why="A key is a text that is not empty, or a whole number",
            hint="Each row needs a key; choose another column as `key`, or leave `key` out",
        )

    def _nameless(self, column: int, row: int) -> SourceError:
        return SourceError(
            f"{self._place(column, row)} holds a value, but its column has no name",
            why=f"{column_letters(column)}{self._header_row} in the header row is empty",
            hint="Name the column, clear the cell, or set `header_row`",
        )

    def _place(self, column: int, row: int) -> str:
        return f"{self._name}!{column_letters(column)}{row}"
