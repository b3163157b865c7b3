"""A source that gets stuck is cut off by its time limit, and takes nobody else along."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from house import House, house_fixture, row
from stuck import gate_fixture

from syncd import config, run
from syncd.core.result import Status
from syncd.errors import ConfigError, Interrupted, SourceError
from syncd.stream import AT_ONCE, SILENCE_S_MAX, WAITING_MAX, Leash, Stream
from syncd.testing.clock import FakeClock
from syncd.watch import Nobody

__all__ = ["gate_fixture", "house_fixture"]

PATIENCE_S = 20.0  # only a failing test waits that long
LIMIT_S = 0.3


def configure(house: House, *, limit: str = f"{LIMIT_S} seconds", **options: Any) -> None:
    """Two syncs: `stuck`, which comes first, and `people`, a CSV file."""
    house.configure(syncs={"people": {}})
    tables = tomlkit.parse((house.folder / "config.toml").read_text()).unwrap()
    stuck = {"connector": "stuck", "gate": "gate", "time_limit": limit, **options}
    tables["source"] = {"stuck": stuck, **tables["source"]}
    mapped = {"source": "stuck", "fields": {"email": "email"}, "opted_out": "out"}
    tables["sync"] = {"stuck": mapped, **tables["sync"]}
    (house.folder / "config.toml").write_text(tomlkit.dumps(tables))
    house.settings = config.load(house.folder / "config.toml")
    house.write(row(1, "dan@example.com"))


@pytest.mark.parametrize("at", ["token", "fields", "first", "second"])
def test_stuck_source_is_cut_off_and_the_others_are_done(house: House, gate: Path, at: str) -> None:
    configure(house, at=at)
    began_s = time.monotonic()
    stuck, people = house.sync_all()
    assert LIMIT_S <= time.monotonic() - began_s < PATIENCE_S
    assert stuck.status is Status.FAILED
    assert stuck.error is not None
    assert "'stuck' had not ended after 0.3 seconds, and was cut off" in stuck.error
    assert "time_limit` in [source.stuck]" in stuck.error
    assert (people.status, people.created) == (Status.OK, 1)
    assert house.everybody() == {"dan@example.com"}
    gate.touch()
    stuck, _ = house.sync_all()
    assert (stuck.status, stuck.created) == (Status.OK, 3)


@pytest.mark.parametrize("at", ["fields", "first"])
def test_stuck_source_alone_ends_with_its_words_too(house: House, gate: Path, at: str) -> None:
    configure(house, at=at)
    assert house.sync("stuck").status is Status.FAILED


def test_opt_outs_that_came_before_are_kept(house: House, gate: Path) -> None:
    """Ann opted out in the CRM; the read that says so hangs after her. The other sync has her too."""
    configure(house, at="second", opted_out="ann")
    house.write(row(1, "dan@example.com"), row(2, "ann@example.com"))
    stuck, people = house.sync_all()
    assert (stuck.status, people.status) == (Status.FAILED, Status.OK)
    assert house.everybody() == {"dan@example.com"}


def test_stop_does_not_wait_for_a_source_that_is_stuck(house: House, gate: Path) -> None:
    configure(house, limit="1 hour")
    threading.Timer(0.2, house.clock.stop).start()
    began_s = time.monotonic()
    with pytest.raises(Interrupted):
        run.sync(house.settings, run.Order(), clock=house.clock, watch=Nobody())
    assert time.monotonic() - began_s < PATIENCE_S


@pytest.mark.parametrize("written", ["0", "now and then", 5])
def test_limit_that_cannot_be_is_refused_with_its_place(
    house: House, gate: Path, written: object
) -> None:
    with pytest.raises(ConfigError, match=r"source\.stuck\.time_limit"):
        configure(house, limit=written)  # type: ignore[arg-type]


# --- the stream itself -------------------------------------------------------------------------------------------


def stream(make: Any, *, limit_s: float = PATIENCE_S) -> Stream[int]:
    return Stream(make, source="crm", limit_s=limit_s, leash=Leash(FakeClock()))


def test_everything_comes_in_its_order_and_then_the_error() -> None:
    def numbers() -> Iterator[int]:
        yield from range(10 * AT_ONCE + 7)
        raise SourceError("page 3")

    found: list[int] = []
    given = stream(numbers)
    with pytest.raises(SourceError, match="page 3"):
        found.extend(given)
    assert given.close()
    # list.extend keeps what came before the error
    assert found == list(range(10 * AT_ONCE + 7))


def test_what_is_not_taken_is_not_read_and_costs_no_time() -> None:
    """Our own work takes longer than the source may: that is not the source's fault."""
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(20 * AT_ONCE):
            made.append(number)
            yield number

    given = stream(numbers, limit_s=0.5)
    numbers_taken = iter(given)
    next(numbers_taken)
    time.sleep(0.8)
    assert len(made) <= (WAITING_MAX + 2) * AT_ONCE
    assert len(list(numbers_taken)) == 20 * AT_ONCE - 1
    assert given.close()


def test_closing_early_ends_the_source() -> None:
    ended = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from iter(int, 1)  # for ever
        finally:
            ended.set()

    given = stream(numbers)
    next(iter(given))
    assert given.close()
    assert ended.is_set()


def test_silence_is_not_waited_for_without_end_whatever_the_limit() -> None:
    gate = threading.Event()

    def silent() -> Iterator[int]:
        yield from range(AT_ONCE)
        gate.wait(PATIENCE_S)

    given = stream(silent, limit_s=100 * SILENCE_S_MAX)
    taken = iter(given)
    assert [next(taken) for _ in range(AT_ONCE)] == list(range(AT_ONCE))
    for _ in range(3):
        given.waited(SILENCE_S_MAX / 3)
    with pytest.raises(SourceError, match="gave nothing for 3600 seconds"):
        next(taken)
    gate.set()


def test_sleeper_is_let_go_when_its_source_is_cut_off() -> None:
    """A connector that waits on its clock, as HTTP does, ends by itself."""
    clock, ended = Leash(FakeClock()), threading.Event()

    def sleeping() -> Iterator[int]:
        try:
            while True:
                clock.sleep_s(1)
                time.sleep(0.01)
        finally:
            ended.set()
        yield 1

    given: Stream[int] = Stream(sleeping, source="crm", limit_s=0.1, leash=clock)
    with pytest.raises(SourceError, match="cut off"):
        list(given)
    assert ended.wait(PATIENCE_S)
    given.close()
