"""Salesforce against its double: the further addresses that an org keeps in fields of its own."""

from collections.abc import Iterator

import pytest
from doubles.salesforce import Salesforce, sid
from salesforce_org import (
    BOTH,
    HOUR_S,
    IDS,
    connector,
    cursor,
    fields,
    gone,
    keys,
    org_of_seven,
    read,
)

ALL = {"emails": "all"}


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    with org_of_seven(monkeypatch) as double:
        double.types["Contact"] |= {"Home_Email__c": "email", "Work_Email__c": "email"}
        for number in range(1, 8):
            double.put("Contact", number)
        double.put("Contact", 1, Home_Email__c="home@example.org", Work_Email__c="P1@example.com")
        double.put("Contact", 2, Home_Email__c=" ", Work_Email__c="work@example.org")
        yield double


def further(key: str, name: str) -> str:
    return f"{key}#{name}"


@pytest.mark.parametrize("bulk", ["on", "off"])
def test_each_further_address_is_a_person_of_its_own(org: Salesforce, bulk: str) -> None:
    org.put("Contact", 1, HasOptedOutOfEmail=True)
    assert keys(read(org)) == IDS
    events = read(org, None, "Email", "HasOptedOutOfEmail", bulk=bulk, **ALL)
    home, work = further(IDS[0], "Home_Email__c"), further(IDS[1], "Work_Email__c")
    assert sorted(keys(events)) == sorted([*IDS, home, work])
    # Salesforce's opt-out is the person's, whichever address it is.
    assert fields(events, home) == {"Email": "home@example.org", "HasOptedOutOfEmail": True}
    assert fields(events, work) == {"Email": "work@example.org", "HasOptedOutOfEmail": False}


def test_an_address_that_was_taken_away_is_gone(org: Salesforce) -> None:
    first = read(org, None, "Email", **ALL)
    org.clock.advance_s(HOUR_S)
    org.put("Contact", 1, Home_Email__c=None)
    org.put("Contact", 2, Work_Email__c="other@example.org")
    events = read(org, cursor(first), "Email", **ALL)
    assert further(IDS[0], "Home_Email__c") in gone(events)
    assert fields(events, further(IDS[1], "Work_Email__c")) == {"Email": "other@example.org"}
    assert not set(gone(events)) & set(keys(events))


@pytest.mark.parametrize("way", ["delete", "merge", "purge"])
def test_all_addresses_go_with_their_person(org: Salesforce, way: str) -> None:
    first = read(org, None, "Email", **ALL)
    org.clock.advance_s(HOUR_S)
    if way == "merge":
        org.merge("Contact", IDS[0], IDS[2])
    else:
        org.delete("Contact", IDS[0])
    if way == "purge":
        org.purge("Contact")
    org.clock.advance_s(HOUR_S)
    events = read(org, cursor(first), "Email", **ALL)
    assert further(IDS[0], "Home_Email__c") in gone(events)
    assert not [key for key in keys(events) if key.startswith(IDS[0])]


def test_a_converted_leads_further_addresses_go(org: Salesforce) -> None:
    org.types["Lead"] |= {"Home_Email__c": "email"}
    lead = org.put("Lead", 1, Email="lead@example.com", Home_Email__c="leads@example.org")
    both = {"objects": BOTH, **ALL}
    first = read(org, None, "Email", **both)
    assert further(lead, "Home_Email__c") in keys(first)
    org.clock.advance_s(HOUR_S)
    org.put("Lead", 1, IsConverted=True, ConvertedContactId=sid("Contact", 3))
    events = read(org, cursor(first), "Email", **both)
    assert further(lead, "Home_Email__c") in gone(events)


def test_further_addresses_are_shown_as_fields_of_that_kind(org: Salesforce) -> None:
    holding = {one.name: one.holds for one in connector(org).fields()}
    assert holding["Home_Email__c"] == "email"
    assert holding["FirstName"] == ""
