"""Databases for tests: SQLite, PostgreSQL and MariaDB, each test with a table of its own."""

import os
import secrets
import socket

import pytest
from sqlalchemy import NullPool, create_engine, text

from connectors.sql import SqlConnector, SqlOptions
from syncd.connector import Context

SERVERS = {
    "postgresql": ("postgresql+psycopg://postgres@127.0.0.1:5432/test", 5432),
    "mariadb": ("mysql+pymysql://root@127.0.0.1:3306/test", 3306),
}


class Database:
    """One database with one table of its own, and connectors over it."""

    def __init__(self, kind, folder):
        self.kind, self.folder = kind, folder
        self.table = f"people_{secrets.token_hex(4)}"
        self.url = SERVERS[kind][0] if kind in SERVERS else f"sqlite:///{folder / 'crm.db'}"
        (folder / "crm.db").touch()
        self.engine = create_engine(self.url, poolclass=NullPool)
        self.quote = "`" if kind == "mariadb" else '"'

    def run(self, *statements, **values):
        """Each statement, in one transaction; `:name` stands for a value if values are given."""
        with self.engine.begin() as connection:
            for statement in statements:
                written = statement if values else statement.replace(":", r"\:")
                connection.execute(text(written.replace("{t}", self.table)), values or None)

    def fill(self, count):
        """Rows 1 to `count`, with an `id`, an `email` and a `note` of 100 characters."""
        self.run("CREATE TABLE {t} (id INTEGER PRIMARY KEY, email VARCHAR(80), note VARCHAR(200))")
        insert = text(f"INSERT INTO {self.table} VALUES (:id, :email, :note)")
        with self.engine.begin() as connection:
            for start in range(1, count + 1, 10_000):
                stop = min(start + 10_000, count + 1)
                connection.execute(
                    insert,
                    [
                        {"id": n, "email": f"person{n}@example.com", "note": "x" * 100}
                        for n in range(start, stop)
                    ],
                )

    def source(self, query="SELECT * FROM {t} ORDER BY id", **options):
        options = {
            "url": self.url,
            "key": "id",
            **options,
            "query": query.replace("{t}", self.table),
        }
        return SqlConnector(SqlOptions.model_validate(options), Context(self.folder))

    def busy(self):
        """Whether the server still works on a statement about the table for anybody else."""
        statement = {
            "postgresql": "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation"
            " WHERE relname LIKE :like AND pid <> pg_backend_pid()",
            "mariadb": "SELECT count(*) FROM information_schema.processlist"
            " WHERE info LIKE :like AND id <> connection_id()",
        }[self.kind]
        with self.engine.connect() as connection:
            return connection.scalar(text(statement), {"like": f"%{self.table}%"}) > 0


@pytest.fixture(name="database")
def database_fixture(tmp_path):
    """Open a database of a kind; skip where its server is not there, but never in CI."""
    opened = []

    def open_it(kind):
        if kind in SERVERS:
            with socket.socket() as probe:
                probe.settimeout(2)
                there = probe.connect_ex(("127.0.0.1", SERVERS[kind][1])) == 0
            if not there and os.environ.get("CI") != "true":
                pytest.skip(f"no {kind} on 127.0.0.1:{SERVERS[kind][1]}")
        opened.append(Database(kind, tmp_path))
        return opened[-1]

    yield open_it
    for each in opened:
        each.run("DROP TABLE IF EXISTS {t}")


@pytest.fixture(name="db", params=["sqlite", *SERVERS])
def db_fixture(request, database):
    return database(request.param)
