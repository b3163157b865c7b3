"""SQL: every row once, nothing written, nothing missed, on SQLite, PostgreSQL and MariaDB."""

import socket
import time
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import ClassVar

import pytest
from databases import SERVERS, Database, database_fixture, db_fixture  # noqa: F401 - fixtures
from pydantic import ValidationError
from sqlalchemy import text

from connectors.sql import ROWS_AT_ONCE, SqlConnector, SqlOptions
from syncd.connector import Checkpoint, Record, Request, Resync
from syncd.errors import ConfigError, SourceError
from syncd.testing.conformance import SECRET_REFERENCE, ConnectorSuite


@pytest.fixture
def sqlite(database):
    return database("sqlite")


def read(connector, *, cursor=None, fields=None):
    return list(connector.read(Request(cursor=cursor, fields=fields)))


def keys(events):
    return [event.key for event in events if isinstance(event, Record)]


def test_rows_are_records_with_key_and_place(db):
    db.fill(2)
    assert read(db.source("SELECT id, email FROM {t} ORDER BY id;")) == [
        Record("1", {"id": 1, "email": "person1@example.com"}, "row 1"),
        Record("2", {"id": 2, "email": "person2@example.com"}, "row 2"),
    ]
    assert keys(read(db.source(key=None))) == ["", ""]
    assert keys(read(db.source(key="email")))[0] == "person1@example.com"


def test_only_the_fields_in_use_are_given(db):
    db.fill(1)
    for chosen in ({"email"}, {"email", "note"}, set()):
        record = read(db.source(), fields=frozenset(chosen))[0]
        assert (record.key, set(record.fields)) == ("1", chosen)


def test_an_empty_table_is_an_empty_read(db):
    db.fill(0)
    assert read(db.source(modified="id")) == []


def test_colons_percents_and_comments_in_a_query_mean_nothing_special(db):
    db.fill(1)
    query = "SELECT id, '12:30 :x 50%s %(a)s' AS a, 'b' AS \"c\" FROM {t} -- all: 100%"
    source = db.source(query.replace('"', db.quote), modified="id")
    expected = {"id": 1, "a": "12:30 :x 50%s %(a)s", "c": "b"}
    assert read(source)[0].fields == expected
    assert read(source, cursor="int:1")[0].fields == expected
    assert source.check() == "1 rows, 3 columns"


def test_fields_are_the_columns_and_the_query_is_not_run_over(db):
    db.fill(3)
    assert [f.name for f in db.source().fields()] == ["id", "email", "note"]
    slow = {"postgresql": "pg_sleep(20)", "mariadb": "sleep(20)", "sqlite": "randomblob(-5) / 0"}
    started = time.monotonic()
    db.source(f"SELECT id, {slow[db.kind]} AS s FROM {{t}}").fields()
    assert time.monotonic() - started < 10


def test_check_counts(db):
    db.fill(1234)
    assert db.source().check() == "1,234 rows, 3 columns"


def test_rows_are_streamed_and_memory_is_flat(db):
    count = 50_000
    db.run("CREATE TABLE {t} (id INTEGER PRIMARY KEY, note VARCHAR(200))")
    series = {
        "postgresql": f"SELECT n, repeat('x', 100) FROM generate_series(1, {count}) n",
        "mariadb": f"SELECT seq, repeat('x', 100) FROM seq_1_to_{count}",
        "sqlite": f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count})"
        " SELECT n, printf('%0100d', n) FROM s",
    }[db.kind]
    db.run(f"INSERT INTO {{t}} {series}")
    events = db.source("SELECT * FROM {t}").read(Request())
    tracemalloc.start()
    try:
        seen = sum(1 for _ in events)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert seen == count
    assert peak < count * 100 / 4, "the rows alone are larger than this"


