"""A double of HubSpot: cursor pages by id, a search with its limits and its late index, archived contacts, merges, lists, opt-outs.

Source: connectors reference, section 1.
"""

import json
import re
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlencode

from doubles.server import Asked, Double, Told
from syncd.http import parse_time, rfc3339

TOKEN = "pat-na1-made-up"
READ = ("objects.contacts", "schemas.contacts", "objects.companies", "objects.owners", "lists")
OPT_OUTS = "communication_preferences.read"
WRITE_OPT_OUTS, WRITE = "communication_preferences.write", "crm.objects.contacts.write"
SCOPES = {*(f"crm.{name}.read" for name in READ), OPT_OUTS, WRITE_OPT_OUTS, WRITE}
READ_ONLY = {"hs_email_optout", "lastmodifieddate", "hs_object_id"}
EMPTY = Told(200, {"results": []})
URL_CHARS_MAX = 15_000
ROLLING, SEARCHES = (100, 10.0), (5, 1.0)  # requests and seconds: of all, and of searches
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
    "notes": "string",
    "hs_email_optout": "bool",
    "hs_email_domain": "string",
    "hs_additional_emails": "string",
    "hs_merged_object_ids": "string",
    "associatedcompanyid": "number",
    "hubspot_owner_id": "enumeration",
    "lastmodifieddate": "datetime",
    "hs_object_id": "number",
}

Row = dict[str, Any]


