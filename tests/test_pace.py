"""The limiter against simulated servers: fixed and sliding windows, latencies, other users, lies.

The simulation is discrete: up to 16 requests in flight, each at the server at one moment between its
start and its answer; one thread waits for the limiter, as in `wire.py`.
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core import pace
from syncd.core.pace import Pace, Seen

WORKERS = 16
WINDOW_S = 60.0  # the servers' minute
LOST_S = 30.0  # after which a thread gives up
UNKNOWN = Seen()


class Server:
    """A rate limit as a server may keep it. sliding: a log of the last minute; else fixed windows.

    far_reset: a sliding server that names the time when its whole window will be free. silent: no
    headers. counts_refused: a request beyond the limit uses up a place too.
    """

    def __init__(
        self,
        limit: int,
        *,
        sliding: bool,
        phase_s: float = 0.0,
        far_reset: bool = False,
        silent: bool = False,
        retry_after: bool = True,
        counts_refused: bool = False,
    ) -> None:
        self.limit, self.sliding, self.phase_s = limit, sliding, phase_s
        self.far_reset, self.silent = far_reset, silent
        self.retry_after, self.counts_refused = retry_after, counts_refused
        self._log: deque[float] = deque()
        self._window = -1

    def take(self, now_s: float, requests: int = 1) -> tuple[int, Seen, float | None]:
        """(how many were allowed, the headers, Retry-After) at this moment."""
        if self.sliding:
            while self._log and self._log[0] <= now_s - WINDOW_S:
                self._log.popleft()
        elif math.floor((now_s + self.phase_s) / WINDOW_S) != self._window:
            self._window = math.floor((now_s + self.phase_s) / WINDOW_S)
            self._log.clear()
        allowed = min(requests, max(0, self.limit - len(self._log)))
        self._log.extend([now_s] * (requests if self.counts_refused else allowed))
        if not self.sliding:
            reset_s = (self._window + 1) * WINDOW_S - self.phase_s
        elif self.far_reset:
            reset_s = now_s + WINDOW_S
        else:
            reset_s = (self._log[0] if self._log else now_s) + WINDOW_S
        left_s = max(0.0, float(math.floor(reset_s) - math.floor(now_s)))  # whole seconds
        if self.silent:
            return allowed, UNKNOWN, None
        seen = Seen(self.limit, max(0, self.limit - len(self._log)), left_s)
        return allowed, seen, left_s if self.retry_after else None


@dataclass
class Run:
    """What happened: when our requests were allowed and refused, and how many were in flight."""

    allowed_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)

    def most_in_a_minute(self) -> int:
        """The largest number of allowed requests within any 60 s."""
        most, start = 0, 0
        for end, at_s in enumerate(self.allowed_s):
            while self.allowed_s[start] <= at_s - WINDOW_S:
                start += 1
            most = max(most, end - start + 1)
        return most


class Simulation:
    """16 workers who send whatever the limiter lets them, event by event."""

    def __init__(
        self,
        limiter: Pace,
        server: Server,
        latency_s: Callable[[], float],
        lost: Callable[[], bool],
    ) -> None:
        self.run = Run()
        self._limiter, self._server, self._latency_s, self._lost = limiter, server, latency_s, lost
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = itertools.count()
        self._idle, self._asleep = WORKERS, False

    def at(self, when_s: float, what: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), what))

    def play(self, seconds: float) -> None:
        self.at(0.0, self._send)
        while self._events and self._events[0][0] < seconds:
            now_s, _, what = heapq.heappop(self._events)
            what(now_s)

    def _send(self, now_s: float) -> None:
        while self._idle and not self._asleep:
            wait_s = self._limiter.wait_s(now_s)
            if math.isinf(wait_s):
                assert self._idle < WORKERS, "an answer is awaited, but nothing is in flight"
                return
            if wait_s > 0:
                assert wait_s <= pace.RETRY_AFTER_S_MAX
                self._asleep = True
                self.at(now_s + wait_s, self._wake)
                return
            self._idle -= 1
            ticket = self._limiter.start(now_s)
            self.at(now_s + self._latency_s(), partial(self._serve, ticket))

    def _wake(self, now_s: float) -> None:
        self._asleep = False
        self._send(now_s)

    def _serve(self, ticket: pace.Ticket, now_s: float) -> None:
        allowed, seen, retry_after_s = self._server.take(now_s)
        (self.run.allowed_s if allowed else self.run.refused_s).append(now_s)
        if self._lost():
            learn = partial(self._limiter.finish, ticket, seen=None)
            back_s = LOST_S
        elif allowed:
            learn = partial(self._limiter.finish, ticket, seen=seen)
            back_s = self._latency_s()
        else:
            learn = partial(self._limiter.throttled, ticket, retry_after_s=retry_after_s, seen=seen)
            back_s = self._latency_s()
        self.at(now_s + back_s, partial(self._answer, learn))

    def _answer(self, learn: Callable[..., None], now_s: float) -> None:
        self._idle += 1
        learn(now_s=now_s)
        self._send(now_s)


def simulate(
    limiter: Pace,
    server: Server,
    latency_s: Callable[[], float],
    *,
    seconds: float,
    others: Sequence[tuple[float, int]] = (),
    lost: Callable[[], bool] = lambda: False,
) -> Run:
    """What happens. others: what another user takes, and when. lost: whether an answer gets lost."""
    simulation = Simulation(limiter, server, latency_s, lost)
    for when_s, requests in others:
        simulation.at(when_s, partial(server.take, requests=requests))
    simulation.play(seconds)
    return simulation.run


def latencies(rng: random.Random, mean_s: float) -> Callable[[], float]:
    """One way of a request; its answer takes as long again."""
    return lambda: rng.expovariate(2.0 / mean_s)


SERVERS = st.fixed_dictionaries(
    {
        "sliding": st.booleans(),
        "phase_s": st.floats(0.0, 59.0),
        "far_reset": st.booleans(),
        "silent": st.booleans(),
        "retry_after": st.booleans(),
        "counts_refused": st.booleans(),
    }
)


# alone with the account


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    kind=SERVERS,
    limit=st.sampled_from([1000, 1000, 300, 60, 10, 1]),
    share=st.sampled_from([0.9, 0.9, 1.0, 0.5]),
    mean_s=st.floats(0.005, 0.6),
)
def test_alone_no_429_and_nine_tenths_of_our_share(
    seed: int, kind: dict[str, object], limit: int, share: float, mean_s: float
) -> None:
    configured = limit if kind["silent"] else 1000
    run = simulate(
        Pace(configured, share),
        Server(limit, **kind),
        latencies(random.Random(seed), mean_s),
        seconds=300.0,
    )
    cap = max(1, math.floor(limit * share + 1e-9))
    assert run.refused_s == []
    assert run.most_in_a_minute() <= cap
    assert len(run.allowed_s) >= 0.9 * cap * 5


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32), kind=SERVERS)
def test_lost_answers_neither_stop_us_nor_make_a_429(seed: int, kind: dict[str, object]) -> None:
    rng = random.Random(seed)
    run = simulate(
        Pace(300, 0.9),
        Server(300, **kind),
        latencies(rng, 0.2),
        seconds=300.0,
        lost=lambda: rng.random() < 0.03,
    )
    assert run.refused_s == []
    assert len(run.allowed_s) >= 300  # a thread that hangs for 30 s cannot send either


@pytest.mark.parametrize("sliding", [False, True])
def test_what_an_earlier_process_used_is_seen_in_the_first_answer(sliding: bool) -> None:
    server = Server(1000, sliding=sliding, phase_s=20.0)
    server.take(0.0, 930)
    run = simulate(Pace(1000, 0.9), server, lambda: 0.1, seconds=30.0)
    assert run.refused_s == []
    assert 0 < len(run.allowed_s) <= 70


def test_the_servers_limit_lowers_ours_and_never_raises_it() -> None:
    low = simulate(Pace(1000, 0.9), Server(100, sliding=False), lambda: 0.05, seconds=59.0)
    high = simulate(Pace(50, 0.9), Server(1000, sliding=False), lambda: 0.05, seconds=59.0)
    assert (len(low.allowed_s), len(high.allowed_s)) == (90, 45)


# with another user


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32),
    kind=SERVERS,
    size=st.sampled_from([50, 250, 500]),
    mean_s=st.floats(0.02, 0.6),
)
def test_bursts_of_another_user_cost_what_is_in_flight_and_a_few_probes(
    seed: int, kind: dict[str, object], size: int, mean_s: float
) -> None:
    """He takes up to half of each minute, and all that is left if that is less."""
    rng, others, when_s = random.Random(seed), [], 0.0
    while when_s < 300.0:
        others.append((when_s + rng.uniform(0.0, 5.0), size))
        when_s += WINDOW_S * size / 500
    run = simulate(
        Pace(1000, 0.9),
        Server(1000, **{**kind, "silent": False}),
        latencies(rng, mean_s),
        seconds=300.0,
        others=others,
    )
    assert len(run.refused_s) <= len(others) * (WORKERS + 4)
    assert len(run.allowed_s) >= 0.6 * 5 * 500  # he has half, and what he lost came to us


@pytest.mark.parametrize("sliding", [False, True])
@pytest.mark.parametrize("taken", [200, 500, 800])
def test_another_user_who_came_first_costs_no_429(sliding: bool, taken: int) -> None:
    others = [(0.0, taken)]
    run = simulate(
        Pace(1000, 0.9),
        Server(1000, sliding=sliding),
        lambda: 0.05,
        seconds=58.0,
        others=others,
    )
    assert run.refused_s == []
    assert 1000 - taken - 100 <= len(run.allowed_s) <= 1000 - taken


def test_one_burst_that_takes_everything_costs_no_more_than_what_is_in_flight() -> None:
    run = simulate(
        Pace(1000, 0.9),
        Server(1000, sliding=False),
        lambda: 0.05,
        seconds=120.0,
        others=[(1.0, 1000)],
    )
    assert 0 < len(run.refused_s) <= WORKERS
    assert max(run.refused_s) < 2.0
    assert min(at_s for at_s in run.allowed_s if at_s > 2.0) >= WINDOW_S


def test_a_reset_that_is_always_near_does_not_draw_a_429_a_second() -> None:
    """As in a sliding window that somebody keeps full."""
    limiter, now_s, waits = Pace(1000, 0.9), 0.0, []
    for _ in range(6):
        ticket = limiter.start(now_s)
        limiter.throttled(ticket, now_s, retry_after_s=1.0, seen=Seen(1000, 0, 1.0))
        waits.append(limiter.wait_s(now_s))
        now_s += waits[-1]
    start_and_finish(limiter, now_s, Seen(1000, 2, 1.0))  # room for two: none for us
    waits.append(limiter.wait_s(now_s))
    now_s += waits[-1]
    start_and_finish(limiter, now_s, Seen(1000, 200, 1.0))
    limiter.throttled(limiter.start(now_s), now_s, retry_after_s=1.0, seen=Seen(1000, 0, 1.0))
    waits.append(limiter.wait_s(now_s))
    assert waits == pytest.approx([1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0, 1.0])


# one step at a time


def start_and_finish(limiter: Pace, now_s: float, seen: Seen | None) -> None:
    assert limiter.wait_s(now_s) == 0.0
    limiter.finish(limiter.start(now_s), now_s, seen)


def test_the_first_request_goes_alone() -> None:
    limiter = Pace(1000, 0.9)
    first = limiter.start(0.0)
    assert limiter.wait_s(0.0) == math.inf
    limiter.finish(first, 0.5, Seen(1000, 999, 59.0))
    assert limiter.wait_s(0.5) == 0.0


def test_an_unanswered_probe_lets_the_next_one_go_alone() -> None:
    limiter = Pace(1000, 0.9)
    start_and_finish(limiter, 0.0, None)
    limiter.start(30.0)
    assert limiter.wait_s(30.0) == math.inf


def test_a_probe_that_is_never_finished_does_not_hold_us_for_ever() -> None:
    limiter = Pace(1000, 0.9)
    limiter.start(0.0)
    assert limiter.wait_s(pace.WORD_S_MAX - 1) == math.inf
    assert limiter.wait_s(pace.WORD_S_MAX) == 0.0


def test_without_headers_our_own_log_paces() -> None:
    limiter = Pace(10, 1.0)
    for _ in range(10):
        start_and_finish(limiter, 1.0, UNKNOWN)
    assert limiter.wait_s(1.0) == pytest.approx(pace.WINDOW_S)
    assert limiter.wait_s(1.0 + pace.WINDOW_S) == 0.0


def test_an_answer_without_headers_does_not_undo_the_servers_word() -> None:
    limiter = Pace(1000, 0.9)
    start_and_finish(limiter, 0.0, Seen(1000, 900, 50.0))
    told, silent = limiter.start(0.1), limiter.start(0.1)
    limiter.finish(told, 0.2, Seen(1000, 3, 50.0))
    limiter.finish(silent, 0.3, UNKNOWN)
    assert limiter.wait_s(0.3) > 40


def test_what_was_sent_since_is_taken_off_the_servers_word() -> None:
    limiter = Pace(1000, 0.9)  # the floor is 50
    start_and_finish(limiter, 0.0, Seen(1000, 55, 50.0))
    flying = [limiter.start(0.1) for _ in range(4)]
    assert limiter.wait_s(0.1) == 0.0
    flying.append(limiter.start(0.1))
    assert limiter.wait_s(0.1) == math.inf
    for ticket in flying:
        limiter.finish(ticket, 0.2, None)
    last = limiter.start(0.2)  # alone: it shows which of them were counted
    assert limiter.wait_s(0.2) == math.inf
    limiter.finish(last, 0.3, Seen(1000, 54, 50.0))
    assert limiter.wait_s(0.3) == 0.0


def test_when_our_own_requests_have_left_the_window_a_probe_finds_out() -> None:
    limiter = Pace(1000, 0.9)  # 100 are not ours
    for _ in range(90):
        start_and_finish(limiter, 0.0, Seen(1000, 900, 120.0))
    start_and_finish(limiter, 1.0, Seen(1000, 20, 120.0))  # somebody took the rest
    assert limiter.wait_s(1.0) == pytest.approx(pace.WINDOW_S - 1.0)
    assert limiter.wait_s(pace.WINDOW_S) == 0.0  # 20 + 90, if the window slides
    limiter.start(pace.WINDOW_S)
    assert limiter.wait_s(pace.WINDOW_S) == math.inf


def test_a_slot_is_held_from_the_start_until_a_window_after_the_answer() -> None:
    limiter = Pace(1, 1.0)
    slow = limiter.start(0.0)
    assert limiter.wait_s(100.0) == math.inf
    limiter.finish(slow, 100.0, UNKNOWN)
    assert limiter.wait_s(100.0) == pytest.approx(pace.WINDOW_S)


def test_the_answer_of_an_older_request_is_not_the_last_word() -> None:
    limiter = Pace(1000, 0.9)
    start_and_finish(limiter, 0.0, Seen(1000, 900, 50.0))
    older, newer = limiter.start(1.0), limiter.start(1.1)
    limiter.finish(newer, 1.2, Seen(1000, 40, 50.0))
    limiter.finish(older, 1.3, Seen(1000, 800, 50.0))
    assert limiter.wait_s(1.3) > 40


def test_a_reset_that_passes_is_probed_and_not_believed() -> None:
    limiter = Pace(1000, 0.9)
    start_and_finish(limiter, 0.0, Seen(1000, 0, 20.0))
    assert limiter.wait_s(0.0) == pytest.approx(20.0 + pace.RESET_MARGIN_S)
    limiter.start(21.0)
    assert limiter.wait_s(21.0) == math.inf


@pytest.mark.parametrize(
    ("retry_after_s", "reset_s", "wait_s"),
    [
        (7.0, 30.0, 7.0),
        (None, 30.0, 31.0),
        (None, None, 10.0),
        (0.0, None, 1.0),
        (100_000.0, None, pace.RETRY_AFTER_S_MAX),
    ],
)
def test_429_waits_as_told(
    retry_after_s: float | None, reset_s: float | None, wait_s: float
) -> None:
    limiter = Pace(1000, 0.9)
    ticket = limiter.start(0.0)
    limiter.throttled(ticket, 0.0, retry_after_s=retry_after_s, seen=Seen(None, None, reset_s))
    assert limiter.wait_s(0.0) == pytest.approx(wait_s)
    limiter.start(wait_s)
    assert limiter.wait_s(wait_s) == math.inf  # one probe


def test_429s_without_a_word_back_off_and_those_of_one_moment_count_once() -> None:
    limiter, now_s, waits = Pace(1000, 0.9), 0.0, []
    for _ in range(5):
        start_and_finish(limiter, now_s, UNKNOWN) if not waits else None
        for ticket in [limiter.start(now_s) for _ in range(3)]:
            limiter.throttled(ticket, now_s, retry_after_s=None, seen=UNKNOWN)
        waits.append(limiter.wait_s(now_s))
        now_s += waits[-1]
    assert waits == pytest.approx([10.0, 20.0, 40.0, 60.0, 60.0])


def test_an_answer_from_before_a_429_is_no_news() -> None:
    limiter = Pace(1000, 0.9)
    start_and_finish(limiter, 0.0, Seen(1000, 999, 50.0))
    before, refused = limiter.start(1.0), limiter.start(1.0)
    limiter.throttled(refused, 1.1, retry_after_s=5.0, seen=UNKNOWN)
    limiter.finish(before, 1.2, Seen(1000, 990, 50.0))
    limiter.start(7.0)
    assert limiter.wait_s(7.0) == math.inf


def test_budget_is_what_is_left_for_us() -> None:
    limiter = Pace(1000, 0.9)
    assert limiter.budget(0.0) == pace.BudgetView(1000, 900, 0.0)
    start_and_finish(limiter, 0.0, Seen(800, 300, 20.0))
    assert limiter.budget(0.0) == pace.BudgetView(800, 260, 0.0)
    start_and_finish(limiter, 0.0, Seen(800, 10, 20.0))
    assert limiter.budget(0.0) == pace.BudgetView(800, 0, pytest.approx(21.0))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (1_767_261_630.0, 30.0),  # epoch seconds [I]
        (1_767_261_630_500.0, 30.5),  # milliseconds
        (30.0, 30.0),  # seconds from now
        (0.0, 0.0),
        (1_767_261_500.0, 0.0),  # past
        (1_767_999_999.0, pace.WORD_S_MAX),  # far away
        (-1.0, None),
        (math.nan, None),
        (math.inf, None),
    ],
)
def test_reset_is_read_in_every_unit(value: float, seconds: float | None) -> None:
    assert pace.reset_in_s(value, server_s=1_767_261_600.0) == pytest.approx(seconds)
