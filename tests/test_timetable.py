"""The timetable over a month, through changes of the clocks and clocks that are put right: each moment once, and on time."""

import random
from collections import defaultdict
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from syncd.core.moments import next_cron_s
from syncd.core.schedule import Cron, Every, Schedule, parse_schedule
from syncd.testing.clock import FakeClock
from syncd.timetable import Timetable

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC")
SCHEDULES = (
    *("every 5 minutes", "every 15 minutes", "every 7 minutes", "every hour", "every 1 day"),
    *("*/15 7-19 * * 1-5", "30 2 * * *", "0 8 * * 1-5", "45 1 * * *", "0 */6 * * *"),
    *("0 3 1 * *", "0 0 * * 0", "15 2 * * *"),
)
SYNCS = 200
MONTHS = {  # each change of the clocks of the three zones is in one of them
    "March": datetime(
        2026, 3, 5, tzinfo=UTC
    ),  # New York 8 March, Paris 29 March, Lord Howe 5 April
    "October": datetime(
        2026, 10, 3, tzinfo=UTC
    ),  # Lord Howe 4 October, Paris 25 October, New York 1 November
}
LATE_S_MAX = 90.0


class SteppedClock(FakeClock):
    """A clock that can be put right: the time of the day jumps, what measures durations does not."""

    def __init__(self, start_s: float) -> None:
        super().__init__(start_s)
        self.wrong_s = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.wrong_s


