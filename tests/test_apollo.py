"""Apollo against its double: what is read, and what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apollo_reads import connector, crm_fixture, cursor, fields, numbers, read
from doubles.apollo import CHOICE, CUSTOM, REFRESH, Apollo, cid
from doubles.server import Told
from pydantic import ValidationError

from connectors.apollo import ApolloConnector, ApolloOptions, listing
from syncd.connector import Record, Request, Tombstone
from syncd.core.mapping import FieldRule, MappingRules, compile_mapping
from syncd.core.model import Skipped, SkipReason
from syncd.errors import SourceDenied, SourceError, SourceExhausted
from syncd.http import further_key
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

__all__ = ["crm_fixture"]

MESSAGES = "/emailer_messages/search"


def page(*rows: Any, total: int, **more: Any) -> Told:
    pagination = {"page": 1, "per_page": 100, "total_entries": total, "total_pages": 1}
    return Told(200, {"contacts": list(rows), "pagination": pagination, **more})


# Values


@pytest.mark.parametrize(
    "address", ["email_not_unlocked@domain.com", "Email_Not_Unlocked@x.io", " ", None]
)
def test_a_placeholder_is_no_address(crm: Apollo, address: str | None) -> None:
    crm.put(1, email_status="unavailable")
    crm.change(1, email=address)
    assert fields(read(crm, None, "email", "email_status"), cid(1)) == {
        "email": None, "email_status": "unavailable",
    }  # fmt: skip


def test_company_is_the_account_or_the_organization_or_a_name(crm: Apollo) -> None:
    account = {
        "id": "a1",
        "name": "Example SA",
        "website_url": "http://www.example.com",
        "domain": "example.com",
    }
    organization = {"id": "o1", "name": "Example Group", "website_url": "https://group.example.com"}
    crm.put(1, account=account, organization=organization, organization_name="Old")
    crm.put(2, account=None, organization=organization)
    crm.put(3, organization_name="Only a name", organization_id="o3")
    events = read(crm, None, "_company")
    assert [fields(events, cid(n))["_company"] for n in (1, 2, 3, 4)] == [
        {"id": "a1", "name": "Example SA", "domain": "example.com", "website": "http://www.example.com"},
        {"id": "o1", "name": "Example Group", "domain": "group.example.com", "website": "https://group.example.com"},
        {"id": "o3", "name": "Only a name"},
        None,
    ]  # fmt: skip


@pytest.mark.parametrize("named", [False, True])
def test_owner_lists_stage_and_phone_are_shown_by_name(crm: Apollo, named: bool) -> None:
    crm.named_labels = named
    crm.users = [
        {
            "id": "user1",
            "name": "",
            "first_name": "Olga",
            "last_name": "O.",
            "email": "o@example.com",
        }
    ]
    crm.labels = {"label1": "VIP", "label2": "Fair"}
    numbers_of = [{"raw_number": "01", "sanitized_number": None}]
    crm.put(
        1, label_ids=["label1", "label0"], phone_numbers=numbers_of
    )  # one that has gone leaves its id
    crm.put(
        2,
        owner_id=None,
        contact_stage_id="stage2",
        sanitized_phone="+33 1",
        phone_numbers=numbers_of,
    )
    crm.put(3, contact_stage_id=None)
    events = read(crm, None, "_owner", "_lists", "_stage", "_phone")
    owner = {"id": "user1", "name": "Olga O.", "email": "o@example.com"}
    assert fields(events, cid(1)) == {
        "_owner": owner,
        "_lists": ["VIP"],
        "_stage": "Cold",
        "_phone": "01",
    }
    assert fields(events, cid(2)) == {
        "_owner": None,
        "_lists": [],
        "_stage": "Do Not Contact",
        "_phone": "+33 1",
    }
    assert fields(events, cid(3))["_stage"] is None


def test_custom_fields_stand_under_their_ids(crm: Apollo) -> None:
    crm.put(1, typed_custom_fields={CUSTOM: "Hello", CHOICE: "pick1"})
    crm.put(2, typed_custom_fields=None)
    crm.put(3, typed_custom_fields={CHOICE: ["pick1", "pick2"]})
    events = read(crm, None, CUSTOM, CHOICE)
    assert fields(events, cid(1)) == {CUSTOM: "Hello", CHOICE: "Gold"}
    assert fields(events, cid(2)) == {CUSTOM: None, CHOICE: None}
    assert fields(events, cid(3)) == {CUSTOM: None, CHOICE: ["Gold", "pick2"]}
    assert {one.name: one.label for one in connector(crm).fields()}[CHOICE] == "Level"
    crm.contacts[cid(4)].pop("typed_custom_fields")
    assert fields(read(crm, None, CUSTOM), cid(4)) == {}
    crm.denied = {"/typed_custom_fields"}
    with pytest.raises(SourceDenied, match="typed_custom_fields"):
        read(crm, None, CUSTOM)
    assert CUSTOM not in fields(list(connector(crm).read(Request())), cid(1))


def test_each_address_is_a_person_where_that_is_wanted(crm: Apollo) -> None:
    crm.put(
        1,
        contact_emails=[
            {"email": "P1@example.com", "email_status": "verified"},
            {"email": "private@example.org", "email_status": "unverified"},
            {"email": "email_not_unlocked@domain.com"},
            {"email": None},
            "?",
        ],
    )
    events = read(crm, None, "email", "email_status", emails="all")
    other = further_key(cid(1), "private@example.org")
    assert fields(events, cid(1))["email"] == "p1@example.com"
    assert fields(events, other) == {"email": "private@example.org", "email_status": "unverified"}
    assert len([event for event in events if isinstance(event, Record)]) == 6
    assert "email_status" not in fields(read(crm, None, "email", emails="all"), other)
    assert fields(read(crm, None, "first_name", emails="all"), other) == {"first_name": "P1"}


# Opt-outs


def test_every_way_to_opt_out_counts(crm: Apollo) -> None:
    crm.put(1, email_unsubscribed=True)
    crm.put(2, contact_stage_id="stage2")
    crm.put(
        3,
        contact_campaign_statuses=[
            {"status": "finished", "inactive_reason": "Contact unsubscribed"}
        ],
    )
    crm.put(6, "p6@example.com")
    crm.put(
        7,
        "p7@example.com",
        contact_campaign_statuses=[{"status": "failed", "failure_reason": "bounced"}, None],
    )
    crm.written = {cid(4): "link", cid(5): "answer"}
    events = read(crm, None, "_opted_out")
    found = {n: fields(events, cid(n))["_opted_out"] for n in range(1, 8)}
    assert found == {1: True, 2: True, 3: True, 4: True, 5: True, 6: False, 7: False}


def test_an_opt_out_that_does_not_come_is_not_known(crm: Apollo) -> None:
    crm.contacts[cid(1)].pop("email_unsubscribed")
    crm.put(2, email_unsubscribed="maybe")
    events = read(crm, None, "_opted_out", "email_unsubscribed", "email")
    assert "_opted_out" not in fields(events, cid(1))
    assert "email_unsubscribed" not in fields(events, cid(1))
    assert "_opted_out" not in fields(events, cid(2))
    preset = connector(crm).preset()
    mapping = compile_mapping(
        MappingRules(fields=(FieldRule("email", path="email"),), opted_out=preset.opted_out)
    )
    outcome = mapping.map(fields(events, cid(1)))
    assert isinstance(outcome, Skipped)
    assert outcome.reason is SkipReason.BLOCKED


@pytest.mark.parametrize("endpoint", [MESSAGES, "/contact_stages"])
def test_opt_outs_that_a_key_may_not_read_end_the_read(crm: Apollo, endpoint: str) -> None:
    crm.denied = {endpoint}
    with pytest.raises(SourceDenied, match="master key"):
        read(crm, None, "_opted_out")
    assert len(numbers(read(crm, None, "email_unsubscribed"))) == 5


@pytest.mark.parametrize("counts", [False, True])
def test_all_pages_of_unsubscribed_are_read(crm: Apollo, counts: bool) -> None:
    crm.counts_pages = counts
    crm.written = {cid(number): "link" for number in range(3, 302)}
    events = read(crm, None, "_opted_out")
    assert [fields(events, cid(n))["_opted_out"] for n in (1, 2, 3, 4)] == [
        False,
        False,
        True,
        True,
    ]
    assert sum(one.path.endswith(MESSAGES) for one in crm.asked) == 4 + (not counts)


# Which contacts


def test_only_the_contacts_of_the_named_lists_are_read(crm: Apollo) -> None:
    crm.labels = {"label1": "VIP", "label2": "Fair", "label3": "Else"}
    crm.put(1, label_ids=["label1", "label2"])
    crm.put(2, label_ids=["label2"])
    crm.put(3, label_ids=["label3"])
    assert numbers(read(crm, None, lists=["VIP", "Fair"])) == [1, 2]
    with pytest.raises(SourceError, match="no list 'VPI'"):
        connector(crm, lists=["VPI"]).check()
    crm.labels["label4"] = "VIP"
    with pytest.raises(SourceError, match="2 lists 'VIP'"):
        read(crm, None, lists=["VIP"])


def test_who_leaves_the_named_lists_is_gone(crm: Apollo) -> None:
    crm.labels = {"label1": "VIP"}
    emails = [{"email": "b@example.com"}]
    for number in (1, 2, 3):
        crm.put(number, label_ids=["label1"], contact_emails=emails)
    first = read(crm, None, lists=["VIP"], emails="all")
    crm.clock.advance_s(7200)
    crm.put(2, label_ids=[])
    crm.put(4, first_name="Never there")
    crm.put(5, label_ids=["label1"])
    crm.put(1, first_name="New")
    del crm.contacts[cid(3)]["label_ids"]
    crm.put(3)
    events = read(crm, cursor(first), lists=["VIP"], emails="all")
    assert numbers(events) == [1, 5]
    gone = {event.key for event in events if isinstance(event, Tombstone)}
    assert {cid(2), further_key(cid(2), "b@example.com"), cid(4)} == gone


@pytest.fixture
def few_pages(crm: Apollo, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing shows 5 pages, and not 500."""
    monkeypatch.setattr(listing, "PAGES_MAX", 5)
    monkeypatch.setattr(listing, "SHOWN_MAX", 500)
    crm.pages_max = 5


