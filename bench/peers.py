"""syncd beside other ways to bring a file to FluenzR: the same people, the same changes, measured from outside.

    python bench/peers.py [PEOPLE] [PEER...]       (20,000 and everybody when nothing is given)

Each peer is one small file in `peers/`, written as its documentation shows, and installed into `.peers/`, an environment of their own.
First come the figures, against `account.py` in a process of its own; CPU and memory are those of all processes of a command, and what
the same command takes for ten people is subtracted from the CPU. Then a smaller list goes to the sandbox, in whose account a group is
dynamic, so that whoever joins it is mailed, and where people opt out and are deleted between the runs: what FluenzR holds at the end
is compared with the file.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from main_job import COLUMNS, CONFIG, NO_LIMIT, STARTED_WITH, Account, day_after, people

if (
    TYPE_CHECKING
):  # not loaded before the figures: a child's peak memory is never below its parent's
    from syncd.sandbox.server import Sandbox

HERE = Path(__file__).with_name("peers")
HOUSE = Path(__file__).parents[1] / ".peers"
BIN = HOUSE / "bin"
MODIFIED = COLUMNS.index(
    "city"
)  # a CRM's export says when a person was changed; nobody maps a city
HEAD = tuple("modified" if name == "city" else name for name in COLUMNS)
FIELDS = {"firstName": "first", "lastName": "last", "company": "company", "jobTitle": "title", "phone": "phone",
          "website": "web"}  # fmt: skip
GROUP = "Customers"
KEY = "flz_sk_" + "0" * 32
REQUESTS_PER_MINUTE = 1000  # FluenzR's limit
CHECKED_WITH = 2000  # people whom the sandbox gets
START = datetime(2026, 1, 1, tzinfo=UTC)
GUARD = 'max_removals = "100%"'


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to do it. commands: joined by pipes; the last line that comes out goes to `keeps`. setup: run once, not measured."""

    commands: tuple[tuple[str, ...], ...]
    keeps: str = ""
    setup: tuple[str, ...] = ()


PYTHON = str(BIN / "python")
TAP = (PYTHON, str(HERE / "singer_tap.py"), "--config", "tap.json")
PEERS = {
    "loop": Peer(((PYTHON, str(HERE / "loop.py")),)),
    "dlt": Peer(((PYTHON, str(HERE / "dlt_pipeline.py")),)),
    "singer": Peer(
        (
            (*TAP, "--state", "state.json"),
            (PYTHON, str(HERE / "singer_target.py"), "--config", "target.json"),
        ),
        keeps="state.json",
    ),
    "drt": Peer(((str(BIN / "drt"), "run"),), setup=(PYTHON, str(HERE / "drt_project.py"))),
    "syncd": Peer(
        ((sys.executable, "-m", "syncd", "--config", "config.toml", "sync", "--json"),),
        keeps="result.json",
    ),
}


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run took. cpu_s: user and system, of all its processes; peak_mib: the sum of their peaks."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def install() -> None:
    """The peers' own environment, made again when `requirements.txt` has changed."""
    wanted = HERE / "requirements.txt"
    stamp = HOUSE / wanted.name
    if stamp.exists() and stamp.read_text() == wanted.read_text():
        return
    print(f"Installing the peers in {HOUSE.name} (a minute) ...", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOUSE)], check=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(wanted)], check=True)
    shutil.copy(wanted, stamp)


def write(folder: Path, rows: Iterable[list[str]], *, exported: str, known: int) -> None:
    """The CRM's export. Whoever has changed, or has a number from `known` on, was modified on a later day; nobody maps `note`."""
    path = folder / "people.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(HEAD)
        for row in rows:
            number = int(row[0])
            days = 300 if number >= known or row[4].endswith(" Ltd") else 0
            at = START + timedelta(days=days, seconds=number)
            row[MODIFIED], row[-1] = at.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{exported} export"
            writer.writerow(row)


