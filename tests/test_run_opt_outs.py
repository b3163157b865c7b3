"""Who is not wanted: filtered out, opted out in the source, unreadable."""

import pytest
from house import House, house_fixture, ids, loaded, row, two_syncs  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.sandbox.faults import Status as Broken

ANN, BOB, CAT, DAN = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan"))


def test_filter_removes_like_a_deletion(house: House) -> None:
    house.configure(groups=["Customers"], where="score|int > 0")
    house.write(row(1, ANN, score=1), row(2, BOB, score=1), row(3, CAT, score=0))
    first = house.sync()
    assert (first.created, first.skipped_by) == (2, {"filtered": 1})
    house.write(row(1, ANN, score=0), row(2, BOB, score=1), row(3, CAT, score=0))
    second = house.sync()
    assert (second.removed, second.skipped_by, second.unchanged) == (1, {"filtered": 2}, 1)
    assert house.members("Customers") == {BOB}
    house.write(row(1, ANN, score=5), row(2, BOB, score=1), row(3, CAT, score=5))
    house.sync()
    assert house.members("Customers") == {ANN, BOB, CAT}


def test_opted_out_in_the_source_is_never_created(house: House) -> None:
    house.configure(groups=["Customers"], opted_out="out")
    house.write(row(1, ANN, out="yes"), row(2, BOB, out="no"))
    result = house.sync()
    assert (result.opted_out, result.created) == (1, 1)
    house.write(row(1, ANN, out="no"), row(2, BOB))
    house.sync()
    house.write(row(1, ANN), row(2, BOB), row(3, ANN))
    house.sync()
    assert house.everybody() == {BOB}


@pytest.mark.parametrize("adopted", [True, False])
def test_opted_out_in_the_source_leaves_every_group_for_ever(house: House, adopted: bool) -> None:
    if adopted:  # so that her id is known, and nothing else of today
        house.account.add_contact(ANN)
    loaded(
        house, row(1, ANN, out=""), row(2, BOB), groups=["Newsletter", "Customers"], opted_out="out"
    )
    house.account.add_group("By hand")
    house.account.put_in(ANN, "By hand")
    house.write(row(1, ANN, out="true"), row(2, BOB))
    result = house.sync()
    assert (result.opted_out, result.ungrouped, result.removed) == (1, 1, 0)
    assert house.account.groups_of(ANN) == set()
    house.write(row(1, ANN, out="false", first="Ann"), row(2, BOB))
    house.sync()
    house.sync(full=True)
    assert house.account.groups_of(ANN) == set()
    assert sorted(house.mailed()) == [ANN, BOB]


def test_adopted_people_who_opted_out_in_the_source_leave_every_group(house: House) -> None:
    house.account.add_group("By hand")
    house.account.add_contact(ANN, groups=["By hand"], tags=["vip"], firstName="Ann")
    house.configure(groups=["Customers"], opted_out="out")
    house.write(row(1, ANN, out="1"), row(2, BOB))
    house.sync()
    assert house.account.groups_of(ANN) == set()
    assert house.account.contact(ANN)["tags"] == ["vip"]
    assert house.account.contact(ANN)["firstName"] == "Ann"


@pytest.mark.parametrize("endpoint", [True, False])
def test_opted_out_in_the_source_leaves_every_campaign(house: House, endpoint: bool) -> None:
    """Enrolled by hand, opted out in the CRM: out of the campaign too, as far as the account has that endpoint."""
    house.account.add_group("Newsletter", dynamic=True)
    loaded(house, row(1, ANN, out=""), row(2, BOB), groups=["Newsletter"], opted_out="out")
    members = house.account.campaign("Campaign of Newsletter").members
    assert len(members) == 2
    if not endpoint:
        house.quirks(absent=frozenset({"DELETE /campaigns/:id/contacts"}))
    house.write(row(1, ANN, out="yes"), row(2, BOB))
    assert house.sync().status is Status.OK
    assert house.account.groups_of(ANN) == set()
    assert len(house.account.campaign("Campaign of Newsletter").members) == (1 if endpoint else 2)


def test_one_opt_out_counts_for_every_sync(house: House) -> None:
    two_syncs(house, opted_out="out")
    house.write(row(1, ANN), source="crm")
    house.write(row(1, ANN), row(2, BOB), source="shop")
    house.sync_all()
    house.write(row(1, ANN, out="yes"), source="crm")
    house.sync_all()
    assert house.account.groups_of(ANN) == set()


