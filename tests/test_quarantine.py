"""`quarantine`: who waits and why, trying again without waiting, and giving a change up."""

import pytest
from house import House, house_fixture, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.errors import UsageError
from syncd.sandbox.faults import Drop
from syncd.sandbox.faults import Status as Broken
from syncd.state import quarantine, story
from syncd.state.quarantine import Stuck
from syncd.state.store import change

ANN, BOB, CAT = (f"{name}@example.com" for name in ("ann", "bob", "cat"))
ID = "/contacts/con_[0-9]+"
WORDS = "This address is not accepted"


def refused(house: House) -> None:
    """FluenzR does not take Ann; Bob is there."""
    house.account.refuse(ANN)
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    assert house.sync().status is Status.PARTIAL


def stuck(house: House) -> list[Stuck]:
    with story.reading(house.state) as db:
        assert db is not None
        return quarantine.stuck(db)


def retry(house: House, *emails: str) -> int:
    count: int = change(
        house.state, lambda state: quarantine.retry(state, emails), clock=house.clock
    )
    return count


def drop(house: House, *emails: str) -> int:
    count: int = change(
        house.state, lambda state: quarantine.drop(state, emails), clock=house.clock
    )
    return count


def attempts(house: House) -> int:
    return len(house.writes())


def test_list_tells_who_waits_and_why(house: House) -> None:
    refused(house)
    (one,) = stuck(house)
    assert (one.email, one.sync, one.error, one.tries) == (ANN, "people", WORDS, 1)
    assert 3590 < one.not_before_s - house.clock.now_s() <= 3600


@pytest.mark.parametrize("emails", [(ANN,), ()], ids=["named", "all"])
def test_retry_does_not_wait(house: House, emails: tuple[str, ...]) -> None:
    refused(house)
    before = attempts(house)
    house.sync()
    assert attempts(house) == before  # in back-off
    house.account.accept(ANN)
    assert retry(house, *emails) == 1
    assert stuck(house) == []
    result = house.sync()  # an unchanged source: what is due is sent
    assert (result.status, result.created) == (Status.OK, 1)


def test_retry_that_is_refused_again_begins_with_the_first_back_off(house: House) -> None:
    refused(house)
    house.later(hours=2)
    house.sync()
    assert stuck(house)[0].tries == 2
    retry(house)
    house.sync()
    (one,) = stuck(house)
    assert one.tries == 1
    assert 3590 < one.not_before_s - house.clock.now_s() <= 3600


def test_dropped_create_is_not_tried_until_the_record_changes(house: House) -> None:
    refused(house)
    assert drop(house, ANN) == 1
    assert stuck(house) == []
    house.account.accept(ANN)
    before = attempts(house)
    for _ in range(3):
        house.later(days=2)
        result = house.sync(full=True)
        assert (result.status, result.unchanged) == (Status.OK, 2)
    assert (attempts(house), house.everybody()) == (before, {BOB})
    assert house.plan(full=True)[1] == []
    house.write(row(1, ANN, first="Anna"), row(2, BOB))
    assert house.sync().created == 1
    assert house.everybody() == {ANN, BOB}


def test_dropped_update_leaves_the_contact_as_it_is(house: House) -> None:
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync()
    house.account.refuse(ANN)
    house.write(row(1, ANN, first="Anna"), row(2, BOB))
    assert house.sync().status is Status.PARTIAL
    assert len(stuck(house)) == 1
    drop(house, ANN)
    house.account.accept(ANN)
    house.later(days=2)
    house.sync(full=True)  # reads the whole account: it is not tried because of that
    house.later(days=2)
    house.sync(full=True)
    assert house.account.contact(ANN)["firstName"] == "Ann"
    house.write(row(1, ANN, first="Annie"), row(2, BOB))
    assert house.sync().updated == 1
    assert house.account.contact(ANN)["firstName"] == "Annie"


def test_dropped_change_stays_dropped_when_the_same_is_wanted_again(house: House) -> None:
    """Another record of the same person changes, and another sync's value wins all the same."""
    house.configure(syncs={"crm": {}, "shop": {}})
    house.write(row(1, ANN, first="Ann"), source="crm")
    house.write(row(7, ANN, first="A"), source="shop")
    house.sync()
    house.account.refuse(ANN)
    house.write(row(1, ANN, first="Anna"), source="crm")
    house.sync()
    drop(house, ANN)
    house.account.accept(ANN)
    before = attempts(house)
    house.write(row(7, ANN, first="B"), source="shop")
    house.sync()
    assert (attempts(house), house.account.contact(ANN)["firstName"]) == (before, "Ann")
    house.write(row(1, ANN, first="Annie"), source="crm")
    house.sync()
    assert house.account.contact(ANN)["firstName"] == "Annie"


def test_dropped_change_does_not_hold_back_an_opt_out_or_a_removal(house: House) -> None:
    house.configure(groups=["All"], opted_out="out")
    house.write(row(1, ANN, first="Ann", out="no"), row(2, BOB, first="Bob", out="no"))
    house.sync()
    for email in (ANN, BOB):
        house.account.refuse(email)
    house.write(row(1, ANN, first="A", out="no"), row(2, BOB, first="B", out="no"))
    house.sync()
    assert drop(house, ANN, BOB) == 2
    for email in (ANN, BOB):
        house.account.accept(email)
    house.write(row(1, ANN, first="A", out="yes"))
    assert house.sync().status is Status.OK
    assert house.members("All") == set()