def test_the_first_record_comes_before_the_query_has_ended(db):
    """The last row divides by zero or takes long; the first ones are out before it is reached."""
    db.fill(3 * ROWS_AT_ONCE)
    last = 3 * ROWS_AT_ONCE
    fails = {
        "postgresql": f"1 / ({last} - id)",
        "mariadb": f"CASE WHEN id = {last} THEN sleep(0.2) ELSE 1 END",
        "sqlite": f"CASE WHEN id = {last} THEN abs(-9223372036854775808) ELSE 1 END",
    }[db.kind]
    events = db.source(f"SELECT id, {fails} AS x FROM {{t}} ORDER BY id").read(Request())
    assert next(events).key == "1"
    if db.kind == "mariadb":
        assert sum(1 for _ in events) == last - 1
    else:
        with pytest.raises(SourceError, match="did not give the rows"):
            list(events)


def test_closing_early_frees_the_connection_at_once(db):
    db.fill(20_000)
    events = db.source("SELECT a.id, b.note FROM {t} a CROSS JOIN {t} b").read(Request())
    next(events)  # 400 million rows would follow
    started = time.monotonic()
    busy = db.kind == "sqlite" or db.busy()
    events.close()
    assert busy
    while db.kind != "sqlite" and db.busy():  # the server ends a session on its own time
        assert time.monotonic() - started < 10
    assert time.monotonic() - started < 10
    db.run("DELETE FROM {t}")  # no lock is left


def test_one_read_is_one_snapshot(db):
    if db.kind == "sqlite":
        db.run("PRAGMA journal_mode = WAL")
    db.fill(3 * ROWS_AT_ONCE)
    events = db.source().read(Request())
    next(events)
    db.run("DELETE FROM {t} WHERE id > 10")
    assert sum(1 for _ in events) == 3 * ROWS_AT_ONCE - 1


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM {t}",
        "INSERT INTO {t} (id) VALUES (99)",
        "DROP TABLE {t}",
        "UPDATE {t} SET id = 9",
    ],
)
def test_nothing_is_ever_written(db, query):
    db.fill(2)
    with pytest.raises(SourceError):
        read(db.source(query))
    assert keys(read(db.source())) == ["1", "2"]


def test_a_sqlite_file_is_found_beside_the_configuration_and_never_made(sqlite, tmp_path):
    sqlite.fill(1)
    assert keys(read(sqlite.source(url="sqlite:///crm.db"))) == ["1"]
    with pytest.raises(SourceError, match=r"cannot be reached.*unable to open"):
        read(sqlite.source(url="sqlite:///gone.db"))
    assert not (tmp_path / "gone.db").exists()
    (tmp_path / "not.db").write_text("no database, " * 100)
    with pytest.raises(SourceError, match="not a database"):
        read(sqlite.source(url="sqlite:///not.db"))


VALUES = {  # expression on each database -> what the record holds
    "sqlite": [
        ("'Zoë'", "Zoë"),
        ("1.5", 1.5),
        ("NULL", None),
        ("x'5a6f65'", "Zoe"),
        ("CURRENT_DATE || ''", str),
    ],
    "postgresql": [
        ("'Zoë'::text", "Zoë"),
        ("12.50::numeric", 12.5),
        ("12.00::numeric", 12),
        ("0.1234567890123456789::numeric", "0.1234567890123456789"),
        ("123456789012345678901234567890::numeric", "123456789012345678901234567890"),
        ("'NaN'::numeric", "NaN"),
        ("true", True),
        ("timestamptz '2026-01-31 12:00:00+02'", "2026-01-31T10:00:00+00:00"),
        ("timestamp '2026-01-31 12:00:00.5'", "2026-01-31T12:00:00.500000"),
        ("date '2026-01-31'", "2026-01-31"),
        ("time '12:30'", "12:30:00"),
        ("'5a1f0e3c-0000-4000-8000-000000000001'::uuid", "5a1f0e3c-0000-4000-8000-000000000001"),
        ('\'{"a": [1, {"b": null}]}\'::jsonb', {"a": [1, {"b": None}]}),
        ("'[1, 2]'::json", [1, 2]),
        ("ARRAY[date '2026-01-31']", ["2026-01-31"]),
        ("'127.0.0.1'::inet", "127.0.0.1"),
        ("'Zoe'::bytea", "Zoe"),
        ("NULL", None),
    ],
    "mariadb": [
        ("'Zoë'", "Zoë"),
        ("CAST(12.50 AS DECIMAL(10,2))", 12.5),
        ("CAST(12 AS DECIMAL(10,2))", 12),
        ("CAST('2026-01-31 12:00:00' AS DATETIME)", "2026-01-31T12:00:00"),
        ("CAST('2026-01-31' AS DATE)", "2026-01-31"),
        ("CAST('12:30' AS TIME)", "12:30:00"),
        ("FROM_UNIXTIME(0)", "1970-01-01T00:00:00"),
        ("CAST('Zoe' AS BINARY)", "Zoe"),
        ("NULL", None),
    ],
}


