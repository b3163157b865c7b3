"""Durations, schedules and limits: what is written is what is meant, or an error that says what is expected."""

import pytest

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


def cron(written: str) -> Cron:
    schedule = parse_schedule(written)
    assert isinstance(schedule, Cron)
    return schedule


@pytest.mark.parametrize(
    ("written", "field", "numbers"),
    [
        ("*/15 7-19 * * 1-5", "minutes", {0, 15, 30, 45}),
        ("*/15 7-19 * * 1-5", "hours", set(range(7, 20))),
        ("*/15 7-19 * * 1-5", "weekdays", {1, 2, 3, 4, 5}),
        ("05 06 * * *", "minutes", {5}),
        ("0 6 * * 0", "weekdays", {0}),
        ("0 6 * * 7", "weekdays", {0}),
        ("0 6 * * sat,sun", "weekdays", {0, 6}),
        ("0 6 * * */2", "weekdays", {0, 2, 4, 6}),
        ("0 6 1,15 jan-mar *", "days", {1, 15}),
        ("0 6 1,15 jan-mar *", "months", {1, 2, 3}),
        ("0-59 * * * 0-6", "minutes", set(range(60))),
        ("0-59 * * * 0-6", "weekdays", set(range(7))),
    ],
)
def test_cron_fields_keep_their_meaning(written, field, numbers):
    assert set(getattr(cron(written), field)) == numbers


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
