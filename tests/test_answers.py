"""Every answer that FluenzR or the network may give to a write: nothing is lost, nothing is done twice.

The outbox is the witness: Newsletter is a dynamic group, so whoever is created or added twice is
mailed twice.
"""

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from house import BULK, House, house_fixture, people, row  # noqa: F401 - a fixture

from syncd.core.result import Status, gravest
from syncd.sandbox import contacts, routes
from syncd.sandbox.exchange import Answer, Request
from syncd.sandbox.faults import Act, Cut, Drop, Effect, Garbage, Late, Page
from syncd.sandbox.faults import Status as Broken

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"
SETTLE_S = 120.0
HOUR_S = 3600
MANY = 25  # as many lost rows are looked up in a listing first

LOST: dict[str, tuple[Effect, bool, bool]] = {  # effect, takes effect, may still be on its way
    "dropped before": (Drop(applied=False), False, True),
    "dropped after": (Drop(applied=True), True, True),
    "late": (Late(after_s=SETTLE_S / 2), True, True),
    "500 before": (Broken(status=500, applied=False), False, False),
    "500 after": (Broken(status=500, applied=True), True, False),
    "502 before": (Broken(status=502, applied=False), False, True),
    "504 after": (Broken(status=504, applied=True), True, True),
    "page before": (Page(applied=False), False, False),
    "page after": (Page(applied=True), True, False),
    "garbage": (Garbage(), True, False),
    "cut": (Cut(), True, False),
}
lost = pytest.mark.parametrize("answer", LOST)
lost_or_late = pytest.mark.parametrize(  # one of each kind
    "answer", ["dropped before", "dropped after", "late", "500 before", "page after"]
)
batches = pytest.mark.parametrize(
    ("answer", "count"),
    [
        *((answer, 3) for answer in LOST),
        *((answer, MANY) for answer in ("late", "502 before", "cut")),
    ],
)


def newsletter(house: House, *rows: dict[str, str], **options: Any) -> None:
    """A dynamic group that every person of the source shall be in."""
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(**{"groups": ["Newsletter"], **options})
    house.write(*rows)


def addresses(count: int, *, but: str = "") -> list[str]:
    return sorted({f"p{n}@example.com" for n in range(count)} - {but})


def is_quiet(house: House) -> bool:
    """Nothing is in flight, and nothing is left to do, tomorrow either."""
    house.later(days=2)
    writes = house.sandbox.writes()
    result = house.sync(full=True)
    return (result.status, house.sandbox.writes(), house.in_flight()) == (Status.OK, writes, 0)


def bulks(house: House) -> int:
    return house.sandbox.counts["POST", BULK]


def single_reads(house: House) -> int:
    """Reads of one contact: by id, or by address."""
    return sum(
        count
        for (method, path), count in house.sandbox.counts.items()
        if (method, path) == ("GET", "/contacts/:id")
    )


# --- bulk: an answer that was lost -----------------------------------------------------------------------


@batches
def test_lost_answer_to_a_bulk_create(house: House, answer: str, count: int) -> None:
    effect, applied, on_its_way = LOST[answer]
    newsletter(house, *people(count))
    house.fault(effect, "POST", BULK, times=1)
    before_s = house.clock.now_s()
    result = house.sync()
    assert (house.clock.now_s() - before_s >= SETTLE_S) is on_its_way
    assert bulks(house) == (1 if applied else 2)
    assert (result.status, result.changed, house.in_flight()) == (Status.OK, count, 0)
    assert (result.created, result.grouped, result.enrolled) == (count, count, count)
    assert sorted(house.mailed()) == sorted(house.members("Newsletter")) == addresses(count)
    assert is_quiet(house)


