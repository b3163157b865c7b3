"""A double of EspoCRM 10: conditions as PHP reads them, pages of 200, addresses that are shared, a log of actions, target lists.

Source: what a server answered ("seen" in the connectors reference, numbers 1 to 21); each number stands where it is played.
"""

import hmac
import json
import re
from base64 import b64decode
from typing import Any

from doubles.server import Asked, Double, Told
from syncd.http import parse_time

KEY, SECRET = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"  # made up
ME, OTHER = "6500000000000000a", "6500000000000000b"
TIME = re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?")
ALWAYS = {"id", "accountIsInactive", "accountId", "accountName", "createdById", "assignedUserId", "isStarred"}  # fmt: skip
FIELDS: dict[str, dict[str, str]] = {
    "Contact": {
        "name": "personName", "firstName": "varchar", "lastName": "varchar", "title": "varchar",
        "emailAddress": "email", "phoneNumber": "phone", "account": "link", "assignedUser": "link",
        "modifiedAt": "datetime", "cLevel": "enum", "teams": "linkMultiple", "address": "address",
    },
    "Lead": {
        "name": "personName", "firstName": "varchar", "lastName": "varchar", "title": "varchar",
        "emailAddress": "email", "accountName": "varchar", "website": "url", "status": "enum",
        "assignedUser": "link", "modifiedAt": "datetime",
    },
}  # fmt: skip
LINKS = {"contacts": "Contact", "leads": "Lead"}


