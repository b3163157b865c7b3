"""An .xlsx file as what it is: a ZIP of XML parts. Its sheets, its texts, its formats of dates.

Written for reading rows, once, from front to back, out of files that nobody vouches for: no part is unpacked beyond its limit, no tree
is built, and a document type, with which XML grows out of itself, is refused. Source of every fact: ECMA-376, part 1 (SpreadsheetML)
and part 2 (packages). Names are compared without namespace, for the strict form has others.
"""

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from posixpath import join, normpath
from typing import IO
from xml.parsers import expat

from syncd.errors import SourceError

PARTS_MAX = 10_000  # in the ZIP; a workbook of a hundred sheets has some hundred
SHEET_BYTES_MAX = 4 * 1024**3  # unpacked; a full sheet of a million rows has 1 to 2 GiB
STRINGS_BYTES_MAX = 512 * 1024**2  # unpacked; they are held in memory
STRINGS_MAX = 5_000_000
STRUCTURE_BYTES_MAX = 32 * 1024**2  # of the parts that say what is where
TOKEN_BYTES_MAX = 16 * 1024**2  # the longest tag or text held in memory
CHUNK_BYTES = 64 * 1024
OLE_MAGIC = b"\xd0\xcf\x11\xe0"  # .xls, and whatever is encrypted
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
BUILT_IN_DATES = frozenset({*range(14, 23), *range(27, 37), *range(50, 59)})  # ids of formats
BUILT_IN_SPANS = frozenset({45, 46, 47})  # minutes and seconds; 46 is [h]:mm:ss

ZIP_FAILURES = (  # all that zipfile raises for bytes that are no ZIP, or of a kind that it does not know
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    RuntimeError,
    ValueError,
)