def test_values_lose_nothing(db):
    columns = [f"{expression} AS c{n}" for n, (expression, _) in enumerate(VALUES[db.kind])]
    record = read(db.source(f"SELECT 1 AS id, {', '.join(columns)}"))[0]
    for n, (expression, expected) in enumerate(VALUES[db.kind]):
        value = record.fields[f"c{n}"]
        if expected is str:
            assert type(value) is str
        else:
            assert (value, type(value)) == (expected, type(expected)), expression


@pytest.mark.parametrize("binary", ["ff00", "01"])
def test_binary_columns_are_refused_by_name_unless_they_are_not_in_use(db, binary):
    literal = f"'\\x{binary}'::bytea" if db.kind == "postgresql" else f"x'{binary}'"
    source = db.source(f"SELECT 1 AS id, 'a' AS a, {literal} AS photo")
    with pytest.raises(SourceError, match="row 1: the column 'photo' cannot be used"):
        read(source)
    assert keys(read(source, fields=frozenset({"id", "a"}))) == ["1"]


@pytest.mark.parametrize("values", [("1", "NULL"), ("'a'", "''"), ("1", "1.5")])
def test_what_is_no_key_raises_with_its_place(db, values):
    with pytest.raises(SourceError, match="row 2: there is no usable key in 'id'"):
        read(db.source(f"SELECT {values[0]} AS id UNION ALL SELECT {values[1]}"))


def test_wrong_columns_are_configuration_errors_with_the_nearest_name(db):
    db.fill(1)
    for use in (read, SqlConnector.fields, SqlConnector.check):
        with pytest.raises(
            ConfigError, match=r"no column 'iid'.*id, email, note.*Did you mean 'id'"
        ):
            use(db.source(key="iid"))
        with pytest.raises(ConfigError, match=r"`modified`.*no column 'changed'"):
            use(db.source(modified="changed"))


def test_two_columns_of_one_name_are_refused(db):
    db.fill(1)
    with pytest.raises(SourceError, match="two columns called 'id'"):
        read(db.source("SELECT id, email, id FROM {t}"))


@pytest.mark.parametrize(
    ("query", "says"), [("SELECT * FROM no_such_table", "no_such_table"), ("SELEC 1", "syntax")]
)
def test_a_wrong_query_is_answered_in_the_databases_own_words(db, query, says):
    for use in (read, SqlConnector.fields, SqlConnector.check):
        with pytest.raises(SourceError, match=says) as caught:
            use(db.source(query))
        assert "\n" not in str(caught.value)
        assert "sqlalche" not in str(caught.value)


# Incremental reads. Each kind of `modified` column: three moments, apart by more than the overlap.

