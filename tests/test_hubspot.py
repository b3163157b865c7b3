"""HubSpot against its double: what is read, what is seen, what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.hubspot import TOKEN, HubSpot, problem
from doubles.server import Told

from connectors.hubspot import HubspotConnector, HubspotOptions
from syncd.connector import Checkpoint, Context, Event, Merged, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError, SourceExhausted
from syncd.testing import conformance
from syncd.testing.clock import FakeClock
from syncd.testing.conformance import ConnectorSuite

SECRET = "env:HUBSPOT_TOKEN"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def crm(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpot]:
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot(clock) as double:
        for key in range(1, 8):
            double.put(key, email=f"p{key}@example.com", firstname=f"P{key}", score=str(key * 10))
        yield double


def connector(crm: HubSpot, **options: Any) -> HubspotConnector:
    given = {"token": SECRET, "base_url": crm.url, **options}
    return HubspotConnector(HubspotOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: HubSpot, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields) if fields else frozenset({"email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


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


# Changes


def test_only_what_was_changed_is_read(crm: HubSpot) -> None:
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(3, firstname="New")
    second = read(crm, cursor(first), "firstname")
    assert keys(second) == ["3", "7"]  # 7 is within the overlap, which is harmless
    crm.clock.advance_s(3600)
    assert keys(read(crm, cursor(second))) == ["3"]


def test_what_the_search_shows_late_is_not_missed(crm: HubSpot) -> None:
    crm.clock.advance_s(3600)
    crm.lag_s = 300
    first = read(crm)
    crm.clock.advance_s(100)
    crm.put(3, firstname="Late")
    crm.clock.advance_s(100)
    crm.put(4, firstname="Later")
    second = read(crm, cursor(first), "firstname")
    assert "3" not in keys(second)
    crm.clock.advance_s(301)
    assert {"3", "4"} <= set(keys(read(crm, cursor(second), "firstname")))


def test_more_hits_with_one_time_than_a_search_shows_are_all_read(crm: HubSpot) -> None:
    """A search never pages past 10,000 hits (here 1,000), and a monthly job of HubSpot's own changes more at once."""
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.search_hits_max = 1_000
    for key in range(1, 1_302):
        crm.put(key, email=f"p{key}@example.com")
    events = read(crm, cursor(first))
    assert keys(events) == [str(key) for key in range(1, 1_302)]


def test_rows_that_change_between_pages_are_neither_lost_nor_doubled(crm: HubSpot) -> None:
    for key in range(1, 501):
        crm.put(key, email=f"p{key}@example.com")
    first = read(crm)
    crm.clock.advance_s(3600)
    for key in range(1, 501):
        crm.put(key, firstname="New")

    def touch(asked: Any) -> None:
        if asked.path.endswith("/search"):
            crm.clock.advance_s(5)
            for key in (1, 250, 499):
                crm.put(key, firstname="Newer")

    crm.before_answer = touch
    second = read(crm, cursor(first), "firstname")
    crm.before_answer = lambda asked: None
    assert len(keys(second)) == len(set(keys(second)))
    crm.clock.advance_s(60)
    third = read(crm, cursor(second), "firstname")
    shown = {e.key: e.fields["firstname"] for e in [*second, *third] if isinstance(e, Record)}
    assert len(shown) == 500
    assert [shown[key] for key in ("1", "250", "499")] == ["Newer"] * 3


def test_a_search_that_does_not_keep_its_order_is_no_read(crm: HubSpot) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(2, firstname="x")
    rows = [{"id": "9", "properties": {}}, {"id": "3", "properties": {}}]
    crm.faults = [None, None, Told(200, {"results": rows})]
    with pytest.raises(SourceError, match="order of ids"):
        read(crm, cursor(first))


def test_the_same_page_again_is_no_read(crm: HubSpot) -> None:
    loop = {"results": [], "paging": {"next": {"after": "5"}}}
    crm.faults = [None, *[Told(200, loop)] * 3]
    with pytest.raises(SourceError, match="does not end"):
        read(crm)