@batches
def test_lost_answer_to_a_bulk_update(house: House, answer: str, count: int) -> None:
    effect, _, on_its_way = LOST[answer]
    newsletter(house, *people(count))
    house.sync()
    house.later(hours=1)
    house.write(*people(count, first="New", last="Name"))
    house.fault(effect, "POST", BULK, times=1)
    before_s = house.clock.now_s()
    result = house.sync()
    assert (house.clock.now_s() - before_s >= SETTLE_S) is on_its_way
    assert (result.status, result.changed, house.in_flight()) == (Status.OK, count, 0)
    assert result.updated == count
    view = house.account.contacts_by_email().values()
    assert {(one["firstName"], one["lastName"]) for one in view} == {("New", "Name")}
    assert sorted(house.mailed()) == addresses(count)
    assert is_quiet(house)


@pytest.mark.parametrize("sort", ["ignored", "updated_at"])
@pytest.mark.parametrize("applied", [True, False])
def test_lost_create_is_found_whatever_the_order_of_the_listing(
    house: House, sort: str, applied: bool
) -> None:
    house.quirks(sort=sort)
    for n in range(120):  # more than a page that is older
        house.account.add_contact(f"old{n}@example.com")
    house.later(hours=1)
    newsletter(house, *people(MANY))
    house.fault(Drop(applied=applied), "POST", BULK, times=1)
    house.sync()
    assert sorted(house.mailed()) == addresses(MANY)
    assert is_quiet(house)


@pytest.mark.parametrize("sort", ["honoured", "ignored", "updated_at"])
def test_accident_of_a_lost_update_is_found_whatever_the_order_of_the_listing(
    house: House, sort: str
) -> None:
    """Deleted by hand, made anew by an update without answer: no listing may hide that."""
    house.quirks(sort=sort)
    for n in range(120):
        house.account.add_contact(f"old{n}@example.com")
    newsletter(house, *people(MANY), groups=["Newsletter", "Customers"])
    house.sync()
    house.later(hours=1)
    house.account.remove("p3@example.com")
    house.write(*people(MANY, last="New"))
    house.fault(Drop(applied=True), "POST", BULK, times=1)
    result = house.sync()
    assert (result.updated, result.skipped_by) == (MANY - 1, {"deleted by hand": 1})
    assert "p3@example.com" not in house.everybody()
    assert is_quiet(house)


def test_large_lost_batch_costs_a_few_reads(house: House) -> None:
    """The newest-first listing tells who was made; and, where its order is proven, that nobody was."""
    house.account.add_contact("old@example.com")
    house.later(hours=1)
    newsletter(house, *people(300), guard={"max_enrolments": 1000, "max_field_changes": 1000})
    created = house.fault(Drop(applied=True), "POST", BULK, times=1)
    result = house.sync()
    assert (result.created, result.requests < 20) == (300, True)
    assert sorted(house.mailed()) == addresses(300)
    house.later(hours=1)
    house.account.edit("p299@example.com", company="By hand")
    house.write(*people(300, last="New"))
    updated = house.fault(Drop(applied=False), "POST", BULK, nth={1})
    result = house.sync()
    assert (result.updated, result.requests < 20) == (300, True)
    assert (house.faults.fired[created], house.faults.fired[updated]) == (1, 1)
    assert is_quiet(house)


def test_create_that_commits_after_the_run_was_killed(house: House) -> None:
    """The next run waits until nothing can still be on its way."""
    newsletter(house, *people(3))
    house.fault(Late(after_s=90), "POST", BULK, times=1)
    house.killed_at("settle")
    assert (house.in_flight(), house.everybody()) == (3, set())
    house.clock.advance_s(30)
    before_s = house.clock.now_s()
    result = house.sync()
    assert house.clock.now_s() - before_s >= SETTLE_S - 30
    assert (result.status, sorted(house.mailed())) == (Status.OK, addresses(3))
    assert is_quiet(house)


