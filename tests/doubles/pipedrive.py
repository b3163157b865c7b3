"""A double of Pipedrive: cursor pages, a window of updates, labels, filters, organizations by id, a budget of tokens.

Source: connectors reference, section 3.
"""

import base64
import json
import re
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time, rfc3339

TOKEN = "0123456789abcdef0123456789abcdef01234567"  # made up
TITLE = "4de00000000000000000000000000000000090a6"
LEVEL = "c0de000000000000000000000000000000000001"


class Pipedrive(Double):
    """persons: id -> row. filters: name -> ids. shows_deleted: whether `updated_since` lists deleted persons [?]."""

    shows_deleted = False
    old_names = False  # personFields with v1's names

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.persons: dict[int, dict[str, Any]] = {}
        self.organizations: dict[int, dict[str, Any]] = {}
        self.users: list[dict[str, Any]] = []
        self.filters: dict[str, set[int]] = {}
        self.tokens = {TOKEN}
        self.denied: set[str] = set()
        self.campaigns = True

    def now(self) -> str:
        return rfc3339(parse_time(self.clock.now_s()))

    def put(self, key: int, email: str | None = None, **values: Any) -> None:
        """Create a person, or change it."""
        held = self.persons.setdefault(
            key,
            {
                "id": key, "name": "", "emails": [], "phones": [], "org_id": None, "owner_id": 7,
                "label_ids": [], "custom_fields": {}, "is_deleted": False, "add_time": self.now(),
                "marketing_status": "no_consent",
            },
        )  # fmt: skip
        if email is not None:
            held["emails"] = [{"value": email, "primary": True, "label": "work"}]
        held |= {**values, "update_time": self.now()}

    def delete(self, key: int) -> None:
        self.put(key, is_deleted=True)

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth/token":
            return self._token(asked)
        held = asked.headers.get("x-api-token", "") or asked.headers.get(
            "authorization", ""
        ).removeprefix("Bearer ")
        if held not in self.tokens:
            return problem(401, "unauthorized access")
        for pattern, handle in (
            ("/api/v2/persons", self._persons),
            ("/api/v2/organizations", self._organizations),
            ("/api/v2/personFields", self._fields),
            ("/api/v1/users", lambda _: good(self.users)),
            ("/api/v1/filters", self._filters),
        ):
            if asked.method == "GET" and re.fullmatch(pattern, asked.path):
                if pattern in self.denied:
                    return problem(403, "Scope and URL mismatch")
                return handle(asked)
        return problem(404, "Unknown method")

    def _token(self, asked: Asked) -> Told:
        pair = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
        if pair != "id:client-made-up" or asked.form["refresh_token"] != "refresh-made-up":
            return Told(400, {"success": False, "error": "invalid_grant"})
        self.tokens = {"access-made-up"}
        return Told(
            200, {"access_token": "access-made-up", "expires_in": 3599, "api_domain": self.url}
        )

    def _persons(self, asked: Asked) -> Told:
        query = asked.query
        if int(query.get("limit", "100")) > 500 or query.get("sort_by", "id") != "id":
            return problem(400, "out of bounds")
        if "include_fields" in query and not self.campaigns:
            return problem(400, "include_fields: unknown field")
        if len(query.get("custom_fields", "").split(",")) > 15:
            return problem(400, "custom_fields: at most 15")
        rows = [row for row in self.persons.values() if self._listed(row, query)]
        if "filter_id" in query:
            members = list(self.filters.values())[int(query["filter_id"]) - 1]
            rows = [row for row in rows if row["id"] in members]
        shown = [self._shown(row, query) for row in sorted(rows, key=lambda row: row["id"])]
        return self._page(shown, query)

    def _listed(self, row: dict[str, Any], query: dict[str, str]) -> bool:
        changed = parse_time(row["update_time"])
        since, until = (parse_time(query.get(name)) for name in ("updated_since", "updated_until"))
        if row["is_deleted"] and not (self.shows_deleted and since):
            return False
        return (since is None or changed >= since) and (until is None or changed < until)

    def _shown(self, row: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        shown = dict(row)
        if "marketing_status" not in query.get("include_fields", ""):
            del shown["marketing_status"]
        if "custom_fields" in query:
            keys = query["custom_fields"].split(",")
            shown["custom_fields"] = {k: v for k, v in row["custom_fields"].items() if k in keys}
        return shown

    def _page(self, rows: list[dict[str, Any]], query: dict[str, str]) -> Told:
        limit = int(query.get("limit", "100"))
        after = int(base64.b64decode(query["cursor"])) if "cursor" in query else -1
        left = [row for row in rows if row["id"] > after]
        more = None
        if len(left) > limit:
            more = base64.b64encode(str(left[limit - 1]["id"]).encode()).decode()
        return good(left[:limit], next_cursor=more)

    def _organizations(self, asked: Asked) -> Told:
        wanted = [int(one) for one in asked.query.get("ids", "").split(",") if one]
        if len(wanted) > 100:
            return problem(400, "ids: at most 100")
        return good(
            [{"id": key, **self.organizations[key]} for key in wanted if key in self.organizations]
        )

    def _fields(self, asked: Asked) -> Told:
        key, name = ("key", "name") if self.old_names else ("field_code", "field_name")
        labels = [{"id": 1, "label": "Hot"}, {"id": 2, "label": "Cold"}]
        levels = [{"id": 10, "label": "Gold"}, {"id": 11, "label": "Silver"}]
        return good(
            [
                {key: "name", name: "Name"},
                {key: "email", name: "Email"},
                {
                    key: "label" if self.old_names else "label_ids",
                    name: "Labels",
                    "options": labels,
                },
                {key: TITLE, name: "Job title"},
                {key: LEVEL, name: "Level", "options": levels},
            ]
        )

    def _filters(self, _: Asked) -> Told:
        return good([{"id": n, "name": name} for n, name in enumerate(self.filters, 1)])


def good(data: Any, **additional: Any) -> Told:
    return Told(200, {"success": True, "data": data, "additional_data": additional or None})


def problem(status: int, words: str) -> Told:
    body = {
        "success": False,
        "error": words,
        "error_info": "Please check the reference",
        "data": None,
    }
    return Told(status, json.dumps(body).encode())
