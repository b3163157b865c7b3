"""What an incremental read of Pipedrive sees: updates, and what updates nobody: names, statuses, members."""

import json
from typing import Any

import pytest
from doubles.pipedrive import Pipedrive
from doubles.server import Told
from pipedrive_reads import connector, crm_fixture, cursor, fields, keys, read

from syncd.connector import Merged, Record, Request, Resync, Tombstone
from syncd.errors import SourceError

__all__ = ["crm_fixture"]


def test_only_what_was_updated_is_read(crm: Pipedrive) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(3, first_name="New")
    second = read(crm, cursor(first), "first_name")
    assert keys(second) == ["3", "5"]  # 5 is within the overlap
    crm.clock.advance_s(3600)
    assert keys(read(crm, cursor(second))) == ["3"]


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(crm: Pipedrive) -> None:
    for key in range(1, 1_201):
        crm.put(key, f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 1_201):
        crm.put(key, first_name="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/persons"):
            crm.clock.advance_s(2)
            for key in (1, 600, 1_199):
                crm.put(key, first_name="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "first_name")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "first_name")
    shown = {e.key: e.fields["first_name"] for e in [*second, *third] if isinstance(e, Record)}
    assert len(shown) == 1_200
    assert [shown[key] for key in ("1", "600", "1199")] == ["Newer"] * 3


@pytest.mark.parametrize("listed", [False, True])
def test_deleted_persons_never_come_as_records(crm: Pipedrive, listed: bool) -> None:
    crm.shows_deleted, crm.recents = listed, "gone"
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete(3)
    events = read(crm, cursor(first))
    assert "3" not in keys(events)
    assert (Tombstone("3") in events) is listed
    assert keys(read(crm)) == ["1", "2", "4", "5"]


@pytest.mark.parametrize("words", ["flag", "null"])
def test_the_log_of_recent_changes_tells_who_was_deleted(crm: Pipedrive, words: str) -> None:
    """Of which nobody says how it does: so whoever it may mean is asked for by id."""
    crm.recents = words
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete(3)
    for key in (1, 4, 5):
        crm.put(key, first_name="New")
    second = read(crm, cursor(first))
    assert [e.key for e in second if isinstance(e, Tombstone)] == ["3"]
    assert keys(second) == ["1", "4", "5"]
    crm.clock.advance_s(3600)
    third = read(crm, cursor(second))
    crm.clock.advance_s(3600)
    assert not [e for e in read(crm, cursor(third)) if isinstance(e, Tombstone)]


def test_who_is_said_to_be_deleted_and_is_there_is_not_gone(crm: Pipedrive) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete(3)
    answer = crm.answer

    def restored(asked: Any) -> Told:
        told = answer(asked)
        if asked.path.endswith("/recents"):
            crm.persons[3]["is_deleted"] = False
        return told

    crm.answer = restored  # type: ignore[method-assign]
    second = read(crm, cursor(first))
    assert not [e for e in second if isinstance(e, Tombstone)]
    assert "3" in keys(second)


@pytest.mark.parametrize("named_by", ["winner", "loser"])
def test_a_merge_is_told_whichever_of_the_two_names_the_other(
    crm: Pipedrive, named_by: str
) -> None:
    crm.merge_named_by = named_by
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.merge(2, 3)
    crm.merge(3, 4)
    events = read(crm, cursor(first))
    assert {e for e in events if isinstance(e, Merged)} == {Merged("2", "4"), Merged("3", "4")}
    assert {e.key for e in events if isinstance(e, Tombstone)} == {"2", "3"}
    whole = read(crm)  # else an opt-out would be lost whenever the daily full read comes first
    assert {e for e in whole if isinstance(e, Merged)} == {Merged("2", "4"), Merged("3", "4")}
    assert keys(whole) == ["1", "4", "5"]


def test_without_the_log_the_full_read_finds_who_is_gone(crm: Pipedrive) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete(3)
    crm.denied = {"/api/v1/recents"}
    assert not [e for e in read(crm, cursor(first)) if isinstance(e, Tombstone)]
    assert keys(read(crm)) == ["1", "2", "4", "5"]


def test_a_filter_that_has_other_members_makes_everything_be_read(crm: Pipedrive) -> None:
    """Who joins a filter did not change."""
    crm.filters = {"Warm": {1, 2}, "Others": {3}}
    first = read(crm, None, "_lists", filters=["Warm"])
    assert [fields(first, key)["_lists"] for key in ("1", "2", "3")] == [["Warm"], ["Warm"], []]
    crm.clock.advance_s(3600)
    crm.filters["Others"].add(4)
    second = read(crm, cursor(first), "_lists", filters=["Warm"])
    assert not any(isinstance(e, Resync) for e in second)
    crm.filters["Warm"].remove(1)
    third = read(crm, cursor(second), "_lists", filters=["Warm"])
    assert any(isinstance(e, Resync) for e in third)
    assert len(keys(third)) == 5
    assert fields(third, "1")["_lists"] == []
    with pytest.raises(SourceError, match="no filter 'Wram'"):
        read(crm, None, "_lists", filters=["Wram"])


@pytest.mark.parametrize("moves", [False, True])
def test_an_unsubscribing_is_seen_whether_or_not_it_updates_the_person(
    crm: Pipedrive, moves: bool
) -> None:
    """Nobody says whether it does: so everybody's status is compared in each read."""
    crm.clock.advance_s(3600)
    text = cursor(read(crm, None, "_opted_out"))
    crm.clock.advance_s(7200)
    if moves:
        crm.put(1, marketing_status="unsubscribed")
    else:
        crm.persons[1]["marketing_status"] = "unsubscribed"
    crm.clock.advance_s(7200)
    assert fields(read(crm, text, "_opted_out"), "1") == {"_opted_out": True}
    crm.persons[1]["marketing_status"] = "no_consent"
    crm.clock.advance_s(3600)
    first = read(crm, None, "marketing_status")
    crm.clock.advance_s(7200)
    crm.put(4, first_name="New")
    if moves:
        crm.put(2, marketing_status="unsubscribed")
    else:
        crm.persons[2]["marketing_status"] = "unsubscribed"
    crm.clock.advance_s(7200)
    second = read(crm, cursor(first), "marketing_status")
    assert fields(second, "2") == {"marketing_status": "unsubscribed"}
    assert {"1", "3"}.isdisjoint(keys(second))
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second), "marketing_status")
    assert keys(third) == []
    crm.persons[2]["marketing_status"] = "subscribed"
    assert fields(read(crm, cursor(third), "marketing_status"), "2") == {
        "marketing_status": "subscribed"
    }


