"""Lost, restored and drifted states: after `reconcile` nobody is mailed twice, and no opt-out is lost."""

import shutil
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from house import BULK, House, Killed, Killer, house_fixture, people, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import forget as forgetting
from syncd import reconcile as engine
from syncd.check import client
from syncd.core.result import Status
from syncd.errors import SourceError, StateError, StateLost, StateRestored
from syncd.sandbox.faults import Drop, Late
from syncd.sandbox.faults import Status as Broken
from syncd.state import dossier, marker, release
from syncd.state.marker import Standing
from syncd.state.store import change, open_state
from syncd.watch import Nobody, Watch

ANN, BOB, CAT, DAN, EVE = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan", "eve"))
DRIP = "Drip"
ID = "/contacts/con_[0-9]+"


def drip(house: House, **options: Any) -> None:
    """Everybody joins the static group Customers; whoever is hot joins a dynamic one, and is mailed."""
    if not any(group.name == DRIP for group in house.account.groups.values()):
        house.account.add_group(DRIP, dynamic=True)
    house.configure(
        groups=["Customers", {"name": DRIP, "when": "score == '9'"}], opted_out="out", **options
    )


def hot(key: int, email: str, **columns: object) -> dict[str, str]:
    return row(key, email, score=9, **columns)


def reconcile(house: House, *, watch: Watch | None = None, lost: bool = False) -> engine.Reconciled:
    """The command's work. It writes nothing to FluenzR."""
    before, mails = house.writes(), house.mailed()
    with client(house.settings, house.clock) as api:
        done = engine.reconcile(
            house.settings,
            api=api,
            clock=house.clock,
            watch=watch or Nobody(),
            wait_s=0,
            lost=lost,
        )
    assert (house.writes(), house.mailed()) == (before, mails)
    return done


def lose(house: House, *more: str) -> None:
    """The database is gone; with `more`, its neighbours too."""
    for suffix in ("", "-wal", "-shm", *more):
        house.state.with_name(house.state.name + suffix).unlink(missing_ok=True)


def back_up(house: House) -> None:
    """A copy, as an operator makes it at any time: of the database alone."""
    (house.folder / "backup.db").unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(house.state)) as db,
        closing(sqlite3.connect(house.folder / "backup.db")) as copy,
    ):
        db.backup(copy)


def restore(house: House) -> None:
    """The copy stands in the state's place."""
    lose(house)
    shutil.copy(house.folder / "backup.db", house.state)


def let_in(house: House, *emails: str) -> None:
    """`syncd release`."""
    change(house.state, lambda state: release.release(state, list(emails)), clock=house.clock)


def never(house: House, email: str) -> set[str]:
    with closing(sqlite3.connect(house.state)) as db:
        db.row_factory = sqlite3.Row
        return set(dossier.person(db, email, list(house.settings.syncs)).never)


# --- a lost state --------------------------------------------------------------------------------------


def test_lost_state_is_refused_until_it_is_rebuilt(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN))
    house.sync()
    lose(house)
    with pytest.raises(StateLost, match="syncd reconcile"):
        house.sync()
    assert not house.state.exists()
    reconcile(house)
    assert house.sync().status is Status.OK


def test_lost_state_is_rebuilt_without_mailing_anyone(house: House) -> None:
    drip(house)
    crowd = [hot(n, f"p{n}@example.com", first=f"F{n}") for n in range(30)]
    house.write(*crowd)
    house.sync()
    mailed, ids = house.mailed(), {c["id"] for c in house.account.contacts_by_email().values()}
    assert len(mailed) == 30
    house.account.take_out("p3@example.com", DRIP)
    house.account.remove("p4@example.com")
    house.account.opt_out("p5@example.com")
    lose(house)

    drip(house, guard={"max_enrolments": 5})  # nobody of them would be mailed: no guard counts them
    done = reconcile(house)
    assert (done.was, done.held) == (Standing.LOST, {})
    assert done.people is not None
    assert (done.people.present, done.people.absent, done.people.opted_out) == (29, 1, 1)
    assert done.people.examples == ("p4@example.com",)
    crowd[6]["first"] = "New"
    house.write(*crowd, hot(100, "new@example.com"))
    result = house.sync()
    assert (result.created, result.updated, result.enrolled) == (1, 1, 1)
    assert house.mailed() == [*mailed, "new@example.com"]  # a person of whom nobody knew before
    assert "p4@example.com" not in house.everybody()
    assert ids - {c["id"] for c in house.account.contacts_by_email().values()} == {
        house_id for house_id in ids if house_id not in house.account.contacts
    }
    assert house.sync().unchanged == 31


