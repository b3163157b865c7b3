"""Writing back into Salesforce: contacts and leads by their ids, what is refused, what is gone, and what a user may not set."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from doubles.salesforce import Salesforce, problem, sid
from doubles.server import Told
from salesforce_org import BOTH, LOGIN, fields, org_of_seven, read

from connectors.salesforce.writer import SalesforceWriter, SalesforceWriterOptions
from syncd.connector import Context
from syncd.errors import SourceDenied, SourceError, SourceExhausted
from syncd.writer import Heard, News, Unwritten

AT = datetime(2026, 1, 1, 10, tzinfo=UTC)
FIELDS = {"bounced": "Bounced__c", "replied": "Replied__c"}


@pytest.fixture(name="org")
def org_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    with org_of_seven(monkeypatch) as org:
        for table in BOTH:
            org.types[table] |= dict.fromkeys(FIELDS.values(), "boolean")
        org.put("Lead", 1, Email="l1@example.com")
        yield org


def writer(org: Salesforce, **options: Any) -> SalesforceWriter:
    given = {**LOGIN, "login_url": org.url, **options}
    return SalesforceWriter(SalesforceWriterOptions.model_validate(given), Context(clock=org.clock))


def news(number: int, heard: Heard = Heard.OPTED_OUT, table: str = "Contact") -> News:
    return News(sid(table, number), f"p{number}@example.com", heard, AT)


def write(org: Salesforce, *some: News, **options: Any) -> list[Unwritten]:
    return list(writer(org, **options).write(some))


def ticked(org: Salesforce, name: str, table: str = "Contact") -> list[int]:
    return [n for n in range(1, 8) if org.tables[table].get(sid(table, n), {}).get(name) is True]


# What is written


def test_who_opts_out_reads_as_opted_out(org: Salesforce) -> None:
    assert write(org, news(2), news(1, table="Lead"), news(4)) == []
    events = read(org, None, "HasOptedOutOfEmail", objects=BOTH)
    out = [sid("Contact", 2), sid("Contact", 4), sid("Lead", 1)]
    assert [key for key in out if fields(events, key)["HasOptedOutOfEmail"] is True] == out
    assert fields(events, sid("Contact", 1))["HasOptedOutOfEmail"] is False


def test_the_same_again_changes_nothing(org: Salesforce) -> None:
    write(org, news(2))
    before = {key: dict(row) for key, row in org.tables["Contact"].items()}
    assert write(org, news(2)) == []
    assert org.tables["Contact"] == before


def test_each_thing_goes_into_its_field_in_one_request(org: Salesforce) -> None:
    some = [news(1), news(2, Heard.BOUNCED), news(3, Heard.REPLIED)]
    assert write(org, *some, **FIELDS) == []
    names = ("HasOptedOutOfEmail", *FIELDS.values())
    assert [ticked(org, name) for name in names] == [[1], [2], [3]]
    assert [path for path in org.paths() if "oauth" not in path] == [
        "PATCH /services/data/v62.0/composite/sobjects"
    ]


def test_a_field_can_be_set_to_a_value(org: Salesforce) -> None:
    write(org, news(1, Heard.BOUNCED), bounced={"field": "Description", "value": "dead"})
    assert org.tables["Contact"][sid("Contact", 1)]["Description"] == "dead"


def test_contacts_and_leads_that_come_in_turn_are_one_request(org: Salesforce) -> None:
    """Salesforce takes ten changes from one kind to another in one request."""
    for number in range(1, 8):
        org.put("Lead", number, Email=f"l{number}@example.com")
    some = [news(n, table=table) for n in range(1, 8) for table in BOTH]
    assert write(org, *some) == []
    assert ticked(org, "HasOptedOutOfEmail", "Lead") == list(range(1, 8))


def test_a_lead_that_opts_out_keeps_its_owner(org: Salesforce) -> None:
    write(org, news(1, table="Lead"))
    assert org.assigned == []


def test_what_has_no_field_is_not_told(org: Salesforce) -> None:
    assert write(org, news(1, Heard.REPLIED)) == []
    assert org.asked == []


def test_a_further_address_opts_out_as_its_person_and_bounces_alone(org: Salesforce) -> None:
    first, second = (f"{sid('Contact', n)}#Private__c" for n in (1, 2))
    some = [News(first, "x@example.com", Heard.OPTED_OUT, AT), news(1)]
    assert write(org, *some, News(second, "y@example.com", Heard.BOUNCED, AT), **FIELDS) == []
    assert (ticked(org, "HasOptedOutOfEmail"), ticked(org, "Bounced__c")) == ([1], [])
    org.refuses[sid("Contact", 1)] = ("NO", "no")
    assert [one.key for one in write(org, *some)] == [first, sid("Contact", 1)]


# What is refused, and what is gone


def test_what_salesforce_refuses_is_told_in_its_words_and_the_others_are_written(
    org: Salesforce,
) -> None:
    rule = ("FIELD_CUSTOM_VALIDATION_EXCEPTION", "ask p2@example.com first")
    org.refuses[sid("Contact", 2)] = rule
    (refused,) = write(org, news(1), news(2), news(3))
    assert refused == Unwritten(
        sid("Contact", 2), "FIELD_CUSTOM_VALIDATION_EXCEPTION: ask (address) first"
    )
    assert ticked(org, "HasOptedOutOfEmail") == [1, 3]


def test_who_is_deleted_merged_or_converted_is_nobody_to_tell(org: Salesforce) -> None:
    org.delete("Contact", sid("Contact", 1))
    org.merge("Contact", sid("Contact", 2), sid("Contact", 3))
    org.put("Lead", 1, IsConverted=True, ConvertedContactId=sid("Contact", 4))
    some = [news(1), news(2), news(1, table="Lead"), news(5), news(99)]
    assert write(org, *some) == []
    assert ticked(org, "HasOptedOutOfEmail") == [5]


def test_a_key_of_something_else_is_refused(org: Salesforce) -> None:
    (refused,) = write(org, news(1, table="Account"), news(2))
    assert refused.key == sid("Account", 1)
    assert ticked(org, "HasOptedOutOfEmail") == [2]


# What fails as a whole


@pytest.mark.parametrize("kind", ["locked", "hidden"])
def test_a_field_that_may_not_be_set_is_named_with_what_to_allow(
    org: Salesforce, kind: str
) -> None:
    getattr(org, kind).add("Contact.HasOptedOutOfEmail")
    for attempt in (lambda: write(org, news(2)), writer(org).check):
        with pytest.raises(SourceDenied, match=r"HasOptedOutOfEmail.*field-level security"):
            attempt()


def test_a_login_that_is_not_taken_fails_the_batch(org: Salesforce) -> None:
    org.refresh_token = "another"
    with pytest.raises(SourceDenied, match="no access token"):
        write(org, news(2))


def test_an_api_that_is_off_is_named(org: Salesforce) -> None:
    org.alter = lambda asked, told: problem(403, "API_DISABLED_FOR_ORG", "no")
    with pytest.raises(SourceDenied, match="API Enabled"):
        write(org, news(2))


def test_a_passing_failure_is_tried_again(org: Salesforce) -> None:
    org.faults = [None, Told(503, b""), Told(429, b"", {"Retry-After": "3"})]
    assert write(org, news(2)) == []
    assert ticked(org, "HasOptedOutOfEmail") == [2]


def test_what_stays_broken_fails_the_batch(org: Salesforce) -> None:
    org.broken_after = 1
    with pytest.raises(SourceError, match="failed 5 times"):
        write(org, news(1), news(2))


def test_a_day_without_requests_fails_the_batch(org: Salesforce) -> None:
    org.alter = lambda asked, told: problem(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests")
    with pytest.raises(SourceExhausted):
        write(org, news(1))


@pytest.mark.parametrize("body", [[], {}, [{"success": True}] * 3])
def test_an_answer_that_does_not_fit_is_no_success(org: Salesforce, body: Any) -> None:
    org.alter = lambda asked, told: Told(200, body)
    with pytest.raises(SourceError, match="cannot be understood"):
        write(org, news(1), news(2))


# check


def test_check_writes_nothing(org: Salesforce) -> None:
    assert writer(org, objects=BOTH, **FIELDS).check() == (
        "Salesforce can be written to, opted_out in HasOptedOutOfEmail, bounced in Bounced__c, replied in Replied__c"
    )
    assert not any(path.startswith("PATCH") for path in org.paths())


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("Nothing__c", "'Nothing__c' of Contact, for bounced, is not there"),
        ("SystemModstamp", "is read only"),
        ("Title", "is no checkbox"),
    ],
)
def test_check_names_a_field_that_cannot_be_set(org: Salesforce, place: str, wrong: str) -> None:
    with pytest.raises(SourceError, match=wrong):
        writer(org, bounced=place).check()
