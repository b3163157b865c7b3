"""Each CRM through the whole product: a full read, then an incremental one with an opt-out, a deletion and a tag that becomes a group.

A CRM is a small class: what its source's table says, and what its users do. All people are there for a day before anything happens.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pytest
from doubles import (
    airtable,
    apollo,
    attio,
    close,
    dynamics,
    espocrm,
    hubspot,
    odoo,
    pipedrive,
    salesforce,
    zoho,
)
from doubles.server import Double
from house import House, house_fixture

from syncd import registry
from syncd.core.result import Status
from syncd.report.plan import PlanWords

__all__ = ["house_fixture"]

NAMES = ("ann", "bob", "cat", "dan")
VIP = "VIP"


class Crm(Protocol):
    """double: the server. secrets: what the environment holds. opted_out, groups_of: as the mapping says them.

    tells_deletions: whether an incremental read sees who was deleted.
    """

    double: Any
    secrets: Mapping[str, str]
    source: Mapping[str, Any]
    fields: Mapping[str, str]
    opted_out: str
    groups_of: str
    tells_deletions: bool

    def put(self, number: int, name: str) -> None:
        """Make a person with this first name, or give another one."""

    def tag(self, number: int) -> None:
        """Give a person the tag, or put it onto the list."""

    def opt_out(self, number: int) -> None:
        """The person unsubscribes, in the way that the vendor's record tells least of."""

    def delete(self, number: int) -> None:
        """The person is deleted."""


class OfPipedrive:
    secrets: Mapping[str, str] = {"CRM_TOKEN": pipedrive.TOKEN}
    fields: Mapping[str, str] = {"email": "_email", "firstName": "first_name"}
    opted_out, groups_of = "marketing_status == 'unsubscribed'", "_tags"
    tells_deletions = True  # by the log of recent changes

    def __init__(self, clock: Any) -> None:
        self.double = pipedrive.Pipedrive(clock)
        self.double.labels[7] = VIP

    @property
    def source(self) -> Mapping[str, Any]:
        return {"connector": "pipedrive", "token": "env:CRM_TOKEN", "base_url": self.double.url}

    def put(self, number: int, name: str) -> None:
        self.double.put(number, f"{NAMES[number - 1]}@example.com", first_name=name)

    def tag(self, number: int) -> None:
        self.double.put(number, label_ids=[7])

    def opt_out(self, number: int) -> None:
        self.double.persons[number]["marketing_status"] = "unsubscribed"

    def merge(self, loser: int, winner: int) -> None:
        self.double.merge(loser, winner)

    def delete(self, number: int) -> None:
        self.double.delete(number)


class OfZoho:
    secrets: Mapping[str, str] = {"CRM_REFRESH": zoho.REFRESH, "CRM_SECRET": "client-made-up"}
    fields: Mapping[str, str] = {"email": "Email", "firstName": "First_Name"}
    opted_out, groups_of = "Email_Opt_Out", "_tags"
    tells_deletions = True

    def __init__(self, clock: Any) -> None:
        self.double = zoho.Zoho(clock)
        self.double.tags[700] = VIP

    @property
    def source(self) -> Mapping[str, Any]:
        return {
            "connector": "zoho",
            "client_id": "id",
            "client_secret": "env:CRM_SECRET",
            "refresh_token": "env:CRM_REFRESH",
            "token_url": f"{self.double.url}/oauth/v2/token",
        }

    def put(self, number: int, name: str) -> None:
        self.double.put(number, Email=f"{NAMES[number - 1]}@example.com", First_Name=name)

    def tag(self, number: int) -> None:
        self.double.put(number, Tag=[{"id": "700", "name": VIP}])

    def opt_out(self, number: int) -> None:
        self.double.records[number]["Email_Opt_Out"] = True

    def delete(self, number: int) -> None:
        self.double.delete(number)


class OfSalesforce:
    secrets: Mapping[str, str] = {"CRM_REFRESH": "refresh-1", "CRM_SECRET": "client-made-up"}
    fields: Mapping[str, str] = {"email": "Email", "firstName": "FirstName"}
    opted_out, groups_of = "HasOptedOutOfEmail", "_lists"
    tells_deletions = True

    def __init__(self, clock: Any) -> None:
        self.double = salesforce.Salesforce(clock)
        self.double.put("Campaign", 1, Name=VIP)

    @property
    def source(self) -> Mapping[str, Any]:
        return {
            "connector": "salesforce",
            "client_id": "app",
            "client_secret": "env:CRM_SECRET",
            "refresh_token": "env:CRM_REFRESH",
            "login_url": self.double.url,
        }

    def put(self, number: int, name: str) -> None:
        email = f"{NAMES[number - 1]}@example.com"
        self.double.put("Contact", number, Email=email, FirstName=name)

    def tag(self, number: int) -> None:
        self.double.join(VIP, salesforce.sid("Contact", number))

    def opt_out(self, number: int) -> None:
        self.double.put("Contact", number, HasOptedOutOfEmail=True)

    def merge(self, loser: int, winner: int) -> None:
        self.double.merge(
            "Contact", salesforce.sid("Contact", loser), salesforce.sid("Contact", winner)
        )

    def delete(self, number: int) -> None:
        self.double.delete("Contact", salesforce.sid("Contact", number))


