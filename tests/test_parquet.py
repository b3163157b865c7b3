"""Parquet: every row once, with values that JSON can carry without loss, or an error that says where."""

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.parquet import ParquetConnector, ParquetOptions
from syncd.connector import Context, Record, Request
from syncd.errors import ConfigError, SourceError
from syncd.testing.conformance import ConnectorSuite

NOON = datetime(2026, 1, 31, 12)  # noqa: DTZ001  Parquet has times without a zone
PEOPLE = {"id": ["1", "2"], "email": ["ann@example.com", "bob@example.com"]}


@pytest.fixture
def source(tmp_path):
    """Write `table` to people.parquet in the configuration's folder; build the connector over it."""

    def build(table=None, *, name="people.parquet", key="id", path=None, **writing):
        if isinstance(table, bytes):
            (tmp_path / name).write_bytes(table)
        elif table is not None:
            table = pa.table(table) if isinstance(table, dict) else table
            parquet.write_table(table, tmp_path / name, **writing)
        options = {"path": path or name, "key": key}
        return ParquetConnector(ParquetOptions.model_validate(options), Context(tmp_path))

    return build


def read(connector, fields=None):
    return list(connector.read(Request(fields=fields)))


def values(source, given, kind):
    """What the values of one column become."""
    table = {"id": [str(at) for at in range(len(given))], "x": pa.array(given, kind)}
    return [record.fields["x"] for record in read(source(table))]


def test_rows_are_records_with_key_values_and_place(source):
    assert read(source(PEOPLE)) == [
        Record("1", {"id": "1", "email": "ann@example.com"}, "people.parquet:1"),
        Record("2", {"id": "2", "email": "bob@example.com"}, "people.parquet:2"),
    ]


def test_without_key_each_record_has_the_empty_key(source):
    assert [record.key for record in read(source(PEOPLE, key=None))] == ["", ""]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"email"}, {"email": "ann@example.com"}), ({"nowhere"}, {}), (set(), {})],
)
@pytest.mark.parametrize("key", ["id", None])
def test_only_the_fields_in_use_are_read_and_the_key_still_is(source, fields, expected, key):
    found = read(source(PEOPLE, key=key), frozenset(fields))
    assert [record.key for record in found] == (["1", "2"] if key else ["", ""])
    assert found[0].fields == expected


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        (pa.int64(), [1, -(2**63) + 1, None], [1, -(2**63) + 1, None]),
        (pa.uint64(), [2**63 - 1, 2**64 - 1], [2**63 - 1, str(2**64 - 1)]),
        (pa.bool_(), [True, None], [True, None]),
        (pa.float64(), [0.1, math.nan, 1.0], [0.1, None, 1.0]),
        (pa.float32(), [0.1, math.nan, 16777216.0], [0.1, None, 16777216.0]),
        (pa.decimal128(20, 2), [Decimal("7.00"), Decimal("0.10")], [7, 0.1]),
        (pa.decimal128(38, 10), [Decimal("1234567890123456789.0000000001")], None),
        (pa.decimal256(60, 0), [Decimal(10**40)], ["1" + "0" * 40]),
        (pa.date32(), [date(2026, 1, 31)], ["2026-01-31"]),
        (pa.time64("ns"), [time(12, 30)], ["12:30:00"]),
        (pa.duration("s"), [timedelta(hours=26)], ["1 day, 2:00:00"]),
        (pa.timestamp("ms"), [NOON], ["2026-01-31T12:00:00"]),
        (pa.string(), ["Zoë", "", None], ["Zoë", "", None]),
        (pa.large_string(), ["x"], ["x"]),
        (pa.dictionary(pa.int32(), pa.string()), ["a", None, "a"], ["a", None, "a"]),
        (pa.binary(), ["Zoë".encode()], ["Zoë"]),
        (pa.null(), [None], [None]),
        (pa.list_(pa.string()), [["a", "b"], [], None], [["a", "b"], [], None]),
        (pa.map_(pa.string(), pa.int32()), [[("a", 1)]], [{"a": 1}]),
        (
            pa.struct({"at": pa.timestamp("ns", "UTC"), "n": pa.decimal128(9, 2)}),
            [{"at": datetime(2026, 1, 31, tzinfo=UTC), "n": Decimal("1.50")}],
            [{"at": "2026-01-31T00:00:00+00:00", "n": 1.5}],
        ),
        (
            pa.list_(pa.struct({"d": pa.date32()})),
            [[{"d": date(2026, 1, 31)}]],
            [[{"d": "2026-01-31"}]],
        ),
    ],
)
def test_values_of_each_kind(source, kind, given, expected):
    expected = expected or [str(each) for each in given]
    found = values(source, given, kind)
    assert (found, [type(each) for each in found]) == (expected, [type(each) for each in expected])


