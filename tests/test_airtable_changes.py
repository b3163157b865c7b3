"""What an incremental read of Airtable sees: what somebody edited, and what that changes elsewhere."""

import json
from typing import Any

import pytest
from airtable_reads import connector, crm_fixture, cursor, fields, numbers, read, reason
from doubles.airtable import COMPANIES, PEOPLE, Airtable, column, looked_up, rec

from syncd.connector import Checkpoint
from syncd.http import parse_time

__all__ = ["crm_fixture"]


@pytest.mark.parametrize("blank", [False, True])
def test_only_what_was_changed_or_made_is_read(crm: Airtable, blank: bool) -> None:
    """Whether a record that was just made has a time of a change, nobody says."""
    crm.blank_times = blank
    first = read(crm, None, "First name")
    crm.clock.advance_s(3600)
    crm.put(3, First_name="New")
    crm.put(6, First_name="Made")
    crm.clock.advance_s(600)
    second = read(crm, cursor(first), "First name")
    assert sorted(numbers(second)) == [3, 6]
    assert reason(second) == ""
    crm.clock.advance_s(3600)
    assert numbers(read(crm, cursor(second), "First name")) == []
    assert len([one for one in crm.asked if one.path.endswith(PEOPLE)]) == 3


def test_a_change_that_formulas_see_late_is_read(crm: Airtable) -> None:
    crm.lag_s = 240
    first = read(crm, None, "First name")
    crm.clock.advance_s(7200)
    crm.put(2, First_name="Late")
    crm.clock.advance_s(100)
    second = read(crm, cursor(first), "First name")
    assert numbers(second) == []
    crm.clock.advance_s(200)
    assert numbers(read(crm, cursor(second), "First name")) == [2]


def test_the_cursor_is_airtables_time_of_the_beginning(crm: Airtable) -> None:
    began_s = crm.now()
    crm.before_answer = lambda asked: crm.clock.advance_s(100)
    held = json.loads(cursor(read(crm)))
    since = parse_time(held["since"])
    assert since is not None
    assert began_s <= since.timestamp() <= began_s + 101


def test_a_deleted_record_is_missing_from_a_full_read_only(crm: Airtable) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete(3)
    assert numbers(read(crm, cursor(first))) == []
    assert numbers(read(crm)) == [1, 2, 4, 5]


def test_where_times_cannot_be_asked_for_everything_is_read(crm: Airtable) -> None:
    first = read(crm)
    crm.refuses_times = True
    crm.clock.advance_s(3600)
    second = read(crm, cursor(first))
    assert "does not say what has changed" in reason(second)
    assert len(numbers(second)) == 5
    assert cursor(second)


def test_a_company_that_is_changed_brings_its_people(crm: Airtable) -> None:
    """It does not change them: lookups, names behind links and `_company` would stay as they were."""
    for number in range(1, 251):
        crm.put_company(number, Title="Old", Web="https://old.example.com")
    crm.put(2, Company=[rec(1)])
    crm.put(4, Company=[rec(250)])
    crm.clock.advance_s(7200)
    wanted = ("Company", "Company site", "Blocked", "_company")
    first = read(crm, None, *wanted, company="Company")
    crm.clock.advance_s(7200)
    for number in range(1, 250):
        crm.put_company(number, Title="New", Web="https://new.example.com", Stop=True)
    crm.clock.advance_s(600)
    second = read(crm, cursor(first), *wanted, company="Company")
    assert numbers(second) == [2]
    assert fields(second, rec(2)) == {
        "Company": "New",
        "Company site": "https://new.example.com",
        "Blocked": True,
        "_company": {
            "id": rec(1),
            "name": "New",
            "website": "https://new.example.com",
            "domain": "new.example.com",
        },
    }
    crm.clock.advance_s(7200)
    assert numbers(read(crm, cursor(second), *wanted, company="Company")) == []


def test_who_is_changed_and_whose_company_is_comes_once(crm: Airtable) -> None:
    crm.put_company(1, Title="Old")
    for number in range(1, 6):
        crm.put(number, Company=[rec(1)])
    first = read(crm, None, "Company")
    crm.clock.advance_s(7200)
    crm.put_company(1, Title="New")
    crm.put(2, First_name="New")
    assert sorted(numbers(read(crm, cursor(first), "Company"))) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "made",
    [
        lambda crm: crm.column("fldGone")["options"].update(formula="NOW()"),
        lambda crm: crm.column("fldGone")["options"].update(referencedFieldIds=None),
        lambda crm: crm.column("fldGone")["options"].update(referencedFieldIds=["fldGone"]),
        lambda crm: crm.column("fldGone").update(type="aiText"),
        lambda crm: crm.column("fldGone").update(type="somethingNew"),
        lambda crm: crm.column("fldSite")["options"].update(recordLinkFieldId="fldLost"),
        lambda crm: crm.column("fldCompany")["options"].pop("inverseLinkFieldId"),
        lambda crm: crm.column("fldCompany")["options"].update(linkedTableId="tblHIDDEN"),
        lambda crm: crm.column("fldWeb").update(
            type="multipleLookupValues", options={"recordLinkFieldId": "fldPeople"}
        ),
        lambda crm: crm.columns().append(column("fldSync", "Sync", "externalSyncSource")),
    ],
)
def test_with_a_column_whose_changes_are_not_told_each_read_is_a_whole_one(
    crm: Airtable, made: Any
) -> None:
    wanted = ("Email", "Gone", "Company site")
    crm.computed = {"fldGone": lambda row: 1, "fldSite": lambda row: "x"}
    before = read(crm, None, *wanted)
    made(crm)
    events = read(crm, cursor(before), *wanted)
    assert reason(events)
    assert len(numbers(events)) == 5
    assert not any(isinstance(event, Checkpoint) for event in events)
    assert "each read is a whole one" in connector(crm).check()


