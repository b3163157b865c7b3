"""Who is in which HubSpot list, and what has changed there since the last read.

Joining a list does not change a contact [S1], so that a search for changes never shows it: the members of all lists are read
whole each time. Who joined is told by the time of joining; who left, by nobody: then everything is read anew.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any

from connectors.hubspot.vendor import READ_LISTS, pages
from syncd.errors import SourceError
from syncd.http import Api, Trail, parse_time, rfc3339

MEMBER_ROWS = 250  # the largest page
LISTS_ROWS = 500  # the largest page of lists
RECENT_MAX = 10_000  # members in a cursor: a list that would exceed it is read anew with everybody
CONTACT = "0-1"  # HubSpot's number of the kind of object


@dataclass(slots=True)
class Members:
    """One list as it is now, against what the last read knew of it.

    ids: sorted. changed: contacts to be read again, for they joined, or may have left since. lost: somebody left, nobody knows who.
    settled: the digest of those who joined before the cutoff; recent: who joined after it, for times within the overlap may have
    been seen or not.
    """

    id: str
    name: str
    ids: "array[int]"  # Python 3.11 cannot subscript it
    changed: "array[int]"
    lost: bool
    settled: str
    recent: "array[int]"


class Lists:
    """The lists of contacts in one read, with everybody who is in them. Raises SourceError.

    before: what the last read's cursor says of each list; None in a full read. cutoff: who joined after it may not be listed yet.
    """

    def __init__(
        self,
        api: Api,
        names: tuple[str, ...] | None,
        before: Mapping[str, Any] | None,
        cutoff: datetime,
    ) -> None:
        found = [one for one in lists_of(api) if names is None or one["name"] in names]
        unknown = set(names or ()) - {one["name"] for one in found}
        if unknown:
            raise SourceError(
                f"HubSpot has no list {sorted(unknown)[0]!r} of contacts",
                hint="Correct the name in `lists`, or leave `lists` out for all",
            )
        self._cutoff = cutoff
        self._all = [_members(api, one["listId"], one["name"], before, cutoff) for one in found]
        gone = set(before or ()) - {one.id for one in self._all}
        self.lost = bool(gone) or any(one.lost for one in self._all)

    def of(self, keys: Sequence[int]) -> dict[int, list[str]]:
        """contact -> the names of its lists, each once, for the contacts of one page. Who is in none is not among them."""
        found: dict[int, dict[str, None]] = {}
        if keys:
            low, high, wanted = min(keys), max(keys), set(keys)
            for one in self._all:  # two searches a list and page, not one a list and contact
                start, end = bisect_left(one.ids, low), bisect_right(one.ids, high)
                narrow = end - start <= 4 * len(wanted)
                within = one.ids[start:end] if narrow else _among(one.ids, wanted)
                for key in wanted.intersection(within):
                    found.setdefault(key, {})[one.name] = None
        return {key: list(names) for key, names in found.items()}

    def changed(self) -> set[int]:
        """Whoever must be read again, because a list has changed for them."""
        return {key for one in self._all for key in one.changed}

    def summary(self) -> dict[str, Any]:
        """What the next read needs to know. Without a digest a list counts as one that somebody has left."""
        left, found = RECENT_MAX, {}
        for one in sorted(self._all, key=lambda one: len(one.recent)):
            fits = len(one.recent) <= left
            left -= len(one.recent) if fits else 0
            found[one.id] = {
                "cutoff": rfc3339(self._cutoff),
                "digest": one.settled if fits else "",
                "recent": list(one.recent) if fits else [],
            }
        return found


def _among(ids: "array[int]", wanted: Iterable[int]) -> Iterator[int]:
    for key in wanted:
        place = bisect_left(ids, key)
        if place < len(ids) and ids[place] == key:
            yield key


def _members(
    api: Api, number: Any, name: str, before: Mapping[str, Any] | None, cutoff: datetime
) -> Members:
    """One list. What is new in it counts as changed; in a full read nothing does."""
    key = str(number)
    known = before.get(key) if before else None
    then = parse_time(known["cutoff"]) if known else None
    settled, held = (blake2b(name.encode("utf-8", "replace"), digest_size=12) for _ in range(2))
    ids, changed, recent = array("q"), array("q"), array("q")
    path = f"/crm/v3/lists/{key}/memberships"
    for rows in pages(api, path, {"limit": MEMBER_ROWS}, needs=READ_LISTS):
        for row in rows:
            member, joined = int(row["recordId"]), parse_time(row.get("membershipTimestamp"))
            ids.append(member)
            if joined is None or joined < cutoff:
                settled.update(b"%d;" % member)
            else:
                recent.append(member)
            if before is None:
                continue
            if known is None or (then is not None and joined is not None and joined >= then):
                changed.append(member)
            else:
                held.update(b"%d;" % member)
    if any(ids[n] >= ids[n + 1] for n in range(len(ids) - 1)):
        ids = array("q", sorted(set(ids)))
    lost = known is not None and known["digest"] != held.hexdigest()
    changed.extend(known["recent"] if known else ())
    return Members(key, name, ids, changed, lost, settled.hexdigest(), recent)


def lists_of(api: Api) -> Iterator[dict[str, Any]]:
    """The lists of contacts, static and dynamic; never those of other objects, whose ids are the ids of some contacts too."""
    offset, trail = 0, Trail("HubSpot's lists")
    while True:
        trail.step(offset)
        found = api.post(
            "/crm/v3/lists/search",
            {
                "query": "",
                "offset": offset,
                "count": LISTS_ROWS,
                "processingTypes": [],
                "objectTypeId": CONTACT,
            },
            needs=READ_LISTS,
        )
        rows = found.get("lists") if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise SourceError(
                "HubSpot: the search for lists answered without `lists`",
                hint="Check base_url: is this HubSpot's API?",
            )
        yield from (one for one in rows if one.get("objectTypeId") in (None, CONTACT))
        if not found.get("hasMore"):
            return
        offset = found["offset"]
