"""Who leaves a source, and who comes back."""

import pytest
from house import House, house_fixture, loaded, people, row, two_syncs  # noqa: F401 - a fixture

from syncd.core.result import Status

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


def test_on_removal_keep_changes_nothing(house: House) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB), tags=["crm"], on_removal="keep")
    before, writes = house.account.contact(ANN), house.sandbox.writes()
    house.write(row(2, BOB))
    result = house.sync()
    assert (result.gone, result.changed) == (1, 1)
    assert (house.account.contact(ANN), house.sandbox.writes()) == (before, writes)


def test_on_removal_ungroup_takes_back_what_we_gave(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["Newsletter", "Customers"], tags=["crm"])
    house.account.add_group("By hand")
    house.account.put_in(ANN, "By hand")
    house.account.edit(ANN, tags=["crm", "vip"], company="Hers")
    house.write(row(2, BOB))
    result = house.sync()
    assert (result.gone, result.removed, result.status) == (1, 1, Status.OK)
    assert house.account.groups_of(ANN) == {"By hand"}
    assert house.account.contact(ANN)["tags"] == ["vip"]
    assert house.account.contact(ANN)["company"] == "Hers"


def test_on_removal_delete_deletes_only_ours(house: House) -> None:
    house.account.add_contact(ANN)
    rest = people(4)
    loaded(house, row(1001, ANN), row(1002, BOB), *rest, tags=["crm"], on_removal="delete")
    house.write(*rest)
    result = house.sync()
    assert (result.gone, result.removed, result.changed) == (2, 2, 2)
    assert house.everybody() == {ANN, *(one["email"] for one in rest)}
    assert (house.account.groups_of(ANN), house.account.contact(ANN)["tags"]) == (set(), [])


def test_deleting_waits_for_the_word_of_every_source(house: House) -> None:
    two_syncs(house, on_removal="delete")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.write(row(3, CAT), source="shop")
    house.sync_all()
    house.write(row(2, BOB), source="crm")
    alone = house.sync("crm")
    assert (alone.status, house.everybody()) == (Status.OK, {ANN, BOB, CAT})
    assert house.account.groups_of(ANN) == {"CRM", "Both"}  # nothing at all happens to her yet
    house.break_source(row(3, CAT), source="shop")
    house.sync_all()
    assert ANN in house.everybody()
    house.write(row(3, CAT), source="shop")
    assert house.sync_all()[0].removed == 1
    assert house.everybody() == {BOB, CAT}


def test_deleting_needs_a_read_of_this_run(house: House) -> None:
    """She unsubscribed since the last look: the contact is the memory of that, and stays."""
    loaded(house, row(1, ANN), row(2, BOB), groups=["Customers"], on_removal="delete")
    house.write(row(2, BOB))
    house.account.opt_out(ANN)
    house.sync()
    assert house.everybody() == {ANN, BOB}
    assert house.account.groups_of(ANN) == set()


def test_delete_that_waits_is_forgotten_when_the_person_returns(house: House) -> None:
    two_syncs(house, on_removal="delete")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.write(row(3, CAT), source="shop")
    house.sync_all()
    house.write(row(2, BOB), source="crm")
    house.sync("crm")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.sync("crm")
    writes = house.sandbox.writes()
    house.sync_all()
    assert (house.everybody(), house.sandbox.writes()) == ({ANN, BOB, CAT}, writes)


@pytest.mark.parametrize("on_removal", ["ungroup", "delete", "keep"])
def test_returned_people_get_static_groups_and_no_second_mail(
    house: House, on_removal: str
) -> None:
    loaded(
        house, row(1, ANN, first="Ann"), row(2, BOB),
        groups=["Newsletter", "Customers"], on_removal=on_removal,
    )  # fmt: skip
    house.write(row(2, BOB))
    house.sync()
    house.write(row(1, ANN, first="Anne"), row(2, BOB))
    result = house.sync()
    assert result.changed == 1
    assert ANN in house.members("Customers")
    assert house.account.contact(ANN)["firstName"] == "Anne"
    assert sorted(house.mailed()) == [ANN, BOB]
