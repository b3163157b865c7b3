"""The small charts of the page, as numbers: where each bar stands. They are drawn by the template, on the server."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 60  # of the drawing, in its own units
GAP = 2
LEAST = 1.5  # what is not 0 can be seen, however small


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. kind: what it counts, for its colour."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of some days. base: where 0 is; top: the largest of all days, upwards or downwards."""

    bars: list[Bar]
    base: float
    top: int


def chart(days: Sequence[Sequence[tuple[str, int]]], *, below: str = "") -> Chart:
    """Each day's numbers upon each other; the kind `below` hangs down from the line.

    days: (kind, number) of each, the oldest first; numbers are 0 or more.
    """
    up = max((sum(n for kind, n in day if kind != below) for day in days), default=0)
    down = max((sum(n for kind, n in day if kind == below) for day in days), default=0)
    scale = HEIGHT / max(1, up + down)
    base = HEIGHT - down * scale
    step = WIDTH / max(1, len(days))
    bars = []
    for number, day in enumerate(days):
        over = base
        for kind, count in day:
            height = max(LEAST, count * scale)
            if not count:
                continue
            over -= 0 if kind == below else height
            y = base if kind == below else over
            bars.append(Bar(kind, round(number * step + GAP / 2, 2), round(max(0.0, y), 2),
                            round(step - GAP, 2), round(height, 2)))  # fmt: skip
    return Chart(bars, round(base, 2), max(up, down))
