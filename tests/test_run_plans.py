"""Plans, and careful first tries of a few people."""

import pytest
from house import BULK, House, first_names, house_fixture, loaded, people, row, two_syncs  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.sandbox.faults import Drop

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


# --- plans -----------------------------------------------------------------------------------------------


def test_plan_tells_what_the_run_does(house: House) -> None:
    crowd = people(20)
    house.account.add_contact(ANN, firstName="A.")
    loaded(
        house, *crowd, row(98, ANN, first="Ann"), row(99, BOB, first="Bob"),
        groups=["Newsletter", {"name": "Hot", "when": "score|int > 5"}], tags=["crm"],
    )  # fmt: skip
    crowd[0]["first"] = "New"
    crowd[1]["score"] = "9"
    crowd[2]["email"] = "moved@example.com"
    house.write(*crowd[:18], row(98, ANN, first="Ann", score=9), row(99, BOB), row(50, CAT))
    planned, changes = house.plan()
    again, _ = house.plan()
    done = house.sync()
    assert planned == again
    assert (planned.create, planned.update, planned.move) == (1, 2, 1)
    assert (done.created, done.updated, done.moved) == (1, 2, 1)
    assert planned.remove == done.removed == 2
    assert planned.group == done.grouped == 3
    assert planned.ungroup == done.ungrouped == 2
    assert planned.enrol == done.enrolled == 1
    kinds = {change.email: change.kind for change in changes}
    assert kinds == {
        CAT: "create",
        "p0@example.com": "update",
        BOB: "update",
        "p1@example.com": "group",
        ANN: "group",
        "p2@example.com": "move",
        "p18@example.com": "remove",
        "p19@example.com": "remove",
    }
    assert house.plan()[1] == []


