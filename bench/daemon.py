"""Whether a daemon stays as small as it was: a thousand runs, a tenth of them with a reload, memory and open files at points on the way.

    python bench/daemon.py [RUNS]        (1,000 when nothing is given)

The daemon lives in this process, on a clock whose seconds are free: a run each quarter of an hour, 500 people, five of them changed
each time. FluenzR is `account.py` in another process. Memory is what is resident, once the collector of cycles has looked.
"""

import gc
import logging
import os
import queue
import sys
import tempfile
import threading
import time
from pathlib import Path

import structlog
from main_job import CONFIG, NO_LIMIT, Account, person, write

from syncd.daemon import Daemon
from syncd.notify import Notifier
from syncd.testing.clock import FakeClock

PEOPLE, CHANGED = 500, 5
SCHEDULE = '\n[sync.people]\nschedule = "every 15 minutes"\n'
PATIENCE_S = 60.0
POINTS = (0.05, 0.1, 0.25, 0.5, 1.0)
RELOAD_EVERY = 10
MIB = 1024 * 1024


class Turns(FakeClock):
    """Nobody sleeps in the middle of a tick, so what is due together is taken together."""

    def __init__(self) -> None:
        super().__init__(time.time())
        self.tick = threading.Lock()

    def sleep_s(self, seconds: float) -> None:
        with self.tick:
            super().sleep_s(seconds)


class Ear(Notifier):
    """Hears that nothing runs any more."""

    def __init__(self) -> None:
        super().__init__("")
        self.idle: queue.SimpleQueue[str] = queue.SimpleQueue()

    def status(self, words: str) -> None:
        if words.startswith("idle"):
            self.idle.put(words)


def change(path: Path, run: int) -> None:
    """The export of this run: other people have changed than the last time."""
    rows = (person(n, n, changed=(n + run) % (PEOPLE // CHANGED) == 0) for n in range(PEOPLE))
    write(path, rows, note=f"run {run}")


def resident_mib() -> float:
    """This process, now."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def main() -> None:
    """A line at each point."""
    runs = int(sys.argv[1].replace("_", "").replace(",", "")) if len(sys.argv) > 1 else 1000
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    os.environ["BENCH_KEY"] = "flz_sk_" + "0" * 32
    print(
        f"{'runs':<8}{'memory MiB':>12}{'files':>8}{'threads':>9}{'ms CPU a run':>14}{'state KiB':>11}"
    )
    with tempfile.TemporaryDirectory() as name, Account() as account:
        folder = Path(name)
        config = folder / "config.toml"
        text = CONFIG.format(url=account.url, state="syncd.db", limit=NO_LIMIT)
        config.write_text(text.replace("\n[sync.people]\n", SCHEDULE))
        change(folder / "people.csv", 0)
        clock, ear = Turns(), Ear()
        daemon = Daemon(config, clock=clock, notifier=ear)
        with clock.tick:
            daemon.start()
        ear.idle.get(timeout=PATIENCE_S)
        ear.idle.get(timeout=PATIENCE_S)
        points = [round(runs * point) for point in POINTS]
        last, before_s = 0, time.process_time()
        for run in range(1, runs + 1):
            change(folder / "people.csv", run)
            if run % RELOAD_EVERY == 0:
                with clock.tick:
                    daemon.reload()
                ear.idle.get(timeout=PATIENCE_S)
                ear.idle.get(timeout=PATIENCE_S)
            done = account.seen()["contacts"]
            while account.seen()["contacts"] == done:  # the statistics of an hour are no run
                while (pause_s := daemon.pause_s()) > 0:
                    clock.advance_s(pause_s)
                with clock.tick:
                    daemon.tick()
                ear.idle.get(timeout=PATIENCE_S)
            if run in points:
                spent_s = time.process_time() - before_s
                files, threads = (
                    len(list(Path("/proc/self/fd").iterdir())),
                    threading.active_count(),
                )
                state = (folder / "syncd.db").stat().st_size / 1024
                print(
                    f"{run:<8}{resident_mib():>12.1f}{files:>8}{threads:>9}{spent_s * 1000 / (run - last):>14.0f}{state:>11.0f}",
                    flush=True,
                )
                last, before_s = run, time.process_time()
        clock.stop()
        daemon.stop()


if __name__ == "__main__":
    main()
