"""Excel files as they come: damaged, hostile, large, changing, written by others."""

import tracemalloc
import zipfile
from datetime import date, datetime, time, timedelta
from io import BytesIO

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sheets import (  # noqa: F401 - fixtures
    HEAD,
    PEOPLE,
    packed,
    read,
    row,
    rows,
    source_fixture,
    text,
    workbook,
)

from connectors.xlsx import XlsxConnector, XlsxOptions
from syncd.connector import Context, Request
from syncd.errors import SourceError
from syncd.testing.conformance import ConnectorSuite


def test_a_dimension_that_lies_is_not_believed(source):
    assert len(rows(source(workbook(*PEOPLE, dimension='<dimension ref="A1"/>')))) == 2
    assert len(rows(source(workbook(*PEOPLE, dimension='<dimension ref="A1:XFD1048576"/>')))) == 2


def test_empty_rows_are_skipped_wherever_they_are(source):
    empty = row("", '<c s="0"/>', '<c t="str"><f>IF(A2="","",A2)</f><v></v></c>')
    last = row("", at=1_048_576)
    found = read(source(workbook(HEAD, empty, PEOPLE[1], *[empty] * 1000, last)))
    assert [record.place for record in found] == ["people.xlsx:People!3"]


@pytest.mark.parametrize(
    "broken",
    [row("x", at=1_048_577), row("x", at="9" * 5000), row("x", at="²"), row("x", at=1)],
    ids=["below the sheet", "far below", "no number", "backwards"],
)
def test_impossible_rows_raise(source, broken):
    with pytest.raises(SourceError, match="the sheet 'People' is damaged"):
        read(source(workbook(row("id", at=1), broken)))


@pytest.mark.parametrize("reference", ["XFE2", "ZZZZZZZZZ2", "a2", "Ä2"])
def test_impossible_columns_raise(source, reference):
    with pytest.raises(SourceError, match="There is no column"):
        read(source(workbook(row("id"), row(f'<c r="{reference}"><v>1</v></c>'))))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "people.xlsx is empty"),
        (b"<html><table><tr><td>id</td></tr></table></html>", "is a web page"),
        (b"\xef\xbb\xbf <!DOCTYPE html><html></html>", "is a web page"),
        (b'<?xml version="1.0"?><Workbook/>', "is XML"),
        (b"id,email\n1,ann@example.com\n", 'is text.*connector = "csv"'),
        (b"\x00\x01\x02", "is not an .xlsx workbook"),
        (b"\xd0\xcf\x11\xe0" + b"\0" * 5000, "is an old .xls workbook"),
        (
            b"\xd0\xcf\x11\xe0" + b"\0" * (64 * 1024 - 14) + "EncryptedPackage".encode("utf-16-le"),
            "protected by a password",
        ),
        (packed({"xl/workbook.bin": b""}), "an .xlsb workbook"),
        (packed({"mimetype": "x", "content.xml": "<x/>"}), "an OpenDocument file"),
        (packed({"people.csv": "id"}), "a ZIP archive without a workbook"),
        (workbook(*PEOPLE)[:-100], "damaged or cut off"),
        (workbook(row("id"), "<row><c></row>"), "damaged or cut off.*XML"),
        (
            workbook(*PEOPLE).replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xff"),
            "damaged",
        ),
    ],
)
def test_what_is_no_workbook_is_said_in_words(source, content, says):
    with pytest.raises(SourceError, match=says):
        read(source(content))


def test_parts_that_unpack_beyond_all_limits_are_refused_unread(source, monkeypatch):
    monkeypatch.setattr("connectors.xlsx.package.STRINGS_BYTES_MAX", 1024**2)
    bomb = workbook(*PEOPLE, strings=["<si><t>" + " " * 2_000_000 + "</t></si>"])
    assert len(bomb) < 10_000
    with pytest.raises(SourceError, match=r"too large when unpacked.*texts.xml"):
        read(source(bomb))


def test_xml_that_grows_out_of_itself_is_refused(source):
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 9))
    head = f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>'
    with pytest.raises(SourceError, match="document type"):
        read(source(workbook(*PEOPLE, row("3", "<c><v>&l8;</v></c>", "x"), head=head)))


def test_a_tag_without_end_is_refused_before_it_fills_the_memory(source, monkeypatch):
    monkeypatch.setattr("connectors.xlsx.package.TOKEN_BYTES_MAX", 1024**2)
    with pytest.raises(SourceError, match="a tag without end"):
        read(source(workbook(row("id"), f'<row r="2" x="{"x" * 2_000_000}"></row>')))


def test_an_overlong_cell_is_refused(source, monkeypatch):
    monkeypatch.setattr("connectors.xlsx.cells.TEXT_CHARS_MAX", 1000)
    with pytest.raises(SourceError, match="A cell of row 2 is too long"):
        read(source(workbook(row("id"), row("x" * 1001))))


def test_a_damaged_part_ends_the_read_after_the_rows_before_it(source):
    content = bytearray(workbook(HEAD, *(row(str(n), "x", f"{n * 7919}") for n in range(20_000))))
    with zipfile.ZipFile(BytesIO(content)) as file:
        part = file.getinfo("xl/worksheets/sheet1.xml")
    content[part.header_offset + part.compress_size - 2000] ^= 0xFF
    events = source(bytes(content)).read(Request())
    assert next(events).key == "0"
    with pytest.raises(SourceError, match="damaged"):
        list(events)