class HubSpot(Double):
    """contacts: id -> properties. lists: id -> {"name", "type", "members": id -> joined}. out: addresses that have opted out.

    lag_s: how late the search knows of a change, an archiving, a merging. limits: whether requests are counted, and refused. refuses:
    id or address -> why it is not written to. spoils: whether one such contact makes a whole batch be refused.
    """

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.contacts: dict[int, Row] = {}
        self.archived: dict[int, str] = {}
        self.winners: dict[int, int] = {}
        self.history: dict[int, list[str]] = {}
        self.companies: dict[int, Row] = {}
        self.owners: dict[int, Row] = {}
        self.lists: dict[int, Row] = {}
        self.out: set[str] = set()
        self.types = dict(PROPERTIES)
        self.scopes = set(SCOPES)
        self.tokens = {TOKEN}
        self.choices: dict[str, list[str]] = {}
        self.refuses: dict[Any, str] = {}
        self.spoils = False
        self.lag_s = 0.0
        self.search_hits_max = 10_000
        self.limits = False
        self._times: dict[tuple[int, float], deque[float]] = {
            limit: deque(maxlen=limit[0]) for limit in (ROLLING, SEARCHES)
        }
        self._changes: deque[tuple[float, int, Row | None]] = deque()
        self._index: dict[int, Row] = {}
        self._order: tuple[Any, list[int]] = (None, [])
        self._member_order: tuple[Any, list[int]] = (None, [])
        self._hits: tuple[Any, list[int]] = (None, [])
        self._version = 0

    def now(self) -> str:
        return rfc3339(parse_time(self.clock.now_s()), timespec="milliseconds")

    def put(self, key: int, **values: Any) -> None:
        """Create a contact, or change it."""
        held = self.contacts.setdefault(key, {"hs_object_id": str(key)})
        held |= {**values, "lastmodifieddate": self.now()}
        if "hs_additional_emails" in values:
            self.history.setdefault(key, []).append(values["hs_additional_emails"])
        self.archived.pop(key, None)
        self._changed(key, dict(held))

    def unsubscribe(self, key: int) -> None:
        """By a link in a mail: whether that is a change of the contact, nobody says [?]."""
        self.contacts[key]["hs_email_optout"] = "true"
        self._changed(key, dict(self.contacts[key]))

    def clear(self) -> None:
        """Nobody was ever there."""
        for held in (self.contacts, self.archived, self.winners, self.history, self._index):
            held.clear()
        self._changes.clear()
        self._version += 1

    def archive(self, key: int) -> None:
        self.archived[key] = self.now()
        self._changed(key, None)

    def erase(self, key: int) -> None:
        """For good (privacy): it is listed nowhere."""
        del self.contacts[key]
        self._changed(key, None)

    def merge(self, loser: int, winner: int) -> None:
        """The loser is not listed as archived: it is gone [S10]. The winner inherits its addresses, and whom it had won itself."""
        lost, held = self.contacts.pop(loser), self.contacts[winner]
        self._changed(loser, None)
        self.winners[loser] = winner
        merged = [held.get("hs_merged_object_ids"), lost.get("hs_merged_object_ids"), str(loser)]
        mails = [
            held.get("hs_additional_emails"),
            lost.get("email"),
            lost.get("hs_additional_emails"),
        ]
        self.put(
            winner,
            hs_merged_object_ids=";".join(filter(None, merged)),
            hs_additional_emails=";".join(filter(None, mails)),
        )

    def join(self, name: str, key: int) -> None:
        number = next((n for n, one in self.lists.items() if one["name"] == name), None)
        if number is None:
            number = len(self.lists) + 1
            self.lists[number] = {"name": name, "members": {}}
        self.lists[number]["members"][key] = self.now()

    def _changed(self, key: int, row: Row | None) -> None:
        self._changes.append((self.clock.now_s(), key, row))
        self._version += 1

    def _known(self) -> dict[int, Row]:
        """What the search knows by now."""
        while self._changes and self._changes[0][0] <= self.clock.now_s() - self.lag_s:
            _, key, row = self._changes.popleft()
            self._version += 1
            if row is None:
                self._index.pop(key, None)
            else:
                self._index[key] = row
        return self._index

    # What it answers

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/oauth/v1/token":
            return self._token(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return problem(401, "INVALID_AUTHENTICATION", "Authentication credentials not found")
        for method, pattern, scope, handle in (
            ("GET", r"/crm/v3/objects/contacts", "crm.objects.contacts.read", self._listed),
            ("POST", r"/crm/v3/objects/contacts/search", "crm.objects.contacts.read", self._searched),
            ("POST", r"/crm/v3/objects/contacts/batch/read", "crm.objects.contacts.read", self._contacts),
            ("GET", r"/crm/v3/objects/companies", "crm.objects.companies.read", lambda _: EMPTY),
            ("POST", r"/crm/v3/objects/companies/batch/read", "crm.objects.companies.read", self._companies),
            ("GET", r"/crm/v3/properties/contacts", "crm.schemas.contacts.read", self._properties),
            ("GET", r"/crm/v3/owners", "crm.objects.owners.read", self._owned),
            ("POST", r"/crm/v3/lists/search", "crm.lists.read", self._lists),
            ("GET", r"/crm/v3/lists/\d+/memberships", "crm.lists.read", self._members),
            ("POST", r"/communication-preferences/v4/statuses/batch/unsubscribe-all/read", OPT_OUTS, self._statuses),
            ("POST", r"/crm/v3/objects/contacts/batch/update", WRITE, self._updated),
            ("POST", r"/communication-preferences/v4/statuses/[^/]+", WRITE_OPT_OUTS, self._subscribed),
            ("POST", r"/communication-preferences/v4/statuses/[^/]+/unsubscribe-all", WRITE_OPT_OUTS, self._unsubscribed),
        ):  # fmt: skip
            if method == asked.method and re.fullmatch(pattern, asked.path):
                limited = self._limited(asked) if self.limits else None
                return limited or self._scoped(scope) or handle(asked)
        return problem(404, "NOT_FOUND", "Resource not found")

    def _limited(self, asked: Asked) -> Told | None:
        """One limit for all requests, and another for searches; who is refused has not been counted."""
        now_s, limits = self.clock.now_s(), [ROLLING]
        limits += [SEARCHES] if asked.path.endswith("/contacts/search") else []
        for limit in limits:
            count, seconds = limit
            times = self._times[limit]
            if len(times) == count and now_s - times[0] < seconds:
                name = "SECONDLY" if limit == SEARCHES else "TEN_SECONDLY_ROLLING"
                words = f"You have reached your {name.lower()} limit."
                return Told(429, {"status": "error", "message": words, "policyName": name})
        for limit in limits:
            self._times[limit].append(now_s)
        return None

    def _contacts(self, asked: Asked) -> Told:
        return self._batch(asked, self.contacts)

    def _companies(self, asked: Asked) -> Told:
        return self._batch(asked, self.companies)

    def _properties(self, _: Asked) -> Told:
        found = [
            {
                "name": name,
                "label": name.title(),
                "type": kind,
                "options": [{"value": one} for one in self.choices.get(name, ())],
                "modificationMetadata": {"readOnlyValue": name in READ_ONLY},
            }
            for name, kind in self.types.items()
        ]
        return Told(200, {"results": found})

    def _token(self, asked: Asked) -> Told:
        if asked.form.get("refresh_token") != "refresh-made-up":
            return Told(400, {"status": "BAD_REFRESH_TOKEN", "message": "refresh token is invalid"})
        token = f"access-{len(self.asked)}"
        self.tokens = {token}
        return Told(
            200, {"access_token": token, "refresh_token": "refresh-made-up", "expires_in": 1800}
        )

    def _scoped(self, scope: str) -> Told | None:
        if scope in self.scopes:
            return None
        words = f"This app hasn't been granted all required scopes: [{scope}]"
        return problem(403, "MISSING_SCOPES", words)

    def _listed(self, asked: Asked) -> Told:
        limit = int(asked.query.get("limit", "10"))
        if limit > 100 or len(urlencode(asked.query)) > URL_CHARS_MAX:
            return problem(400, "VALIDATION_ERROR", "too much")
        archived = asked.query.get("archived") == "true"
        names = asked.query.get("properties", "email,firstname").split(",")
        if self._order[0] != (self._version, archived, len(self.contacts)):
            keys = sorted(k for k in self.contacts if (k in self.archived) == archived)
            self._order = ((self._version, archived, len(self.contacts)), keys)
        keys = self._order[1]
        start = bisect_left(keys, int(asked.query.get("after", "0")))
        page = keys[start : start + limit]
        body: Row = {"results": [self._row(key, self.contacts[key], names) for key in page]}
        if start + limit < len(keys):
            following = {"after": str(keys[start + limit]), "link": "https://example.com"}
            body["paging"] = {"next": following}
        return Told(200, body)

    def _row(self, key: int, values: Mapping[str, Any], names: list[str]) -> Row:
        """A name that it does not know is left out in silence [S1]."""
        shown = {name: values.get(name) for name in names if name in self.types}
        row = {"id": str(key), "properties": shown, "archived": key in self.archived}
        return row | ({"archivedAt": self.archived[key]} if key in self.archived else {})

    def _searched(self, asked: Asked) -> Told:
        wanted = asked.json
        if (
            wanted["limit"] > 200
            or int(wanted.get("after", 0)) + wanted["limit"] > self.search_hits_max
        ):
            return problem(400, "VALIDATION_ERROR", "a search never pages past 10,000")
        if len(wanted["filterGroups"]) > 6 or any(
            not isinstance(one.get("value", ""), str)
            for group in wanted["filterGroups"]
            for one in group["filters"]
        ):
            return problem(400, "VALIDATION_ERROR", "filters")
        rows, filters = self._known(), wanted["filterGroups"][0]["filters"]
        sort = wanted.get("sorts", [{"propertyName": "hs_object_id"}])[0]["propertyName"]
        after_id = [one for one in filters if one["propertyName"] == "hs_object_id"]
        others = [one for one in filters if one not in after_id]
        # The hits of one window are looked for once, and not for each of its pages.
        mark = (self._version, json.dumps([others, sort]))
        if self._hits[0] != mark:
            hits = [key for key, row in rows.items() if all(fits(row, one) for one in others)]
            hits.sort(key=lambda key: comparable(rows[key], sort) or 0)
            self._hits = (mark, hits)
        hits = self._hits[1]
        if sort == "hs_object_id" and after_id and after_id[0]["operator"] == "GT":
            hits = hits[bisect_right(hits, int(after_id[0]["value"])) :]
        else:
            hits = [key for key in hits if all(fits(rows[key], one) for one in after_id)]
        start = int(wanted.get("after", 0))
        page = hits[start : start + wanted["limit"]]
        found = [self._row(key, rows[key], wanted["properties"]) for key in page]
        body: Row = {"total": len(hits), "results": found}
        if start + len(page) < len(hits):
            body["paging"] = {"next": {"after": str(start + len(page))}}
        return Told(200, body)

    def _batch(self, asked: Asked, rows: Mapping[int, Row]) -> Told:
        """Who was merged away is answered as the winner, under the winner's id."""
        wanted = asked.json
        past = wanted.get("propertiesWithHistory", ())
        if len(wanted["inputs"]) > (50 if past else 100):
            return problem(400, "VALIDATION_ERROR", "at most 100")
        found, missing = [], []
        for one in wanted["inputs"]:
            key = int(one["id"])
            while rows is self.contacts and key in self.winners:
                key = self.winners[key]
            if key not in rows or (rows is self.contacts and key in self.archived):
                missing.append(one["id"])
                continue
            shown = {name: rows[key].get(name) for name in wanted["properties"]}
            found.append({"id": str(key), "properties": shown})
            if past:
                held = [{"value": text} for text in reversed(self.history.get(key, []))]
                found[-1]["propertiesWithHistory"] = dict.fromkeys(past, held)
        body: Row = {"status": "COMPLETE", "results": found}
        if missing:
            error = {"category": "OBJECT_NOT_FOUND", "context": {"ids": missing}}
            body |= {"numErrors": 1, "errors": [{"status": "error", **error}]}
        return Told(207 if missing else 200, body)

    def _statuses(self, asked: Asked) -> Told:
        if asked.query.get("channel") != "EMAIL" or len(asked.json["inputs"]) > 100:
            return problem(400, "VALIDATION_ERROR", "channel")
        found = [
            {
                "subscriberIdString": one,
                "wideStatuses": [{"channel": "EMAIL", "status": "UNSUBSCRIBED"}]
                if one.lower() in self.out
                else [],
            }
            for one in asked.json["inputs"]
        ]
        return Told(200, {"status": "COMPLETE", "results": found})

    def _updated(self, asked: Asked) -> Told:
        """Who was merged away is written as the winner; what cannot be written is told beside the others, or spoils the batch."""
        wanted = asked.json["inputs"]
        if not 1 <= len(wanted) <= 100 or len({one["id"] for one in wanted}) < len(wanted):
            return problem(400, "VALIDATION_ERROR", "inputs: 1 to 100, each once")
        unknown = {name for one in wanted for name in one["properties"]} - self.types.keys()
        if unknown:
            return problem(400, "VALIDATION_ERROR", f"Property {unknown} does not exist")
        spoilt = [self.refuses[int(one["id"])] for one in wanted if int(one["id"]) in self.refuses]
        if self.spoils and spoilt:
            return problem(400, "VALIDATION_ERROR", spoilt[0])
        found, errors = [], []
        for one in wanted:
            key = int(one["id"])
            key = self.winners.get(key, key)
            if key not in self.contacts or key in self.archived:
                context = {"ids": [one["id"]]}
                errors.append({"category": "OBJECT_NOT_FOUND", "message": "?", "context": context})
            elif key in self.refuses:
                told = {"category": "VALIDATION_ERROR", "message": self.refuses[key]}
                errors.append(
                    {**told, "context": {"objectWriteTraceId": [one["objectWriteTraceId"]]}}
                )
            else:
                self.put(key, **one["properties"])
                found.append({"id": str(key), "properties": one["properties"]})
        body: Row = {"status": "COMPLETE", "results": found}
        return Told(207, {**body, "errors": errors}) if errors else Told(200, body)

    def _subscribed(self, _: Asked) -> Told:
        """Nothing here subscribes anybody."""
        return problem(400, "VALIDATION_ERROR", "subscriptionId is required")

    def _unsubscribed(self, asked: Asked) -> Told:
        """An address that belongs to nobody is put down all the same."""
        address = unquote(asked.path.split("/")[-2]).lower()
        if asked.query.get("channel") != "EMAIL" or asked.body:
            return problem(400, "VALIDATION_ERROR", "channel")
        if address in self.refuses:
            return problem(400, "VALIDATION_ERROR", self.refuses[address])
        if address not in self.out:
            self.out.add(address)
            for key, row in self.contacts.items():
                if str(row.get("email")).lower() == address:
                    self.unsubscribe(key)
        return Told(200, {"status": "COMPLETE", "results": []})

    def _owned(self, asked: Asked) -> Told:
        if int(asked.query.get("limit", "100")) > 500:
            return problem(400, "VALIDATION_ERROR", "limit")
        archived = asked.query.get("archived") == "true"
        rows = [{"id": str(k), **o} for k, o in self.owners.items() if o["archived"] == archived]
        return Told(200, {"results": rows})

    def _lists(self, asked: Asked) -> Told:
        if asked.json["count"] > 500:
            return problem(400, "VALIDATION_ERROR", "count")
        offset, count = asked.json["offset"], min(asked.json["count"], 2)  # small pages
        keys = sorted(self.lists)
        found = [
            {
                "listId": str(key),
                "name": self.lists[key]["name"],
                "processingType": "MANUAL",
                "objectTypeId": self.lists[key].get("type", "0-1"),
            }
            for key in keys[offset : offset + count]
        ]
        more = offset + count < len(keys)
        return Told(200, {"lists": found, "hasMore": more, "offset": offset + count})

    def _members(self, asked: Asked) -> Told:
        number = int(asked.path.split("/")[-2])
        limit, after = int(asked.query["limit"]), int(asked.query.get("after", "0"))
        if limit > 250:
            return problem(400, "VALIDATION_ERROR", "limit")
        members = self.lists[number]["members"]
        mark = (number, self._version, len(members))
        if self._member_order[0] != mark:
            self._member_order = (mark, sorted(key for key in members if key not in self.archived))
        keys = self._member_order[1]
        start = bisect_left(keys, after)
        page = keys[start : start + limit]
        body: Row = {
            "results": [{"recordId": str(k), "membershipTimestamp": members[k]} for k in page]
        }
        if start + limit < len(keys):
            body["paging"] = {"next": {"after": str(keys[start + limit])}}
        return Told(200, body)


def fits(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether a contact passes a filter; a contact without the property never does."""
    if wanted["operator"] == "HAS_PROPERTY":
        return bool(row.get(wanted["propertyName"]))
    if wanted["operator"] == "EQ":
        return bool(row.get(wanted["propertyName"]) == wanted["value"])
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