class OfOdoo:
    secrets: Mapping[str, str] = {"CRM_TOKEN": odoo.KEY}
    fields: Mapping[str, str] = {"email": "_email", "firstName": "_first_name"}
    opted_out, groups_of = "_opted_out", "_tags"
    tells_deletions = False

    def __init__(self, clock: Any) -> None:
        self.double = odoo.Odoo(clock)

    @property
    def source(self) -> Mapping[str, Any]:
        return {
            "connector": "odoo",
            "token": "env:CRM_TOKEN",
            "base_url": self.double.url,
            "database": odoo.DATABASE,
            "user": odoo.USER,
        }

    def put(self, number: int, name: str) -> None:
        email = f"{NAMES[number - 1]}@example.com"
        self.double.put(number, email=email, name=f"{name} Person")

    def tag(self, number: int) -> None:
        self.double.tag(VIP, number)

    def opt_out(self, number: int) -> None:
        self.double.blacklist(f"{NAMES[number - 1]}@example.com")

    def merge(self, loser: int, winner: int) -> None:
        self.double.merge(loser, winner)

    def delete(self, number: int) -> None:
        self.double.unlink(number)


class OfEspoCrm:
    secrets: Mapping[str, str] = {"CRM_TOKEN": espocrm.KEY}
    fields: Mapping[str, str] = {"email": "emailAddress", "firstName": "firstName"}
    opted_out, groups_of = "emailAddressIsOptedOut", "_lists"
    tells_deletions = True  # by the log of actions

    def __init__(self, clock: Any) -> None:
        self.double = espocrm.EspoCrm(clock)
        self.double.list_up("v", VIP, "Contact")
        self._members: dict[str, bool] = {}

    @property
    def source(self) -> Mapping[str, Any]:
        return {"connector": "espocrm", "token": "env:CRM_TOKEN", "base_url": self.double.url}

    def put(self, number: int, name: str) -> None:
        email = f"{NAMES[number - 1]}@example.com"
        self.double.put("Contact", f"c{number}", email, firstName=name)

    def tag(self, number: int) -> None:
        self._members[f"c{number}"] = False
        self.double.list_up("v", VIP, "Contact", **self._members)

    def opt_out(self, number: int) -> None:
        self.double.opt_out(f"{NAMES[number - 1]}@example.com")

    def delete(self, number: int) -> None:
        self.double.delete("Contact", f"c{number}")


class OfAirtable:
    secrets: Mapping[str, str] = {"CRM_TOKEN": airtable.TOKEN}
    fields: Mapping[str, str] = {"email": "Email", "firstName": "First name"}
    opted_out, groups_of = "Blocked", "Tags"  # a lookup of what a box says of the person's company
    tells_deletions = False

    def __init__(self, clock: Any) -> None:
        self.double = airtable.Airtable(clock)

    @property
    def source(self) -> Mapping[str, Any]:
        login = {"token": "env:CRM_TOKEN", "base_url": self.double.url}
        return {"connector": "airtable", "base": airtable.BASE, "table": "People", **login}

    def put(self, number: int, name: str) -> None:
        self.double.put_company(number, Title=f"{name} SA")
        email = f"{NAMES[number - 1]}@example.com"
        self.double.put(number, Email=email, First_name=name, Company=[airtable.rec(number)])

    def tag(self, number: int) -> None:
        self.double.put(number, Tags=[VIP])

    def opt_out(self, number: int) -> None:
        self.double.put_company(number, Stop=True)

    def delete(self, number: int) -> None:
        self.double.delete(number)


