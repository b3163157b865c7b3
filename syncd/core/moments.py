"""The moments of a cron expression, in the time of a zone, also where its clocks change.

It goes as with cron itself. What runs all the time ("*" in minute or hour) runs whenever the clock on the wall says so: an hour that
comes twice is used twice, one that is left out is not used. What has its time of day runs once a day: the first time where
that time comes twice, and where it does not come, as much later as the clocks went forward.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from syncd.core.schedule import Cron

DAYS_MAX = 9 * 366  # until the next 29 February at most: 1896 to 1904, and 2096 to 2104


def next_cron_s(cron: Cron, zone: ZoneInfo, after_s: float) -> float:
    """The first moment that is later than `after_s`; epoch seconds."""
    # From the day before: what was left out just before midnight comes after it.
    first = datetime.fromtimestamp(after_s, zone).date() - timedelta(days=1)
    for number in range(DAYS_MAX):
        day = first + timedelta(days=number)
        if cron.meets(day) and _ends_s(day, zone, hour=23) > after_s:
            found = _first_of_day(cron, zone, day, after_s)
            if found is not None:
                return found
    raise AssertionError("the configuration refuses dates that never come")


def _first_of_day(cron: Cron, zone: ZoneInfo, day: date, after_s: float) -> float | None:
    best: float | None = None
    for hour in cron.hours:
        begins = datetime(day.year, day.month, day.day, hour, tzinfo=zone)
        if _ends_s(day, zone, hour=hour) <= after_s:
            continue
        if best is not None and best < begins.timestamp():
            break  # what was left out an hour ago may come later than this hour, never earlier than itself
        later = [at_s for at_s in _of_hour(cron, begins) if at_s > after_s]
        best = min([*later, *([best] if best is not None else [])], default=None)
    return best


def _ends_s(day: date, zone: ZoneInfo, *, hour: int) -> float:
    """The last minute of an hour, the second time where it comes twice."""
    last = datetime(day.year, day.month, day.day, hour, 59, tzinfo=zone)
    return max(last.timestamp(), last.replace(fold=1).timestamp())


def _of_hour(cron: Cron, begins: datetime) -> Iterator[float]:
    for minute in cron.minutes:
        wall = begins.replace(minute=minute)
        at_s = wall.timestamp()
        exists = _same_wall(wall, at_s)
        if exists or not cron.all_the_time:
            yield at_s  # of a time that does not exist: by the offset of before, so as much later
        again_s = wall.replace(fold=1).timestamp()
        if exists and again_s != at_s and cron.all_the_time:
            yield again_s


def _same_wall(wall: datetime, at_s: float) -> bool:
    there = datetime.fromtimestamp(at_s, UTC).astimezone(wall.tzinfo)
    return there.replace(tzinfo=None) == wall.replace(tzinfo=None)
