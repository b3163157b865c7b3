"""A double of Airtable: one base of people and companies; listings that are forgotten, cells that are left out, the limits.

Source: connectors reference, section 11; airtable.com/developers/web/api. What a listing holds and its order are those of its first
request, the values those of each page (seen by Estuary's connector).
"""

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time, rfc3339

TOKEN, BASE, PEOPLE, COMPANIES = "pat-made-up", "appBASE", "tblPEOPLE", "tblCOMPANIES"
REFRESH = "refresh-made-up-1"
FORGOTTEN_AFTER_S = 300  # without a request; "some minutes"
PENALTY_S = 30
URL_CHARS_MAX = 16_000
CHANGED = re.compile(
    r"IS_AFTER\(IF\(LAST_MODIFIED_TIME\(\), LAST_MODIFIED_TIME\(\), CREATED_TIME\(\)\), DATETIME_PARSE\('([^']+)'\)\)"
)
AMONG = re.compile(r"OR\((RECORD_ID\(\)='rec\w+'(?:,RECORD_ID\(\)='rec\w+')*)\)")
COMPUTED = {"formula", "rollup", "multipleLookupValues", "count", "aiText", "button"}
LOOKUP = {"isValid": True, "recordLinkFieldId": "fldCompany"}


def rec(number: int) -> str:
    """The id of a record."""
    return f"rec{number:014d}"


def column(key: str, name: str, kind: str, **options: Any) -> dict[str, Any]:
    """A column as the schema has it."""
    return {"id": key, "name": name, "type": kind, "options": options}


def looked_up(key: str, name: str, what: str, kind: str) -> dict[str, Any]:
    """A lookup through the link to companies."""
    options = {**LOOKUP, "fieldIdInLinkedTable": what, "result": {"type": kind}}
    return column(key, name, "multipleLookupValues", **options)


def tables() -> dict[str, dict[str, Any]]:
    people = [
        column("fldName", "Name", "singleLineText"),
        column("fldEmail", "Email", "email"),
        column("fldOther", "Private e-mail", "email"),
        column("fldFirst", "First name", "singleLineText"),
        column("fldOut", "Unsubscribed", "checkbox", icon="check"),
        column("fldTags", "Tags", "multipleSelects", choices=[{"id": "sel1", "name": "Hot"}]),
        column(
            "fldCompany", "Company", "multipleRecordLinks",
            linkedTableId=COMPANIES, inverseLinkFieldId="fldPeople", prefersSingleRecordLink=True,
        ),
        looked_up("fldSite", "Company site", "fldWeb", "url"),
        looked_up("fldBlocked", "Blocked", "fldStop", "checkbox"),
        column("fldOwner", "Owner", "singleCollaborator"),
        column(
            "fldGone", "Gone", "formula",
            formula='{fldTags}="Gone"', isValid=True, referencedFieldIds=["fldTags"], result={"type": "number"},
        ),
    ]  # fmt: skip
    companies = [
        column("fldTitle", "Title", "singleLineText"),
        column("fldWeb", "Web", "url"),
        column("fldStop", "Stop", "checkbox"),
        column(
            "fldPeople", "People", "multipleRecordLinks",
            linkedTableId=PEOPLE, inverseLinkFieldId="fldCompany", prefersSingleRecordLink=False,
        ),
    ]  # fmt: skip
    return {
        PEOPLE: {"id": PEOPLE, "name": "People", "primaryFieldId": "fldName", "fields": people, "views": []},
        COMPANIES: {"id": COMPANIES, "name": "Companies", "primaryFieldId": "fldTitle", "fields": companies},
    }  # fmt: skip


