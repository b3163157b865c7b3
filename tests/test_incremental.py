"""Incremental reads through the whole product: a CRM that tells changes, deletions, merges and lists, to FluenzR."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from doubles.hubspot import TOKEN, HubSpot
from doubles.server import Asked, Told
from house import House, house_fixture

from syncd import config
from syncd.core.result import Status

__all__ = ["house_fixture"]

FIELDS = {"email": "email", "firstName": "firstname", "lastName": "lastname"}


@pytest.fixture(name="crm")
def crm_fixture(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubSpot]:
    """Three people who have been in HubSpot, and in FluenzR, for a day."""
    monkeypatch.setenv("HUBSPOT_TOKEN", TOKEN)
    with HubSpot(house.clock) as crm:
        house.configure(
            source={"connector": "hubspot", "token": "env:HUBSPOT_TOKEN", "base_url": crm.url},
            fields=FIELDS,
            opted_out="hs_email_optout",
            full_every="10 days",
            groups=["Customers"],
            guard={"max_enrolments": 0},
        )
        for key, name in enumerate(("ann", "bob", "cat"), 1):
            crm.put(key, email=f"{name}@example.com", firstname=name.title())
        house.later(hours=1)
        assert house.sync().created == 3
        house.later(days=1)
        yield crm


def test_a_change_is_read_alone_and_the_others_stay(house: House, crm: HubSpot) -> None:
    crm.put(1, firstname="Anna")
    result = house.sync()
    assert (result.status, result.updated, result.gone) == (Status.OK, 1, 0)
    assert house.account.contact("ann@example.com")["firstName"] == "Anna"
    assert house.members("Customers") == {"ann@example.com", "bob@example.com", "cat@example.com"}


def test_who_was_deleted_leaves_at_the_next_incremental_read(house: House, crm: HubSpot) -> None:
    crm.archive(2)
    result = house.sync()
    assert (result.gone, result.removed) == (1, 1)
    assert house.members("Customers") == {"ann@example.com", "cat@example.com"}
    house.later(minutes=2)
    assert house.sync().gone == 0  # told again within the overlap: gone once


def test_an_opt_out_survives_a_merge(house: House, crm: HubSpot) -> None:
    """Bob unsubscribed; in the CRM he turns out to be Ann, and FluenzR must not write to her any more."""
    house.account.opt_out("bob@example.com")
    crm.merge(2, 1)
    house.configure(
        source={"connector": "hubspot", "token": "env:HUBSPOT_TOKEN", "base_url": crm.url},
        fields=FIELDS,
        full_every="10 days",
        groups=["Customers", "Second"],
    )
    house.sync()
    house.later(days=1)
    house.sync()
    assert house.members("Second") == {"cat@example.com"}


def test_an_opt_out_of_somebody_without_an_address_survives_a_merge(
    house: House, crm: HubSpot
) -> None:
    """Only the record is known, and nobody in FluenzR; in the CRM it turns out to be Ann's."""
    crm.put(4, email="", hs_email_optout="true")
    assert house.sync().opted_out == 1
    crm.merge(4, 1)
    house.sync()
    assert house.members("Customers") == {"bob@example.com", "cat@example.com"}


def test_who_is_merged_after_having_been_given_is_gone(house: House, crm: HubSpot) -> None:
    """The search may still show the loser, before the winner tells of the merging: the later word counts."""
    crm.put(1, firstname="Anna")
    crm.put(4, email="dan@example.com")
    crm.put(5, email="dan.d@example.com", hs_merged_object_ids="1;4")
    result = house.sync()
    assert (result.read, result.gone) == (3, 1)  # Bob and Cat are within the overlap
    assert house.everybody() >= {"dan.d@example.com"}
    assert "dan@example.com" not in house.everybody()
    assert house.members("Customers") == {"bob@example.com", "cat@example.com", "dan.d@example.com"}


def test_a_cursor_of_no_use_reads_everything_and_sees_who_left(house: House, crm: HubSpot) -> None:
    del crm.contacts[3]
    assert house.sync().gone == 0
    state = house.query("SELECT cursor FROM sync")
    assert state[0]["cursor"]
    house.later(days=11)
    assert house.sync().gone == 1
    assert house.members("Customers") == {"ann@example.com", "bob@example.com"}


def test_a_full_read_by_a_clock_that_was_ahead_does_not_stand_for_the_next_one(
    house: House, crm: HubSpot
) -> None:
    house.sync(full=True, ahead_days=365)
    house.later(days=1)
    del crm.contacts[3]
    assert house.sync().gone == 1


def test_an_opt_out_of_the_crm_is_taken_over_incrementally(house: House, crm: HubSpot) -> None:
    crm.put(3, hs_email_optout="true")
    result = house.sync()
    assert result.opted_out == 1
    assert house.members("Customers") == {"ann@example.com", "bob@example.com"}


def test_an_opt_out_that_hubspot_does_not_send_blocks_and_never_counts_as_consent(
    house: House, crm: HubSpot
) -> None:
    """Unknown names are silently left out of HubSpot's answers: what was not read is not known."""
    crm.types["hs_email_optout"] = "bool"
    answer = crm.answer

    def without(asked: Asked) -> Told:
        told = answer(asked)
        for row in told.body.get("results", []) if isinstance(told.body, dict) else []:
            row.get("properties", {}).pop("hs_email_optout", None)
        return told

    crm.answer = without  # type: ignore[method-assign]
    crm.put(4, email="dan@example.com")
    result = house.sync()
    assert "dan@example.com" not in house.everybody()
    assert result.skipped or result.held or result.status is not Status.OK


def test_a_connector_that_breaks_fails_its_sync_and_no_other(house: House, crm: HubSpot) -> None:
    crm.faults = [Told(200, {"results": [{"label": "no name"}]})] * 3
    result = house.sync()
    assert result.status is Status.FAILED
    assert "mistake in the connector" in (result.error or "")
    assert house.sync().status is Status.OK


def test_a_preset_needs_no_fields(house: House, crm: HubSpot, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    text = file.read_text().split("[sync.people.fields]")[0]
    file.write_text(text.replace('opted_out = "hs_email_optout"\n', ""))
    settings = config.load(file)
    rules = settings.syncs["people"].rules()
    assert rules.opted_out == "hs_email_optout"
    assert {rule.name for rule in rules.fields} >= {"email", "firstName", "company", "website"}
