"""Each CRM as its description has it: Prism refuses whatever a connector asks in another way than that.

Everything goes through the product as its users have it: a configuration, `check`, a run with the connector's own mapping, FluenzR's
sandbox. Two people are there: Ada, and Bo, who has opted out.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from typing import Any

import pytest
from doubles.server import Asked
from house import House, house_fixture
from prism import Choice, Vendor, described, serving

from syncd import check, registry
from syncd.connector import Checkpoint, Context, Record, Request
from syncd.core.result import Status
from syncd.errors import SourceError
from syncd.http import Api, Open
from syncd.http import Vendor as Manners
from syncd.init import Wish, draft

__all__ = ["house_fixture"]

ADA, BO = "ada@example.com", "bo@example.com"
SECRETS = {"CRM_TOKEN": "token-made-up", "CRM_SECRET": "secret-made-up", "CRM_REFRESH": "rt-1"}
OAUTH = {
    "client_id": "id-made-up",
    "client_secret": "env:CRM_SECRET",
    "refresh_token": "env:CRM_REFRESH",
}


@dataclass(frozen=True)
class Crm:
    """One CRM as it is configured. description: whose API, where it is not the connector's name.

    options: of the source; `URL` stands for the address. everything: options with which a read asks for all that there is. mapping: of the
    sync, where the connector brings none along. person: what FluenzR knows of Ada in the end. found: what `check` says. offered: one of
    the fields that `init` offers. refuse: how a login is refused, and the words of the error. throttled: the status for too many requests.
    """

    connector: str
    options: Mapping[str, Any]
    choose: Choice
    person: Mapping[str, str]
    found: str
    offered: str
    everything: Mapping[str, Any] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=lambda: {"fields": None})
    description: str = ""
    throttled: int = 429
    refuse: Choice = lambda asked: "code=401"
    refusal: str = "refuses the login"

    def source(self, url: str, **more: Any) -> dict[str, Any]:
        """The source's table."""
        options = {**self.options, **more}
        options = {
            name: value.replace("URL", url) if isinstance(value, str) else value
            for name, value in options.items()
        }
        return {"connector": self.connector, **options}


def example(name: str) -> str:
    return f"example={name}" if name else ""


# Which example answers which request: what a server with state would know by itself.


def of_hubspot(asked: Asked) -> str:
    match asked.path.removeprefix("/crm/v3/"):
        case "objects/contacts" if asked.query.get("archived") == "true":
            return example("archived")
        case "objects/contacts" if "after" in asked.query:
            return example("last")
        case "objects/contacts/search":
            return (
                ""
                if asked.json["filterGroups"][0]["filters"][-1]["value"] == "0"
                else "example=empty"
            )
        case "objects/contacts/batch/read":
            return example("history" if "propertiesWithHistory" in asked.json else "changed")
        case "owners" if asked.query.get("archived") == "true":
            return example("none")
    return ""


def of_salesforce(asked: Asked) -> str:
    *_, kind, what = asked.path.strip("/").split("/")
    if what == "describe":
        return example(kind.lower())
    if what == "deleted":
        return example("contacts" if kind == "Contact" else "none")
    soql = asked.query.get("q", "")
    if not soql:
        return ""
    if "Id > '" in soql:
        return example("last")
    if "COUNT()" in soql:
        return example("count")
    if "MasterRecordId != null" in soql:
        return example("merged" if "FROM Contact" in soql else "last")
    if "FROM Contact" in soql and what == "queryAll":
        return example("changed")
    table = re.search(r"FROM (\w+)", soql)
    assert table is not None
    named = {
        "CampaignMember": "members",
        "Campaign": "campaigns",
        "Lead": "leads",
        "Account": "accounts",
    }
    return example(named.get(table[1], "contacts"))


def of_pipedrive(asked: Asked) -> str:
    if asked.path.endswith("/persons"):
        return example("last" if "cursor" in asked.query else "page1")
    if asked.path.endswith("/organizations"):
        return example("none" if "updated_since" in asked.query else "page1")
    return ""


MODELS = {
    "res.partner.category": "category",
    "res.users": "user",
    "mail.blacklist": "blacklist",
    "mailing.list": "list",
    "mailing.subscription": "subscription",
    "mailing.contact": "mailing_contact",
    "mail.message": "message",
    "res.users.apikeys": "key",
    "res.partner": "page1",
}


