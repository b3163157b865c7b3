"""One state, one account: the key of another one does no harm."""

import re
from collections.abc import Iterator

import pytest
from house import House, house_fixture, people, row  # noqa: F401 - a fixture

from syncd import run
from syncd.check import client
from syncd.errors import ConfigError
from syncd.forget import forget
from syncd.reconcile import reconcile
from syncd.sandbox import Sandbox
from syncd.watch import Nobody

ANN = "ann@example.com"


@pytest.fixture(name="other")
def other_fixture(house: House) -> Iterator[Sandbox]:
    """Another account, in which one person of ours is, too."""
    with Sandbox(clock=house.clock).serve() as sandbox:
        for email in (*(f"x{n}@example.com" for n in range(20)), "p0@example.com"):
            sandbox.account.add_contact(email)  # so many that no id is the same by chance
        house.later(hours=1)
        yield sandbox


@pytest.mark.parametrize("days", [0, 2])
def test_key_of_another_account_changes_nothing(house: House, other: Sandbox, days: int) -> None:
    """Whether or not the account was read whole meanwhile, so that ids are known."""
    house.configure(groups=["Customers"])
    house.write(*people(4))
    house.sync()
    house.later(days=days)
    house.sync()
    before = house.query("SELECT * FROM contact"), house.query("SELECT * FROM never")
    house.configure(groups=["Customers"], fluenzr={"base_url": other.url})
    house.write(*people(4, first="New"))
    with pytest.raises(ConfigError, match=r"fluenzr\.api_key: .* nobody of 4 people"):
        house.sync()
    with pytest.raises(ConfigError):
        run.plan(
            house.settings, run.Order(), clock=house.clock, watch=Nobody(), show=lambda _: None
        )
    with client(house.settings, house.clock) as api, pytest.raises(ConfigError):
        reconcile(house.settings, api=api, clock=house.clock, watch=Nobody(), wait_s=0, lost=False)
    assert (house.query("SELECT * FROM contact"), house.query("SELECT * FROM never")) == before
    assert other.writes() == 0
    house.configure(groups=["Customers"])
    assert house.sync().updated == 4


def test_nobody_is_forgotten_in_another_account(house: House, other: Sandbox) -> None:
    house.write(*people(2))
    house.sync()
    house.configure(fluenzr={"base_url": other.url})
    with client(house.settings, house.clock) as api:
        left = forget(
            house.settings, "p1@example.com", api=api, clock=house.clock, watch=Nobody(), wait_s=0
        )
    assert re.search("nobody of 1 people", "".join(left))
    house.configure()
    house.sync()
    assert house.everybody() == {"p0@example.com"}


def test_another_key_of_the_same_account_is_taken(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write(*people(3), row(9, ANN))
    house.sync()
    house.account.remove("p0@example.com")
    monkeypatch.setenv("SYNCD_TEST_KEY", "flz_sk_" + "b" * 32)
    requests = [house.sync().requests for _ in range(3)]
    assert requests[0] > requests[1] == requests[2]
    assert "flz_sk_" not in str(house.query("SELECT * FROM meta"))


def test_account_in_which_nobody_is_known_yet_is_taken(house: House, other: Sandbox) -> None:
    house.write()
    house.sync()
    house.configure(fluenzr={"base_url": other.url})
    house.write(*people(2))
    assert house.sync().created == 1
