"""`release`: what ends by the word of a human, what stays, and that nobody is mailed by it."""

from functools import partial

import pytest
from house import House, house_fixture, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd.core.result import Status
from syncd.errors import UsageError
from syncd.state import reads
from syncd.state import release as ledger
from syncd.state.release import Released
from syncd.state.store import State, change

ANN, BOB, CAT, DAN = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan"))


def release(house: House, *emails: str) -> list[Released]:
    released: list[Released] = change(
        house.state, lambda state: ledger.release(state, list(emails)), clock=house.clock
    )
    return released


def marks(house: House) -> set[str]:
    return {found["what"] for found in house.query("SELECT what FROM never")}


def deleted_by_hand(house: House) -> None:
    """Ann was created and mailed by Drip, deleted in FluenzR, and her record has changed since."""
    house.account.add_group("Drip", dynamic=True)
    house.account.add_group("Hot", dynamic=True)
    house.configure(groups=["Drip", "All"], tags=["crm"])
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    house.sync()
    house.account.remove(ANN)
    house.write(row(1, ANN, first="Anna"), row(2, BOB))
    house.sync()
    assert house.everybody() == {BOB}
    assert "x" in marks(house)


def test_deleted_by_hand_comes_back_with_static_groups_and_is_not_mailed(house: House) -> None:
    deleted_by_hand(house)
    mailed = house.mailed()
    (released,) = release(house, ANN)
    assert released == Released(ANN, frozenset("x"), "", (), wanted=True, there=False)
    result = house.sync()  # the source is unchanged: what is due is sent all the same
    assert (result.status, result.created, result.enrolled) == (Status.OK, 1, 0)
    assert house.account.contact(ANN)["firstName"] == "Anna"
    assert house.account.groups_of(ANN) == {"All"}
    house.configure(groups=["Drip", "Hot", "All"], tags=["crm"])  # also not by a later group
    house.sync()
    assert house.account.groups_of(ANN) == {"All"}
    assert set(house.mailed()[len(mailed) :]) == {BOB}
    assert release(house, ANN)[0].ended == frozenset()  # there is nothing more to release


def test_record_that_has_another_address_by_now(house: House) -> None:
    """`x` has travelled with the record; releasing the new address releases the record."""
    deleted_by_hand(house)
    house.write(row(1, DAN, first="Anna"), row(2, BOB))
    house.sync()
    assert house.everybody() == {BOB}
    release(house, DAN)
    house.sync()
    assert house.everybody() == {BOB, DAN}
    assert house.account.groups_of(DAN) == {"All"}
    assert house.mailed().count(DAN) == 0


def test_whom_no_source_wants_any_more(house: House) -> None:
    deleted_by_hand(house)
    house.write(row(2, BOB))
    house.sync()
    (released,) = release(house, ANN)
    assert (released.ended, released.wanted) == (frozenset("x"), False)
    house.sync()
    assert house.everybody() == {BOB}
    house.write(row(2, BOB), row(5, ANN))
    house.sync()
    assert house.account.groups_of(ANN) == {"All"}
    assert house.mailed().count(ANN) == 1


def test_put_back_by_hand_and_released_is_not_enrolled(house: House) -> None:
    deleted_by_hand(house)
    house.account.add_contact(ANN)
    house.later(days=2)
    house.sync()
    (released,) = release(house, ANN)
    assert released.there
    house.sync()
    assert house.account.groups_of(ANN) == {"All"}
    assert house.mailed().count(ANN) == 1


