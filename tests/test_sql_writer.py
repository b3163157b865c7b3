"""Writing back into SQLite, PostgreSQL and MariaDB: parameters, one transaction, and what a table refuses."""

from datetime import UTC, datetime

import pytest
from databases import Database, database_fixture, db_fixture  # noqa: F401 - fixtures
from sqlalchemy import text

from connectors.sql.writer import SqlWriter, SqlWriterOptions
from syncd.connector import Context
from syncd.errors import SourceError
from syncd.writer import Heard, News, Unwritten

AT = datetime(2026, 1, 1, 10, tzinfo=UTC)
UPDATE = "UPDATE {t} SET note = :heard WHERE id = :key;"


def writer(db: Database, statement: str = UPDATE, **options: str) -> SqlWriter:
    options = {"url": db.url, "statement": statement.replace("{t}", db.table), **options}
    return SqlWriter(SqlWriterOptions.model_validate(options), Context(db.folder))


def news(key: object, email: str = "ann@example.com", heard: Heard = Heard.BOUNCED) -> News:
    return News(str(key), email, heard, AT)


def notes(db: Database) -> dict[int, str]:
    with db.engine.connect() as connection:
        rows = connection.execute(text(f"SELECT id,note FROM {db.table} ORDER BY id"))
        return {number: note for number, note in rows if not note.startswith("x")}


def test_each_row_is_written_by_its_key(db: Database) -> None:
    db.fill(5)
    assert list(writer(db).write([news(2), news(4, heard=Heard.OPTED_OUT)])) == []
    assert notes(db) == {2: "bounced", 4: "opted_out"}


def test_writing_again_changes_nothing(db: Database) -> None:
    db.fill(3)
    for _ in range(2):
        assert list(writer(db).write([news(2)])) == []
    assert notes(db) == {2: "bounced"}


def test_a_row_that_is_gone_is_no_failure(db: Database) -> None:
    db.fill(1)
    assert list(writer(db).write([news(99)])) == []


def test_values_are_never_part_of_the_statement(db: Database) -> None:
    db.fill(2)
    injected = "'; DROP TABLE people; --"
    statement = "UPDATE {t} SET note = :email WHERE id = :key"
    assert list(writer(db, statement).write([news(1, email=injected)])) == []
    assert notes(db) == {1: injected}


def test_all_parameters_can_be_used(db: Database) -> None:
    db.run("CREATE TABLE {t} (id INTEGER PRIMARY KEY, email VARCHAR(80), note VARCHAR(200))")
    db.run("INSERT INTO {t} VALUES (1, 'ann@example.com', 'x')")
    statement = "UPDATE {t} SET note = CAST(:at AS CHAR(10)) WHERE id = :key AND email = :email AND :heard = 'bounced'"
    assert list(writer(db, statement).write([news(1)])) == []
    assert notes(db)[1].startswith("2026-01-01")


def test_a_row_that_breaks_a_rule_is_told_and_the_others_are_written(db: Database) -> None:
    db.run(
        "CREATE TABLE {t} (id INTEGER PRIMARY KEY, email VARCHAR(80) UNIQUE, note VARCHAR(200))",
        "INSERT INTO {t} VALUES (1,'a@example.com','x'),(2,'b@example.com','x'),(3,'c@example.com','x')",
    )
    statement = "UPDATE {t} SET note = :heard, email = :email WHERE id = :key"
    some = [news(1, "a@example.com"), news(2, "c@example.com"), news(3, "c@example.com")]
    (refused,) = writer(db, statement).write(some)
    assert isinstance(refused, Unwritten)
    assert refused.key == "2"
    assert refused.why
    assert notes(db) == {1: "bounced", 3: "bounced"}


def test_a_statement_that_cannot_work_fails_the_batch(db: Database) -> None:
    db.fill(1)
    with pytest.raises(SourceError, match="did not take the changes"):
        list(writer(db, "UPDATE {t} SET nothing = 1 WHERE id = :key").write([news(1)]))


def test_check_runs_nothing(db: Database) -> None:
    db.fill(1)
    assert "UPDATE" in writer(db).check()
    assert notes(db) == {}
