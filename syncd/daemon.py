"""The daemon: runs each sync on its schedule until it is told to stop.

Three threads: the main one waits for signals and feeds the watchdog, APScheduler's says what is
due, and the worker does one run after the other; a fourth listens where `[http]` is configured. What
a run does, and what a crash leaves, is `syncd.run`'s business; when a sync starts first is decided in
`syncd.core.due`.
"""

import os
import queue
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from traceback import extract_tb
from typing import NoReturn
from zoneinfo import ZoneInfo

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from syncd import config, run, statistics
from syncd.check import client
from syncd.clock import Clock
from syncd.config_models import Settings, SyncSettings
from syncd.core.due import first_start_s
from syncd.core.result import Status, SyncResult
from syncd.core.schedule import Cron, Every, Schedule
from syncd.errors import ConfigError, Interrupted, StateBusy, StateError, SyncdError
from syncd.log import ERROR_UNEXPECTED
from syncd.notify import Notifier
from syncd.state.store import change, open_for_reading
from syncd.state.story import sync_now

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SIGNALS_MAX = 64  # taken at once; more of them mean the same
TICK_S = 1.0  # how often the main thread looks up when no signal comes
GATHER_S = 0.2  # syncs that fall due in one moment become one run
BUSY_AGAIN_S = 60.0  # another process holds the state: a run of the command takes about that long
STOP_S_MAX = 3.0  # for the request under way; below what any supervisor grants (Docker: 10 s)
LATE_S_MAX = 60.0  # a scheduler that is later than this does not work any more
WHOLE_S = 86400.0  # where deletes wait, a run of all syncs is made this often
FEED_S = 1.0  # the watchdog hears of progress at most this often
BUG_FRAMES = 8  # the last places of a bug, in the log
EVENTS = (
    ":events"  # in the queue of what is due: the inbox has something; no name of a sync has a colon
)
STATISTICS = ":statistics"  # likewise: whether those of today are kept is looked at
STATISTICS_S = 3600.0
RETRY_JOB = "again:"  # the prefix of the one-off jobs; no name of a sync has a colon

# The events of its log.
CONFIG_REFUSED = "config.refused"
CONFIG_RELOADED = "config.reloaded"
CONFIG_WAITS = "config.waits"
DAEMON_STARTED = "daemon.started"
DAEMON_STOPPED = "daemon.stopped"
EVENTS_POSTPONED = "events.postponed"
LISTENER_STARTED = "listener.started"
RUN_FAILED = "run.failed"
RUN_INTERRUPTED = "run.interrupted"
RUN_POSTPONED = "run.postponed"
RUN_STARTED = "run.started"
SYNC_COMPLETED = "sync.completed"
SYNC_SKIPPED = "sync.skipped"

log = structlog.get_logger("syncd.daemon")


def serve(path: Path | None, *, clock: Clock) -> int:
    """Run every sync on its schedule until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Call it in the main thread. Returns 0; raises ConfigError or StateError when it cannot start. A
    request that does not end within STOP_S_MAX of the signal is left behind, recorded as in flight:
    the process then ends here, because the request's thread would keep it.
    """
    with _signals() as wait:
        daemon = Daemon(path, clock=clock, notifier=Notifier())
        with daemon.listening():
            daemon.start()
            while not clock.stopped():
                received = wait(TICK_S)
                if received & {signal.SIGTERM, signal.SIGINT}:
                    clock.stop()
                elif signal.SIGHUP in received:
                    daemon.reload()
                else:
                    daemon.tick()
            ended = daemon.stop()
        if not ended:
            _leave()
    return 0