# --- bulk: answers that say something ---------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["index_email", "index", "email"])
def test_named_error_is_quarantined_without_a_read(house: House, shape: str) -> None:
    house.quirks(bulk_errors=shape)
    newsletter(house, *people(4))
    house.account.refuse("p2@example.com", "Disposable address")
    result = house.sync()
    assert (result.created, result.quarantined, result.records_quarantined) == (3, 1, 1)
    assert (result.status, gravest([Status.OK, result.status])) == (Status.PARTIAL, 3)
    assert (bulks(house), single_reads(house)) == (1, 0)
    assert sorted(house.mailed()) == addresses(4, but="p2@example.com")
    stuck = house.known("p2@example.com")
    assert (stuck["err"], stuck["tries"]) == ("Disposable address", 1)
    assert stuck["not_before"] == house.clock.now_s() + HOUR_S


def test_refused_person_is_tried_again_after_longer_and_longer(house: House) -> None:
    house.write(*people(2))
    house.account.refuse("p1@example.com")
    waits_s = []
    for _ in range(7):
        house.sync()
        stuck = house.known("p1@example.com")
        waits_s.append(stuck["not_before"] - house.clock.now_s())
        house.clock.advance_s(waits_s[-1] - 60)
        writes = house.sandbox.writes()
        early = house.sync()
        assert (early.status, house.sandbox.writes()) == (Status.OK, writes)
        house.clock.advance_s(60)
    assert waits_s == [HOUR_S, 2 * HOUR_S, 4 * HOUR_S, 8 * HOUR_S, 16 * HOUR_S] + [24 * HOUR_S] * 2
    house.account.accept("p1@example.com")
    assert house.sync().created == 1
    assert is_quiet(house)


def test_changed_record_is_tried_at_once(house: House) -> None:
    house.write(*people(2))
    house.account.refuse("p1@example.com")
    house.sync()
    house.account.accept("p1@example.com")
    house.write(*people(1), row(1, "p1@example.com", first="Corrected"))
    assert house.sync().created == 1
    house.account.refuse(ANN)
    house.write(*people(2, first="Corrected"), row(3, ANN))
    house.sync()
    house.write(*people(2, first="Corrected"), row(3, BOB))
    assert house.sync().created == 1
    assert is_quiet(house)


def test_refused_update_is_quarantined_and_the_others_are_not(house: House) -> None:
    newsletter(house, *people(3))
    house.sync()
    house.account.refuse("p1@example.com", "Locked")
    house.write(*people(3, first="New"))
    result = house.sync()
    assert (result.updated, result.quarantined, result.status) == (2, 1, Status.PARTIAL)
    assert house.known("p1@example.com")["err"] == "Locked"
    house.account.accept("p1@example.com")
    house.later(hours=2)
    assert house.sync().updated == 1
    assert is_quiet(house)


def test_error_that_names_nobody_is_found_by_reading(house: House) -> None:
    house.quirks(bulk_errors="message")
    newsletter(house, *people(4))
    house.account.refuse("p2@example.com", "Disposable address")
    result = house.sync()
    assert (result.changed, result.records_quarantined, result.status) == (3, 1, Status.PARTIAL)
    assert sorted(house.mailed()) == addresses(4, but="p2@example.com")
    stuck = house.known("p2@example.com")
    assert stuck["not_before"] > house.clock.now_s()
    assert "Disposable address" in stuck["err"]  # sent alone, it can only be meant
    writes = house.sandbox.writes()
    assert (house.sync().status, house.sandbox.writes()) == (Status.OK, writes)
    house.account.accept("p2@example.com")
    house.later(hours=2)
    assert house.sync().created == 1
    assert is_quiet(house)


@pytest.mark.parametrize("where", [0, 3, 7])
def test_whole_batch_refused_for_one_row_is_halved(house: House, where: int) -> None:
    house.quirks(bulk_errors="whole400")
    newsletter(house, *people(8))
    house.account.refuse(f"p{where}@example.com", "Disposable address")
    result = house.sync()
    assert (result.created, result.quarantined, result.status) == (7, 1, Status.PARTIAL)
    assert bulks(house) == 7  # 8, then 4 4, 2 2, 1 1
    assert single_reads(house) == 0
    assert sorted(house.mailed()) == addresses(8, but=f"p{where}@example.com")
    assert "Disposable address" in house.known(f"p{where}@example.com")["err"]
    assert house.known(f"p{where}@example.com")["not_before"] == house.clock.now_s() + HOUR_S