Start = Callable[[str, Mapping[str, str]], None]
End = Callable[[str], None]
Text = Callable[[str], None]

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_LITERAL = re.compile(r'"[^"]*"|\\.|_.|\*.|\[(?![hms]+\])[^\]]*\]', re.IGNORECASE)
_ELAPSED = re.compile(r"\[[hms]+\]", re.IGNORECASE)
_DATE = re.compile(r"[dmyhs]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sheet:
    """One sheet. part: its name in the package."""

    name: str
    hidden: bool
    part: str


@dataclass(frozen=True, slots=True)
class Formats:
    """The cell styles whose numbers are dates or times, and those that are spans of time."""

    dates: frozenset[int] = frozenset()
    spans: frozenset[int] = frozenset()


class Package:
    """One workbook, open for reading. Raises SourceError for what is none, or is damaged.

    sheets: in the order of their tabs. from_1904: dates count from there. uncomputed: the file says of itself that its formulas
    were not computed by whoever wrote it, so that the values beside them mean nothing.
    """

    def __init__(self, content: IO[bytes], name: str) -> None:
        self.name = name
        _refuse_others(content, name)
        with self._failures():
            self._zip = zipfile.ZipFile(content)
            if len(self._zip.namelist()) > PARTS_MAX:
                raise _damaged(name, f"It has more than {PARTS_MAX} parts")
        self._sheets: list[tuple[str, bool, str]] = []
        self.from_1904 = self.uncomputed = False
        workbook = self._workbook_part()
        self._targets = self._relations(workbook)
        self._parse(workbook, STRUCTURE_BYTES_MAX, self._in_workbook)
        kinds = {target: kind for kind, target in self._targets.values()}
        self.sheets = [
            Sheet(title, hidden, self._targets[ident][1])
            for title, hidden, ident in self._sheets
            if self._targets.get(ident, ("",))[0] == "worksheet"  # others are charts
        ]
        parts = {kind: part for part, kind in kinds.items()}
        self._strings_part, self._styles_part = parts.get("sharedStrings"), parts.get("styles")

    def close(self) -> None:
        """Close the ZIP, not the file under it."""
        self._zip.close()

    def strings(self) -> list[str]:
        """The texts that cells name by number; without the phonetic ones."""
        table = _Strings(self.name)
        if self._strings_part is not None:
            limit = STRINGS_BYTES_MAX
            self._parse(self._strings_part, limit, table.start, table.end, table.text)
        return table.found

    def formats(self) -> Formats:
        """Which styles show a date, a time or a span."""
        styles = _Styles()
        if self._styles_part is not None:
            self._parse(self._styles_part, STRUCTURE_BYTES_MAX, styles.start, styles.end)
        return styles.formats()

    def _workbook_part(self) -> str:
        names = set(self._zip.namelist())
        for kind, target in self._relations("").values():
            if target.startswith(("word/", "ppt/")):
                continue
            if kind == "officeDocument" and target in names and target.endswith(".xml"):
                return target
        if "xl/workbook.bin" in names:
            what, hint = "an .xlsb workbook", "Save it as .xlsx"
        elif "content.xml" in names:
            what, hint = "an OpenDocument file", "Save it as .xlsx, or export it as CSV"
        else:
            what, hint = (
                "a ZIP archive without a workbook",
                "Unpack it, and let `path` name the file",
            )
        raise SourceError(f"{self.name} is {what}, not an .xlsx workbook", hint=hint)

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """id -> (kind, part) of whatever `part` refers to; "" for the package."""
        folder, _, base = part.rpartition("/")
        found: dict[str, tuple[str, str]] = {}

        def start(tag: str, attributes: Mapping[str, str]) -> None:
            if tag == "Relationship" and attributes.get("TargetMode") != "External":
                kind = attributes.get("Type", "").rpartition("/")[2]
                target = normpath(join("/", folder, attributes.get("Target", ""))).lstrip("/")
                found[attributes.get("Id", "")] = (kind, target)

        name = f"{folder}/_rels/{base}.rels" if folder else f"_rels/{base}.rels"
        if name in self._zip.namelist():
            self._parse(name, STRUCTURE_BYTES_MAX, start)
        return found

    def _in_workbook(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "sheet":
            ident = next((v for k, v in attributes.items() if k.rpartition(":")[2] == "id"), "")
            hidden = attributes.get("state", "visible") != "visible"
            self._sheets.append((attributes.get("name", ""), hidden, ident))
        elif tag == "workbookPr":
            self.from_1904 = attributes.get("date1904") in ("1", "true")
        elif tag == "calcPr":
            self.uncomputed = attributes.get("fullCalcOnLoad") in ("1", "true")

    def _parse(
        self, part: str, limit: int, start: Start, end: End | None = None, text: Text | None = None
    ) -> None:
        for _ in self.parsing(part, limit, start, end, text):
            pass

    def parsing(
        self, part: str, limit: int, start: Start, end: End | None, text: Text | None
    ) -> Iterator[None]:
        """Call the handlers, with names without prefix, for one part; pause after each chunk."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        plain: dict[str, str] = {}

        def local(tag: str) -> str:
            return plain.get(tag) or plain.setdefault(tag, tag.rpartition(":")[2])

        def refuse(*_: object) -> None:
            raise _damaged(self.name, f"Its part {part} has a document type, as no workbook has")

        parser.StartElementHandler = lambda tag, attributes: start(local(tag), attributes)
        parser.EndElementHandler = (lambda tag: end(local(tag))) if end is not None else None
        parser.CharacterDataHandler = text
        parser.StartDoctypeDeclHandler = refuse
        with self._failures():
            if part not in self._zip.NameToInfo:
                raise _damaged(self.name, f"Its part {part} is missing")
            if self._zip.getinfo(part).file_size > limit:
                raise SourceError(
                    f"{self.name} is too large when unpacked",
                    why=f"Its part {part} is larger than {limit // 1024**2} MiB",
                    hint="Split it, or export it as CSV",
                )
            with self._zip.open(part) as source:
                fed = 0
                while chunk := source.read(CHUNK_BYTES):
                    parser.Parse(chunk, False)  # noqa: FBT003  it takes no keyword
                    fed += len(chunk)
                    if fed - parser.CurrentByteIndex > TOKEN_BYTES_MAX:
                        raise _damaged(self.name, f"Its part {part} has a tag without end")
                    yield
                parser.Parse(b"", True)  # noqa: FBT003
        yield

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except expat.ExpatError as error:
            raise _damaged(self.name, f"Its XML is broken: {error}") from None
        except ZIP_FAILURES as error:
            if "password" in str(error):  # a ZIP whose parts have one
                raise _protected(self.name) from None
            raise _damaged(self.name, str(error)) from None
        except OSError as error:
            raise SourceError(f"{self.name} cannot be read", why=error.strerror or "") from None


class _Strings:
    """The shared strings: <si><t>...</t></si>, or runs <r><t>, with phonetic <rPh><t> beside them."""

    def __init__(self, name: str) -> None:
        self.found: list[str] = []
        self._name = name
        self._parts: list[str] = []
        self._wanted, self._phonetic, self._size = False, False, 0

    def start(self, tag: str, _: Mapping[str, str]) -> None:
        if tag == "t":
            self._wanted = not self._phonetic
        elif tag == "si":
            self._parts.clear()
        elif tag == "rPh":
            self._phonetic = True

    def text(self, text: str) -> None:
        if self._wanted:
            self._parts.append(text)

    def end(self, tag: str) -> None:
        if tag == "t":
            self._wanted = False
        elif tag == "rPh":
            self._phonetic = False
        elif tag == "si":
            self.found.append(unescaped("".join(self._parts)))
            if len(self.found) > STRINGS_MAX:
                raise _damaged(self._name, f"It has more than {STRINGS_MAX:,} texts")


class _Styles:
    """Which styles (cellXfs, by position) have a number format of dates."""

    def __init__(self) -> None:
        self._codes: dict[int, str] = {}
        self._ids: list[int] = []
        self._within = False

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        if tag == "numFmt":
            self._codes[whole(attributes.get("numFmtId"))] = attributes.get("formatCode", "")
        elif tag == "cellXfs":
            self._within = True
        elif tag == "xf" and self._within:
            self._ids.append(whole(attributes.get("numFmtId")))

    def end(self, tag: str) -> None:
        if tag == "cellXfs":
            self._within = False

    def formats(self) -> Formats:
        kinds = [_kind(ident, self._codes.get(ident)) for ident in self._ids]
        return Formats(
            frozenset(at for at, kind in enumerate(kinds) if kind == "date"),
            frozenset(at for at, kind in enumerate(kinds) if kind == "span"),
        )


def _kind(ident: int, code: str | None) -> str:
    """Whether a number format shows a "date" (or time of day), a "span" of time, or a number ("")."""
    if code is None:
        if ident in BUILT_IN_SPANS:
            return "span"
        return "date" if ident in BUILT_IN_DATES else ""
    shown = _LITERAL.sub("", code.partition(";")[0])  # the part for positive numbers
    if _ELAPSED.search(shown):
        return "span"
    return "date" if shown.lower() != "general" and _DATE.search(shown) else ""


def whole(text: str | None) -> int:
    """A number of an attribute; 0 for what is none."""
    return int(text) if text and len(text) < 18 and text.isdecimal() else 0


def unescaped(text: str) -> str:
    """Text with `_x000D_` and the like as the characters that they stand for."""
    if "_x" not in text:
        return text
    found = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    if any("\ud800" <= character <= "\udfff" for character in found):  # two halves make one
        found = found.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return found


def _refuse_others(content: IO[bytes], name: str) -> None:
    """Say in words what a file is that is no ZIP."""
    content.seek(0)
    begin = content.read(CHUNK_BYTES)
    if begin.startswith(b"PK\x03\x04"):
        return
    if begin.startswith(OLE_MAGIC):
        overlap = b""
        while begin:
            if ENCRYPTED in overlap + begin:
                raise _protected(name)
            overlap, begin = begin[-len(ENCRYPTED) :], content.read(CHUNK_BYTES)
        raise SourceError(f"{name} is an old .xls workbook", hint="Open it and save it as .xlsx")
    what, hint = "is not an .xlsx workbook", "Check `path`"
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not begin:
        what = "is empty"
    elif text.startswith((b"<!doctype html", b"<html", b"<table", b"<meta", b"<head")):
        what, hint = (
            "is a web page, whatever its name says",
            "Open it in Excel and save it as .xlsx",
        )
    elif text.startswith(b"<?xml"):
        what, hint = "is XML, whatever its name says", "Open it in Excel and save it as .xlsx"
    elif b"\0" not in begin:
        what, hint = "is text, not a workbook", 'Use connector = "csv"'
    raise SourceError(f"{name} {what}", hint=hint)


def _protected(name: str) -> SourceError:
    return SourceError(
        f"{name} is protected by a password",
        hint="Save it without one (File, Info, Protect Workbook); no password is taken here",
    )


def _damaged(name: str, why: str) -> SourceError:
    return SourceError(
        f"{name}: the workbook is damaged or cut off", why=why, hint="Save it again, as .xlsx"
    )
