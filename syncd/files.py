"""Files as sources: which ones a pattern or URL names, their lines, and whether they are whole.

It owns what file connectors share: patterns, gzip, encodings, the digest of a token, limits, and
the proof that nobody wrote to a file while it was read. What a line means is the connector's
business; how files elsewhere are fetched is `syncd.remote`'s. An encoding is never guessed: UTF-8,
or UTF-16 by its byte-order mark; any other must be set (design, decision 17).
"""

import codecs
import glob
import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Protocol

from pydantic import Field, field_validator, model_validator

from syncd.connector import Context, Options, SourceField
from syncd.errors import ConfigError, SourceError
from syncd.remote.options import Storage, is_url, url_fault
from syncd.secret import SCHEMES, Secret

FILES_MAX = 10_000  # more files than this is a pattern that took in the wrong folder
LINE_CHARS_MAX = (
    16 * 1024 * 1024
)  # the longest line held in memory; longer is not a text file of people
# A note of a megabyte is no mistake. The csv module has one limit for the whole process, so there is one here too.
CSV_VALUE_CHARS_MAX = 32 * 1024 * 1024
EXAMPLE_CHARS_MAX = 60  # an example is shown in a table cell
CHUNK_BYTES = (
    64 * 1024
)  # read at once; larger chunks were slower, as they leave the processor's cache
GZIP_MAGIC = b"\x1f\x8b"
SPREADSHEET_MAGICS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")  # .xlsx and .ods; .xls
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def find(pattern: str, folder: Path) -> list[Path]:
    """The files that `pattern` names, sorted; at least one, or SourceError.

    A relative pattern starts at `folder`. A path that exists is taken literally, also when its name
    holds a `*` or `[`. Hidden files need an explicit dot.
    """
    try:
        expanded = Path(pattern).expanduser()
    except RuntimeError as error:
        raise SourceError(
            f"The folder of {pattern} is not known", why=str(error), hint="Write the whole path"
        ) from None
    path = folder / expanded
    with _failures(pattern):
        if path.exists():
            return [path]
        names = glob.iglob(  # noqa: PTH207  Path.glob takes no absolute pattern, and hidden files
            str(expanded), root_dir=folder, recursive=True
        )
        found = sorted({folder / name for name in islice(names, FILES_MAX + 1)})
    if len(found) > FILES_MAX:
        raise SourceError(f"{pattern} matches more than {FILES_MAX} files", hint="Narrow `path`")
    found = [file for file in found if file.is_file()]
    if not found:
        raise SourceError(
            f"No file matches {pattern}",
            why=f"Looked for {path.absolute()}",
            hint="Correct `path`; a relative path starts at the folder of the configuration",
        )
    return found


def shown(path: Path, folder: Path) -> str:
    """A file's name in places and errors: relative to the configuration's folder if below it."""
    try:
        return str(path.relative_to(folder))
    except ValueError:
        return str(path)


class FileOptions(Options):
    """The options that all files have."""

    path: str = Field(min_length=1)
    """A file or a pattern such as `exports/*.csv`, here or at https://, s3:// or sftp://. A URL that holds a secret is a reference."""
    key: str | None = Field(default=None, min_length=1)
    """What identifies a record for ever; without it the e-mail address does."""
    storage: Storage | None = None
    """How to log in at the URL."""

    @model_validator(mode="after")
    def _reachable(self) -> "FileOptions":
        fault = ""
        if is_url(self.path):
            fault = url_fault(self.path, self.storage or Storage(), written=True)
        elif self.storage is not None and not _is_reference(self.path):
            fault = "`storage` is for URLs only"
        if fault:
            raise ValueError(fault)
        return self


class TextOptions(FileOptions):
    """The options that all text files have."""

    encoding: str | None = None
    """Any that Python knows; without it UTF-8, or UTF-16 by its byte-order mark."""

    @field_validator("encoding")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return _known_encoding(value) if value is not None else None


