"""What stands beside Close's contacts: their leads, which are their companies; users; and who has unsubscribed."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from connectors.close.people import CustomField
from connectors.close.search import FIELDS_MAX, Search
from connectors.close.vendor import (
    CUSTOM,
    LEADS,
    READ_UNSUBSCRIBED,
    READ_USERS,
    UNSUBSCRIBED,
    USERS,
    Row,
    listed,
    single,
)
from syncd.errors import SourceError
from syncd.http import Api, Lookup, domain_of

BATCH_IDS = 100


class Leads:
    """The leads of one read. changed: those of which the search may still know what they were."""

    def __init__(
        self,
        api: Api,
        search: Search,
        custom: Mapping[str, CustomField],
        changed: AbstractSet[str],
    ) -> None:
        self._api, self._search, self._custom, self._changed = api, search, custom, changed
        own = ("id", "display_name", "url", "status_label")
        self._fields = (*own, *(f"{CUSTOM}{key}" for key in custom))
        self._lookup = Lookup(self._fetch, batch=BATCH_IDS)

    def of(self, ids: Iterable[str | None]) -> Mapping[str, Mapping[str, Any] | None]:
        """id -> lead, None where this login sees none, for the contacts of one page."""
        return self._lookup.of(ids)

    def company(self, lead: Mapping[str, Any]) -> dict[str, Any]:
        """What `_company` is made of: the lead's name, address and status, and its custom fields."""
        website = lead.get("url")
        return {
            "id": lead["id"],
            "name": lead.get("display_name"),
            "website": website,
            "domain": domain_of(website),
            "status": lead.get("status_label"),
            **{key: lead.get(f"{CUSTOM}{key}") for key in self._custom},
        }

    def _fetch(self, ids: Sequence[str]) -> dict[str, Row]:
        """A lead that was made just now is not in the search yet."""
        known = [key for key in ids if key not in self._changed]
        found = {str(row["id"]): row for row in self._search.by_ids("lead", known, self._fields)}
        few = len(self._fields) <= FIELDS_MAX
        query = {"_fields": ",".join(self._fields)} if few else {}
        for key in ids:
            if key not in found:
                row = single(self._api, LEADS, key, query)
                if row is not None:
                    found[key] = row
        return found


def owner_field(
    name: str, contact: Mapping[str, CustomField], lead: Mapping[str, CustomField]
) -> tuple[str, bool]:
    """(id, whether it is the lead's) of the custom field that names an owner. Raises SourceError."""
    for of_lead, fields in ((False, contact), (True, lead)):
        for field in fields.values():
            if name in (field.id, field.name) and field.kind == "user":
                return field.id, of_lead
    raise SourceError(
        f"Close has no custom field {name!r} of contacts or leads that holds a user",
        hint="Correct `owner`: the name of a custom field of the type User, or its id",
    )


def users(api: Api) -> dict[str, dict[str, Any]]:
    """id -> user, as `_owner` has them."""
    return {
        str(row.get("id")): {
            "id": row.get("id"),
            "name": f"{row.get('first_name') or ''} {row.get('last_name') or ''}".strip() or None,
            "email": row.get("email"),
        }
        for row in listed(api, USERS, {}, needs=READ_USERS)
    }


def unsubscribed(api: Api) -> frozenset[str]:
    """All addresses that have unsubscribed, in lower case."""
    rows = listed(api, UNSUBSCRIBED, {}, needs=READ_UNSUBSCRIBED, rows_in=_addresses_in)
    return frozenset(row["email"].strip().lower() for row in rows)


def _addresses_in(found: Any, path: str) -> list[Row]:
    """The shape of this answer is not documented [?]: a list, as such or as `data`, of objects with an `email` or of texts."""
    entries = found.get("data") if isinstance(found, dict) else found
    rows = [{"email": one} if isinstance(one, str) else one for one in entries or ()]
    if not isinstance(entries, list) or not all(
        isinstance(row, dict) and isinstance(row.get("email"), str) for row in rows
    ):
        raise SourceError(
            f"Close: {path} cannot be understood, so nobody knows who has unsubscribed",
            hint="Nobody is mailed by this run; tell the connector's author what it answers",
        )
    return rows