class EspoCrm(Double):
    """tables: entity -> id -> row. addresses: in lower case -> its flags, for everybody who has it.

    metadata: how `GET Metadata` answers: "key", "whole" (before 8.2), or "denied". hidden: attributes that the role hides.
    """

    metadata = "key"
    admin = False
    firewall = False
    counts = False  # a proxy that strips X-No-Total
    ignores: str = ""  # an attribute whose conditions are lost on the way
    raw_hmac = False

    def __init__(self, clock: Any = None) -> None:
        super().__init__(clock)
        names = ("Contact", "Lead", "Account", "User", "TargetList", "ActionHistoryRecord")
        self.tables: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in names}
        self.addresses: dict[str, dict[str, bool]] = {}
        self.members: dict[str, dict[str, dict[str, bool]]] = {}  # list -> entity -> id -> out
        self.keys, self.secrets = {KEY}, dict[str, str]()
        self.passwords = dict[str, str]()
        self.denied: set[str] = set()
        self.hidden: set[str] = set()

    # What its users do

    def now(self) -> str:
        moment = parse_time(self.clock.now_s())
        assert moment is not None
        return f"{moment:%Y-%m-%d %H:%M:%S}"

    def put(self, entity: str, key: str, *emails: str, **values: Any) -> None:
        """Create a record, or change it. emails: the first is the primary one."""
        new = key not in self.tables[entity]
        row = self.tables[entity].setdefault(
            key, {"id": key, "deleted": False, "emails": [], "createdAt": self.now()}
        )
        for address in emails:
            flags = self.addresses.setdefault(address.lower(), {"optOut": False, "invalid": False})
            if new:
                flags["optOut"] = False  # seen, 3
        row |= {"emails": list(emails)} if emails else {}
        row |= {**values, "modifiedAt": self.now()}

    def opt_out(self, address: str, *through: str) -> None:
        """Somebody unsubscribes; `through` this record (entity, id), or by the link in a mail."""
        self.addresses[address.lower()]["optOut"] = True
        if through:
            self.tables[through[0]][through[1]]["modifiedAt"] = self.now()

    def delete(self, entity: str, key: str, by: str = OTHER) -> None:
        self.tables[entity][key]["deleted"] = True
        number = len(self.tables["ActionHistoryRecord"]) + 1
        self.tables["ActionHistoryRecord"][str(number)] = {
            "id": f"{number:017x}", "number": number, "action": "delete", "targetType": entity,
            "targetId": key, "userId": by, "createdAt": self.now(), "deleted": False, "emails": [],
        }  # fmt: skip

    def merge(self, loser: str, winner: str) -> None:
        """The loser's address stays on the winner, with its opt-out (seen, 17)."""
        self.delete("Contact", loser)
        kept = self.tables["Contact"][winner]["emails"]
        self.put("Contact", winner, *kept, *self.tables["Contact"][loser]["emails"])

    def restore(self, entity: str, key: str) -> None:
        self.tables[entity][key] |= {"deleted": False, "modifiedAt": self.now()}

    def list_up(self, key: str, name: str, entity: str, **members: bool) -> None:
        """Make a target list of these. members: id -> whether they have opted out of it."""
        self.tables["TargetList"][key] = {"id": key, "name": name, "deleted": False, "emails": []}
        self.members.setdefault(key, {})[entity] = dict(members)

    # What it answers

    def answer(self, asked: Asked) -> Told:
        if not asked.path.startswith("/api/v1/"):
            return Told(404, b"<html>no page</html>")
        path = asked.path.removeprefix("/api/v1/")
        if not self._logged_in(asked, path):
            return Told(401)  # neither body nor reason (seen, 9)
        if self.firewall and any(name.startswith("where[") for name in asked.query):
            return Told(403, b"<html>Blocked</html>", {"Content-Type": "text/html"})
        entity, _, rest = path.partition("/")
        if asked.method != "GET":
            return problem(405, "Read only.")
        if entity in self.denied:
            return problem(403, f"No access to {entity} scope.")
        if entity == "Metadata":
            return self._metadata(asked)
        if entity not in self.tables:
            return problem(404, f"Controller '{entity}' does not exist.")
        key, _, link = rest.partition("/")
        if link:
            return self._listing(asked, LINKS[link], self.members[key].get(LINKS[link], {}))
        return self._one(entity, key) if key else self._listing(asked, entity, None)

    def _logged_in(self, asked: Asked, path: str) -> bool:
        signed = asked.headers.get("x-hmac-authorization")
        if signed is not None:
            key, _, digest = b64decode(signed).partition(b":")
            secret = self.secrets.get(key.decode(), "")
            made = hmac.new(secret.encode(), f"{asked.method} /{path}".encode(), "sha256")
            right = made.digest() if self.raw_hmac else made.hexdigest().encode()
            return bool(secret) and digest == right  # seen, 4
        basic = asked.headers.get("authorization", "").removeprefix("Basic ")
        if basic:
            name, _, password = b64decode(basic).decode().partition(":")
            return self.passwords.get(name) == password
        return asked.headers.get("x-api-key") in self.keys

    def _metadata(self, asked: Asked) -> Told:
        if self.metadata == "denied":
            return problem(403, "No access.")
        defs = {
            entity: {"fields": {name: {"type": kind} for name, kind in fields.items()}}
            for entity, fields in FIELDS.items()
        }
        if self.metadata == "whole":
            return Told(200, {"entityDefs": defs, "scopes": {}})
        entity = asked.query["key"].split(".")[1]
        return Told(200, defs[entity]["fields"] if entity in defs else None)

    def _one(self, entity: str, key: str) -> Told:
        row = self.tables[entity].get(key)
        if row is None or (row["deleted"] and not self.admin):
            return problem(404, f"Record {key} does not exist.")  # seen, 5
        shown = self._shown(entity, row)
        shown["emailAddressIsOptedOut"] = bool(shown.get("emailAddressIsOptedOut"))  # seen, 18
        shown["targetListIsOptedOut"] = False  # seen, 16
        shown["emailAddressData"] = [
            {
                "emailAddress": address, "lower": address.lower(), "primary": place == 0,
                **self.addresses[address.lower()],
            }
            for place, address in enumerate(row["emails"])
        ]  # fmt: skip
        return Told(200, {n: v for n, v in shown.items() if n not in self.hidden | {"all"}})

    def _listing(self, asked: Asked, entity: str, members: dict[str, bool] | None) -> Told:
        query = asked.query
        size = int(query.get("maxSize", "20"))
        if size > 200:
            return problem(403, "Max size should not exceed 200. Use offset and limit.")  # seen, 10
        rows = [row for row in self.tables[entity].values() if not row["deleted"]]
        if members is not None:
            rows = [row for row in rows if row["id"] in members]
        if entity == "ActionHistoryRecord" and not self.admin:
            rows = [row for row in rows if row["userId"] == ME]  # seen, 7
        shown = [self._shown(entity, row) for row in rows]
        nested = _nested(query)
        try:
            for item in (nested.get("where") or nested.get("whereGroup") or {}).values():
                shown = [row for row in shown if self._fits(row, item)]
        except KeyError as error:
            return problem(400, f"Bad attribute {error}.")  # seen, 11
        by = query.get("orderBy", "id")
        if any(by not in row for row in shown):
            return problem(400, f"Bad orderBy {by}.")
        shown.sort(key=lambda row: (row[by], row["id"]), reverse=query.get("order") == "desc")
        offset = int(query.get("offset", "0"))
        page = [dict(row) for row in shown[offset : offset + size]]
        for row in page:
            row["targetListIsOptedOut"] = (members or {}).get(row["id"], False)
        total = -1 if len(shown) > offset + size else -2
        if self.counts or "x-no-total" not in asked.headers:
            total = len(shown)
        return Told(200, {"total": total, "list": [self._selected(row, query) for row in page]})

    def _selected(self, row: dict[str, Any], query: dict[str, str]) -> dict[str, Any]:
        select = set(query["select"].split(",")) | ALWAYS if "select" in query else set(row)
        return {n: v for n, v in row.items() if n in select - self.hidden - {"all"}}

    def _shown(self, entity: str, row: dict[str, Any]) -> dict[str, Any]:
        """A row as listings have it: never with the data of all addresses (seen, 1)."""
        shown = {name: value for name, value in row.items() if name != "emails"}
        primary = row["emails"][0] if row["emails"] else None
        flags = self.addresses[primary.lower()] if primary else {"optOut": None, "invalid": None}
        shown |= {
            "emailAddress": primary, "emailAddressIsOptedOut": flags["optOut"],
            "emailAddressIsInvalid": flags["invalid"], "all": [one.lower() for one in row["emails"]],
        }  # fmt: skip
        if entity == "Contact":
            account = self.tables["Account"].get(row.get("accountId") or "", {})
            shown |= {"accountId": row.get("accountId"), "accountName": account.get("name")}
            if not row.get("accountId"):
                shown["title"] = None  # seen, 14
        if entity in LINKS.values():
            user = self.tables["User"].get(row.get("assignedUserId") or "", {})
            shown |= {
                "assignedUserId": row.get("assignedUserId"), "assignedUserName": user.get("name"),
            }  # fmt: skip
            for name in FIELDS[entity]:
                shown.setdefault(name, None)
        return shown

    def _fits(self, row: dict[str, Any], item: dict[str, Any]) -> bool:
        kind, name, value = item["type"], item.get("attribute", ""), item.get("value")
        if name == "deleted":
            return kind != "isTrue"  # seen, 6
        if name == self.ignores:
            return True
        held = row[name]
        if name.endswith("At") and not TIME.fullmatch(str(value)):
            return True  # seen, 11
        match kind:
            case "equals":
                return str(held) == value
            case "greaterThan" if isinstance(held, int):
                return held > int(value)
            case "greaterThan":
                return held is not None and str(held) > value
            case "in" if name == "emailAddress":
                return not set(row["all"]).isdisjoint(value.values())
            case "in":
                return held in value.values()
            case "isTrue":
                return held is True
        raise KeyError(kind)


def problem(status: int, reason: str) -> Told:
    """The reason is in a header, the body is empty (seen, 9)."""
    return Told(status, None, {"X-Status-Reason": reason})


def _nested(query: dict[str, str]) -> dict[str, Any]:
    """where[0][type]=... as PHP makes arrays of it."""
    found: dict[str, Any] = {}
    for name, value in query.items():
        first, *inner = re.findall(r"[^\[\]]+", name)
        place = found
        for step in [first, *inner][:-1]:
            place = place.setdefault(step, {})
        place[[first, *inner][-1]] = value
    return json.loads(json.dumps(found))
