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
from syncd.stream import POLL_S, Leash, Stream
from syncd.testing.clock import FakeClock
from syncd.watch import Nobody

__all__ = ["gate_fixture", "house_fixture"]

PATIENCE_S = 20.0  # only a failing test waits that long
LIMIT_S = 0.3


def configure(
    house: House,
    *,
    limit: str = f"{LIMIT_S} seconds",
    schedule: str = "every 1 day",
    **options: Any,
) -> None:
    """Two syncs: `stuck`, which comes first, and `people`, a CSV file."""
    house.configure(syncs={"people": {"schedule": schedule}})
    tables = tomlkit.parse((house.folder / "config.toml").read_text()).unwrap()
    stuck = {"connector": "stuck", "gate": "gate", "time_limit": limit, **options}
    tables["source"] = {"stuck": stuck, **tables["source"]}
    mapped = {
        "source": "stuck", "fields": {"email": "email"}, "opted_out": "out", "schedule": schedule,
    }  # fmt: skip
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


def test_everything_is_handled_in_its_order_and_then_comes_the_error() -> None:
    def numbers() -> Iterator[int]:
        yield from range(1000)
        raise SourceError("page 3")

    found: list[int] = []
    given = stream(numbers)
    with pytest.raises(SourceError, match="page 3"):
        given.drain(found.append)
    assert given.close()
    assert found == list(range(1000))


def test_our_own_work_costs_the_source_no_time() -> None:
    """It takes longer than the source may: that is not the source's fault."""
    given = stream(lambda: iter(range(3)), limit_s=0.2)
    given.drain(lambda _: time.sleep(0.2))
    assert given.close()


def test_error_of_whoever_handles_it_ends_the_source() -> None:
    ended = threading.Event()

    def numbers() -> Iterator[int]:
        try:
            yield from iter(int, 1)  # for ever
        finally:
            ended.set()

    def handle(_: int) -> None:
        raise SourceError("twice")

    given = stream(numbers)
    with pytest.raises(SourceError, match="twice"):
        given.drain(handle)
    assert given.close()
    assert ended.is_set()


def test_what_comes_after_the_end_of_its_time_is_not_handled() -> None:
    """The state belongs to somebody else by then."""
    gate, ended, found = threading.Event(), threading.Event(), []

    def late() -> Iterator[int]:
        try:
            yield 1
            gate.wait(PATIENCE_S)
            yield 2
        finally:
            ended.set()

    given = stream(late, limit_s=5 * POLL_S)
    with pytest.raises(SourceError, match="cut off"):
        given.drain(found.append)
    gate.set()
    assert ended.wait(PATIENCE_S)
    assert found == [1]


def test_silence_is_not_waited_for_without_end_whatever_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between two records, not in all."""
    monkeypatch.setattr("syncd.stream.SILENCE_S_MAX", 0.5)
    gate = threading.Event()

    def silent() -> Iterator[int]:
        for number in range(12):
            time.sleep(0.05)
            yield number
        gate.wait(PATIENCE_S)

    found: list[int] = []
    with pytest.raises(SourceError, match=r"gave nothing for 0\.5 seconds"):
        stream(silent).drain(found.append)
    assert found == list(range(12))
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
        given.drain(lambda _: None)
    assert ended.wait(PATIENCE_S)
    given.close()
