"""Back to the source: who opted out, bounced or replied in FluenzR reaches the CRM, once, and never as a change of its own."""

import csv
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from house import House, house_fixture, people, row  # noqa: F401 - a fixture

from connectors.csv_writer import CsvWriter, CsvWriterOptions
from syncd import config
from syncd.connector import Context
from syncd.core.result import Status
from syncd.errors import ConfigError, SourceError
from syncd.registry import load_writer, writers
from syncd.state import write_back as state_of
from syncd.state.store import change
from syncd.writer import Heard, News, Unwritten

AT = datetime(2026, 1, 1, 10, tzinfo=UTC)
ANN, BOB = "ann@example.com", "bob@example.com"


def writes_back(house: House, **table: Any) -> None:
    """The sync `people` writes back, as this table says."""
    file = house.folder / "config.toml"
    document = tomlkit.parse(file.read_text())
    document["sync"]["people"]["write_back"] = table or {"file": "heard.csv"}  # type: ignore[index]
    file.write_text(tomlkit.dumps(document))
    house.settings = config.load(file)


def heard(house: House) -> list[tuple[str, str, str]]:
    """What the file holds: key, address, what was heard."""
    file = house.folder / "heard.csv"
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return [(one["key"], one["email"], one["heard"]) for one in csv.DictReader(lines)]


@pytest.fixture(name="told")
def told_fixture(house: House) -> House:
    """Ann and Bob are in FluenzR, and their source is told what is heard of them."""
    house.configure(groups=["All"])
    house.write(row("a-1", ANN), row("b-2", BOB))
    house.sync()
    writes_back(house)
    return house


@pytest.mark.parametrize(
    ("status", "what"),
    [("unsubscribed", "opted_out"), ("blocked", "opted_out"), ("bounced", "bounced")],
)
def test_what_fluenzr_has_heard_reaches_the_source_once(
    told: House, status: str, what: str
) -> None:
    told.account.opt_out(ANN, status=status)
    result = told.sync()
    assert (result.written_back, result.status) == (1, Status.OK)
    assert heard(told) == [("a-1", ANN, what)]
    assert told.sync().written_back == 0
    assert heard(told) == [("a-1", ANN, what)]


def test_a_later_status_is_news_again(told: House) -> None:
    told.account.opt_out(ANN)
    told.sync()
    told.account.opt_out(ANN, status="bounced")
    told.sync()
    assert heard(told) == [("a-1", ANN, "opted_out"), ("a-1", ANN, "bounced")]


def test_replies_are_told_where_they_are_asked_for(told: House) -> None:
    writes_back(told, file="heard.csv", heard=["replied"])
    told.account.opt_out(ANN, status="replied")
    told.account.opt_out(BOB)
    told.later(days=1.1)
    told.sync()
    assert heard(told) == [("a-1", ANN, "replied")]


def test_nothing_is_written_where_nobody_asked_for_it(house: House) -> None:
    house.configure(groups=["All"])
    house.write(row("a-1", ANN))
    house.sync()
    house.account.opt_out(ANN)
    assert house.sync().written_back == 0
    assert sorted(found.name for found in house.folder.glob("*.csv")) == ["people.csv"]


def test_every_record_of_a_person_is_told(told: House) -> None:
    told.write(row("a-1", ANN), row("a-9", ANN), row("b-2", BOB))
    told.account.opt_out(ANN)
    told.sync()
    assert heard(told) == [("a-1", ANN, "opted_out"), ("a-9", ANN, "opted_out")]


def test_whoever_has_left_the_source_is_not_written_into_it(told: House) -> None:
    told.write(row("b-2", BOB))
    told.account.opt_out(ANN)
    told.sync()
    assert heard(told) == []


def test_a_plan_and_a_careful_try_write_nothing(told: House) -> None:
    told.account.opt_out(ANN)
    told.plan()
    told.sync(email=BOB)
    assert heard(told) == []


def test_a_broken_source_is_still_told(told: House) -> None:
    """Reading fails; that the person opted out is known all the same."""
    told.break_source(row("a-1", ANN))
    told.account.opt_out(ANN)
    result = told.sync()
    assert (result.status, result.written_back) == (Status.FAILED, 1)


def test_a_source_that_cannot_be_written_is_told_by_a_later_run(told: House) -> None:
    told.account.opt_out(ANN)
    (told.folder / "heard.csv").mkdir()
    result = told.sync()
    assert result.status is Status.PARTIAL
    assert "heard.csv" in result.back_error
    (told.folder / "heard.csv").rmdir()
    assert told.sync().written_back == 1