def test_times_with_a_zone_are_told_in_utc(source):
    table = {
        "id": ["1"],
        "x": pa.array([1769860800_123456789], pa.timestamp("ns", "Europe/Paris")),
    }
    assert read(source(table))[0].fields["x"] == "2026-01-31T12:00:00.123456+00:00"


@pytest.mark.parametrize(
    ("kind", "given", "why"),
    [
        (pa.binary(), [b"fine", b"\xff\xfe"], "binary"),
        (pa.binary(), [b"fine", b"\x01"], "binary"),
        (pa.map_(pa.float64(), pa.int32()), [[], [(1.5, 1)]], "map"),
    ],
)
def test_values_that_nothing_can_carry_are_refused_with_their_row(source, kind, given, why):
    with pytest.raises(SourceError, match=r"people.parquet:2: the column 'x'") as caught:
        values(source, given, kind)
    assert why in caught.value.why


def test_times_outside_the_calendar_and_broken_texts_raise(source):
    for array in (
        pa.array([2**52], pa.timestamp("s")),
        pa.array([b"\xff"], pa.binary()).view(pa.string()),
    ):
        with pytest.raises(SourceError, match="damaged, or not to be read"):
            read(source({"id": ["1"], "x": array}))


def test_a_bad_value_in_a_column_that_is_not_in_use_harms_nobody(source):
    table = {**PEOPLE, "x": ["A\0B", ""]}
    assert len(read(source(table), frozenset({"email"}))) == 2


def test_hostile_texts_come_as_they_are(source):
    texts = [
        "=cmd|' /C calc'!A0",
        "ann@example.com, bob@example.com",
        "Ann@EXAMPLE.COM",
        "\u202eנועה\u202c",
        "🧑‍🚀",
        " spaces ",
        "two\nlines",
        "x" * 1_000_000,
    ]
    assert values(source, texts, pa.string()) == texts


@pytest.mark.parametrize("key", [None, "", 1.5, True, date(2026, 1, 1)])
def test_what_is_no_key_raises_with_its_row(source, key):
    with pytest.raises(SourceError, match=r"people.parquet:1: there is no usable key in 'id'"):
        read(source({"id": [key] if key != date(2026, 1, 1) else [[key]], "x": ["y"]}))


def test_keys_may_be_whole_numbers(source):
    assert [record.key for record in read(source({"id": [7, 8]}))] == ["7", "8"]


def test_missing_key_column_is_a_configuration_error_with_the_nearest_name(source):
    with pytest.raises(ConfigError, match="Did you mean 'id'"):
        source(PEOPLE, key="iid").fields()


def test_two_columns_of_one_name_are_refused(source):
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"])], names=["id", "id"])
    with pytest.raises(SourceError, match="two columns are called 'id'"):
        read(source(table))


def test_a_name_with_a_dot_is_no_path(source):
    table = {"id": ["1"], "a.b": ["flat"], "a": [{"b": "nested"}]}
    assert read(source(table), frozenset({"a.b"}))[0].fields == {"a.b": "flat"}
    assert read(source(table), frozenset({"a"}))[0].fields == {"a": {"b": "nested"}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"id,email\n", "is not a Parquet file"),
        (b"PARE" + b"\0" * 100, "is encrypted"),
        (b"PAR1" + b"\0" * 100, "damaged"),
    ],
)
def test_what_is_no_parquet_file_is_said_in_words(source, content, says):
    with pytest.raises(SourceError, match=says):
        read(source(content))


