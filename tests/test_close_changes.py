"""What an incremental read of Close sees: by its search, by its log, and by neither."""

import json
from typing import Any

import pytest
from close_reads import connector, crm_fixture, cursor, fields, keys, read, resynced
from doubles.close import INDUSTRY, LEVEL, Close

from syncd.connector import Merged, Record, Request, Tombstone
from syncd.errors import SourceError
from syncd.http import further_key

__all__ = ["crm_fixture"]


def gone(events: list[Any]) -> list[str]:
    return [event.key for event in events if isinstance(event, Tombstone)]


def test_only_what_was_changed_is_read(crm: Close) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put("c3", title="New")
    before = len(crm.asked)
    second = read(crm, cursor(first), "title")
    assert keys(second) == ["c3"]
    assert fields(second, "c3") == {"title": "New"}
    assert len(crm.asked) - before <= 6
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second))
    assert keys(third) == ["c3"]  # within the overlap
    crm.clock.advance_s(7200)
    assert keys(read(crm, cursor(third))) == []


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(crm: Close) -> None:
    for number in range(600):
        crm.put(f"n{number}", f"n{number}@example.com")
        crm.clock.advance_s(1)
    crm.clock.advance_s(7200)
    first = read(crm)
    crm.clock.advance_s(3600)
    for number in range(600):
        crm.put(f"n{number}", title="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/search/"):
            crm.clock.advance_s(2)
            for number in (0, 300, 599):
                crm.put(f"n{number}", title="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "title")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "title")
    shown = {e.key: e.fields["title"] for e in [*second, *third] if isinstance(e, Record)}
    assert len(shown) == 600
    assert [shown[key] for key in ("n0", "n300", "n599")] == ["Newer"] * 3


# The index is late


def test_the_search_may_be_late_in_a_full_read(crm: Close) -> None:
    """Else whoever was made just now would be gone, and whoever was deleted would be back."""
    crm.delay_s = 1800
    crm.put("new", "new@example.com", title="New")
    crm.put("c2", title="Changed")
    crm.delete("c3")
    crm.put_lead("lead_c4", display_name="Renamed")
    crm.clock.advance_s(600)
    events = read(crm, None, "title", "_company")
    assert sorted(keys(events)) == ["c1", "c2", "c4", "c5", "new"]
    assert fields(events, "c2")["title"] == "Changed"
    assert fields(events, "c4")["_company"]["name"] == "Renamed"
    assert fields(events, "new")["_company"]["name"] == "lead_new"
    assert gone(events) == []


@pytest.mark.parametrize("admin", [False, True])
def test_the_search_may_be_late_in_an_incremental_read(crm: Close, admin: bool) -> None:
    crm.admin = admin
    first = read(crm, None, "title", "_company")
    crm.clock.advance_s(3600)
    crm.delay_s = 7200
    crm.put("new", "new@example.com", title="New")
    crm.put("c2", title="Changed")
    crm.delete("c3")
    crm.put_lead("lead_c4", display_name="Renamed")
    crm.clock.advance_s(5400)
    events = read(crm, cursor(first), "title", "_company")
    assert sorted(keys(events)) == ["c2", "c4", "new"]
    assert fields(events, "c2")["title"] == "Changed"
    assert fields(events, "c4")["_company"]["name"] == "Renamed"
    assert gone(events) == ["c3"]


def test_what_the_log_leaves_out_the_search_finds(crm: Close) -> None:
    first = read(crm, None, LEVEL)
    crm.clock.advance_s(3600)
    crm.put("c3", **{f"custom.{LEVEL}": "Gold"})
    crm.events.clear()
    assert fields(read(crm, cursor(first), LEVEL), "c3") == {LEVEL: "Gold"}


def test_a_change_that_two_events_tell_comes_once(crm: Close) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put("new", "new@example.com")
    crm.put("other", "other@example.com")
    crm.put("new", title="Again")
    assert sorted(keys(read(crm, cursor(first)))) == ["new", "other"]


# Who is gone


def test_who_was_deleted_is_told_with_all_addresses(crm: Close) -> None:
    entries = [{"email": "a@example.com"}, {"email": "b@example.com"}]
    crm.put("c1", emails=entries)
    first = read(crm, emails="all")
    crm.clock.advance_s(3600)
    crm.delete("c1")
    second = read(crm, cursor(first), emails="all")
    assert set(gone(second)) >= {"c1", *(further_key("c1", one["email"]) for one in entries)}
    assert "c1" not in keys(second)


def test_a_deletion_of_a_month_ago_is_found_by_reading_everything(crm: Close) -> None:
    first = read(crm)
    crm.clock.advance_s(28 * 86_400)
    crm.delete("c1")
    assert gone(read(crm, cursor(first))) == ["c1"]
    crm.clock.advance_s(2 * 86_400)
    events = read(crm, cursor(first))
    assert resynced(events)
    assert keys(events) == ["c2", "c3", "c4", "c5"]


def test_an_address_that_was_taken_from_a_contact_goes(crm: Close) -> None:
    a, b = {"email": "a@example.com"}, {"email": "b@example.com"}
    crm.put("c1", emails=[a, b])
    first = read(crm, emails="all")
    assert further_key("c1", "b@example.com") in keys(first)
    crm.clock.advance_s(3600)
    crm.put("c1", emails=[b])
    second = read(crm, cursor(first), emails="all")
    assert fields(second, "c1") == {"_email": "b@example.com"}
    assert further_key("c1", "b@example.com") in gone(second)
    crm.put("c1", emails=[b, a])
    third = read(crm, cursor(second), emails="all")
    assert fields(third, further_key("c1", "a@example.com")) == {"_email": "a@example.com"}
    assert further_key("c1", "a@example.com") not in gone(third)


@pytest.mark.parametrize("delay_s", [0, 7200])
def test_contacts_of_a_merged_lead_stay_where_they_are_kept(crm: Close, delay_s: float) -> None:
    first = read(crm, None, "_company")
    crm.delay_s = delay_s
    crm.clock.advance_s(3600)
    crm.merge("lead_c1", "lead_c2", fold=False)
    second = read(crm, cursor(first), "_company")
    assert gone(second) == []
    assert fields(second, "c1")["_company"]["id"] == "lead_c2"


@pytest.mark.parametrize("full", [False, True])
def test_a_contact_that_was_folded_into_another_is_merged(crm: Close, full: bool) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.merge("lead_c1", "lead_c2", fold=True)
    second = read(crm, None if full else cursor(first))
    assert Merged("c1", "c2") in second
    assert "c1" not in keys(second)


def test_a_folded_contact_of_whom_nothing_is_shown_is_deleted(crm: Close) -> None:
    crm.admin = False
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.merge("lead_c1", "lead_c2", fold=True)
    crm.clock.advance_s(7200)
    assert gone(read(crm, cursor(first))) == ["c1"]


def test_a_deletion_that_a_merge_tells_and_nobody_sees_is_none(crm: Close) -> None:
    """The contact is still there: it has only another lead."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm._log(
        "contact", "deleted", "c1", "lead_c1", None, {}, [], merge_destination_lead_id="lead_c2"
    )
    second = read(crm, cursor(first))
    assert (keys(second), gone(second)) == (["c1"], [])


# Companies


def test_a_lead_that_is_called_otherwise_brings_its_contacts(crm: Close) -> None:
    crm.put("c2", lead_id="lead_c1")
    crm.clock.advance_s(7200)
    first = read(crm, None, "_company")
    crm.clock.advance_s(7200)
    crm.put_lead("lead_c1", status_label="Customer")
    crm.put_lead("lead_c3", **{f"custom.{INDUSTRY}": "Steel"})
    crm.put_lead("lead_c4", description="of no concern")
    crm.clock.advance_s(7200)
    second = read(crm, cursor(first), "_company")
    assert sorted(keys(second)) == ["c1", "c2", "c3"]
    assert fields(second, "c2")["_company"]["status"] == "Customer"
    assert fields(second, "c3")["_company"][INDUSTRY] == "Steel"
    crm.events[-2]["changed_fields"] = []  # it does not say what it was
    assert "c3" in keys(read(crm, cursor(first), "_company"))


def test_many_changed_leads_make_everybody_be_read(crm: Close) -> None:
    first = read(crm, None, "_company")
    crm.clock.advance_s(3600)
    for number in range(201):
        crm.put_lead(f"lead_n{number}", status_label="New")
        crm.put_lead(f"lead_{number}")
        crm.put_lead(f"lead_n{number}", status_label="Newer")
    assert resynced(read(crm, cursor(first), "_company"))


def test_a_log_longer_than_is_worth_reading_makes_everybody_be_read(crm: Close) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put("c1", title="New")
    crm.events += [
        {**crm.events[-1], "id": f"more_{n}", "object_id": f"x{n}"} for n in range(5_050)
    ]
    crm.clock.advance_s(7200)
    events = read(crm, cursor(first))
    assert resynced(events)
    assert len(keys(events)) == 5


# Opt-outs


@pytest.mark.parametrize("reindexes", [False, True])
def test_who_unsubscribes_is_read_again_and_who_comes_back_too(crm: Close, reindexes: bool) -> None:
    """It changes no contact."""
    crm.reindexes = reindexes
    crm.put("c2", emails=[{"email": "p2@example.com"}, {"email": "Second@example.com"}])
    first = read(crm, None, "_opted_out")
    crm.clock.advance_s(7200)
    crm.unsubscribe("p1@example.com")
    crm.unsubscribe("second@example.com")
    second = read(crm, cursor(first), "_opted_out")
    assert {key: fields(second, key)["_opted_out"] for key in ("c1", "c2")} == {
        "c1": True,
        "c2": True,
    }
    crm.clock.advance_s(7200)
    crm.resubscribe("p1@example.com")
    third = read(crm, cursor(second), "_opted_out")
    assert fields(third, "c1") == {"_opted_out": crm.reindexes or False}
    crm.clock.advance_s(7200)
    fourth = read(crm, cursor(third), "_opted_out")
    crm.clock.advance_s(7200)
    assert keys(read(crm, cursor(fourth), "_opted_out")) == []


def test_an_address_that_the_search_does_not_find_makes_everybody_be_read(crm: Close) -> None:
    """It may be nobody's; or the search compares in a way that nobody has written down."""
    first = read(crm, None, "_opted_out")
    crm.clock.advance_s(7200)
    crm.unsubscribe("nobody@example.com")
    second = read(crm, cursor(first), "_opted_out")
    assert resynced(second)
    crm.clock.advance_s(7200)
    third = read(crm, cursor(second), "_opted_out")  # its beginning lies within the overlap
    crm.clock.advance_s(7200)
    assert not resynced(read(crm, cursor(third), "_opted_out"))


def test_an_unsubscribing_that_the_log_hides_makes_everybody_be_read(crm: Close) -> None:
    crm.admin = False
    first = read(crm, None, "_opted_out")
    crm.clock.advance_s(7200)
    crm.unsubscribe("p1@example.com")
    crm.clock.advance_s(7200)
    events = read(crm, cursor(first), "_opted_out")
    assert resynced(events)
    assert fields(events, "c1") == {"_opted_out": True}


# Views


def view(name: str, query: dict[str, Any], kind: str = "contact", **more: Any) -> dict[str, Any]:
    return {"id": f"save_{name}", "name": name, "type": kind, "s_query": {"query": query}, **more}


def ids(*keys: str) -> dict[str, Any]:
    return {"type": "or", "queries": [{"type": "id", "value": key} for key in keys]}


def test_members_of_views_of_contacts_and_of_leads(crm: Close) -> None:
    crm.views = {"w": view("Warm", ids("c1", "c2")), "k": view("Key", ids("lead_c2"), "lead")}
    first = read(crm, None, "_lists", views=["Warm", "Key"])
    lists = [fields(first, f"c{n}")["_lists"] for n in (1, 2, 3)]
    assert lists == [["Warm"], ["Warm", "Key"], []]
    crm.clock.advance_s(7200)
    crm.views = {"w": view("Warm", ids("c1", "c4")), "k": view("Key", ids("lead_c5"), "lead")}
    second = read(crm, cursor(first), "_lists", views=["Warm", "Key"])
    assert not resynced(second)
    assert {key: fields(second, key)["_lists"] for key in keys(second)} == {
        "c2": [], "c4": ["Warm"], "c5": ["Key"],
    }  # fmt: skip
    crm.clock.advance_s(7200)
    assert keys(read(crm, cursor(second), "_lists", views=["Warm", "Key"])) == []
    assert "_lists" not in fields(list(connector(crm).read(Request())), "c1")


def test_a_large_view_that_has_other_members_makes_everybody_be_read(crm: Close) -> None:
    for number in range(1_001):
        crm.put(f"n{number}", f"n{number}@example.com")
    crm.views = {"w": view("All", {"type": "match_all"})}
    crm.clock.advance_s(7200)
    first = read(crm, None, "_lists", views=["All"])
    assert len(cursor(first)) < 10_000
    crm.clock.advance_s(7200)
    same = read(crm, cursor(first), "_lists", views=["All"])
    assert not resynced(same)
    crm.put("one", "one@example.com")
    assert resynced(read(crm, cursor(same), "_lists", views=["All"]))


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ([], "no Smart View 'Warm'"),
        ([view("Warm", ids("c1")), view("Warm", ids("c2"))], "2 Smart Views 'Warm'"),
        ([view("Warm", {}, s_query=None)], "cannot be run here"),
        ([view("Warm", {}, "opportunity")], "cannot be run here"),
        ([view("Warm", {}, s_query={"query": ids("c1"), "results_limit": 9})], "only its first 9"),
    ],
)
def test_views_are_named_unmistakably_and_not_guessed(crm: Close, views: Any, words: str) -> None:
    crm.views = dict(enumerate(views))
    with pytest.raises(SourceError, match=words):
        connector(crm, views=["Warm"]).check()
    with pytest.raises(SourceError, match=words):
        read(crm, None, "_lists", views=["Warm"])


# Cursors


def test_an_import_that_came_last_is_not_read_again_for_ever(crm: Close) -> None:
    for number in range(50):
        crm.put(f"n{number}", f"n{number}@example.com")
    first = read(crm)
    crm.clock.advance_s(300)
    second = read(crm, cursor(first))
    assert len(keys(second)) == 50  # a change may be shown late
    crm.clock.advance_s(2 * 86_400)
    third = read(crm, cursor(second))
    crm.clock.advance_s(600)
    assert keys(read(crm, cursor(third))) == []


@pytest.mark.parametrize("views", [None, 7, {"Warm": "?"}, {"Warm": ["lead", "x", []]}])
def test_a_cursor_that_says_nothing_of_a_view_makes_everybody_be_read(
    crm: Close, views: Any
) -> None:
    crm.views = {"w": view("Warm", ids("c1"))}
    held = json.loads(cursor(read(crm, None, "_lists", views=["Warm"])))
    events = read(crm, json.dumps({**held, "views": views}), "_lists", views=["Warm"])
    assert resynced(events)
    assert len(keys(events)) == 5
