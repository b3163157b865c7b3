"""The guards, one by one: what they allow, what they say."""

from dataclasses import replace
from typing import Any

import pytest

from syncd.core.guard import Limits, Tally, allowed, judge
from syncd.core.limit import Limit

DEFAULTS = Limits(
    Limit(100),
    Limit(share=0.1),
    Limit(share=1.0),
    Limit(share=0.5),
    Limit(share=0.5),
    Limit(share=0.05),
)
CALM = Tally(live_before=5000, read=5000, read_before=5000, full=True, confirmed=5000)


def said(**changes: Any) -> list[str]:
    return judge(replace(CALM, **changes), DEFAULTS)


def test_an_ordinary_step_passes() -> None:
    assert (
        said(
            creates=20,
            removals=3,
            enrolled=100,
            enrolments={"Drip": 100},
            field_changes={"phone": 2500},
        )
        == []
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"enrolled": 101, "enrolments": {"Drip": 101}}, "101 people would join 'Drip' and be mailed; the limit is 100"),
        ({"removals": 501}, "501 of 5,000 people would leave the sync; the limit is 500"),
        ({"group_removals": {"VIP": 60}, "group_sizes": {"VIP": 500}}, "60 people would leave the group 'VIP'; the limit is 50"),
        ({"creates": 5001}, "5,001 people would be created; the limit is 5,000"),
        ({"field_changes": {"phone": 2501}}, "2,501 of 5,000 people would get another value in 'phone'; the limit is 2,500"),
        ({"read": 2499}, "The source shrank from 5,000 to 2,499 records; the limit is 2,500 fewer"),
        ({"read": 0}, "The source is empty"),
    ],
)  # fmt: skip
def test_each_limit_says_in_words_and_numbers_what_it_holds(
    changes: dict[str, Any], words: str
) -> None:
    found = said(**changes)
    assert found[0].startswith(words)


def test_people_whose_removal_was_approved_are_no_shrinking_of_the_source() -> None:
    assert said(read=2400, gone_approved=100) == []
    assert said(read=2399, gone_approved=100)[0].startswith("The source shrank")


def test_a_changed_filter_is_named_when_something_is_held() -> None:
    assert said(enrolled=500, enrolments={"Drip": 500}, filter_changed=True)[-1].startswith(
        "The mapping, the filter"
    )
    assert said(filter_changed=True) == []


def test_the_first_run_may_create_everybody() -> None:
    assert said(creates=50_000, first_run=True) == []


def test_an_incremental_read_cannot_shrink() -> None:
    assert said(read=3, full=False) == []


def test_an_approval_of_everybody_passes_an_empty_source_and_nothing_less_does() -> None:
    assert said(read=0, gone_approved=5000) == []
    assert said(read=0, gone_approved=4999) != []


@pytest.mark.parametrize(
    ("limit", "of", "floor", "number"),
    [
        (Limit(5), 1_000_000, 10, 5),
        (Limit(0), 100, 10, 0),
        (Limit(share=0.1), 50, 10, 10),
        (Limit(share=0.1), 1000, 10, 100),
        (Limit(share=0.0), 1000, 0, 0),
    ],
)
def test_floors_hold_for_shares_only(limit: Limit, of: int, floor: int, number: int) -> None:
    assert allowed(limit, of, floor=floor) == number
