"""A double of Pipedrive: cursor pages, a window of updates, labels, filters, organizations by id, two budgets.

Source: connectors reference, section 3.
"""

import base64
import json
import re
from collections import deque
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time, rfc3339

BURST_COUNT, BURST_S = 20, 2.0
ADDED = ("marketing_status", "doi_status")
TOKEN = "0123456789abcdef0123456789abcdef01234567"  # made up
TITLE = "4de00000000000000000000000000000000090a6"
LEVEL = "c0de000000000000000000000000000000000001"
SINCE = "5ace000000000000000000000000000000000002"


class Pipedrive(Double):
    """persons: id -> row. filters: name -> ids. labels: id -> name. budget: the day's tokens that are left.

    shows_deleted: whether `updated_since` lists deleted persons [?]. refuses_added: whether an account without the add-on refuses its
    fields, or leaves them out [?]. contact_sync: whether the account has it on, and so a job title. recents: what the log of recent changes
    says of the deleted [M]: "flag", "null"; "gone": there is no such log any more; merge_named_by: "winner" or "loser" [M].
    """

    recents = "flag"
    merge_named_by = "winner"

    shows_deleted = False
    old_names = False  # personFields with v1's names
    refuses_added = True
    contact_sync = False

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.persons: dict[int, dict[str, Any]] = {}
        self.organizations: dict[int, dict[str, Any]] = {}
        self.users: list[dict[str, Any]] = []
        self.filters: dict[str, set[int]] = {}
        self.tokens = {TOKEN}
        self.denied: set[str] = set()
        self.campaigns = True
        self.labels = {1: "Hot", 2: "Cold"}
        self.api_domain = ""
        self.settled: set[int] = set()  # whose status in campaigns was changed once
        self.refuses: dict[int, str] = {}
        self.budget = 30_000
        self.merged: list[tuple[int, int]] = []
        self.starts: deque[float] = deque(maxlen=BURST_COUNT)

    def now(self) -> str:
        return rfc3339(parse_time(self.clock.now_s()))

    def put(self, key: int, email: str | None = None, **values: Any) -> None:
        """Create a person, or change it."""
        held = self.persons.setdefault(
            key,
            {
                "id": key, "name": "", "emails": [], "phones": [], "org_id": None, "owner_id": 7,
                "label_ids": [], "custom_fields": {}, "is_deleted": False, "add_time": self.now(),
                "marketing_status": "no_consent", "doi_status": None, "job_title": None,
            },
        )  # fmt: skip
        if email is not None:
            held["emails"] = [{"value": email, "primary": True, "label": "work"}]
        held |= {**values, "update_time": self.now()}

    def delete(self, key: int) -> None:
        self.put(key, is_deleted=True)

    def merge(self, loser: int, winner: int) -> None:
        """The loser counts as deleted, and its addresses are the winner's."""
        self.put(winner, emails=self.persons[winner]["emails"] + self.persons[loser]["emails"])
        self.delete(loser)
        pair = {"winner": (winner, loser), "loser": (loser, winner)}[self.merge_named_by]
        self.merged.append(pair)

    def put_organization(self, key: int, **values: Any) -> None:
        """Create an organization, or change it: its persons stay as they are."""
        held = self.organizations.setdefault(key, {"id": key})
        held |= {**values, "update_time": self.now()}

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth/token":
            return self._token(asked)
        scheme, _, bearer = asked.headers.get("authorization", "").partition(" ")
        held = bearer if scheme == "Bearer" else asked.headers.get("x-api-token", "")
        if held not in self.tokens:
            return problem(401, "unauthorized access")
        over = self._over_budget(asked)
        if over is not None:
            return over
        for pattern, handle in (
            ("/api/v2/persons", self._persons),
            ("/api/v2/organizations", self._organizations),
            ("/api/v2/personFields", self._fields),
            ("/api/v1/users", lambda _: good(self.users)),
            ("/api/v1/filters", self._filters),
            ("/api/v1/recents", self._recents),
        ):
            if asked.method == "GET" and re.fullmatch(pattern, asked.path):
                if pattern in self.denied:
                    return problem(403, "Scope and URL mismatch")
                return handle(asked)
        if asked.method == "PATCH" and (
            found := re.fullmatch(r"/api/v2/persons/(\d+)", asked.path)
        ):
            return self._changed(int(found[1]), asked.json)
        return problem(404, "Unknown method")

    def _changed(self, key: int, values: dict[str, Any]) -> Told:
        """A status is changed once, and in silence not at all."""
        if "PATCH" in self.denied:
            return problem(403, "Scope and URL mismatch")
        if key in self.refuses:
            return problem(400, self.refuses[key])
        row = self.persons.get(key)
        if row is None or row["is_deleted"]:
            return problem(404, "Person not found")
        custom = values.get("custom_fields", {})
        if custom.keys() - {TITLE, LEVEL} or custom.get(LEVEL, 10) not in {10, 11}:
            return problem(400, "custom_fields: unknown field, or choice")
        status = values.get("marketing_status")
        if status and self.campaigns and row["emails"] and key not in self.settled:
            if row["marketing_status"] != status:
                self.settled.add(key)
            row["marketing_status"] = status
        self.put(key, custom_fields={**row["custom_fields"], **custom})
        return good(self._shown(row, {}))

    def _over_budget(self, asked: Asked) -> Told | None:
        """20 requests in 2 s on the smallest plan; 10 tokens a listing, 20 of v1 [S7][S9]."""
        now_s = self.clock.now_s()
        if len(self.starts) == BURST_COUNT and now_s - self.starts[0] < BURST_S:
            return Told(429, b"{}", {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"})
        self.starts.append(now_s)
        self.budget -= 20 if "/v1/" in asked.path else 10
        if self.budget < 0:
            spent = {"x-daily-ratelimit-token-remaining": "0", "Retry-After": "1"}
            return Told(429, b'{"error":"request over limit"}', spent)
        return None

    def _token(self, asked: Asked) -> Told:
        pair = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
        if pair != "id:client-made-up" or asked.form["refresh_token"] != "refresh-made-up":
            return Told(400, {"success": False, "error": "invalid_grant"})
        self.tokens = {"access-made-up"}
        domain = self.api_domain or self.url
        granted = {"access_token": "access-made-up", "expires_in": 3599, "api_domain": domain}
        return Told(200, granted)

    def _persons(self, asked: Asked) -> Told:
        query = asked.query
        if int(query.get("limit", "100")) > 500 or query.get("sort_by", "id") != "id":
            return problem(400, "out of bounds")
        added = set(filter(None, query.get("include_fields", "").split(",")))
        if added - set(ADDED) or (added and not self.campaigns and self.refuses_added):
            return problem(400, "include_fields: unknown field")
        if len(query.get("custom_fields", "").split(",")) > 15:
            return problem(400, "custom_fields: at most 15")
        rows = [row for row in self.persons.values() if self._listed(row, query)]
        if "ids" in query:
            wanted = [int(one) for one in query["ids"].split(",")]
            if len(wanted) > 100:
                return problem(400, "ids: at most 100")
            rows = [row for row in rows if row["id"] in wanted]
        if "filter_id" in query:
            members = list(self.filters.values())[int(query["filter_id"]) - 1]
            rows = [row for row in rows if row["id"] in members]
        elif "org_id" in query:  # a filter makes it be ignored [S1]
            rows = [row for row in rows if row["org_id"] == int(query["org_id"])]
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
        for name in ADDED:
            if name not in query.get("include_fields", "").split(",") or not self.campaigns:
                del shown[name]
        if not self.contact_sync:
            del shown["job_title"]
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

    def _recents(self, asked: Asked) -> Told:
        """By rows, not by a cursor; each person as version 1 has it."""
        query = asked.query
        if self.recents == "gone":
            return problem(404, "Unknown method")
        if not re.fullmatch(r"[-0-9]{10} [:0-9]{8}", query["since_timestamp"]):
            return problem(400, "since_timestamp")
        since = parse_time(query["since_timestamp"])
        rows = [row for row in self.persons.values() if parse_time(row["update_time"]) >= since]
        items = [self._recent(row) for row in sorted(rows, key=lambda row: row["update_time"])]
        start, limit = int(query["start"]), min(int(query["limit"]), 3)
        more = start + limit < len(items)
        pages = {"start": start, "limit": limit, "more_items_in_collection": more}
        pages |= {"next_start": start + limit} if more else {}
        return good(items[start : start + limit], pagination=pages)

    def _recent(self, row: dict[str, Any]) -> dict[str, Any]:
        data = {"id": row["id"], "active_flag": not row["is_deleted"], "email": row["emails"]}
        others = [other for one, other in self.merged if one == row["id"]]
        data |= {"merge_what_id": others[-1]} if others else {}
        if row["is_deleted"] and self.recents == "null" and not others:
            return {"item": "person", "id": row["id"], "data": None}
        return {"item": "person", "id": row["id"], "data": data}

    def _organizations(self, asked: Asked) -> Told:
        query = asked.query
        wanted = [int(one) for one in query.get("ids", "").split(",") if one]
        if len(wanted) > 100 or int(query.get("limit", "100")) > 500:
            return problem(400, "ids: at most 100")
        rows = [self.organizations[key] for key in sorted(self.organizations)]
        if "ids" in query:
            rows = [row for row in rows if row["id"] in wanted]
        since = parse_time(query.get("updated_since"))
        rows = [row for row in rows if since is None or parse_time(row["update_time"]) >= since]
        return self._page(rows, query)

    def _fields(self, _: Asked) -> Told:
        key, name = ("key", "name") if self.old_names else ("field_code", "field_name")
        labels = [{"id": key, "label": label} for key, label in self.labels.items()]
        consent = [{"id": "unsubscribed", "label": "Abgemeldet"}]
        synced = [{key: "job_title", name: "Job title"}] if self.contact_sync else []
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
                {key: "marketing_status", name: "Marketing", "options": consent},
                *synced,
                {key: TITLE, name: "Job title", "field_type": "varchar"},
                {key: LEVEL, name: "Level", "field_type": "enum", "options": levels},
                {key: SINCE, name: "Since", "field_type": "date"},
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
