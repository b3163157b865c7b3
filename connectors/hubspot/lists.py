"""Who is in which HubSpot list, and what has changed there since the last read.

Joining a list does not change a contact [S1], so that a search for changes never shows it: the members of all lists are read
whole each time. Who joined is told by the time of joining; who left, by nobody: then everything is read anew.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from connectors.hubspot.vendor import READ_LISTS, pages
from syncd.errors import SourceError
from syncd.http import Api, Trail, parse_time, rfc3339

MEMBER_ROWS = 250  # the largest page
RECENT_MAX = 1000  # members in a cursor: with more, the next read of this list starts anew


@dataclass(slots=True)
class Members:
    """One list as it is now, against what the last read knew of it.

    ids: sorted. changed: contacts to be read again, for they joined, or may have left since. lost: somebody left, nobody knows who.
    summary: what the next read needs: the digest of those who joined before `cutoff`, and who joined after it, for times
    within the overlap may have been seen or not.
    """

    id: str
    name: str
    ids: "array[int]"  # Python 3.11 cannot subscript it
    changed: set[int]
    lost: bool
    summary: dict[str, Any]

    def holds(self, key: int) -> bool:
        """Whether this contact is in the list."""
        place = bisect_left(self.ids, key)
        return place < len(self.ids) and self.ids[place] == key


def all_members(
    api: Api, names: tuple[str, ...] | None, before: Mapping[str, Any], cutoff: datetime
) -> Iterator[Members]:
    """The lists of contacts with everybody who is in them: joining a list does not change a contact. Raises SourceError."""
    found = [one for one in lists_of(api) if names is None or one["name"] in names]
    unknown = set(names or ()) - {one["name"] for one in found}
    if unknown:
        raise SourceError(
            f"HubSpot has no list {sorted(unknown)[0]!r} of contacts",
            hint="Correct the name in `lists`, or leave `lists` out for all",
        )
    for one in found:
        yield _members(
            api, str(one["listId"]), str(one["name"]), before.get(str(one["listId"])), cutoff
        )


def _members(api: Api, key: str, name: str, before: Any, cutoff: datetime) -> Members:
    """One list. before: its summary at the last read, if it was there."""
    then = parse_time(before.get("cutoff")) if before else None
    settled, known = (blake2b(name.encode(), digest_size=12) for _ in range(2))
    ids, changed, recent = array("q"), set[int](), []
    path = f"/crm/v3/lists/{key}/memberships"
    for rows in pages(api, path, {"limit": MEMBER_ROWS}, needs=READ_LISTS):
        for row in rows:
            member, joined = int(row["recordId"]), parse_time(row.get("membershipTimestamp"))
            ids.append(member)
            if joined is None or joined < cutoff:
                settled.update(b"%d;" % member)
            else:
                recent.append(member)
            if then is not None and joined is not None and joined >= then:
                changed.add(member)
            else:
                known.update(b"%d;" % member)
    ids = array("q", sorted(ids))
    lost = bool(before) and before.get("digest") != known.hexdigest()
    changed |= set(before.get("recent", ())) if before else set(ids)
    digest = settled.hexdigest() if len(recent) <= RECENT_MAX else ""
    summary = {"cutoff": rfc3339(cutoff), "digest": digest, "recent": recent[:RECENT_MAX]}
    return Members(key, name, ids, changed, lost, summary)


def lists_of(api: Api) -> Iterator[dict[str, Any]]:
    """The lists of contacts, static and dynamic."""
    offset, trail = 0, Trail("HubSpot's lists")
    while True:
        trail.step(offset)
        found = api.post(
            "/crm/v3/lists/search",
            {
                "query": "",
                "offset": offset,
                "count": 500,
                "processingTypes": [],
                "objectTypeId": "0-1",
            },
            needs=READ_LISTS,
        )
        yield from found["lists"]
        if not found.get("hasMore"):
            return
        offset = found["offset"]
