"""HubSpot's lists: who is in them, who joins, and who leaves without a trace."""

from collections.abc import Iterator

import pytest
from hubspot_reads import TOKEN, HubSpot, Resync, connector, cursor, fields, keys, read

from syncd.connector import Request
from syncd.errors import SourceError


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpot]:
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot() as double:
        for key in range(1, 8):
            double.put(key, email=f"p{key}@example.com", firstname=f"P{key}", score=str(key * 10))
        yield double


# Lists


def test_lists_are_read_with_everybody_in_them(crm: HubSpot) -> None:
    for key in range(1, 301):
        crm.put(key, email=f"p{key}@example.com")
        crm.join("Everybody", key)
    crm.join("VIP", 3)
    crm.join("Third", 3)
    events = read(crm, None, "_lists")
    assert fields(events, "3") == {"_lists": ["Everybody", "VIP", "Third"]}
    assert fields(events, "299") == {"_lists": ["Everybody"]}
    assert fields(read(crm, None, "_lists", lists=["VIP"]), "3") == {"_lists": ["VIP"]}
    with pytest.raises(SourceError, match="no list 'VPI'"):
        read(crm, None, "_lists", lists=["VPI"])


def test_who_joins_a_list_is_read_although_the_contact_did_not_change(crm: HubSpot) -> None:
    crm.join("VIP", 1)
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm, None, "_lists")
    crm.clock.advance_s(3600)
    crm.join("VIP", 5)
    second = read(crm, cursor(first), "_lists")
    assert keys(second) == ["7", "5"]
    assert fields(second, "5") == {"_lists": ["VIP"]}
    crm.clock.advance_s(3600)
    third = read(crm, cursor(second), "_lists")
    assert not [e for e in third if isinstance(e, Resync)]


def test_who_leaves_a_list_soon_after_joining_is_seen(crm: HubSpot) -> None:
    """Within the overlap nobody knows whether the last read has seen the joining."""
    crm.join("VIP", 1)
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    crm.join("VIP", 5)
    first = read(crm, None, "_lists")
    del crm.lists[1]["members"][5]
    crm.clock.advance_s(60)
    second = read(crm, cursor(first), "_lists")
    assert keys(second) == ["7", "5"]
    assert fields(second, "5") == {"_lists": []}


@pytest.mark.parametrize("change", ["leave", "rename", "delete"])
def test_who_leaves_a_list_makes_everything_be_read(crm: HubSpot, change: str) -> None:
    for key in (1, 2):
        crm.join("VIP", key)
    crm.clock.advance_s(3600)
    first = read(crm, None, "_lists")
    crm.clock.advance_s(3600)
    if change == "leave":
        del crm.lists[1]["members"][2]
    elif change == "rename":
        crm.lists[1]["name"] = "Very important"
    else:
        del crm.lists[1]
    events = read(crm, cursor(first), "_lists")
    assert any(isinstance(e, Resync) for e in events)
    assert len(keys(events)) == 7
    now = {"leave": [], "rename": ["Very important"], "delete": []}[change]
    assert fields(events, "2") == {"_lists": now}


def test_a_list_of_another_object_is_no_list_of_contacts(crm: HubSpot) -> None:
    """Companies have ids of their own, which are those of some contacts too."""
    crm.join("Companies", 3)
    crm.lists[1]["type"] = "0-2"
    crm.join("VIP", 4)
    events = read(crm, None, "_lists")
    assert fields(events, "3") == {"_lists": []}
    assert fields(events, "4") == {"_lists": ["VIP"]}


def test_two_lists_of_one_name_are_one_name(crm: HubSpot) -> None:
    crm.join("VIP", 3)
    crm.lists[2] = {"name": "VIP", "members": dict(crm.lists[1]["members"])}
    assert fields(read(crm, None, "_lists"), "3") == {"_lists": ["VIP"]}


def test_a_new_list_is_read_with_everybody_who_is_in_it(crm: HubSpot) -> None:
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm, None, "_lists")
    crm.clock.advance_s(3600)
    crm.join("New", 2)
    crm.join("New", 6)
    events = read(crm, cursor(first), "_lists")
    assert not any(isinstance(e, Resync) for e in events)
    assert keys(events) == ["7", "2", "6"]


def test_many_who_joined_just_now_make_no_endless_cursor(
    crm: HubSpot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.hubspot.lists.RECENT_MAX", 3)
    for key in range(1, 6):
        crm.join("Many", key)
    for key in (1, 2):
        crm.join("Few", key)
    first = read(crm, None, "_lists")
    assert cursor(first).count('"digest":""') == 1
    assert '"recent":[1,2]' in cursor(first)
    crm.clock.advance_s(3600)
    second = read(crm, cursor(first), "_lists")
    assert any(isinstance(e, Resync) for e in second)
    crm.clock.advance_s(3600)
    assert not any(isinstance(e, Resync) for e in read(crm, cursor(second), "_lists"))


def test_a_member_that_was_merged_away_does_not_bring_the_winner_twice(crm: HubSpot) -> None:
    """The list still names the loser; asked for by its id, HubSpot answers with the winner."""
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm, None, "_lists")
    crm.clock.advance_s(3600)
    crm.join("VIP", 1)
    crm.merge(1, 2)
    events = read(crm, cursor(first), "_lists")
    assert keys(events) == ["2", "7"]


def test_lists_that_nobody_asked_for_by_name_may_be_hidden(crm: HubSpot) -> None:
    crm.join("VIP", 1)
    crm.scopes -= {"crm.lists.read", "crm.objects.owners.read", "crm.objects.companies.read"}
    crm.put(1, associatedcompanyid="9", hubspot_owner_id="77")
    events = list(connector(crm).read(Request()))
    assert len(keys(events)) == 7
    assert not {"_lists", "_company", "_owner"} & set(fields(events, "1"))


def test_who_is_in_a_list_is_found_on_wide_and_on_narrow_pages(crm: HubSpot) -> None:
    """Ids of one page may lie close together, or far apart with thousands of members between."""
    for key in [*range(1, 500), 10_000, 20_000]:
        crm.put(key, email=f"p{key}@example.com")
    for key in [*range(2, 9_000, 2), 20_000]:
        crm.lists.setdefault(1, {"name": "Even", "members": {}})["members"][key] = crm.now()
    events = read(crm, None, "_lists")
    found = {int(key) for key in keys(events) if fields(events, key)["_lists"]}
    assert found == {*range(2, 500, 2), 20_000}