class Working:
    """One peer with a folder of its own, in which it keeps its state between runs."""

    def __init__(self, peer: Peer, folder: Path, *, url: str, group_id: str) -> None:
        self.peer, self.folder = peer, folder
        folder.mkdir()
        self.environment = {
            **os.environ, "HOME": str(folder), "BENCH_KEY": KEY, "FLUENZR_API_KEY": KEY, "FLUENZR_URL": url,
            "FLUENZR_GROUP_ID": group_id, "FLUENZR_REQUESTS_PER_MINUTE": str(NO_LIMIT),
            "DO_NOT_TRACK": "1", "RUNTIME__DLTHUB_TELEMETRY": "false",
        }  # fmt: skip
        config = CONFIG.format(url=url, state="syncd.db", limit=NO_LIMIT)
        config = config.replace(GUARD, f"{GUARD}\nmax_enrolments = 1_000_000")
        (folder / "config.toml").write_text(config)
        (folder / "tap.json").write_text('{"path": "people.csv"}')
        (folder / "target.json").write_text(
            f'{{"url": "{url}", "group_id": "{group_id}", "api_key": "{KEY}"}}'
        )
        (folder / "state.json").write_text("{}")
        if peer.setup:
            subprocess.run(peer.setup, cwd=folder, env=self.environment, check=True)

    def run(self) -> Spent:
        """One run, measured from outside."""
        out, log = self.folder / "out", self.folder / "log"
        start = time.monotonic()
        children: list[subprocess.Popen[bytes]] = []
        with out.open("wb") as result, log.open("wb") as talk:
            for position, command in enumerate(self.peer.commands):
                last = position == len(self.peer.commands) - 1
                before = children[-1].stdout if children else subprocess.DEVNULL
                child = subprocess.Popen(
                    command, cwd=self.folder, env=self.environment, stdin=before,
                    stdout=result if last else subprocess.PIPE, stderr=talk,
                )  # fmt: skip
                if children and children[-1].stdout:
                    children[-1].stdout.close()
                children.append(child)
            cpu_s = peak_mib = 0.0
            for child in children:
                _, status, usage = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                cpu_s += usage.ru_utime + usage.ru_stime
                peak_mib += usage.ru_maxrss / 1024
        wall_s = time.monotonic() - start
        if any(child.returncode for child in children):
            raise SystemExit(f"{children[0].args}\n{out.read_text()}\n{log.read_text()}")
        lines = out.read_text().splitlines()
        if self.peer.keeps and lines:
            (self.folder / self.peer.keeps).write_text(lines[-1])
        return Spent(cpu_s, wall_s, peak_mib)


def works(folder: Path, count: int) -> Iterator[str]:
    """The file before each run, and what has happened to it."""
    write(folder, people(count), exported="first", known=count)
    yield "first load"
    write(folder, people(count), exported="second", known=count)
    yield "file touched"
    write(folder, day_after(count, gone=True), exported="third", known=count)
    yield "1 % changed, 0.2 % new, 0.2 % gone"


def seconds_at_limit(requests: int, wall_s: float) -> float:
    """What the run would take where 1000 requests a minute are let through: the first thousand at once."""
    return max(wall_s, (requests - REQUESTS_PER_MINUTE) / REQUESTS_PER_MINUTE * 60)


def measure(name: str, count: int) -> None:
    """The figures of one peer. Prints a line for each work."""
    starts = [min(both) for both in zip(started(name), started(name), strict=True)]
    with tempfile.TemporaryDirectory() as parent, Account() as account:
        working = Working(PEERS[name], Path(parent, "work"), url=account.url, group_id="grp_1")
        for work, start_s in zip(works(working.folder, count), starts, strict=True):
            before = account.seen()
            spent = working.run()
            seen = account.seen()
            requests = seen["requests"] - before["requests"] - 1  # without the question itself
            contacts = seen["contacts"] - before["contacts"]
            us = max(0.0, spent.cpu_s - start_s) / count * 1e6
            print(
                f"{name:<8}{work:<36}{requests:>9,}{contacts:>10,}{seconds_at_limit(requests, spent.wall_s):>12,.1f}"
                f"{spent.wall_s:>9.1f}{spent.cpu_s:>9.2f}{start_s:>9.2f}{us:>10.1f}{spent.peak_mib:>7.0f}",
                flush=True,
            )