@pytest.mark.usefixtures("few_pages")
@pytest.mark.parametrize("count", [500, 501, 850, 1_000])
def test_more_contacts_than_a_listing_shows_are_read_from_both_ends(
    crm: Apollo, count: int
) -> None:
    for number in range(6, count + 1):
        crm.put(number, f"p{number}@example.com")
        crm.clock.advance_s(1)
    assert numbers(read(crm)) == list(range(1, count + 1))
    pages = [one.json for one in crm.asked if one.path.endswith("/contacts/search")]
    assert sum(not one["sort_ascending"] for one in pages) == 5
    # From the other end until a page has come already.
    assert sum(one["sort_ascending"] for one in pages) == {500: 1, 501: 2, 850: 5, 1_000: 5}[count]


@pytest.mark.usefixtures("few_pages")
@pytest.mark.parametrize("counted", [100, 300, 500])
def test_a_total_that_is_not_counted_to_its_end_cuts_nothing_off(crm: Apollo, counted: int) -> None:
    crm.counted_max = counted
    for number in range(6, 851):
        crm.put(number, f"p{number}@example.com")
        crm.clock.advance_s(1)
    assert numbers(read(crm)) == list(range(1, 851))
    for number in range(851, 1_010):
        crm.put(number, f"p{number}@example.com")
        crm.clock.advance_s(1)
    with pytest.raises(SourceError, match="Apollo shows 1,000 contacts, and has more"):
        read(crm)


