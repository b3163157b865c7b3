"""What a source gives, handled as it comes, and waited for with a limit.

A connector may wait for ever: for a database that is locked, a server that sends a byte a minute, a disk that went away. Nothing can
interrupt it there. So it works in a thread, and whoever waits for it leaves it there when its time is up.
What it gives is handled in that same thread, while the caller waits: nothing is handed over. The two take turns: nothing is handled
once the caller has left. Only the source's own time counts, not that of whoever handles what it gave.
A source that has not even begun to answer can be left for a while, so that others need not wait for it, and be drained later.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Generic, TypeVar

import structlog

from syncd.clock import Clock
from syncd.errors import Interrupted, SourceError

SOURCE_CUT_OFF = "source.cut_off"  # a source that hangs was left behind; the other syncs go on
SOURCE_LATE = "source.late"  # a source has not begun to answer; the other syncs go on until it does
# Between two records. No healthy source is silent for so long: HTTP gives a page up after minutes, a program has a limit of its own,
# and the first row of a slow query comes sooner. Below the watchdog's two hours.
SILENCE_S_MAX = 3600.0
POLL_S = 0.02  # how often it is looked whether it is the source that is waited for
# How long the beginning of a source is waited for where others wait too. A slow query takes less, and what it says of who opted out
# counts before anything is sent.
LATE_S = 300.0
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


class LateError(Exception):
    """A source has not begun to answer. It goes on, and may be drained later."""


class Stream(Generic[T]):
    """What `make()` yields, made in a thread of its own; to be drained to its end, and closed."""

    def __init__(
        self, make: Callable[[], Iterator[T]], *, source: str, limit_s: float, leash: Leash
    ) -> None:
        self._make, self._source, self._limit_s, self._leash = make, source, limit_s, leash
        self._handle: Callable[[T], None] | None = None  # None: nobody listens now
        self._handling = threading.Lock()
        self._turn = threading.Condition(self._handling)
        self._ended = threading.Event()
        self._since_s: float | None = None  # by the clock: nobody listens since then
        self._left = self._stuck = False  # nobody listens any more; because it hangs
        self._given = self._heard = 0
        self._silent_s = self._waited_s = 0.0
        self._error: BaseException | None = None
        # What the log says besides its own words (which sync) goes along.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name=f"source {source}", daemon=True
        )

    def drain(self, handle: Callable[[T], None], *, patient: bool = True) -> None:
        """Call `handle` with everything that comes, in its order, in the source's thread; return when all of it is handled.

        Raises what the source or `handle` raises; SourceError when it was waited for longer than `limit_s` in all, or
        SILENCE_S_MAX for one; Interrupted. After that nothing is handled any more. Not patient: LateError, when nothing at all
        has come for LATE_S.
        """
        if self._leash.stuck is not None:  # it hangs where it was left a moment ago
            self._stuck = True
            raise self._leash.stuck
        if not self._left:
            self._listen(handle)
        try:
            self._wait(patient=patient)
        except LateError:
            raise
        except BaseException:
            self._leave()
            raise
        if self._left:  # by somebody else: what came is not all there is
            raise SourceError(
                f"The source {self._source!r} was let go", hint="It is asked anew by the next run"
            )
        if self._error is not None:
            raise self._error

    def _wait(self, *, patient: bool) -> None:
        while not (self._left or self._ended.wait(POLL_S)):
            if self._leash.stopped():
                raise Interrupted("Stopped on request")
            if not self._handling.locked():
                self.waited(POLL_S)
                if not (patient or self._given) and self._waited_s > LATE_S:
                    self._leave_for_now()

    def is_due(self) -> bool:
        """It was left for now, and has begun to answer meanwhile, or its time is up: to be drained again."""
        since_s = self._since_s
        if since_s is None:
            return False  # it is being drained
        waited_s = self._waited_s + self._leash.monotonic_s() - since_s
        begun = bool(self._given) or self._ended.is_set()
        return begun or waited_s > min(self._limit_s, SILENCE_S_MAX)

    def let_go(self) -> None:
        """Nobody will drain it any more; it ends when it can."""
        self._leave()
        self._leash.stop()

    def close(self) -> bool:
        """Let it go. Returns whether it has ended: what is stuck is left behind."""
        self.let_go()
        if self._thread.ident is None:
            return False  # it was never begun
        self._thread.join(timeout=0.0 if self._stuck else END_S_MAX)
        if self._thread.is_alive():
            return False
        self._leash.mend()
        return True

    def waited(self, seconds: float) -> None:
        """It was waited for so long. Raises SourceError when that was too long."""
        if self._given != self._heard:
            self._heard, self._silent_s = self._given, 0.0
        self._silent_s += seconds
        self._waited_s += seconds
        if self._waited_s > self._limit_s:
            raise self._cut_off(
                f"The source {self._source!r} had not ended after {self._limit_s:g} seconds, and was cut off",
                hint=f"Where it needs so long, set a longer `time_limit` in [source.{self._source}]",
            )
        if self._silent_s > SILENCE_S_MAX:
            raise self._cut_off(
                f"The source {self._source!r} gave nothing for {SILENCE_S_MAX:g} seconds, and was cut off",
                hint="Look whether it hangs: a lock in the database, a network drive, a proxy",
            )

    def _cut_off(self, what: str, *, hint: str) -> SourceError:
        error = SourceError(what, why="Nothing of this read was used", hint=hint)
        log.warning(SOURCE_CUT_OFF, source=self._source, seconds=round(self._waited_s))
        self._stuck, self._leash.stuck = True, error
        self._leash.stop()
        return error

    def _listen(self, handle: Callable[[T], None]) -> None:
        if self._since_s is None:
            self._thread.start()
        elif not self._given:  # else it is the source that has waited
            self.waited(self._leash.monotonic_s() - self._since_s)
        self._since_s = None
        with self._turn:
            self._handle = handle
            self._turn.notify_all()

    def _leave_for_now(self) -> None:
        with self._turn:
            if self._given:  # just now
                return
            self._handle, self._since_s = None, self._leash.monotonic_s()
        log.warning(SOURCE_LATE, source=self._source, seconds=round(self._waited_s))
        raise LateError

    def _leave(self) -> None:
        """Nobody listens any more; what is just being handled is waited for."""
        with self._turn:
            self._left = True
            self._turn.notify_all()

    def _work(self) -> None:
        """In the source's own thread."""
        items: Iterator[T] = iter(())
        try:
            items = self._make()
            for item in items:
                with self._turn:
                    self._given += 1
                    while self._handle is None and not self._left:
                        self._turn.wait()
                    if self._left or self._handle is None:
                        return
                    self._handle(item)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                with suppress(Exception):
                    close()
            self._ended.set()
