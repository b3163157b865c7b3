"""CSV: every row once, as it stands in the file, or an error that says where."""

import codecs
import csv
import gzip
import io
import os
import tracemalloc
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.csv import CsvConnector, CsvOptions
from syncd.connector import Context, Record, Request
from syncd.errors import ConfigError, SourceError
from syncd.testing.conformance import ConnectorSuite

PEOPLE = "id,email,name\n1,ann@example.com,Ann\n2,bob@example.com,Bob\n"


@pytest.fixture
def source(tmp_path):
    """Write `content` to people.csv in the configuration's folder; build the connector over it."""

    def build(content=None, *, name="people.csv", **options):
        if content is not None:
            data = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(data)
        options.setdefault("path", name)
        options.setdefault("key", "id")
        return CsvConnector(CsvOptions.model_validate(options), Context(tmp_path))

    return build


def read(connector, fields=None):
    return list(connector.read(Request(fields=fields)))


def rows(connector, fields=None):
    return [record.fields for record in read(connector, fields)]


def test_rows_are_records_with_key_text_and_place(source):
    assert read(source(PEOPLE)) == [
        Record("1", {"id": "1", "email": "ann@example.com", "name": "Ann"}, "people.csv:2"),
        Record("2", {"id": "2", "email": "bob@example.com", "name": "Bob"}, "people.csv:3"),
    ]


def test_values_are_text_as_they_stand_and_only_header_names_are_stripped(source):
    assert rows(source(" id , email\n007, ann@example.com \n")) == [
        {"id": "007", "email": " ann@example.com "}
    ]


def test_without_key_each_record_has_the_empty_key(source):
    assert [record.key for record in read(source(PEOPLE, key=None))] == ["", ""]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"email", "id"}, {"id": "1", "email": "ann@example.com"}),
        ({"name", "nowhere"}, {"name": "Ann"}),
        (set(), {}),
    ],
)
def test_only_the_fields_in_use_are_read_and_the_key_still_is(source, fields, expected):
    first = read(source(PEOPLE), frozenset(fields))[0]
    assert (first.key, first.fields) == ("1", expected)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("final", [True, False])
def test_places_are_physical_lines_whatever_the_line_end(source, end, final):
    lines = ["id,note", "1,a", "", '2,"two', 'lines"', "3,c"]
    records = read(source(end.join(lines) + end * final))
    assert [(r.key, r.place) for r in records] == [
        ("1", "people.csv:2"),
        ("2", "people.csv:4"),
        ("3", "people.csv:6"),
    ]
    assert records[1].fields["note"] == f"two{end}lines"


@pytest.mark.parametrize(
    "content",
    ["\n\nid,name\n1,Ann\n\n\n2,Bob\n\n", "id,name\n1,Ann\n,\n2,Bob\n,,,\n"],
    ids=["empty", "only delimiters"],
)
def test_blank_lines_are_skipped(source, content):
    assert [record.key for record in read(source(content))] == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("id,name\n1,Ann\n", "p.csv"),
        ("id;name\n1;Ann\n", "p.csv"),
        ("id\tname\n1\tAnn\n", "p.csv"),
        ("id|name\n1|Ann\n", "p.csv"),
        ("id;name\n1;Ann\n", "p.tsv"),
        ('id;name\n1;"Ann; Lee"\n', "p.csv"),
        ("id;name\n1;Ann, Lee\n", "p.csv"),  # a comma in values only
        ('id;"name"\n1;3,50\n2;4,50\n', "p.csv"),  # decimal commas
        ('"id","name"\n1,"a;b|c;d"\n', "p.csv"),
        ('id,name\n1,"two\nlines; and; more"\n', "p.csv"),
        ("id;name\n", "p.csv"),
    ],
)
def test_delimiter_is_found(source, content, name):
    assert [field.name for field in source(content, name=name).fields()] == ["id", "name"]


def test_delimiter_of_a_header_that_holds_another_one_is_found_by_the_rows(source):
    content = "id;name, first, last;email\n" + "1;Ann;ann@example.com\n" * 3
    assert [f.name for f in source(content).fields()] == ["id", "name, first, last", "email"]


def test_one_column_is_a_table_too(source):
    assert rows(source("id\n1\n2\n")) == [{"id": "1"}, {"id": "2"}]
    assert rows(source("id\n1,5\n", name="one.tsv")) == [{"id": "1,5"}]