def test_a_status_that_changes_during_a_read_is_seen_by_the_next(crm: Pipedrive) -> None:
    first = read(crm, None, "marketing_status")
    crm.clock.advance_s(7200)
    crm.put(3, first_name="New")
    crm.clock.advance_s(7200)

    def unsubscribe(asked: Any) -> None:
        if asked.path.endswith("/persons") and "updated_since" not in asked.query:
            crm.persons[3]["marketing_status"] = "unsubscribed"  # 3 was told in the page before

    crm.before_answer = unsubscribe
    second = read(crm, cursor(first), "marketing_status")
    assert fields(second, "3") == {"marketing_status": "no_consent"}
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second), "marketing_status")
    assert fields(third, "3") == {"marketing_status": "unsubscribed"}


def test_statuses_that_a_cursor_does_not_hold_make_everything_be_read(crm: Pipedrive) -> None:
    held = json.loads(cursor(read(crm, None, "marketing_status")))
    for statuses in (None, 7, {"no_consent": "?"}):
        events = read(crm, json.dumps({**held, "statuses": statuses}), "marketing_status")
        assert any(isinstance(event, Resync) for event in events)
        assert len(keys(events)) == 5


@pytest.mark.parametrize("count", [1, 60])
def test_an_organization_that_is_renamed_brings_its_persons(crm: Pipedrive, count: int) -> None:
    """It does not touch them. With many, all persons are listed instead of one organization's after the other."""
    for key in range(1, count + 2):
        crm.put_organization(key, name="Old")
    crm.put(2, org_id=1)
    crm.put(4, org_id=count + 1)
    crm.clock.advance_s(7200)
    first = read(crm, None, "_company")
    crm.clock.advance_s(7200)
    for key in range(1, count + 1):
        crm.put_organization(key, name="New")
    before = len(crm.asked)
    crm.clock.advance_s(600)
    second = read(crm, cursor(first), "_company")
    assert keys(second) == ["2"]
    assert fields(second, "2")["_company"]["name"] == "New"
    assert len(crm.asked) - before <= 6
    crm.clock.advance_s(7200)
    assert keys(read(crm, cursor(second), "_company")) == []