def test_absent_people_come_back_by_release_and_are_not_mailed(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN), hot(2, BOB))
    house.sync()
    mailed = house.mailed()
    house.account.remove(ANN)
    lose(house)
    reconcile(house)
    house.sync()
    assert house.everybody() == {BOB}
    let_in(house, ANN)
    assert house.sync().created == 1
    assert house.account.groups_of(ANN) == {"Customers"}
    assert house.mailed() == mailed


def test_scenario_25_address_that_was_invalid_on_the_day(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN), hot(2, BOB))
    house.sync()
    mailed = house.mailed()
    house.account.remove(ANN)
    lose(house)
    house.write(hot(1, "ann at example"), hot(2, BOB))
    reconcile(house)
    house.write(hot(1, ANN), hot(2, BOB))
    house.sync()
    assert house.everybody() == {BOB}
    let_in(house, ANN)
    house.sync()
    assert house.everybody() == {ANN, BOB}
    assert (house.mailed(), house.account.groups_of(ANN)) == (mailed, {"Customers"})


def test_people_who_are_filtered_out_on_the_day_stay_barred(house: House) -> None:
    drip(house, where="last != 'lead'")
    house.write(hot(1, ANN), hot(2, BOB), hot(3, EVE))
    house.sync()
    mailed = house.mailed()
    house.account.remove(ANN)
    house.account.opt_out(BOB)
    house.account.remove(EVE)
    lose(house)
    house.write(*(hot(key, who, last="lead") for key, who in ((1, ANN), (2, BOB), (3, EVE))))
    done = reconcile(house)
    assert done.people is not None
    assert (done.people.present, done.people.absent, done.people.unwanted) == (0, 0, 3)
    # Under another address, it is still the same record.
    house.write(hot(1, ANN), hot(2, CAT), hot(3, DAN))
    house.sync()
    assert (house.everybody(), house.mailed()) == ({BOB}, mailed)


def test_nobody_is_promoted_whose_opt_out_only_the_source_knows(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN), hot(2, BOB, out="yes"))
    house.account.add_contact(BOB)
    house.sync()
    mailed = house.mailed()
    lose(house)
    reconcile(house)
    house.write(hot(1, ANN), hot(2, BOB))  # the source says no again: the latch holds
    house.sync()
    assert (house.mailed(), house.account.groups_of(BOB)) == (mailed, set())


def test_source_that_breaks_leaves_nothing_rebuilt(house: House) -> None:
    house.account.add_group(DRIP, dynamic=True)
    house.configure(syncs={"people": {"groups": [DRIP]}, "leads": {"groups": [DRIP]}})
    house.write(row(1, ANN))
    house.write(row(1, BOB), source="leads")
    house.sync_all()
    mailed = house.mailed()
    lose(house)
    house.break_source(row(1, BOB), source="leads")
    with pytest.raises(SourceError, match=r"Nothing was rebuilt.*'leads'"):
        reconcile(house)
    assert house.query("SELECT * FROM record") == house.query("SELECT * FROM never") == []
    with pytest.raises(StateRestored):
        house.sync_all()
    house.write(row(1, BOB), source="leads")
    assert reconcile(house).people is not None
    house.sync_all()
    assert house.mailed() == mailed


