"""`status`, `history` and `why`: what they tell of real runs, and of states that real runs seldom leave."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd.errors import UsageError
from syncd.report.person import person_words
from syncd.state import approvals, dossier, story
from syncd.state.store import State, address_key, open_state, record_key

ANN, BOB = (1, "ann@example.com", "Ann", 10), (2, "bob@example.com", "Bob", 20)
HOT = (3, "cleo@example.com", "Cleo", 95)
NOW_S = 1_700_000_000


# Of real runs


def test_before_the_first_run(shell: Shell) -> None:
    said = shell("status")
    assert said.code == 0
    assert "customers: has never run" in said.out
    assert "due now, every 15 min" in said.out
    (status,) = shell.inside("status", "--json").objects
    assert (status["last_run"], status["status"], status["age_seconds"]) == (None, None, None)
    assert "Nothing has run yet" in shell.inside("history").out
    assert shell.inside("history", "1").code == 2
    assert shell.inside("approve", "1").code == 2
    assert "no source has been read yet" in shell.inside("why", "ann@example.com").out
    assert not (shell.folder / "syncd.db").exists()


def test_status_tells_last_and_next_run(shell: Shell) -> None:
    shell.people(ANN, BOB)
    shell.inside("sync")
    (status,) = shell.inside("status", "--json").objects
    assert status["sync"] == "customers"
    assert (status["last_run"], status["status"]) == (1, "ok")
    assert status["counts"]["created"] == 2
    assert 0 <= status["age_seconds"] < 60
    next_run, completed = (
        datetime.fromisoformat(status[name]) for name in ("next_run", "completed")
    )
    assert (next_run - completed).total_seconds() == 15 * 60
    words = shell.inside("status").out
    assert "customers: ok" in words
    assert "created 2" in words


def test_status_needs_no_secret_and_no_network(shell: Shell) -> None:
    shell.people(ANN)
    shell.inside("sync")
    shell.configure(url="http://127.0.0.1:9")
    for words in (("status",), ("history",), ("why", "ann@example.com")):
        assert shell(*words, env={"FLUENZR_API_KEY": ""}).code == 0


def test_history_lists_runs_and_tells_one(shell: Shell) -> None:
    shell.people(ANN, BOB)
    shell.inside("sync")
    shell.people((1, "ann@example.com", "Anna", 10), BOB)
    shell.inside("sync")
    said = shell("history")
    assert said.code == 0
    header, second, first = said.out.splitlines()
    assert header.split() == ["run", "started", "took", "sync", "status", "numbers"]
    assert second.split()[0] == "2"
    assert "updated 1" in second
    assert "created 2" in first
    one = shell.inside("history", "2").out
    assert "ann@example.com  update" in one
    assert "firstName: Ann -> Anna" in one
    (run,) = shell.inside("history", "2", "--json").objects
    assert run["changes"][0]["fields"] == {"firstName": ["Ann", "Anna"]}
    assert [r["run"] for r in shell.inside("history", "--json").objects] == [2, 1]
    gone = shell.inside("history", "9")
    assert gone.code == 2
    assert "The last one is run 2" in gone.err


def test_why_tells_everything_of_somebody_who_is_there(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(HOT)
    shell.inside("sync")
    shell.people((3, "cleo@example.com", "Cléo", 95))
    shell.inside("sync")
    said = shell("why", "CLEO@example.com")
    assert said.code == 0
    for words in (
        "is in FluenzR, status active",
        "customers  key 3",
        "firstName: Cléo  from customers",
        '"Customers" (static): is in it, asked for by customers',
        '"Drip" (dynamic, mails whoever joins): is in it',
        'was added to the dynamic group "Drip" once',
        "firstName: Cleo -> Cléo",
        "tags:\n    crm",
    ):
        assert words in said.out
    (person,) = shell.inside("why", "cleo@example.com", "--json").objects
    assert person["known"]
    assert person["in_fluenzr"]
    assert person["records"][0]["data"]["fields"]["firstName"] == "Cléo"


def test_why_names_the_sync_whose_value_won(shell: Shell) -> None:
    text = (shell.folder / "config.toml").read_text("utf-8")
    shell.write(
        "config.toml",
        text
        + '\n[source.shop]\nconnector = "csv"\npath = "shop.csv"\nkey = "id"\n'
        + '[sync.buyers]\nsource = "shop"\ngroups = ["Buyers"]\n'
        + '[sync.buyers.fields]\nemail = "mail"\nfirstName = "name"\ncompany = "firm"\n',
    )
    shell.people(ANN)
    shell.write("shop.csv", "id,mail,name,firm\n7,ann@example.com,ANN!,Acme\n")
    assert shell.inside("sync").code == 0
    out = shell.inside("why", "ann@example.com").out
    assert "firstName: Ann  from customers" in out
    assert "company: Acme  from buyers" in out
    assert out.index("customers  key 1") < out.index("buyers  key 7")
    assert '"Buyers" (static): is in it, asked for by buyers' in out


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            (4, "filtered@example.com", "F", 0),
            "left out by where = 'email != \"filtered@example.com\"' of customers",
        ),
        ((4, "out@example.com", "O", 0, "yes"), "opted out"),
        ((4, "odd@example.com", "O", 0, "perhaps"), "with a value that could not be read"),
    ],
    ids=["filtered", "opted out", "blocked"],
)
def test_why_not(shell: Shell, row: tuple[Any, ...], words: str) -> None:
    shell.people(ANN, row)
    shell.inside("sync")
    out = shell.inside("why", str(row[1])).out
    assert words in out
    assert "is in FluenzR" not in out


def test_why_somebody_is_held(shell: Shell) -> None:
    shell.account.add_group("Drip", dynamic=True)
    shell.people(ANN)
    shell.inside("sync")
    shell.configure(max_enrolments=0)
    shell.people(ANN, HOT)
    assert shell.inside("sync").code == 4
    out = shell.inside("why", "cleo@example.com").out
    guard = "1 person would join 'Drip' and be mailed; the limit is 0 (max_enrolments)"
    assert f"create of run 2 of customers, because {guard}" in out
    assert "release: syncd approve 2 customers" in out


def test_why_somebody_stays_deleted(shell: Shell) -> None:
    shell.people(ANN, BOB)
    shell.inside("sync")
    shell.account.remove("ann@example.com")
    shell.people((1, "ann@example.com", "Anna", 10), BOB)
    shell.inside("sync")
    assert "was deleted by hand in FluenzR" in shell.inside("why", "ann@example.com").out
    assert "deleted by hand in FluenzR stay deleted" in shell.inside("status").out


@pytest.mark.parametrize("words", ["reconcile", "undo 1 --yes"])
def test_a_command_that_failed_is_told_as_ended_and_failed(
    shell: Shell, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.people(ANN)
    shell.inside("sync")
    monkeypatch.setenv("FLUENZR_API_KEY", "flz_sk_" + "x" * 32)
    assert shell.inside(*words.split()).code == 1
    kind = words.split()[0]
    line = shell.inside("history").out.splitlines()[1]
    assert line.split()[-4:] == [f"({kind})", "failed", "0", "changes"]
    assert "does not accept the API key" in shell.inside("history", "2").out
    assert "not ended" not in shell.inside("history").out
    assert shell.inside("status", "--json").objects[0]["last_run"] == 1
    (told,) = shell.inside("history", "2", "--json").objects
    assert (told["kind"], told["syncs"][0]["status"]) == (kind, "failed")


# Of a state made by hand


@pytest.fixture(name="state")
def state_fixture(tmp_path: Path) -> Iterator[State]:
    with open_state(tmp_path / "made.db") as state:
        state.db.execute("INSERT INTO sync(sync,name) VALUES(1,'first'),(2,'second')")
        yield state


def told(state: State, email: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What `why` says."""
    person_words(dossier.person(state.db, email, ["second", "first"]), now_s=NOW_S)
    return capsys.readouterr().out


