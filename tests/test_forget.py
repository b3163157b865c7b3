"""`forget`: the person is gone from FluenzR, from the state and from its files, and never comes back."""

import os
import pty
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from house import BULK, House, Killed, Killer, house_fixture, people, row  # noqa: F401 - a fixture
from shell import PATIENCE_S, Shell, shell_fixture  # noqa: F401 - a fixture
from warm import Command

from syncd import forget as engine
from syncd.check import client
from syncd.core.result import Status
from syncd.errors import StateError
from syncd.sandbox.faults import Act, Drop, Effect, Late, Throttle
from syncd.sandbox.faults import Status as Broken
from syncd.state import dossier, erase, forgotten, story
from syncd.state.store import forgotten_keys, open_state
from syncd.watch import Nobody, Watch

ANN, BOB, CAT, DAN = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan"))
ID = "/contacts/con_[0-9]+"
NAME = "Zebedee"  # stands nowhere but in Ann's data
ANNA = row("A-1", ANN, first=NAME)
INPUTS = ("people.csv", "config.toml")


def forget(house: House, email: str, watch: Watch | None = None) -> list[str]:
    """The command's work; what was in the way."""
    with client(house.settings, house.clock) as api:
        return engine.forget(
            house.settings, email, api=api, clock=house.clock, watch=watch or Nobody(), wait_s=0
        )


def traces(folder: Path, *words: str) -> list[tuple[str, str]]:
    """Which of our files hold which of these words, in raw bytes."""
    files = [p for p in folder.rglob("*") if p.is_file() and p.name not in INPUTS]
    assert files
    return [
        (file.name, word)
        for file in files
        for word in words
        if word.lower().encode() in file.read_bytes().lower()
    ]


def deletes(house: House) -> int:
    return sum(1 for method, _ in house.writes() if method == "DELETE")


def never_back(house: House, *gone: str) -> None:
    """The source still has her, changes her, and moves her to another address: nothing comes of it."""
    for email, first in ((ANN, NAME), (ANN, f"{NAME} II"), (DAN, NAME)):
        house.write(row("A-1", email, first=first), row("B-2", BOB, first="Bob"))
        house.later(days=2)
        result = house.sync(full=True)
        assert (result.status, result.skipped_by.get("forgotten")) == (Status.OK, 1)
        assert house.everybody() == {BOB}
    assert traces(house.folder, ANN, DAN, NAME, *gone) == []


# --- erased ------------------------------------------------------------------------------------------