def test_unreadable_opt_out_blocks_the_person(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["Customers"], opted_out="out")
    house.account.add_group("Later", dynamic=True)
    house.configure(groups=["Customers", "Later"], opted_out="out")
    house.write(row(1, ANN, out="perhaps"), row(2, BOB), row(3, CAT, out="perhaps"))
    result = house.sync()
    assert (result.records_quarantined, result.status) == (2, Status.PARTIAL)
    assert (house.mailed(), house.everybody()) == ([BOB], {ANN, BOB})
    again = house.sync()  # nothing new: they are still counted, and no alarm again
    assert (again.records_quarantined, again.status) == (2, Status.OK)


def test_unreadable_record_that_leaves_the_source_is_no_failure(house: House) -> None:
    """Nothing of it was ever sent, so nothing waits any more."""
    house.configure(opted_out="out")
    house.write(row(1, ANN), row(2, BOB), row(3, CAT, out="perhaps"))
    assert house.sync().status is Status.PARTIAL
    house.write(row(1, ANN), row(2, BOB))
    plan, _ = house.plan()
    assert plan.skipped_by == {"blocked": 1}
    result = house.sync()
    assert (result.status, result.quarantined, result.gone) == (Status.OK, 0, 1)
    assert result.skipped_by == {"blocked": 1}


def test_unreadable_record_that_left_a_held_source_is_not_quarantined(house: House) -> None:
    house.configure(opted_out="out", groups=["All"], guard={"max_removals": 0})
    house.write(row(1, ANN), row(2, BOB), row(3, CAT, out="perhaps"))
    house.sync()
    house.write(row(1, ANN))
    result = house.sync()
    assert (result.status, result.records_quarantined, result.held) == (Status.HELD, 0, 1)


def test_unreadable_opt_out_of_one_sync_is_no_consent_for_another(house: House) -> None:
    """Also where the record that cannot be read is a new one, and nobody's yet."""
    house.account.add_group("Newsletter", dynamic=True)
    crm = {"groups": ["Customers"], "opted_out": "out"}
    house.configure(syncs={"crm": crm, "shop": {"groups": ["Newsletter"]}})
    house.write(row(1, ANN, out="perhaps"), row(2, CAT, out="perhaps"), source="crm")
    house.write(row(1, ANN), row(2, BOB), row(3, CAT), source="shop")
    house.sync_all()
    assert (house.everybody(), house.mailed()) == ({BOB}, [BOB])
    house.write(row(1, ANN, out="no"), row(3, DAN), source="crm")  # read at last; or gone
    house.sync_all()
    assert (house.everybody(), sorted(house.mailed())) == ({ANN, BOB, CAT, DAN}, [ANN, BOB, CAT])


# --- they come first ----------------------------------------------------------------------------------------------


def test_opt_outs_of_the_source_come_before_anything_that_is_sent(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), opted_out="out")
    writes = len(house.writes())
    house.write(row(1, ANN, out="yes"), row(2, BOB, first="Bob"), row(3, CAT))
    assert house.sync().status is Status.OK
    methods = [method for method, _ in house.writes()[writes:]]
    assert methods[0] == "DELETE"
    assert "DELETE" not in methods[methods.index("POST") :]


def test_opt_outs_do_not_wait_for_a_group_that_cannot_be_made(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), opted_out="out")
    house.configure(groups=["Newsletter", "More"], opted_out="out")
    house.fault(Broken(status=503, applied=False), "POST", "/groups")
    house.write(row(1, ANN, out="yes"), row(2, BOB), row(3, CAT))
    assert house.sync().status is Status.FAILED
    assert (house.account.groups_of(ANN), house.everybody()) == (set(), {ANN, BOB})


@pytest.mark.parametrize("held", [True, False])
def test_opt_outs_do_not_wait_for_a_run_of_everybody(house: House, held: bool) -> None:
    loaded(house, row(1, ANN), row(2, BOB), opted_out="out")
    limit = {"max_enrolments": 0 if held else 9}
    house.configure(groups=["Newsletter"], opted_out="out", guard=limit)
    house.write(row(1, ANN, out="yes"), row(2, BOB), row(3, CAT))
    assert house.sync(email=CAT).status is (Status.HELD if held else Status.OK)
    assert house.account.groups_of(ANN) == set()


def test_opt_out_at_an_address_that_somebody_else_is_to_get(house: House) -> None:
    """Nothing is done there until the other contact can be read; but an opt-out is."""
    house.account.add_contact(BOB)
    loaded(house, row(1, ANN), row(2, BOB), opted_out="out")
    house.fault(Broken(status=503, applied=False), "GET", f"/contacts/{ids(house)[BOB]}")
    house.write(row(1, ANN, out="yes"), row(2, ANN))
    house.sync()
    assert house.account.groups_of(ANN) == set()
