"""Putting a copy back: all of it or nothing, whatever happens, and nobody is mailed by it."""

import os
import pty
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from house import House, Killed, Killer, house_fixture, row  # noqa: F401 - a fixture
from shell import PATIENCE_S, Shell, shell_fixture  # noqa: F401 - a fixture
from test_backup import back_up, kept
from test_forget import NAME, forget, traces
from test_reconcile import ANN, BOB, CAT, DAN, drip, hot, let_in, lose
from test_reconcile import reconcile as reconciled
from warm import Command

from syncd import restore as engine
from syncd.check import client
from syncd.core.result import Status
from syncd.errors import (
    CopyRefused,
    FluenzrError,
    SourceError,
    StateError,
    StateRestored,
    SyncdError,
    UsageError,
)
from syncd.reconcile import Reconciled
from syncd.sandbox.faults import Drop
from syncd.state import aside, copy, marker
from syncd.state.files import beside
from syncd.state.marker import Standing
from syncd.state.store import open_state
from syncd.watch import Nobody, Watch

KEPT = ("syncd.db", "syncd.db.forgotten", "syncd.db.installed", "syncd.db.lock")


def restore(house: House, file: Path, watch: Watch | None = None) -> Reconciled:
    """The command's work. It writes nothing to FluenzR."""
    before, mails = house.writes(), house.mailed()
    with client(house.settings, house.clock) as api:
        done = engine.restore(
            house.settings, file, api=api, clock=house.clock, watch=watch or Nobody(), wait_s=0
        )
    assert (house.writes(), house.mailed()) == (before, mails)
    assert left_beside(house) == []
    return done


def left_beside(house: House) -> list[str]:
    """Files beside the state that do not belong there when nothing is going on."""
    return sorted(f.name for f in house.folder.glob("syncd.db*") if f.name not in KEPT)


def good(house: House) -> dict[str, Any]:
    """What the state holds, its number excepted, which each opening moves on."""
    tables = house.tables()
    tables["meta"] = [one for one in tables["meta"] if one["k"] != marker.MARK]
    return tables


@pytest.fixture(name="copied")
def copied_fixture(house: House) -> House:
    """Ann and Bob were mailed; then a copy was made; then Cat was mailed, too."""
    drip(house, backup={"folder": "backups"})
    house.write(hot(1, ANN), hot(2, BOB))
    house.sync()
    back_up(house)
    house.later(days=1)
    house.write(hot(1, ANN), hot(2, BOB), hot(3, CAT))
    house.sync()
    assert house.mailed() == [ANN, BOB, CAT]
    return house


def the_copy(house: House) -> Path:
    return next((house.folder / "backups").iterdir())


# --- it works ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("was", ["good", "lost", "damaged", "other machine", "restored by hand"])
def test_nobody_is_mailed_twice_after_it(copied: House, was: str) -> None:
    match was:
        case "lost":
            lose(copied)
        case "damaged":
            lose(copied)
            copied.state.write_bytes(os.urandom(20_000))
        case "other machine":
            lose(copied, ".installed", ".forgotten", ".lock")
        case "restored by hand":
            lose(copied)
            shutil.copy(the_copy(copied), copied.state)
    mailed = copied.mailed()
    done = restore(copied, the_copy(copied))
    assert done.people is not None
    assert (done.people.present, done.people.absent) == (3, 0)
    assert copied.state.stat().st_mode & 0o777 == 0o600
    assert copied.sync().status is Status.OK
    copied.write(hot(1, ANN), hot(2, BOB), hot(3, CAT), hot(4, DAN))
    assert copied.sync().created == 1
    assert copied.mailed() == [*mailed, DAN]
    assert copied.sync().unchanged == 4


def test_whoever_was_deleted_since_stays_deleted_until_release(copied: House) -> None:
    copied.account.remove(ANN)
    restore(copied, the_copy(copied))
    copied.sync()
    assert copied.everybody() == {BOB, CAT}
    let_in(copied, ANN)
    copied.sync()
    assert copied.account.groups_of(ANN) == {"Customers"}
    assert copied.mailed() == [ANN, BOB, CAT]


def test_forgotten_person_does_not_come_back(copied: House) -> None:
    """The copy is from elsewhere: nobody could erase anything in it."""
    elsewhere = copied.folder.with_name("elsewhere.db")
    shutil.copy(the_copy(copied), elsewhere)
    forget(copied, ANN)
    restore(copied, elsewhere)
    copied.sync()
    assert copied.everybody() == {BOB, CAT}
    assert traces(copied.folder, ANN) == []
    elsewhere.unlink()


def test_copies_that_the_old_state_did_not_know_are_still_ours(copied: House) -> None:
    own = copied.folder / "mine.db"
    copied.write(hot(1, ANN, first=NAME), hot(2, BOB), hot(3, CAT))
    copied.sync()
    back_up(copied, own)
    restore(copied, the_copy(copied))
    assert traces(copied.folder, NAME)
    forget(copied, ANN)
    assert traces(copied.folder, ANN, NAME) == []


