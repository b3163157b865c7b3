"""`forget` again: words of others, a reader that stays, two people who shared an address, a state that is built anew."""

import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest
from house import House, house_fixture, row  # noqa: F401 - a fixture
from raw_server import response, serving

from syncd import forget as engine
from syncd import reconcile as reconciling
from syncd.check import client
from syncd.core.result import Status
from syncd.watch import Nobody

ANN, BOB, CAT, DAN = (f"{name}@example.com" for name in ("ann", "bob", "cat", "dan"))
NAME = "Zebedee"  # stands nowhere but in Ann's data


def forget(house: House, email: str) -> list[str]:
    with client(house.settings, house.clock) as api:
        return engine.forget(
            house.settings, email, api=api, clock=house.clock, watch=Nobody(), wait_s=0
        )


def holding(house: House, *words: str) -> list[str]:
    """Our files with one of these words in them, in raw bytes."""
    files: list[Path] = [p for p in house.folder.iterdir() if p.name.startswith("syncd.db")]
    assert files
    return [
        file.name
        for file in files
        if any(word.lower().encode() in file.read_bytes().lower() for word in words)
    ]


@pytest.mark.parametrize("before", [0, 282], ids=["whole", "cut in the middle of it"])
def test_words_about_others_keep_no_part_of_the_address(house: House, before: int) -> None:
    house.account.refuse(CAT, f"{'x' * before} {ANN.upper()} has it")
    house.write(row(1, ANN), row(2, CAT))
    house.sync()
    assert "ANN@EX" in house.known(CAT)["err"]
    assert (house.known(CAT)["err"][-1] == "…") is bool(before)
    forget(house, ANN)
    assert house.known(CAT)["err"] is None
    assert holding(house, ANN[:6]) == []


def test_words_of_a_run_keep_no_part_of_the_address(house: House) -> None:
    """There the hint comes after the words that were cut."""
    house.write(row(1, ANN))
    house.sync()
    words = f"GET /groups: refused. {'x' * 99} {ANN[:7]}…. Try again."
    with closing(sqlite3.connect(house.state)) as db:
        db.execute("UPDATE run_sync SET error=? WHERE run=1", (words,))
        db.commit()
    forget(house, ANN)
    [found] = house.query("SELECT error,counts FROM run_sync WHERE run=1")
    assert ANN[:7] not in found["error"] + found["counts"]


def test_words_that_end_otherwise_stay(house: House) -> None:
    house.account.refuse(CAT, f"{'x' * 290} and{'y' * 50}")
    house.write(row(1, ANN), row(2, CAT))
    house.sync()
    words = house.known(CAT)["err"]
    forget(house, ANN)
    assert house.known(CAT)["err"] == words


def test_problems_name_nobody_in_any_case(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    error = {"code": "LOCKED", "message": f"{ANN.title()} is locked"}
    body = orjson.dumps({"success": False, "error": error})
    with serving(response(body, status="400 Bad Request")) as server:
        house.configure(fluenzr={"base_url": server.url})
        [problem] = forget(house, ANN)
    assert problem.endswith("LOCKED: [address] is locked")


def test_reader_that_stays_leaves_the_rest_to_the_next_command(house: House) -> None:
    """It still needs the old pages; until they are gone, the state remembers that there is something to do."""
    house.write(row(1, ANN, first=NAME))
    house.sync()
    with closing(sqlite3.connect(house.state, isolation_level=None)) as db:
        db.execute("BEGIN")
        db.execute("SELECT count(*) FROM contact").fetchone()
        [problem] = forget(house, ANN)
        assert "does another program read it?" in problem
        assert holding(house, NAME)
        [again] = forget(house, ANN)  # also one that finds nobody
        assert "does another program read it?" in again
    house.write(row(2, BOB))
    house.sync()
    assert holding(house, ANN, NAME) == []


def test_one_of_two_who_shared_an_address(house: House) -> None:
    """Both have left it since; the contact is on its way to the address of the one who stays."""
    house.configure(where='score != "no"')
    house.write(row(1, "both@example.com", first="Cat"), row(2, "both@example.com", first=NAME))
    house.sync()
    house.write(row(1, CAT, first="Cat"), row(2, ANN, first=NAME, score="no"))
    house.killed_at("upload")
    assert forget(house, ANN) == []
    house.sync()
    assert house.everybody() == {CAT}
    house.write(row(1, CAT, first="Cat"), row(2, DAN, first=NAME))
    assert house.sync().skipped_by == {"forgotten": 1}
    assert house.everybody() == {CAT}


def test_forgotten_records_are_known_in_a_state_that_is_built_anew(house: House) -> None:
    """`vips` came later and stands first in the file, so that a new state counts the syncs otherwise."""
    house.configure(syncs={"people": {}})
    house.write(row(7, ANN, first=NAME), row(8, BOB))
    house.sync()
    house.configure(syncs={"vips": {}, "people": {}})
    house.write(row(7, CAT), source="vips")
    house.sync_all()
    assert forget(house, ANN) == []
    house.state.unlink()
    house.write(row(7, DAN, first=NAME), row(8, BOB))  # she has another address by now
    with client(house.settings, house.clock) as api:
        reconciling.reconcile(
            house.settings, api=api, clock=house.clock, watch=Nobody(), wait_s=0, lost=False
        )
    known = {found["email"] for found in house.query("SELECT email FROM record")}
    assert known == {BOB, CAT}


def test_error_of_a_later_run_names_nobody(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    forget(house, ANN)
    house.write(row(ANN, ANN), row(ANN, BOB))  # a key twice: the error names it
    assert house.sync().status is Status.FAILED
    assert holding(house, ANN) == []


def test_state_that_was_copied_back_is_its_owners_only(house: House) -> None:
    house.write(row(1, ANN))
    house.sync()
    house.state.chmod(0o644)
    house.sync(full=True)
    assert house.state.stat().st_mode & 0o777 == 0o600


def test_no_run_is_numbered_as_one_of_the_past(house: House) -> None:
    """Contacts remember the run that made them, also when the history does not any more."""
    house.configure(groups=["All"])
    house.write(row(1, ANN, first="Ann"), row(2, BOB))
    first = house.sync()
    house.later(days=500)
    house.write(row(1, ANN, first="Anna"), row(2, BOB))
    assert house.sync().run > first.run
