"""What a run does: from sources and account as they are, to the account as it should be."""

from typing import Any

import pytest
from house import BULK, FIELDS, House, house_fixture, people, row  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.sandbox.faults import Drop

ANN, BOB, CAT = "ann@example.com", "bob@example.com", "cat@example.com"

# --- how many requests -------------------------------------------------------------------------------


def test_load_and_changes_take_one_request_a_thousand(house: House) -> None:
    house.configure(groups=["Customers"], tags=["crm"])
    crowd = people(5000)
    house.write(*crowd)

    first = house.sync()
    assert (first.created, first.changed, first.status) == (5000, 5000, Status.OK)
    assert house.sandbox.writes() == 6  # one group, five thousands
    assert len(house.members("Customers")) == 5000

    writes = house.sandbox.writes()
    second = house.sync()
    assert (second.unchanged, second.changed, house.sandbox.writes()) == (5000, 0, writes)

    for changed in crowd[100:152]:
        changed["first"] += " X"
    house.write(*crowd, *people(20, start=5000))
    third = house.sync()
    assert (third.created, third.updated, third.unchanged) == (20, 52, 4948)
    assert house.sandbox.writes() - writes == 2
    sent = [one["email"] for body in house.sent()[-2:] for one in body["contacts"]]
    expected = [*range(100, 152), *range(5000, 5020)]
    assert sorted(sent) == sorted(f"p{n}@example.com" for n in expected)


def test_created_people_have_everything(house: House) -> None:
    house.configure(
        groups=["Customers", "All"],
        tags=["crm", "2026"],
        custom_fields={"score": {"path": "score", "as": "number"}},
    )
    house.write(row(1, "Ann@Example.com ", first="Ann", last="Lee", score="7"))
    result = house.sync()
    assert (result.created, result.grouped, result.enrolled) == (1, 1, 0)
    ann = house.account.contact(ANN)
    assert (ann["firstName"], ann["lastName"], ann["customFields"]) == ("Ann", "Lee", {"score": 7})
    assert set(ann["tags"]) == {"crm", "2026"}
    assert house.account.groups_of(ANN) == {"Customers", "All"}


# --- people who were there before ----------------------------------------------------------------------


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


# --- addresses -----------------------------------------------------------------------------------------


def loaded(house: House, *rows: dict[str, str], **options: Any) -> dict[str, str]:
    """The people are in the account, in the dynamic group Newsletter; address -> id."""
    if "Newsletter" not in {group.name for group in house.account.groups.values()}:
        house.account.add_group("Newsletter", dynamic=True)
    house.configure(**{"groups": ["Newsletter"], **options})
    house.write(*rows)
    house.sync()
    return ids(house)


def ids(house: House) -> dict[str, str]:
    return {email: one["id"] for email, one in house.account.contacts_by_email().items()}


def first_names(house: House) -> dict[str, str]:
    return {email: one["firstName"] for email, one in house.account.contacts_by_email().items()}


def test_changed_address_is_the_same_contact(house: House) -> None:
    before = loaded(house, row(1, ANN, first="Ann"))
    house.write(row(1, "new@example.com", first="Ann"))
    result = house.sync()
    assert (result.moved, result.created, result.changed) == (1, 0, 1)
    assert ids(house) == {"new@example.com": before[ANN]}
    assert house.mailed() == [ANN]
    house.write(row(1, "new@example.com", first="Anne"))
    assert house.sync().updated == 1
    assert first_names(house) == {"new@example.com": "Anne"}


