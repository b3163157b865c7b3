"""Time, as an argument: everything that asks for the time or waits is given a `Clock`."""

import threading
import time
from typing import Protocol

from syncd.errors import Interrupted


class Clock(Protocol):
    """What the product needs of time. All values are seconds; sleeping is the only way to wait."""

    def now_s(self) -> float:
        """Epoch seconds, UTC."""

    def monotonic_s(self) -> float:
        """Seconds that never go back, for durations."""

    def sleep_s(self, seconds: float) -> None:
        """Return after `seconds`. Raises Interrupted as soon as a stop was asked for."""

    def stop(self) -> None:
        """Wake every sleeper with Interrupted, now and from now on."""

    def stopped(self) -> bool:
        """Whether a stop was asked for."""


class SystemClock:
    """The machine's clock; safe to use from several threads and to stop from a signal handler."""

    def __init__(self) -> None:
        self._stop = threading.Event()

    def now_s(self) -> float:
        """Epoch seconds, UTC."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def sleep_s(self, seconds: float) -> None:
        """Return after `seconds`, or raise Interrupted."""
        if self._stop.wait(max(0.0, seconds)):
            raise Interrupted("Stopped on request")

    def stop(self) -> None:
        """Ask every sleeper to end."""
        self._stop.set()

    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()
