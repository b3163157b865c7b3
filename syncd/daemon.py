"""The daemon: runs each sync on its schedule until it is told to stop.

Three threads: the main one waits for signals, feeds the watchdog and looks what is due, the worker
does one run after the other, and one looks how everything stands (`syncd.lookout`); a fourth listens
where `[http]` is configured. What a run does, and what a crash leaves, is `syncd.run`'s business; when
a sync is due is decided in `syncd.timetable`.
"""

import os
import queue
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog

from syncd import backup, config, run, statistics
from syncd.check import client
from syncd.clock import Clock
from syncd.config_models import Settings
from syncd.core.result import Status, SyncResult
from syncd.core.schedule import Every
from syncd.errors import ConfigError, Interrupted, StateBusy, StateError, SyncdError
from syncd.log import told_bug
from syncd.lookout import Lookout
from syncd.notify import Notifier
from syncd.reading import Latecomers
from syncd.state.store import change, explained, open_for_reading
from syncd.state.story import SyncNow, sync_now
from syncd.timetable import Timetable, first_starts, rests_until_s

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
SIGNALS_MAX = 64  # taken at once; more of them mean the same
TICK_S = 1.0  # how often the main thread looks up when no signal comes
GATHER_S = 0.2  # syncs that fall due in one moment become one run
BUSY_AGAIN_S = 60.0  # another process holds the state: a run of the command takes about that long
STOP_S_MAX = 3.0  # for the request under way; below what any supervisor grants (Docker: 10 s)
WHOLE_S = 86400.0  # where deletes wait, a run of all syncs is made this often
FEED_S = 1.0  # the watchdog hears of progress at most this often
EVENTS = (
    ":events"  # in the queue of what is due: the inbox has something; no name of a sync has a colon
)
STATISTICS = ":statistics"  # likewise: whether those of today are kept is looked at
STATISTICS_EVERY = Every(3600)
BACKUP = ":backup"  # likewise: a copy of the state is due
RETRY_JOB = "again:"  # the prefix of what is due once; no name of a sync has a colon

