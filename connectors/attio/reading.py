"""One read of Attio's people: everybody."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.attio.beside import (
    Companies,
    Members,
    members,
    owner_attribute,
    owner_of,
    workspace_members,
)
from connectors.attio.people import COMPANY, Shape, attributes, company_id, values_of
from connectors.attio.vendor import PEOPLE, READ_RECORDS, Row, ident, query, records
from syncd.connector import Event, Record, Request
from syncd.http import Api, if_allowed

CompaniesById = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that shape a read. lists: names; None for all. owner: the attribute that names it; empty for none."""

    all_emails: bool
    lists: tuple[str, ...] | None
    owner: str


class Reading:
    """One read. Lists come first, so that everybody's are known when the person comes."""

    def __init__(self, api: Api, request: Request, wishes: Wishes) -> None:
        self._api, self._request = api, request
        self._named = request.fields is not None
        known = attributes(api)
        self._shape = Shape(request.fields, known, all_emails=wishes.all_emails)
        self._companies = Companies(api) if self._wants("_company") and COMPANY in known else None
        self._owner, self._members = "", None
        if wishes.owner and self._wants("_owner"):
            self._owner = owner_attribute(wishes.owner, known)
            self._members = if_allowed(lambda: workspace_members(api), named=self._named)
        self._lists: list[Members] | None = None
        if self._wants("_lists"):
            self._lists = if_allowed(lambda: members(api, wishes.lists), named=self._named)

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        for rows in query(self._api, records(PEOPLE), name="record_id", needs=READ_RECORDS):
            self._shape.look_at(rows)
            yield from self._records(rows)

    def _records(self, rows: Sequence[Row]) -> Iterator[Event]:
        companies = self._companies_of(rows)
        for row in rows:
            key = ident(row, "record_id")
            fields = self._shape.values(row)
            fields |= self._company_of(values_of(row), companies)
            if self._members is not None and self._shape.came(values_of(row), self._owner):
                fields["_owner"] = self._members.get(owner_of(values_of(row), self._owner))
            if self._lists is not None:
                inside = (one.name for one in self._lists if key in one.ids)
                fields["_lists"] = list(dict.fromkeys(inside))
            yield Record(key, fields, f"person {key}")
            for one, address in self._shape.further(key, row):
                other = {**fields, "_email": address} if "_email" in fields else fields
                yield Record(one, other, f"person {key}, another address")

    def _companies_of(self, rows: Sequence[Row]) -> CompaniesById | None:
        """None where they are not read."""
        companies = self._companies
        if companies is None:
            return None
        ids = [key for row in rows if (key := company_id(values_of(row)))]
        found = if_allowed(lambda: companies.of(ids), named=self._named)
        if found is None:
            self._companies = None
        return found

    def _company_of(
        self, values: Mapping[str, Any], companies: CompaniesById | None
    ) -> dict[str, Any]:
        """One that did not come is not known."""
        if companies is None or not self._shape.came(values, COMPANY):
            return {}
        key = company_id(values)
        company = companies.get(key) if key else None
        return {} if key and company is None else {"_company": company}

    # What may be read

    def _wants(self, name: str) -> bool:
        return self._request.fields is None or name in self._request.fields
