"""HubSpot against its double: what is read, what is survived. Changes and lists have files of their own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.hubspot import problem
from doubles.server import Told
from hubspot_reads import TOKEN, HubSpot, Record, connector, cursor, fields, keys, read

from connectors.hubspot import HubspotConnector, HubspotOptions
from syncd.connector import Request
from syncd.errors import SourceDenied, SourceError, SourceExhausted, SourceTooLarge
from syncd.http import HttpClient
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpot]:
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot() as double:
        for key in range(1, 8):
            double.put(key, email=f"p{key}@example.com", firstname=f"P{key}", score=str(key * 10))
        yield double


# Values


def test_values_have_the_type_of_their_property(crm: HubSpot) -> None:
    """`not hs_email_optout` would be false for the text "false", and nobody would be written to."""
    crm.put(1, hs_email_optout="false", score="81", firstname="")
    crm.put(2, hs_email_optout="true", score="80.5")
    events = read(crm, None, "hs_email_optout", "score", "firstname")
    assert fields(events, "1") == {"hs_email_optout": False, "score": 81, "firstname": None}
    assert fields(events, "2")["hs_email_optout"] is True
    assert fields(events, "2")["score"] == 80.5
    assert fields(events, "3")["hs_email_optout"] is None


def test_company_and_owner_are_joined_in_batches(crm: HubSpot) -> None:
    crm.companies[9] = {"name": "Example SA", "domain": "example.com", "website": None}
    crm.owners[77] = {
        "email": "o@example.com",
        "firstName": "Olga",
        "lastName": "O.",
        "archived": True,
    }
    crm.put(1, associatedcompanyid="9", hubspot_owner_id="77")
    crm.put(2, associatedcompanyid="404")
    events = read(crm, None, "_company", "_owner")
    company = {"id": "9", "name": "Example SA", "domain": "example.com", "website": None}
    assert fields(events, "1") == {
        "_company": company,
        "_owner": {"id": "77", "name": "Olga O.", "email": "o@example.com"},
    }
    assert fields(events, "2") == {"_company": None, "_owner": None}
    assert sum("companies" in path for path in crm.paths()) == 1


def test_more_properties_than_a_url_holds_are_read_by_id(crm: HubSpot) -> None:
    crm.types |= {f"custom_{number:03}_{'x' * 80}": "string" for number in range(200)}
    events = list(connector(crm).read(Request()))
    assert keys(events) == [str(key) for key in range(1, 8)]
    assert len(fields(events, "1")) > 200


def test_further_addresses_are_further_people_where_they_are_wanted(crm: HubSpot) -> None:
    crm.put(1, hs_additional_emails="a.b@example.org; C@example.org")
    assert keys(read(crm)) == [str(key) for key in range(1, 8)]
    events = read(crm, None, "email", emails="all")
    further = [e for e in events if isinstance(e, Record) and e.key.startswith("1#")]
    assert [e.fields["email"] for e in further] == ["a.b@example.org", "C@example.org"]
    assert [e.key for e in further] == [k for k in keys(read(crm, None, emails="all")) if "#" in k]


def test_a_number_that_is_none_stays_text(crm: HubSpot) -> None:
    for key, score in enumerate(("NaN", "1e400", "-7", "\u00b2", "--5"), 1):
        crm.put(key, score=score)
    events = read(crm, None, "score")
    assert [fields(events, str(key))["score"] for key in range(1, 6)] == [
        "NaN", "1e400", -7, "\u00b2", "--5",
    ]  # fmt: skip


def test_a_company_that_nobody_may_know_of_is_not_the_same_as_none(crm: HubSpot) -> None:
    del crm.types["associatedcompanyid"]
    assert fields(read(crm, None, "_company"), "1") == {}


def test_owners_are_those_who_left_too_and_are_read_once(crm: HubSpot) -> None:
    for key, archived in ((77, True), (78, False)):
        crm.owners[key] = {
            "email": f"o{key}@example.com",
            "firstName": None,
            "lastName": f"O{key}",
            "archived": archived,
        }
    crm.put(1, hubspot_owner_id="77")
    crm.put(2, hubspot_owner_id="78")
    crm.put(3, hubspot_owner_id="")
    events = read(crm, None, "_owner")
    names = [(fields(events, key)["_owner"] or {}).get("name") for key in ("1", "2", "3")]
    assert names == ["O77", "O78", None]
    assert crm.paths().count("GET /crm/v3/owners") == 2


def test_short_names_make_a_long_url_too(crm: HubSpot) -> None:
    """A comma is three characters in a URL."""
    crm.types |= {f"p{number}": "string" for number in range(2_100)}
    assert len(",".join(crm.types)) < 12_000
    assert len(keys(list(connector(crm).read(Request())))) == 7


def test_a_page_that_is_too_large_is_asked_for_in_parts(
    crm: HubSpot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred contacts with long notes are more than one answer may be."""
    kept = dict(HttpClient.__init__.__kwdefaults__)
    small = {**kept, "body_bytes_max": 200_000}
    monkeypatch.setattr(HttpClient.__init__, "__kwdefaults__", small)
    for key in range(1, 41):
        crm.put(key, email=f"p{key}@example.com", notes="x" * 20_000)
    names = ("email", "notes")
    first = read(crm, None, *names)
    assert keys(first) == [str(key) for key in range(1, 41)]
    assert keys(read(crm, cursor(first), *names)) == keys(first)
    crm.put(1, notes="x" * 300_000)
    with pytest.raises(SourceTooLarge, match="one contact"):
        read(crm, None, *names)


# Limits and failures