def test_opt_out_cannot_be_given_up(house: House) -> None:
    house.configure(groups=["All"], opted_out="out")
    house.write(row(1, ANN, out="no"), row(2, BOB, out="no"))
    house.sync()
    house.fault(Broken(status=500, applied=False), "DELETE|PUT|POST", "/(contacts|groups)/.*")
    house.write(row(1, ANN, out="yes"), row(2, BOB, out="no"))
    for _ in range(3):
        house.sync()
        house.later(minutes=30)
    assert [one.email for one in stuck(house)] == [ANN]
    with pytest.raises(UsageError, match=f"{ANN} opted out"):
        drop(house, ANN)
    house.faults.clear()
    assert retry(house, ANN) == 1
    house.sync()
    assert house.members("All") == {BOB}


def test_retry_takes_a_dropped_change_up_again(house: House) -> None:
    refused(house)
    drop(house, ANN)
    house.account.accept(ANN)
    assert retry(house) == 0  # all means: all in quarantine
    assert house.sync().created == 0
    assert retry(house, ANN) == 1
    assert house.sync().created == 1


def test_what_is_in_flight_is_read_before_it_is_dropped(house: House) -> None:
    refused(house)
    house.later(hours=2)
    house.account.accept(ANN)
    house.fault(Drop(applied=True), "POST", "/contacts/bulk", times=1)
    house.killed_at("settle")
    with pytest.raises(UsageError, match="in flight"):
        drop(house, ANN)
    house.sync()
    assert house.everybody() == {ANN, BOB}
    with pytest.raises(UsageError, match="Not in quarantine"):
        drop(house, ANN)


def test_one_who_is_not_in_quarantine_stops_all(house: House) -> None:
    refused(house)
    for command in (retry, drop):
        with pytest.raises(UsageError, match=f"Not in quarantine: {BOB}, {CAT}"):
            command(house, ANN, CAT, BOB)
    assert len(stuck(house)) == 1


# --- the command -----------------------------------------------------------------------------------------


def test_command_lists_retries_and_drops(shell: Shell) -> None:
    shell.account.refuse(ANN)
    shell.people((1, ANN, "Ann"), (2, BOB, "Bob"))
    assert shell.inside("sync").code == 3
    said = shell("quarantine", "list")
    assert (said.code, said.err) == (0, "")
    head, line, *rest = said.out.splitlines()
    assert head.split() == ["email", "sync", "tries", "again", "because"]
    assert line.split()[:3] == [ANN, "customers", "1"]
    assert line.endswith(WORDS)
    assert any("syncd quarantine retry EMAIL" in hint for hint in rest)
    (one,) = shell("quarantine", "list", "--json").objects
    assert (one["email"], one["sync"], one["tries"], one["error"]) == (ANN, "customers", 1, WORDS)
    assert one["next_try"].endswith("Z")

    said = shell("quarantine", "drop", "ANN@example.com")
    assert (said.code, said.err) == (0, "")
    assert "Nothing is sent until a source wants something else" in said.out
    assert "Nobody is in quarantine" in shell.inside("quarantine", "list").out
    assert shell.inside("quarantine", "list", "--json").out == ""
    assert "its change was dropped" in shell.inside("why", ANN).out
    assert shell.inside("why", ANN, "--json").objects[0]["error"] == WORDS
    shell.account.accept(ANN)
    said = shell("quarantine", "retry", ANN)
    assert (said.code, said.err) == (0, "")
    assert "1 change will be tried again in the next run" in said.out
    assert shell.inside("sync").code == 0
    assert ANN in shell.account.contacts_by_email()
    said = shell.inside("quarantine", "retry", "--all")
    assert (said.code, said.out) == (0, "Nobody is in quarantine: nothing to try again.\n")


@pytest.mark.parametrize(
    "words",
    [
        ("retry",),
        ("retry", "--all", ANN),
        ("retry", BOB),
        ("drop",),
        ("drop", BOB),
        ("drop", "nobody"),
        ("bogus",),
    ],
    ids=" ".join,
)
def test_wrong_usage(shell: Shell, words: tuple[str, ...]) -> None:
    shell.people((2, BOB))
    shell.inside("sync")
    said = shell.inside("quarantine", *words)
    assert (said.code, said.out) == (2, "")
    assert said.err


def test_list_before_the_first_run(shell: Shell) -> None:
    assert "Nobody is in quarantine" in shell.inside("quarantine", "list").out
    assert not (shell.folder / "syncd.db").exists()


@pytest.mark.parametrize("command", ["list", "retry", "drop"])
def test_help_has_an_example(shell: Shell, command: str) -> None:
    said = shell.inside("quarantine", command, "--help")
    assert said.code == 0
    assert f"Example:  syncd quarantine {command}" in said.out
