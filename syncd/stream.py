"""What a source gives, handled as it comes, and waited for with a limit.

A connector may wait for ever: for a database that is locked, a server that sends a byte a minute, a disk that went away. Nothing can
interrupt it there. So it works in a thread, and whoever waits for it leaves it there when its time is up.
What it gives is handled in that same thread, while the caller waits: nothing is handed over. The two take turns: nothing is handled
once the caller has left. Only the source's own time counts, not that of whoever handles what it gave.
Where others wait too, a source that is silent is not waited for: it goes on apart, into a file, and is drained once it has ended.
"""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

import structlog

from syncd.clock import Clock
from syncd.errors import Interrupted, SourceError
from syncd.temporary import Spool

SOURCE_CUT_OFF = "source.cut_off"  # a source that hangs was left behind; the other syncs go on
SOURCE_LATE = "source.late"  # a source is silent: it is read apart, for a run of its own then
# Between two records. No healthy source is silent for so long: HTTP gives a page up after minutes, a program has a limit of its own,
# and the first row of a slow query comes sooner. Below the watchdog's two hours.
SILENCE_S_MAX = 3600.0
POLL_S = 0.02  # how often it is looked whether it is the source that is waited for
# How long a silent source is waited for where others wait too. A slow query takes less, and what it says of who opted out counts
# before anything is sent.
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
    """A source goes on apart, and can be drained once it has ended."""


class SilentError(SourceError):
    """A source fell silent after a part of it was handled: ask it anew, apart."""


class Stream(Generic[T]):
    """What `make()` yields, made in a thread of its own; to be drained to its end, and closed."""

    def __init__(
        self, make: Callable[[], Iterator[T]], *, source: str, limit_s: float, leash: Leash
    ) -> None:
        self._make, self._source, self._limit_s, self._leash = make, source, limit_s, leash
        self._handle: Callable[[T], None] = self._keep
        self._spool: Spool | None = None  # where it goes while it is apart
        self._handling = threading.Lock()
        self._ended = threading.Event()
        self._left = self._stuck = False  # nobody listens any more; because it hangs
        self._given = self._heard = 0
        self._silent_s = self._waited_s = 0.0
        self._since_s = self._heard_s = 0.0  # by the clock: it is apart since; it gave something
        self._error: BaseException | None = None
        # What the log says besides its own words (which sync) goes along.
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._work,), name=f"source {source}", daemon=True
        )

    def drain(self, handle: Callable[[T], None], *, patient: bool = True) -> None:
        """Call `handle` with everything that comes, in its order, in the source's thread; return when all of it is handled.

        Raises what the source or `handle` raises; SourceError when it was waited for longer than `limit_s` in all, or
        SILENCE_S_MAX for one; Interrupted. After that nothing is handled any more. Not patient, where nothing has come for
        LATE_S: LateError, or SilentError if something was handled before. What was apart is handled in the caller's thread.
        """
        if self._leash.stuck is not None:  # it hangs where it was left a moment ago
            self._stuck = True
            raise self._leash.stuck
        if self._spool is None and not self._left:
            self._handle = handle
            self._thread.start()
        try:
            self._wait(patient=patient)
            self._replay(handle)
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

    def begin_apart(self) -> None:
        """Let it begin, and do not wait for it. Raises SourceError where there is no room."""
        self._go_apart()
        self._thread.start()

    def is_due(self) -> bool:
        """It went on apart, and has ended, or its time is up: to be drained."""
        return self._ended.is_set() or self._trouble() is not None

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

    def _wait(self, *, patient: bool) -> None:
        while not (self._left or self._ended.wait(POLL_S)):
            if self._leash.stopped():
                raise Interrupted("Stopped on request")
            if self._spool is not None or not self._handling.locked():
                self._look(patient=patient)

    def _look(self, *, patient: bool) -> None:
        """It is the source that is waited for."""
        if self._spool is None:
            if self._given != self._heard:
                self._heard, self._silent_s = self._given, 0.0
            self._silent_s += POLL_S
            self._waited_s += POLL_S
        trouble = self._trouble()
        if trouble is not None:
            log.warning(SOURCE_CUT_OFF, source=self._source, seconds=round(self._waited()[0]))
            self._stuck, self._leash.stuck = True, trouble
            self._leash.stop()
            raise trouble
        if not patient and (self._spool is not None or self._silent_s > LATE_S):
            self._leave_for_now()

    def _waited(self) -> tuple[float, float]:
        """Seconds for which it was waited in all, and since it gave something."""
        if self._spool is None:
            return self._waited_s, self._silent_s
        now_s = self._leash.monotonic_s()
        return self._waited_s + now_s - self._since_s, now_s - self._heard_s

    def _trouble(self) -> SourceError | None:
        """Why it is not waited for any longer."""
        waited_s, silent_s = self._waited()
        if waited_s > self._limit_s:
            what = f"had not ended after {self._limit_s:g} seconds"
            hint = f"Where it needs so long, set a longer `time_limit` in [source.{self._source}]"
        elif silent_s > SILENCE_S_MAX:
            what = f"gave nothing for {SILENCE_S_MAX:g} seconds"
            hint = "Look whether it hangs: a lock in the database, a network drive, a proxy"
        else:
            return None
        return SourceError(
            f"The source {self._source!r} {what}, and was cut off",
            why="Nothing of this read was used",
            hint=hint,
        )

    def _leave_for_now(self) -> None:
        """Let it go on apart, if it can. Raises LateError, SilentError."""
        if self._spool is not None:
            raise LateError
        with self._handling:
            if self._given != self._heard:  # just now
                return
            if not self._given:
                self._go_apart()
        log.warning(SOURCE_LATE, source=self._source, seconds=round(self._waited_s))
        if self._spool is not None:
            raise LateError
        self._stuck = True
        raise SilentError(
            f"The source {self._source!r} gave nothing for {LATE_S:g} seconds",
            hint="It is read once more, while the other syncs go on",
        )

    def _go_apart(self) -> None:
        self._spool, self._handle = Spool(), self._keep
        self._since_s = self._leash.monotonic_s()
        self._heard_s = self._since_s - self._silent_s

    def _keep(self, item: T) -> None:
        """While it is apart."""
        assert self._spool is not None
        self._spool.put(item)
        self._heard_s = self._leash.monotonic_s()

    def _replay(self, handle: Callable[[T], None]) -> None:
        """What it gave while it was apart."""
        items = iter(self._spool or ())
        while True:
            with self._handling:
                kept = () if self._left else tuple(islice(items, 1))
                if not kept:
                    self._free()
                    return
                handle(kept[0])
            if self._leash.stopped() and not self._left:
                raise Interrupted("Stopped on request")

    def _leave(self) -> None:
        """Nobody listens any more; what is just being handled is waited for."""
        with self._handling:
            self._left = True
            if self._ended.is_set():
                self._free()

    def _free(self) -> None:
        if self._spool is not None:
            self._spool.close()

    def _work(self) -> None:
        """In the source's own thread."""
        items: Iterator[T] = iter(())
        try:
            items = self._make()
            for item in items:
                with self._handling:
                    if self._left:
                        return
                    self._given += 1
                    self._handle(item)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._error = error
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                with suppress(Exception):
                    close()
            with self._handling:
                self._ended.set()
                if self._left:
                    self._free()