def test_forgotten_person_is_gone_and_never_comes_back(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip", "All"], tags=["crm"])
    house.write(ANNA, row("B-2", BOB, first="Bob"))
    house.sync()
    house.write(row("A-1", ANN, first=f"{NAME} Lee"), row("B-2", BOB, first="Bobby"))
    house.sync()  # the history knows old and new
    assert traces(house.folder, ANN, NAME)

    assert forget(house, ANN) == []
    assert house.everybody() == {BOB}
    assert traces(house.folder, ANN, NAME) == []
    assert len(house.query("SELECT 1 FROM change")) == 1  # Bob's own history stays
    never_back(house)
    assert house.mailed().count(ANN) == 1


def test_state_and_words_of_others_keep_nothing_of_a_forgotten_person(house: House) -> None:
    house.configure(guard={"max_creates": 0})
    house.account.refuse(CAT, f"duplicate of {ANN.upper()}")
    house.write(row(9, BOB))
    house.sync()
    house.configure(guard={"max_creates": 5})
    house.write(row(9, BOB), row(3, CAT))
    house.sync()  # in quarantine, with words that name Ann
    house.break_source(row(9, BOB))
    house.write(row(ANN, CAT), row(ANN, DAN))
    assert house.sync().status is Status.FAILED  # a key twice: the error names it
    house.configure(guard={"max_creates": 0})
    house.write(row(9, BOB), row(3, CAT), ANNA)
    assert house.sync().status is Status.HELD
    assert {name for name, _ in traces(house.folder, ANN)} == {"syncd.db"}

    forget(house, ANN)
    assert traces(house.folder, ANN, NAME) == []
    assert [held["email"] for held in house.query("SELECT email FROM held")] == []
    assert (
        "somebody who was forgotten"
        in house.query("SELECT error FROM run_sync WHERE run=3")[0]["error"]
    )
    assert house.known(CAT)["tries"] == 1  # the quarantine itself stays


def test_no_copy_stays_in_the_gaps_of_the_file(house: House) -> None:
    """SQLite moves rows between pages and leaves what it copied: erasing rows alone is not enough."""
    house.configure(custom_fields={"score": "score"}, tags=["crm"])
    crowd = people(1500, score="1")
    house.write(*crowd)
    house.sync()
    for grown in range(3):
        for number in range(grown, 1500, 7):
            crowd[number]["score"] = "x" * ((number * 37 + grown * 211) % 300)
        house.write(*crowd)
        house.sync()
    gone = [f"p{number}@example.com" for number in range(0, 1500, 10)]
    with open_state(house.state) as state:
        for email in gone:
            for cid in erase.forget(state, email):
                erase.note_deleted(state, cid)
        assert erase.leave_no_trace(state)
    raw = house.state.read_bytes()
    assert [email for email in gone if _stands_alone(raw, email.encode())] == []


def _stands_alone(raw: bytes, email: bytes) -> bool:
    """p10@ stands in p110@ too."""
    at = raw.find(email)
    while at >= 0:
        if not raw[at - 1 : at].isdigit():
            return True
        at = raw.find(email, at + 1)
    return False


def test_somebody_whom_only_fluenzr_has(house: House) -> None:
    house.account.add_contact(ANN)
    assert forget(house, ANN) == []
    assert (house.everybody(), traces(house.folder, ANN)) == (set(), [])


def test_nobody_at_all(house: House) -> None:
    assert forget(house, ANN) == []
    house.write(ANNA)
    assert house.sync().skipped_by == {"forgotten": 1}
    assert house.everybody() == set()


def test_every_record_of_the_person_is_barred(house: House) -> None:
    house.configure(syncs={"crm": {}, "shop": {}})
    house.write(row(1, ANN), source="crm")
    house.write(row(7, ANN), source="shop")
    house.sync()
    forget(house, ANN)
    house.write(row(1, CAT), row(2, BOB), source="crm")
    house.write(row(7, DAN), source="shop")
    crm, shop = house.sync_all()
    assert (crm.skipped_by, shop.skipped_by) == ({"forgotten": 1}, {"forgotten": 1})
    assert house.everybody() == {BOB}


def test_key_that_is_the_address(house: House) -> None:
    house.write(row(ANN, ANN), row(BOB, BOB))
    house.sync()
    forget(house, ANN)
    assert traces(house.folder, ANN) == []
    for email in (ANN, DAN):
        house.write(row(ANN, email), row(BOB, BOB))
        assert house.sync(full=True).skipped_by == {"forgotten": 1}
    house.write(row("other", ANN), row(BOB, BOB))
    assert house.sync(full=True).skipped_by == {"forgotten": 1}
    assert house.everybody() == {BOB}


def test_opt_out_of_a_forgotten_person_brings_no_trace_back(house: House) -> None:
    house.configure(opted_out="out")
    house.write({**ANNA, "out": "no"}, row(2, BOB, out="no"))
    house.sync()
    forget(house, ANN)
    house.write({**ANNA, "out": "yes"}, row(2, BOB, out="no"))
    result = house.sync()
    assert (result.status, result.skipped_by) == (Status.OK, {"forgotten": 1})
    assert (house.everybody(), traces(house.folder, ANN, NAME)) == ({BOB}, [])


def test_whose_record_takes_a_forgotten_address_is_wanted_no_more(house: House) -> None:
    """The record goes over to an address that must not be: whom it wanted before it wants no more, until it comes back."""
    house.configure(groups=["Customers"], guard={"max_removals": 1000})
    house.write(row("k1", "cat@example.com"), row("k2", "bob@example.com"))
    house.sync()
    assert forget(house, "bob@example.com") == []
    house.write(row("k1", "bob@example.com"))
    result = house.sync()
    assert result.skipped_by == {"forgotten": 1}
    assert house.members("Customers") == set()
    house.write(row("k1", "cat@example.com"))
    house.sync()
    assert house.members("Customers") == {"cat@example.com"}
    assert house.everybody() == {"cat@example.com"}


def test_held_read_counts_the_forgotten(house: House) -> None:
    house.configure(guard={"max_creates": 1})
    house.write(ANNA)
    house.sync()
    forget(house, ANN)
    house.write(ANNA, *people(3))
    result = house.sync()
    assert (result.status, result.held, result.skipped_by) == (Status.HELD, 3, {"forgotten": 1})


def test_plan_leaves_the_forgotten_out(house: House) -> None:
    house.write(ANNA, row(2, BOB))
    house.sync()
    forget(house, ANN)
    house.write(row("A-1", ANN, first="New"), row(2, BOB, first="Bob"))
    result, changes = house.plan()
    assert [change.email for change in changes] == [BOB]
    assert result.skipped_by == {"forgotten": 1}


def test_why_says_of_a_forgotten_address_what_it_says_of_an_unknown_one(house: House) -> None:
    house.write(ANNA)
    house.sync()
    backup = house.folder / "backup"
    shutil.copy(house.state, backup)

    def why(email: str) -> dossier.Person:
        with story.reading(house.state) as db:
            assert db is not None
            return dossier.person(db, email, ["people"], forgotten=forgotten_keys(house.state))

    assert why(ANN).known
    forget(house, ANN)
    assert why(ANN) == dossier.Person(ANN)
    assert why(DAN) == dossier.Person(DAN)
    shutil.copy(backup, house.state)
    assert why(ANN) == dossier.Person(ANN)  # before any command has opened the backup


# --- on the way from one address to another ------------------------------------------------------------


@pytest.mark.parametrize("asked", [ANN, DAN], ids=["old address", "new address"])
@pytest.mark.parametrize("applied", [True, False])
def test_while_the_address_changes(house: House, asked: str, applied: bool) -> None:
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    house.write(row("A-1", DAN, first=NAME), row("B-2", BOB))
    house.fault(Drop(applied=applied), "PUT", ID, times=1)
    house.killed_at("settle")
    assert forget(house, asked) == []
    assert house.everybody() == {BOB}
    never_back(house)


def test_somebody_who_was_renamed_by_hand(house: House) -> None:
    house.write(ANNA)
    house.sync()
    house.later(days=2)
    house.sync()  # the daily reading tells the ids
    house.account.rename(ANN, CAT)
    house.account.add_contact(DAN)
    assert forget(house, ANN) == []
    assert house.everybody() == {DAN}


def test_exchanged_addresses_do_not_erase_the_other_one(house: House) -> None:
    house.write(ANNA, row("B-2", BOB, first="Bob"))
    house.sync()
    house.later(days=2)
    house.sync()
    house.write(row("A-1", BOB, first=NAME), row("B-2", ANN, first="Bob"))
    fault = house.fault(Broken(status=500, applied=False), "GET", ID)
    house.sync()  # nobody could be read: nothing was decided
    assert house.query("SELECT count(*) AS n FROM record WHERE dirty=1") == [{"n": 2}]
    assert house.faults.fired[fault]
    house.faults.clear()
    assert forget(house, ANN) == []
    assert house.everybody() == {BOB}


def test_somebody_to_be_erased_is_renamed_onto_anothers_address(house: House) -> None:
    """Ann's contact cannot be deleted, and a hand gives it Bob's address: it is still hers."""
    house.write(ANNA, row("B-2", BOB, first="Bob"))
    house.sync()
    house.later(days=2)
    house.sync()
    hers = house.account.contact(ANN)["id"]
    house.fault(Broken(status=500, applied=False), "DELETE", ID, times=3)
    assert forget(house, ANN)
    house.account.remove(BOB)
    house.account.rename(ANN, BOB)
    house.write(ANNA, row("B-2", BOB, first="Bobby"))
    for _ in range(3):
        house.later(days=2)
        house.sync(full=True)
    assert hers not in [one["id"] for one in house.account.contacts_by_email().values()]
    assert house.query("SELECT 1 FROM contact WHERE state='forget'") == []
    assert traces(house.folder, ANN, NAME) == []


# --- what was under way ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "effect",
    [Late(after_s=90), Drop(applied=True), Drop(applied=False)],
    ids=["late", "done", "not done"],
)
def test_create_that_is_still_on_its_way(house: House, effect: Effect) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip"])
    house.write(ANNA, row("B-2", BOB))
    house.fault(effect, "POST", BULK, times=1)
    house.killed_at("settle")
    assert house.in_flight() == 2
    before_s = house.clock.now_s()
    assert forget(house, ANN) == []
    assert house.clock.now_s() - before_s >= 119
    assert ANN not in house.everybody()
    assert house.in_flight() == 1  # Bob is the next run's business
    house.sync()
    never_back(house)
    assert house.query("SELECT 1 FROM never WHERE sure=0") == []


