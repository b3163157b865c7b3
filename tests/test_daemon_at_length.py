"""The daemon over many runs, on a clock whose seconds are free: a source that is down for long, and reloads at any moment."""

import queue
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from house import Ahead, House, house_fixture, row

from syncd import daemon
from syncd.core.due import rest_s
from syncd.daemon import Daemon
from syncd.errors import StateError
from syncd.notify import Notifier
from syncd.report.past import outlook, sync_facts
from syncd.state.store import open_for_reading

__all__ = ["house_fixture"]

MINUTE_S, HOUR_S = 60.0, 3600.0
PATIENCE_S = 60.0  # only a failing test waits that long


class Turns(Ahead):
    """The house's clock. Nobody sleeps in the middle of a tick, so what is due together is taken together."""

    def __init__(self, house: House) -> None:
        super().__init__(house.clock, 0)
        self.tick = threading.Lock()

    def sleep_s(self, seconds: float) -> None:
        with self.tick:
            super().sleep_s(seconds)


class Ear(Notifier):
    """The service manager, as far as it hears that nothing runs any more."""

    def __init__(self) -> None:
        super().__init__("")
        self.idle: queue.SimpleQueue[str] = queue.SimpleQueue()

    def status(self, words: str) -> None:
        if words.startswith("idle"):
            self.idle.put(words)


class Service:
    """A daemon whose time is ours."""

    def __init__(self, house: House) -> None:
        self.house, self.clock, self.ear = house, Turns(house), Ear()
        self.daemon: Daemon

    def start(self) -> None:
        """With the configuration as it is now; what is due at once is done then."""
        config = self.house.folder / "config.toml"
        self.daemon = Daemon(config, clock=self.clock, notifier=self.ear)
        with self.clock.tick:
            self.daemon.start()
        self.hear(2)

    def restart(self) -> None:
        """Another process, as the service manager makes one. Its time is that of the first."""
        self.stop()
        self.clock = Turns(self.house)
        self.start()

    def stop(self) -> None:
        self.clock.stop()
        assert self.daemon.stop()

    def hear(self, times: int) -> None:
        """So often that nothing runs."""
        for _ in range(times):
            self.ear.idle.get(timeout=PATIENCE_S)

    def next(self) -> None:
        """Let time pass until something is due, and wait until that was done."""
        while (pause_s := self.daemon.pause_s()) > 0:
            self.house.later(minutes=pause_s / MINUTE_S)
        with self.clock.tick:
            self.daemon.tick()
        self.hear(1)

    def until(self, end_s: float) -> None:
        """Everything that is due by then."""
        while self.clock.now_s() < end_s:
            self.next()

    def runs(self) -> list[tuple[float, str]]:
        """(when it began, how it ended) of each run."""
        found = self.house.query(
            "SELECT run.started_at AS at, status FROM run JOIN run_sync USING (run) ORDER BY run"
        )
        return [(one["at"], one["status"]) for one in found]


@pytest.fixture(name="service")
def service_fixture(house: House) -> Iterator[Service]:
    house.configure(schedule="every 5 minutes")
    house.write(row(1, "ann@example.com"))
    service = Service(house)
    yield service
    service.stop()


def test_rest_doubles_up_to_an_hour_and_ends() -> None:
    assert [rest_s(failures) / MINUTE_S for failures in range(10)] == [
        0, 0, 1, 2, 4, 8, 16, 32, 60, 60,
    ]  # fmt: skip
    assert rest_s(100_000) == HOUR_S


def test_source_that_is_down_for_a_day_is_asked_ever_less_and_is_back_within_an_hour(
    service: Service,
) -> None:
    house = service.house
    (house.folder / "people.csv").unlink()
    down_s = service.clock.now_s()
    service.start()
    service.until(down_s + 24 * HOUR_S)
    tries = service.runs()
    assert {status for _, status in tries} == {"failed"}
    gaps = [later - sooner for (sooner, _), (later, _) in pairwise(tries)]
    assert gaps[0] == pytest.approx(5 * MINUTE_S, abs=2)  # it may have been a moment's trouble
    assert max(gaps) <= HOUR_S + MINUTE_S
    assert len(tries) < 35, "5 minutes would have made it 288"

    back_s = service.clock.now_s()
    house.write(row(1, "ann@example.com"), row(2, "bob@example.com"))
    while service.runs()[-1][1] == "failed":
        service.next()
    assert service.runs()[-1][0] <= back_s + HOUR_S
    assert house.everybody() == {"ann@example.com", "bob@example.com"}

    recovered = len(service.runs())
    service.until(service.clock.now_s() + HOUR_S)
    assert len(service.runs()) - recovered == pytest.approx(12, abs=1)


def test_one_that_fails_delays_no_other(service: Service) -> None:
    house = service.house
    schedule = {"schedule": "every 5 minutes"}
    house.configure(syncs={"people": schedule, "others": schedule})
    house.write(row(1, "ann@example.com"), source="others")
    (house.folder / "people.csv").unlink()
    begin_s = service.clock.now_s()
    service.start()
    service.until(begin_s + 3 * HOUR_S)
    ran = house.query("SELECT sync, status, count(*) AS n FROM run_sync GROUP BY sync, status")
    counts = {(one["sync"], one["status"]): one["n"] for one in ran}
    assert counts["others", "ok"] == pytest.approx(36, abs=1)
    assert counts["people", "failed"] < 12


def test_reload_and_restart_try_at_once_what_was_left_alone(service: Service) -> None:
    """Whoever does that has mended something."""
    (service.house.folder / "people.csv").unlink()
    service.start()
    service.until(service.clock.now_s() + 3 * HOUR_S)
    assert service.daemon.pause_s() > 0
    count = len(service.runs())
    with service.clock.tick:
        service.daemon.reload()
    service.hear(2)
    assert len(service.runs()) == count + 1
    assert service.daemon.pause_s() > 0
    service.restart()
    assert len(service.runs()) == count + 2


def test_state_that_cannot_be_read_after_a_failure_ends_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    (service.house.folder / "people.csv").unlink()
    service.start()

    def refused(path: Path) -> None:
        raise StateError(f"The state {path} cannot be used")

    monkeypatch.setattr(daemon, "open_for_reading", refused)
    count = len(service.runs())
    service.until(service.clock.now_s() + HOUR_S)
    assert len(service.runs()) == count + 12


def test_status_tells_when_it_is_tried_again(service: Service) -> None:
    (service.house.folder / "people.csv").unlink()
    service.start()
    service.until(service.clock.now_s() + 3 * HOUR_S)
    with closing(open_for_reading(service.house.state)) as db:
        (one,) = outlook(service.house.settings, db, now_s=service.clock.now_s())
    assert one.sync.failures == len(service.runs())
    assert one.rests
    assert (
        "",
        f"left alone for a while: it has failed {one.sync.failures} times in a row",
    ) in list(sync_facts(one, now_s=service.clock.now_s()))
    assert one.next_s == pytest.approx(service.runs()[-1][0] + HOUR_S, abs=2)
