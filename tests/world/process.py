"""One process of the engine: in this one, ended by an exception, or forked and ended by SIGKILL; and the disk it writes to.

Whatever command it is, it ends by itself, is told to stop, dies, meets a jump of its clock, or a full disk.
"""

import contextlib
import ctypes
import itertools
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from syncd.errors import Interrupted, StateError, SyncdError
from syncd.sandbox.faults import Drop, Effect, Late
from world.clock import RunClock
from world.judge import TICK_S
from world.truth import Violation

if TYPE_CHECKING:
    from world.model import World

Command = Callable[[RunClock], Any]
HOUR_S = 3600.0
JUMPS_S = (-20 * HOUR_S, -5 * HOUR_S, -1 * HOUR_S, -90.0, 90.0, 24 * HOUR_S, 72 * HOUR_S)
AHEAD_S_MAX = 96 * HOUR_S  # what a clock that was ahead has put off comes within the quiet runs
DISK_BYTES = 32 * 1024 * 1024
LEFT_BYTES = (0, 0, 4096, 20_000, 100_000)  # of a full disk, or until a file is too large
PART_BYTES = 1024 * 1024
MNT_DETACH = 2
ATTEMPTS_IN_WEATHER = 4  # of one command; then the weather clears, so that each ends
FULL = re.compile(r"disk|room|space|too large", re.IGNORECASE)  # words that say what is wrong


class Crash(BaseException):
    """The process dies here."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command ended with an error of ours."""

    kind: type[SyncdError]
    words: str


