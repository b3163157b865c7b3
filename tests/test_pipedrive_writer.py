"""Writing back into Pipedrive: status in campaigns and custom fields, what is refused or stays as it was, what is gone, what is lacking."""

from datetime import UTC, datetime
from typing import Any

import pytest
from doubles.pipedrive import LEVEL, TITLE, Pipedrive
from doubles.server import Told
from pipedrive_reads import crm_fixture, fields, read

from connectors.pipedrive.writer import PipedriveWriter, PipedriveWriterOptions
from syncd.connector import Context
from syncd.errors import SourceDenied, SourceError, SourceExhausted
from syncd.http import further_key
from syncd.writer import Heard, News, Unwritten

__all__ = ["crm_fixture"]

AT = datetime(2026, 1, 1, 10, tzinfo=UTC)


def writer(crm: Pipedrive, **options: Any) -> PipedriveWriter:
    given = {"token": "env:PIPEDRIVE_TOKEN", "base_url": crm.url, **options}
    return PipedriveWriter(PipedriveWriterOptions.model_validate(given), Context(clock=crm.clock))


def news(key: int | str, heard: Heard = Heard.OPTED_OUT) -> News:
    return News(str(key), f"p{key}@example.com", heard, AT)


def write(crm: Pipedrive, *some: News, **options: Any) -> list[Unwritten]:
    return list(writer(crm, **options).write(some))


def out(crm: Pipedrive) -> list[int]:
    return [key for key, row in crm.persons.items() if row["marketing_status"] == "unsubscribed"]


def custom(crm: Pipedrive, key: str) -> dict[int, Any]:
    held = {number: row["custom_fields"].get(key) for number, row in crm.persons.items()}
    return {number: value for number, value in held.items() if value is not None}


# What is written


def test_who_opts_out_reads_as_opted_out(crm: Pipedrive) -> None:
    assert write(crm, news(2), news(4)) == []
    events = read(crm, None, "_opted_out")
    assert [key for key in "12345" if fields(events, key)["_opted_out"]] == ["2", "4"]


def test_the_same_again_changes_nothing(crm: Pipedrive) -> None:
    write(crm, news(2))
    before = {key: dict(row) for key, row in crm.persons.items()}
    assert write(crm, news(2)) == []
    assert crm.persons == before


def test_each_thing_goes_into_a_custom_field_by_its_name_or_key(crm: Pipedrive) -> None:
    options = {
        "opted_out": {"field": "Level", "value": "Silver"},
        "bounced": TITLE,
        "replied": {"field": "Job title", "value": "said yes"},
    }
    some = [news(1), news(2, Heard.BOUNCED), news(3, Heard.REPLIED)]
    assert write(crm, *some, **options) == []
    assert custom(crm, LEVEL) == {1: 11}
    assert custom(crm, TITLE) == {2: "bounced", 3: "said yes"}
    assert out(crm) == []


def test_two_things_of_a_person_are_one_change(crm: Pipedrive) -> None:
    options = {"opted_out": {"field": "Level", "value": "Gold"}, "replied": TITLE}
    assert write(crm, news(1), news(1, Heard.REPLIED), **options) == []
    assert (custom(crm, LEVEL), custom(crm, TITLE)) == ({1: 10}, {1: "replied"})
    assert crm.paths().count("PATCH /api/v2/persons/1") == 1


def test_a_further_address_opts_out_as_its_person_and_bounces_alone(crm: Pipedrive) -> None:
    first, second = (further_key(key, "x@example.com") for key in "12")
    assert write(crm, news(first), news(second, Heard.BOUNCED), bounced=TITLE) == []
    assert (out(crm), custom(crm, TITLE)) == ([1], {})


def test_what_has_no_field_is_not_told(crm: Pipedrive) -> None:
    assert write(crm, news(1, Heard.REPLIED)) == []
    assert out(crm) == []


def test_a_batch_keeps_to_the_pace(crm: Pipedrive) -> None:
    for key in range(6, 101):
        crm.put(key, f"p{key}@example.com")
    assert write(crm, *(news(key) for key in range(1, 101))) == []
    assert len(out(crm)) == 100
    assert len(crm.asked) == 101  # each once, and all read back at once