def rows_of_odoo(model: str, asked: Mapping[str, Any]) -> str:
    after = [term[2] for term in asked["domain"] if term[:2] == ["id", ">"]]
    if after and after[0]:
        return "last"
    return "company" if asked["fields"] == ["name", "website", "is_company"] else MODELS[model]


def fields_of_odoo(model: str) -> str:
    return {"mailing.contact": "mailing_contact", "res.users.apikeys": "key"}.get(model, "partner")


def of_odoo(asked: Asked) -> str:
    if asked.path == "/jsonrpc":
        return example("version_19")
    *_, model, method = asked.path.split("/")
    if method == "search_read":
        return example(rows_of_odoo(model, asked.json))
    return example(fields_of_odoo(model) if method == "fields_get" else "")


def of_old_odoo(asked: Asked) -> str:
    called = asked.json["params"]
    if called["service"] == "common":
        return example("version_17" if called["method"] == "version" else "login")
    model, method, _, arguments = called["args"][3:]
    if method == "search_read":
        return example(f"rows_{rows_of_odoo(model, arguments)}")
    return example(f"fields_{fields_of_odoo(model)}" if method == "fields_get" else "context")


def of_espocrm(asked: Asked) -> str:
    entity = asked.path.removeprefix("/api/v1/")
    asks = {name: value for name, value in asked.query.items() if name.startswith("where")}
    about = {value for name, value in asks.items() if name.endswith("[attribute]")}
    if entity == "Metadata":
        return example("contact" if ".Contact." in asked.query["key"] else "lead")
    if entity != "Contact":
        one_person = {"Contact/64ad0000000000001": "ada", "Contact/64ad0000000000002": "bo"}
        empty = (
            "none"
            if "isTrue" in asks.values() or (entity == "Account" and "modifiedAt" in about)
            else ""
        )
        return example(one_person.get(entity, empty))
    if "emailAddressIsOptedOut" in about:
        return example("opted_out")
    if "modifiedAt" in about:
        return example("changed")
    if "id" in about:
        return example("last" if "greaterThan" in asks.values() else "none")
    return example("none" if about else "page1")


def of_zoho(asked: Asked) -> str:
    query, since = asked.query, "if-modified-since" in asked.headers
    match asked.path.removeprefix("/crm/v8/"):
        case "Contacts" if "ids" in query:
            return example("changed") if query["ids"].endswith("0002") else "code=204"
        case "Contacts" if "cvid" in query:
            return example("members")
        case "Contacts" if "approved" in query:
            return "code=304"
        case "Contacts":
            return example("last" if "page_token" in query else "page1")
        case "Accounts" if since:
            return "code=304"
        case "settings/fields":
            return example(query["module"].lower())
        case "coql" if "id > 0 " not in asked.json["select_query"]:
            return "code=204"
    return ""


def of_dynamics(asked: Asked) -> str:
    if not asked.path.endswith("/contacts"):
        return ""
    condition = asked.query.get("$filter", "")
    if "fetchXml" in asked.query:
        return example("ids")
    if "$deltatoken" in asked.query:
        return example("delta")
    if "track-changes" in asked.headers.get("prefer", ""):
        return example("token")
    if "$skiptoken" in asked.query:
        return example("last")
    return example("none" if "modifiedon" in condition or "In(" in condition else "page1")


def of_airtable(asked: Asked) -> str:
    """A cell comes where it was asked for only."""
    formula, cells = asked.query.get("filterByFormula", ""), asked.queries.get("fields[]", ())
    whole = "fldOOOOOOOOOOOOOO" in cells
    if asked.path.endswith("tblCOMPANIES00000"):
        return example("companies" if formula.startswith("OR") else "none")
    if asked.path.endswith("tblPEOPLE00000000"):
        if cells == ["fldNNNNNNNNNNNNNN"]:
            return example("members")
        if formula:
            return example("changed_whole" if whole else "changed")
        return example("last" if "offset" in asked.query else "whole" if whole else "page1")
    return ""


def of_apollo(asked: Asked) -> str:
    if not asked.path.endswith("/contacts/search"):
        return ""
    if asked.json["sort_by_field"] == "contact_updated_at":
        return example("changed")
    return example("last" if asked.json["page"] == 2 else "page1")


