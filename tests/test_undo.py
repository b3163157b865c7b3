"""Undoing a run: what it changed is put back where nobody has touched it, and stays so while the sources want the same."""

from typing import Any

import pytest
from house import House, Killed, Killer, house_fixture, people, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import undo as engine
from syncd.check import client
from syncd.core.result import Status
from syncd.core.undo import NotUndone, Reason
from syncd.errors import UsageError
from syncd.forget import forget
from syncd.sandbox.faults import Act, Drop
from syncd.sandbox.faults import Status as Broken
from syncd.undo import UndoResult
from syncd.watch import Nobody, Watch

ANN, BOB = row(1, "ann@example.com", first="Ann"), row(2, "bob@example.com", first="Bob")


def undo(
    house: House, run: int, *, watch: Watch | None = None
) -> tuple[UndoResult, list[NotUndone]]:
    """What `syncd undo RUN --yes` does; each thing that is not undone is counted."""
    told = list[NotUndone]()
    with client(house.settings, house.clock) as api:
        result = engine.undo(
            house.settings, run, api=api, clock=house.clock, watch=watch or Nobody(),
            show=told.append, wait_s=0,
        )  # fmt: skip
    assert sum(result.not_undone.values()) == len(told)
    return result, told


def reasons(told: list[NotUndone]) -> set[tuple[str, Reason]]:
    return {(one.email, one.reason) for one in told}


def value(house: House, email: str, name: str) -> Any:
    return house.account.contacts_by_email()[email].get(name)


def tags(house: House, email: str) -> set[str]:
    return set(house.account.contacts_by_email()[email]["tags"])


# --- what is put back ---------------------------------------------------------------------------------------------


def test_fields_get_their_old_values_and_keep_them(house: House) -> None:
    house.write(ANN, BOB)
    house.sync()
    house.write(ANN | {"first": "Oops"}, BOB)
    wrong = house.sync()
    result, told = undo(house, wrong.run)
    assert (result.exit_code, result.people, result.fields, told) == (0, 1, 1, [])
    assert value(house, "ann@example.com", "firstName") == "Ann"
    # The source still says so: it is not sent again, and nothing is planned.
    writes = house.sandbox.writes()
    house.sync(full=True)
    assert (house.sandbox.writes(), house.plan()[1]) == (writes, [])
    assert value(house, "ann@example.com", "firstName") == "Ann"


def test_another_value_of_the_source_is_sent_again(house: House) -> None:
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops"})
    undo(house, house.sync().run)
    house.write(ANN | {"first": "Oops", "last": "Lee"})
    house.sync()  # another field says nothing of this one
    assert value(house, "ann@example.com", "firstName") == "Ann"
    assert value(house, "ann@example.com", "lastName") == "Lee"
    house.write(ANN | {"first": "Anna", "last": "Lee"})
    assert house.sync().updated == 1
    assert value(house, "ann@example.com", "firstName") == "Anna"
    assert house.query("SELECT * FROM undone") == []
    house.write(ANN | {"first": "Oops", "last": "Lee"})
    house.sync()  # a new decision of the source: what was undone once does not bar it
    assert value(house, "ann@example.com", "firstName") == "Oops"


def test_cleared_and_custom_fields_come_back(house: House) -> None:
    house.configure(custom_fields={"score": "score"})
    house.write(ANN | {"last": "Lee", "score": "7"})
    house.sync()
    house.write(ANN | {"last": "", "score": "8"})
    wrong = house.sync()
    assert not value(house, "ann@example.com", "lastName")
    result, told = undo(house, wrong.run)
    assert (told, result.fields) == ([], 2)
    assert value(house, "ann@example.com", "lastName") == "Lee"
    assert value(house, "ann@example.com", "customFields")["score"] == "7"
    assert house.sync().updated == 0


