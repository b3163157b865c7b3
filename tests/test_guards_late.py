"""Enrolments that no guard has counted when their sync was judged: they wait until one has."""

import pytest
from house import House, house_fixture, ids, people, row  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.sandbox.faults import Status as Broken

ANN, BOB, CAT, DAN = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan"))
LIMIT = {"max_enrolments": 1}


def words(people: int, group: str) -> list[str]:
    return [f"{people} people would join {group!r} and be mailed; the limit is 1 (max_enrolments)"]


@pytest.mark.parametrize("made_anew", [True, False])
def test_group_that_mailed_nobody_when_people_were_to_join(house: House, made_anew: bool) -> None:
    """A hand makes it dynamic, or deletes it and makes a dynamic one of that name, before they were sent."""
    house.account.add_group("Customers")
    house.configure(groups=["Customers"], guard=LIMIT)
    house.write(*people(3))
    house.sync()
    house.account.add_contact(ANN)
    house.write(*people(3), row(8, ANN), row(9, BOB))
    house.killed_at("upload")
    before = house.members("Customers")
    if made_anew:
        house.account.remove_group("Customers")
        before = set()
        house.account.add_group("Customers", dynamic=True)
    else:
        house.account.group("Customers").dynamic = True
    planned, changes = house.plan()
    held = house.sync()
    waiting = 5 if made_anew else 2
    assert (held.status, held.trips) == (Status.HELD, words(waiting, "Customers"))
    assert (planned.trips, planned.enrol, held.held) == (held.trips, waiting, waiting)
    assert len({change.email for change in changes if change.enrol}) == waiting
    assert (house.members("Customers"), house.mailed()) == (before, [])
    assert house.everybody() == {ANN, BOB, *(one["email"] for one in people(3))}
    house.approve(held.run)
    assert house.sync().status is Status.OK
    assert house.members("Customers") == house.everybody()


def test_group_that_mails_nobody_any_more_waits_for_no_guard(house: House) -> None:
    house.account.add_group("Customers")
    house.configure(groups=["Customers"], guard=LIMIT)
    house.write(*people(3))
    house.killed_at("upload")
    house.account.group("Customers").dynamic = True
    assert house.sync().status is Status.HELD
    house.account.group("Customers").dynamic = False
    assert house.sync().status is Status.OK
    assert house.members("Customers") == house.everybody()


def test_people_whom_another_sync_could_not_read_meanwhile(house: House) -> None:
    """A column of the first sync is broken while the second one begins to mail everybody; then it is mended."""
    crm, shop = {"groups": ["A"], "opted_out": "out"}, {"groups": ["B"]}
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(syncs={"crm": crm, "shop": shop}, guard=LIMIT)
    house.write(*people(4), source="crm")
    house.write(*people(4), source="shop")
    house.sync_all()
    house.write(*people(4, out="perhaps"), source="crm")
    house.configure(syncs={"crm": crm, "shop": {"groups": ["B", "Newsletter"]}}, guard=LIMIT)
    assert house.sync_all()[1].status is Status.OK
    house.write(*people(4), source="crm")
    results = house.sync_all()
    assert [result.status for result in results] == [Status.HELD, Status.OK]
    assert results[0].trips == words(4, "Newsletter")
    assert house.mailed() == []
    house.approve(results[0].run)
    house.sync_all()
    assert len(house.mailed()) == 4


def test_records_that_found_their_contacts_only_after_the_step(house: House) -> None:
    """Their addresses changed while their contacts could not be read, so that it was not clear whose they are."""
    house.account.add_group("Newsletter", dynamic=True)
    for email in (ANN, BOB):
        house.account.add_contact(email)
    house.configure(groups=["A"], guard=LIMIT)
    house.write(row(1, ANN), row(2, BOB), row(3, CAT))
    house.sync()
    for contact_id in (ids(house)[ANN], ids(house)[BOB]):
        house.fault(
            Broken(status=503, applied=False), "GET", f"/contacts/{contact_id}", nth=range(1, 6)
        )
    house.configure(groups=["A", "Newsletter"], guard=LIMIT)
    house.write(row(1, "ann2@example.com"), row(2, "bob2@example.com"), row(3, CAT))
    first = house.sync()
    assert (first.moved, house.mailed()) == (2, [CAT])
    second = house.sync()
    assert (second.status, second.trips) == (Status.HELD, words(2, "Newsletter"))
    assert house.mailed() == [CAT]
    house.approve(second.run)
    assert house.sync().enrolled == 2


def test_what_was_judged_is_not_judged_again_when_a_later_run_finishes_it(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"], guard={"max_enrolments": 5})
    house.write(*people(5))
    house.killed_at("upload")
    house.configure(groups=["Newsletter"], guard=LIMIT)
    assert house.sync().created == 5
    assert len(house.mailed()) == 5
    assert house.query("SELECT * FROM judged") == []


def test_one_who_was_let_pass_and_left_is_judged_anew(house: House) -> None:
    """She replied before she was sent, and a hand made her active again since: that was not what the guards let pass."""
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["A"])
    house.write(*people(3))
    house.sync()
    house.configure(groups=["A", "Newsletter"], guard={"max_enrolments": 3})
    for n in range(3):
        house.account.contact_by_email(f"p{n}@example.com").status = "paused"  # type: ignore[union-attr]
    house.later(days=2)
    house.sync()
    assert (house.mailed(), house.query("SELECT * FROM judged")) == ([], [])
    for n in range(3):
        house.account.contact_by_email(f"p{n}@example.com").status = "active"  # type: ignore[union-attr]
    house.configure(groups=["A", "Newsletter"], guard=LIMIT)
    house.later(days=2)
    house.write(*people(3, first="New"))
    assert house.sync().trips == words(3, "Newsletter")
    assert house.mailed() == []
