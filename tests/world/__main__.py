"""Live many worlds, or tell one."""

import argparse
import dataclasses
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import structlog

from syncd.sandbox import Sandbox
from world import FAULT_KINDS, KEY, STEP_KINDS, live_one, one_certificate, small_limits
from world.model import World

ENOUGH = 100  # worlds, in which everything must have happened; so often it is told how far it is
WORDS_MAX = 1500
FIGURES = {
    "lost": ("I1",),
    "doubled": ("I6", "I8"),
    "mailed twice": ("I5",),
    "opt-outs weakened": ("I4",),
}


@dataclasses.dataclass(slots=True)
class Tally:
    """What happened in all worlds so far. failed: invariant -> seeds."""

    begun_s: float = dataclasses.field(default_factory=time.monotonic)
    worlds: int = 0
    fired: Counter[str] = dataclasses.field(default_factory=Counter)
    judged: Counter[str] = dataclasses.field(default_factory=Counter)
    failed: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    mounted: bool = True

    def add(self, world: World, wrong: str) -> None:
        """One world more. wrong: what was, empty for nothing."""
        self.worlds += 1
        self.fired += world.fired
        self.judged += world.judged
        self.mounted &= world.disk is None or world.disk.was_mounted
        if wrong:
            self.failed.setdefault(wrong.split()[0], []).append(world.seed)

    def lines(self) -> Iterator[str]:
        """How many worlds broke which promise, and what happened in them."""
        known = {n: sum(len(self.failed.get(i, ())) for i in ids) for n, ids in FIGURES.items()}
        known["other"] = sum(map(len, self.failed.values())) - sum(known.values())
        figures = ", ".join(f"{name} {count}" for name, count in known.items())
        yield f"{self.worlds} schedules, {time.monotonic() - self.begun_s:.0f} s: {figures}"
        yield f"failed: {self.failed}"
        yield f"judged: {dict(sorted(self.judged.items()))}"
        yield f"happened: {dict(sorted(self.fired.items()))}"
        if not self.mounted:
            yield "No file system may be mounted here: instead of filling a disk, the size of files was limited"

    def missed(self, *, forked: bool) -> list[str]:
        """What should have happened and did not. In a forked world nothing is told to stop, and only there the disk fills up."""
        due = {*FAULT_KINDS, *STEP_KINDS, *(("full disk",) if forked else ())}
        due -= {"stop"} if forked else set()
        return sorted(kind for kind in due if not self.fired[kind]) if self.worlds >= ENOUGH else []


def tell(*lines: str) -> None:
    """Say something to whoever has started this."""
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()


def main() -> int:
    """0: every world ended well, and everything happened."""
    parser = argparse.ArgumentParser(prog="world", description="Random worlds against the engine")
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int, nargs="?", default=1)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--kill", action="store_true", help="forked processes, ended by SIGKILL")
    asked = parser.parse_args()
    small_limits(setattr, threads=4 if asked.kill else 1)
    os.environ["SYNCD_WORLD_KEY"] = KEY
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # leave no mount behind
    tally = Tally()
    home = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=home) as name, Sandbox().serve() as host:
        os.environ["SSL_CERT_FILE"] = one_certificate(Path(name))
        for seed in range(asked.first, asked.first + asked.count):
            folder = Path(name) / str(seed)
            world, wrong = live_one(
                seed, folder, host, runs=asked.runs, tracing=asked.trace, forked=asked.kill
            )
            shutil.rmtree(folder, ignore_errors=True)
            tally.add(world, wrong)
            if asked.trace:
                tell(*(world.trace or ()))
            if wrong:
                tell(f"{seed} {wrong if len(wrong) < WORDS_MAX else wrong[-WORDS_MAX:]}")
            if tally.worlds % ENOUGH == 0 and tally.worlds < asked.count:
                tell(next(tally.lines()))
    tell(*tally.lines())
    missed = tally.missed(forked=asked.kill)
    if missed:
        tell(f"never happened: {missed}")
    return bool(tally.failed or missed)


if __name__ == "__main__":
    sys.exit(main())
