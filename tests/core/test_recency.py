"""When a listing newest first may end early, case by case: what proves its order, and what disproves it."""

from dataclasses import replace

import pytest

from syncd.core import recency
from syncd.core.recency import OVERLAP_MS, PASS_S_MAX, Distrust, Entry, Memory, Step

READ_MS = 1_000_000_000_000  # the last reading
FLOOR_MS = READ_MS - OVERLAP_MS
NOW_S = 2_000_000
ROWS = 10

KNOWN = Memory(
    known=range(100),
    read_ms=READ_MS,
    newest_ms=READ_MS - 5,
    passed_s=NOW_S - 60,
    run=7,
    witnesses=recency.WITNESSES_MIN,
)


def entry(key: int, updated_ms: int | None, created_ms: int | None = 1) -> Entry:
    return Entry(key, created_ms, updated_ms)


def page(*times: int | None, first: int = 0) -> list[Entry]:
    """Known people with these times, and as many older ones as make a page."""
    rest = range(ROWS - len(times))
    return [
        entry(first + n, time) for n, time in enumerate([*times, *(FLOOR_MS - 1 - n for n in rest)])
    ]


def verdict(entries: list[Entry], *totals: int | None, is_last: bool = False) -> Step | Distrust:
    return recency.after_page(KNOWN, entries, totals or (100,), page_rows=ROWS, is_last=is_last)


TOP = READ_MS - 5
NEW = entry(500, READ_MS + 5)


@pytest.mark.parametrize(
    ("entries", "total", "expected"),
    [
        (page(TOP), 100, Step.ENOUGH),
        ([NEW, *page(TOP)[:9]], 101, Step.ENOUGH),
        ([NEW, *page(TOP)[:9]], 100, Step.ALL),  # one has left
        (page(TOP), 101, Step.ALL),  # one is hidden
        (page(TOP), None, Step.ALL),
        (page(TOP - 1), 100, Step.ALL),  # the newest is not there
        (page(TOP, None), 100, Step.ALL),
        ([], 100, Step.ALL),
        (page(TOP, FLOOR_MS - 3, FLOOR_MS - 1), 100, Distrust.ORDER),
        ([*page(TOP)[:9], entry(500, FLOOR_MS - 50)], 101, Distrust.UNMOVED),
        ([*page(*[TOP] * 9)[:9], entry(500, FLOOR_MS - 1)], 101, Distrust.UNMOVED),
        (page(*[TOP] * 9), 100, Step.MORE),  # too few old ones to tell
        (page(*[TOP] * 8), 100, Step.ENOUGH),
        (page(TOP, *[FLOOR_MS] * 8), 100, Step.MORE),  # at the floor may still be new
    ],
)
def test_page_newest_first(
    entries: list[Entry], total: int | None, expected: Step | Distrust
) -> None:
    assert verdict(entries, total) is expected


def test_totals_must_agree_on_every_page() -> None:
    entries = [*page(*[TOP] * 10), *page(first=10)]
    assert verdict(entries, 100, 100) is Step.ENOUGH
    assert verdict(entries, 101, 100) is Step.ALL


def test_last_page_is_never_enough() -> None:
    assert verdict(page(TOP), is_last=True) is Step.ALL


def test_pages_newest_first_have_a_limit() -> None:
    entries = page(*[TOP] * ROWS)
    assert verdict(entries, *[100] * (recency.SKIM_PAGES_MAX - 1)) is Step.MORE
    assert verdict(entries, *[100] * recency.SKIM_PAGES_MAX) is Step.ALL


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (KNOWN, True),
        (Memory(), False),
        (replace(KNOWN, known=None), False),
        (replace(KNOWN, known=range(ROWS)), False),  # one page is all there is
        (replace(KNOWN, read_ms=None), False),
        (replace(KNOWN, newest_ms=None), False),
        (replace(KNOWN, witnesses=recency.WITNESSES_MIN - 1), False),
        (replace(KNOWN, distrust=Distrust.ORDER), False),
        (replace(KNOWN, passed_s=NOW_S - PASS_S_MAX + 1), True),
        (replace(KNOWN, passed_s=NOW_S - PASS_S_MAX), False),
        (replace(KNOWN, passed_s=NOW_S + 1), False),  # our clock was set back
    ],
)
def test_short_way_may_be_tried(memory: Memory, expected: bool) -> None:
    assert recency.may_skim(memory, now_s=NOW_S, page_rows=ROWS) is expected


SKIMMED = [entry(500, READ_MS + 9), entry(1, TOP), entry(2, FLOOR_MS - 5)]


@pytest.mark.parametrize(
    ("found", "skimmed", "expected"),
    [
        (entry(600, FLOOR_MS - 1), [], Distrust.UNMOVED),
        (entry(600, FLOOR_MS), [], None),  # a commit that came late
        (entry(600, READ_MS + 1), [], None),
        (entry(600, READ_MS + 1), SKIMMED, Distrust.ORDER),
        (entry(600, READ_MS + 10), SKIMMED, None),  # since then
        (entry(500, READ_MS + 9), SKIMMED, None),  # it was shown
        (entry(600, None), SKIMMED, None),
    ],
)
def test_somebody_new_in_a_complete_pass(
    found: Entry, skimmed: list[Entry], expected: Distrust | None
) -> None:
    assert recency.disproves(KNOWN, found, skimmed) is expected


@pytest.mark.parametrize(
    ("created_ms", "updated_ms", "expected"),
    [
        (READ_MS - 1, READ_MS, True),
        (READ_MS, READ_MS + 1, False),  # made since
        (1, READ_MS - 1, False),  # changed before
        (None, READ_MS, False),
        (1, None, False),
    ],
)
def test_moved_by_opting_out(
    created_ms: int | None, updated_ms: int | None, expected: bool
) -> None:
    assert recency.is_moved(KNOWN, entry(600, updated_ms, created_ms)) is expected


WITNESS = entry(600, READ_MS + 9)


@pytest.mark.parametrize(
    ("first_page", "expected"),
    [
        ([WITNESS, entry(1, TOP), entry(2, FLOOR_MS)], (1, None)),
        ([entry(1, READ_MS + 20), WITNESS, entry(2, FLOOR_MS)], (1, None)),
        ([entry(1, READ_MS + 20), entry(2, FLOOR_MS)], (0, Distrust.ORDER)),  # it is not there
        ([entry(1, READ_MS + 20), entry(2, READ_MS + 10)], (0, None)),  # further down, maybe
        ([entry(1, TOP), WITNESS, entry(2, FLOOR_MS)], (0, Distrust.ORDER)),
        ([WITNESS, entry(1, FLOOR_MS), entry(2, TOP)], (0, Distrust.ORDER)),
        ([entry(1, TOP), entry(2, FLOOR_MS)], (0, Distrust.ORDER)),  # where is the newest?
        ([WITNESS, entry(1, READ_MS + 9)], (0, None)),  # one time is in every order
        ([WITNESS, entry(1, None)], (0, None)),
        ([], (0, None)),
    ],
)
def test_trial(first_page: list[Entry], expected: tuple[int, Distrust | None]) -> None:
    assert recency.trial([WITNESS], first_page, READ_MS + 9) == expected


def test_trial_must_begin_with_the_newest_of_all() -> None:
    page = [WITNESS, entry(1, TOP)]
    assert recency.trial([WITNESS], page, READ_MS + 10) == (0, Distrust.ORDER)


def test_edits_of_many_prove_little() -> None:
    assert not recency.proves_little(KNOWN, 10)
    assert recency.proves_little(KNOWN, 11)