def test_plan_of_a_first_run_leaves_nothing_behind(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(*people(3))
    planned, changes = house.plan()
    assert (planned.create, planned.group, len(changes)) == (3, 3, 3)
    assert sorted(path.name for path in house.folder.iterdir() if "lock" not in path.name) == [
        "config.toml",
        "people.csv",
    ]
    assert house.sync().created == 3


def test_plan_beside_something_in_flight_and_a_broken_source(house: House) -> None:
    two_syncs(house)
    house.write(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    house.fault(Drop(applied=True), "POST", BULK, times=1)
    house.killed_at("settle")
    house.break_source(row(1, ANN), source="crm")
    before_s = house.clock.now_s()
    broken, _ = house.plan()
    assert "crm.csv" in (broken.error or "")
    assert house.clock.now_s() - before_s < 60  # a plan does not wait for what is on its way


def test_plan_shows_what_still_waits(house: House) -> None:
    house.account.refuse(ANN)
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    planned, changes = house.plan()
    assert (planned.quarantine, [change.email for change in changes]) == (1, [ANN])


# --- careful first tries ---------------------------------------------------------------------------------


def test_one_person_alone(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(*people(10), row(99, ANN, first="Ann"))
    result = house.sync(email="ANN@example.com")
    assert (result.created, result.read, result.records_held) == (1, 11, 10)
    assert house.everybody() == {ANN}
    assert house.sync().created == 10


def test_one_person_alone_removes_nobody(house: House) -> None:
    loaded(house, *people(5), row(99, ANN))
    house.write(*people(3, first="Other"), row(99, ANN, first="Anne"))
    result = house.sync(email=ANN)
    assert (result.updated, result.removed, len(house.members("Newsletter"))) == (1, 0, 6)
    assert first_names(house)["p1@example.com"] == "F1"
    result = house.sync()
    assert (result.updated, result.removed) == (3, 2)


@pytest.mark.parametrize("order", [{"email": ANN}, {"email": BOB}, {"limit": 1}])
def test_careful_try_takes_nobody_out_whom_the_filter_leaves_out(
    house: House, order: dict[str, object]
) -> None:
    house.configure(groups=["Customers"], where="score|int > 0")
    house.write(row(1, ANN, score=1), row(2, BOB, score=1), row(3, CAT))
    house.sync()
    house.write(row(1, ANN, score=1, first="Ann"), row(2, BOB, score=0), row(3, CAT))
    assert house.sync(**order).records_held == (2 if order == {"email": BOB} else 1)
    assert house.members("Customers") == {ANN, BOB}
    assert house.sync().removed == 1


def test_a_file_that_is_again_what_it_was_before_a_run_of_a_few_is_read(house: House) -> None:
    before = (row(1, "ann@example.com", first="Ann"),)
    house.write(*before)
    house.sync()
    house.write(row(1, "ann@example.com", first="Oops"))
    assert house.sync(limit=1).updated == 1
    house.write(*before)
    assert house.sync().updated == 1
    assert house.account.contacts_by_email()["ann@example.com"]["firstName"] == "Ann"


def test_the_first_so_many(house: House) -> None:
    house.write(*people(10))
    assert house.sync(limit=3).created == 3
    assert house.sync(limit=3).created == 3
    assert house.everybody() == {f"p{n}@example.com" for n in range(6)}
    assert house.sync().created == 4


def test_careful_try_sends_nobody_else_who_waits(house: House) -> None:
    house.account.refuse(BOB)
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    house.account.accept(BOB)
    house.later(days=1)
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync(email=ANN)
    assert (house.everybody(), first_names(house)) == ({ANN}, {ANN: "Ann"})


def test_careful_try_does_not_stand_for_the_first_listing(house: House) -> None:
    """Everybody who was there before is found by the listing, not by creates that are skipped."""
    for n in range(30):
        house.account.add_contact(f"p{n}@example.com", firstName="Old", company="Theirs")
    house.write(*people(30), row(99, ANN))
    house.sync(email=ANN)
    assert house.everybody() - {ANN} == {f"p{n}@example.com" for n in range(30)}
    assert first_names(house)["p3@example.com"] == "Old"
    result = house.sync()
    assert (result.created, result.updated) == (0, 30)
    assert all(body["onDuplicate"] == "update" for body in house.sent()[1:])


def test_guards_judge_a_careful_try_by_whom_it_means(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"], guard={"max_enrolments": 2})
    house.write(*people(10))
    assert house.sync().status is Status.HELD
    assert house.sync(limit=2).enrolled == 2
    assert house.sync(limit=3).status is Status.HELD
    assert len(house.mailed()) == 2


def test_careful_try_with_somebody_whom_the_source_does_not_have(house: House) -> None:
    house.write(*people(3))
    result = house.sync(email="nobody@example.com")
    assert (result.created, result.records_held, house.sandbox.writes()) == (0, 3, 0)


@pytest.mark.parametrize("order", [{"email": ANN}, {"limit": 1}])
def test_careful_try_of_an_unchanged_source(house: House, order: dict[str, object]) -> None:
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync()
    result = house.sync(**order)
    assert (result.status, result.unchanged, result.updated) == (Status.OK, 2, 0)
    assert house.plan(**order)[1] == []


@pytest.mark.parametrize("order", [{"email": ANN}, {"limit": 1}])
def test_careful_try_of_a_broken_source(house: House, order: dict[str, object]) -> None:
    house.break_source(row(1, ANN, first="Ann"))
    assert house.sync(**order).status is Status.FAILED
    assert house.everybody() == set()


@pytest.mark.parametrize("order", [{"email": ANN}, {"limit": 1}])
def test_plan_of_a_careful_try(house: House, order: dict[str, object]) -> None:
    house.configure(groups=["Customers"])
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    planned, changes = house.plan(**order)
    assert (planned.create, [change.email for change in changes]) == (1, [ANN])
    assert house.sync(**order).created == 1
    assert house.everybody() == {ANN}


def test_plan_of_a_step_that_a_guard_would_hold_names_its_new_groups(house: House) -> None:
    house.configure(groups=["All"])
    house.write(*people(3))
    house.sync()
    house.configure(groups=["All", "New"], guard={"max_creates": 0})
    house.write(*people(4))
    planned, _ = house.plan()
    assert planned.held
    assert planned.new_groups == ["New"]
