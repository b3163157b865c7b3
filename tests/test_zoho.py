"""Zoho CRM against its double: what is read, what is seen, what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.server import Told
from doubles.zoho import REFRESH, Zoho, problem

from connectors.zoho import ZohoConnector, ZohoOptions, reading
from connectors.zoho.vendor import accounts_url, api_url
from syncd.connector import Checkpoint, Context, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError, SourceExhausted
from syncd.testing import conformance
from syncd.testing.clock import FakeClock
from syncd.testing.conformance import ConnectorSuite


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoho]:
    monkeypatch.setenv("ZOHO_REFRESH", REFRESH)
    monkeypatch.setenv("ZOHO_SECRET", "client-made-up")
    with Zoho(FakeClock()) as double:
        for key in range(1, 6):
            double.put(key, Email=f"p{key}@example.com", First_Name=f"P{key}")
            double.clock.advance_s(3600)
        yield double


def connector(crm: Zoho, **options: Any) -> ZohoConnector:
    given = {
        "client_id": "id", "client_secret": "env:ZOHO_SECRET", "refresh_token": "env:ZOHO_REFRESH",
        "token_url": f"{crm.url}/oauth/v2/token", **options,
    }  # fmt: skip
    return ZohoConnector(ZohoOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Zoho, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"Email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


# Values


def test_lookups_and_tags_are_joined(crm: Zoho) -> None:
    crm.accounts[9] = {"Account_Name": "Example SA", "Website": "https://example.com"}
    owner = {"name": "Olga O.", "id": "77", "email": "o@example.com"}
    account = {"name": "Example SA", "id": "9"}
    crm.put(1, Account_Name=account, Owner=owner, Tag=[{"name": "vip", "id": "700"}])
    events = read(crm, None, "_company", "_owner", "_tags", "Account_Name")
    assert fields(events, "1") == {
        "Account_Name": account,
        "_company": {"id": "9", "name": "Example SA", "website": "https://example.com"},
        "_owner": {"id": "77", "name": "Olga O.", "email": "o@example.com"},
        "_tags": ["vip"],
    }
    assert fields(events, "2") == {
        "Account_Name": None,
        "_company": None,
        "_owner": None,
        "_tags": [],
    }


def test_more_than_fifty_fields_take_further_requests(crm: Zoho) -> None:
    crm.known |= {f"Custom_{number}": "" for number in range(120)}
    for key in range(1, 301):
        crm.put(key, Email=f"p{key}@example.com", Custom_7=key, Custom_119=-key)
    wanted = ["Email", *(f"Custom_{number}" for number in range(120))]
    events = read(crm, None, *wanted)
    assert keys(events) == [str(key) for key in range(1, 301)]
    assert [fields(events, "250")[name] for name in ("Custom_7", "Custom_119")] == [250, -250]


def test_an_opt_out_that_may_not_be_seen_is_not_known(crm: Zoho) -> None:
    """Field-level rights leave it out of the answer: not known is not false."""
    crm.put(1, Email_Opt_Out=True)
    assert fields(read(crm, None, "Email_Opt_Out"), "1") == {"Email_Opt_Out": True}
    crm.hidden = {"Email_Opt_Out", "Tag"}
    assert fields(read(crm, None, "Email_Opt_Out", "_tags"), "1") == {}


def test_the_secondary_address_is_another_person_where_it_is_wanted(crm: Zoho) -> None:
    crm.put(1, Secondary_Email="second@example.org")
    crm.put(2, Secondary_Email="P2@example.com")
    assert len(keys(read(crm))) == 5
    events = read(crm, None, "Email", emails="all")
    assert keys(events) == ["1", "1#2", "2", "3", "4", "5"]
    assert fields(events, "1#2") == {"Email": "second@example.org"}


# Everything


def test_beyond_what_page_tokens_reach_coql_goes_on(
    crm: Zoho, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TOKEN_ROWS_MAX", 400)
    crm.reach = 400
    for key in range(1, 951):
        crm.put(key, Email=f"p{key}@example.com")
    events = read(crm)
    assert keys(events) == [str(key) for key in range(1, 951)]
    assert fields(events, "950") == {"Email": "p950@example.com"}
    crm.denied = {"/crm/v8/coql"}
    with pytest.raises(SourceDenied, match=r"ZohoCRM\.coql\.READ"):
        read(crm)


def test_an_empty_module_answers_204(crm: Zoho) -> None:
    crm.records.clear()
    assert read(crm) == []


# Changes


def test_only_what_was_modified_is_read_and_304_is_nothing(crm: Zoho) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(3, First_Name="New")
    second = read(crm, cursor(first), "First_Name")
    assert keys(second) == ["5", "3"]  # 5 is within the overlap
    third = read(crm, cursor(second))
    assert keys(third) == ["3"]
    crm.records[3]["Modified_Time"] = "2020-01-01T00:00:00+05:30"
    assert keys(read(crm, cursor(third))) == []


def test_more_changes_than_tokens_reach_are_all_read(
    crm: Zoho, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "TOKEN_ROWS_MAX", 400)
    crm.reach = 400
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 951):
        crm.put(key, Email=f"p{key}@example.com")
        if key % 100 == 0:
            crm.clock.advance_s(1)
    assert sorted(map(int, keys(read(crm, cursor(first))))) == list(range(1, 951))
    for key in range(1, 951):
        crm.put(key, Email=f"p{key}@example.com")
    with pytest.raises(SourceError, match="modified at one time"):
        read(crm, cursor(first))


def test_records_that_change_between_pages_are_neither_lost_nor_doubled(crm: Zoho) -> None:
    for key in range(1, 501):
        crm.put(key, Email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 501):
        crm.put(key, First_Name="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/Contacts"):
            crm.clock.advance_s(2)
            crm.put(499, First_Name="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "First_Name")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "First_Name")
    shown = {e.key: e.fields["First_Name"] for e in [*second, *third] if isinstance(e, Record)}
    assert len(shown) == 500
    assert shown["499"] == "Newer"


def test_deleted_records_are_tombstones_over_several_pages(crm: Zoho) -> None:
    for key in range(1, 451):
        crm.put(key, Email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 402):
        crm.delete(key)
    events = read(crm, cursor(first))
    assert sum(isinstance(e, Tombstone) for e in events) == 401
    assert Tombstone("401") in events


def test_a_cursor_older_than_the_recycle_bin_reads_everything(crm: Zoho) -> None:
    first = read(crm)
    crm.clock.advance_s(55 * 86_400)
    events = read(crm, cursor(first))
    assert any(isinstance(e, Resync) for e in events)
    assert len(keys(events)) == 5


def test_a_view_that_has_other_members_makes_everything_be_read(crm: Zoho) -> None:
    crm.views = {"Warm": {1, 2}, "Cold": {3}}
    first = read(crm, None, "_lists", views=["Warm"])
    assert [fields(first, key)["_lists"] for key in ("1", "3")] == [["Warm"], []]
    second = read(crm, cursor(first), "_lists", views=["Warm"])
    assert not any(isinstance(e, Resync) for e in second)
    crm.views["Warm"].remove(1)
    third = read(crm, cursor(second), "_lists", views=["Warm"])
    assert fields(third, "1")["_lists"] == []
    assert any(isinstance(e, Resync) for e in third)
    with pytest.raises(SourceError, match="no view 'Wram'"):
        read(crm, None, "_lists", views=["Wram"])


# Login, limits, failures


def test_a_token_is_fetched_once_a_process_and_renewed_once(crm: Zoho) -> None:
    """About ten tokens in ten minutes are handed out [M]."""
    zoho = connector(crm)
    for _ in range(3):
        list(zoho.read(Request()))
    assert crm.handed_out == 1
    crm.tokens = {"revoked"}
    assert len(keys(list(zoho.read(Request())))) == 5
    assert crm.handed_out == 2


def test_a_refused_refresh_token_comes_with_status_200(crm: Zoho) -> None:
    crm.refresh = "another-made-up"
    with pytest.raises(SourceDenied, match="invalid_code"):
        read(crm)


def test_a_missing_scope_is_401_and_no_reason_for_another_token(crm: Zoho) -> None:
    crm.denied = {"/crm/v8/Accounts", "/crm/v8/settings/custom_views"}
    words = connector(crm).check()
    assert "not _company: the scope ZohoCRM.modules.accounts.READ is missing" in words
    assert "not _lists: the scope ZohoCRM.settings.custom_views.READ is missing" in words
    assert crm.handed_out == 1
    crm.denied = {"/crm/v8/Contacts"}
    with pytest.raises(SourceDenied, match=r"ZohoCRM\.modules\.contacts\.READ"):
        connector(crm).check()


def test_a_429_without_words_is_tried_again_and_without_credits_not(crm: Zoho) -> None:
    limit = problem(429, "TOO_MANY_REQUESTS", "You have exceeded the limit")
    crm.faults = [None, limit, limit]
    assert len(keys(read(crm))) == 5
    limit.headers = {"X-API-CREDITS-REMAINING": "0"}
    crm.faults = [None, limit]
    with pytest.raises(SourceExhausted, match="24 hours"):
        read(crm)


def test_more_records_without_a_token_are_no_read(crm: Zoho) -> None:
    row = {"id": "1", "Email": "p1@example.com"}
    crm.faults = [None, None, Told(200, {"data": [row], "info": {"more_records": True}})]
    with pytest.raises(SourceError, match="not where"):
        read(crm)
    crm.faults = [None, None, Told(200, {"data": [{"id": "2"}, {"id": "1"}], "info": {}})]
    with pytest.raises(SourceError, match="order of ids"):
        read(crm)
    crm.faults = [None, None, Told(200, {"rows": []})]
    with pytest.raises(SourceError, match="without `data`"):
        read(crm)


def test_every_region_has_its_addresses() -> None:
    assert accounts_url("eu") == "https://accounts.zoho.eu/oauth/v2/token"
    assert accounts_url("ca") == "https://accounts.zohocloud.ca/oauth/v2/token"
    assert api_url("com.au") == "https://www.zohoapis.com.au"


class TestZoho(ConnectorSuite):
    """The promises of every connector."""

    many = 1_500

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Zoho() as self.crm:
            self.crm.refresh = conformance.SECRET
            yield

    def source(self, folder: Path, records: Any) -> ZohoConnector:
        self.crm.records.clear()
        self.crm.deleted.clear()
        self.crm.broken_after = None
        self.change(folder, records)
        secret = conformance.SECRET_REFERENCE
        return connector(self.crm, client_secret=secret, refresh_token=secret)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 5

    def change(self, folder: Path, records: Any) -> None:
        self.crm.clock.advance_s(60)
        for row in records:
            self.crm.put(int(row["id"]), Email=row["email"], Last_Name=row["name"])
        self.crm.clock.advance_s(60)

    def remove(self, folder: Path, record: Any) -> None:
        self.crm.delete(int(record["id"]))
