"""Answers that concern the whole account and nobody in it: throttling, keys, plans, groups, clocks."""

import time

import pytest
from house import BULK, House, house_fixture, people, row  # noqa: F401 - a fixture
from test_answers import (
    SETTLE_S,
    addresses,
    bulks,
    is_quiet,
    newsletter,
)

from syncd.core.result import Status, gravest
from syncd.errors import Interrupted
from syncd.sandbox.faults import Act, Cut, Drop, Effect, Late, Page, Throttle
from syncd.sandbox.faults import Status as Broken
from syncd.testing.clock import FakeClock


@pytest.mark.parametrize("retry_after_s", [17, None])
@pytest.mark.parametrize("path", ["/groups", BULK, "/contacts"])
def test_throttled_request_is_sent_again(
    house: House, path: str, retry_after_s: int | None
) -> None:
    newsletter(house, *people(3), groups=["Newsletter", "Customers"])
    house.fault(Throttle(retry_after_s=retry_after_s), ".*", path, times=2)
    before_s = house.clock.now_s()
    result = house.sync()
    assert (result.status, result.created) == (Status.OK, 3)
    assert house.clock.now_s() - before_s >= 2 * (retry_after_s or 10)
    assert sorted(house.mailed()) == addresses(3)
    assert bulks(house) == (3 if path == BULK else 1)
    assert is_quiet(house)


def test_a_long_wait_for_its_turn_does_not_age_what_is_in_flight(house: House) -> None:
    """Killed at the moment of sending, the next process must know when that was."""
    house.write(*people(2))
    house.configure()
    seen: list[float] = []

    def look() -> None:  # FluenzR is at work, and this process knows nothing else
        for _ in range(200):
            seen[:] = [found["unsettled"] for found in house.query("SELECT unsettled FROM contact")]
            if min(seen) > house.clock.now_s() - SETTLE_S / 2:
                return
            time.sleep(0.02)

    house.fault(Throttle(retry_after_s=300), "POST", BULK, nth={1})
    house.fault(Act(action=look), "POST", BULK, times=1)
    before_s = house.clock.now_s()
    assert house.sync().created == 2
    assert house.clock.now_s() - before_s >= 300
    assert min(seen) >= before_s + 300 - SETTLE_S / 2


def test_endless_throttling_fails_the_run_and_loses_nothing(house: House) -> None:
    newsletter(house, *people(3))
    house.fault(Throttle(retry_after_s=5), "POST", BULK)
    result = house.sync()
    assert (result.status, gravest([result.status]), house.in_flight()) == (Status.FAILED, 1, 0)
    house.faults.clear()
    assert house.sync().created == 3
    assert sorted(house.mailed()) == addresses(3)
    assert is_quiet(house)


def test_the_limit_is_never_met(house: House) -> None:
    """One request a person, more than a minute allows: the run waits, and is never refused."""
    house.sandbox.limit.requests = 60
    for n in range(100):
        house.account.add_contact(f"p{n}@example.com", firstName=f"F{n}")
    house.configure(tags=["crm"])
    house.write(*people(100))
    before_s = house.clock.now_s()
    assert house.sync().status is Status.OK
    assert house.sandbox.throttled == 0
    assert house.clock.now_s() - before_s < 5 * 60
    assert all(one["tags"] == ["crm"] for one in house.account.contacts_by_email().values())


def test_stopped_run_leaves_nothing_in_doubt(house: House) -> None:
    """SIGTERM while a thousand are on their way: what was answered is kept, the next run goes on."""
    newsletter(house, *people(2500), guard={"max_enrolments": 5000})
    house.fault(Act(action=house.clock.stop), "POST", BULK, nth={2})
    with pytest.raises(Interrupted):
        house.sync()
    assert house.in_flight() == 0
    assert 0 < len(house.everybody()) < 2500 or len(house.mailed()) == 2500
    house.clock = house.sandbox.clock = FakeClock(house.clock.now_s())
    result = house.sync()
    assert result.status is Status.OK
    assert sorted(house.mailed()) == addresses(2500)


