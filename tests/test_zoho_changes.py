"""What an incremental read of Zoho sees: modified, deleted, restored; and what modifies nobody: opt-outs, names, members."""

import json
from typing import Any

import pytest
from doubles.zoho import Zoho
from zoho_reads import crm_fixture, cursor, fields, keys, read

from connectors.zoho import listing, vendor
from syncd.connector import Record, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError

__all__ = ["crm_fixture"]


def test_only_what_was_modified_is_read_and_304_is_nothing(crm: Zoho) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(3, First_Name="New")
    second = read(crm, cursor(first), "First_Name")
    assert keys(second) == ["3", "5"]  # 5 is within the overlap
    third = read(crm, cursor(second))
    assert keys(third) == ["3"]
    crm.records[3]["Modified_Time"] = "2020-01-01T00:00:00+05:30"
    assert keys(read(crm, cursor(third))) == []


def test_more_changes_than_tokens_reach_are_all_read(
    crm: Zoho, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import gives a hundred thousand records one time: they are told apart by their ids."""
    monkeypatch.setattr(listing, "TOKEN_ROWS_MAX", 400)
    crm.reach = 400
    first = read(crm)
    crm.clock.advance_s(7200)
    for key in range(1, 951):
        crm.put(key, Email=f"p{key}@example.com")
    crm.records[950]["Modified_Time"] = "2020-01-01T00:00:00+05:30"
    assert sorted(map(int, keys(read(crm, cursor(first))))) == list(range(1, 950))


def test_records_that_change_between_pages_are_neither_lost_nor_doubled(crm: Zoho) -> None:
    for key in range(1, 501):
        crm.put(key, Email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 501):
        crm.put(key, First_Name="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/Contacts"):
            crm.clock.advance_s(2)
            crm.put(499, First_Name="Newer")
            crm.put(2, First_Name="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "First_Name")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "First_Name")
    shown = {e.key: e.fields["First_Name"] for e in [*second, *third] if isinstance(e, Record)}
    assert len(shown) == 500
    assert [shown[key] for key in ("2", "499")] == ["Newer"] * 2


def test_deleted_records_are_tombstones_over_several_pages(crm: Zoho) -> None:
    for key in range(1, 451):
        crm.put(key, Email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 402):
        crm.delete(key)
    events = read(crm, cursor(first))
    assert sum(isinstance(e, Tombstone) for e in events) == 401
    assert Tombstone("401") in events


def test_a_deletion_during_a_read_hides_nobodys_change(crm: Zoho) -> None:
    for key in range(1, 501):
        crm.put(key, Email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 501):
        crm.put(key, First_Name="New")
    crm.clock.advance_s(600)

    def leave(asked: Any) -> None:
        if "page_token" in asked.query and 3 in crm.records:
            crm.delete(3)

    crm.before_answer = leave
    second = read(crm, cursor(first), "First_Name")
    assert set(keys(second)) >= {str(key) for key in range(1, 501) if key != 3}
    third = read(crm, cursor(second))
    assert Tombstone("3") in third


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize("count", [400, 401])
def test_more_deletions_than_zoho_shows_make_everything_be_read(
    crm: Zoho, monkeypatch: pytest.MonkeyPatch, refuses: bool, count: int
) -> None:
    """Whether this listing too ends at 2,000 rows, with an error or without one, nobody says."""
    monkeypatch.setattr(vendor, "NUMBERED_ROWS_MAX", 400)
    crm.deleted_reach, crm.refuses_beyond = 400, refuses
    for key in range(1, 451):
        crm.put(key, Email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, count + 1):
        crm.delete(key)
    events = read(crm, cursor(first))
    assert any(isinstance(event, Resync) for event in events)
    assert keys(events) == [str(key) for key in range(count + 1, 451)]


@pytest.mark.parametrize("kept", [False, True])
def test_a_restored_record_is_there_again(crm: Zoho, kept: bool) -> None:
    """Whether the listing of deletions still tells of it or not, and whether or not it counts as modified."""
    crm.keeps_restored = kept
    first = read(crm)
    crm.clock.advance_s(7200)
    row = crm.records[2]
    crm.delete(2)
    crm.put(2, **row)
    if kept:
        crm.records[2]["Modified_Time"] = row["Modified_Time"]
    events = read(crm, cursor(first))
    assert "2" in keys(events)
    assert Tombstone("2") not in events


def test_who_is_listed_no_more_is_gone(crm: Zoho) -> None:
    """Converted leads, and records that wait for approval: a full read does not show them either."""
    first = read(crm, module="Leads")
    crm.clock.advance_s(7200)
    crm.put(1, converted=True)
    crm.put(2, approved=False)
    events = read(crm, cursor(first), module="Leads")
    assert {event.key for event in events if isinstance(event, Tombstone)} == {"1", "2"}
    assert {"1", "2"}.isdisjoint(keys(events))


@pytest.mark.parametrize("reading", ["ignored", "refused"])
def test_a_question_that_is_not_heeded_makes_nobody_gone(crm: Zoho, reading: str) -> None:
    crm.approved_is = reading
    first = read(crm, module="Leads")
    crm.clock.advance_s(7200)
    crm.put(1, Title="New")
    events = read(crm, cursor(first), module="Leads")
    assert keys(events) == ["1", "5"]
    assert not any(isinstance(event, Tombstone) for event in events)


def test_the_secondary_address_goes_with_its_record_and_alone(crm: Zoho) -> None:
    for key in (1, 2, 3):
        crm.put(key, Secondary_Email=f"second{key}@example.org")
    first = read(crm, emails="all")
    crm.clock.advance_s(7200)
    crm.delete(1)
    crm.put(2, Secondary_Email=None)
    crm.put(3, Secondary_Email="other@example.org")
    events = read(crm, cursor(first), emails="all")
    gone = {event.key for event in events if isinstance(event, Tombstone)}
    assert {"1", "1#2", "2#2"} <= gone
    assert {"2", "3", "3#2"} <= set(keys(events))
    assert gone.isdisjoint(keys(events))


@pytest.mark.parametrize("moves", [False, True])
def test_an_opt_out_is_seen_whether_or_not_it_modifies_the_record(crm: Zoho, moves: bool) -> None:
    """Who clicks a link in a mail did not edit the record, and nobody says whether it counts as modified."""
    crm.records[4]["Email_Opt_Out"] = True
    crm.clock.advance_s(3600)
    first = read(crm, None, "Email_Opt_Out")
    crm.clock.advance_s(7200)
    if moves:
        crm.put(2, Email_Opt_Out=True)
    else:
        crm.records[2]["Email_Opt_Out"] = True
    crm.clock.advance_s(7200)
    second = read(crm, cursor(first), "Email_Opt_Out")
    assert fields(second, "2") == {"Email_Opt_Out": True}
    assert "4" not in keys(second)  # told before
    crm.clock.advance_s(7200)
    assert keys(read(crm, cursor(second), "Email_Opt_Out")) == []


def test_an_opt_out_during_a_read_is_seen_by_the_next(crm: Zoho) -> None:
    first = read(crm, None, "Email_Opt_Out")
    crm.clock.advance_s(7200)
    crm.put(3, First_Name="New")
    crm.clock.advance_s(7200)

    def opt_out(asked: Any) -> None:
        if asked.path.endswith("/coql"):
            crm.records[3]["Email_Opt_Out"] = True

    crm.before_answer = opt_out
    second = read(crm, cursor(first), "Email_Opt_Out")
    assert fields(second, "3") == {"Email_Opt_Out": False}
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second), "Email_Opt_Out")
    assert fields(third, "3") == {"Email_Opt_Out": True}


def test_opt_outs_that_may_not_be_asked_for_are_an_error(crm: Zoho) -> None:
    first = read(crm, None, "Email_Opt_Out")
    crm.denied = {"/crm/v8/coql"}
    with pytest.raises(SourceDenied, match=r"ZohoCRM\.coql\.READ"):
        read(crm, cursor(first), "Email_Opt_Out")
    assert keys(read(crm, cursor(first), "Email")) == ["5"]  # where no opt-out is in use


def test_an_account_that_is_renamed_brings_its_contacts(crm: Zoho) -> None:
    for key in range(1, 121):
        crm.put_account(key, Account_Name="Old")
    crm.put(2, Account_Name={"id": "1", "name": "Old"})
    crm.put(4, Account_Name={"id": "120", "name": "Old"})
    crm.put(5, Account_Name={"id": "60", "name": "Old"})
    crm.clock.advance_s(7200)
    first = read(crm, None, "_company")
    crm.clock.advance_s(7200)
    for key in range(1, 120):
        crm.put_account(key, Account_Name="New")
    crm.clock.advance_s(600)
    second = read(crm, cursor(first), "_company")
    assert keys(second) == ["2", "5"]
    assert fields(second, "2")["_company"]["name"] == "New"
    crm.clock.advance_s(7200)
    assert keys(read(crm, cursor(second), "_company")) == []


def test_a_tag_that_is_renamed_makes_everybody_be_read(crm: Zoho) -> None:
    crm.tags = {700: "vip"}
    crm.put(1, Tag=[{"name": "vip", "id": "700"}])
    first = read(crm, None, "_tags")
    crm.tags[701] = "new"  # nobody has it yet
    second = read(crm, cursor(first), "_tags")
    assert not any(isinstance(event, Resync) for event in second)
    crm.tags[700] = "VIP"
    crm.records[1]["Tag"] = [{"name": "VIP", "id": "700"}]
    third = read(crm, cursor(second), "_tags")
    assert any(isinstance(event, Resync) for event in third)
    assert fields(third, "1") == {"_tags": ["VIP"]}
    crm.denied = {"/crm/v8/settings/tags"}
    fourth = read(crm, cursor(third), "_tags")
    assert any(isinstance(event, Resync) for event in fourth)
    assert not any(isinstance(e, Resync) for e in read(crm, cursor(fourth), "_tags"))


def test_an_import_that_came_last_is_not_read_again_for_ever(crm: Zoho) -> None:
    crm.clock.advance_s(3600)
    for key in range(1, 101):
        crm.put(key, Email=f"p{key}@example.com")
    first = read(crm)
    second = read(crm, cursor(first))
    assert len(keys(second)) == 100  # a change may be shown late
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second))
    crm.clock.advance_s(600)
    assert keys(read(crm, cursor(third))) == []


def test_a_change_that_is_shown_late_is_read(crm: Zoho) -> None:
    first = read(crm)
    crm.clock.advance_s(7200)
    crm.put(2, First_Name="Late")
    late, crm.records[2]["Modified_Time"] = (
        crm.records[2]["Modified_Time"],
        "2020-01-01T00:00:00+05:30",  # not shown yet
    )
    crm.clock.advance_s(240)
    crm.put(3, First_Name="New")
    second = read(crm, cursor(first), "First_Name")
    assert "2" not in keys(second)
    crm.records[2]["Modified_Time"] = late
    assert "2" in keys(read(crm, cursor(second), "First_Name"))


def test_a_deletion_that_is_shown_late_is_told(crm: Zoho) -> None:
    first = read(crm)
    crm.clock.advance_s(7200)
    crm.delete(2)
    late = crm.deleted.pop(2)
    crm.clock.advance_s(240)
    second = read(crm, cursor(first))
    crm.deleted[2] = late
    assert Tombstone("2") in read(crm, cursor(second))


def test_a_quiet_account_is_not_read_whole_in_each_run(crm: Zoho) -> None:
    """The cursor's age is that of the last read, not of the last change."""
    first = read(crm)
    crm.clock.advance_s(40 * 86_400)
    second = read(crm, cursor(first))
    crm.clock.advance_s(40 * 86_400)
    third = read(crm, cursor(second))
    assert not any(isinstance(event, Resync) for event in [*second, *third])


def test_a_cursor_without_its_parts_reads_everything(crm: Zoho) -> None:
    held = json.loads(cursor(read(crm)))
    for part in ("since", "at", "opted_out", "tags"):
        for value in (None, "?", 7):
            crm.clock.advance_s(60)  # about one token a minute is handed out
            events = read(crm, json.dumps({**held, part: value}), "Email", "_tags")
            assert any(isinstance(event, Resync) for event in events)
            assert len(keys(events)) == 5


def test_a_cursor_older_than_the_recycle_bin_reads_everything(crm: Zoho) -> None:
    first = read(crm)
    crm.clock.advance_s(55 * 86_400)
    events = read(crm, cursor(first))
    assert any(isinstance(e, Resync) for e in events)
    assert len(keys(events)) == 5


def test_a_view_that_has_other_members_makes_everything_be_read(crm: Zoho) -> None:
    crm.views = {"Warm": {1, 2}, "Cold": {3}}
    first = read(crm, None, "_lists", views=["Warm"])
    assert [fields(first, key)["_lists"] for key in ("1", "3")] == [["Warm"], []]
    second = read(crm, cursor(first), "_lists", views=["Warm"])
    assert not any(isinstance(e, Resync) for e in second)
    crm.views["Warm"].remove(1)
    third = read(crm, cursor(second), "_lists", views=["Warm"])
    assert fields(third, "1")["_lists"] == []
    assert any(isinstance(e, Resync) for e in third)
    with pytest.raises(SourceError, match="no view 'Wram'"):
        read(crm, None, "_lists", views=["Wram"])
