"""Salesforce against its double: what incremental reads see of changes, deletions, merges and conversions."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from doubles.salesforce import Salesforce, problem, sid
from doubles.server import Told
from salesforce_org import (
    BOTH,
    DAY_S,
    HOUR_S,
    IDS,
    cursor,
    fields,
    gone,
    keys,
    merged,
    org_of_seven,
    read,
    resync,
)  # fmt: skip


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    with org_of_seven(monkeypatch) as double:
        double.clock.advance_s(2 * DAY_S)
        yield double


# Changes


def test_only_what_was_changed_is_read(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    org.put("Contact", 3, FirstName="New")
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first), "FirstName")
    assert fields(second, IDS[2]) == {"FirstName": "New"}
    org.put("Contact", 4, FirstName="Newer")
    org.clock.advance_s(HOUR_S)
    third = read(org, cursor(second))
    assert keys(third) == [IDS[2], IDS[3]]  # 3 is within the overlap, which is harmless
    assert keys(read(org, cursor(third))) == [IDS[3]]
    assert not resync(third)


def test_what_becomes_visible_late_is_not_missed(org: Salesforce) -> None:
    org.lag_s = 300
    first = read(org)
    org.clock.advance_s(100)
    org.put("Contact", 3, FirstName="Late")
    org.clock.advance_s(100)
    org.put("Contact", 4, FirstName="Later")
    org.clock.advance_s(250)
    second = read(org, cursor(first))
    assert (IDS[2] in keys(second), IDS[3] in keys(second)) == (True, False)
    org.clock.advance_s(300)
    assert IDS[3] in keys(read(org, cursor(second)))


def test_the_overlap_can_be_longer(org: Salesforce) -> None:
    org.put("Contact", 1)
    first = read(org)
    changed = org.put("Contact", 2)
    org.tables["Contact"][changed]["SystemModstamp"] = "2026-01-03T09:35:00.000+0000"
    org.clock.advance_s(60)
    assert changed not in keys(read(org, cursor(first)))
    assert changed in keys(read(org, cursor(first), overlap_minutes=30))


def test_both_ends_of_the_overlap_belong_to_it(org: Salesforce) -> None:
    org.put("Contact", 1)
    first = read(org)
    changed = org.put("Contact", 2)
    org.tables["Contact"][changed]["SystemModstamp"] = "2026-01-03T09:50:00.000+0000"
    org.clock.advance_s(60)
    just_now = org.put("Contact", 3)
    assert set(keys(read(org, cursor(first)))) >= {changed, just_now}


def test_a_covered_time_before_the_last_one_leads_nobody_back(org: Salesforce) -> None:
    first = read(org)

    def alter(asked: Any, told: Told) -> Told:
        if "/deleted/" in asked.path:
            told.body["latestDateCovered"] = "2025-12-01T00:00:00.000+0000"
        return told

    org.alter = alter
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first))
    assert orjson.loads(cursor(second))["at"] == orjson.loads(cursor(first))["at"]


def test_thousands_with_one_stamp_are_all_read(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    for number in range(1, 4_101):
        org.put("Contact", number, Email=f"p{number}@example.com")
    org.clock.advance_s(1)
    assert keys(read(org, cursor(first))) == [sid("Contact", n) for n in range(1, 4_101)]


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(org: Salesforce) -> None:
    org.page_rows = 3
    for number in range(1, 31):
        org.put("Contact", number, FirstName="Old")
    first = read(org)
    org.clock.advance_s(HOUR_S)
    for number in range(1, 31):
        org.put("Contact", number, FirstName="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/queryAll"):
            org.clock.advance_s(5)
            for number in (1, 15, 29):
                org.put("Contact", number, FirstName="Newer")

    org.before_answer = touch
    second = read(org, cursor(first), "FirstName")
    org.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    org.clock.advance_s(60)
    third = read(org, cursor(second), "FirstName")
    shown = {
        key: fields(events, key)["FirstName"] for events in (second, third) for key in keys(events)
    }
    assert len(shown) == 30
    assert [shown[sid("Contact", n)] for n in (1, 15, 29)] == ["Newer"] * 3


def test_the_cursor_is_never_later_than_the_data_or_the_beginning(org: Salesforce) -> None:
    org.before_answer = lambda asked: org.clock.advance_s(60)
    parts = orjson.loads(cursor(read(org)))
    assert parts["since"] == {"Contact": "2026-01-01T10:00:00+00:00"}
    assert parts["at"] == "2026-01-03T10:02:00.000000Z"  # the answer before the first query


def test_a_quiet_org_is_not_taken_for_one_that_was_not_read(org: Salesforce) -> None:
    """Its latest change is older than the recycle bin, the last read is not."""
    first = read(org)
    for _ in range(4):
        org.clock.advance_s(10 * DAY_S)
        first = read(org, cursor(first))
        assert not resync(first)
    org.clock.advance_s(1)
    org.put("Contact", 1, FirstName="New")
    org.clock.advance_s(1)
    assert keys(read(org, cursor(first))) == [IDS[0]]  # and the old ones are not read for ever


def test_a_company_that_changes_brings_its_people(org: Salesforce) -> None:
    """Renaming an account does not change its contacts."""
    account = org.put("Account", 9, Name="Old SA")
    for number in (1, 2):
        org.put("Contact", number, AccountId=account)
    org.clock.advance_s(HOUR_S)
    org.put("Contact", 7)
    first = read(org, None, "_company")
    org.clock.advance_s(HOUR_S)
    org.put("Account", 9, Name="New SA")
    org.put("Contact", 2, FirstName="New")
    org.clock.advance_s(60)
    second = read(org, cursor(first), "_company")
    assert keys(second) == [
        IDS[1],
        IDS[6],
        IDS[0],
    ]  # each once, also who has changed with the company
    assert fields(second, IDS[0])["_company"]["name"] == "New SA"


def test_an_individual_who_opts_out_brings_the_person(org: Salesforce) -> None:
    person = org.put("Individual", 5)
    lead = org.put("Lead", 1, IndividualId=person)
    org.clock.advance_s(HOUR_S)
    org.put("Lead", 2)
    first = read(org, None, "_individual", objects=BOTH)
    org.clock.advance_s(HOUR_S)
    org.put("Individual", 5, HasOptedOutSolicit=True)
    org.clock.advance_s(60)
    found = read(org, cursor(first), "_individual", objects=BOTH)
    assert fields(found, lead)["_individual"]["HasOptedOutSolicit"] is True


# Deletions


def test_the_deleted_are_told(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    org.put("Contact", 2, FirstName="New")
    org.delete("Contact", IDS[1])
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first))
    assert gone(second) == [IDS[1]]
    assert IDS[1] not in keys(second)
    org.clock.advance_s(HOUR_S)
    assert gone(read(org, cursor(second))) == [
        IDS[1]
    ]  # it is the latest change: read again, harmlessly


def test_who_left_the_recycle_bin_already_is_told(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    org.delete("Contact", IDS[1])
    org.purge("Contact")
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first))
    assert gone(second) == [IDS[1]]
    assert not resync(second)


def test_a_deletion_that_does_not_move_the_stamp_is_told(org: Salesforce) -> None:
    """As it may be where an account takes its contacts along."""
    first = read(org)
    org.clock.advance_s(DAY_S)
    held = org.tables["Contact"][IDS[1]]["SystemModstamp"]
    org.delete("Contact", IDS[1])
    org.tables["Contact"][IDS[1]]["SystemModstamp"] = held
    org.clock.advance_s(HOUR_S)
    assert gone(read(org, cursor(first))) == [IDS[1]]


def test_who_was_deleted_and_came_back_is_there(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    held = org.tables["Contact"][IDS[1]]["SystemModstamp"]
    org.delete("Contact", IDS[1])
    org.tables["Contact"][IDS[1]] |= {"IsDeleted": False, "SystemModstamp": held}
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first))
    assert gone(second) == []
    assert IDS[1] in keys(second)


@pytest.mark.parametrize("late", ["cursor", "bin", "log", "too many"])
def test_what_cannot_be_shown_any_more_makes_everything_be_read(org: Salesforce, late: str) -> None:
    first = read(org)
    if late == "cursor":
        org.clock.advance_s(15 * DAY_S + 60)
    else:
        org.clock.advance_s(HOUR_S)
    if late == "bin":
        org.earliest = org.now()
    org.delete("Contact", IDS[1])
    org.purge("Contact")
    org.deletions["Contact"].clear()
    if late == "log":
        org.earliest = "2026-01-03T10:00:01.000+0000"
    if late == "too many":
        refused = problem(400, "EXCEEDED_ID_LIMIT", "exceeded id limit")
        org.alter = lambda asked, told: refused if "/deleted/" in asked.path else told
    second = read(org, cursor(first))
    words = {"cursor": "15 days", "too many": "EXCEEDED_ID_LIMIT"}.get(late, "deletions of Contact")
    assert words in resync(second)
    assert keys(second) == [IDS[0], *IDS[2:]]
    org.alter = lambda asked, told: told
    org.clock.advance_s(HOUR_S)
    assert not resync(read(org, cursor(second)))


def test_deletions_that_are_still_going_on_are_asked_for_again(org: Salesforce) -> None:
    """`latestDateCovered`: what began before and was not finished yet comes later, with its older time."""
    first = read(org)
    org.clock.advance_s(2 * HOUR_S)
    covered = "2026-01-03T11:00:00.000+0000"

    def alter(asked: Any, told: Told) -> Told:
        if "/deleted/" in asked.path:
            told.body["latestDateCovered"] = covered
        return told

    org.alter = alter
    second = read(org, cursor(first))
    org.alter = lambda asked, told: told
    org.clock.advance_s(HOUR_S)
    org.deletions["Contact"].append((IDS[1], "2026-01-03T11:05:00.000+0000"))
    org.tables["Contact"].pop(IDS[1])
    assert gone(read(org, cursor(second))) == [IDS[1]]


@pytest.mark.parametrize(
    "text", ["", "?", "[]", '{"v":0}', '{"v":1}', '{"v":1,"at":"x","since":{}}', '{"v":1,"at":"2026-01-03T10:00:00Z","since":{}}']
)  # fmt: skip
def test_a_cursor_of_no_use_is_a_resync(org: Salesforce, text: str) -> None:
    events = read(org, text)
    assert resync(events)
    assert keys(events) == IDS


def test_a_cursor_without_leads_is_of_no_use_for_leads(org: Salesforce) -> None:
    lead = org.put("Lead", 1, Email="l1@example.com")
    events = read(org, cursor(read(org)), objects=BOTH)
    assert resync(events) == "the cursor is of other objects"
    assert keys(events) == [lead, *IDS]


# Merges and conversions


def test_the_merged_are_told_with_who_is_left(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    org.merge("Contact", IDS[1], IDS[0])
    org.merge("Contact", IDS[0], IDS[3])
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first))
    assert set(merged(second)) == {(IDS[1], IDS[3]), (IDS[0], IDS[3])}
    assert gone(second) == []
    assert IDS[3] in keys(second)
    assert not {IDS[0], IDS[1]} & set(keys(second))


def test_the_winner_of_a_merge_is_read_also_where_its_stamp_did_not_move(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    org.delete("Contact", IDS[1], master=IDS[4])
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first))
    assert merged(second) == [(IDS[1], IDS[4])]
    assert IDS[4] in keys(second)


def test_a_merge_in_a_ring_does_no_harm(org: Salesforce) -> None:
    first = read(org)
    org.clock.advance_s(HOUR_S)
    org.merge("Contact", IDS[0], IDS[1])
    org.merge("Contact", IDS[1], IDS[0])
    org.clock.advance_s(HOUR_S)
    assert not {IDS[0], IDS[1]} & set(keys(read(org, cursor(first))))


def convert(org: Salesforce, lead: str, contact: str | None) -> None:
    org.put("Lead", lead[5:15], IsConverted=True, ConvertedContactId=contact)


@pytest.mark.parametrize("mode", ["on", "off"])
def test_a_converted_lead_is_merged_into_its_contact(org: Salesforce, mode: str) -> None:
    options: dict[str, Any] = {"objects": BOTH, "bulk": mode}
    leads = [org.put("Lead", number, Email=f"l{number}@example.com") for number in (1, 2, 3)]
    first = read(org, **options)
    assert keys(first) == [*leads, *IDS]
    org.clock.advance_s(HOUR_S)
    convert(org, leads[0], IDS[4])
    convert(org, leads[1], None)
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first), **options)
    assert merged(second) == [(leads[0], IDS[4])]
    assert gone(second) == [leads[1]]
    assert set(keys(second)) >= {leads[2], IDS[4]}
    assert not {leads[0], leads[1]} & set(keys(second))
    full = read(org, **options)
    assert keys(full) == [leads[2], *IDS]
    assert merged(full) == [(leads[0], IDS[4])]


def test_a_converted_lead_is_gone_where_contacts_are_not_read(org: Salesforce) -> None:
    leads = [org.put("Lead", number) for number in (1, 2)]
    first = read(org, objects=["Lead"])
    org.clock.advance_s(HOUR_S)
    convert(org, leads[0], IDS[4])
    org.clock.advance_s(HOUR_S)
    second = read(org, cursor(first), objects=["Lead"])
    assert (gone(second), merged(second)) == ([leads[0]], [])
    full = read(org, objects=["Lead"])
    assert (keys(full), merged(full)) == ([leads[1]], [])


def test_what_holds_for_a_lead_is_handed_on_along_its_way(org: Salesforce) -> None:
    """Merged into another lead, which became a contact, which was merged: in this order."""
    leads = [org.put("Lead", number) for number in (1, 2)]
    first = read(org, objects=BOTH)
    org.clock.advance_s(HOUR_S)
    org.merge("Lead", leads[1], leads[0])
    convert(org, leads[0], IDS[0])
    org.merge("Contact", IDS[0], IDS[1])
    org.clock.advance_s(HOUR_S)
    way = [(leads[1], leads[0]), (leads[0], IDS[0]), (IDS[0], IDS[1])]
    assert [one for one in merged(read(org, cursor(first), objects=BOTH)) if one in way] == way
    assert merged(read(org, objects=BOTH)) == way
