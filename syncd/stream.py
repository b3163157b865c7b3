"""What a source gives, from a thread of its own, and waited for with a limit.

A connector may wait for ever: for a database that is locked, a server that sends a byte a minute, a disk that went away. Nothing can
interrupt it there. So it works in a thread, and whoever waits for it leaves it there when its time is up. Who waits is counted,
not who works: while nobody listens, or what it gave is not taken yet, its time does not run.
"""

import contextvars
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

import structlog

from syncd.clock import Clock
from syncd.connector import Table
from syncd.errors import Interrupted, SourceError

SOURCE_CUT_OFF = "source.cut_off"  # a source that hangs was left behind; the other syncs go on
# Between two records. No healthy source is silent for so long: HTTP gives a page up after minutes, a program has a limit of its own,
# and the first row of a slow query comes sooner. Below the watchdog's two hours.
SILENCE_S_MAX = 3600.0
AT_ONCE = 200  # handed over together: switching between two threads for each would cost more than the reading
WAITING_MAX = 2  # of these, before the source is made to wait
POLL_S = 0.02  # how long nothing comes before what there is gets taken, and a stop is noticed
END_S_MAX = 2.0  # how long the end of a read that is not needed any more is waited for

T = TypeVar("T")
log = structlog.get_logger(__name__)


class Leash:
    """A `syncd.clock.Clock` for one source: whoever sleeps on it is let go when nobody waits for the source any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._cut = clock, threading.Event()
        self.stuck: SourceError | None = None  # why: what was cut off may still hang there

    def now_s(self) -> float:
        """Epoch seconds, UTC."""
        return self._clock.now_s()

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return self._clock.monotonic_s()

    def sleep_s(self, seconds: float) -> None:
        """Return after `seconds`, or raise Interrupted."""
        if self._cut.is_set():
            raise Interrupted("Nobody waits for this source any more")
        self._clock.sleep_s(seconds)

    def stop(self) -> None:
        """Let this source go; everybody else's time goes on."""
        self._cut.set()

    def mend(self) -> None:
        """It may be waited for again."""
        self.stuck = None
        self._cut.clear()

    def stopped(self) -> bool:
        """Whether this source was let go, or everything is to stop."""
        return self._cut.is_set() or self._clock.stopped()


class Stream(Generic[T]):
    """What `make()` yields, made in a thread of its own; to be iterated once, and closed.

    Raises what it raises; SourceError when it was waited for longer than `limit_s` in all, or SILENCE_S_MAX for one; Interrupted.
    """

    def __init__(
        self, make: Callable[[], Iterator[T]], *, source: str, limit_s: float, leash: Leash
    ) -> None:
        self._make, self._source, self._limit_s, self._leash = make, source, limit_s, leash
        self._batches: queue.Queue[list[T] | None] = queue.Queue(WAITING_MAX)
        self._batch: list[T] = []  # not handed over yet
        self._hungry = self._left = False
        self._given = self._heard = 0
        self._silent_s = self._waited_s = 0.0
        self._error: BaseException | None = leash.stuck
        # What the log says besides its own words (which sync) goes along.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name=f"source {source}", daemon=True
        )
        if leash.stuck is None:
            self._thread.start()
        else:  # it hangs where it was left a moment ago
            self._left = True

    def __iter__(self) -> Iterator[T]:
        """Everything in its order; then what went wrong, if anything did."""
        while (batch := self._next()) is not None:
            yield from batch
        if self._error is not None:
            raise self._error

    def close(self) -> bool:
        """Nobody listens any more. Returns whether it has ended: what is stuck is left behind."""
        stuck = self._left
        self._left = True
        self._leash.stop()
        with suppress(queue.Empty):
            while True:  # whoever waits for a place in the queue is let go
                self._batches.get_nowait()
        if self._thread.ident is None:
            return False  # it was never begun
        self._thread.join(timeout=0.0 if stuck else END_S_MAX)
        if self._thread.is_alive():
            return False
        self._leash.mend()
        return True

    def waited(self, seconds: float) -> None:
        """It was waited for so long. Cuts it off when that was too long: what it gave by then can still be taken."""
        if self._given != self._heard:
            self._heard, self._silent_s = self._given, 0.0
        self._silent_s += seconds
        self._waited_s += seconds
        if self._left:
            return
        if self._waited_s > self._limit_s:
            self._cut_off(
                f"The source {self._source!r} had not ended after {self._limit_s:g} seconds, and was cut off",
                hint=f"Where it needs so long, set a longer `time_limit` in [source.{self._source}]",
            )
        elif self._silent_s > SILENCE_S_MAX:
            self._cut_off(
                f"The source {self._source!r} gave nothing for {SILENCE_S_MAX:g} seconds, and was cut off",
                hint="Look whether it hangs: a lock in the database, a network drive, a proxy",
            )

    def _next(self) -> list[T] | None:
        """What comes next; None at the end."""
        while True:
            with suppress(queue.Empty):
                return self._batches.get(timeout=POLL_S)
            self._hungry = True
            if self._left:
                rest, self._batch = self._batch, []
                return rest or None
            if self._leash.stopped():
                raise Interrupted("Stopped on request")
            self.waited(POLL_S)

    def _cut_off(self, what: str, *, hint: str) -> None:
        self._error = self._leash.stuck = SourceError(
            what, why="Nothing of this read was used", hint=hint
        )
        log.warning(SOURCE_CUT_OFF, source=self._source, seconds=round(self._waited_s))
        self._left = True
        self._leash.stop()

    # --- in the source's own thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        items: Iterator[T] = iter(())
        try:
            items = self._make()
            for item in items:
                self._batch.append(item)
                self._given += 1
                if self._left:
                    return
                if self._hungry or len(self._batch) >= AT_ONCE or type(item) is Table:
                    self._hand_over()
        except BaseException as error:  # noqa: BLE001 - raised again where it is listened to
            if not self._left:
                self._error = error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                with suppress(Exception):
                    close()
            self._hand_over()
            self._put(None)

    def _hand_over(self) -> None:
        self._hungry = False
        if not self._left:  # else whoever listened takes what there is
            batch, self._batch = self._batch, []
            self._put(batch)

    def _put(self, batch: list[T] | None) -> None:
        while not self._left:
            with suppress(queue.Full):
                self._batches.put(batch, timeout=POLL_S)
                return