# The events of its log.
CONFIG_REFUSED = "config.refused"  # the new configuration is wrong; the old one goes on
CONFIG_RELOADED = "config.reloaded"  # SIGHUP: the new configuration counts
CONFIG_WAITS = "config.waits"  # something of the new configuration needs a restart
DAEMON_STARTED = "daemon.started"  # which syncs are scheduled, and which are by hand only
DAEMON_STOPPED = "daemon.stopped"  # SIGTERM; what is left in flight is read by the next run
EVENTS_POSTPONED = "events.postponed"  # FluenzR's events could not be applied now; they wait
LISTENER_STARTED = "listener.started"  # where the daemon listens
RUN_FAILED = "run.failed"  # a run of these syncs did not happen; tried again at the next time
RUN_INTERRUPTED = "run.interrupted"  # SIGTERM in a run; nothing is lost
RUN_POSTPONED = "run.postponed"  # another process holds the state; tried again in so many seconds
RUN_STARTED = "run.started"  # a run of these syncs begins
SYNC_COMPLETED = "sync.completed"  # with the numbers of `syncd sync --json`
SYNC_RESTS = (
    "sync.rests"  # it has failed so often in a row: its next run is put off by so many seconds
)
SYNC_SKIPPED = "sync.skipped"  # a sync fell due during its last run, or while its source was late

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
                received = wait(daemon.pause_s())
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
        self._listens = _listens(self._settings)
        self._timetable = Timetable(clock)
        self._due: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._running: tuple[str, ...] = ()
        self._late = Latecomers()
        self._whole_s: float | None = None  # when this process last ended a run of all syncs
        self._worker = threading.Thread(target=self._work, name="runs", daemon=True)
        self._pulse = Pulse(clock=clock, notifier=notifier)
        self._lookout = Lookout(lambda: self._settings, clock=clock)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Answer HTTP while the block lasts, where the configuration says so. Raises UsageError when the address is taken."""
        http = self._settings.http
        if http is None:
            yield
            return
        from syncd.web import monitoring, page
        from syncd.web.app import serving

        with serving(
            self._settings.webhooks,
            self._settings.state.path,
            http.listen,
            clock=self._clock,
            on_news=partial(self._due.put, EVENTS),
            more=[
                *monitoring.routes(lambda: self._settings, clock=self._clock),
                *page.routes(lambda: self._settings, clock=self._clock),
            ],
        ) as (host, port):
            log.info(LISTENER_STARTED, host=host, port=port)
            yield

    def start(self) -> None:
        """Schedule everything and tell the service manager."""
        self._schedule()
        self._worker.start()
        self._lookout.start()
        log.info(DAEMON_STARTED, syncs=list(self._firsts), by_hand=self._by_hand())
        self._notifier.ready()
        self._notifier.status(self._outlook())

    def pause_s(self) -> float:
        """How long nothing is due, TICK_S at most."""
        next_s = self._timetable.next_s()
        return TICK_S if next_s is None else min(TICK_S, max(0.0, next_s - self._clock.now_s()))

    def tick(self) -> None:
        """Hand on what is due. While nothing runs, having looked is the progress that the watchdog waits for."""
        self._hand_on()
        self._hand_on_late()
        if self._worker.is_alive() and not self._running:
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
            self._late.clear()  # the change may be about what hangs
            self._schedule()
            log.info(CONFIG_RELOADED, syncs=list(firsts), by_hand=self._by_hand())
            if _listens(settings) != self._listens:
                why = "[http] listen and [webhooks] take effect with a restart"
                log.warning(CONFIG_WAITS, why=why)
        self._notifier.ready()
        self._notifier.status(self._outlook())

    def stop(self) -> bool:
        """Wait for the run under way, not for long. Returns whether everything has ended."""
        self._notifier.stopping()
        self._due.put("")  # wakes the worker
        self._worker.join(timeout=STOP_S_MAX)
        self._late.clear()
        ended = not self._worker.is_alive()
        told = self._lookout.stop()
        log.info(DAEMON_STOPPED, left_in_flight=not ended)
        return ended and told

    def _schedule(self) -> None:
        """Replace the timetable by that of the settings."""
        self._timetable.clear()
        for name, first_s in self._firsts.items():
            sync = self._settings.syncs[name]
            self._timetable.put(name, first_s, sync.schedule, zone=sync.timezone)
        self._timetable.put(STATISTICS, self._clock.now_s(), STATISTICS_EVERY)
        self._schedule_backup(backup.due_s(self._settings, now_s=self._clock.now_s()))
        self._hand_on()

    def _schedule_backup(self, at_s: float | None) -> None:
        if at_s is not None:
            self._timetable.put(BACKUP, at_s)

    def _hand_on(self) -> None:
        for name in self._timetable.take_due():
            self._fall_due(name)

    def _hand_on_late(self) -> None:
        """Sources that were read apart and have ended, or whose time is up."""
        for name, late in self._late.waiting().items():
            if late.stream.is_due():
                late.called = True
                self._due.put(name)

    def _fall_due(self, name: str) -> None:
        name = name.removeprefix(RETRY_JOB)
        # As with a timer of systemd: what still runs when it falls due again is not started twice.
        if name in self._running:
            log.info(SYNC_SKIPPED, sync=name, why="its last run has not ended yet")
        elif name in self._late.waiting():
            log.info(SYNC_SKIPPED, sync=name, why="its source is still being read")
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
                self._lookout.wake()
            elif EVENTS in names:
                self._take_events(settings)
            self._running = ()
            if STATISTICS in names:
                self._keep_statistics(settings)
            if BACKUP in names and not self._clock.stopped():
                self._schedule_backup(
                    backup.keep_up(settings, clock=self._clock, watch=self._pulse)
                )
            if not self._clock.stopped():
                self._notifier.status(self._outlook())

    def _run(self, settings: Settings, names: tuple[str, ...]) -> None:
        """One run and every end that it can have; none of them ends the daemon."""
        try:
            log.info(RUN_STARTED, syncs=list(names))
            order = run.Order(names=names)
            results = run.sync(
                settings, order, clock=self._clock, watch=self._pulse, late=self._late
            )
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
        except Exception as problem:  # noqa: BLE001 - told, and the rest goes on
            told_bug(log, problem, syncs=list(names))  # it must not end the other syncs
        else:
            self._ended(settings, results)

    def _ended(self, settings: Settings, results: list[SyncResult]) -> None:
        """A run has come to its end."""
        if settings is not self._settings:
            self._late.clear()
        if len(results) == len(settings.syncs):
            self._whole_s = self._clock.now_s()
        for result in results:
            _tell(result)
        self._spare(settings, [one.sync for one in results if one.status == Status.FAILED])

    def _spare(self, settings: Settings, failed: list[str]) -> None:
        """Leave alone for a while what keeps failing."""
        path = settings.state.path
        with suppress(StateError):  # the next run says what is wrong with it
            db = open_for_reading(path) if failed else None
            if db is None:
                return
            with explained(path), closing(db):
                for name in failed:
                    self._put_off(sync_now(db, name))

    def _put_off(self, standing: SyncNow) -> None:
        until_s = rests_until_s(standing)
        if self._timetable.put_off(standing.name, until_s):
            again_s = round(until_s - self._clock.now_s())
            log.warning(SYNC_RESTS, sync=standing.name, failures=standing.failures, again_s=again_s)

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
        for name in names:
            self._timetable.put(RETRY_JOB + name, self._clock.now_s() + BUSY_AGAIN_S)

    def _outlook(self) -> str:
        """The line of `systemctl status` while nothing runs."""
        for at_s, job in self._timetable.outlook():
            if job not in (STATISTICS, BACKUP):
                at = datetime.fromtimestamp(at_s, UTC)
                return f"idle; next: {job.removeprefix(RETRY_JOB)} at {at:%Y-%m-%d %H:%M:%S} UTC"
        return "idle; no sync has a schedule"

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


def _listens(settings: Settings) -> tuple[object, ...]:
    """What is decided at the start, for as long as the process lives."""
    return (settings.http and settings.http.listen, settings.webhooks)


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
