"""Opt-outs, and what happens while they are read: pages that shift, crashes, clocks, random days."""

import random
from collections.abc import Callable

import pytest
from crowd import (
    CROWD,
    LIES,
    SIGNED,
    USUAL,
    WHOLE,
    address,
    asked,
    barred,
    crowd,
    distrust,
    opt_out,
    out,
    small_fixture,  # noqa: F401 - a fixture
    trusted,
)  # fmt: skip
from house import House, Killed, Killer, house_fixture  # noqa: F401 - a fixture

from syncd import run
from syncd.core.result import Status
from syncd.sandbox.faults import Act
from syncd.sandbox.faults import Status as Broken
from syncd.state import opt_outs
from syncd.state.store import change
from syncd.testing.clock import FakeClock

# --- what happens meanwhile ---------------------------------------------------------------------------------------


def during(house: House, action: Callable[[], object], *, nth: int) -> None:
    """Somebody does something just before the nth listing from now."""
    house.fault(Act(action=action), "GET", "/contacts", nth={nth})


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_opt_out_between_the_pages(house: House, small: None, nth: int) -> None:
    """Newest first, status by status: found now or by the next run."""
    number = trusted(house)
    during(house, lambda: opt_out(house, number), nth=nth)
    asked(house)
    asked(house)
    assert barred(house) == out(house)
    assert distrust(house) is None


@pytest.mark.parametrize("nth", range(1, WHOLE + 2))
@pytest.mark.parametrize("leaves", [True, False])
def test_pages_shift_during_a_complete_pass(
    house: House, small: None, nth: int, leaves: bool
) -> None:
    """Who was pushed from one page to another is not counted as known: all is read again."""
    number = trusted(house)
    change(house.state, opt_outs.start_anew, clock=house.clock)
    with_others = [number, number + 1]

    def shift() -> None:
        opt_out(house, *with_others)
        if leaves:
            house.account.remove(address(0))
            house.account.remove(address(1))

    during(house, shift, nth=nth)
    asked(house)
    asked(house)
    assert barred(house) == out(house)


def test_many_at_once_take_more_pages(house: House, small: None) -> None:
    number = trusted(house)
    opt_out(house, *range(number, number + 7))
    assert asked(house) == USUAL + 1
    assert barred(house) == out(house)


def test_more_than_is_read_newest_first(house: House, small: None) -> None:
    number = trusted(house, 60, others=80)
    opt_out(house, *range(number, number + 55))
    assert asked(house) > USUAL + 10
    assert barred(house) == out(house)
    assert distrust(house) is None


class AtPage(Killer):
    """Kills the run after so many pages."""

    def __init__(self, count: int) -> None:
        super().__init__("never")
        self._left = count

    def advance(self, steps: int, *, detail: str = "") -> None:
        self._left -= steps
        if self._left <= 0:
            raise Killed


@pytest.mark.parametrize("count", range(1, WHOLE + 1))
@pytest.mark.parametrize("proven", [True, False])
def test_killed_between_the_pages(house: House, small: None, count: int, proven: bool) -> None:
    """What a run has not read to its end is not remembered as read."""
    number = trusted(house)
    if not proven:
        change(house.state, opt_outs.start_anew, clock=house.clock)
    opt_out(house, number)
    opt_out(house, number + 1, status="bounced")
    remembered = house.query("SELECT * FROM meta WHERE k LIKE 'opt_outs:%'")
    with pytest.raises(Killed):
        run.sync(house.settings, run.Order(), clock=house.clock, watch=AtPage(min(count, 3)))
    assert house.query("SELECT * FROM meta WHERE k LIKE 'opt_outs:%'") == remembered
    asked(house)
    assert barred(house) == out(house)
    assert distrust(house) is None


def test_listing_newest_first_fails(house: House, small: None) -> None:
    """All pages then; a server that is out of order for a moment disproves nothing."""
    number = trusted(house)
    opt_out(house, number)
    # Each request is tried five times.
    house.fault(Broken(status=503, applied=False), "GET", "/contacts", nth=range(1, 6))
    assert asked(house) > USUAL
    assert barred(house) == out(house)
    assert distrust(house) is None
    assert asked(house) == USUAL


