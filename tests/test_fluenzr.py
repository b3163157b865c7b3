"""The client against the sandbox, under each reading of what FluenzR's reference leaves open."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest
from raw_server import response, serving

from syncd.core.answer import ShapeError
from syncd.core.model import GroupKind
from syncd.errors import (
    AccessDenied,
    Conflict,
    FluenzrError,
    NotFound,
    NotSupported,
    Refused,
    Unanswered,
)
from syncd.fluenzr import FluenzR, types
from syncd.sandbox import Faults, Quirks, Rule, Sandbox
from syncd.sandbox.faults import Cut, Drop, Effect, Garbage, Late, Page, Status
from syncd.testing.clock import START_S, FakeClock

KEY = "flz_sk_" + "k" * 32
MADE_MS = int(START_S) * 1000


@contextmanager
def opened(*rules: Rule, **quirks: Any) -> Iterator[tuple[Sandbox, FluenzR]]:
    """A sandbox and a client of it."""
    clock = FakeClock()
    sandbox = Sandbox(clock=clock, quirks=Quirks(**quirks), faults=Faults(*rules))
    with (
        sandbox.serve(),
        FluenzR(KEY, base_url=sandbox.url, clock=clock, timeout_s=5.0) as fluenzr,
    ):
        yield sandbox, fluenzr


def body(email: str, **rest: Any) -> bytes:
    return orjson.dumps({"email": email, **rest})


def bulk_body(*emails: str, on_duplicate: str = "skip") -> bytes:
    contacts = [{"email": email} for email in emails]
    return orjson.dumps({"contacts": contacts, "onDuplicate": on_duplicate})


# contacts


def test_what_is_created_can_be_read_changed_and_deleted() -> None:
    with opened() as (_, fluenzr):
        given = body("Ann@Example.com", firstName="Ann", tags=["a"], customFields={"score": 5})
        made = fluenzr.create(given)
        assert made.date_ms == MADE_MS
        ann = made.contact
        assert (ann.email.lower(), ann.status) == ("ann@example.com", "active")
        assert ann.fields["firstName"] == "Ann"
        assert ann.custom_fields == {"score": 5}
        assert (ann.tags, ann.group_ids) == (frozenset({"a"}), frozenset())
        assert ann.created_ms == MADE_MS
        assert fluenzr.contact(ann.id) == ann
        changed = fluenzr.update(ann.id, orjson.dumps({"firstName": "Anna"}))
        assert changed.date_ms == MADE_MS
        assert changed.contact is not None
        assert changed.contact.fields["firstName"] == "Anna"
        fluenzr.add_tags(ann.id, ["b"])
        fluenzr.remove_tags(ann.id, ["a"])
        assert fluenzr.contact(ann.id).tags == {"b"}
        fluenzr.delete(ann.id)
        for ask in (fluenzr.contact, fluenzr.delete):
            with pytest.raises(NotFound):
                ask(ann.id)


def test_a_taken_address_is_a_conflict() -> None:
    with opened() as (_, fluenzr):
        fluenzr.create(body("ann@example.com"))
        bob = fluenzr.create(body("bob@example.com")).contact
        with pytest.raises(Conflict):
            fluenzr.create(body("ANN@example.com"))
        with pytest.raises(Conflict):
            fluenzr.update(bob.id, body("ann@example.com"))


def test_find_is_exact_where_the_filter_is_a_contains_match() -> None:
    with opened() as (sandbox, fluenzr):
        for number in range(120):
            sandbox.account.add_contact(f"p{number}ann+news@example.com")
        assert fluenzr.find("ann+news@example.com") is None
        sandbox.account.add_contact("Ann+News@example.com")
        found = fluenzr.find(" ANN+news@Example.com ")
        assert found is not None
        assert found.email.lower() == "ann+news@example.com"
        assert fluenzr.find("annnews@example.com") is None


def test_pages_are_filtered_and_sorted_as_asked() -> None:
    with opened() as (sandbox, fluenzr):
        staff = sandbox.account.add_group("Staff")
        for number in range(5):
            sandbox.clock.sleep_s(1.0)
            sandbox.account.add_contact(f"p{number}@example.com")
        sandbox.account.opt_out("p3@example.com")
        sandbox.account.put_in("p1@example.com", "Staff")
        newest = fluenzr.contacts_page(1, sort="createdAt", order="desc", per_page=2)
        assert [contact.email for contact in newest.items] == ["p4@example.com", "p3@example.com"]
        assert (newest.total, newest.page) == (5, 1)
        last = fluenzr.contacts_page(3, per_page=2)
        assert (len(last.items), last.total, last.page) == (1, 5, 3)
        gone = fluenzr.contacts_page(1, status="unsubscribed")
        assert [contact.email for contact in gone.items] == ["p3@example.com"]
        members = fluenzr.contacts_page(1, group_id=staff.id)
        assert [contact.email for contact in members.items] == ["p1@example.com"]
        assert members.items[0].group_ids == {staff.id}


@pytest.mark.parametrize("known", ["both", "group", "groupId"])
def test_the_group_filter_works_under_either_name(known: str) -> None:
    with opened(group_filter=known) as (sandbox, fluenzr):
        staff = sandbox.account.add_group("Staff")
        sandbox.account.add_contact("ann@example.com")
        sandbox.account.add_contact("bob@example.com")
        sandbox.account.put_in("bob@example.com", "Staff")
        assert fluenzr.contacts_page(1, group_id=staff.id).total == 1


# groups


@pytest.mark.parametrize("shown", ["type", "upper", "is_dynamic", "absent"])
def test_groups_of_every_kind_and_from_every_page(shown: str) -> None:
    with opened(group_type=shown) as (sandbox, fluenzr):
        for number in range(205):
            sandbox.account.add_group(f"g{number}", dynamic=number % 2 == 1)
        groups = fluenzr.groups()
        assert [group.name for group in groups] == [f"g{number}" for number in range(205)]
        kinds = {group.kind for group in groups[::2]}, {group.kind for group in groups[1::2]}
        if shown == "absent":
            assert kinds == ({GroupKind.UNKNOWN}, {GroupKind.UNKNOWN})
        else:
            assert kinds == ({GroupKind.STATIC}, {GroupKind.DYNAMIC})


def test_people_join_and_leave_groups() -> None:
    with opened() as (sandbox, fluenzr):
        staff = fluenzr.create_group("Staff")
        assert staff.kind is GroupKind.STATIC
        ids = [fluenzr.create(body(f"p{n}@example.com")).contact.id for n in range(3)]
        fluenzr.add_to_groups(ids[0], [staff.id])
        fluenzr.add_contacts_to_group(staff.id, ids[1:])
        assert len(sandbox.account.members("Staff")) == 3
        fluenzr.remove_from_groups(ids[1], [staff.id])
        assert sandbox.account.members("Staff") == {"p0@example.com", "p2@example.com"}
        assert sandbox.account.mailed() == []


@pytest.mark.parametrize("status", [404, 405])
def test_what_the_account_lacks_is_not_supported(status: int) -> None:
    absent = frozenset({"POST /contacts/bulk", "POST /groups/:id/contacts"})
    with opened(absent=absent, absent_status=status) as (_, fluenzr):
        with pytest.raises(NotSupported):
            fluenzr.bulk(bulk_body("ann@example.com"))
        with pytest.raises(NotSupported):
            fluenzr.add_contacts_to_group("grp_1", ["con_1"])


# bulk


def test_bulk_counts_what_it_did() -> None:
    with opened() as (_, fluenzr):
        first = fluenzr.bulk(bulk_body("ann@example.com", "bob@example.com"))
        assert (first.created, first.updated, first.skipped, first.errors) == (2, 0, 0, ())
        assert first.date_ms == MADE_MS
        second = fluenzr.bulk(bulk_body("ann@example.com", "cid@example.com"))
        assert (second.created, second.updated, second.skipped) == (1, 0, 1)
        third = fluenzr.bulk(bulk_body("ann@example.com", on_duplicate="update"))
        assert (third.created, third.updated, third.skipped) == (0, 1, 0)


@pytest.mark.parametrize(
    ("shape", "index", "email"),
    [
        ("index_email", 1, "nobody"),
        ("index", 1, None),
        ("email", None, "nobody"),
        ("message", None, None),
    ],
)
def test_bulk_errors_of_every_shape(shape: str, index: int | None, email: str | None) -> None:
    with opened(bulk_errors=shape) as (_, fluenzr):
        answer = fluenzr.bulk(bulk_body("ann@example.com", "nobody"))
        assert answer.created == 1
        (error,) = answer.errors
        assert (error.index, error.email) == (index, email)
        assert "Invalid email format" in error.message


def test_one_bad_row_may_refuse_all_of_them() -> None:
    with opened(bulk_errors="whole400") as (sandbox, fluenzr):
        with pytest.raises(Refused) as caught:
            fluenzr.bulk(bulk_body("ann@example.com", "nobody"))
        assert caught.value.status == 400
        assert sandbox.account.contacts_by_email() == {}


def test_a_body_that_is_too_large_is_refused() -> None:
    with opened(body_bytes_max=100) as (_, fluenzr):
        with pytest.raises(Refused) as caught:
            fluenzr.create(body("ann@example.com", company="x" * 200))
        assert caught.value.status == 413


# access


@pytest.mark.parametrize(
    ("quirks", "words"),
    [
        ({"read_only_key": True}, "may not write"),
        ({"plan_without_api": True}, "has no API"),
    ],
)
def test_access_denied_says_which(quirks: dict[str, bool], words: str) -> None:
    with opened(**quirks) as (_, fluenzr), pytest.raises(AccessDenied, match=words):
        fluenzr.create(body("ann@example.com"))


def test_a_wrong_key_is_denied_at_once_also_for_reads() -> None:
    clock = FakeClock()
    with (
        Sandbox(clock=clock, api_key=KEY[:-1] + "x").serve() as sandbox,
        FluenzR(KEY, base_url=sandbox.url, clock=clock) as fluenzr,
    ):
        with pytest.raises(AccessDenied, match="does not accept the API key") as caught:
            fluenzr.groups()
        assert fluenzr.requests == 1
        assert KEY not in str(caught.value)


# answers that cannot be trusted


@pytest.mark.parametrize(
    ("effect", "status", "answered"),
    [
        (Status(status=500, applied=True), 500, True),
        (Status(status=503, applied=True), 503, False),
        (Page(applied=True), 200, True),
        (Garbage(), 201, True),
        (Cut(), 201, True),
        (Drop(applied=True), 0, False),
        (Drop(applied=False), 0, False),
        (Late(after_s=None), 0, False),
    ],
    ids=repr,
)
def test_a_write_without_a_good_answer_is_sent_once_and_unanswered(
    effect: Effect, status: int, *, answered: bool
) -> None:
    with opened(Rule(name="trouble", effect=effect)) as (sandbox, fluenzr):
        with pytest.raises(Unanswered) as caught:
            fluenzr.create(body("ann@example.com"))
        assert (caught.value.status, caught.value.answered) == (status, answered)
        assert fluenzr.requests == 1
        assert sandbox.faults.fired["trouble"] == 1
        sandbox.settle()
        assert len(sandbox.account.contacts_by_email()) == (effect != Drop(applied=False))


def test_no_connection_is_unanswered_with_nothing_on_its_way() -> None:
    with opened() as (sandbox, _):
        url = sandbox.url
    with FluenzR(KEY, base_url=url, clock=FakeClock()) as fluenzr:
        with pytest.raises(Unanswered) as caught:
            fluenzr.create(body("ann@example.com"))
        assert caught.value.answered


Ask = Callable[[FluenzR], object]
CONTACT = {"id": "con_1", "email": "ann@example.com"}


@pytest.mark.parametrize(
    ("ask", "data"),
    [
        (lambda fluenzr: fluenzr.create(b"{}"), None),
        (lambda fluenzr: fluenzr.create(b"{}"), {"id": "con_1"}),
        (lambda fluenzr: fluenzr.create(b"{}"), {**CONTACT, "id": 5}),
        (lambda fluenzr: fluenzr.bulk(b"{}"), {}),
        (lambda fluenzr: fluenzr.bulk(b"{}"), {"created": -1}),
        (lambda fluenzr: fluenzr.bulk(b"{}"), {"created": True}),
        (lambda fluenzr: fluenzr.bulk(b"{}"), {"created": 1, "updated": "0"}),
        (lambda fluenzr: fluenzr.bulk(b"{}"), {"created": 1, "errors": 3}),
        (lambda fluenzr: fluenzr.update("con_1", b"{}"), {**CONTACT, "id": "con_2"}),
        (lambda fluenzr: fluenzr.delete("con_1"), {"id": "con_2", "deleted": True}),
        (lambda fluenzr: fluenzr.delete("con_1"), {"id": "con_1", "deleted": False}),
        (lambda fluenzr: fluenzr.contact("con_1"), {**CONTACT, "id": "con_2"}),
        (lambda fluenzr: fluenzr.contacts_page(1), {"contacts": []}),
        (lambda fluenzr: fluenzr.contacts_page(1), [CONTACT, None]),
        (lambda fluenzr: fluenzr.groups(), [{"id": "grp_1"}]),
    ],
)
def test_success_with_another_shape_is_unanswered(ask: Ask, data: object) -> None:
    answer = response(orjson.dumps({"success": True, "data": data, "meta": None}))
    with (
        serving(answer) as server,
        FluenzR(KEY, base_url=server.url, clock=FakeClock()) as fluenzr,
        pytest.raises(Unanswered) as caught,
    ):
        ask(fluenzr)
    assert caught.value.answered


@pytest.mark.parametrize("data", [None, [], {"id": "con_1", "deleted": True}, {"added": 1}])
def test_a_change_needs_no_more_than_success(data: object) -> None:
    answer = response(orjson.dumps({"success": True, "data": data}))
    with (
        serving(answer) as server,
        FluenzR(KEY, base_url=server.url, clock=FakeClock()) as fluenzr,
    ):
        receipt = fluenzr.delete("con_1")
        assert (receipt.contact, receipt.date_ms) == (None, None)
        fluenzr.add_contacts_to_group("grp_1", ["con_1"])


def listing(items: list[dict[str, str]], meta: object) -> bytes:
    return response(orjson.dumps({"success": True, "data": items, "meta": meta}))


def test_a_search_that_is_cut_short_finds_nobody_missing() -> None:
    """Absence is a conclusion that has effects: it needs all the pages."""
    other = {"id": "con_2", "email": "joann@example.com"}
    for meta in ({"total": 150}, {"total": 10**9}):
        with (
            serving(listing([other], meta)) as server,
            FluenzR(KEY, base_url=server.url, clock=FakeClock()) as fluenzr,
            pytest.raises(FluenzrError, match="did not end"),
        ):
            fluenzr.find("ann@example.com")


def test_without_a_total_a_page_that_adds_nothing_is_the_last() -> None:
    group = {"id": "grp_1", "name": "Staff"}
    other = {"id": "con_2", "email": "joann@example.com"}
    with (
        serving(listing([other], None)) as server,
        FluenzR(KEY, base_url=server.url, clock=FakeClock()) as fluenzr,
    ):
        assert fluenzr.find("ann@example.com") is None
    with (
        serving(listing([group], {})) as server,
        FluenzR(KEY, base_url=server.url, clock=FakeClock()) as fluenzr,
    ):
        assert [one.name for one in fluenzr.groups()] == ["Staff"]


def test_an_id_is_no_way_to_another_endpoint() -> None:
    for contact_id in ("../groups", "..", "a/b", "a?b=c", "a#b"):
        with (
            serving(response(b"")) as server,
            FluenzR(KEY, base_url=server.url, clock=FakeClock()) as fluenzr,
        ):
            with pytest.raises(Unanswered):
                fluenzr.delete(contact_id)
            path = server.requests[0].split(b" ")[1]
            assert path.startswith(b"/v1/contacts/")
            assert path.count(b"/") == 3
            assert not set(path) & set(b"?#")


# objects


def test_a_contact_with_little_is_known_as_little() -> None:
    assert types.contact(CONTACT) == types.Contact(
        "con_1", "ann@example.com", "", {}, {}, None, None, None, None
    )


@pytest.mark.parametrize(
    ("key", "value", "name", "read"),
    [
        ("groups", [{"id": "grp_1", "name": "A"}, "grp_2"], "group_ids", {"grp_1", "grp_2"}),
        ("groups", [], "group_ids", frozenset()),
        ("groups", None, "group_ids", None),
        ("tags", ["a", "b", "a"], "tags", {"a", "b"}),
        ("tags", [{"name": "a"}], "tags", {"a"}),
        ("customFields", None, "custom_fields", {}),
        ("customFields", [], "custom_fields", {}),
        ("status", "paused", "status", "paused"),
        ("status", 3, "status", ""),
        ("phone", None, "fields", {"phone": None}),
        ("pipelineStage", {"id": "s"}, "fields", {}),
        ("createdAt", "1970-01-01T00:00:01.234Z", "created_ms", 1234),
        ("createdAt", "2026-01-01T11:00:00.007+01:00", "created_ms", MADE_MS + 7),
        ("createdAt", "2026-01-01T10:00:00", "created_ms", MADE_MS),
        ("createdAt", "yesterday", "created_ms", None),
        ("updatedAt", 5, "updated_ms", None),
    ],
)
def test_a_contact_is_read_tolerantly(key: str, value: object, name: str, read: object) -> None:
    assert getattr(types.contact({**CONTACT, key: value}), name) == read


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""},
        {"id": None},
        {"id": 7},
        {"email": ""},
        {"groups": {}},
        {"groups": [None]},
        {"groups": [["grp_1"]]},
        {"groups": [{"name": "A"}]},
        {"tags": [5]},
        {"tags": "a"},
        {"customFields": "score=5"},
        {"customFields": [{"name": "score"}]},
    ],
    ids=repr,
)
def test_what_would_mislead_is_no_contact(change: dict[str, object]) -> None:
    with pytest.raises(ShapeError):
        types.contact({**CONTACT, **change})


@pytest.mark.parametrize(
    ("error", "read"),
    [
        ("words", types.BulkError(None, None, "words", "")),
        (
            {"index": 0, "email": "a", "message": "m", "code": "C"},
            types.BulkError(0, "a", "m", "C"),
        ),
        ({"error": {"message": "m", "code": "C"}}, types.BulkError(None, None, "m", "C")),
        ({"error": "m", "index": "0"}, types.BulkError(None, None, "m", "")),
        (7, types.BulkError(None, None, "FluenzR does not say why", "")),
        ({}, types.BulkError(None, None, "FluenzR does not say why", "")),
    ],
)
def test_an_error_of_a_bulk_request_is_read_from_any_shape(
    error: object, read: types.BulkError
) -> None:
    assert types.bulk({"created": 0, "errors": [error]}, None).errors == (read,)