def test_a_page_whose_checksum_differs_raises(source, tmp_path):
    """Flipped bits of an uncompressed page would else be somebody's address."""
    connector = source(PEOPLE, compression="none", use_dictionary=False, write_page_checksum=True)
    path = tmp_path / "people.parquet"
    content, value = path.read_bytes(), b"\x0f\x00\x00\x00%s@example.com"  # after its length
    assert content.count(value % b"ann") == 1
    path.write_bytes(content.replace(value % b"ann", value % b"eve"))
    with pytest.raises(SourceError, match="damaged"):
        read(connector)


def test_a_file_that_is_cut_off_raises(source, tmp_path):
    connector = source(PEOPLE)
    path = tmp_path / "people.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="damaged"):
        connector.fields()


def test_a_file_that_changes_while_it_is_read_ends_the_read(source, tmp_path):
    events = source({"id": [str(n) for n in range(10)]}).read(Request())
    next(events)
    source({"id": ["1"]})
    with pytest.raises(SourceError, match="changed while it was read"):
        list(events)


def test_files_of_a_pattern_have_the_same_columns(source):
    source(PEOPLE, name="a.parquet")
    source({"email": ["c@example.com"], "id": ["3"]}, name="b.parquet")
    connector = source(path="?.parquet")
    assert [record.place for record in read(connector)] == [
        "a.parquet:1",
        "a.parquet:2",
        "b.parquet:1",
    ]
    assert connector.check() == "2 files, 3 rows"
    source({"id": ["4"]}, name="c.parquet")
    with pytest.raises(SourceError, match=r"a.parquet and c.parquet do not have the same columns"):
        read(connector)


def test_the_token_follows_the_bytes(source):
    token = source(PEOPLE).token()
    assert source().token() == token
    assert source({**PEOPLE, "email": ["x", "y"]}).token() != token


def test_fields_are_the_columns_with_examples(source):
    fields = source({"id": [1, 2], "a": [None, "x"], "b": [None, None]}).fields()
    assert [(field.name, field.example) for field in fields] == [("id", "1"), ("a", "x"), ("b", "")]


def test_memory_is_bounded_by_bytes_not_rows(source):
    """2,000 notes of a megabyte are not decoded together."""
    count = 300
    table = pa.table({"id": [str(n) for n in range(count)], "x": ["y" * 1_000_000] * count})
    connector = source(table, use_dictionary=False, row_group_size=20, compression="zstd")
    del table
    before, peak = pa.total_allocated_bytes(), 0
    for _ in connector.read(Request()):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 120_000_000


def test_closing_early_frees_the_file(source):
    def open_files():
        links = Path("/proc/self/fd").iterdir()
        return [str(link.readlink()) for link in links if link.exists()]

    events = source({"id": list(range(100_000))}).read(Request())
    list(islice(events, 3))
    assert any(name.endswith("people.parquet") for name in open_files())
    events.close()
    assert not any(name.endswith("people.parquet") for name in open_files())


class TestParquetKeepsThePromises(ConnectorSuite):
    def source(self, folder, records):
        schema = pa.schema(dict.fromkeys(("id", "email", "name"), pa.string()))
        table = pa.Table.from_pylist([dict(record) for record in records], schema)
        path = folder / "people.parquet"
        parquet.write_table(table, path, row_group_size=1000, write_page_checksum=True)
        return ParquetConnector(ParquetOptions(path="people.parquet", key="id"), Context(folder))

    def break_source(self, folder):
        path = folder / "people.parquet"
        file = parquet.ParquetFile(path)
        last = file.metadata.row_group(file.metadata.num_row_groups - 1).column(1)
        at = last.data_page_offset + last.total_compressed_size // 2
        file.close()
        content = bytearray(path.read_bytes())
        content[at] ^= 0xFF
        path.write_bytes(content)