def test_killed_while_it_waits_for_a_late_create(house: House) -> None:
    house.write(ANNA, row("B-2", BOB))
    house.fault(Late(after_s=90), "POST", BULK, times=1)
    house.killed_at("settle")
    with pytest.raises(Killed):
        forget(house, ANN, Killer("settle"))
    house.sync()
    never_back(house)


def test_nothing_in_flight_needs_no_waiting(house: House) -> None:
    house.write(ANNA)
    house.sync()
    before_s = house.clock.now_s()
    forget(house, ANN)
    assert house.clock.now_s() - before_s < 10


@pytest.mark.parametrize(
    "effect",
    [Drop(applied=True), Drop(applied=False), Late(after_s=60), Broken(status=502, applied=True)],
    ids=["done", "not done", "late", "gateway"],
)
def test_lost_answer_to_the_deletion(house: House, effect: Effect) -> None:
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    house.fault(effect, "DELETE", ID, times=1)
    assert forget(house, ANN) == []
    assert house.everybody() == {BOB}
    house.later(hours=1)
    never_back(house)


def test_what_cannot_be_deleted_now_is_deleted_by_the_next_run(house: House) -> None:
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    fault = house.fault(Broken(status=500, applied=False), "DELETE", ID)
    problems = forget(house, ANN)
    assert problems
    assert ANN not in str(problems)
    assert traces(house.folder, NAME) == []  # the address alone is kept, to delete by
    assert house.everybody() == {ANN, BOB}
    with story.reading(house.state) as db:
        assert db is not None
        assert story.account(db).to_erase == 1
        assert dossier.person(db, ANN, []) == dossier.Person(ANN)
    house.sync()
    assert ANN in house.everybody()
    assert house.faults.fired[fault] == 6
    house.faults.clear()
    house.later(minutes=20)
    assert house.sync().status is Status.OK
    assert house.everybody() == {BOB}
    never_back(house)


