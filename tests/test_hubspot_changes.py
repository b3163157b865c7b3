"""What an incremental read of HubSpot sees: changes with a late index, the archived, the merged, further addresses."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.server import Told
from hubspot_reads import (
    TOKEN,
    HubSpot,
    Merged,
    Record,
    Resync,
    Tombstone,
    cursor,
    fields,
    keys,
    read,
)

from syncd.errors import SourceDenied, SourceError


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpot]:
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot() as double:
        for key in range(1, 8):
            double.put(key, email=f"p{key}@example.com", firstname=f"P{key}", score=str(key * 10))
        yield double


SEARCHED = "POST /crm/v3/objects/contacts/search"


# Changes


def test_only_what_was_changed_is_read(crm: HubSpot) -> None:
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(3, firstname="New")
    second = read(crm, cursor(first), "firstname")
    assert keys(second) == ["3", "7"]  # 7 is within the overlap, which is harmless
    crm.clock.advance_s(3600)
    assert keys(read(crm, cursor(second))) == ["3"]


def test_what_the_search_shows_late_is_not_missed(crm: HubSpot) -> None:
    crm.lag_s = 300
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm)
    crm.clock.advance_s(100)
    crm.put(3, firstname="Late")
    crm.clock.advance_s(100)
    crm.put(4, firstname="Later")
    second = read(crm, cursor(first), "firstname")
    assert "3" not in keys(second)
    crm.clock.advance_s(301)
    assert {"3", "4"} <= set(keys(read(crm, cursor(second), "firstname")))


def test_the_search_is_not_believed_what_it_says_of_a_contact(crm: HubSpot) -> None:
    """Its index may still hold what was before the last read: a value would go back, and an opt-out with it."""
    crm.lag_s = 300
    crm.clock.advance_s(400)
    crm.put(3, firstname="Old")
    crm.clock.advance_s(301)
    crm.put(3, firstname="New", hs_email_optout="true")
    first = read(crm, None, "firstname", "hs_email_optout")
    crm.clock.advance_s(10)
    second = read(crm, cursor(first), "firstname", "hs_email_optout")
    assert fields(second, "3") == {"firstname": "New", "hs_email_optout": True}


def test_more_hits_with_one_time_than_a_search_shows_are_all_read(crm: HubSpot) -> None:
    """A search never pages past 10,000 hits (here 1,000), and a monthly job of HubSpot's own changes more at once."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.search_hits_max = 1_000
    for key in range(1, 1_302):
        crm.put(key, email=f"p{key}@example.com")
    events = read(crm, cursor(first))
    assert keys(events) == [str(key) for key in range(1, 1_302)]


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(crm: HubSpot) -> None:
    for key in range(1, 501):
        crm.put(key, email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 501):
        crm.put(key, firstname="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/search"):
            crm.clock.advance_s(5)
            for key in (1, 250, 499):
                crm.put(key, firstname="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "firstname")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "firstname")
    shown = {e.key: e.fields["firstname"] for e in [*second, *third] if isinstance(e, Record)}
    assert len(shown) == 500
    assert [shown[key] for key in ("1", "250", "499")] == ["Newer"] * 3


def test_a_search_that_does_not_keep_its_order_is_no_read(crm: HubSpot) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(2, firstname="x")
    rows = [{"id": "9", "properties": {}}, {"id": "3", "properties": {}}]
    crm.faults = [None, None, Told(200, {"results": rows})]
    with pytest.raises(SourceError, match="order of ids"):
        read(crm, cursor(first))


def test_the_same_page_again_is_no_read(crm: HubSpot) -> None:
    loop = {"results": [], "paging": {"next": {"after": "5"}}}
    crm.faults = [None, *[Told(200, loop)] * 3]
    with pytest.raises(SourceError, match="does not end"):
        read(crm)


# Deletions and merges


def test_archived_contacts_are_gone_also_while_the_search_still_shows_them(crm: HubSpot) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(2, firstname="x")
    crm.archive(2)
    row = {"id": "2", "properties": {"email": "p2@example.com", "hs_object_id": "2"}}
    crm.faults = [None, None, Told(200, {"results": [row]})]
    events = read(crm, cursor(first))
    assert Tombstone("2") in events
    assert keys(events) == []


def test_who_was_archived_long_ago_is_not_told_again(crm: HubSpot) -> None:
    crm.archive(2)
    crm.clock.advance_s(86_400)
    crm.put(3, firstname="x")
    first = read(crm)
    crm.clock.advance_s(86_400)
    assert [e for e in read(crm, cursor(first)) if isinstance(e, Tombstone)] == []


def test_merged_contacts_are_told_with_their_winner(crm: HubSpot) -> None:
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.merge(2, 1)
    crm.merge(3, 1)
    events = read(crm, cursor(first))
    assert Merged("2", "1") in events
    assert Merged("3", "1") in events
    assert keys(events) == ["1", "7"]


def test_a_loser_is_told_with_whoever_is_left_of_a_chain(crm: HubSpot) -> None:
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.merge(1, 2)
    crm.merge(2, 3)
    events = read(crm, cursor(first))
    assert {e for e in events if isinstance(e, Merged)} == {Merged("1", "3"), Merged("2", "3")}
    assert keys(events) == ["3", "7"]


def test_who_was_merged_into_somebody_who_is_archived_is_told(crm: HubSpot) -> None:
    """The winner is in no search, and nobody else knows that the loser is gone."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.merge(1, 2)
    crm.archive(2)
    events = read(crm, cursor(first))
    assert Merged("1", "2") in events
    assert Tombstone("2") in events
    assert events.index(Merged("1", "2")) < events.index(Tombstone("2"))


def test_a_merge_that_makes_a_new_contact_is_told_of_both(crm: HubSpot) -> None:
    """Who is left may have an id that nobody had before [S12]."""
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in (1, 2):
        crm.erase(key)
    crm.put(9, email="p1@example.com", hs_merged_object_ids="1;2")
    events = read(crm, cursor(first))
    assert {e for e in events if isinstance(e, Merged)} == {Merged("1", "9"), Merged("2", "9")}
    assert "9" in keys(events)


def test_who_was_deleted_for_good_is_missing_in_the_next_full_read_only(crm: HubSpot) -> None:
    """A privacy deletion is listed nowhere."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.erase(2)
    assert not [e for e in read(crm, cursor(first)) if isinstance(e, Tombstone)]
    assert "2" not in keys(read(crm))


def test_a_merge_that_the_search_does_not_know_yet_is_told_later(crm: HubSpot) -> None:
    """The index still shows the loser; asked for by its id, HubSpot answers with the winner, who would come twice."""
    crm.lag_s = 300
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm)
    crm.clock.advance_s(1200)
    crm.put(1, firstname="x")
    crm.put(2, firstname="x")
    crm.clock.advance_s(301)
    crm.merge(1, 2)
    second = read(crm, cursor(first))
    assert keys(second) == ["2", "7"]
    assert Merged("1", "2") in second
    crm.clock.advance_s(301)
    assert keys(read(crm, cursor(second))) == ["2"]