@pytest.mark.parametrize(("set_to", "char"), [("tab", "\t"), ("\t", "\t"), ("~", "~")])
def test_delimiter_can_be_set(source, set_to, char):
    assert rows(source(f"id{char}a,b\n1{char}x,y\n", delimiter=set_to)) == [
        {"id": "1", "a,b": "x,y"}
    ]


@pytest.mark.parametrize(
    "encoded",
    [
        "id,name\n1,Zoë\n".encode(),
        codecs.BOM_UTF8 + "id,name\n1,Zoë\n".encode(),
        "id,name\n1,Zoë\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "id,name\n1,Zoë\n".encode("utf-16-be"),
        gzip.compress("id,name\n1,Zoë\n".encode("utf-16")),
    ],
    ids=["utf-8", "utf-8 with mark", "utf-16", "utf-16 big-endian", "gzip of utf-16"],
)
def test_encoding_is_told_by_the_byte_order_mark(source, encoded):
    assert rows(source(encoded)) == [{"id": "1", "name": "Zoë"}]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-8"])
def test_encoding_can_be_set(source, encoding):
    content = "\ufeff" * (encoding != "cp1252") + "id,name\n1,Zoë\n"
    connector = source(content.encode(encoding), encoding=encoding)
    assert rows(connector) == [{"id": "1", "name": "Zoë"}]


@pytest.mark.parametrize("lines", [3, 20_000])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_bytes_that_do_not_decode_are_named_with_their_line(source, lines, end):
    good = "".join(f"{n},Zoë{end}" for n in range(lines))
    content = f"id,name{end}{good}".encode() + f"x,Zoë{end}".encode("cp1252")
    with pytest.raises(SourceError, match=rf"people.csv:{lines + 2}: .*decode as utf-8") as caught:
        read(source(content))
    assert "encoding" in caught.value.hint


def test_text_cut_off_within_a_character_does_not_decode(source):
    with pytest.raises(SourceError, match=r"people.csv:2: "):
        read(source("id,name\n1,Zoë".encode()[:-1]))


def test_gzip_is_told_by_its_bytes_not_its_name(source):
    assert len(read(source(gzip.compress(PEOPLE.encode()), name="people.csv"))) == 2
    assert len(read(source(PEOPLE, name="people.csv.gz"))) == 2


def test_damaged_gzip_raises(source):
    packed = gzip.compress(PEOPLE.encode() * 1000)
    with pytest.raises(SourceError, match="damaged or cut off"):
        read(source(packed[:-20]))
    with pytest.raises(SourceError, match="damaged or cut off"):
        read(source(packed[:10] + b"\xff" * 50))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "people.csv is empty"),
        ("\ufeff\n\n", "people.csv is empty"),
        ("id,name,id\n", "people.csv:1: columns 1 and 3 are both called 'id'"),
        ("\nid,name , name\n", "people.csv:2: columns 2 and 3 are both called 'name'"),
        ("id, ,name\n", "people.csv:1: column 2 has no name"),
        ("id,name\n1,Ann\n2\n", "people.csv:3: the row has 1 fields, the header has 2"),
        ('id,name\n1,"a\nb"\n2,B,x\n', "people.csv:4: the row has 3 fields, the header has 2"),
        ("id,name\n1,Ann\n,Bob\n", "people.csv:3: the key column 'id' is empty"),
        ("id,name\n1,A\0nn\n", "people.csv:2: there is a NUL"),
        ("id,name\n1,Ann\n" * 1 + "2,B\n" * 20_000 + "3,\0\n", "people.csv:20003: there is a NUL"),
        ('id,name\n1,Ann\n2,"Bob\n3,Cid\n', "people.csv:3: .*never closed"),
        ('id,name\n1,"a\nb","c\nd', "people.csv:3: .*never closed"),
        ('id,name\n1,Ann\n2,"Bob\n3,"Cid"\n', "people.csv:3: .*closed wrongly in line 4"),
        ('id,name\n1,Ann\n2,"Bob"x\n', "people.csv:3: .*closed wrongly in line 3"),
        ('id,"na\n', "people.csv:1: .*never closed"),
        ('id,name\n1,"' + ("x" * 999 + "\n") * 34_000, "people.csv:2: .*longer than 33554432"),
        ("id,name\n1," + "x" * 17_000_000, "people.csv:2: the line is longer than 16777216"),
    ],
)
def test_broken_files_raise_with_their_place(source, content, says):
    with pytest.raises(SourceError, match=says):
        read(source(content))


