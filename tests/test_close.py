"""Close against its double: what is read, and what is survived."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from close_reads import connector, crm_fixture, fields, keys, read
from doubles.close import INDUSTRY, KEEPER, KEY, LEVEL, OWNER, REFRESH, Close, problem, refused
from doubles.server import Told

from connectors.close import CloseConnector, CloseOptions
from syncd.connector import Record, Request
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

__all__ = ["crm_fixture"]


# Values


def test_names_and_the_first_address_and_telephone(crm: Close) -> None:
    entries = [
        {"email": " a@example.com "},
        {"email": "b@example.org"},
        {"email": "A@example.com"},
        {},
    ]
    crm.put("c1", name="Ada Byron", emails=entries, phones=[{"phone": ""}, {"phone": "+41 1"}])
    crm.put("c2", name="Dr. No", emails=[], phones=[])
    events = read(crm, None, "_email", "_phone", "_first_name", "_last_name")
    assert fields(events, "c1") == {
        "_email": "a@example.com", "_phone": "+41 1", "_first_name": "Ada", "_last_name": "Byron",
    }  # fmt: skip
    assert fields(events, "c2") == {
        "_email": None, "_phone": None, "_first_name": "Dr. No", "_last_name": None,
    }  # fmt: skip
    events = read(crm, None, "_email", emails="all")
    mine = [event for event in events if isinstance(event, Record) and event.key.startswith("c1")]
    assert [record.fields["_email"] for record in mine] == ["a@example.com", "b@example.org"]
    assert "example" not in mine[1].key


def test_custom_fields_stand_under_their_ids(crm: Close) -> None:
    crm.put("c1", **{f"custom.{LEVEL}": ["Gold", "Silver"]})
    events = read(crm, None, LEVEL)
    assert fields(events, "c1") == {LEVEL: ["Gold", "Silver"]}
    assert fields(events, "c2") == {LEVEL: None}
    assert {one.name: one.label for one in connector(crm).fields()}[LEVEL] == "Level"


def test_the_lead_is_the_company_with_its_status_and_custom_fields(crm: Close) -> None:
    crm.put_lead("lead_c1", display_name="Example SA", url="https://www.example.com/x",
                 status_label="Customer", **{f"custom.{INDUSTRY}": "Steel"})  # fmt: skip
    assert fields(read(crm, None, "_company"), "c1") == {
        "_company": {
            "id": "lead_c1", "name": "Example SA", "website": "https://www.example.com/x",
            "domain": "example.com", "status": "Customer", INDUSTRY: "Steel", KEEPER: None,
        }
    }  # fmt: skip


def test_a_lead_that_nobody_shows_is_not_known(crm: Close) -> None:
    del crm.leads["lead_c1"], crm.history[("lead", "lead_c1")]
    crm.put("c2", lead_id=None)
    events = read(crm, None, "_company")
    assert fields(events, "c1") == {}
    assert fields(events, "c2") == {"_company": None}


@pytest.mark.parametrize("owner", ["Owner", OWNER, "Keeper"])
def test_the_owner_is_the_user_that_a_custom_field_names(crm: Close, owner: str) -> None:
    crm.users = [{"id": "u7", "first_name": "Olga", "last_name": "O.", "email": "o@example.com"}]
    crm.put("c1", **{f"custom.{OWNER}": ["u7"]})
    crm.put_lead("lead_c1", **{f"custom.{KEEPER}": "u7"})
    crm.put("c2", **{f"custom.{OWNER}": "u8"})
    events = read(crm, None, "_owner", owner=owner)
    assert fields(events, "c1")["_owner"] == {
        "id": "u7",
        "name": "Olga O.",
        "email": "o@example.com",
    }
    assert fields(events, "c2") == {"_owner": None}
    with pytest.raises(SourceError, match="no custom field 'Level'"):
        connector(crm, owner="Level").check()


def test_many_fields_are_asked_for_in_parts(crm: Close) -> None:
    """Close refuses a request with some hundred names."""
    crm.custom["contact"] = {f"cf_{n}": (f"F{n}", "text") for n in range(150)}
    crm.put("c1", **{f"custom.cf_{n}": n for n in range(150)})
    events = list(connector(crm).read(Request()))
    assert [fields(events, "c1")[f"cf_{n}"] for n in range(150)] == list(range(150))
    assert fields(events, "c5")["cf_149"] is None


# Opt-outs


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("reindexes", [False, True])
def test_who_has_unsubscribed_is_known_whatever_the_index_says(
    crm: Close, plain: bool, flags: bool, reindexes: bool
) -> None:
    """Nobody says whether the search shows it, nor what the list of all who have looks like."""
    crm.plain, crm.flags, crm.reindexes = plain, flags, reindexes
    crm.put("c2", emails=[{"email": "p2@example.com"}, {"email": "Second@example.com"}])
    crm.put("c3", emails=[])
    for address in ("p1@example.com", "second@example.com"):
        crm.unsubscribe(address)
    events = read(crm, None, "_opted_out")
    assert [fields(events, f"c{n}")["_opted_out"] for n in range(1, 6)] == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_an_opt_out_that_cannot_be_read_is_no_read(crm: Close) -> None:
    for body in ({"emails": []}, {"data": [{"address": "x"}]}, [{"email": 7}], "none"):
        crm.faults = [None, Told(200, body)]
        with pytest.raises(SourceError, match="unsubscribe"):
            read(crm, None, "_opted_out")
    crm.denied = {"/unsubscribe/email/"}
    with pytest.raises(SourceDenied, match="unsubscribed addresses"):
        read(crm, None, "_opted_out")
    assert "_opted_out" not in fields(list(connector(crm).read(Request())), "c1")


def test_addresses_that_did_not_come_are_no_consent(crm: Close) -> None:
    answer = crm.answer

    def without_addresses(asked: Any) -> Told:
        told = answer(asked)
        for row in told.body.get("data", []) if isinstance(told.body, dict) else []:
            row.pop("emails", None)
        return told

    crm.answer = without_addresses  # type: ignore[method-assign]
    assert fields(read(crm, None, "_opted_out", "_email"), "c1") == {}


def test_a_list_that_moves_while_it_is_read_is_listed_again(crm: Close) -> None:
    """Somebody resubscribes between two pages, and another one would be passed over."""
    for number in range(250):
        crm.unsubscribe(f"u{number}@example.com")
    crm.unsubscribe("p1@example.com")
    gone = iter(range(100))

    def resubscribe(asked: Any) -> None:
        if asked.query.get("_skip") == "99" and (number := next(gone)) < 2:
            crm.resubscribe(f"u{number}@example.com")

    crm.before_answer = resubscribe
    assert fields(read(crm, None, "_opted_out"), "c1") == {"_opted_out": True}
    gone = iter(range(2, 100))

    def resubscribe_always(asked: Any) -> None:
        if asked.query.get("_skip") == "99":
            crm.resubscribe(f"u{next(gone)}@example.com")

    crm.before_answer = resubscribe_always
    with pytest.raises(SourceError, match="changes while it is read"):
        read(crm, None, "_opted_out")


# The search


@pytest.mark.parametrize("coarse", [False, True])
def test_everybody_comes_although_a_cursor_ends(crm: Close, coarse: bool) -> None:
    """Rows come, go and change between the pages."""
    crm.reach, crm.coarse = 400, coarse
    for number in range(1_000):
        crm.put(f"n{number}", f"n{number}@example.com")
        crm.clock.advance_s(0.01 if number % 2 else 0)
    pages = iter(range(1_000))

    def touch(asked: Any) -> None:
        if asked.path.endswith("/search/") and (page := next(pages)):
            crm.put(f"n{999 - page}", title="Changed")
            crm.put(f"late{page}", f"late{page}@example.com")
            if page < 4:
                crm.delete(f"n{page}")

    crm.before_answer = touch
    found = keys(read(crm, None, "_email"))
    assert len(found) == len(set(found))
    assert {f"n{number}" for number in range(4, 1_000)} <= set(found)


@pytest.mark.parametrize("coarse", [False, True])
def test_an_import_of_one_instant_is_read_whole(crm: Close, coarse: bool) -> None:
    crm.coarse, crm.frozen = coarse, True
    for number in range(700):
        crm.put(f"n{number}", f"n{number}@example.com")
    crm.frozen = False
    crm.put("last", "last@example.com")
    found = keys(read(crm))
    assert len(found) == len(set(found)) == 706


def test_more_of_one_instant_than_a_cursor_reaches_is_no_short_read(crm: Close) -> None:
    crm.reach, crm.frozen = 400, True
    for number in range(700):
        crm.put(f"n{number}", f"n{number}@example.com")
    with pytest.raises(SourceRefused, match="limit of objects"):
        read(crm)


def test_a_smaller_page_is_asked_for_where_the_largest_is_refused(crm: Close) -> None:
    crm.page_max = 100
    for number in range(300):
        crm.put(f"n{number}", f"n{number}@example.com")
    assert len(keys(read(crm))) == 305


def test_a_search_that_does_not_keep_to_its_order_is_no_read(crm: Close) -> None:
    def row(key: str, day: int) -> dict[str, Any]:
        return {"id": key, "date_created": f"2026-01-0{day}T00:00:00+00:00", "date_updated": None}

    log = [None] * 4
    crm.faults = [*log, Told(200, {"data": [row("a", 2), row("b", 1)], "cursor": None})]
    with pytest.raises(SourceError, match="order"):
        read(crm)
    first = {"data": [row("a", 1), row("b", 5)], "cursor": "x"}
    again = {"data": [row("a", 1), row("b", 3)], "cursor": None}
    crm.faults = [*log, Told(200, first), Told(200, again)]
    with pytest.raises(SourceError, match="order"):
        read(crm)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"results": []}, "without `data`"),
        ({"data": [7], "cursor": None}, "without `data`"),
        ({"data": [{"date_created": "2026-01-01T00:00:00Z"}], "cursor": None}, "without an id"),
        ({"data": [{"id": "c1"}], "cursor": None}, "time at which it was made"),
        (b"<html>Sign in</html>", "not JSON"),
    ],
)
def test_an_answer_that_is_not_closes_is_no_read(crm: Close, body: Any, words: str) -> None:
    crm.faults = [*[None] * 4, *[Told(200, body)] * 5]
    with pytest.raises(SourceError, match=words):
        read(crm)


def test_an_answer_that_does_not_say_where_it_ends_is_read_on(crm: Close) -> None:
    answer = crm.answer

    def without_cursor(asked: Any) -> Told:
        told = answer(asked)
        told.body.pop("cursor", None)
        return told

    for number in range(450):
        crm.put(f"n{number}", f"n{number}@example.com")
    crm.answer = without_cursor  # type: ignore[method-assign]
    assert len(keys(read(crm))) == 455


def test_a_log_that_loops_ends(crm: Close) -> None:
    now = crm.now()
    event = {"object_id": "c1", "date_updated": now, "data": None, "meta": {}}
    crm.faults = [None, *[Told(200, {"data": [event], "cursor_next": "x"})] * 4]
    with pytest.raises(SourceError, match="does not end"):
        read(crm)


def test_a_contact_that_comes_as_another_is_no_read(crm: Close) -> None:
    crm.delay_s = 600
    crm.put("c1", title="New")
    crm.faults = [*[None] * 5, Told(200, {"id": "c2"})]
    with pytest.raises(SourceError, match="another object"):
        read(crm)


def test_values_that_nobody_expects_come_as_they_are(crm: Close) -> None:
    crm.put(
        "c1",
        name="An\x00n \U0001f469\u200d\U0001f52c",
        title="{{ x }}",
        emails="none",
        phones=[None, 7],
    )
    events = read(crm, None, "_first_name", "title", "_phone", "_email")
    assert fields(events, "c1") == {
        "_first_name": "An\x00n \U0001f469\u200d\U0001f52c", "title": "{{ x }}", "_phone": None, "_email": None,
    }  # fmt: skip


# Limits, logins, rights


@pytest.mark.parametrize(
    "header", ["limit=100, remaining=0, reset=7", "limit=100; remaining=0; reset=7"]
)
def test_nothing_is_asked_while_nothing_is_left(crm: Close, header: str) -> None:
    before_s = crm.clock.now_s()
    crm.faults = [None, Told(429, b"{}", {"RateLimit": header})]
    read(crm)
    assert 7 <= crm.clock.now_s() - before_s <= 10
    answer, before_s = crm.answer, crm.clock.now_s()

    def nothing_left(asked: Any) -> Told:
        told = answer(asked)
        told.headers |= {"RateLimit": header} if "schema" in asked.path else {}
        return told

    crm.answer = nothing_left  # type: ignore[method-assign]
    read(crm)
    assert crm.clock.now_s() - before_s >= 7


def test_a_long_read_keeps_to_the_limit(crm: Close) -> None:
    """The double answers 429 to the 21st request in a second."""
    for number in range(60):
        crm.put(f"n{number}", f"n{number}@example.com")
    crm.delay_s = 600
    answers = []
    answer = crm.answer

    def noted(asked: Any) -> Told:
        answers.append(told := answer(asked))
        return told

    crm.answer = noted  # type: ignore[method-assign]
    assert len(keys(read(crm))) == 65
    assert {told.status for told in answers} == {200}


def test_an_app_logs_in_and_keeps_its_last_slash(
    crm: Close, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "client-made-up")
    monkeypatch.setenv("REFRESH", REFRESH)
    login = {
        "token": None, "client_id": "id", "client_secret": "env:SECRET", "refresh_token": "env:REFRESH",
    }  # fmt: skip
    assert len(keys(read(crm, **login))) == 5
    monkeypatch.setenv("REFRESH", "revoked-made-up")
    with pytest.raises(SourceDenied, match="invalid_grant") as caught:
        read(crm, **login)
    assert "revoked-made-up" not in str(caught.value)
    with pytest.raises(ValueError, match="either token, or client_id"):
        CloseOptions.model_validate({})


def test_check_names_what_cannot_be_read(crm: Close) -> None:
    assert connector(crm, owner="Owner").check() == "Close: contacts can be read"
    crm.denied = {"/event/", "/unsubscribe/email/", "/user/", "/saved_search/"}
    words = connector(crm, owner="Owner").check()
    for lacking in (
        "who was deleted: it takes a role",
        "not _opted_out",
        "not _owner",
        "not _lists",
    ):
        assert lacking in words
    assert "_owner" not in connector(crm).check()
    crm.denied = {"/data/search/"}
    with pytest.raises(SourceDenied, match="see leads and contacts"):
        connector(crm).check()


def test_no_secret_and_no_address_is_in_an_error(crm: Close) -> None:
    crm.faults = [Told(400, {"error": f"{KEY} may not see ann@example.com"})]
    with pytest.raises(SourceRefused, match=r"\(secret\) may not see \(address\)") as caught:
        read(crm)
    assert "ann@example.com" not in str(caught.value)
    crm.faults = [refused("query", "no such field")]
    with pytest.raises(SourceRefused, match="query: no such field"):
        read(crm)
    crm.faults = [problem(402, "Payment required")]
    with pytest.raises(SourceDenied, match="subscription"):
        read(crm)


class TestClose(ConnectorSuite):
    """The promises of every connector."""

    many = 1_200

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with Close() as self.crm:
            self.crm.keys = {conformance.SECRET}
            yield

    def source(self, folder: Path, records: Any) -> CloseConnector:
        self.crm.contacts.clear()
        self.crm.leads.clear()
        self.crm.history.clear()
        self.crm.events.clear()
        self.crm.broken_after = None
        self.change(folder, records)
        self.crm.clock.advance_s(7_200)
        return connector(self.crm, token=conformance.SECRET_REFERENCE)

    def break_source(self, folder: Path) -> None:
        self.crm.broken_after = len(self.crm.asked) + 14

    def change(self, folder: Path, records: Any) -> None:
        self.crm.clock.advance_s(60)
        for row in records:
            self.crm.put(row["id"], row["email"], name=row["name"])
        self.crm.clock.advance_s(60)

    def remove(self, folder: Path, record: Any) -> None:
        self.crm.delete(record["id"])

    def merge(self, folder: Path, loser: Any, winner: Any) -> None:
        self.crm.merge(f"lead_{loser['id']}", f"lead_{winner['id']}", fold=True)