class Airtable(Double):
    """tables: as the schema tells them. rows: table -> id -> {created, changed, cells}; computed: column id -> what a row shows there.
    views: name -> ids.

    blank_times: a record that nobody has edited since it was made has no time of a change [?]. lag_s: so long a change is not seen by
    formulas. refuses_times: LAST_MODIFIED_TIME() is refused in a filter [?]. by_name: something between puts names for ids.
    """

    blank_times = False
    refuses_times = False
    by_name = False
    lag_s = 0.0

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.tables = tables()
        self.rows: dict[str, dict[str, dict[str, Any]]] = {key: {} for key in self.tables}
        self.computed: dict[str, Callable[[dict[str, Any]], Any]] = {}
        self.views: dict[str, set[str]] = {}
        self.tokens = {TOKEN}
        self.refresh = REFRESH
        self.denied: set[str] = set()
        self.calls_left: int | None = None
        self.starts: deque[float] = deque(maxlen=5)
        self.penalty_ends_s = 0.0
        self.throttled = 0
        self.listings: dict[str, list[Any]] = {}

    # --- what its users do --------------------------------------------------------------------------

    def put(self, number: int, table: str = PEOPLE, **cells: Any) -> None:
        """Make a record, or change it. cells: by the name of the column, with _ for a blank; None empties one."""
        now, key, rows = self.now(), rec(number), self.rows[table]
        known = {
            one["name"].replace(" ", "_").replace("-", "_"): one for one in self.columns(table)
        }
        fresh = key not in rows
        row = rows.setdefault(key, {"id": key, "created": now, "changed": None, "cells": {}})
        for name, value in cells.items():
            row["cells"][known[name]["id"]] = value
            if known[name]["id"] == "fldCompany":
                self._link(key, value or [])
        row["changed"] = None if fresh and self.blank_times else now

    def put_company(self, number: int, **cells: Any) -> None:
        """Make a company, or change it: its people stay as they are."""
        self.put(number, COMPANIES, **cells)

    def delete(self, number: int, table: str = PEOPLE) -> None:
        del self.rows[table][rec(number)]

    def columns(self, table: str = PEOPLE) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.tables[table]["fields"]
        return found

    def column(self, key: str) -> dict[str, Any]:
        return next(one for table in self.tables for one in self.columns(table) if one["id"] == key)

    def forget(self) -> None:
        """A server was restarted: no listing is known any more."""
        self.listings.clear()

    def now(self) -> float:
        return float(self.clock.now_s())

    def _link(self, person: str, companies: list[str]) -> None:
        for key, row in self.rows[COMPANIES].items():
            held = [one for one in row["cells"].get("fldPeople") or [] if one != person]
            row["cells"]["fldPeople"] = [*held, person] if key in companies else held

    # --- what it answers ----------------------------------------------------------------------------

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth2/v1/token":
            return self._token(asked)
        scheme, _, token = asked.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.tokens:
            return problem(401, "AUTHENTICATION_REQUIRED", "Authentication required")
        over = self._over_limits(asked)
        if over is not None:
            return over
        if asked.path == f"/v0/meta/bases/{BASE}/tables":
            if "schema.bases:read" in self.denied:
                return problem(403, "INVALID_PERMISSIONS", "You are not permitted")
            return Told(200, {"tables": [self._described(one) for one in self.tables.values()]})
        table = self.tables.get(asked.path.removeprefix(f"/v0/{BASE}/"))
        if table is None or "data.records:read" in self.denied:
            return problem(
                403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND", "or the model was not found"
            )
        return self._listed(asked, table["id"])

    def _token(self, asked: Asked) -> Told:
        """Each refresh token is good for one use."""
        if asked.form.get("refresh_token") != self.refresh:
            return Told(400, {"error": "invalid_grant"})
        number = int(self.refresh.rpartition("-")[2]) + 1
        self.refresh, self.tokens = f"refresh-made-up-{number}", {f"access-{number}"}
        granted = {"access_token": f"access-{number}", "refresh_token": self.refresh}
        return Told(200, {**granted, "expires_in": 3600, "token_type": "Bearer"})

    def _over_limits(self, asked: Asked) -> Told | None:
        now_s = self.now()
        if len(self.starts) == 5 and now_s - self.starts[0] < 1:
            self.penalty_ends_s = now_s + PENALTY_S
        self.starts.append(now_s)
        if now_s < self.penalty_ends_s:
            self.throttled += 1
            error = {"error": "RATE_LIMIT_REACHED", "message": "Rate limit exceeded."}
            return Told(429, {"errors": [error]})
        if self.calls_left is not None and "/meta/" not in asked.path:
            self.calls_left -= 1
            if self.calls_left < 0:
                error = {"error": "PUBLIC_API_BILLING_LIMIT_EXCEEDED", "message": "this month"}
                return Told(429, {"errors": [error]})
        return None

    def _described(self, table: dict[str, Any]) -> dict[str, Any]:
        views = [{"id": f"viw{n}", "name": name} for n, name in enumerate(self.views)]
        return {**table, "views": views if table["id"] == PEOPLE else []}

    def _listed(self, asked: Asked, table: str) -> Told:
        query, ids = asked.query, asked.queries.get("fields[]", [])
        known = {one["id"]: one for one in self.columns(table)}
        if int(query.get("pageSize", "100")) > 100:
            return problem(422, "INVALID_REQUEST_UNKNOWN", "pageSize")
        for one in ids:
            if one not in known:
                return problem(422, "UNKNOWN_FIELD_NAME", f'Unknown field name: "{one}"')
        if sum(len(part) for values in asked.queries.values() for part in values) > URL_CHARS_MAX:
            return problem(413, "REQUEST_TOO_LARGE", "URL")
        if "offset" not in query:
            found = self._matching(table, query)
            if isinstance(found, Told):
                return found
            left = found
        else:
            listing = self.listings.pop(query["offset"], None)
            if listing is None or self.now() - listing[1] > FORGOTTEN_AFTER_S:
                return problem(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE", "")
            left = listing[0]
        size = int(query.get("pageSize", "100"))
        rows = [self.rows[table][key] for key in left[:size] if key in self.rows[table]]
        named = query.get("returnFieldsByFieldId") != "true" or self.by_name
        columns = [known[one] for one in ids] if ids else list(known.values())
        body: dict[str, Any] = {"records": [self._shown(row, columns, named=named) for row in rows]}
        if left[size:]:
            body["offset"] = f"itr{len(self.asked)}/{left[size]}"
            self.listings[body["offset"]] = [left[size:], self.now()]
        return Told(200, body)

    def _matching(self, table: str, query: dict[str, str]) -> list[str] | Told:
        rows = list(self.rows[table].values())
        if "view" in query:
            members = self.views[list(self.views)[int(query["view"].removeprefix("viw"))]]
            rows = [row for row in rows if row["id"] in members]
        formula = query.get("filterByFormula")
        if formula is None:
            return [row["id"] for row in rows]
        changed, among = CHANGED.fullmatch(formula), AMONG.fullmatch(formula)
        if among:
            wanted = set(re.findall(r"rec\w+", among[1]))
            return [row["id"] for row in rows if row["id"] in wanted]
        since = parse_time(changed[1]) if changed else None
        if since is None or self.refuses_times:
            return problem(422, "INVALID_FILTER_BY_FORMULA", "The formula is invalid")
        seen_s = self.now() - self.lag_s
        return [
            row["id"] for row in rows
            if since.timestamp() < (row["changed"] or row["created"]) <= seen_s
        ]  # fmt: skip

    def _shown(self, row: dict[str, Any], columns: list[dict[str, Any]], *, named: bool) -> Any:
        cells = {}
        for one in columns:
            value = self._cell(row, one)
            if value not in (None, "", [], False):
                cells[one["name"] if named else one["id"]] = value
        created = rfc3339(parse_time(row["created"]), timespec="milliseconds")
        return {"id": row["id"], "createdTime": created, "fields": cells}

    def _cell(self, row: dict[str, Any], one: dict[str, Any]) -> Any:
        if one["id"] in self.computed:
            return self.computed[one["id"]](row)
        if one["type"] != "multipleLookupValues":
            return row["cells"].get(one["id"])
        link = self.column(one["options"]["recordLinkFieldId"])
        linked = self.rows[link["options"]["linkedTableId"]]
        shown = self.column(one["options"]["fieldIdInLinkedTable"])
        there = [linked[key] for key in row["cells"].get(link["id"]) or [] if key in linked]
        return [value for value in (self._cell(other, shown) for other in there) if value]


def problem(status: int, kind: str, words: str) -> Told:
    return Told(status, {"error": {"type": kind, "message": words}})
