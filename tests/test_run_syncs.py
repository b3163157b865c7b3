"""Several syncs that feed one person."""

import pytest
from house import House, house_fixture, row, two_syncs  # noqa: F401 - a fixture

from syncd.core.result import Status

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


def test_syncs_share_a_person(house: House) -> None:
    two_syncs(house)
    house.write(row("c1", ANN, first="Ann"), source="crm")
    house.write(row("s1", ANN, first="Annie", last="Lee"), row("s2", BOB), source="shop")
    house.sync_all()
    ann = house.account.contact(ANN)
    assert (ann["firstName"], ann["lastName"]) == ("Ann", "Lee")  # the first sync that has a value
    assert house.account.groups_of(ANN) == {"CRM", "Shop", "Both"}
    assert set(ann["tags"]) == {"crm", "shop"}
    assert house.account.groups_of(BOB) == {"Shop", "Both"}

    house.write(row("c1", ANN), source="crm")  # its value is empty now: the other's counts
    house.sync_all()
    assert house.account.contact(ANN)["firstName"] == "Annie"

    house.write(row("c9", CAT), source="crm")
    results = house.sync_all()
    assert [result.status for result in results] == [Status.OK, Status.OK]
    assert house.account.groups_of(ANN) == {"Shop", "Both"}
    assert house.account.contact(ANN)["tags"] == ["shop"]


def test_only_the_named_sync_runs(house: House) -> None:
    two_syncs(house)
    house.write(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    assert house.sync("shop").sync == "shop"
    assert house.everybody() == {BOB}
    house.sync("crm")
    assert house.everybody() == {ANN, BOB}


def test_sync_that_left_the_configuration_takes_nothing_along(house: House) -> None:
    two_syncs(house, on_removal="delete")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.write(row(1, ANN), source="shop")
    house.sync_all()
    before, writes = house.account.contacts_by_email(), house.sandbox.writes()
    house.configure(syncs={"shop": {"groups": ["Shop", "Both"], "tags": ["shop"]}})
    house.sync_all(full=True)
    assert (house.account.contacts_by_email(), house.sandbox.writes()) == (before, writes)


def test_missing_group_of_one_sync_does_not_disturb_the_other(house: House) -> None:
    house.configure(
        syncs={
            "crm": {"groups": ["New", "Newer"], "create_groups": False},
            "shop": {"groups": ["Newer", "New"]},
        }
    )
    house.write(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, shop.status) == (Status.FAILED, Status.OK)
    assert house.account.groups_of(BOB) == {"New", "Newer"}
    crm, shop = house.sync_all()
    assert (crm.status, shop.status) == (Status.OK, Status.OK)
    assert house.members("New") == house.members("Newer") == {ANN, BOB}
    assert len(house.account.groups) == 2


@pytest.mark.parametrize("cautious", ["keep", "ungroup"])
def test_most_cautious_policy_of_all_records_counts(house: House, cautious: str) -> None:
    house.configure(
        syncs={"crm": {"on_removal": "delete"}, "shop": {"on_removal": cautious}},
        guard={"max_shrink": "100%"},
    )
    house.write(row(1, ANN), row(2, BOB), row(3, CAT), source="crm")
    house.write(row(1, ANN), row(3, CAT), source="shop")
    house.sync_all()
    house.write(row(3, CAT), source="crm")
    house.write(row(3, CAT), source="shop")
    house.sync_all()
    assert house.everybody() == {ANN, CAT}
