"""Time: it passes for FluenzR and for the engine alike, but what their clocks say may differ."""

import itertools
import mmap
import struct
import threading
from collections.abc import Callable

from syncd.errors import Interrupted
from syncd.testing.clock import START_S


class SharedTime:
    """Seconds that pass for the engine and for FluenzR alike, also when the engine is a forked process.

    Two cells of shared memory, each with one writer: what the world ticks, what the engine sleeps.
    """

    def __init__(self) -> None:
        self._cells = mmap.mmap(-1, 16)
        self._lock = threading.Lock()

    def now_s(self) -> float:
        """Epoch seconds, by FluenzR's clock."""
        ticked, slept = struct.unpack("dd", self._cells[:])
        return START_S + float(ticked) + float(slept)

    def tick(self, seconds: float) -> None:
        """The world's own time."""
        ticked: float = struct.unpack_from("d", self._cells, 0)[0]
        struct.pack_into("d", self._cells, 0, ticked + seconds)

    def sleep(self, seconds: float) -> None:
        """The engine sleeps; several threads at once sleep together."""
        target_s = self.now_s() + seconds
        with self._lock:
            left_s = target_s - self.now_s()
            if left_s > 0:
                slept: float = struct.unpack_from("d", self._cells, 8)[0]
                struct.pack_into("d", self._cells, 8, slept + left_s)


class RunClock:
    """The engine's clock in one process. ahead_s: of FluenzR's clock; it is set anew, and time passes as ever.

    At its call number `strike_at` something strikes: the process ends, or the clock jumps. `stopped` is not counted: it is asked
    in real time.
    """

    def __init__(
        self,
        shared: SharedTime,
        *,
        ahead_s: float = 0.0,
        strike_at: int = 0,
        strike: Callable[["RunClock"], None] | None = None,
    ) -> None:
        self.ahead_s = ahead_s
        self._shared, self._strike_at, self._strike = shared, strike_at, strike
        self._calls = itertools.count(1)
        self._stop = threading.Event()

    def _called(self) -> None:
        if next(self._calls) == self._strike_at and self._strike is not None:
            self._strike(self)

    def now_s(self) -> float:
        """Epoch seconds, by the engine's clock."""
        self._called()
        return self._shared.now_s() + self.ahead_s

    def monotonic_s(self) -> float:
        """Seconds that no jump changes."""
        self._called()
        return self._shared.now_s() - START_S

    def sleep_s(self, seconds: float) -> None:
        """Let time pass for everybody. Raises Interrupted."""
        self._called()
        if self._stop.is_set():
            raise Interrupted("Stopped on request")
        self._shared.sleep(seconds)

    def stop(self) -> None:
        """Whoever sleeps from now on is interrupted."""
        self._stop.set()

    def stopped(self) -> bool:
        """Whether a stop was asked for."""
        return self._stop.is_set()
