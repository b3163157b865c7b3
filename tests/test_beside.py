"""What a cursor keeps of names and members."""

from typing import Any

import pytest

from syncd.http import are_other, digests, members_digest


@pytest.mark.parametrize(
    ("now", "other"),
    [
        ({"1": "Hot", "2": "Cold"}, False),
        ({"1": "Hot", "2": "Cold", "3": "New"}, False),  # in no record yet
        ({"1": "Hotter", "2": "Cold"}, True),
        ({"1": "Hot"}, True),
    ],
)
def test_a_name_that_is_another_or_gone_is_noticed(now: dict[str, str], other: bool) -> None:
    before = digests({"1": "Hot", "2": "Cold"})
    assert are_other(before, digests(now)) is other
    assert "Hot" not in repr(before)


@pytest.mark.parametrize("before", [None, 7, "x", []])
def test_a_cursor_that_knows_nothing_counts_as_other(before: Any) -> None:
    assert are_other(before, {})


def test_members_are_another_only_when_somebody_joined_or_left() -> None:
    first = members_digest([("Warm", {1, 2}), ("Cold", frozenset())])
    assert members_digest([("Warm", [2, 1]), ("Cold", ())]) == first
    assert members_digest([("Warm", {1}), ("Cold", {2})]) != first
    assert members_digest([("Lukewarm", {1, 2}), ("Cold", ())]) != first
    assert members_digest([]) == ""
    assert members_digest([("\ud83d", {1})])