HOUR = timedelta(hours=1)
NOON = datetime.fromisoformat("2026-01-31T12:00:00")
MOMENTS = {
    ("sqlite", "TEXT"): (
        ["2026-01-31 12:00:00", "2026-01-31 13:00:00"],
        "text:2026-01-31 13:00:00",
    ),
    ("sqlite", "INTEGER"): ([7, 8], "int:8"),
    ("sqlite", "REAL"): ([7.5, 8.5], "float:8.5"),
    ("postgresql", "TIMESTAMPTZ"): (
        [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=UTC) + HOUR],
        "2026-01-31T13:00:00+00:00",
    ),
    ("postgresql", "TIMESTAMP"): ([NOON, NOON + HOUR], "2026-01-31T13:00:00"),
    ("postgresql", "DATE"): ([date(2026, 1, 29), date(2026, 1, 31)], "2026-01-31"),
    ("postgresql", "NUMERIC"): ([Decimal("7.5"), Decimal("8.5")], "decimal:8.5"),
    ("postgresql", "BIGINT"): ([7, 8], "int:8"),
    ("postgresql", "TEXT"): (
        ["2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z"],
        "text:2026-01-31T13:00:00Z",
    ),
    ("mariadb", "DATETIME(6)"): ([NOON, NOON + HOUR], "2026-01-31T13:00:00"),
    ("mariadb", "TIMESTAMP"): ([NOON, NOON + HOUR], "2026-01-31T13:00:00"),
    ("mariadb", "BIGINT"): ([7, 8], "int:8"),
}


@pytest.fixture
def changing(database):
    """A table whose `changed` column is of a type, with two rows, one NULL, and a source over it."""

    def build(kind, column, values, **options):
        db = database(kind)
        null = " NULL" if kind == "mariadb" else ""  # its TIMESTAMP columns are NOT NULL by default
        db.run(f"CREATE TABLE {{t}} (id INTEGER PRIMARY KEY, changed {column}{null})")
        for number, value in enumerate([*values, None], 1):
            values = {"number": number, "changed": value}
            zone = ["SET time_zone = '+00\\:00'"] if kind == "mariadb" else []
            db.run(*zone, "INSERT INTO {t} VALUES (:number, :changed)", **values)
        return db, db.source(modified="changed", **options)

    return build


@pytest.mark.parametrize(("kind", "column"), MOMENTS)
def test_an_incremental_read_goes_on_from_the_cursor(changing, kind, column):
    values, cursor = MOMENTS[kind, column]
    _, source = changing(kind, column, values)
    full = read(source)
    assert keys(full) == ["1", "2", "3"]
    assert full[-1] == Checkpoint(cursor)
    again = read(source, cursor=cursor)
    assert sorted(keys(again)) == ["2", "3"], "the newest once more, and what has no time"
    assert again[-1] == Checkpoint(cursor), "the cursor never goes back"


@pytest.mark.parametrize(
    ("kind", "column"),
    [case for case in MOMENTS if case[1] not in ("INTEGER", "REAL", "NUMERIC", "BIGINT", "DATE")],
)
def test_the_overlap_catches_what_was_committed_late(changing, kind, column):
    values, cursor = MOMENTS[kind, column]
    _, source = changing(kind, column, values, overlap="59 minutes")
    assert sorted(keys(read(source, cursor=cursor))) == ["2", "3"]
    _, source = changing(kind, column, values, overlap="1 hour")
    assert sorted(keys(read(source, cursor=cursor))) == ["1", "2", "3"]


def test_a_date_overlaps_by_a_day(changing):
    _, source = changing("postgresql", "DATE", [date(2026, 1, 30), date(2026, 1, 31)])
    assert sorted(keys(read(source, cursor="2026-01-31"))) == ["1", "2", "3"]


def test_a_moved_cursor_comes_with_what_is_newer(changing):
    db, source = changing("sqlite", "TEXT", ["2026-01-31 12:00:00"])
    db.run("INSERT INTO {t} VALUES (9, '2026-02-01 00:00:00')")
    events = read(source, cursor="text:2026-01-31 12:00:00")
    assert "9" in keys(events)
    assert events[-1] == Checkpoint("text:2026-02-01 00:00:00")


def test_without_any_moment_there_is_no_cursor(changing):
    _, source = changing("sqlite", "TEXT", [])
    assert [type(event) for event in read(source)] == [Record]


def test_without_modified_a_cursor_means_nothing(sqlite):
    sqlite.fill(2)
    first, *rest = read(sqlite.source(), cursor="int:1")
    assert isinstance(first, Resync)
    assert keys(rest) == ["1", "2"]


