"""A source that is silent: others do not wait for it, and what it says in the end counts."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, house_fixture, row
from service import MINUTE_S, Service
from stuck import gate_fixture
from test_stuck_source import PATIENCE_S, configure, stream

from syncd import run
from syncd.connector import Table
from syncd.core.result import Status, SyncResult
from syncd.errors import Interrupted, SourceError
from syncd.reading import Feed, Latecomers
from syncd.sandbox.faults import Status as Broken
from syncd.stream import SILENCE_S_MAX, LateError, Leash, SilentError, Stream
from syncd.testing.clock import FakeClock
from syncd.watch import Nobody

__all__ = ["gate_fixture", "house_fixture"]

DAY_S = 86_400.0
FULL = Path("/dev/full")
DOWN = Broken(status=503, applied=False)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here waits five minutes."""
    monkeypatch.setattr("syncd.stream.LATE_S", 0.1)


@pytest.fixture(name="late")
def late_fixture() -> Iterator[Latecomers]:
    """Whoever is left in the end is let go."""
    late = Latecomers()
    yield late
    late.clear()


def sync(house: House, late: Latecomers, *names: str) -> dict[str, SyncResult]:
    """One run as the daemon makes it; the results by sync."""
    results = run.sync(
        house.settings, run.Order(names=names), clock=house.clock, watch=Nobody(), late=late
    )
    return {result.sync: result for result in results}


def ended(feed: Feed) -> bool:
    """Wait until its source has said everything."""
    assert feed.late is not None
    for _ in range(int(PATIENCE_S / 0.02)):
        if feed.late.stream.is_due():
            return True
        threading.Event().wait(0.02)
    return False


ANYWHERE = pytest.mark.parametrize("at", ["first", "second"])


@pytest.mark.parametrize("at", ["token", "fields", "first", "second"])
def test_others_go_on_and_it_is_taken_up_again_when_it_answers(
    house: House, gate: Path, late: Latecomers, at: str
) -> None:
    configure(house, at=at, limit="1 day")
    results = sync(house, late)
    assert list(results) == ["people"]
    assert results["people"].created == 1
    assert list(late.feeds) == ["stuck"]
    assert not late.feeds["stuck"].late.stream.is_due()  # type: ignore[union-attr]
    assert list(sync(house, late)) == ["people"]  # as often as others run
    gate.touch()
    assert ended(late.feeds["stuck"])
    assert sync(house, late, "stuck")["stuck"].created == 3
    assert late.feeds == {}
    assert len(house.everybody()) == 4


def test_whoever_is_asked_for_once_is_waited_for(house: House, gate: Path) -> None:
    """A command has no later run. What a source says of opt-outs counts before others are sent."""
    configure(house, at="first", limit="1 day", opted_out="ann")
    house.write(row(1, "ann@example.com"), row(2, "dan@example.com"))
    threading.Timer(0.5, gate.touch).start()
    stuck, people = house.sync_all()
    assert (stuck.status, people.created) == (Status.OK, 1)
    assert "ann@example.com" not in house.everybody()


@ANYWHERE
def test_it_is_cut_off_when_its_time_is_up_in_the_end(
    house: House, gate: Path, late: Latecomers, at: str
) -> None:
    configure(house, at=at, limit="20 minutes")
    sync(house, late)
    house.later(minutes=21)
    assert late.feeds["stuck"].late.stream.is_due()  # type: ignore[union-attr]
    result = sync(house, late, "stuck")["stuck"]
    assert result.status is Status.FAILED
    assert result.error is not None
    assert "had not ended after 1200 seconds" in result.error
    assert late.feeds == {}


@ANYWHERE
def test_read_by_another_run_meanwhile_it_is_asked_anew(
    house: House, gate: Path, late: Latecomers, at: str
) -> None:
    """What it was asked by (a cursor, a token) is not what the state knows now."""
    configure(house, at=at, limit="1 day")
    sync(house, late)
    feed = late.feeds["stuck"]
    gate.touch()
    assert house.sync("stuck").created == 3
    result = sync(house, late, "stuck")
    if at == "second":
        assert ended(late.feeds["stuck"])
        result = sync(house, late, "stuck")
    told = result["stuck"]
    assert (told.status, told.read, told.created) == (Status.OK, 3, 0)
    assert feed.leash.stopped(), "the first read was not let go"


def test_opt_outs_before_the_silence_count_at_once(
    house: House, gate: Path, late: Latecomers
) -> None:
    configure(house, at="second", limit="1 day", opted_out="ann")
    house.write(row(1, "ann@example.com"), row(2, "dan@example.com"))
    assert sync(house, late)["people"].created == 1
    assert house.everybody() == {"dan@example.com"}
    gate.touch()
    assert ended(late.feeds["stuck"])
    assert sync(house, late, "stuck")["stuck"].opted_out == 1
    assert house.everybody() == {"dan@example.com", "bob@example.com", "cy@example.com"}


