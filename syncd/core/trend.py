"""Trends out of running totals: what happened between two snapshots of a campaign. Pure.

A snapshot holds what a campaign has come to so far [D]; rates are not summed, but made anew of the counts of the interval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

COUNTED = ("sent", "delivered", "opened", "clicked", "replied", "bounced", "unsubscribed")  # [D]
Totals = Mapping[str, float | None]  # by the API's names; None: not told


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened from `start` until before `end` (days, YYYY-MM-DD). counts: by the API's names."""

    start: str
    end: str
    counts: dict[str, int]


def between(before: Totals, after: Totals) -> dict[str, int]:
    """How much each count has grown; one that FluenzR did not tell both times is left out.

    A total that has shrunk (FluenzR has corrected it) is no event: it counts as nothing.
    """
    found = {}
    for name in COUNTED:
        old, new = before.get(name), after.get(name)
        if old is not None and new is not None:
            found[name] = max(0, int(new) - int(old))
    return found


def intervals(days: Iterable[tuple[str, Totals]]) -> list[Interval]:
    """What happened between each two days (YYYY-MM-DD, oldest first) of which there are totals."""
    return [
        Interval(start, end, between(before, after))
        for (start, before), (end, after) in pairwise(days)
    ]


def grown(days: Sequence[tuple[str, Totals]], now: Totals) -> tuple[str, dict[str, int]] | None:
    """(since which day, how much) from the oldest of these days until now; None: there is no day."""
    if not days:
        return None
    day, before = days[0]
    return day, between(before, now)