class OfClose:
    secrets: Mapping[str, str] = {"CRM_TOKEN": close.KEY}
    fields: Mapping[str, str] = {"email": "_email", "firstName": "_first_name"}
    opted_out, groups_of = "_opted_out", "_lists"
    tells_deletions = True  # by the log of events

    def __init__(self, clock: Any) -> None:
        self.double = close.Close(clock)
        self._members: list[str] = []
        self._show()

    @property
    def source(self) -> Mapping[str, Any]:
        return {
            "connector": "close",
            "token": "env:CRM_TOKEN",
            "base_url": f"{self.double.url}/api/v1",
            "views": [VIP],
        }

    def put(self, number: int, name: str) -> None:
        self.double.put(f"c{number}", f"{NAMES[number - 1]}@example.com", name=f"{name} Person")

    def tag(self, number: int) -> None:
        self._members.append(f"c{number}")
        self._show()

    def opt_out(self, number: int) -> None:
        self.double.unsubscribe(f"{NAMES[number - 1]}@example.com")

    def delete(self, number: int) -> None:
        self.double.delete(f"c{number}")

    def _show(self) -> None:
        query = {"type": "or", "queries": [{"type": "id", "value": one} for one in self._members]}
        view = {"id": "save_v", "name": VIP, "type": "contact", "s_query": {"query": query}}
        self.double.views = {"v": view}


class OfApollo:
    secrets: Mapping[str, str] = {"CRM_TOKEN": apollo.KEY}
    fields: Mapping[str, str] = {"email": "email", "firstName": "first_name"}
    opted_out, groups_of = "_opted_out", "_lists"
    tells_deletions = False

    def __init__(self, clock: Any) -> None:
        self.double = apollo.Apollo(clock)
        self.double.labels["label1"] = VIP

    @property
    def source(self) -> Mapping[str, Any]:
        url = f"{self.double.url}/api/v1"
        return {"connector": "apollo", "token": "env:CRM_TOKEN", "base_url": url}

    def put(self, number: int, name: str) -> None:
        self.double.put(number, f"{NAMES[number - 1]}@example.com", first_name=name)

    def tag(self, number: int) -> None:
        self.double.join(VIP, number, moves=False)

    def opt_out(self, number: int) -> None:
        self.double.written[apollo.cid(number)] = "link"

    def delete(self, number: int) -> None:
        self.double.delete(number)


class OfHubSpot:
    secrets: Mapping[str, str] = {"CRM_TOKEN": hubspot.TOKEN}
    fields: Mapping[str, str] = {"email": "email", "firstName": "firstname"}
    opted_out, groups_of = "hs_email_optout", "_lists"
    tells_deletions = True

    def __init__(self, clock: Any) -> None:
        self.double = hubspot.HubSpot(clock)

    @property
    def source(self) -> Mapping[str, Any]:
        return {"connector": "hubspot", "token": "env:CRM_TOKEN", "base_url": self.double.url}

    def put(self, number: int, name: str) -> None:
        self.double.put(number, email=f"{NAMES[number - 1]}@example.com", firstname=name)

    def tag(self, number: int) -> None:
        self.double.join(VIP, number)

    def opt_out(self, number: int) -> None:
        self.double.unsubscribe(number)

    def merge(self, loser: int, winner: int) -> None:
        self.double.merge(loser, winner)

    def delete(self, number: int) -> None:
        self.double.archive(number)


class OfDynamics:
    secrets: Mapping[str, str] = {"CRM_SECRET": dynamics.SECRET}
    fields: Mapping[str, str] = {"email": "emailaddress1", "firstName": "firstname"}
    opted_out, groups_of = "_opted_out", "_lists"
    tells_deletions = True  # by change tracking

    def __init__(self, clock: Any) -> None:
        self.double = dynamics.Dynamics(clock)
        self._list = self.double.put("list", 1, listname=VIP, type=False, createdfromcode=2)
        self.double.members[self._list] = set()

    @property
    def source(self) -> Mapping[str, Any]:
        return {
            "connector": "dynamics",
            "client_id": "app",
            "client_secret": "env:CRM_SECRET",
            "base_url": self.double.url,
            "token_url": f"{self.double.url}/token",
        }

    def put(self, number: int, name: str) -> None:
        email = f"{NAMES[number - 1]}@example.com"
        self.double.put("contact", number, emailaddress1=email, firstname=name)

    def tag(self, number: int) -> None:
        self.double.members[self._list].add(dynamics.gid("contact", number))

    def opt_out(self, number: int) -> None:
        consent = {
            "msdynmkt_contactpointvalue": f"{NAMES[number - 1]}@example.com",
            "msdynmkt_contactpointtype": 534120000,
            "msdynmkt_value": 534120002,
        }
        self.double.put("msdynmkt_contactpointconsent4", number, **consent)

    def merge(self, loser: int, winner: int) -> None:
        self.double.merge("contact", loser, winner)

    def delete(self, number: int) -> None:
        self.double.delete("contact", number)