def test_a_stranger_at_the_new_address_gets_back_what_people_had_written_there(
    house: House,
) -> None:
    house.write(ANN)
    house.sync()
    house.account.add_contact("cat@example.com", firstName="C.")
    house.write(ANN | {"email": "cat@example.com", "first": "Cat"})
    wrong = house.sync()
    assert value(house, "cat@example.com", "firstName") == "Cat"
    undo(house, wrong.run)
    assert value(house, "cat@example.com", "firstName") == "C."


def test_groups_and_tags_are_given_back_and_taken_back(house: House) -> None:
    house.configure(
        groups=["Customers", {"name": "VIP", "when": "score == '9'"}],
        tags=[{"from": "last"}],
    )
    house.write(ANN | {"score": "9", "last": "gold"}, BOB | {"score": "1"})
    house.sync()
    house.write(ANN | {"score": "1", "last": "tin"}, BOB | {"score": "9"})
    wrong = house.sync()
    assert house.members("VIP") == {"bob@example.com"}
    result, told = undo(house, wrong.run)
    assert (told, result.groups, result.tags) == ([], 2, 2)
    assert house.members("VIP") == {"ann@example.com"}
    assert tags(house, "ann@example.com") == {"gold"}
    writes = house.sandbox.writes()
    house.sync(full=True)
    assert house.sandbox.writes() == writes


def test_people_whom_the_run_removed_get_their_static_groups_back(house: House) -> None:
    house.configure(groups=["Customers"], tags=["crm"])
    house.write(*people(3))
    house.sync()
    house.write(*people(2))
    wrong = house.sync()
    assert wrong.removed == 1
    result, told = undo(house, wrong.run)
    assert (result.groups, result.tags, told) == (1, 1, [])
    assert "p2@example.com" in house.members("Customers")
    assert tags(house, "p2@example.com") == {"crm"}
    house.sync(full=True)
    assert "p2@example.com" in house.members("Customers")
    # Back in the source and gone again: the source has the word.
    house.write(*people(3))
    house.sync()
    house.write(*people(2))
    assert house.sync().removed == 1
    assert "p2@example.com" not in house.members("Customers")


def test_who_leaves_the_source_after_the_undoing_leaves_the_groups(house: House) -> None:
    house.configure(groups=["Customers", {"name": "VIP", "when": "score == '9'"}])
    house.write(ANN | {"score": "9"}, BOB)
    house.sync()
    house.write(ANN | {"score": "1"}, BOB)
    undo(house, house.sync().run)
    assert house.members("VIP") == {"ann@example.com"}
    house.write(BOB)
    house.sync()
    assert house.members("VIP") == set()
    assert house.members("Customers") == {"bob@example.com"}


# --- what is not ---------------------------------------------------------------------------------------------------


def test_who_was_mailed_is_told_first_and_taken_out_of_the_group(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Customers", {"name": "Drip", "when": "score == '9'"}])
    house.write(ANN)
    house.sync()
    house.write(ANN | {"score": "9"}, BOB | {"score": "9"})
    wrong = house.sync()
    assert sorted(house.mailed()) == ["ann@example.com", "bob@example.com"]
    result, told = undo(house, wrong.run)
    assert [one.reason for one in told] == [Reason.MAILED, Reason.MAILED, Reason.CREATED]
    assert {one.email for one in told[:2]} == {"ann@example.com", "bob@example.com"}
    assert "Drip" in told[0].what
    assert result.exit_code == 3
    # Whoever the run created stays, in no group of ours; nobody is in the group that goes on mailing.
    assert house.everybody() == {"ann@example.com", "bob@example.com"}
    assert house.members("Drip") == set()
    assert house.members("Customers") == {"ann@example.com"}
    house.sync(full=True)
    assert house.members("Drip") == set()
    assert len(house.mailed()) == 2


def test_nobody_is_added_to_a_dynamic_group(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=[{"name": "Drip", "when": "score == '9'"}])
    house.write(ANN | {"score": "9"})
    house.sync()
    house.write(ANN | {"score": "1"})
    wrong = house.sync()
    result, told = undo(house, wrong.run)
    assert reasons(told) == {("ann@example.com", Reason.WOULD_MAIL)}
    assert (result.exit_code, house.members("Drip"), len(house.mailed())) == (3, set(), 1)


def test_a_mail_that_waits_is_not_sent_along(house: House) -> None:
    """Ann is to join a group that mails, and could not yet: undoing something else of her must not carry that out."""
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=[{"name": "Drip", "when": "score == '9'"}])
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops", "score": "9"})
    house.fault(Broken(status=500, applied=False), "POST", "/groups/.*", times=20)
    wrong = house.sync()
    assert (wrong.updated, house.mailed()) == (1, [])
    house.faults.clear()
    _, told = undo(house, wrong.run)
    assert house.mailed() == []
    assert ("ann@example.com", Reason.WAITS) in reasons(told)


