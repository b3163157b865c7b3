"""A double of Odoo 14 to 19: JSON-2 and JSON-RPC over one store, with the versions' own errors, dates and missing fields.

Source: connectors-seen, Odoo (numbers in brackets are its points); connectors reference, section 6.
"""

from typing import Any

from doubles.odoo_query import Query, Raised
from doubles.server import Asked, Double, Told

KEY, DATABASE, USER, UID = "odoo-key-made-up", "crm", "sync@example.com", 7
HTML = {"Content-Type": "text/html; charset=utf-8"}
RIGHTS = {"mail.blacklist", "mailing.list", "mailing.contact", "mailing.subscription", "crm.lead"}
TEXT, FLAG, LINK, TIME = {"type": "char"}, {"type": "boolean"}, "many2one", {"type": "datetime"}
COMMON = {"id": {"type": "integer"}, "write_date": TIME, "create_date": TIME, "active": FLAG}
SCORED = {"type": "integer"}


def link(model: str, kind: str = LINK) -> dict[str, Any]:
    return {"type": kind, "relation": model}


PARTNER = {
    **COMMON,
    **dict.fromkeys(("name", "email", "email_normalized", "function", "phone", "website"), TEXT),
    **dict.fromkeys(("company_name", "x_work_email", "x_private_email", "type"), TEXT),
    **dict.fromkeys(("is_company", "partner_share", "is_blacklisted", "x_vip"), FLAG),
    "comment": {"type": "html"},
    "x_score": SCORED,
    "image_1920": {"type": "binary"},
    "total_invoiced": {"type": "monetary", "store": False},
    "parent_id": link("res.partner"),
    "commercial_partner_id": link("res.partner"),
    "user_id": link("res.users"),
    "country_id": link("res.country"),
    "user_ids": link("res.users", "one2many"),
    "message_ids": link("mail.message", "one2many"),
    "category_id": link("res.partner.category", "many2many"),
}
SCHEMA: dict[str, dict[str, dict[str, Any]]] = {
    "res.partner": PARTNER,
    "crm.lead": {
        **COMMON,
        **dict.fromkeys(("name", "contact_name", "partner_name", "email_from", "phone"), TEXT),
        **dict.fromkeys(("website", "function", "email_normalized"), TEXT),
        "is_blacklisted": FLAG,
        "user_id": link("res.users"),
        "tag_ids": link("crm.tag", "many2many"),
    },
    "res.partner.category": {**COMMON, "name": TEXT},
    "crm.tag": {**COMMON, "name": TEXT},
    "res.country": {**COMMON, "name": TEXT},
    "res.users": {**COMMON, "name": TEXT, "email": TEXT},
    "res.users.apikeys": {**COMMON, "user_id": link("res.users"), "expiration_date": TIME},
    "mail.blacklist": {**COMMON, "email": TEXT},
    "mail.message": {**COMMON, "model": TEXT, "res_id": SCORED, "body": TEXT, "date": TIME},
    "mailing.list": {**COMMON, "name": TEXT},
    "mailing.contact": {
        **COMMON,
        "email": TEXT,
        "list_ids": link("mailing.list", "many2many"),
        "subscription_ids": link("mailing.subscription", "one2many"),
    },
    "mailing.subscription": {
        **COMMON,
        "contact_id": link("mailing.contact"),
        "list_id": link("mailing.list"),
        "opt_out": FLAG,
    },
}
GONE_IN_19 = {"mobile": TEXT, "title": link("res.partner.title")}  # [6]
OLD_SUBSCRIPTION = "mailing.contact.subscription"  # [8]


