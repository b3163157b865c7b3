"""What the runs of each day came to, out of the history: the trend of people and of requests."""

import sqlite3
from dataclasses import dataclass
from datetime import date, timedelta

SUMS = """
SELECT date(r.started_at,'unixepoch','localtime') AS day,
  coalesce(sum(json_extract(p.counts,'$.created')),0),
  coalesce(sum(json_extract(p.counts,'$.updated')+json_extract(p.counts,'$.moved')),0),
  coalesce(sum(json_extract(p.counts,'$.removed')),0),
  coalesce(sum(json_extract(p.counts,'$.requests')),0)
FROM run r JOIN run_sync p ON p.run=r.run
WHERE r.started_at>=? AND p.counts<>'{}' GROUP BY day ORDER BY day
"""


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the local clock. created, updated (moved ones too), removed: people; requests: to FluenzR, reads and retries too."""

    day: str
    created: int = 0
    updated: int = 0
    removed: int = 0
    requests: int = 0


def last(db: sqlite3.Connection, *, today: date, count: int) -> list[Day]:
    """So many days up to today, the oldest first; those without a run are there too."""
    first = today - timedelta(days=count - 1)
    # A day more than asked for: which day a second belongs to is the local clock's business.
    since_s = (first - date(1970, 1, 1)).days * 86_400 - 86_400
    known = {row[0]: Day(*row) for row in db.execute(SUMS, (since_s,))}
    days = [f"{first + timedelta(days=number)}" for number in range(count)]
    return [known.get(day) or Day(day) for day in days]


def people(db: sqlite3.Connection) -> int:
    """How many people are in FluenzR whom a sync looks after."""
    count: int = db.execute(
        "SELECT count(*) FROM contact WHERE state='ok' AND sync IS NOT NULL"
    ).fetchone()[0]
    return count
