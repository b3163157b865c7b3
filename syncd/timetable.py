"""When each sync is due, by a clock that is given: the moments of its schedule, each of them once.

Where a schedule starts first is decided in `syncd.core.due`, when a cron expression comes next in `syncd.core.moments`.
"""

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import assert_never
from zoneinfo import ZoneInfo

import structlog
from apscheduler.job import Job
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger

from syncd.clock import Clock
from syncd.config_models import Settings, SyncSettings
from syncd.core.due import first_start_s, rest_s
from syncd.core.moments import next_cron_s
from syncd.core.schedule import Cron, Every, Schedule
from syncd.state.store import open_for_reading
from syncd.state.story import SyncNow, sync_now

CLOCK_CHANGED = "clock.changed"  # the machine's clock was put right by so many seconds
MOMENT_S = 0.001  # less than there is between two moments
STEP_S_MIN = 1.0  # less is how a clock is usually corrected
# As cron does: a clock that is put back by less does not run a time of the day again that has been.
REPEAT_S_MIN = 3 * 3600.0

log = structlog.get_logger(__name__)


class _Jobs(BaseScheduler):  # type: ignore[misc]
    """APScheduler's jobs without its thread, which goes by the machine's clock and sleeps as long as that was put back."""

    def wakeup(self) -> None:
        """Nothing sleeps here."""

    def shutdown(self, wait: bool = True) -> None:  # noqa: FBT001, FBT002 - APScheduler's own form
        """Nothing runs here."""


class _Moments(BaseTrigger):  # type: ignore[misc]
    """The moments of a schedule. APScheduler's own run a time of day twice in autumn, or lose one in spring."""

    def __init__(self, schedule: Schedule, zone: ZoneInfo) -> None:
        self.schedule, self.zone = schedule, zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The first that is later than `now`; of an interval, counted from the last one."""
        match self.schedule:
            case Every(seconds):
                last = previous_fire_time or now
                return last + ((now - last) // timedelta(seconds=seconds) + 1) * timedelta(
                    seconds=seconds
                )
            case Cron():
                return _moment(next_cron_s(self.schedule, self.zone, now.timestamp()))
            case _:
                assert_never(self.schedule)


class Timetable:
    """Names, and when each of them is due next; safe to use from several threads. Times are epoch seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._jobs, self._store = _Jobs(timezone=UTC), MemoryJobStore()
        self._jobs.add_jobstore(self._store)
        self._jobs.start(paused=True)
        self._ahead_s = self._clock.now_s() - self._clock.monotonic_s()

    def put(
        self, name: str, first_s: float, schedule: Schedule | None = None, *, zone: str = "UTC"
    ) -> None:
        """`name` is due at `first_s`, and then by its schedule; instead of what was said of it before."""
        first = _moment(first_s)
        trigger = DateTrigger(first) if schedule is None else _Moments(schedule, ZoneInfo(zone))
        with self._lock:
            self._jobs.add_job(
                self.take_due, trigger, id=name, next_run_time=first, replace_existing=True
            )

    def drop(self, name: str) -> None:
        """It is not due any more; nothing, if it was not."""
        with self._lock:
            if self._jobs.get_job(name):
                self._jobs.remove_job(name)

    def put_off(self, name: str, until_s: float) -> bool:
        """Let no moment of its schedule before `until_s` count. Returns whether it is due later than it was."""
        with self._lock:
            job = self._jobs.get_job(name)
            if job is None or job.next_run_time >= _moment(until_s):
                return False
            moments = job.trigger
            if isinstance(moments, _Moments):
                until_s = not_before_s(moments.schedule, moments.zone, until_s)
            self._put_off(job, _moment(until_s))
        return True

    def clear(self) -> None:
        """Nothing is due any more."""
        with self._lock:
            self._jobs.remove_all_jobs()

    def take_due(self) -> list[str]:
        """What is due by now, in the order of its moments; however many of its moments passed, each name once."""
        with self._lock:
            self._heed_clock()
            now = _moment(self._clock.now_s())
            due = self._store.get_due_jobs(now)
            for job in due:
                self._put_off(job, job.trigger.get_next_fire_time(job.next_run_time, now))
        return [job.id for job in due]

    def next_s(self) -> float | None:
        """When the next is due; None: nothing is."""
        with self._lock:
            at = self._store.get_next_run_time()
        return None if at is None else at.timestamp()

    def outlook(self) -> list[tuple[float, str]]:
        """What comes next, and when; the soonest first."""
        with self._lock:
            return [(job.next_run_time.timestamp(), job.id) for job in self._jobs.get_jobs()]

    def _put_off(self, job: Job, until: datetime | None) -> None:
        if until is None:
            job.remove()
        else:
            job.modify(next_run_time=until)

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
        for job in self._jobs.get_jobs():
            of_cron = isinstance(job.trigger, _Moments) and isinstance(job.trigger.schedule, Cron)
            if not of_cron:  # as long from now as it was
                self._put_off(job, job.next_run_time + timedelta(seconds=by_s))
            elif by_s <= -REPEAT_S_MIN:
                self._put_off(
                    job, job.trigger.get_next_fire_time(None, _moment(self._clock.now_s()))
                )


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)


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


def not_before_s(schedule: Schedule, zone: ZoneInfo, until_s: float) -> float:
    """When it starts that may not start before `until_s`: an interval then, a cron expression at its first moment from then on."""
    return (
        until_s if isinstance(schedule, Every) else next_cron_s(schedule, zone, until_s - MOMENT_S)
    )


def rests_until_s(standing: SyncNow) -> float:
    """Until when a sync that keeps failing is left alone; 0.0 where nothing is in its way."""
    if standing.last is None or standing.last.ended_s is None:
        return 0.0
    rest = rest_s(standing.failures)
    return standing.last.ended_s + rest if rest else 0.0


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