def test_who_was_merged_away_does_not_come_although_a_page_shows_it(crm: HubSpot) -> None:
    crm.put(1, hs_merged_object_ids="5")
    events = read(crm)
    assert Merged("5", "1") in events
    assert "5" not in keys(events)


def test_a_winner_comes_once_where_contacts_are_read_by_id(crm: HubSpot) -> None:
    """Merged between the page of ids and their values."""
    crm.types |= {f"custom_{number:03}_{'x' * 80}": "string" for number in range(200)}

    def merge(asked: Any) -> None:
        if asked.path.endswith("/batch/read") and 2 in crm.contacts:
            crm.merge(2, 5)

    crm.before_answer = merge
    wanted = list(crm.types)
    assert sorted(keys(read(crm, None, *wanted))) == ["1", "3", "4", "5", "6", "7"]


@pytest.mark.parametrize("moves", [False, True])
def test_an_opt_out_is_seen_whether_or_not_it_changes_the_contact(
    crm: HubSpot, moves: bool
) -> None:
    """Who clicks a link in a mail did not edit the contact, and nobody says whether that moves its time."""
    for key in range(1, 404):
        crm.put(key, email=f"p{key}@example.com", hs_email_optout="true" if key > 10 else "false")
    crm.clock.advance_s(3600)
    names = ("email", "hs_email_optout")
    first = read(crm, None, *names)
    crm.clock.advance_s(86_400)
    second = read(crm, cursor(first), *names)
    crm.clock.advance_s(3600)
    crm.unsubscribe(2)
    crm.lag_s = 60
    if moves:
        crm.put(2, firstname="Out")
    before = crm.paths().count(SEARCHED)
    assert keys(read(crm, cursor(second), *names)) == []  # the search does not know it yet
    assert crm.paths().count(SEARCHED) - before == 2  # as many as are known are not listed
    crm.clock.advance_s(3600)
    third = read(crm, cursor(second), *names)
    assert keys(third) == ["2"]
    assert fields(third, "2")["hs_email_optout"] is True
    crm.clock.advance_s(86_400)
    assert set(keys(read(crm, cursor(third), *names))) <= {"2"}  # within the overlap, if it moved
    before = crm.paths().count(SEARCHED)
    read(crm, cursor(third), "email")  # where no opt-out is in use
    assert crm.paths().count(SEARCHED) - before == 1


