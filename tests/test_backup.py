"""Copies of the state: whole or not at all, few enough, sound, and free of whoever was forgotten."""

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from house import House, Killed, Killer, house_fixture, people, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture
from sqlite_utils import Database
from test_bad_surroundings import process
from test_forget import ANN, ANNA, BOB, NAME, forget, traces

from syncd import backup as engine
from syncd.backup import Made
from syncd.clock import SystemClock
from syncd.core.result import Status
from syncd.errors import CopyRefused, Interrupted, StateError, StateRestored, UsageError
from syncd.migrations import migrations
from syncd.sandbox.faults import Status as Broken
from syncd.state import copies, copy, erase, room, runs
from syncd.state.store import hold, open_state
from syncd.watch import Nobody

CAT = row("C-3", "cat@example.com")


def back_up(house: House, file: Path | None = None) -> Made:
    return engine.back_up(house.settings, file, clock=house.clock, watch=Nobody(), wait_s=0)


def kept(house: House) -> list[str]:
    return sorted(file.name for file in (house.folder / "backups").iterdir())


def broken(file: Path) -> None:
    """A page of an index is lost; what is read at the start is not."""
    with closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        root = "SELECT rootpage FROM sqlite_master WHERE name='contact_email'"
        (page,), (size,) = db.execute(root).fetchone(), db.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * size)
        raw.write(os.urandom(size))


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


@pytest.fixture(name="filled")
def filled_fixture(house: House) -> House:
    """Three people are synchronised, and there is a folder for copies."""
    house.configure(backup={"folder": "backups", "keep": 3})
    house.write(ANNA, row("B-2", BOB, first="Bob"), CAT)
    house.sync()
    return house


# --- making them ---------------------------------------------------------------------------------------


