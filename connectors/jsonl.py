"""JSON Lines files: one, or several by a pattern, here or at a URL, one JSON object a line; plain or gzip.

A record is an object, with its values as JSON has them. Each read is a full read: what is no longer
in the file is gone. Objects of one file may differ in their names: a name that an object lacks is
not known for that record.
"""

from collections.abc import Callable, Generator, Iterator
from difflib import get_close_matches
from itertools import chain, islice
from typing import Any, ClassVar

import orjson

from syncd.connector import Abilities, Context, Options, Record, Request, SourceField
from syncd.errors import SourceError
from syncd.files import Files, TextFile, TextOptions, examples

SAMPLE_RECORDS = 1000  # records whose names are the fields, as there is no header


class JsonlOptions(TextOptions):
    """One JSON object a line; the key is a name, or a path of names with dots between."""


class JsonlConnector:
    """One configured JSON Lines source."""

    OPTIONS: ClassVar[type[Options]] = JsonlOptions
    ABILITIES: ClassVar[Abilities] = Abilities(token=True)
    SUMMARY: ClassVar[str] = "JSON Lines files: one, or several by a pattern; plain or gzip"

    def __init__(self, options: JsonlOptions, context: Context) -> None:
        self._options, self._files = options, Files(options, context)

    def check(self) -> str:
        """Read everything and count: what a run would stumble over is found here."""
        count = sum(1 for _ in self.read(Request(fields=frozenset())))
        return self._files.counted(count, "records")

    def fields(self) -> list[SourceField]:
        """The names that the first 1,000 records have, in order of their appearance."""
        records = self._read(None, keep=True)
        sample = [record.fields for record in islice(records, SAMPLE_RECORDS)]
        records.close()
        return examples(chain.from_iterable(sample), sample)

    def preset(self) -> None:
        """There is none: the names are the user's own."""

    def token(self) -> str:
        """A digest of all files, of their names, and of the options."""
        return self._files.token()

    def read(self, request: Request) -> Generator[Record, None, None]:
        """Yield each object of each file, in order."""
        yield from self._read(request.fields, keep=False)

    def _read(self, fields: frozenset[str] | None, *, keep: bool) -> Generator[Record, None, None]:
        for file in self._files.all():
            with TextFile(file, self._options.encoding, keep=keep) as text:
                yield from self._records(text.lines(), file.name, fields)

    def _records(
        self, lines: Iterator[str], name: str, fields: frozenset[str] | None
    ) -> Iterator[Record]:
        key_of = _key_reader(self._options.key)
        loads = orjson.loads
        for number, line in enumerate(lines, 1):
            try:
                found = loads(line)
            except orjson.JSONDecodeError as error:
                if line.isspace():
                    continue
                raise _not_an_object(f"{name}:{number}", str(error)) from None
            if type(found) is not dict:
                raise _not_an_object(f"{name}:{number}", f"It is a {type(found).__name__}")
            key = key_of(found)
            if key is None:
                raise self._keyless(f"{name}:{number}", found)
            if fields is not None:
                found = {field: value for field, value in found.items() if field in fields}
            yield Record(key, found, f"{name}:{number}")

    def _keyless(self, place: str, found: dict[str, Any]) -> SourceError:
        key = self._options.key or ""
        near = get_close_matches(key, found, n=1, cutoff=0.5)
        return SourceError(
            f"{place}: there is no usable key at {key!r}",
            why="A key is a text that is not empty, or a whole number",
            hint=f"Did you mean {near[0]!r}?" if near and near[0] != key else "Correct `key`",
        )


def _key_reader(key: str | None) -> Callable[[dict[str, Any]], str | None]:
    """How to read the key of an object: None where there is none, "" always without the option."""
    if key is None:
        return lambda _: ""
    *parents, last = key.split(".")

    def read(found: Any) -> str | None:
        for parent in parents:
            found = found.get(parent) if type(found) is dict else None
        value = found.get(last) if type(found) is dict else None
        if type(value) is str:
            return value or None
        return str(value) if type(value) is int else None

    return read


def _not_an_object(place: str, why: str) -> SourceError:
    return SourceError(
        f"{place}: the line is not a JSON object",
        why=why,
        hint="Each line holds one whole object; `jq -c '.[]'` makes such a file out of an array",
    )
