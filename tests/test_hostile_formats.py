"""Everything without code (files, databases, described APIs, taps), full of what nobody expects, through the whole product."""

import csv
import json
import os
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from doubles.server import Asked, Double, Told
from hostile import ADDRESSES, HARMLESS
from house import House, house_fixture
from pyarrow import parquet
from sheets import row as sheet_row
from sheets import text as cell
from sheets import workbook
from sqlalchemy import NullPool, create_engine, text

from syncd.core.result import Status

__all__ = ["house_fixture"]

COLUMNS = ("id", "email", "first", "stop")
FIELDS = {"email": "email", "firstName": "first"}
Person = dict[str, str]


@dataclass
class Kind:
    """One kind of source. lacks: characters that it cannot hold at all."""

    folder: Path
    lacks: str = ""
    ending: list[Callable[[], object]] = field(default_factory=list)

    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        """Make a source that holds just these; its options."""
        raise NotImplementedError


class Csv(Kind):
    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        with (self.folder / "hostile.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(people)
        return {"connector": "csv", "path": "hostile.csv", "key": "id"}


class Jsonl(Kind):
    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        lines = "".join(json.dumps(person) + "\n" for person in people)
        (self.folder / "hostile.jsonl").write_text(lines)
        return {"connector": "jsonl", "path": "hostile.jsonl", "key": "id"}


class Xlsx(Kind):
    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        rows = [sheet_row(*(cell(_escaped(one[name])) for name in COLUMNS)) for one in people]
        content = workbook(sheet_row(*COLUMNS), *rows)
        (self.folder / "hostile.xlsx").write_bytes(content)
        return {"connector": "xlsx", "path": "hostile.xlsx", "key": "id"}


def _escaped(value: str) -> str:
    """As Excel writes what XML cannot hold, and what looks like that."""
    value = value.replace("_x", "_x005F_x")
    return "".join(
        f"_x{ord(one):04X}_" if one < " " and one not in "\t\n" else one for one in value
    )


class Parquet(Kind):
    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        table = pa.table({name: [one[name] for one in people] for name in COLUMNS})
        parquet.write_table(table, self.folder / "hostile.parquet")
        return {"connector": "parquet", "path": "hostile.parquet", "key": "id"}


class Sql(Kind):
    url, port, long_text = "sqlite:///hostile.db", 0, "TEXT"

    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        url = self.url.replace("///", f"///{self.folder}/")
        engine, table = create_engine(url, poolclass=NullPool), f"hostile_{secrets.token_hex(4)}"
        drop = text(f"DROP TABLE {table}")

        def end() -> None:
            with engine.begin() as connection:
                connection.execute(drop)

        columns = ", ".join(f"{name} {self.long_text}" for name in COLUMNS)
        with engine.begin() as connection:
            connection.execute(text(f"CREATE TABLE {table} ({columns})"))
            self.ending.append(end)
            insert = text(f"INSERT INTO {table} VALUES (:id, :email, :first, :stop)")
            connection.execute(insert, list(people))
        query = f"SELECT * FROM {table}"
        return {"connector": "sql", "url": url, "query": query, "key": "id"}


class PostgreSql(Sql):
    url, port = "postgresql+psycopg://postgres@127.0.0.1:5432/test", 5432


class MariaDb(Sql):
    url, port = "mysql+pymysql://root@127.0.0.1:3306/test?charset=utf8mb4", 3306
    long_text = "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"


class Rest(Kind):
    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        double = People(list(people))
        double.__enter__()
        self.ending.append(lambda: double.__exit__(None, None, None))
        return {
            "connector": "rest", "base_url": double.url, "path": "/people", "records": "people",
            "key": "id", "paging": "page", "size": 5, "total": "total",
        }  # fmt: skip


class People(Double):
    """Five a page."""

    def __init__(self, people: list[Person]) -> None:
        super().__init__()
        self.people = people

    def answer(self, asked: Asked) -> Told:
        start = 5 * (int(asked.query["page"]) - 1)
        part = self.people[start : start + 5]
        return Told(200, {"people": part, "total": len(self.people)})


class Singer(Kind):
    def write(self, people: Sequence[Person]) -> dict[str, Any]:
        schema = {"properties": {name: {"type": "string"} for name in COLUMNS}}
        stream = {"tap_stream_id": "p", "stream": "p", "schema": schema, "key_properties": ["id"]}
        records = [{"type": "RECORD", "stream": "p", "record": one} for one in people]
        written = [{"type": "SCHEMA", **stream}, *records]
        (self.folder / "catalog.json").write_text(json.dumps({"streams": [stream]}))
        (self.folder / "said").write_text("".join(json.dumps(one) + "\n" for one in written))
        (self.folder / "tap.py").write_text("import sys; sys.stdout.write(open('said').read())")
        return {
            "connector": "singer", "command": [sys.executable, "tap.py"], "stream": "p",
            "catalog": "catalog.json",
        }  # fmt: skip


KINDS: dict[str, tuple[type[Kind], str]] = {
    "csv": (Csv, "\0"),  # NULs in a text file are another encoding, or a disk that was full
    "jsonl": (Jsonl, ""),
    "xlsx": (Xlsx, ""),
    "parquet": (Parquet, ""),
    "sqlite": (Sql, ""),
    "postgresql": (PostgreSql, "\0"),
    "mariadb": (MariaDb, ""),
    "rest": (Rest, ""),
    "singer": (Singer, ""),
}


@pytest.fixture(name="kind", params=KINDS)
def kind_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    make, lacks = KINDS[request.param]
    port = getattr(make, "port", 0)
    with socket.socket() as probe:
        there = not port or probe.connect_ex(("127.0.0.1", port)) == 0
    if not there and os.environ.get("CI") != "true":
        pytest.skip(f"no {request.param} on 127.0.0.1:{port}")
    kind = make(tmp_path, lacks)
    yield kind
    for end in kind.ending:
        end()


def person(key: object, email: str, first: str = "Ann", stop: str = "no") -> Person:
    return {"id": f"{key}", "email": email, "first": first, "stop": stop}


def configure(house: House, source: dict[str, Any], **options: Any) -> None:
    house.configure(source=source, fields=FIELDS, opted_out="stop", groups=["Customers"], **options)


def test_what_a_value_may_hold_arrives_as_it_is_and_once(house: House, kind: Kind) -> None:
    texts = [one for one in HARMLESS.values() if not set(kind.lacks) & set(one)]
    people = [person(key, f"p{key}@example.com", one) for key, one in enumerate(texts)]
    configure(house, kind.write(people))
    result = house.sync()
    assert (result.status, result.created) == (Status.OK, len(texts)), result.error
    for key, one in enumerate(texts):
        # An edge of white space is none of the value; what stands inside is left alone.
        assert house.account.contact(f"p{key}@example.com")["firstName"] == one.strip()
    house.later(hours=1)
    again = house.sync(full=True)
    assert (again.status, again.read, again.changed) == (Status.OK, len(texts), 0)


def test_whoever_has_no_single_address_is_written_to_at_none(house: House, kind: Kind) -> None:
    addresses = {a: who for a, who in ADDRESSES.items() if not set(kind.lacks) & set(a)}
    configure(house, kind.write([person(key, one) for key, one in enumerate(addresses)]))
    result = house.sync()
    good = {who for who in addresses.values() if who is not None}
    assert house.everybody() == house.members("Customers") == good
    assert result.status is Status.OK
    assert (result.created, result.skipped) == (len(good), len(addresses) - len(good))


def test_one_address_however_written_is_one_person_who_opts_out_once(
    house: House, kind: Kind
) -> None:
    people = [person(1, "Ann@Example.com"), person(2, " ann@EXAMPLE.com", stop="yes")]
    configure(house, kind.write([*people, person(3, "bob@example.com")]))
    assert house.sync().status is Status.OK
    assert house.everybody() == {"bob@example.com"}


@pytest.mark.parametrize("stop", ["maybe", "\u202etrue", "no; yes"])
def test_an_opt_out_that_says_neither_yes_nor_no_is_no_consent(
    house: House, kind: Kind, stop: str
) -> None:
    configure(
        house, kind.write([person(1, "ann@example.com", stop=stop), person(2, "b@example.com")])
    )
    house.sync()
    assert house.everybody() == {"b@example.com"}


def test_an_id_that_comes_twice_is_no_read_and_removes_nobody(house: House, kind: Kind) -> None:
    people = [person(1, "ann@example.com"), person(2, "bob@example.com")]
    configure(house, kind.write(people))
    assert house.sync().created == 2
    house.later(hours=1)
    configure(house, kind.write([person(1, "ann@example.com"), person(1, "eve@example.com")]))
    result = house.sync(full=True)
    assert result.status is Status.FAILED
    assert "twice" in (result.error or "")
    assert house.members("Customers") == {"ann@example.com", "bob@example.com"}


def test_a_nul_in_a_text_file_ends_the_read_with_its_line_and_removes_nobody(house: House) -> None:
    kind = Csv(house.folder)
    configure(house, kind.write([person(1, "ann@example.com"), person(2, "bob@example.com")]))
    assert house.sync().created == 2
    kind.write([person(1, "ann@example.com"), person(3, "eve@example.com", "E\0ve")])
    result = house.sync()
    assert result.status is Status.FAILED
    assert "hostile.csv:3: there is a NUL" in (result.error or "")
    assert house.members("Customers") == {"ann@example.com", "bob@example.com"}
