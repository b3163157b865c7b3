"""Attio against its double: what is read, and what is survived."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attio_reads import connector, crm_fixture, fields, keys, read
from doubles.attio import (
    ENTRIES,
    LISTS,
    MEMBERS,
    RECORDS,
    SCHEMA,
    TOKEN,
    Attio,
    problem,
)
from doubles.server import Told

from connectors.attio import AttioConnector, vendor
from syncd.connector import Record, Request
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

__all__ = ["crm_fixture"]

MADE = "2026-01-01T00:00:00.000000000Z"


def person(key: Any = "p1", made: Any = MADE, values: Any = None) -> dict[str, Any]:
    return {"id": {"record_id": key}, "created_at": made, "values": values or {}}


# Values


def test_values_come_without_what_stands_around_them(crm: Attio) -> None:
    crm.put(
        "p1",
        job_title="CTO",
        unsubscribed=True,
        level="Gold",
        stage="Won",
        interests=["Tea", "Coffee"],
        keeper="m1",
        location={"locality": "Basel", "country_code": "CH"},
    )
    found = fields(read(crm, *crm.attributes), "p1")
    assert found == {
        "name": {"first_name": "Pia", "last_name": "P1", "full_name": "Pia P1"},
        "email_addresses": ["p1@example.com"], "phone_numbers": [], "job_title": "CTO", "company": None,
        "unsubscribed": True, "level": "Gold", "stage": "Won", "interests": ["Tea", "Coffee"], "keeper": "m1",
        "location": {"locality": "Basel", "country_code": "CH"},
    }  # fmt: skip


def test_what_held_once_holds_no_more(crm: Attio) -> None:
    crm.put("p1", unsubscribed=[True, False], email_addresses=["old@example.com", "p1@example.com"])
    crm.put("p2", unsubscribed=[True])
    for key, slug in (("p1", "unsubscribed"), ("p1", "email_addresses"), ("p2", "unsubscribed")):
        crm.people[key]["values"][slug][0]["active_until"] = MADE
    events = read(crm, "unsubscribed", "_email")
    assert fields(events, "p1") == {"unsubscribed": False, "_email": "p1@example.com"}
    assert fields(events, "p2") == {"unsubscribed": None, "_email": "p2@example.com"}


@pytest.mark.parametrize("gaps", [False, True])
def test_an_attribute_without_a_value_is_empty(crm: Attio, gaps: bool) -> None:
    """Whether it comes as an empty list, or does not come at all."""
    crm.gaps = gaps
    found = fields(read(crm, "unsubscribed", "interests", "_phone", "_company"), "p1")
    assert found == {"unsubscribed": None, "interests": [], "_phone": None, "_company": None}


def test_an_attribute_that_did_not_come_is_not_known(crm: Attio) -> None:
    crm.hidden = {"unsubscribed", "company", "email_addresses", "keeper"}
    wanted = ("unsubscribed", "_company", "_email", "_owner", "job_title")
    assert fields(read(crm, *wanted, owner="keeper"), "p1") == {"job_title": None}


@pytest.mark.parametrize("held", ["none", None, 7, {"value": True}])
def test_values_in_another_shape_are_not_known(crm: Attio, held: Any) -> None:
    crm.people["p1"]["values"]["unsubscribed"] = held
    events = read(crm, "unsubscribed")
    assert fields(events, "p1") == {}
    assert fields(events, "p2") == {"unsubscribed": None}


def test_further_addresses_are_people_where_they_are_wanted(crm: Attio) -> None:
    crm.put(
        "p1", email_addresses=[" a@example.com ", "B@example.org", "A@example.com", "b@example.org"]
    )
    crm.put("p2", email_addresses=[])
    assert [key for key in keys(read(crm)) if key.startswith("p1")] == ["p1"]
    events = read(crm, "_email", "job_title", emails="all")
    mine = [e for e in events if isinstance(e, Record) and e.key.startswith("p1")]
    assert [dict(record.fields) for record in mine] == [
        {"_email": "a@example.com", "job_title": None},
        {"_email": "B@example.org", "job_title": None},
    ]
    assert "example" not in mine[1].key
    assert fields(events, "p2") == {"_email": None, "job_title": None}


def test_the_company_of_a_person(crm: Attio) -> None:
    crm.put_company("c1", "Example SA", "example.com")
    crm.put_company("c2")
    crm.put("p1", company="c1")
    crm.put("p2", company="c2")
    crm.put("p3", company="unseen")
    events = read(crm, "_company")
    assert fields(events, "p1") == {
        "_company": {"id": "c1", "name": "Example SA", "domain": "example.com"}
    }
    assert fields(events, "p2") == {"_company": {"id": "c2", "name": None, "domain": None}}
    assert fields(events, "p3") == {}
    assert fields(events, "p4") == {"_company": None}


def test_companies_are_asked_for_together(crm: Attio) -> None:
    for number in range(250):
        crm.put_company(f"c{number}", f"Company {number}")
        crm.put(f"n{number}", f"n{number}@example.com", company=f"c{number}")
    crm.asked.clear()
    events = read(crm, "_company")
    assert fields(events, "n249")["_company"]["name"] == "Company 249"
    assert sum("companies" in path for path in crm.paths()) == 3


@pytest.mark.parametrize("owner", ["keeper", "Keeper"])
@pytest.mark.parametrize("gaps", [False, True])
def test_the_owner_is_the_member_that_an_attribute_names(
    crm: Attio, owner: str, gaps: bool
) -> None:
    crm.gaps = gaps
    crm.members = [
        {"id": {"workspace_member_id": "m1"}, "first_name": "Olga", "last_name": "O.",
         "email_address": "o@example.com"}
    ]  # fmt: skip
    crm.put("p1", keeper="m1")
    crm.put("p2", keeper="m2")
    crm.put("p3", keeper={"referenced_actor_type": "system", "referenced_actor_id": None})
    events = read(crm, "_owner", owner=owner)
    olga = {"id": "m1", "name": "Olga O.", "email": "o@example.com"}
    found = [fields(events, f"p{n}") for n in range(1, 5)]
    assert found == [{"_owner": olga}, *[{"_owner": None}] * 3]
    assert "_owner" not in fields(read(crm, "_owner"), "p1")
    with pytest.raises(SourceError, match="no attribute 'Level'"):
        connector(crm, owner="Level").check()


@pytest.mark.parametrize("paged", [False, True])
def test_lists_are_names_of_whoever_is_in_them(crm: Attio, paged: bool) -> None:
    """Somebody may be in one twice, and lists of other things are not read."""
    crm.paged, crm.page_max = paged, 2
    crm.put_list("l1", "VIP", "p1", "p2", "p1", "p3")
    crm.put_list("l2", "Partners", "p1")
    crm.put_list("l3", "VIP", "p4")
    crm.put_list("l4", "Deals", "p5", of="deals")
    crm.put_list("l5", "Nobody")
    found = [fields(read(crm, "_lists"), f"p{n}")["_lists"] for n in range(1, 6)]
    assert found == [["VIP", "Partners"], ["VIP"], ["VIP"], ["VIP"], []]
    crm.asked.clear()
    assert fields(read(crm, "_lists", lists=["Partners"]), "p1") == {"_lists": ["Partners"]}
    assert not any("/l1/" in path for path in crm.paths())
    for name, words in (("VIP", "2 lists 'VIP'"), ("Deals", "no list 'Deals'")):
        with pytest.raises(SourceError, match=words):
            read(crm, "_lists", lists=[name])


def test_an_entry_without_its_person_is_no_read(crm: Attio) -> None:
    crm.put_list("l1", "VIP", "p1")
    crm.entries["l1"][0]["parent_record_id"] = None
    with pytest.raises(SourceError, match="entry of a list came without"):
        read(crm, "_lists")


def test_an_attribute_of_ones_own_is_offered_with_its_title(crm: Attio) -> None:
    crm.attributes["cf"] = ("No mailings please", "checkbox", False)
    crm.paged, crm.page_max = True, 5
    crm.put("p2", cf=True)
    found = {one.name: one.label for one in connector(crm).fields()}
    assert found["cf"] == "No mailings please"
    assert len(found) == 12
    assert fields(read(crm, "cf"), "p2") == {"cf": True}


def test_values_that_nobody_expects_come_as_they_are(crm: Attio) -> None:
    name = {"first_name": "An\x00n", "last_name": "\U0001f469\u200d\U0001f52c"}
    crm.put("p1", "  ", job_title="{{ x }}", name=name)
    crm.people["p1"]["values"]["email_addresses"] += [None, 7, {}, {"attribute_type": 7}]
    crm.people["p1"]["values"]["level"] = [{"attribute_type": "select", "option": None}]
    crm.people["p1"]["values"]["stage"] = [{"attribute_type": "status"}]
    crm.people["p1"]["values"]["company"] = [{"attribute_type": "record-reference"}]
    found = fields(read(crm, "name", "job_title", "_email", "level", "stage", "_company"), "p1")
    assert found == {
        "name": name, "job_title": "{{ x }}", "_email": None, "level": None, "stage": None, "_company": None,
    }  # fmt: skip


# Everybody, whatever happens meanwhile


@pytest.mark.parametrize("page_max", [500, 100])
@pytest.mark.parametrize("coarse", [False, True])
def test_everybody_comes_although_rows_come_and_go_between_pages(
    crm: Attio, page_max: int, coarse: bool
) -> None:
    crm.page_max, crm.coarse = page_max, coarse
    for number in range(1_300):
        crm.put(f"n{number}", f"n{number}@example.com")
        crm.clock.advance_s(0.01 if number % 3 else 0)
    turns = iter(range(1_000))

    def move(asked: Any) -> None:
        if "/people/records/" in asked.path and (turn := next(turns)) and turn < 4:
            crm.delete(f"n{turn}")
            crm.put(f"late{turn}", f"late{turn}@example.com")

    crm.before_answer = move
    found = keys(read(crm))
    assert len(found) == len(set(found))
    assert set(found) >= {f"n{number}" for number in range(4, 1_300)} | {"p1", "p5"}


@pytest.mark.parametrize("coarse", [False, True])
def test_an_import_of_one_instant_is_read_whole(crm: Attio, coarse: bool) -> None:
    crm.coarse, crm.frozen = coarse, True
    for number in range(1_200):
        crm.put(f"n{number}", f"n{number}@example.com")
    crm.frozen = False
    crm.put("last", "last@example.com")
    found = keys(read(crm))
    assert len(found) == len(set(found)) == 1_206


def test_what_was_made_in_one_instant_may_come_in_any_order(crm: Attio) -> None:
    crm.frozen, crm.restless = True, True
    for number in range(990):
        if number % 90 == 0:
            crm.clock.advance_s(10)
        crm.put(f"n{number}", f"n{number}@example.com")
    found = keys(read(crm))
    assert len(found) == len(set(found)) == 995


def test_more_than_a_page_of_one_instant_in_an_order_that_changes_is_no_short_read(
    crm: Attio,
) -> None:
    crm.frozen, crm.restless = True, True
    for number in range(700):
        crm.put(f"n{number}", f"n{number}@example.com")
    with pytest.raises(SourceError, match="changes while it is read"):
        read(crm)


def test_an_import_from_which_somebody_goes_meanwhile_is_read_again(crm: Attio) -> None:
    crm.frozen = True
    for number in range(1_200):
        crm.put(f"n{number}", f"n{number}@example.com")
    crm.frozen, deleted = False, iter(range(1))

    def go(asked: Any) -> None:
        if asked.json and asked.json.get("offset") and next(deleted, None) is not None:
            crm.delete("n3")

    crm.before_answer = go
    found = keys(read(crm))
    assert len(found) == len(set(found))
    assert {f"n{number}" for number in range(1_200) if number != 3} <= set(found)


def test_nobody_who_has_gone_comes(crm: Attio) -> None:
    crm.delete("p2")
    crm.merge("p3", "p4")
    events = read(crm, "_email", emails="all")
    assert [key.partition("#")[0] for key in keys(events)][:2] == ["p1", "p4"]
    mine = [e.fields["_email"] for e in events if isinstance(e, Record)]
    assert mine == ["p1@example.com", "p4@example.com", "p3@example.com", "p5@example.com"]


def test_lists_are_read_whole_too(crm: Attio) -> None:
    people = [f"n{number}" for number in range(1_100)]
    for one in people:
        crm.put(one, f"{one}@example.com")
    crm.put_list("l1", "VIP", *people)
    events = read(crm, "_lists")
    assert all(fields(events, one) == {"_lists": ["VIP"]} for one in people[::97])


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([[person("a", "2026-02-01T00:00:00Z"), person("b", MADE)]], "order"),
        ([[person(None)]], "without its record_id"),
        ([[{"created_at": MADE, "values": {}}]], "without its record_id"),
        ([[{**person(), "values": None}]], "without `values`"),
        ([[person(made=None)]], "time at which it was made"),
        ([[person(made="soon")]], "time at which it was made"),
    ],
)
def test_rows_that_cannot_be_read_are_no_read(crm: Attio, answers: Any, words: str) -> None:
    crm.faults = [None, None, *(Told(200, {"data": rows}) for rows in answers)]
    with pytest.raises(SourceError, match=words):
        read(crm)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"records": []}, "without `data`"),
        ({"data": [7]}, "without `data`"),
        ({"data": None}, "without `data`"),
        ([], "without `data`"),
        (b"<html>Sign in</html>", "not JSON"),
    ],
)
@pytest.mark.parametrize("before", [0, 2])
def test_an_answer_that_is_not_attios_is_no_read(
    crm: Attio, body: Any, words: str, before: int
) -> None:
    crm.faults = [*[None] * before, *[Told(200, body)] * 5]
    with pytest.raises(SourceError, match=words):
        read(crm)


def test_a_server_that_does_not_heed_from_where_ends(crm: Attio) -> None:
    """Each question brings the same page."""
    same = Told(200, {"data": [person("a"), person("b", "2026-02-01T00:00:00Z")]})
    crm.faults = [None, None, *[same] * 99]
    with pytest.raises(SourceError, match="changes while it is read"):
        read(crm)
    tied = Told(200, {"data": [person("a"), person("b")]})
    crm.faults = [None, None, *[tied] * 99]
    with pytest.raises(SourceError, match="changes while it is read"):
        read(crm)


def test_pages_that_do_not_overlap_are_no_short_read(crm: Attio) -> None:
    crm.page_max = 1
    with pytest.raises(SourceError, match="changes while it is read"):
        read(crm)


def test_a_listing_that_never_ends_is_an_error(crm: Attio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor, "LISTING_PAGES", 20)
    numbers, answer = iter(range(10**9)), crm.answer

    def endless(asked: Any) -> Told:
        if asked.path == "/v2/lists":
            return Told(200, {"data": [{"id": {"list_id": "l"}, "name": f"L{next(numbers)}"}]})
        return answer(asked)

    crm.answer = endless  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="does not end"):
        read(crm, "_lists")


# Limits, logins, rights


def test_attio_is_waited_for_as_it_asks(crm: Attio) -> None:
    """It names a time of its own clock, not a number of seconds."""
    before_s = crm.clock.now_s()
    crm.faults = [None, crm.later(9), crm.later(9)]
    assert len(keys(read(crm))) == 5
    assert 9 <= crm.clock.now_s() - before_s <= 25
    crm.faults = [crm.later(1)] * 5
    with pytest.raises(SourceError, match="rate_limit_exceeded"):
        read(crm)


def test_a_long_read_keeps_to_the_limit(crm: Attio) -> None:
    crm.page_max, answer, told = 2, crm.answer, []
    for number in range(150):
        crm.put(f"n{number}", f"n{number}@example.com")
        crm.clock.advance_s(1)

    def noted(asked: Any) -> Told:
        told.append(answer(asked))
        return told[-1]

    crm.answer = noted  # type: ignore[method-assign]
    assert len(keys(read(crm))) == 155
    assert len(told) > 150
    assert {one.status for one in told} == {200}


def test_check_names_what_cannot_be_read(crm: Attio) -> None:
    crm.put_list("l1", "VIP", "p1")
    assert connector(crm, owner="keeper").check() == "Attio: people can be read"
    crm.denied = {ENTRIES, MEMBERS}
    words = connector(crm, owner="keeper").check()
    assert "not _lists: it takes the scopes list_entry:read and list_configuration:read" in words
    assert "not _owner: it takes the scope user_management:read" in words
    assert "_owner" not in connector(crm).check()
    for scope in (RECORDS, SCHEMA):
        crm.denied = {scope}
        with pytest.raises(SourceDenied, match="record_permission:read and object_configuration"):
            connector(crm).check()


def test_what_is_in_use_and_may_not_be_read_is_no_read(crm: Attio) -> None:
    crm.put_company("c1", "Example SA")
    crm.put("p1", company="c1")
    crm.put_list("l1", "VIP", "p1")
    crm.denied = {LISTS, MEMBERS}
    for name in ("_lists", "_owner"):
        with pytest.raises(SourceDenied):
            read(crm, name, owner="keeper")
    everything = list(connector(crm, owner="keeper").read(Request()))
    assert fields(everything, "p1")["_company"]["name"] == "Example SA"
    assert not {"_lists", "_owner"} & fields(everything, "p1").keys()


def test_companies_that_may_not_be_read(crm: Attio) -> None:
    crm.put("p1", company="c1")
    crm.put("p2", company="c2")
    answer = crm.answer

    def without_companies(asked: Any) -> Told:
        return problem(403, "forbidden", "No") if "/companies/" in asked.path else answer(asked)

    crm.answer = without_companies  # type: ignore[method-assign]
    assert "not _company" in connector(crm).check()
    with pytest.raises(SourceDenied):
        read(crm, "_company")
    events = list(connector(crm).read(Request()))
    assert "_company" not in fields(events, "p1")
    assert len(keys(events)) == 5


def test_no_secret_and_no_address_is_in_an_error(crm: Attio) -> None:
    crm.faults = [problem(400, "value_error", f"{TOKEN} may not see ann@example.com")]
    with pytest.raises(SourceRefused, match=r"\(secret\) may not see \(address\)") as caught:
        read(crm)
    assert "ann@example.com" not in str(caught.value)
    crm.tokens = {"another"}
    with pytest.raises(SourceDenied, match="Invalid token"):
        read(crm)


def test_the_mapping_that_attio_brings_along_reads_what_its_people_have(crm: Attio) -> None:
    preset = connector(crm).preset()
    assert preset is not None
    used = {re.split(r"\.", path)[0] for path in preset.fields.values()}
    offered = {one.name for one in connector(crm).fields()} | AttioConnector.ABILITIES.joins
    assert used <= offered
    assert not preset.opted_out


class TestAttio(ConnectorSuite):
    """The promises of every connector."""

    many = 1_200

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Attio() as self.crm:
            self.crm.tokens = {conformance.SECRET}
            yield

    def source(self, folder: Path, records: Any) -> AttioConnector:
        self.crm.people.clear()
        self.crm.broken_after = None
        for row in records:
            name = {"first_name": row["name"], "last_name": "", "full_name": row["name"]}
            self.crm.put(row["id"], row["email"], name=name)
        return connector(self.crm, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 6