def test_whoever_fell_silent_in_the_middle_is_never_waited_for_again(
    house: House, gate: Path, late: Latecomers
) -> None:
    """What it had said until then was handled in vain."""
    configure(house, at="second", limit="20 minutes")
    sync(house, late)
    house.later(minutes=21)
    assert sync(house, late)["stuck"].status is Status.FAILED
    gate.touch()
    assert list(sync(house, late)) == ["people"]  # though it would answer now
    assert ended(late.feeds["stuck"])
    assert sync(house, late, "stuck")["stuck"].created == 3
    late.clear()  # the configuration was changed
    assert sync(house, late, "stuck")["stuck"].read == 3


def test_an_hour_of_silence_is_enough_whatever_the_limit(
    house: House, gate: Path, late: Latecomers
) -> None:
    configure(house, at="first", limit="1 day")
    sync(house, late)
    stream_ = late.feeds["stuck"].late.stream  # type: ignore[union-attr]
    house.later(minutes=59)
    assert not stream_.is_due()
    house.later(minutes=2)
    assert stream_.is_due()
    told = sync(house, late, "stuck")["stuck"]
    assert told.error is not None
    assert "gave nothing for 3600 seconds" in told.error


def test_books_of_a_run_whose_only_source_is_late_are_closed(
    house: House, gate: Path, late: Latecomers
) -> None:
    configure(house, at="first", limit="1 day")
    assert sync(house, late, "stuck") == {}
    assert house.query("SELECT 1 FROM run WHERE ended_at IS NULL") == []


@ANYWHERE
def test_daemon_runs_the_others_in_their_time(house: House, gate: Path, at: str) -> None:
    configure(house, at=at, limit="20 minutes", schedule="every 5 minutes")
    service = Service(house)
    service.start()
    began_s = service.clock.now_s()
    for _ in range(3):
        service.next()
    assert {(one["sync"], one["status"]) for one in house.query("SELECT * FROM run_sync")} == {
        ("people", "ok")
    }
    assert service.clock.now_s() - began_s == pytest.approx(15 * MINUTE_S, abs=5)
    gate.touch()
    for _ in range(100):
        service.next()
        if len(house.everybody()) == 4:
            break
    service.stop()
    assert len(house.everybody()) == 4
    assert house.query("SELECT 1 FROM run_sync WHERE sync='stuck' AND status<>'ok'") == []


def test_daemon_that_reloads_asks_it_anew(house: House, gate: Path) -> None:
    configure(house, at="first", limit="1 day", schedule="every 5 minutes")
    service = Service(house)
    service.start()
    (house.folder / "config.toml").write_text(
        (house.folder / "config.toml").read_text().replace('at = "first"', 'at = "second"')
    )
    gate.touch()
    with service.clock.tick:
        service.daemon.reload()
    service.hear(1)
    service.next()
    service.stop()
    assert len(house.everybody()) == 4


# --- the stream itself -------------------------------------------------------------------------------------------


def test_nothing_is_handled_while_nobody_listens_and_all_of_it_after() -> None:
    gate = threading.Event()

    def numbers() -> Iterator[int]:
        gate.wait(PATIENCE_S)
        yield from range(100)

    given, early, found = stream(numbers), list[int](), list[int]()
    for _ in range(2):
        with pytest.raises(LateError):
            given.drain(early.append, patient=False)
    assert not given.is_due()
    gate.set()
    while not given.is_due():
        threading.Event().wait(0.01)
    given.drain(found.append, patient=False)
    assert (early, found) == ([], list(range(100)))
    assert given.close()


def test_what_fails_before_it_begins_says_so_when_it_is_drained() -> None:
    gate = threading.Event()

    def broken() -> Iterator[int]:
        gate.wait(PATIENCE_S)
        raise SourceError("no such table")
        yield 1

    given = stream(broken)
    with pytest.raises(LateError):
        given.drain(print, patient=False)
    gate.set()
    while not given.is_due():
        threading.Event().wait(0.01)
    with pytest.raises(SourceError, match="no such table"):
        given.drain(print, patient=False)


def test_silence_in_the_middle_ends_it_and_says_so() -> None:
    gate, found = threading.Event(), list[int]()

    def numbers() -> Iterator[int]:
        yield from range(3)
        gate.wait(PATIENCE_S)
        yield 4

    given = stream(numbers)
    with pytest.raises(SilentError, match="gave nothing"):
        given.drain(found.append, patient=False)
    gate.set()
    given.close()
    assert found == [0, 1, 2]


def test_only_silence_counts_not_how_long_it_takes() -> None:
    """Where nobody is waited for for long, a source that gives something now and then is not silent."""

    def numbers() -> Iterator[int]:
        for number in range(10):
            time.sleep(0.04)
            yield number

    found: list[int] = []
    stream(numbers).drain(found.append, patient=False)
    assert found == list(range(10))