# What is refused, and what is gone


def test_what_pipedrive_refuses_is_told_in_its_words_and_the_others_are_written(
    crm: Pipedrive,
) -> None:
    crm.refuses[2] = "p2@example.com is locked"
    (refused,) = write(crm, news(1), news(2), news(3))
    assert refused.key == "2"
    assert "(address) is locked" in refused.why
    assert out(crm) == [1, 3]


def test_a_status_that_stays_as_it_was_is_told(crm: Pipedrive) -> None:
    crm.put(2, marketing_status="subscribed")
    crm.settled.add(2)
    crm.put(3, emails=[])
    found = write(crm, news(1), news(2), news(3))
    assert [(one.key, one.why.split(":")[0]) for one in found] == [
        ("2", "marketing_status stays subscribed"),
        ("3", "marketing_status stays no_consent"),
    ]
    assert out(crm) == [1]


def test_who_is_gone_is_nobody_to_tell(crm: Pipedrive) -> None:
    crm.delete(1)
    assert write(crm, news(1), news(2), news(99)) == []
    assert out(crm) == [2]
    assert write(crm, news(1), news(3), news(99), opted_out=TITLE) == []
    assert custom(crm, TITLE) == {3: "opted_out"}


def test_a_key_of_something_else_is_refused(crm: Pipedrive) -> None:
    assert [one.key for one in write(crm, news("row-1"), news(2))] == ["row-1"]
    assert out(crm) == [2]


# What fails as a whole


def test_a_missing_scope_is_named(crm: Pipedrive) -> None:
    crm.denied.add("PATCH")
    for attempt in (lambda: write(crm, news(2)), writer(crm).check):
        with pytest.raises(SourceDenied, match="the scope contacts:full"):
            attempt()


def test_a_token_that_is_not_taken_fails_the_batch(crm: Pipedrive) -> None:
    crm.tokens.clear()
    with pytest.raises(SourceDenied, match="refuses the login"):
        write(crm, news(2))


@pytest.mark.parametrize("refuses", [True, False])
def test_an_account_without_campaigns_is_told_what_to_do(crm: Pipedrive, *, refuses: bool) -> None:
    crm.campaigns, crm.refuses_added = False, refuses
    for attempt in (lambda: write(crm, news(2)), writer(crm).check):
        with pytest.raises(SourceError, match="no Campaigns add-on"):
            attempt()


def test_a_passing_failure_is_tried_again(crm: Pipedrive) -> None:
    crm.faults = [Told(429, b"{}", {"x-ratelimit-reset": "2"}), Told(502, b"<html>")]
    assert write(crm, news(2)) == []
    assert out(crm) == [2]


def test_what_stays_broken_fails_the_batch(crm: Pipedrive) -> None:
    crm.broken_after = 1
    with pytest.raises(SourceError, match="failed 5 times"):
        write(crm, news(1), news(2))


def test_a_day_without_tokens_fails_the_batch(crm: Pipedrive) -> None:
    crm.budget = 15
    with pytest.raises(SourceExhausted):
        write(crm, news(1), news(2))


# check


def test_check_changes_nothing(crm: Pipedrive) -> None:
    before = {key: dict(row) for key, row in crm.persons.items()}
    assert writer(crm, bounced="Job title").check() == (
        "Pipedrive can be written to, opted_out in marketing_status, bounced in Job title"
    )
    assert crm.persons == before


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("Nothing", "'Nothing' of persons, for bounced, is not there"),
        ("Name", "is not there"),  # no custom field: a person is never renamed by this
        ("Since", "holds neither text nor one choice"),
        ({"field": "Level", "value": "Bronze"}, "has no choice 'Bronze'.*Gold, Silver"),
    ],
)
def test_check_names_a_field_that_cannot_be_set(crm: Pipedrive, place: Any, wrong: str) -> None:
    with pytest.raises(SourceError, match=wrong):
        writer(crm, bounced=place).check()
