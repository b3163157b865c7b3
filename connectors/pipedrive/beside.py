"""What stands beside Pipedrive's persons and changes without their `update_time`: names, filters, and who may be mailed.

An organization, an owner or a label that is renamed does not touch its persons; whether an unsubscribing does, nobody says [?].
So a cursor holds what the last read knew of them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from connectors.pipedrive.vendor import FILTERS, people, rows_of
from syncd.errors import SourceError
from syncd.http import Api, pack_ids, unpack_ids

Row = Mapping[str, Any]


def filter_ids(api: Api, names: Iterable[str]) -> dict[str, str]:
    """name -> id of each of these filters. Raises SourceError where one is missing, or two have its name."""
    rows = rows_of(api.get(FILTERS, {"type": "people"}), FILTERS)
    found = {}
    for name in names:
        ids = [str(row["id"]) for row in rows if row.get("name") == name]
        if len(ids) != 1:
            raise SourceError(
                f"Pipedrive has {len(ids) or 'no'} filter{'s' if ids else ''} {name!r} of people"
                f" that this login can see",
                hint="Correct the name in `filters`; share the filter with its user; rename one of two",
            )
        found[name] = ids[0]
    return found


def filter_members(api: Api, names: Iterable[str]) -> list[tuple[str, frozenset[int]]]:
    """(name, ids of its members) of each of these filters."""
    return [
        (
            name,
            frozenset(int(row["id"]) for page in people(api, {"filter_id": key}) for row in page),
        )
        for name, key in filter_ids(api, names).items()
    ]


class Statuses:
    """Who has which status in campaigns, as it was told: by `note` in this read, by a cursor in the last one."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._now: dict[str, set[int]] = {}
        self._before: dict[str, set[int]] = {}

    def remember(self, kept: object) -> bool:
        """Take over what a cursor has kept; False where that is of no use."""
        if not isinstance(kept, dict):
            return False
        for name, text in kept.items():
            ids = unpack_ids(text)
            if ids is None:
                return False
            self._before[name] = ids
        return True

    def is_as_before(self, row: Row) -> bool:
        """Whether this person's status is the one that the last read told."""
        return int(row["id"]) in self._before.get(self._of(row), ()) if self._names else True

    def note(self, row: Row) -> None:
        """This person's status is told in this read, or is as before."""
        if self._names:
            self._now.setdefault(self._of(row), set()).add(int(row["id"]))

    def kept(self) -> dict[str, str]:
        """For the cursor."""
        return {name: pack_ids(ids) for name, ids in self._now.items()}

    def _of(self, row: Row) -> str:
        return ";".join(str(row.get(name)) for name in self._names)
