"""A double of Salesforce: queries, queryAll and its recycle bin, the list of deletions, query jobs, logins.

Source: connectors reference, section 2. Rows are dicts by id in `tables`; `hidden` holds what field-level security hides.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from doubles.server import Asked, Double, Told
from doubles.soql import Malformed, Query, parse
from syncd.http import parse_time, rfc3339

BASE = "/services/data/v62.0"
PREFIXES = {
    "Contact": "003",
    "Lead": "00Q",
    "Account": "001",
    "User": "005",
    "Individual": "0PK",
    "Campaign": "701",
    "CampaignMember": "00v",
}
SYSTEM = {"Id": "id", "IsDeleted": "boolean", "SystemModstamp": "datetime"}
PERSON = {
    "MasterRecordId": "reference",
    "FirstName": "string",
    "LastName": "string",
    "Name": "string",
    "Email": "email",
    "Title": "string",
    "Phone": "phone",
    "MobilePhone": "phone",
    "HasOptedOutOfEmail": "boolean",
    "OwnerId": "reference",
    "IndividualId": "reference",
    "Description": "textarea",
    "Score__c": "double",
    "Since__c": "datetime",
}
FIELDS = {
    "Contact": {**SYSTEM, **PERSON, "AccountId": "reference", "MailingAddress": "address"},
    "Lead": {
        **SYSTEM, **PERSON, "Company": "string", "Website": "url", "IsConverted": "boolean",
        "ConvertedContactId": "reference", "Address": "address",
    },
    "Account": {**SYSTEM, "Name": "string", "Website": "url", "BillingAddress": "address"},
    "User": {**SYSTEM, "Name": "string", "Email": "email"},
    "Individual": {
        **SYSTEM, "HasOptedOutProcessing": "boolean", "HasOptedOutSolicit": "boolean",
        "ShouldForget": "boolean",
    },
    "Campaign": {**SYSTEM, "Name": "string"},
    "CampaignMember": {**SYSTEM, "CampaignId": "reference", "ContactId": "reference", "LeadId": "reference"},
}  # fmt: skip
PARENTS = {
    "Account": ("AccountId", "Account"),
    "Owner": ("OwnerId", "User"),
    "Individual": ("IndividualId", "Individual"),
}
HARD_DELETED = {"CampaignMember"}  # no recycle bin


def sid(table: str, number: int | str) -> str:
    """An id of 18 letters and digits."""
    return f"{PREFIXES[table]}XX{int(number):010}AAA"


class Salesforce(Double):
    """page_rows: the server's own page, smaller where rows are wide. lag_s: how late a change becomes visible.

    alter: what becomes of an answer on its way. locked: fields that this user may see and not set. refuses: id -> (code, words) of
    what is not written. assigned: ids of leads that were handed to somebody else by an assignment rule.
    """

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.tables: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in PREFIXES}
        self.types = {table: dict(fields) for table, fields in FIELDS.items()}
        self.hidden: set[str] = set()
        self.deletions: dict[str, list[tuple[str, str]]] = {name: [] for name in PREFIXES}
        self.earliest = "2025-01-01T00:00:00.000+0000"
        self.tokens = {"session-1"}
        self.refresh_token = "refresh-1"
        self.rotating = False
        self.page_rows = 2000
        self.lag_s = 0.0
        self.jobs: dict[str, dict[str, Any]] = {}
        self.jobs_allowed = True
        self.part_headers = True
        self.members = 0
        self.locked: set[str] = set()
        self.refuses: dict[str, tuple[str, str]] = {}
        self.assigned: list[str] = []
        self.alter: Callable[[Asked, Told], Told] = lambda asked, told: told

    # What its users do

    def now(self) -> str:
        return rfc3339(parse_time(self.clock.now_s())).replace("Z", ".000+0000")

    def put(self, table: str, number: int | str, **values: Any) -> str:
        """Create a row, or change it."""
        key = sid(table, number)
        new = {
            name: False if kind == "boolean" else None for name, kind in self.types[table].items()
        }
        held = self.tables[table].get(key, {})
        stamp = {"Id": key, "SystemModstamp": self.now()}
        self.tables[table][key] = {**new, **held, **values, **stamp}
        return key

    def delete(self, table: str, key: str, *, master: str | None = None) -> None:
        self.deletions[table].append((key, self.now()))
        if table in HARD_DELETED:
            del self.tables[table][key]
            return
        row = self.tables[table][key]
        row |= {"IsDeleted": True, "SystemModstamp": self.now(), "MasterRecordId": master}

    def merge(self, table: str, loser: str, winner: str) -> None:
        self.delete(table, loser, master=winner)
        self.tables[table][winner]["SystemModstamp"] = self.now()

    def purge(self, table: str) -> None:
        """Empty the recycle bin."""
        rows = self.tables[table]
        self.tables[table] = {key: row for key, row in rows.items() if not row["IsDeleted"]}

    def join(self, campaign: str, person: str) -> str:
        """Put a person into the campaign of this name; the membership's id."""
        held = self.tables["Campaign"]
        key = next((k for k, row in held.items() if row["Name"] == campaign), None)
        key = key or self.put("Campaign", len(held) + 1, Name=campaign)
        self.members += 1
        column = "ContactId" if person.startswith("003") else "LeadId"
        return self.put("CampaignMember", self.members, CampaignId=key, **{column: person})

    # What it answers

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/services/oauth2/token":
            return self._token(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return problem(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if len(asked.path) + len(urlencode(asked.query, quote_via=quote)) > 14_000:
            return Told(414, b"<h1>URI Too Long</h1>")
        told = self.alter(asked, self._routed(asked))
        told.headers["Sforce-Limit-Info"] = f"api-usage={len(self.asked)}/5000"
        return told

    def _routed(self, asked: Asked) -> Told:
        path = asked.path.removeprefix(BASE)
        if asked.method == "GET" and path in {"/query", "/queryAll"}:
            return self._queried(asked.query["q"], deleted=path == "/queryAll")
        if asked.method == "GET" and (found := re.fullmatch(r"/sobjects/(\w+)/describe", path)):
            return self._described(found[1])
        if asked.method == "GET" and (found := re.fullmatch(r"/sobjects/(\w+)/deleted/", path)):
            return self._deleted(found[1], asked)
        if asked.method == "POST" and path == "/composite":
            return self._composite(asked)
        if asked.method == "PATCH" and path == "/composite/sobjects":
            return self._updated(asked)
        if path.startswith("/query/"):  # a locator: dead as soon as it was handed out
            return problem(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        if asked.method == "POST" and path == "/jobs/query":
            return self._job_made(asked.json)
        if asked.method == "GET" and (found := re.fullmatch(r"/jobs/query/(\w+)(/results)?", path)):
            job = self.jobs[found[1]]
            return self._results(job, asked) if found[2] else self._job_state(job)
        return problem(404, "NOT_FOUND", "The requested resource does not exist")

    def _token(self, asked: Asked) -> Told:
        form = asked.form
        right = form.get("client_id") == "app" and (
            form.get("grant_type") == "client_credentials"
            or (form.get("grant_type"), form.get("refresh_token"))
            == ("refresh_token", self.refresh_token)
        )
        if not right:
            words = {"error": "invalid_grant", "error_description": "expired access/refresh token"}
            return Told(400, words)
        token = f"session-{len(self.asked)}"
        self.tokens = {token}
        body = {"access_token": token, "instance_url": self.url, "token_type": "Bearer"}
        if self.rotating:
            self.refresh_token = body["refresh_token"] = f"rotated-{len(self.asked)}"
        return Told(200, body)

    def _described(self, table: str) -> Told:
        if table in self.hidden:
            return problem(404, "NOT_FOUND", "The requested resource does not exist")
        fields = [
            {
                "name": name,
                "label": name.title(),
                "type": kind,
                "deprecatedAndHidden": False,
                "updateable": name not in SYSTEM and f"{table}.{name}" not in self.locked,
            }
            for name, kind in self.types[table].items()
            if f"{table}.{name}" not in self.hidden
        ]
        return Told(200, {"name": table, "fields": fields})

    def _queried(self, text: str, *, deleted: bool) -> Told:
        try:
            query = parse(text)
            rows = self._rows(query, deleted=deleted)
        except Malformed as error:
            return problem(400, "MALFORMED_QUERY", str(error))
        except Hidden as error:
            return error.told
        if query.columns is None:
            return Told(200, {"totalSize": len(rows), "done": True, "records": []})
        if query.limit is None or not 1 <= query.limit <= 2000:
            return problem(400, "MALFORMED_QUERY", "this double wants ORDER BY Id LIMIT 2000")
        found = sorted(rows, key=lambda row: row["Id"])[: query.limit]
        page = [self._nested(query, row) for row in found[: self.page_rows]]
        body: dict[str, Any] = {"totalSize": len(found), "done": True, "records": page}
        if len(found) > len(page):
            body |= {
                "done": False,
                "nextRecordsUrl": f"{BASE}/query/01gXX0000000001AAA-{len(page)}",
            }
        return Told(200, body)

    def _rows(self, query: Query, *, deleted: bool) -> list[dict[str, Any]]:
        if query.table not in self.tables or query.table in self.hidden:
            raise Hidden("INVALID_TYPE", f"sObject type '{query.table}' is not supported.")
        for column in [*(query.columns or ()), *(one.column for one in query.conditions)]:
            self._visible(query.table, column)
        now_s = self.clock.now_s()
        stamps = any("SystemModstamp" in one.column for one in query.conditions)
        return [
            row
            for row in self.tables[query.table].values()
            if (deleted or not row["IsDeleted"])
            and not (stamps and parse_time(row["SystemModstamp"]).timestamp() > now_s - self.lag_s)
            and all(one.holds(self._value(row, one.column)) for one in query.conditions)
        ]

    def _visible(self, table: str, column: str) -> None:
        parent, _, name = column.rpartition(".")
        owner = PARENTS[parent][1] if parent in PARENTS else table
        kind = self.types[owner].get(name)
        if (
            kind is None
            or kind == "address"
            or f"{owner}.{name}" in self.hidden
            or owner in self.hidden
        ):
            raise Hidden("INVALID_FIELD", f"No such column '{name}' on entity '{owner}'")

    def _value(self, row: dict[str, Any], column: str) -> Any:
        parent, _, name = column.rpartition(".")
        if not parent:
            return row[name]
        reference, table = PARENTS[parent]
        held = self.tables[table].get(row[reference] or "")
        return None if held is None else held[name]

    def _nested(self, query: Query, row: dict[str, Any]) -> dict[str, Any]:
        shown: dict[str, Any] = {"attributes": {"type": query.table}}
        for column in query.columns or ():
            parent, _, name = column.rpartition(".")
            if not parent:
                shown[name] = row[name]
            elif row[PARENTS[parent][0]] is None:
                shown[parent] = None
            else:
                held = shown.setdefault(parent, {"attributes": {"type": parent}})
                held[name] = self._value(row, column)
        return shown

    def _deleted(self, table: str, asked: Asked) -> Told:
        start, end = (parse_time(asked.query[name]) for name in ("start", "end"))
        start, end = (moment.replace(second=0) for moment in (start, end))  # cut to the minute
        if (end - start).total_seconds() <= 60:
            return problem(400, "INVALID_REPLICATION_DATE", "startDate must be before endDate")
        if self.clock.now_s() - start.timestamp() > 30 * 86_400:
            return problem(400, "INVALID_REPLICATION_DATE", "start cannot be more than 30 days ago")
        rows = [
            {"id": key, "deletedDate": when}
            for key, when in self.deletions[table]
            if start <= parse_time(when) < end
        ]
        body = {
            "deletedRecords": rows,
            "earliestDateAvailable": self.earliest,
            "latestDateCovered": rfc3339(end).replace("Z", ".000+0000"),
        }
        return Told(200, body)

    def _composite(self, asked: Asked) -> Told:
        one = asked.json["compositeRequest"][0]
        parts = urlsplit(one["url"])
        deleted = parts.path.endswith("/queryAll")
        told = self._queried(parse_qs(parts.query)["q"][0], deleted=deleted)
        inner = {
            "body": json.loads(told.body) if isinstance(told.body, bytes) else told.body,
            "httpHeaders": {},
            "httpStatusCode": told.status,
            "referenceId": "q",
        }
        return Told(200, {"compositeResponse": [inner]})

    def _updated(self, asked: Asked) -> Told:
        """One result for each record, in their order."""
        wanted = asked.json["records"]
        if asked.json["allOrNone"] or len(wanted) > 200:
            return problem(400, "LIMIT_EXCEEDED", "at most 200, each on its own")
        chunks = 1 + sum(one["attributes"] != two["attributes"] for one, two in pairwise(wanted))
        if chunks > 10:
            return problem(400, "LIMIT_EXCEEDED", "at most 10 chunks")
        results = []
        for one in wanted:
            table, key = one.pop("attributes")["type"], one.pop("id")
            fault = self._fault(table, key, one)
            if fault is None:
                held = self.tables[table][key]
                self.tables[table][key] = {**held, **one, "SystemModstamp": self.now()}
                if table == "Lead" and asked.headers.get("sforce-auto-assign") != "FALSE":
                    self.assigned.append(key)
                results.append({"id": key, "success": True, "errors": []})
            else:
                told = {"statusCode": fault[0], "message": fault[1], "fields": []}
                results.append({"id": key, "success": False, "errors": [told]})
        return Told(200, results)

    def _fault(self, table: str, key: str, values: dict[str, Any]) -> tuple[str, str] | None:
        """Why a record is not written."""
        row = self.tables[table].get(key)
        locked = [name for name in values if f"{table}.{name}" in self.locked | self.hidden]
        if locked or values.keys() - self.types[table].keys():
            words = f"Unable to create/update fields: {', '.join(locked or values)}."
            return "INVALID_FIELD_FOR_INSERT_UPDATE", words
        if row is None:
            return "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id"
        if row["IsDeleted"]:
            return "ENTITY_IS_DELETED", "entity is deleted"
        if row.get("IsConverted"):
            return "CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead"
        return self.refuses.get(key)

    def _job_made(self, job: dict[str, Any]) -> Told:
        if not self.jobs_allowed:
            return problem(
                403, "FEATURENOTENABLED", "Bulk API is not enabled for this organization"
            )
        try:
            query = parse(job["query"])
            rows = self._rows(query, deleted=job["operation"] == "queryAll")
        except Malformed as error:
            return problem(400, "MALFORMED_QUERY", str(error))
        except Hidden as error:
            return error.told
        if query.columns is None or query.limit is not None:
            return problem(400, "MALFORMED_QUERY", "neither COUNT() nor LIMIT")
        key = f"750XX{len(self.jobs):010}AAA"
        lines = [[text(self._value(row, column)) for column in query.columns] for row in rows]
        self.jobs[key] = {"id": key, "polls": 0, "columns": query.columns, "lines": lines}
        return Told(200, {"id": key, "state": "UploadComplete"})

    def _job_state(self, job: dict[str, Any]) -> Told:
        job["polls"] += 1
        state = job.get("state") or ("InProgress" if job["polls"] < 3 else "JobComplete")
        body = {"id": job["id"], "state": state, "errorMessage": job.get("error")}
        return Told(200, body | {"numberRecordsProcessed": len(job["lines"])})

    def _results(self, job: dict[str, Any], asked: Asked) -> Told:
        start, count = int(asked.query.get("locator", "0")), int(asked.query["maxRecords"])
        lines = job["lines"][start : start + count]
        out = io.StringIO()
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([job["columns"]] if start == 0 or self.part_headers else [])
        writer.writerows(lines)
        after = start + len(lines)
        headers = {
            "Content-Type": "text/csv",
            "Sforce-NumberOfRecords": str(len(lines)),
            "Sforce-Locator": str(after) if after < len(job["lines"]) else "null",
        }
        return Told(200, out.getvalue().encode(), headers)


class Hidden(Exception):
    """What this user may not see."""

    def __init__(self, code: str, words: str) -> None:
        self.told = problem(400, code, words)


def problem(status: int, code: str, words: str) -> Told:
    return Told(status, json.dumps([{"message": words, "errorCode": code}]).encode())


def text(value: Any) -> str:
    """A value as a query job writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(float(value))
    return "" if value is None else str(value).replace("+0000", "Z")


def queries(asked: list[Asked]) -> Iterator[str]:
    """The queries that were sent."""
    return (one.query["q"] for one in asked if "q" in one.query)