def of_close(asked: Asked) -> str:
    if asked.path.endswith("/data/search/"):
        kind = next(iter(asked.json["_fields"]))
        return example("leads" if kind == "lead" else "contacts")
    if asked.path.endswith("/event/"):
        deleted = (asked.query["object_type"], asked.query["action"]) == ("contact", "deleted")
        return example("deleted" if deleted else "none")
    return ""


def of_attio(asked: Asked) -> str:
    if asked.method == "GET":
        return example("none" if "offset" in asked.query else "page1")
    filtered, offset = "filter" in asked.json, asked.json.get("offset")
    if asked.path.endswith("people/records/query"):
        return example("none" if offset else "last" if filtered else "page1")
    return example("none" if offset else "page1")


def of_refused_rpc(asked: Asked) -> str:
    """A status says nothing there."""
    return example("denied" if asked.json["params"]["service"] == "object" else "")


NAME = {"email": ADA, "firstName": "Ada", "lastName": "Byron", "company": "Example SA"}
WHOLE = {**NAME, "jobTitle": "CTO", "phone": "+41 44 000 00 01", "website": "https://example.com"}
OF_HUBSPOT = Crm(
    connector="hubspot",
    options={"token": "env:CRM_TOKEN", "base_url": "URL"},
    choose=of_hubspot,
    person=WHOLE,
    found="HubSpot: contacts can be read",
    offered="lifecyclestage",
    everything={"emails": "all"},
)
OF_SALESFORCE = Crm(
    connector="salesforce",
    options={**OAUTH, "login_url": "URL"},
    choose=of_salesforce,
    person=WHOLE,
    found="Salesforce: Contact can be read, requests of the day: 18/5000",
    offered="Score__c",
    everything={"objects": ["Contact", "Lead"], "emails": "all"},
    throttled=403,
)
OF_PIPEDRIVE = Crm(
    connector="pipedrive",
    options={"token": "env:CRM_TOKEN", "base_url": "URL"},
    choose=of_pipedrive,
    person={**NAME, "phone": "+41440000001", "website": "https://example.com"},
    found="Pipedrive: persons can be read",
    offered="d4de0000000000000000000000000000000090a6",
    everything={"emails": "all", "filters": ["Warm"]},
)
OF_ODOO = Crm(
    connector="odoo",
    options={"token": "env:CRM_TOKEN", "base_url": "URL"},
    choose=of_odoo,
    person=WHOLE,
    found="Odoo 19.0 by JSON-2: res.partner can be read",
    offered="category_id",
    everything={"emails": "all"},
    refuse=lambda asked: "" if asked.path == "/jsonrpc" else "code=401",
    refusal="POST /json/2/res.partner/fields_get is not allowed",
)
OF_ESPOCRM = Crm(
    connector="espocrm",
    options={"token": "env:CRM_TOKEN", "base_url": "URL"},
    choose=of_espocrm,
    person={**WHOLE, "phone": "+41440000001"},
    found="EspoCRM: Contact can be read",
    offered="doNotCall",
    everything={"emails": "all", "entities": ["Contact", "Lead"]},
    refusal="GET /Contact is not allowed",
)
OF_ZOHO = Crm(
    connector="zoho",
    options={**OAUTH, "token_url": "URL/oauth/v2/token"},
    choose=of_zoho,
    person=WHOLE,
    found="Zoho: contacts can be read",
    offered="Secondary_Email",
    everything={"emails": "all", "views": ["Warm"]},
)
OF_DYNAMICS = Crm(
    connector="dynamics",
    options={
        "client_id": "app",
        "client_secret": "env:CRM_SECRET",
        "base_url": "URL",
        "token_url": "URL/t/oauth2/v2.0/token",
    },
    choose=of_dynamics,
    person=WHOLE,
    found="Dynamics 365: contact can be read, changes and deletions of contact are tracked",
    offered="emailaddress2",
    everything={"emails": "all"},
)
OF_AIRTABLE = Crm(
    connector="airtable",
    options={
        "token": "env:CRM_TOKEN",
        "base_url": "URL",
        "base": "appBBBBBBBBBBBBBB",
        "table": "People",
    },
    choose=of_airtable,
    person=WHOLE,
    found="Airtable: the table 'People' with 10 columns can be read",
    offered="Tags",
    everything={"company": "Company", "owner": "Owner", "views": ["Newsletter"]},
    mapping={
        "opted_out": "Unsubscribed",
        "fields": {
            "email": "Email",
            "firstName": "First name",
            "lastName": "Last name",
            "company": "Company",
            "jobTitle": "Job title",
            "phone": "Phone",
            "website": "Website",
        },
    },
)
OF_APOLLO = Crm(
    connector="apollo",
    options={"token": "env:CRM_TOKEN", "base_url": "URL/api/v1"},
    choose=of_apollo,
    person={**WHOLE, "phone": "+41440000001"},
    found="Apollo: 2 contacts can be read",
    offered="60c39ed82bd02f01154c0001",
    everything={"emails": "all"},
)
OF_CLOSE = Crm(
    connector="close",
    options={"token": "env:CRM_TOKEN", "base_url": "URL/api/v1"},
    choose=of_close,
    person={**WHOLE, "phone": "+41440000001"},
    found="Close: contacts can be read",
    offered="cf_score",
    everything={"emails": "all", "views": ["Warm"], "owner": "Owner"},
)
OF_ATTIO = Crm(
    connector="attio",
    options={"token": "env:CRM_TOKEN", "base_url": "URL"},
    choose=of_attio,
    person={**WHOLE, "phone": "+41440000001", "website": "example.com"},
    found="Attio: people can be read",
    offered="account_owner",
    everything={"emails": "all", "owner": "Account owner"},
    mapping={"fields": None, "opted_out": "opted_out"},
)
APP = {"client_id": "app", "client_secret": "env:CRM_SECRET"}
CRMS = {
    "hubspot": OF_HUBSPOT,
    "hubspot by OAuth": replace(
        OF_HUBSPOT, options={**OAUTH, "base_url": "URL"}, everything={"lists": ["Newsletter"]}
    ),
    "salesforce": OF_SALESFORCE,
    "salesforce by jobs": replace(
        OF_SALESFORCE, options={**APP, "login_url": "URL", "bulk": "on"}, everything={"bulk": "off"}
    ),
    "pipedrive": OF_PIPEDRIVE,
    "pipedrive by OAuth": replace(OF_PIPEDRIVE, options={**OAUTH, "token_url": "URL/oauth/token"}),
    "odoo": OF_ODOO,
    "odoo by JSON-RPC": replace(
        OF_ODOO,
        options={**OF_ODOO.options, "database": "crm", "user": "sync"},
        choose=of_old_odoo,
        found="Odoo 17.0 by JSON-RPC: res.partner can be read",
        refuse=of_refused_rpc,
        refusal="POST /jsonrpc is not allowed",
    ),
    "espocrm": OF_ESPOCRM,
    "espocrm by HMAC": replace(
        OF_ESPOCRM,
        options={**OF_ESPOCRM.options, "secret": "env:CRM_SECRET", "where_name": "whereGroup"},
    ),
    "zoho": OF_ZOHO,
    "dynamics": OF_DYNAMICS,
    "close": OF_CLOSE,
    "close by OAuth": replace(OF_CLOSE, options={**OAUTH, "base_url": "URL/api/v1"}),
    "attio": OF_ATTIO,
    "airtable": OF_AIRTABLE,
    "apollo": OF_APOLLO,
    "apollo by OAuth": replace(
        OF_APOLLO,
        options={**OAUTH, "token_url": "URL/api/v1/oauth/token", "base_url": "URL/api/v1"},
    ),
}
# Another login is another way in, and no other way to fail.
FAILING = [name for name in CRMS if " by " not in name or name.endswith("JSON-RPC")]
SAYING_429 = [name for name in FAILING if CRMS[name].throttled == 429]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(tmp_path_factory.mktemp("prism")) as listening:
        yield listening


