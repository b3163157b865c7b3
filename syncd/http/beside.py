"""What a cursor keeps of what stands beside records and changes without them: names, and the members of lists.

A label that is renamed, a person who joins a list: neither moves the time of a record's last change. Digests are enough to notice it,
and they hold nobody's name.
"""

from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any


def digests(names: Mapping[str, str]) -> dict[str, str]:
    """thing -> digest of its name."""
    return {
        key: blake2b(name.encode(errors="replace"), digest_size=6).hexdigest()
        for key, name in names.items()
    }


def are_other(before: Any, now: Mapping[str, str]) -> bool:
    """Whether something that a cursor knows has another digest now, or has gone; what is new is in no record yet.

    True where the cursor knows nothing.
    """
    return not isinstance(before, dict) or any(now.get(key) != one for key, one in before.items())


def members_digest(lists: Iterable[tuple[str, Collection[Any]]]) -> str:
    """Another one where a list has other members; empty without lists. lists: name and ids of each."""
    digest, empty = blake2b(digest_size=12), True
    for name, ids in lists:
        digest.update(repr((name, sorted(ids))).encode(errors="replace"))
        empty = False
    return "" if empty else digest.hexdigest()