@pytest.mark.parametrize("phase", ["settle", "list", "read", "check"])
@pytest.mark.parametrize("backup", [False, True])
def test_rebuild_that_dies_is_begun_anew(house: House, phase: str, *, backup: bool) -> None:
    drip(house)
    house.write(hot(1, ANN), hot(2, BOB))
    house.sync()
    back_up(house)
    house.write(hot(1, ANN), hot(2, BOB), hot(3, CAT))
    house.sync()
    mailed = house.mailed()
    house.account.remove(CAT)
    house.account.remove(ANN)
    restore(house) if backup else lose(house)
    with pytest.raises(Killed):
        reconcile(house, watch=Killer(phase))
    with pytest.raises(StateError, match="syncd reconcile"):
        house.sync()
    done = reconcile(house)
    assert done.was is (Standing.LOST if phase == "settle" and not backup else Standing.RESTORED)
    house.sync()
    assert (house.everybody(), house.mailed()) == ({BOB}, mailed)


def test_rebuild_that_dies_in_its_last_moment_is_whole(house: House, monkeypatch: object) -> None:
    """After the transaction and before the file: the database is ahead, never behind."""
    drip(house)
    house.write(hot(1, ANN))
    house.sync()
    lose(house)
    assert isinstance(monkeypatch, pytest.MonkeyPatch)
    write, numbers = marker.write, list[int]()

    def die(file: object, number: int) -> None:
        numbers.append(number)
        raise Killed

    monkeypatch.setattr(marker, "write", die)
    with pytest.raises(Killed):
        reconcile(house)
    monkeypatch.setattr(marker, "write", write)
    assert len(numbers) == 1
    assert house.sync().unchanged == 1
    assert house.mailed() == [ANN]


def test_rebuild_waits_for_what_the_lost_state_had_sent(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN))
    house.fault(Late(after_s=60), "POST", BULK, times=1)
    house.sync()
    lose(house)
    started_s = house.clock.now_s()
    reconcile(house)
    assert house.clock.now_s() - started_s >= house.settings.fluenzr.settle_s
    house.sync()
    assert house.mailed().count(ANN) <= 1


def test_forgotten_people_stay_forgotten(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN), hot(2, BOB))
    house.sync()
    mailed = house.mailed()
    house.fault(Broken(status=500, applied=False), "DELETE", ID)
    with client(house.settings, house.clock) as api:
        left = forgetting.forget(
            house.settings, ANN, api=api, clock=house.clock, watch=Nobody(), wait_s=0
        )
    assert left
    house.faults.clear()
    lose(house)
    reconcile(house)
    house.write(hot(1, CAT), hot(2, BOB), hot(3, ANN))
    house.sync()
    assert (house.everybody(), house.mailed()) == ({BOB}, mailed)


def test_key_that_had_a_forgotten_address_on_the_day_stays_barred(house: House) -> None:
    house.write(row(1, ANN), row(2, BOB))
    house.sync()
    house.fault(Broken(status=500, applied=False), "DELETE", ID)
    with client(house.settings, house.clock) as api:
        forgetting.forget(house.settings, ANN, api=api, clock=house.clock, watch=Nobody(), wait_s=0)
    house.faults.clear()
    house.write(row(3, ANN), row(2, BOB))
    lose(house)
    reconcile(house)
    house.write(row(3, CAT), row(2, BOB), row(4, DAN))
    house.sync()
    assert house.everybody() == {BOB, DAN}


def test_without_any_trace_it_takes_a_word(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN))
    house.sync()
    lose(house, ".installed", ".forgotten", ".lock")
    with pytest.raises(StateError, match="--lost"):
        reconcile(house)
    assert not house.state.exists()
    reconcile(house, lost=True)
    house.sync()
    assert house.mailed() == [ANN]


# --- a restored state ----------------------------------------------------------------------------------