def test_what_a_hand_has_changed_since_is_left_alone(house: House) -> None:
    house.configure(groups=["Customers"])
    house.write(ANN | {"last": "Lee"}, BOB)
    house.sync()
    house.write(ANN | {"first": "Oops", "last": "Oops"}, BOB)
    wrong = house.sync()
    house.account.edit("ann@example.com", firstName="By hand")
    result, told = undo(house, wrong.run)
    assert reasons(told) == {("ann@example.com", Reason.TOUCHED)}
    assert "now By hand" in told[0].what
    assert (result.exit_code, result.fields) == (3, 1)
    assert value(house, "ann@example.com", "firstName") == "By hand"
    assert value(house, "ann@example.com", "lastName") == "Lee"
    # Reading it is no reason to overwrite it either.
    house.sync()
    assert value(house, "ann@example.com", "firstName") == "By hand"


def test_a_group_that_a_hand_took_away_stays_away(house: House) -> None:
    house.configure(groups=["Customers", {"name": "VIP", "when": "score == '9'"}])
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops", "score": "9"})
    wrong = house.sync()
    house.account.take_out("ann@example.com", "Customers", "VIP")
    result, told = undo(house, wrong.run)
    assert (told, result.fields, result.groups) == ([], 1, 0)
    house.sync()
    assert house.account.groups_of("ann@example.com") == set()


def test_runs_are_undone_from_the_newest_backwards(house: House) -> None:
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Two"})
    second = house.sync()
    house.write(ANN | {"first": "Three"})
    third = house.sync()
    assert reasons(undo(house, second.run)[1]) == {("ann@example.com", Reason.LATER_RUN)}
    assert undo(house, third.run)[1] == []
    assert value(house, "ann@example.com", "firstName") == "Two"
    assert undo(house, second.run)[1] == []
    assert value(house, "ann@example.com", "firstName") == "Ann"
    assert house.sync().updated == 0
    assert value(house, "ann@example.com", "firstName") == "Ann"


def test_deleted_and_opted_out_people_are_told(house: House) -> None:
    house.configure(on_removal="delete", groups=["Customers"], opted_out="out")
    house.write(ANN, BOB, *people(2, start=5))
    house.sync()
    house.later(minutes=1)
    house.write(BOB | {"out": "yes"}, *people(2, start=5))
    wrong = house.sync()
    assert "ann@example.com" not in house.everybody()
    result, told = undo(house, wrong.run)
    assert reasons(told) == {
        ("ann@example.com", Reason.DELETED),
        ("bob@example.com", Reason.OPTED_OUT),
    }
    assert (result.people, "bob@example.com" in house.members("Customers")) == (0, False)


def test_groups_of_who_opted_out_since_are_left_alone(house: House) -> None:
    house.configure(groups=["Customers", {"name": "VIP", "when": "score == '9'"}])
    house.write(ANN | {"score": "9"}, BOB)
    house.sync()
    house.write(ANN | {"score": "1"}, BOB | {"score": "9"})
    wrong = house.sync()
    house.account.opt_out("ann@example.com")
    house.account.opt_out("bob@example.com")
    _, told = undo(house, wrong.run)
    assert reasons(told) == {
        ("ann@example.com", Reason.OPTED_OUT),
        ("bob@example.com", Reason.OPTED_OUT),
    }
    assert "ann@example.com" not in house.members("VIP")