class Disk:
    """The state's own small file system. Where none may be mounted, the size of files is limited instead."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self._ballast = folder, folder / "ballast"
        self.file_bytes_max: int | None = None  # for the next process, where nothing is mounted
        mount = shutil.which("mount")
        command = [mount or "", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
        done = mount and subprocess.run(command, check=False, capture_output=True)
        self.mounted = self.was_mounted = bool(done and done.returncode == 0)

    def fill(self, left: int) -> None:
        """Leave so many bytes."""
        if not self.mounted:
            sizes = [file.stat().st_size for file in self.folder.iterdir()]
            self.file_bytes_max = max(sizes, default=0) + left
            return
        with self._ballast.open("wb") as file, contextlib.suppress(OSError):
            while (room := shutil.disk_usage(self.folder).free - left) > 0:
                # In parts: whoever writes at the same moment takes room as well.
                os.posix_fallocate(file.fileno(), file.tell(), min(room, PART_BYTES))
                file.seek(0, os.SEEK_END)

    def free(self) -> None:
        """Somebody has made room."""
        self._ballast.unlink(missing_ok=True)
        self.file_bytes_max = None

    def close(self) -> None:
        """Leave no mount behind."""
        if self.mounted:
            ctypes.CDLL(None).umount2(str(self.folder).encode(), MNT_DETACH)
            self.mounted = False


class Engine:
    """Starts commands of the product. Its clock may be ahead of FluenzR's."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.ahead_s = 0.0

    def carry_out(
        self,
        command: Command,
        rng: random.Random,
        *,
        share: float,
        duty: str = "sync",
        hands: bool = True,
    ) -> Any:
        """Until it ends by itself, or is left dead: the next command comes later. share: of the requests that go wrong.

        What it returned, a Refusal, or None when it was left dead. hands: people may be busy meanwhile. Raises Violation.
        """
        world, judge = self._world, self._world.judge
        judge.hands = random.Random(rng.random()) if share and hands else None
        world.time.tick(TICK_S)
        judge.run_start_s, judge.in_run, judge.duty = world.time.now_s(), True, duty
        try:
            for attempt in itertools.count():
                stormy = share > 0 and attempt < ATTEMPTS_IN_WEATHER
                world.weather.draw(rng, share if stormy else 0.0, world.fired)
                dies = stormy and rng.random() < 0.4
                fills = stormy and not dies and world.disk is not None and rng.random() < 0.12
                result = self._start(command, rng, dies=dies, fills=fills)
                world.weather.clear(world.fired)
                world.time.tick(TICK_S)
                with judge.judging():
                    judge.look()
                judge.close()
                if fills:
                    result = self._after_full(result)
                if result is not None:
                    return result
                if rng.random() < world.jumpy * 2:  # the machine comes back with another time
                    self.ahead_s = self.jumped_s(rng)
                if rng.random() < 0.5:
                    return None
        finally:
            judge.in_run, judge.duty, judge.hands = False, "sync", None

    def _after_full(self, result: Any) -> Any:
        """Somebody has made room. None: it was noticed, and said in words."""
        world = self._world
        assert world.disk is not None
        world.disk.free()
        if not (isinstance(result, Refusal) and issubclass(result.kind, StateError)):
            return result
        if not FULL.search(result.words):
            raise Violation(f"I7 the disk was full, and the words were: {result.words}")
        world.fired["full disk"] += 1
        return None

    def _start(self, command: Command, rng: random.Random, *, dies: bool, fills: bool) -> Any:
        """One process: what the command returned, a Refusal, or None when it died or was told to stop.

        dies: it may die at any moment. fills: the disk fills up under it.
        """
        if self._world.forked:
            return self._forked(command, rng, dies=dies, fills=fills)
        return self._here(command, rng, dies=dies)

    def jumped_s(self, rng: random.Random) -> float:
        """Where the clock stands after one jump more; counted."""
        jump_s = rng.choice(JUMPS_S)
        if not -AHEAD_S_MAX < self.ahead_s + jump_s < AHEAD_S_MAX:
            jump_s = -self.ahead_s
        ahead_s = self.ahead_s + jump_s
        self._world.fired["clock back" if jump_s < 0 else "clock forward"] += 1
        self._world.say(f"  the clock jumps by {jump_s:g} s, to {ahead_s:g} s ahead")
        return ahead_s

    def _clock(
        self, rng: random.Random, end: Callable[[RunClock], None], *, dies: bool
    ) -> RunClock:
        """dies: it ends at one of the clock's calls; else the clock may jump there."""
        strike_at, chance = int(rng.expovariate(1 / 60)) + 1, rng.random()
        before_s, strike = self.ahead_s, end if dies else None
        if not dies and chance < self._world.jumpy:
            after_s = self.ahead_s = self.jumped_s(rng)

            def strike(clock: RunClock) -> None:
                clock.ahead_s = after_s

        return RunClock(self._world.time, ahead_s=before_s, strike_at=strike_at, strike=strike)

    def _here(self, command: Command, rng: random.Random, *, dies: bool) -> Any:
        world = self._world
        stops = rng.random() < 0.2
        clock = self._clock(rng, RunClock.stop if stops else _crash, dies=dies)
        try:
            return command(clock)
        except Crash:
            world.fired["crash"] += 1
            world.say("  CRASH")
        except Interrupted:
            world.fired["stop"] += 1
            world.say("  STOPPED")
        except SyncdError as error:
            world.say(f"  REFUSED {error}")
            return Refusal(type(error), str(error))
        return None

    # --- forked -----------------------------------------------------------------------------------------------

    def _forked(self, command: Command, rng: random.Random, *, dies: bool, fills: bool) -> Any:
        """The same in a process of its own, which is killed: at a request, or at any other moment."""
        world, by_request = self._world, dies and rng.random() < 0.6
        clock = self._clock(rng, _kill_myself, dies=dies and not by_request)
        if fills:
            self._fill(rng)
        reading, writing = os.pipe()
        with warnings.catch_warnings():  # the server's thread holds nothing now
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            self._child(command, clock, writing)
        os.close(writing)
        if by_request:
            fates: list[Effect] = [Drop(applied=False), Drop(applied=True), Late(after_s=100.0)]
            effect = rng.choice(fates)

            def kill() -> Effect:
                os.kill(child, signal.SIGKILL)
                return effect

            world.tap.kill, world.tap.kill_in = kill, int(rng.expovariate(1 / 12)) + 1
        with os.fdopen(reading, "rb") as pipe:
            said = pipe.read()
        _, status = os.waitpid(child, 0)
        world.tap.kill = world.tap.ambush = None
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, f"the child died of {status}"
            world.fired["crash"] += 1
            world.say("  KILLED")
            return None
        ended, result = pickle.loads(said)
        if not ended:
            raise RuntimeError(result)
        if isinstance(result, Refusal):
            world.say(f"  REFUSED {result.words}")
        return result

    def _fill(self, rng: random.Random) -> None:
        """The disk is full from the beginning, or from a request on."""
        disk, left = self._world.disk, rng.choice(LEFT_BYTES)
        assert disk is not None
        at = int(rng.expovariate(1 / 6))
        self._world.say(f"  the disk fills up at request {at}: {left} bytes are left")
        if at == 0 or not disk.mounted:
            disk.fill(left)
        else:
            self._world.tap.ambush, self._world.tap.ambush_in = lambda: disk.fill(left), at

    def _child(self, command: Command, clock: RunClock, writing: int) -> NoReturn:
        disk = self._world.disk
        if disk is not None and disk.file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (disk.file_bytes_max, disk.file_bytes_max))
        said: tuple[bool, Any]
        try:
            said = (True, command(clock))
        except SyncdError as error:
            said = (True, Refusal(type(error), str(error)))
        except BaseException:  # noqa: BLE001 - told by the parent
            said = (False, traceback.format_exc())
        os.write(writing, pickle.dumps(said))
        os._exit(0)


def _crash(_: RunClock) -> None:
    raise Crash


def _kill_myself(_: RunClock) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
