"""A run, from the first load to a run with nothing to do: what is sent, and in how many requests."""

from house import House, house_fixture, people, row  # noqa: F401 - a fixture

from syncd.core.result import Status

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


def test_load_and_changes_take_one_request_a_thousand(house: House) -> None:
    house.configure(groups=["Customers"], tags=["crm"])
    crowd = people(5000)
    house.write(*crowd)

    first = house.sync()
    assert (first.created, first.changed, first.status) == (5000, 5000, Status.OK)
    assert house.sandbox.writes() == 6  # one group, five thousands
    assert len(house.members("Customers")) == 5000

    writes = house.sandbox.writes()
    second = house.sync()
    assert (second.unchanged, second.changed, house.sandbox.writes()) == (5000, 0, writes)

    for changed in crowd[100:152]:
        changed["first"] += " X"
    house.write(*crowd, *people(20, start=5000))
    third = house.sync()
    assert (third.created, third.updated, third.unchanged) == (20, 52, 4948)
    assert house.sandbox.writes() - writes == 2
    sent = [one["email"] for body in house.sent()[-2:] for one in body["contacts"]]
    expected = [*range(100, 152), *range(5000, 5020)]
    assert sorted(sent) == sorted(f"p{n}@example.com" for n in expected)


def test_created_people_have_everything(house: House) -> None:
    house.configure(
        groups=["Customers", "All"],
        tags=["crm", "2026"],
        custom_fields={"score": {"path": "score", "as": "number"}},
    )
    house.write(row(1, "Ann@Example.com ", first="Ann", last="Lee", score="7"))
    result = house.sync()
    assert (result.created, result.grouped, result.enrolled) == (1, 1, 0)
    ann = house.account.contact(ANN)
    assert (ann["firstName"], ann["lastName"], ann["customFields"]) == ("Ann", "Lee", {"score": 7})
    assert set(ann["tags"]) == {"crm", "2026"}
    assert house.account.groups_of(ANN) == {"Customers", "All"}
