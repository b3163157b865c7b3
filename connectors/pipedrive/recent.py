"""Who was deleted or merged in Pipedrive lately, as far as its old log of recent changes tells.

Version 1's `recents` is still there [S5] and may vanish; that a deleted person comes with `active_flag` false, and the one that is left of
a merge with `merge_what_id`, is not certain [M]. So it is a rumour only: whoever it names is asked for by id, and Pipedrive leaves out
who is gone [S1]. Without it, and for what it does not tell, the full read finds everybody.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors.pipedrive.vendor import BATCH_IDS, PERSONS, READ_CONTACTS, RECENTS, rows_of
from syncd.errors import SourceDenied, SourceRefused
from syncd.http import Api

PAGE_ROWS, PAGES_MAX = 500, 10  # 20 tokens a page; after an import the full read is cheaper

Row = Mapping[str, Any]


@dataclass(slots=True)
class Rumours:
    """gone: who may be gone -> the addresses that such a person had. merged: two of whom one may have become the other."""

    gone: dict[int, list[str]] = field(default_factory=dict)
    merged: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Lost:
    """gone: who is gone -> the addresses that such a person had. into: loser -> who is left and there."""

    gone: Mapping[int, Sequence[str]]
    into: Mapping[int, int]


def lost_since(api: Api, since: datetime) -> Lost:
    """Who is gone since then, as far as it is told. Raises SourceError where persons cannot be asked for."""
    heard = _heard(api, since)
    named = sorted({*heard.gone, *(one for pair in heard.merged for one in pair)})
    there = _there(api, named)
    into = _winners(heard.merged, there)
    gone = {key: heard.gone.get(key, []) for key in named if key not in there}
    return Lost(gone, into)


def _winners(pairs: Sequence[tuple[int, int]], there: set[int]) -> dict[int, int]:
    """loser -> who is left at the end: A into B, and B into C, makes both C. Of two who are there, or gone, nobody knows who it is."""
    into = dict[int, int]()
    for _ in pairs:  # as many rounds as the longest way could have
        for one, other in [*pairs, *((other, one) for one, other in pairs)]:
            if one not in there and (winner := other if other in there else into.get(other)):
                into.setdefault(one, winner)
    return into


def _heard(api: Api, since: datetime) -> Rumours:
    """Nothing where the log is not there, or not for this login."""
    heard = Rumours()
    try:
        for row in _rows(api, since):
            data = row.get("data")
            person: Row = data if isinstance(data, dict) else {}
            key, other = int(row.get("id") or 0), person.get("merge_what_id")
            if not key:
                continue
            if data is None or person.get("active_flag") is False:
                heard.gone[key] = _addresses(person)
            if isinstance(other, int) and other and other != key:
                heard.merged.append((key, other))
    except (SourceDenied, SourceRefused):
        return Rumours()
    return heard


def _rows(api: Api, since: datetime) -> Iterator[Row]:
    start = 0
    for _ in range(PAGES_MAX):
        query: dict[str, str | int] = {
            "since_timestamp": f"{since:%Y-%m-%d %H:%M:%S}",
            "items": "person",
            "start": start,
            "limit": PAGE_ROWS,
        }
        found = api.get(RECENTS, query)
        yield from (row for row in rows_of(found, RECENTS) if row.get("item") == "person")
        pagination = (found.get("additional_data") or {}).get("pagination") or {}
        following = pagination.get("next_start")
        if not pagination.get("more_items_in_collection") or not isinstance(following, int):
            return
        start = following


def _there(api: Api, ids: Sequence[int]) -> set[int]:
    """Who of these persons is there."""
    found = set[int]()
    for start in range(0, len(ids), BATCH_IDS):
        some = ",".join(map(str, ids[start : start + BATCH_IDS]))
        rows = rows_of(
            api.get(PERSONS, {"ids": some, "limit": BATCH_IDS}, needs=READ_CONTACTS), PERSONS
        )
        found.update(int(row["id"]) for row in rows if not row.get("is_deleted"))
    return found


def _addresses(person: Row) -> list[str]:
    """Version 1 names the list of addresses in the singular."""
    entries = person.get("email") or person.get("emails")
    return [
        str(one["value"])
        for one in (entries if isinstance(entries, list) else ())
        if isinstance(one, dict) and one.get("value")
    ]
