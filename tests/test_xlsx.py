"""Excel: every row once, with what its cells hold; or an error that names the cell."""

import pytest
from sheets import (  # noqa: F401 - fixtures
    HEAD,
    PEOPLE,
    number,
    read,
    row,
    rows,
    source_fixture,
    text,
    workbook,
)

from syncd.connector import Record, Request
from syncd.errors import ConfigError, SourceError


def value(source, cell, **options):
    """What one cell becomes."""
    return rows(source(workbook(row("id", "x"), row("1", cell), **options)))[0]["x"]


def refused(source, cell, **options):
    """Why one cell is refused; the error names it."""
    with pytest.raises(SourceError, match=r"people.xlsx:People!B2: ") as caught:
        value(source, cell, **options)
    return caught.value.why


def test_rows_are_records_with_key_values_and_place(source):
    assert read(source(workbook(*PEOPLE))) == [
        Record("1", {"id": "1", "email": "ann@example.com", "name": "Ann"}, "people.xlsx:People!2"),
        Record("2", {"id": "2", "email": "bob@example.com", "name": "Bob"}, "people.xlsx:People!3"),
    ]


def test_without_key_each_record_has_the_empty_key(source):
    assert [record.key for record in read(source(workbook(*PEOPLE), key=None))] == ["", ""]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"email"}, {"email": "ann@example.com"}), ({"nowhere"}, {}), (set(), {})],
)
def test_only_the_fields_in_use_are_read_and_the_key_still_is(source, fields, expected):
    first = read(source(workbook(*PEOPLE)), frozenset(fields))[0]
    assert (first.key, first.fields) == ("1", expected)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("1", 1),
        ("1.0", 1),
        ("-0.0", 0),
        ("33612345678", 33612345678),
        ("3.3612345678E10", 33612345678),
        ("1.5", 1.5),
        ("0.30000000000000004", 0.3),
        ("1.1000000000000001", 1.1),
        ("123456789012345678", 123456789012345678),
        ("12345678901234567890", "12345678901234567890"),
        ("1E+300", 1e300),
    ],
)
def test_numbers_are_what_excel_shows_to_15_digits(source, written, expected):
    found = value(source, number(written))
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize("written", ["nan", "inf", "1E999", "x", "1" * 50 + "x"])
def test_what_is_no_number_is_refused_by_its_cell(source, written):
    assert refused(source, number(written))


@pytest.mark.parametrize(
    ("code", "serial", "expected"),
    [
        ("yyyy-mm-dd", "46053", "2026-01-31"),
        ("dd/mm/yyyy hh:mm", "46053.5", "2026-01-31T12:00:00"),
        ("dd/mm/yyyy", "46053.520833333336", "2026-01-31T12:30:00"),
        ("hh:mm", "0.75", "18:00:00"),
        ("[h]:mm:ss", "1.1041666666666667", "26:30:00"),
        ("[$-409]d mmm yyyy;@", "46053", "2026-01-31"),
        ("[Red]0.00", "46053", 46053),
        ('0 "days"', "3", 3),
        ("0.00;dd", "3", 3),
        ("0\\d", "3", 3),
        ("#,##0.00_);[Red](#,##0.00)", "3.5", 3.5),
        ("General", "7", 7),
        ("yyyy", "1", "1900-01-01"),
        ("yyyy", "59", "1900-02-28"),
        ("yyyy", "61", "1900-03-01"),
        ("yyyy", "2958465", "9999-12-31"),
    ],
)
def test_dates_are_told_by_the_format_and_have_no_zone(source, code, serial, expected):
    assert value(source, number(serial, style=1), formats=[code]) == expected


@pytest.mark.parametrize("serial", ["-1", "2958466", "1E300"])
def test_dates_outside_the_calendar_are_refused_by_their_cell(source, serial):
    assert "calendar" in refused(source, number(serial, style=1), formats=["yyyy-mm-dd"])


