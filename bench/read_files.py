"""What reading costs us per record and in memory, for everything that is no web API: files, databases, a Singer tap.

    python bench/read_files.py [RECORDS [SOURCE ...]]

Twelve columns of which six are in use. CPU is that of the reading process alone (the tap's and the server's is beside), as a
ratio to csv.reader over the same rows, measured in the same run. Memory is above that of a read of ten records.
"""

import csv
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from syncd import registry
from syncd.connector import Context, Record, Request

RECORDS = 100_000
FEW = 10
WANTED = frozenset({"email", "first", "last", "company", "title", "phone"})
SERVERS = {
    "postgresql": "postgresql+psycopg://postgres@127.0.0.1:5432/test",
    "mariadb": "mysql+pymysql://root@127.0.0.1:3306/test?charset=utf8mb4",
}
TABLE = "syncd_bench"
BATCH = 10_000  # rows inserted together

Row = dict[str, str]


def rows(count: int) -> Iterator[Row]:
    for key in range(1, count + 1):
        yield {
            "id": f"c-{key}", "email": f"person{key}@example.com", "first": f"First{key % 997}",
            "last": f"Last{key}", "company": f"Company {key % 5000}", "title": "Head of Things",
            "phone": f"+33{key:09}", "web": f"https://c{key}.example.com", "score": f"{key % 100}",
            "city": "Lyon", "source": "fair", "note": "x" * 40,
        }  # fmt: skip


COLUMNS = tuple(next(rows(1)))


def csv_file(folder: Path, count: int) -> dict[str, Any]:
    with (folder / "people.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(count))
    return {"connector": "csv", "path": "people.csv", "key": "id"}


def jsonl(folder: Path, count: int) -> dict[str, Any]:
    with (folder / "people.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows(count))
    return {"connector": "jsonl", "path": "people.jsonl", "key": "id"}


def xlsx(folder: Path, count: int) -> dict[str, Any]:
    import openpyxl

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("People")
    sheet.append(list(COLUMNS))
    for row in rows(count):
        sheet.append(list(row.values()))
    book.save(folder / "people.xlsx")
    return {"connector": "xlsx", "path": "people.xlsx", "key": "id"}


def parquet(folder: Path, count: int) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(list(rows(count)))
    pyarrow.parquet.write_table(table, folder / "people.parquet")
    return {"connector": "parquet", "path": "people.parquet", "key": "id"}


def sql(url: str, count: int) -> dict[str, Any]:
    from sqlalchemy import create_engine, text

    columns = ", ".join(f"{name} VARCHAR(100)" for name in COLUMNS)
    insert = text(f"INSERT INTO {TABLE} VALUES ({', '.join(f':{name}' for name in COLUMNS)})")
    held = list(rows(count))
    with create_engine(url).begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))
        connection.execute(text(f"CREATE TABLE {TABLE} ({columns})"))
        for start in range(0, count, BATCH):
            connection.execute(insert, held[start : start + BATCH])
    return {"connector": "sql", "url": url, "query": f"SELECT * FROM {TABLE}", "key": "id"}


def there(url: str) -> bool:
    """Whether this database can be reached."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    try:
        create_engine(url).connect().close()
    except OperationalError:
        return False
    return True


def drop(url: str) -> None:
    """Leave nothing in a database that is not ours alone."""
    from sqlalchemy import create_engine, text

    with create_engine(url).begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {TABLE}"))


def singer(folder: Path, count: int) -> dict[str, Any]:
    schema = {"properties": {name: {"type": "string"} for name in COLUMNS}}
    stream = {"tap_stream_id": "p", "stream": "p", "schema": schema, "key_properties": ["id"]}
    (folder / "catalog.json").write_text(json.dumps({"streams": [stream]}))
    with (folder / "said.jsonl").open("w") as file:
        file.write(json.dumps({"type": "SCHEMA", **stream}) + "\n")
        for row in rows(count):
            file.write(json.dumps({"type": "RECORD", "stream": "p", "record": row}) + "\n")
    tap = "import shutil, sys; shutil.copyfileobj(open('said.jsonl'), sys.stdout)"
    return {
        "connector": "singer", "command": [sys.executable, "-c", tap], "stream": "p",
        "catalog": "catalog.json",
    }  # fmt: skip


MAKERS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "csv": csv_file,
    "jsonl": jsonl,
    "xlsx": xlsx,
    "parquet": parquet,
    "sqlite": lambda folder, count: sql(f"sqlite:///{folder}/people.db", count),
    "postgresql": lambda _, count: sql(SERVERS["postgresql"], count),
    "mariadb": lambda _, count: sql(SERVERS["mariadb"], count),
    "singer": singer,
}


def alone(folder: str, count: int, told: Any) -> None:
    """The floor: csv.reader over the rows."""
    csv_file(Path(folder), count)
    before = time.process_time()
    with (Path(folder) / "people.csv").open(newline="") as file:
        found = sum(1 for _ in csv.reader(file)) - 1
    told.send((found, time.process_time() - before, 0))


def read(folder: str, options: dict[str, Any], told: Any) -> None:
    """The reading process: everything once."""
    os.chdir(folder)
    kind = registry.load(options.pop("connector"))
    context = {"folder": Path(folder)}
    connector = kind(kind.OPTIONS.model_validate(options, context=context), Context(Path(folder)))
    before, count = time.process_time(), 0
    for event in connector.read(Request(fields=WANTED)):
        count += type(event) is Record
    cpu_s = time.process_time() - before
    told.send((count, cpu_s, peak_kib()))


def peak_kib() -> int:
    """Of this process since it began; getrusage would count what the one that started it had then."""
    return int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0])


def measured(target: Callable[..., None], *given: Any) -> tuple[int, float, int]:
    """(records, CPU seconds, peak KiB) of a process of its own."""
    context = multiprocessing.get_context("spawn")
    result, told = context.Pipe()
    process = context.Process(target=target, args=(*given, told), daemon=True)
    process.start()
    told.close()  # so that a process that dies ends the waiting
    found: tuple[int, float, int] = result.recv()
    process.join()
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS
    with tempfile.TemporaryDirectory() as folder:
        found, floor_s, _ = measured(alone, folder, count)
    floor_us = floor_s / found * 1e6
    print(f"csv.reader alone: {floor_us:.2f} us CPU a record, {found:,} records")
    print(f"{'source':<12}{'records':>9}{'us CPU a record':>17}{'x floor':>9}{'MiB above':>11}")
    for name in sys.argv[2:] or MAKERS:
        if name in SERVERS and not there(SERVERS[name]):
            print(f"{name:<12} does not run on this machine")
            continue
        with tempfile.TemporaryDirectory() as folder:
            _, _, base_kib = measured(read, folder, MAKERS[name](Path(folder), FEW))
            records, cpu_s, most_kib = measured(read, folder, MAKERS[name](Path(folder), count))
        if name in SERVERS:
            drop(SERVERS[name])
        us, above = cpu_s / records * 1e6, (most_kib - base_kib) / 1024
        print(f"{name:<12}{records:>9,}{us:>17.1f}{us / floor_us:>9.1f}{above:>11.1f}", flush=True)


if __name__ == "__main__":
    main()