class Odoo(Double):
    """tables: model -> id -> values. rights: the models beside the contacts that this user may read. version: 14 or 19 and more.

    refused: other models that it may not. lacking: fields that are left out of rows. rows_cap: a module's own limit of a page.
    broken_from: rows of people after this id are answered with a 500.
    """

    def __init__(self, clock: Any = None, *, version: int = 19) -> None:
        super().__init__(clock)
        self.version = version
        self.key = KEY
        self.rights = set(RIGHTS)
        self.schema = {model: dict(kinds) for model, kinds in SCHEMA.items()}
        if version < 19:
            self.schema["res.partner"] |= GONE_IN_19
            del self.schema["res.users.apikeys"]["expiration_date"]
        if version < 17:
            self.schema[OLD_SUBSCRIPTION] = self.schema.pop("mailing.subscription")
            del self.schema["mailing.contact"]["subscription_ids"]
            kind = link(OLD_SUBSCRIPTION, "one2many")
            self.schema["mailing.contact"]["subscription_list_ids"] = kind
            self.rights.add(OLD_SUBSCRIPTION)
        self.tables: dict[str, dict[int, dict[str, Any]]] = {model: {} for model in self.schema}
        self.has_rpc = True
        self.refused: set[str] = set()
        self.lacking: set[str] = set()
        self.rows_cap = 10**9
        self.broken_from: int | None = None

    # What its users do

    def add(self, model: str, key: int | None = None, **values: Any) -> int:
        """Create a row, or write to it; both move its times."""
        table = self.tables[model]
        key = key or max(table, default=0) + 1
        now = self.clock.now_s()
        held = table.setdefault(key, {"id": key, "active": True, "create_date": now})
        held |= {**values, "write_date": now}
        if model in {"res.partner", "crm.lead"}:
            self._compute(held)
        return key

    def put(self, key: int, **values: Any) -> int:
        """A contact that is a person, or a change of it."""
        fresh = key not in self.tables["res.partner"]
        usual = {"is_company": False, "partner_share": True, "type": "contact", "name": f"P{key}"}
        return self.add("res.partner", key, **({**usual, **values} if fresh else values))

    def _compute(self, held: dict[str, Any]) -> None:
        if "parent_id" not in held and "email_from" not in held:
            held["commercial_partner_id"] = held["id"]
        elif held.get("parent_id"):
            held["commercial_partner_id"] = held["parent_id"]

    def unlink(self, key: int) -> None:
        """For good: no trace."""
        del self.tables["res.partner"][key]

    def merge(
        self, loser: int, winner: int, words: str = "Merged with the following partners:"
    ) -> None:
        gone = self.tables["res.partner"].pop(loser)
        body = f"<p>{words} {gone['name']} &lt;{gone.get('email') or 'n/a'}&gt; (ID {loser})</p>"
        message = {"model": "res.partner", "res_id": winner, "date": self.clock.now_s()}
        self.tables["mail.message"][self.add("mail.message", body=body)] |= message
        self.put(winner)

    def blacklist(self, address: str) -> int:
        """Moves no partner."""
        for key, row in self.tables["mail.blacklist"].items():
            if row["email"] == address:
                return self.add("mail.blacklist", key, active=True)
        return self.add("mail.blacklist", email=address)

    def tag(self, name: str, *keys: int, from_tag: bool = True) -> int:
        """From the tag's side no partner's write_date moves [2]."""
        tags = self.tables["res.partner.category"]
        number = next((n for n, one in tags.items() if one["name"] == name), None)
        number = number or self.add("res.partner.category", name=name)
        for key in keys:
            held = self.tables["res.partner"][key]
            held["category_id"] = [*held.get("category_id", []), number]
            if not from_tag:
                self.put(key)
        return number

    def subscribe(self, name: str, address: str, *, opt_out: bool = False) -> None:
        """Rows made through list_ids have no write_date [8]."""
        lists = self.tables["mailing.list"]
        number = next((n for n, one in lists.items() if one["name"] == name), None)
        number = number or self.add("mailing.list", name=name)
        contact = self.add("mailing.contact", email=address, list_ids=[number])
        model = "mailing.subscription" if self.version >= 17 else OLD_SUBSCRIPTION
        row = self.add(model, contact_id=contact, list_id=number, opt_out=opt_out)
        self.tables[model][row]["write_date"] = False

    # What it answers

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/jsonrpc" and asked.method == "POST" and self.has_rpc:
            return self._rpc(asked)
        if asked.path.startswith("/json/2/") and asked.method == "POST" and self.version >= 19:
            return self._json2(asked)
        return Told(404, b"<!doctype html><title>404 Not Found</title>", HTML)

    def _json2(self, asked: Asked) -> Told:
        if asked.headers.get("content-type") != "application/json":
            return Told(415, b"<!doctype html><title>415</title>", HTML)
        if asked.headers.get("x-odoo-database", DATABASE) != DATABASE:
            return Told(404, b"<!doctype html><title>404 Not Found</title>", HTML)
        scheme, _, key = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or key != self.key:
            return self._raised(Raised(401, "werkzeug.exceptions.Unauthorized", "Invalid apikey"))
        _, _, _, model, method = asked.path.split("/")
        try:
            return Told(200, self._called(model, method, asked.json))
        except Raised as error:
            return self._raised(error)

    def _raised(self, error: Raised) -> Told:
        body = {"name": error.name, "message": error.words, "arguments": [error.words]}
        return Told(error.status, {**body, "context": {}, "debug": "Traceback ..."})

    def _rpc(self, asked: Asked) -> Told:
        params = asked.json["params"]
        try:
            match params["service"], params["method"]:
                case "common", "version":
                    found: Any = {"server_version": f"{self.version}.0", "protocol_version": 1}
                case "common", "authenticate":
                    found = self._authenticated(*params["args"][:3]) and UID  # wrong: no error [3]
                case "object", "execute_kw":
                    database, uid, key, model, method, args, kwargs = params["args"]
                    assert args == []
                    if uid != UID or not self._authenticated(database, USER, key):
                        raise Raised(403, "odoo.exceptions.AccessDenied", "Access Denied")
                    found = self._called(model, method, kwargs)
                case unknown:
                    raise AssertionError(unknown)
        except Raised as error:
            number = 0 if self.version >= 19 else 200  # [3]
            data = {"name": error.name, "message": error.words, "debug": "Traceback ..."}
            wrong = {"code": number, "message": "Odoo Server Error", "data": data}
            return Told(200, {"jsonrpc": "2.0", "id": asked.json["id"], "error": wrong})
        return Told(200, {"jsonrpc": "2.0", "id": asked.json["id"], "result": found})

    def _authenticated(self, database: str, user: str, key: str) -> bool:
        if database != DATABASE:
            words = f'FATAL:  database "{database}" does not exist'
            raise Raised(500, "psycopg2.OperationalError", words)
        return user == USER and key == self.key

    def _called(self, model: str, method: str, given: dict[str, Any]) -> Any:
        if model not in self.schema:
            if self.version >= 19:
                raise Raised(
                    404, "werkzeug.exceptions.NotFound", f"the model {model} does not exist"
                )
            raise Raised(200, "odoo.exceptions.UserError", f"Object {model} doesn't exist")
        if method == "context_get":
            return {"lang": "en_US", "tz": False, "uid": UID}
        if method == "fields_get":
            return {
                name: {"string": name.title(), "store": True, **kind}
                for name, kind in self.schema[model].items()
            }
        assert method == "search_read", method
        guarded = model in RIGHTS | {OLD_SUBSCRIPTION}
        if (guarded and model not in self.rights) or model in self.refused:
            words = f"You are not allowed to access '{model}' records."
            raise Raised(403, "odoo.exceptions.AccessError", words)
        found = Query(self, model, given).rows()[: self.rows_cap]
        found = [{name: row[name] for name in row.keys() - self.lacking} for row in found]
        people = model in {"res.partner", "crm.lead"} and self.broken_from is not None
        if people and any(row["id"] >= self.broken_from for row in found):
            raise Raised(500, "psycopg2.errors.SerializationFailure", "could not serialize")
        return found
