"""The guards: what is more than usual holds the whole sync, until somebody has looked at it."""

from dataclasses import replace
from typing import Any

import pytest
from house import House, house_fixture, people, row  # noqa: F401 - a fixture
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.change import ChangeKind
from syncd.core.guard import Limits, Tally, enough, judge
from syncd.core.limit import Limit
from syncd.core.result import Status, gravest
from syncd.errors import UsageError

ANN, BOB = "ann@example.com", "bob@example.com"
OPEN = {  # no limit that these small worlds could reach: each test closes one
    "max_enrolments": 1000,
    "max_removals": 1000,
    "max_creates": 1000,
    "max_field_changes": 1000,
    "max_shrink": 1000,
    "max_bounce_rate": 1000,
}
HOT = {"name": "Hot", "when": "score|int > 5"}

# name, limit, what the source gives after people(8), and what the guard says
CASES: dict[str, tuple[dict[str, Any], list[dict[str, str]], list[str]]] = {
    "enrolments": (
        {"max_enrolments": 2},
        [*people(8), *people(3, start=10)],
        ["3 people would join 'Newsletter' and be mailed; the limit is 2 (max_enrolments)"],
    ),
    "removals": (
        {"max_removals": 2},
        people(5),
        [
            "3 of 8 people would leave the sync; the limit is 2 (max_removals)",
            "3 people would leave the group 'All'; the limit is 2 (max_removals)",
            "3 people would leave the group 'Hot'; the limit is 2 (max_removals)",
            "3 people would leave the group 'Newsletter'; the limit is 2 (max_removals)",
        ],
    ),
    "removals from one group": (
        {"max_removals": 2},
        people(8, score=1),
        ["8 people would leave the group 'Hot'; the limit is 2 (max_removals)"],
    ),
    "creates": (
        {"max_creates": 2},
        [*people(8), *people(3, start=10)],
        ["3 people would be created; the limit is 2 (max_creates)"],
    ),
    "field changes": (
        {"max_field_changes": 2},
        [*people(3, first="Slipped"), *people(5, start=3)],
        ["3 of 8 people would get another value in 'firstName'; the limit is 2 (max_field_changes)"],
    ),
    "addresses": (  # another column became the address: everybody would be somebody else
        {"max_field_changes": 2},
        [*(row(n, f"q{n}@example.com", first=f"F{n}") for n in range(3)), *people(5, start=3)],
        ["3 of 8 people would get another value in 'email'; the limit is 2 (max_field_changes)"],
    ),
    "shrink": (
        {"max_shrink": 2},
        people(5),
        ["The source shrank from 8 to 5 records; the limit is 2 fewer (max_shrink)"],
    ),
    "shrink, as a share": (
        {"max_shrink": "25%"},
        people(5),
        ["The source shrank from 8 to 5 records; the limit is 2 fewer (max_shrink)"],
    ),
    "empty source": (
        {},
        [],
        ["The source is empty; an empty source is always held"],
    ),
}  # fmt: skip
cases = pytest.mark.parametrize("case", CASES)


def settled(house: House, guard: dict[str, Any], **options: Any) -> None:
    """Eight people are there, hot ones and mailed ones, and Newsletter is dynamic."""
    house.account.add_group("Newsletter", dynamic=True)
    options = {"groups": ["Newsletter", "All", HOT], **options}
    house.configure(guard=OPEN, **options)
    house.write(*people(8, score=9))
    assert house.sync().status is Status.OK
    house.configure(guard={**OPEN, **guard}, **options)


