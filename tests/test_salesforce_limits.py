"""Salesforce against its double: query jobs for large reads, limits, failures, what is not shown."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.salesforce import Salesforce, problem, queries
from doubles.server import Told
from salesforce_org import BOTH, IDS, connector, fields, keys, org_of_seven, read, records

from connectors.salesforce import bulk
from syncd.connector import Request
from syncd.errors import SourceDenied, SourceError, SourceExhausted, SourceRefused


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    with org_of_seven(monkeypatch) as double:
        yield double


# Jobs


def test_a_job_gives_what_queries_give(org: Salesforce, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PART_ROWS_MIN", 2)
    monkeypatch.setattr(bulk, "PART_ROWS_MAX", 3)
    account = org.put("Account", 9, Name='Example, "SA"')
    org.put("Contact", 1, AccountId=account, HasOptedOutOfEmail=True, Score__c=3.25)
    org.put("Contact", 2, Since__c="2026-11-20T10:15:30.000+0000", FirstName=None, Score__c=5)
    names = (*org.types["Contact"], "_company")
    by_query = records(read(org, None, *names, bulk="off"))
    assert len(by_query) == 7
    for part_headers in (True, False):
        org.part_headers = part_headers
        assert records(read(org, None, *names, bulk="on")) == by_query


@pytest.mark.parametrize(("count", "jobs"), [(6, 0), (7, 1)])
def test_a_job_is_chosen_where_there_are_many(
    org: Salesforce, monkeypatch: pytest.MonkeyPatch, count: int, jobs: int
) -> None:
    monkeypatch.setattr(bulk, "FROM_ROWS", 7)
    if count < 7:
        org.delete("Contact", IDS[6])
    assert keys(read(org)) == IDS[:count]
    assert len(org.jobs) == jobs
    assert sum("COUNT()" in one for one in queries(org.asked)) == 1


def test_an_org_without_jobs_is_read_by_queries(
    org: Salesforce, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "FROM_ROWS", 7)
    org.jobs_allowed = False
    assert keys(read(org)) == IDS
    with pytest.raises(SourceDenied, match="FEATURENOTENABLED"):
        read(org, bulk="on")


def test_a_job_is_waited_for_with_patience(org: Salesforce) -> None:
    before_s = org.clock.now_s()
    assert keys(read(org, bulk="on")) == IDS
    assert 20 <= org.clock.now_s() - before_s < 40


def test_a_job_that_fails_says_why(org: Salesforce) -> None:
    failed = {"state": "Failed", "errorMessage": "[QUERY_TIMEOUT] it ran for too long"}
    org.alter = lambda asked, told: Told(200, failed) if is_poll(asked) else told
    with pytest.raises(SourceError, match="QUERY_TIMEOUT"):
        read(org, bulk="on")


def is_poll(asked: Any) -> bool:
    return asked.method == "GET" and asked.path.split("/")[-2] == "query"


def test_a_job_that_never_ends_is_no_read(org: Salesforce, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "POLLS_MAX", 5)
    waiting = {"state": "InProgress"}
    org.alter = lambda asked, told: Told(200, waiting) if is_poll(asked) else told
    with pytest.raises(SourceError, match="two hours"):
        read(org, bulk="on")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda lines: lines[:-1], "part of 7 rows has 6"),
        (lambda lines: [lines[0].replace(b"Email", b"Mail"), *lines[1:]], "lack Email"),
        (lambda lines: [*lines[:-1], lines[-1] + b',"more"'], "more or fewer columns"),
        (lambda lines: [*lines[:-1], b'"cut off'], "cannot be read as CSV"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b"p7", b"\xff")], "cannot be read as CSV"),
    ],
)
def test_rows_of_a_job_that_do_not_add_up_are_no_read(
    org: Salesforce, spoil: Any, words: str
) -> None:
    def alter(asked: Any, told: Told) -> Told:
        if asked.path.endswith("/results"):
            told.body = b"\n".join(spoil(told.body.strip().split(b"\n")))
        return told

    org.alter = alter
    with pytest.raises(SourceError, match=words):
        read(org, bulk="on")


def test_a_job_whose_last_part_is_missing_is_no_read(org: Salesforce) -> None:
    def alter(asked: Any, told: Told) -> Told:
        if is_poll(asked):
            told.body["numberRecordsProcessed"] = 8
        return told

    org.alter = alter
    with pytest.raises(SourceError, match="a job of 8 rows gave 7 only"):
        read(org, bulk="on")


# Limits and failures


def test_the_days_limit_ends_the_run_at_once(org: Salesforce) -> None:
    """With status 403, not 429."""
    org.faults = [
        None, None, problem(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
    ]  # fmt: skip
    with pytest.raises(SourceExhausted, match="TotalRequests Limit"):
        read(org)
    assert len(org.asked) == 3


def test_too_many_requests_at_once_are_waited_for(org: Salesforce) -> None:
    words = "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
    org.faults = [None, None, problem(403, "REQUEST_LIMIT_EXCEEDED", words)]
    before_s = org.clock.now_s()
    assert keys(read(org)) == IDS
    assert org.clock.now_s() - before_s >= 20


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "QUERY_TIMEOUT"), (503, "SERVER_UNAVAILABLE"), (400, "UNABLE_TO_LOCK_ROW")],
)
def test_what_passes_is_tried_again(org: Salesforce, status: int, code: str) -> None:
    org.faults = [None, None, *[problem(status, code, "for a moment")] * 2]
    assert keys(read(org)) == IDS


def test_a_query_that_is_wrong_is_not_tried_again(org: Salesforce) -> None:
    words = "unexpected token ann@example.com, session-1"
    org.faults = [None, None, problem(400, "MALFORMED_QUERY", words)]
    with pytest.raises(SourceRefused) as caught:
        read(org)
    assert len(org.asked) == 3
    assert "unexpected token (address)" in str(caught.value)
    assert "session-1" not in str(caught.value)


def test_an_unknown_api_version_is_named(org: Salesforce) -> None:
    with pytest.raises(SourceDenied, match="api_version"):
        read(org, api_version="199.0")


def test_check_names_what_is_missing(org: Salesforce) -> None:
    found = connector(org, objects=BOTH).check()
    assert found.startswith("Salesforce: Contact and Lead can be read, requests of the day: ")
    assert found.endswith("/5000")
    org.hidden |= {"Account", "CampaignMember", "Lead.HasOptedOutOfEmail"}
    words = connector(org, objects=BOTH).check()
    assert "not HasOptedOutOfEmail of Lead: field-level security hides it" in words
    assert "not _company: Account is not shown" in words
    assert "not _lists: CampaignMember is not shown" in words
    org.hidden.add("Lead")
    with pytest.raises(SourceDenied, match="Lead is not shown"):
        connector(org, objects=BOTH).check()
    org.faults = [None, problem(403, "API_DISABLED_FOR_ORG", "API is not enabled")]
    with pytest.raises(SourceDenied, match="API Enabled"):
        connector(org).check()


@pytest.mark.parametrize(("name", "hidden"), [("_company", "Account"), ("_lists", "Campaign")])
def test_what_is_mapped_and_not_shown_ends_the_read(
    org: Salesforce, name: str, hidden: str
) -> None:
    org.hidden.add(hidden)
    with pytest.raises(SourceDenied, match=hidden):
        read(org, None, name)
    assert name not in fields(list(connector(org).read(Request())), IDS[0])
