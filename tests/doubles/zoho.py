"""A double of Zoho CRM: page tokens with their limit, fields that must be named, 204 and 304, deleted records, views, COQL.

Source: connectors reference, section 4.
"""

import json
import re
from datetime import timedelta, timezone
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time

REFRESH, ZONE = "refresh-made-up", timezone(timedelta(hours=5, minutes=30))
FIELDS = {
    "id": "Id", "Email": "E-mail", "Secondary_Email": "Second", "First_Name": "First name",
    "Last_Name": "Last name", "Title": "Title", "Phone": "Phone", "Mobile": "Mobile",
    "Account_Name": "Account", "Owner": "Owner", "Email_Opt_Out": "Opted out",
    "Modified_Time": "Modified", "Tag": "Tag", "Score": "Score",
}  # fmt: skip


class Zoho(Double):
    """records: id -> row. views: name -> ids. reach: how many rows page tokens reach."""

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.records: dict[int, dict[str, Any]] = {}
        self.deleted: dict[int, str] = {}
        self.accounts: dict[int, dict[str, Any]] = {}
        self.views: dict[str, set[int]] = {}
        self.known = dict(FIELDS)
        self.hidden: set[str] = set()
        self.denied: set[str] = set()
        self.refresh = REFRESH
        self.tokens: set[str] = set()
        self.handed_out = 0
        self.reach = 100_000
        self.listings: dict[str, tuple[str, int]] = {}

    def now(self) -> str:
        moment = parse_time(self.clock.now_s())
        assert moment is not None
        return moment.astimezone(ZONE).isoformat(timespec="seconds")

    def put(self, key: int, **values: Any) -> None:
        """Create a record, or change it."""
        held = self.records.setdefault(key, {"id": str(key), "Email_Opt_Out": False, "Tag": []})
        held |= {**values, "Modified_Time": self.now()}
        self.deleted.pop(key, None)

    def delete(self, key: int) -> None:
        del self.records[key]
        self.deleted[key] = self.now()

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth/v2/token":
            return self._token(asked)
        if (
            asked.headers.get("authorization", "").removeprefix("Zoho-oauthtoken ")
            not in self.tokens
        ):
            return problem(401, "INVALID_TOKEN", "invalid oauth token")
        if asked.path in self.denied:
            return problem(401, "OAUTH_SCOPE_MISMATCH", "invalid oauth scope to access this URL")
        for pattern, handle in (
            (r"/crm/v8/(Contacts|Leads)", self._listed),
            (r"/crm/v8/(Contacts|Leads)/deleted", self._deleted),
            (r"/crm/v8/Accounts", self._accounts),
            (r"/crm/v8/settings/fields", self._fields),
            (r"/crm/v8/settings/custom_views", self._views),
            (r"/crm/v8/coql", self._coql),
        ):
            if re.fullmatch(pattern, asked.path):
                return handle(asked)
        return problem(404, "INVALID_URL_PATTERN", "no such path")

    def _token(self, asked: Asked) -> Told:
        """Errors come with status 200 [M]."""
        if asked.form.get("refresh_token") != self.refresh:
            return Told(200, {"error": "invalid_code"})
        self.handed_out += 1
        self.tokens = {f"access-{self.handed_out}"}
        token = next(iter(self.tokens))
        return Told(200, {"access_token": token, "expires_in": 3600, "api_domain": self.url})

    def _listed(self, asked: Asked) -> Told:
        query = asked.query
        names = query.get("fields", "").split(",")
        size = int(query.get("per_page", "200"))
        if not names[0] or len(names) > 50 or size > 200:
            return problem(400, "REQUIRED_PARAM_MISSING", "fields: one to fifty names are needed")
        if "cvid" in query and "sort_by" in query:
            return problem(400, "INVALID_DATA", "cvid and sort_by exclude each other")
        if "ids" in query:
            wanted = [int(one) for one in query["ids"].split(",")]
            if len(wanted) > 100:
                return problem(400, "LIMIT_EXCEEDED", "ids: at most 100")
            return self._shown([self.records[key] for key in wanted if key in self.records], names)
        return self._page(asked, names, size)

    def _page(self, asked: Asked, names: list[str], size: int) -> Told:
        query, since = asked.query, asked.headers.get("if-modified-since", "")
        same = repr(sorted((k, v) for k, v in query.items() if k != "page_token")) + since
        start = 0
        if "page_token" in query:
            signature, start = self.listings[query["page_token"]]
            if signature != same:
                return problem(400, "INVALID_DATA", "page_token: the parameters are others")
        rows = list(self.records.values())
        if "cvid" in query:
            rows = [
                row
                for row in rows
                if int(row["id"]) in list(self.views.values())[int(query["cvid"]) - 1]
            ]
        if since:
            if "T" not in since or "Z" in since:
                return problem(400, "INVALID_DATA", "If-Modified-Since: ISO 8601 with an offset")
            rows = [row for row in rows if parse_time(row["Modified_Time"]) >= parse_time(since)]
            if not rows:
                return Told(304)
        key = query.get("sort_by", "id")
        rows.sort(key=lambda row: int(row["id"]) if key == "id" else parse_time(row[key]))
        if query.get("sort_order", "desc") == "desc":
            rows.reverse()
        end = min(start + size, self.reach)
        more = end < min(len(rows), self.reach)
        info: dict[str, Any] = {"more_records": more, "per_page": size}
        if more:
            token = f"token-{len(self.listings)}"
            self.listings[token] = (same, end)
            info["next_page_token"] = token
        return self._shown(rows[start:end], names, info)

    def _shown(self, rows: list[dict[str, Any]], names: list[str], info: Any = None) -> Told:
        if not rows:
            return Told(204)
        shown = [n for n in ["id", *names] if n in self.known and n not in self.hidden]
        data = [{name: row.get(name) for name in shown} for row in rows]
        return Told(200, {"data": data, "info": info or {"more_records": False}})

    def _deleted(self, asked: Asked) -> Told:
        since = parse_time(asked.headers.get("if-modified-since"))
        keys = sorted(k for k, at in self.deleted.items() if parse_time(at) >= since)
        size, page = int(asked.query["per_page"]), int(asked.query["page"])
        part = keys[(page - 1) * size : page * size]
        if not part:
            return Told(304 if since else 204)
        rows = [{"id": str(k), "type": "recycle", "deleted_time": self.deleted[k]} for k in part]
        return Told(200, {"data": rows, "info": {"more_records": page * size < len(keys)}})

    def _accounts(self, asked: Asked) -> Told:
        wanted = [int(one) for one in asked.query.get("ids", "").split(",") if one]
        rows = [{"id": str(key), **self.accounts[key]} for key in wanted if key in self.accounts]
        return Told(200, {"data": rows, "info": {}}) if rows else Told(204)

    def _fields(self, _: Asked) -> Told:
        rows = [{"api_name": name, "field_label": label} for name, label in self.known.items()]
        return Told(200, {"fields": rows})

    def _views(self, _: Asked) -> Told:
        rows = [{"id": str(n), "display_value": name} for n, name in enumerate(self.views, 1)]
        return Told(200, {"custom_views": rows}) if rows else Told(204)

    def _coql(self, asked: Asked) -> Told:
        pattern = r"select id from (\w+) where id > (\d+) order by id asc limit 0, (\d+)"
        found = re.fullmatch(pattern, asked.json["select_query"])
        if not found or int(found[3]) > 2_000:
            return problem(400, "SYNTAX_ERROR", "error in the query")
        keys = sorted(key for key in self.records if key > int(found[2]))[: int(found[3])]
        return Told(200, {"data": [{"id": str(key)} for key in keys]}) if keys else Told(204)


def problem(status: int, code: str, words: str) -> Told:
    body = {"code": code, "details": {}, "message": words, "status": "error"}
    return Told(status, json.dumps(body).encode())