def test_missing_when_the_state_was_rebuilt(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip", "All"])
    house.write(row(1, ANN))

    def bar(state: State) -> None:
        sync = reads.sync_row(state, "people").sync
        for key in (state.address_key(ANN), state.record_key(sync, "1")):
            for what in "?*":
                state.write("INSERT INTO never VALUES(?,?,NULL,1)", key, what)

    change(house.state, bar, clock=house.clock)
    assert house.sync().created == 0
    assert release(house, ANN)[0].ended == frozenset("?")
    assert house.sync().created == 1
    assert (house.account.groups_of(ANN), house.mailed()) == ({"All"}, [])


# --- opt-outs ----------------------------------------------------------------------------------------


def opted_out(house: House) -> None:
    """The source says that Ann, who is in FluenzR and was mailed, opted out."""
    house.account.add_group("Drip", dynamic=True)
    house.account.add_group("Friends")
    house.configure(groups=["Drip", "All"], opted_out="out")
    house.write(row(1, ANN, out="no"), row(2, BOB, out="no"))
    house.sync()
    house.account.put_in(ANN, "Friends")
    house.write(row(1, ANN, out="yes"), row(2, BOB, out="no"))
    house.sync()
    assert house.account.groups_of(ANN) == set()


def test_opt_out_ends_when_both_sides_agree(house: House) -> None:
    opted_out(house)
    house.write(row(1, ANN, out="no"), row(2, BOB, out="no"))
    house.sync()
    assert house.account.groups_of(ANN) == set()  # a latch
    (released,) = release(house, ANN)
    assert released == Released(ANN, frozenset("-!"), "", (), wanted=True, there=True)
    assert house.sync().status is Status.OK
    assert house.account.groups_of(ANN) == {"All"}
    assert house.mailed().count(ANN) == 1


def test_second_opt_out_after_a_release_counts_as_the_first(house: House) -> None:
    test_opt_out_ends_when_both_sides_agree(house)
    house.account.put_in(ANN, "Friends")
    house.write(row(1, ANN, out="yes"), row(2, BOB, out="no"))
    house.sync()
    assert house.account.groups_of(ANN) == set()
    assert {"-", "!"} <= marks(house)


def test_opt_out_stays_while_the_source_says_so(house: House) -> None:
    opted_out(house)
    (released,) = release(house, ANN)
    assert released == Released(ANN, frozenset(), "source", ("people",), wanted=False, there=True)
    house.write(row(1, ANN, out="perhaps"), row(2, BOB, out="no"))
    house.sync()
    assert release(house, ANN)[0].kept == "source"
    house.write(row(2, BOB, out="no"))
    house.sync()
    assert release(house, ANN)[0].kept == "silent"  # gone: it has not said the contrary
    assert {"-", "!"} <= marks(house)


def test_opt_out_stays_while_fluenzr_shows_it(house: House) -> None:
    opted_out(house)
    house.account.opt_out(ANN)
    house.write(row(1, ANN, out="no"), row(2, BOB, out="no"))
    house.sync()
    assert release(house, ANN)[0].kept == "fluenzr"
    assert {"-", "!"} <= marks(house)


def test_opt_out_that_fluenzr_got_meanwhile_is_read_before_anything_is_sent(house: House) -> None:
    opted_out(house)
    house.write(row(1, ANN, out="no"), row(2, BOB, out="no"))
    house.sync()
    house.account.opt_out(ANN)
    assert release(house, ANN)[0].ended == frozenset("-!")
    house.sync()
    assert house.account.groups_of(ANN) == set()
    assert "!" in marks(house)


@pytest.mark.parametrize("status", ["unsubscribed", "bounced", "blocked"])
def test_opt_out_of_fluenzr_is_not_ours_to_end(house: House, status: str) -> None:
    house.configure(groups=["All"])
    house.write(row(1, ANN))
    house.sync()
    house.account.opt_out(ANN, status=status)
    house.sync()
    (released,) = release(house, ANN)
    assert (released.ended, released.kept) == (frozenset(), "fluenzr")


def test_deleted_by_hand_after_an_opt_out_is_not_created(house: House) -> None:
    """Nothing ends while an opt-out stays: that she was there is a reason to believe it."""
    deleted_by_hand(house)
    house.account.add_contact(ANN, status="unsubscribed")
    house.sync()
    house.account.remove(ANN)
    house.later(days=2)
    house.sync()
    (released,) = release(house, ANN)
    assert (released.ended, released.kept) == (frozenset(), "fluenzr")
    house.sync()
    assert house.everybody() == {BOB}
    assert "x" in marks(house)


def test_opt_out_of_both_stays_where_fluenzr_cannot_show_it_any_more(house: House) -> None:
    """Unsubscribed in FluenzR, deleted there, out in the source as well: the source alone cannot take that back."""
    house.configure(groups=["All"], opted_out="out")
    house.write(row(1, ANN, out="no"), row(2, BOB, out="no"))
    house.sync()
    house.account.opt_out(ANN)
    house.sync()
    house.account.remove(ANN)
    house.later(days=2)
    for out in ("yes", "yes", "no"):
        house.write(row(1, ANN, first=out, out=out), row(2, BOB, out="no"))
        house.sync()
    for _ in range(2):  # not by asking twice, either
        (released,) = release(house, ANN)
        assert (released.ended, released.kept) == (frozenset(), "fluenzr")
        house.sync()
        assert house.everybody() == {BOB}
    house.account.add_contact(
        ANN
    )  # a hand has put her back: FluenzR shows that she has not opted out
    house.later(days=2)
    house.sync()
    assert release(house, ANN)[0].kept == ""
    house.sync()
    assert house.account.groups_of(ANN) == {"All"}


def test_unknown_address_releases_nobody(house: House) -> None:
    deleted_by_hand(house)
    with pytest.raises(UsageError, match=f"Nothing is known about {CAT}"):
        release(house, ANN, CAT)
    assert "x" in marks(house)
    with pytest.raises(UsageError, match="Nothing is known"):
        release(house, CAT)


def test_releasing_somebody_against_whom_nothing_stands_changes_nothing(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    before = house.tables()
    (released,) = release(house, ANN)
    assert (released.ended, released.kept) == (frozenset(), "")
    after = house.tables()
    assert {name for name in before if before[name] != after[name]} <= {"meta"}


# --- the command -----------------------------------------------------------------------------------------


def test_command_says_what_was_released_and_what_not(shell: Shell) -> None:
    people = partial(shell.people, (2, BOB, "Bob"))
    people((1, ANN, "Ann"), (3, CAT, "Cat"))
    shell.inside("sync")
    shell.account.remove(ANN)
    people((1, ANN, "Anna"), (3, CAT, "Cat", 0, "yes"))
    shell.inside("sync")
    said = shell("release", "ANN@example.com", BOB, CAT)
    assert (said.code, said.err) == (0, "")
    for words in (
        f"{ANN}: released\n  was deleted by hand in FluenzR\n  the next run creates it",
        "joins no dynamic group: nobody is mailed by this",
        f"{BOB}: nothing to release",
        f"{CAT}: not released\n  customers says that the person opted out",
        "Next: syncd sync",
    ):
        assert words in said.out
    assert shell.inside("sync").code == 0
    assert ANN in shell.account.contacts_by_email()
    assert shell.inside("release", BOB).out.endswith("nothing stands against it\n")


def test_command_does_not_know_everybody(shell: Shell) -> None:
    shell.people((1, ANN))
    shell.inside("sync")
    said = shell("release", DAN)
    assert (said.code, said.out) == (2, "")
    assert f"Nothing is known about {DAN}" in said.err
    assert shell.inside("release").code == 2
    assert shell.inside("release", "nobody").code == 2


def test_opt_out_of_fluenzr_is_told_in_words(shell: Shell) -> None:
    shell.people((1, ANN))
    shell.inside("sync")
    shell.account.opt_out(ANN)
    shell.inside("sync")
    assert (
        "opted out in FluenzR, bounced or blocked: that stays" in shell.inside("release", ANN).out
    )
