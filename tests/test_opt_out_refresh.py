"""Opt-outs are found in each run, for as few requests as has been proven to be enough.

FluenzR's reference does not say that `updatedAt` moves when somebody opts out, that a listing can be
sorted by it, nor that totals are right. So each test is one reading of that; whoever has opted out is
barred all the same.
"""

import pytest
from crowd import (
    CROWD,
    LIES,
    ROWS,
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
from house import House, house_fixture, row  # noqa: F401 - a fixture

from syncd.sandbox import exchange
from syncd.state import opt_outs
from syncd.state.store import change

# --- what it costs ------------------------------------------------------------------------------------------------


def test_the_usual_run_asks_for_three_pages(house: House) -> None:
    crowd(house, 2_500)
    before = house.sandbox.counts["GET", "/contacts"]
    # 26 pages of the status (the 25th is full), 2 of the others, 26 of the account and its first while the source is read
    house.sync()
    assert house.sandbox.counts["GET", "/contacts"] - before == 26 + 2 + 26 + 1
    assert asked(house) == 26 + 2  # nothing has happened, so nothing is proven
    opt_out(house, 2_500, 2_501, 2_502)
    assert asked(house) == 26 + 2 + 1  # and a page newest first, where these three must stand
    assert asked(house) == USUAL
    opt_out(house, 2_503, 2_504)
    assert asked(house) == USUAL
    assert asked(house) == USUAL
    assert barred(house) == out(house)
    assert len(out(house)) == 2_505


def test_it_stays_cheap_while_people_unsubscribe(house: House, small: None) -> None:
    number = trusted(house)
    for more in range(8):
        opt_out(house, number + more)
        assert asked(house) == USUAL
    assert barred(house) == out(house)


def test_everything_is_read_once_a_day(house: House, small: None) -> None:
    trusted(house)
    runs = [asked(house, later_minutes=60) for _ in range(23)]
    assert set(runs) == {USUAL}
    assert asked(house, later_minutes=60) == WHOLE + 1 + 9  # and the whole account
    assert asked(house, later_minutes=60) == USUAL


def test_a_plan_is_as_cheap_and_remembers_nothing(house: House, small: None) -> None:
    number = trusted(house)
    opt_out(house, number)
    before = house.sandbox.counts["GET", "/contacts"]
    house.plan()
    assert house.sandbox.counts["GET", "/contacts"] - before == USUAL


def test_one_page_is_all_pages(house: House, small: None) -> None:
    """Where everybody stands on one page nothing needs to be believed."""
    crowd(house, 3)
    house.sync()
    opt_out(house, 5)
    assert asked(house) == USUAL
    assert barred(house) == out(house)


def test_a_full_last_page_is_not_the_end_on_trust(house: House, small: None) -> None:
    crowd(house, ROWS)
    house.sync()
    assert asked(house) == 2 + 2


@pytest.mark.parametrize("total", ["right", "absent", "everybody"])
def test_server_gives_smaller_pages_than_asked_for(
    house: House, small: None, monkeypatch: pytest.MonkeyPatch, total: str
) -> None:
    """A page that is not full is not the end either."""
    monkeypatch.setattr(exchange, "PER_PAGE_MAX", ROWS - 2)
    house.quirks(status_total=total)
    crowd(house, CROWD)
    house.sync()
    opt_out(house, 30, 31)  # the last ones of a listing in the order of creation
    asked(house)
    assert barred(house) == out(house)


def test_nothing_is_proven_by_those_who_came_after_the_last_reading(
    house: House, small: None
) -> None:
    """They have a new time because they are new."""
    crowd(house, CROWD)
    house.sync()
    for number in range(100, 104):
        house.later(minutes=5)
        house.account.add_contact(address(number))
        opt_out(house, number)
    assert asked(house) == WHOLE + 1  # 26 people: six pages
    assert asked(house) == WHOLE + 1


def test_nothing_is_proven_by_those_whom_we_have_changed(house: House, small: None) -> None:
    """`updatedAt` stays where it is at opt-outs, and our own writing moves it: that looks like a proof."""
    house.quirks(opt_out_moves=False)
    crowd(house, CROWD)
    some = [address(number) for number in range(30, 34)]
    house.write(*(row(n, email, first="A") for n, email in enumerate(some)))
    house.sync()
    house.later(minutes=15)
    house.write(*(row(n, email, first="B") for n, email in enumerate(some)))
    house.sync()
    opt_out(house, 30, 31, 32, 33)
    assert asked(house) == WHOLE + 1
    assert asked(house) == WHOLE + 1
    assert barred(house) == out(house)


def test_nothing_is_proven_where_everybody_is_edited(house: House, small: None) -> None:
    """Somebody else writes to everybody all the time: a new time tells nothing of opting out."""
    house.quirks(opt_out_moves=False)
    crowd(house, CROWD)
    for numbers in ((), (30, 31), (32, 33), (34, 35)):
        house.later(minutes=10)
        for number in range(40):
            house.account.edit(address(number), firstName=f"F{house.clock.now_s()}")
        opt_out(house, *numbers)
        house.sync()
    assert distrust(house) is None
    assert asked(house) > USUAL
    assert barred(house) == out(house)


# --- readings under which the order proves nothing ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("readings", "why"),
    [
        ({"sort_updated": "ignored"}, "order"),
        ({"sort": "ignored"}, "order"),
        ({"sort_updated": "refused"}, "refused"),
        ({"opt_out_moves": False}, "unmoved"),
        ({"date_header": False}, None),
        ({"status_filter": "ignored"}, None),
        ({"status_total": "absent"}, None),
        ({"status_total": "everybody"}, None),
        ({"status_total": "page"}, None),
    ],
)
def test_order_that_was_never_proven_is_never_used(
    house: House, small: None, readings: dict[str, object], why: str | None
) -> None:
    house.quirks(**readings)
    crowd(house, CROWD)
    house.sync()
    assert barred(house) == out(house)
    for number in range(30, 36):
        opt_out(house, number)
        assert asked(house) >= WHOLE
        assert barred(house) == out(house)
    assert distrust(house) == why
    if why is not None:  # and nothing is asked in vain
        assert asked(house) == WHOLE + 1


