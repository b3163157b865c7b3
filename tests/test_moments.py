"""When a cron expression comes, also where the clocks change: compared with a walk over every minute."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.moments import next_cron_s
from syncd.core.schedule import Cron, parse_schedule

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
PARIS, NEW_YORK, LORD_HOWE = "Europe/Paris", "America/New_York", "Australia/Lord_Howe"
CHANGES = {  # the noon (UTC) before each change of the clocks of 2026
    PARIS: ((3, 28), (10, 24)),
    NEW_YORK: ((3, 7), (10, 31)),
    LORD_HOWE: ((10, 3), (4, 4)),  # by half an hour
}


def cron(text: str) -> Cron:
    schedule = parse_schedule(text)
    assert isinstance(schedule, Cron)
    return schedule


def moments(text: str, zone: str, after: datetime, count: int) -> list[str]:
    """The next moments of a cron expression, in UTC."""
    schedule, at_s, found = cron(text), after.timestamp(), []
    for _ in range(count):
        at_s = next_cron_s(schedule, ZoneInfo(zone), at_s)
        found.append(datetime.fromtimestamp(at_s, UTC).strftime("%a %d %b %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 8 * * 1-5", ["Fri 16 Jan 08:00", "Mon 19 Jan 08:00"]),  # 1 is Monday, as in crontab(5)
        ("0 8 * * 0", ["Sun 18 Jan 08:00", "Sun 25 Jan 08:00"]),
        ("0 8 * * 7", ["Sun 18 Jan 08:00", "Sun 25 Jan 08:00"]),
        ("0 8 * * sat,sun", ["Sat 17 Jan 08:00", "Sun 18 Jan 08:00"]),
        ("0 8 20 * *", ["Tue 20 Jan 08:00", "Fri 20 Feb 08:00"]),
        ("0 8 20 * 6", ["Sat 17 Jan 08:00", "Tue 20 Jan 08:00"]),  # the 20th, and each Saturday
        ("0 8 */10 * 6", ["Sat 31 Jan 08:00", "Sat 21 Feb 08:00"]),  # with a star: both
        ("*/25 8 * * *", ["Fri 16 Jan 08:00", "Fri 16 Jan 08:25"]),
        ("0 0 29 2 *", ["Tue 29 Feb 00:00", "Sun 29 Feb 00:00"]),
        ("59 23 31 12 *", ["Thu 31 Dec 23:59", "Fri 31 Dec 23:59"]),
    ],
)
def test_cron_means_what_crontab_means(text: str, expected: list[str]) -> None:
    assert moments(text, "UTC", datetime(2026, 1, 15, 12, 0, tzinfo=UTC), 2) == expected


def test_29_february_comes_also_after_a_century_without_one() -> None:
    after = datetime(2096, 3, 1, tzinfo=UTC)
    at_s = next_cron_s(cron("0 0 29 2 *"), ZoneInfo("UTC"), after.timestamp())
    assert datetime.fromtimestamp(at_s, UTC).year == 2104


@pytest.mark.parametrize(
    ("zone", "text", "expected"),
    [
        # 29 March, 02:00 -> 03:00: 02:30 does not exist, and comes an hour later by the clock on the wall
        (PARIS, "30 2 * * *", ["Sun 29 Mar 01:30", "Mon 30 Mar 00:30"]),
        (PARIS, "0 2,3 * * *", ["Sun 29 Mar 01:00", "Mon 30 Mar 00:00"]),  # not at 03:00 twice
        (PARIS, "0 8 * * *", ["Sun 29 Mar 06:00", "Mon 30 Mar 06:00"]),  # for the people there
        (NEW_YORK, "30 2 * * *", ["Sun 08 Mar 07:30", "Mon 09 Mar 06:30"]),
        (LORD_HOWE, "15 2 * * *", ["Sat 03 Oct 15:45", "Sun 04 Oct 15:15"]),  # 02:00 -> 02:30
    ],
)
def test_time_that_does_not_exist_comes_once_and_later(
    zone: str, text: str, expected: list[str]
) -> None:
    noon = datetime(2026, *CHANGES[zone][0], 12, tzinfo=UTC)
    assert moments(text, zone, noon, 2) == expected


@pytest.mark.parametrize(
    ("zone", "text", "expected"),
    [
        # 25 October, 03:00 -> 02:00: a time of the day is used once, the first time
        (PARIS, "30 2 * * *", ["Sun 25 Oct 00:30", "Mon 26 Oct 01:30"]),
        (NEW_YORK, "30 1 * * *", ["Sun 01 Nov 05:30", "Mon 02 Nov 06:30"]),
        (LORD_HOWE, "45 1 * * *", ["Sat 04 Apr 14:45", "Sun 05 Apr 15:15"]),  # 02:00 -> 01:30
    ],
)
def test_time_that_exists_twice_comes_once(zone: str, text: str, expected: list[str]) -> None:
    noon = datetime(2026, *CHANGES[zone][1], 12, tzinfo=UTC)
    assert moments(text, zone, noon, 2) == expected


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("change", [0, 1])
def test_what_runs_all_the_time_goes_on_at_its_pace(zone: str, change: int) -> None:
    """Every quarter of an hour, through both changes: 96 times a day of 24 real hours."""
    at_s = datetime(2026, *CHANGES[zone][change], 12, tzinfo=UTC).timestamp()
    schedule = cron("*/15 * * * *")
    for _ in range(96):
        later_s = next_cron_s(schedule, ZoneInfo(zone), at_s)
        assert later_s - at_s == 15 * MINUTE_S
        at_s = later_s


def walked(schedule: Cron, zone: str, begins_s: float, ends_s: float) -> list[float]:
    """Every moment, found minute by minute by the clock on the wall."""
    found: set[float] = set()
    at_s, before = begins_s, datetime.fromtimestamp(begins_s - MINUTE_S, ZoneInfo(zone))
    while at_s < ends_s:
        wall = datetime.fromtimestamp(at_s, ZoneInfo(zone))
        gap = (wall.utcoffset() or timedelta()) - (before.utcoffset() or timedelta())
        if fits(schedule, wall) and (schedule.all_the_time or not wall.fold):
            found.add(at_s)
        if gap > timedelta() and not schedule.all_the_time:
            left_out = wall.replace(tzinfo=None) - gap
            for minute in range(int(gap / timedelta(minutes=1))):
                if fits(schedule, left_out + timedelta(minutes=minute)):
                    found.add(at_s + minute * MINUTE_S)
        at_s, before = at_s + MINUTE_S, wall
    return sorted(found)


def fits(schedule: Cron, wall: datetime) -> bool:
    return (
        wall.minute in schedule.minutes
        and wall.hour in schedule.hours
        and schedule.meets(wall.date())
    )


NIGHT = st.sampled_from(["0", "1", "2", "3", "1,2", "2,3", "1-3", "*", "*/2", "0,23"])
MINUTES = st.sampled_from(["0", "15", "30", "59", "0,30", "*/20", "*", "29,30,31"])


@given(
    zone=st.sampled_from([PARIS, NEW_YORK, LORD_HOWE, "UTC", "America/Santiago", "Asia/Beirut"]),
    change=st.sampled_from([*(day for days in CHANGES.values() for day in days), (3, 29), (9, 5)]),
    minute=MINUTES,
    hour=NIGHT,
)
def test_next_moment_is_that_of_a_walk_over_every_minute(
    zone: str, change: tuple[int, int], minute: str, hour: str
) -> None:
    """From wherever one asks: a daemon that comes up in the very hour that is left out misses nothing either.

    Santiago and Beirut change at midnight.
    """
    begins_s = datetime(2026, *change, 0, tzinfo=UTC).timestamp()
    schedule = cron(f"{minute} {hour} * * *")
    expected = walked(schedule, zone, begins_s, begins_s + 3 * DAY_S)
    for after_s in range(int(begins_s), int(begins_s) + 2 * DAY_S, 13 * MINUTE_S + 7):
        first = next((at_s for at_s in expected if at_s > after_s), None)
        assert next_cron_s(schedule, ZoneInfo(zone), after_s) == first
