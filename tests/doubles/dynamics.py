"""A double of Dataverse's Web API: pages by next links, change tracking with its tokens, metadata, marketing lists, consents.

A tracked listing comes in the order of row versions, so that a row that changes meanwhile comes twice; a delta too, deletions
last. A token stands for the beginning of its listing or for its end (`token_at`), for nobody says which. Tokens expire, and are
refused when rights or tracking are missing. Every page must be asked for with the page size of the first.

Source: connectors reference, section 5; Microsoft's pages on change tracking and paging.
"""

import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from doubles.dynamics_query import Fetch, Malformed, holds
from doubles.server import Asked, Double, Told
from syncd.http import parse_time, rfc3339

BASE = "/api/data/v9.2/"
SECRET = "secret-made-up"
TABLES = {
    "contact": ("contacts", "contactid"),
    "lead": ("leads", "leadid"),
    "account": ("accounts", "accountid"),
    "systemuser": ("systemusers", "systemuserid"),
    "team": ("teams", "teamid"),
    "list": ("lists", "listid"),
    "msdynmkt_contactpointconsent4": (
        "msdynmkt_contactpointconsent4s",
        "msdynmkt_contactpointconsent4id",
    ),
}
CODES = {name: number for number, name in enumerate(TABLES, 10)}
TEXT, FLAG, TIME = "String", "Boolean", "DateTime"
PERSON = {
    **dict.fromkeys(("firstname", "lastname", "fullname", "jobtitle", "description"), TEXT),
    **dict.fromkeys(("emailaddress1", "emailaddress2", "emailaddress3"), TEXT),
    **dict.fromkeys(("telephone1", "mobilephone", "websiteurl", "address1_city"), TEXT),
    **dict.fromkeys(("donotemail", "donotbulkemail", "merged", "new_customer"), FLAG),
    "statecode": "State", "statuscode": "Status", "industrycode": "Picklist", "revenue": "Money",
    "createdon": TIME, "modifiedon": TIME, "birthdate": TIME, "versionnumber": "BigInt",
    "masterid": "Lookup", "ownerid": "Owner", "new_topics": "Choices", "entityimage": "Virtual",
}  # fmt: skip
COLUMNS = {
    "contact": {"contactid": "Uniqueidentifier", **PERSON, "parentcustomerid": "Customer",
                "originatingleadid": "Lookup"},
    "lead": {"leadid": "Uniqueidentifier", **PERSON, "companyname": TEXT},
    "account": {"accountid": "Uniqueidentifier", "name": TEXT, "websiteurl": TEXT,
                "modifiedon": TIME},
    "systemuser": {"systemuserid": "Uniqueidentifier", "fullname": TEXT,
                   "internalemailaddress": TEXT},
    "team": {"teamid": "Uniqueidentifier", "name": TEXT, "emailaddress": TEXT},
    "list": {"listid": "Uniqueidentifier", "listname": TEXT, "type": FLAG,
             "createdfromcode": "Picklist", "query": TEXT},
    "msdynmkt_contactpointconsent4": {
        "msdynmkt_contactpointconsent4id": "Uniqueidentifier", "modifiedon": TIME,
        "msdynmkt_contactpointvalue": TEXT, "msdynmkt_contactpointtype": "Picklist",
        "msdynmkt_value": "Picklist"},
}  # fmt: skip
EXPANDS = {
    "parentcustomerid_account": ("_parentcustomerid_value", "account"),
    "originatingleadid": ("_originatingleadid_value", "lead"),
}
LOOKUPS = {"Lookup", "Customer", "Owner"}
FORMATTED = "OData.Community.Display.V1.FormattedValue"
TARGET = "Microsoft.Dynamics.CRM.lookuplogicalname"
URL_CHARS_MAX = 32_768
UNSUPPORTED = ("$filter", "$orderby", "$expand", "$top")


