"""Several records, one person."""

from typing import Any

from syncd.core.merge import Contribution, merge
from syncd.core.person import Payload

GROUPS = {"A": 1, "B": 2}
CAMPAIGNS = {"A": 3, "Q1": 4}


def record(
    rank: int, *, live: bool = True, policy: str = "ungroup", skip: bool = False, **data: Any
) -> Contribution:
    full = {
        "f": data.get("f", {}),
        "c": data.get("c", {}),
        "g": data.get("g", []),
        "t": data.get("t", []),
        **({"p": data["p"]} if "p" in data else {}),
    }
    return Contribution(rank, rank, f"k{rank}", live, policy, full, skip)


def of(
    *records: Contribution, adopted: bool = False, out: bool = False, before: str | None = None
) -> Any:
    return merge(
        records,
        adopted=adopted,
        out=out,
        policy_before=before,
        groups=GROUPS,
        campaigns=CAMPAIGNS,
    )


def test_the_first_sync_that_has_a_value_wins_field_by_field() -> None:
    merged = of(
        record(1, f={"company": "Two", "phone": "2"}),
        record(0, f={"company": "One", "phone": None}),
    )
    assert merged.want.fields == {"company": "One", "phone": "2"}
    assert merged.sync == 0


def test_campaigns_are_the_union_of_live_records_and_of_those_that_take_people() -> None:
    first, second = record(0, p=["A", "ended"]), record(1, p=["Q1"], policy="keep", live=False)
    assert of(first, second).want.campaigns == {3}
    assert of(first, record(1, p=["Q1"])).want.campaigns == {3, 4}
    assert of(first, out=True).want.campaigns == frozenset()


def test_groups_and_tags_are_the_union() -> None:
    merged = of(record(0, g=["A"], t=["x"]), record(1, g=["B"], t=["x", "y"]))
    assert merged.want == Payload(groups=frozenset({1, 2}), tags=frozenset({"x", "y"}))


def test_a_field_that_all_sources_have_empty_is_to_be_cleared() -> None:
    assert of(record(0, f={"phone": None}), record(1, f={"phone": None})).want.fields == {
        "phone": None
    }


def test_a_record_that_left_contributes_only_where_nothing_happens_on_removal() -> None:
    live, left = (
        record(0, f={"company": "One"}),
        record(1, live=False, policy="keep", f={"phone": "2"}),
    )
    assert of(live, left).want.fields == {"company": "One", "phone": "2"}
    assert of(live, record(1, live=False, policy="ungroup", f={"phone": "2"})).want.fields == {
        "company": "One"
    }


def test_a_live_record_comes_before_one_that_left_whatever_its_rank() -> None:
    left = record(0, live=False, policy="keep", f={"company": "old"})
    assert of(left, record(5, f={"company": "new"})).want.fields == {"company": "new"}


def test_nobody_wants_it_any_more() -> None:
    merged = of(record(0, live=False, policy="delete"))
    assert merged.want is None
    assert merged.policy == "delete"


def test_the_most_cautious_policy_of_all_linked_records_holds() -> None:
    assert of(record(0, policy="delete"), record(1, policy="ungroup")).policy == "ungroup"
    assert of(record(0, policy="delete"), record(1, policy="keep", live=False)).policy == "keep"
    assert of(before="delete").policy == "delete"


def test_on_existing_skip_leaves_adopted_people_entirely_alone() -> None:
    assert of(record(0, skip=True, f={"company": "One"}, g=["A"]), adopted=True).want is None
    assert of(record(0, skip=True, policy="delete"), adopted=True).policy == "keep"
    assert of(record(0, skip=True, f={"company": "One"})).want is not None


def test_an_opt_out_of_the_source_wants_nothing_but_to_be_out() -> None:
    assert of(record(0, f={"company": "One"}, g=["A"]), out=True).want == Payload(out=True)
