"""A CRM full of what nobody expects, through the whole product: HubSpot's double, the engine, FluenzR's sandbox."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.hubspot import TOKEN, HubSpot
from doubles.server import Asked, Told
from hostile import ADDRESSES, HARMLESS
from house import House, house_fixture

from syncd.core.result import Status

__all__ = ["house_fixture"]

FIELDS: dict[str, Any] = {
    "email": "email",
    "firstName": "firstname",
    "company": {"expr": "_company.name or company"},
    "notes": {"path": "notes", "send_as": "notes"},
}


@pytest.fixture(name="crm")
def crm_fixture(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpot]:
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot(house.clock) as crm:
        configure(house, crm)
        yield crm


def configure(house: House, crm: HubSpot, **options: Any) -> None:
    house.configure(
        source={
            "connector": "hubspot", "token": "env:HUBSPOT_TOKEN", "base_url": crm.url, **options,
        },
        fields=FIELDS,
        opted_out="hs_email_optout",
        full_every="10 days",
        groups=["Customers"],
        guard={"max_enrolments": 0},
    )  # fmt: skip


def test_what_a_field_may_hold_arrives_as_it_is_and_once(house: House, crm: HubSpot) -> None:
    crm.companies[9] = {"name": HARMLESS["emoji"], "domain": None, "website": None}
    for key, text in enumerate(HARMLESS.values(), 1):
        crm.put(
            key, email=f"p{key}@example.com", firstname=text, notes=text, associatedcompanyid="9"
        )
    result = house.sync()
    assert (result.status, result.created) == (Status.OK, len(HARMLESS))
    for key, text in enumerate(HARMLESS.values(), 1):
        contact = house.account.contact(f"p{key}@example.com")
        # An edge of white space is none of the value; what stands inside is left alone.
        assert contact["firstName"] == text.strip()
        assert contact["notes"] == text.strip()
        assert contact["company"] == HARMLESS["emoji"]
    for order in ({}, {"full": True}):
        house.later(hours=1)
        again = house.sync(**order)
        assert (again.status, again.changed) == (Status.OK, 0)


def test_whoever_has_no_single_address_is_written_to_at_none(house: House, crm: HubSpot) -> None:
    for key, address in enumerate(ADDRESSES, 1):
        crm.put(key, email=address, firstname="Ann")
    result = house.sync()
    good = {one for one in ADDRESSES.values() if one is not None}
    assert house.everybody() == house.members("Customers") == good
    assert (result.status, result.created, result.skipped) == (
        Status.OK, len(good), len(ADDRESSES) - len(good),
    )  # fmt: skip


def test_half_an_emoji_ends_no_read(house: House, crm: HubSpot) -> None:
    """As it is left by whoever cuts a long text; one such contact would keep everybody's changes away."""
    crm.put(1, email="ann@example.com", firstname="Ann \ud83d")
    crm.put(2, email="bob@example.com", firstname="Bob")
    assert house.sync().created == 2
    assert house.account.contact("ann@example.com")["firstName"] == "Ann \ufffd"
    house.later(hours=1)
    assert house.sync().changed == 0


@pytest.mark.parametrize(
    ("held", "barred"),
    [("true", True), ("TRUE", True), ("yes", True), ("false", False), (None, False), ("", False)],
)
def test_an_opt_out_that_is_no_boolean_never_counts_as_consent(
    house: House, crm: HubSpot, held: str | None, barred: bool
) -> None:
    crm.put(1, email="ann@example.com", hs_email_optout=held)
    crm.put(2, email="bob@example.com", hs_email_optout="false")
    house.sync()
    assert ("ann@example.com" not in house.everybody()) is barred
    assert "bob@example.com" in house.everybody()


def test_an_id_that_comes_twice_is_no_read(house: House, crm: HubSpot) -> None:
    """One of the two is Ann, and nobody knows which: nothing of the read is used, and nobody leaves."""
    crm.put(1, email="ann@example.com")
    crm.put(2, email="bob@example.com")
    assert house.sync().created == 2
    answer = crm.answer

    def twice(asked: Asked) -> Told:
        told = answer(asked)
        if asked.path.endswith("/contacts") and asked.query.get("archived") == "false":
            told.body["results"][1]["id"] = "1"
            told.body["results"][1]["properties"]["hs_object_id"] = "1"
        return told

    crm.answer = twice  # type: ignore[method-assign]
    house.later(hours=1)
    result = house.sync(full=True)
    assert result.status is Status.FAILED
    assert "stands twice" in (result.error or "")
    assert house.members("Customers") == {"ann@example.com", "bob@example.com"}
    crm.answer = answer  # type: ignore[method-assign]
    house.later(hours=1)
    assert house.sync(full=True).changed == 0


def test_the_values_of_another_contact_are_no_read(house: House, crm: HubSpot) -> None:
    crm.put(1, email="ann@example.com")
    answer = crm.answer

    def swapped(asked: Asked) -> Told:
        told = answer(asked)
        if asked.path == "/crm/v3/objects/contacts":
            told.body["results"][0]["properties"]["hs_object_id"] = "7"
        return told

    crm.answer = swapped  # type: ignore[method-assign]
    result = house.sync()
    assert (result.status, house.everybody()) == (Status.FAILED, set())


def test_two_contacts_with_one_address_are_one_person(house: House, crm: HubSpot) -> None:
    """Whoever of the two has opted out has opted out as both, however it is written."""
    crm.put(1, email="Ann@Example.com", firstname="Ann")
    crm.put(2, email="ann@example.COM ", hs_email_optout="true")
    house.sync()
    assert house.everybody() == set()


def test_further_addresses_are_asked_for_one_by_one_and_barred_one_by_one(
    house: House, crm: HubSpot
) -> None:
    configure(house, crm, emails="all")
    crm.put(
        1,
        email="ann@example.com",
        hs_additional_emails="Ann.L@EXAMPLE.org;no address;out@example.org;ANN@example.com",
    )
    crm.out = {"out@example.org"}
    result = house.sync()
    assert house.members("Customers") == {"ann@example.com", "ann.l@example.org"}
    assert result.status is Status.OK
    crm.out.add("ann.l@example.org")
    house.later(days=1)
    house.sync()
    assert house.members("Customers") == {"ann@example.com"}
    crm.put(2, email="bob@example.com", hs_additional_emails="bob.b@example.org")
    house.later(days=1)
    house.sync()
    assert "bob.b@example.org" in house.members("Customers")
    crm.put(2, hs_additional_emails="")
    house.later(days=1)
    house.sync()
    assert house.members("Customers") == {"ann@example.com", "bob@example.com"}


def test_a_chain_of_merges_hands_an_opt_out_on_to_whoever_is_left(
    house: House, crm: HubSpot
) -> None:
    for key, name in enumerate(("ann", "bob", "cat", *"defghijkl"), 1):
        crm.put(key, email=f"{name}@example.com")
    assert house.sync().created == 12
    house.later(days=1)
    house.account.opt_out("ann@example.com")
    crm.merge(1, 2)
    crm.merge(2, 3)
    house.sync()
    house.configure(
        source={"connector": "hubspot", "token": "env:HUBSPOT_TOKEN", "base_url": crm.url},
        fields=FIELDS,
        opted_out="hs_email_optout",
        full_every="10 days",
        groups=["Customers", "Second"],
    )
    house.later(days=1)
    house.sync()
    assert house.members("Second") == {f"{name}@example.com" for name in "defghijkl"}
