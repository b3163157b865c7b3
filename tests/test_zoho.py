"""Zoho CRM against its double: what is read, and what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.server import Told
from doubles.zoho import Zoho, problem
from zoho_reads import connector, crm_fixture, fields, keys, read

from connectors.zoho import ZohoConnector, beside, listing
from connectors.zoho.vendor import accounts_url, api_url
from syncd.connector import Request
from syncd.errors import SourceDenied, SourceError, SourceExhausted
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

__all__ = ["crm_fixture"]


# Values


def test_lookups_and_tags_are_joined(crm: Zoho) -> None:
    crm.put_account(9, Account_Name="Example SA", Website="https://example.com")
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


def test_a_flag_that_is_neither_true_nor_false_is_not_known(crm: Zoho) -> None:
    crm.known["Agreed"] = "Agreed"
    crm.put(1, Email_Opt_Out=None, Agreed=None, Title=None)
    crm.put(2, Agreed=False)
    events = read(crm, None, "Email_Opt_Out", "Agreed", "Title")
    assert fields(events, "1") == {"Title": None}
    assert fields(events, "2") == {"Email_Opt_Out": False, "Agreed": False, "Title": None}


def test_views_are_named_unmistakably_and_not_guessed(crm: Zoho) -> None:
    assert "_lists" not in fields(list(connector(crm).read(Request())), "1")  # none was asked for
    crm.views = {"Warm": {1}}
    assert connector(crm, views=["Warm"]).check() == "Zoho: contacts can be read"
    with pytest.raises(SourceError, match="no view 'Wram'"):
        connector(crm, views=["Wram"]).check()
    answer = crm.answer

    def twice(asked: Any) -> Told:
        told = answer(asked)
        if asked.path.endswith("custom_views"):
            told.body["custom_views"] *= 2
        return told

    crm.answer = twice  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="2 views 'Warm'"):
        read(crm, None, "_lists", views=["Warm"])


def test_a_view_that_cannot_be_listed_whole_is_an_error(
    crm: Zoho, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beside, "TOKEN_ROWS_MAX", 2)
    crm.views = {"Warm": {1, 2}}
    with pytest.raises(SourceError, match="more members than"):
        read(crm, None, "_lists", views=["Warm"])


# Everything


def test_beyond_what_page_tokens_reach_coql_goes_on(
    crm: Zoho, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "TOKEN_ROWS_MAX", 400)
    crm.reach = 400
    for key in range(1, 951):
        crm.put(key, Email=f"p{key}@example.com")
    events = read(crm)
    assert keys(events) == [str(key) for key in range(1, 951)]
    assert fields(events, "950") == {"Email": "p950@example.com"}
    crm.denied = {"/crm/v8/coql"}
    with pytest.raises(SourceDenied, match=r"ZohoCRM\.coql\.READ"):
        read(crm)


def test_records_that_are_not_listed_are_not_read(crm: Zoho) -> None:
    crm.put(1, approved=False)
    crm.put(2, converted=True)
    assert keys(read(crm)) == ["3", "4", "5"]
    assert keys(read(crm, module="Leads")) == ["3", "4", "5"]


def test_who_leaves_a_listing_beyond_the_tokens_reach_is_no_error(
    crm: Zoho, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "TOKEN_ROWS_MAX", 400)
    for key in range(1, 951):
        crm.put(key, Email=f"p{key}@example.com")

    def leave(asked: Any) -> None:
        if "page_token" in asked.query and 3 in crm.records:
            crm.delete(3)

    crm.before_answer = leave
    assert sorted(map(int, keys(read(crm)))) == list(range(1, 951))
    pages = [asked for asked in crm.asked if asked.query.get("fields") == "id"]
    assert len(pages) <= 4  # what COQL reads is not listed once more


@pytest.mark.parametrize("way", ["deleted", "waits for approval", "converted"])
def test_nobody_is_passed_over_when_a_record_leaves_a_listing(crm: Zoho, way: str) -> None:
    """Where a page is a count of rows, the first row of the next page moves into this one [?]."""
    for key in range(1, 501):
        crm.put(key, Email=f"p{key}@example.com")

    def leave(asked: Any) -> None:
        if "page_token" in asked.query and asked.query["fields"] != "id":
            crm.clock.advance_s(2)
            if way == "deleted" and 3 in crm.records:
                crm.delete(3)
            elif way != "deleted":
                crm.put(3, approved=way == "converted", converted=way == "converted")

    crm.before_answer = leave
    events = read(crm, module="Leads")
    assert sorted(map(int, keys(events))) == list(range(1, 501))  # 3 was told before it left


def test_an_empty_module_answers_204(crm: Zoho) -> None:
    crm.records.clear()
    assert read(crm) == []


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
    crm.denied |= {"/crm/v8/coql", "/crm/v8/settings/tags"}
    words = connector(crm).check()
    assert "not changes of Email_Opt_Out: the scope ZohoCRM.coql.READ is missing" in words
    assert "not renamed _tags: the scope ZohoCRM.settings.tags.READ is missing" in words
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
    rows = [{"id": "2"}, {"id": "1"}]
    crm.faults = [None, None, Told(200, {"data": rows, "info": {"more_records": False}})]
    with pytest.raises(SourceError, match="order of ids"):
        read(crm)
    crm.faults = [None, None, Told(200, {"rows": []})]
    with pytest.raises(SourceError, match="without `data`"):
        read(crm)


@pytest.mark.parametrize(
    "told",
    [
        Told(304),  # which nobody asked for
        Told(200, b""),
        Told(200, {"data": [{"id": "1"}]}),
        Told(200, {"data": [{"id": "1"}], "info": {"more_records": None}}),
        Told(200, {"data": [], "info": {"more_records": True}}),
    ],
)
def test_an_answer_that_may_be_cut_short_is_no_read(crm: Zoho, told: Told) -> None:
    """Whoever does not come in a full read counts as gone."""
    crm.faults = [None, None, told]
    with pytest.raises(SourceError, match="/crm/v8/Contacts"):
        read(crm)


def test_a_listing_that_goes_round_is_no_read(crm: Zoho) -> None:
    row = {"id": "1", "Email": "p1@example.com"}
    info = {"more_records": True, "next_page_token": "again"}
    crm.faults = [None, None, *[Told(200, {"data": [row], "info": info})] * 3]
    with pytest.raises(SourceError, match="does not end"):
        read(crm)


def test_an_empty_page_after_a_token_is_no_end(crm: Zoho) -> None:
    for key in range(1, 301):
        crm.put(key, Email=f"p{key}@example.com")
    crm.faults = [None, None, None, Told(204)]
    with pytest.raises(SourceError, match="shows none"):
        read(crm)


def test_a_token_goes_nowhere_astray(crm: Zoho) -> None:
    crm.api_domain = "example.com"
    with pytest.raises(SourceError, match="api_domain"):
        read(crm)


def test_too_many_tokens_are_an_error_with_words(crm: Zoho) -> None:
    """About ten in ten minutes are handed out: each start of the program takes one [M]."""
    for _ in range(10):
        assert len(keys(read(crm))) == 5
    with pytest.raises(SourceError, match="Access Denied"):
        read(crm)
    crm.clock.advance_s(600)
    assert len(keys(read(crm))) == 5


def test_a_login_that_is_never_taken_does_not_use_up_the_tokens(crm: Zoho) -> None:
    answer = crm.answer

    def never(asked: Any) -> Told:
        told = answer(asked)
        return told if "token" in asked.path else problem(401, "INVALID_TOKEN", "invalid token")

    crm.answer = never  # type: ignore[method-assign]
    with pytest.raises(SourceDenied, match="INVALID_TOKEN"):
        read(crm)
    assert crm.handed_out == 2


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
