"""Parquet files: one, or several by a pattern, here or at a URL.

A record is a row; each read is a full read: what is no longer in the file is gone. Only the columns in use are read. Values: times of
a zone become ISO texts in UTC, times without one ISO texts without; decimals become numbers where no digit is lost, else text; whole
numbers beyond 64 bits with sign become text; lists, structs and maps stay what they are in JSON; NaN is no value.
"""

import math
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import IO, Any, ClassVar
from uuid import UUID

import pyarrow
from pyarrow import parquet, types

from syncd.connector import Abilities, Context, Options, Record, Request, SourceField
from syncd.errors import SourceError
from syncd.files import File, FileOptions, Files, examples, key_column, same_columns

ROWS_AT_ONCE = 2000  # decoded together, and fewer where rows are long
BYTES_AT_ONCE = 32 * 1024**2
THRIFT_BYTES_MAX = 64 * 1024**2  # of the footer's texts and lists
SAMPLE_ROWS = 50  # rows that give the examples
INT_MAX = 2**63  # larger whole numbers become text, for JSON cannot carry them
MAGIC, MAGIC_ENCRYPTED = b"PAR1", b"PARE"
FAILURES = (pyarrow.ArrowException, OSError, OverflowError, UnicodeDecodeError)

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class ParquetOptions(FileOptions):
    """Rows of Parquet files; the key is a column."""


class ParquetConnector:
    """One configured Parquet source."""

    OPTIONS: ClassVar[type[Options]] = ParquetOptions
    ABILITIES: ClassVar[Abilities] = Abilities(token=True, fields_known=True)
    SUMMARY: ClassVar[str] = "Parquet files: one, or several by a pattern"

    def __init__(self, options: ParquetOptions, context: Context) -> None:
        self._options, self._files = options, Files(options, context)

    def check(self) -> str:
        """Read everything and count: what a run would stumble over is found here."""
        rows = sum(1 for _ in self.read(Request()))
        return self._files.counted(rows, "rows")

    def fields(self) -> list[SourceField]:
        """The columns of the first file, in its order, with examples from its first rows."""
        with _Table.opened(self._files.all()[0], self._options.key, keep=True) as table:
            records = table.records(None, rows_at_once=SAMPLE_ROWS)
            rows = [record.fields for _, record in zip(range(SAMPLE_ROWS), records, strict=False)]
            return examples(table.columns, rows)

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
            with _Table.opened(file, self._options.key) as table:
                if not first_name:
                    first, first_name = table.columns, file.name
                same_columns(first, first_name, table.columns, file.name)
                yield from table.records(request.fields, rows_at_once=ROWS_AT_ONCE)