@pytest.mark.usefixtures("few_pages")
def test_more_contacts_than_can_be_shown_are_no_read(crm: Apollo) -> None:
    crm.faults = [page(total=1_001)]
    with pytest.raises(SourceError, match="Name lists in `lists`"):
        read(crm)


# Rows that move between pages


@pytest.mark.parametrize("lag_s", [0.0, 40.0])
def test_nobody_is_passed_over_when_others_are_deleted_or_made(crm: Apollo, lag_s: float) -> None:
    crm.lag_s = lag_s
    for number in range(6, 1_001):
        crm.put(number, f"p{number}@example.com")
        crm.clock.advance_s(0.01)
    crm.clock.advance_s(3600)
    pages = 0

    def touch(asked: Any) -> None:
        nonlocal pages
        pages += 1
        if pages in {3, 6, 8}:
            for number in range(1_000 - 10 * pages, 1_005 - 10 * pages):
                crm.delete(number)
            crm.put(2_000 + pages, "new@example.com")
        crm.clock.advance_s(60)

    crm.before_answer = touch
    found = numbers(read(crm))
    crm.before_answer = lambda asked: None
    assert len(found) == len(set(found))
    missing = set(range(1, 1_001)) - set(found)
    assert all(cid(number) not in crm.contacts for number in missing)


