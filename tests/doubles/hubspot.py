"""A double of HubSpot: cursor pages by id, a search with its limits and its delay, archived contacts, merges, lists.

Source: connectors reference, section 1.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time, rfc3339

TOKEN = "pat-na1-made-up"
SCOPES = {
    "crm.objects.contacts.read",
    "crm.schemas.contacts.read",
    "crm.objects.companies.read",
    "crm.objects.owners.read",
    "crm.lists.read",
}
EMPTY = Told(200, {"results": []})
PROPERTIES = {
    "email": "string",
    "firstname": "string",
    "lastname": "string",
    "company": "string",
    "jobtitle": "string",
    "phone": "string",
    "mobilephone": "string",
    "website": "string",
    "lifecyclestage": "enumeration",
    "score": "number",
    "hs_email_optout": "bool",
    "hs_additional_emails": "string",
    "hs_merged_object_ids": "string",
    "associatedcompanyid": "number",
    "hubspot_owner_id": "enumeration",
    "lastmodifieddate": "datetime",
    "hs_object_id": "number",
}


class HubSpot(Double):
    """contacts: id -> properties. lists: id -> {"name", "members": id -> joined}. lag_s: how late the search knows of a change."""

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.contacts: dict[int, dict[str, Any]] = {}
        self.archived: dict[int, str] = {}
        self.companies: dict[int, dict[str, Any]] = {}
        self.owners: dict[int, dict[str, Any]] = {}
        self.lists: dict[int, dict[str, Any]] = {}
        self.types = dict(PROPERTIES)
        self.scopes = set(SCOPES)
        self.tokens = {TOKEN}
        self.lag_s = 0.0
        self.search_hits_max = 10_000

    def now(self) -> str:
        return rfc3339(parse_time(self.clock.now_s()), timespec="milliseconds")

    def put(self, key: int, **values: Any) -> None:
        """Create a contact, or change it."""
        held = self.contacts.setdefault(key, {"hs_object_id": str(key)})
        held |= {**values, "lastmodifieddate": self.now()}
        self.archived.pop(key, None)

    def archive(self, key: int) -> None:
        self.archived[key] = self.now()

    def merge(self, loser: int, winner: int) -> None:
        """The loser is not listed as archived: it is gone [S10]."""
        del self.contacts[loser]
        held = self.contacts[winner].get("hs_merged_object_ids")
        self.put(winner, hs_merged_object_ids=";".join(filter(None, [held, str(loser)])))

    def join(self, name: str, key: int) -> None:
        number = next((n for n, one in self.lists.items() if one["name"] == name), None)
        if number is None:
            number = len(self.lists) + 1
            self.lists[number] = {"name": name, "members": {}}
        self.lists[number]["members"][key] = self.now()

    # What it answers

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth/v1/token":
            return self._token(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return problem(401, "INVALID_AUTHENTICATION", "Authentication credentials not found")
        for method, pattern, scope, handle in (
            ("GET", r"/crm/v3/objects/contacts", "objects.contacts", self._listed),
            ("POST", r"/crm/v3/objects/contacts/search", "objects.contacts", self._searched),
            ("POST", r"/crm/v3/objects/contacts/batch/read", "objects.contacts", self._contacts),
            ("GET", r"/crm/v3/objects/companies", "objects.companies", lambda _: EMPTY),
            ("POST", r"/crm/v3/objects/companies/batch/read", "objects.companies", self._companies),
            ("GET", r"/crm/v3/properties/contacts", "schemas.contacts", self._properties),
            ("GET", r"/crm/v3/owners", "objects.owners", self._owned),
            ("POST", r"/crm/v3/lists/search", "lists", self._lists),
            ("GET", r"/crm/v3/lists/\d+/memberships", "lists", self._members),
        ):
            if method == asked.method and re.fullmatch(pattern, asked.path):
                return self._scoped(f"crm.{scope}.read") or handle(asked)
        return problem(404, "NOT_FOUND", "Resource not found")

    def _contacts(self, asked: Asked) -> Told:
        return self._batch(asked, self._live())

    def _companies(self, asked: Asked) -> Told:
        return self._batch(asked, self.companies)

    def _properties(self, _: Asked) -> Told:
        found = [{"name": n, "label": n.title(), "type": t} for n, t in self.types.items()]
        return Told(200, {"results": found})

    def _token(self, asked: Asked) -> Told:
        if asked.form.get("refresh_token") != "refresh-made-up":
            return Told(400, {"status": "BAD_REFRESH_TOKEN", "message": "refresh token is invalid"})
        token = f"access-{len(self.tokens)}"
        self.tokens = {token}
        return Told(
            200, {"access_token": token, "refresh_token": "refresh-made-up", "expires_in": 1800}
        )

    def _scoped(self, scope: str) -> Told | None:
        if scope in self.scopes:
            return None
        words = f"This app hasn't been granted all required scopes: [{scope}]"
        return problem(403, "MISSING_SCOPES", words)

    def _live(self) -> dict[int, dict[str, Any]]:
        return {key: row for key, row in self.contacts.items() if key not in self.archived}

    def _listed(self, asked: Asked) -> Told:
        limit = int(asked.query.get("limit", "10"))
        if limit > 100 or sum(map(len, asked.query.values())) > 15_000:
            return problem(400, "VALIDATION_ERROR", "too much")
        archived = asked.query.get("archived") == "true"
        rows = {k: r for k, r in self.contacts.items() if (k in self.archived) == archived}
        names = asked.query.get("properties", "email,firstname").split(",")
        return self._cursor_page(asked, rows, limit, names)

    def _cursor_page(
        self, asked: Asked, rows: Mapping[int, dict[str, Any]], limit: int, names: list[str]
    ) -> Told:
        after = int(asked.query.get("after", "0"))
        keys = sorted(key for key in rows if key >= after)
        body: dict[str, Any] = {
            "results": [self._row(key, rows[key], names) for key in keys[:limit]]
        }
        if len(keys) > limit:
            body["paging"] = {"next": {"after": str(keys[limit]), "link": "https://example.com"}}
        return Told(200, body)

    def _row(self, key: int, values: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
        shown = {name: values.get(name) for name in names if name in self.types}
        row = {"id": str(key), "properties": shown, "archived": key in self.archived}
        return row | ({"archivedAt": self.archived[key]} if key in self.archived else {})

    def _searched(self, asked: Asked) -> Told:
        wanted = asked.json
        if wanted["limit"] > 200 or int(wanted.get("after", 0)) + wanted["limit"] > self.search_hits_max:
            return problem(400, "VALIDATION_ERROR", "a search never pages past 10,000")
        filters = [one for group in wanted["filterGroups"] for one in group["filters"]]
        known = [
            (key, row)
            for key, row in self._live().items()
            if parse_time(row["lastmodifieddate"]).timestamp() <= self.clock.now_s() - self.lag_s
        ]
        hits = [(key, row) for key, row in known if all(fits(row, one) for one in filters)]
        hits.sort(key=lambda hit: comparable(hit[1], wanted["sorts"][0]["propertyName"]))
        start = int(wanted.get("after", 0))
        page = hits[start : start + wanted["limit"]]
        rows = [self._row(key, row, wanted["properties"]) for key, row in page]
        body: dict[str, Any] = {"total": len(hits), "results": rows}
        if start + len(page) < len(hits):
            body["paging"] = {"next": {"after": str(start + len(page))}}
        return Told(200, body)

    def _batch(self, asked: Asked, rows: Mapping[int, dict[str, Any]]) -> Told:
        wanted = asked.json
        if len(wanted["inputs"]) > 100:
            return problem(400, "VALIDATION_ERROR", "at most 100")
        keys = [int(one["id"]) for one in wanted["inputs"]]
        names = wanted["properties"]
        found = [
            {"id": str(key), "properties": {name: rows[key].get(name) for name in names}}
            for key in keys
            if key in rows
        ]
        return Told(
            200 if len(found) == len(keys) else 207, {"status": "COMPLETE", "results": found}
        )

    def _owned(self, asked: Asked) -> Told:
        archived = asked.query.get("archived") == "true"
        rows = [{"id": str(k), **o} for k, o in self.owners.items() if o["archived"] == archived]
        return Told(200, {"results": rows})

    def _lists(self, asked: Asked) -> Told:
        offset, count = (
            asked.json["offset"],
            min(asked.json["count"], 2),
        )  # small pages: two at a time
        keys = sorted(self.lists)
        found = [
            {"listId": str(key), "name": self.lists[key]["name"], "processingType": "MANUAL"}
            for key in keys[offset : offset + count]
        ]
        more = offset + count < len(keys)
        return Told(200, {"lists": found, "hasMore": more, "offset": offset + count})

    def _members(self, asked: Asked) -> Told:
        number = int(asked.path.split("/")[-2])
        limit, after = int(asked.query["limit"]), int(asked.query.get("after", "0"))
        members = self.lists[number]["members"]
        keys = sorted(key for key in members if key >= after and key in self._live())
        rows = [{"recordId": str(k), "membershipTimestamp": members[k]} for k in keys[:limit]]
        body: dict[str, Any] = {"results": rows}
        if len(keys) > limit:
            body["paging"] = {"next": {"after": str(keys[limit])}}
        return Told(200, body)


def fits(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a contact passes a filter; a contact without the property never does."""
    held, value = comparable(row, wanted["propertyName"]), float(wanted["value"])
    if held is None:
        return False
    return {"GT": held > value, "GTE": held >= value, "LTE": held <= value, "LT": held < value}[
        wanted["operator"]
    ]


def comparable(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    moment = parse_time(value) if "T" in str(value) else None
    return moment.timestamp() * 1000 if moment else float(value)


def problem(status: int, category: str, words: str) -> Told:
    body = {"status": "error", "message": words, "correlationId": "1", "category": category}
    return Told(status, json.dumps(body).encode())
