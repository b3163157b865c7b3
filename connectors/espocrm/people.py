"""From EspoCRM's rows to records: values, company, owner, lists, further addresses.

An opt-out belongs to an address, and is shown for the primary address of a row only; those of further addresses are in the record
that is asked for alone (seen, 1). An opt-out that is null was not told: it is left out (seen, 18).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.espocrm.lists import OPTED_OUT as LIST_OPTED_OUT
from connectors.espocrm.lists import TargetList
from connectors.espocrm.vendor import BATCH_IDS, Espo, one_of
from syncd.connector import Record
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.http import Lookup, further_key

CONTACT, LEAD, ACCOUNT, USER = "Contact", "Lead", "Account", "User"
EMAIL, OPTED_OUT, INVALID = "emailAddress", "emailAddressIsOptedOut", "emailAddressIsInvalid"
EMAIL_DATA, CHANGED = "emailAddressData", "modifiedAt"
ALONE = frozenset({EMAIL_DATA, "phoneNumberData"})  # in no listing, even when selected (seen, 1)
JOINS = frozenset({"_company", "_owner", "_lists", "_lists_opted_out", "_entity"})
COMPANY_OF = {CONTACT: ("accountId", "accountName"), LEAD: ("accountName", "website")}
NOT_FOUND = 404


@dataclass(slots=True)
class Wish:
    """What a read is asked for. fields: None for all. out: addresses (in lower case) that were seen as opted out."""

    fields: frozenset[str] | None
    all_emails: bool
    out: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        """Whether a mapping may use this name."""
        return self.fields is None or name in self.fields

    @property
    def opt_outs(self) -> bool:
        """Whether it matters who has opted out."""
        return self.has(OPTED_OUT) or self.has(EMAIL_DATA)

    @property
    def further(self) -> bool:
        """Whether further addresses matter."""
        return self.all_emails or self.has(EMAIL_DATA)

    @property
    def alone(self) -> bool:
        """Whether each person is asked for alone, for what no listing tells."""
        return self.all_emails or any(map(self.has, ALONE))

    def select(self, entity: str) -> str:
        """The attributes to ask for, separated by commas; empty for all of them. What an entity does not have is left out by EspoCRM."""
        if self.fields is None:
            return ""
        asked = {one for one in self.fields if not one.startswith("_")} - ALONE
        asked |= {"id", CHANGED}
        if self.all_emails:
            asked.add(EMAIL)
        if self.has("_company"):
            asked.update(COMPANY_OF[entity])
        if self.has("_owner"):
            asked |= {"assignedUserId", "assignedUserName"}
        return ",".join(sorted(asked - {LIST_OPTED_OUT}))


class People:
    """Records of rows of one read."""

    def __init__(self, espo: Espo, wish: Wish, lists: Sequence[TargetList]) -> None:
        self._espo, self._wish, self._lists = espo, wish, lists
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._owners = Lookup(self._fetch_owners, batch=BATCH_IDS)

    def records(self, entity: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Record]:
        """The records of one page."""
        wish = self._wish
        companies: Mapping[str, Any] = {}
        owners: Mapping[str, Any] = {}
        if wish.has("_company") and entity == CONTACT:
            companies = self._companies.of(row.get("accountId") for row in rows)
        if wish.has("_owner"):
            owners = self._owners.of(row.get("assignedUserId") for row in rows)
        for row in rows:
            told: Mapping[str, Any] | None = row
            if wish.alone:
                told = self._alone(entity, row)
            if told is None:  # deleted since the listing
                continue
            fields = self._values(told)
            self._join(entity, row, fields, companies, owners)
            key = key_of(entity, str(row["id"]))
            yield Record(key, fields, f"{entity} {row['id']}")
            if wish.all_emails:
                yield from self._further(key, fields, told)

    def _values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        has = self._wish.has
        return {
            name: value
            for name, value in row.items()
            # The flag of a target list is false by default outside that list (seen, 16).
            if has(name)
            and name != LIST_OPTED_OUT
            and not (value is None and name.endswith("IsOptedOut"))
        }

    def _join(
        self, entity: str, row: Mapping[str, Any], fields: dict[str, Any],
        companies: Mapping[str, Any], owners: Mapping[str, Any],
    ) -> None:  # fmt: skip
        has, key = self._wish.has, str(row["id"])
        if has("_entity"):
            fields["_entity"] = entity
        if has("_company") and entity == CONTACT and "accountId" in row:
            fields["_company"] = _joined(row, "account", companies)
        elif has("_company") and entity != CONTACT and "accountName" in row:
            fields["_company"] = _own_company(row)
        if has("_owner") and "assignedUserId" in row:
            fields["_owner"] = _joined(row, "assignedUser", owners)
        if has("_lists"):
            fields["_lists"] = [one.name for one in self._lists if key in one.members[entity]]
        if has("_lists_opted_out"):
            fields["_lists_opted_out"] = [one.name for one in self._lists if key in one.out[entity]]

    def _alone(self, entity: str, row: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The row with what only the record itself tells; None where it is gone by now."""
        try:
            found = self._espo.get(f"/{entity}/{row['id']}", needs=f"read access to {entity}")
        except SourceRefused as refused:
            if refused.status == NOT_FOUND:
                return None
            raise
        if not isinstance(found, dict) or found.get("deleted"):  # an administrator is shown it
            return None
        if self._wish.further and not isinstance(found.get(EMAIL_DATA), list):
            raise SourceError(
                f"EspoCRM gives no `{EMAIL_DATA}` of {entity} {row['id']}",
                why="Further addresses, and who has opted out of them, are told there only",
                hint='Let the role read the addresses (Roles, Field Level), or set emails = "primary"',
            )
        told = {**row, **{name: found[name] for name in ALONE if name in found}}
        for entry in _entries(told):
            if entry.get("optOut"):
                self._wish.out.add(_lower(entry))
                if _lower(entry) == str(row.get(EMAIL) or "").strip().lower():
                    told[OPTED_OUT] = True  # since the listing
        return told

    def _further(
        self, key: str, fields: Mapping[str, Any], row: Mapping[str, Any]
    ) -> Iterator[Record]:
        """A record of each further address, with all other values, and with the opt-out of that address."""
        told = {"", str(row.get(EMAIL) or "").strip().lower()}
        for entry in _entries(row):
            if _lower(entry) in told:
                continue
            told.add(_lower(entry))
            other = {**fields, EMAIL: entry[EMAIL]}
            for name, origin in ((OPTED_OUT, "optOut"), (INVALID, "invalid")):
                other.pop(name, None)
                if self._wish.has(name) and isinstance(entry.get(origin), bool):
                    other[name] = entry[origin]
            if fields.get(OPTED_OUT) is True:  # who has had enough has had enough everywhere
                other[OPTED_OUT] = True
            yield Record(further_key(key, _lower(entry)), other, f"{key}, another address")

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {
            str(row["id"]): {name: row[name] for name in ("id", "name", "website") if name in row}
            for rows in self._espo.pages(
                f"/{ACCOUNT}", where=[one_of("id", ids)], select="id,name,website"
            )
            for row in rows
        }

    def _fetch_owners(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        query = f"id,name,{EMAIL}"
        for rows in self._espo.pages(f"/{USER}", where=[one_of("id", ids)], select=query):
            for row in rows:
                found[str(row["id"])] = {name: row[name] for name in ("id", "name") if name in row}
                if EMAIL in row:
                    found[str(row["id"])]["email"] = row[EMAIL]
        return found


def key_of(entity: str, key: str) -> str:
    """A contact's own id; other entities may have the same ids."""
    return key if entity == CONTACT else f"{entity}:{key}"


def may_read(espo: Espo, entity: str) -> bool:
    """Whether this login may list the entity, and there is such a one."""
    try:
        espo.rows(f"/{entity}", select="id", count=1)
    except SourceDenied:
        return False
    except SourceRefused as refused:
        if refused.status == NOT_FOUND:
            return False
        raise
    return True


def _joined(row: Mapping[str, Any], link: str, found: Mapping[str, Any]) -> Any:
    """What a row is linked to; where that may not be read itself, what the row tells of it."""
    key = row.get(f"{link}Id")
    if not key:
        return None
    return found.get(str(key)) or {"id": str(key), "name": row.get(f"{link}Name")}


def _own_company(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A lead has no account: it names its company itself."""
    name, website = row.get("accountName"), row.get("website")
    return {"id": None, "name": name, "website": website} if name or website else None


def _entries(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = row.get(EMAIL_DATA)
    return [one for one in found or () if isinstance(one, dict) and one.get(EMAIL)]


def _lower(entry: Mapping[str, Any]) -> str:
    return str(entry[EMAIL]).strip().lower()