def test_body_too_large_is_halved(house: House) -> None:
    house.quirks(body_bytes_max=2000)
    newsletter(house, *people(50))
    result = house.sync()
    assert (result.created, result.status) == (50, Status.OK)
    assert sorted(house.mailed()) == addresses(50)
    assert is_quiet(house)


@pytest.mark.parametrize("status", [404, 405])
def test_account_without_bulk_gets_everybody_singly(house: House, status: int) -> None:
    house.quirks(absent=frozenset({f"POST {BULK}"}), absent_status=status)
    newsletter(house, *people(5), groups=["Newsletter", "Customers"], tags=["crm"])
    result = house.sync()
    assert (result.created, result.status, bulks(house)) == (5, Status.OK, 1)
    assert sorted(house.mailed()) == sorted(house.members("Customers")) == addresses(5)
    house.write(*people(5, first="New"))
    assert house.sync().updated == 5
    assert house.account.contact("p0@example.com")["tags"] == ["crm"]
    assert is_quiet(house)


def test_refused_person_without_bulk(house: House) -> None:
    house.configure(fluenzr={"bulk": "off"})
    house.account.refuse("p1@example.com", "Disposable address")
    house.write(*people(3))
    result = house.sync()
    assert (result.created, result.quarantined, bulks(house)) == (2, 1, 0)
    assert "Disposable address" in house.known("p1@example.com")["err"]
    house.write(*people(3, first="New"))
    house.account.refuse("p0@example.com", "Locked")
    assert house.sync().updated == 2
    assert house.known("p0@example.com")["err"] is None  # a PUT says no address: not refused


def test_insisting_on_bulk_fails_where_there_is_none(house: House) -> None:
    house.quirks(absent=frozenset({f"POST {BULK}"}))
    house.configure(fluenzr={"bulk": "on"})
    house.write(*people(2))
    result = house.sync()
    assert (result.status, house.in_flight()) == (Status.FAILED, 0)
    house.configure(fluenzr={"bulk": "auto"})
    assert house.sync().created == 2


def lie(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any]) -> None:
    """The next bulk answers carry these data instead of the true ones."""

    def bulk(store: Any, request: Request, item_id: str) -> Answer:
        answer = contacts.bulk(store, request, item_id)
        envelope = orjson.loads(answer.body)
        envelope["data"] = change(envelope["data"])
        answer.body = orjson.dumps(envelope)
        return answer

    monkeypatch.setitem(routes.ENDPOINTS[BULK], "POST", bulk)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: {**data, "created": data["created"] - 1},
        lambda data: {**data, "created": data["created"] + 1},
        lambda data: {**data, "created": 0, "updated": data["created"]},
        lambda data: {**data, "created": str(data["created"])},
        lambda data: {"accepted": True},
        lambda data: None,
        lambda data: {**data, "errors": [{"index": 0, "message": "odd"}]},
        lambda data: {**data, "errors": [{"index": 99, "message": "odd"}]},
    ],
)
def test_counts_that_do_not_fit_are_not_believed(
    house: House, monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Any]], Any]
) -> None:
    newsletter(house, *people(3))
    with monkeypatch.context() as patch:
        lie(patch, change)
        result = house.sync()
    assert (result.status, result.changed, bulks(house)) == (Status.OK, 3, 1)
    assert sorted(house.mailed()) == addresses(3)
    assert is_quiet(house)


def test_skipped_people_are_adopted(house: House) -> None:
    """Somebody was made by hand since the account was listed."""
    newsletter(house, *people(3), groups=["Newsletter", "Customers"])
    house.sync()
    house.account.add_contact(ANN, firstName="By hand", company="Hers")
    house.write(*people(3), row(8, ANN, first="Ann"), row(9, BOB, first="Bob"))
    result = house.sync()
    assert (result.status, result.changed) == (Status.OK, 2)
    ann = house.account.contact(ANN)
    assert (ann["firstName"], ann["company"]) == ("Ann", "Hers")
    assert house.account.groups_of(ANN) == {"Newsletter", "Customers"}
    assert sorted(house.mailed()) == sorted([*addresses(3), ANN, BOB])
    assert is_quiet(house)


