"""Where the engine works: a folder, the sandbox, a clock, and whatever goes wrong with them.

One `Weather` is what happens to one process: faults of single requests, a death, a full disk, a clock that jumps, a source that
breaks half-way, somebody who does something in between. Everything that really happened is counted in `fired`.
"""

import contextlib
import re
import resource
import shutil
import sqlite3
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest.mock import patch

from syncd.errors import Interrupted
from syncd.sandbox import Faults, Quirks, Sandbox
from syncd.sandbox.app import App
from syncd.sandbox.exchange import Answer, Request
from syncd.sandbox.faults import Cut, Drop, Effect, Garbage, Late, Page, Rule, Slow, Throttle
from syncd.sandbox.faults import Status as Broken
from syncd.sandbox.limits import Limit
from syncd.sandbox.people import Account
from syncd.state.store import State
from syncd.testing.clock import FakeClock
from syncd.watch import Nobody

SETTLE_S = 120.0
TICK_S = 1.5  # between any two things that happen: `Date` has whole seconds
FRAME_BYTES = 4120  # of the write-ahead log, for one page
STATE_FILES = ("syncd.db", "syncd.db-wal", "syncd.db.forgotten", "syncd.db.installed")

Value = TypeVar("Value")

EFFECTS: dict[str, Effect] = {
    "drop before": Drop(applied=False), "drop after": Drop(applied=True),
    "late 20": Late(after_s=20.0), "late 110": Late(after_s=110.0),
    "500 before": Broken(status=500, applied=False), "500 after": Broken(status=500, applied=True),
    "502 before": Broken(status=502, applied=False), "503 after": Broken(status=503, applied=True),
    "page before": Page(applied=False), "page after": Page(applied=True),
    "garbage": Garbage(), "cut": Cut(), "slow body": Slow(seconds=0.01),
    "throttle": Throttle(retry_after_s=None), "throttle 70": Throttle(retry_after_s=70),
}  # fmt: skip


class Crash(BaseException):
    """The process dies here."""