def test_silence_is_counted_while_it_is_apart_too() -> None:
    clock, gates, heard = FakeClock(), [threading.Event() for _ in range(2)], threading.Event()

    def numbers() -> Iterator[int]:
        gates[0].wait(PATIENCE_S)
        yield 1
        heard.set()
        gates[1].wait(PATIENCE_S)

    given = Stream(numbers, source="crm", limit_s=DAY_S, leash=Leash(clock))
    given.begin_apart()
    clock.sleep_s(SILENCE_S_MAX - 1)
    assert not given.is_due()
    gates[0].set()
    assert heard.wait(PATIENCE_S)
    clock.sleep_s(SILENCE_S_MAX - 1)
    assert not given.is_due()
    clock.sleep_s(2)
    assert given.is_due()
    with pytest.raises(SourceError, match="gave nothing"):
        given.drain(print, patient=False)
    gates[1].set()


def test_what_was_given_apart_is_handled_before_the_error() -> None:
    def numbers() -> Iterator[int]:
        yield from range(3)
        raise SourceError("page 3")

    given, found = stream(numbers), list[int]()
    given.begin_apart()
    with pytest.raises(SourceError, match="page 3"):
        given.drain(found.append)
    assert found == [0, 1, 2]


def test_stop_ends_what_is_taken_from_apart() -> None:
    clock = FakeClock()
    given: Stream[int] = Stream(
        lambda: iter(range(9)), source="crm", limit_s=DAY_S, leash=Leash(clock)
    )
    given.begin_apart()
    found: list[int] = []

    def handle(number: int) -> None:
        found.append(number)
        clock.stop()

    with pytest.raises(Interrupted):
        given.drain(handle)
    assert len(found) < 9


def test_value_that_cannot_be_kept_fails_its_source_alone() -> None:
    given: Stream[object] = Stream(
        lambda: iter([1, threading.Lock()]), source="crm", limit_s=DAY_S, leash=Leash(FakeClock())
    )
    given.begin_apart()
    found: list[object] = []
    with pytest.raises(SourceError, match="cannot be kept on disk"):
        given.drain(found.append)
    assert found == [1]


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_full_disk_fails_its_source_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: FULL.open("r+b", buffering=0))
    given = stream(lambda: iter(range(3)))
    given.begin_apart()
    with pytest.raises(SourceError, match=r"cannot be written in .*TMPDIR"):
        given.drain(print)


def test_table_goes_through_a_file() -> None:
    lines = [2, 3]
    table = Table(["email"], ["a", "b"], [("a@example.com",), ("b@example.com",)], lambda i: f"x.csv:{lines[i]}")  # fmt: skip
    given: Stream[Table] = Stream(
        lambda: iter([table]), source="crm", limit_s=DAY_S, leash=Leash(FakeClock())
    )
    given.begin_apart()
    found: list[Table] = []
    given.drain(found.append)
    assert list(found[0].records()) == list(table.records())


def test_source_that_has_answered_waits_for_us_as_long_as_we_need() -> None:
    clock, gate = FakeClock(), threading.Event()

    def numbers() -> Iterator[int]:
        gate.wait(PATIENCE_S)
        yield from range(3)

    given = Stream(numbers, source="crm", limit_s=DAY_S, leash=Leash(clock))
    with pytest.raises(LateError):
        given.drain(print, patient=False)
    gate.set()
    while not given.is_due():
        threading.Event().wait(0.01)
    clock.sleep_s(2 * DAY_S)
    found: list[int] = []
    given.drain(found.append)
    assert found == [0, 1, 2]


def test_source_that_is_let_go_ends_when_it_can() -> None:
    gate, ended = threading.Event(), threading.Event()

    def numbers() -> Iterator[int]:
        try:
            gate.wait(PATIENCE_S)
            yield 1
        finally:
            ended.set()

    given = stream(numbers)
    with pytest.raises(LateError):
        given.drain(print, patient=False)
    given.let_go()
    for _ in range(2):  # it hangs, or has ended: that is not the end of a source that has nobody
        with pytest.raises(SourceError, match="was let go"):
            given.drain(print)
        gate.set()
        assert ended.wait(PATIENCE_S)


def test_run_that_fails_before_it_reads_leaves_it_to_the_next_one(
    house: House, gate: Path, late: Latecomers
) -> None:
    configure(house, at="first", limit="1 day")
    sync(house, late)
    feed = late.feeds["stuck"]
    house.fault(DOWN, "GET", "/groups")
    assert sync(house, late)["stuck"].status is Status.FAILED
    assert late.feeds == {"stuck": feed}
    house.faults.clear()
    gate.touch()
    assert ended(feed)
    assert sync(house, late, "stuck")["stuck"].created == 3
