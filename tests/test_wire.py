"""One request: pacing, 429, retries, the server's clock, and stopping; against real servers, on a fake clock."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from email.utils import formatdate

import orjson
import pytest
from raw_server import RawServer, response, serving

from syncd import wire
from syncd.clock import Clock, SystemClock
from syncd.errors import ConfigError, Interrupted, Refused, Throttled, Unanswered
from syncd.fluenzr import FluenzR
from syncd.sandbox import Faults, Quirks, Rule, Sandbox
from syncd.sandbox.faults import Act, Page, Status, Throttle
from syncd.testing.clock import START_S, FakeClock

KEY = "flz_sk_" + "k" * 32
BODY = b'{"email":"ann@example.com"}'
GOOD = {"success": True, "data": {"id": "con_1", "email": "ann@example.com"}}
THREADS = 16


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def client(url: str, clock: Clock, *, share: float = 0.9, key: str = KEY) -> FluenzR:
    return FluenzR(key, base_url=url, clock=clock, share=share, timeout_s=5.0)


@contextmanager
def serving_in_turn(*answers: bytes) -> Iterator[RawServer]:
    """One answer after the other, whatever is asked; the last one for ever."""
    left = list(answers)

    def script(connection: socket.socket) -> None:
        connection.sendall(left.pop(0) if len(left) > 1 else left[0])

    with serving(script) as server:
        yield server


def good(*headers: str) -> bytes:
    return response(orjson.dumps(GOOD), *headers, status="201 Created")


def too_many(*headers: str) -> bytes:
    return response(b"slow down", *headers, status="429 Too Many Requests")


# 429


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        (["Retry-After: 7"], 7.0),
        ([f"Retry-After: {formatdate(START_S + 30, usegmt=True)}"], 30.0),
        ([f"X-RateLimit-Reset: {START_S + 20:.0f}"], 21.0),
        ([f"X-RateLimit-Reset: {START_S + 20:.0f}000"], 21.0),
        (["X-RateLimit-Reset: 20"], 21.0),
        (["X-RateLimit-Reset: 20", "Retry-After: 3"], 3.0),
        (["X-RateLimit-Reset: soon", "Retry-After: later"], 10.0),
        ([], 10.0),
    ],
)
@pytest.mark.parametrize("our_clock_ahead_s", [None, 0.0, 86400.0])
def test_429_waits_as_told_and_sends_again(
    clock: FakeClock, headers: list[str], wait_s: float, our_clock_ahead_s: float | None
) -> None:
    """By the server's clock where it shows one, else by ours."""
    if our_clock_ahead_s is not None:
        clock.advance_s(our_clock_ahead_s)
        headers = [*headers, f"Date: {formatdate(START_S, usegmt=True)}"]
    begin_s = clock.monotonic_s()
    with (
        serving_in_turn(too_many(*headers), good()) as server,
        client(server.url, clock) as fluenzr,
    ):
        assert fluenzr.create(BODY).contact.id == "con_1"
        assert clock.monotonic_s() - begin_s == pytest.approx(wait_s)
        assert (fluenzr.requests, fluenzr.throttled) == (2, 1)
    assert [request.partition(b"\r\n\r\n")[2] for request in server.requests] == [BODY, BODY]


def test_429_again_and_again_ends_in_throttled(clock: FakeClock) -> None:
    with (
        serving_in_turn(too_many("Retry-After: 2")) as server,
        client(server.url, clock) as fluenzr,
    ):
        with pytest.raises(Throttled) as caught:
            fluenzr.create(BODY)
        assert fluenzr.requests == fluenzr.throttled == wire.THROTTLED_ATTEMPTS_MAX
    assert not isinstance(caught.value, Refused | Unanswered)


def test_a_wait_beyond_our_patience_is_not_begun(clock: FakeClock) -> None:
    with (
        serving_in_turn(too_many("Retry-After: 3000")) as server,
        client(server.url, clock) as fluenzr,
    ):
        for _ in range(2):  # whoever comes next does not wait either
            with pytest.raises(Throttled, match="3000 seconds"):
                fluenzr.create(BODY)
        assert fluenzr.requests == 1
        assert clock.monotonic_s() == 0.0


