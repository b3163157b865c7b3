"""The daemon over many runs, on a clock whose seconds are free: a source that is down for long, and reloads at any moment."""

from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from house import House, house_fixture, row
from service import MINUTE_S, Service

from syncd import daemon
from syncd.core.due import rest_s
from syncd.errors import StateError
from syncd.report.past import outlook, sync_facts
from syncd.state.store import open_for_reading

__all__ = ["house_fixture"]

HOUR_S = 3600.0


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
