"""A double of Close: a search whose index is late and whose cursors end, a log of events, listings with a limit, leads and views.

Source: connectors reference, section 9; developer.close.com as the connector's modules name its pages.
"""

import base64
import json
import re
from collections import deque
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from doubles.close_search import BadQuery, condition, moment
from doubles.server import Asked, Double, Told
from syncd.http import parse_time

KEY, REFRESH = "api_made.up0123456789", "refresh-made-up"
OWNER, LEVEL, INDUSTRY, KEEPER = "cf_owner", "cf_level", "cf_industry", "cf_keeper"
CURSOR_S, REACH = 30.0, 10_000
SEARCH_ROWS, FIELDS_MAX, LIST_ROWS, EVENT_ROWS = 200, 100, 100, 50
VISIBLE_S = 3600.0
COUNT, SECONDS = 20, 1.0
PAIRS = {("object_type", "action"), ("object_type", "object_id"), ("action", "object_id")}

Row = dict[str, Any]


class Close(Double):
    """contacts, leads: id -> row. unsubscribed: addresses. views: name -> row. delay_s: how late the index is.

    admin: whether values in the log are shown for longer than an hour. flags: whether `emails` tell who has unsubscribed, and reindexes:
    whether the index learns of it [?]. coarse: whether times are compared by the second [?]. page_max: the largest page of the search [?].
    plain: whether unsubscribed addresses come as a bare list of texts [?]. reach: of a cursor. skip_max: of a listing.
    """

    admin = True
    flags = True
    reindexes = False
    coarse = False
    plain = False
    page_max = SEARCH_ROWS
    reach = REACH
    skip_max = 2_000
    frozen = False
    limited = True

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.contacts: dict[str, Row] = {}
        self.leads: dict[str, Row] = {}
        self.history: dict[tuple[str, str], list[tuple[float, Row | None]]] = {}
        self.events: list[Row] = []
        self.unsubscribed: list[str] = []
        self.views: dict[str, Row] = {}
        self.users: list[Row] = []
        self.custom = {
            "contact": {OWNER: ("Owner", "user"), LEVEL: ("Level", "choices")},
            "lead": {INDUSTRY: ("Industry", "text"), KEEPER: ("Keeper", "user")},
        }
        self.keys, self.tokens, self.denied = {KEY}, set[str](), set[str]()
        self.delay_s = 0.0
        self.cursors: dict[str, tuple[float, str, int]] = {}
        self.starts: deque[float] = deque(maxlen=COUNT)
        self.micro = 0
        self.found: dict[Any, list[Row]] = {}

    # The world

    def now(self) -> str:
        """No two moments are the same, unless time is frozen."""
        self.micro = self.micro if self.frozen else (self.micro + 1) % 1000
        moment = datetime.fromtimestamp(self.clock.now_s(), UTC)
        return (moment + timedelta(microseconds=self.micro)).isoformat(timespec="microseconds")

    def put_lead(self, key: str, **values: Any) -> None:
        """Create a lead, or change it: its contacts stay as they are."""
        made = key not in self.leads
        lead = self.leads.setdefault(
            key,
            {"id": key, "display_name": key, "url": None, "status_label": "Potential",
             "date_created": self.now()},
        )  # fmt: skip
        before = {name: lead.get(name) for name in values}
        lead |= {**values, "date_updated": self.now()}
        self._indexed("lead", key, lead)
        self._log("lead", "created" if made else "updated", key, key, lead, before, list(values))

    def put(self, key: str, email: str | None = None, **values: Any) -> None:
        """Create a contact, with a lead of its own, or change it."""
        made = key not in self.contacts
        if made and "lead_id" not in values:
            values["lead_id"] = f"lead_{key}"
        if values.get("lead_id") and values["lead_id"] not in self.leads:
            self.put_lead(values["lead_id"])
        if email is not None:
            values["emails"] = [{"email": email, "type": "office"}]
        held = self.contacts.setdefault(
            key,
            {"id": key, "name": "", "title": None, "emails": [], "phones": [], "urls": [],
             "date_created": self.now()},
        )  # fmt: skip
        before = {name: held.get(name) for name in values}
        held |= {
            **values,
            "display_name": values.get("name", held["name"]),
            "date_updated": self.now(),
        }
        self._indexed("contact", key, held)
        action = "created" if made else "updated"
        self._log("contact", action, key, held["lead_id"], held, before, list(values))

    def delete(self, key: str, **meta: Any) -> None:
        held = self.contacts.pop(key)
        self.history[("contact", key)].append((self.clock.now_s(), None))
        self._log("contact", "deleted", key, held["lead_id"], None, held, [], **meta)

    def merge(self, loser: str, winner: str, *, fold: bool) -> None:
        """Merge a lead into another. fold: its contacts become those of the other one that are called the same, or stay [?]."""
        meta = {"merge_source_lead_id": loser, "merge_destination_lead_id": winner}
        theirs = [one["id"] for one in self.contacts.values() if one["lead_id"] == loser]
        there = [one["id"] for one in self.contacts.values() if one["lead_id"] == winner]
        for key in theirs:
            if fold and there:
                row, gone = self.contacts[there[0]], self.contacts[key]
                self.put(there[0], emails=[*row["emails"], *gone["emails"]])
                self.delete(key, **meta)
            else:
                self.put(key, lead_id=winner)
        del self.leads[loser]
        self._log("lead", "merged", winner, winner, self.leads[winner], {}, [], **meta)

    def unsubscribe(self, address: str) -> None:
        """No contact is changed by it."""
        self.unsubscribed.append(address)
        self._log(
            "unsubscribed_email", "created", f"unsub_{address}", None, {"email": address}, {}, []
        )
        if self.reindexes:
            for key, row in self.contacts.items():
                self._indexed("contact", key, row)

    def resubscribe(self, address: str) -> None:
        self.unsubscribed.remove(address)
        self._log(
            "unsubscribed_email", "deleted", f"unsub_{address}", None, None, {"email": address}, []
        )

    def _indexed(self, kind: str, key: str, row: Row) -> None:
        shown = self._contact(row) if kind == "contact" else deepcopy(row)
        self.history.setdefault((kind, key), []).append((self.clock.now_s(), shown))

    def _contact(self, row: Row) -> Row:
        shown = deepcopy(row)
        if self.flags:
            for one in shown["emails"]:
                if isinstance(one, dict) and "email" in one:
                    one["is_unsubscribed"] = one["email"] in self.unsubscribed
        return shown

    def _log(
        self, kind: str, action: str, key: str, lead: str | None, data: Row | None, before: Row,
        changed: list[str], **meta: Any,
    ) -> None:  # fmt: skip
        """Several updates of one object within a short time become one event."""
        last = self.events[-1] if self.events else {}
        now = self.now()
        at = now.removesuffix("+00:00")
        recent = last and (moment(now) - moment(last["date_updated"])).total_seconds() < 60
        if recent and action == "updated" == last["action"] and last["object_id"] == key:
            self.events.pop()
            before, changed = (
                {**before, **last["previous_data"]},
                [*last["changed_fields"], *changed],
            )
        self.events.append(
            {"id": f"ev_{len(self.events)}", "object_type": kind, "action": action, "object_id": key,
             "lead_id": lead, "date_created": at, "date_updated": at,
             "data": deepcopy(data), "previous_data": deepcopy(before), "changed_fields": changed,
             "meta": meta}
        )  # fmt: skip

    # The server

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth2/token/":
            return self._token(asked)
        scheme, _, held = asked.headers.get("authorization", "").partition(" ")
        known = {base64.b64encode(f"{key}:".encode()).decode() for key in self.keys}
        if held not in (known if scheme == "Basic" else self.tokens):
            return problem(401, "The server could not verify that you are authorized")
        now_s = self.clock.now_s()
        if self.limited and len(self.starts) == COUNT and now_s - self.starts[0] < SECONDS:
            return Told(429, b"{}", {"RateLimit": f"limit={COUNT}, remaining=0, reset=1"})
        self.starts.append(now_s)
        for method, pattern, handle in (
            ("POST", r"/data/search/", self._search),
            ("GET", r"/event/", self._events),
            ("GET", r"/(contact|lead)/([^/]+)/", self._single),
            ("GET", r"/contact/", self._contacts),
            ("GET", r"/unsubscribe/email/", self._unsubscribed),
            (
                "GET",
                r"/saved_search/",
                lambda asked: self._listed(asked, list(self.views.values())),
            ),
            ("GET", r"/user/", lambda asked: self._listed(asked, self.users)),
            ("GET", r"/custom_field_schema/(contact|lead)/", self._schema),
        ):
            path = asked.path.removeprefix("/api/v1")
            if asked.method == method and re.fullmatch(pattern, path):
                if path in self.denied:
                    return problem(403, "You do not have permission to do this")
                return handle(asked)
        return problem(404, "Not found")

    def _token(self, asked: Asked) -> Told:
        if (asked.form["refresh_token"], asked.form["client_id"]) != (REFRESH, "id"):
            return Told(400, {"error": "invalid_grant"})
        self.tokens = {"access-made-up"}
        return Told(200, {"access_token": "access-made-up", "expires_in": 3600})

    def _search(self, asked: Asked) -> Told:
        body = asked.json
        kinds = [q["object_type"] for q in body["query"]["queries"] if q["type"] == "object_type"]
        kind, limit = kinds[0], body.get("_limit", 50)
        names = body.get("_fields", {}).get(kind, ["id"])
        if limit > self.page_max or len(names) > FIELDS_MAX:
            return refused("_limit", "too many")
        found = re.fullmatch(r"\w+", body["sort"][0]["field"]["field_name"])
        sort = found[0] if found else ""
        signature = json.dumps({name: part for name, part in body.items() if name != "cursor"})
        start = 0
        if "cursor" in body:
            made_s, same, start = self.cursors.get(body["cursor"], (-1e9, "", 0))
            if self.clock.now_s() - made_s > CURSOR_S or same != signature:
                return refused("cursor", "This cursor has expired")
            if start >= self.reach:
                return refused("cursor", "The limit of objects is reached")
        try:
            wanted = condition(self._coarse(body["query"]), kind)
        except BadQuery as error:
            return refused("query", str(error))
        rows = [row for row in self._index(kind) if wanted(row)]
        rows.sort(key=lambda row: moment(row[sort]))
        part, cursor = rows[start : start + limit], None
        if start + limit < len(rows):
            cursor = f"cursor-{len(self.cursors)}"
            self.cursors[cursor] = (self.clock.now_s(), signature, start + limit)
        shown = [{"__object_type": kind, **{n: row[n] for n in names if n in row}} for row in part]
        return Told(200, {"data": shown, "cursor": cursor})

    def _coarse(self, query: Row) -> Row:
        if not self.coarse:
            return query
        text = re.sub(r"(T\d\d:\d\d:\d\d)\.\d+Z", r"\1Z", json.dumps(query))
        found: Row = json.loads(text)
        return found

    def _index(self, kind: str) -> list[Row]:
        """Every object as it was `delay_s` ago."""
        at_s, rows = self.clock.now_s() - self.delay_s, []
        for (of_kind, _), states in self.history.items():
            if of_kind == kind:
                known = next((row for since_s, row in reversed(states) if since_s <= at_s), None)
                if known is not None:
                    rows.append(known)
        return rows

    def _events(self, asked: Asked) -> Told:
        query = asked.query
        names = {name for name in query if not name.startswith(("_", "date_"))}
        if not any(names == set(pair) for pair in PAIRS) or "_skip" in query:
            return refused("object_type", "This combination of filters is not supported")
        if int(query.get("_limit", "50")) > EVENT_ROWS:
            return refused("_limit", "at most 50")
        rows = self._logged({name: query[name] for name in names})
        start = 0
        if "_cursor" in query:
            ids = [row["id"] for row in rows]
            start = ids.index(query["_cursor"]) + 1
        elif since := parse_time(query.get("date_updated__gte")):
            rows = [row for row in rows if moment(row["date_updated"]) >= since]
        part = rows[start : start + EVENT_ROWS]
        more = part[-1]["id"] if start + EVENT_ROWS < len(rows) else None
        shown = [self._visible(row) for row in part]
        return Told(200, {"data": shown, "cursor_next": more, "cursor_previous": None})

    def _logged(self, wanted: dict[str, str]) -> list[Row]:
        """Newest first, as far back as the log goes."""
        key = (repr(wanted), self.micro, len(self.events), self.clock.now_s() // 3600)
        if key not in self.found:
            kept = datetime.fromtimestamp(self.clock.now_s() - 30 * 86_400, UTC)
            self.found[key] = [
                row
                for row in reversed(self.events)
                if all(row[name] == value for name, value in wanted.items())
                and parse_time(row["date_updated"]) >= kept
            ]
        return self.found[key]

    def _visible(self, row: Row) -> Row:
        age_s = self.clock.now_s() - moment(row["date_updated"]).timestamp()
        if self.admin or age_s < VISIBLE_S:
            return row
        return {**row, "data": None, "previous_data": None}

    def _single(self, asked: Asked) -> Told:
        _, kind, key, _ = asked.path.removeprefix("/api/v1").split("/")
        row = (self.contacts if kind == "contact" else self.leads).get(key)
        if row is None:
            return problem(404, "Not found")
        shown = self._contact(row) if kind == "contact" else row
        names = asked.query.get("_fields", "").split(",")
        return Told(200, {n: v for n, v in shown.items() if names == [""] or n in names})

    def _contacts(self, asked: Asked) -> Told:
        rows = [row for row in self.contacts.values() if row["lead_id"] == asked.query["lead_id"]]
        shown = [self._contact(row) for row in rows]
        for row in shown:
            del row["lead_id"]  # as in Close's own example
        return self._listed(asked, shown)

    def _unsubscribed(self, asked: Asked) -> Told:
        if self.plain:
            return Told(200, self.unsubscribed)
        return self._listed(asked, [{"email": one} for one in self.unsubscribed])

    def _listed(self, asked: Asked, rows: list[Row]) -> Told:
        skip, limit = int(asked.query.get("_skip", "0")), int(asked.query.get("_limit", "100"))
        if skip > self.skip_max or limit > LIST_ROWS:
            return refused("_skip", "The limit is reached")
        part = rows[skip : skip + limit]
        return Told(200, {"data": part, "has_more": skip + limit < len(rows)})

    def _schema(self, asked: Asked) -> Told:
        kind = asked.path.rstrip("/").rpartition("/")[2]
        fields = [
            {"id": key, "name": name, "type": type_, "accepts_multiple_values": False}
            for key, (name, type_) in self.custom[kind].items()
        ]
        return Told(200, {"object_type": kind, "fields": fields})


def problem(status: int, words: str) -> Told:
    return Told(status, {"error": words})


def refused(name: str, words: str) -> Told:
    return Told(400, {"errors": [], "field-errors": {name: words}})
