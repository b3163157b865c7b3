"""Pipedrive against its double: what is read, and what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.pipedrive import LEVEL, TITLE, Pipedrive, problem
from doubles.server import Told
from pipedrive_reads import connector, crm_fixture, fields, keys, read

from connectors.pipedrive import PipedriveConnector
from syncd.connector import Request
from syncd.errors import SourceDenied, SourceError, SourceExhausted, SourceRefused
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

__all__ = ["crm_fixture"]


# Values


@pytest.mark.parametrize("old_names", [False, True])
def test_custom_fields_labels_and_choices_are_shown_by_name(
    crm: Pipedrive, old_names: bool
) -> None:
    crm.old_names = old_names
    crm.put(1, label_ids=[1, 2, 9], custom_fields={TITLE: "CTO", LEVEL: 10})
    crm.put(2, custom_fields={TITLE: None, LEVEL: [10, 11]})
    crm.put(3, custom_fields={TITLE: {"value": 5, "currency": "EUR"}})
    events = read(crm, None, "_tags", TITLE, LEVEL)
    assert fields(events, "1") == {"_tags": ["Hot", "Cold", "9"], TITLE: "CTO", LEVEL: "Gold"}
    assert fields(events, "2") == {"_tags": [], TITLE: None, LEVEL: ["Gold", "Silver"]}
    assert fields(events, "3") == {"_tags": [], TITLE: 5}
    known = {one.name: one.label for one in connector(crm).fields()}
    assert known[TITLE] == "Job title"
    assert "email" not in known  # v2 sends `emails`


def test_the_primary_address_is_read_and_the_others_where_they_are_wanted(crm: Pipedrive) -> None:
    entries = [
        {"value": "b@example.org", "primary": False},
        {"value": "a@example.com", "primary": True},
        {"value": "B@example.org", "primary": False},
        {"value": "", "primary": False},
    ]
    crm.put(1, emails=entries, phones=[{"value": "+33 1", "primary": False}])
    crm.put(2, emails=[])
    events = read(crm, None, "_email", "_phone")
    assert fields(events, "1") == {"_email": "a@example.com", "_phone": "+33 1"}
    assert fields(events, "2") == {"_email": None, "_phone": None}
    events = read(crm, None, "_email", emails="all")
    assert [fields(events, k)["_email"] for k in keys(events) if k.startswith("1")] == [
        "a@example.com",
        "b@example.org",
    ]


def test_company_and_owner_are_joined(crm: Pipedrive) -> None:
    crm.put_organization(42, name="Example SA", website="https://example.com")
    crm.users = [{"id": 7, "name": "Olga O.", "email": "o@example.com"}]
    crm.put(1, org_id=42)
    crm.put(2, org_id={"value": 42}, owner_id=404)  # as v1 sends it
    events = read(crm, None, "_company", "_owner")
    company = {"id": "42", "name": "Example SA", "website": "https://example.com"}
    owner = {"id": "7", "name": "Olga O.", "email": "o@example.com"}
    assert fields(events, "1") == {"_company": company, "_owner": owner}
    assert fields(events, "2") == {"_company": company, "_owner": None}
    assert fields(events, "3")["_company"] is None


def test_marketing_status_is_asked_for_and_never_guessed(crm: Pipedrive) -> None:
    """Accounts without the add-on either refuse the name, or leave it out: neither is "not unsubscribed"."""
    crm.put(1, marketing_status="unsubscribed")
    events = read(crm, None, "_email", "marketing_status")
    assert fields(events, "1")["marketing_status"] == "unsubscribed"
    assert "marketing_status" not in fields(read(crm), "1")
    crm.put(2, marketing_status=None)
    assert fields(read(crm, None, "marketing_status"), "2") == {}
    crm.campaigns = False
    with pytest.raises(SourceRefused, match="include_fields"):
        read(crm, None, "marketing_status")
    crm.refuses_added = False
    assert fields(read(crm, None, "marketing_status"), "1") == {}


@pytest.mark.parametrize("refused", [False, True])
def test_who_has_unsubscribed_counts_as_opted_out_without_being_asked_for(
    crm: Pipedrive, refused: bool
) -> None:
    """Five lines of configuration are enough: then nobody has written which field it is."""
    preset = connector(crm).preset()
    assert preset.opted_out == "_opted_out"
    for key, status in enumerate(("unsubscribed", "subscribed", "archived", None), 1):
        crm.put(key, marketing_status=status)
    told = [fields(read(crm, None, "_opted_out"), str(key)) for key in range(1, 6)]
    no = {"_opted_out": False}
    assert told == [{"_opted_out": True}, no, no, {}, no]
    crm.campaigns, crm.refuses_added = False, refused
    assert fields(read(crm, None, "_opted_out"), "1") == {"_opted_out": False}  # nobody can, there
    assert "nobody counts as opted out" in connector(crm).check()


def test_a_status_is_never_shown_in_the_language_of_the_account(crm: Pipedrive) -> None:
    """A condition compares it with the API's own word, whatever label the field's metadata has."""
    crm.put(1, marketing_status="unsubscribed")
    assert fields(read(crm, None, "marketing_status"), "1") == {"marketing_status": "unsubscribed"}


@pytest.mark.parametrize("refused", [False, True])
def test_an_account_without_the_add_on_does_not_offer_its_fields(
    crm: Pipedrive, refused: bool
) -> None:
    names = {one.name for one in connector(crm).fields()}
    assert {"marketing_status", "doi_status"} <= names
    whole = list(connector(crm).read(Request()))
    assert fields(whole, "1")["marketing_status"] == "no_consent"
    crm.campaigns, crm.refuses_added = False, refused
    assert "marketing_status" not in {one.name for one in connector(crm).fields()}
    assert "not marketing_status" in connector(crm).check()
    assert "marketing_status" not in fields(list(connector(crm).read(Request())), "1")


def test_a_job_title_is_there_where_contact_sync_is_on(crm: Pipedrive) -> None:
    crm.put(1, job_title="CTO")
    assert fields(read(crm, None, "job_title"), "1") == {}
    crm.contact_sync = True
    assert fields(read(crm, None, "job_title"), "1") == {"job_title": "CTO"}
    assert "job_title" in {one.name for one in connector(crm).fields()}


def test_more_custom_fields_than_can_be_named_all_come(crm: Pipedrive) -> None:
    many = [f"{number:040x}" for number in range(16)]
    crm.put(1, custom_fields={TITLE: "CTO", LEVEL: 10})
    events = read(crm, None, TITLE, LEVEL, *many)
    assert fields(events, "1") == {TITLE: "CTO", LEVEL: "Gold"}
    assert not any("custom_fields" in asked.query for asked in crm.asked)
    read(crm, None, TITLE, LEVEL, *many[:13])
    (named,) = (one for one in crm.asked if "custom_fields" in one.query)
    assert named.query["custom_fields"].count(",") == 14


def test_labels_that_nobody_names_are_not_known(crm: Pipedrive) -> None:
    crm.put(1, label_ids=[1])
    answer = crm.answer

    def without_metadata(asked: Any) -> Told:
        return Told(200, {"success": True, "data": []}) if "Fields" in asked.path else answer(asked)

    crm.answer = without_metadata  # type: ignore[method-assign]
    events = read(crm, None, "_tags")
    assert fields(events, "1") == {}
    assert fields(events, "2") == {"_tags": []}


# Limits and failures


def test_a_day_that_ends_in_the_middle_of_a_read_ends_it(crm: Pipedrive) -> None:
    for key in range(1, 2_001):
        crm.put(key, f"p{key}@example.com")
    crm.budget = 30
    with pytest.raises(SourceExhausted, match="midnight"):
        read(crm)
    assert len(crm.asked) == 4


def test_a_long_read_keeps_to_the_burst(crm: Pipedrive) -> None:
    """The double answers 429 to the 21st request in 2 s."""
    for key in range(1, 2_501):
        crm.put_organization(key, name=f"O{key}")
        crm.put(key, f"p{key}@example.com", org_id=key)
    answers = []
    answer = crm.answer

    def noted(asked: Any) -> Told:
        answers.append(told := answer(asked))
        return told

    crm.answer = noted  # type: ignore[method-assign]
    assert len(keys(read(crm, None, "_email", "_company"))) == 2_500
    assert {told.status for told in answers} == {200}


def test_who_is_shut_out_is_not_told_of_scopes(crm: Pipedrive) -> None:
    """Too many 429s become a 403 of what stands before Pipedrive: a page, not an answer."""
    crm.faults = [None, Told(403, b"<html>Attention Required!</html>")]
    with pytest.raises(SourceExhausted, match="lets this machine in again"):
        read(crm)
    crm.faults = [None, problem(403, "Scope and URL mismatch")]
    with pytest.raises(SourceDenied, match="contacts:read"):
        read(crm)


def test_a_listing_out_of_order_is_no_read(crm: Pipedrive) -> None:
    """Where a person can move, another one may be passed over, and would count as gone."""
    rows = [{"id": 2, "update_time": None}, {"id": 1, "update_time": None}]
    crm.faults = [None, Told(200, {"success": True, "data": rows})]
    with pytest.raises(SourceError, match="order of ids"):
        read(crm)
    crm.faults = [None, Told(200, {"success": True, "data": {"items": []}})]
    with pytest.raises(SourceError, match="no list"):
        read(crm)


def test_the_days_tokens_end_the_run_whatever_retry_after_says(crm: Pipedrive) -> None:
    headers = {"x-daily-ratelimit-token-remaining": "0", "Retry-After": "1"}
    crm.faults = [None, Told(429, b'{"error":"request over limit"}', headers)]
    with pytest.raises(SourceExhausted, match="midnight"):
        read(crm)
    assert len(crm.asked) == 2


@pytest.mark.parametrize("moment", [False, True])
def test_the_burst_is_waited_for(crm: Pipedrive, moment: bool) -> None:
    before_s = crm.clock.now_s()
    reset = f"{before_s + 9:.0f}" if moment else "9"
    crm.faults = [None, Told(429, b"{}", {"x-ratelimit-reset": reset})]
    assert len(keys(read(crm))) == 5
    assert 8 <= crm.clock.now_s() - before_s <= 10


def test_nothing_is_asked_while_nothing_is_left(crm: Pipedrive) -> None:
    answer, before_s = crm.answer, crm.clock.now_s()

    def nothing_left(asked: Any) -> Told:
        told = answer(asked)
        told.headers |= {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "2"}
        return told

    crm.answer = nothing_left  # type: ignore[method-assign]
    read(crm)
    assert crm.clock.now_s() - before_s >= 2


def test_an_app_reads_at_the_host_that_its_token_names(
    crm: Pipedrive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "client-made-up")
    monkeypatch.setenv("REFRESH", "refresh-made-up")
    login = {
        "token": None, "base_url": None, "token_url": f"{crm.url}/oauth/token", "client_id": "id",
        "client_secret": "env:SECRET", "refresh_token": "env:REFRESH",
    }  # fmt: skip
    assert len(keys(read(crm, **login))) == 5
    crm.api_domain = "example.com"  # where a token would go astray
    with pytest.raises(SourceError, match="api_domain"):
        read(crm, **login)
    monkeypatch.setenv("REFRESH", "revoked-made-up")
    with pytest.raises(SourceDenied, match="invalid_grant") as caught:
        read(crm, **login)
    assert "revoked-made-up" not in str(caught.value)


def test_check_names_what_cannot_be_read(crm: Pipedrive) -> None:
    assert connector(crm).check() == "Pipedrive: persons can be read"
    crm.denied = {"/api/v1/users"}
    assert "not _owner: the scope users:read is missing" in connector(crm).check()
    with pytest.raises(SourceDenied, match="users:read"):
        read(crm, None, "_owner")
    crm.denied = {"/api/v2/persons"}
    with pytest.raises(SourceDenied, match="contacts:read"):
        connector(crm).check()


def test_an_answer_that_is_not_pipedrives_is_no_read(crm: Pipedrive) -> None:
    crm.faults = [None, Told(200, {"items": []})]
    with pytest.raises(SourceError, match="without `data`"):
        read(crm)
    crm.faults = [
        None,
        *[Told(200, {"success": True, "data": [], "additional_data": {"next_cursor": "x"}})] * 3,
    ]
    with pytest.raises(SourceError, match="does not end"):
        read(crm)
    crm.faults = [None, problem(402, "Payment required")]
    with pytest.raises(SourceDenied, match="subscription"):
        read(crm)


class TestPipedrive(ConnectorSuite):
    """The promises of every connector."""

    many = 2_500

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Pipedrive() as self.crm:
            self.crm.tokens = {conformance.SECRET}
            yield

    def source(self, folder: Path, records: Any) -> PipedriveConnector:
        self.crm.persons.clear()
        self.crm.broken_after = None
        self.change(folder, records)
        return connector(self.crm, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 4

    def change(self, folder: Path, records: Any) -> None:
        self.crm.clock.advance_s(60)
        for row in records:
            self.crm.put(int(row["id"]), row["email"], name=row["name"])
        self.crm.clock.advance_s(60)