@pytest.fixture(params=CRMS)
def crm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Crm:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    return CRMS[request.param]


@pytest.fixture
def vendor(port: int, crm: Crm, house: House) -> Iterator[Vendor]:
    name = crm.description or crm.connector
    with Vendor(name, port, crm.choose, house.clock) as vendor:
        house.configure(source=crm.source(vendor.url), **crm.mapping)
        yield vendor
        assert vendor.violations == []
        assert vendor.asked


def test_check_finds_everything(house: House, crm: Crm, vendor: Vendor) -> None:
    found = list(check.findings(lambda: house.settings, offline=True, clock=house.clock))
    assert [one for one in found if one.grade in {check.Grade.FAILED, check.Grade.WARNING}] == []
    assert crm.found in {one.text for one in found}
    assert any("every name is known" in one.text for one in found)


def test_init_offers_the_fields(house: House, crm: Crm, vendor: Vendor) -> None:
    options = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in crm.source(vendor.url).items()
        if name != "connector"
    }
    written = draft(Wish(crm.connector, options), folder=house.folder)
    assert [note for note in written.notes if "looks like an opt-out" not in note] == []
    assert crm.offered in written.text
    assert (
        "hs_email_optout|boolean or hs_email_optout_4711|boolean" in "".join(written.notes)
    ) == (crm.connector == "hubspot")