def hot(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """The same people, hot unless they say otherwise."""
    return [{**one, "score": one["score"] or "9"} for one in rows]


# --- what a guard that trips does ------------------------------------------------------------------------


@cases
def test_each_guard_holds_the_whole_sync(house: House, case: str) -> None:
    guard, rows, words = CASES[case]
    settled(house, guard)
    before, writes = house.account.contacts_by_email(), house.sandbox.writes()
    house.write(*hot(rows))
    result = house.sync()
    assert (result.status, result.trips) == (Status.HELD, words)
    assert gravest([Status.OK, Status.PARTIAL, result.status]) == 4
    assert (house.account.contacts_by_email(), house.sandbox.writes()) == (before, writes)
    assert result.held > 0
    assert result.records_held == result.read + result.gone - result.unchanged > 0
    again = house.sync()  # the same file is read and held again, not taken for known
    assert (again.status, again.trips, house.sandbox.writes()) == (Status.HELD, words, writes)


@cases
def test_plan_shows_the_same_and_leaves_no_trace(house: House, case: str) -> None:
    guard, rows, words = CASES[case]
    settled(house, guard)
    house.write(*hot(rows))
    planned, changes = house.plan()  # which also compares the state before and after
    assert planned.trips == words
    held = house.sync()
    assert (held.trips, held.held) == (planned.trips, planned.held)
    assert planned.held == len(changes)
    assert house.plan()[0].trips == words


@cases
def test_approval_releases_what_was_shown(house: House, case: str) -> None:
    guard, rows, _ = CASES[case]
    settled(house, guard)
    house.write(*hot(rows))
    held = house.sync()
    assert house.approve(held.run) == held.held
    released = house.sync()
    assert (released.status, released.held) == (Status.OK, 0)
    assert house.members("All") == {one["email"] for one in rows}
    assert house.query("SELECT * FROM held") == []
    writes = house.sandbox.writes()
    assert house.sync(full=True).held == 0 if rows else True
    assert house.sandbox.writes() == writes


@cases
def test_corrected_source_replaces_what_was_held(house: House, case: str) -> None:
    guard, rows, _ = CASES[case]
    settled(house, guard)
    house.write(*hot(rows))
    held = house.sync()
    house.write(*people(7, score=9), row(7, "p7@example.com", first="New", score=9))
    corrected = house.sync()
    assert (corrected.status, corrected.updated) == (Status.OK, 1)
    assert house.query("SELECT * FROM held") == []
    with pytest.raises(UsageError):
        house.approve(held.run)
    assert len(house.everybody()) == 8
    assert len(house.mailed()) == 8


def test_restored_source_replaces_what_was_held(house: House) -> None:
    """The very file of before: it must not pass for unchanged while something else is held."""
    settled(house, {"max_creates": 2})
    house.write(*people(8, score=9), *people(3, start=10))
    held = house.sync()
    house.write(*people(8, score=9))
    restored = house.sync()
    assert (restored.status, restored.unchanged) == (Status.OK, 8)
    assert house.query("SELECT * FROM held") == []
    with pytest.raises(UsageError):
        house.approve(held.run)


def test_creates_and_updates_are_held_too(house: House) -> None:
    settled(house, {"max_removals": 2})
    writes = house.sandbox.writes()
    house.write(*people(4, score=9), row(4, "p4@example.com", first="New", score=9), row(9, ANN))
    result = house.sync()
    assert (result.status, result.held, result.records_held) == (Status.HELD, 5, 5)
    assert house.sandbox.writes() == writes


def test_opt_outs_pass(house: House) -> None:
    settled(house, {"max_removals": 2}, opted_out="out")
    house.account.put_in("p0@example.com", "Hot")
    house.write(
        row(0, "p0@example.com", first="F0", out="yes", score=9),
        *people(3, start=1, score=9),
        row(9, ANN, out="yes"),
    )
    result = house.sync()
    assert (result.status, result.opted_out, result.held) == (Status.HELD, 2, 4)
    assert house.account.groups_of("p0@example.com") == set()
    assert len(house.members("All")) == 7
    # Whatever comes next, also without the words "opted out": it stays so.
    house.write(*people(8, score=9), row(9, ANN))
    house.sync()
    assert house.account.groups_of("p0@example.com") == set()
    assert ANN not in house.everybody()


def test_opt_outs_count_for_no_limit(house: House) -> None:
    settled(house, {"max_removals": 0}, opted_out="out")
    house.write(*people(8, score=9, out="yes"))
    result = house.sync()
    assert (result.status, result.opted_out, result.trips) == (Status.OK, 8, [])
    assert house.members("All") == set()


def test_other_syncs_go_on(house: House) -> None:
    house.configure(
        guard={**OPEN, "max_creates": 2},
        syncs={"crm": {"groups": ["A"]}, "shop": {"groups": ["B"]}},
    )
    house.write(*people(3), source="crm")
    house.write(*people(3, start=10), source="shop")
    house.sync_all()
    house.write(*people(7), source="crm")
    house.write(*people(3, start=10), row(99, ANN), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, shop.status, shop.created) == (Status.HELD, Status.OK, 1)
    assert gravest([crm.status, shop.status]) == 4
    assert (len(house.members("A")), len(house.members("B"))) == (3, 4)


def test_what_was_promoted_before_is_still_sent(house: House) -> None:
    """A held read does not stop what earlier runs could not deliver."""
    settled(house, {"max_creates": 2})
    house.account.refuse(ANN)
    house.write(*people(8, score=9), row(20, ANN))
    assert house.sync().quarantined == 1
    house.account.accept(ANN)
    house.later(hours=2)
    house.write(*people(8, score=9), row(20, ANN), *people(3, start=30))
    result = house.sync()
    assert (result.status, result.created) == (Status.HELD, 1)
    assert house.everybody() == {ANN, *(one["email"] for one in people(8))}


# --- what counts -----------------------------------------------------------------------------------------


def test_who_leaves_one_sync_counts_though_another_wants_the_person(house: House) -> None:
    """Nothing but tags is taken back, so no group tells of it; and two records of one person are one."""
    house.configure(
        guard={**OPEN, "max_removals": 2},
        syncs={"crm": {"tags": ["crm"]}, "shop": {"tags": ["shop"]}},
    )
    house.write(*people(8), row(99, "p0@example.com"), source="crm")
    house.write(*people(8), source="shop")
    house.sync_all()
    house.write(*people(5), source="crm")
    crm, shop = house.sync_all()
    assert crm.trips == ["3 of 9 people would leave the sync; the limit is 2 (max_removals)"]
    assert (crm.status, shop.status) == (Status.HELD, Status.OK)
    house.write(*people(6), source="crm")
    assert house.sync_all()[0].status is Status.OK
    assert house.account.contact("p7@example.com")["tags"] == ["shop"]


def test_first_run_may_create_everybody(house: House) -> None:
    house.configure(guard={**OPEN, "max_creates": 0})
    house.write(*people(5))
    assert house.sync().created == 5
    house.write(*people(6))
    held = house.sync()
    assert held.trips == ["1 person would be created; the limit is 0 (max_creates)"]


def test_first_run_lasts_until_it_was_promoted(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"], guard={**OPEN, "max_enrolments": 3, "max_creates": 0})
    house.write(*people(5))
    assert house.sync().status is Status.HELD
    house.write(*people(3))
    assert (house.sync().created, len(house.mailed())) == (3, 3)


def test_first_run_that_would_mail_is_held(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter", "All"], guard={"max_enrolments": 0})
    house.write(*people(2))
    held = house.sync()
    assert (held.status, held.held, house.everybody()) == (Status.HELD, 2, set())
    house.approve(held.run, "people")
    assert house.sync().enrolled == 2
    assert len(house.mailed()) == 2


def test_enrolments_are_those_who_would_be_mailed(house: House) -> None:
    """Not who is in the group already, who opted out, or who joins a static one."""
    house.account.add_group("Newsletter", dynamic=True)
    for n in range(5):
        house.account.add_contact(f"p{n}@example.com", groups=["Newsletter"])
    house.account.add_contact("p5@example.com", status="unsubscribed")
    house.configure(groups=["Newsletter", "All"], guard={**OPEN, "max_enrolments": 2})
    house.write(*people(8))
    result = house.sync()
    assert (result.status, result.enrolled, len(house.mailed())) == (Status.OK, 2, 7)


def test_group_of_unknown_type_counts_as_one_that_mails(house: House) -> None:
    house.quirks(group_type="absent")
    house.account.add_group("Customers")
    house.configure(groups=["Customers"], guard={**OPEN, "max_enrolments": 1})
    house.write(*people(2))
    assert house.sync().trips == [
        "2 people would join 'Customers' and be mailed; the limit is 1 (max_enrolments)"
    ]


def test_adoption_is_no_field_change(house: House) -> None:
    for n in range(5):
        house.account.add_contact(f"p{n}@example.com", firstName="Old")
    house.configure(guard={**OPEN, "max_field_changes": 0})
    house.write(*people(5))
    assert (house.sync().updated, house.account.contact("p0@example.com")["firstName"]) == (5, "F0")


def test_changed_mapping_is_named(house: House) -> None:
    settled(house, {"max_field_changes": 2})
    house.configure(
        guard={**OPEN, "max_field_changes": 2},
        groups=["Newsletter", "All", HOT],
        fields={"email": "email", "firstName": "id"},
    )
    result = house.sync()
    assert result.trips == [
        "8 of 8 people would get another value in 'firstName'; the limit is 2 (max_field_changes)",
        "The mapping, the filter or the source of this sync changed since its last run",
    ]


def test_filter_that_was_mistyped_holds_everybody(house: House) -> None:
    settled(house, {"max_removals": "10%"})
    house.write(*people(20, score=9))
    house.sync()
    house.configure(guard={**OPEN, "max_removals": "10%"}, groups=["All"], where="score|int > 90")
    result = house.sync()
    assert result.status is Status.HELD
    assert "20 of 20 people would leave the sync; the limit is 10 (max_removals)" in result.trips
    assert len(house.members("All")) == 20


# --- floors, shares, numbers (the arithmetic alone) -------------------------------------------------------

WIDE = Limits(
    max_enrolments=Limit(count=10**6),
    max_removals=Limit(count=10**6),
    max_creates=Limit(count=10**6),
    max_field_changes=Limit(count=10**6),
    max_shrink=Limit(count=10**6),
    max_bounce_rate=Limit(count=10**6),
)


@pytest.mark.parametrize(
    ("limit", "written", "at_most", "base"),
    [
        ("max_enrolments", 100, 100, 50),
        ("max_enrolments", 0, 0, 50),
        ("max_enrolments", "10%", 5, 50),  # no floor: each of them is a mail
        ("max_removals", "10%", 10, 50),  # never below 10
        ("max_removals", "10%", 30, 300),
        ("max_removals", 3, 3, 300),  # a number is the limit itself
        ("max_removals", 0, 0, 300),
        ("max_creates", "100%", 1000, 300),  # never below 1000
        ("max_creates", "100%", 3000, 3000),
        ("max_creates", 5, 5, 3000),
        ("max_creates", 0, 0, 3000),
        ("max_field_changes", "50%", 100, 50),  # never below 100
        ("max_field_changes", "50%", 500, 1000),
        ("max_field_changes", 1, 1, 1000),
        ("max_field_changes", 0, 0, 1000),
        ("max_shrink", "50%", 25, 50),
        ("max_shrink", 10, 10, 50),
        ("max_shrink", 0, 0, 50),
    ],
)
def test_limit_is_the_last_number_that_passes(
    limit: str, written: int | str, at_most: int, base: int
) -> None:
    limits = replace(WIDE, **{limit: Limit.parse(written)})
    for count, held in ((at_most, False), (at_most + 1, True)):
        tally = Tally(live_before=base, read=base, read_before=base, full=True, confirmed=base)
        match limit:
            case "max_enrolments":
                tally.enrolled, tally.enrolments = count, {"Newsletter": count}
            case "max_removals":
                tally.removals = count
            case "max_creates":
                tally.creates = count
            case "max_field_changes":
                tally.field_changes = {"phone": count}
            case _:
                tally.read = base - count
        assert bool(judge(tally, limits)) is held, (count, judge(tally, limits))


@given(
    limit=st.one_of(st.builds(Limit, count=st.integers(0, 500)), st.builds(Limit, share=st.floats(0, 10))),
    changes=st.integers(1, 2000),
    confirmed=st.integers(0, 10_000),
)  # fmt: skip
def test_whoever_need_not_be_counted_changes_no_verdict(
    limit: Limit, changes: int, confirmed: int
) -> None:
    limits = replace(WIDE, max_field_changes=limit)
    tally = Tally(field_changes={"phone": changes}, confirmed=confirmed)
    verdict, needed = judge(tally, limits), enough(tally, limits)
    if needed is not None:
        tally.confirmed = min(confirmed, needed)
    assert judge(tally, limits) == verdict


def test_removals_of_one_group_are_a_share_of_whom_the_sync_gave_it() -> None:
    limits = replace(WIDE, max_removals=Limit.parse("10%"))
    tally = Tally(live_before=1000, read=1000, group_sizes={"VIP": 200})
    tally.group_removals = {"VIP": 20}
    assert judge(tally, limits) == []
    tally.group_removals = {"VIP": 21}
    assert judge(tally, limits) == [
        "21 people would leave the group 'VIP'; the limit is 20 (max_removals)"
    ]


def test_several_trips_are_all_told() -> None:
    tally = Tally(live_before=100, read=10, read_before=100, full=True, removals=90, creates=5000)
    limits = Limits(*(Limit.parse(0) for _ in range(6)))
    names = [words.rpartition("(")[2] for words in judge(tally, limits)]
    assert names == ["max_shrink)", "max_removals)", "max_creates)"]


# --- bounces ----------------------------------------------------------------------------------------------


def bounced(house: House, count: int, *, of: int = 40) -> None:
    """So many people of the source are in the account; of these, some have bounced. Nobody was mailed."""
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["All"], guard={**OPEN, "max_bounce_rate": "5%"})
    house.write(*people(of))
    house.sync()
    for number in range(count):
        house.account.opt_out(f"p{number}@example.com", status="bounced")
    house.sync()


def test_a_source_with_too_many_bounces_mails_nobody_more(house: House) -> None:
    bounced(house, 11)
    house.configure(
        groups=["All", {"name": "Drip", "when": "score|int > 5"}],
        guard={**OPEN, "max_bounce_rate": "5%"},
    )
    house.write(*people(40), row(90, "new@example.com", score=9))
    result = house.sync()
    assert result.status is Status.HELD
    assert result.trips[0] == (
        "11 of the 40 people of the source 'people' have bounced, and 1 more would be mailed;"
        " the limit is 10 (max_bounce_rate)"
    )
    assert house.mailed() == []
    house.approve(result.run)
    assert house.sync().status is Status.OK
    assert house.mailed() == ["new@example.com"]


def test_where_nobody_would_be_mailed_bounces_hold_nothing(house: House) -> None:
    bounced(house, 11)
    house.write(*people(40), row(90, "new@example.com"))
    assert house.sync().status is Status.OK


def test_a_list_with_too_many_bounces_is_told_apart_from_its_source() -> None:
    limits = replace(WIDE, max_bounce_rate=Limit.parse("5%"))
    tally = Tally(live_before=1000, read=1000, enrolled=3, enrolments={"Fair": 3})
    tally.bounced = {"the source 'crm'": (40, 1000), "the group 'Fair'": (30, 100)}
    (said,) = judge(tally, limits)
    assert said == (
        "30 of the 100 people of the group 'Fair' have bounced, and 3 more would be mailed;"
        " the limit is 10 (max_bounce_rate)"
    )


def test_syncs_of_one_source_are_counted_together(house: House) -> None:
    bounced(house, 11)
    house.configure(
        syncs={
            "people": {"groups": ["All"]},
            "more": {"groups": [{"name": "Drip", "when": "score|int > 5"}], "source": "people"},
        },
        guard={**OPEN, "max_bounce_rate": "5%"},
    )
    house.write(row(90, "new@example.com", score=9), *people(40))
    results = house.sync_all()
    assert [result.status for result in results] == [Status.OK, Status.HELD]
    assert house.mailed() == []


# --- approval ---------------------------------------------------------------------------------------------


def test_approval_is_used_up(house: House) -> None:
    settled(house, {"max_creates": 2})
    house.write(*people(8, score=9), *people(3, start=10, score=9))
    house.approve(house.sync().run)
    assert house.sync().created == 3
    house.write(*people(8, score=9), *people(6, start=10, score=9))
    assert house.sync().status is Status.HELD
    assert len(house.everybody()) == 11


def test_more_than_was_approved_is_held_again(house: House) -> None:
    settled(house, {"max_creates": 2})
    house.write(*people(8, score=9), *people(3, start=10, score=9))
    house.approve(house.sync().run)
    house.write(*people(8, score=9), *people(6, start=10, score=9))
    held = house.sync()
    assert held.trips == ["3 people would be created; the limit is 2 (max_creates)"]
    assert (held.status, len(house.everybody())) == (Status.HELD, 8)
    # Those that were approved still are; with the rest within the limit, all of them go.
    house.write(*people(8, score=9), *people(5, start=10, score=9))
    assert house.sync().created == 5


def test_changed_change_is_not_the_approved_one(house: House) -> None:
    settled(house, {"max_field_changes": 2})
    house.write(*people(3, first="One", score=9), *people(5, start=3, score=9))
    house.approve(house.sync().run)
    house.write(*people(3, first="Two", score=9), *people(5, start=3, score=9))
    assert house.sync().status is Status.HELD
    assert house.account.contact("p0@example.com")["firstName"] == "F0"


def test_nothing_to_approve_says_so(house: House) -> None:
    settled(house, {"max_creates": 2})
    with pytest.raises(UsageError):
        house.approve(1)
    house.write(*people(8, score=9), *people(3, start=10))
    run = house.sync().run
    house.approve(run)
    with pytest.raises(UsageError, match="approved already"):
        house.approve(run)


def test_plan_after_approval_holds_nothing(house: House) -> None:
    settled(house, {"max_removals": 2})
    house.write(*people(5, score=9))
    house.approve(house.sync().run)
    planned, changes = house.plan()
    assert (planned.trips, planned.held, planned.remove) == ([], 0, 3)
    assert {change.kind for change in changes} == {ChangeKind.REMOVE}
    assert house.sync().removed == 3


def test_approval_of_one_sync_is_not_that_of_another(house: House) -> None:
    house.configure(guard={**OPEN, "max_creates": 0}, syncs={"crm": {}, "shop": {}})
    house.write(*people(2), source="crm")
    house.write(*people(2, start=10), source="shop")
    house.sync_all()
    house.write(*people(3), source="crm")
    house.write(*people(3, start=10), source="shop")
    held = house.sync_all()
    assert [result.status for result in held] == [Status.HELD, Status.HELD]
    assert house.approve(held[0].run, "shop") == 1
    crm, shop = house.sync_all()
    assert (crm.status, shop.status, shop.created) == (Status.HELD, Status.OK, 1)
    assert "p2@example.com" not in house.everybody()


def test_a_shrunken_source_that_changes_nobody_can_be_approved(house: House) -> None:
    """With on_removal = "keep" nothing happens to whoever left: the source itself is what is approved."""
    house.configure(on_removal="keep", guard={"max_shrink": 2, "max_removals": 1000})
    house.write(*people(10))
    house.sync()
    house.write(*people(5))
    held = house.sync()
    assert held.status is Status.HELD
    assert held.held == 0
    assert house.approve(held.run) == 1
    assert house.sync().status is Status.OK
    house.write(*people(2))
    assert house.sync().status is Status.HELD
