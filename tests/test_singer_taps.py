"""Two real taps from PyPI through the whole product, against the databases on this machine: `make taps` installs and runs them.

Skipped where they are not installed: their dependencies are theirs, and would not go with ours.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile import HARMLESS
from house import House, house_fixture
from sqlalchemy import Engine, NullPool, create_engine, text

from syncd.core.result import Status

__all__ = ["house_fixture"]

TAPS = Path(__file__).parents[1] / ".taps"
TEXTS = [one for one in HARMLESS.values() if "\0" not in one]
BEFORE, AFTER = "2026-01-01 00:00:00", "2026-02-01 00:00:00"


@dataclass
class Tap:
    """One tap and its database, with a table of this test's own."""

    source: dict[str, Any]
    engine: Engine
    table: str

    def run(self, statement: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement.replace("{t}", self.table)), values)


def postgres(table: str) -> Tap:
    url = "postgresql+psycopg://postgres@127.0.0.1:5432/test"
    source = {
        "command": f"{TAPS}/meltanolabs-tap-postgres/bin/tap-postgres",
        "stream": f"public-{table}",
        "config": {
            "sqlalchemy_url": "postgresql://postgres:any@127.0.0.1:5432/test",
            "filter_schemas": ["public"],
        },
    }
    return Tap(source, create_engine(url, poolclass=NullPool), table)


def mysql(table: str) -> Tap:
    url = "mysql+pymysql://root@127.0.0.1:3306/test?charset=utf8mb4"
    server = {
        "host": "127.0.0.1", "port": "3306", "user": "root", "password": "", "database": "test",
        # Else it reads MySQL's utf8 of three bytes, and an emoji becomes a question mark.
        "session_sqls": ['SET @@session.time_zone="+0:00"', "SET NAMES utf8mb4"],
    }  # fmt: skip
    source = {
        "command": f"{TAPS}/pipelinewise-tap-mysql/bin/tap-mysql",
        "stream": f"test-{table}",
        "config": server,
    }
    return Tap(source, create_engine(url, poolclass=NullPool), table)


@pytest.fixture(name="tap", params=[postgres, mysql], ids=lambda make: make.__name__)
def tap_fixture(request: pytest.FixtureRequest) -> Iterator[Tap]:
    tap: Tap = request.param(f"people_{secrets.token_hex(4)}")
    if not Path(tap.source["command"]).exists():
        pytest.skip("no tap in .taps: make taps")
    wide = "LONGTEXT CHARACTER SET utf8mb4" if request.param is mysql else "TEXT"
    stamp = "DATETIME" if request.param is mysql else "TIMESTAMP"
    tap.run(
        f"CREATE TABLE {{t}} (id INT PRIMARY KEY, email {wide}, first {wide}, stop INT,"
        f" changed {stamp} NOT NULL)"
    )
    yield tap
    tap.run("DROP TABLE {t}")


def put(tap: Tap, key: int, first: str, stop: int = 0, changed: str = BEFORE) -> None:
    tap.run(
        "INSERT INTO {t} VALUES (:id, :email, :first, :stop, :changed)",
        id=key, email=f"p{key}@example.com", first=first, stop=stop, changed=changed,
    )  # fmt: skip


def test_a_table_is_read_whole_then_by_its_changes_then_whole(house: House, tap: Tap) -> None:
    for key, one in enumerate(TEXTS):
        put(tap, key, one)
    put(tap, 100, "Out", stop=1)
    house.configure(
        source={"connector": "singer", "replication_key": "changed", **tap.source},
        fields={"email": "email", "firstName": "first"},
        opted_out="stop == 1",
        full_every="10 days",
        groups=["Customers"],
    )
    first = house.sync()
    assert (first.status, first.created, first.opted_out) == (Status.OK, len(TEXTS), 1), first.error
    for key, one in enumerate(TEXTS):
        assert house.account.contact(f"p{key}@example.com")["firstName"] == one.strip()
    house.later(hours=1)
    assert house.sync().changed == 0

    house.later(hours=1)
    put(tap, 200, "New", changed=AFTER)
    tap.run("UPDATE {t} SET stop = 1, changed = :at WHERE id = 1", at=AFTER)
    tap.run("DELETE FROM {t} WHERE id = 2")
    second = house.sync()
    assert (second.status, second.created, second.gone) == (Status.OK, 1, 0)
    left = house.members("Customers")
    assert "p1@example.com" not in left
    assert {"p2@example.com", "p200@example.com"} <= left

    house.later(hours=1)
    third = house.sync(full=True)
    assert (third.status, third.gone) == (Status.OK, 1)
    assert "p2@example.com" not in house.members("Customers")
