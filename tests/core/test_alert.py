"""What is told of a trouble, and when: once when it begins, when it has doubled, and once when it is over."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core import alert
from syncd.core.alert import DAY_S, Facts, Kind, Limits, News, SyncFacts, Trouble

NOW_S = 1_767_261_600.0  # 2026-01-01 10:00 UTC
LIMITS = Limits()
FINE = SyncFacts("people", ended_s=NOW_S - 60, success_s=NOW_S - 60, awaited_s=NOW_S + 840)


def facts(*syncs: SyncFacts, **more: object) -> Facts:
    return Facts(NOW_S, syncs or (FINE,), **more)  # type: ignore[arg-type]


def keys(found: Facts, limits: Limits = LIMITS) -> list[str]:
    return [one.key for one in alert.troubles(found, limits)]


def told(before: dict[str, int], *syncs: SyncFacts) -> News:
    return alert.news(before, alert.troubles(facts(*syncs), LIMITS), syncs={"people", "shop"})


@pytest.mark.parametrize(
    ("sync", "expected"),
    [
        (FINE, []),
        (replace(FINE, failed_runs=1), []),
        (replace(FINE, failed_runs=2), ["failing:people"]),
        (replace(FINE, held_run=7, held=120), ["held:people"]),
        (replace(FINE, held_run=7, held=0), ["held:people"]),  # an empty source holds nobody
        (replace(FINE, quarantined=4), []),
        (replace(FINE, quarantined=10), ["quarantine:people"]),
        (replace(FINE, awaited_s=NOW_S - DAY_S), []),
        (replace(FINE, awaited_s=NOW_S - DAY_S - 1), ["silent:people"]),
        (replace(FINE, awaited_s=None, success_s=None), []),  # nothing is known of it yet
        # the last success is long ago, but nothing was due before now: a weekly sync
        (replace(FINE, success_s=NOW_S - 7 * DAY_S, awaited_s=NOW_S - 60), []),
        # it fails, which is told, and runs: no silence
        (
            replace(FINE, awaited_s=NOW_S - 9 * DAY_S, failed_runs=900),
            ["failing:people"],
        ),
        # it failed, and now nothing runs at all
        (
            replace(FINE, awaited_s=NOW_S - 9 * DAY_S, failed_runs=9, ended_s=NOW_S - 2 * DAY_S),
            ["failing:people", "silent:people"],
        ),
        # one failure is not told, so its silence is
        (
            replace(FINE, awaited_s=NOW_S - 2 * DAY_S, failed_runs=1),
            ["silent:people"],
        ),
    ],
)
def test_what_is_a_trouble(sync: SyncFacts, expected: list[str]) -> None:
    assert keys(facts(sync)) == expected


def test_syncs_without_a_schedule_are_silent_together() -> None:
    """A timer or cron runs them: one that was run by hand once is no trouble."""
    old = replace(FINE, scheduled=False, success_s=NOW_S - 9 * DAY_S, awaited_s=NOW_S - 9 * DAY_S)
    recent = replace(old, name="shop", success_s=NOW_S - 60, awaited_s=NOW_S - 60)
    assert keys(facts(old, recent)) == []
    assert keys(facts(old, replace(old, name="shop"))) == ["silent:"]
    assert keys(facts(old, replace(FINE, name="shop"))) == []  # where others have a schedule


def test_an_opt_out_that_waits_too_long_is_a_trouble() -> None:
    assert keys(facts(opt_outs=3, opt_outs_since_s=NOW_S - 3600)) == []
    assert keys(facts(opt_outs=3, opt_outs_since_s=NOW_S - 3601)) == ["opt_outs:"]


def test_held_says_it_in_the_guards_words_with_the_command() -> None:
    trip = "120 people would leave the sync; the limit is 10 (max_removals)"
    [one] = alert.troubles(facts(replace(FINE, held_run=7, held=120, trips=(trip,))), LIMITS)
    assert trip in one.text
    assert "syncd approve 7 people" in one.text
    assert "120 people" in one.title


def test_each_change_is_told_once() -> None:
    failing = replace(FINE, failed_runs=2)
    first = told({}, failing)
    assert [one.key for one in first.troubles] == ["failing:people"]
    again = told(dict(first.told), replace(failing, failed_runs=3))
    assert again.empty
    over = told(dict(again.told), FINE)
    assert over.over == ("people does not fail any more",)
    assert told(dict(over.told), FINE).empty


def test_a_quarantine_is_told_when_it_has_doubled_and_does_not_flap() -> None:
    story = []
    known: dict[str, int] = {}
    for count in (9, 10, 9, 11, 19, 20, 39, 40, 12, 5, 4, 9, 10):
        found = told(known, replace(FINE, quarantined=count))
        story.append((count, len(found.troubles), len(found.over)))
        known = dict(found.told)
    assert [(count, begun, over) for count, begun, over in story if begun or over] == [
        (10, 1, 0),
        (20, 1, 0),
        (40, 1, 0),
        (4, 0, 1),
        (10, 1, 0),
    ]


def test_a_state_that_cannot_be_read_ends_no_other_trouble() -> None:
    known = {"failing:people": 1}
    blind = alert.troubles(Facts(NOW_S, state_error="The disk is full"), LIMITS)
    found = alert.news(known, blind, syncs={"people"})
    assert [one.kind for one in found.troubles] == [Kind.STATE]
    assert found.over == ()
    assert found.told == {"failing:people": 1, "state:": 1}


def test_a_sync_that_left_the_configuration_is_not_said_to_be_well() -> None:
    found = alert.news({"failing:gone": 1}, [], syncs={"people"})
    assert found.empty
    assert found.told == {}


def test_many_changes_are_one_message_of_bounded_length() -> None:
    many = tuple(Trouble(Kind.FAILING, f"s{n}", f"s{n} has failed", "x" * 9) for n in range(200))
    title, body = alert.message(News(many, (), {}))
    assert title == "syncd: s0 has failed (and 199 more)"
    assert body.endswith("and 180 more: syncd status")


def test_a_page_of_an_error_is_cut() -> None:
    [one] = alert.troubles(facts(replace(FINE, failed_runs=2, error="x" * 9000)), LIMITS)
    assert len(one.text) < 700


STATES = st.builds(
    replace,
    st.just(FINE),
    failed_runs=st.integers(0, 4),
    held_run=st.sampled_from([None, 3]),
    held=st.integers(0, 40),
    quarantined=st.integers(0, 60),
    awaited_s=st.sampled_from([NOW_S, NOW_S - 2 * DAY_S]),
)


@given(st.lists(STATES, max_size=12))
def test_what_does_not_change_is_never_told_twice(states: list[SyncFacts]) -> None:
    """Whatever happened before, a second look at the same state has nothing to say."""
    known: dict[str, int] = {}
    for state in states:
        known = dict(told(known, state).told)
        assert told(known, state).empty
    end = told(known, FINE)
    assert len(end.over) == len(known)
    assert end.told == {}