class OfAttio:
    secrets: Mapping[str, str] = {"CRM_TOKEN": attio.TOKEN}
    fields: Mapping[str, str] = {"email": "_email", "firstName": "name.first_name"}
    opted_out, groups_of = "unsubscribed", "_lists"
    tells_deletions = True  # each read is a whole one

    def __init__(self, clock: Any) -> None:
        self.double = attio.Attio(clock)
        self.double.put_list("l1", VIP)

    @property
    def source(self) -> Mapping[str, Any]:
        return {"connector": "attio", "token": "env:CRM_TOKEN", "base_url": self.double.url}

    def put(self, number: int, name: str) -> None:
        parts = {"first_name": name, "last_name": "Person", "full_name": f"{name} Person"}
        self.double.put(f"p{number}", f"{NAMES[number - 1]}@example.com", name=parts)

    def tag(self, number: int) -> None:
        self.double.put_list("l1", VIP, f"p{number}")

    def opt_out(self, number: int) -> None:
        self.double.put(f"p{number}", unsubscribed=True)

    def delete(self, number: int) -> None:
        self.double.delete(f"p{number}")


CRMS = [
    OfAirtable,
    OfApollo,
    OfAttio,
    OfClose,
    OfDynamics,
    OfEspoCrm,
    OfHubSpot,
    OfOdoo,
    OfPipedrive,
    OfSalesforce,
    OfZoho,
]


@pytest.fixture(name="crm", params=CRMS, ids=lambda kind: kind.__name__.removeprefix("Of"))
def crm_fixture(
    house: House, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Crm]:
    crm: Crm = request.param(house.clock)
    for name, secret in crm.secrets.items():
        monkeypatch.setenv(name, secret)
    double: Double = crm.double
    with double:
        for number, name in enumerate(NAMES, 1):
            crm.put(number, name.title())
        house.later(days=1)
        house.configure(
            source=crm.source,
            fields=crm.fields,
            opted_out=crm.opted_out,
            groups=["Customers", {"from": crm.groups_of}],
            full_every="10 days",
            guard={"max_enrolments": 0},
        )
        yield crm


def addresses(*names: str) -> set[str]:
    return {f"{name}@example.com" for name in names}


def test_a_full_read_and_what_changes_after_it(house: House, crm: Crm) -> None:
    crm.tag(4)
    first = house.sync()
    assert (first.status, first.created) == (Status.OK, 4)
    assert house.members("Customers") == addresses(*NAMES)
    assert house.members(VIP) == addresses("dan")
    house.later(days=1)
    assert house.sync().gone == 0
    house.later(days=1)

    crm.put(1, "Anna")
    crm.tag(1)
    crm.opt_out(2)
    crm.delete(3)
    second = house.sync()
    assert (second.status, second.opted_out) == (Status.OK, 1)
    assert second.gone == (1 if crm.tells_deletions else 0)
    assert house.account.contact("ann@example.com")["firstName"] == "Anna"
    assert house.members(VIP) == addresses("ann", "dan")
    left = addresses("ann", "dan") if crm.tells_deletions else addresses("ann", "cat", "dan")
    assert house.members("Customers") == left

    house.later(days=11)
    third = house.sync()
    assert third.status is Status.OK
    assert house.members("Customers") == addresses("ann", "dan")
    house.later(hours=3)
    fourth = house.sync()
    assert (fourth.created, fourth.updated, fourth.gone) == (0, 0, 0)


def test_a_plan_says_whether_its_read_sees_everybody_who_left(
    house: House, crm: Crm, capsys: pytest.CaptureFixture[str]
) -> None:
    sees_all = registry.load(str(crm.source["connector"])).ABILITIES
    for incremental in (False, True):
        house.later(days=1)
        plan, _ = house.plan()
        seen = not incremental or sees_all.tombstones or not sees_all.incremental
        assert plan.sees_removals is seen
        with PlanWords("syncd sync") as words:
            words.finish([plan])
        assert ("does not see everybody who left" in capsys.readouterr().out) is not seen
        house.sync()


def test_who_had_opted_out_before_is_never_made(house: House, crm: Crm) -> None:
    crm.opt_out(2)
    crm.tag(2)
    house.sync()
    assert house.everybody() == addresses("ann", "cat", "dan")


TELLING_MERGES = [OfHubSpot, OfSalesforce, OfOdoo, OfDynamics, OfPipedrive]


@pytest.mark.parametrize("crm", TELLING_MERGES, indirect=True, ids=lambda kind: kind.__name__)
def test_who_was_merged_takes_the_opt_out_along(house: House, crm: Any) -> None:
    """The winner's own record, in most of these CRMs, says nothing of it."""
    crm.opt_out(2)
    house.sync()
    assert house.members("Customers") == addresses("ann", "cat", "dan")
    house.later(days=1)
    crm.merge(2, 1)
    house.later(hours=1)
    assert house.sync().opted_out == 1
    assert house.members("Customers") == addresses("cat", "dan")
    house.later(days=11)
    house.sync()
    assert house.members("Customers") == addresses("cat", "dan")
