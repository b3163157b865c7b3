"""The main job at size, as ratios to reading the file alone: first load, nothing changed, the same bytes, one percent changed.

    python bench/main_job.py [PEOPLE...]        (20,000 when nothing is given)

`syncd sync` runs as a process of its own each time, against `account.py` in another: CPU (user and system) and peak memory are those
of the whole command, and what it takes to start and to sync ten people is subtracted. Every figure comes from this one run.
"""

import csv
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import orjson

COLUMNS = (
    "id",
    "email",
    "first",
    "last",
    "company",
    "title",
    "phone",
    "web",
    "score",
    "city",
    "source",
    "note",
)
CONFIG = """
[fluenzr]
api_key = "env:BENCH_KEY"
base_url = "{url}"
requests_per_minute = {limit}
share = 1.0

[guard]
max_removals = "100%"

[state]
path = "{state}"

[source.file]
connector = "csv"
path = "people.csv"
key = "id"

[sync.people]
source = "file"
groups = ["Customers"]

[sync.people.fields]
email = "email"
firstName = "first"
lastName = "last"
company = "company"
jobTitle = "title"
phone = "phone"
website = "web"
"""
SYNC = ("sync", "--json")
QUESTIONS = (("status", "--json"), ("history", "--json"), ("why", "p7@example.com", "--json"))
NO_LIMIT = 60_000  # requests a minute: the most that the client believes
STARTED_WITH = 10  # people of the run that is subtracted


@dataclass(frozen=True, slots=True)
class Spent:
    """What one command took. cpu_s: user and system, of all its threads."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    result: dict[str, object]


def person(number: int, n: int, *, changed: bool = False) -> list[str]:
    """One made-up person. number: in the file; n: in the address."""
    company = f"Company {n % 997}" + (" Ltd" if changed else "")
    return [str(number), f"p{n}@example.com", f"First{n}", f"Last{n}", company, "Head of Sales", f"+4144{n:07d}",
            f"https://example.com/{n}", str(n % 100), "Zurich", "fair", "met in spring"]  # fmt: skip


def people(count: int) -> Iterator[list[str]]:
    """People whose addresses come in random order, as they do in a CRM."""
    order = array("I", range(count))  # a list would count as memory of whatever is started
    random.Random(1).shuffle(order)
    return (person(number, n) for number, n in enumerate(order))


def day_after(count: int, *, gone: bool) -> Iterator[list[str]]:
    """1 % changed and 0.2 % new; gone: and 0.2 % left out, spread over the file."""
    for row in people(count):
        number = int(row[0])
        if not gone or number % 500 != 499:
            yield person(number, int(row[1][1:].partition("@")[0]), changed=number % 100 == 50)
    yield from (person(number, number) for number in range(count, count + count // 500))


def write(path: Path, rows: Iterable[list[str]], *, note: str = "met in spring") -> None:
    """The file as a CRM exports it. note: the last column, which nobody maps."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows([*row[:-1], note] for row in rows)


def address_sum(path: Path) -> int:
    """A sum over all addresses of the file, whatever their order."""
    with path.open(newline="", encoding="utf-8") as file:
        return sum(crc32(row[1].encode()) for number, row in enumerate(csv.reader(file)) if number)


def reading_alone_s(path: Path, *, times: int = 3) -> float:
    """CPU seconds of csv.reader over the file: the floor of any reading. The best of a few."""
    best = float("inf")
    for _ in range(times):
        start = time.process_time()
        with path.open(newline="", encoding="utf-8") as file:
            for _row in csv.reader(file):
                pass
        best = min(best, time.process_time() - start)
    return best