@pytest.mark.parametrize("cursor", ["", "garbage", "int:x", "decimal:x", "2026-13-01"])
def test_a_cursor_that_cannot_be_read_is_a_resync(changing, cursor):
    _, source = changing("sqlite", "INTEGER", [7, 8])
    first, *rest = read(source, cursor=cursor)
    assert isinstance(first, Resync)
    assert keys(rest) == ["1", "2", "3"]
    assert rest[-1] == Checkpoint("int:8")


def test_moments_of_several_kinds_raise(changing):
    _, source = changing("sqlite", "BLOB", [7, "2026-01-31"])
    with pytest.raises(SourceError, match="row 2: a `modified` of the kind str cannot be compared"):
        read(source)


def test_names_that_need_quotes_work_in_incremental_reads(db):
    db.run('CREATE TABLE {t} (id INTEGER, "Last: 100% Change" INTEGER)'.replace('"', db.quote))
    db.run("INSERT INTO {t} VALUES (1, 5)")
    source = db.source(modified="Last: 100% Change")
    assert read(source)[-1] == Checkpoint("int:5")
    assert keys(read(source, cursor="int:5")) == ["1"]
    assert keys(read(source, cursor="int:6")) == []


# Options and secrets.

PASSWORD = "p@ss/w:rd-Tr0ub4dor"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"url": f"postgresql://ann:{PASSWORD}@127.0.0.1/crm"}, 'write password = "env:NAME"'),
        ({"url": f"postgresql://127.0.0.1/crm?password={PASSWORD}"}, 'write password = "env:NAME"'),
        ({"url": "people.db"}, "a URL is expected"),
        ({"url": "env:"}, "a URL is expected"),
        ({"password": PASSWORD}, "written as a reference"),
        ({"overlap": "5 moons"}, "5 minutes"),
        ({"overlap": 5}, "5 minutes"),
        ({"query": " ; "}, "query"),
        ({"table": "people"}, "table"),
    ],
)
def test_bad_options_are_refused_and_no_password_repeated(sqlite, options, says):
    with pytest.raises(ValidationError) as caught:
        sqlite.source(**{"query": "SELECT 1", **options})
    assert says in str(caught.value)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1 second", 1), ("90 seconds", 90), ("5 minutes", 300), ("2 hours", 7200), ("1 day", 86400)],
)
def test_overlap_is_a_duration(sqlite, text, expected):
    options = {"url": "sqlite://", "query": "SELECT 1", "overlap": text}
    assert SqlOptions.model_validate(options).overlap == timedelta(seconds=expected)


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+psycopg", "mysql", "mariadb"]
)
def test_the_url_may_be_a_secret_and_needs_no_driver(database, monkeypatch, scheme):
    db = database("postgresql" if scheme.startswith("post") else "mariadb")
    db.fill(1)
    monkeypatch.setenv("CRM_URL", f"{scheme}://{db.url.partition('://')[2]}")
    assert keys(read(db.source(url="env:CRM_URL"))) == ["1"]


@pytest.mark.parametrize("kind", SERVERS)
def test_a_password_is_used_and_never_shown(database, monkeypatch, kind):
    db = database(kind)
    role, host = db.table, "127.0.0.1"
    monkeypatch.setenv("CRM_PASSWORD", PASSWORD)
    url = db.url.replace("postgres@", f"{role}@").replace("root@", f"{role}@")
    source = db.source("SELECT 1 AS id", url=url, password="env:CRM_PASSWORD")
    with pytest.raises(SourceError, match="cannot be reached") as caught:  # there is no such user
        read(source)
    assert host in str(caught.value) or role in str(caught.value)
    shown = str(caught.value) + repr(caught.value) + repr(source) + repr(source.__dict__)
    assert PASSWORD not in shown
    assert caught.value.__cause__ is None