def test_nobody_sends_while_429_says_wait(clock: FakeClock) -> None:
    throttle = Rule(name="429", effect=Throttle(retry_after_s=20), nth={5})
    with (
        Sandbox(clock=clock, faults=Faults(throttle)).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        create_all(fluenzr, 40)
        assert sandbox.faults.fired["429"] == 1
        assert fluenzr.throttled == 1
        assert fluenzr.requests == 41
        assert len(sandbox.account.contacts_by_email()) == 40
        assert clock.monotonic_s() == pytest.approx(20.0)


# the whole limiter, over HTTP


def create_all(fluenzr: FluenzR, count: int) -> None:
    def create(number: int) -> None:
        fluenzr.create(orjson.dumps({"email": f"p{number}@example.com"}))

    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(create, range(count)))


@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.parametrize("start_s", [START_S, START_S + 31.7])
def test_1500_creates_take_what_the_limit_asks_and_draw_no_429(window: str, start_s: float) -> None:
    clock = FakeClock(start_s)
    with (
        Sandbox(clock=clock, window=window).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        create_all(fluenzr, 1500)
        assert (fluenzr.requests, fluenzr.throttled, sandbox.throttled) == (1500, 0, 0)
        # 900 at once, 600 a window later; at least nine tenths of what our share allows
        assert 60.0 <= clock.monotonic_s() <= 1500 / (900 * 0.9) * 60.0


@pytest.mark.parametrize("window", ["fixed", "sliding"])
@pytest.mark.parametrize("nth", [{1, 700, 1300}, {600}], ids=["each window", "unforeseen"])
def test_another_user_who_takes_half_of_the_window_costs_no_more_than_what_is_in_flight(
    window: str, nth: set[int], clock: FakeClock
) -> None:
    sandbox = Sandbox(clock=clock, window=window)
    taken = Act(action=lambda: sandbox.consume(500))
    sandbox.faults.add(Rule(name="another user", effect=taken, nth=nth))
    with sandbox.serve(), client(sandbox.url, clock) as fluenzr:
        create_all(fluenzr, 1500)
        assert sandbox.faults.fired["another user"] == len(nth)
        assert fluenzr.throttled <= THREADS
        assert len(sandbox.account.contacts_by_email()) == 1500


def test_who_waits_for_an_answer_goes_on_as_soon_as_it_is_there() -> None:
    """With room for one, each of 20 requests waits for the answer before it."""
    answer = response(orjson.dumps(GOOD), "X-RateLimit-Limit: 1000", "X-RateLimit-Remaining: 1")
    with (
        serving_in_turn(answer) as server,
        client(server.url, SystemClock(), share=1.0) as fluenzr,
        ThreadPoolExecutor(THREADS) as threads,
    ):
        begin_s = time.monotonic()
        list(threads.map(fluenzr.create, [BODY] * 20))
        assert time.monotonic() - begin_s < 10 * wire.LISTEN_S


def test_budget_counts_what_is_left(clock: FakeClock) -> None:
    with (
        Sandbox(clock=clock, limit=100).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        create_all(fluenzr, 30)
        budget = fluenzr.budget()
        assert (budget.limit, budget.wait_s) == (100, 0.0)
        assert 60 - THREADS <= budget.remaining <= 60  # at least: some may be counted twice


# retries


@pytest.mark.parametrize(
    "effect",
    [Status(status=503, applied=False), Page(applied=True), Status(status=500, applied=True)],
)
def test_reads_are_tried_again_and_writes_are_not(effect: Status | Page, clock: FakeClock) -> None:
    faults = Faults(Rule(name="trouble", effect=effect))
    with (
        Sandbox(clock=clock, faults=faults).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        with pytest.raises(Unanswered):
            fluenzr.create(BODY)
        assert (fluenzr.requests, clock.monotonic_s()) == (1, 0.0)
        with pytest.raises(Unanswered):
            fluenzr.groups()
        assert fluenzr.requests == 1 + wire.GET_ATTEMPTS_MAX
        assert clock.monotonic_s() == pytest.approx(1 + 2 + 4 + 8)


def test_a_read_succeeds_as_soon_as_one_answer_is_good(clock: FakeClock) -> None:
    faults = Faults(Rule(name="trouble", effect=Status(status=502, applied=False), times=2))
    with (
        Sandbox(clock=clock, faults=faults).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        assert fluenzr.groups() == []
        assert fluenzr.requests == 3


# the server's clock


def test_server_time_is_a_lower_bound_that_goes_on_without_answers(clock: FakeClock) -> None:
    clock.advance_s(0.75)
    with (
        Sandbox(clock=clock, quirks=Quirks(clock_ahead_s=3600.0)).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        assert fluenzr.server_time_ms() is None
        assert fluenzr.create(BODY).date_ms == int(START_S + 3600) * 1000
        assert fluenzr.server_time_ms() == int(START_S + 3600) * 1000
        clock.advance_s(10.0)
        assert fluenzr.server_time_ms() == int(START_S + 3610) * 1000


def test_without_a_date_nothing_is_claimed(clock: FakeClock) -> None:
    with (
        Sandbox(clock=clock, quirks=Quirks(date_header=False)).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        assert fluenzr.create(BODY).date_ms is None
        assert fluenzr.server_time_ms() is None


# stopping


def test_a_stop_ends_every_wait() -> None:
    clock, refused = SystemClock(), threading.Event()

    def script(connection: socket.socket) -> None:
        connection.sendall(too_many("Retry-After: 500"))
        refused.set()

    with (
        serving(script) as server,
        client(server.url, clock) as fluenzr,
        ThreadPoolExecutor(4) as threads,
    ):
        waiting = [threads.submit(fluenzr.create, BODY) for _ in range(4)]
        assert refused.wait(5.0)
        clock.stop()
        assert [type(one.exception(5.0)) for one in waiting] == [Interrupted] * 4
        assert fluenzr.requests == 1


def test_after_a_stop_nothing_is_sent(clock: FakeClock) -> None:
    with Sandbox(clock=clock).serve() as sandbox, client(sandbox.url, clock) as fluenzr:
        clock.stop()
        for ask in (fluenzr.groups, lambda: fluenzr.create(BODY)):
            with pytest.raises(Interrupted):
                ask()
        assert not sandbox.requests


# the key


@pytest.mark.parametrize("key", ["", "flz_sk_a\nX-Admin: 1", "flz sk", "flz_sk_é", "\u200bflz"])
def test_a_key_that_is_none_is_refused_without_repeating_it(key: str, clock: FakeClock) -> None:
    with pytest.raises(ConfigError) as caught:
        client("http://127.0.0.1:1/v1", clock, key=key)
    assert caught.value.place == "fluenzr.api_key"
    assert not key or key not in str(caught.value)


def test_no_error_holds_the_key_or_an_address(clock: FakeClock) -> None:
    quirks = Quirks(read_only_key=True)
    asked: list[Callable[[FluenzR], object]] = [
        lambda fluenzr: fluenzr.create(BODY),
        lambda fluenzr: fluenzr.delete("con_1"),
        lambda fluenzr: fluenzr.find("ann@example.com"),
        lambda fluenzr: fluenzr.contact("con_1"),
    ]
    faults = Faults(Rule(name="trouble", effect=Page(applied=False), method="GET"))
    with (
        Sandbox(clock=clock, quirks=quirks, faults=faults).serve() as sandbox,
        client(sandbox.url, clock) as fluenzr,
    ):
        for ask in asked:
            with pytest.raises(Exception, match=r"at 127\.0\.0\.1") as caught:
                ask(fluenzr)
            assert KEY not in str(caught.value)
            assert "ann" not in str(caught.value).replace("cannot", "")
