"""What stands beside the people and changes without their `write_date`, in a form that fits into a cursor.

An opt-out on the blacklist, a tag given from the tag's side, a subscription to a mailing list: none of these moves a partner's
`write_date` (connectors-seen, Odoo, points 2 and 8, and "Opt-out does not move the partner"). So they are read whole in each
read, and summed up in two tables of buckets, by id and by address. The buckets whose sums differ from the last read's say
whose records must be read again: all who are concerned, who left too, and a few others, which is harmless.
"""

import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

BUCKETS = 2_048  # in each table: 8 KB before compression, and 500 people in a bucket of a million
_PACKED = struct.Struct(f"<{BUCKETS}I")
_MODULUS = 2**32


@dataclass(frozen=True, slots=True)
class Changed:
    """The buckets in which something has changed."""

    ids: frozenset[int]
    addresses: frozenset[int]

    def __bool__(self) -> bool:
        return bool(self.ids or self.addresses)

    def concerns(self, key: int, addresses: Iterable[str]) -> bool:
        """Whether the person with this id and these addresses (in lower case) may have changed."""
        return key % BUCKETS in self.ids or (
            bool(self.addresses) and any(bucket_of(one) in self.addresses for one in addresses)
        )


class Marks:
    """The sums of one read. Sums, not exclusive ors: two equal marks must not cancel each other."""

    def __init__(self) -> None:
        self._ids, self._addresses = [0] * BUCKETS, [0] * BUCKETS

    def of_id(self, key: int, what: str) -> None:
        """The person with this id has this mark ("tag VIP")."""
        _add(self._ids, key % BUCKETS, f"{key};{what}")

    def of_address(self, address: str, what: str) -> None:
        """Whoever has this address, in lower case, has this mark ("blacklist")."""
        _add(self._addresses, bucket_of(address), f"{address};{what}")

    def summary(self) -> dict[str, str]:
        """For the cursor."""
        return {"ids": _pack(self._ids), "addresses": _pack(self._addresses)}

    def changed_since(self, before: Any) -> Changed | None:
        """What differs from an earlier summary; None where that is none."""
        try:
            ids, addresses = _unpack(before["ids"]), _unpack(before["addresses"])
        except (TypeError, KeyError, ValueError, zlib.error, struct.error):
            return None
        return Changed(_differing(ids, self._ids), _differing(addresses, self._addresses))


def bucket_of(address: str) -> int:
    """The bucket of an address in lower case."""
    return (
        int.from_bytes(blake2b(address.encode(errors="replace"), digest_size=4).digest()) % BUCKETS
    )


def _add(table: list[int], bucket: int, text: str) -> None:
    digest = blake2b(text.encode(errors="replace"), digest_size=4).digest()
    table[bucket] = (table[bucket] + int.from_bytes(digest)) % _MODULUS


def _pack(table: list[int]) -> str:
    return b64encode(zlib.compress(_PACKED.pack(*table))).decode()


def _unpack(text: str) -> tuple[int, ...]:
    return _PACKED.unpack(zlib.decompress(b64decode(text, validate=True)))


def _differing(one: Iterable[int], other: Iterable[int]) -> frozenset[int]:
    pairs = enumerate(zip(one, other, strict=True))
    return frozenset(bucket for bucket, (then, now) in pairs if then != now)