def gid(table: str, number: Any) -> str:
    """The id of a row that a test knows by its number."""
    return f"{CODES[table]:08x}-0000-4000-8000-{int(number):012x}"


class Dynamics(Double):
    """tables: name -> id -> row, with lookups under their names on the wire. members: list -> ids."""

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        self.tables: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in TABLES}
        self.columns = {name: dict(columns) for name, columns in COLUMNS.items()}
        self._wires: dict[tuple[str, int], dict[str, str]] = {}
        self.members: dict[str, set[str]] = {}
        self.deletions: list[tuple[int, str, str]] = []
        self.version = 1000
        self.secret, self.handed_out = SECRET, 0
        self.tokens: set[str] = set()
        self.tracked = {"contact", "lead", "account"}
        self.organization = True  # whether the user may read all rows of it
        self.denied: set[str] = set()  # tables that the role does not read
        self.masked: set[str] = set()  # secured columns that come as null
        self.hidden: set[str] = set()  # joined rows that the user does not see
        self.token_at = "start"
        self.token_days = 7
        self.expired = (400, "0x80044352", "Version stamp associated with the client has expired.")
        self.annotation_removed = False  # OData 4.01's @removed instead of $deletedEntity
        self.reason = "deleted"
        self.partial = False  # deltas without the columns that did not change
        self.cookies = True  # of FetchXML's pages; some queries have none
        self.silent = False  # an empty object where nothing has changed
        self.rows_max = 5000
        self.labels = {("statecode", 0): "Active", ("statecode", 1): "Inactive",
                       ("industrycode", 7): "Consulting"}  # fmt: skip

    # What users do

    def now(self) -> str:
        moment = parse_time(self.clock.now_s())
        assert moment is not None
        return rfc3339(moment)

    def put(self, table: str, number: Any, **values: Any) -> str:
        """Create a row, or change it."""
        key = gid(table, number)
        person = {"statecode": 0, "merged": False, "donotemail": False, "donotbulkemail": False}
        default = person if table in {"contact", "lead"} else {}
        row = self.tables[table].setdefault(key, {TABLES[table][1]: key, **default})
        self.version += 1
        row |= {**values, "modifiedon": self.now(), "versionnumber": self.version}
        return key

    def delete(self, table: str, number: Any) -> None:
        del self.tables[table][gid(table, number)]
        self.version += 1
        self.deletions.append((self.version, table, gid(table, number)))

    def merge(self, table: str, loser: Any, winner: Any) -> None:
        master = gid(table, winner)
        self.put(table, loser, statecode=1, merged=True, _masterid_value=master)
        self.put(table, winner)

    # The API

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/token":
            return self._token(asked)
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return Told(401, b"", {"WWW-Authenticate": "Bearer"})
        if len(asked.path) + len(urlencode(asked.query)) > URL_CHARS_MAX:
            return Told(414, b"<html>Request-URI Too Long</html>", {"Content-Type": "text/html"})
        if not asked.path.startswith(BASE) or asked.method != "GET":
            return problem(404, "0x80060888", "Resource not found for the segment.")
        try:
            return self._get(asked, asked.path.removeprefix(BASE))
        except Malformed as error:
            return problem(400, "0x80060888", str(error))

    def _token(self, asked: Asked) -> Told:
        form = asked.form
        good = form.get("client_secret") == self.secret and form.get("client_id") == "app"
        if not good or form.get("scope") != f"{self.url}/.default":
            return Told(401, {"error": "invalid_client", "error_description": "AADSTS7000215"})
        self.handed_out += 1
        self.tokens = {f"access-{self.handed_out}"}
        token = next(iter(self.tokens))
        return Told(200, {"token_type": "Bearer", "expires_in": 3599, "access_token": token})

    def _get(self, asked: Asked, path: str) -> Told:
        if path == "EntityDefinitions":
            return self._definitions(asked.query["$filter"])
        if found := re.fullmatch(r"EntityDefinitions\(LogicalName='(\w+)'\)/Attributes", path):
            return self._attributes(found[1])
        if found := re.fullmatch(r"lists\(([0-9a-f-]+)\)/list(\w+)_association", path):
            rows = [self.tables[found[2]][key] for key in self.members.get(found[1], ())]
            return self._denied("list") or self._listing(asked, path, found[2], rows)
        table = next((name for name, (rows, _) in TABLES.items() if rows == path), "")
        if table not in self.tables:
            return problem(404, "0x8006088a", f"Resource not found for the segment '{path}'.")
        if told := self._denied(table):
            return told
        if "fetchXml" in asked.query:
            return self._fetched(asked, table)
        if "odata.track-changes" in prefer(asked) or "$deltatoken" in asked.query:
            return self._tracked(asked, path, table)
        return self._listing(asked, path, table, list(self.tables[table].values()))

    def _denied(self, table: str) -> Told | None:
        if table not in self.denied:
            return None
        words = f"Principal user is missing prvRead{table.title()} privilege"
        return problem(403, "0x80040220", words)

    # Metadata

    def _definitions(self, text: str) -> Told:
        wanted = re.findall(r"LogicalName eq '(\w+)'", text)
        rows = [
            {
                "LogicalName": name, "EntitySetName": TABLES[name][0],
                "PrimaryIdAttribute": TABLES[name][1],
                "ChangeTrackingEnabled": name in self.tracked,
            }
            for name in wanted
            if name in self.tables
        ]  # fmt: skip
        return Told(200, {"value": rows})

    def _attributes(self, table: str) -> Told:
        rows = []
        for name, kind in self.columns[table].items():
            choices = kind == "Choices"
            rows.append(self._attribute(name, "Virtual" if choices else kind, choices=choices))
            if kind in {FLAG, "State", "Status", "Picklist", "Choices"}:
                rows.append(self._attribute(f"{name}name", "Virtual", of=name))
            if kind in LOOKUPS:
                rows.append(self._attribute(f"{name}name", TEXT, of=name))
                rows.append(self._attribute(f"{name}yominame", TEXT, of=name))
                rows.append(self._attribute(f"{name}type", "EntityName", of=name))
        return Told(200, {"value": rows})

    def _attribute(
        self, name: str, kind: str, *, of: str | None = None, choices: bool = False
    ) -> dict[str, Any]:
        precise = "MultiSelectPicklistType" if choices else f"{kind}Type"
        return {
            "LogicalName": name, "AttributeType": kind, "AttributeTypeName": {"Value": precise},
            "AttributeOf": of, "IsValidForRead": True, "IsSecured": name in self.masked,
            "DisplayName": {"UserLocalizedLabel": {"Label": name.title()}},
        }  # fmt: skip

    # Rows

    def _listing(self, asked: Asked, path: str, table: str, rows: list[dict[str, Any]]) -> Told:
        query, key = asked.query, TABLES[table][1]
        if "$skip" in query or query.get("$orderby", key) != key:
            raise Malformed("$skip, or an order that this double does not know")
        size = self._size(asked)
        if "$filter" in query:
            rows = [row for row in rows if holds(query["$filter"], row, self._at(table))]
        rows.sort(key=lambda row: row[key])
        if "$skiptoken" in query:
            found = re.search(r"size=(\d+) last=([0-9a-f-]+)", query["$skiptoken"])
            if not found or int(found[1]) != size:
                raise Malformed("odata.maxpagesize is another than on the first page")
            rows = [row for row in rows if row[key] > found[2]]
        if "$top" in query:
            size = int(query["$top"])
        body = {"value": [self._shown(asked, table, row) for row in rows[:size]]}
        if len(rows) > size and "$top" not in query:
            token = f"<cookie size={size} last={rows[size - 1][key]} />"
            body["@odata.nextLink"] = self._link(asked, path, "$skiptoken", token)
        return Told(200, {"@odata.context": f"{self.url}{BASE}$metadata#{path}", **body})

    def _size(self, asked: Asked) -> int:
        found = re.search(r"odata\.maxpagesize=(\d+)", prefer(asked))
        size = int(found[1]) if found else self.rows_max
        return size if size <= self.rows_max else self.rows_max  # larger wishes are ignored

    def _link(self, asked: Asked, path: str, name: str, token: str) -> str:
        query = {n: v for n, v in asked.query.items() if n not in {"$skiptoken", "$deltatoken"}}
        query[name] = token
        return f"{self.url}{BASE}{path}?" + urlencode(query, quote_via=quote, safe="$,")

    def _wire(self, table: str) -> dict[str, str]:
        """Name on the wire -> kind."""
        columns = self.columns[table]
        place = (table, len(columns))
        if place not in self._wires:
            self._wires[place] = {
                f"_{name}_value" if kind in LOOKUPS else name: kind
                for name, kind in columns.items()
                if kind != "Virtual"
            }
        return self._wires[place]

    def _at(self, table: str) -> Any:
        wire = self._wire(table)

        def at(row: Any, path: str) -> Any:
            name, _, rest = path.partition("/")
            if rest:
                lookup, parents = EXPANDS[name]
                parent = self.tables[parents].get(row.get(lookup))
                return parent and self._at(parents)(parent, rest)
            if name not in wire:
                raise Malformed(
                    f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'."
                )
            return row.get(name)

        return at

    def _shown(self, asked: Asked, table: str, row: dict[str, Any]) -> dict[str, Any]:
        wire = self._wire(table)
        names = asked.query["$select"].split(",") if "$select" in asked.query else list(wire)
        shown: dict[str, Any] = {"@odata.etag": f'W/"{row.get("versionnumber", 1)}"'}
        for name in dict.fromkeys([TABLES[table][1], *names]):
            value = self._at(table)(row, name)
            shown[name] = None if name in self.masked else value
            if value is None or name in self.masked:
                continue
            if FORMATTED in prefer(asked) and (label := self._text(name, value)):
                shown[f"{name}@{FORMATTED}"] = label
            if TARGET in prefer(asked) and wire[name] in LOOKUPS:
                shown[f"{name}@{TARGET}"] = table_of(value)
        for name, inner in re.findall(
            r"(\w+)\(\$select=([\w,]+)\)", asked.query.get("$expand", "")
        ):
            lookup, parents = EXPANDS[name]
            key = row.get(lookup)
            parent = None if key in self.hidden else self.tables[parents].get(key)
            shown[name] = parent and {
                one: self._at(parents)(parent, one) for one in inner.split(",")
            }
        return shown

    def _text(self, name: str, value: Any) -> str | None:
        if isinstance(value, bool):
            return "Yes" if value else "No"
        if name.startswith("_"):
            row = self.tables[table_of(value)].get(value, {})
            return row.get("fullname") or row.get("name")
        return self.labels.get((name, value))

    # Change tracking

    def _tracked(self, asked: Asked, path: str, table: str) -> Told:
        query = asked.query
        for name in UNSUPPORTED:
            if name in query:
                words = f"The {name[1:]} query parameter isn't supported when Change Tracking is enabled."
                raise Malformed(words)
        if table not in self.tracked:
            return problem(400, "0x80048d11", "Change tracking is not enabled for the entity")
        if not self.organization:
            words = f"The user does not have organization level read access to {table}"
            return problem(403, "0x80040220", words)
        since, last, began = 0, 0, self.version
        if "$deltatoken" in query:
            number, _, moment = query["$deltatoken"].partition("!")
            if not number.isdigit() or self._age_days(moment) > self.token_days:
                return problem(*self.expired)
            since = last = int(number)
        if "$skiptoken" in query:
            since, last, began = (int(one) for one in query["$skiptoken"].split("-"))
        return self._delta(asked, path, table, since, last, began)

    def _delta(
        self, asked: Asked, path: str, table: str, since: int, last: int, began: int
    ) -> Told:
        """Rows by their versions, then who was deleted. What changes meanwhile comes at the end of the rows."""
        changed = sorted(
            (row["versionnumber"], row)
            for row in self.tables[table].values()
            if row["versionnumber"] > last
        ) if last < DELETED else []  # fmt: skip
        gone = [
            (DELETED + version, key)
            for version, of, key in self.deletions
            if of == table and 0 < since < version and DELETED + version > last
        ]
        both: list[tuple[int, Any]] = [*changed, *gone]
        size = self._size(asked)
        rows = [
            self._removed(table, one)
            if isinstance(one, str)
            else self._told(asked, table, one, since)
            for _, one in both[:size]
        ]
        if not both and since and self.silent:
            return Told(200, {})
        body: dict[str, Any] = {"@odata.context": f"{self.url}{BASE}$metadata#{path}/$delta"}
        if len(both) > size:
            place = f"{since}-{both[size - 1][0]}-{began}"
            body["@odata.nextLink"] = self._link(asked, path, "$skiptoken", place)
        else:
            moment = parse_time(self.clock.now_s())
            assert moment is not None
            version = began if self.token_at == "start" else self.version
            token = f"{version}!{moment:%m/%d/%Y %H:%M:%S}"
            body["@odata.deltaLink"] = self._link(asked, path, "$deltatoken", token)
        return Told(200, {**body, "value": rows}, {"Preference-Applied": "odata.track-changes"})

    def _told(self, asked: Asked, table: str, row: dict[str, Any], since: int) -> dict[str, Any]:
        if self.partial and since:
            return {"@odata.etag": 'W/"1"', TABLES[table][1]: row[TABLES[table][1]]}
        return self._shown(asked, table, row)

    def _removed(self, table: str, key: str) -> dict[str, Any]:
        rows = TABLES[table][0]
        if self.annotation_removed:
            return {"@removed": {"reason": self.reason}, "@odata.id": f"{rows}({key})"}
        context = f"{self.url}{BASE}$metadata#{rows}/$deletedEntity"
        return {"@odata.context": context, "id": key.upper(), "reason": self.reason}

    def _age_days(self, moment: str) -> float:
        made = datetime.strptime(f"{moment} +0000", "%m/%d/%Y %H:%M:%S %z")
        return (self.clock.now_s() - made.timestamp()) / 86_400

    # FetchXML

    def _fetched(self, asked: Asked, table: str) -> Told:
        fetch, key = Fetch(asked.query["fetchXml"]), TABLES[table][1]
        if fetch.table != table or key not in fetch.columns:
            raise Malformed("The entity is another than that of the path")
        last = fetch.after(key)
        rows = sorted(
            row[key]
            for row in self.tables[table].values()
            if row[key] > last and fetch.finds(row, self._at(table), self._parent)
        )
        size = min(fetch.count, self.rows_max)
        body: dict[str, Any] = {"value": [{key: one} for one in rows[:size]]}
        if "Microsoft.Dynamics.CRM.*" in prefer(asked):
            body["@Microsoft.Dynamics.CRM.morerecords"] = len(rows) > size
            if len(rows) > size and self.cookies:
                cookie = fetch.cookie(key, rows[size - 1])
                body["@Microsoft.Dynamics.CRM.fetchxmlpagingcookie"] = cookie
        return Told(200, body)

    def _parent(self, row: Any, lookup: str) -> Any:
        key = row.get(f"_{lookup}_value")
        return self.tables[table_of(key)].get(key) if key else None


DELETED = 10**12  # places of deletions: behind all versions


def table_of(key: str) -> str:
    return next(name for name, code in CODES.items() if key.startswith(f"{code:08x}"))


def prefer(asked: Asked) -> str:
    return asked.headers.get("prefer", "")


def problem(status: int, code: str, words: str, **headers: str) -> Told:
    body = {"error": {"code": code, "message": words}}
    return Told(status, json.dumps(body).encode(), headers)
