"""A double of Zoho CRM: page tokens with their limit, fields that must be named, 204 and 304, deleted records, views, tags, COQL.

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
    "Modified_Time": "Modified", "Tag": "Tag", "Score": "Score", "Company": "Company",
}  # fmt: skip
ACCOUNT_FIELDS = {"id", "Account_Name", "Website", "Modified_Time"}
NUMBERED_MAX = 2_000
TOKENS_MAX, TOKENS_S = 10, 600  # handed out [M]
SORTED_BY = {"id", "Created_Time", "Modified_Time"}
QUERY = re.compile(
    r"select id from (\w+) where id > (\d+)(?: and (.+?))?(?: order by id asc)? limit 0, (\d+)"
)


class Zoho(Double):
    """records: id -> row. views: name -> ids. tags: id -> name. reach: how many rows page tokens reach.

    A row that is not `approved`, or is `converted`, is listed only where that is asked for. deleted_reach: how many rows of deleted records
    are shown [?]; refuses_beyond: whether a page after them is an error, or the listing just ends. keeps_restored: whether a restored
    record stays in it [?]. approved_is: what becomes
    of `approved` and `converted`: heeded, ignored, refused [?].
    """

    refuses_beyond = True
    keeps_restored = False
    approved_is = "heeded"

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.records: dict[int, dict[str, Any]] = {}
        self.deleted: dict[int, str] = {}
        self.accounts: dict[int, dict[str, Any]] = {}
        self.views: dict[str, set[int]] = {}
        self.tags: dict[int, str] = {}
        self.deleted_reach = 1_000_000
        self.token_times: list[float] = []
        self.api_domain = ""
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
        if not self.keeps_restored:
            self.deleted.pop(key, None)

    def put_account(self, key: int, **values: Any) -> None:
        """Create an account, or change it: its contacts stay as they are."""
        held = self.accounts.setdefault(key, {"id": str(key)})
        held |= {**values, "Modified_Time": self.now()}

    def delete(self, key: int) -> None:
        del self.records[key]
        self.deleted[key] = self.now()

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth/v2/token":
            return self._token(asked)
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if scheme != "Zoho-oauthtoken" or token not in self.tokens:
            return problem(401, "INVALID_TOKEN", "invalid oauth token")
        if asked.path in self.denied:
            return problem(401, "OAUTH_SCOPE_MISMATCH", "invalid oauth scope to access this URL")
        for pattern, handle in (
            (r"/crm/v8/(Contacts|Leads|Accounts)", self._listed),
            (r"/crm/v8/(Contacts|Leads)/deleted", self._deleted),
            (r"/crm/v8/settings/fields", self._fields),
            (r"/crm/v8/settings/custom_views", self._views),
            (r"/crm/v8/settings/tags", self._tags),
            (r"/crm/v8/coql", self._coql),
        ):
            if re.fullmatch(pattern, asked.path):
                return handle(asked)
        return problem(404, "INVALID_URL_PATTERN", "no such path")

    def _token(self, asked: Asked) -> Told:
        """Errors come with status 200 [M]."""
        if asked.form.get("refresh_token") != self.refresh:
            return Told(200, {"error": "invalid_code"})
        now_s = self.clock.now_s()
        self.token_times = [at for at in self.token_times if now_s - at < TOKENS_S]
        if len(self.token_times) >= TOKENS_MAX:
            return Told(400, {"error": "Access Denied", "status": "failure"})
        self.token_times.append(now_s)
        self.handed_out += 1
        self.tokens = {f"access-{self.handed_out}"}
        token = next(iter(self.tokens))
        domain = self.api_domain or self.url
        return Told(200, {"access_token": token, "expires_in": 3600, "api_domain": domain})

    def _listed(self, asked: Asked) -> Told:
        query = asked.query
        table = self.accounts if asked.path.endswith("Accounts") else self.records
        names = query.get("fields", "").split(",")
        size, page = int(query.get("per_page", "200")), int(query.get("page", "1"))
        if not names[0] or len(names) > 50 or size > 200:
            return problem(400, "REQUIRED_PARAM_MISSING", "fields: one to fifty names are needed")
        if "cvid" in query and "sort_by" in query:
            return problem(400, "INVALID_DATA", "cvid and sort_by exclude each other")
        if query.get("sort_by", "id") not in SORTED_BY or {"page", "page_token"} <= set(query):
            return problem(400, "INVALID_DATA", "sort_by, or page and page_token at once")
        if self.approved_is == "refused" and {"approved", "converted"} & set(query):
            return problem(400, "INVALID_DATA", "approved")
        if page * size > NUMBERED_MAX:
            return problem(400, "DISCRETE_PAGINATION_LIMIT_EXCEEDED", "2,000 rows by page")
        if "ids" in query:
            wanted = [int(one) for one in query["ids"].split(",")]
            if len(wanted) > 100:
                return problem(400, "LIMIT_EXCEEDED", "ids: at most 100")
            rows = [table[key] for key in wanted if key in table]
            return self._shown([row for row in rows if self._is_listed(row, query)], names)
        return self._page(
            asked, [row for row in table.values() if self._is_listed(row, query)], names
        )

    def _is_listed(self, row: dict[str, Any], query: dict[str, str]) -> bool:
        """Only approved records that were not converted, unless others are asked for [S1]."""
        asked = query if self.approved_is == "heeded" else {}
        return all(
            asked.get(name, usual) in {"both", str(row.get(name, usual == "true")).lower()}
            for name, usual in (("approved", "true"), ("converted", "false"))
        )

    def _page(self, asked: Asked, rows: list[dict[str, Any]], names: list[str]) -> Told:
        query, since = asked.query, asked.headers.get("if-modified-since", "")
        size = int(query.get("per_page", "200"))
        same = repr(sorted((k, v) for k, v in query.items() if k != "page_token")) + since
        start = 0
        if "page_token" in query:
            signature, start = self.listings[query["page_token"]]
            if signature != same:
                return problem(400, "INVALID_DATA", "page_token: the parameters are others")
        if "cvid" in query:
            members = list(self.views.values())[int(query["cvid"]) - 1]
            rows = [row for row in rows if int(row["id"]) in members]
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
        known = {*self.known, *ACCOUNT_FIELDS}
        shown = [n for n in ["id", *names] if n in known and n not in self.hidden]
        data = [{name: row.get(name) for name in shown} for row in rows]
        return Told(200, {"data": data, "info": info or {"more_records": False}})

    def _deleted(self, asked: Asked) -> Told:
        since = parse_time(asked.headers.get("if-modified-since"))
        keys = sorted(k for k, at in self.deleted.items() if parse_time(at) >= since)
        size, page = int(asked.query["per_page"]), int(asked.query["page"])
        if (page - 1) * size >= self.deleted_reach and self.refuses_beyond:
            return problem(400, "DISCRETE_PAGINATION_LIMIT_EXCEEDED", "2,000 rows by page")
        part = keys[: self.deleted_reach][(page - 1) * size : page * size]
        if not part:
            return Told(304 if page == 1 else 204)
        rows = [{"id": str(k), "type": "recycle", "deleted_time": self.deleted[k]} for k in part]
        return Told(200, {"data": rows, "info": {"more_records": page * size < len(keys)}})

    def _fields(self, _: Asked) -> Told:
        rows = [
            {
                "api_name": name,
                "field_label": label,
                "data_type": "boolean" if name in {"Email_Opt_Out", "Agreed"} else "text",
            }
            for name, label in self.known.items()
        ]
        return Told(200, {"fields": rows})

    def _views(self, _: Asked) -> Told:
        rows = [{"id": str(n), "display_value": name} for n, name in enumerate(self.views, 1)]
        return Told(200, {"custom_views": rows}) if rows else Told(204)

    def _tags(self, _: Asked) -> Told:
        rows = [{"id": str(key), "name": name} for key, name in self.tags.items()]
        return Told(200, {"tags": rows, "info": {}}) if rows else Told(204)

    def _coql(self, asked: Asked) -> Told:
        found = QUERY.fullmatch(asked.json["select_query"])
        if not found or int(found[4]) > 2_000:
            return problem(400, "SYNTAX_ERROR", "error in the query")
        rows = [self.records[key] for key in sorted(self.records) if key > int(found[2])]
        condition = found[3] or ""
        if condition == "Email_Opt_Out = true":
            rows = [row for row in rows if row["Email_Opt_Out"]]
        elif times := re.fullmatch(r"Modified_Time >= '(.+)'", condition):
            rows = [r for r in rows if parse_time(r["Modified_Time"]) >= parse_time(times[1])]
        elif accounts := re.fullmatch(r"Account_Name in \((.+)\)", condition):
            wanted = re.findall(r"'(\d+)'", accounts[1])
            if len(wanted) > 50:
                return problem(400, "LIMIT_EXCEEDED", "in: at most 50 values")
            rows = [row for row in rows if (row.get("Account_Name") or {}).get("id") in wanted]
        elif condition:
            return problem(400, "SYNTAX_ERROR", "error in the query")
        shown = [{"id": row["id"]} for row in rows[: int(found[4])]]
        return Told(200, {"data": shown, "info": {}}) if shown else Told(204)


def problem(status: int, code: str, words: str) -> Told:
    body = {"code": code, "details": {}, "message": words, "status": "error"}
    return Told(status, json.dumps(body).encode())
