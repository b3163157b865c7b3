"""Salesforce against its double: who is in which campaign, who joins and who leaves."""

from collections.abc import Iterator

import pytest
from doubles.salesforce import Salesforce, queries, sid
from salesforce_org import (
    BOTH,
    DAY_S,
    HOUR_S,
    IDS,
    cursor,
    fields,
    gone,
    keys,
    org_of_seven,
    read,
    resync,
)  # fmt: skip

from connectors.salesforce import campaigns
from syncd.errors import SourceError


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    with org_of_seven(monkeypatch) as double:
        double.clock.advance_s(2 * DAY_S)
        yield double


def test_campaigns_are_read_with_everybody_in_them(org: Salesforce) -> None:
    lead = org.put("Lead", 1)
    for number in range(1, 1_001):
        org.join("Everybody", org.put("Contact", number, Email=f"p{number}@example.com"))
    org.join("VIP", IDS[2])
    org.join("VIP", lead)
    org.put("Campaign", 3, Name="VIP")  # another one of the same name
    events = read(org, None, "_lists", objects=BOTH)
    assert fields(events, IDS[2]) == {"_lists": ["Everybody", "VIP"]}
    assert fields(events, sid("Contact", 1_000)) == {"_lists": ["Everybody"]}
    assert fields(events, lead) == {"_lists": ["VIP"]}
    only = read(org, None, "_lists", lists=["VIP"])
    assert fields(only, IDS[2]) == {"_lists": ["VIP"]}
    assert fields(only, IDS[3]) == {"_lists": []}
    with pytest.raises(SourceError, match="no campaign 'VPI'"):
        read(org, None, "_lists", lists=["VPI"])


def test_who_joins_a_campaign_is_read_although_the_person_did_not_change(org: Salesforce) -> None:
    lead = org.put("Lead", 1)
    org.join("VIP", IDS[0])
    first = read(org, None, "_lists", objects=BOTH)
    org.clock.advance_s(HOUR_S)
    org.join("VIP", IDS[4])
    org.join("New", lead)
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first), "_lists", objects=BOTH)
    assert not resync(second)
    assert fields(second, IDS[4]) == {"_lists": ["VIP"]}
    assert fields(second, lead) == {"_lists": ["New"]}
    assert IDS[2] not in keys(read(org, cursor(second), "_lists", objects=BOTH))


def test_who_leaves_a_campaign_unseen_makes_everything_be_read_once(org: Salesforce) -> None:
    """A membership is deleted for good, and Salesforce tells its id only."""
    member = org.join("VIP", IDS[0])
    first = read(org, None, "_lists")
    org.clock.advance_s(HOUR_S)
    org.delete("CampaignMember", member)
    org.clock.advance_s(60)
    second = read(org, cursor(first), "_lists")
    assert "left a campaign" in resync(second)
    assert fields(second, IDS[0]) == {"_lists": []}
    for _ in range(3):  # within the overlap it is told again
        org.clock.advance_s(120)
        second = read(org, cursor(second), "_lists")
        assert not resync(second)


def test_who_leaves_a_campaign_by_the_recycle_bin_is_read_alone(
    org: Salesforce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doubles.salesforce.HARD_DELETED", set())
    member = org.join("VIP", IDS[0])
    first = read(org, None, "_lists")
    org.clock.advance_s(HOUR_S)
    org.delete("CampaignMember", member)
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first), "_lists")
    assert not resync(second)
    assert fields(second, IDS[0]) == {"_lists": []}


def test_more_leavers_than_a_cursor_holds_make_everything_be_read_again(
    org: Salesforce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaigns, "LEFT_MAX", 1)
    members = [org.join("VIP", key) for key in IDS[:2]]
    for member in members:
        org.delete("CampaignMember", member)
    org.clock.advance_s(60)
    first = read(org, None, "_lists")
    assert "too many" in resync(read(org, cursor(first), "_lists"))


@pytest.mark.parametrize("change", ["rename", "delete"])
def test_a_campaign_that_is_gone_makes_everything_be_read(org: Salesforce, change: str) -> None:
    org.join("VIP", IDS[0])
    first = read(org, None, "_lists")
    org.clock.advance_s(HOUR_S)
    if change == "rename":
        org.put("Campaign", 1, Name="Very important")
    else:
        org.delete("Campaign", sid("Campaign", 1))
    second = read(org, cursor(first), "_lists")
    assert "campaign was deleted or renamed" in resync(second)
    now = {"rename": ["Very important"], "delete": []}[change]
    assert fields(second, IDS[0]) == {"_lists": now}


def test_a_campaign_that_comes_into_sight_brings_its_old_members(org: Salesforce) -> None:
    org.join("Other", IDS[1])
    org.join("VIP", IDS[0])
    org.tables["Campaign"][sid("Campaign", 2)]["IsDeleted"] = True
    org.clock.advance_s(HOUR_S)
    org.join("Other", IDS[2])
    first = read(org, None, "_lists")
    assert fields(first, IDS[0]) == {"_lists": []}
    org.clock.advance_s(DAY_S)
    org.tables["Campaign"][sid("Campaign", 2)]["IsDeleted"] = False
    second = read(org, cursor(first), "_lists")
    assert fields(second, IDS[0]) == {"_lists": ["VIP"]}


def test_without_lists_nothing_is_asked_of_campaigns(org: Salesforce) -> None:
    org.join("VIP", IDS[0])
    first = read(org)
    read(org, cursor(first))
    assert not [one for one in queries(org.asked) if "Campaign" in one]
    assert "campaigns were not" not in resync(read(org, cursor(first)))
    assert "says nothing of campaigns" in resync(read(org, cursor(first), "_lists"))


def test_a_member_whom_this_user_may_not_see_is_nobody(org: Salesforce) -> None:
    first = read(org, None, "_lists")
    org.clock.advance_s(HOUR_S)
    org.join("VIP", sid("Contact", 99))
    org.clock.advance_s(60)
    second = read(org, cursor(first), "_lists")
    assert (gone(second), resync(second)) == ([], "")
    assert sid("Contact", 99) not in keys(second)
