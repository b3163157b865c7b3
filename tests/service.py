"""A daemon in the tests' own process, on a clock whose seconds are free."""

import queue
import threading

from house import Ahead, House

from syncd.daemon import Daemon
from syncd.notify import Notifier

MINUTE_S = 60.0
PATIENCE_S = 60.0  # only a failing test waits that long


class Turns(Ahead):
    """The house's clock. Nobody sleeps in the middle of a tick, so what is due together is taken together."""

    def __init__(self, house: House) -> None:
        super().__init__(house.clock, 0)
        self.tick = threading.Lock()

    def sleep_s(self, seconds: float) -> None:
        with self.tick:
            super().sleep_s(seconds)


class Ear(Notifier):
    """The service manager, as far as it hears that nothing runs any more."""

    def __init__(self) -> None:
        super().__init__("")
        self.idle: queue.SimpleQueue[str] = queue.SimpleQueue()

    def status(self, words: str) -> None:
        if words.startswith("idle"):
            self.idle.put(words)


class Service:
    """A daemon whose time is ours."""

    def __init__(self, house: House) -> None:
        self.house, self.clock, self.ear = house, Turns(house), Ear()
        self.daemon: Daemon

    def start(self) -> None:
        """With the configuration as it is now; what is due at once is done then."""
        config = self.house.folder / "config.toml"
        self.daemon = Daemon(config, clock=self.clock, notifier=self.ear)
        with self.clock.tick:
            self.daemon.start()
        self.hear(2)

    def restart(self) -> None:
        """Another process, as the service manager makes one. Its time is that of the first."""
        self.stop()
        self.clock = Turns(self.house)
        self.start()

    def stop(self) -> None:
        self.clock.stop()
        assert self.daemon.stop()

    def hear(self, times: int) -> None:
        """So often that nothing runs."""
        for _ in range(times):
            self.ear.idle.get(timeout=PATIENCE_S)

    def next(self) -> None:
        """Let time pass until something is due, and wait until that was done."""
        while (pause_s := self.daemon.pause_s()) > 0:
            self.house.later(minutes=pause_s / MINUTE_S)
        with self.clock.tick:
            self.daemon.tick()
        self.hear(1)

    def until(self, end_s: float) -> None:
        """Everything that is due by then."""
        while self.clock.now_s() < end_s:
            self.next()

    def runs(self) -> list[tuple[float, str]]:
        """(when it began, how it ended) of each run."""
        found = self.house.query(
            "SELECT run.started_at AS at, status FROM run JOIN run_sync USING (run) ORDER BY run"
        )
        return [(one["at"], one["status"]) for one in found]