def test_an_opt_out_is_seen_although_another_one_is_gone(crm: HubSpot) -> None:
    """A contact that was deleted for good is no more among those who have opted out, and nobody says so."""
    for key in (1, 2):
        crm.put(key, hs_email_optout="true")
    first = read(crm, None, "hs_email_optout")
    crm.clock.advance_s(86_400)
    crm.erase(1)
    second = read(crm, cursor(first), "hs_email_optout")
    crm.clock.advance_s(86_400)
    crm.unsubscribe(3)
    assert "3" in keys(read(crm, cursor(second), "hs_email_optout"))


def test_an_opt_out_that_was_taken_back_can_come_again(crm: HubSpot) -> None:
    crm.put(2, hs_email_optout="true")
    first = read(crm, None, "hs_email_optout")
    crm.clock.advance_s(3600)
    crm.put(2, hs_email_optout="false")
    second = read(crm, cursor(first), "hs_email_optout")
    assert fields(second, "2")["hs_email_optout"] is False
    crm.clock.advance_s(86_400)
    crm.unsubscribe(2)
    third = read(crm, cursor(second), "hs_email_optout")
    assert fields(third, "2")["hs_email_optout"] is True


def test_an_import_is_not_read_again_for_ever(crm: HubSpot) -> None:
    """The last change of an account was an import of everybody: each read would go back to it, until somebody changes something."""
    crm.clock.advance_s(3600)
    for key in range(1, 8):
        crm.put(key, company="Imported")
    text = cursor(read(crm))
    crm.clock.advance_s(2 * 86_400)
    second = read(crm, text)
    assert len(keys(second)) == 7  # once more
    crm.clock.advance_s(3600)
    assert keys(read(crm, cursor(second))) == []
    crm.put(4, firstname="New")
    assert keys(read(crm, cursor(second))) == ["4"]


def test_an_empty_account_goes_on_from_where_it_was_read(crm: HubSpot) -> None:
    crm.clear()
    first = read(crm)
    crm.clock.advance_s(60)
    crm.put(9, email="first@example.com")
    second = read(crm, cursor(first))
    assert not any(isinstance(e, Resync) for e in second)
    assert keys(second) == ["9"]


@pytest.mark.parametrize(("days", "anew"), [(88, False), (90, True)])
def test_who_was_archived_is_known_for_ninety_days(crm: HubSpot, days: int, anew: bool) -> None:
    first = read(crm)
    crm.clock.advance_s(days * 86_400)
    events = read(crm, cursor(first))
    assert any(isinstance(e, Resync) for e in events) is anew


def test_who_is_archived_while_pages_are_read_is_told_by_the_next_read(crm: HubSpot) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(2, firstname="x")

    def archive(asked: Any) -> None:
        if asked.path.endswith("/search"):
            crm.clock.advance_s(5)
            crm.archive(2)

    crm.before_answer = archive
    second = read(crm, cursor(first))
    crm.before_answer = lambda asked: None
    assert "2" not in keys(second)
    crm.clock.advance_s(60)
    assert Tombstone("2") in read(crm, cursor(second))


