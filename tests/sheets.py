"""Workbooks for the tests of Excel: written part by part, so that a test can say exactly what is in the file."""

import zipfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from xml.sax.saxutils import escape

import pytest

from connectors.xlsx import XlsxConnector, XlsxOptions
from syncd.connector import Context, Request

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"


def text(value: str) -> str:
    """An inline text, as cells hold it."""
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'


def number(value: object, *, style: int = 0) -> str:
    """A number, written as it is given."""
    return f'<c s="{style}"><v>{value}</v></c>'


def row(*cells: str, at: object = None) -> str:
    """One row; plain texts become inline texts."""
    inner = "".join(cell if cell.startswith("<c") else text(cell) for cell in cells)
    return f'<row r="{at}">{inner}</row>' if at else f"<row>{inner}</row>"


def workbook(
    *rows: str,
    names: Sequence[str] = ("People",),
    others: Mapping[str, str] | None = None,
    hidden: Sequence[str] = (),
    formats: Sequence[str] = (),
    strings: Sequence[str] = (),
    after: str = "",
    settings: str = "",
    dimension: str = "",
    head: str = "",
    namespace: str = MAIN,
) -> bytes:
    """A workbook with these rows in its first sheet.

    others: sheet name -> its rows. formats: number formats of the styles 1, 2, ... strings: <si> elements. after: what stands behind
    the rows. settings: what stands behind the sheets in the workbook. head: what stands before the sheet's first tag.
    """
    sheets = {**{name: "".join(rows) for name in names}, **(others or {})}
    tabs = "".join(
        f'<sheet name="{escape(name)}" sheetId="{at}" r:id="r{at}"'
        + (' state="hidden"' if name in hidden else "")
        + "/>"
        for at, name in enumerate(sheets, 1)
    )
    relations = "".join(
        f'<Relationship Id="r{at}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{at}.xml"/>'
        for at in range(1, len(sheets) + 1)
    )
    relations += f'<Relationship Id="rs" Type="{OFFICE}/styles" Target="/xl/styles.xml"/>'
    relations += f'<Relationship Id="rt" Type="{OFFICE}/sharedStrings" Target="texts.xml"/>'
    codes = "".join(
        f'<numFmt numFmtId="{200 + at}" formatCode="{escape(code, {chr(34): "&quot;"})}"/>'
        for at, code in enumerate(formats)
    )
    styles = '<xf numFmtId="0"/>' + "".join(
        f'<xf numFmtId="{200 + at}"/>' for at in range(len(formats))
    )
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r1"'
        f' Type="{OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{PACKAGE}">{relations}</Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{namespace}" xmlns:r="{OFFICE}">'
        f"<sheets>{tabs}</sheets>{settings}</workbook>",
        "xl/styles.xml": f'<styleSheet xmlns="{namespace}"><numFmts>{codes}</numFmts>'
        f'<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs>{styles}</cellXfs></styleSheet>',
        "xl/texts.xml": f'<sst xmlns="{namespace}">{"".join(strings)}</sst>',
    }
    for at, inner in enumerate(sheets.values(), 1):
        parts[f"xl/worksheets/sheet{at}.xml"] = (
            f'{head}<worksheet xmlns="{namespace}">{dimension}<sheetData>{inner}</sheetData>'
            f"{after}</worksheet>"
        )
    return packed(parts)


def packed(parts: Mapping[str, str | bytes]) -> bytes:
    """A ZIP of these parts."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in parts.items():
            file.writestr(name, content)
    return out.getvalue()


HEAD = row("id", "email", "name")
PEOPLE = (HEAD, row("1", "ann@example.com", "Ann"), row("2", "bob@example.com", "Bob"))


@pytest.fixture(name="source")
def source_fixture(tmp_path):
    """Write `content` to people.xlsx in the configuration's folder; build the connector over it."""

    def build(content=None, *, name="people.xlsx", **options):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        options.setdefault("path", name)
        options.setdefault("key", "id")
        return XlsxConnector(XlsxOptions.model_validate(options), Context(tmp_path))

    return build


def read(connector, fields=None):
    """All records of a source."""
    return list(connector.read(Request(fields=fields)))


def rows(connector, fields=None):
    """The fields of all records."""
    return [record.fields for record in read(connector, fields)]
