"""Reading everything in the order in which it was made, whatever comes, goes or is compared how."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from syncd.errors import SourceError
from syncd.http import keyset, parse_time, within

START = datetime.fromisoformat("2026-01-01T00:00:00+00:00")


def row(key: str, seconds: float) -> dict[str, Any]:
    return {"id": key, "at": (START + timedelta(seconds=seconds)).isoformat()}


def made(one: dict[str, Any]) -> datetime:
    found = parse_time(one["at"])
    assert found is not None
    return found


def pages(stretch: Any) -> list[list[str]]:
    found = keyset(stretch, key=lambda one: one["id"], made=made, what="Acme")
    return [[one["id"] for one in page] for page in found]


def server(rows: list[dict[str, Any]], size: int, *, grain_s: float = 1e-6) -> Any:
    """Pages of this size; times are compared in steps of `grain_s`."""

    def stretch(anchor: datetime | None) -> tuple[list[dict[str, Any]], bool]:
        ordered = sorted(rows, key=made)
        if anchor is not None:
            from_s = (anchor - START).total_seconds() // grain_s * grain_s
            ordered = [
                one for one in ordered if (made(one) - START).total_seconds() >= from_s - 1e-9
            ]
        count = size
        while count < len(ordered) and within(made(ordered[count - 1]), anchor):
            count += size
        return ordered[:count], count < len(ordered)

    return stretch


@pytest.mark.parametrize("grain_s", [1e-6, 1e-3, 1.0])
@pytest.mark.parametrize("step_s", [0.0, 1e-5, 0.3, 5.0])
def test_every_row_comes_once_however_exactly_times_are_compared(
    grain_s: float, step_s: float
) -> None:
    rows = [row(f"{number}", number * step_s) for number in range(25)]
    found = [key for page in pages(server(rows, 4, grain_s=grain_s)) for key in page]
    assert sorted(found, key=int) == [f"{number}" for number in range(25)]


def test_rows_that_go_meanwhile_hide_nobody() -> None:
    rows = [row(f"{number}", number) for number in range(12)]
    ask, found = server(rows, 3), []
    for page in keyset(ask, key=lambda one: one["id"], made=made, what="Acme"):
        found += [one["id"] for one in page]
        del rows[0]
    assert set(found) >= {f"{number}" for number in range(4, 12)}


@pytest.mark.parametrize(
    "answers",
    [
        [[row("a", 5), row("b", 4)]],
        [[row("a", 0), row("b", 9)], [row("a", 0), row("c", 9)]],  # it did not heed from when
    ],
)
def test_another_order_is_an_error(answers: Any) -> None:
    left = iter(answers)
    with pytest.raises(SourceError, match=r"Acme: .* order"):
        pages(lambda _: (next(left), True))


def test_a_page_without_anything_new_is_the_last() -> None:
    assert pages(lambda _: ([row("a", 1), row("a", 1)], True)) == [["a"], []]
    assert pages(lambda _: ([], True)) == [[]]
