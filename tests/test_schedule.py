"""Durations, schedules and limits: what is written is what is meant, or an error that says what is expected."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.limit import Limit
from syncd.core.schedule import Cron, Every, ScheduleError, parse_duration_s, parse_schedule


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0),
        (0, 0),
        ("90 seconds", 90),
        ("1 second", 1),
        ("2 minutes", 120),
        ("1.5 hours", 5400),
        ("1 day", 86400),
        (" 2 Minutes ", 120),
        ("0 seconds", 0),
    ],
)
def test_duration(written, seconds):
    assert parse_duration_s(written) == seconds


@pytest.mark.parametrize(
    "written",
    ["", "2", 2, True, "-1 day", "2 mintes", "1 month", "367 days", None, "1 day 2 hours"],
)
def test_a_duration_that_cannot_be_read_is_refused(written):
    with pytest.raises(ScheduleError, match="duration"):
        parse_duration_s(written)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("every 15 minutes", 900),
        ("every minute", 60),
        ("every hour", 3600),
        ("every day", 86400),
        ("every 30 seconds", 30),
        ("Every  2  Days", 172800),
    ],
)
def test_interval(written, seconds):
    assert parse_schedule(written) == Every(seconds)


@pytest.mark.parametrize(
    ("written", "crontab"),
    [
        (
            "*/15 7-19 * * 1-5",
            "0,15,30,45 7,8,9,10,11,12,13,14,15,16,17,18,19 * * mon,tue,wed,thu,fri",
        ),
        ("0 6 * * *", "0 6 * * *"),
        ("0 6 * * 0", "0 6 * * sun"),
        ("0 6 * * 7", "0 6 * * sun"),
        ("0 6 * * sat,sun", "0 6 * * sun,sat"),
        ("0 6 1,15 jan-mar *", "0 6 1,15 1,2,3 *"),
        ("0-59 * * * 0-6", "* * * * *"),
        ("05 06 * * */2", "5 6 * * sun,tue,thu,sat"),
    ],
)
def test_cron_fields_keep_their_meaning(written, crontab):
    assert parse_schedule(written) == Cron(written, crontab)


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day of the month"),
        ("* * 32 * *", "day of the month"),
        ("* * * 13 *", "month"),
        ("* * * foo *", "month"),
        ("* * * * 8", "day of the week"),
        ("* * * * mo", "day of the week"),
        ("5/10 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("9-7 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("1-2-3 * * * *", "minute"),
        ("0 0 31 2,4 *", "does not exist"),
        ("* * * *", "five cron fields"),
        ("* * * * * *", "five cron fields"),
        ("hourly", "five cron fields"),
        ("", "five cron fields"),
        ("every", "every N"),
        ("every 5", "every N"),
        ("every five minutes", "every N"),
        ("every 0 minutes", "between one second"),
        ("every 400 days", "between one second"),
    ],
)
def test_a_schedule_that_cannot_be_read_names_its_part(written, part):
    with pytest.raises(ScheduleError, match=part):
        parse_schedule(written)


NUMBERS = st.integers(0, 59)


@given(minute=NUMBERS, step=st.integers(1, 59), weekdays=st.sets(st.integers(0, 7), min_size=1))
def test_the_scheduler_reads_a_cron_form_as_cron_does(minute, step, weekdays):
    """Weekdays count from Sunday, whatever APScheduler counts from, and no step is refused."""
    listed = ",".join(map(str, sorted(weekdays)))
    schedule = parse_schedule(f"{minute} */{min(step, 23)} * * {listed}")
    assert isinstance(schedule, Cron)
    trigger = CronTrigger.from_crontab(schedule.crontab, timezone=UTC)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    fired = trigger.get_next_fire_time(None, start)
    assert fired is not None
    assert fired.minute == minute
    assert fired.hour % min(step, 23) == 0
    assert fired.isoweekday() % 7 in {day % 7 for day in weekdays}


def test_every_weekday_of_a_cron_form_fires():
    schedule = parse_schedule("0 6 * * 1-5")
    assert isinstance(schedule, Cron)
    trigger = CronTrigger.from_crontab(schedule.crontab, timezone=UTC)
    fired = [datetime(2026, 3, 1, tzinfo=UTC)]  # a Sunday
    for _ in range(6):
        next_time = trigger.get_next_fire_time(fired[-1], fired[-1] + timedelta(seconds=1))
        assert next_time is not None
        fired.append(next_time)
    assert [time.isoweekday() for time in fired[1:]] == [1, 2, 3, 4, 5, 1]
    assert all(one < other for one, other in pairwise(fired))


@pytest.mark.parametrize(
    ("written", "limit"),
    [
        (100, Limit(count=100)),
        ("100", Limit(count=100)),
        (0, Limit(count=0)),
        ("10%", Limit(share=0.1)),
        ("2.5 %", Limit(share=0.025)),
        ("0%", Limit(share=0.0)),
        ("100%", Limit(share=1.0)),
    ],
)
def test_limit(written, limit):
    assert Limit.parse(written) == limit
    assert Limit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    "written", [-1, "-1", "ten", True, 1.5, "", "%", "10 percent", "5000%", None, [1], "١"]
)
def test_a_limit_that_cannot_be_read_is_refused(written):
    with pytest.raises(ValueError, match="a number of contacts such as 100"):
        Limit.parse(written)
