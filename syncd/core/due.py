"""When a sync starts first, after the daemon came up or its configuration changed.

Afterwards the schedule is simply kept. What the next moment of a cron expression is, is not decided
here: that is given as a function.
"""

from collections.abc import Callable
from typing import assert_never

from syncd.core.schedule import Cron, Every, Schedule


def first_start_s(
    schedule: Schedule,
    *,
    completed_s: float | None,
    now_s: float,
    next_s: Callable[[Cron, float], float],
) -> float:
    """Epoch seconds of the first start of a daemon that comes up at `now_s`; `now_s`: at once.

    completed_s: the end of the last completed run; None when there was none. One in the future (a
    clock that was wrong) counts as now. next_s: the first moment of a cron expression that is
    later than the given one.
    """
    done_s = None if completed_s is None else min(completed_s, now_s)
    match schedule:
        case Every(seconds):
            # never completed, or longer ago than the interval: at once
            return now_s if done_s is None else max(now_s, done_s + seconds)
        case Cron():
            # one catch-up, however many moments passed while nothing ran
            if done_s is not None and next_s(schedule, done_s) <= now_s:
                return now_s
            return next_s(schedule, now_s)
    assert_never(schedule)