class File(Protocol):
    """One file, here or elsewhere."""

    @property
    def name(self) -> str:
        """How places and errors call it."""

    def stamp(self) -> str:
        """What tells its content from any other without its bytes; "" if nothing does."""

    def open(self, *, keep: bool = False) -> AbstractContextManager[IO[bytes]]:
        """Its bytes, to be read in any order. Leaving normally proves that nobody wrote to it.

        keep: it will be opened again soon. Raises SourceError.
        """


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file of this machine."""

    path: Path
    name: str

    def stamp(self) -> str:
        """There is none: a time may stay when bytes change, and reading them is cheap."""
        return ""

    @contextmanager
    def open(self, *, keep: bool = False) -> Iterator[IO[bytes]]:  # noqa: ARG002  it is kept here
        """The bytes of a regular file. Raises SourceError."""
        with _opened(self.path, self.name) as file:
            before = os.fstat(file.fileno())
            yield file
            with _failures(self.name):
                _unchanged(self.path, self.name, before)


class Files:
    """The files that a source's options name. Construction touches nothing outside."""

    def __init__(self, options: FileOptions, context: Context) -> None:
        self._options, self._context = options, context
        self._remote: Any = None

    def all(self) -> Sequence[File]:
        """The files, sorted by name; at least one, or SourceError. Raises ConfigError."""
        remote = self._elsewhere()
        if remote is None:
            path, folder = self._options.path, self._context.folder
            return [LocalFile(file, shown(file, folder)) for file in find(path, folder)]
        found: Sequence[File] = remote.files()
        return found

    def _elsewhere(self) -> Any:
        """The files of a URL; None for files here."""
        path, folder = self._options.path, self._context.folder
        if not is_url(path) and not _is_reference(path):
            return None
        if self._remote is None:
            from syncd.remote.remote_file import Remote  # it brings the HTTP client along

            storage = self._options.storage or Storage()
            self._remote = Remote(self._url(storage), storage, folder, self._context.clock)
        return self._remote

    def _url(self, storage: Storage) -> str:
        """The URL, also out of a reference; there it is looked at only now."""
        path = self._options.path
        if is_url(path):
            return path
        url = Secret(path, folder=self._context.folder).reveal()
        fault = "it does not hold the URL of a file"
        if is_url(url):
            fault = url_fault(url, storage, written=False)
        if fault:
            raise ConfigError(
                f"`path`, {path}: {fault}", hint="Write a URL as https://host/people.csv"
            )
        return url

    def token(self) -> str:
        """A digest of names, options, and stamps or bytes: while it is equal, so is what is read.

        Raises SourceError.
        """
        total = hashlib.blake2b(self._options.model_dump_json().encode(), digest_size=32)
        remote = self._elsewhere()
        with nullcontext() if remote is None else remote.session():
            for file in self.all():
                stamp = file.stamp()
                total.update(f"\0{file.name}\0{stamp}\0".encode("utf-8", "surrogateescape"))
                if not stamp:
                    with file.open() as content, _failures(file.name):
                        total.update(f"{content.seek(0, os.SEEK_END)}\0".encode())
                        content.seek(0)
                        while block := content.read(16 * CHUNK_BYTES):
                            total.update(block)
        return total.hexdigest()

    def counted(self, count: int, what: str) -> str:
        """For `check`: "people.csv, 5,020 rows"."""
        files = self.all()
        return f"{files[0].name if len(files) == 1 else f'{len(files)} files'}, {count:,} {what}"


class TextFile:
    """One text file, open for one pass over its lines; a context manager.

    encoding: a Python codec; None for UTF-8, or UTF-16 by byte-order mark. keep: as of `File.open`.
    """

    def __init__(self, file: File, encoding: str | None, *, keep: bool = False) -> None:
        self._source = _chunks(file, encoding, keep=keep)
        self._chunks: Iterator[str] = self._source

    def __enter__(self) -> "TextFile":
        return self

    def __exit__(self, *exc: object) -> None:
        self._source.close()

    def sample(self) -> str:
        """The first whole lines, up to some 64 KiB; they are still part of `lines()`."""
        first = next(self._chunks, "")
        self._chunks = chain((first,), self._chunks)
        return first

    def lines(self) -> Iterator[str]:
        """The lines with their ends (\\n, \\r\\n or \\r), without a byte-order mark.

        Raises SourceError, with the line, for bytes that do not decode, NUL and over-long lines;
        and, at the end, when the file was changed in the meantime.
        """
        return chain.from_iterable(io.StringIO(chunk, newline="") for chunk in self._chunks)


def examples(names: Iterable[str], records: Iterable[Mapping[str, Any]]) -> list[SourceField]:
    """The fields called `names`, each with its first value in `records` that is not empty."""
    found = dict.fromkeys(names, "")
    for record in records:
        for name, value in record.items():
            if found.get(name) == "" and value not in (None, ""):
                found[name] = str(value)[:EXAMPLE_CHARS_MAX]
    return [SourceField(name, example=example) for name, example in found.items()]


def key_column(key: str | None, columns: Sequence[str], name: str) -> int | None:
    """Where the key stands among the columns of the file `name`; None without a key. Raises ConfigError."""
    if key is None:
        return None
    if key in columns:
        return columns.index(key)
    near = get_close_matches(key, columns, n=1, cutoff=0.5)
    raise ConfigError(
        f"The key column {key!r} is not in {name}",
        why=f"Its columns are {', '.join(columns)}",
        hint=f"Did you mean {near[0]!r}?" if near else "Set `key` to one of them",
    )


def same_columns(
    first: Sequence[str], first_name: str, other: Sequence[str], other_name: str
) -> None:
    """Files of one pattern have the same columns, in any order; else SourceError."""
    lacking, added = set(first) - set(other), set(other) - set(first)
    if lacking or added:
        difference = [f"without {name!r}" for name in sorted(lacking)]
        difference += [f"with {name!r}" for name in sorted(added)]
        raise SourceError(
            f"{first_name} and {other_name} do not have the same columns",
            why=f"{other_name} is {', '.join(difference)}",
            hint="Make `path` match files of one kind only",
        )