def test_wrong_key_fails_every_sync_and_the_next_run_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    newsletter(house, *people(3))
    monkeypatch.setenv("SYNCD_TEST_KEY", "flz_sk_wrong")
    house.configure(groups=["Newsletter"])
    result = house.sync()
    assert (result.status, house.everybody()) == (Status.FAILED, set())
    assert "API key" in (result.error or "")
    assert "flz_sk_wrong" not in (result.error or "")
    monkeypatch.setenv("SYNCD_TEST_KEY", "flz_sk_" + "b" * 32)
    house.configure(groups=["Newsletter"])
    assert house.sync().created == 3


def test_plan_without_api_fails_before_anything(house: House) -> None:
    house.quirks(plan_without_api=True)
    house.write(*people(3))
    result = house.sync()
    assert result.status is Status.FAILED
    assert "Pro plan" in (result.error or "")


@pytest.mark.parametrize("path", ["/groups", "/contacts"])
def test_reads_that_never_work_fail_the_run(house: House, path: str) -> None:
    newsletter(house, *people(3))
    house.fault(Broken(status=503, applied=False), "GET", path)
    assert house.sync().status is Status.FAILED
    assert house.sandbox.writes() == 0
    house.faults.clear()
    assert house.sync().created == 3


@pytest.mark.parametrize("effect", [Broken(status=503, applied=False), Page(applied=False), Cut()])
@pytest.mark.parametrize("path", ["/groups", "/contacts"])
def test_read_is_tried_again(house: House, path: str, effect: Effect) -> None:
    newsletter(house, *people(3))
    house.fault(effect, "GET", path, times=2)
    assert (house.sync().created, sorted(house.mailed())) == (3, addresses(3))


def test_group_that_could_not_be_created_stops_the_sending(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(*people(3))
    house.fault(Drop(applied=True), "POST", "/groups", times=1)
    result = house.sync()
    assert (result.status, house.everybody()) == (Status.FAILED, set())
    assert "'Customers'" in (result.error or "")
    assert house.sync().created == 3
    assert len(house.account.groups) == 1  # it was there, and was found


@pytest.mark.parametrize("clock_ahead_s", [0, -3600])
def test_group_that_appears_late_is_not_created_twice(house: House, clock_ahead_s: int) -> None:
    house.quirks(clock_ahead_s=clock_ahead_s)
    house.configure(groups=["Customers"])
    house.write(*people(3))
    house.fault(Late(after_s=60), "POST", "/groups", times=1)
    assert house.sync().status is Status.FAILED
    assert house.account.groups == {}
    assert house.sync().created == 3
    house.sandbox.settle()
    assert len(house.account.groups) == 1
    assert len(house.members("Customers")) == 3


def test_group_whose_create_was_lost_is_created_when_that_is_sure(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(*people(3))
    house.fault(Drop(applied=False), "POST", "/groups", times=1)
    assert house.sync().status is Status.FAILED
    before_s = house.clock.now_s()
    assert house.sync().created == 3
    assert house.clock.now_s() - before_s >= house.settings.fluenzr.settle_s - 5
    assert len(house.account.groups) == 1


@pytest.mark.parametrize("ahead_s", [-3600, -1, 1, 3600])
@pytest.mark.parametrize("applied", [True, False])
def test_clocks_that_differ(house: House, ahead_s: int, applied: bool) -> None:
    """FluenzR's clock decides what is ours, and ours decides how long to wait."""
    house.quirks(clock_ahead_s=ahead_s)
    newsletter(house, *people(4), on_removal="delete")
    house.fault(Drop(applied=applied), "POST", BULK, times=1)
    assert house.sync().created == 4
    house.write(*people(3))
    assert house.sync().removed == 1
    assert sorted(house.everybody()) == addresses(3)
    assert is_quiet(house)