class Violation(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong with the nth request of this method; kind: a name of EFFECTS."""

    kind: str
    method: str
    nth: int

    def rule(self, number: int) -> Rule:
        """For the sandbox. Only a change can take effect late."""
        method = "POST|PUT|DELETE" if self.kind.startswith("late") else self.method
        return Rule(
            name=f"{self.kind}#{number}", effect=EFFECTS[self.kind], method=method, nth={self.nth}
        )


@dataclass(frozen=True, slots=True)
class End:
    """How a process ends before its time: at the nth call of its clock, commit, phase or request."""

    kind: Literal["stop", "clock", "commit", "phase", "power before", "power after", "power late"]
    at: int


@dataclass(frozen=True, slots=True, repr=False)
class Weather:
    """What happens to one process. frames: what the disk still takes; jump: (at which call of the clock, by how many seconds).

    unreadable: nothing can be read of contacts whose number ends so. act: (at which request, index of what hands do).
    """

    faults: tuple[Fault, ...] = ()
    end: End | None = None
    frames: int | None = None
    jump: tuple[int, float] | None = None
    unreadable: str = ""
    undated: bool = False
    act: tuple[int, int] | None = None

    def __repr__(self) -> str:
        parts = (
            f"{part.name}={getattr(self, part.name)!r}"
            for part in fields(self)
            if getattr(self, part.name) != part.default
        )
        return f"Weather({', '.join(parts)})"

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong."""
        return self == Weather()


CALM = Weather()


class ProcessClock:
    """The engine's clock in one process. skew_s: its error against FluenzR's; `stopped` is not counted: it is asked in real time."""

    def __init__(self, time: FakeClock, called: Callable[[], None], skew_s: list[float]) -> None:
        self._time, self._called, self._skew_s = time, called, skew_s
        self._start_s = time.now_s()
        self._stop = threading.Event()

    def now_s(self) -> float:
        self._called()
        return self._time.now_s() + self._skew_s[0]

    def monotonic_s(self) -> float:
        self._called()
        return self._time.now_s() - self._start_s

    def sleep_s(self, seconds: float) -> None:
        self._called()
        if self._stop.is_set():
            raise Interrupted("Stopped on request")
        self._time.sleep_s(seconds)

    def stop(self) -> None:
        self._stop.set()

    def stopped(self) -> bool:
        return self._stop.is_set()


class Dying(Nobody):
    """Calls somebody when a phase begins."""

    def __init__(self, called: Callable[[], None]) -> None:
        self._called = called

    def phase(self, sync: str, phase: str, total: int | None) -> None:
        self._called()


class Tap(App):
    """The account's application, with the machine looking on at each request, also at one that gets lost."""

    def __init__(self, premises: "Premises") -> None:
        limit = Limit(premises.account.now_s, requests=1000, window="fixed")
        super().__init__(premises.account, faults=premises.faults, limit=limit, api_key=None)
        self._premises = premises

    def answer(self, request: Request) -> Answer:
        premises = self._premises
        with premises.account.lock:
            premises.time.advance_s(TICK_S)
            if premises.dead:
                return Answer(0, b"", dropped=True)
            self.settle(only_due=True)
            with premises.judging():
                premises.asked(request)
            effect = premises.struck_by_power()
            if effect is not None:
                answer = self._struck(request, effect)
                answer.dropped = True
            else:
                answer = super().answer(request)
            with premises.judging():
                premises.answered(request, answer)
            return answer


class Premises:
    """One account, one state, and their surroundings. asked, answered: the judge's, told of each request."""

    def __init__(self, folder: Path, host: Sandbox, quirks: Quirks) -> None:
        self.folder, self.quirks = folder, quirks
        self.path = folder / "syncd.db"
        self.time, self.skew_s = FakeClock(), [0.0]
        self.account = Account(self.time.now_s, quirks)
        self.faults = Faults()
        self.asked: Callable[[Request], None] = lambda request: None
        self.answered: Callable[[Request, Answer], None] = lambda request, answer: None
        self.act: Callable[[int], None] = lambda index: None
        self.dead = False
        self.violation: Violation | None = None
        self.fired: Counter[str] = Counter()
        self.trace: list[str] = []
        self._weather, self._counts = CALM, Counter[str]()
        self._disk_bytes = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        self._clock: ProcessClock | None = None
        self.tap = host.app = Tap(self)

    def say(self, text: str) -> None:
        """A line of the story."""
        self.trace.append(text)

    # --- the state, from outside --------------------------------------------------------------------------------

    def query(self, sql: str, *values: object, file: Path | None = None) -> list[sqlite3.Row]:
        """Rows of the state file; none while there is no state, or no table in it."""
        path = file or self.path
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            try:
                return db.execute(sql, values).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    return []
                raise

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that the state holds."""
        names = [row[0] for row in self.query("SELECT name FROM sqlite_master WHERE type='table'")]
        return {
            name: [tuple(row) for row in self.query(f"SELECT * FROM {name}")]
            for name in sorted(names)
        }

    def traces(self, word: str) -> list[str]:
        """Which files of the state hold this address, in raw bytes; joann@ is not ann@."""
        pattern = re.compile(rb"(?<!jo)" + re.escape(word.encode()), re.IGNORECASE)
        files = [file for file in self.folder.iterdir() if file.name.startswith(self.path.name)]
        return [file.name for file in files if pattern.search(file.read_bytes())]

    def busy(self, email: str, rid: str = "") -> bool:
        """Whether something of this contact is in flight: a read could not tell who did what to it."""
        sql = "SELECT 1 FROM contact WHERE inflight IS NOT NULL AND (rid=? OR email=? OR move_to=?)"
        return bool(self.query(sql, rid, email, email))

    def lose(self, *more: str) -> None:
        """The database is gone; with `more`, its neighbours too."""
        for suffix in ("", "-wal", "-shm", ".scratch", *more):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def back_up(self) -> None:
        """A copy, as an operator makes it: of the database alone."""
        copy_of = self.folder / "backup.db"
        copy_of.unlink(missing_ok=True)
        with closing(sqlite3.connect(self.path)) as db, closing(sqlite3.connect(copy_of)) as copy:
            db.backup(copy)

    def restore(self) -> None:
        """The copy stands in the state's place."""
        self.lose()
        shutil.copy(self.folder / "backup.db", self.path)

    # --- one process --------------------------------------------------------------------------------------------

    def process(
        self, weather: Weather, work: Callable[[ProcessClock, Nobody], Value]
    ) -> Value | None:
        """Do this in this weather. None: the process died, or was told to stop. Raises what the engine raises, and Violation."""
        self._weather, self._counts, self.dead = weather, Counter(), False
        clock = self._clock = ProcessClock(self.time, self._clock_called, self.skew_s)
        value = None
        self.time.advance_s(TICK_S)
        self._set_faults(weather)
        try:
            with self._deadly_commits(), self._small_disk(weather.frames):
                value = work(clock, Dying(self._phase_begun))
        except Crash:
            self._count("crash")
        except Interrupted:
            self._count("stop")
        finally:
            self._clock = None
            self._clear_faults()
            self.time.advance_s(TICK_S)
            if self.dead:
                self._come_back()
        if self.violation is not None:
            raise self.violation
        return None if self.dead else value

    @contextmanager
    def judging(self) -> Iterator[None]:
        """A violation seen by the server's thread is raised when the process is over."""
        try:
            yield
        except Violation as violation:
            self.violation = self.violation or violation

    def _count(self, kind: str) -> None:
        self.fired[kind] += 1
        self.say(f"    !! {kind}")

    def _set_faults(self, weather: Weather) -> None:
        self.faults.clear()
        self.faults.fired.clear()
        self.faults.add(*(fault.rule(number) for number, fault in enumerate(weather.faults)))
        if weather.unreadable:
            path = rf"/contacts/con_\d*[{weather.unreadable}]"
            effect = Broken(status=503, applied=False)
            self.faults.add(Rule(name="unreadable#", effect=effect, method="GET", path=path))
        if weather.undated and self.quirks.date_header:
            self.fired["no date"] += 1
            self.account.quirks = replace(self.quirks, date_header=False)

    def _clear_faults(self) -> None:
        for name, times in self.faults.fired.items():
            self.fired[name.partition("#")[0]] += times
        self.faults.clear()
        self.account.quirks = self.quirks

    def _due(self, name: str, end: str) -> bool:
        self._counts[name] += 1
        found = self._weather.end
        return found is not None and found.kind == end and self._counts[name] == found.at

    def _clock_called(self) -> None:
        if self.dead or self._clock is None:
            return
        if self._due("stop", "stop"):
            self._clock.stop()
        jump = self._weather.jump
        if jump is not None and self._counts["stop"] == jump[0]:
            self.skew_s[0] += jump[1]
            self._count("clock jump back" if jump[1] < 0 else "clock jump forward")
        if self._due("clock", "clock"):
            raise Crash

    def _phase_begun(self) -> None:
        if self._due("phase", "phase"):
            raise Crash

    @contextmanager
    def _deadly_commits(self) -> Iterator[None]:
        """The process may die right after any commit; the commit itself is the engine's own."""
        real, due = State.tx, self._due

        @contextmanager
        def tx(state: State, *, scratch_only: bool = False) -> Iterator[None]:
            with real(state, scratch_only=scratch_only):
                yield
            if due("commit", "commit"):
                raise Crash

        if self._weather.end is None or self._weather.end.kind != "commit":
            yield
        else:
            with patch.object(State, "tx", tx):
                yield

    @contextmanager
    def _small_disk(self, frames: int | None) -> Iterator[None]:
        """No file grows beyond the database and so many frames of its log."""
        if frames is None:
            yield
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._disk_bytes, compiles = soft, sys.dont_write_bytecode
        sys.dont_write_bytecode = True  # the limit would cut compiled modules short
        resource.setrlimit(resource.RLIMIT_FSIZE, (frames * FRAME_BYTES, hard))
        try:
            yield
        finally:
            self._large_disk()
            sys.dont_write_bytecode = compiles

    def _large_disk(self) -> None:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._disk_bytes, hard))

    # --- power --------------------------------------------------------------------------------------------------

    def struck_by_power(self) -> Effect | None:
        """At each request: whether the machine goes dark now, and what becomes of the request; hands may act at this moment, too."""
        act = self._weather.act
        self._counts["asked"] += 1
        if act is not None and self._counts["asked"] == act[0]:
            self.act(act[1])
        effects: dict[str, Effect] = {
            "power before": Drop(applied=False),
            "power after": Drop(applied=True),
            "power late": Late(after_s=100.0),
        }
        end = self._weather.end
        if end is None or end.kind not in effects or end.at != self._counts["asked"]:
            return None
        self._count("power cut")
        self._large_disk()
        cut = self.folder / "cut"
        shutil.rmtree(cut, ignore_errors=True)
        cut.mkdir()
        for name in STATE_FILES:  # its own thread waits for this answer, so nobody writes now
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.folder / name, cut / name)
        self.dead = True
        return effects[end.kind]

    def _come_back(self) -> None:
        """Whatever the dead process did since the power went: it never did."""
        self.lose(".forgotten", ".installed")
        for name in STATE_FILES:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(self.folder / "cut" / name, self.folder / name)