def test_skip_that_adds_the_groups_all_the_same(house: House) -> None:
    house.quirks(bulk_skip_adds_groups=True)
    newsletter(house, *people(3))
    house.sync()
    house.account.add_contact(ANN, firstName="By hand")
    house.write(*people(3), row(8, ANN, first="Ann"))
    house.sync()
    assert house.account.contact(ANN)["firstName"] == "Ann"
    assert sorted(house.mailed()) == sorted([*addresses(3), ANN])
    assert is_quiet(house)


# --- one contact by its id ---------------------------------------------------------------------------------

ID = "/contacts/con_[0-9]+"
JOIN = "/groups/grp_[0-9]+/contacts|/contacts/con_[0-9]+/groups"  # one or the other


def _before(house: House) -> None:
    """Ann and Bob are there; Ann is hot."""
    house.account.add_group("Newsletter", dynamic=True)
    house.account.add_group("Hot", dynamic=True)
    hot = [{"name": "Hot", "when": "score|int > 5"}]
    cold = [{"name": "Cold", "when": "score|int < 5"}]
    tag = [{"name": "hot", "when": "score|int > 5"}]
    house.configure(groups=["Newsletter", *hot, *cold], tags=["crm", *tag], on_removal="delete")
    house.write(row(1, ANN, first="Ann", score=1), row(2, BOB, score=5), row(3, CAT, score=5))
    house.sync()
    house.later(hours=1)


BOB_ROW, CAT_ROW = row(2, BOB, score=5), row(3, CAT, score=5)
BY_ID: dict[str, tuple[str, str, list[dict[str, str]], dict[str, Any]]] = {
    "move": ("PUT", ID, [row(1, "new@example.com", first="Ann", score=1)], {"moved": 1}),
    "join": ("POST", JOIN, [row(1, ANN, first="Ann", score=9)], {"enrolled": 1}),
    "leave": ("DELETE", f"{ID}/groups", [row(1, ANN, first="Ann", score=5)], {"ungrouped": 1}),
    "tag": ("POST", f"{ID}/tags", [row(1, ANN, first="Ann", score=9)], {}),
    "delete": ("DELETE", ID, [], {"removed": 1}),
}


def _wanted(kind: str) -> dict[str, Any]:
    """What the account shows of Ann in the end: address, groups, tags; None: gone."""
    hot = {"groups": {"Newsletter", "Hot"}, "tags": {"crm", "hot"}, "mails": 2}
    wanted: dict[str, dict[str, Any]] = {
        "move": {"email": "new@example.com", "groups": {"Newsletter", "Cold"}, "tags": {"crm"}, "mails": 1},
        "join": {"email": ANN, **hot},
        "tag": {"email": ANN, **hot},
        "leave": {"email": ANN, "groups": {"Newsletter"}, "tags": {"crm"}, "mails": 1},
        "delete": {"email": None, "mails": 1},
    }  # fmt: skip
    return wanted[kind]


def _shows(house: House, kind: str) -> None:
    wanted = _wanted(kind)
    others = house.everybody() - {BOB, CAT}
    assert others == ({wanted["email"]} if wanted["email"] else set())
    for email in others:
        assert house.account.groups_of(email) == wanted["groups"]
        assert set(house.account.contact(email)["tags"]) == wanted["tags"]
    assert house.mailed().count(ANN) == wanted["mails"]
    assert len(house.mailed()) == wanted["mails"] + 2


@pytest.mark.parametrize("kind", BY_ID)
def test_perfect_answer_by_id(house: House, kind: str) -> None:
    """What the lost answers below are compared with."""
    _before(house)
    *_, rows, counts = BY_ID[kind]
    house.write(*rows, BOB_ROW, CAT_ROW)
    result = house.sync()
    assert {name: getattr(result, name) for name in counts} == counts
    _shows(house, kind)
    assert is_quiet(house)


