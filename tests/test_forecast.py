"""What a plan says it costs is what the run then costs: requests are the account's, and shared with others."""

from typing import Any

import pytest
from house import House, house_fixture, people, row  # noqa: F401 - a fixture

from syncd.state.store import change
from syncd.upload.pool import THREADS_MAX

COUNT = 12


def both(house: House, **order: Any) -> tuple[int, int]:
    """(requests that the plan foretells, those of the run)."""
    plan, _ = house.plan(**order)
    return plan.requests, house.sync(**order).requests


def there(house: House, **options: Any) -> None:
    """A dozen people whom a bulk request has made, so that nobody knows their ids."""
    house.configure(**options)
    house.write(*people(COUNT, score=1))
    house.sync()


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], list[dict[str, str]]]] = {
    # options before, options after, rows after
    "creates": ({}, {}, people(COUNT + 5)),
    "updates": ({}, {}, people(COUNT, first="New")),
    "custom fields that may be lost": (
        {"custom_fields": {"score": "score"}},
        {"custom_fields": {"score": "score"}},
        people(COUNT, score=2),
    ),
    "removals": ({"groups": ["A"], "tags": ["t"]}, {"groups": ["A"], "tags": ["t"]}, people(3)),
    "deletes": ({"on_removal": "delete"}, {"on_removal": "delete"}, people(3)),
    "groups": ({}, {"groups": ["A", "B"]}, people(COUNT)),
    "a dynamic group": ({}, {"groups": ["Drip"]}, people(COUNT)),
    "tags": ({"tags": ["a"]}, {"tags": ["b"]}, people(COUNT)),
    "another group": ({"groups": ["A"]}, {"groups": ["B"]}, people(COUNT)),
    "opt-outs": ({"groups": ["A"], "opted_out": "out"}, {"groups": ["A"], "opted_out": "out"}, people(COUNT, out="yes")),
    "moves": ({}, {}, [row(n, f"q{n}@example.com", first=f"F{n}") for n in range(COUNT)]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_plan_foretells_the_requests_of_its_run(house: House, case: str) -> None:
    house.account.add_group("Drip", dynamic=True)
    limits = dict.fromkeys(
        ("max_removals", "max_field_changes", "max_enrolments", "max_shrink"), 1000
    )
    before, after, rows = CASES[case]
    there(house, guard=limits, **before)
    house.configure(guard=limits, **after)
    house.write(*rows)
    foretold, done = both(house)
    # Several at once may ask which campaigns there are; each is left by each person.
    assert foretold <= done <= foretold + (THREADS_MAX + COUNT if case == "opt-outs" else 0)


def test_several_groups_are_joined_in_batches(house: House) -> None:
    """People who were in FluenzR before: a request a group, and not one a person."""
    for one in people(COUNT):
        house.account.add_contact(one["email"])
    house.configure(groups=["A", "B", "C"])
    house.write(*people(COUNT))
    assert house.sync().grouped == COUNT
    assert {name: len(house.members(name)) for name in "ABC"} == dict.fromkeys("ABC", COUNT)
    joins = [
        path for method, path in house.writes() if method == "POST" and path.startswith("/groups/")
    ]
    assert len(joins) == 3


def test_one_by_one_is_foretold_as_such(house: House) -> None:
    house.configure(fluenzr={"bulk": "off"})
    house.write(*people(COUNT))
    assert len(set(both(house))) == 1
    house.write(*people(COUNT, first="New"))
    assert len(set(both(house))) == 1


def test_custom_fields_that_a_bulk_leaves_alone_cost_no_read(house: House) -> None:
    there(house, custom_fields={"score": "score"})
    known = {"bulk_custom_fields": "merge"}
    change(house.state, lambda state: state.set_meta("probe", known), clock=house.clock)
    house.write(*people(COUNT, score=2))
    foretold, done = both(house)
    assert foretold == done < COUNT
