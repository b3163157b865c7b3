"""The further addresses of a contact, each as a person of its own, with an opt-out of its own.

HubSpot keeps an opt-out by address: `hs_email_optout` is that of the first address, and whoever has opted out with another one is
found by asking for that address. So is everything that begins with `hs_email_`: of a further address it is not known.

Source: connectors reference, section 1 [S15]; developers.hubspot.com, "Batch retrieve opt-out of all statuses": an address that has
not opted out has an empty list of statuses. One that does not come at all is not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.hubspot.vendor import (
    BATCH_IDS,
    CONTACTS,
    READ_CONTACTS,
    READ_OPT_OUTS,
    batch,
    whole,
)
from syncd.connector import Record, Tombstone
from syncd.errors import SourceError
from syncd.http import Api, further_key

FURTHER, OPT_OUT = "hs_additional_emails", "hs_email_optout"
OF_THE_FIRST = "hs_email_"
STATUSES = "/communication-preferences/v4/statuses/batch/unsubscribe-all/read"
NOT_OUT = frozenset({"SUBSCRIBED", "NOT_SPECIFIED"})

Values = Mapping[str, Any]


def further(key: str, values: Values) -> dict[str, str]:
    """key -> address of each further address of a contact, each once, whatever its capitals; without the first one."""
    first = str(values.get("email") or "").strip().lower()
    found: dict[str, str] = {}
    for part in str(values.get(FURTHER) or "").split(";"):
        address = part.strip()
        if address and address.lower() != first:
            found.setdefault(further_key(key, address), address)
    return found


class Addresses:
    """Further addresses in one read. asked: whether the opt-out is in use, so that it must be known."""

    def __init__(self, api: Api, *, asked: bool) -> None:
        self._api, self._asked = api, asked

    def records(self, records: Sequence[tuple[Record, Values]]) -> Iterator[Record]:
        """The further records of these contacts. Raises SourceError where their opt-outs cannot be read."""
        found = [
            (record, key, address)
            for record, values in records
            for key, address in further(record.key, values).items()
        ]
        out = opt_outs(self._api, [address for _, _, address in found]) if self._asked else {}
        for record, key, address in found:
            fields = {n: v for n, v in record.fields.items() if not n.startswith(OF_THE_FIRST)}
            if record.fields.get(OPT_OUT) is True:  # who has had enough has had enough everywhere
                fields[OPT_OUT] = True
            elif address.lower() in out:
                fields[OPT_OUT] = out[address.lower()]
            fields["email"] = address
            yield Record(key, fields, f"{record.place}, another address")

    def left(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Tombstone]:
        """The further addresses that these contacts once had. HubSpot keeps the values that a property has had."""
        now = {str(row["id"]): further(str(row["id"]), row["properties"]) for row in rows}
        wanted = {"properties": ["email"], "propertiesWithHistory": [FURTHER]}
        path = f"{CONTACTS}/batch/read"
        for row in batch(self._api, path, list(now), wanted, needs=READ_CONTACTS, size=50):
            key, gone = str(row["id"]), dict[str, None]()
            for past in (row.get("propertiesWithHistory") or {}).get(FURTHER) or ():
                gone |= dict.fromkeys(further(key, {FURTHER: past.get("value")}))
            yield from (Tombstone(one) for one in gone if one not in now[key])


def opt_outs(api: Api, addresses: Sequence[str]) -> dict[str, bool]:
    """address in lower case -> whether it has opted out of everything, in any part of the account. Raises SourceError."""
    found: dict[str, bool] = {}
    unique = list(dict.fromkeys(addresses))
    for start in range(0, len(unique), BATCH_IDS):
        body = {"inputs": unique[start : start + BATCH_IDS]}
        reply = api.post(STATUSES, body, {"channel": "EMAIL"}, needs=READ_OPT_OUTS)
        for row in whole(reply, STATUSES):
            address, statuses = row.get("subscriberIdString"), row.get("wideStatuses")
            if not isinstance(address, str) or not isinstance(statuses, list):
                raise SourceError(
                    "HubSpot: the opt-outs of further addresses cannot be understood",
                    hint='Leave `emails` at "primary": then they are not needed',
                )
            out = any(one.get("status") not in NOT_OUT for one in statuses)
            found[address.lower()] = found.get(address.lower(), False) or out
    return found