def test_a_part_that_is_counted_whole_is_read(crm: Apollo) -> None:
    """What `partial_results_only` means beyond its limit, nobody says: as many as are counted must come."""
    rows = [{"id": cid(number)} for number in range(1, 4)]
    crm.faults = [page(*rows, total=3, partial_results_only=True, partial_results_limit=2)]
    assert numbers(read(crm)) == [1, 2, 3]


def test_rows_in_no_order_are_walked_through_until_all_have_come(crm: Apollo) -> None:
    """Contacts of one moment may stand in another order on each page."""
    for number in range(6, 301):
        crm.put(number, f"p{number}@example.com")
    answer, turns = crm.answer, 0

    def shuffled(asked: Any) -> Told:
        nonlocal turns
        if asked.path.endswith("search"):
            turns += 1
            crm.order = (crm.order[0], crm.order[1][7:] + crm.order[1][:7])
        return answer(asked)

    read(crm)
    crm.answer = shuffled  # type: ignore[method-assign]
    assert numbers(read(crm)) == list(range(1, 301))
    assert turns > 3


def test_fewer_contacts_than_apollo_counts_are_no_read(crm: Apollo) -> None:
    """As when pages end before their end: whoever is missing would count as gone."""
    answer = crm.answer

    def cut(asked: Any) -> Told:
        told = answer(asked)
        told.body["pagination"]["total_entries"] = 30_000
        return told

    crm.answer = cut  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="counts 30,000 contacts and shows 5"):
        read(crm)


def test_pages_that_are_shorter_than_asked_for_are_all_read(crm: Apollo) -> None:
    for number in range(6, 301):
        crm.put(number, f"p{number}@example.com")
    answer = crm.answer

    def short(asked: Any) -> Told:
        asked.body = asked.body.replace(b'"per_page":100', b'"per_page":25')
        return answer(asked)

    crm.answer = short  # type: ignore[method-assign]
    assert numbers(read(crm)) == list(range(1, 301))


def test_a_listing_that_only_shrinks_ends(crm: Apollo) -> None:
    rows = [{"id": cid(number)} for number in range(100)]
    crm.faults = [page(*rows, total=50_000 - number) for number in range(300)]
    with pytest.raises(SourceError, match="loses contacts faster"):
        read(crm)


# Limits and failures


def test_a_full_read_that_is_longer_than_an_hours_budget_is_read(crm: Apollo) -> None:
    """400 requests an hour, and 500 pages: the last 120 of an hour are spread over what may be left of it."""
    crm.limits |= {"hourly": 125}
    for number in range(6, 13_001):
        crm.put(number, f"p{number}@example.com")
    began_s = crm.clock.now_s()
    assert len(numbers(read(crm))) == 13_000
    assert crm.throttled == 0
    assert 3500 < crm.clock.now_s() - began_s < 4000


@pytest.mark.parametrize(
    ("limits", "until"), [({"hourly": 3}, "in 59 minutes"), ({"24-hour": 2}, "in 1,440 minutes")]
)
def test_a_budget_that_is_used_up_ends_the_read(
    crm: Apollo, limits: dict[str, int], until: str
) -> None:
    crm.limits |= limits
    for number in range(6, 501):
        crm.put(number, f"p{number}@example.com")
    with pytest.raises(SourceExhausted, match=until):
        read(crm)
    crm.faults = [Told(429, {"message": "600 times per day"})]
    with pytest.raises(SourceExhausted, match="tomorrow"):
        read(crm)


