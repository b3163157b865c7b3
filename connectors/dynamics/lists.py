"""Who is in which marketing list, and whose lists have changed since the last read.

Joining or leaving a list does not change a person, so the members of all lists are read whole each time. The cursor keeps the ids
of small lists, so that whoever joined or left is read again; of large ones it keeps a digest: then everything is read anew.

Source: connectors reference, section 5 [M].
"""

from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

from connectors.dynamics import fetch
from connectors.dynamics.tracking import Gap
from connectors.dynamics.vendor import Row, Table, ident, needs, pages
from syncd.errors import SourceError
from syncd.http import Api

LISTS = "list"
PERSON = {2: "contact", 4: "lead"}  # `createdfromcode`: whose list it is
IDS_KEPT = 1000  # of one list in a cursor,
IDS_KEPT_ALL = 5000  # of all: some 120 KB
AGAIN_MAX = 5000  # people to be read one by one; with more, reading everything is cheaper
BYTES = 16  # of a GUID


@dataclass(frozen=True, slots=True)
class Members:
    """One list as it is now. ids: sorted, one behind the other, 16 bytes each."""

    id: str
    name: str
    table: str
    ids: bytes

    def holds(self, key: bytes) -> bool:
        """Whether this person is in the list."""
        ids = self.ids
        count = len(ids) // BYTES
        place = bisect_left(range(count), key, key=lambda n: ids[n * BYTES : (n + 1) * BYTES])
        return ids[place * BYTES : (place + 1) * BYTES] == key

    def digests(self) -> list[str]:
        """One changes with its name, the other with its members."""
        return [
            blake2b(part, digest_size=12).hexdigest()
            for part in (self.name.encode("utf-8", "replace"), self.ids)
        ]


class NotRunnable(SourceError):
    """A dynamic list whose members cannot be told: not known is not empty."""


def packed(key: str) -> bytes:
    """A GUID as its 16 bytes."""
    return UUID(key).bytes


def members(
    api: Api, lists: Table, people: Mapping[str, Table], names: tuple[str, ...] | None
) -> list[Members]:
    """All lists of these people, or those named. Raises SourceError where a name is unknown, NotRunnable."""
    result = []
    for row in _chosen(api, lists, people, names):
        table = people[PERSON[row["createdfromcode"]]]
        ids = _ids(api, lists, row, table)
        if ids is None:
            raise NotRunnable(
                f"Dynamics 365: the query of the dynamic list {row['listname']!r} cannot be run here",
                why=f"It is no plain query of the table {table.name}",
                hint="Make it a static list (Copy to static), or name all others in `lists`",
            )
        every = b"".join(sorted({packed(key) for key in ids}))
        result.append(Members(ident(row[lists.id]), str(row["listname"]), table.name, every))
    return result


def not_runnable(
    api: Api, lists: Table, people: Mapping[str, Table], names: tuple[str, ...] | None
) -> list[str]:
    """The names of the dynamic lists among them whose members cannot be told."""
    return [
        str(row["listname"])
        for row in _chosen(api, lists, people, names)
        if row.get("type") is True
        and fetch.query_for_ids(row.get("query"), people[PERSON[row["createdfromcode"]]]) is None
    ]


def _chosen(
    api: Api, lists: Table, people: Mapping[str, Table], names: tuple[str, ...] | None
) -> list[Row]:
    found = list(_lists(api, lists, people))
    unknown = set(names or ()) - {str(row["listname"]) for row in found}
    if unknown:
        raise SourceError(
            f"Dynamics 365 has no marketing list {sorted(unknown)[0]!r} of the people that are read",
            hint="Correct the name in `lists`, or leave `lists` out for all",
        )
    return [row for row in found if names is None or row["listname"] in names]


def _lists(api: Api, lists: Table, people: Mapping[str, Table]) -> Iterator[Row]:
    query = [
        ("$select", f"{lists.id},listname,type,createdfromcode,query"),
        ("$orderby", lists.id),
    ]
    for rows in pages(api, lists.path, query, rows_max=500, needs=needs(LISTS)):
        for row in rows:
            if PERSON.get(row.get("createdfromcode") or 0) in people:
                yield row


def _ids(api: Api, lists: Table, row: Row, table: Table) -> Iterable[str] | None:
    """The members of one list; None where its query cannot be run."""
    kind = row.get("type")
    if kind is True:
        query = fetch.query_for_ids(row.get("query"), table)
        return None if query is None else fetch.people(api, table, query, str(row["listname"]))
    if kind is not False:
        raise SourceError(
            f"Dynamics 365: the list {row['listname']!r} is neither static nor dynamic"
        )
    path = f"{lists.path}({ident(row[lists.id])})/list{table.name}_association"
    query_of_ids = [("$select", table.id), ("$orderby", table.id)]
    found = pages(api, path, query_of_ids, needs=needs("listmember"))
    return (ident(member.get(table.id)) for some in found for member in some)


def summary(lists: Iterable[Members]) -> dict[str, list[str]]:
    """What the next read needs: list -> its digests, and its members where they are few."""
    kept: dict[str, list[str]] = {}
    left = IDS_KEPT_ALL
    for one in lists:
        count = len(one.ids) // BYTES
        kept[one.id] = one.digests()
        if count <= min(IDS_KEPT, left):
            left -= count
            kept[one.id].append(b64encode(one.ids).decode())
    return kept


def changed(lists: Iterable[Members], before: Any) -> dict[str, set[str]]:
    """table -> people whose lists are others than in the last read's summary. Raises Gap where nobody knows who."""
    if not isinstance(before, dict):
        raise Gap("the cursor says nothing of lists")
    people: dict[str, set[str]] = {}
    left = dict(before)
    for one in lists:
        then, digests = left.pop(one.id, None), one.digests()
        if then is not None and then[:2] == digests:
            continue
        now = _split(one.ids)
        if then is not None and then[1] != digests[1]:
            if len(then) < 3:
                raise Gap("a large list has other members")
            past = _split(b64decode(then[2]))
            now = now ^ past if then[0] == digests[0] else now | past
        people.setdefault(one.table, set()).update(str(UUID(bytes=key)) for key in now)
    if left:
        raise Gap("a list has gone")
    if sum(map(len, people.values())) > AGAIN_MAX:
        raise Gap("lists have many other members")
    return people


def _split(ids: bytes) -> set[bytes]:
    return {ids[at : at + BYTES] for at in range(0, len(ids), BYTES)}
