"""SIGINT and SIGTERM while a run works: the first asks the run to stop between two steps, the second ends it.

A Python signal handler could interrupt this thread while it holds the clock's own lock. So the signals
are blocked, and a thread of its own waits for them. Ending at once is safe: what was sent is recorded.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from syncd.clock import Clock
from syncd.report.text import talk

SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_INTERRUPTED = 130


@contextmanager
def stopping(clock: Clock) -> Iterator[None]:
    """While the block lasts, a signal stops `clock`, and with it whoever waits or asks it."""
    over = threading.Event()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    waiter = threading.Thread(target=_wait, args=(clock, over), name="signals", daemon=True)
    waiter.start()
    try:
        yield
    finally:
        over.set()
        assert waiter.ident is not None
        signal.pthread_kill(waiter.ident, SIGNALS[0])  # wakes it; nobody else sees this one
        waiter.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(clock: Clock, over: threading.Event) -> None:
    while True:
        signal.sigwait(SIGNALS)
        if over.is_set():
            return
        if clock.stopped():
            os._exit(EXIT_INTERRUPTED)
        talk("Stopping after the request that is under way; once more to end at once")
        clock.stop()