def expected_s(
    schedule: Schedule, zone: str, first_s: float, begins_s: float, ends_s: float
) -> list[float]:
    """All moments in (begins_s, ends_s]."""
    if isinstance(schedule, Every):
        count = int((ends_s - first_s) // schedule.seconds) + 1
        return [first_s + number * schedule.seconds for number in range(count)]
    found, at_s = [], first_s
    while at_s <= ends_s:
        found.append(at_s)
        at_s = next_cron_s(schedule, ZoneInfo(zone), at_s)
    return found


def pass_time(clock: FakeClock, timetable: Timetable, until_s: float) -> dict[str, list[float]]:
    """What fell due when, as a busy machine looks: at the very moment, or late by up to LATE_S_MAX."""
    chance, due = random.Random(8), defaultdict(list)
    while clock.now_s() < until_s:
        next_s = timetable.next_s()
        assert next_s is not None
        late_s = chance.choice((0.0, 60.0, 75.5, LATE_S_MAX))
        clock.advance_s(max(0.0, next_s - clock.now_s()) + late_s)
        for name in timetable.take_due():
            due[name].append(clock.now_s())
    return due


@pytest.mark.parametrize("month", MONTHS)
def test_month_of_200_syncs_misses_doubles_and_drifts_nothing(month: str) -> None:
    begins_s = MONTHS[month].timestamp()
    ends_s = begins_s + 31 * DAY_S
    clock = FakeClock(begins_s)
    timetable = Timetable(clock)
    plans: dict[str, list[float]] = {}
    for number in range(SYNCS):
        text, zone = SCHEDULES[number % len(SCHEDULES)], ZONES[number % len(ZONES)]
        schedule, name = parse_schedule(text), f"sync-{number}"
        first_s = (
            begins_s + number
            if isinstance(schedule, Every)
            else next_cron_s(schedule, ZoneInfo(zone), begins_s)
        )
        timetable.put(name, first_s, schedule, zone=zone)
        plans[name] = expected_s(schedule, zone, first_s, begins_s, ends_s)
    due = pass_time(clock, timetable, ends_s + 2 * MINUTE_S)
    assert sum(map(len, plans.values())) > 300_000
    for name, planned in plans.items():
        ran = due[name][: len(planned)]
        assert len(ran) == len(planned), name
        late_s = [at_s - plan_s for at_s, plan_s in zip(ran, planned, strict=True)]
        # No sooner, and never later than the machine itself was: nothing adds up over the month.
        assert min(late_s) >= 0, name
        assert max(late_s) <= LATE_S_MAX, name


def test_moments_that_passed_unseen_come_once_and_the_schedule_goes_on() -> None:
    """A machine that slept for a week."""
    clock = FakeClock(datetime(2026, 1, 14, 12, tzinfo=UTC).timestamp())
    timetable, began_s = Timetable(clock), clock.now_s()
    timetable.put("often", began_s, Every(15 * MINUTE_S))
    timetable.put("daily", began_s + HOUR_S, parse_schedule("0 13 * * *"))
    assert timetable.take_due() == ["often"]
    clock.advance_s(7 * DAY_S + 100)
    assert sorted(timetable.take_due()) == ["daily", "often"]
    assert timetable.take_due() == []
    assert dict(map(reversed, timetable.outlook())) == {  # type: ignore[arg-type]
        "often": began_s + 7 * DAY_S + 15 * MINUTE_S,
        "daily": began_s + 7 * DAY_S + HOUR_S,
    }


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock(datetime(2026, 1, 14, 12, tzinfo=UTC).timestamp())


def waits_s(timetable: Timetable, clock: FakeClock) -> dict[str, float]:
    return {name: at_s - clock.now_s() for at_s, name in timetable.outlook()}


def test_clock_that_was_a_year_ahead_keeps_nothing_waiting(clock: SteppedClock) -> None:
    clock.wrong_s = 365.0 * DAY_S
    timetable = Timetable(clock)
    timetable.put("often", clock.now_s() + 10 * MINUTE_S, Every(15 * MINUTE_S))
    timetable.put("again", clock.now_s() + MINUTE_S)
    timetable.put("daily", clock.now_s() + HOUR_S, parse_schedule("0 13 * * *"))
    clock.wrong_s = 0.0
    assert timetable.take_due() == []
    assert waits_s(timetable, clock) == {
        "often": 10 * MINUTE_S,
        "again": MINUTE_S,
        "daily": HOUR_S,
    }


def test_clock_that_was_a_year_behind_runs_each_once_and_keeps_to_the_time_of_day(
    clock: SteppedClock,
) -> None:
    clock.wrong_s = -365.0 * DAY_S
    timetable = Timetable(clock)
    timetable.put("often", clock.now_s() + 10 * MINUTE_S, Every(15 * MINUTE_S))
    timetable.put("daily", clock.now_s() + HOUR_S, parse_schedule("0 13 * * *"))
    clock.wrong_s = 0.0
    assert sorted(timetable.take_due()) == ["daily", "often"]
    waits = waits_s(timetable, clock)
    assert waits["daily"] == HOUR_S
    assert 0 < waits["often"] <= 15 * MINUTE_S


@pytest.mark.parametrize("back_s", [2.0, 90.0, 2 * HOUR_S])
def test_clock_put_back_a_little_does_not_run_a_time_of_the_day_again(
    clock: SteppedClock, back_s: float
) -> None:
    timetable = Timetable(clock)
    timetable.put("daily", clock.now_s() + HOUR_S, parse_schedule("0 13 * * *"))
    clock.advance_s(HOUR_S)
    assert timetable.take_due() == ["daily"]
    clock.wrong_s = -back_s
    assert timetable.take_due() == []
    clock.advance_s(back_s + 1)
    assert timetable.take_due() == []
    assert waits_s(timetable, clock)["daily"] == DAY_S - 1


def test_interval_is_as_long_as_it_was_when_the_clock_is_put_back(clock: SteppedClock) -> None:
    timetable = Timetable(clock)
    timetable.put("often", clock.now_s() + 10 * MINUTE_S, Every(15 * MINUTE_S))
    for _ in range(20):  # again and again
        clock.wrong_s -= 50.0
        timetable.take_due()
    assert waits_s(timetable, clock)["often"] == 10 * MINUTE_S


def test_clock_that_is_slowly_put_right_moves_nothing(clock: SteppedClock) -> None:
    """As ntpd does it: each look sees less than a second of it."""
    timetable = Timetable(clock)
    timetable.put("often", clock.now_s() + 15 * MINUTE_S, Every(15 * MINUTE_S))
    next_s = timetable.outlook()[0][0]
    for _ in range(100):
        clock.wrong_s -= 0.5
        timetable.take_due()
    assert timetable.outlook()[0][0] == next_s


def test_what_is_due_once_comes_once(clock: SteppedClock) -> None:
    timetable = Timetable(clock)
    timetable.put("again", clock.now_s() + MINUTE_S)
    timetable.put("again", clock.now_s() + 2 * MINUTE_S)  # said anew: that counts
    clock.advance_s(MINUTE_S)
    assert timetable.take_due() == []
    clock.advance_s(MINUTE_S)
    assert timetable.take_due() == ["again"]
    clock.advance_s(DAY_S)
    assert timetable.take_due() == []


def test_what_is_put_off_keeps_to_the_hours_of_its_schedule(clock: SteppedClock) -> None:
    """A cron expression may say when people are mailed at all."""
    timetable = Timetable(clock)
    clock.advance_s(7.5 * HOUR_S)  # half past seven in the evening
    begin_s = clock.now_s()
    office, interval = parse_schedule("*/5 7-19 * * *"), parse_schedule("every 5 minutes")
    for name, schedule in (("office", office), ("interval", interval)):
        timetable.put(name, begin_s + 5 * MINUTE_S, schedule)
        assert timetable.put_off(name, begin_s + HOUR_S)
        assert not timetable.put_off(name, begin_s + 30 * MINUTE_S)
    due = {name: at_s for at_s, name in timetable.outlook()}
    assert due["interval"] == begin_s + HOUR_S
    assert due["office"] == next_cron_s(office, ZoneInfo("UTC"), begin_s + HOUR_S)
    assert datetime.fromtimestamp(due["office"], UTC).hour == 7
    assert not timetable.put_off("nobody", begin_s + DAY_S)


def test_interval_is_kept_across_a_change_of_the_clocks() -> None:
    clock = FakeClock(datetime(2026, 3, 29, 0, 45, tzinfo=UTC).timestamp())
    timetable = Timetable(clock)
    timetable.put("often", clock.now_s(), Every(30 * MINUTE_S), zone="Europe/Paris")
    timetable.take_due()
    assert waits_s(timetable, clock) == {"often": 30 * MINUTE_S}


def test_schedules_of_the_month_are_of_both_kinds() -> None:
    """What the month is made of, so that a change of the list cannot empty the test."""
    kinds = {type(parse_schedule(text)) for text in SCHEDULES}
    assert kinds == {Every, Cron}