class _Table:
    """One file, its footer read and judged."""

    def __init__(self, content: IO[bytes], name: str, key: str | None) -> None:
        self.name, self._key = name, key
        _refuse_others(content, name)
        with self._failures():
            self._file = parquet.ParquetFile(
                content,
                page_checksum_verification=True,
                pre_buffer=False,
                memory_map=False,
                thrift_string_size_limit=THRIFT_BYTES_MAX,
                thrift_container_size_limit=THRIFT_BYTES_MAX,
            )
            self.columns = [str(column) for column in self._file.schema_arrow.names]
        for at, column in enumerate(self.columns):
            if self.columns.index(column) != at:
                raise SourceError(
                    f"{name}: two columns are called {column!r}",
                    hint="Each column needs a name of its own",
                )
        key_column(key, self.columns, name)

    @classmethod
    @contextmanager
    def opened(cls, file: File, key: str | None, *, keep: bool = False) -> Iterator["_Table"]:
        """The table of a file, as long as the file is open."""
        with file.open(keep=keep) as content:
            table = cls(content, file.name, key)
            try:
                yield table
            finally:
                table._file.close()

    def records(self, fields: frozenset[str] | None, *, rows_at_once: int) -> Iterator[Record]:
        """The rows; of each only the columns in `fields`, None for all."""
        chosen = [name for name in self.columns if fields is None or name in fields]
        read = chosen if self._key is None or self._key in chosen else [*chosen, self._key]
        read = read or self.columns[:1]  # rows are counted by a column
        number = 0
        for batch in self._batches(read, rows_at_once):
            values = {name: self._values(batch, name, number) for name in read}
            keys = values[self._key] if self._key is not None else None
            columns = [values[name] for name in chosen]
            rows = zip(*columns, strict=True) if columns else iter([()] * batch.num_rows)
            for at, row in enumerate(rows):
                number += 1
                key = self._key_of(keys[at], number) if keys is not None else ""
                yield Record(key, dict(zip(chosen, row, strict=True)), f"{self.name}:{number}")

    def _batches(self, columns: list[str], rows_at_once: int) -> Iterator[Any]:
        metadata = self._file.metadata
        size = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
        each = max(1, size // max(1, metadata.num_rows))
        batches = self._file.iter_batches(
            batch_size=max(1, min(rows_at_once, BYTES_AT_ONCE // each)),
            columns=columns,
            use_threads=False,
        )
        while True:
            with self._failures():
                batch = next(batches, None)
            if batch is None:
                return
            yield batch

    def _values(self, batch: Any, column: str, before: int) -> list[Any]:
        """The values of one column of a batch. `before`: rows of the file that came earlier."""
        array = batch.column(batch.schema.get_field_index(column))
        with self._failures():
            values, convert = _pythonic(array)
        if convert is None:
            return values
        found: list[Any] = []
        try:
            found.extend(None if value is None else convert(value) for value in values)
        except ValueError as error:
            raise SourceError(
                f"{self.name}:{before + len(found) + 1}: the column {column!r} cannot be used",
                why=str(error),
                hint="Correct the value, or leave the column out of the mapping",
            ) from None
        return found

    def _key_of(self, value: Any, number: int) -> str:
        if type(value) is int or (type(value) is str and value):
            return str(value)
        raise SourceError(
            f"{self.name}:{number}: there is no usable key in {self._key!r}",
            why="A key is a text that is not empty, or a whole number",
            hint="Each row needs a key; choose another column as `key`, or leave `key` out",
        )

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            why = str(error).partition("\n")[0]
            raise SourceError(
                f"{self.name}: the Parquet file is damaged, or not to be read",
                why=why[:300],
                hint="Export it again",
            ) from None


def _refuse_others(content: IO[bytes], name: str) -> None:
    content.seek(0)
    magic = content.read(len(MAGIC))
    content.seek(0)
    if magic == MAGIC_ENCRYPTED:
        raise SourceError(f"{name} is encrypted", hint="Export it without encryption")
    if magic != MAGIC:
        what = "is not a Parquet file" if magic else "is empty"
        raise SourceError(f"{name} {what}", hint="Check `path`")


def _pythonic(array: Any) -> tuple[list[Any], Callable[[Any], Any] | None]:
    """The values, and what makes each of them plain; None where they are already."""
    kind = array.type
    if types.is_float32(kind) or types.is_float16(kind):  # by their own shortest digits
        array = array.cast(pyarrow.string())
        return array.to_pylist(), lambda text: _plain(float(text))
    wanted = _readable(kind)
    if wanted != kind:
        array = array.cast(wanted, safe=False)
    if types.is_boolean(wanted) or (types.is_integer(wanted) and wanted != pyarrow.uint64()):
        return array.to_pylist(), None
    if types.is_float64(wanted):
        return array.to_pylist(), _float
    if types.is_string(wanted) or types.is_large_string(wanted):
        return array.to_pylist(), None
    return array.to_pylist(), _plain


def _readable(kind: Any) -> Any:
    """The type in which Python can hold all values: microseconds, and values instead of numbers of a dictionary."""
    if types.is_dictionary(kind):
        return _readable(kind.value_type)
    if types.is_timestamp(kind):
        return pyarrow.timestamp("us", kind.tz and "UTC")
    if types.is_time64(kind):
        return pyarrow.time64("us")
    if types.is_duration(kind):
        return pyarrow.duration("us")
    if types.is_large_list(kind):
        return pyarrow.large_list(_readable(kind.value_type))
    if types.is_list(kind):
        return pyarrow.list_(_readable(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([field.with_type(_readable(field.type)) for field in kind])
    if types.is_map(kind):
        return pyarrow.map_(_readable(kind.key_type), _readable(kind.item_type))
    return kind


def _plain(value: Any) -> Any:  # noqa: C901  one branch for each kind of value
    """A value as JSON can carry it, without loss. Raises ValueError for what cannot be."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -INT_MAX < value < INT_MAX else str(value)
        case float():
            return _float(value)
        case Decimal():
            return _decimal(value)
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case date() | time():
            return value.isoformat()
        case timedelta() | UUID():
            return str(value)
        case bytes():
            return _decoded(value)
        case dict():
            return {_name(name): _plain(each) for name, each in value.items()}
        case list():
            if value and all(isinstance(each, tuple) and len(each) == 2 for each in value):
                return {_name(name): _plain(each) for name, each in value}  # a map
            return [_plain(each) for each in value]
    raise ValueError(f"It holds values of the kind {type(value).__name__}")


def _name(value: Any) -> str:
    plain = _plain(value)
    if isinstance(plain, str | int):
        return str(plain)
    raise ValueError("It holds a map whose keys are neither text nor whole numbers")


def _float(value: float) -> float | None:
    return None if math.isnan(value) else value


def _decimal(value: Decimal) -> int | float | str:
    if value == value.to_integral_value():
        return int(value) if abs(value) < INT_MAX else f"{value:f}"
    if Decimal(repr(float(value))) == value:
        return float(value)
    return f"{value:f}"


def _decoded(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ValueError("It holds binary data") from None
    if _CONTROLS.search(text):
        raise ValueError("It holds binary data")
    return text