def test_restored_state_sends_nothing_before_it_is_reconciled(house: House) -> None:
    drip(house)
    house.write(row(1, ANN))
    house.sync()
    back_up(house)
    house.write(hot(1, ANN), hot(2, BOB))
    house.sync()
    house.account.take_out(ANN, DRIP)
    house.account.take_out(BOB, DRIP)
    mailed, writes = house.mailed(), house.writes()
    restore(house)
    for attempt in (house.sync, house.plan, lambda: let_in(house, ANN)):
        with pytest.raises(StateRestored, match="syncd reconcile"):
            attempt()
    assert house.writes() == writes
    assert marker.standing(house.state) is Standing.RESTORED

    done = reconcile(house)
    assert (done.was, done.repaired.deleted) == (Standing.RESTORED, 0)
    assert marker.standing(house.state) is Standing.GOOD
    assert (house.known(BOB)["state"], house.known(BOB)["origin"]) == ("ok", "adopted")
    house.sync()
    assert house.mailed() == mailed
    assert house.sync().unchanged == 2


def test_restored_state_learns_what_happened_since(house: House) -> None:
    drip(house, on_removal="ungroup")
    house.write(row(1, ANN), row(2, BOB), row(3, CAT), row(4, DAN), row(5, EVE))
    house.sync()
    reconcile(house)  # learns the ids
    back_up(house)
    # Ann is mailed and opts out; Bob is created anew at another address; Cat leaves; Dan and a new one are deleted by hand.
    house.write(hot(1, ANN), hot(2, "bobby@example.com"), row(5, EVE), hot(6, "fay@example.com"))
    house.sync()
    house.account.opt_out(ANN)
    house.account.opt_out("fay@example.com")
    house.sync()
    house.account.remove(DAN)
    house.account.remove("fay@example.com")
    mailed = house.mailed()
    assert ANN in mailed
    restore(house)

    done = reconcile(house)
    assert (done.repaired.renamed, done.repaired.deleted) == (1, 1)
    result = house.sync()
    assert (result.enrolled, result.created, house.mailed()) == (0, 0, mailed)
    assert house.everybody() == {ANN, "bobby@example.com", CAT, EVE}
    assert house.account.groups_of(CAT) == set()
    assert house.account.groups_of(EVE) == {"Customers"}
    house.write(hot(1, "ann2@example.com"), hot(5, EVE), hot(6, "fay@example.com"))
    house.sync()
    assert house.mailed() == mailed


def test_restored_state_is_guarded_like_any(house: House) -> None:
    drip(house, on_removal="ungroup")
    house.write(*people(40))
    house.sync()
    back_up(house)
    house.later(hours=1)
    house.sync()
    restore(house)
    house.write(*people(10))
    done = reconcile(house)
    assert list(done.held) == ["people"]
    assert house.sync().status is Status.HELD
    assert len(house.members("Customers")) == 40


def test_in_flight_of_a_backup_is_read_and_never_undone(house: House) -> None:
    """An update was in flight when the copy was made; since then somebody has made a contact that looks like an accident of it."""
    house.configure()
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    house.later(minutes=5)
    house.write(row(1, ANN, first="Anne"))
    house.fault(Drop(applied=True), "POST", BULK, times=1)
    house.killed_at("settle")
    assert house.in_flight() == 1
    back_up(house)
    house.later(minutes=5)
    house.sync()
    house.account.remove(ANN)
    house.account.add_contact(ANN, firstName="Anne", lastName="")
    restore(house)
    reconcile(house)
    assert (house.everybody(), house.in_flight()) == ({ANN}, 0)


