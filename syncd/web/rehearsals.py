"""The plans that were asked for on the page: what the next run of a sync would send, old value and new.

A plan reads its source, which may take minutes, and holds the state meanwhile: so there is one at a time, and none that nobody has
asked for. The last one of each sync is kept until the process ends.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from syncd import run
from syncd.clock import Clock
from syncd.config_models import Settings
from syncd.core.change import Change
from syncd.core.result import PlanResult
from syncd.errors import SyncdError, UsageError
from syncd.log import told_bug
from syncd.watch import Nobody

KEPT_MAX = 100  # of those who would be mailed, and of the others; all of them are counted
WAIT_S = 600.0  # for a run that is at work

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A plan of one sync: at work while it has neither a result nor a problem. Times: epoch seconds.

    changes: the first ones, those who would be mailed before the others; count: of all.
    """

    began_s: float
    ended_s: float | None = None
    result: PlanResult | None = None
    problem: SyncdError | None = None
    changes: tuple[Change, ...] = ()
    count: int = 0


class Rehearsals:
    """The last plan of each sync; safe to use from several threads."""

    def __init__(self, settings: Callable[[], Settings], *, clock: Clock) -> None:
        """settings: asked for each plan, for a reload may have changed them."""
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._last: dict[str, Rehearsal] = {}
        self._at_work = ""

    def last(self, sync: str) -> Rehearsal | None:
        """The last plan of a sync; None: nobody has asked for one."""
        with self._lock:
            return self._last.get(sync)

    def start(self, sync: str) -> None:
        """Make one. Raises UsageError while another is being made."""
        with self._lock:
            if self._at_work:
                raise UsageError(
                    f"A plan of {self._at_work} is being made",
                    hint="Try it again when that is done",
                )
            self._at_work, self._last[sync] = sync, Rehearsal(self._clock.now_s())
        # A daemon thread: the end of the process does not wait for a source.
        threading.Thread(target=self._make, args=[sync], name="plan", daemon=True).start()

    def _make(self, sync: str) -> None:
        made = self._planned(sync, Rehearsal(self._clock.now_s()))
        with self._lock:
            self._at_work, self._last[sync] = "", replace(made, ended_s=self._clock.now_s())

    def _planned(self, sync: str, empty: Rehearsal) -> Rehearsal:
        mailed, others, count = list[Change](), list[Change](), 0

        def show(change: Change) -> None:
            nonlocal count
            count += 1
            kept = mailed if change.enrol else others
            if len(kept) < KEPT_MAX:
                kept.append(change)

        order = run.Order(names=(sync,), wait_s=WAIT_S)
        try:
            settings = self._settings()
            (result,) = run.plan(settings, order, clock=self._clock, watch=Nobody(), show=show)
        except SyncdError as error:
            return replace(empty, problem=error)
        except Exception as problem:  # noqa: BLE001 - told, and the rest goes on
            told_bug(log, problem, plan=sync)
            return replace(empty, problem=bug())
        return replace(empty, result=result, changes=(*mailed, *others), count=count)


def bug() -> SyncdError:
    """What somebody at the page is told of a bug."""
    return SyncdError("This is our bug", hint="Nothing was changed; the log says where")