def test_what_was_written_is_written_again_only_where_the_process_died(
    told: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the file, before the state: the line is not there twice."""
    told.account.opt_out(ANN)

    class DiedError(BaseException):
        pass

    def dies(*_: object) -> None:
        raise DiedError

    with monkeypatch.context() as broken:
        broken.setattr(state_of, "told", dies)
        with pytest.raises(DiedError):
            told.sync()
    assert told.sync().written_back == 1
    assert heard(told) == [("a-1", ANN, "opted_out")]


# --- what the source refuses --------------------------------------------------------------------------------


class Refusing(CsvWriter):
    """Takes everybody but Ann."""

    def write(self, news: Sequence[News]) -> Iterator[Unwritten]:
        yield from super().write([one for one in news if one.email != ANN])
        yield from (Unwritten(one.key, f"no such person {ANN}") for one in news if one.email == ANN)


def test_what_a_source_refuses_waits_longer_each_time(
    told: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.csv_writer.CsvWriter", Refusing)
    told.account.opt_out(ANN)
    told.account.opt_out(BOB)
    first = told.sync()
    assert (first.written_back, first.back_refused, first.status) == (1, 1, Status.PARTIAL)
    assert told.sync().back_refused == 0  # its time has not come
    told.later(hours=1.1)
    assert told.sync().back_refused == 1
    told.later(hours=1.1)
    assert told.sync().back_refused == 0
    change(told.state, state_of.retry, clock=told.clock)
    assert told.sync().back_refused == 1
    (stuck,) = told.query("SELECT tries,err FROM written_back WHERE tries>0")
    assert stuck == {"tries": 3, "err": f"no such person {ANN}"}


# --- never a loop -------------------------------------------------------------------------------------------


def test_what_was_written_is_not_read_as_a_change(house: House) -> None:
    """The database row changes by it; its opt-out is read, and nothing is sent or written again."""
    with closing(sqlite3.connect(house.folder / "crm.db")) as crm:
        crm.execute(
            "CREATE TABLE people(id INTEGER PRIMARY KEY, email, first, last, out DEFAULT 'no')"
        )
        crm.execute("INSERT INTO people(id,email,first) VALUES(1,?,'Ann'),(2,?,'Bob')", (ANN, BOB))
        crm.commit()
    source = {
        "connector": "sql",
        "url": "sqlite:///crm.db",
        "query": "SELECT * FROM people",
        "key": "id",
    }
    house.configure(groups=["All"], opted_out="out", source=source)
    house.sync()
    writes_back(house, statement="UPDATE people SET out = 'yes', first = first WHERE id = :key")
    house.account.opt_out(ANN)
    assert house.sync().written_back == 1
    with closing(sqlite3.connect(house.folder / "crm.db")) as crm:
        assert crm.execute("SELECT id,out FROM people").fetchall() == [(1, "yes"), (2, "no")]
    house.sync()
    writes = house.sandbox.writes()
    again = house.sync()
    assert (again.written_back, house.sandbox.writes()) == (0, writes)


# --- configuration ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "place"),
    [
        ({"writer": "csw", "file": "x"}, "sync.people.write_back.writer"),
        ({"file": "x", "heard": ["everything"]}, "sync.people.write_back.heard"),
        ({"file": "x", "heard": []}, "sync.people.write_back.heard"),
        ({"path": "x"}, "sync.people.write_back.path"),
        ({"writer": "sql", "url": "sqlite:///x", "statement": "DELETE FROM p"}, "statement"),
        (
            {"writer": "sql", "url": "sqlite:///x", "statement": "DELETE FROM p WHERE a=:a"},
            "statement",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(house: House, table: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=place.replace(".", r"\.")):
        writes_back(house, **table)


def test_every_writer_can_be_loaded() -> None:
    for name in writers():
        assert load_writer(name).SUMMARY


# --- the file -----------------------------------------------------------------------------------------------


def news(key: str, what: Heard = Heard.OPTED_OUT) -> News:
    return News(key, f"{key}@example.com", what, AT)


def written(folder: Path, *some: News) -> str:
    writer = CsvWriter(CsvWriterOptions(file=Path("out.csv")), Context(folder=folder))
    assert list(writer.write(some)) == []
    return (folder / "out.csv").read_text()


def test_the_file_is_for_its_owner_and_says_what_it_holds(tmp_path: Path) -> None:
    text = written(tmp_path, news('a,"1"'))
    assert text.splitlines()[0] == "key,email,heard,at"
    assert next(iter(csv.DictReader(text.splitlines())))["key"] == 'a,"1"'
    assert (tmp_path / "out.csv").stat().st_mode & 0o077 == 0


def test_a_line_that_a_crash_has_cut_is_written_again(tmp_path: Path) -> None:
    text = written(tmp_path, news("a"), news("b"))
    (tmp_path / "out.csv").write_text(text[: text.index("b@") + 4])
    found = list(csv.reader(written(tmp_path, news("a"), news("b")).splitlines()))
    assert [line[0] for line in found if len(line) == 4] == ["key", "a", "b"]


def test_a_file_that_cannot_be_written_fails_the_batch(tmp_path: Path) -> None:
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(SourceError, match="cannot be written"):
        written(tmp_path, news("a"))


def test_whoever_is_gone_from_the_state_leaves_nothing_to_be_told(told: House) -> None:
    told.account.opt_out(ANN)
    told.sync()
    change(
        told.state,
        lambda state: state.write("DELETE FROM record WHERE key='a-1'"),
        clock=told.clock,
    )
    assert told.query("SELECT count(*) AS n FROM written_back") == [{"n": 0}]
