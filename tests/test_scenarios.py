"""The nastiest days that a sync can have, one test each: given, when, then.

They stand in the order of the design's list; what they have in common is that a simple design, a
copy of the last payload for each address, mails, loses or deletes somebody in them.
"""

from typing import Any

import pytest
from house import BULK, House, house_fixture, people, row  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.sandbox.faults import Act, Drop, Late
from syncd.sandbox.faults import Status as Broken

ANN, BOB, CAT, DAN = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan"))
ZOE = "zoe@example.com"
ID = "/contacts/con_[0-9]+"


def given(house: House, *rows: dict[str, str], **options: Any) -> dict[str, str]:
    """These people are in FluenzR, mailed by the dynamic group Newsletter; address -> id."""
    house.account.add_group("Newsletter", dynamic=True)
    house.account.add_group("Hot", dynamic=True)
    house.configure(**{"groups": ["Newsletter", "All"], "on_removal": "delete", **options})
    house.write(*rows)
    assert house.sync().status is Status.OK
    house.later(hours=1)
    return ids(house)


def ids(house: House) -> dict[str, str]:
    return {email: one["id"] for email, one in house.account.contacts_by_email().items()}


def first_name(house: House, email: str) -> str:
    name: str = house.account.contact(email)["firstName"]
    return name


def puts_of_addresses(house: House) -> list[str]:
    """The addresses that some PUT has given to a contact."""
    bodies = [house.sent(path) for method, path in house.writes() if method == "PUT"]
    return [body[-1]["email"] for body in bodies if "email" in body[-1]]


def barred(house: House, what: str) -> int:
    """How many addresses and records the ledger bars for this reason."""
    return len(house.query("SELECT 1 FROM never WHERE what=?", what))


