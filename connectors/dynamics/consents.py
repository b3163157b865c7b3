"""Opt-outs of the consent center (Customer Insights - Journeys): they belong to an address, not to a person.

Opting out there changes no contact, so all opt-outs are read whole each time, and people of whose address a consent has changed
are read again. Whoever has opted out of one purpose or topic counts as opted out: a cold e-mail has no topic of its own. A
consent that was deleted is found by the next full read; an opt-out of the past stays one in the engine.

Source: connectors reference, section 5; the table's choices: contact point type e-mail 534120000, value opted out 534120002.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2b

from connectors.dynamics.vendor import Table, needs, pages
from syncd.http import Api, rfc3339

CONSENTS = "msdynmkt_contactpointconsent4"
ADDRESS, KIND, VALUE = "msdynmkt_contactpointvalue", "msdynmkt_contactpointtype", "msdynmkt_value"
EMAIL, OPTED_OUT = 534120000, 534120002


class Consents:
    """Whose address has opted out; nobody's where the environment has no consent center. Raises SourceError, SourceDenied."""

    def __init__(self, api: Api, table: Table | None) -> None:
        self._api, self._table = api, table
        # Eight bytes of each: a collision, one in billions, would count somebody as opted out.
        self._marks: set[bytes] = set()
        for found in self._addresses(f"{KIND} eq {EMAIL} and {VALUE} eq {OPTED_OUT}"):
            self._marks.update(map(_mark, found))

    def __call__(self, address: str) -> bool:
        """Whether this address has opted out."""
        return bool(self._marks) and _mark(address) in self._marks

    def changed(self, since: datetime) -> Iterator[Sequence[str]]:
        """The addresses of which a consent was given, taken back or made since then, also who has opted in again."""
        return self._addresses(f"{KIND} eq {EMAIL} and modifiedon ge {rfc3339(since)}")

    def _addresses(self, condition: str) -> Iterator[list[str]]:
        if self._table is None:
            return
        query = [("$select", ADDRESS), ("$filter", condition), ("$orderby", self._table.id)]
        for rows in pages(self._api, self._table.path, query, needs=needs(CONSENTS)):
            yield [
                text for row in rows if isinstance(text := row.get(ADDRESS), str) and "@" in text
            ]


def _mark(address: str) -> bytes:
    return blake2b(address.strip().lower().encode("utf-8", "replace"), digest_size=8).digest()
