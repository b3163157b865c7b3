"""What `stats` says: a table for people, and the same as CSV, JSON lines or SQLite, by the names that FluenzR's API uses."""

import contextlib
import csv
import io
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from syncd.core.trend import COUNTED
from syncd.errors import SyncdError
from syncd.fluenzr.campaign_types import COUNTS
from syncd.report.campaigns import numbers
from syncd.report.text import as_json, clean, count, iso, raw, say, say_json, style, table, talk

if TYPE_CHECKING:
    from syncd.state.snapshots import Snapshot
    from syncd.statistics import Standing, Timeline

FACTS = ("id", "name", "status", "createdAt", "startedAt")
COLUMNS = (*FACTS, *COUNTS)
SHOWN = ("people", "sent", "opened", "clicked", "replied", "bounced")
GROWN = ("sent", "replied", "unsubscribed")  # how much of it is new, in the table


def standings(found: "Sequence[Standing]", *, days: int, json: bool) -> None:
    """Every campaign now, and how much of it is new."""
    if json:
        for one in found:
            say_json({**_row(one), "since": one.since, "grown": one.grown})
        return
    if not found:
        say("FluenzR has no campaigns. Next: syncd campaigns create FILE")
        return
    known = any(one.since for one in found)
    headers = standing_headers(known=known)
    rows = [standing_row(one, known=known) for one in found]
    for line in table(rows, headers, right=range(2, len(headers))):
        say(line)
    if known:
        oldest = min(one.since for one in found if one.since)
        say(f"+: since {oldest}, as far as it was kept ({count(days, 'day')} were asked for)")
    else:
        say(
            "Nothing was kept yet to compare with: each day's first `syncd sync` or the daemon does"
        )


def standing_headers(*, known: bool) -> list[str]:
    """The columns of the table. known: there are days to compare with."""
    headers = ["campaign", "status", *SHOWN, "unsubscribed"]
    return headers + ([f"+{name}" for name in GROWN] if known else [])


def standing_row(one: "Standing", *, known: bool) -> list[str]:
    """One campaign in these columns."""
    gone = one.stats.unsubscribed
    row = [one.campaign.name, one.campaign.status or "?", *numbers(one.stats)]
    row.append("" if gone is None else count(gone))
    return row + ([_grown(one, name) for name in GROWN] if known else [])


def _grown(one: "Standing", name: str) -> str:
    return f"+{count(one.grown[name])}" if name in one.grown else ""


def timeline(found: "Timeline", *, json: bool) -> None:
    """One campaign day by day."""
    if json:
        for day in found.days:
            say_json({"id": found.campaign.id, "date": day.start, "until": day.end, **day.counts})
        return
    say(style(clean(found.campaign.name), "bold"))
    if not found.days:
        say("  Nothing is known of these days")
        say("  Next: run `syncd sync` or the daemon; the first run of each day keeps the totals")
        return
    names = [name for name in COUNTED if any(name in day.counts for day in found.days)]
    rows = [
        (
            _span(day.start, day.end),
            *(count(day.counts[n]) if n in day.counts else "" for n in names),
        )
        for day in found.days
    ]
    for line in table(rows, ("day", *names), right=range(1, len(names) + 1)):
        say(f"  {line}")
    if not found.told:
        say("  FluenzR has no timeline for this account: what was kept once a day is compared")


def _span(start: str, end: str) -> str:
    last = date.fromisoformat(end) - timedelta(days=1)
    return start if f"{last}" <= start else f"{start} to {last}"


# --- exports ------------------------------------------------------------------------------------------------------


def export(
    found: "Sequence[Standing]",
    kept: "Sequence[Snapshot]",
    *,
    form: str,
    out: Path | None,
    daily: bool,
) -> None:
    """All campaigns, or with `daily` what was kept of each day; to a file, or to stdout. Raises SyncdError."""
    rows = [_row(one) for one in found]
    by_id = {str(row["id"]): row for row in rows}
    days = [_day(one, by_id) for one in kept]
    if form == "sqlite":
        from syncd.state.export import export as put

        assert out is not None
        put(out, rows, days, columns=COLUMNS)
        talk(f"{count(len(rows), 'campaign')} and {count(len(days), 'day')} are in {out}")
        return
    shown, columns = (days, ("date", *COLUMNS)) if daily else (rows, COLUMNS)
    pieces = _csv(shown, columns) if form == "csv" else (as_json(row) + "\n" for row in shown)
    if out is None:
        for piece in pieces:
            raw(piece)
        return
    _write(out, pieces)
    talk(f"{count(len(shown), 'row')} in {out}")


def _row(one: "Standing") -> dict[str, object]:
    campaign = one.campaign
    return {
        "id": campaign.id,
        "name": campaign.name,
        "status": campaign.status,
        "createdAt": iso(None if campaign.created_ms is None else campaign.created_ms / 1000),
        "startedAt": iso(None if campaign.started_ms is None else campaign.started_ms / 1000),
        **one.stats.named(),
    }


def _day(one: "Snapshot", by_id: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    times = by_id.get(one.id, {})
    return {
        "date": one.day,
        "id": one.id,
        "name": one.name,
        "status": one.status,
        "createdAt": times.get("createdAt"),
        "startedAt": times.get("startedAt"),
        **{name: one.stats.get(name) for name in COUNTS},
    }


def _csv(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> Iterator[str]:
    line = io.StringIO()
    writer = csv.DictWriter(line, columns, lineterminator="\n")
    writer.writeheader()
    yield line.getvalue()
    for row in rows:
        line.seek(0)
        line.truncate()
        writer.writerow(row)
        yield line.getvalue()


def _write(path: Path, pieces: Iterable[str]) -> None:
    """The whole file or none: whoever reads it meanwhile sees the old one. Readable by its owner only."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        part = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        raise SyncdError(
            f"{path} cannot be written",
            why=error.strerror or str(error),
            hint="Name another file: --out FILE",
        ) from None