def test_swapped_addresses_are_swapped_fields(house: House) -> None:
    before = loaded(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    house.write(row(1, BOB, first="Ann"), row(2, ANN, first="Bob"))
    assert house.sync().updated == 2
    assert ids(house) == before
    assert first_names(house) == {ANN: "Bob", BOB: "Ann"}
    assert sorted(house.mailed()) == [ANN, BOB]


def test_cycle_of_addresses(house: House) -> None:
    before = loaded(
        house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"), row(3, CAT, first="Cat")
    )
    house.write(row(1, BOB, first="Ann"), row(2, CAT, first="Bob"), row(3, ANN, first="Cat"))
    house.sync()
    assert ids(house) == before
    assert first_names(house) == {BOB: "Ann", CAT: "Bob", ANN: "Cat"}
    assert sorted(house.mailed()) == [ANN, BOB, CAT]


def test_chain_of_addresses_creates_the_new_one_and_removes_the_old_one(house: House) -> None:
    before = loaded(
        house,
        row(1, ANN, first="Ann"),
        row(2, BOB, first="Bob"),
        groups=["Newsletter", "Customers"],
    )
    house.write(row(1, BOB, first="Ann"), row(2, CAT, first="Bob"))
    house.sync()
    assert {email: before.get(email) for email in ids(house)} == {**before, CAT: None}
    assert (first_names(house)[BOB], first_names(house)[CAT]) == ("Ann", "Bob")
    assert house.members("Customers") == {BOB, CAT}
    assert sorted(house.mailed()) == [ANN, BOB]  # Cat's record was mailed as Bob


def test_two_records_with_one_address_are_one_person(house: House) -> None:
    groups = [{"name": "A", "when": "last == 'a'"}, {"name": "B", "when": "last == 'b'"}]
    house.configure(groups=groups, fields={"email": "email", "firstName": "first"})
    house.write(row(1, ANN, last="a"), row(2, ANN.upper(), first="Ann", last="b"))
    result = house.sync()
    assert (result.created, result.changed) == (1, 2)
    assert house.account.groups_of(ANN) == {"A", "B"}
    assert first_names(house) == {ANN: "Ann"}
    house.write(row(2, ANN, first="Ann", last="b"))
    result = house.sync()
    assert (result.removed, result.ungrouped) == (0, 1)
    assert house.account.groups_of(ANN) == {"B"}


def test_two_records_that_become_one_person(house: House) -> None:
    before = loaded(house, row(1, ANN, first="Ann"), row(2, BOB, last="Lee"), on_removal="delete")
    house.write(row(1, BOB, first="Ann"), row(2, BOB, last="Lee"))
    house.sync()
    assert ids(house) == {BOB: before[BOB]}
    bob = house.account.contact(BOB)
    assert (bob["firstName"], bob["lastName"]) == ("Ann", "Lee")
    assert sorted(house.mailed()) == [ANN, BOB]


def test_one_person_who_becomes_two(house: House) -> None:
    before = loaded(
        house, row(1, ANN, first="Ann"), row(2, ANN), groups=["Newsletter", "Customers"]
    )
    house.write(row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    result = house.sync()
    assert (result.moved, result.created) == (0, 1)
    assert ids(house)[ANN] == before[ANN]
    assert house.members("Customers") == {ANN, BOB}
    assert house.mailed() == [ANN]  # both records were mailed as Ann


def test_new_key_for_the_same_address_changes_nothing(house: House) -> None:
    loaded(
        house, row(1, ANN, first="Ann"), row(2, BOB), on_removal="delete", guard={"max_removals": 0}
    )
    writes = house.sandbox.writes()
    house.write(row(7, ANN, first="Ann"), row(2, BOB))
    result = house.sync()
    assert (result.status, result.gone, house.sandbox.writes()) == (Status.OK, 1, writes)
    assert house.sync(full=True).unchanged == 2


def test_search_for_an_address_is_exact(house: House) -> None:
    """FluenzR's filter finds whatever contains the address."""
    plus = "ann+news@example.com"
    house.account.add_contact("joann@example.com", firstName="Jo")
    house.account.add_contact("x-" + plus, firstName="X")
    house.configure(groups=[{"name": "Hot", "when": "score|int > 5"}])
    house.write(row(1, ANN, first="Ann"), row(2, plus, first="Plus"))
    house.sync()
    house.write(row(1, ANN, first="Ann", score=9), row(2, plus, first="Plus", score=9))
    house.sync()
    assert house.members("Hot") == {ANN, plus}
    assert first_names(house)["joann@example.com"] == "Jo"


def test_letter_case_is_never_data(house: House) -> None:
    house.account.add_contact("ANN@Example.COM", firstName="Ann")
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    house.write(row(1, "Ann@example.com", first="Ann"))
    assert (house.sync().unchanged, house.sandbox.writes()) == (1, 0)
    assert house.account.contact(ANN)["email"] == "ANN@Example.COM"


@pytest.mark.parametrize("broken", ["", "nobody", "ann@", "ann@example..com"])
def test_person_without_usable_address_is_frozen(house: House, broken: str) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"))
    writes = house.sandbox.writes()
    house.write(row(1, broken, first="Anne"), row(2, BOB, first="Bob"))
    result = house.sync()
    assert (result.skipped_by, result.removed) == ({"address": 1}, 0)
    assert house.sandbox.writes() == writes
    assert house.members("Newsletter") == {ANN, BOB}
    house.write(row(1, ANN, first="Anna"), row(2, BOB, first="Bob"))
    assert house.sync().updated == 1
    assert first_names(house)[ANN] == "Anna"
    assert sorted(house.mailed()) == [ANN, BOB]


def test_person_who_never_had_an_address_is_reported_and_never_sent(house: House) -> None:
    house.write(row(1, "", first="Ann"), row(2, "nonsense"), row(3, BOB))
    result = house.sync()
    assert (result.read, result.created, result.skipped_by) == (3, 1, {"address": 2})
    assert result.status is Status.OK
    again = house.sync()
    assert (again.skipped_by, again.unchanged) == ({"address": 2}, 1)


# --- several syncs -------------------------------------------------------------------------------------


def two_syncs(house: House, **options: Any) -> None:
    """`crm` comes before `shop`."""
    crm = {"groups": ["CRM", "Both"], "tags": ["crm"], **options}
    shop = {"groups": ["Shop", "Both"], "tags": ["shop"], **options}
    house.configure(syncs={"crm": crm, "shop": shop})


def test_syncs_share_a_person(house: House) -> None:
    two_syncs(house)
    house.write(row("c1", ANN, first="Ann"), source="crm")
    house.write(row("s1", ANN, first="Annie", last="Lee"), row("s2", BOB), source="shop")
    house.sync_all()
    ann = house.account.contact(ANN)
    assert (ann["firstName"], ann["lastName"]) == ("Ann", "Lee")  # the first sync that has a value
    assert house.account.groups_of(ANN) == {"CRM", "Shop", "Both"}
    assert set(ann["tags"]) == {"crm", "shop"}
    assert house.account.groups_of(BOB) == {"Shop", "Both"}

    house.write(row("c1", ANN), source="crm")  # its value is empty now: the other's counts
    house.sync_all()
    assert house.account.contact(ANN)["firstName"] == "Annie"

    house.write(row("c9", CAT), source="crm")
    results = house.sync_all()
    assert [result.status for result in results] == [Status.OK, Status.OK]
    assert house.account.groups_of(ANN) == {"Shop", "Both"}
    assert house.account.contact(ANN)["tags"] == ["shop"]


def test_only_the_named_sync_runs(house: House) -> None:
    two_syncs(house)
    house.write(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    assert house.sync("shop").sync == "shop"
    assert house.everybody() == {BOB}
    house.sync("crm")
    assert house.everybody() == {ANN, BOB}


def test_sync_that_left_the_configuration_takes_nothing_along(house: House) -> None:
    two_syncs(house, on_removal="delete")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.write(row(1, ANN), source="shop")
    house.sync_all()
    before, writes = house.account.contacts_by_email(), house.sandbox.writes()
    house.configure(syncs={"shop": {"groups": ["Shop", "Both"], "tags": ["shop"]}})
    house.sync_all(full=True)
    assert (house.account.contacts_by_email(), house.sandbox.writes()) == (before, writes)


def test_missing_group_of_one_sync_does_not_disturb_the_other(house: House) -> None:
    house.configure(
        syncs={
            "crm": {"groups": ["New", "Newer"], "create_groups": False},
            "shop": {"groups": ["Newer", "New"]},
        }
    )
    house.write(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, shop.status) == (Status.FAILED, Status.OK)
    assert house.account.groups_of(BOB) == {"New", "Newer"}
    crm, shop = house.sync_all()
    assert (crm.status, shop.status) == (Status.OK, Status.OK)
    assert house.members("New") == house.members("Newer") == {ANN, BOB}
    assert len(house.account.groups) == 2


@pytest.mark.parametrize("cautious", ["keep", "ungroup"])
def test_most_cautious_policy_of_all_records_counts(house: House, cautious: str) -> None:
    house.configure(
        syncs={"crm": {"on_removal": "delete"}, "shop": {"on_removal": cautious}},
        guard={"max_shrink": "100%"},
    )
    house.write(row(1, ANN), row(2, BOB), row(3, CAT), source="crm")
    house.write(row(1, ANN), row(3, CAT), source="shop")
    house.sync_all()
    house.write(row(3, CAT), source="crm")
    house.write(row(3, CAT), source="shop")
    house.sync_all()
    assert house.everybody() == {ANN, CAT}


# --- who is not wanted -----------------------------------------------------------------------------------


def test_filter_removes_like_a_deletion(house: House) -> None:
    house.configure(groups=["Customers"], where="score|int > 0")
    house.write(row(1, ANN, score=1), row(2, BOB, score=1), row(3, CAT, score=0))
    first = house.sync()
    assert (first.created, first.skipped_by) == (2, {"filtered": 1})
    house.write(row(1, ANN, score=0), row(2, BOB, score=1), row(3, CAT, score=0))
    second = house.sync()
    assert (second.removed, second.skipped_by, second.unchanged) == (1, {"filtered": 2}, 1)
    assert house.members("Customers") == {BOB}
    house.write(row(1, ANN, score=5), row(2, BOB, score=1), row(3, CAT, score=5))
    house.sync()
    assert house.members("Customers") == {ANN, BOB, CAT}


def test_opted_out_in_the_source_is_never_created(house: House) -> None:
    house.configure(groups=["Customers"], opted_out="out")
    house.write(row(1, ANN, out="yes"), row(2, BOB, out="no"))
    result = house.sync()
    assert (result.opted_out, result.created) == (1, 1)
    house.write(row(1, ANN, out="no"), row(2, BOB))
    house.sync()
    house.write(row(1, ANN), row(2, BOB), row(3, ANN))
    house.sync()
    assert house.everybody() == {BOB}


@pytest.mark.parametrize("adopted", [True, False])
def test_opted_out_in_the_source_leaves_every_group_for_ever(house: House, adopted: bool) -> None:
    if adopted:  # so that her id is known, and nothing else of today
        house.account.add_contact(ANN)
    loaded(
        house, row(1, ANN, out=""), row(2, BOB), groups=["Newsletter", "Customers"], opted_out="out"
    )
    house.account.add_group("By hand")
    house.account.put_in(ANN, "By hand")
    house.write(row(1, ANN, out="true"), row(2, BOB))
    result = house.sync()
    assert (result.opted_out, result.ungrouped, result.removed) == (1, 1, 0)
    assert house.account.groups_of(ANN) == set()
    house.write(row(1, ANN, out="false", first="Ann"), row(2, BOB))
    house.sync()
    house.sync(full=True)
    assert house.account.groups_of(ANN) == set()
    assert sorted(house.mailed()) == [ANN, BOB]


def test_adopted_people_who_opted_out_in_the_source_leave_every_group(house: House) -> None:
    house.account.add_group("By hand")
    house.account.add_contact(ANN, groups=["By hand"], tags=["vip"], firstName="Ann")
    house.configure(groups=["Customers"], opted_out="out")
    house.write(row(1, ANN, out="1"), row(2, BOB))
    house.sync()
    assert house.account.groups_of(ANN) == set()
    assert house.account.contact(ANN)["tags"] == ["vip"]
    assert house.account.contact(ANN)["firstName"] == "Ann"


@pytest.mark.parametrize("endpoint", [True, False])
def test_opted_out_in_the_source_leaves_every_campaign(house: House, endpoint: bool) -> None:
    """Enrolled by hand, opted out in the CRM: out of the campaign too, as far as the account has that endpoint."""
    house.account.add_group("Newsletter", dynamic=True)
    loaded(house, row(1, ANN, out=""), row(2, BOB), groups=["Newsletter"], opted_out="out")
    members = house.account.campaign("Campaign of Newsletter").members
    assert len(members) == 2
    if not endpoint:
        house.quirks(absent=frozenset({"DELETE /campaigns/:id/contacts"}))
    house.write(row(1, ANN, out="yes"), row(2, BOB))
    assert house.sync().status is Status.OK
    assert house.account.groups_of(ANN) == set()
    assert len(house.account.campaign("Campaign of Newsletter").members) == (1 if endpoint else 2)


def test_one_opt_out_counts_for_every_sync(house: House) -> None:
    two_syncs(house, opted_out="out")
    house.write(row(1, ANN), source="crm")
    house.write(row(1, ANN), row(2, BOB), source="shop")
    house.sync_all()
    house.write(row(1, ANN, out="yes"), source="crm")
    house.sync_all()
    assert house.account.groups_of(ANN) == set()


def test_unreadable_opt_out_blocks_the_person(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["Customers"], opted_out="out")
    house.account.add_group("Later", dynamic=True)
    house.configure(groups=["Customers", "Later"], opted_out="out")
    house.write(row(1, ANN, out="perhaps"), row(2, BOB), row(3, CAT, out="perhaps"))
    result = house.sync()
    assert (result.records_quarantined, result.status) == (2, Status.PARTIAL)
    assert (house.mailed(), house.everybody()) == ([BOB], {ANN, BOB})
    again = house.sync()  # nothing new: they are still counted, and no alarm again
    assert (again.records_quarantined, again.status) == (2, Status.OK)


# --- removal and return --------------------------------------------------------------------------------


def test_on_removal_keep_changes_nothing(house: House) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB), tags=["crm"], on_removal="keep")
    before, writes = house.account.contact(ANN), house.sandbox.writes()
    house.write(row(2, BOB))
    result = house.sync()
    assert (result.gone, result.changed) == (1, 1)
    assert (house.account.contact(ANN), house.sandbox.writes()) == (before, writes)


def test_on_removal_ungroup_takes_back_what_we_gave(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["Newsletter", "Customers"], tags=["crm"])
    house.account.add_group("By hand")
    house.account.put_in(ANN, "By hand")
    house.account.edit(ANN, tags=["crm", "vip"], company="Hers")
    house.write(row(2, BOB))
    result = house.sync()
    assert (result.gone, result.removed, result.status) == (1, 1, Status.OK)
    assert house.account.groups_of(ANN) == {"By hand"}
    assert house.account.contact(ANN)["tags"] == ["vip"]
    assert house.account.contact(ANN)["company"] == "Hers"


def test_on_removal_delete_deletes_only_ours(house: House) -> None:
    house.account.add_contact(ANN)
    rest = people(4)
    loaded(house, row(1001, ANN), row(1002, BOB), *rest, tags=["crm"], on_removal="delete")
    house.write(*rest)
    result = house.sync()
    assert (result.gone, result.removed, result.changed) == (2, 2, 2)
    assert house.everybody() == {ANN, *(one["email"] for one in rest)}
    assert (house.account.groups_of(ANN), house.account.contact(ANN)["tags"]) == (set(), [])


def test_deleting_waits_for_the_word_of_every_source(house: House) -> None:
    two_syncs(house, on_removal="delete")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.write(row(3, CAT), source="shop")
    house.sync_all()
    house.write(row(2, BOB), source="crm")
    alone = house.sync("crm")
    assert (alone.status, house.everybody()) == (Status.OK, {ANN, BOB, CAT})
    assert house.account.groups_of(ANN) == {"CRM", "Both"}  # nothing at all happens to her yet
    house.break_source(row(3, CAT), source="shop")
    house.sync_all()
    assert ANN in house.everybody()
    house.write(row(3, CAT), source="shop")
    assert house.sync_all()[0].removed == 1
    assert house.everybody() == {BOB, CAT}


def test_deleting_needs_a_read_of_this_run(house: House) -> None:
    """She unsubscribed since the last look: the contact is the memory of that, and stays."""
    loaded(house, row(1, ANN), row(2, BOB), groups=["Customers"], on_removal="delete")
    house.write(row(2, BOB))
    house.account.opt_out(ANN)
    house.sync()
    assert house.everybody() == {ANN, BOB}
    assert house.account.groups_of(ANN) == set()


def test_delete_that_waits_is_forgotten_when_the_person_returns(house: House) -> None:
    two_syncs(house, on_removal="delete")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.write(row(3, CAT), source="shop")
    house.sync_all()
    house.write(row(2, BOB), source="crm")
    house.sync("crm")
    house.write(row(1, ANN), row(2, BOB), source="crm")
    house.sync("crm")
    writes = house.sandbox.writes()
    house.sync_all()
    assert (house.everybody(), house.sandbox.writes()) == ({ANN, BOB, CAT}, writes)


@pytest.mark.parametrize("on_removal", ["ungroup", "delete", "keep"])
def test_returned_people_get_static_groups_and_no_second_mail(
    house: House, on_removal: str
) -> None:
    loaded(
        house, row(1, ANN, first="Ann"), row(2, BOB),
        groups=["Newsletter", "Customers"], on_removal=on_removal,
    )  # fmt: skip
    house.write(row(2, BOB))
    house.sync()
    house.write(row(1, ANN, first="Anne"), row(2, BOB))
    result = house.sync()
    assert result.changed == 1
    assert ANN in house.members("Customers")
    assert house.account.contact(ANN)["firstName"] == "Anne"
    assert sorted(house.mailed()) == [ANN, BOB]


# --- fields --------------------------------------------------------------------------------------------


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


# --- groups --------------------------------------------------------------------------------------------


def test_conditional_static_group_follows_the_source(house: House) -> None:
    house.configure(groups=["All", {"name": "Hot", "when": "score|int > 5"}])
    house.write(row(1, ANN, score=9), row(2, BOB, score=1))
    house.sync()
    assert (house.members("All"), house.members("Hot")) == ({ANN, BOB}, {ANN})
    house.write(row(1, ANN, score=1), row(2, BOB, score=9))
    result = house.sync()
    assert (result.grouped, result.ungrouped, house.members("Hot")) == (1, 1, {BOB})


def test_missing_groups_are_created_static_once(house: House) -> None:
    house.configure(groups=["A", "B"])
    house.write(row(1, ANN))
    house.sync()
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    assert [group.name for group in house.account.groups.values()] == ["A", "B"]
    assert not any(group.dynamic for group in house.account.groups.values())


def test_missing_group_is_a_mistake_without_create_groups(house: House) -> None:
    house.configure(groups=["Customers"], create_groups=False)
    house.write(row(1, ANN))
    result = house.sync()
    assert (result.status, result.exit_code) == (Status.FAILED, 2)
    assert "'Customers'" in (result.error or "")
    assert (house.sandbox.writes(), house.everybody()) == (0, set())
    house.account.add_group("Customers")
    assert house.sync().created == 1
    assert house.members("Customers") == {ANN}


def test_renamed_group_is_the_same_group(house: House) -> None:
    loaded(house, row(1, ANN))
    house.account.rename_group(house.account.group("Newsletter"), "News")
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync()
    assert [group.name for group in house.account.groups.values()] == ["News"]
    assert house.members("News") == {ANN, BOB}
    assert sorted(house.mailed()) == [ANN, BOB]


def test_group_deleted_by_hand_is_made_again_and_mails_nobody(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["Newsletter", "Customers"])
    house.account.remove_group("Newsletter")
    house.account.remove_group("Customers")
    house.sync()
    assert house.members("Customers") == {ANN, BOB}
    house.write(row(1, ANN), row(2, BOB), row(3, CAT))
    house.sync()
    assert house.members("Customers") == {ANN, BOB, CAT}
    assert len(house.account.groups) == 2
    assert sorted(house.mailed()) == [ANN, BOB]


def test_letter_case_of_a_group_is_no_other_group(house: House) -> None:
    house.account.add_group("CUSTOMERS")
    house.configure(groups=["Customers"])
    house.write(row(1, ANN))
    house.sync()
    assert (house.members("CUSTOMERS"), len(house.account.groups)) == ({ANN}, 1)


def test_groups_named_by_the_source(house: House) -> None:
    house.configure(groups=[{"from": "last", "prefix": "CRM "}])
    house.write(row(1, ANN, last="A"), row(2, BOB, last="B"), row(3, CAT))
    house.sync()
    assert (house.members("CRM A"), house.members("CRM B")) == ({ANN}, {BOB})
    house.write(row(1, ANN, last="B"), row(2, BOB, last="C"), row(3, CAT, last="A"))
    house.sync()
    assert [house.members(f"CRM {name}") for name in "ABC"] == [{CAT}, {ANN}, {BOB}]


def test_two_groups_of_one_name_are_not_guessed_between(house: House) -> None:
    ours, other = house.account.add_group("Customers"), house.account.add_group("Customers")
    house.configure(groups=["Customers"])
    house.write(row(1, ANN))
    result = house.sync()
    assert (result.status, result.exit_code) == (Status.FAILED, 2)
    assert ours.id in (result.error or "")
    assert other.id in (result.error or "")
    assert house.sandbox.writes() == 0
    house.configure(groups=[other.id])  # by its id, as the message says
    assert house.sync().created == 1
    assert next(iter(house.account.contacts.values())).groups == {other.id: None}


def test_group_that_left_the_configuration_is_left(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["A", "B"])
    house.account.add_contact(CAT, groups=["B"])
    house.configure(groups=["A"])
    assert house.sync().ungrouped == 2
    assert (house.members("A"), house.members("B")) == ({ANN, BOB}, {CAT})


def test_people_who_replied_are_updated_and_not_enrolled(house: House) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"), groups=["Customers"])
    house.account.opt_out(ANN, status="replied")
    house.configure(groups=["Customers", "Newsletter", "Static"])
    house.write(row(1, ANN, first="Anne"), row(2, BOB, first="Bob"))
    house.sync()
    assert house.account.groups_of(ANN) == {"Customers", "Static"}
    assert first_names(house)[ANN] == "Anne"
    assert house.mailed() == [BOB]


# --- when what is read -----------------------------------------------------------------------------------


def test_unchanged_source_still_sends_what_is_due(house: House) -> None:
    house.account.refuse(ANN)
    house.write(row(1, ANN), row(2, BOB))
    first = house.sync()
    assert (first.created, first.quarantined, first.status) == (1, 1, Status.PARTIAL)
    house.account.accept(ANN)
    assert house.sync().created == 0  # not yet: it was refused a moment ago
    house.later(hours=2)
    second = house.sync()
    assert (second.created, second.read) == (1, 2)
    assert house.everybody() == {ANN, BOB}


def test_changed_mapping_is_read_anew(house: House) -> None:
    house.write(row(1, ANN, first="Ann", last="Lee"), row(2, BOB, first="Bob"))
    house.sync()
    house.configure(fields={"email": "email", "firstName": "last"})
    assert house.sync().updated == 2
    assert house.account.contact(ANN)["firstName"] == "Lee"
    house.configure(fields=FIELDS, groups=["New"])
    house.sync()
    assert house.members("New") == {ANN, BOB}


def test_broken_read_promotes_nothing(house: House) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB), opted_out="out")
    writes = house.sandbox.writes()
    house.break_source(row(1, ANN, first="Anne"), row(3, CAT))
    result = house.sync()
    assert (result.status, result.removed, result.read) == (Status.FAILED, 0, 0)
    assert house.sandbox.writes() == writes
    house.write(row(1, ANN, first="Anne"), row(2, BOB))
    assert house.sync().updated == 1
    assert house.everybody() == {ANN, BOB}