def test_the_days_limit_ends_the_run_at_once(crm: HubSpot) -> None:
    body = {
        "status": "error",
        "message": "You have reached your daily limit.",
        "policyName": "DAILY",
    }
    crm.faults = [None, Told(429, body)]
    with pytest.raises(SourceExhausted, match="midnight") as caught:
        read(crm)
    assert len(crm.asked) == 2
    assert "daily limit" in str(caught.value)


def test_the_window_of_ten_seconds_is_waited_for(crm: HubSpot) -> None:
    before_s = crm.clock.now_s()
    crm.faults = [
        None,
        Told(429, {"message": "rolling limit", "policyName": "TEN_SECONDLY_ROLLING"}),
    ]
    assert len(keys(read(crm))) == 7
    assert crm.clock.now_s() - before_s >= 10


def test_a_days_limit_is_known_by_its_words_too(crm: HubSpot) -> None:
    crm.faults = [
        None,
        Told(429, {"status": "error", "message": "You have reached your daily limit."}),
    ]
    with pytest.raises(SourceExhausted, match="midnight"):
        read(crm)


def test_searches_and_other_requests_have_one_limit_together(crm: HubSpot) -> None:
    for key in range(1, 4_001):
        crm.put(key, email=f"p{key}@example.com", associatedcompanyid=str(key))
        crm.companies[key] = {"name": f"C{key}", "domain": None, "website": None}
    first = read(crm, None, "_company")
    crm.clock.advance_s(60)
    crm.limits = True
    events = read(crm, cursor(first), "_company")
    assert len(keys(events)) == 4_000
    assert fields(events, "4000")["_company"]["name"] == "C4000"


def test_a_batch_that_was_not_done_is_no_read(crm: HubSpot) -> None:
    """What is not there was deleted meanwhile; any other gap would be a company that nobody has."""
    crm.put(1, associatedcompanyid="9")
    crm.companies[9] = {"name": "Example SA", "domain": None, "website": None}
    error = {"status": "error", "category": "INTERNAL_ERROR", "message": "oops"}
    crm.faults = [None, None, Told(207, {"status": "COMPLETE", "results": [], "errors": [error]})]
    with pytest.raises(SourceError, match="did not answer for all"):
        read(crm, None, "_company")


def test_nothing_is_asked_while_nothing_is_left(crm: HubSpot) -> None:
    left = {
        "X-HubSpot-RateLimit-Remaining": "0",
        "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
    }
    properties = [{"name": name, "type": kind} for name, kind in crm.types.items()]
    crm.faults = [Told(200, {"results": properties}, left)]
    before_s = crm.clock.now_s()
    read(crm)
    assert crm.clock.now_s() - before_s >= 10


def test_oauth_tokens_are_renewed_once(crm: HubSpot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "client-made-up")
    monkeypatch.setenv("REFRESH", "refresh-made-up")
    login = {
        "token": None,
        "client_id": "id",
        "client_secret": "env:SECRET",
        "refresh_token": "env:REFRESH",
    }
    assert len(keys(read(crm, **login))) == 7
    crm.faults = [None, None, Told(401, b"{}")]
    assert len(keys(read(crm, **login))) == 7
    assert crm.paths().count("POST /oauth/v1/token") == 3
    monkeypatch.setenv("REFRESH", "revoked-made-up")
    with pytest.raises(SourceDenied, match="refresh token") as caught:
        read(crm, **login)
    assert "revoked-made-up" not in str(caught.value)


def test_check_names_each_missing_scope(crm: HubSpot) -> None:
    assert connector(crm).check() == "HubSpot: contacts can be read"
    crm.scopes -= {"crm.lists.read", "crm.objects.owners.read"}
    words = connector(crm).check()
    assert "not _owner: the scope crm.objects.owners.read is missing" in words
    assert "not _lists: the scope crm.lists.read is missing" in words
    crm.scopes.discard("communication_preferences.read")
    assert "further addresses" not in connector(crm).check()
    assert "the scope communication_preferences.read" in connector(crm, emails="all").check()
    crm.scopes.discard("crm.objects.contacts.read")
    with pytest.raises(SourceDenied, match=r"scope crm\.objects\.contacts\.read"):
        connector(crm).check()


def test_a_scope_that_is_missing_for_what_is_mapped_ends_the_read(crm: HubSpot) -> None:
    crm.scopes.discard("crm.lists.read")
    with pytest.raises(SourceDenied, match=r"crm\.lists\.read"):
        read(crm, None, "_lists")


def test_no_secret_and_no_address_is_in_an_error(crm: HubSpot) -> None:
    words = f"Contact ann@example.com is refused for token {TOKEN}"
    crm.faults = [None, problem(400, "VALIDATION_ERROR", words)]
    with pytest.raises(SourceError) as caught:
        read(crm)
    assert "ann@example.com" not in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert "Contact (address) is refused" in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"token": "env:A", "client_id": "x"}, {"client_id": "x"}])
def test_exactly_one_login_is_needed(options: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="either token, or client_id"):
        HubspotOptions.model_validate(options)


class TestHubspot(ConnectorSuite):
    """The promises of every connector."""

    many = 1_000

    @pytest.fixture(autouse=True)
    def _double(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with HubSpot() as self.crm:
            self.crm.tokens = {conformance.SECRET}
            yield

    def source(self, folder: Path, records: Any) -> HubspotConnector:
        self.crm.clear()
        self.crm.broken_after = None
        self.change(folder, records)
        return connector(self.crm, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 8

    def change(self, folder: Path, records: Any) -> None:
        self.crm.clock.advance_s(60)
        for row in records:
            self.crm.put(int(row["id"]), email=row["email"], firstname=row["name"])
        self.crm.clock.advance_s(60)

    def remove(self, folder: Path, record: Any) -> None:
        self.crm.archive(int(record["id"]))

    def merge(self, folder: Path, loser: Any, winner: Any) -> None:
        self.crm.merge(int(loser["id"]), int(winner["id"]))