def _is_reference(path: str) -> bool:
    """Whether `path` says where the URL is written, because it holds a secret."""
    scheme, _, name = path.partition(":")
    return scheme in SCHEMES and bool(name)


def _known_encoding(name: str) -> str:
    """`name` if Python can decode text with it. Raises ValueError."""
    try:
        codec = codecs.lookup(name)
        b"x".decode(name)  # codecs from bytes to bytes, such as base64, are refused here
    except UnicodeError:
        pass  # one byte is not yet a character
    except (LookupError, ValueError):
        codec = None
    if codec is None or codec.incrementaldecoder is None:
        raise ValueError(f"{name!r} is not a text encoding; usual ones are cp1252, latin-1, utf-16")
    return name


def _chunks(file: File, encoding: str | None, *, keep: bool) -> Generator[str, None, None]:
    """The decoded text in pieces that end at line ends."""
    name = file.name
    line, tail = 1, ""  # `line`: of the first character of `tail`
    with file.open(keep=keep) as raw, _failures(name):
        plain = _plain(raw)
        block = plain.read(CHUNK_BYTES)
        if block.startswith(SPREADSHEET_MAGICS):
            raise SourceError(
                f"{name} is a spreadsheet or an archive, not a text file",
                hint="Export it as CSV, in UTF-8",
            )
        decode = _decoder(block, encoding)
        start = True
        while True:
            try:
                text = decode(block, not block)
            except UnicodeDecodeError as error:
                line += _line_ends(tail + _readable(error))
                raise _undecodable(name, line, encoding, error) from None
            if start and text:
                text, start = text.removeprefix("\ufeff"), False
            if "\0" in text:
                line += _line_ends(tail + text[: text.index("\0")])
                raise _nul(name, line, encoding)
            text = tail + text
            if not block:
                break
            # A final \r may be the first half of \r\n.
            cut = (text.rfind("\n") + 1) or (text.rfind("\r", 0, -1) + 1)
            tail = text[cut:]
            if cut:
                yield text[:cut]
                line += _line_ends(text[:cut])
            if len(tail) > LINE_CHARS_MAX:
                raise SourceError(
                    f"{name}:{line}: the line is longer than {LINE_CHARS_MAX} characters",
                    hint="Check that this is a text file, one record a line",
                )
            block = plain.read(CHUNK_BYTES)
    if text:
        yield text


def _decoder(block: bytes, encoding: str | None) -> Any:
    if encoding is None:
        encoding = "utf-16" if block.startswith(UTF16_MARKS) else "utf-8"
    return codecs.getincrementaldecoder(encoding)("strict").decode


def _line_ends(text: str) -> int:
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _readable(error: UnicodeDecodeError) -> str:
    """The text before the bytes that do not decode."""
    return error.object[: error.start].decode(error.encoding, "replace")


def _undecodable(
    name: str, line: int, encoding: str | None, error: UnicodeDecodeError
) -> SourceError:
    return SourceError(
        f"{name}:{line}: the bytes do not decode as {encoding or error.encoding}",
        why=f"Byte 0x{error.object[error.start]:02x}: {error.reason}",
        hint='Save the file as UTF-8, or set `encoding` of this source (often "cp1252")',
    )


def _nul(name: str, line: int, encoding: str | None) -> SourceError:
    return SourceError(
        f"{name}:{line}: there is a NUL character",
        why="Text holds none: the file is damaged, or not in the encoding that it was read in",
        hint=""
        if encoding
        else 'If it is UTF-16 without byte-order mark, set `encoding = "utf-16-le"`',
    )


@contextmanager
def _opened(path: Path, name: str) -> Iterator[IO[bytes]]:
    """The raw bytes of a regular file. Anything else (a pipe, a device) could block for ever."""
    with _failures(name):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise SourceError(
                f"{name} is not a file, but a folder",
                hint="Let `path` name a file in it, or a pattern such as people/*.csv",
            )
        if not stat.S_ISREG(mode):
            raise SourceError(
                f"{name} is not a file, but a pipe or a device", hint="Let `path` name a file"
            )
        file = path.open("rb")
    with file:
        yield file


@contextmanager
def _failures(name: str) -> Iterator[None]:
    """Turn the errors of reading into ours."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            f"{name}: the gzip file is damaged or cut off", why=str(error), hint="Export it again"
        ) from None
    except OSError as error:
        raise SourceError(
            f"{name} cannot be read",
            why=error.strerror or str(error),
            hint="Check that it exists and that this user may read it",
        ) from None


def _plain(file: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
    """The file's bytes, unpacked if they are gzip, whatever the name says."""
    magic = file.read(len(GZIP_MAGIC))
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if magic == GZIP_MAGIC else file


def _unchanged(path: Path, name: str, before: os.stat_result) -> None:
    after = path.stat()
    if _identity(before) != _identity(after):
        raise SourceError(
            f"{name} was changed while it was read",
            why="Somebody is writing it: what was read may be half of it",
            hint="It is read again in the next run; write to another name, then rename",
        )


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
