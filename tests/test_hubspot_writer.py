"""Writing back into HubSpot: opt-outs by address, properties by contact, what is refused, what is gone, and what a login lacks."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from doubles.hubspot import WRITE, WRITE_OPT_OUTS, problem
from doubles.server import Told
from hubspot_reads import SECRET, TOKEN, HubSpot, fields, read

from connectors.hubspot.writer import HubspotWriter, HubspotWriterOptions
from syncd.connector import Context
from syncd.errors import SourceDenied, SourceError, SourceExhausted
from syncd.http import further_key
from syncd.writer import Heard, News, Unwritten

AT = datetime(2026, 1, 1, 10, tzinfo=UTC)
FIELDS = {"opted_out": "no_cold_mail", "bounced": "bounced", "replied": "replied"}


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpot]:
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot() as double:
        double.types |= dict.fromkeys(FIELDS.values(), "bool")
        for key in range(1, 6):
            double.put(key, email=f"p{key}@example.com")
        yield double


def writer(crm: HubSpot, **options: Any) -> HubspotWriter:
    given = {"token": SECRET, "base_url": crm.url, **options}
    return HubspotWriter(HubspotWriterOptions.model_validate(given), Context(clock=crm.clock))


def news(key: int | str, heard: Heard = Heard.OPTED_OUT, email: str = "") -> News:
    return News(str(key), email or f"p{key}@example.com", heard, AT)


def write(crm: HubSpot, *some: News, **options: Any) -> list[Unwritten]:
    return list(writer(crm, **options).write(some))


def ticked(crm: HubSpot, name: str) -> list[int]:
    return [key for key, row in crm.contacts.items() if row.get(name) == "true"]


# What is written


def test_who_opts_out_reads_as_opted_out(crm: HubSpot) -> None:
    assert write(crm, news(2), news(4, email="P4@Example.com")) == []
    events = read(crm, None, "hs_email_optout")
    out = [key for key in "12345" if fields(events, key)["hs_email_optout"]]
    assert out == ["2", "4"]


def test_the_same_again_changes_nothing(crm: HubSpot) -> None:
    write(crm, news(2))
    before = {key: dict(row) for key, row in crm.contacts.items()}
    assert write(crm, news(2)) == []
    assert crm.contacts == before
    crm.faults = [
        problem(400, "VALIDATION_ERROR", "p2@example.com is already unsubscribed from it")
    ]
    assert write(crm, news(2)) == []


def test_each_thing_goes_into_its_property_in_one_batch(crm: HubSpot) -> None:
    some = [news(1), news(2, Heard.BOUNCED), news(3, Heard.REPLIED)]
    assert write(crm, *some, **FIELDS) == []
    assert [ticked(crm, name) for name in FIELDS.values()] == [[1], [2], [3]]
    assert crm.paths() == ["POST /crm/v3/objects/contacts/batch/update"]
    assert crm.out == set()


def test_a_property_can_be_set_to_a_value(crm: HubSpot) -> None:
    crm.types["mail_state"] = "enumeration"
    write(crm, news(1, Heard.BOUNCED), bounced={"field": "mail_state", "value": "dead"})
    assert crm.contacts[1]["mail_state"] == "dead"


def test_what_has_no_place_is_not_told(crm: HubSpot) -> None:
    assert write(crm, news(1, Heard.REPLIED)) == []
    assert crm.asked == []


def test_a_further_address_opts_out_on_its_own(crm: HubSpot) -> None:
    crm.put(1, hs_additional_emails="x@example.com")
    key = further_key("1", "x@example.com")
    assert write(crm, news(key, email="x@example.com")) == []
    events = read(crm, None, "email", "hs_email_optout", emails="all")
    assert fields(events, key)["hs_email_optout"] is True
    assert not fields(events, "1")["hs_email_optout"]


def test_a_property_is_set_by_the_opt_out_of_a_further_address_and_not_by_its_bounce(
    crm: HubSpot,
) -> None:
    some = [news(further_key("1", "x"), Heard.BOUNCED), news(further_key("2", "y")), news(2)]
    assert write(crm, *some, **FIELDS) == []
    assert (ticked(crm, "bounced"), ticked(crm, "no_cold_mail")) == ([], [2])


# What is refused, and what is gone


@pytest.mark.parametrize("spoils", [False, True])
def test_what_hubspot_refuses_is_told_in_its_words_and_the_others_are_written(
    crm: HubSpot, *, spoils: bool
) -> None:
    crm.spoils = spoils
    crm.refuses[2] = "p2@example.com is locked"
    some = [news(key, Heard.BOUNCED) for key in (1, 2, 3)]
    (refused,) = write(crm, *some, **FIELDS)
    assert refused.key == "2"
    assert "VALIDATION_ERROR: (address) is locked" in refused.why
    assert ticked(crm, "bounced") == [1, 3]


def test_an_address_that_is_refused_is_told_and_the_others_opt_out(crm: HubSpot) -> None:
    crm.refuses["p2@example.com"] = "not an address: p2@example.com"
    (refused,) = write(crm, news(1), news(2), news(3))
    assert (refused.key, "p2@" in refused.why) == ("2", False)
    assert crm.out == {"p1@example.com", "p3@example.com"}


def test_who_is_gone_is_nobody_to_tell(crm: HubSpot) -> None:
    crm.archive(1)
    crm.erase(2)
    crm.merge(3, 4)
    some = [news(key, Heard.BOUNCED) for key in (1, 2, 3, 5)]
    assert write(crm, *some, **FIELDS) == []
    assert ticked(crm, "bounced") == [4, 5]
    crm.refuses["p2@example.com"] = "unknown"
    assert write(crm, news(2)) == []


def test_people_from_elsewhere_opt_out_by_address_and_have_no_properties(crm: HubSpot) -> None:
    some = [
        News("row-2", "p2@example.com", heard, AT) for heard in (Heard.OPTED_OUT, Heard.BOUNCED)
    ]
    (refused,) = write(crm, *some, bounced="bounced")
    assert refused.why == "this is no id of a contact"
    assert crm.out == {"p2@example.com"}


# What fails as a whole


@pytest.mark.parametrize(
    ("scope", "options"), [(WRITE_OPT_OUTS, {}), (WRITE, {"opted_out": "no_cold_mail"})]
)
def test_a_missing_scope_is_named(crm: HubSpot, scope: str, options: dict[str, Any]) -> None:
    crm.scopes.remove(scope)
    for attempt in (lambda: write(crm, news(2), **options), writer(crm, **options).check):
        with pytest.raises(SourceDenied, match=scope.replace(".", r"\.")) as caught:
            attempt()
        assert "p2" not in str(caught.value)


def test_a_token_that_is_not_taken_fails_the_batch(crm: HubSpot) -> None:
    crm.tokens.clear()
    with pytest.raises(SourceDenied, match="refuses the login"):
        write(crm, news(2))


def test_a_passing_failure_is_tried_again(crm: HubSpot) -> None:
    crm.faults = [Told(429, {"policyName": "TEN_SECONDLY_ROLLING"}), Told(502, b"<html>")]
    assert write(crm, news(2)) == []
    assert crm.out == {"p2@example.com"}


def test_what_stays_broken_fails_the_batch_without_an_address(crm: HubSpot) -> None:
    crm.broken_after = 1
    with pytest.raises(SourceError, match="failed 5 times") as caught:
        write(crm, news(1), news(2))
    assert "%40" not in str(caught.value)
    assert "statuses/(address)/unsubscribe-all" in str(caught.value)


def test_a_day_without_requests_fails_the_batch(crm: HubSpot) -> None:
    crm.faults = [Told(429, {"policyName": "DAILY"})]
    with pytest.raises(SourceExhausted):
        write(crm, news(1), **FIELDS)


# check


def test_check_changes_nothing(crm: HubSpot) -> None:
    before = {key: dict(row) for key, row in crm.contacts.items()}
    assert writer(crm, **FIELDS).check() == (
        "HubSpot can be written to, opted_out in no_cold_mail, bounced in bounced, replied in replied"
    )
    assert writer(crm).check() == "HubSpot can be written to, opted_out in hs_email_optout"
    assert (crm.contacts, crm.out) == (before, set())


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("nothing", "is not there"),
        ("lastmodifieddate", "is read only"),
        ("phone", "is no checkbox"),
        ({"field": "level", "value": "Gold"}, "does not take 'Gold'"),
    ],
)
def test_check_names_a_property_that_cannot_be_set(crm: HubSpot, place: Any, wrong: str) -> None:
    crm.types["level"], crm.choices["level"] = "enumeration", ["gold", "silver"]
    with pytest.raises(SourceError, match=wrong):
        writer(crm, bounced=place).check()