def test_the_mariadb_password_opens_the_database(database, monkeypatch):
    db = database("mariadb")
    user = db.table[:20]
    with db.engine.begin() as connection:
        connection.exec_driver_sql(f"CREATE USER {user}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
        connection.exec_driver_sql(f"GRANT SELECT ON test.* TO {user}@'127.0.0.1'")
    try:
        monkeypatch.setenv("CRM_PASSWORD", PASSWORD)
        url = db.url.replace("root@", f"{user}@")
        source = db.source("SELECT 1 AS id", url=url, password="env:CRM_PASSWORD")
        assert keys(read(source)) == ["1"]
        monkeypatch.setenv("CRM_PASSWORD", "wrong" + PASSWORD)
        with pytest.raises(SourceError, match="Access denied") as caught:
            read(source)
        assert PASSWORD not in str(caught.value)
    finally:
        db.run(f"DROP USER {user}@'127.0.0.1'")


@pytest.mark.parametrize(
    "given", [f"postgresql//{PASSWORD}", f"postgresql://ann:{PASSWORD}@127.0.0.1:{PASSWORD}/crm"]
)
def test_a_secret_that_is_no_url_is_not_repeated(sqlite, monkeypatch, given):
    monkeypatch.setenv("CRM_URL", given)
    with pytest.raises(ConfigError, match=r"env:CRM_URL.*does not hold the URL") as caught:
        read(sqlite.source(url="env:CRM_URL"))
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_is_not_there_is_a_source_error(sqlite, scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"{scheme}://ann@127.0.0.1:{unused.getsockname()[1]}/crm"
        with pytest.raises(SourceError, match=r"cannot be reached.*refused") as caught:
            read(sqlite.source(url=url))
    assert "`url`" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nosuch://host/db", "nosuch is not a database that SQLAlchemy knows"),
        ("oracle+oracledb://host/db", "driver of oracle.oracledb is not installed.*pip install"),
    ],
)
def test_an_unknown_database_or_a_missing_driver_is_a_configuration_error(sqlite, url, says):
    with pytest.raises(ConfigError, match=says):
        read(sqlite.source(url=url))


class SqlSuite(ConnectorSuite):
    """The promises, on one kind of database; `broken` makes the last row fail when it is read."""

    broken = "1 / (1 - broken)"
    options: ClassVar = {}

    @pytest.fixture(autouse=True)
    def _database(self, database):
        self.db = database(self.kind)
        columns = "id VARCHAR(20) PRIMARY KEY, email VARCHAR(80), name VARCHAR(80), at INTEGER"
        self.db.run(f"CREATE TABLE {{t}} ({columns}, broken BIGINT)")
        self.at = 0

    def source(self, folder, records):
        self.db.run("DELETE FROM {t}")
        self.change(folder, records)
        query = f"SELECT id, email, name, at, {self.broken} AS x FROM {{t}} ORDER BY id"
        return self.db.source(query, modified="at", **self.options)

    def change(self, folder, records):
        self.at += 1
        rows = [{**record, "at": self.at} for record in records]
        with self.db.engine.begin() as connection:
            for row in rows[:10]:  # the many ones are all new
                connection.execute(text(f"DELETE FROM {self.db.table} WHERE id = :id"), row)
            if rows:
                insert = f"INSERT INTO {self.db.table} VALUES (:id, :email, :name, :at, 0)"
                connection.execute(text(insert), rows)

    def break_source(self, folder):
        self.db.run("UPDATE {t} SET broken = 1 WHERE id = '999'")


class TestSqlitePromises(SqlSuite):
    kind = "sqlite"
    broken = "CASE broken WHEN 1 THEN abs(-9223372036854775808) END"

    @pytest.fixture(autouse=True)
    def _wal(self, _database):
        self.db.run("PRAGMA journal_mode = WAL")  # so that others can write during a read


class TestPostgresqlPromises(SqlSuite):
    kind = "postgresql"
    options: ClassVar = {"password": SECRET_REFERENCE}  # not asked for on this server


class TestMariadbPromises(SqlSuite):
    kind = "mariadb"
    broken = "CASE broken WHEN 1 THEN (SELECT 1 UNION SELECT 2) END"