@pytest.mark.parametrize(("readings", "why"), LIES)
def test_order_that_was_proven_and_holds_no_more(
    house: House, small: None, readings: dict[str, object], why: str | None
) -> None:
    """Whoever it hides is missing in the total, so all is read; and it is never believed again."""
    number = trusted(house)
    assert asked(house) == USUAL
    house.quirks(**readings)
    opt_out(house, number)
    assert asked(house) > USUAL
    assert barred(house) == out(house)
    assert distrust(house) == why
    house.quirks(
        sort_updated="honoured", opt_out_moves=True, status_filter="honoured", status_total="right"
    )
    opt_out(house, number + 1)
    assert asked(house) > USUAL
    assert (asked(house) == USUAL) is (why is None)  # a total proves nothing of the order


def test_reconcile_begins_anew(house: House, small: None) -> None:
    number = trusted(house)
    house.quirks(opt_out_moves=False)
    opt_out(house, number)
    asked(house)
    house.quirks(opt_out_moves=True)
    change(house.state, opt_outs.start_anew, clock=house.clock)
    assert asked(house) > USUAL
    opt_out(house, number + 1, number + 2, number + 3)
    assert asked(house) > USUAL
    assert asked(house) == USUAL


# --- one leaves as one comes --------------------------------------------------------------------------------------


def leave(house: House, way: str) -> None:
    """Somebody of long ago is not listed any more."""
    if way == "removed":
        house.account.remove(address(0))
    else:
        house.account.opt_out(address(0), status=way)


@pytest.mark.parametrize("way", ["removed", "active", "bounced"])
def test_one_leaves_as_one_comes(house: House, small: None, way: str) -> None:
    """The total is the same; the order shows who came."""
    number = trusted(house)
    opt_out(house, number)
    leave(house, way)
    assert asked(house) > USUAL
    assert out(house) <= barred(house)
    assert distrust(house) is None
    assert asked(house) == USUAL


def test_one_leaves_as_one_is_hidden(house: House, small: None) -> None:
    """The one case that total and order both miss: it ends with the day, and with all trust."""
    number = trusted(house)
    house.quirks(opt_out_moves=False)
    house.account.remove(address(0))
    opt_out(house, number)
    assert asked(house) == USUAL
    assert out(house) - barred(house) == {address(number)}
    asked(house, later_minutes=24 * 60)
    assert barred(house) == out(house)
    assert distrust(house) == "unmoved"


def test_hidden_ones_are_read_alone_before_they_join_anything(house: House, small: None) -> None:
    """Also in the one run that does not know of the opt-out nobody is mailed who has unsubscribed."""
    house.account.add_group("Newsletter", dynamic=True)
    number = trusted(house)
    house.write(row(1, SIGNED), row(2, address(number)))
    asked(house)
    house.quirks(opt_out_moves=False)
    house.account.remove(address(0))
    opt_out(house, number)
    house.configure(groups=["Newsletter"])
    asked(house)
    assert house.mailed() == [SIGNED]
    assert barred(house) == out(house)


def test_hidden_ones_are_found_by_any_listing_of_the_account(house: House, small: None) -> None:
    """A second sync lists the account before its first sending."""
    number = trusted(house)
    house.quirks(opt_out_moves=False)
    house.account.remove(address(0))
    opt_out(house, number)
    house.configure(syncs={"people": {}, "more": {"groups": ["New"]}})
    house.write(row(1, address(number)), source="more")
    house.later(minutes=15)
    house.sync_all()
    assert distrust(house) == "unmoved"
    assert house.members("New") == set()


def test_renamed_by_hand_is_somebody_new(house: House, small: None) -> None:
    """Being barred belongs to an address: who is known under another one is not known."""
    trusted(house)
    house.account.rename(address(3), "new@example.com")
    assert asked(house) > USUAL
    assert asked(house) == USUAL
    assert barred(house) == out(house)


def test_renamed_by_hand_after_opting_out(house: House, small: None) -> None:
    """The new address is barred too, in the same run, although the total is as before."""
    number = trusted(house)
    house.account.rename(address(3), "new@example.com")
    house.configure(groups=["Customers"])
    house.write(row(1, SIGNED), row(2, "new@example.com"))
    asked(house)
    assert house.members("Customers") == {SIGNED}
    opt_out(house, number)
    asked(house)
    assert barred(house) == out(house)
