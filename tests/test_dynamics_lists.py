"""Dynamics 365 against its double: marketing lists, static and dynamic, and the opt-outs of the consent center."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.dynamics import Dynamics, gid
from dynamics_org import (
    BOTH,
    HOUR_S,
    IDS,
    connector,
    cursor,
    fields,
    keys,
    merged,
    org_of_seven,
    read,
    resync,
    stamp,
)

from connectors.dynamics import lists
from syncd.connector import Request
from syncd.errors import SourceError

CITY = """<fetch version="1.0" mapping="logical" distinct="false"><entity name="contact"><attribute name="fullname"/>
<order attribute="fullname" descending="false"/><filter type="and"><condition attribute="address1_city" operator="eq" value="Geneva"/>
</filter>{more}</entity></fetch>"""
OF_EXAMPLE = """<link-entity name="account" from="accountid" to="parentcustomerid" alias="a"><attribute name="name"/>
<filter><condition attribute="name" operator="eq" value="Example SA"/></filter></link-entity>"""
CONSENTS = "msdynmkt_contactpointconsent4"
OPTED_IN, OPTED_OUT = 534120001, 534120002


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dynamics]:
    with org_of_seven(monkeypatch) as double:
        yield double


def static(org: Dynamics, number: int, name: str, *members: int, code: int = 2) -> str:
    key = org.put("list", number, listname=name, type=False, createdfromcode=code)
    table = {2: "contact", 4: "lead"}.get(code, "contact")
    org.members[key] = {gid(table, member) for member in members}
    return key


def dynamic(org: Dynamics, number: int, name: str, query: str | None) -> None:
    org.put("list", number, listname=name, type=True, createdfromcode=2, query=query)


def of(events: Any, *numbers: int) -> list[list[str]]:
    return [fields(events, IDS[number - 1])["_lists"] for number in numbers]


def test_members_of_static_lists_are_told(org: Dynamics) -> None:
    static(org, 1, "Warm", 1, 2)
    static(org, 2, "Cold", 2, 3)
    static(org, 3, "Companies", code=1)
    org.put("lead", 1)
    static(org, 4, "Leads", 1, code=4)
    org.rows_max = 1
    events = read(org, None, "_lists", tables=BOTH)
    assert of(events, 1, 2, 3, 4) == [["Warm"], ["Cold", "Warm"], ["Cold"], []]
    assert fields(events, gid("lead", 1))["_lists"] == ["Leads"]


def test_only_the_named_lists_are_read(org: Dynamics) -> None:
    static(org, 1, "Warm", 1)
    cold = static(org, 2, "Cold", 1)
    events = read(org, None, "_lists", lists=["Warm"])
    assert of(events, 1) == [["Warm"]]
    assert not any(cold in asked.path for asked in org.asked)
    with pytest.raises(SourceError, match="no marketing list 'Wram'"):
        read(org, None, "_lists", lists=["Wram"])


def test_a_dynamic_list_is_run(org: Dynamics) -> None:
    account = org.put("account", 1, name="Example SA")
    for number in (1, 2, 3, 5, 6):
        org.put("contact", number, address1_city="Geneva")
    org.put("contact", 3, _parentcustomerid_value=account)
    dynamic(org, 1, "Geneva", CITY.format(more=""))
    dynamic(org, 2, "Example in Geneva", CITY.format(more=OF_EXAMPLE))
    org.rows_max = 2
    events = read(org, None, "_lists")
    assert of(events, 1, 3, 4, 6) == [["Geneva"], ["Example in Geneva", "Geneva"], [], ["Geneva"]]


@pytest.mark.parametrize(
    "query",
    [
        None,
        "",
        "<fetch",
        '<fetch><entity name="account"/></fetch>',
        '<fetch aggregate="true"><entity name="contact"/></fetch>',
        '<fetch top="5"><entity name="contact"/></fetch>',
        '<!DOCTYPE x [<!ENTITY a "b">]><fetch><entity name="contact"/></fetch>',
        '<fetch><entity name="contact"><filter>' + "<a/>" * 6_000 + "</filter></entity></fetch>",
    ],
)
def test_a_dynamic_list_that_cannot_be_run_is_said_so(org: Dynamics, query: str | None) -> None:
    """Not known is not empty: else an edited query would take its people out of the group."""
    static(org, 1, "Warm", 1)
    dynamic(org, 2, "Odd", query)
    assert "dynamic lists cannot be run (Odd): name the others" in connector(org).check()
    for names in (None, ["Warm", "Odd"]):
        with pytest.raises(SourceError, match="'Odd' cannot be run here"):
            read(org, None, "_lists", lists=names)
    assert of(read(org, None, "_lists", lists=["Warm"]), 1) == [["Warm"]]
    assert "Odd" not in connector(org, lists=["Warm"]).check()
    whole = list(connector(org).read(Request()))
    assert "_lists" not in fields(whole, IDS[0])


def test_a_dynamic_list_without_its_next_page_is_no_read(org: Dynamics) -> None:
    for number in (1, 2, 3):
        org.put("contact", number, address1_city="Geneva")
    dynamic(org, 1, "Geneva", CITY.format(more=""))
    org.rows_max = 2
    org.cookies = False
    with pytest.raises(SourceError, match="has more people"):
        read(org, None, "_lists")


def test_a_list_that_is_neither_static_nor_dynamic_is_no_read(org: Dynamics) -> None:
    org.put("list", 1, listname="Odd", type=None, createdfromcode=2)
    with pytest.raises(SourceError, match="neither static nor dynamic"):
        read(org, None, "_lists")


def test_who_joins_or_leaves_a_list_comes_again(org: Dynamics) -> None:
    """Neither changes the person."""
    warm = static(org, 1, "Warm", 1, 2)
    first = read(org, None, "_lists")
    org.members[warm] = {IDS[1], IDS[2]}
    second = read(org, cursor(first), "_lists")
    assert keys(second) == [IDS[0], IDS[2]]
    assert (of(second, 1, 3), resync(second)) == ([[], ["Warm"]], "")
    third = read(org, cursor(second), "_lists")
    assert (keys(third), resync(third)) == ([], "")


def test_a_list_that_is_new_or_renamed_brings_its_people(org: Dynamics) -> None:
    warm = static(org, 1, "Warm", 1)
    first = read(org, None, "_lists")
    static(org, 2, "New", 2)
    org.tables["list"][warm]["listname"] = "Hot"
    second = read(org, cursor(first), "_lists")
    assert of(second, 1, 2) == [["Hot"], ["New"]]
    assert len(keys(second)) == 2
    org.tables["list"][warm]["listname"] = "Tepid"
    org.members[warm] = {IDS[0], IDS[2]}
    third = read(org, cursor(second), "_lists")
    assert of(third, 1, 3) == [["Tepid"], ["Tepid"]]
    org.tables["list"][warm]["listname"] = "Cold"
    org.members[warm] = {IDS[2]}
    assert of(read(org, cursor(third), "_lists"), 1, 3) == [[], ["Cold"]]


def test_a_list_that_has_gone_makes_everything_be_read(org: Dynamics) -> None:
    static(org, 1, "Warm", 1)
    first = read(org, None, "_lists")
    org.delete("list", 1)
    second = read(org, cursor(first), "_lists")
    assert resync(second) == "a list has gone"
    assert of(second, 1) == [[]]


def test_a_large_list_with_other_members_makes_everything_be_read(
    org: Dynamics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "IDS_KEPT", 2)
    warm = static(org, 1, "Warm", 1, 2, 3)
    first = read(org, None, "_lists")
    same = read(org, cursor(first), "_lists")
    assert (keys(same), resync(same)) == ([], "")
    org.members[warm] = {IDS[1], IDS[2], IDS[3]}
    second = read(org, cursor(same), "_lists")
    assert resync(second) == "a large list has other members"
    assert of(second, 1, 4) == [[], ["Warm"]]


def test_too_many_moves_make_everything_be_read(
    org: Dynamics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "AGAIN_MAX", 3)
    static(org, 1, "Warm", 1)
    first = read(org, None, "_lists")
    static(org, 2, "New", 1, 2, 3, 4)
    assert resync(read(org, cursor(first), "_lists")) == "lists have many other members"


def test_a_cursor_without_lists_reads_everything(org: Dynamics) -> None:
    static(org, 1, "Warm", 1)
    first = read(org)
    assert resync(read(org, cursor(first), "_lists")) == "the cursor says nothing of lists"


# The consent center


def consent(org: Dynamics, number: int, address: str | None, value: int, kind: int = 0) -> None:
    org.put(
        CONSENTS, number, msdynmkt_contactpointvalue=address,
        msdynmkt_contactpointtype=534120000 + kind, msdynmkt_value=value,
    )  # fmt: skip


def out(events: Any, *numbers: int) -> list[bool]:
    return [fields(events, IDS[number - 1])["_opted_out"] for number in numbers]


def test_an_opt_out_of_any_address_counts(org: Dynamics) -> None:
    org.put("contact", 2, emailaddress2="second@example.org")
    consent(org, 1, " P1@Example.com", OPTED_OUT)
    consent(org, 2, "second@example.org", OPTED_OUT)
    consent(org, 3, "p3@example.com", OPTED_IN)
    consent(org, 4, "p4@example.com", OPTED_OUT, kind=1)  # a text message
    consent(org, 5, None, OPTED_OUT)
    org.rows_max = 2
    assert out(read(org, None, "_opted_out"), 1, 2, 3, 4) == [True, True, False, False]


def test_opting_out_there_brings_the_person_again(org: Dynamics) -> None:
    """It changes the address's consent, not the contact."""
    org.put("contact", 3, emailaddress2="odd\"o'b@example.org")
    first = read(org, None, "_opted_out")
    org.clock.advance_s(HOUR_S)
    consent(org, 1, "p2@example.com", OPTED_OUT)
    consent(org, 2, "ODD\"o'b@example.org", OPTED_OUT)
    second = read(org, cursor(first), "_opted_out")
    assert sorted(keys(second)) == [IDS[1], IDS[2]]
    assert out(second, 2, 3) == [True, True]
    org.clock.advance_s(HOUR_S)
    consent(org, 1, "p2@example.com", OPTED_IN)
    third = read(org, cursor(second), "_opted_out")
    assert out(third, 2) == [False]


@pytest.mark.parametrize("minutes", [5, 10])
def test_a_consent_that_was_committed_late_is_in_the_overlap(org: Dynamics, minutes: int) -> None:
    first = read(org, None, "_opted_out")
    consent(org, 2, "p3@example.com", OPTED_OUT)
    stamp(org, CONSENTS, 2, minutes_ago=minutes)
    assert out(read(org, cursor(first), "_opted_out"), 3) == [True]


def test_without_a_consent_center_the_flags_count(org: Dynamics) -> None:
    del org.tables[CONSENTS]
    org.put("contact", 1, donotbulkemail=True)
    assert out(read(org, None, "_opted_out"), 1, 2) == [True, False]
    assert "_opted_out" not in connector(org).check()


def test_a_merged_persons_lists_and_opt_outs_are_the_winners(org: Dynamics) -> None:
    static(org, 1, "Warm", 1, 2)
    first = read(org, None, "_lists", "_opted_out")
    org.merge("contact", 1, 2)
    second = read(org, cursor(first), "_lists", "_opted_out")
    assert merged(second) == [(IDS[0], IDS[1])]
    assert of(second, 2) == [["Warm"]]
