"""When a sync starts first, after the daemon came up or its configuration changed, and how long one that fails is left alone.

Otherwise the schedule is simply kept. What the next moment of a cron expression is, is not decided
here: that is given as a function.
"""

from collections.abc import Callable
from typing import assert_never

from syncd.core.schedule import Cron, Every, Schedule

REST_S_MIN, REST_S_MAX = 60.0, 3600.0


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


def rest_s(failures: int) -> float:
    """Seconds from the end of the last of so many failed runs in a row to the next try, where the schedule has one sooner.

    Nothing after the first: most failures are gone by the next run. Then twice as long each time, up to an hour: a source
    that is down for the night is not asked every minute, and what it says then is an hour old at most.
    """
    if failures < 2:
        return 0.0
    doublings = min(failures - 2, 16)  # beyond any limit, and no huge number
    return min(REST_S_MAX, REST_S_MIN * 2.0**doublings)