def test_header_alone_is_an_empty_table(source):
    assert read(source("id,name\n")) == []


def test_rows_before_the_broken_one_come_first_then_the_read_raises(source):
    events = source("id,name\n1,Ann\n2\n").read(Request())
    assert next(events).key == "1"
    with pytest.raises(SourceError):
        next(events)


def test_missing_key_column_is_a_configuration_error_with_the_nearest_name(source):
    with pytest.raises(ConfigError, match=r"'iid' is not in people.csv.*Did you mean 'id'"):
        read(source(PEOPLE, key="iid"))
    with pytest.raises(ConfigError, match="columns are id, email, name"):
        source(PEOPLE, key="???").fields()


def test_files_of_a_pattern_are_read_in_order_of_their_names(source, tmp_path):
    (tmp_path / "b.csv").write_text("name,id\nBob,2\n")
    (tmp_path / "a.csv").write_text("id;name\n1;Ann\n")
    (tmp_path / "c.csv").write_bytes(gzip.compress(b"id,name\n3,Cid\n"))
    (tmp_path / ".hidden.csv").write_text("broken")
    (tmp_path / "folder.csv").mkdir()
    records = read(source(path="*.csv"))
    assert [r.place for r in records] == ["a.csv:2", "b.csv:2", "c.csv:2"]
    assert [r.fields["name"] for r in records] == ["Ann", "Bob", "Cid"]


def test_files_with_other_columns_raise_and_name_both(source, tmp_path):
    (tmp_path / "a.csv").write_text("id,name\n1,Ann\n")
    (tmp_path / "b.csv").write_text("id,mail\n2,bob@example.com\n")
    with pytest.raises(SourceError, match=r"a.csv and b.csv .*without 'name', with 'mail'"):
        read(source(path="?.csv"))


def test_paths_start_at_the_folder_or_at_home_or_are_absolute(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "people.csv").write_text(PEOPLE)
    assert read(source(path="home/people.csv"))[0].place == "home/people.csv:2"
    assert len(read(source(path="~/p*.csv"))) == 2
    assert len(read(source(path=str(tmp_path / "home" / "*.csv")))) == 2


def test_a_name_that_looks_like_a_pattern_is_taken_literally(source):
    assert len(read(source(PEOPLE, name="people[1].csv"))) == 2


def test_no_file_says_where_it_looked(source, tmp_path):
    with pytest.raises(SourceError, match=r"No file matches gone.csv") as caught:
        read(source(path="gone.csv"))
    assert str(tmp_path / "gone.csv") in caught.value.why
    with pytest.raises(SourceError, match=r"No file matches x\*.csv"):
        source(path="x*.csv").token()


