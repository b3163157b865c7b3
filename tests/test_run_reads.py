"""When a source is read, and what a broken read means."""

import pytest
from house import FIELDS, House, house_fixture, loaded, row, two_syncs  # noqa: F401 - a fixture

from syncd.core.result import Status

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


def test_unchanged_source_still_sends_what_is_due(house: House) -> None:
    house.account.refuse(ANN)
    house.write(row(1, ANN), row(2, BOB))
    first = house.sync()
    assert (first.created, first.quarantined, first.status) == (1, 1, Status.PARTIAL)
    house.account.accept(ANN)
    assert house.sync().created == 0  # not yet: it was refused a moment ago
    house.later(hours=2)
    second = house.sync()
    assert (second.created, second.read) == (1, 2)
    assert house.everybody() == {ANN, BOB}


def test_changed_mapping_is_read_anew(house: House) -> None:
    house.write(row(1, ANN, first="Ann", last="Lee"), row(2, BOB, first="Bob"))
    house.sync()
    house.configure(fields={"email": "email", "firstName": "last"})
    assert house.sync().updated == 2
    assert house.account.contact(ANN)["firstName"] == "Lee"
    house.configure(fields=FIELDS, groups=["New"])
    house.sync()
    assert house.members("New") == {ANN, BOB}


def test_broken_read_promotes_nothing(house: House) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB), opted_out="out")
    writes = house.sandbox.writes()
    house.break_source(row(1, ANN, first="Anne"), row(3, CAT))
    result = house.sync()
    assert (result.status, result.removed, result.read) == (Status.FAILED, 0, 0)
    assert house.sandbox.writes() == writes
    house.write(row(1, ANN, first="Anne"), row(2, BOB))
    assert house.sync().updated == 1
    assert house.everybody() == {ANN, BOB}


def test_broken_read_still_says_who_opted_out(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["Customers"], opted_out="out")
    house.break_source(row(1, ANN, out="yes"), row(3, CAT, out="yes"))
    house.sync()
    house.write(row(1, ANN), row(2, BOB), row(3, CAT))  # the CRM has lost it meanwhile
    house.sync()
    assert house.account.groups_of(ANN) == set()
    assert house.everybody() == {ANN, BOB}


@pytest.mark.parametrize("twice", [BOB, CAT])
def test_read_with_a_key_that_stands_there_twice_still_says_who_opted_out(
    house: House, twice: str
) -> None:
    """Whether the key is a known or a new one."""
    loaded(house, row(1, ANN), row(2, BOB), groups=["Customers"], opted_out="out")
    number = 2 if twice == BOB else 3
    house.write(row(1, ANN, out="yes"), row(number, twice, first="x"), row(number, twice))
    assert house.sync().status is Status.FAILED
    house.write(row(1, ANN), row(2, BOB), row(3, CAT))
    house.sync()
    assert house.members("Customers") == {BOB, CAT}


def test_one_broken_source_does_not_stop_the_other(house: House) -> None:
    two_syncs(house)
    house.break_source(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, shop.status, house.everybody()) == (Status.FAILED, Status.OK, {BOB})
    assert "crm.csv" in (crm.error or "")


def test_one_key_twice_fails_the_read_and_names_both_places(house: House) -> None:
    house.write(row(1, ANN), row(2, BOB), row(1, CAT))
    result = house.sync()
    assert result.status is Status.FAILED
    for place in ("people.csv:2", "people.csv:4"):
        assert place in (result.error or "")
    assert house.everybody() == set()