def test_fluenzr_that_takes_no_requests_ends_the_attempt_and_keeps_the_promise(
    house: House,
) -> None:
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    house.fault(Throttle(retry_after_s=100_000), "GET", "/contacts", times=1)
    assert forget(house, ANN)
    assert house.everybody() == {ANN, BOB}
    house.later(days=2)
    house.sync()
    never_back(house)


def test_careful_try_erases_too(house: House) -> None:
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    with pytest.raises(Killed):
        forget(house, ANN, Killer("upload"))
    house.sync(email=BOB)
    assert house.everybody() == {BOB}


# --- the database is killed, lost or restored ---------------------------------------------------------------


STATE = ("syncd.db", "syncd.db.installed")


def back_up(house: House) -> None:
    """A copy of the database and of its marker: as when a whole disk is put back."""
    (house.folder / "old").mkdir()
    for name in STATE:
        shutil.copy(house.folder / name, house.folder / "old" / name)


def restore_old(house: House) -> None:
    for name in STATE:
        shutil.copy(house.folder / "old" / name, house.folder / name)


def lose(house: House) -> None:
    """Starting over knowingly, as the error about the lost state says."""
    house.state.unlink()
    (house.folder / "syncd.db.installed").unlink()


def keep(house: House) -> None:
    """Nothing happens to it."""


@pytest.mark.parametrize("fate", [keep, restore_old, lose])
@pytest.mark.parametrize("phase", ["before the state", "before the deletion", "after it"])
def test_24_forget_and_a_database_that_is_lost(
    house: House, phase: str, fate: Callable[[House], None]
) -> None:
    """Given a forgotten person; when the command dies, and the database is lost or restored; then the
    contact is deleted, and the record is not created, also under another address.
    """
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    back_up(house)
    if phase == "before the state":
        with open_state(house.state) as state:
            forgotten.write_forget(state.forgotten, erase._meant(state, ANN)[1])
    elif phase == "before the deletion":
        with pytest.raises(Killed):
            forget(house, ANN, Killer("upload"))
    else:
        forget(house, ANN)
    fate(house)
    shutil.rmtree(house.folder / "old")
    house.write(row("A-1", DAN, first=NAME), row("B-2", BOB))
    result = house.sync()
    assert house.everybody() <= {BOB, DAN}
    assert (result.skipped_by, house.everybody()) == ({"forgotten": 1}, {BOB})
    never_back(house)