@lost_or_late
@pytest.mark.parametrize("kind", BY_ID)
def test_lost_answer_by_id(house: House, kind: str, answer: str) -> None:
    effect, _, on_its_way = LOST[answer]
    method, path, rows, _ = BY_ID[kind]
    _before(house)
    house.write(*rows, BOB_ROW, CAT_ROW)
    house.fault(effect, method, path, times=1)
    before_s = house.clock.now_s()
    result = house.sync()
    assert (house.clock.now_s() - before_s >= SETTLE_S) is on_its_way
    assert (result.status, house.in_flight()) == (Status.OK, 0)
    _shows(house, kind)
    assert is_quiet(house)


@lost_or_late
def test_lost_answer_to_a_join_of_many(house: House, answer: str) -> None:
    """POST /groups/:id/contacts for people who are there already."""
    for n in range(4):
        house.account.add_contact(f"p{n}@example.com", firstName=f"F{n}")
    newsletter(house, *people(4))
    house.fault(LOST[answer][0], "POST", JOIN, times=1)
    result = house.sync()
    assert (result.status, house.in_flight()) == (Status.OK, 0)
    assert sorted(house.mailed()) == addresses(4)
    assert is_quiet(house)


@pytest.mark.parametrize(
    "readings",
    [
        {"absent": frozenset({"POST /groups/:id/contacts"})},
        {"absent": frozenset({"POST /groups/:id/contacts"}), "absent_status": 405},
        {"group_contacts_key": "contacts"},
    ],
)
def test_group_endpoint_that_is_not_there(house: House, readings: dict[str, Any]) -> None:
    house.quirks(**readings)
    for n in range(4):
        house.account.add_contact(f"p{n}@example.com", firstName=f"F{n}")
    newsletter(house, *people(4))
    assert house.sync().status is Status.OK
    assert sorted(house.mailed()) == addresses(4)
    assert is_quiet(house)


def test_by_id_that_never_works_is_put_off_longer_and_longer(house: House) -> None:
    _before(house)
    house.write(row(1, ANN, first="Ann", score=9), BOB_ROW, CAT_ROW)
    house.fault(Broken(status=500, applied=False), "POST", JOIN)
    result = house.sync()
    assert (result.status, result.quarantined) == (Status.PARTIAL, 1)
    assert house.known(ANN)["tries"] == 3  # two more at once, then minutes
    waits_s = [house.known(ANN)["not_before"] - house.clock.now_s()]
    for _ in range(3):
        house.clock.advance_s(waits_s[-1])
        house.sync()
        waits_s.append(house.known(ANN)["not_before"] - house.clock.now_s())
    assert waits_s == [60, 120, 240, 480]
    assert (ANN in house.members("Hot"), house.in_flight()) == (False, 0)
    house.faults.clear()
    house.later(hours=1)
    assert house.sync().enrolled == 1
    _shows(house, "join")
    assert is_quiet(house)


def test_unreadable_contact_is_left_alone_until_it_can_be_read(house: House) -> None:
    """The answer was lost, and then nothing can be read: in flight it stays."""
    _before(house)
    house.write(row(1, ANN, first="Ann", score=9), BOB_ROW, CAT_ROW)
    house.fault(Drop(applied=True), "POST", JOIN, times=1)
    house.fault(Broken(status=503, applied=False), "GET", ID)
    result = house.sync()
    assert (result.status, house.in_flight()) == (Status.PARTIAL, 1)
    house.faults.clear()
    house.sync()
    _shows(house, "join")
    assert is_quiet(house)