class Account:
    """`account.py`, in a process of its own."""

    def __init__(self, *, latency_ms: int = 0, limit: int = 0) -> None:
        command = [
            sys.executable,
            str(Path(__file__).with_name("account.py")),
            str(latency_ms),
            str(limit),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> "Account":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def seen(self) -> dict[str, int]:
        """What it got so far."""
        with urllib.request.urlopen(self.url + "/seen") as answer:
            seen: dict[str, int] = orjson.loads(answer.read())["data"]
        return seen


def syncd(
    folder: Path, *command: str, url: str, state: str = "syncd.db", limit: int = NO_LIMIT
) -> Spent:
    """One command, measured from outside."""
    config = folder / "config.toml"
    config.write_text(CONFIG.format(url=url, state=state, limit=limit))
    environment = {**os.environ, "BENCH_KEY": "flz_sk_" + "0" * 32}
    start = time.monotonic()
    with (folder / "out").open("wb") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", "syncd", "--config", str(config), *command],
            stdout=out,
            env=environment,
        )
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - start
    text = (folder / "out").read_bytes()
    assert child.returncode == 0, text
    result = orjson.loads(text.splitlines()[-1])
    assert command[0] != "sync" or result["status"] == "ok", result
    return Spent(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / 1024, result)


def started(folder: Path, url: str) -> tuple[Spent, Spent]:
    """A first load of ten people, and the same again with another file: what every command takes, however few."""
    path = folder / "people.csv"
    write(path, people(STARTED_WITH))
    first = syncd(folder, *SYNC, url=url, state="small.db")
    write(path, people(STARTED_WITH), note="met in autumn")
    return first, min(
        (syncd(folder, *SYNC, url=url, state="small.db") for _ in range(2)),
        key=lambda spent: spent.cpu_s,
    )


def measure(count: int) -> dict[str, dict[str, float]]:
    """The loads of so many people; name -> figures. Prints a line each."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name, Account() as account:
        folder = Path(name)
        path = folder / "people.csv"
        first_start, later_start = started(folder, account.url)
        write(path, people(count))
        floor_s = reading_alone_s(path)
        print(f"\n{count:,} people; csv.reader alone {floor_s / count * 1e6:.2f} us a row")
        head = f"{'work':<26}{'requests':>9}{'wall s':>9}{'cpu s':>8}{'us a row':>10}{'x reader':>10}{'peak MiB':>10}"
        print(head, flush=True)

        def run(what: str, start: Spent) -> None:
            spent = syncd(folder, *SYNC, url=account.url)
            cpu_s = max(0.0, spent.cpu_s - start.cpu_s)
            again_s = min(
                floor_s, reading_alone_s(path, times=1)
            )  # the machine may be busier or idler now
            requests = int(str(spent.result["requests"]))
            figures[what] = {
                "requests": requests, "wall_s": spent.wall_s, "cpu_s": cpu_s, "us": cpu_s / count * 1e6,
                "ratio": cpu_s / again_s, "peak_mib": spent.peak_mib,
            }  # fmt: skip
            print(
                f"{what:<26}{requests:>9}{spent.wall_s:>9.2f}{cpu_s:>8.2f}{cpu_s / count * 1e6:>10.2f}"
                f"{cpu_s / again_s:>10.1f}{spent.peak_mib:>10.0f}", flush=True,
            )  # fmt: skip

        before = account.seen()
        run("first load", first_start)
        seen = account.seen()
        assert seen["created"] - before["created"] == count, seen
        assert seen["created_sum"] - before["created_sum"] == address_sum(path), seen
        file = folder / "syncd.db"
        size, wal = file.stat().st_size, Path(f"{file}-wal")
        left_mib = (wal.stat().st_size if wal.exists() else 0) / 2**20
        run("same bytes", later_start)
        write(path, people(count), note="met in summer")
        run("file touched", later_start)
        write(path, day_after(count, gone=False), note="met in summer")
        run("1 % changed, 0.2 % new", later_start)
        assert account.seen()["updated"] == count // 100, account.seen()
        write(path, day_after(count, gone=True), note="met in summer")
        run("0.2 % gone (one by one)", later_start)
        figures["state"] = {"bytes": size / count}
        for question in QUESTIONS:
            small, large = (
                min(syncd(folder, *question, url=account.url, state=state).cpu_s for _ in range(3))
                for state in ("small.db", "syncd.db")
            )
            print(f"{question[0]:<26}{(large - small) * 1000:>26.0f} ms more than with ten people")
        print(
            f"state: {size / count:.0f} bytes a contact after the first load; WAL left {left_mib:.0f} MiB"
        )
    return figures


def main() -> None:
    """Each size that is asked for."""
    sizes = [int(re.sub("[_,]", "", text)) for text in sys.argv[1:]] or [20_000]
    for count in sizes:
        measure(count)


if __name__ == "__main__":
    main()