def add(db: sqlite3.Connection, table: str, **columns: Any) -> None:
    names, marks = ",".join(columns), ",".join("?" * len(columns))
    db.execute(f"INSERT INTO {table}({names}) VALUES({marks})", tuple(columns.values()))


def record(db: sqlite3.Connection, sync: int, key: str, email: str, **columns: Any) -> None:
    known = {"fingerprint": b"", "live": 1, "rowno": (sync << 40) + 1}
    add(db, "record", **{"sync": sync, "key": key, "email": email, **known, **columns})


def contact(db: sqlite3.Connection, email: str, **columns: Any) -> None:
    add(db, "contact", **{"cid": 5, "email": email, "state": "ok", **columns})


def test_the_order_of_the_file_decides_and_not_that_of_the_state(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    values = json.dumps({"f": {"firstName": "A"}, "c": {}, "g": [], "t": []})
    contact(state.db, "ann@example.com", want=values)
    for sync in (1, 2):
        record(state.db, sync, f"k{sync}", "ann@example.com", data=values, cid=5)
    out = told(state, "ann@example.com", capsys)
    assert "firstName: A  from second  (not confirmed in FluenzR yet)" in out


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"inflight": "create", "state": "new"}, "a create was sent and is not confirmed yet"),
        ({"tries": 4, "not_before": NOW_S + 3600, "err": "Bad phone"}, "tried 4 times"),
        ({"tries": 4, "not_before": NOW_S + 3600, "err": "Bad phone"}, "in 1 hour): Bad phone"),
        ({"tries": 1, "not_before": 0, "err": "Lost"}, "again in the next run: Lost"),
        ({"move_to": "new@example.com"}, "is to be moved to new@example.com"),
        ({"origin": "adopted"}, "was in FluenzR before"),
        ({"status": "bounced"}, "status bounced"),
        ({"want": '{"f":{},"c":{},"g":[],"t":[],"out":true}'}, "taken out of every group"),
        ({"state": "new"}, "no source has this address"),
    ],
)
def test_why_in_words(
    state: State, capsys: pytest.CaptureFixture[str], columns: dict[str, Any], words: str
) -> None:
    contact(state.db, "ann@example.com", **columns)
    assert words in told(state, "ann@example.com", capsys)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("!", "opted out, bounced or blocked"),
        ("-", "a source said that the person opted out"),
        ("x", "deleted by hand"),
        ("?", "missing when a lost state was rebuilt"),
        ("*", "joins no dynamic group"),
        ("g7", 'dynamic group "Drip" once'),
    ],
)
@pytest.mark.parametrize("of", ["address", "record"])
def test_the_ledger_is_told_in_words(
    state: State, capsys: pytest.CaptureFixture[str], what: str, words: str, of: str
) -> None:
    add(state.db, "grp", gid=7, name="Drip", kind="dynamic")
    contact(state.db, "ann@example.com", state="new")
    record(state.db, 1, "k1", "ann@example.com", cid=5)
    keys = {
        "address": address_key(state.db, "ann@example.com"),
        "record": record_key(state.db, 1, "k1"),
    }
    add(state.db, "never", k=keys[of], what=what, sure=1)
    assert words in told(state, "ann@example.com", capsys)


