"""How far a read has come: page tokens that must not come twice, the latest change seen, and cursors.

Source: connectors reference, "Three rules that hold for nearly every vendor", and part A.3.3.
"""

import zlib
from base64 import b64decode, b64encode
from collections.abc import Hashable, Iterable
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

import orjson

from syncd.errors import SourceError
from syncd.http.times import parse_time, rfc3339

PAGES_MAX = 1_000_000  # more pages than any account has: a listing that never ends


class Trail:
    """The page tokens of one listing. A token that comes twice is a loop, which would go on for ever or leave rows out."""

    def __init__(self, what: str) -> None:
        self._what, self._last, self._count = what, None, 0
        # A loop of any length comes back to the token that stood at a power of two (Brent): no set of all tokens is kept.
        self._mark: Hashable = None

    def step(self, token: Hashable) -> None:
        """Go on to the page of this token. Raises SourceError when it stood before."""
        self._count += 1
        if token == self._mark or self._count > PAGES_MAX:
            raise SourceError(
                f"{self._what}: the listing does not end",
                why=f"The same page was handed out again after {self._count} pages",
                hint="This is the vendor's mistake, mostly for a moment: the next run reads it anew",
            )
        if self._count & (self._count - 1) == 0:
            self._mark = token


class HighWater:
    """The time up to which a read has seen all changes: where the next one goes on.

    It is the latest change that was seen, but never later than the moment when the read began (by the vendor's clock): what changed
    while the read went on may have been passed already. Without any change it stays where it was.
    """

    def __init__(self, *, began: datetime, since: datetime | None) -> None:
        self._began, self._since = began, since
        self._latest: datetime | None = None

    def see(self, changed: datetime | None) -> None:
        """A record that was changed at this time has been yielded."""
        if changed is not None and (self._latest is None or changed > self._latest):
            self._latest = changed

    def reached(self) -> datetime | None:
        """Where the next read goes on, before its overlap; None where nothing was ever seen."""
        if self._latest is None:
            return self._since
        reached = min(self._latest, self._began)
        return reached if self._since is None else max(reached, self._since)


def write_cursor(version: int, **parts: Any) -> str:
    """An opaque cursor; datetimes become RFC 3339 with microseconds."""
    plain = {
        name: rfc3339(part, timespec="microseconds") if isinstance(part, datetime) else part
        for name, part in parts.items()
    }
    return orjson.dumps({"v": version, **plain}).decode()


def read_cursor(text: str, version: int) -> dict[str, Any] | None:
    """The parts of a cursor of this version; None for any other text: then a Resync is due."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or found.pop("v", None) != version:
        return None
    return found


def pack_ids(ids: Iterable[int]) -> str:
    """Ids for a cursor: the steps between them, compressed, mostly less than two bytes each."""
    ordered = sorted(ids)
    steps = [high - low for low, high in zip([0, *ordered], ordered, strict=False)]
    return b64encode(zlib.compress(orjson.dumps(steps))).decode()


def unpack_ids(text: object) -> set[int] | None:
    """What was packed; None where that is no such text."""
    if not isinstance(text, str):
        return None
    try:
        return set(accumulate(orjson.loads(zlib.decompress(b64decode(text, validate=True)))))
    except (TypeError, ValueError, zlib.error):
        return None


def since_of(text: str | None, version: int, overlap: timedelta) -> datetime | None:
    """The `since` of a cursor, less the overlap; None where the cursor has none, or is of no use."""
    parts = None if text is None else read_cursor(text, version)
    since = None if parts is None else parse_time(parts.get("since"))
    return None if since is None else since - overlap