def test_broken_read_still_says_who_opted_out(house: House) -> None:
    loaded(house, row(1, ANN), row(2, BOB), groups=["Customers"], opted_out="out")
    house.break_source(row(1, ANN, out="yes"), row(3, CAT, out="yes"))
    house.sync()
    house.write(row(1, ANN), row(2, BOB), row(3, CAT))  # the CRM has lost it meanwhile
    house.sync()
    assert house.account.groups_of(ANN) == set()
    assert house.everybody() == {ANN, BOB}


def test_one_broken_source_does_not_stop_the_other(house: House) -> None:
    two_syncs(house)
    house.break_source(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    crm, shop = house.sync_all()
    assert (crm.status, shop.status, house.everybody()) == (Status.FAILED, Status.OK, {BOB})
    assert "crm.csv" in (crm.error or "")


def test_one_key_twice_fails_the_read_and_names_both_places(house: House) -> None:
    house.write(row(1, ANN), row(2, BOB), row(1, CAT))
    result = house.sync()
    assert result.status is Status.FAILED
    for place in ("people.csv:2", "people.csv:4"):
        assert place in (result.error or "")
    assert house.everybody() == set()


# --- plans ---------------------------------------------------------------------------------------------


def test_plan_tells_what_the_run_does(house: House) -> None:
    crowd = people(20)
    house.account.add_contact(ANN, firstName="A.")
    loaded(
        house, *crowd, row(98, ANN, first="Ann"), row(99, BOB, first="Bob"),
        groups=["Newsletter", {"name": "Hot", "when": "score|int > 5"}], tags=["crm"],
    )  # fmt: skip
    crowd[0]["first"] = "New"
    crowd[1]["score"] = "9"
    crowd[2]["email"] = "moved@example.com"
    house.write(*crowd[:18], row(98, ANN, first="Ann", score=9), row(99, BOB), row(50, CAT))
    planned, changes = house.plan()
    again, _ = house.plan()
    done = house.sync()
    assert planned == again
    assert (planned.create, planned.update, planned.move) == (1, 2, 1)
    assert (done.created, done.updated, done.moved) == (1, 2, 1)
    assert planned.remove == done.removed == 2
    assert planned.group == done.grouped == 3
    assert planned.ungroup == done.ungrouped == 2
    assert planned.enrol == done.enrolled == 1
    kinds = {change.email: change.kind for change in changes}
    assert kinds == {
        CAT: "create",
        "p0@example.com": "update",
        BOB: "update",
        "p1@example.com": "group",
        ANN: "group",
        "p2@example.com": "move",
        "p18@example.com": "remove",
        "p19@example.com": "remove",
    }
    assert house.plan()[1] == []


def test_plan_of_a_first_run_leaves_nothing_behind(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(*people(3))
    planned, changes = house.plan()
    assert (planned.create, planned.group, len(changes)) == (3, 3, 3)
    assert sorted(path.name for path in house.folder.iterdir() if "lock" not in path.name) == [
        "config.toml",
        "people.csv",
    ]
    assert house.sync().created == 3


def test_plan_beside_something_in_flight_and_a_broken_source(house: House) -> None:
    two_syncs(house)
    house.write(row(1, ANN), source="crm")
    house.write(row(1, BOB), source="shop")
    house.fault(Drop(applied=True), "POST", BULK, times=1)
    house.killed_at("settle")
    house.break_source(row(1, ANN), source="crm")
    before_s = house.clock.now_s()
    broken, _ = house.plan()
    assert "crm.csv" in (broken.error or "")
    assert house.clock.now_s() - before_s < 60  # a plan does not wait for what is on its way


def test_plan_shows_what_still_waits(house: House) -> None:
    house.account.refuse(ANN)
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    planned, changes = house.plan()
    assert (planned.quarantine, [change.email for change in changes]) == (1, [ANN])


# --- careful first tries -------------------------------------------------------------------------------


def test_one_person_alone(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(*people(10), row(99, ANN, first="Ann"))
    result = house.sync(email="ANN@example.com")
    assert (result.created, result.read, result.records_held) == (1, 11, 10)
    assert house.everybody() == {ANN}
    assert house.sync().created == 10


def test_one_person_alone_removes_nobody(house: House) -> None:
    loaded(house, *people(5), row(99, ANN))
    house.write(*people(3, first="Other"), row(99, ANN, first="Anne"))
    result = house.sync(email=ANN)
    assert (result.updated, result.removed, len(house.members("Newsletter"))) == (1, 0, 6)
    assert first_names(house)["p1@example.com"] == "F1"
    result = house.sync()
    assert (result.updated, result.removed) == (3, 2)


def test_the_first_so_many(house: House) -> None:
    house.write(*people(10))
    assert house.sync(limit=3).created == 3
    assert house.sync(limit=3).created == 3
    assert house.everybody() == {f"p{n}@example.com" for n in range(6)}
    assert house.sync().created == 4


def test_careful_try_sends_nobody_else_who_waits(house: House) -> None:
    house.account.refuse(BOB)
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    house.account.accept(BOB)
    house.later(days=1)
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync(email=ANN)
    assert (house.everybody(), first_names(house)) == ({ANN}, {ANN: "Ann"})


def test_careful_try_does_not_stand_for_the_first_listing(house: House) -> None:
    """Everybody who was there before is found by the listing, not by creates that are skipped."""
    for n in range(30):
        house.account.add_contact(f"p{n}@example.com", firstName="Old", company="Theirs")
    house.write(*people(30), row(99, ANN))
    house.sync(email=ANN)
    assert house.everybody() - {ANN} == {f"p{n}@example.com" for n in range(30)}
    assert first_names(house)["p3@example.com"] == "Old"
    result = house.sync()
    assert (result.created, result.updated) == (0, 30)
    assert all(body["onDuplicate"] == "update" for body in house.sent()[1:])


def test_guards_judge_a_careful_try_by_whom_it_means(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    house.configure(groups=["Newsletter"], guard={"max_enrolments": 2})
    house.write(*people(10))
    assert house.sync().status is Status.HELD
    assert house.sync(limit=2).enrolled == 2
    assert house.sync(limit=3).status is Status.HELD
    assert len(house.mailed()) == 2


def test_careful_try_with_somebody_whom_the_source_does_not_have(house: House) -> None:
    house.write(*people(3))
    result = house.sync(email="nobody@example.com")
    assert (result.created, result.records_held, house.sandbox.writes()) == (0, 3, 0)


@pytest.mark.parametrize("order", [{"email": ANN}, {"limit": 1}])
def test_careful_try_of_an_unchanged_source(house: House, order: dict[str, object]) -> None:
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync()
    result = house.sync(**order)
    assert (result.status, result.unchanged, result.updated) == (Status.OK, 2, 0)
    assert house.plan(**order)[1] == []


@pytest.mark.parametrize("order", [{"email": ANN}, {"limit": 1}])
def test_careful_try_of_a_broken_source(house: House, order: dict[str, object]) -> None:
    house.break_source(row(1, ANN, first="Ann"))
    assert house.sync(**order).status is Status.FAILED
    assert house.everybody() == set()


@pytest.mark.parametrize("order", [{"email": ANN}, {"limit": 1}])
def test_plan_of_a_careful_try(house: House, order: dict[str, object]) -> None:
    house.configure(groups=["Customers"])
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    planned, changes = house.plan(**order)
    assert (planned.create, [change.email for change in changes]) == (1, [ANN])
    assert house.sync(**order).created == 1
    assert house.everybody() == {ANN}