def test_database_without_its_neighbours_is_a_restored_one(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    house.state.with_name("syncd.db.installed").unlink()
    with pytest.raises(StateRestored):
        house.sync()
    reconcile(house)
    assert house.sync().unchanged == 1


def test_whole_folder_that_was_put_back_takes_a_word(house: House) -> None:
    """Nothing shows it; who knows it can say so."""
    drip(house)
    house.write(row(1, ANN))
    house.sync()
    shutil.copytree(house.folder, house.folder / "copy")
    house.write(hot(1, ANN))
    house.sync()
    house.account.take_out(ANN, DRIP)
    mailed = house.mailed()
    lose(house, ".installed", ".forgotten")
    for file in (house.folder / "copy").glob("syncd.db*"):
        shutil.copy(file, house.folder)
    assert marker.standing(house.state) is Standing.GOOD
    assert reconcile(house, lost=True).people is not None
    house.sync()
    assert house.mailed() == mailed


@pytest.mark.parametrize("text", ["", "0\n"])
def test_state_without_a_number_is_no_restored_one(house: House, text: str) -> None:
    with open_state(house.state):
        pass
    with closing(sqlite3.connect(house.state)) as db:
        db.execute("DELETE FROM meta WHERE k=?", (marker.MARK,))
        db.commit()
    house.state.with_name("syncd.db.installed").write_text(text)
    house.write(row(1, ANN))
    assert house.sync().created == 1


def test_each_copy_is_old_once_another_command_has_begun(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    back_up(house)
    house.killed_at("upload")
    restore(house)
    with pytest.raises(StateRestored):
        house.sync()


def test_mark_moves_before_anything_is_done_and_at_the_end(house: House) -> None:
    """So that no copy can pass for the newest state, be it made before a command or within it."""
    with open_state(house.state):
        pass
    file, numbers = marker.installed(house.state), list[int | None]()
    numbers.append(marker.read(file))
    with open_state(house.state):
        numbers.append(marker.read(file))
    numbers.append(marker.read(file))
    assert numbers == [2, 3, 4]


@pytest.mark.parametrize("trace", ["good", "empty file", "nothing"])
def test_half_of_a_rebuild_never_passes_for_a_state(house: House, trace: str) -> None:
    drip(house)
    house.write(hot(1, ANN))
    house.sync()
    if trace == "empty file":
        lose(house)
        marker.installed(house.state).write_text("")
    elif trace == "nothing":
        lose(house, ".installed")
    with pytest.raises(Killed):
        reconcile(house, watch=Killer("list"), lost=True)
    with pytest.raises(StateRestored):
        house.sync()
    reconcile(house)
    assert marker.standing(house.state) is Standing.GOOD


def test_plan_moves_no_mark(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    back_up(house)
    house.plan()
    restore(house)
    assert house.sync().unchanged == 1


def test_approval_of_a_backup_counts_no_more(house: House) -> None:
    """It was used up in the time that the backup does not know."""
    drip(house, on_removal="ungroup")
    crowd = people(40)
    house.write(*crowd)
    house.sync()
    house.write(*crowd[:10])
    house.approve(house.sync().run)
    back_up(house)
    assert house.sync().removed == 30
    house.write(*crowd)
    house.sync()
    restore(house)
    house.write(*crowd[:10])
    assert list(reconcile(house).held) == ["people"]
    assert house.sync().status is Status.HELD


def test_record_that_was_wanted_only_since_the_copy_stays_barred(house: House) -> None:
    """It is filtered out today as it was then; in between it was created, and mailed."""
    drip(house, where="last != 'lead'")
    leads = [hot(1, ANN, last="lead"), hot(2, BOB, last="lead")]
    house.write(*leads, row(3, CAT))
    house.sync()
    back_up(house)
    house.write(hot(1, ANN), hot(2, BOB), row(3, CAT))
    house.sync()
    house.account.remove(ANN)
    house.write(*leads, row(3, CAT))
    mailed = house.mailed()
    restore(house)
    reconcile(house)
    house.write(hot(1, DAN), hot(2, EVE), row(3, CAT))
    house.sync()
    assert house.everybody() == {BOB, CAT, EVE}
    assert house.mailed() == mailed


def test_address_that_only_the_copy_knows_stays_barred(house: House) -> None:
    """Since the copy it was created, mailed, and renamed; today somebody else has it."""
    drip(house)
    house.account.refuse(ANN)
    house.write(hot(1, ANN), row(3, CAT))
    house.sync()
    back_up(house)
    house.account.accept(ANN)
    house.later(days=2)
    house.sync()
    assert house.mailed() == [ANN]
    house.write(hot(1, BOB), row(3, CAT))
    house.sync()
    assert house.everybody() == {BOB, CAT}
    restore(house)
    reconcile(house)
    house.write(hot(1, BOB), hot(2, ANN), row(3, CAT))
    house.sync()
    assert ANN in house.everybody()
    assert house.mailed() == [ANN]


# --- a state that is there -------------------------------------------------------------------------------


def test_repair_of_a_state_that_agrees_changes_nothing(house: House) -> None:
    drip(house)
    house.write(hot(1, ANN), row(2, BOB))
    house.sync()
    house.sync()
    done = reconcile(house)
    assert (done.was, done.people) == (Standing.GOOD, None)
    assert (done.repaired.ids, done.repaired.edited, done.repaired.deleted) == (2, 0, 0)
    writes = house.writes()
    assert house.sync().unchanged == 2
    assert house.writes() == writes
    assert never(house, BOB) == set()  # nobody is barred by a repair


def test_repair_finds_what_people_did_by_hand(house: House) -> None:
    drip(house)
    crowd = [row(n, f"p{n}@example.com", first=f"F{n}") for n in range(6)]
    house.write(*crowd)
    house.sync()
    reconcile(house)
    house.account.edit("p0@example.com", firstName="By hand")
    house.account.take_out("p1@example.com", "Customers")
    house.account.opt_out("p2@example.com")
    house.account.remove("p3@example.com")
    house.account.rename("p4@example.com", "renamed@example.com")
    repaired = reconcile(house).repaired
    assert (repaired.edited, repaired.statuses) == (2, 1)
    assert (repaired.deleted, repaired.renamed, repaired.ids) == (1, 1, 0)
    house.sync()
    assert house.account.contact("p0@example.com")["firstName"] == "F0"
    assert "p1@example.com" in house.members("Customers")
    assert "p3@example.com" not in house.everybody()
    assert "p4@example.com" in house.everybody()


def test_repair_that_cannot_list_changes_nothing(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    before = house.known(ANN)
    house.fault(Drop(applied=False), "GET", "/contacts")
    with pytest.raises(Exception, match="contacts"):
        reconcile(house)
    assert house.known(ANN) == before
    house.faults.clear()
    assert reconcile(house).repaired.ids == 1


# --- the command -----------------------------------------------------------------------------------------


def test_command_rebuilds_and_says_so(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.write(
        "config.toml",
        (shell.folder / "config.toml")
        .read_text()
        .replace("[state]", 'settle = "0 seconds"\n\n[state]', 1),
    )
    shell.people((1, ANN, "Ann", 95), (2, BOB, "Bob", 95), (3, CAT, "Cat", 1))
    assert shell.inside("sync").code == 0
    shell.account.remove(BOB)
    mailed = shell.account.mailed()
    for name in ("syncd.db", "syncd.db-wal", "syncd.db-shm"):
        (shell.folder / name).unlink(missing_ok=True)
    said = shell.inside("sync")
    assert (said.code, "syncd reconcile" in said.err) == (1, True)
    assert "syncd reconcile" in shell.inside("check").out

    said = shell("reconcile", "--json")
    (told,) = said.objects
    assert (said.code, told["was"]) == (0, "lost")
    assert (told["found"], told["absent"], told["listed"]) == (2, 1, 2)
    assert shell.inside("sync").code == 0
    assert shell.account.mailed() == mailed

    said = shell("reconcile")
    assert said.code == 0
    assert "Compared the state with FluenzR" in said.out
    said = shell("history")
    assert said.code == 0


def test_command_names_whom_it_did_not_find(shell: Shell) -> None:
    shell.write(
        "config.toml",
        (shell.folder / "config.toml")
        .read_text()
        .replace("[state]", 'settle = "0 seconds"\n\n[state]', 1),
    )
    shell.people((1, ANN, "Ann"), (2, BOB, "Bob"))
    assert shell.inside("reconcile").code == 1
    said = shell.inside("reconcile", "--lost")
    assert said.code == 0
    assert ANN in said.out
    assert "syncd release" in said.out