def test_backup_from_before_the_person_was_known(house: House) -> None:
    """The restored database has no row of hers, and FluenzR still has her: the daily reading finds her."""
    house.write(row("B-2", BOB))
    house.sync()
    back_up(house)
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    with pytest.raises(Killed):
        forget(house, ANN, Killer("upload"))
    restore_old(house)
    shutil.rmtree(house.folder / "old")
    house.later(days=2)
    house.sync()
    assert house.everybody() == {BOB}
    never_back(house)


def test_backup_from_before_a_change_of_address(house: House) -> None:
    """The restored database knows the record under its old address, which is somebody else's by now."""
    house.write(row("A-1", CAT, first=NAME), row("B-2", BOB))
    house.sync()
    house.later(days=2)
    house.sync()
    back_up(house)
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    with pytest.raises(Killed):
        forget(house, ANN, Killer("upload"))
    restore_old(house)
    shutil.rmtree(house.folder / "old")
    house.account.add_contact(CAT)
    house.sync()
    assert house.everybody() == {BOB, CAT}


def test_database_without_its_file_writes_it_again(house: House) -> None:
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    forget(house, ANN)
    file = house.folder / "syncd.db.forgotten"
    before = forgotten.read(file)
    file.unlink()
    house.sync()
    after = forgotten.read(file)
    assert after.salt == before.salt
    assert after.keys.keys() == before.keys.keys()
    assert all(after.keys.values())
    assert file.stat().st_mode & 0o777 == 0o600


def test_file_of_another_state_is_refused(house: House) -> None:
    house.write(ANNA)
    house.sync()
    forgotten_file = house.folder / "syncd.db.forgotten"
    forgotten_file.write_text("salt " + "0" * 64 + "\n")
    with pytest.raises(StateError, match="belongs to another state"):
        house.sync()


def test_last_line_wins_and_a_cut_line_is_none(tmp_path: Path) -> None:
    file, key, other = tmp_path / "f", "e:" + "a" * 32, "r:" + "b" * 32
    assert forgotten.read(file) == forgotten.Forgotten()
    forgotten.write_salt(file, b"s" * 32)
    forgotten.write_forget(file, [key, other])
    forgotten.write_done(file, [key])
    assert forgotten.read(file) == forgotten.Forgotten(b"s" * 32, {key: True, other: False})
    with file.open("a") as cut:
        cut.write("forget e:aaaa")  # the power went
    forgotten.write_forget(file, [key])
    assert forgotten.read(file).keys == {key: False, other: False}


def test_forgotten_twice(house: House) -> None:
    """Somebody made the contact again by hand; forgetting it once more deletes it once more."""
    house.write(ANNA, row("B-2", BOB))
    house.sync()
    forget(house, ANN)
    house.account.add_contact(ANN)
    house.later(days=2)
    house.sync()
    assert ANN in house.everybody()  # a human's own doing, after the deletion
    assert forget(house, ANN) == []
    assert house.everybody() == {BOB}
    never_back(house)


# --- the command -----------------------------------------------------------------------------------------


SHELL_ANN, SHELL_BOB = (1, ANN, NAME, 10), (2, BOB, "Bob", 20)


def test_command_deletes_and_names_nobody(shell: Shell) -> None:
    shell.people(SHELL_ANN, SHELL_BOB)
    shell("sync")
    said = shell("forget", "ANN@example.com", "--yes")
    assert (said.code, said.err) == (0, "")
    assert "Forgotten: FluenzR has nobody of this address" in said.out
    assert "Next: delete the person in the source, too" in said.out
    assert set(shell.account.contacts_by_email()) == {BOB}
    again = shell("sync")
    assert again.code == 0
    assert set(shell.account.contacts_by_email()) == {BOB}
    outputs = "".join((said.out, said.err, again.out, again.err)).lower()
    assert ANN not in outputs
    assert traces(shell.folder, ANN, NAME) == []
    unknown, erased = (shell.inside("why", email).out for email in (DAN, ANN))
    assert erased.replace(ANN, DAN) == unknown
    objects = (shell.inside("why", email, "--json").out for email in (DAN, ANN))
    assert len({text.replace(ANN, DAN) for text in objects}) == 1
    assert shell.inside("release", ANN).err.replace(ANN, DAN) == shell.inside("release", DAN).err


