"""Fields and tags: what is sent, cleared, kept, and never sent twice."""

import pytest
from house import BULK, FIELDS, House, house_fixture, loaded, people, row  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.sandbox.faults import Drop

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"


def test_emptied_field_is_cleared_where_we_wrote_it(house: House) -> None:
    house.account.add_contact(BOB, lastName="By hand")
    house.write(row(1, ANN, first="Ann", last="Lee"), row(2, BOB, first="Bob"))
    house.sync()
    assert house.account.contact(BOB)["lastName"] == "By hand"
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    assert house.sync().updated == 2
    assert not house.account.contact(ANN)["lastName"]
    assert house.account.contact(ANN)["firstName"] == "Ann"
    assert not house.account.contact(BOB)["firstName"]
    assert house.account.contact(BOB)["lastName"] == "By hand"
    assert house.sync().unchanged == 2


def test_empty_keep_keeps(house: House) -> None:
    house.configure(empty="keep")
    house.write(row(1, ANN, first="Ann", last="Lee"))
    house.sync()
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    assert house.account.contact(ANN)["lastName"] == "Lee"


@pytest.mark.parametrize("refused", ["null", "empty", "none"])
def test_clearing_finds_its_form(house: House, refused: str) -> None:
    house.quirks(clear_refused=refused)
    house.write(row(1, ANN, first="Ann", last="Lee"), row(2, BOB, first="Bob", last="Li"))
    house.sync()
    house.write(row(1, ANN, first="Ann"), row(2, BOB, first="Rob"))
    result = house.sync()
    assert (result.updated, result.status) == (2, Status.OK)
    assert not house.account.contact(ANN)["lastName"]
    assert not house.account.contact(BOB)["lastName"]
    assert house.account.contact(BOB)["firstName"] == "Rob"
    assert house.sync().unchanged == 2


@pytest.mark.parametrize("mixing", ["merge", "replace"])
@pytest.mark.parametrize("adopted", [True, False])
@pytest.mark.parametrize("bulk", ["auto", "off"])
def test_custom_field_of_a_human_survives(
    house: House, mixing: str, adopted: bool, bulk: str
) -> None:
    house.quirks(custom_fields_put=mixing, custom_fields_bulk=mixing)
    if adopted:
        house.account.add_contact(ANN, custom_fields={"note": "hers"})
    house.configure(
        custom_fields={"score": {"path": "score", "as": "number"}}, fluenzr={"bulk": bulk}
    )
    house.write(row(1, ANN, score=1))
    house.sync()
    house.account.edit(ANN, custom_fields={"note": "hers", "more": "too"})
    house.write(row(1, ANN, score=2))
    assert house.sync().updated == 1
    assert house.account.contact(ANN)["customFields"] == {"note": "hers", "more": "too", "score": 2}
    house.write(row(1, ANN, score=""))
    house.sync()
    assert house.account.contact(ANN)["customFields"] == {"note": "hers", "more": "too"}


CONSENT = {
    **FIELDS,
    "consent": {"path": "score", "send_as": "consentSource"},
    "pipelineStageId": {"value": "stg_2"},
}


def consent(house: House, email: str) -> object:
    found = house.account.contact_by_email(email)
    return found and found.extra.get("consentSource")


def test_field_that_fluenzr_does_not_show_is_sent_once(house: House) -> None:
    """What is passed through under another name cannot be read back; it is no drift."""
    house.account.add_contact(BOB)
    house.configure(fields=CONSENT, groups=[{"name": "Hot", "when": "last == 'hot'"}])
    house.write(row(1, ANN, score="web"), row(2, BOB, score="web"))
    house.sync()
    assert (consent(house, ANN), consent(house, BOB)) == ("web", "web")
    assert house.account.contact(BOB)["pipelineStage"]["id"] == "stg_2"
    for _ in range(2):
        writes = house.sandbox.writes()
        house.later(days=2)
        assert house.sync(full=True).unchanged == 2
        assert house.sandbox.writes() == writes
    house.write(row(1, ANN, score="event", last="hot"), row(2, BOB, score="web", last="hot"))
    house.sync()
    assert (consent(house, ANN), house.members("Hot")) == ("event", {ANN, BOB})
    house.later(hours=1)
    house.write(row(1, ANN, score="event"), row(2, BOB, score="web"))
    house.sync()
    writes = house.sandbox.writes()
    house.sync(full=True)
    assert (house.sandbox.writes(), house.members("Hot")) == (writes, set())


@pytest.mark.parametrize("applied", [True, False])
def test_lost_answer_about_a_field_that_is_not_shown(house: House, applied: bool) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(fields=CONSENT, groups=["Newsletter"], on_removal="delete")
    rows = people(3, score="web")
    house.write(*rows)
    house.fault(Drop(applied=applied), "POST", BULK, times=1)
    assert house.sync().created == 3
    house.write(*people(3, first="New", score="event"))
    house.fault(Drop(applied=applied), "POST", BULK, nth={1})
    assert house.sync().updated == 3
    assert {consent(house, one["email"]) for one in rows} == {"event"}
    assert sorted(house.mailed()) == [one["email"] for one in rows]
    house.write(*people(2, first="New", score="event"))
    assert house.sync().removed == 1
    assert len(house.everybody()) == 2  # it was proven to be ours


def test_accident_with_a_field_that_is_not_shown_is_undone(house: House) -> None:
    loaded(house, row(1, ANN, score="web"), row(2, BOB), fields=CONSENT)
    house.account.remove(ANN)
    house.later(hours=1)
    house.write(row(1, ANN, score="event", first="Ann"), row(2, BOB))
    house.sync()
    assert house.everybody() == {BOB}


def test_custom_field_that_fluenzr_drops_is_not_sent_for_ever(house: House) -> None:
    house.quirks(unknown_custom_fields="drop")
    house.account.add_contact(BOB)
    house.configure(custom_fields={"score": {"path": "score", "as": "number"}})
    house.write(row(1, ANN, score=1), row(2, BOB, score=1))
    house.sync()
    for _ in range(2):
        writes = house.sandbox.writes()
        house.later(days=2)
        house.sync(full=True)
        assert house.sandbox.writes() == writes


def test_human_edits_of_our_fields_stay_until_the_source_changes(house: House) -> None:
    house.write(row(1, ANN, first="Ann", last="Lee"))
    house.sync()
    house.account.edit(ANN, firstName="Annie", jobTitle="CEO")
    house.sync(full=True)
    assert house.account.contact(ANN)["firstName"] == "Annie"
    house.write(row(1, ANN, first="Ann", last="Li"))
    house.sync()
    ann = house.account.contact(ANN)
    assert (ann["firstName"], ann["lastName"], ann["jobTitle"]) == ("Annie", "Li", "CEO")


def test_tags_follow_the_source(house: House) -> None:
    house.configure(tags=["crm", {"name": "hot", "when": "score|int > 5"}])
    house.write(row(1, ANN, score=9), row(2, BOB, score=1))
    house.sync()
    house.account.edit(BOB, tags=["crm", "vip"])
    house.write(row(1, ANN, score=1), row(2, BOB, score=9))
    house.sync()
    assert house.account.contact(ANN)["tags"] == ["crm"]
    assert set(house.account.contact(BOB)["tags"]) == {"crm", "vip", "hot"}