def test_copy_is_one_sound_private_file_with_everything_in_it(filled: House) -> None:
    made = back_up(filled)
    assert kept(filled) == [made.copy.path.name]
    assert mode(made.copy.path) == 0o600
    assert mode(filled.folder / "backups") == 0o700
    assert (made.copy.contact_count, made.kept, made.dropped) == (3, 1, 0)
    assert made.copy.made_s == int(filled.clock.now_s())
    assert copy.look(made.copy.path, thorough=True) == made.copy
    with closing(sqlite3.connect(made.copy.path)) as db:
        assert db.execute("SELECT email FROM contact ORDER BY email").fetchall()[0] == (ANN,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert kept(filled) == [made.copy.path.name]  # and reading it leaves nothing beside it


def test_copy_is_older_than_the_state_from_the_moment_it_is_made(filled: House) -> None:
    """Put back by hand it is noticed, also when nothing has run since."""
    made = back_up(filled)
    for suffix in ("-wal", "-shm"):
        filled.state.with_name(filled.state.name + suffix).unlink(missing_ok=True)
    shutil.copy(made.copy.path, filled.state)
    with pytest.raises(StateRestored):
        filled.sync()


def test_only_the_newest_copies_stay(filled: House) -> None:
    names = []
    for _ in range(5):
        filled.later(days=1)
        names.append(back_up(filled).copy.path.name)
    assert kept(filled) == names[-3:]


def test_newest_is_the_one_that_knows_most_whatever_the_clock_said(filled: House) -> None:
    for days in (1, 1, -9, 1, 1):
        filled.later(days=days)
        last = back_up(filled)
        assert last.copy.path.exists()
    with open_state(filled.state) as state:
        found = copies.in_folder(filled.state, filled.folder / "backups", salt=state.salt)
    assert [one.number for one in found] == sorted((one.number for one in found), reverse=True)
    assert found[0] == last.copy


def test_several_copies_of_one_second(filled: House) -> None:
    assert len({back_up(filled).copy.path for _ in range(3)}) == 3


def test_what_is_not_ours_is_never_touched(filled: House) -> None:
    """Two states share the folder; and somebody has put other files there."""
    folder = filled.folder / "backups"
    back_up(filled)
    strange = folder / "syncd-20200101T000000Z.db"
    shutil.copy(next(folder.iterdir()), folder / "other.db")
    (folder / "other.db").replace(strange)
    with closing(sqlite3.connect(strange)) as db:
        db.execute("UPDATE meta SET v=? WHERE k='salt'", ('"' + "ab" * 32 + '"',))
        db.commit()
    text = folder / "syncd-20200102T000000Z.db"
    text.write_text("a letter")
    before = strange.read_bytes()
    for _ in range(4):
        filled.later(days=1)
        back_up(filled)
    forget(filled, ANN)
    assert (strange.read_bytes(), text.read_text()) == (before, "a letter")
    assert len(kept(filled)) == 3 + 2


def test_copy_into_a_file_replaces_an_older_copy_and_nothing_else(filled: House) -> None:
    file = filled.folder / "mine.db"
    first = back_up(filled, file)
    filled.later(days=1)
    second = back_up(filled, file)
    assert (first.kept, second.dropped) == (None, 0)
    assert second.copy.number > first.copy.number
    assert not (filled.folder / "backups").exists()
    file.write_text("a letter")
    with pytest.raises(CopyRefused, match="cannot be read as a copy"):
        back_up(filled, file)
    assert file.read_text() == "a letter"


@pytest.mark.parametrize("name", ["syncd.db", "syncd.db.forgotten", "nowhere/a.db", "."])
def test_files_that_are_refused(filled: House, name: str) -> None:
    before = sorted(filled.folder.rglob("*"))
    with pytest.raises(UsageError):
        back_up(filled, filled.folder / name)
    assert sorted(filled.folder.rglob("*")) == before


def test_no_folder_and_no_file(house: House) -> None:
    house.write(ANNA)
    house.sync()
    with pytest.raises(UsageError, match=r"\[backup\]"):
        back_up(house)


def test_no_state_yet(house: House) -> None:
    house.configure(backup={"folder": "backups"})
    with pytest.raises(StateError, match="nothing to copy"):
        back_up(house)
    assert not house.state.exists()


def test_stopped_in_the_middle(filled: House) -> None:
    filled.clock.stop()
    with pytest.raises(Interrupted):
        back_up(filled)
    assert kept(filled) == []


def test_half_copy_of_a_killed_process_is_gone_after_the_next_one(filled: House) -> None:
    made = back_up(filled)
    part = copy.part_of(made.copy.path)
    part.write_bytes(made.copy.path.read_bytes())
    forget(filled, ANN)
    assert kept(filled) == [made.copy.path.name]


def test_damaged_state_gives_no_copy_and_keeps_the_old_ones(house: House) -> None:
    house.configure(backup={"folder": "backups"})
    house.write(*people(500))
    house.sync()
    good = back_up(house).copy.path.name
    broken(house.state)
    with pytest.raises(StateError, match=r"damaged|not sound"):
        back_up(house)
    assert kept(house) == [good]


# --- the room on the disk ------------------------------------------------------------------------------


def alone() -> bool:
    """Whether a mount of one's own is permitted here."""
    own = ["unshare", "--map-root-user", "--mount", "true"]
    return shutil.which("unshare") is not None and not subprocess.run(own, check=False).returncode


@pytest.mark.skipif(not alone(), reason="no mount of one's own is permitted here")
@pytest.mark.parametrize(
    ("mount", "why"),
    [
        ("mount -t tmpfs -o size=200k tmpfs small", "disk is full"),
        ("mount -t tmpfs -o ro tmpfs small", "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_disk_that_takes_no_copy(shell: Shell, mount: str, why: str) -> None:
    (shell.folder / "small").mkdir()
    config = shell.folder / "config.toml"
    config.write_text(config.read_text() + '\n[backup]\nfolder = "small"\n')
    shell.people(*((n, f"p{n}@example.com", "P" * 50) for n in range(2000)))
    assert shell.inside("sync").code == 0
    said = process(
        shell,
        f"unshare --map-root-user --mount bash -c '{mount} || exit 77; $syncd backup; echo code $?; ls -A small'",
    )
    if said.code == 77:
        pytest.skip("no tmpfs may be mounted here")
    assert said.out == "code 1\n"  # and nothing is left there
    assert "cannot be written" in said.err
    assert why in said.err
    assert "the state itself is untouched" in said.err
    assert "nothing to send" in shell.inside("sync").out


def test_limit_on_the_size_of_files(shell: Shell) -> None:
    shell.people(*((n, f"p{n}@example.com", "P" * 50) for n in range(2000)))
    assert shell.inside("sync").code == 0
    said = process(shell, "ulimit -f 200; $syncd backup copy.db")
    assert said.code == 1
    assert "error: " in said.err
    assert not list(shell.folder.glob("copy.db*"))
    assert "nothing to send" in shell.inside("sync").out


def test_room_is_given_back_after_a_run(house: House) -> None:
    house.write(*people(100))
    house.sync()
    with open_state(house.state) as state, state.tx():
        state.db.execute("CREATE TABLE grown(x BLOB)")
        state.db.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<25)"
            " INSERT INTO grown SELECT zeroblob(1024*1024) FROM n"
        )
    with open_state(house.state) as state, state.tx():
        state.db.execute("DROP TABLE grown")
    before = house.state.stat().st_size
    assert house.sync().status is Status.OK
    assert house.state.stat().st_size < before / 10
    with open_state(house.state) as state:
        assert not room.give_back(state)  # a second time there is nothing to gain


def test_history_leaves_with_its_age(house: House) -> None:
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    house.write(row(1, ANN, first="Anne"))
    house.sync()
    assert len(house.query("SELECT 1 FROM change")) == 1
    house.later(days=runs.KEEP_S / 86_400 + 1)
    house.sync()
    assert house.query("SELECT 1 FROM change") == []
    assert [one["run"] for one in house.query("SELECT run FROM run")] == [2, 3]
    assert house.sync().unchanged == 1


# --- forgotten people ----------------------------------------------------------------------------------


def test_forgotten_person_is_in_no_copy_any_more(filled: House) -> None:
    own = filled.folder / "own" / "mine.db"
    own.parent.mkdir()
    back_up(filled)
    back_up(filled, own)
    filled.later(days=1)
    filled.write(row("A-1", ANN, first=f"{NAME} Lee"), row("B-2", BOB, first="Bob"), CAT)
    filled.sync()
    back_up(filled)
    moved = filled.folder / "elsewhere"
    filled.configure(backup={"folder": "elsewhere"})  # the copies in the old folder are ours still
    back_up(filled)
    everywhere = [own.parent, filled.folder / "backups", moved]
    assert all(traces(folder, ANN, NAME) for folder in everywhere)

    assert forget(filled, ANN) == []
    for folder in everywhere:
        assert traces(folder, ANN, NAME) == []
        for file in folder.iterdir():
            found = copy.look(file, thorough=True)
            assert (found.contact_count, mode(file)) == (2, 0o600)
            with closing(sqlite3.connect(file)) as db:
                assert db.execute("SELECT count(*) FROM never WHERE what='#'").fetchone()[0] >= 2
    assert filled.sync().unchanged == 2


def test_words_that_quote_the_person_leave_the_copies_too(filled: House) -> None:
    filled.account.refuse("dan@example.com", f"duplicate of {ANN.upper()}")
    filled.write(ANNA, row("D-4", "dan@example.com"))
    filled.sync()
    filled.write(row("D-4", "dan@example.com"))
    back_up(filled)
    assert traces(filled.folder / "backups", ANN)
    forget(filled, ANN)
    assert traces(filled.folder / "backups", ANN, NAME) == []


def test_whoever_cannot_be_deleted_yet_leaves_the_copies_with_the_next_run(filled: House) -> None:
    back_up(filled)
    filled.fault(Broken(status=500, applied=False), "DELETE", "/contacts/con_[0-9]+")
    assert forget(filled, ANN)
    assert traces(filled.folder, NAME) == []  # the address alone is kept, to delete by
    filled.sync()
    filled.faults.clear()
    filled.later(minutes=20)
    filled.sync()
    assert ANN not in filled.everybody()
    assert traces(filled.folder, ANN, NAME) == []


def test_killed_before_the_copies_were_gone_through(filled: House) -> None:
    back_up(filled)
    with pytest.raises(Killed):
        forget(filled, ANN, Killer("upload"))
    assert traces(filled.folder / "backups", ANN)
    filled.sync()
    assert traces(filled.folder / "backups", ANN, NAME) == []


def test_copy_in_which_nobody_can_be_erased_is_deleted(filled: House) -> None:
    bad, good = back_up(filled).copy.path, back_up(filled).copy.path
    content = bytearray(bad.read_bytes())
    with closing(sqlite3.connect(bad)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name='contact'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    content[(page - 1) * size : page * size] = os.urandom(size)
    bad.write_bytes(content)
    assert forget(filled, ANN) == []
    assert kept(filled) == [good.name]
    assert traces(filled.folder / "backups", ANN, NAME) == []


def test_copy_made_while_traces_are_left_has_none(filled: House) -> None:
    with closing(sqlite3.connect(filled.state)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM contact").fetchall()
        assert any("traces" in problem for problem in forget(filled, ANN))
    with open_state(filled.state) as state:
        state.write("INSERT OR REPLACE INTO meta VALUES(?,1)", erase.TRACES)
        copy.write(state.db, filled.folder / "now.db")
    with closing(sqlite3.connect(filled.folder / "now.db")) as db:
        assert not db.execute("SELECT 1 FROM meta WHERE k=?", (erase.TRACES,)).fetchall()
        assert db.execute("PRAGMA freelist_count").fetchone() == (0,)


# --- changes of the form -------------------------------------------------------------------------------


def old_state(house: House) -> None:
    """An empty state as the very first version made it."""
    house.state.unlink(missing_ok=True)
    with open_state(house.state):
        pass
    salt, mark = (
        house.query("SELECT v FROM meta WHERE k=?", name)[0]["v"] for name in ("salt", "mark")
    )
    for suffix in ("", "-wal", "-shm"):
        house.state.with_name(house.state.name + suffix).unlink(missing_ok=True)
    old = Database(house.state)
    migrations.apply(old, stop_before="m002_undo")
    old.execute(f"PRAGMA application_id={0x464C5A52}")
    old["meta"].insert_all([{"k": "salt", "v": salt}, {"k": "mark", "v": mark}])
    old.close()


def test_older_state_is_copied_before_its_form_changes(house: House) -> None:
    old_state(house)
    with open_state(house.state, rehearsal=True):
        pass  # a plan keeps nothing, and brings the state up to date all the same
    [before] = copy.kept_before_migration(house.state)
    assert before.name == "syncd.db.before-m002_undo"
    assert mode(before) == 0o600
    with closing(sqlite3.connect(before)) as db:
        assert db.execute("SELECT name FROM _sqlite_migrations").fetchall() == [("m001_tables",)]
    house.break_source(ANNA)
    assert house.sync().status is Status.FAILED
    assert before.exists()  # not before a run has come to its end
    house.write(ANNA)
    assert house.sync().status is Status.OK
    assert not before.exists()


def test_copy_from_before_a_change_of_form_goes_with_a_forgotten_person(house: House) -> None:
    old_state(house)
    with open_state(house.state):
        pass
    forget(house, ANN)
    assert copy.kept_before_migration(house.state) == []


def test_older_copy_is_brought_up_to_date_to_erase_in_it(filled: House) -> None:
    older = filled.folder / "older.db"
    back_up(filled, older)
    with closing(sqlite3.connect(older)) as db:
        db.execute("DROP TABLE snapshot")
        db.execute("DELETE FROM _sqlite_migrations WHERE name='m006_snapshots'")
        db.commit()
    assert forget(filled, ANN) == []
    assert traces(filled.folder, ANN, NAME) == []
    assert copy.look(older, thorough=True).contact_count == 2


def test_state_that_cannot_be_copied_is_not_changed(house: House) -> None:
    old_state(house)
    (house.folder / "syncd.db.before-m002_undo.part").mkdir()
    for _ in range(2):
        with pytest.raises(StateError, match="is of an older version, and stays so"):
            house.sync()
    assert house.query("SELECT name FROM _sqlite_migrations") == [{"name": "m001_tables"}]
    (house.folder / "syncd.db.before-m002_undo.part").rmdir()
    house.write(ANNA)
    assert house.sync().created == 1


# --- what the daemon does ------------------------------------------------------------------------------


def kept_up(house: House) -> float:
    """The daemon's work when a copy is due; in how many seconds the next one is."""
    at_s = engine.keep_up(house.settings, clock=house.clock, watch=Nobody())
    assert at_s is not None
    return at_s - house.clock.now_s()


def test_daemon_makes_one_each_day(filled: House) -> None:
    assert engine.due_s(filled.settings, now_s=filled.clock.now_s()) == filled.clock.now_s()
    assert kept_up(filled) == 86_400
    filled.later(hours=10)
    assert kept_up(filled) == 14 * 3600
    assert len(kept(filled)) == 1
    filled.later(days=3)
    assert kept_up(filled) == 86_400
    assert len(kept(filled)) == 2


def test_daemon_whose_clock_was_ahead_waits_no_longer_than_usual(filled: House) -> None:
    filled.later(days=900)
    kept_up(filled)
    filled.later(days=-900)
    assert kept_up(filled) == 86_400


def test_daemon_tells_what_is_in_the_way_and_tries_again(
    filled: House, capsys: pytest.CaptureFixture[str]
) -> None:
    (filled.folder / "backups").write_text("in the way")
    assert kept_up(filled) == 3600
    assert "backup.failed" in capsys.readouterr().out
    (filled.folder / "backups").unlink()
    with hold(filled.state, wait_s=0, clock=filled.clock):
        assert kept_up(filled) == 60
    assert "backup.postponed" in capsys.readouterr().out
    assert kept_up(filled) == 86_400
    assert "backup.made" in capsys.readouterr().out


def test_daemon_without_a_state_or_without_the_table(house: House) -> None:
    assert engine.keep_up(house.settings, clock=house.clock, watch=Nobody()) is None
    house.configure(backup={"folder": "backups", "every": "10 minutes"})
    assert kept_up(house) == 600
    assert not house.state.exists()


# --- the command ---------------------------------------------------------------------------------------


def test_command(shell: Shell) -> None:
    shell.people((1, ANN), (2, BOB))
    shell.inside("sync")
    said = shell.inside("backup")
    assert (said.code, "[backup]" in said.err) == (2, True)
    config = shell.folder / "config.toml"
    config.write_text(config.read_text() + '\n[backup]\nfolder = "backups"\nkeep = 1\n')
    said = shell.inside("backup")
    assert (said.code, said.err) == (0, "")
    assert "it is sound" in said.out
    assert "1 copy there now" in said.out
    [made] = shell.inside("backup", "--json").objects
    assert (made["contacts"], made["dropped"], made["kept"]) == (2, 1, 1)
    assert [str(file) for file in (shell.folder / "backups").iterdir()] == [made["file"]]
    said = shell.inside("backup", "mine.db")
    assert (said.code, "mine.db" in said.out) == (0, True)
    assert ANN not in said.out


def test_command_waits_for_the_lock_and_says_so(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.people((1, ANN))
    shell.inside("sync")
    monkeypatch.setattr("syncd.cli.backup.WAIT_S", 0.0)
    with hold(shell.folder / "syncd.db", wait_s=0, clock=SystemClock()):
        said = shell.inside("backup", "mine.db")
    assert (said.code, "Another process" in said.err) == (5, True)


def test_check_tells_of_the_copies(shell: Shell) -> None:
    shell.people((1, ANN))
    shell.inside("sync")
    assert "nobody makes copies" in shell.inside("check").out
    config = shell.folder / "config.toml"
    config.write_text(config.read_text() + '\n[backup]\nfolder = "backups"\n')
    assert "no copy is in" in shell.inside("check").out
    shell.inside("backup")
    said = shell.inside("check")
    assert (said.code, "backup: 1 in " in said.out, "it is sound" in said.out) == (0, True, True)
    [file] = (shell.folder / "backups").iterdir()
    with closing(sqlite3.connect(file)) as db:
        db.execute("UPDATE meta SET v='1000000000' WHERE k='copied_at'")
        db.commit()
    assert "another one is overdue" in shell.inside("check").out
    broken(file)
    said = shell.inside("check")
    assert (said.code, f"{file}: damaged" in said.out) == (0, True)


def test_check_finds_a_damaged_state(shell: Shell) -> None:
    shell.people(*((n, f"p{n}@example.com") for n in range(500)))
    shell.inside("sync")
    assert "is sound" in shell.inside("check").out
    broken(shell.folder / "syncd.db")
    said = shell.inside("check")
    assert said.code == 1
    assert "is damaged" in said.out
    assert "syncd restore FILE" in said.out