def test_01_swap_with_somebody_who_unsubscribed(house: House) -> None:
    """Given two people, one of whom unsubscribed; when their addresses are swapped in the source;
    then fields are exchanged and no address is, the opt-out stays where it was and holds for both.
    """
    before = given(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    house.account.opt_out(ANN)
    house.write(row(1, BOB, first="Ann"), row(2, ANN, first="Bob"))
    assert house.sync().status is Status.OK
    assert (ids(house), puts_of_addresses(house)) == (before, [])
    assert (first_name(house, ANN), first_name(house, BOB)) == ("Bob", "Ann")
    assert house.account.contact(ANN)["status"] == "unsubscribed"
    house.configure(groups=["Newsletter", "All", "Hot"])
    house.sync()  # the person of record 1 opted out: a new group is not for her, wherever she is
    assert house.members("Hot") == set()
    assert sorted(house.mailed()) == [ANN, BOB]


def test_02_changed_address(house: House) -> None:
    """Given one who was enrolled; when the address changes to a free one; then one PUT by id, and
    the new address counts as enrolled for ever.
    """
    before = given(house, row(1, ANN, first="Ann"), row(2, BOB))
    writes = len(house.writes())
    house.write(row(1, CAT, first="Ann"), row(2, BOB))
    assert house.sync().moved == 1
    assert house.writes()[writes:] == [("PUT", f"/contacts/{before[ANN]}")]
    assert ids(house) == {CAT: before[ANN], BOB: before[BOB]}
    house.account.take_out(CAT, "Newsletter")  # so that only the ledger knows
    house.write(row(2, BOB))
    house.sync()
    assert house.everybody() == {BOB}
    house.write(row(2, BOB), row(9, CAT))
    house.sync()
    assert (house.members("All"), sorted(house.mailed())) == ({BOB, CAT}, [ANN, BOB])


def test_03_chain(house: House) -> None:
    """Given a and b; when a becomes b and b becomes c; then b serves the first record, c is made
    without dynamic groups, and a is removed as configured.
    """
    before = given(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    house.write(row(1, BOB, first="Ann"), row(2, CAT, first="Bob"))
    assert house.sync().status is Status.OK
    assert house.everybody() == {BOB, CAT}
    assert ids(house)[BOB] == before[BOB]
    assert (first_name(house, BOB), first_name(house, CAT)) == ("Ann", "Bob")
    assert house.members("Newsletter") == {BOB}
    assert (puts_of_addresses(house), sorted(house.mailed())) == ([], [ANN, BOB])


def test_04_row_numbers_as_keys(house: House) -> None:
    """Given rows keyed by their number; when a line is put on top; then nobody moves, one is made."""
    rows = [(ANN, "Ann"), (BOB, "Bob"), (CAT, "Cat")]
    before = given(house, *(row(n, email, first=name) for n, (email, name) in enumerate(rows)))
    rows.insert(0, (DAN, "Dan"))
    house.write(*(row(n, email, first=name) for n, (email, name) in enumerate(rows)))
    result = house.sync()
    assert (result.created, result.moved, result.removed) == (1, 0, 0)
    assert {email: one for email, one in ids(house).items() if email != DAN} == before
    assert {email: first_name(house, email) for email, _ in rows} == dict(rows)
    assert sorted(email for email in house.mailed() if email != DAN) == [ANN, BOB, CAT]


@pytest.mark.parametrize("count", [3, 30])
def test_05_killed_after_a_create_that_was_done(house: House, count: int) -> None:
    """Given a bulk create with a dynamic group that took effect; when the process dies before the
    answer; then the next run reads each, confirms all, sends nothing again.
    """
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"])
    house.write(*people(count))
    house.fault(Drop(applied=True), "POST", BULK, times=1)
    house.killed_at("settle")
    assert house.in_flight() == count
    house.sync()
    assert house.sandbox.counts["POST", BULK] == 1
    assert sorted(house.mailed()) == sorted(house.everybody())
    assert (len(house.everybody()), house.in_flight()) == (count, 0)


@pytest.mark.parametrize("count", [3, 30])
def test_06_killed_after_a_create_that_was_not_done(house: House, count: int) -> None:
    """Given the same, not done; then what was claimed is taken back, and it is sent once."""
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"])
    house.write(*people(count))
    house.fault(Drop(applied=False), "POST", BULK, times=1)
    house.killed_at("settle")
    assert house.sync().created == count
    assert house.sandbox.counts["POST", BULK] == 2
    assert (len(house.mailed()), len(house.everybody()), house.in_flight()) == (count, count, 0)
    assert house.query("SELECT 1 FROM never WHERE sure=0") == []


@pytest.mark.parametrize("applied", [True, False])
def test_07_killed_while_an_address_changed_that_changes_again(house: House, applied: bool) -> None:
    """Given a changed address whose PUT got no answer; when the process dies and the record has yet
    another address; then the read shows where the contact is, and it moves on from there.
    """
    before = given(house, row(1, ANN, first="Ann"))
    house.write(row(1, CAT, first="Ann"))
    house.fault(Drop(applied=applied), "PUT", ID, times=1)
    house.killed_at("settle")
    house.write(row(1, DAN, first="Ann"))
    house.sync()
    assert ids(house) == {DAN: before[ANN]}
    assert puts_of_addresses(house)[-1] == DAN
    assert house.mailed() == [ANN]


def test_08_deleted_by_hand(house: House) -> None:
    """Given one whom somebody deleted; when the record changes, so that the bulk update makes the
    contact anew; then that accident is deleted, and stays so until it is released.
    """
    given(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    house.account.remove(ANN)
    house.write(row(1, ANN, first="Anne"), row(2, BOB, first="Rob"))
    result = house.sync()
    assert (result.status, result.skipped_by) == (Status.OK, {"deleted by hand": 1})
    assert (house.everybody(), barred(house, "x") >= 1) == ({BOB}, True)
    assert first_name(house, BOB) == "Rob"
    house.write(row(1, ANN, first="Anna"), row(2, BOB, first="Rob"))
    house.sync()
    house.sync(full=True)
    assert house.everybody() == {BOB}
    assert sorted(house.mailed()) == [ANN, BOB]


def adopted(house: House, *, name: str) -> dict[str, str]:
    """Ann was there before, so that her id is known; somebody has renamed her since."""
    house.account.add_contact(ANN, firstName="A.", company="Hers")
    known = given(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    house.account.rename(ANN, name)
    house.write(row(1, ANN, first="Anne"), row(2, BOB, first="Rob"))
    return known


def test_09_renamed_by_hand(house: House) -> None:
    """Given one whom somebody renamed, with an id that we know; when the record changes, so that
    the bulk update makes another contact; then that is deleted, and ours gets its address back.
    """
    known = adopted(house, name=ZOE)
    house.sync()
    assert ids(house) == known
    assert (first_name(house, ANN), house.account.contact(ANN)["company"]) == ("Anne", "Hers")
    assert puts_of_addresses(house) == [ANN]
    assert sorted(house.mailed()) == [ANN, BOB]


def test_10_renamed_by_hand_and_killed(house: House) -> None:
    """Given the same; when the process dies before the accident is undone; then the next run looks
    at the id and at the address, and undoes it.
    """
    known = adopted(house, name=ZOE)
    house.killed_at("check")
    assert house.everybody() == {ANN, BOB, ZOE}
    assert house.sync().status is Status.OK
    assert ids(house) == known
    assert first_name(house, ANN) == "Anne"
    assert sorted(house.mailed()) == [ANN, BOB]


def test_11_somebody_else_at_the_address(house: House) -> None:
    """Given a contact of ours, without a known id, that somebody renamed, and another that was made
    by hand at its address; when the record leaves; then nobody's own contact is deleted.
    """
    given(house, row(99, ANN, first="Ann"), *people(8))
    house.account.rename(ANN, ZOE)
    house.later(hours=1)
    theirs = house.account.add_contact(ANN, firstName="Theirs").id
    house.write(*people(8))
    assert house.sync().status is Status.OK
    assert ids(house)[ANN] == theirs
    assert ZOE in house.everybody()
    assert barred(house, "x") >= 1
    house.write(row(99, ANN, first="Ann"), *people(8))
    house.sync()
    assert ids(house)[ANN] == theirs
    assert house.mailed().count(ANN) == 1


def test_12_stranger_at_the_new_address(house: House) -> None:
    """Given an address that changes to a stranger's; then FluenzR's 409 makes the stranger ours to
    update, and the old contact is removed as configured.
    """
    given(house, row(1, ANN, first="Ann"), row(2, BOB))
    stranger = house.account.add_contact(CAT, firstName="C.", company="Theirs").id
    house.write(row(1, CAT, first="Cat"), row(2, BOB))
    assert house.sync().status is Status.OK
    assert ids(house).keys() == {BOB, CAT}
    assert ids(house)[CAT] == stranger
    assert (first_name(house, CAT), house.account.contact(CAT)["company"]) == ("Cat", "Theirs")
    assert sorted(house.mailed()) == [ANN, BOB]


def test_13_contested_address(house: House) -> None:
    """Given an address that changes while its contact cannot be read; when a new record wants the
    same address; then nothing is sent there until it is clear whose it is.
    """
    house.account.add_contact(ANN)
    before = given(house, row(1, ANN, first="Ann"), row(2, BOB))
    house.write(row(1, CAT, first="Ann"), row(2, BOB), row(3, CAT, first="Cat", last="Lee"))
    house.fault(Broken(status=503, applied=False), "GET", ID)
    writes = len(house.writes())
    result = house.sync()
    assert (result.status, len(house.writes())) == (Status.PARTIAL, writes)
    assert ids(house) == before
    house.faults.clear()
    house.later(hours=1)
    assert house.sync().status is Status.OK
    assert house.account.contact(CAT)["lastName"] == "Lee"
    assert house.members("All") == {BOB, CAT}
    assert sorted(house.mailed()) == [ANN, BOB]  # Cat is, among others, who was mailed as Ann


def test_14_renamed_by_hand_to_somebody_who_was_mailed(house: House) -> None:
    """Given a contact that was renamed by hand to the address of one who was mailed; when its record
    gets that dynamic group; then it is read first, and nobody is mailed again.
    """
    house.account.add_contact(ANN)
    hot = [{"name": "Hot", "when": "score|int > 5"}]
    given(house, row(1, ANN, score=1), row(2, BOB, score=9), groups=hot)
    house.account.remove(BOB)
    house.account.rename(ANN, BOB)
    house.write(row(1, ANN, score=9), row(2, BOB, score=9))
    house.sync()
    house.sync(full=True)
    assert house.mailed().count(BOB) == 1


def test_15_flapping_condition(house: House) -> None:
    """Given a score that goes to and fro over a dynamic group's limit; then one mail in all."""
    given(house, row(1, ANN, score=4), groups=[{"name": "Hot", "when": "score|int > 5"}])
    for score in (6, 4, 6, 4, 6):
        house.write(row(1, ANN, score=score))
        house.sync()
    assert house.mailed() == [ANN]


def test_16_deleted_and_back_under_another_key(house: House) -> None:
    """Given one who left and was deleted; when she comes back with a new key; then she is made anew
    with the static groups, and not mailed again.
    """
    given(house, row(1, ANN, first="Ann"), row(2, BOB))
    house.write(row(2, BOB))
    house.sync()
    assert house.everybody() == {BOB}
    house.write(row(2, BOB), row(7, ANN, first="Ann"))
    assert house.sync().created == 1
    assert (house.members("All"), house.members("Newsletter")) == ({ANN, BOB}, {BOB})
    assert sorted(house.mailed()) == [ANN, BOB]


def test_17_opted_out_and_deleted_by_hand_unseen(house: House) -> None:
    """Given one who opted out and was deleted by hand, both unseen; when her record changes, and
    another record brings the address again; then she is not created.
    """
    given(house, row(1, ANN, first="Ann"), row(2, BOB))
    house.account.opt_out(ANN)
    house.account.remove(ANN)
    house.write(row(1, ANN, first="Anne"), row(2, BOB))
    house.sync()
    house.write(row(2, BOB))
    house.sync()
    house.write(row(2, BOB), row(7, ANN, first="Ann"))
    result = house.sync()
    assert (house.everybody(), result.skipped_by) == ({BOB}, {"deleted by hand": 1})


def test_18_unsubscribed_since_the_last_look(house: House) -> None:
    """Given one who leaves and unsubscribed a moment ago, after this run has read the opt-outs; then
    the fresh read shows it: out of the groups, and not deleted.
    """
    given(house, row(1, ANN), row(2, BOB))
    house.account.contact_by_email(ANN).status = "replied"  # type: ignore[union-attr]
    house.write(row(2, BOB))
    house.sync()
    assert house.everybody() == {BOB}  # replied: still one of ours
    house.account.add_contact(CAT, status="blocked")
    house.write(row(2, BOB), row(3, DAN))
    house.sync()
    house.account.opt_out(DAN, status="blocked")
    house.write(row(2, BOB))
    house.sync()
    assert DAN in house.everybody()
    assert house.account.groups_of(DAN) == set()


def test_18_nobody_is_deleted_while_a_sync_is_held(house: House) -> None:
    """Given one who left, of whom another sync may know; when that one is held by a guard; then
    nothing at all happens to her.
    """
    house.configure(
        syncs={name: {"groups": ["All"], "on_removal": "delete"} for name in ("crm", "shop")},
        guard={"max_shrink": "10%"},
    )
    house.write(*people(3), row(9, ANN), source="crm")
    house.write(*people(9, start=20), source="shop")
    house.sync_all()
    house.later(hours=1)
    house.configure(
        syncs={name: {"groups": ["All"], "on_removal": "delete"} for name in ("crm", "shop")},
        guard={"max_shrink": 1},
    )
    house.write(*people(3), source="crm")
    house.write(*people(2, start=20), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, shop.status) == (Status.OK, Status.HELD)
    assert house.members("All") >= {ANN}
    house.write(*people(9, start=20), source="shop")
    assert house.sync_all()[0].removed == 1
    assert ANN not in house.everybody()


def test_19_one_of_two_sources_breaks_half_way(house: House) -> None:
    """Given two sources; when a full read of one breaks at row 500; then nothing of it counts."""
    syncs = {name: {"groups": [name.upper()], "on_removal": "delete"} for name in ("crm", "shop")}
    house.configure(syncs=syncs)
    crowd = people(600)
    house.write(*crowd, source="crm")
    house.write(row(1, ANN), source="shop")
    house.sync_all()
    house.break_source(*people(500, first="New"), source="crm")
    house.write(row(1, ANN), row(2, BOB), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, crm.removed, crm.updated) == (Status.FAILED, 0, 0)
    assert (shop.status, shop.created) == (Status.OK, 1)
    assert len(house.members("CRM")) == 600
    assert {house.account.contact(f"p{n}@example.com")["firstName"] for n in (0, 499)} == {
        "F0",
        "F499",
    }


@pytest.mark.parametrize("left", [0, 8])
def test_20_source_that_lost_most_of_its_rows(house: House, left: int) -> None:
    """Given 20 people; when a read gives none, or 40 % and a new one; then the sync is held whole."""
    given(house, *people(20))
    before = house.account.contacts_by_email()
    house.write(*people(left), *([row(99, ANN)] if left else []))
    result = house.sync()
    assert (result.status, house.account.contacts_by_email()) == (Status.HELD, before)


def test_21_errors_that_name_nobody(house: House) -> None:
    """Given a batch with errors that do not say whom they mean; then each is read, the good ones are
    confirmed, the bad ones put off, and the next run sends nothing before that is over.
    """
    house.quirks(bulk_errors="message")
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"], guard={"max_enrolments": 1000})
    bad = {"p7@example.com", "p77@example.com"}
    for email in bad:
        house.account.refuse(email)
    house.write(*people(150))
    result = house.sync()
    assert (result.status, result.changed, result.records_quarantined) == (Status.PARTIAL, 148, 2)
    assert len(house.mailed()) == len(set(house.mailed())) == 148
    writes = house.sandbox.writes()
    assert (house.sync().status, house.sandbox.writes()) == (Status.OK, writes)
    for email in bad:
        house.account.accept(email)
    house.later(days=1)
    assert house.sync().created == 2
    assert len(house.mailed()) == len(set(house.mailed())) == 150


def test_22_one_row_that_sinks_a_thousand(house: House) -> None:
    """Given a batch of 1000 that is refused whole for one row; then 999 are sent, none twice."""
    house.quirks(bulk_errors="whole400")
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"], guard={"max_enrolments": 1000})
    house.account.refuse("p321@example.com")
    house.write(*people(1000))
    result = house.sync()
    assert (result.status, result.created, result.quarantined) == (Status.PARTIAL, 999, 1)
    assert house.sandbox.counts["POST", BULK] <= 21  # ten halvings, two requests each
    assert len(house.mailed()) == len(set(house.mailed())) == 999


def test_23_custom_fields_that_are_replaced(house: House) -> None:
    """Given an account that replaces custom fields, and a field of a human; then it survives."""
    house.quirks(custom_fields_put="replace", custom_fields_bulk="replace")
    given(house, row(1, ANN, score=1), custom_fields={"score": "score"})
    house.account.edit(ANN, custom_fields={"score": "1", "note": "met in Lyon"})
    house.write(row(1, ANN, score=2))
    house.sync()
    assert house.account.contact(ANN)["customFields"] == {"score": "2", "note": "met in Lyon"}


# --- and a few more of the same kind ---------------------------------------------------------------------


def test_opted_out_person_who_was_renamed_by_hand_stays_opted_out(house: House) -> None:
    """Given one who was renamed by hand and unsubscribed under the new name; when her record gets
    another group; then she does not get it, and her old address is not made anew for it.
    """
    house.account.add_contact(ANN)
    given(house, row(1, ANN), row(2, BOB))
    house.account.rename(ANN, ZOE)
    house.account.opt_out(ZOE)
    house.configure(groups=["Newsletter", "All", "Hot"], on_removal="delete")
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync()
    house.sync(full=True)
    assert house.members("Hot") == {BOB}
    assert house.mailed().count(ANN) == 1


def test_nobody_moves_onto_an_address_that_opted_out(house: House) -> None:
    """Given an address that unsubscribed as somebody else's; when a record changes to it; then the
    contact there is left unreachable, and nobody's address becomes it.
    """
    before = given(house, row(1, ANN, first="Ann"), row(2, BOB))
    house.account.add_contact(CAT, status="unsubscribed")
    house.write(row(1, CAT, first="Ann"), row(2, BOB))
    house.sync()
    assert puts_of_addresses(house) == []
    assert house.account.contact(CAT)["status"] == "unsubscribed"
    assert house.account.groups_of(CAT) == set()
    assert ids(house).get(ANN) in {before[ANN], None}
    assert sorted(house.mailed()) == [ANN, BOB]


def test_opted_out_address_that_was_deleted_is_not_made_again(house: House) -> None:
    """Given an address that unsubscribed, seen, and was deleted by hand; when the source brings it
    for the first time; then it is not created.
    """
    house.account.add_contact(ANN, status="unsubscribed")
    given(house, row(2, BOB))
    house.account.remove(ANN)
    house.write(row(1, ANN), row(2, BOB))
    result = house.sync()
    assert (result.opted_out, house.everybody()) == (1, {BOB})


@pytest.mark.parametrize("phase", ["opt-outs", "read", "list", "upload"])
def test_run_that_dies_anywhere_is_finished_by_the_next(house: House, phase: str) -> None:
    """Given a first run that dies when a phase begins; then the next does it all, once."""
    house.account.add_group("Newsletter", dynamic=True)
    house.account.add_contact(ANN, firstName="A.")
    house.configure(groups=["Newsletter"])
    house.write(*people(5), row(9, ANN, first="Ann"))
    house.killed_at(phase)
    assert house.sync().status is Status.OK
    assert first_name(house, ANN) == "Ann"
    assert sorted(house.mailed()) == sorted(house.everybody())
    writes = house.sandbox.writes()
    house.sync(full=True)
    assert house.sandbox.writes() == writes


def test_drift_of_a_day_is_left_alone(house: House) -> None:
    """Given fields, tags and groups that people changed by hand; when the account is read whole, as
    it is once a day; then what they did stays.
    """
    given(house, row(1, ANN, first="Ann"), row(2, BOB), tags=["crm"])
    house.account.edit(ANN, firstName="Annie", company="Hers", tags=["vip"])
    house.account.take_out(ANN, "All")
    before = house.account.contacts_by_email()
    writes = house.sandbox.writes()
    for _ in range(3):
        house.later(days=1, hours=1)
        assert house.sync(full=True).unchanged == 2
    assert (house.account.contacts_by_email(), house.sandbox.writes()) == (before, writes)


def test_deleted_by_hand_is_seen_within_a_day(house: House) -> None:
    """Given one who was deleted by hand; when a day goes by and then her record changes; then no
    request makes her anew, not even for a moment.
    """
    given(house, row(1, ANN, first="Ann"), row(2, BOB))
    house.account.remove(ANN)
    house.later(days=2)
    house.sync()
    writes = house.sandbox.writes()
    house.write(row(1, ANN, first="Anne"), row(2, BOB))
    result = house.sync()
    assert (result.skipped_by, house.sandbox.writes()) == ({"deleted by hand": 1}, writes)


def test_put_back_by_hand_is_adopted_and_not_mailed(house: House) -> None:
    """Given one who was deleted by hand; when somebody puts her back; then she is ours again, with
    static groups, and never mailed: she may have opted out unseen before she was deleted.
    """
    given(house, row(1, ANN, first="Ann"), row(2, BOB))
    house.account.remove(ANN)
    house.later(days=2)
    house.sync()
    house.account.add_contact(ANN, firstName="A.", company="Hers")
    house.later(days=2)
    house.write(row(1, ANN, first="Anne"), row(2, BOB))
    house.sync()
    house.sync(full=True)
    assert (first_name(house, ANN), house.account.contact(ANN)["company"]) == ("Anne", "Hers")
    assert (house.members("All"), house.members("Newsletter")) == ({ANN, BOB}, {BOB})
    house.configure(groups=["Newsletter", "All", "Hot"], on_removal="delete")
    house.sync()
    assert house.members("Hot") == {BOB}
    assert house.mailed().count(ANN) == 1


def test_opt_out_follows_the_record_to_another_address(house: House) -> None:
    """Given one whom the source opted out; when the record has another address, and the source says
    nothing of it any more; then nobody is created or enrolled there.
    """
    given(house, row(1, ANN), row(2, BOB), row(3, CAT), opted_out="out")
    house.write(row(1, ANN, out="yes"), row(2, BOB), row(3, CAT), row(4, DAN, out="yes"))
    house.sync()
    house.write(row(1, ZOE), row(2, BOB), row(3, CAT), row(4, "dan2@example.com"))
    house.sync()
    house.sync(full=True)
    assert "dan2@example.com" not in house.everybody()
    assert house.members("All") == {BOB, CAT}
    assert sorted(house.mailed()) == [ANN, BOB, CAT]


@pytest.mark.parametrize("broken", ["", "nobody"])
def test_opt_out_of_a_record_without_a_usable_address(house: House, broken: str) -> None:
    """Given a record whose address was spoiled; when the source opts it out; then the contact that
    it belongs to leaves every group.
    """
    given(house, row(1, ANN), row(2, BOB), opted_out="out")
    house.write(row(1, broken, out="yes"), row(2, BOB))
    house.sync()
    assert house.account.groups_of(ANN) == set()
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    assert house.account.groups_of(ANN) == set()


def test_opt_out_of_a_record_that_leaves_stays(house: House) -> None:
    """Given one whom the source opted out; when the record leaves, and comes back under another key;
    then nothing of it is forgotten.
    """
    given(house, row(1, ANN), row(2, BOB), row(3, CAT), opted_out="out")
    house.write(row(1, ANN, out="yes"), row(2, BOB), row(3, CAT, out="yes"))
    house.sync()
    house.write(row(2, BOB), row(3, CAT, out="yes"))
    house.sync()
    house.write(row(2, BOB), row(3, CAT), row(9, ANN))
    house.sync()
    assert house.members("All") == house.members("Newsletter") == {BOB}
    assert {ANN, CAT} <= house.everybody()  # the memory of the opt-out is not deleted


def test_opt_out_is_not_delayed_by_a_quarantine(house: House) -> None:
    """Given one whose update FluenzR refuses; when the source opts her out; then that is done now."""
    given(house, row(1, ANN), row(2, BOB), opted_out="out")
    house.account.refuse(ANN)
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    assert house.sync().quarantined == 1
    house.write(row(1, ANN, first="Ann", out="yes"), row(2, BOB))
    house.sync()
    assert house.account.groups_of(ANN) == set()


@pytest.mark.parametrize("applied", [True, False])
def test_opt_out_whose_answer_was_lost(house: House, applied: bool) -> None:
    """Given an opt-out of the source; when the answer to the ungrouping is lost; then it is done."""
    given(house, row(1, ANN), row(2, BOB), opted_out="out")
    house.account.add_group("By hand")
    house.account.put_in(ANN, "By hand")
    house.fault(Drop(applied=applied), "DELETE", f"{ID}/groups", times=1)
    house.write(row(1, ANN, out="yes"), row(2, BOB))
    house.sync()
    assert (house.account.groups_of(ANN), house.in_flight()) == (set(), 0)
    writes = house.sandbox.writes()
    house.later(days=2)
    house.sync(full=True)
    assert house.sandbox.writes() == writes


def test_opt_out_by_hand_in_the_middle_of_a_run(house: House) -> None:
    """Given people who are there already; when one unsubscribes after this run has read the
    opt-outs, before a dynamic group is joined; then the fresh read shows it.
    """
    given(house, row(1, ANN), row(2, BOB), groups=["All"])
    house.configure(groups=["All", "Newsletter"])
    house.fault(Act(action=lambda: house.account.opt_out(ANN)), "GET", "/contacts", nth={4})
    house.sync()
    assert house.members("Newsletter") == {BOB}
    assert house.mailed() == [BOB]


def test_renamed_and_unsubscribed_in_the_middle_of_a_run(house: House) -> None:
    """Given one who is renamed by hand and unsubscribes there, after this run has read the opt-outs;
    then the address that we knew her by is barred as well, and she is not renamed back onto it.
    """
    house.account.add_contact(ANN)
    known = given(house, row(1, ANN), row(2, BOB), groups=["All"])

    def by_hand() -> None:
        house.account.rename(ANN, ZOE)
        house.account.opt_out(ZOE)

    house.configure(groups=["All", "Newsletter"])
    house.fault(Act(action=by_hand), "GET", f"/contacts/{known[ANN]}", nth={1})
    house.sync()
    house.write(row(2, BOB), row(9, ANN))
    house.sync()
    assert ids(house) == {ZOE: known[ANN], BOB: known[BOB]}
    assert (puts_of_addresses(house), house.mailed()) == ([], [BOB])


@pytest.mark.parametrize("status", ["unsubscribed", "bounced", "blocked"])
def test_opt_out_moves_along_with_a_contact(house: House, status: str) -> None:
    """Given one who opted out in FluenzR; when her address changes in the source; then the contact
    moves with its status, and neither she nor another record at the new address joins anything.
    """
    before = given(house, row(1, ANN), row(2, BOB))
    house.account.opt_out(ANN, status=status)
    house.configure(groups=["Newsletter", "All", "Hot", "Static"], on_removal="delete")
    house.write(row(1, CAT), row(2, BOB), row(3, CAT))
    house.sync()
    assert ids(house) == {CAT: before[ANN], BOB: before[BOB]}
    assert house.account.contact(CAT)["status"] == status
    assert (house.members("Hot"), house.members("Static")) == ({BOB}, {BOB})


def test_reactivated_by_hand_stays_out(house: House) -> None:
    """Given one who unsubscribed, seen; when a hand makes the contact active again; then it joins
    nothing new: what was seen once is not taken back by a status.
    """
    given(house, row(1, ANN), row(2, BOB), groups=["All"])
    house.account.opt_out(ANN)
    house.sync()
    house.account.opt_out(ANN, status="active")
    house.configure(groups=["All", "Newsletter", "Static"])
    house.later(days=2)
    house.sync()
    assert (house.members("Newsletter"), house.members("Static")) == ({BOB}, {BOB})
    assert house.mailed() == [BOB]


def test_group_that_becomes_dynamic(house: House) -> None:
    """Given a static group of ours; when somebody makes it dynamic; then whoever is in it is not
    mailed by us, and the next who joins counts as one who is.
    """
    given(house, row(1, ANN), row(2, BOB), groups=["All"], guard={"max_enrolments": 0})
    house.account.group("All").dynamic = True
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    assert house.sync().status is Status.OK
    house.write(row(1, ANN, first="Ann"), row(2, BOB), row(3, CAT))
    assert house.sync().status is Status.HELD
    assert house.members("All") == {ANN, BOB}


def test_an_address_change_waits_for_a_contact_that_cannot_be_read(house: House) -> None:
    """FluenzR refused the change once; nobody may be overwritten unseen when it is tried again."""
    house.configure()
    house.write(row(1, ANN))
    house.sync()
    house.account.refuse("ann.lee@example.com")
    house.write(row(1, "ann.lee@example.com"))
    house.sync()
    house.account.accept("ann.lee@example.com")
    house.later(hours=20)
    house.fault(Broken(status=503, applied=False), "GET", ID, times=5)
    before = len(house.writes())
    house.sync()
    assert house.writes()[before:] == []
    house.later(days=2)
    house.sync()
    assert house.everybody() == {"ann.lee@example.com"}


def test_a_clock_that_jumps_ahead_does_not_shorten_the_settle_time(house: House) -> None:
    """The process died after a request without answer, and came back a day ahead: the request may still take effect."""
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"])
    house.write(row(1, ANN))
    house.fault(Late(after_s=100.0), "POST", BULK, times=1)
    house.killed_at("settle")
    house.write(row(1, BOB))
    house.sync(ahead_days=1)
    house.later(minutes=10)
    house.sync()
    assert house.everybody() == {BOB}
    assert len(house.mailed()) == 1


def test_a_clock_that_was_a_year_ahead_puts_nothing_off(house: House) -> None:
    """Somebody has put it right: whom FluenzR refused meanwhile is tried again, as after any other refusal."""
    given(house, row(1, ANN), row(2, BOB))
    house.account.refuse(ANN)
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync(ahead_days=365)
    house.account.accept(ANN)
    house.later(hours=2)
    assert house.sync().updated == 1
    assert first_name(house, ANN) == "Ann"
