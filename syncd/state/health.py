"""The questions of metrics, alerts and readiness, which `status` does not ask.

Each is given a connection that only reads. No address leaves this module.
"""

from syncd.core.model import OPTED_OUT_STATUSES
from syncd.state.store import Connection, address_key

WAITING_MAX = 10_000  # opt-outs whose age is looked up


def held_run(db: Connection, sync: str) -> int | None:
    """The run whose changes wait for an approval; None: nothing waits, or all of it has one."""
    row = db.execute("SELECT max(run) FROM held WHERE sync=? AND approved=0", (sync,)).fetchone()
    number: int | None = row[0]
    return number


def last_run(db: Connection) -> int:
    """The number of the last run that has ended; 0 before the first."""
    row = db.execute(
        "SELECT run FROM run WHERE ended_at IS NOT NULL ORDER BY run DESC LIMIT 1"
    ).fetchone()
    return 0 if row is None else int(row[0])


def live_counts(db: Connection) -> dict[str, tuple[int, int]]:
    """sync -> (records that contribute, people in FluenzR who are counted under it). It reads both tables whole."""
    records = dict(
        db.execute("SELECT sync,count(*) FROM record WHERE live=1 GROUP BY sync").fetchall()
    )
    people = dict(
        db.execute(
            "SELECT sync,count(*) FROM contact WHERE state='ok' AND want IS NOT NULL GROUP BY sync"
        ).fetchall()
    )
    names = db.execute("SELECT sync,name FROM sync").fetchall()
    return {name: (records.get(number, 0), people.get(number, 0)) for number, name in names}


def in_flight(db: Connection) -> int:
    """People of whom something was sent and is not confirmed yet."""
    count: int = db.execute("SELECT count(*) FROM contact WHERE inflight IS NOT NULL").fetchone()[0]
    return count


def opt_outs_waiting(db: Connection) -> tuple[int, int | None]:
    """(people whom a source has opted out and who are still to be taken out in FluenzR, since when the first of them waits).

    Epoch seconds; None where nobody waits, or no time was kept.
    """
    rows = db.execute(
        "SELECT email FROM contact WHERE todo=1 AND state='ok' AND json_extract(want,'$.out')"
    ).fetchall()
    since = [
        at
        for row in rows[:WAITING_MAX]
        for (at,) in db.execute(
            "SELECT at FROM since WHERE k=? AND what='-'", (address_key(db, row["email"]),)
        )
    ]
    return len(rows), min(since, default=None)


def opt_outs_read_s(db: Connection) -> int | None:
    """When the run began that last read who has opted out, bounced or been blocked in FluenzR; None: not all of them were read yet."""
    marks = ",".join("?" * len(OPTED_OUT_STATUSES))
    row = db.execute(
        "SELECT count(*),min(r.started_at) FROM meta m JOIN run r ON r.run=json_extract(m.v,'$.run')"
        f" WHERE m.k IN ({marks})",
        [f"opt_outs:{status}" for status in sorted(OPTED_OUT_STATUSES)],
    ).fetchone()
    at: int | None = row[1]
    return at if row[0] == len(OPTED_OUT_STATUSES) else None