# Deletions and merges


def test_archived_contacts_are_gone_also_while_the_search_still_shows_them(crm: HubSpot) -> None:
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.put(2, firstname="x")
    crm.archive(2)
    row = {"id": "2", "properties": {"email": "p2@example.com", "hs_object_id": "2"}}
    crm.faults = [None, None, Told(200, {"results": [row]})]
    events = read(crm, cursor(first))
    assert Tombstone("2") in events
    assert keys(events) == []


def test_who_was_archived_long_ago_is_not_told_again(crm: HubSpot) -> None:
    crm.archive(2)
    crm.clock.advance_s(86_400)
    crm.put(3, firstname="x")
    first = read(crm)
    crm.clock.advance_s(86_400)
    assert [e for e in read(crm, cursor(first)) if isinstance(e, Tombstone)] == []


def test_merged_contacts_are_told_with_their_winner(crm: HubSpot) -> None:
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm)
    crm.clock.advance_s(3600)
    crm.merge(2, 1)
    crm.merge(3, 1)
    events = read(crm, cursor(first))
    assert Merged("2", "1") in events
    assert Merged("3", "1") in events
    assert keys(events) == ["1", "7"]


# Lists


def test_lists_are_read_with_everybody_in_them(crm: HubSpot) -> None:
    for key in range(1, 301):
        crm.put(key, email=f"p{key}@example.com")
        crm.join("Everybody", key)
    crm.join("VIP", 3)
    crm.join("Third", 3)
    events = read(crm, None, "_lists")
    assert fields(events, "3") == {"_lists": ["Everybody", "VIP", "Third"]}
    assert fields(events, "299") == {"_lists": ["Everybody"]}
    assert fields(read(crm, None, "_lists", lists=["VIP"]), "3") == {"_lists": ["VIP"]}
    with pytest.raises(SourceError, match="no list 'VPI'"):
        read(crm, None, "_lists", lists=["VPI"])


def test_who_joins_a_list_is_read_although_the_contact_did_not_change(crm: HubSpot) -> None:
    crm.join("VIP", 1)
    crm.clock.advance_s(3600)
    crm.put(7, firstname="Last")
    first = read(crm, None, "_lists")
    crm.clock.advance_s(3600)
    crm.join("VIP", 5)
    second = read(crm, cursor(first), "_lists")
    assert keys(second) == ["7", "5"]
    assert fields(second, "5") == {"_lists": ["VIP"]}
    crm.clock.advance_s(3600)
    third = read(crm, cursor(second), "_lists")
    assert not [e for e in third if isinstance(e, Resync)]


def test_who_leaves_a_list_soon_after_joining_is_seen(crm: HubSpot) -> None:
    """Within the overlap nobody knows whether the last read has seen the joining."""
    crm.join("VIP", 1)
    crm.clock.advance_s(3600)
    crm.join("VIP", 5)
    first = read(crm, None, "_lists")
    del crm.lists[1]["members"][5]
    crm.clock.advance_s(60)
    assert fields(read(crm, cursor(first), "_lists"), "5") == {"_lists": []}


@pytest.mark.parametrize("change", ["leave", "rename", "delete"])
def test_who_leaves_a_list_makes_everything_be_read(crm: HubSpot, change: str) -> None:
    for key in (1, 2):
        crm.join("VIP", key)
    crm.clock.advance_s(3600)
    first = read(crm, None, "_lists")
    crm.clock.advance_s(3600)
    if change == "leave":
        del crm.lists[1]["members"][2]
    elif change == "rename":
        crm.lists[1]["name"] = "Very important"
    else:
        del crm.lists[1]
    events = read(crm, cursor(first), "_lists")
    assert any(isinstance(e, Resync) for e in events)
    assert len(keys(events)) == 7
    now = {"leave": [], "rename": ["Very important"], "delete": []}[change]
    assert fields(events, "2") == {"_lists": now}


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
        self.crm.contacts.clear()
        self.crm.archived.clear()
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