def test_a_forgotten_address_is_told_as_an_unknown_one(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = told(state, "nobody@example.com", capsys)
    contact(state.db, "ann@example.com", state="forget")
    record(state.db, 1, "k1", "ann@example.com", cid=5)
    add(state.db, "never", k=address_key(state.db, "ann@example.com"), what="#", sure=1)
    add(state.db, "held", run=1, sync="first", email="ann@example.com", change="{}", digest=b"")
    assert told(state, "ann@example.com", capsys).replace("ann@", "nobody@") == unknown


def test_a_group_keeps_its_name_of_today(state: State, capsys: pytest.CaptureFixture[str]) -> None:
    """Renamed in FluenzR; the configuration still calls it as before."""
    add(state.db, "grp", gid=7, name="Clients 2026", kind="static")
    add(state.db, "grp_name", name="Clients", gid=7)
    payload = '{"f":{},"c":{},"g":[7],"t":[]}'
    contact(state.db, "ann@example.com", want=payload, sent_as="=")
    data = '{"f":{},"c":{},"g":["Clients"],"t":[]}'
    record(state.db, 1, "k1", "ann@example.com", cid=5, data=data)
    out = told(state, "ann@example.com", capsys)
    assert '"Clients 2026" (static): is in it, asked for by first' in out


def test_a_person_found_by_the_address_that_is_still_to_come(
    state: State, capsys: pytest.CaptureFixture[str]
) -> None:
    contact(state.db, "old@example.com", move_to="new@example.com", status="active")
    assert "is to be moved to new@example.com" in told(state, "new@example.com", capsys)


def test_a_killed_run_is_told_as_not_ended(state: State) -> None:
    add(state.db, "run", run=1, started_at=NOW_S, kind="sync")
    (run,) = story.runs(state.db, limit=5)
    assert (run.ended_s, run.parts) == (None, [])


def test_approve_releases_only_what_was_asked_for(state: State) -> None:
    for run, sync in ((1, "first"), (1, "second"), (2, "third")):
        email = f"{sync}@example.com"
        add(state.db, "held", run=run, sync=sync, email=email, change="{}", digest=b"")
    assert approvals.approve(state.db, 1, "first", by="ops", now_s=NOW_S) == 1
    assert story.sync_now(state.db, "first").approved == 1
    assert story.sync_now(state.db, "second").approved == 0
    with pytest.raises(UsageError, match="approved already"):
        approvals.approve(state.db, 1, "first", by="ops", now_s=NOW_S)
    with pytest.raises(UsageError, match="syncd approve 2 third"):
        approvals.approve(state.db, 5, None, by="ops", now_s=NOW_S)
    assert approvals.approve(state.db, 1, None, by="ops", now_s=NOW_S) == 1


def test_deletes_that_wait_are_counted(state: State) -> None:
    contact(state.db, "ann@example.com", sync=1, policy="delete", todo=1)
    assert story.sync_now(state.db, "first").deletes_waiting == 1
    assert story.sync_now(state.db, "second").deletes_waiting == 0


def test_reading_never_writes(shell: Shell) -> None:
    shell.people(ANN)
    shell.inside("sync")
    with closing(sqlite3.connect(shell.folder / "syncd.db")) as db:
        before = list(db.iterdump())
    for words in (("status",), ("history", "1"), ("why", "ann@example.com"), ("plan",)):
        assert shell.inside(*words).code == 0
    with closing(sqlite3.connect(shell.folder / "syncd.db")) as db:
        assert list(db.iterdump()) == before


def test_status_tells_of_a_run_that_has_not_ended(shell: Shell) -> None:
    shell.people(ANN)
    shell.inside("sync")
    assert "has not ended" not in shell.inside("status").out
    with closing(sqlite3.connect(shell.folder / "syncd.db")) as db:
        db.execute("UPDATE run SET ended_at=NULL")
        db.commit()
    out = shell.inside("status").out
    assert "run 1, begun " in out
    assert "has not ended: it is at work, or was killed" in out


def test_who_was_not_sent_by_a_failed_run_is_in_no_quarantine(shell: Shell) -> None:
    shell.people(ANN, BOB)
    quirks = replace(shell.sandbox.quirks, read_only_key=True)
    shell.account.add_group("Customers")
    shell.account.quirks = shell.sandbox.quirks = quirks
    said = shell.inside("sync")
    assert said.code == 1
    assert "2 people not sent yet: the next run goes on with them" in said.out
    assert "could not be delivered" not in said.out
    assert "not sent yet 2" in shell.inside("status").out
    assert "not sent yet 2" in shell.inside("history").out
    assert "Nobody is in quarantine" in shell.inside("quarantine", "list").out
