"""The main job at size: first load, nothing changed, one percent changed, as ratios to reading the file alone.

    python bench/main_job.py [PEOPLE]        (20,000 when nothing is given)

The sandbox runs in a process of its own; every figure is measured in this one run. CPU is that of the syncing process.
"""

import csv
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from syncd import config, run
from syncd.clock import SystemClock
from syncd.watch import Nobody

PEOPLE = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
SERVER = """
from syncd.sandbox import Sandbox
Sandbox(limit=10**6).run_forever("127.0.0.1", 0, on_ready=lambda s: print(s.url, flush=True))
"""
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
requests_per_minute = 100000

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


def rows() -> list[list[str]]:
    """Made-up people whose addresses come in random order, as they do in a CRM."""
    order = list(range(PEOPLE))
    random.Random(1).shuffle(order)
    return [
        [str(i), f"p{n}@example.com", f"First{n}", f"Last{n}", f"Company {n % 997}", "Head of Sales", f"+4144{n:07d}",
         f"https://example.com/{n}", str(n % 100), "Zurich", "fair", "met in spring"]
        for i, n in enumerate(order)
    ]  # fmt: skip


def write(path: Path, people: list[list[str]]) -> None:
    """The file as a CRM exports it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(people)


def reading_alone_s(path: Path) -> float:
    """CPU seconds of csv.reader over the same file: the floor of any reading. The best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        with path.open(newline="", encoding="utf-8") as file:
            for _row in csv.reader(file):
                pass
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Load, load again, change a little; a line each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        try:
            measure(folder, server.stdout.readline().strip())
        finally:
            server.terminate()
            server.wait()


def measure(folder: Path, url: str) -> None:
    """The three loads against the sandbox at `url`."""
    os.environ["BENCH_KEY"] = "flz_sk_" + "0" * 32
    (folder / "config.toml").write_text(CONFIG.format(url=url))
    people = rows()
    path = folder / "people.csv"
    write(path, people)
    settings, clock = config.load(folder / "config.toml"), SystemClock()
    floor_s = reading_alone_s(path)
    print(f"{PEOPLE:,} people; csv.reader alone {floor_s / PEOPLE * 1e6:.2f} us a row")
    print(
        f"{'work':<28}{'requests':>9}{'seconds':>9}{'us a row':>10}{'x reader':>10}{'peak MiB':>10}"
    )

    def load(what: str) -> None:
        start, cpu = time.monotonic(), time.process_time()
        result = run.sync(settings, run.Order(), clock=clock, watch=Nobody())[0]
        seconds, cpu_s = time.monotonic() - start, time.process_time() - cpu
        assert result.status.value == "ok", result
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{what:<28}{result.requests:>9}{seconds:>9.2f}{cpu_s / PEOPLE * 1e6:>10.1f}{cpu_s / floor_s:>10.1f}{peak:>10.0f}"
        )

    load("first load")
    load("same bytes")
    write(path, [*people, ["extra", "extra@example.com", *people[0][2:]]])
    load("one new, file touched")
    for row in people[: PEOPLE // 100]:
        row[4] += " Ltd"
    write(path, people[: -max(1, PEOPLE // 500)] if PEOPLE > 10_000 else people)
    load("1 % changed, 0.2 % gone")
    state = folder / "syncd.db"
    print(f"state: {state.stat().st_size / PEOPLE:.0f} bytes a contact")


if __name__ == "__main__":
    main()