class Daemon:
    """The schedule, the worker, and what both of them know."""

    def __init__(self, path: Path | None, *, clock: Clock, notifier: Notifier) -> None:
        """Reads the configuration and the state. Raises ConfigError, StateError."""
        self._path, self._clock, self._notifier = path, clock, notifier
        self._settings = config.load(path)
        self._firsts = first_starts(self._settings, clock=clock)
        self._listens = (self._settings.http, self._settings.webhooks)
        self._scheduler = BackgroundScheduler(timezone=UTC)
        self._due: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running: tuple[str, ...] = ()
        self._whole_s: float | None = None  # when this process last ended a run of all syncs
        self._worker = threading.Thread(target=self._work, name="runs", daemon=True)
        self._pulse = Pulse(clock=clock, notifier=notifier)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Answer HTTP while the block lasts, where the configuration says so. Raises UsageError when the address is taken."""
        http = self._settings.http
        if http is None:
            yield
            return
        from syncd.web.app import serving

        with serving(
            self._settings.webhooks,
            self._settings.state.path,
            http.listen,
            clock=self._clock,
            on_news=partial(self._due.put, EVENTS),
        ) as (host, port):
            log.info(LISTENER_STARTED, host=host, port=port)
            yield

    def start(self) -> None:
        """Schedule everything and tell the service manager."""
        self._schedule()
        self._scheduler.start()
        self._worker.start()
        log.info(DAEMON_STARTED, syncs=list(self._firsts), by_hand=self._by_hand())
        self._notifier.ready()
        self._notifier.status(self._outlook())

    def tick(self) -> None:
        """While nothing runs, being on time is the progress that the watchdog waits for."""
        # The scheduler sleeps by a clock that stands still while a machine is suspended.
        self._scheduler.wakeup()
        if self._worker.is_alive() and not self._running and self._on_time():
            self._pulse.feed()

    def reload(self) -> None:
        """Take over a changed configuration; keep the old one when it is wrong. A run goes on."""
        self._notifier.reloading(monotonic_s=self._clock.monotonic_s())
        try:
            settings = config.load(self._path)
            firsts = first_starts(settings, clock=self._clock)
        except SyncdError as error:
            # No traceback: an error of ours explains itself.
            log.error(CONFIG_REFUSED, error=str(error), kept="the old one")  # noqa: TRY400
        else:
            self._settings, self._firsts = settings, firsts
            self._schedule()
            log.info(CONFIG_RELOADED, syncs=list(firsts), by_hand=self._by_hand())
            if (settings.http, settings.webhooks) != self._listens:
                log.warning(CONFIG_WAITS, why="[http] and [webhooks] take effect with a restart")
        self._notifier.ready()
        self._notifier.status(self._outlook())

    def stop(self) -> bool:
        """Wait for the run under way, not for long. Returns whether everything has ended."""
        self._notifier.stopping()
        self._scheduler.shutdown(wait=False)
        self._due.put("")  # wakes the worker
        self._worker.join(timeout=STOP_S_MAX)
        ended = not self._worker.is_alive()
        log.info(DAEMON_STOPPED, left_in_flight=not ended)
        return ended

    def _schedule(self) -> None:
        """Replace all jobs by those of the settings."""
        self._scheduler.remove_all_jobs()
        for name, first_s in self._firsts.items():
            sync = self._settings.syncs[name]
            assert sync.schedule is not None
            first = datetime.fromtimestamp(first_s, UTC)
            self._scheduler.add_job(
                self._fall_due,
                trigger(sync.schedule, zone=ZoneInfo(sync.timezone), first=first),
                args=[name],
                id=name,
                next_run_time=first,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )
        self._scheduler.add_job(
            self._due.put,
            IntervalTrigger(seconds=STATISTICS_S, timezone=UTC),
            args=[STATISTICS],
            id=STATISTICS,
            next_run_time=datetime.fromtimestamp(self._clock.now_s(), UTC),
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def _fall_due(self, name: str) -> None:
        # As with a timer of systemd: what still runs when it falls due again is not started twice.
        if name in self._running:
            log.info(SYNC_SKIPPED, sync=name, why="its last run has not ended yet")
        else:
            self._due.put(name)

    def _work(self) -> None:
        """The worker: one run after the other, each of everything that is due."""
        while not self._clock.stopped():
            names = {self._due.get()}
            try:
                self._clock.sleep_s(GATHER_S)
            except Interrupted:
                return
            while not self._due.empty():
                names.add(self._due.get())
            settings = self._settings
            # A reload may have removed a sync that was due.
            self._running = tuple(name for name in settings.syncs if name in names)
            if self._running and self._whole_is_due(settings):
                self._running = tuple(settings.syncs)
            if self._running:
                self._run(settings, self._running)
            elif EVENTS in names:
                self._take_events(settings)
            self._running = ()
            if STATISTICS in names:
                self._keep_statistics(settings)
            if not self._clock.stopped():
                self._notifier.status(self._outlook())

    def _run(self, settings: Settings, names: tuple[str, ...]) -> None:
        """One run and every end that it can have; none of them ends the daemon."""
        try:
            log.info(RUN_STARTED, syncs=list(names))
            order = run.Order(names=names)
            results = run.sync(settings, order, clock=self._clock, watch=self._pulse)
        except Interrupted:
            log.info(RUN_INTERRUPTED, syncs=list(names))
        except StateBusy as error:
            log.info(RUN_POSTPONED, syncs=list(names), why=str(error), again_s=BUSY_AGAIN_S)
            self._again(names)
        except SyncdError as error:
            log.error(RUN_FAILED, syncs=list(names), error=str(error))  # noqa: TRY400
            if isinstance(error, ConfigError) and len(names) > 1:
                # One source lost a column: that must not keep the other syncs, opt-outs least of all.
                for name in names:
                    self._run(settings, (name,))
        except Exception as problem:
            # A bug of ours in one run must not end the other syncs. Its words may name somebody.
            where = [
                f"{Path(f.filename).name}:{f.lineno}" for f in extract_tb(problem.__traceback__)
            ]
            log.error(  # noqa: TRY400
                ERROR_UNEXPECTED, syncs=list(names), error="this is our bug",
                kind=type(problem).__name__, where=where[-BUG_FRAMES:],
            )  # fmt: skip
            log.debug(ERROR_UNEXPECTED, syncs=list(names), exc_info=problem)
        else:
            if len(names) == len(settings.syncs):
                self._whole_s = self._clock.now_s()
            for result in results:
                _tell(result)

    def _take_events(self, settings: Settings) -> None:
        """Apply what FluenzR has told: whoever opens the state does. A run takes it along."""
        try:
            change(settings.state.path, lambda _: None, clock=self._clock, wait_s=0.0)
        except StateBusy:
            pass  # whoever holds it applies it, or the next one
        except SyncdError as error:
            log.error(EVENTS_POSTPONED, why=str(error))  # noqa: TRY400

    def _keep_statistics(self, settings: Settings) -> None:
        """Once a day: each hour it is looked whether a run by hand has done it."""
        if self._clock.stopped() or not statistics.is_due(settings, self._clock):
            return
        try:
            with client(settings, self._clock) as api:
                statistics.keep(settings, api=api, clock=self._clock)
        except SyncdError as error:  # the key cannot be read: the runs say so too
            log.error(statistics.STATISTICS_POSTPONED, why=str(error))  # noqa: TRY400

    def _whole_is_due(self, settings: Settings) -> bool:
        """Whether all syncs must be read: only such a run may delete people who left every source."""
        if not any(sync.on_removal == "delete" for sync in settings.syncs.values()):
            return False
        if self._whole_s is not None and self._clock.now_s() < self._whole_s + WHOLE_S:
            return False
        try:
            db = open_for_reading(settings.state.path)
        except StateError:
            return False  # the run will say what is wrong
        if db is None:
            return False
        with closing(db):
            return any(sync_now(db, name).deletes_waiting for name in settings.syncs)

    def _again(self, names: tuple[str, ...]) -> None:
        at = datetime.fromtimestamp(self._clock.now_s(), UTC) + timedelta(seconds=BUSY_AGAIN_S)
        for name in names:
            self._scheduler.add_job(
                self._fall_due,
                DateTrigger(run_date=at),
                args=[name],
                id=RETRY_JOB + name,
                misfire_grace_time=None,
                replace_existing=True,
            )

    def _on_time(self) -> bool:
        latest = datetime.fromtimestamp(self._clock.now_s() - LATE_S_MAX, UTC)
        return all(job.next_run_time > latest for job in self._scheduler.get_jobs())

    def _outlook(self) -> str:
        """The line of `systemctl status` while nothing runs."""
        jobs = [job for job in self._scheduler.get_jobs() if job.id != STATISTICS]
        if not jobs:
            return "idle; no sync has a schedule"
        job = min(jobs, key=lambda job: job.next_run_time)
        name = job.id.removeprefix(RETRY_JOB)
        return f"idle; next: {name} at {job.next_run_time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"

    def _by_hand(self) -> list[str]:
        return [name for name in self._settings.syncs if name not in self._firsts]


class Pulse:
    """A `syncd.watch.Watch` that feeds the watchdog by what a run really gets done."""

    def __init__(self, *, clock: Clock, notifier: Notifier) -> None:
        self._clock, self._notifier = clock, notifier
        self._fed_s = -FEED_S

    def feed(self) -> None:
        """There was progress."""
        now_s = self._clock.monotonic_s()
        if now_s - self._fed_s >= FEED_S:
            self._fed_s = now_s
            self._notifier.watchdog()

    def phase(self, sync: str, phase: str, total: int | None) -> None:
        """A phase began: also the line of `systemctl status`."""
        self._notifier.status(f"{sync}: {phase}" + (f", {total} steps" if total else ""))
        self.feed()

    def advance(self, steps: int, *, detail: str = "") -> None:  # noqa: ARG002
        """Steps were done."""
        self.feed()

    def done(self) -> None:
        """The last phase is over."""
        self.feed()


def trigger(schedule: Schedule, *, zone: ZoneInfo, first: datetime) -> BaseTrigger:
    """APScheduler's form of a schedule. first: where an interval begins; cron goes by `zone`."""
    if isinstance(schedule, Every):
        return IntervalTrigger(seconds=schedule.seconds, start_date=first, timezone=UTC)
    return _cron_trigger(schedule, zone)


