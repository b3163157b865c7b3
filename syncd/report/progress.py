"""The progress bar of a terminal: what phase a run is in, how far, how fast, and how much is left.

It implements `syncd.watch.Watch`; where stderr is no terminal, nobody looks on.
"""

import sys
from typing import TYPE_CHECKING, Self

from syncd.report.text import clean
from syncd.watch import Nobody, Watch

if TYPE_CHECKING:
    from rich.progress import TaskID

PHASES = {
    "read": "reading the source",
    "list": "listing FluenzR",
    "opt-outs": "reading FluenzR's opt-outs",
    "settle": "waiting until lost requests have settled",
    "check": "reading back",
    "upload": "sending",
    "copy": "copying the state",
}
REFRESH_PER_S = 8


def watcher(*, wanted: bool) -> "Bar | Silence":
    """A bar when it is wanted and stderr is a terminal; else nobody."""
    return Bar() if wanted and sys.stderr.isatty() else Silence()


class Silence(Nobody):
    """Nobody, for the same `with`."""

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


class Bar:
    """One bar, of the phase that is going on; gone when the run is over."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[detail]}", markup=False),
            console=Console(stderr=True),
            transient=True,
            refresh_per_second=REFRESH_PER_S,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def phase(self, sync: str, phase: str, total: int | None) -> None:
        """Start anew, with the words of this phase; 0 steps are as good as unknown."""
        self.done()
        words = PHASES.get(phase, phase)
        self._task = self._progress.add_task(
            clean(f"{sync}: {words}" if sync else words), total=total or None, rate="", detail=""
        )

    def advance(self, steps: int, *, detail: str = "") -> None:
        """Move on; the rate is that of the last half minute."""
        if self._task is None:
            return
        self._progress.advance(self._task, steps)
        speed = self._progress.tasks[0].speed
        fields = {"rate": f"{speed:,.0f}/s"} if speed else {}
        if detail:
            fields["detail"] = clean(detail)
        self._progress.update(self._task, **fields)  # type: ignore[arg-type]  # only fields

    def done(self) -> None:
        """Nothing is going on."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
