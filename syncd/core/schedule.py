"""Durations and schedules, as they are written: "2 minutes", "every 15 minutes", "*/15 7-19 * *
1-5".

It only reads them; when a sync is due is the daemon's business.
"""

import re
from dataclasses import dataclass
from datetime import date

UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
DURATION_S_MAX = 366 * 86400  # a year: longer is a slip of the keyboard

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?) *(second|minute|hour|day)s?")
_EVERY = re.compile(r"every +(?:([0-9]+) +)?(second|minute|hour|day)s?")
_STEP = re.compile(r"(\*|[0-9a-z]+(?:-[0-9a-z]+)?)(?:/([0-9]+))?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class ScheduleError(ValueError):
    """A schedule or duration that cannot be read; the text says which part and what is expected."""


@dataclass(frozen=True, slots=True)
class Every:
    """A fixed interval, at least one second."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields: minute, hour, day of the month, month, day of the week. text: as written.

    The numbers of each are in order; weekdays are 0-6 from Sunday.
    """

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]

    @property
    def all_the_time(self) -> bool:
        """Whether it has no time of day: a star in minute or hour."""
        minute, hour, *_ = self.text.split()
        return minute.startswith("*") or hour.startswith("*")

    def meets(self, day: date) -> bool:
        """Whether it runs on this day."""
        if day.month not in self.months:
            return False
        fits = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        _, _, days, _, weekdays = self.text.split()
        if days.startswith("*") or weekdays.startswith("*"):
            return all(fits)
        # crontab(5): where day of the month and weekday are both restricted, one of them is enough
        return any(fits)


Schedule = Every | Cron


def parse_duration_s(written: object) -> float:
    """Seconds of "2 minutes", "1.5 hours", "0". Raises ScheduleError."""
    text = str(written).strip().lower() if isinstance(written, int | float | str) else ""
    if text in {"0", "0.0"}:
        return 0.0
    match = _DURATION.fullmatch(text)
    if not match:
        raise ScheduleError('a duration such as "90 seconds", "2 minutes" or "1 day" expected')
    seconds = float(match[1]) * UNITS_S[match[2]]
    if seconds > DURATION_S_MAX:
        raise ScheduleError("a duration of at most a year expected")
    return seconds


def parse_schedule(text: str) -> Schedule:
    """Read "every N seconds|minutes|hours|days", "every hour", or five cron fields. Raises
    ScheduleError.
    """
    words = text.strip().lower()
    if words.startswith("every"):
        match = _EVERY.fullmatch(words)
        if not match:
            raise ScheduleError('"every N seconds", "minutes", "hours" or "days" expected')
        seconds = int(match[1] or 1) * UNITS_S[match[2]]
        if not 1 <= seconds <= DURATION_S_MAX:
            raise ScheduleError("an interval between one second and a year expected")
        return Every(seconds)
    fields = words.split()
    if len(fields) != 5:
        raise ScheduleError(
            '"every N minutes" (seconds, hours, days) or five cron fields (minute hour day month weekday) expected'
        )
    minute, hour, day, month, weekday = fields
    minutes = _numbers(minute, "minute", 0, 59)
    hours = _numbers(hour, "hour", 0, 23)
    days = _numbers(day, "day of the month", 1, 31)
    months = _numbers(month, "month", 1, 12, names=_MONTHS, names_from=1)
    weekdays = {n % 7 for n in _numbers(weekday, "day of the week", 0, 7, names=_WEEKDAYS)}
    if min(days) > max(_MONTH_DAYS[n - 1] for n in months):
        raise ScheduleError(f'the day of the month "{day}" does not exist in the month "{month}"')
    return Cron(
        text=text.strip(),
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(weekdays),
    )


def _numbers(
    field: str, name: str, low: int, high: int, *, names: tuple[str, ...] = (), names_from: int = 0
) -> set[int]:
    """The numbers that one cron field stands for."""
    expected = f"cron field {name}: * or numbers {low}-{high}" + (
        f" or {names[0]}-{names[-1]}" if names else ""
    )
    found: set[int] = set()
    for part in field.split(","):
        match = _STEP.fullmatch(part)
        if not match:
            raise ScheduleError(f'{expected}, with "," "-" "/", expected, not "{field}"')
        span, step = match[1], int(match[2] or 1)
        ends = [str(low), str(high)] if span == "*" else span.split("-")
        bounds = [
            names.index(end) + names_from if end in names else int(end) if end.isdigit() else -1
            for end in ends
        ]
        first, last = bounds[0], bounds[-1]
        if match[2] and len(ends) == 1:
            raise ScheduleError(f'{expected}: a step needs a range, as in "*/{step}", not "{part}"')
        if not low <= first <= last <= high or not 1 <= step <= high:
            raise ScheduleError(f'{expected} expected, not "{part}"')
        found.update(range(first, last + 1, step))
    return found