def test_dates_of_a_workbook_that_counts_from_1904(source):
    found = value(
        source,
        number("1", style=1),
        formats=["yyyy-mm-dd"],
        settings='<workbookPr date1904="1"/>',
    )
    assert found == "1904-01-02"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ('<c t="b"><v>1</v></c>', True),
        ('<c t="b"><v>0</v></c>', False),
        ('<c t="d"><v>2026-01-31T12:00:00</v></c>', "2026-01-31T12:00:00"),
        ('<c t="s"><v>1</v></c>', "Zoë"),
        ('<c t="s"><v>0</v></c>', "first second"),
        ('<c t="s"><v>2</v></c>', "two\rlines"),
        ('<c t="s"><v>3</v></c>', "東京"),
        ('<c t="str"><f>A1</f><v>x</v></c>', "x"),
        ('<c t="str"><f>IF(A1="","","x")</f><v></v></c>', ""),
        ("<c><f>1+1</f><v>2</v></c>", 2),
        ('<c s="0"/>', None),
        ("<c><v></v></c>", None),
        ('<c s="²" r=""><v>5</v></c>', 5),
        ('<c t="inlineStr"><is><t>東京</t><rPh sb="0" eb="2"><t>トウ</t></rPh></is></c>', "東京"),
    ],
)
def test_values_of_each_kind_of_cell(source, cell, expected):
    strings = [
        "<si><r><t>first </t></r><r><rPr><b/></rPr><t>second</t></r></si>",
        "<si><t>Zoë</t></si>",
        "<si><t>two_x000D_lines</t></si>",
        "<si><t>東京</t><rPh sb='0' eb='2'><t>トウキョウ</t></rPh></si>",
    ]
    assert value(source, cell, strings=strings) == expected


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("<c><f>1+1</f></c>", "never computed"),
        ("<c><f>1+1</f><v></v></c>", "never computed"),
        ('<c t="str"><f>A1</f></c>', "never computed"),
        ('<c t="e"><v>#N/A</v></c>', "#N/A"),
        ('<c t="e"><f>VLOOKUP(1,A:B,2)</f><v>#REF!</v></c>', "#REF!"),
        ('<c t="s"><v>9</v></c>', "missing"),
        ('<c t="s"><v>-1</v></c>', "missing"),
        ('<c t="s"><v>²</v></c>', "missing"),
    ],
)
def test_a_cell_without_usable_value_is_named_and_never_empty(source, cell, why):
    assert why in refused(source, cell, strings=["<si><t>one</t></si>"])


def test_values_that_a_program_wrote_beside_formulas_are_not_believed(source):
    """Such programs write 0 and ask Excel to compute: mailed, that 0 would be somebody's score."""
    cell, settings = "<c><f>B1*2</f><v>0</v></c>", '<calcPr calcId="1" fullCalcOnLoad="1"/>'
    assert value(source, cell) == 0
    assert "never computed" in refused(source, cell, settings=settings)
    assert value(source, "plain", settings=settings) == "plain"


def test_an_unusable_cell_of_a_column_that_is_not_in_use_harms_nobody(source):
    content = workbook(row("id", "x"), row("1", '<c t="e"><v>#N/A</v></c>'))
    assert rows(source(content), frozenset({"id"})) == [{"id": "1"}]


def test_hostile_texts_come_as_they_are(source):
    texts = [
        "=cmd|' /C calc'!A0",
        "ann@example.com, bob@example.com",
        "Ann@EXAMPLE.COM",
        "\u202eנועה\u202c",
        "🧑‍🚀 Zoë",
        " spaces ",
        "two\nlines",
        "x" * 1_000_000,
    ]
    content = workbook(row("id", "x"), *(row(str(at), each) for at, each in enumerate(texts)))
    assert [found["x"] for found in rows(source(content))] == texts


def test_a_pair_of_escaped_halves_is_one_character_and_half_of_it_is_replaced(source):
    assert value(source, text("_xD83D__xDE00_ _xD83D_")) == "😀 \ufffd"


