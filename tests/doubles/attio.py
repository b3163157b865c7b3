"""A double of Attio: records with lists of values, queries by offset, lists with entries, members, scopes, and a limit.

Source: connectors reference, section 8; docs.attio.com/docs/attribute-types; records as others have published them.
"""

from collections import deque
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time

TOKEN = "token-made-up"
PAGE_ROWS = 500
COUNT, SECONDS = 100, 1.0
RECORDS, SCHEMA = "record_permission:read", "object_configuration:read"
ENTRIES, LISTS = "list_entry:read", "list_configuration:read"
MEMBERS = "user_management:read"
# slug -> (title, type, whether it takes several values)
PEOPLE = {
    "name": ("Name", "personal-name", False),
    "email_addresses": ("Email addresses", "email-address", True),
    "phone_numbers": ("Phone numbers", "phone-number", True),
    "job_title": ("Job title", "text", False),
    "company": ("Company", "record-reference", False),
    "unsubscribed": ("Unsubscribed", "checkbox", False),
    "level": ("Level", "select", False),
    "interests": ("Interests", "select", True),
    "stage": ("Stage", "status", False),
    "keeper": ("Keeper", "actor-reference", False),
    "location": ("Primary location", "location", False),
}
PART = {
    "email-address": "email_address", "phone-number": "phone_number", "record-reference": "target_record_id",
    "actor-reference": "referenced_actor_id", "domain": "domain", "select": "option", "status": "status",
}  # fmt: skip

Row = dict[str, Any]