def test_only_the_columns_in_use_decide_that(crm: Airtable) -> None:
    crm.column("fldGone")["options"]["formula"] = "TODAY ( )"
    first = read(crm, None, "Email")
    assert reason(read(crm, cursor(first), "Email")) == ""
    assert "mapped: 'Gone'" in connector(crm).check()
    for number in range(3):
        crm.columns().append(column(f"fldN{number}", f"N{number}", "aiText"))
    assert "mapped: 'Gone', 'N0', 'N1' and 1 more" in connector(crm).check()


def test_rollups_counts_and_formulas_over_lookups_follow_the_link(crm: Airtable) -> None:
    link = {"isValid": True, "recordLinkFieldId": "fldCompany"}
    crm.columns().extend(
        [
            column("fldRoll", "Roll", "rollup", **link, fieldIdInLinkedTable="fldWeb", referencedFieldIds=["fldTags"]),
            column("fldCount", "Count", "count", **link),
            column("fldFrom", "From", "formula", formula="{fldRoll}", isValid=True, referencedFieldIds=["fldRoll"]),
            looked_up("fldTwice", "Twice", "fldWeb", "url"),
        ]
    )  # fmt: skip
    crm.put_company(1, Title="Old")
    crm.put(2, Company=[rec(1)])
    crm.clock.advance_s(7200)
    for name in ("Roll", "Count", "From", "Twice"):
        key = next(one["id"] for one in crm.columns() if one["name"] == name)
        crm.computed[key] = lambda row: crm.rows[COMPANIES][rec(1)]["cells"].get("fldWeb")
        first = read(crm, None, name)
        crm.clock.advance_s(7200)
        crm.put_company(1, Web=f"https://{name}.example.com")
        second = read(crm, cursor(first), name)
        assert numbers(second) == [2]
        assert fields(second, rec(2)) == {name: f"https://{name}.example.com"}
        crm.clock.advance_s(7200)


@pytest.mark.parametrize(
    ("made", "anew"),
    [
        (lambda crm: crm.column("fldTags")["options"]["choices"].append({"id": "sel2", "name": "New"}), False),
        (lambda crm: crm.column("fldTags")["options"].update(choices=[{"id": "sel1", "name": "Hotter"}]), True),
        (lambda crm: crm.column("fldTags")["options"].update(choices=[]), True),
        (lambda crm: crm.column("fldOut")["options"].update(icon="star"), False),
        (lambda crm: crm.column("fldGone")["options"].update(formula="1"), True),
        (lambda crm: crm.column("fldTitle").update(type="richText"), True),
        (lambda crm: crm.column("fldFirst").update(type="richText"), False),  # not in use
        (lambda crm: crm.views["Newsletter"].add(rec(3)), True),
        (lambda crm: crm.views["Others"].add(rec(3)), False),
    ],
)  # fmt: skip
def test_what_changes_values_and_no_record_makes_everything_be_read(
    crm: Airtable, made: Any, anew: bool
) -> None:
    crm.views = {"Newsletter": {rec(1)}, "Others": set()}
    wanted = ("Tags", "Unsubscribed", "Gone", "Company", "_lists")
    first = read(crm, None, *wanted, views=["Newsletter"])
    made(crm)
    crm.clock.advance_s(3600)
    second = read(crm, cursor(first), *wanted, views=["Newsletter"])
    assert bool(reason(second)) is anew
    assert len(numbers(second)) == (5 if anew else 0)


@pytest.mark.parametrize(
    "text", ["?", "{}", '{"v":1}', '{"v":1,"since":"x","columns":{},"members":""}']
)
def test_a_cursor_that_is_none_makes_everything_be_read(crm: Airtable, text: str) -> None:
    events = read(crm, text)
    assert reason(events)
    assert len(numbers(events)) == 5


def test_another_mapping_needs_other_columns(crm: Airtable) -> None:
    """What a cursor knows of columns is of those that were in use then: more of them are no reason to read everything."""
    first = read(crm, None, "Email")
    crm.clock.advance_s(3600)
    assert reason(read(crm, cursor(first), "Email", "First name")) == ""