def test_who_is_restored_while_the_read_goes_on_comes_in_the_next_one(crm: HubSpot) -> None:
    """A key comes once in a read: it has been told as gone already."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.archive(2)

    def restore(asked: Any) -> None:
        if asked.path.endswith("/search") and 2 in crm.archived:
            crm.put(2, firstname="Back")

    crm.before_answer = restore
    second = read(crm, cursor(first))
    assert Tombstone("2") in second
    assert "2" not in keys(second)
    crm.clock.advance_s(60)
    assert "2" in keys(read(crm, cursor(second)))


def test_nobody_is_merged_into_himself(crm: HubSpot) -> None:
    crm.put(1, hs_merged_object_ids="1; 9 ;;1")
    events = read(crm)
    assert [e for e in events if isinstance(e, Merged)] == [Merged("9", "1")]
    assert "1" in keys(events)


# Further addresses


ALL = {"emails": "all"}


def further(events: list[Any]) -> dict[str, str]:
    """address -> key of each further record."""
    return {e.fields["email"]: e.key for e in events if isinstance(e, Record) and "#" in e.key}


def test_a_further_address_has_an_opt_out_of_its_own(crm: HubSpot) -> None:
    """`hs_email_optout` is that of the first address: opt-outs belong to addresses."""
    crm.put(1, hs_additional_emails="in@example.org;OUT@example.org", hs_email_domain="example.com")
    crm.put(2, hs_additional_emails="two@example.org", hs_email_optout="true")
    crm.out = {"out@example.org"}
    events = read(crm, None, "email", "hs_email_optout", "hs_email_domain", **ALL)
    found = further(events)
    assert [fields(events, found[one]).get("hs_email_optout") for one in sorted(found)] == [
        True,
        False,
        True,
    ]
    assert "hs_email_domain" not in fields(
        events, found["in@example.org"]
    )  # it is that of the first
    assert fields(events, "1")["hs_email_domain"] == "example.com"
    assert sum("unsubscribe-all" in path for path in crm.paths()) == 1


def test_an_opt_out_that_is_not_told_is_not_known(crm: HubSpot) -> None:
    crm.put(1, hs_additional_emails="silent@example.org")
    answer = crm.answer

    def silent(asked: Any) -> Told:
        told = answer(asked)
        return Told(200, {"status": "COMPLETE", "results": []}) if "unsub" in asked.path else told

    crm.answer = silent  # type: ignore[method-assign]
    events = read(crm, None, "email", "hs_email_optout", **ALL)
    assert "hs_email_optout" not in fields(events, further(events)["silent@example.org"])


@pytest.mark.parametrize(
    "body",
    [
        {"status": "PENDING", "results": []},
        {"status": "COMPLETE", "results": [{"email": "x"}]},
        {"status": "COMPLETE", "results": [], "errors": [{"category": "INTERNAL_ERROR"}]},
    ],
)
def test_opt_outs_that_cannot_be_understood_are_no_read(crm: HubSpot, body: Any) -> None:
    crm.put(1, hs_additional_emails="two@example.org")
    crm.faults = [None, None, Told(200, body)]
    with pytest.raises(SourceError):
        read(crm, None, "email", "hs_email_optout", **ALL)


def test_opt_outs_of_further_addresses_need_a_scope_only_where_they_are_used(crm: HubSpot) -> None:
    crm.put(1, hs_additional_emails="two@example.org")
    crm.scopes.discard("communication_preferences.read")
    assert further(read(crm, None, "email", **ALL))
    with pytest.raises(SourceDenied, match=r"communication_preferences\.read"):
        read(crm, None, "email", "hs_email_optout", **ALL)


def test_an_opt_out_of_a_further_address_is_seen_although_the_contact_did_not_change(
    crm: HubSpot,
) -> None:
    crm.put(1, hs_additional_emails="two@example.org")
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    names = ("email", "hs_email_optout")
    first = read(crm, None, *names, **ALL)
    crm.clock.advance_s(3600)
    crm.out = {"two@example.org"}
    second = read(crm, cursor(first), *names, **ALL)
    assert fields(second, further(second)["two@example.org"])["hs_email_optout"] is True
    assert keys(second).count("1") == 1


def test_an_address_that_stands_there_twice_comes_once(crm: HubSpot) -> None:
    crm.put(1, hs_additional_emails="Two@example.org;two@example.org; ;P1@example.com")
    assert list(further(read(crm, None, "email", **ALL))) == ["Two@example.org"]


def test_a_further_address_that_was_taken_away_is_gone(crm: HubSpot) -> None:
    crm.put(1, hs_additional_emails="two@example.org;three@example.org")
    crm.put(2, hs_additional_emails="stays@example.org")
    first = read(crm, None, "email", **ALL)
    crm.clock.advance_s(3600)
    crm.put(1, hs_additional_emails="three@example.org")
    crm.put(2, firstname="x")
    events = read(crm, cursor(first), "email", **ALL)
    gone = [e for e in events if isinstance(e, Tombstone)]
    assert gone == [Tombstone(further(first)["two@example.org"])]
    assert set(further(events)) == {"three@example.org", "stays@example.org"}


@pytest.mark.parametrize("how", ["archive", "merge"])
def test_further_addresses_go_with_their_contact(crm: HubSpot, how: str) -> None:
    crm.put(1, hs_additional_emails="two@example.org")
    first = read(crm, None, "email", **ALL)
    crm.clock.advance_s(3600)
    if how == "archive":
        crm.archive(1)
    else:
        crm.merge(1, 2)
    events = read(crm, cursor(first), "email", **ALL)
    assert Tombstone(further(first)["two@example.org"]) in events
    if how == "merge":
        assert set(further(events)) == {"p1@example.com", "two@example.org"}
        assert all(key.startswith("2#") for key in further(events).values())
