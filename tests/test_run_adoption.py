"""People who were in FluenzR before their sync: taken over, and only what we gave is ever taken back."""

import threading
from typing import Any

import pytest
from house import House, house_fixture, row  # noqa: F401 - a fixture

from syncd import reading
from syncd.core.result import Status
from syncd.fluenzr import FluenzR
from syncd.fluenzr.types import Page

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


def adopt_ann(house: House, **options: Any) -> None:
    """Ann is in the account by somebody's hand; the CRM knows her too."""
    house.account.add_group("Friends")
    house.account.add_group("Customers")
    house.account.add_contact(
        "ANN@example.com",
        firstName="A.",
        phone="+33 1",
        groups=["Friends"],
        tags=["vip"],
        custom_fields={"note": "met in Lyon"},
    )
    house.configure(groups=["Customers"], tags=["crm"], **options)
    house.write(row(1, ANN, first="Ann", last="Lee"))


def test_adopted_people_keep_what_is_not_ours(house: House) -> None:
    adopt_ann(house)
    result = house.sync()
    ann = house.account.contact(ANN)
    assert (ann["firstName"], ann["lastName"], ann["phone"]) == ("Ann", "Lee", "+33 1")
    assert ann["customFields"] == {"note": "met in Lyon"}
    assert set(ann["tags"]) == {"vip", "crm"}
    assert house.account.groups_of(ANN) == {"Friends", "Customers"}
    assert (result.created, result.updated, result.grouped) == (0, 1, 1)
    assert house.everybody() == {ANN}


@pytest.mark.parametrize("on_removal", ["ungroup", "delete"])
def test_adopted_people_lose_only_what_we_gave(house: House, on_removal: str) -> None:
    adopt_ann(house, on_removal=on_removal)
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync()
    house.write(row(2, BOB))
    assert house.sync().removed == 1
    assert house.account.groups_of(ANN) == {"Friends"}
    assert house.account.contact(ANN)["tags"] == ["vip"]


def test_adopted_people_who_opted_out_are_updated_and_nothing_else(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.account.add_group("Customers")
    house.account.add_contact(ANN, status="unsubscribed")
    house.account.add_contact(BOB)
    house.configure(groups=["Newsletter", "Customers"])
    house.write(row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    house.sync()
    assert house.account.contact(ANN)["firstName"] == "Ann"
    assert house.account.groups_of(ANN) == set()
    assert house.account.groups_of(BOB) == {"Newsletter", "Customers"}
    assert house.mailed() == [BOB]
    assert [one["email"] for body in house.sent() for one in body["contacts"]] == [BOB]


def test_adopted_members_of_a_dynamic_group_are_not_mailed_again(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.account.add_contact(ANN, groups=["Newsletter"])
    house.configure(groups=[{"name": "Newsletter", "when": "score|int > 5"}])
    for score in (9, 1, 9):  # in by a hand, out, and not in again
        house.write(row(1, ANN, first="Ann", score=score))
        house.sync()
    assert house.mailed() == [ANN]  # by that hand
    assert house.members("Newsletter") == set()


def test_on_existing_skip_leaves_people_alone(house: House) -> None:
    adopt_ann(house, on_existing="skip", on_removal="delete")
    before = house.account.contact(ANN)
    house.write(row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    result = house.sync()
    assert (result.created, result.updated) == (1, 0)
    house.write(row(1, ANN, first="Anne"), row(2, BOB, first="Rob"))
    assert house.sync().updated == 1  # Bob is ours
    house.write(row(2, BOB, first="Rob"))
    house.sync()
    assert house.account.contact(ANN) == before
    assert house.account.contact(BOB)["firstName"] == "Rob"
    assert house.members("Customers") == {BOB}


@pytest.fixture(name="pages")
def pages_fixture(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pages of the whole account that were asked for, in order."""
    asked, ask = list[int](), FluenzR.contacts_page

    def contacts_page(api: FluenzR, page: int, **filters: Any) -> Page:
        if filters.get("status") is None:
            asked.append(page)
        return ask(api, page, **filters)

    monkeypatch.setattr(FluenzR, "contacts_page", contacts_page)
    return asked


def test_small_account_is_listed_while_the_source_is_read(
    house: House, pages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that this request's minute has begun when the people are sent."""
    adopt_ann(house)

    def read_at_length(*args: Any, **options: Any) -> Any:
        for _ in range(1000):
            if pages:
                break
            threading.Event().wait(0.01)
        assert pages == [1]
        return reading.read(*args, **options)

    monkeypatch.setattr("syncd.run.read", read_at_length)
    assert house.sync().updated == 1
    assert pages == [1]


def test_larger_account_is_listed_when_the_source_was_read(house: House, pages: list[int]) -> None:
    """Its pages may have shifted meanwhile."""
    adopt_ann(house)
    for number in range(150):
        house.account.add_contact(f"p{number}@example.com")
    house.write(row(1, ANN, first="Ann"), row(2, "p149@example.com", first="P"))
    assert house.sync().created == 0
    assert pages == [1, 1, 2]


def test_pages_that_are_smaller_than_asked_for_are_not_the_whole_account(
    house: House, pages: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt_ann(house)
    for number in range(4):
        house.account.add_contact(f"p{number}@example.com")
    ask = FluenzR.contacts_page

    def two_rows(api: FluenzR, page: int, **filters: Any) -> Page:
        return ask(api, page, **{**filters, "per_page": 2})

    monkeypatch.setattr(FluenzR, "contacts_page", two_rows)
    house.write(row(1, ANN, first="Ann"), row(2, "p3@example.com", first="P"))
    assert house.sync().created == 0
    assert pages == [1, 1, 2, 3]


def test_listing_of_a_source_that_cannot_be_read_does_not_count(
    house: House, pages: list[int]
) -> None:
    adopt_ann(house)
    house.break_source(row(1, ANN, first="Ann"))
    assert house.sync().status is Status.FAILED
    house.account.add_contact(BOB)
    house.write(row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    assert house.sync().created == 0
    assert pages == [1, 1]
    assert house.sync().status is Status.OK
    assert pages == [1, 1]