@pytest.mark.parametrize("key", ["1.5", "true"])
def test_what_is_no_key_raises_with_its_cell(source, key):
    cell = '<c t="b"><v>1</v></c>' if key == "true" else number(key)
    with pytest.raises(SourceError, match=r"people.xlsx:People!A2: there is no usable key in 'id'"):
        read(source(workbook(row("id", "x"), row(cell, "x"))))


def test_keys_may_be_numbers_and_texts_and_never_nothing(source):
    content = workbook(row("id", "x"), row(number("7.0"), "a"), row("A7", "b"), row("", "c"))
    events = source(content).read(Request())
    assert [next(events).key, next(events).key] == ["7", "A7"]
    with pytest.raises(SourceError, match=r"A4: there is no usable key"):
        next(events)


def test_missing_key_column_is_a_configuration_error_with_the_nearest_name(source):
    with pytest.raises(ConfigError, match="Did you mean 'id'"):
        read(source(workbook(*PEOPLE), key="iid"))


# Sheets and headers


def test_the_header_is_the_first_row_with_a_value_or_the_row_that_is_named(source):
    title = (row(at=1), row("Export of January", at=2), row("", at=3))
    table = (row(" id ", "name", at=5), row("1", "Ann", at=7))
    assert rows(source(workbook(*table))) == [{"id": "1", "name": "Ann"}]
    assert rows(source(workbook(*title, *table), header_row=5)) == [{"id": "1", "name": "Ann"}]
    with pytest.raises(ConfigError, match="columns are Export of January"):
        read(source(workbook(*title, *table)))
    with pytest.raises(SourceError, match="row 4 is empty"):
        read(source(workbook(*title, *table), header_row=4))


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (row("id", "name", " id"), "People!A1 and C1 are both called 'id'"),
        (row("id", "<c><f>A9</f></c>"), "People!B1: the cell has no usable value"),
    ],
)
def test_bad_headers_raise_with_their_cells(source, header, says):
    with pytest.raises(SourceError, match=says):
        read(source(workbook(header, row("1", "x"))))


def test_a_value_without_a_column_name_raises_with_its_cell(source):
    header = row("id", "<c/>", "name")
    assert rows(source(workbook(header, row("1", "", "Ann")))) == [{"id": "1", "name": "Ann"}]
    for cells in (("1", "x", "Ann"), ("1", "", "Ann", "x")):
        with pytest.raises(SourceError, match=r"People![BD]2 holds a value, but its column"):
            read(source(workbook(header, row(*cells))))


def test_an_empty_sheet_raises_and_a_header_alone_is_an_empty_list(source):
    with pytest.raises(SourceError, match="the sheet is empty"):
        read(source(workbook()))
    assert read(source(workbook(HEAD))) == []


def test_the_sheet_is_the_first_visible_one_or_chosen_by_name_or_number(source):
    others = {"Two": row("id") + row("two"), "Secret": row("id") + row("secret")}
    content = workbook(row("id"), row("one"), names=["Old"], others=others, hidden=["Old"])
    assert [record.key for record in read(source(content))] == ["two"]
    assert [record.key for record in read(source(sheet="Old"))] == ["one"]
    assert [record.key for record in read(source(sheet=2))] == ["secret"]
    with pytest.raises(ConfigError, match=r"no sheet 'Sekret'.*Did you mean 'Secret'"):
        read(source(sheet="Sekret"))
    with pytest.raises(ConfigError, match=r"no sheet number 3.*'Two', 'Secret'"):
        read(source(sheet=3))


def test_merged_cells_below_the_header_end_the_read(source):
    merged = '<mergeCells count="2"><mergeCell ref="A1:C1"/><mergeCell ref="{}"/></mergeCells>'
    content = workbook(*PEOPLE, after=merged.format("C2:C3"))
    with pytest.raises(SourceError, match=r"People!C2:C3: these cells are merged"):
        read(source(content))
    assert len(rows(source(workbook(*PEOPLE, after=merged.format("F9:G9"))))) == 2


def test_hidden_rows_are_rows(source):
    hidden = row("2", "bob@example.com", "Bob").replace("<row>", '<row hidden="1">')
    assert len(rows(source(workbook(*PEOPLE[:2], hidden)))) == 2
