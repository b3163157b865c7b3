"""What an incremental read of Apollo sees: changes, and what may change nobody: opt-outs, lists, names."""

import json
from typing import Any

import pytest
from apollo_reads import crm_fixture, cursor, fields, numbers, read, reason
from doubles.apollo import Apollo, cid
from doubles.server import Told

from connectors.apollo import listing, reading
from syncd.connector import Record
from syncd.http import parse_time

__all__ = ["crm_fixture"]


def many(crm: Apollo, count: int) -> None:
    """So many contacts, a second apart, a day ago."""
    for number in range(6, count + 1):
        crm.put(number, f"p{number}@example.com", first_name="Old")
        crm.clock.advance_s(1)
    crm.clock.advance_s(86_400)


def test_only_what_was_changed_is_read(crm: Apollo) -> None:
    many(crm, 1_000)
    first = read(crm, None, "first_name")
    crm.clock.advance_s(3600)
    crm.put(3, first_name="New")
    before = len(crm.asked)
    second = read(crm, cursor(first), "first_name")
    assert reason(second) == ""
    assert numbers(second) == [3]
    assert len(crm.asked) - before == 3  # until two pages have nothing new
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second), "first_name")
    crm.clock.advance_s(60)
    assert numbers(read(crm, cursor(third), "first_name")) == []


def test_a_change_that_the_index_shows_late_is_read(crm: Apollo) -> None:
    many(crm, 300)
    crm.lag_s = 600
    first = read(crm, None, "first_name")
    crm.clock.advance_s(7200)
    crm.put(2, first_name="Late")
    crm.clock.advance_s(60)
    second = read(crm, cursor(first), "first_name")
    crm.clock.advance_s(600)
    third = read(crm, cursor(second), "first_name")
    assert 2 not in numbers(second)
    assert fields(third, cid(2)) == {"first_name": "Late"}


def test_rows_that_move_between_pages_are_neither_lost_nor_doubled(crm: Apollo) -> None:
    many(crm, 800)
    first = read(crm, None, "first_name")
    crm.clock.advance_s(3600)
    for number in range(1, 601):
        crm.put(number, first_name="New")
        crm.clock.advance_s(0.01)
    pages = 0

    def touch(asked: Any) -> None:
        nonlocal pages
        pages += asked.path.endswith("/contacts/search")
        crm.clock.advance_s(1)
        if pages in {2, 4}:
            for number in range(600 - 10 * pages, 610 - 10 * pages):
                crm.delete(number)  # of pages that were read: the others move up
        if pages == 3:
            for number in (1, 300, 700):
                crm.put(number, first_name="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "first_name")
    crm.before_answer = lambda asked: None
    assert len(numbers(second)) == len(set(numbers(second)))
    third = read(crm, cursor(second), "first_name")
    shown = {e.key: e.fields["first_name"] for e in [*second, *third] if isinstance(e, Record)}
    there = {cid(n) for n in range(1, 601) if cid(n) in crm.contacts} | {cid(700)}
    assert there <= set(shown)
    assert [shown[cid(number)] for number in (1, 300, 700)] == ["Newer"] * 3


def test_an_order_that_is_not_given_makes_everybody_be_read(crm: Apollo) -> None:
    many(crm, 300)
    first = read(crm, None, "first_name")
    crm.clock.advance_s(3600)
    crm.put(3, first_name="New")
    crm.sorts = False
    second = read(crm, cursor(first), "first_name")
    assert "does not sort" in reason(second)
    assert numbers(second) == list(range(1, 301))
    assert fields(second, cid(3)) == {"first_name": "New"}


def test_more_changes_than_a_listing_shows_make_everybody_be_read(
    crm: Apollo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGES_MAX", 5)
    monkeypatch.setattr(listing, "SHOWN_MAX", 500)
    crm.pages_max = 5
    many(crm, 800)
    first = read(crm, None, "first_name")
    crm.clock.advance_s(3600)
    for number in range(1, 701):
        crm.put(number, first_name="New")
        crm.clock.advance_s(0.01)
    second = read(crm, cursor(first), "first_name")
    assert "more than 500 contacts have changed" in reason(second)
    assert numbers(second) == list(range(1, 801))


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("how", ["link", "answer"])
def test_an_unsubscribing_is_seen_whether_or_not_it_changes_the_contact(
    crm: Apollo, moves: bool, how: str
) -> None:
    many(crm, 300)
    first = read(crm, None, "_opted_out")
    crm.clock.advance_s(3600)
    crm.written = {cid(200): how, cid(999): how}  # the other one was deleted since
    if moves:
        crm.put(200, email_unsubscribed=True)
    second = read(crm, cursor(first), "_opted_out")
    assert numbers(second) == [200]
    assert fields(second, cid(200)) == {"_opted_out": True}
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second), "_opted_out")
    assert numbers(third) == ([200] if moves else [])  # a change may be shown late
    assert numbers(read(crm, cursor(third), "_opted_out")) == []
    assert fields(read(crm, None, "_opted_out"), cid(200)) == {"_opted_out": True}


