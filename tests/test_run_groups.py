"""Groups: made, renamed, deleted by hand, named by the source."""

from house import House, first_names, house_fixture, loaded, people, row  # noqa: F401 - a fixture

from syncd.core.result import Status

ANN, BOB, CAT, DAN = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan"))


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


def test_status_that_nobody_knows_is_not_mailed(house: House) -> None:
    house.account.add_group("Newsletter", dynamic=True)
    for email, status in ((ANN, "complained"), (BOB, "Unsubscribed"), (CAT, "Active")):
        house.account.add_contact(email)
        house.account.contact_by_email(email).status = status  # type: ignore[union-attr]
    house.configure(groups=["Newsletter", "Customers"])
    house.write(row(1, ANN), row(2, BOB), row(3, CAT))
    house.sync()
    assert (house.members("Newsletter"), house.members("Customers")) == ({CAT}, {ANN, CAT})


def test_who_replied_once_is_never_enrolled_whatever_becomes_of_the_contact(house: House) -> None:
    """Deleted by the sync and back; at another address, because somebody else came to hers; active again by hand."""
    before = (row(1, ANN), row(2, BOB), row(3, CAT), row(4, DAN))
    loaded(house, *before, groups=["Customers"], on_removal="delete")
    for email in (ANN, BOB, CAT):
        house.account.opt_out(email, status="replied")
    house.later(days=2)  # so that the account is read whole
    house.write(row(2, "new@example.com"), row(7, BOB), row(3, CAT), row(4, DAN))
    house.sync()
    assert house.everybody() == {BOB, CAT, DAN, "new@example.com"}
    house.account.opt_out(CAT, status="active")
    house.configure(groups=["Customers", "Newsletter"], on_removal="delete")
    house.write(*before[2:], row(2, "new@example.com"), row(8, ANN))
    house.sync()
    assert house.members("Customers") == {ANN, CAT, DAN, "new@example.com"}
    assert house.members("Newsletter") == {DAN}


def test_people_who_replied_are_updated_and_not_enrolled(house: House) -> None:
    loaded(house, row(1, ANN, first="Ann"), row(2, BOB, first="Bob"), groups=["Customers"])
    house.account.opt_out(ANN, status="replied")
    house.configure(groups=["Customers", "Newsletter", "Static"])
    house.write(row(1, ANN, first="Anne"), row(2, BOB, first="Bob"))
    house.sync()
    assert house.account.groups_of(ANN) == {"Customers", "Static"}
    assert first_names(house)[ANN] == "Anne"
    assert house.mailed() == [BOB]