def test_command_says_3_when_fluenzr_cannot_delete(shell: Shell) -> None:
    shell.people(SHELL_ANN)
    shell.inside("sync")
    shell.configure(url="http://127.0.0.1:9/v1")
    said = shell("forget", ANN, "--yes")
    assert said.code == 3
    assert "Not finished" in said.out
    assert "Next: syncd sync" in said.out
    assert ANN not in said.out + said.err
    assert "1 person forgotten, still to be deleted" in shell.inside("status").out
    shell.configure()
    assert shell("sync").code == 0
    assert set(shell.account.contacts_by_email()) == set()
    assert traces(shell.folder, ANN, NAME) == []


def test_command_says_what_to_do_about_what_is_in_the_way(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.people(SHELL_ANN, SHELL_BOB)
    shell.inside("sync")
    monkeypatch.setenv("FLUENZR_API_KEY", "flz_sk_" + "x" * 32)
    said = shell.inside("forget", ANN, "--yes")
    assert said.code == 3
    assert "Check fluenzr.api_key" in said.out
    assert ANN not in said.out


def test_command_asks_nobody_without_a_terminal(shell: Shell) -> None:
    shell.people(SHELL_ANN)
    shell.inside("sync")
    said = shell("forget", ANN)
    assert (said.code, said.out) == (2, "")
    assert "--yes" in said.err
    assert set(shell.account.contacts_by_email()) == {ANN}
    assert "forget" not in (shell.folder / "syncd.db.forgotten").read_text()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2), ("", 2)])
def test_command_asks_on_a_terminal(shell: Shell, answer: str, code: int) -> None:
    shell.people(SHELL_ANN)
    shell.inside("sync")
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode() + b"\n")
        process = Command("forget", ANN, folder=shell.folder, env=shell.environment, stdin=theirs)
        _, err = process.communicate(PATIENCE_S)
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == code
    assert "There is no undo" in err
    assert (ANN in shell.account.contacts_by_email()) == bool(code)


@pytest.mark.parametrize("words", [("forget",), ("forget", "nobody", "--yes")], ids=" ".join)
def test_wrong_usage(shell: Shell, words: tuple[str, ...]) -> None:
    said = shell.inside(*words)
    assert (said.code, said.out) == (2, "")


def test_command_waits_for_the_lock(shell: Shell) -> None:
    """Whoever holds it for a moment only delays the command."""
    shell.people(SHELL_ANN)
    shell.inside("sync")
    holder = subprocess.Popen(
        [
            sys.executable, "-c",
            "import fcntl,sys; f=open('syncd.db.lock','r+'); fcntl.flock(f, 2); print('held', flush=True); sys.stdin.read()",
        ],
        cwd=shell.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    shell.started.append(holder)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == "held\n"
    busy = shell("sync")
    assert busy.code == 5
    waiting = shell.start("forget", ANN, "--yes")
    holder.stdin.close()
    _, err = waiting.communicate(timeout=PATIENCE_S)
    assert waiting.returncode == 0, err
    assert set(shell.account.contacts_by_email()) == set()


def test_a_reader_does_not_stop_it(house: House) -> None:
    """`status` may have the file open: the erasure is done all the same."""
    house.write(ANNA)
    house.sync()
    with closing(sqlite3.connect(house.state)) as db:
        db.execute("SELECT count(*) FROM contact").fetchone()
        assert forget(house, ANN) == []
    assert traces(house.folder, ANN, NAME) == []


def test_deletion_is_looked_at_again(house: House) -> None:
    """Somebody makes the contact anew while it is deleted: it is deleted once more."""
    house.write(ANNA)
    house.sync()
    house.fault(
        Act(action=lambda: house.account.add_contact(ANN), after=True), "DELETE", ID, times=1
    )
    assert forget(house, ANN) == []
    assert (house.everybody(), deletes(house)) == (set(), 2)