def test_many_who_unsubscribed_make_everybody_be_read(
    crm: Apollo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "ALONE_MAX", 2)
    first = read(crm, None, "_opted_out")
    crm.clock.advance_s(3600)
    crm.written = {cid(number): "link" for number in (1, 2, 3)}
    second = read(crm, cursor(first), "_opted_out")
    assert reason(second) == "many people have unsubscribed"
    assert [fields(second, cid(n))["_opted_out"] for n in (1, 2, 3, 4)] == [True] * 3 + [False]


@pytest.mark.parametrize("moves", [False, True])
def test_who_joins_a_list_is_seen_whether_or_not_it_changes_the_contact(
    crm: Apollo, moves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(crm, 300)
    crm.labels = {"label1": "VIP", "label2": "Fair"}
    crm.join("VIP", 10)
    crm.join("Fair", 20)
    crm.clock.advance_s(10_000)
    first = read(crm, None, "_lists")
    crm.clock.advance_s(7200)
    crm.join("VIP", 200, moves=moves)
    second = read(crm, cursor(first), "_lists")
    assert numbers(second) == [10, 200]
    assert fields(second, cid(200)) == {"_lists": ["VIP"]}
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second), "_lists")
    assert numbers(third) == ([200] if moves else [])
    crm.clock.advance_s(7200)
    crm.join("VIP", 201, moves=moves)
    monkeypatch.setattr(reading, "LIST_ROWS_MAX", 2)  # then the next full read shows it
    assert numbers(read(crm, cursor(third), "_lists")) == ([201] if moves else [])


@pytest.mark.parametrize(
    ("renamed", "wanted"),
    [
        (lambda crm: crm.labels.update(label1="VIPs"), "_lists"),
        (lambda crm: crm.labels.pop("label1"), "_lists"),
        (lambda crm: crm.stages.update(stage1="Warm"), "_stage"),
        (lambda crm: crm.stages.update(stage1="Do not e-mail"), "_opted_out"),
        (lambda crm: crm.users[0].update(name="Olga P."), "_owner"),
    ],
)
def test_what_is_renamed_makes_everybody_be_read(crm: Apollo, renamed: Any, wanted: str) -> None:
    crm.labels = {"label1": "VIP"}
    crm.users = [{"id": "user1", "name": "Olga O.", "email": "o@example.com"}]
    first = read(crm, None, wanted)
    crm.clock.advance_s(3600)
    crm.labels["label2"] = "New"  # nobody has it yet
    crm.stages["stage9"] = "New"
    second = read(crm, cursor(first), wanted)
    assert reason(second) == ""
    renamed(crm)
    third = read(crm, cursor(second), wanted)
    assert "renamed" in reason(third)
    assert len(numbers(third)) == 5


def test_a_deleted_contact_is_missing_from_a_full_read_only(crm: Apollo) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete(3)
    assert 3 not in numbers(read(crm, cursor(first)))
    assert numbers(read(crm)) == [1, 2, 4, 5]


def test_an_import_that_came_last_is_not_read_again_for_ever(crm: Apollo) -> None:
    many(crm, 300)
    for number in range(301, 601):
        crm.put(number, f"p{number}@example.com")
    first = read(crm)
    second = read(crm, cursor(first))
    assert len(numbers(second)) == 300  # a change may be shown late
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second))
    crm.clock.advance_s(600)
    assert numbers(read(crm, cursor(third))) == []


def test_the_cursor_is_never_later_than_the_beginning_by_apollos_clock(crm: Apollo) -> None:
    began_s = crm.clock.now_s()

    def slowly(asked: Any) -> None:
        crm.clock.advance_s(100)
        crm.put(1, first_name="New")

    crm.before_answer = slowly
    held = json.loads(cursor(read(crm)))
    since = parse_time(held["since"])
    assert since is not None
    assert since.timestamp() <= began_s + 101


def test_a_contact_without_a_time_of_change_is_read_each_time(crm: Apollo) -> None:
    crm.clock.advance_s(86_400)
    first = read(crm)
    crm.clock.advance_s(86_400)
    crm.change(2, updated_at=None)
    assert numbers(read(crm, cursor(first))) == [2]


@pytest.mark.parametrize(
    "text",
    ["?", "{}", '{"v":1}', '{"v":1,"since":"2026-01-01","at":"2026-01-01","unsubscribed":7}'],
)
def test_a_cursor_that_is_none_makes_everybody_be_read(crm: Apollo, text: str) -> None:
    events = read(crm, text)
    assert reason(events)
    assert len(numbers(events)) == 5


def test_an_account_without_contacts_has_no_cursor_yet(crm: Apollo) -> None:
    crm.contacts.clear()
    assert read(crm) == []
    crm.faults = [Told(200, {"contacts": [], "pagination": {"total_entries": 0}})]
    assert read(crm) == []
