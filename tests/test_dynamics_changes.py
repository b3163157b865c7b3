"""Dynamics 365 against its double: what an incremental read sees by change tracking, and without it."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.dynamics import Dynamics, gid, problem
from doubles.server import Told
from dynamics_org import (
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
    stamp,
)

from connectors.dynamics import tracking
from syncd.connector import Event, Record
from syncd.errors import SourceError

EVERY_WAY = ("tracked", "by time")


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dynamics]:
    with org_of_seven(monkeypatch) as double:
        yield double


@pytest.fixture(params=EVERY_WAY)
def either(org: Dynamics, request: pytest.FixtureRequest) -> Dynamics:
    """With change tracking, and without."""
    if request.param == "by time":
        org.tracked = set()
    return org


def later(org: Dynamics) -> None:
    org.clock.advance_s(HOUR_S)


# By change tracking


def test_changes_and_deletions_are_told(org: Dynamics) -> None:
    first = read(org)
    later(org)
    org.put("contact", 2, emailaddress1="new@example.com")
    org.put("contact", 8, emailaddress1="p8@example.com")
    org.delete("contact", 3)
    second = read(org, cursor(first))
    assert keys(second) == [IDS[1], gid("contact", 8)]
    assert fields(second, IDS[1]) == {"emailaddress1": "new@example.com"}
    assert gone(second) == [(IDS[2], "deleted")]
    third = read(org, cursor(second))
    assert (keys(third), gone(third), resync(third)) == ([], [], "")


@pytest.mark.parametrize("silent", [False, True])
def test_nothing_new_is_no_end_of_the_token(org: Dynamics, *, silent: bool) -> None:
    """Without changes Dataverse may answer with an empty object, and so with no new token."""
    org.silent = silent
    events = read(org)
    for _ in range(3):
        later(org)
        events = read(org, cursor(events))
        assert (keys(events), resync(events)) == ([], "")
    org.put("contact", 2, firstname="New")
    assert keys(read(org, cursor(events))) == [IDS[1]]


def test_parts_of_rows_in_a_delta_are_read_whole(org: Dynamics) -> None:
    first = read(org)
    org.partial = True
    org.put("contact", 2, firstname="New")
    second = read(org, cursor(first), "emailaddress1", "firstname", "_opted_out")
    assert fields(second, IDS[1]) == {
        "emailaddress1": "p2@example.com", "firstname": "New", "_opted_out": False,
    }  # fmt: skip


def test_both_spellings_of_a_deletion_are_understood(org: Dynamics) -> None:
    events = read(org)
    for number, org.annotation_removed in ((2, True), (3, False)):
        org.delete("contact", number)
        events = read(org, cursor(events))
        assert gone(events) == [(gid("contact", number), "deleted")]


def test_who_only_left_the_listing_and_is_there_is_not_gone(org: Dynamics) -> None:
    """OData's reason "changed" says no more than that."""
    first = read(org)
    org.reason, org.annotation_removed = "changed", True
    org.delete("contact", 2)
    kept = org.tables["contact"][IDS[2]]
    org.delete("contact", 3)
    org.tables["contact"][IDS[2]] = kept
    second = read(org, cursor(first))
    assert (keys(second), gone(second)) == ([IDS[2]], [(IDS[1], "deleted")])


def test_a_row_made_again_with_its_old_id_is_there(org: Dynamics) -> None:
    first = read(org)
    org.delete("contact", 3)
    org.put("contact", 3, emailaddress1="p3@example.com")
    second = read(org, cursor(first))
    assert (keys(second), gone(second)) == ([IDS[2]], [])


def test_a_delta_of_many_pages_is_read_to_its_end(org: Dynamics) -> None:
    for number in range(1, 41):
        org.put("contact", number, emailaddress1=f"p{number}@example.com")
    first = read(org)
    later(org)
    for number in range(1, 36):
        org.put("contact", number, firstname="New")
    for number in range(24, 41):
        org.delete("contact", number)
    org.rows_max = 10
    second = read(org, cursor(first))
    assert keys(second) == [gid("contact", number) for number in range(1, 24)]
    assert gone(second) == [(gid("contact", number), "deleted") for number in range(24, 41)]


@pytest.mark.parametrize("token_at", ["start", "end"])
def test_what_changes_during_a_read_is_in_this_or_the_next_one(
    org: Dynamics, token_at: str
) -> None:
    """Nobody says whether a token stands for the beginning of its listing or for its end; both must do."""
    for number in range(1, 41):
        org.put("contact", number, emailaddress1=f"p{number}@example.com", firstname="Old")
    org.rows_max, org.token_at = 10, token_at
    changed, deleted = set[str](), set[str]()

    def touch(asked: Any) -> None:
        if asked.path.endswith("/contacts"):
            org.clock.advance_s(2)
            number = 1 + len(changed)
            changed.add(org.put("contact", number, firstname="New"))
            if len(deleted) < 5:
                deleted.add(gid("contact", 40 - len(deleted)))
                org.delete("contact", 40 - len(deleted) + 1)

    events: list[Event] = []
    found: dict[str, Any] = {}
    place = None
    for _ in range(3):
        org.before_answer = touch
        events = read(org, place, "firstname")
        org.before_answer = lambda asked: None
        place = cursor(events)
        assert len(keys(events)) == len(set(keys(events)))
        found |= {e.key: e.fields["firstname"] for e in events if isinstance(e, Record)}
        for key, _ in gone(events):
            found.pop(key, None)
    for key, _ in gone(last := read(org, place, "firstname")):
        found.pop(key, None)
    found |= {e.key: e.fields["firstname"] for e in last if isinstance(e, Record)}
    alive = org.tables["contact"]
    assert found == {key: row["firstname"] for key, row in alive.items()}
    assert len(changed) > 10
    assert len(deleted) == 5