def test_a_label_or_an_owner_that_is_renamed_makes_everybody_be_read(crm: Pipedrive) -> None:
    crm.users = [{"id": 7, "name": "Olga O.", "email": "o@example.com", "last_login": "x"}]
    crm.put(1, label_ids=[1])
    first = read(crm, None, "_tags", "_owner")
    crm.labels[3] = "New"  # nobody has it yet
    crm.users.append({"id": 8, "name": "New", "email": "new@example.com"})
    crm.users[0]["last_login"] = "y"
    second = read(crm, cursor(first), "_tags", "_owner")
    assert not any(isinstance(event, Resync) for event in second)
    crm.labels[1] = "Very hot"
    third = read(crm, cursor(second), "_tags", "_owner")
    assert any(isinstance(event, Resync) for event in third)
    assert fields(third, "1")["_tags"] == ["Very hot"]
    crm.users[0]["email"] = "olga@example.com"
    fourth = read(crm, cursor(third), "_tags", "_owner")
    assert fields(fourth, "5")["_owner"]["email"] == "olga@example.com"
    crm.labels[1] = "Hot"
    assert not any(isinstance(event, Resync) for event in read(crm, cursor(read(crm)), "_email"))


def test_an_import_that_came_last_is_not_read_again_for_ever(crm: Pipedrive) -> None:
    crm.clock.advance_s(3600)
    for key in range(1, 101):
        crm.put(key, f"p{key}@example.com")
    first = read(crm)
    second = read(crm, cursor(first))
    assert len(keys(second)) == 100  # a change may be shown late
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second))
    crm.clock.advance_s(600)
    assert keys(read(crm, cursor(third))) == []


def test_a_change_that_is_shown_late_is_read(crm: Pipedrive) -> None:
    first = read(crm)
    crm.clock.advance_s(7200)
    second = read(crm, cursor(first))
    crm.put(2, first_name="Late")
    late = crm.persons[2]["update_time"]
    crm.clock.advance_s(240)
    crm.put(2, first_name="Late")
    crm.persons[2]["update_time"] = "2020-01-01T00:00:00Z"  # not shown yet
    crm.put(3, first_name="New")
    third = read(crm, cursor(second), "first_name")
    assert "2" not in keys(third)
    crm.persons[2]["update_time"] = late
    assert "2" in keys(read(crm, cursor(third), "first_name"))


@pytest.mark.parametrize("told_by", ["listing", "log"])
def test_all_addresses_of_a_deleted_person_go(crm: Pipedrive, told_by: str) -> None:
    crm.shows_deleted, crm.recents = (
        told_by == "listing",
        "gone" if told_by == "listing" else "flag",
    )
    entries = [{"value": "a@example.com", "primary": True}, {"value": "b@example.com"}]
    crm.put(1, emails=entries)
    first = read(crm, emails="all")
    given = [key for key in keys(first) if key.startswith("1")]
    assert len(given) == 2
    crm.clock.advance_s(3600)
    crm.delete(1)
    events = read(crm, cursor(first), emails="all")
    told = {e.key for e in events if isinstance(e, Tombstone)}
    assert set(given) <= told


def test_filters_are_named_unmistakably_and_not_guessed(crm: Pipedrive) -> None:
    assert "_lists" not in fields(list(connector(crm).read(Request())), "1")  # none was asked for
    crm.filters = {"Warm": {1}, "Cold": {2}}
    assert connector(crm, filters=["Warm"]).check() == "Pipedrive: persons can be read"
    with pytest.raises(SourceError, match="no filter 'Wram'"):
        connector(crm, filters=["Wram"]).check()
    two = {"success": True, "data": [{"id": 1, "name": "Warm"}, {"id": 2, "name": "Warm"}]}
    crm.faults = [None, Told(200, two)]
    with pytest.raises(SourceError, match="2 filters 'Warm'"):
        read(crm, None, "_lists", filters=["Warm"])