def test_a_moved_address_stays(house: House) -> None:
    house.write(ANN)
    house.sync()
    house.write(ANN | {"email": "anna@example.com", "first": "Oops"})
    wrong = house.sync()
    assert wrong.moved == 1
    result, told = undo(house, wrong.run)
    assert reasons(told) == {("anna@example.com", Reason.MOVED)}
    assert result.fields == 1
    assert value(house, "anna@example.com", "firstName") == "Ann"


def test_who_was_deleted_by_hand_is_not_there_any_more(house: House) -> None:
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops"})
    wrong = house.sync()
    house.account.remove("ann@example.com")
    assert reasons(undo(house, wrong.run)[1]) == {("ann@example.com", Reason.GONE)}
    assert house.everybody() == set()


# --- again, killed, lost -------------------------------------------------------------------------------------------


def test_undoing_twice_changes_nothing(house: House) -> None:
    house.configure(groups=[{"name": "VIP", "when": "score == '9'"}])
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops", "score": "9"})
    wrong = house.sync()
    undo(house, wrong.run)
    writes = house.sandbox.writes()
    result, told = undo(house, wrong.run)
    assert (told, result.exit_code, house.sandbox.writes()) == ([], 0, writes)


def test_a_killed_undoing_is_finished_by_the_same_command(house: House) -> None:
    house.write(*people(3))
    house.sync()
    house.write(*people(3, first="Oops"))
    wrong = house.sync()
    with pytest.raises(Killed):
        undo(house, wrong.run, watch=Killer("upload"))
    result, told = undo(house, wrong.run)
    assert (told, result.people) == ([], 3)
    assert {value(house, f"p{n}@example.com", "firstName") for n in range(3)} == {"F0", "F1", "F2"}


def test_a_killed_undoing_is_finished_by_the_next_run(house: House) -> None:
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops"})
    wrong = house.sync()
    with pytest.raises(Killed):
        undo(house, wrong.run, watch=Killer("upload"))
    house.sync()
    assert value(house, "ann@example.com", "firstName") == "Ann"


def test_a_lost_answer_of_the_undoing_is_read_back(house: House) -> None:
    house.write(ANN)
    house.sync()
    house.later(minutes=5)
    house.write(ANN | {"first": "Oops"})
    wrong = house.sync()
    house.fault(Drop(applied=True), "POST", "/contacts/bulk", times=1)
    result, told = undo(house, wrong.run)
    assert (told, result.fields) == ([], 1)
    assert value(house, "ann@example.com", "firstName") == "Ann"
    assert house.in_flight() == 0


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("path", ["/contacts/bulk", "/groups/.*", "/contacts/.*/tags"])
def test_what_a_lost_answer_hid_is_undone_too(house: House, path: str, *, applied: bool) -> None:
    """The history of a change whose answer was lost has the old values, the groups and the tags all the same."""
    house.configure(
        groups=[{"name": "VIP", "when": "score == '9'"}],
        tags=[{"from": "last"}],
        custom_fields={"score": "score"},
    )
    house.write(ANN | {"score": "1"})
    house.sync()
    house.later(minutes=5)
    house.write(ANN | {"first": "Oops", "score": "9", "last": "gold"})
    house.fault(Drop(applied=applied), "POST", path, times=1)
    wrong = house.sync()
    assert house.members("VIP") == {"ann@example.com"}
    result, told = undo(house, wrong.run)
    assert told == []
    assert house.members("VIP") == set()
    assert tags(house, "ann@example.com") == set()
    assert value(house, "ann@example.com", "firstName") == "Ann"
    assert value(house, "ann@example.com", "customFields")["score"] == "1"
    assert result.exit_code == 0


