"""When each sync is due, by a clock that is given: the moments of its schedule, each of them once.

Where a schedule starts first is decided in `syncd.core.due`, when a cron expression comes next in `syncd.core.moments`.
"""

import threading
from contextlib import closing
from dataclasses import dataclass
from typing import assert_never
from zoneinfo import ZoneInfo

import structlog

from syncd.clock import Clock
from syncd.config_models import Settings, SyncSettings
from syncd.core.due import first_start_s
from syncd.core.moments import next_cron_s
from syncd.core.schedule import Cron, Every, Schedule
from syncd.state.store import open_for_reading
from syncd.state.story import sync_now

CLOCK_CHANGED = "clock.changed"  # the machine's clock was put right by so many seconds
STEP_S_MIN = 1.0  # less is how a clock is usually corrected
# As cron does: a clock that is put back by less does not run a time of the day again that has been.
REPEAT_S_MIN = 3 * 3600.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Entry:
    """One name. schedule: None: it is due once."""

    next_s: float
    schedule: Schedule | None
    zone: ZoneInfo


class Timetable:
    """Names, and when each of them is due next; safe to use from several threads. Times are epoch seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._ahead_s = self._clock.now_s() - self._clock.monotonic_s()

    def put(
        self, name: str, first_s: float, schedule: Schedule | None = None, *, zone: str = "UTC"
    ) -> None:
        """`name` is due at `first_s`, and then by its schedule; instead of what was said of it before."""
        with self._lock:
            self._entries[name] = _Entry(first_s, schedule, ZoneInfo(zone))

    def drop(self, name: str) -> None:
        """It is not due any more; nothing, if it was not."""
        with self._lock:
            self._entries.pop(name, None)

    def clear(self) -> None:
        """Nothing is due any more."""
        with self._lock:
            self._entries.clear()

    def take_due(self) -> list[str]:
        """What is due by now, in the order of its moments; however many of its moments passed, each name once."""
        with self._lock:
            self._heed_clock()
            now_s = self._clock.now_s()
            due = sorted((e.next_s, name) for name, e in self._entries.items() if e.next_s <= now_s)
            for _, name in due:
                entry = self._entries[name]
                if entry.schedule is None:
                    del self._entries[name]
                else:
                    entry.next_s = _later_s(entry, entry.schedule, now_s)
        return [name for _, name in due]

    def outlook(self) -> list[tuple[float, str]]:
        """What comes next, and when; the soonest first."""
        with self._lock:
            return sorted((entry.next_s, name) for name, entry in self._entries.items())

    def _heed_clock(self) -> None:
        """A clock that was put back must not keep everything waiting until it is there again.

        Put forward, or woken from sleep, it needs no care: what is due by then is due once.
        """
        ahead_s = self._clock.now_s() - self._clock.monotonic_s()
        by_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(by_s) >= STEP_S_MIN:
            log.info(CLOCK_CHANGED, seconds=round(by_s))
        if by_s > -STEP_S_MIN:
            return
        for entry in self._entries.values():
            match entry.schedule:
                case Every() | None:  # as long from now as it was
                    entry.next_s += by_s
                case Cron() if by_s <= -REPEAT_S_MIN:
                    entry.next_s = next_cron_s(entry.schedule, entry.zone, self._clock.now_s())
                case Cron():
                    pass
                case _:
                    assert_never(entry.schedule)


def _later_s(entry: _Entry, schedule: Schedule, now_s: float) -> float:
    """The first moment of its schedule that is later than `now_s`; of an interval, counted from the last one."""
    if isinstance(schedule, Every):
        passed = (now_s - entry.next_s) // schedule.seconds
        return entry.next_s + (passed + 1) * schedule.seconds
    return next_cron_s(schedule, entry.zone, now_s)


def next_start_s(sync: SyncSettings, *, completed_s: float | None, now_s: float) -> float | None:
    """When a daemon that comes up now would start this sync; None: it is run by hand only."""
    if sync.schedule is None:
        return None
    zone = ZoneInfo(sync.timezone)
    return first_start_s(
        sync.schedule,
        completed_s=completed_s,
        now_s=now_s,
        next_s=lambda cron, after_s: next_cron_s(cron, zone, after_s),
    )


def first_starts(settings: Settings, *, clock: Clock) -> dict[str, float]:
    """Name -> first start of each sync that has a schedule, in file order. Raises StateError."""
    completed: dict[str, float | None] = {}
    if db := open_for_reading(settings.state.path):  # None: nothing has run yet
        with closing(db):
            completed = {name: sync_now(db, name).completed_s for name in settings.syncs}
    starts = {
        name: next_start_s(sync, completed_s=completed.get(name), now_s=clock.now_s())
        for name, sync in settings.syncs.items()
    }
    return {name: start_s for name, start_s in starts.items() if start_s is not None}