@pytest.mark.parametrize(
    "answer",
    [(400, "0x80044352"), (410, ""), (500, "0x80044352"), (400, "0x80060888"), (404, "x")],
)
def test_a_dead_token_reads_everything(org: Dynamics, answer: tuple[int, str]) -> None:
    """Whatever status and code it comes with: the metadata has changed, or days have passed."""
    first = read(org)
    org.token_days, org.expired = (
        2,
        (*answer, "Version stamp has expired. Please perform a full sync."),
    )
    org.clock.advance_s(3 * DAY_S)
    second = read(org, cursor(first))
    assert "are not told any more" in resync(second)
    assert keys(second) == IDS
    assert (keys(third := read(org, cursor(second))), resync(third)) == ([], "")


def test_a_token_of_more_than_seven_days_is_not_believed(org: Dynamics) -> None:
    """Older changes may be dropped, and perhaps without a word."""
    first = read(org)
    org.token_days = 999
    org.clock.advance_s(7 * DAY_S + HOUR_S)
    second = read(org, cursor(first))
    assert "more than 7 days" in resync(second)
    assert keys(second) == IDS


def test_a_delta_of_too_much_reads_everything(
    org: Dynamics, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(org)
    monkeypatch.setattr(tracking, "ROWS_MAX", 3)
    for number in (1, 2, 3, 4):
        org.put("contact", number, firstname="New")
    assert "more than 3 rows" in resync(read(org, cursor(first)))


def test_a_lost_right_to_track_is_no_end(org: Dynamics) -> None:
    first = read(org)
    org.organization = False
    second = read(org, cursor(first))
    assert "not told any more" in resync(second)
    org.put("contact", 2, firstname="New")
    assert IDS[1] in keys(third := read(org, cursor(second)))
    assert resync(third) == ""


@pytest.mark.parametrize("cursor_text", ["?", '{"v":0}', '{"v":1,"at":"2026-01-01T00:00:00Z"}'])
def test_a_cursor_of_no_use_reads_everything(org: Dynamics, cursor_text: str) -> None:
    events = read(org, cursor_text)
    assert resync(events) == "the cursor is of no use"
    assert keys(events) == IDS


def test_a_cursor_of_other_tables_reads_everything(org: Dynamics) -> None:
    first = read(org)
    assert resync(read(org, cursor(first), tables=BOTH)) == "the cursor is of other tables"


def test_the_cursor_holds_neither_host_nor_secret(org: Dynamics) -> None:
    org.put("contact", 1, emailaddress1="ann@example.com")
    text = cursor(read(org))
    assert "127.0.0.1" not in text
    assert "access-" not in text
    assert "example.com" not in text


def test_a_delta_link_to_elsewhere_is_no_read(org: Dynamics) -> None:
    for link in ("https://elsewhere.example.com/api/data/v9.2/contacts?$deltatoken=1",
                 f"{org.url}/api/data/v9.2/contacts?$select=contactid"):  # fmt: skip
        org.asked.clear()
        org.faults = [None, None, None, Told(200, {"value": [], "@odata.deltaLink": link})]
        with pytest.raises(SourceError, match=r"outside of base_url|without \$deltatoken"):
            read(org)


# Without change tracking


@pytest.mark.parametrize("cause", ["table", "right", "refused", "no link"])
def test_without_tracking_changes_are_asked_for_by_time(org: Dynamics, cause: str) -> None:
    if cause == "table":
        org.tracked = set()
    org.organization = cause != "right"
    if cause == "refused":
        org.faults = [None, None, None, problem(501, "0x80060888", "Not implemented")]
    if cause == "no link":
        org.faults = [None, None, None, Told(200, {"value": []})]
    first = read(org)
    assert keys(first) == IDS
    later(org)
    org.put("contact", 2, firstname="New")
    org.delete("contact", 3)
    later(org)
    second = read(org, cursor(first))
    assert IDS[1] in keys(second)
    assert (gone(second), resync(second)) == ([], "")
    assert "deltatoken" not in cursor(second)


@pytest.mark.parametrize("minutes", [5, 10])
def test_a_change_that_was_committed_late_is_in_the_overlap(org: Dynamics, minutes: int) -> None:
    org.tracked = set()
    first = read(org)
    later(org)
    org.put("contact", 2, firstname="New")
    second = read(org, cursor(first))
    assert IDS[1] in keys(second)
    org.put("contact", 3, firstname="Late")
    stamp(org, "contact", 3, minutes_ago=minutes)
    assert IDS[2] in keys(read(org, cursor(second)))


def test_the_cursor_is_the_latest_change_that_was_seen(org: Dynamics) -> None:
    """And not the time of the read: a long transaction may end half an hour after its stamp."""
    org.tracked = set()
    first = read(org)
    org.put("contact", 3, firstname="Late")
    stamp(org, "contact", 3, minutes_ago=30)
    assert IDS[2] in keys(read(org, cursor(first)))


def test_a_change_in_the_last_second_of_a_read_is_not_lost(org: Dynamics) -> None:
    org.tracked = set()
    first = read(org)
    org.put("contact", 2, firstname="New")
    for number in range(3):
        second = read(org, cursor(first), "firstname")
        org.put("contact", 3, firstname=f"New {number}")
        third = read(org, cursor(second), "firstname")
        assert fields(third, IDS[2])["firstname"] == f"New {number}"


def test_an_old_import_is_not_read_for_ever(org: Dynamics) -> None:
    org.tracked = set()
    events = read(org)
    assert set(keys(events)) == set(IDS)
    for _ in range(2):
        org.clock.advance_s(2 * DAY_S)
        events = read(org, cursor(events))
    assert keys(events) == []


# Either way


def test_who_becomes_inactive_is_archived_and_comes_back(either: Dynamics) -> None:
    first = read(either)
    later(either)
    either.put("contact", 2, statecode=1)
    second = read(either, cursor(first))
    assert gone(second) == [(IDS[1], "archived")]
    assert IDS[1] not in keys(second)
    later(either)
    either.put("contact", 2, statecode=0)
    assert IDS[1] in keys(read(either, cursor(second)))


def test_merged_people_are_told_with_the_one_that_is_left(either: Dynamics) -> None:
    first = read(either)
    later(either)
    either.merge("contact", 1, 2)
    either.merge("contact", 2, 3)
    second = read(either, cursor(first))
    assert merged(second) == [(IDS[0], IDS[2]), (IDS[1], IDS[2])]
    assert IDS[2] in keys(second)
    assert not {IDS[0], IDS[1]} & set(keys(second))
    assert gone(second) == []


def test_the_winner_of_a_merge_comes_with_it(either: Dynamics) -> None:
    """Also where only the loser counts as changed."""
    later(either)
    first = read(either)
    later(either)
    later(either)
    either.put("contact", 1, statecode=1, merged=True, _masterid_value=IDS[1].upper())
    second = read(either, cursor(first))
    assert merged(second) == [(IDS[0], IDS[1])]
    assert IDS[1] in keys(second)


def test_a_lead_that_is_qualified_becomes_its_contact(either: Dynamics) -> None:
    leads = [
        either.put("lead", number, emailaddress1=f"l{number}@example.com") for number in (1, 2, 3)
    ]
    first = read(either, tables=BOTH)
    assert keys(first) == [*leads, *IDS]
    later(either)
    for number in (1, 2):
        either.put("lead", number, statecode=1)
    either.put("lead", 3, statecode=2)
    contact = either.put("contact", 8, _originatingleadid_value=leads[0])
    second = read(either, cursor(first), tables=BOTH)
    assert contact in keys(second)
    assert merged(second) == [(leads[0], contact)]
    # Qualified without a contact of its own, and disqualified.
    assert sorted(gone(second)) == [(leads[1], "archived"), (leads[2], "archived")]


def test_further_addresses_go_with_their_person(either: Dynamics) -> None:
    for number in (1, 2, 3):
        either.put("contact", number, emailaddress2=f"q{number}@example.com")
    first = read(either, None, "emailaddress1", emails="all")
    assert len(keys(first)) == 10
    later(either)
    either.put("contact", 1, emailaddress2=None)
    either.put("contact", 2, statecode=1)
    either.merge("contact", 3, 4)
    second = read(either, cursor(first), emails="all")
    assert {f"{key}#2" for key in IDS[:3]} <= {key for key, _ in gone(second)}
    assert not {f"{key}#2" for key in IDS[:3]} & set(keys(second))


def test_a_company_that_changes_brings_its_people(either: Dynamics) -> None:
    account = either.put("account", 9, name="Example SA")
    either.put("contact", 2, _parentcustomerid_value=account)
    first = read(either, None, "_company")
    later(either)
    later(either)
    either.put("account", 9, name="Example AG")
    either.put("contact", 2, firstname="New")
    second = read(either, cursor(first), "_company")
    assert keys(second).count(IDS[1]) == 1
    assert fields(second, IDS[1])["_company"]["name"] == "Example AG"
    later(either)
    third = read(either, cursor(second), "_company")
    either.put("account", 9, name="Example Ltd")
    stamp(either, "account", 9, minutes_ago=10)
    fourth = read(either, cursor(third), "_company")
    assert fields(fourth, IDS[1])["_company"]["name"] == "Example Ltd"