def test_a_file_that_changes_while_it_is_read_ends_the_read(source, tmp_path):
    events = source(workbook(*PEOPLE)).read(Request())
    next(events)
    (tmp_path / "people.xlsx").write_bytes(workbook(*PEOPLE, row("3", "x", "y")))
    with pytest.raises(SourceError, match="changed while it was read"):
        list(events)


def test_files_of_a_pattern_have_the_same_columns(source, tmp_path):
    (tmp_path / "a.xlsx").write_bytes(workbook(*PEOPLE))
    (tmp_path / "b.xlsx").write_bytes(workbook(row("name", "id", "email"), row("Cid", "3", "c")))
    found = read(source(path="?.xlsx"))
    assert [(r.key, r.fields["name"]) for r in found] == [("1", "Ann"), ("2", "Bob"), ("3", "Cid")]
    assert source(path="?.xlsx").check() == "2 files, 3 rows"
    (tmp_path / "c.xlsx").write_bytes(workbook(row("id", "mail"), row("4", "d")))
    with pytest.raises(SourceError, match=r"a.xlsx and c.xlsx do not have the same columns"):
        read(source(path="?.xlsx"))


def test_the_token_follows_bytes_and_options(source):
    token = source(workbook(*PEOPLE)).token()
    assert source().token() == token
    assert source(sheet="People").token() != token
    assert source(workbook(*PEOPLE[:2])).token() != token


def test_fields_are_the_columns_with_examples(source):
    fields = source(workbook(HEAD, row("1", "", "Ann"), row("2", "b@example.com", ""))).fields()
    assert [(field.name, field.example) for field in fields] == [
        ("id", "1"),
        ("email", "b@example.com"),
        ("name", "Ann"),
    ]


@pytest.mark.parametrize(
    "options", [{"sheet": 0}, {"sheet": ""}, {"header_row": 0}, {"encoding": "utf-8"}]
)
def test_bad_options_are_refused(source, options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        source(**options)


def test_the_strict_form_and_prefixed_names_are_read_too(source):
    strict = workbook(*PEOPLE, namespace="http://purl.oclc.org/ooxml/spreadsheetml/main")
    assert len(rows(source(strict))) == 2
    parts = {}
    with zipfile.ZipFile(BytesIO(workbook(*PEOPLE))) as file:
        for name in file.namelist():
            parts[name] = file.read(name).decode()
    sheet = parts["xl/worksheets/sheet1.xml"].replace("</", "</x:").replace("<", "<x:")
    sheet = sheet.replace("<x:/x:", "</x:").replace("xmlns=", "xmlns:x=")
    parts["xl/worksheets/sheet1.xml"] = sheet
    assert len(rows(source(packed(parts)))) == 2


def test_memory_is_flat_over_the_rows(source):
    content = workbook(HEAD, *(row(str(n), f"p{n}@example.com", "x" * 200) for n in range(20_000)))
    connector = source(content)
    tracemalloc.start()
    try:
        assert sum(1 for _ in connector.read(Request())) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


class TestXlsxKeepsThePromises(ConnectorSuite):
    def source(self, folder, records):
        lines = [row(record["id"], record["email"], record["name"]) for record in records]
        (folder / "people.xlsx").write_bytes(workbook(HEAD, *lines))
        return XlsxConnector(XlsxOptions(path="people.xlsx", key="id"), Context(folder))

    def break_source(self, folder):
        content = bytearray((folder / "people.xlsx").read_bytes())
        with zipfile.ZipFile(BytesIO(content)) as file:
            part = file.getinfo("xl/worksheets/sheet1.xml")
        content[part.header_offset + part.compress_size - 100] ^= 0xFF
        (folder / "people.xlsx").write_bytes(content)


WRITTEN = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
    | st.integers(-(10**15), 10**15)
    | st.floats(-1e15, 1e15).map(lambda number: float(f"{number:.15g}"))
    | st.booleans()
    | st.none()
    | st.dates(date(1900, 3, 1))
    | st.datetimes(datetime(1900, 3, 1)).map(  # noqa: DTZ001  a workbook has no zones
        lambda moment: moment.replace(microsecond=0)
    )
    | st.timedeltas(timedelta(0), timedelta(days=9)).map(
        lambda span: timedelta(seconds=span // timedelta(seconds=1))
    )
)


@given(table=st.lists(st.lists(WRITTEN, min_size=3, max_size=3), max_size=6))
def test_what_openpyxl_wrote_is_read(tmp_path_factory, table):
    book = openpyxl.Workbook()
    book.active.append(["id", "a", "b", "c"])
    for at, cells in enumerate(table):
        book.active.append([at, *cells])
    for line in book.active.iter_rows(min_row=2):
        for cell in line:
            if isinstance(cell.value, str):
                cell.data_type = "s"  # also what looks like a formula
    path = tmp_path_factory.getbasetemp() / "written.xlsx"
    book.save(path)
    connector = XlsxConnector(XlsxOptions(path=str(path), key="id"), Context())
    found = [list(record.fields.values())[1:] for record in read(connector)]
    assert found == [[_expected(cell) for cell in cells] for cells in table]


def _expected(written):
    match written:
        case bool() | int() | None:
            return written
        case str():
            return written or None
        case float():
            return int(written) if written.is_integer() else written
        case datetime():
            return written.isoformat() if written.time() != time() else written.date().isoformat()
        case date():
            return written.isoformat()
        case timedelta():
            seconds = int(written.total_seconds())
            return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