def test_a_killed_run_is_undone_with_what_it_left_in_flight(house: House) -> None:
    house.write(ANN, BOB)
    house.sync()
    house.later(minutes=5)
    house.write(ANN | {"first": "Oops"}, BOB)
    house.fault(Drop(applied=True), "POST", "/contacts/bulk", times=1)
    house.killed_at("settle")
    assert house.in_flight() == 1
    (last,) = house.query("SELECT max(run) AS run FROM run")
    result, told = undo(house, last["run"])
    assert (told, result.fields, house.in_flight()) == ([], 1, 0)
    assert value(house, "ann@example.com", "firstName") == "Ann"


def test_old_values_survive_a_large_batch_that_is_sent_again(house: House) -> None:
    """Twenty lost rows are not read one by one: their old values stand in the history only."""
    house.write(*people(25))
    house.sync()
    house.later(minutes=5)
    house.write(*people(25, first="Oops"))
    house.fault(Drop(applied=True), "POST", "/contacts/bulk", times=1)
    wrong = house.sync()
    assert house.query("SELECT DISTINCT kind FROM change") == [{"kind": "lost"}, {"kind": "update"}]
    _, told = undo(house, wrong.run)
    assert told == []
    assert value(house, "p7@example.com", "firstName") == "F7"


def test_somebody_changes_a_contact_during_the_undoing(house: House) -> None:
    """Between our read and our write a hand may still come; the write is confirmed as sent, and nothing is in doubt."""
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops"})
    wrong = house.sync()
    house.fault(
        Act(action=lambda: house.account.remove("ann@example.com")),
        "POST",
        "/contacts/bulk",
        times=1,
    )
    result, told = undo(house, wrong.run)
    assert reasons(told) == {("ann@example.com", Reason.WAITS)}
    assert (house.everybody(), house.in_flight(), result.exit_code) == (set(), 0, 3)


# --- the undoing of an undoing, and other numbers --------------------------------------------------------------------


def test_somebody_who_was_renamed_by_hand_is_not_renamed_back_by_the_undoing(house: House) -> None:
    """A lost answer of the undoing shows another address: that is a matter for the next run."""
    house.configure(groups=["A"])
    house.write(ANN, BOB)
    run = house.sync().run
    undoing = undo(house, run)[0].run
    house.account.rename("ann@example.com", "zoe@example.com")
    house.fault(Drop(applied=True), "POST", "/groups/grp_[0-9]+/contacts", times=1)
    writes = len(house.writes())
    undo(house, undoing)
    assert "PUT" not in {method for method, _ in house.writes()[writes:]}
    assert "zoe@example.com" in house.everybody()
    house.sync()
    assert house.everybody() == {"ann@example.com", "bob@example.com"}


