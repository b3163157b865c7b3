"""A crowd that has unsubscribed, and how many requests it takes to know of it: for the tests of the opt-outs' refresh.

Most use small pages: `small`.
"""

import pytest
from house import House, row

from syncd.core.model import OPTED_OUT_STATUSES
from syncd.core.result import Status
from syncd.state import ledger, opt_outs
from syncd.state.store import open_state
from syncd.upload import listing

ROWS = 5  # of a page, in the tests that need not show the real number
CROWD = 22  # people who have unsubscribed: five pages
USUAL = 3  # requests of a run that trusts the order: a page a status
WHOLE = 5 + 2  # ... and of one that does not
SIGNED = "signed@example.com"  # somebody of the source, so that there is something to run for
LIES: list[
    tuple[dict[str, object], str | None]
] = [  # readings, and why the order is not believed then
    ({"sort_updated": "ignored"}, "order"),
    ({"sort_updated": "refused"}, "refused"),
    ({"opt_out_moves": False}, "unmoved"),
    ({"status_filter": "ignored"}, None),
    ({"status_total": "absent"}, None),
    ({"status_total": "everybody"}, None),
    ({"status_total": "page"}, None),
]


@pytest.fixture(name="small")
def small_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a few people."""
    monkeypatch.setattr(listing, "PAGE_ROWS", ROWS)


def address(number: int) -> str:
    return f"p{number}@example.com"


def crowd(house: House, count: int, *, others: int = 20) -> None:
    """So many people who have unsubscribed, one after the other, and others who have not."""
    for number in range(count + others):
        house.account.add_contact(address(number))
    house.later(hours=1)
    for number in range(count):
        house.clock.advance_s(1)
        house.account.opt_out(address(number))
    house.write(row(1, SIGNED))


def opt_out(house: House, *numbers: int, status: str = "unsubscribed") -> None:
    for number in numbers:
        house.clock.advance_s(1)
        house.account.opt_out(address(number), status=status)


def asked(house: House, *, later_minutes: float = 15) -> int:
    """One run, a while later; how many listings it asks for."""
    house.later(minutes=later_minutes)
    before = house.sandbox.counts["GET", "/contacts"]
    assert house.sync().status is Status.OK
    return house.sandbox.counts["GET", "/contacts"] - before


def trusted(house: House, count: int = CROWD, *, others: int = 20) -> int:
    """The order is proven: three people have unsubscribed and came first. The next who can."""
    crowd(house, count, others=others)
    house.sync()
    opt_out(house, count, count + 1, count + 2)
    asked(house)
    return count + 3


def barred(house: House) -> set[str]:
    """Those in the account who are barred in the ledger."""
    everybody = house.account.contacts_by_email()
    with open_state(house.state, rehearsal=True) as state:
        return {email for email in everybody if ledger.has_address(state, email, "!")}


def out(house: House) -> set[str]:
    """Those who have opted out."""
    everybody = house.account.contacts_by_email().values()
    return {one["email"] for one in everybody if one["status"] in OPTED_OUT_STATUSES}


def distrust(house: House, status: str = "unsubscribed") -> str | None:
    """Why the order is not believed any more."""
    with open_state(house.state, rehearsal=True) as state:
        return opt_outs.recall(state, status).distrust
