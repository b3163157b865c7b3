"""The owners of rows: users or teams, fetched in batches. One that this login may not see is not known."""

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.dynamics.vendor import TARGET, Row, Table, among, ident, needs, pages
from syncd.http import Api, Lookup

USERS, TEAMS = "systemuser", "team"
NAMED = {USERS: ("fullname", "internalemailaddress"), TEAMS: ("name", "emailaddress")}
OWNER = "_ownerid_value"
BATCH_IDS = 100


class Owners:
    """Users and teams of one read. tables: those that the environment has."""

    def __init__(self, api: Api, tables: Mapping[str, Table]) -> None:
        self._api = api
        self._lookups = {
            name: Lookup(self._fetcher(tables[name]), batch=BATCH_IDS)
            for name in NAMED
            if name in tables
        }

    def of(self, rows: Sequence[Row]) -> dict[str, Mapping[str, Any]]:
        """owner's id -> {id, name, email}, for the rows of one page. Raises SourceDenied."""
        found: dict[str, Mapping[str, Any]] = {}
        for kind, lookup in self._lookups.items():
            ids = {
                ident(row[OWNER])
                for row in rows
                if row.get(OWNER) and row.get(f"{OWNER}{TARGET}") in (kind, None)
            }
            known = lookup.of(sorted(ids - found.keys()))
            found |= {key: one for key, one in known.items() if one is not None}
        return found

    def _fetcher(self, table: Table) -> Any:
        name, email = NAMED[table.name]

        def fetch(ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
            query = [
                ("$select", f"{table.id},{name},{email}"),
                ("$filter", among(table.id, ids)),
                ("$orderby", table.id),
            ]
            return {
                ident(row[table.id]): {
                    "id": ident(row[table.id]), "name": row.get(name), "email": row.get(email),
                }
                for rows in pages(self._api, table.path, query, needs=needs(table.name))
                for row in rows
            }  # fmt: skip

        return fetch