def test_people_come_through_the_connectors_own_mapping(
    house: House, crm: Crm, vendor: Vendor
) -> None:
    first = house.sync()
    assert (first.status, first.created, first.opted_out) == (Status.OK, 1, 1)
    contact = house.account.contact(ADA)
    assert {name: contact[name] for name in crm.person} == crm.person
    house.later(hours=1)
    assert house.sync().status is Status.OK
    assert house.everybody() == {ADA}


def test_everything_is_asked_for_as_described(house: House, crm: Crm, vendor: Vendor) -> None:
    options = crm.source(vendor.url, **crm.everything)
    kind = registry.load(options.pop("connector"))
    connector = kind(kind.OPTIONS.model_validate(options), Context(clock=house.clock))
    events = list(connector.read(Request()))
    preset = connector.preset()
    email = str((preset.fields if preset else crm.mapping["fields"])["email"])
    found = {event.fields[email]: event.fields for event in events if isinstance(event, Record)}
    assert {ADA, BO} <= set(found)
    assert ("ada.b@example.org" in found) == (options.get("emails") == "all")
    assert {"_company", "_owner"} <= kind.ABILITIES.joins & set(found[ADA])
    assert kind.ABILITIES.memberships <= set(found[ADA]) or options.get("filters") is None
    cursors = [event.cursor for event in events if isinstance(event, Checkpoint)]
    assert bool(cursors) == kind.ABILITIES.incremental
    house.later(hours=1)
    for cursor in cursors:
        assert list(connector.read(Request(cursor=cursor)))


@pytest.mark.parametrize("crm", SAYING_429, indirect=True)
def test_too_many_requests_are_waited_for(house: House, crm: Crm, vendor: Vendor) -> None:
    before_s, answers = house.clock.now_s(), chain(repeat("code=429", 2), repeat(""))
    vendor.disturb = lambda asked: next(answers)
    assert house.sync().status is Status.OK
    assert house.clock.now_s() - before_s >= 2


@pytest.mark.parametrize("way", ["throttled", "refused", "broken"])
@pytest.mark.parametrize("crm", FAILING, indirect=True)
def test_what_ends_a_read_is_said_and_nobody_goes(
    house: House, crm: Crm, vendor: Vendor, way: str
) -> None:
    house.sync()
    house.later(hours=1)
    words = {
        "throttled": "429" if crm.throttled == 429 else "used up",
        "refused": crm.refusal,
        "broken": "",
    }
    vendor.disturb = {
        "throttled": lambda asked: f"code={crm.throttled}",
        "refused": crm.refuse,
        "broken": lambda asked: "code=500",
    }[way]
    result = house.sync()
    assert result.status is Status.FAILED
    assert words[way] in (result.error or "")
    assert house.everybody() == {ADA}
    vendor.disturb = lambda asked: ""
    assert house.sync().status is Status.OK


def test_each_description_is_proved() -> None:
    assert {crm.description or crm.connector for crm in CRMS.values()} == set(described())


@pytest.mark.parametrize(
    ("path", "query", "words"),
    [
        ("/crm/v3/objects/contacts", {"limit": 101}, "must be <= 100"),
        ("/crm/v3/objects/contacts", {"limit": 1, "propertys": "email"}, "unknown in the query"),
        ("/crm/v3/objects/contact", {"limit": 1}, "no such operation"),
    ],
)
def test_what_does_not_fit_is_refused(
    port: int, path: str, query: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checker that cannot fail checks nothing."""
    with (
        Vendor("hubspot", port, of_hubspot) as vendor,
        Api(vendor.url, Manners("HubSpot"), Open(), vendor.clock) as api,
    ):
        with contextlib.suppress(SourceError):
            api.get(path, query, headers={"Authorization": "Bearer x"})
        assert words in vendor.violations[0]