@pytest.mark.parametrize("on_removal", ["ungroup", "delete"])
def test_taken_address_makes_a_move_an_adoption(house: House, on_removal: str) -> None:
    newsletter(
        house,
        row(1, ANN, first="Ann"),
        row(2, BOB, first="Bob"),
        groups=["Newsletter", "Customers"],
        on_removal=on_removal,
    )
    house.sync()
    house.later(hours=1)
    stranger = house.account.add_contact(CAT, firstName="Stranger", company="Theirs").id
    house.write(row(1, CAT, first="Ann"), row(2, BOB, first="Bob"))
    result = house.sync()
    assert (result.status, result.moved, result.changed) == (Status.OK, 0, 1)
    cat = house.account.contact(CAT)
    assert (cat["id"], cat["firstName"], cat["company"]) == (stranger, "Ann", "Theirs")
    assert house.members("Customers") == {BOB, CAT}
    assert (ANN in house.everybody()) is (on_removal == "ungroup")
    assert sorted(house.mailed()) == [ANN, BOB]  # the record was mailed as Ann
    assert is_quiet(house)


def test_taken_address_makes_a_single_create_an_adoption(house: House) -> None:
    newsletter(house, row(1, ANN), fluenzr={"bulk": "off"})
    house.sync()
    house.account.add_contact(BOB, firstName="By hand", company="His")
    house.write(row(1, ANN), row(2, BOB, first="Bob"))
    assert house.sync().status is Status.OK
    bob = house.account.contact(BOB)
    assert (bob["firstName"], bob["company"]) == ("Bob", "His")
    assert sorted(house.mailed()) == [ANN, BOB]
    assert is_quiet(house)


@pytest.mark.parametrize("path", [BULK, JOIN, f"{ID}/tags", ID])
def test_key_that_may_not_write_any_more_leaves_nothing_in_flight(house: House, path: str) -> None:
    _before(house)
    house.write(
        row(1, "new@example.com", first="Ann", score=1),
        row(2, BOB, first="Bob", score=9),
        CAT_ROW,
        *people(3, start=10, score=5),
    )
    new = ["p10@example.com", "p11@example.com", "p12@example.com"]
    house.fault(Act(action=lambda: house.quirks(read_only_key=True)), "POST|PUT", path, nth={1})
    result = house.sync()
    assert (result.status, house.in_flight()) == (Status.FAILED, 0)
    assert "may not write" in (result.error or "")
    house.quirks(read_only_key=False)
    assert house.sync().status is Status.OK
    assert house.account.groups_of(BOB) == {"Newsletter", "Hot"}
    assert set(house.account.contact(BOB)["tags"]) == {"crm", "hot"}
    assert house.everybody() == {"new@example.com", BOB, CAT, *new}
    assert sorted(house.mailed()) == sorted([ANN, BOB, BOB, CAT, *new])
    assert is_quiet(house)


# --- no Date header ----------------------------------------------------------------------------------------


def test_without_date_nobody_is_proven_to_be_ours(house: House) -> None:
    house.quirks(date_header=False)
    newsletter(house, *people(4), groups=["Newsletter", "Customers"], on_removal="delete")
    assert house.sync().created == 4
    house.write(*people(3))
    assert house.sync().removed == 1
    assert house.members("Customers") == set(addresses(3))
    assert len(house.everybody()) == 4
    assert is_quiet(house)


@lost_or_late
def test_without_date_lost_answers_are_read(house: House, answer: str) -> None:
    house.quirks(date_header=False)
    newsletter(house, *people(MANY))
    house.fault(LOST[answer][0], "POST", BULK, times=1)
    assert house.sync().status is Status.OK
    assert sorted(house.mailed()) == addresses(MANY)
    assert is_quiet(house)


def test_without_date_an_accident_stays_and_nobody_is_enrolled(house: House) -> None:
    """Deleted by hand, and made again by our update: nothing proves it, so it is not deleted."""
    house.quirks(date_header=False)
    newsletter(house, *people(3), groups=["Newsletter", "Customers"])
    house.sync()
    house.account.remove("p1@example.com")
    house.write(*people(3, first="New"))
    house.sync()
    assert sorted(house.mailed()) == addresses(3)
    assert "p1@example.com" not in house.members("Newsletter")
    what = {found["what"] for found in house.query("SELECT what FROM never")}
    assert "x" in what
    assert is_quiet(house)