# --- clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-30, -1, 1, 30])
def test_clock_of_fluenzr_jumps(house: House, small: None, hours: int) -> None:
    number = trusted(house)
    house.quirks(clock_ahead_s=hours * 3600.0)
    for _ in range(3):
        opt_out(house, number)
        number += 1
        asked(house)
        assert barred(house) == out(house)
    house.quirks(clock_ahead_s=0.0)
    opt_out(house, number)
    asked(house)
    assert barred(house) == out(house)


def test_our_clock_jumps(house: House, small: None) -> None:
    """Forward: the day is over. Back: nobody knows how old the last complete pass is. Both: all pages."""
    number = trusted(house)
    assert asked(house) == USUAL
    day_s = 24 * 3600.0
    house.later(days=1)
    house.quirks(clock_ahead_s=-day_s)
    opt_out(house, number)
    assert asked(house) > USUAL
    assert asked(house) == USUAL
    house.clock = FakeClock(house.clock.now_s() - day_s)  # the sandbox keeps the old one
    house.quirks(clock_ahead_s=0.0)
    before = house.sandbox.counts["GET", "/contacts"]
    opt_out(house, number + 1)
    assert house.sync().status is Status.OK
    assert house.sandbox.counts["GET", "/contacts"] - before > USUAL
    assert barred(house) == out(house)


# --- whatever happens ---------------------------------------------------------------------------------------------


class Days:
    """Random days of an account: people opt out, leave, come back, are edited and renamed."""

    def __init__(self, house: House, seed: int) -> None:
        self.house, self.rng, self.left = house, random.Random(seed), False
        self.hidden = set[str]()
        self.cheap = 0  # runs that trusted the order
        crowd(house, CROWD)
        house.sync()

    def pick(self, *, has_opted_out: bool) -> str | None:
        everybody = set(self.house.account.contacts_by_email()) - {SIGNED}
        some = sorted(e for e in everybody if (e in out(self.house)) is has_opted_out)
        return self.rng.choice(some) if some else None

    def something(self) -> None:
        """Mostly somebody unsubscribes; all else is rarer."""
        account, rng = self.house.account, self.rng
        active, gone = self.pick(has_opted_out=False), self.pick(has_opted_out=True)
        self.house.clock.advance_s(rng.choice([1, 20, 400]))
        what = rng.random()
        if what < 0.6 and active:
            status = rng.choice(["unsubscribed", "unsubscribed", "bounced", "blocked"])
            account.opt_out(active, status=status)
        elif what < 0.7:
            account.add_contact(f"n{rng.randrange(10**9)}@example.com")
        elif what < 0.8 and active:
            account.edit(active, firstName=str(rng.random()))
        elif what < 0.88 and gone:
            account.edit(gone, firstName=str(rng.random()))
        elif gone:
            self.left = True
            way = rng.choice(["remove", "rename", "active", "blocked"])
            if way == "remove":
                account.remove(gone)
            elif way == "rename":
                account.rename(gone, f"r{rng.randrange(10**9)}@example.com")
            else:
                account.opt_out(gone, status=way)

    def run(self, *, minutes: float) -> set[str]:
        """One run; who has opted out and is not barred after it."""
        for _ in range(self.rng.choice([0, 0, 1, 1, 2, 5])):
            self.something()
        self.cheap += asked(self.house, later_minutes=minutes) == USUAL
        before, self.hidden = self.hidden, out(self.house) - barred(self.house)
        assert self.left or self.hidden <= before
        self.left = False
        return self.hidden


@pytest.mark.parametrize("seed", range(4))
def test_random_days_hide_nobody(house: House, small: None, seed: int) -> None:
    days = Days(house, seed)
    for _ in range(30):
        assert days.run(minutes=days.rng.choice([1, 15, 60])) == set()
    assert days.cheap >= 1
    assert distrust(house) is None


@pytest.mark.parametrize("seed", range(8))
def test_random_days_of_a_liar_hide_nobody_for_longer_than_a_day(
    house: House, small: None, seed: int
) -> None:
    """The order is proven, and lies from then on; only who comes as another one leaves can be hidden at all."""
    days = Days(house, seed)
    for _ in range(12):
        assert days.run(minutes=15) == set()
    readings, _ = LIES[seed % len(LIES)]
    house.quirks(**readings)
    for _ in range(12):
        days.run(minutes=15)
    assert days.run(minutes=24 * 60) == set()