class Attio(Double):
    """people, companies: id -> record. lists: id -> list. entries: id of the list -> its entries. members: rows.

    gaps: whether an attribute without a value is left out, and not shown as an empty list [?]. page_max: the largest page. coarse: whether
    times are compared by the second [?]. paged: whether listings have pages [?]. restless: whether what was made in one instant comes in
    another order each time [?]. hidden: attributes that this token does not see. frozen: whether time stands still, as in an import.
    """

    gaps = False
    page_max = PAGE_ROWS
    coarse = False
    paged = False
    restless = False
    frozen = False
    limited = True

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.people: dict[str, Row] = {}
        self.companies: dict[str, Row] = {}
        self.lists: dict[str, Row] = {}
        self.entries: dict[str, list[Row]] = {}
        self.members: list[Row] = []
        self.attributes = dict(PEOPLE)
        self.hidden: set[str] = set()
        self.tokens, self.denied = {TOKEN}, set[str]()
        self.starts: deque[float] = deque(maxlen=COUNT)
        self.micro, self.turn = 0, 0

    # The world

    def now(self) -> str:
        """No two moments are the same, unless time is frozen. Nine digits."""
        self.micro = self.micro if self.frozen else (self.micro + 1) % 1_000_000
        moment = datetime.fromtimestamp(self.clock.now_s(), UTC)
        moment += timedelta(microseconds=self.micro)
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"

    def value(self, kind: str, held: Any) -> Row:
        """A value object, with what stands around it."""
        around = {
            "active_from": self.now(), "active_until": None, "attribute_type": kind,
            "created_by_actor": {"type": "system", "id": None},
        }  # fmt: skip
        if isinstance(held, dict):
            return {**held, **around}
        if kind in {"select", "status"}:
            held = {"id": {"option_id": f"option-{held}"}, "title": held, "is_archived": False}
        if kind == "actor-reference":
            around["referenced_actor_type"] = "workspace-member"
        return {PART.get(kind, "value"): held, **around}

    def put(self, key: str, email: str | None = None, **values: Any) -> None:
        """Create a person, or change it; a list where an attribute has several values, None to empty it."""
        if email is not None:
            values["email_addresses"] = [email]
        row = self.people.setdefault(key, self._row(key))
        for slug, held in values.items():
            kind = self.attributes[slug][1]
            held_now = held if isinstance(held, list) else [held]
            row["values"][slug] = [self.value(kind, one) for one in held_now if one is not None]

    def put_company(self, key: str, name: str | None = None, domain: str | None = None) -> None:
        """Create a company, or change it."""
        row = self.companies.setdefault(key, self._row(key))
        held = (("name", "text", name), ("domains", "domain", domain))
        for slug, kind, one in held:
            row["values"][slug] = [] if one is None else [self.value(kind, one)]

    def put_list(self, key: str, name: str, *people: str, of: str = "people") -> None:
        """Create a list, or put people onto it."""
        self.lists[key] = {"id": {"list_id": key}, "name": name, "parent_object": [of]}
        for one in people:
            entries = self.entries.setdefault(key, [])
            entries.append(
                {"id": {"list_id": key, "entry_id": f"e{key}-{len(entries)}"}, "created_at": self.now(),
                 "parent_record_id": one, "parent_object": of, "entry_values": {}}
            )  # fmt: skip

    def delete(self, key: str) -> None:
        """Nothing is left, on no list either."""
        del self.people[key]
        for entries in self.entries.values():
            entries[:] = [one for one in entries if one["parent_record_id"] != key]

    def merge(self, loser: str, winner: str) -> None:
        """The addresses of both are the winner's."""
        gone, left = self.people[loser]["values"], self.people[winner]["values"]
        left["email_addresses"] = [*left["email_addresses"], *gone["email_addresses"]]
        self.delete(loser)

    def _row(self, key: str) -> Row:
        return {
            "id": {"workspace_id": "w", "record_id": key},
            "created_at": self.now(),
            "values": {},
        }

    # The server

    def answer(self, asked: Asked) -> Told:
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return problem(401, "unauthorized", "Invalid token")
        now_s = self.clock.now_s()
        if self.limited and len(self.starts) == COUNT and now_s - self.starts[0] < SECONDS:
            return self.later(SECONDS)
        self.starts.append(now_s)
        match asked.method, *asked.path.strip("/").split("/"):
            case "POST", "v2", "objects", "people", "records", "query":
                return self._query(asked, self.people, RECORDS, SCHEMA)
            case "POST", "v2", "objects", "companies", "records", "query":
                return self._query(asked, self.companies, RECORDS, SCHEMA)
            case "GET", "v2", "objects", "people", "attributes":
                rows = [
                    {"api_slug": slug, "title": title, "type": kind, "is_multiselect": several,
                     "is_archived": False}
                    for slug, (title, kind, several) in self.attributes.items()
                ]  # fmt: skip
                return self._listed(asked, rows, SCHEMA)
            case "GET", "v2", "lists":
                return self._listed(asked, list(self.lists.values()), LISTS)
            case "POST", "v2", "lists", key, "entries", "query":
                rows = {row["id"]["entry_id"]: row for row in self.entries.get(key, ())}
                return self._query(asked, rows, ENTRIES, LISTS)
            case "GET", "v2", "workspace_members":
                return self._listed(asked, self.members, MEMBERS)
        return problem(404, "not_found", "No such path")

    def later(self, seconds: float) -> Told:
        """Too many: the time from which on it goes on, as a date."""
        at = datetime.fromtimestamp(self.clock.now_s() + seconds, UTC).replace(microsecond=0)
        told = problem(429, "rate_limit_exceeded", "Rate limit exceeded, please try again later")
        told.headers["Retry-After"] = format_datetime(at + timedelta(seconds=1), usegmt=True)
        return told

    def _lacking(self, *scopes: str) -> Told | None:
        lacking = self.denied & set(scopes)
        words = f"The scope {', '.join(sorted(lacking))} is missing"
        return problem(403, "missing_scope", words) if lacking else None

    def _query(self, asked: Asked, held: dict[str, Row], *scopes: str) -> Told:
        if lacking := self._lacking(*scopes):
            return lacking
        body = asked.json
        limit, offset = body.get("limit", PAGE_ROWS), body.get("offset", 0)
        if not 0 < limit <= PAGE_ROWS:
            return problem(400, "validation_type", "limit: at most 500")
        rows, wanted = list(held.values()), body.get("filter", {})
        if "record_id" in wanted:
            ids = set(wanted["record_id"]["$in"])
            rows = [row for row in rows if row["id"].get("record_id") in ids]
        if "created_at" in wanted:
            since = self._grain(wanted["created_at"]["$gte"])
            rows = [row for row in rows if self._grain(row["created_at"]) >= since]
        if "sorts" in body:
            if body["sorts"] != [{"attribute": "created_at", "direction": "asc"}]:
                return problem(400, "validation_type", "sorts: unknown")
            self.turn += 1
            if self.restless and self.turn % 2:
                rows.reverse()
            rows.sort(key=lambda row: row["created_at"])
        part = rows[offset : offset + min(limit, self.page_max)]
        return Told(200, {"data": [self._shown(row) for row in part]})

    def _grain(self, moment: str) -> datetime:
        found = parse_time(moment)
        assert found is not None
        return found.replace(microsecond=0) if self.coarse else found

    def _shown(self, row: Row) -> Row:
        values = row.get("values")
        if not isinstance(values, dict):
            return row
        if row["id"].get("record_id") in self.people and not self.gaps:
            values = {**{slug: [] for slug in self.attributes}, **values}
        return {**row, "values": {n: v for n, v in values.items() if n not in self.hidden}}

    def _listed(self, asked: Asked, rows: list[Row], *scopes: str) -> Told:
        if lacking := self._lacking(*scopes):
            return lacking
        if not self.paged:
            return Told(200, {"data": rows})
        start = int(asked.query.get("offset", "0"))
        return Told(200, {"data": rows[start : start + self.page_max]})


def problem(status: int, code: str, words: str) -> Told:
    return Told(status, {"status_code": status, "type": "error", "code": code, "message": words})
