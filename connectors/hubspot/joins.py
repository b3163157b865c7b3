"""What stands beside a contact in HubSpot: its company and its owner."""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.hubspot.vendor import BATCH_IDS, READ_COMPANIES, READ_OWNERS, batch, pages
from syncd.errors import SourceDenied
from syncd.http import Api, Lookup

COMPANY, OWNER = "associatedcompanyid", "hubspot_owner_id"  # where a contact names them
COMPANY_PARTS = ("name", "domain", "website")
OWNER_ROWS = 100

Joined = Mapping[str, Any]


class Joins:
    """Companies and owners of one read.

    fields: the names in use; None for all: then what this login may not read is left out, and is no error. known: the account's properties;
    without the one that names the company nobody knows it, which is not the same as having none.
    """

    def __init__(
        self, api: Api, fields: frozenset[str] | None, known: Mapping[str, str | None]
    ) -> None:
        self._api, self._named = api, fields is not None
        self._company = (fields is None or "_company" in fields) and COMPANY in known
        self._owner = (fields is None or "_owner" in fields) and OWNER in known
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._owners: Mapping[str, Joined] | None = None

    def of(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What is joined to each of these contacts, by their values. Raises SourceError."""
        added: list[dict[str, Any]] = [{} for _ in rows]
        if self._company:
            companies = self._companies_of([_id(row.get(COMPANY)) for row in rows])
            for row, fields in zip(rows, added, strict=True):
                if companies is not None:
                    fields["_company"] = companies.get(_id(row.get(COMPANY)))
        if self._owner:
            owners = self._all_owners([_id(row.get(OWNER)) for row in rows])
            for row, fields in zip(rows, added, strict=True):
                if owners is not None:
                    fields["_owner"] = owners.get(_id(row.get(OWNER)))
        return added

    def _companies_of(self, ids: Sequence[str]) -> Mapping[str, Joined | None] | None:
        try:
            return self._companies.of(ids)
        except SourceDenied:
            if self._named:
                raise
            self._company = False
            return None

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, Joined]:
        path = "/crm/v3/objects/companies/batch/read"
        wanted = {"properties": list(COMPANY_PARTS)}
        return {
            str(row["id"]): {
                "id": str(row["id"]),
                **{name: row["properties"].get(name) for name in COMPANY_PARTS},
            }
            for row in batch(self._api, path, ids, wanted, needs=READ_COMPANIES)
        }

    def _all_owners(self, ids: Sequence[str]) -> Mapping[str, Joined] | None:
        """Who has left still owns contacts, and is listed apart."""
        if self._owners is None and any(ids):
            try:
                self._owners = {
                    str(row["id"]): {
                        "id": str(row["id"]),
                        "name": f"{row.get('firstName') or ''} {row.get('lastName') or ''}".strip(),
                        "email": row.get("email"),
                    }
                    for archived in ("true", "false")
                    for rows in pages(
                        self._api,
                        "/crm/v3/owners",
                        {"limit": OWNER_ROWS, "archived": archived},
                        needs=READ_OWNERS,
                    )
                    for row in rows
                }
            except SourceDenied:
                if self._named:
                    raise
                self._owner = False
                return None
        return self._owners or {}


def _id(value: Any) -> str:
    return "" if value is None else str(value)