def test_copy_with_its_log_beside_it(copied: House) -> None:
    """Made by hand, as files, while nothing was running."""
    by_hand = copied.folder / "by-hand.db"
    with closing(sqlite3.connect(copied.state)) as db:
        db.execute("INSERT INTO meta VALUES('note','1')")
        db.commit()
        for suffix in ("", "-wal"):
            shutil.copy(beside(copied.state, suffix), beside(by_hand, suffix))
    restore(copied, by_hand)
    assert copied.query("SELECT v FROM meta WHERE k='note'") == [{"v": "1"}]


def test_next_copy_counts_as_the_newest(copied: House) -> None:
    old = the_copy(copied)
    restore(copied, old)
    assert back_up(copied).copy.number > copy.look(old).number
    assert len(kept(copied)) == 2


# --- it is refused -------------------------------------------------------------------------------------


def _text(file: Path) -> None:
    file.write_text("hello " * 999)


def _foreign(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA application_id=7")


def _newer(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations(migration_set,name) VALUES('fluenzr-syncd','m999_new')"
        )
        db.commit()


def _other_salt(file: Path) -> None:
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE meta SET v=? WHERE k='salt'", ('"' + "ab" * 32 + '"',))
        db.commit()


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-8192])


def _index(file: Path) -> None:
    """Every page is well formed; an index lacks a row."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_master SET sql=sql||' WHERE 0' WHERE name='contact_email'")
        db.commit()
    with closing(sqlite3.connect(file)) as db:
        db.execute("DELETE FROM contact WHERE cid=1")
        db.execute("PRAGMA writable_schema=ON")
        db.execute(
            "UPDATE sqlite_master SET sql=replace(sql,' WHERE 0','') WHERE name='contact_email'"
        )
        db.commit()


@pytest.mark.parametrize("was", ["good", "lost", "damaged"])
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_text, "cannot be read as a copy"),
        (_foreign, "is not a copy of a state"),
        (_newer, "newer version"),
        (_other_salt, "a copy of another state"),
        (_cut, "damaged|cannot be read"),
        (_index, "damaged"),
    ],
    ids=["text", "foreign", "newer", "other salt", "cut", "index"],
)
def test_copies_that_are_refused(copied: House, spoil: Any, words: str, was: str) -> None:
    file = the_copy(copied)
    spoil(file)
    if was != "good":
        lose(copied)
    if was == "damaged":
        copied.state.write_bytes(b"?" * 20_000)
    before = {f: f.read_bytes() for f in copied.folder.glob("syncd.db*")}
    for ask in (lambda: engine.offer(copied.settings, file), lambda: restore(copied, file)):
        with pytest.raises(CopyRefused, match=words) as refused:
            ask()
        assert refused.value.exit_code == 2
    assert {f: f.read_bytes() for f in copied.folder.glob("syncd.db*")} == before
    if was == "good":
        assert copied.sync().status is Status.OK


def test_files_that_are_no_copies(copied: House) -> None:
    for name in ("syncd.db", "nowhere.db", "backups"):
        with pytest.raises(UsageError):
            restore(copied, copied.folder / name)


# --- it does not succeed -------------------------------------------------------------------------------


def test_source_that_breaks_leaves_the_state_as_it_was(copied: House) -> None:
    before = good(copied)
    copied.break_source(hot(1, ANN))
    with pytest.raises(SourceError, match="Nothing was rebuilt"):
        restore(copied, the_copy(copied))
    assert left_beside(copied) == []
    assert good(copied) == before
    copied.write(hot(1, ANN), hot(2, BOB), hot(3, CAT), hot(4, DAN))
    assert copied.sync().created == 1  # it is the newest state still: nothing has to be rebuilt
    assert copied.mailed() == [ANN, BOB, CAT, DAN]


def test_fluenzr_that_does_not_answer_leaves_the_state_as_it_was(copied: House) -> None:
    before = good(copied)
    copied.fault(Drop(applied=False), "GET", "/groups")
    with pytest.raises(FluenzrError):
        restore(copied, the_copy(copied))
    copied.faults.clear()
    assert (left_beside(copied), good(copied)) == ([], before)
    assert copied.sync().status is Status.OK


@pytest.mark.parametrize("more", [(), (".installed", ".forgotten")], ids=["lost", "never there"])
def test_where_nothing_stood_the_copy_stays_and_sends_nothing(
    copied: House, more: tuple[str, ...]
) -> None:
    lose(copied, *more)
    copied.fault(Drop(applied=False), "GET", "/groups")
    with pytest.raises(FluenzrError):
        restore(copied, the_copy(copied))
    copied.faults.clear()
    assert marker.standing(copied.state) is Standing.RESTORED
    with pytest.raises(StateRestored):
        copied.sync()
    assert reconciled(copied).people is not None
    copied.sync()
    assert copied.mailed() == [ANN, BOB, CAT]


def cut_off(house: House, at: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """The process dies at the n-th step of the putting aside or the putting in place; False: there are fewer steps."""
    steps = 0
    originals = {
        name: getattr(Path, name)
        for name in ("rename", "replace", "unlink", "touch", "write_bytes")
    }

    def dies(name: str) -> Any:
        def step(self: Path, *args: Any, **named: Any) -> Any:
            nonlocal steps
            if self.name.startswith("syncd.db"):
                steps += 1
                if steps == at:
                    raise Killed
                if steps > at:
                    raise AssertionError("a dead process did something")
            return originals[name](self, *args, **named)

        return step

    with monkeypatch.context() as patch:
        for name in originals:
            patch.setattr(Path, name, dies(name))
        # A process that is killed puts nothing back.
        patch.setattr(aside, "put_back", lambda path: False)
        patch.setattr(copy, "remove", lambda file: None)
        try:
            restore(house, the_copy(house), Killer("list"))
        except Killed:
            return steps >= at
    raise AssertionError("nobody was killed")


def test_killed_anywhere_the_old_state_comes_back_or_the_copy_is_finished(
    copied: House, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before, original = good(copied), copied.folder
    safe = tmp_path_factory.mktemp("safe")
    shutil.copytree(original, safe, dirs_exist_ok=True)
    at, fates = 0, set()
    while True:
        at += 1
        if not cut_off(copied, at, monkeypatch):
            break
        mails = copied.mailed()
        try:  # whoever comes next is refused, or finds the old state whole
            copied.sync()
        except StateError:
            fates.add("refused")
        else:
            fates.add("old")
            assert len(copied.query("SELECT 1 FROM contact")) == 3
        assert copied.mailed() == mails
        copied.fault(Drop(applied=False), "GET", "/groups")
        with pytest.raises(SyncdError):  # it fails a second time: now it is put back
            restore(copied, the_copy(copied))
        copied.faults.clear()
        assert left_beside(copied) == []
        assert copied.sync().status is Status.OK
        assert {one["email"] for one in good(copied)["contact"]} == {
            one["email"] for one in before["contact"]
        }
        assert copied.mailed() == mails
        _put_folder_back(original, safe)
    assert fates == {"refused", "old"}
    assert at > 5


def _put_folder_back(folder: Path, safe: Path) -> None:
    for file in folder.glob("syncd.db*"):
        file.unlink()
    for file in safe.glob("syncd.db*"):
        shutil.copy(file, folder)


def test_killed_and_then_reconciled(copied: House) -> None:
    """The other way out: the copy is rebuilt, and what was put aside is deleted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aside, "put_back", lambda path: False)
        with pytest.raises(Killed):
            restore(copied, the_copy(copied), Killer("list"))
    assert "syncd.db.before-restore" in left_beside(copied)
    with pytest.raises(StateRestored):
        copied.sync()
    reconciled(copied)
    assert left_beside(copied) == []
    copied.sync()
    assert copied.mailed() == [ANN, BOB, CAT]


