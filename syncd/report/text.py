"""Where output goes, and how numbers, times and tables are written.

stdout is the answer, stderr is talk. Colour is decoration: on a terminal only, never where NO_COLOR is
set, and nothing is said by it alone. What comes from a source or from FluenzR is shown without its
control characters, which could repaint somebody's terminal.
"""

import contextlib
import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from syncd.errors import SyncdError

CELL_CHARS_MAX = 60  # of one value in a table or a change; a longer one is cut and says so
STYLES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "dim": "2"}


def say(text: str = "") -> None:
    """One line of the answer, to stdout."""
    _write(sys.stdout, text + "\n")


def talk(text: str = "") -> None:
    """One line beside the answer, to stderr. Where nobody can hear it, that changes nothing."""
    with contextlib.suppress(SyncdError):
        _write(sys.stderr, text + "\n")


def raw(text: str) -> None:
    """A piece of the answer that is not a line of its own."""
    _write(sys.stdout, text)


def say_json(value: Any) -> None:
    """One object of the answer on a line of its own."""
    say(as_json(value))


def as_json(value: Any) -> str:
    """Compact JSON; what JSON does not know (a date, a decimal) as text."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        _abandon(stream)  # whoever read it (`| head`) has seen enough; the work goes on
    except OSError as problem:
        _abandon(stream)
        raise SyncdError(
            "The answer cannot be written",
            why=problem.strerror or str(problem),
            hint="What was asked for may be done all the same: see `syncd history`",
        ) from None


def flush() -> None:
    """Nothing waits in the buffers any more; what cannot be written is dropped, and was told before."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _abandon(stream)


def _abandon(stream: TextIO) -> None:
    """What is written from now on, and what still waits in the buffer, goes nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def style(text: str, name: str, *, stream: TextIO | None = None) -> str:
    """The text in a colour, where colours are seen."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{STYLES[name]}m{text}\x1b[0m"


def error(problem: SyncdError) -> None:
    """What happened, why, and what to do next, each on a line of its own."""
    talk(f"{style('error:', 'red', stream=sys.stderr)} {clean(problem.what, lines=True)}")
    if problem.why:
        talk(f"  why: {clean(problem.why, lines=True)}")
    if problem.hint:
        talk(f"  next: {clean(problem.hint, lines=True)}")


def failures(found: Iterable[tuple[str, str | None]], *, json: bool) -> None:
    """(sync, its error or None): the errors, beside an answer that may go to a file or a program.

    Not on a terminal that shows the answer in words, and so has them already. Elsewhere stderr is a log: no address stands in it.
    """
    from syncd.log import without_addresses

    if json or not sys.stdout.isatty():
        for sync, problem in found:
            if problem:
                words = clean(without_addresses(problem))
                talk(f"{style('error:', 'red', stream=sys.stderr)} {clean(sync)}: {words}")


def bug(reference: str, problem: BaseException) -> None:
    """Something that we did not foresee; the traceback stands in the log, at the level debug."""
    talk(f"{style('error:', 'red', stream=sys.stderr)} this is our bug (reference {reference})")
    talk(f"  why: {type(problem).__name__}")
    talk("  next: run it again with `syncd --debug ...` and report what stands in the log;")
    talk("        nothing that was sent is lost: the next run reads it back first")


def clean(text: str, *, lines: bool = False) -> str:
    """The text without control characters; `lines`: line ends stay."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or (lines and c == "\n") else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def shown(value: Any) -> str:
    """A value of a field, as people read it."""
    if value is None or value == "":
        return "(empty)"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = clean(str(value))
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def count(number: int, one: str = "", many: str = "") -> str:
    """1,234; or with its noun: "1 person", "1,234 people"."""
    if not one:
        return f"{number:,}"
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def people(number: int) -> str:
    """So many people."""
    return count(number, "person", "people")


def duration(seconds: float) -> str:
    """0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 days."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    if whole < 2 * 86400:
        return f"{whole // 3600} h" + (f" {whole % 3600 // 60} min" if whole % 3600 // 60 else "")
    return count(whole // 86400, "day")


def moment(epoch_s: float) -> str:
    """A time of the local clock, to the second."""
    return datetime.fromtimestamp(epoch_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def ago(epoch_s: float, *, now_s: float) -> str:
    """ "5 min ago", "in 3 min", "just now": roughly, with one unit."""
    seconds = abs(now_s - epoch_s)
    if seconds < 5:
        return "just now"
    units = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
    size, name = next((size, name) for size, name in units if seconds >= size)
    words = count(int(seconds // size), name)
    return f"in {words}" if epoch_s > now_s else f"{words} ago"


def iso(epoch_s: float | None) -> str | None:
    """A time for programs: ISO 8601, UTC."""
    if epoch_s is None:
        return None
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def table(
    rows: Iterable[Sequence[str]], headers: Sequence[str] = (), *, right: Iterable[int] = ()
) -> list[str]:
    """Lines of aligned columns, at any width: nothing is cut because a pipe has no width.

    right: columns of numbers. The last column is not padded.
    """
    cells = [[clean(cell) for cell in row] for row in rows]
    if headers and cells:
        cells.insert(0, list(headers))
    aligned = set(right)
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    lines = []
    for number, row in enumerate(cells):
        parts = []
        for column, cell in enumerate(row):
            gap = " " * (widths[column] - width(cell))
            parts.append(gap + cell if column in aligned else cell + gap)
        text = "  ".join(parts).rstrip()
        lines.append(style(text, "bold") if headers and number == 0 else text)
    return lines


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
