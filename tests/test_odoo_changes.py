"""What an incremental read of Odoo sees: changes with hidden microseconds, the archived, the merged, and what moves no time."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from odoo_reads import KEY, Merged, Odoo, Resync, Tombstone, cursor, fields, keys, read

from connectors.odoo.marks import Marks
from syncd.connector import Event
from syncd.errors import SourceDenied, SourceError

EVERYBODY = [str(key) for key in range(1, 8)]
HOUR_S = 3600
BESIDE = ("email", "_opted_out", "_tags", "_lists")


@pytest.fixture(params=[14, 19])
def odoo(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Odoo]:
    monkeypatch.setenv("ODOO_KEY", KEY)
    with Odoo(version=request.param) as double:
        for key in range(1, 8):
            double.put(key, email=f"p{key}@example.com", name=f"Pia P{chr(64 + key)}")
        double.clock.advance_s(HOUR_S)
        double.put(7, phone="+41")
        yield double


def later(odoo: Odoo, seconds: float = HOUR_S) -> None:
    odoo.clock.advance_s(seconds)


def settle(odoo: Odoo) -> None:
    """What was done until now is older than the overlap of the next cursor."""
    later(odoo)
    odoo.put(7, phone="+42")


def resyncs(events: list[Event]) -> bool:
    return any(isinstance(event, Resync) for event in events)


# Times


def test_only_what_was_changed_is_read(odoo: Odoo) -> None:
    first = read(odoo)
    later(odoo)
    odoo.put(3, name="New")
    second = read(odoo, cursor(first), "name")
    assert keys(second) == ["3", "7"]  # 7 is within the overlap, which is harmless
    later(odoo)
    assert keys(read(odoo, cursor(second))) == ["3"]


def test_rows_of_one_second_in_any_hidden_order_are_all_read(odoo: Odoo) -> None:
    """Odoo orders by microseconds that it does not show: a keyset of (write_date, id) lost two of these three."""
    first = read(odoo)
    later(odoo)
    for key, fraction in ((5, 0.1), (4, 0.2), (2, 0.3)):
        odoo.put(key, name="New")
        odoo.tables["res.partner"][key]["write_date"] = int(odoo.clock.now_s()) + fraction
    assert keys(read(odoo, cursor(first))) == ["2", "4", "5", "7"]


def test_the_second_of_the_cursor_is_read_again_in_whole(odoo: Odoo) -> None:
    """Without an overlap, > would leave out in one version what it finds in the other; the cut is at a whole second."""
    for key in (1, 2):
        odoo.tables["res.partner"][key]["write_date"] = int(odoo.clock.now_s()) - 600 + 0.4 * key
    first = read(odoo)
    assert keys(read(odoo, cursor(first))) == ["1", "2", "7"]


def test_more_rows_of_one_time_than_a_page_holds_are_all_read(odoo: Odoo) -> None:
    """A renamed company moves all its people to one moment; so does creating 2,000 in one call."""
    first = read(odoo)
    later(odoo)
    for key in range(1, 2_051):
        odoo.put(key, email=f"p{key}@example.com")
    assert keys(read(odoo, cursor(first))) == [str(key) for key in range(1, 2_051)]


def test_what_a_long_transaction_shows_late_is_not_missed(odoo: Odoo) -> None:
    """It gets the time of its beginning, and is seen at its end."""
    later(odoo)
    began_s = odoo.clock.now_s()
    later(odoo, 60)
    odoo.put(4, name="Other")
    first = read(odoo)
    later(odoo, 60)
    odoo.put(2, name="Late")
    odoo.tables["res.partner"][2]["write_date"] = began_s
    assert "2" in keys(read(odoo, cursor(first)))


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(odoo: Odoo) -> None:
    for key in range(1, 3_001):
        odoo.put(key, email=f"p{key}@example.com", name="Old")
    first = read(odoo)
    later(odoo)
    for key in range(1, 3_001):
        odoo.put(key, name="New")

    def touch(asked: Any) -> None:
        if b"write_date" in asked.body and b'"id",">"' in asked.body:
            later(odoo, 5)
            for key in (1, 1_500, 2_999):
                odoo.put(key, name="Newer")

    odoo.before_answer = touch
    second = read(odoo, cursor(first), "name")
    odoo.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second))) == 3_000
    later(odoo, 60)
    third = read(odoo, cursor(second), "name")
    found = {e: fields(third, e)["name"] for e in keys(third)}
    shown = {e: found.get(e, fields(second, e)["name"]) for e in ("1", "1500", "2999")}
    assert set(shown.values()) == {"Newer"}


def test_the_cursor_is_never_later_than_the_beginning_of_the_read(odoo: Odoo) -> None:
    """A row changed after its page had been read, while a later one showed a time beyond it."""
    odoo.put(900, email="p900@example.com")

    def change(asked: Any) -> None:
        if b'"id",">",900' in asked.body:
            later(odoo, HOUR_S)
            odoo.put(3, name="Passed already")
            later(odoo, HOUR_S)
            odoo.put(901, email="p901@example.com")
            odoo.before_answer = lambda asked: None

    odoo.before_answer = change
    first = read(odoo)
    assert "901" in keys(first)
    assert "3" in keys(read(odoo, cursor(first)))


@pytest.mark.parametrize(
    "damage",
    [("ids", "no base64!"), ("ids", "AAAA"), ("since", "soon"), ("marks", "none"), ("v", "9")],
)
def test_a_damaged_cursor_is_of_no_use(odoo: Odoo, damage: tuple[str, str]) -> None:
    parts = json.loads(cursor(read(odoo, None, *BESIDE)))
    name, value = damage
    (parts["marks"] if name == "ids" else parts)[name] = value
    events = read(odoo, json.dumps(parts), *BESIDE)
    assert resyncs(events)
    assert keys(events) == EVERYBODY


# Gone


def test_who_is_archived_or_no_person_any_more_is_told_as_gone(odoo: Odoo) -> None:
    odoo.put(5, email="p5@example.com, second@example.com")
    odoo.put(20, is_company=True)
    first = read(odoo, emails="all")
    further = next(key for key in keys(first) if key.startswith("5#"))
    later(odoo)
    odoo.put(1, active=False)
    odoo.put(2, is_company=True)
    odoo.put(3, partner_share=False)
    odoo.put(5, active=False)
    events = read(odoo, cursor(first), emails="all")
    gone = [event for event in events if isinstance(event, Tombstone)]
    assert gone[:3] == [Tombstone("1", "archived"), Tombstone("2"), Tombstone("3")]
    assert Tombstone("5", "archived") in gone
    assert Tombstone(further, "archived") in gone
    assert keys(events) == ["7"]
    assert "1" not in keys(read(odoo))


def test_who_comes_back_from_the_archive_is_a_record_again(odoo: Odoo) -> None:
    odoo.put(1, active=False)
    first = read(odoo)
    later(odoo)
    odoo.put(1, active=True)
    assert "1" in keys(read(odoo, cursor(first)))


def test_who_was_deleted_is_missing_in_the_next_full_read_only(odoo: Odoo) -> None:
    first = read(odoo)
    later(odoo)
    odoo.unlink(2)
    assert not [e for e in read(odoo, cursor(first)) if isinstance(e, Tombstone)]
    assert keys(read(odoo)) == ["1", "3", "4", "5", "6", "7"]


# Merges


def test_merges_are_told_with_who_is_left(odoo: Odoo) -> None:
    first = read(odoo)
    later(odoo)
    odoo.merge(2, 3)
    odoo.merge(3, 4)
    odoo.merge(5, 4)
    events = read(odoo, cursor(first))
    told = [event for event in events if isinstance(event, Merged)]
    assert told == [Merged("2", "4"), Merged("3", "4"), Merged("5", "4")]
    assert keys(events) == ["4", "7"]
    assert [
        event for event in read(odoo) if isinstance(event, Merged)
    ] == told  # also in a full read


def test_several_losers_and_a_name_like_an_id(odoo: Odoo) -> None:
    """Anybody can choose a name: only who is gone was merged."""
    first = read(odoo)
    later(odoo)
    odoo.put(5, name="Eve (ID 1)")
    odoo.merge(5, 6)
    odoo.tables["mail.message"][1]["body"] += ", K (ID 4)"
    odoo.unlink(4)
    told = [event for event in read(odoo, cursor(first)) if isinstance(event, Merged)]
    assert told == [Merged("4", "6"), Merged("5", "6")]


def test_a_message_that_anybody_wrote_is_no_merge(odoo: Odoo) -> None:
    first = read(odoo)
    later(odoo)
    body = "<p>Merged with the following partners: joke (ID 1) (ID 6)</p>"
    odoo.tables["mail.message"][odoo.add("mail.message", body=body)] |= {
        "model": "res.partner", "res_id": 6, "date": odoo.clock.now_s(),
    }  # fmt: skip
    assert not [event for event in read(odoo, cursor(first)) if isinstance(event, Merged)]


def test_merges_in_another_language_or_long_ago_are_not_told(odoo: Odoo) -> None:
    odoo.merge(2, 3)
    later(odoo, 40 * 86_400)
    odoo.merge(4, 5, words="Fusionné avec les partenaires suivants :")
    assert not [event for event in read(odoo) if isinstance(event, Merged)]


def test_merges_are_left_out_where_messages_may_not_be_read(odoo: Odoo) -> None:
    odoo.refused.add("mail.message")
    odoo.merge(2, 3)
    assert keys(read(odoo)) == ["1", "3", "4", "5", "6", "7"]


# Opt-outs


def test_an_opt_out_is_seen_although_the_contact_did_not_change(odoo: Odoo) -> None:
    first = read(odoo, None, "_opted_out")
    assert fields(first, 5) == {"_opted_out": False}
    later(odoo)
    odoo.blacklist("p5@example.com")
    second = read(odoo, cursor(first), "_opted_out")
    assert keys(second) == ["7", "5"]
    assert fields(second, 5) == {"_opted_out": True}
    later(odoo)
    assert keys(read(odoo, cursor(second), "_opted_out")) == ["7"]  # it is told once


def test_who_was_changed_and_opted_out_comes_once(odoo: Odoo) -> None:
    first = read(odoo, None, "_opted_out")
    later(odoo)
    odoo.put(5, name="New")
    odoo.put(6, active=False)
    odoo.blacklist("p5@example.com")
    odoo.blacklist("p6@example.com")
    assert keys(read(odoo, cursor(first), "_opted_out")) == ["5", "7"]


@pytest.mark.parametrize("way", ["archive", "delete"])
def test_an_opt_out_that_was_taken_back_is_seen_too(odoo: Odoo, way: str) -> None:
    number = odoo.blacklist("p5@example.com")
    first = read(odoo, None, "_opted_out")
    later(odoo)
    if way == "archive":
        odoo.add("mail.blacklist", number, active=False)
    else:
        del odoo.tables["mail.blacklist"][number]
    assert fields(read(odoo, cursor(first), "_opted_out"), 5) == {"_opted_out": False}


@pytest.mark.parametrize(
    "email",
    [
        "first@example.com, second@example.com",
        "Ann <SECOND@example.com>",
        "first@example.com;second@example.com",
        '"second@example.com" <first@example.com>',
        "x <first@example.com>, Y <second@example.com>",
    ],
)
def test_every_address_of_a_person_is_asked_for(odoo: Odoo, email: str) -> None:
    """Odoo itself looks at the first address only, and Odoo 14 at none where there are several."""
    odoo.put(1, email=email)
    settle(odoo)
    first = read(odoo, None, "_opted_out")
    assert fields(first, 1) == {"_opted_out": False}
    later(odoo)
    odoo.blacklist("second@example.com")
    assert fields(read(odoo, cursor(first), "_opted_out"), 1) == {"_opted_out": True}


def test_the_address_of_another_field_in_use_counts_too(odoo: Odoo) -> None:
    odoo.put(1, x_work_email="work@example.com", x_private_email="private@example.com")
    settle(odoo)
    names = ("_opted_out", "x_work_email")
    first = read(odoo, None, *names)
    assert fields(first, 1)["_opted_out"] is False
    later(odoo)
    odoo.blacklist("private@example.com")  # of a field that is not in use
    assert "1" not in keys(read(odoo, cursor(first), *names))
    odoo.blacklist("work@example.com")
    assert fields(read(odoo, cursor(first), *names), 1)["_opted_out"] is True


def test_a_row_of_the_blacklist_may_be_written_in_any_way(odoo: Odoo) -> None:
    """Odoo makes them plain itself; an import by SQL does not."""
    odoo.blacklist("Pia <P5@Example.com>")
    assert fields(read(odoo, None, "_opted_out"), 5) == {"_opted_out": True}


def test_a_blacklist_of_many_pages_is_read_whole(odoo: Odoo) -> None:
    table = odoo.tables["mail.blacklist"]
    for key in range(1, 10_011):
        table[key] = {"id": key, "active": True, "email": f"b{key}@example.com"}
    odoo.blacklist("p5@example.com")
    assert fields(read(odoo, None, "_opted_out"), 5) == {"_opted_out": True}


def test_without_the_right_to_the_blacklist_only_what_is_sure_is_told(odoo: Odoo) -> None:
    odoo.rights.discard("mail.blacklist")
    odoo.put(1, email="a1@example.com, a2@example.com")
    odoo.put(2, email="Ann <A3@example.com>")
    odoo.put(3, email=None)
    settle(odoo)
    names = ("_opted_out", "email")
    first = read(odoo, None, *names)
    assert "_opted_out" not in fields(first, 1)
    assert [fields(first, key)["_opted_out"] for key in (2, 3, 4)] == [False, False, False]
    later(odoo)
    odoo.blacklist("a2@example.com")
    odoo.blacklist("p4@example.com")
    second = read(odoo, cursor(first), *names)
    assert keys(second) == ["7", "4"]
    assert fields(second, 4)["_opted_out"] is True
    assert "_opted_out" not in fields(read(odoo, None, *names), 1)
    odoo.put(5, x_work_email="other@example.com")
    assert "_opted_out" not in fields(read(odoo, None, "_opted_out", "x_work_email"), 5)


def test_a_row_without_its_opt_out_is_not_known(odoo: Odoo) -> None:
    """A module that leaves values out must not make everybody writable."""
    odoo.lacking = {"is_blacklisted"}
    assert fields(read(odoo, None, "_opted_out", "email"), 1) == {"email": "p1@example.com"}
    odoo.lacking = {"email"}
    assert fields(read(odoo, None, "_opted_out"), 1) == {}


def test_an_odoo_without_opt_outs_ends_the_read_where_they_are_mapped(odoo: Odoo) -> None:
    del odoo.schema["res.partner"]["is_blacklisted"]
    with pytest.raises(SourceError, match="no opt-outs"):
        read(odoo, None, "_opted_out")
    odoo.schema["res.partner"]["opt_out"] = {"type": "boolean"}  # Odoo 12
    odoo.put(1, opt_out=True)
    found = read(odoo, None, "_opted_out")
    assert [fields(found, key)["_opted_out"] for key in (1, 2)] == [True, False]


def test_other_rights_than_in_the_last_read_make_everything_be_read(odoo: Odoo) -> None:
    first = read(odoo, None, "_opted_out")
    odoo.rights.discard("mail.blacklist")
    events = read(odoo, cursor(first), "_opted_out")
    assert resyncs(events)
    assert keys(events) == EVERYBODY


def test_odoos_own_fields_that_change_unseen_are_kept_fresh_too(odoo: Odoo) -> None:
    """Whoever maps `is_blacklisted` or `category_id` itself relies on it as well."""
    names = ("is_blacklisted", "category_id")
    first = read(odoo, None, *names)
    later(odoo)
    odoo.blacklist("p5@example.com")
    number = odoo.tag("VIP", 6)
    second = read(odoo, cursor(first), *names)
    assert keys(second) == ["7", "5", "6"]
    assert fields(second, 5) == {"is_blacklisted": True, "category_id": []}
    assert fields(second, 6) == {"is_blacklisted": False, "category_id": [number]}


# Tags and lists


def test_tags_given_or_taken_from_the_tags_side_are_seen(odoo: Odoo) -> None:
    number = odoo.tag("VIP", 1, 2)
    odoo.tag("Fair", 1)
    first = read(odoo, None, "_tags")
    assert fields(first, 1) == {"_tags": ["Fair", "VIP"]}
    assert fields(first, 3) == {"_tags": []}
    later(odoo)
    odoo.tag("VIP", 5)
    odoo.tables["res.partner"][2]["category_id"] = []
    second = read(odoo, cursor(first), "_tags")
    assert keys(second) == ["7", "2", "5"]
    assert fields(second, 2) == {"_tags": []}
    assert fields(second, 5) == {"_tags": ["VIP"]}
    later(odoo)
    odoo.add("res.partner.category", number, name="Very important")
    third = read(odoo, cursor(second), "_tags")
    assert keys(third) == ["7", "1", "5"]
    assert fields(third, 1) == {"_tags": ["Fair", "Very important"]}


@pytest.mark.parametrize("way", ["archive", "delete"])
def test_a_tag_that_is_gone_is_nobodys(odoo: Odoo, way: str) -> None:
    number = odoo.tag("VIP", 1)
    first = read(odoo, None, "_tags")
    later(odoo)
    if way == "archive":
        odoo.add("res.partner.category", number, active=False)
    else:
        del odoo.tables["res.partner.category"][number]
        odoo.tables["res.partner"][1]["category_id"] = []
    assert fields(read(odoo, cursor(first), "_tags"), 1) == {"_tags": []}


def test_two_tags_of_one_name_do_not_hide_each_other(odoo: Odoo) -> None:
    first = read(odoo, None, "_tags")
    later(odoo)
    for _ in range(2):
        number = odoo.add("res.partner.category", name="VIP")
        held = odoo.tables["res.partner"][1]
        held["category_id"] = [*held.get("category_id", []), number]
    assert fields(read(odoo, cursor(first), "_tags"), 1) == {"_tags": ["VIP"]}


def test_equal_marks_do_not_cancel_each_other() -> None:
    none, twice = Marks(), Marks()
    for _ in range(2):
        twice.of_id(1, "x")
        twice.of_address("a@example.com", "x")
    changed = twice.changed_since(none.summary())
    assert changed is not None
    assert changed.concerns(1, [])
    assert changed.concerns(2, ["a@example.com"])
    assert not changed.concerns(2, ["b@example.com"])
    assert not none.changed_since(none.summary())


def test_lists_are_those_of_the_address_without_who_has_left(odoo: Odoo) -> None:
    odoo.subscribe("News", "P1@example.com")
    odoo.subscribe("Offers", "p1@example.com")
    odoo.subscribe("News", "p2@example.com", opt_out=True)
    first = read(odoo, None, "_lists")
    assert fields(first, 1) == {"_lists": ["News", "Offers"]}
    assert fields(first, 2) == {"_lists": []}
    later(odoo)
    model = "mailing.subscription" if odoo.version >= 17 else "mailing.contact.subscription"
    odoo.tables[model][1]["opt_out"] = True  # moves neither the mailing contact nor the partner
    second = read(odoo, cursor(first), "_lists")
    assert keys(second) == ["7", "1"]
    assert fields(second, 1) == {"_lists": ["Offers"]}
    assert fields(read(odoo, None, "_lists", lists=["News"]), 1) == {"_lists": []}
    with pytest.raises(SourceError, match="no mailing list 'Nwes'"):
        read(odoo, None, "_lists", lists=["Nwes"])


def test_lists_that_may_not_be_read_or_are_not_there_end_the_read(odoo: Odoo) -> None:
    odoo.rights.discard("mailing.list")
    with pytest.raises(SourceDenied, match="Email Marketing"):
        read(odoo, None, "_lists")
    del odoo.schema["mailing.contact"]
    with pytest.raises(SourceError, match="no mailing lists"):
        read(odoo, None, "_lists")