def test_undoing_an_undoing_lets_the_source_speak_and_mails_nobody(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(
        groups=[{"name": "Drip", "when": "score == '9'"}, {"name": "VIP", "when": "score == '9'"}]
    )
    house.write(ANN)
    house.sync()
    house.write(ANN | {"first": "Oops", "score": "9"})
    undoing, _ = undo(house, house.sync().run)
    assert house.members("VIP") == set()
    result, told = undo(house, undoing.run)
    assert reasons(told) == {("ann@example.com", Reason.WOULD_MAIL)}
    assert (result.fields, result.groups) == (1, 1)
    assert value(house, "ann@example.com", "firstName") == "Oops"
    assert (house.members("VIP"), house.members("Drip")) == ({"ann@example.com"}, set())
    assert len(house.mailed()) == 1
    assert house.sync().status is Status.OK


def test_forgetting_takes_what_was_put_back_along(house: House) -> None:
    house.write(ANN, BOB)
    house.sync()
    house.write(ANN | {"first": "Oops"}, BOB | {"first": "Oops"})
    undo(house, house.sync().run)
    assert len(house.query("SELECT * FROM undone")) == 2
    with client(house.settings, house.clock) as api:
        forget(
            house.settings, "ann@example.com", api=api, clock=house.clock, watch=Nobody(), wait_s=0
        )
    assert [found["instead"] for found in house.query("SELECT * FROM undone")] == ['"Bob"']


def test_a_run_that_never_was(house: House) -> None:
    house.write(ANN)
    house.sync()
    with pytest.raises(UsageError, match="no run 9"):
        undo(house, 9)


def test_a_run_that_did_nothing(house: House) -> None:
    house.write(ANN)
    house.sync()
    result, told = undo(house, house.sync().run)
    assert (told, result.exit_code, result.people) == ([], 0, 0)


def test_many_people_are_read_by_listing(house: House) -> None:
    house.configure(guard={"max_field_changes": "100%"})
    house.write(*people(150))
    house.sync()
    house.write(*people(150, first="Oops"))
    wrong = house.sync()
    result, told = undo(house, wrong.run)
    assert (told, result.people) == ([], 150)
    assert result.requests < 20


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people((1, "ann@example.com", "Ann"), (2, "bob@example.com", "Bob"))
    shell.inside("sync")
    shell.people((1, "ann@example.com", "Oops"), (2, "bob@example.com", "Bob", 95))
    shell.inside("sync")
    unasked = shell("undo", "2")
    assert (unasked.code, unasked.out) == (2, "")
    assert "--yes" in unasked.err
    said = shell("undo", "2", "--yes")
    assert said.code == 3
    lines = said.out.splitlines()
    assert lines[0] == "1 not undone: were mailed: nothing calls that back"
    assert "bob@example.com" in lines[1]
    assert "Put back of run 2: 2 fields, 1 group membership, 0 tags of 2 people" in said.out
    assert "syncd undo 3" in said.out
    assert shell.account.contacts_by_email()["ann@example.com"]["firstName"] == "Ann"
    assert "put back" in shell.inside("why", "ann@example.com").out
    assert "undo" in shell.inside("history").out

    again = shell.inside("undo", "2", "--yes", "--json")
    assert [one["not_undone"] for one in again.objects[:-1]] == ["mailed"]
    assert again.objects[-1]["undone_run"] == 2
    assert shell.inside("undo", "77", "--yes").code == 2
    assert "There is no run 77" in shell.inside("undo", "77").err


def test_nothing_to_undo_is_said(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann", 10))
    shell.inside("sync")
    shell.inside("sync")
    said = shell.inside("undo", "2", "--yes")
    assert said.code == 0
    assert "Nothing of run 2 is to be put back" in said.out


def test_all_undone_is_0_and_no_answer_is_1(shell: Shell) -> None:
    shell.people((1, "ann@example.com", "Ann"))
    shell.inside("sync")
    shell.people((1, "ann@example.com", "Oops"))
    shell.inside("sync")
    wrong_key = {"FLUENZR_API_KEY": "flz_sk_" + "w" * 32}
    failed = shell("undo", "2", "--yes", env=wrong_key)
    assert failed.code == 1
    assert "Not finished: " in failed.out
    assert "Next: syncd undo 2" in failed.out
    assert shell("undo", "2", "--yes", "--json").code == 0


def test_a_contact_that_was_made_anew_by_hand_does_not_count_as_the_old_one(house: House) -> None:
    """What was sent to the contact that somebody deleted was not sent to the one that stands in its place now."""
    house.configure(groups=["Customers"], tags=["crm"])
    house.write(row(1, "ann@example.com", first="Ann"))
    number = house.sync().run
    house.later(hours=1)
    house.account.remove("ann@example.com")
    house.account.add_contact("ann@example.com", firstName="orig")
    house.later(hours=1)
    undo(house, number)
    house.later(days=2)
    house.sync()
    house.later(days=2)
    house.sync()
    assert house.account.contact("ann@example.com")["firstName"] == "Ann"