def test_what_was_put_aside_hides_nobody_who_is_forgotten(copied: House) -> None:
    with open_state(copied.state):
        pass
    shutil.copy(copied.state, beside(copied.state, aside.ASIDE))
    forget(copied, ANN)
    assert left_beside(copied) == []


# --- the command ---------------------------------------------------------------------------------------


def on_terminal(shell: Shell, words: list[str], answer: str) -> tuple[int, str]:
    """The command on a terminal, where somebody answers."""
    ours, theirs = pty.openpty()
    with Command(*words, folder=shell.folder, env=shell.environment, stdin=theirs) as process:
        os.write(ours, answer.encode())
        out, err = process.communicate(timeout=PATIENCE_S)
    os.close(ours)
    os.close(theirs)
    return process.wait(), out + err


def two_people(shell: Shell) -> None:
    config = shell.folder / "config.toml"
    config.write_text(config.read_text().replace("[state]", 'settle = "0"\n[state]'))
    shell.people((1, ANN), (2, BOB))
    assert shell.inside("sync").code == 0
    assert shell.inside("backup", "mine.db").code == 0


@pytest.mark.parametrize(("answer", "code"), [("n\n", 2), ("y\n", 0)])
def test_command_asks(shell: Shell, answer: str, code: int) -> None:
    two_people(shell)
    ended, said = on_terminal(shell, ["restore", "mine.db"], answer)
    assert ended == code
    assert "2 contacts" in said
    assert "does not know who was mailed since" in said
    assert ("Nothing was done" in said) == (code == 2)
    assert ANN not in said


def test_command_in_words_and_as_json(shell: Shell) -> None:
    two_people(shell)
    said = shell.inside("restore", "mine.db")
    assert (said.code, "--yes" in said.err) == (2, True)
    [done] = shell.inside("restore", "mine.db", "--yes", "--json").objects
    assert (done["found"], done["was"]) == (2, "restored")
    said = shell.inside("restore", "mine.db", "--yes")
    assert (said.code, said.err) == (0, "")
    assert "nobody was mailed" in said.out
    assert shell.inside("sync").code == 0


def test_command_says_what_stands_there_after_it_failed(shell: Shell) -> None:
    two_people(shell)
    (shell.folder / "people.csv").unlink()
    said = shell.inside("restore", "mine.db", "--yes")
    assert said.code == 1
    assert "The state is what it was before" in said.err
    said = shell.inside("restore", "nowhere.db", "--yes")
    assert (said.code, "There is no file" in said.err) == (2, True)
