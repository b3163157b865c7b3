"""Pipedrive against its double: what is read, what is seen, what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.pipedrive import LEVEL, TITLE, TOKEN, Pipedrive, problem
from doubles.server import Told

from connectors.pipedrive import PipedriveConnector, PipedriveOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError, SourceExhausted, SourceRefused
from syncd.testing import conformance
from syncd.testing.clock import FakeClock
from syncd.testing.conformance import ConnectorSuite


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipedrive]:
    monkeypatch.setenv("PIPEDRIVE_TOKEN", TOKEN)
    with Pipedrive(FakeClock()) as double:
        for key in range(1, 6):
            double.put(key, f"p{key}@example.com", first_name=f"P{key}")
            double.clock.advance_s(3600)
        yield double


def connector(crm: Pipedrive, **options: Any) -> PipedriveConnector:
    given = {"token": "env:PIPEDRIVE_TOKEN", "base_url": crm.url, **options}
    return PipedriveConnector(PipedriveOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Pipedrive, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"_email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


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
    crm.organizations[42] = {"name": "Example SA", "website": "https://example.com"}
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
    crm.campaigns = False
    with pytest.raises(SourceRefused, match="include_fields"):
        read(crm, None, "marketing_status")


# Changes


def test_only_what_was_updated_is_read(crm: Pipedrive) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(3, first_name="New")
    second = read(crm, cursor(first), "first_name")
    assert keys(second) == ["3", "5"]  # 5 is within the overlap
    crm.clock.advance_s(3600)
    assert keys(read(crm, cursor(second))) == ["3"]


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(crm: Pipedrive) -> None:
    for key in range(1, 1_201):
        crm.put(key, f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 1_201):
        crm.put(key, first_name="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/persons"):
            crm.clock.advance_s(2)
            for key in (1, 600, 1_199):
                crm.put(key, first_name="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "first_name")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "first_name")
    shown = {e.key: e.fields["first_name"] for e in [*second, *third] if isinstance(e, Record)}
    assert len(shown) == 1_200
    assert [shown[key] for key in ("1", "600", "1199")] == ["Newer"] * 3


@pytest.mark.parametrize("listed", [False, True])
def test_deleted_persons_never_come_as_records(crm: Pipedrive, listed: bool) -> None:
    crm.shows_deleted = listed
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.delete(3)
    events = read(crm, cursor(first))
    assert "3" not in keys(events)
    assert (Tombstone("3") in events) is listed
    assert keys(read(crm)) == ["1", "2", "4", "5"]


def test_a_filter_that_has_other_members_makes_everything_be_read(crm: Pipedrive) -> None:
    """Who joins a filter did not change."""
    crm.filters = {"Warm": {1, 2}, "Others": {3}}
    first = read(crm, None, "_lists", filters=["Warm"])
    assert [fields(first, key)["_lists"] for key in ("1", "2", "3")] == [["Warm"], ["Warm"], []]
    crm.clock.advance_s(3600)
    crm.filters["Others"].add(4)
    second = read(crm, cursor(first), "_lists", filters=["Warm"])
    assert not any(isinstance(e, Resync) for e in second)
    crm.filters["Warm"].remove(1)
    third = read(crm, cursor(second), "_lists", filters=["Warm"])
    assert any(isinstance(e, Resync) for e in third)
    assert len(keys(third)) == 5
    assert fields(third, "1")["_lists"] == []
    with pytest.raises(SourceError, match="no filter 'Wram'"):
        read(crm, None, "_lists", filters=["Wram"])


# Limits and failures


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