def started(name: str) -> list[float]:
    """CPU seconds of each work with ten people: what every run takes, however few."""
    with tempfile.TemporaryDirectory() as parent, Account() as account:
        working = Working(PEERS[name], Path(parent, "work"), url=account.url, group_id="grp_1")
        return [working.run().cpu_s for _ in works(working.folder, STARTED_WITH)]


def check(name: str, count: int) -> None:
    """What FluenzR holds at the end. Prints one line."""
    from syncd.sandbox.server import Sandbox

    sandbox = Sandbox(limit=NO_LIMIT)
    group_id = sandbox.account.add_group(GROUP, dynamic=True).id
    with tempfile.TemporaryDirectory() as parent, sandbox.serve():
        folder = Path(parent, "work")
        working = Working(PEERS[name], folder, url=sandbox.url, group_id=group_id)
        before, after = (list(rows) for rows in (people(count), day_after(count, gone=True)))
        changed = [row[1] for row in after if row[4].endswith(" Ltd")]
        unchanged = [row[1] for row in after if int(row[0]) % 100 == 60]
        left = {row[1] for row in before} - {row[1] for row in after}
        deleted = {*changed[:3], *unchanged[:3]}
        for work in works(folder, count):
            if work == "file touched":
                for email in (*changed[:6], *unchanged[:6]):
                    sandbox.account.opt_out(email)
            elif work != "first load":
                for email in deleted:
                    sandbox.account.remove(email)
            working.run()
        found = differences(folder / "people.csv", sandbox, left=left, deleted=deleted)
    print(f"{name:<8}" + "".join(f"{number:>15,}" for number in found.values()), flush=True)


def differences(
    path: Path, sandbox: "Sandbox", *, left: set[str], deleted: set[str]
) -> dict[str, int]:
    """How many people are not as they should be. deleted: who opted out, and was deleted by hand after that."""
    held = sandbox.account.contacts_by_email()
    members = sandbox.account.members(GROUP)
    with path.open(newline="", encoding="utf-8") as file:
        wanted = {row["email"]: row for row in csv.DictReader(file)}
    mails = Counter(sandbox.account.mailed())
    return {
        "missing": len(wanted.keys() - deleted - held.keys()),
        "old values": sum(
            any(held[email][ours] != row[theirs] for ours, theirs in FIELDS.items())
            for email, row in wanted.items()
            if email in held
        ),
        "not in group": sum(
            email not in members
            for email in wanted
            if email in held and held[email]["status"] == "active"
        ),
        "left, in group": len(left & members),
        "too many": len(held.keys() - wanted.keys() - left),
        "doubled": len(sandbox.account.contacts) - len(held),
        "opted out, back": len(deleted & held.keys()),
        "mailed twice": sum(times > 1 for times in mails.values()),
    }


FIGURES = {
    "requests": 9,
    "contacts": 10,
    "s at limit": 12,
    "wall s": 9,
    "cpu s": 9,
    "start s": 9,
    "us a row": 10,
    "MiB": 7,
}
CHECKS = ("missing", "old values", "not in group", "left, in group", "too many", "doubled", "opted out, back", "mailed twice")  # fmt: skip


def main() -> None:
    """The figures of everybody who is asked for, then what FluenzR holds."""
    numbers = [int(re.sub("[_,]", "", text)) for text in sys.argv[1:] if text[0].isdigit()]
    names = [text for text in sys.argv[1:] if not text[0].isdigit()] or list(PEERS)
    count = numbers[0] if numbers else 20_000
    install()
    print(f"{count:,} people; seconds at 1000 requests a minute are computed from the requests")
    print(
        f"{'peer':<8}{'work':<36}"
        + "".join(f"{title:>{width}}" for title, width in FIGURES.items()),
        flush=True,
    )
    for name in names:
        measure(name, count)
    print(
        f"\n{CHECKED_WITH:,} people in the sandbox, after the same three runs: how many are wrong"
    )
    print(f"{'peer':<8}" + "".join(f"{title:>15}" for title in CHECKS), flush=True)
    for name in names:
        check(name, CHECKED_WITH)


if __name__ == "__main__":
    main()
