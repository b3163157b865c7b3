"""A clock for tests: time moves only when somebody sleeps or advances it; nothing ever waits."""

import threading

from syncd.errors import Interrupted

START_S = 1_767_261_600.0  # 2026-01-01 10:00:00 UTC: working hours, no change of clocks near


class FakeClock:
    """A `syncd.clock.Clock` whose seconds are free; safe to use from several threads.

    A sleeper's deadline is its own: threads that sleep for one second at the same moment move time
    by one second together, as real sleepers would, and not by one second each.
    """

    def __init__(self, start_s: float = START_S) -> None:
        self._lock = threading.Lock()
        self._start_s = start_s
        self._now_s = start_s
        self._stop = threading.Event()

    def now_s(self) -> float:
        """Epoch seconds, UTC."""
        return self._now_s

    def monotonic_s(self) -> float:
        """Seconds since this clock was made."""
        return self._now_s - self._start_s

    def sleep_s(self, seconds: float) -> None:
        """Move time to `seconds` after this call, if it is not there yet; or raise Interrupted."""
        if self._stop.is_set():
            raise Interrupted("Stopped on request")
        target_s = self._now_s + max(0.0, seconds)
        with self._lock:
            self._now_s = max(self._now_s, target_s)

    def advance_s(self, seconds: float) -> None:
        """Move time on by `seconds`, also after a stop: what the test itself does with time."""
        with self._lock:
            self._now_s += max(0.0, seconds)

    def stop(self) -> None:
        """Every sleep from now on raises Interrupted."""
        self._stop.set()

    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()
