"""The HTTP threads, and nothing else: jobs run in the run's own thread, their requests in a few others.

A job is a generator: it yields a request (a function without arguments), is resumed with the answer, or has the request's error
thrown into it. So a job reads like plain code, all state stays in one thread, and many jobs wait for the network at once.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from syncd.clock import Clock
from syncd.errors import Interrupted
from syncd.fluenzr import FluenzR

THREADS_MAX = 40  # requests in flight; enough for 1000 a minute at two seconds each. Threads start when they are needed
STOP_CHECK_S = 0.5  # how often a stop is looked for while answers are awaited
SLOW_S = 10.0  # a request that takes longer may still wait for its turn: it is kept in mind as sent just now
STOP_WAIT_S = 5.0  # how long answers are still awaited after a stop
MEANWHILE_S = 0.5  # how often the run's thread looks up from its jobs

Request = Callable[[], Any]
Job = Generator[Request, Any, None]


class Pool:
    """A few threads for the requests to one account.

    What would only wait for the limiter is not begun: whoever is killed has less in doubt. meanwhile: called twice a second
    while jobs are driven, between their steps: never inside a transaction.
    still_waiting: the same, while a request takes long, with the epoch second at which it was handed over.
    """

    def __init__(
        self, clock: Clock, api: FluenzR, *, meanwhile: Callable[[], object] | None = None
    ) -> None:
        self._clock, self._api, self._meanwhile = clock, api, meanwhile
        self._looked_s = clock.monotonic_s()
        self.still_waiting: Callable[[float], None] | None = None
        self._handed_over_s: dict[Future[Any], float] = {}
        self._told_s = 0.0
        self._executor = ThreadPoolExecutor(max_workers=THREADS_MAX, thread_name_prefix="fluenzr")

    def begin(self, request: Request) -> Request:
        """Send a read now, while the run does something else; the request that is returned only waits for its answer."""
        return self._executor.submit(request).result

    def close(self) -> None:
        """Wait for the threads to end."""
        if self._clock.stopped():
            self._api.close()  # so that a stop does not wait for what was begun
        self._executor.shutdown(wait=True, cancel_futures=True)

    def drive(self, jobs: Iterator[Job]) -> None:
        """Run all jobs, at most THREADS_MAX at a time. The first error of a job ends the rest, after what is under way is recorded."""
        active: dict[Future[Any], Job] = {}
        failure: BaseException | None = None
        stop_at_s: float | None = None
        source: Iterator[Job] | None = jobs
        while True:
            if self._clock.stopped() and failure is None:
                failure = Interrupted("Stopped on request", hint="The next run goes on from here")
            if failure is None and source is not None:
                try:
                    source = self._fill(active, source)
                except BaseException as raised:  # noqa: BLE001 - raised below, once what is under way is recorded
                    failure = raised
            if not active:
                break
            if failure is not None and stop_at_s is None:
                stop_at_s = self._clock.monotonic_s() + STOP_WAIT_S
            if self._clock.stopped() and stop_at_s and self._clock.monotonic_s() > stop_at_s:
                self._api.close()  # so that a stop does not wait for time-outs
            self._look_up()
            timeout_s = min(self._api.budget().wait_s or STOP_CHECK_S, STOP_CHECK_S)
            done, _ = wait(active, timeout=timeout_s, return_when=FIRST_COMPLETED)
            self._tell_of_slow_ones()
            for future in done:
                del self._handed_over_s[future]
                error = self._resume(active, active.pop(future), future)
                failure = failure or error
        if failure is not None:
            raise failure

    def _look_up(self) -> None:
        now_s = self._clock.monotonic_s()
        if self._meanwhile is not None and now_s - self._looked_s >= MEANWHILE_S:
            self._looked_s = now_s
            self._meanwhile()

    def _fill(self, active: dict[Future[Any], Job], source: Iterator[Job]) -> Iterator[Job] | None:
        while not active or self._has_room(active):
            job = next(source, None)
            if job is None:
                return None
            self._step(active, job, partial(next, job))
        return source

    def _has_room(self, active: dict[Future[Any], Job]) -> bool:
        """Whether one more may begin. What is answered is recorded first, so a fast server has few at a time, and memory stays flat."""
        full = len(active) >= THREADS_MAX or any(future.done() for future in active)
        return not full and self._api.budget().wait_s <= 0

    def _resume(
        self, active: dict[Future[Any], Job], job: Job, future: Future[Any]
    ) -> BaseException | None:
        error = future.exception()
        try:
            if error is not None:
                self._step(active, job, lambda: job.throw(error))
            else:
                self._step(active, job, lambda: job.send(future.result()))
        except BaseException as failure:  # noqa: BLE001 - as above
            return failure
        return None

    def _step(
        self, active: dict[Future[Any], Job], job: Job, advance: Callable[[], Request]
    ) -> None:
        try:
            request = advance()
        except StopIteration:
            return
        future = self._executor.submit(request)
        active[future], self._handed_over_s[future] = job, self._clock.now_s()

    def _tell_of_slow_ones(self) -> None:
        now_s, oldest_s = self._clock.now_s(), min(self._handed_over_s.values())
        if self.still_waiting is not None and now_s - max(oldest_s, self._told_s) >= SLOW_S:
            self.still_waiting(oldest_s)
            self._told_s = now_s