def test_what_is_no_file_is_refused_and_never_waited_for(source, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in ("pipe", "folder"):
        with pytest.raises(SourceError, match=f"{path} is not a file"):
            read(source(path=path))


@pytest.mark.parametrize("change", ["append", "rewrite", "replace", "remove"])
def test_a_file_that_changes_while_it_is_read_ends_the_read(source, tmp_path, change):
    connector = source("id,name\n" + "1,Ann\n" * 5)
    path = tmp_path / "people.csv"
    before = path.stat()
    events = connector.read(Request())
    next(events)
    if change == "append":
        with path.open("a") as file:
            file.write("6,Bob\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "rewrite":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif change == "replace":
        (tmp_path / "new").write_bytes(path.read_bytes())
        os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
        (tmp_path / "new").rename(path)
    else:
        path.unlink()
    with pytest.raises(SourceError, match=r"people.csv (was changed|cannot be read)"):
        list(events)


def test_the_token_follows_bytes_names_and_options(source, tmp_path):
    connector = source(PEOPLE)
    token = connector.token()
    os.utime(tmp_path / "people.csv", (1, 1))
    assert connector.token() == token
    assert source(PEOPLE, delimiter=";").token() != token
    assert source(PEOPLE.replace("Ann", "Eve")).token() != token
    assert source(PEOPLE, name="other.csv").token() != source(PEOPLE).token()
    several = source(path="p*.csv").token()
    (tmp_path / "people2.csv").write_text(PEOPLE)
    assert source(path="p*.csv").token() != several


def test_check_counts_the_rows_and_finds_broken_ones(source, tmp_path):
    assert (
        source("id\n" + "".join(f"{n}\n" for n in range(1234))).check() == "people.csv, 1,234 rows"
    )
    (tmp_path / "people2.csv").write_text("id\nx\n")
    assert source(path="people*.csv").check() == "2 files, 1,235 rows"
    with pytest.raises(SourceError, match=r"people.csv:3"):
        source("id,name\n1,Ann\n2\n").check()


def test_fields_are_the_columns_with_the_first_value_that_is_not_empty(source):
    fields = source("id,name,note\n1,,\n2,Ann,\n" + "3,Bob,\n" * 100 + "broken\n").fields()
    assert [(f.name, f.example) for f in fields] == [("id", "1"), ("name", "Ann"), ("note", "")]


@pytest.mark.parametrize(
    "options",
    [
        {"file": "people.csv"},
        {"path": ""},
        {"key": ""},
        {"delimiter": ";;"},
        {"delimiter": '"'},
        {"encoding": "utf-9"},
        {"encoding": "base64"},
    ],
)
def test_bad_options_are_refused(source, options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        source(**options)


def test_reading_is_lazy_and_memory_flat(source, tmp_path):
    with (tmp_path / "people.csv").open("w") as file:
        file.write("id,email,name\n")
        file.writelines(f"{n},person{n}@example.com,{'x' * 100}\n" for n in range(30_000))
    size = (tmp_path / "people.csv").stat().st_size
    tracemalloc.start()
    try:
        assert sum(1 for _ in source().read(Request())) == 30_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 4


def test_closing_early_frees_the_file(source):
    def open_files():
        links = Path("/proc/self/fd").iterdir()
        return [str(link.readlink()) for link in links if link.exists()]

    events = source("id\n" + "1\n" * 100_000).read(Request())
    list(islice(events, 3))
    assert any(name.endswith("people.csv") for name in open_files())
    events.close()
    assert not any(name.endswith("people.csv") for name in open_files())


class TestCsvKeepsThePromises(ConnectorSuite):
    def source(self, folder, records):
        with (folder / "people.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["id", "email", "name"])
            writer.writeheader()
            writer.writerows(records)
        return CsvConnector(CsvOptions(path="people.csv", key="id"), Context(folder))

    def break_source(self, folder):
        with (folder / "people.csv").open("a") as file:
            file.write("half a ro")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(
    table=st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_csv_writer_wrote_is_read(tmp_path_factory, table, delimiter, encoding, end):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([["id", "a", "b"], *([str(n), *row[1:]] for n, row in enumerate(table))])
    path = Path(tmp_path_factory.getbasetemp()) / "written.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    connector = CsvConnector(CsvOptions(path=str(path), key="id"), Context())
    assert [list(record.fields.values()) for record in read(connector)] == [
        [str(n), *row[1:]] for n, row in enumerate(table)
    ]


def test_tables_hold_the_same_rows_at_the_same_places(source):
    """Blank lines, lines inside values, and more rows than a table has; the places are those of the file."""
    many = "".join(f'{number},"N{number}\r\nand more"\n,\n' for number in range(3, 1200))
    connector = source("id,name\n1,Ann\n\n2,Bob\n" + many)
    tables = list(connector.tables(Request()))
    assert len(tables) > 2
    rows = [record for table in tables for record in table.records()]
    assert rows == list(connector.read(Request()))
    assert [record.place.rpartition(":")[2] for record in rows[:5]] == ["2", "4", "5", "8", "11"]
    assert rows[-1].place.endswith(f":{5 + 3 * (1199 - 3)}")
    (table,) = (
        one for one in connector.tables(Request(fields=frozenset({"name"}))) if one.keys[0] == "1"
    )
    assert table.names == ["name"]


def test_rows_before_a_broken_one_are_given_as_tables_too(source):
    connector = source("id,name\n1,Ann\n2,Bob\n3\n4,Cat\n")
    tables, found = connector.tables(Request()), []
    found += next(tables).keys
    found += next(tables).keys
    with pytest.raises(SourceError, match=r"people\.csv:4: the row has 1 fields"):
        next(tables)
    assert found == ["1", "2"]
