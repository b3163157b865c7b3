"""Reading everything in the order in which it was made, each page by a question of its own: from where the last one ended.

A page by offset passes over rows when others go meanwhile, and a cursor may end before the rows do. The time at which an object was made
never changes, so nothing moves between two pages, whatever comes, goes or is changed. Source: connectors reference, "Three rules that
hold for nearly every vendor", 2.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from syncd.errors import SourceError
from syncd.http.paging import Trail

INSTANT = timedelta(milliseconds=1)  # what is asked by: a finer time may be rounded up by a vendor
COARSE = timedelta(seconds=1)  # few vendors say how exactly they compare; none is coarser

Row = dict[str, Any]
Stretch = Callable[[datetime | None], tuple[list[Row], bool]]


def within(moment: datetime, instant: datetime | None) -> bool:
    """Whether this moment is still of the instant that was asked for, so that the same question would bring the same page again."""
    return instant is not None and moment < instant + INSTANT


def keyset(
    stretch: Stretch,
    *,
    key: Callable[[Row], str],
    made: Callable[[Row], datetime],
    what: str,
) -> Iterator[list[Row]]:
    """Pages of rows, each row once, by the time of their making.

    stretch: the rows that were made at a time or later (None: from the beginning), in order, and whether there may be more; where all rows
    of a page are `within` that time, it adds those of the next pages. It raises SourceError, and so does this where the order is not kept.
    """
    anchor: datetime | None = None
    seen: dict[str, datetime] = {}
    trail, count = Trail(what), 0
    while True:
        trail.step(count := count + 1)  # only so that there is an end to everything
        rows, more = stretch(anchor)
        times = [made(row) for row in rows]
        before = anchor is not None and bool(times) and times[0] < anchor - COARSE
        if before or any(one > other for one, other in pairwise(times)):
            raise SourceError(
                f"{what}: the rows do not come in the order in which they were made",
                hint="Nothing is lost: the next run reads it anew",
            )
        ids = [key(row) for row in rows]
        fresh = [row for one, row in dict(zip(ids, rows, strict=True)).items() if one not in seen]
        yield fresh
        if not more or not fresh:
            return
        anchor = times[-1].replace(microsecond=times[-1].microsecond // 1000 * 1000)
        seen |= dict(zip(ids, times, strict=True))
        oldest = anchor - COARSE
        seen = {one: moment for one, moment in seen.items() if moment >= oldest}