def test_the_minutes_budget_is_waited_for(crm: Apollo) -> None:
    crm.limits |= {"minute": 2}
    for number in range(6, 501):
        crm.put(number, f"p{number}@example.com")
    began_s = crm.clock.now_s()
    assert len(numbers(read(crm))) == 500
    assert crm.throttled == 0
    crm.windows[("/contacts/search", "minute")] = [crm.clock.now_s(), 2]
    assert len(numbers(read(crm))) == 500
    assert crm.throttled == 1
    assert crm.clock.now_s() - began_s >= 240


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (Told(200, b"<html>Sign in</html>", {"Content-Type": "text/html"}), "not JSON"),
        (Told(200, {"items": []}), "without `contacts`"),
        (Told(200, {"contacts": [7], "pagination": {}}), "without `contacts`"),
        (Told(200, {"contacts": []}), "not how many"),
        (Told(200, {"contacts": [], "pagination": {"total_entries": "5"}}), "not how many"),
        (page(total=5, partial_results_only=True), "does not show all"),
        (page(total=10_000, partial_results_only=True, partial_results_limit=10_000), "does not show all"),
        (page({"id": None}, total=1), "without an id"),
        (page({"id": "../users"}, total=1), "without an id"),
        (Told(500, b"oops"), "failed 5 times"),
        (Told(422, {"error": "Wrong"}), "Wrong"),
        (Told(403, {"message": "This endpoint is only available to Apollo users on paid plans."}), "paid plans only"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_apollos_is_no_read(crm: Apollo, told: Told, words: str) -> None:
    crm.faults = [told] * 5
    with pytest.raises(SourceError, match=words):
        read(crm)


@pytest.mark.usefixtures("few_pages")
def test_the_same_page_for_ever_is_no_read(crm: Apollo) -> None:
    crm.faults = [page({"id": cid(1)}, total=400)] * 100
    with pytest.raises(SourceError, match="counts 400 contacts and shows 1"):
        read(crm)


def test_awkward_values_come_through(crm: Apollo) -> None:
    crm.put(1, first_name="A\x00da \U0001f600", last_name="\ud83d", title="x" * 10_000)
    found = fields(read(crm, None, "first_name", "last_name", "title"), cid(1))
    assert found["first_name"] == "A\x00da \U0001f600"
    assert found["last_name"] == "�"
    twice = {"id": cid(9), "email": "a@example.com"}
    crm.faults = [page(twice, twice, total=1)]
    assert numbers(read(crm)) == [9]


def test_a_refused_key_is_told_in_apollos_words(crm: Apollo) -> None:
    crm.keys = set()
    with pytest.raises(SourceDenied, match="Invalid access credentials"):
        read(crm)


def test_a_partners_app_logs_in(crm: Apollo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "client-made-up")
    monkeypatch.setenv("REFRESH", REFRESH)
    login = {
        "token": None, "token_url": f"{crm.url}/oauth/token", "client_id": "id",
        "client_secret": "env:SECRET", "refresh_token": "env:REFRESH",
    }  # fmt: skip
    assert len(numbers(read(crm, **login))) == 5
    monkeypatch.setenv("REFRESH", "revoked-made-up")
    with pytest.raises(SourceDenied, match="invalid_grant") as caught:
        read(crm, **login)
    assert "revoked-made-up" not in str(caught.value)
    with pytest.raises(ValidationError):
        ApolloOptions.model_validate({"client_id": "id"})


def test_check_names_what_cannot_be_read(crm: Apollo) -> None:
    assert connector(crm).check() == "Apollo: 5 contacts can be read"
    crm.denied = {"/labels", "/contact_stages", "/users/search", "/typed_custom_fields", MESSAGES}
    found = connector(crm).check()
    for what, endpoint in (
        ("_lists", "/labels"),
        ("_stage and _opted_out", "/contact_stages"),
        ("_opted_out", MESSAGES),
        ("_owner", "/users/search"),
        ("custom fields", "/typed_custom_fields"),
    ):
        assert f"not {what}: access to api/v1{endpoint}, or make it a master key" in found
    with pytest.raises(SourceDenied, match="users/search"):
        read(crm, None, "_owner")
    crm.denied = {"/contacts/search"}
    with pytest.raises(SourceDenied, match="contacts/search"):
        connector(crm).check()


class TestApollo(ConnectorSuite):
    """The promises of every connector."""

    many = 600

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Apollo() as self.crm:
            self.crm.keys = {conformance.SECRET}
            yield

    def source(self, folder: Path, records: Any) -> ApolloConnector:
        self.crm.contacts.clear()
        self.crm.indexed.clear()
        self.crm.broken_after = None
        self.change(folder, records)
        return connector(self.crm, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 8

    def change(self, folder: Path, records: Any) -> None:
        self.crm.clock.advance_s(60)
        for row in records:
            self.crm.put(int(row["id"]), row["email"], name=row["name"])
        self.crm.clock.advance_s(60)

    def key_of(self, record: Any) -> str:
        return cid(int(record["id"]))
