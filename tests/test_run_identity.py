"""Who is who: changed, swapped, shared and broken addresses."""

import pytest
from house import House, first_names, house_fixture, ids, loaded, row  # noqa: F401 - a fixture

from syncd.core.result import Status

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


def test_changed_address_is_the_same_contact(house: House) -> None:
    before = loaded(house, row(1, ANN, first="Ann"))
    house.write(row(1, "new@example.com", first="Ann"))
    result = house.sync()
    assert (result.moved, result.created, result.changed) == (1, 0, 1)
    assert ids(house) == {"new@example.com": before[ANN]}
    assert house.mailed() == [ANN]
    house.write(row(1, "new@example.com", first="Anne"))
    assert house.sync().updated == 1
    assert first_names(house) == {"new@example.com": "Anne"}


def test_swapped_addresses_are_swapped_fields(house: House) -> None:
    before = loaded(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    house.write(row(1, BOB, first="Ann"), row(2, ANN, first="Bob"))
    assert house.sync().updated == 2
    assert ids(house) == before
    assert first_names(house) == {ANN: "Bob", BOB: "Ann"}
    assert sorted(house.mailed()) == [ANN, BOB]


def test_cycle_of_addresses(house: House) -> None:
    before = loaded(
        house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"), row(3, CAT, first="Cat")
    )
    house.write(row(1, BOB, first="Ann"), row(2, CAT, first="Bob"), row(3, ANN, first="Cat"))
    house.sync()
    assert ids(house) == before
    assert first_names(house) == {BOB: "Ann", CAT: "Bob", ANN: "Cat"}
    assert sorted(house.mailed()) == [ANN, BOB, CAT]


def test_chain_of_addresses_creates_the_new_one_and_removes_the_old_one(house: House) -> None:
    before = loaded(
        house,
        row(1, ANN, first="Ann"),
        row(2, BOB, first="Bob"),
        groups=["Newsletter", "Customers"],
    )
    house.write(row(1, BOB, first="Ann"), row(2, CAT, first="Bob"))
    house.sync()
    assert {email: before.get(email) for email in ids(house)} == {**before, CAT: None}
    assert (first_names(house)[BOB], first_names(house)[CAT]) == ("Ann", "Bob")
    assert house.members("Customers") == {BOB, CAT}
    assert sorted(house.mailed()) == [ANN, BOB]  # Cat's record was mailed as Bob


def test_two_records_with_one_address_are_one_person(house: House) -> None:
    groups = [{"name": "A", "when": "last == 'a'"}, {"name": "B", "when": "last == 'b'"}]
    house.configure(groups=groups, fields={"email": "email", "firstName": "first"})
    house.write(row(1, ANN, last="a"), row(2, ANN.upper(), first="Ann", last="b"))
    result = house.sync()
    assert (result.created, result.changed) == (1, 2)
    assert house.account.groups_of(ANN) == {"A", "B"}
    assert first_names(house) == {ANN: "Ann"}
    house.write(row(2, ANN, first="Ann", last="b"))
    result = house.sync()
    assert (result.removed, result.ungrouped) == (0, 1)
    assert house.account.groups_of(ANN) == {"B"}


def test_two_records_that_become_one_person(house: House) -> None:
    before = loaded(house, row(1, ANN, first="Ann"), row(2, BOB, last="Lee"), on_removal="delete")
    house.write(row(1, BOB, first="Ann"), row(2, BOB, last="Lee"))
    house.sync()
    assert ids(house) == {BOB: before[BOB]}
    bob = house.account.contact(BOB)
    assert (bob["firstName"], bob["lastName"]) == ("Ann", "Lee")
    assert sorted(house.mailed()) == [ANN, BOB]


def test_one_person_who_becomes_two(house: House) -> None:
    before = loaded(
        house, row(1, ANN, first="Ann"), row(2, ANN), groups=["Newsletter", "Customers"]
    )
    house.write(row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    result = house.sync()
    assert (result.moved, result.created) == (0, 1)
    assert ids(house)[ANN] == before[ANN]
    assert house.members("Customers") == {ANN, BOB}
    assert house.mailed() == [ANN]  # both records were mailed as Ann


def test_new_key_for_the_same_address_changes_nothing(house: House) -> None:
    loaded(
        house, row(1, ANN, first="Ann"), row(2, BOB), on_removal="delete", guard={"max_removals": 0}
    )
    writes = house.sandbox.writes()
    house.write(row(7, ANN, first="Ann"), row(2, BOB))
    result = house.sync()
    assert (result.status, result.gone, house.sandbox.writes()) == (Status.OK, 1, writes)
    assert house.sync(full=True).unchanged == 2


def test_search_for_an_address_is_exact(house: House) -> None:
    """FluenzR's filter finds whatever contains the address."""
    plus = "ann+news@example.com"
    house.account.add_contact("joann@example.com", firstName="Jo")
    house.account.add_contact("x-" + plus, firstName="X")
    house.configure(groups=[{"name": "Hot", "when": "score|int > 5"}])
    house.write(row(1, ANN, first="Ann"), row(2, plus, first="Plus"))
    house.sync()
    house.write(row(1, ANN, first="Ann", score=9), row(2, plus, first="Plus", score=9))
    house.sync()
    assert house.members("Hot") == {ANN, plus}
    assert first_names(house)["joann@example.com"] == "Jo"


def test_letter_case_is_never_data(house: House) -> None:
    house.account.add_contact("ANN@Example.COM", firstName="Ann")
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    house.write(row(1, "Ann@example.com", first="Ann"))
    assert (house.sync().unchanged, house.sandbox.writes()) == (1, 0)
    assert house.account.contact(ANN)["email"] == "ANN@Example.COM"


@pytest.mark.parametrize("broken", ["", "nobody", "ann@", "ann@example..com"])
def test_person_without_usable_address_is_frozen(house: House, broken: str) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    writes = house.sandbox.writes()
    house.write(row(1, broken, first="Anne"), row(2, BOB, first="Bob"))
    result = house.sync()
    assert (result.skipped_by, result.removed) == ({"address": 1}, 0)
    assert house.sandbox.writes() == writes
    assert house.members("Newsletter") == {ANN, BOB}
    house.write(row(1, ANN, first="Anna"), row(2, BOB, first="Bob"))
    assert house.sync().updated == 1
    assert first_names(house)[ANN] == "Anna"
    assert sorted(house.mailed()) == [ANN, BOB]


def test_person_who_never_had_an_address_is_reported_and_never_sent(house: House) -> None:
    house.write(row(1, "", first="Ann"), row(2, "nonsense"), row(3, BOB))
    result = house.sync()
    assert (result.read, result.created, result.skipped_by) == (3, 1, {"address": 2})
    assert result.status is Status.OK
    again = house.sync()
    assert (again.skipped_by, again.unchanged) == ({"address": 2}, 1)
