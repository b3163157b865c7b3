"""Whether a listing may be read newest first, and where that may stop: what proves its order, and what disproves it.

FluenzR's reference does not say that `updatedAt` moves when somebody opts out, that `sort=updatedAt` is taken, or honoured together
with a filter [?]. So the short way is taken only where all of it was seen to hold, again and again, in this account and for this
status; the first counter-example ends it. Even then the listing's own total must agree with the number of those who are known.
Times of contacts are FluenzR's, in epoch milliseconds; ours are epoch seconds, and only measure a day.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import pairwise

PASS_S_MAX = 24 * 3600  # everything is read once a day, whatever was proven
OVERLAP_MS = 10 * 60 * 1000  # commits come late, and `Date` and `updatedAt` are of different clocks
WITNESSES_MIN = 3  # one may have been edited by hand at the right moment
EDITED_SHARE_MAX = 0.1  # of those known before: where more were edited, a new time proves nothing
TAIL_SHARE = 0.2  # of a page: so many known ones must follow the newest
SKIM_PAGES_MAX = 10  # where more is new, all pages are hardly dearer


class Distrust(StrEnum):
    """Why newest first is not believed any more."""

    ORDER = "order"  # it was not newest first
    UNMOVED = "unmoved"  # somebody opted out, and `updatedAt` stayed where it was
    REFUSED = "refused"  # FluenzR does not sort by `updatedAt`


class Step(Enum):
    """What a page, newest first, leads to."""

    ENOUGH = 1  # whoever is on the other pages is known
    MORE = 2  # the next page
    ALL = 3  # the short way proves nothing today: all pages


@dataclass(frozen=True, slots=True)
class Entry:
    """One opted-out contact of a listing. key: of its id and its address, for both must be known."""

    key: int
    created_ms: int | None
    updated_ms: int | None


@dataclass(frozen=True, slots=True)
class Memory:
    """What the readings of one status have shown so far.

    known: the keys of everybody who was seen and is barred, sorted; None: no complete pass is there to build on.
    read_ms: FluenzR's clock before the last reading, at most; None without a Date. run: the run of that reading.
    newest_ms: the newest `updatedAt` of all. passed_s: our clock at the last complete pass.
    witnesses: how often somebody who opted out was seen to come first.
    """

    known: Sequence[int] | None = None
    read_ms: int | None = None
    newest_ms: int | None = None
    passed_s: int = 0
    run: int = 0
    witnesses: int = 0
    distrust: Distrust | None = None


def is_known(memory: Memory, key: int) -> bool:
    """Whether somebody was there, under this address, at an earlier reading."""
    known = memory.known or ()
    place = bisect_left(known, key)
    return place < len(known) and known[place] == key


def may_skim(memory: Memory, *, now_s: int, page_rows: int) -> bool:
    """Whether the short way may be tried: it has been proven, is shorter, and all was read less than a day ago."""
    proven = memory.distrust is None and memory.witnesses >= WITNESSES_MIN
    complete = memory.known is not None and 0 <= now_s - memory.passed_s < PASS_S_MAX
    dated = memory.read_ms is not None and memory.newest_ms is not None
    return proven and complete and dated and len(memory.known or ()) > page_rows


def after_page(
    memory: Memory,
    entries: Sequence[Entry],
    totals: Sequence[int | None],
    *,
    page_rows: int,
    is_last: bool,
) -> Step | Distrust:
    """What to do after so many pages, newest first. entries: of all of them; totals: what each page says of the whole listing.

    is_last: the last page was not full. A Distrust means all pages, now and from now on.
    """
    assert memory.read_ms is not None
    assert memory.newest_ms is not None
    times = [entry.updated_ms for entry in entries]
    falling = [time for time in times if time is not None]
    if not falling or len(falling) < len(times):
        return Step.ALL
    if not _falls(falling):
        return Distrust.ORDER
    if falling[0] < memory.newest_ms:
        return Step.ALL  # the newest has left, or this is another order
    floor_ms = memory.read_ms - OVERLAP_MS
    old = [entry for entry in entries if (entry.updated_ms or 0) < floor_ms]
    if not all(is_known(memory, entry.key) for entry in old):
        return Distrust.UNMOVED  # new among the old: the next one may be deeper than we look
    if is_last:
        return Step.ALL  # many have left: everything anew
    if len(old) < page_rows * TAIL_SHARE:
        return Step.MORE if len(totals) < SKIM_PAGES_MAX else Step.ALL
    newcomers = {entry.key for entry in entries if not is_known(memory, entry.key)}
    known_count = len(memory.known or ()) + len(newcomers)
    # FluenzR counts others than we know: somebody is hidden on another page, or somebody has left.
    return Step.ENOUGH if set(totals) == {known_count} else Step.ALL


def disproves(memory: Memory, entry: Entry, skimmed: Sequence[Entry]) -> Distrust | None:
    """What it means that a complete reading shows somebody who was not known before.

    skimmed: what newest first has shown just before, in its order; empty if that was not tried.
    """
    if memory.read_ms is None or entry.updated_ms is None:
        return None
    if entry.updated_ms < memory.read_ms - OVERLAP_MS:
        return (
            Distrust.UNMOVED
        )  # the person opted out since the last reading, and was changed before it
    if skimmed and all(entry.key != other.key for other in skimmed):
        newest, oldest = skimmed[0].updated_ms or 0, skimmed[-1].updated_ms or 0
        if oldest < entry.updated_ms < newest:
            return Distrust.ORDER  # should have stood between these
    return None


def is_moved(memory: Memory, entry: Entry) -> bool:
    """Whether somebody new was there before the last reading, and was changed since: opting out may have done that."""
    if memory.read_ms is None or entry.created_ms is None or entry.updated_ms is None:
        return False
    return entry.created_ms < memory.read_ms <= entry.updated_ms


def proves_little(memory: Memory, edited_count: int) -> bool:
    """Whether so many of those known before were edited since the last reading that a new time tells nothing."""
    return edited_count > len(memory.known or ()) * EDITED_SHARE_MAX


def trial(
    witnesses: Sequence[Entry], page: Sequence[Entry], newest_ms: int
) -> tuple[int, Distrust | None]:
    """How many of the witnesses a first page, newest first, shows where they belong; or that this is not its order.

    newest_ms: of all, as the complete pass just before has shown it.
    """
    times = [entry.updated_ms for entry in page]
    falling = [time for time in times if time is not None]
    if not falling or len(falling) < len(times):
        return 0, None
    if not _falls(falling) or falling[0] < newest_ms:
        return 0, Distrust.ORDER
    shown = {entry.key for entry in page}
    if any(w.key not in shown and (w.updated_ms or 0) > falling[-1] for w in witnesses):
        return 0, Distrust.ORDER
    # A page of one single time is in every order.
    seen = (w for w in witnesses if w.key in shown and (w.updated_ms or 0) > falling[-1])
    return len(list(seen)), None


def _falls(times: Sequence[int]) -> bool:
    return all(newer >= older for newer, older in pairwise(times))
