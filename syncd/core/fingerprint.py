"""The fingerprint of a raw record: the digest that decides "changed?", so that an unchanged record
is not even mapped.

It covers the names that the mapping uses, and the mapping's version: a field that nobody maps
changes nothing, a changed mapping changes everything. One call per record of every full read, so it
is a compiled closure.
"""

import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

DIGEST_BYTES = 16

_ABSENT = (
    b"?"  # no JSON text begins with it: a record without a name never equals one with another value
)


def compile_fingerprint(names: Iterable[str], version: str) -> Callable[[Mapping[str, Any]], bytes]:
    """A function from a record to its fingerprint: stable across key order, processes and machines.

    A name that is absent is not the same as one whose value is None: it was not read.
    """
    ordered = sorted(names)
    start = hashlib.blake2b(version.encode(), digest_size=DIGEST_BYTES)
    values = operator.itemgetter(*ordered) if ordered else _nothing
    dumps, sort_keys = orjson.dumps, orjson.OPT_SORT_KEYS

    def fingerprint(record: Mapping[str, Any]) -> bytes:
        digest = start.copy()
        try:
            digest.update(dumps(values(record), _text, sort_keys))
        except (KeyError, TypeError):  # a name is absent, or a value is beyond plain JSON
            digest.update(_ABSENT)
            digest.update(_dumps({name: record[name] for name in ordered if name in record}))
        return digest.digest()

    return fingerprint


def compile_fingerprints(
    names: Iterable[str], version: str
) -> Callable[[Sequence[str], Sequence[Sequence[Any]]], list[bytes] | None]:
    """A function from the columns and the rows of a table to their fingerprints, the same as of each row as a record.

    It gives None where the table lacks a name, or holds a value beyond plain JSON: then each row is asked for by itself.
    """
    ordered = sorted(names)
    start = hashlib.blake2b(version.encode(), digest_size=DIGEST_BYTES)
    dumps, sort_keys = orjson.dumps, orjson.OPT_SORT_KEYS

    def fingerprints(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bytes] | None:
        if len(ordered) < 2 or not set(ordered) <= set(columns):
            return None
        found = []
        values: Iterable[Any] = rows
        if ordered != list(columns):
            values = map(operator.itemgetter(*map(columns.index, ordered)), rows)
        try:
            for row in values:
                digest = start.copy()
                digest.update(dumps(row, _text, sort_keys))
                found.append(digest.digest())
        except TypeError:
            return None
        return found

    return fingerprints


def _nothing(_record: Mapping[str, Any]) -> tuple[()]:
    return ()


def _dumps(present: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(present, _text, orjson.OPT_SORT_KEYS)
    except TypeError:  # whole numbers over 64 bits, broken Unicode, keys that are no text
        return json.dumps(_sorted(present), default=_text).encode()


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return sorted([str(key), _sorted(item)] for key, item in value.items())
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value


def _text(value: Any) -> Any:
    """What JSON has no form for: databases give Decimal, bytes and intervals. Never a memory
    address.
    """
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    return bytes(value).hex() if isinstance(value, bytes | bytearray | memoryview) else str(value)