def _cron_trigger(schedule: Cron, zone: ZoneInfo) -> BaseTrigger:
    _, _, day, _, weekday = schedule.text.split()
    minutes, hours, days, months, weekdays = schedule.crontab.split()
    if day.startswith("*") or weekday.startswith("*"):
        return CronTrigger.from_crontab(schedule.crontab, timezone=zone)
    # crontab(5): where day of the month and weekday are both restricted, one of them is enough
    return OrTrigger(
        [
            CronTrigger.from_crontab(f"{minutes} {hours} {days} {months} *", timezone=zone),
            CronTrigger.from_crontab(f"{minutes} {hours} * {months} {weekdays}", timezone=zone),
        ]
    )


def next_cron_s(schedule: Cron, zone: ZoneInfo, after_s: float) -> float:
    """The first moment of a cron expression that is later than `after_s`; epoch seconds."""
    after = datetime.fromtimestamp(int(after_s) + 1, UTC)
    moment = _cron_trigger(schedule, zone).get_next_fire_time(None, after)
    assert moment is not None, "the configuration refuses dates that never come"
    return float(moment.timestamp())


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


def _tell(result: SyncResult) -> None:
    """One log line a sync: numbers only, no person."""
    told = {key: value for key, value in result.contract().items() if value not in (0, None)}
    if result.trips:
        told |= {"why": result.trips, "hint": f"syncd approve {result.run} {result.sync}"}
    levels = {Status.OK: log.info, Status.FAILED: log.error}
    levels.get(result.status, log.warning)(SYNC_COMPLETED, **told)


@contextmanager
def _signals() -> Iterator[Callable[[float], set[int]]]:
    """Gives a function that waits for so many seconds at most, and returns the signals that came.

    A handler that did the work itself could interrupt the main thread while it holds a lock; so
    the handlers do nothing, and the interpreter writes the signal's number to a socket.
    """
    receiver, sender = socket.socketpair()
    receiver.settimeout(0.0)
    sender.settimeout(0.0)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)

    def wait(seconds: float) -> set[int]:
        ready, _, _ = select.select([receiver], [], [], seconds)
        return set(receiver.recv(SIGNALS_MAX)) if ready else set()

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        receiver.close()
        sender.close()


def _leave() -> NoReturn:
    """End the process now, with exit code 0: the kernel frees the lock, the next run goes on."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
