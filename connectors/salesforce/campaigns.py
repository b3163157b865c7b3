"""Who is in which Salesforce campaign, and whose membership has changed since the last read.

A membership (CampaignMember) has a stamp of its own: joining does not change the person. Leaving mostly deletes the row for good:
then Salesforce tells that a membership is gone, but not whose, and everything is read anew. Both are survived here, also
where the row goes into the recycle bin. The memberships of the people of one page are asked for with them: nothing is held.

Source: connectors reference, section 2 [M]; CampaignMember has no undelete() among its calls in Salesforce's object reference.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from connectors.salesforce.soql import Deleted, Gap, Row, Soql, among, batches, within
from connectors.salesforce.vendor import ident
from syncd.errors import SourceError
from syncd.http import HighWater, parse_time

MEMBER = "CampaignMember"
PERSON = {"Contact": "ContactId", "Lead": "LeadId"}
LEFT_MAX = 2000  # deleted memberships in a cursor: with more, the next read starts anew
MINUTE = timedelta(minutes=1)  # deletions are told by the minute


@dataclass(frozen=True, slots=True)
class Known:
    """What the last read knew. names: campaign -> digest of its name. left: deleted memberships that it has allowed for already."""

    names: Mapping[str, str]
    left: frozenset[str]


class Campaigns:
    """The campaigns of one read. only: their names, where not all are wanted. Raises SourceError where a name is unknown."""

    def __init__(self, soql: Soql, tables: Iterable[str], only: tuple[str, ...] | None) -> None:
        self._soql, self._tables = soql, tuple(tables)
        self._names: dict[str, str] = {}
        for rows in soql.pages(("Id", "Name"), "Campaign"):
            for row in rows:
                if only is None or row["Name"] in only:
                    self._names[ident(row["Id"])] = str(row["Name"])
        unknown = set(only or ()) - set(self._names.values())
        if unknown:
            raise SourceError(
                f"Salesforce has no campaign {sorted(unknown)[0]!r} that this user may see",
                hint="Correct the name in `lists`, or leave `lists` out for all",
            )

    def of(self, table: str, keys: Sequence[str]) -> dict[str, list[str]]:
        """person -> names of campaigns, each once; for the people of one page. Who is in none is not among them."""
        person, found = PERSON[table], dict[str, dict[str, None]]()
        for some in batches(keys):
            columns = ("Id", person, "CampaignId")
            for rows in self._soql.pages(columns, MEMBER, [among(person, some)]):
                for row in rows:
                    name = self._names.get(row["CampaignId"])
                    if name is not None:
                        found.setdefault(row[person], {})[name] = None
        return {key: sorted(names) for key, names in found.items()}

    def changed(
        self,
        known: Known,
        deleted: Deleted,
        window: tuple[datetime, datetime],
        water: HighWater,
    ) -> dict[str, set[str]]:
        """table -> people to be read again. Raises Gap where somebody left, and nobody knows who."""
        digests = self.digests()
        if any(digests.get(key) != digest for key, digest in known.names.items()):
            raise Gap("a campaign was deleted or renamed, or is not shown any more")
        people: dict[str, set[str]] = {table: set() for table in self._tables}
        explained: set[str] = set()
        for row in self._rows(within("SystemModstamp", *window), water):
            explained.add(row["Id"])
            self._note(row, people)
        if set(deleted.when) - explained - known.left:
            raise Gap("somebody has left a campaign, and Salesforce does not tell who")
        fresh = sorted(set(digests) - set(known.names))
        for some in batches(fresh):  # new here: its members may have joined long ago
            for row in self._rows([among("CampaignId", some)], None):
                self._note(row, people)
        return people

    def digests(self) -> dict[str, str]:
        """campaign -> digest of its name, for the next read."""
        return {
            key: blake2b(name.encode("utf-8", "replace"), digest_size=6).hexdigest()
            for key, name in self._names.items()
        }

    def _rows(self, conditions: Sequence[str], water: HighWater | None) -> Iterable[Row]:
        people = [PERSON[table] for table in self._tables]
        columns = ("Id", "CampaignId", "SystemModstamp", "IsDeleted", *people)
        for rows in self._soql.pages(columns, MEMBER, conditions, deleted=True):
            for row in rows:
                if water is not None:
                    water.see(parse_time(row["SystemModstamp"]))
                yield row

    def _note(self, row: Row, people: Mapping[str, set[str]]) -> None:
        for table in self._tables:
            if row.get(PERSON[table]) is not None:
                people[table].add(ident(row[PERSON[table]]))


def known_of(parts: Mapping[str, Any]) -> Known | None:
    """What a cursor says of campaigns; None where it says nothing, or too many left to be named."""
    names, left = parts.get("campaigns"), parts.get("left")
    if not isinstance(names, dict) or not isinstance(left, list):
        return None
    return Known(names, frozenset(left))


def left_since(deleted: Deleted | None, start: datetime) -> list[str] | None:
    """The deleted memberships that the next read will be told again; None where they are unknown, or too many."""
    if deleted is None:
        return None
    recent = [key for key, when in deleted.when.items() if when is None or when >= start - MINUTE]
    return recent if len(recent) <= LEFT_MAX else None
