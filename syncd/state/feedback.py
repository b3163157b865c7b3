"""What mailing has told of the people: how many have bounced or unsubscribed, by sync and by list.

It counts the statuses that the opt-outs' readings and FluenzR's events have brought; of whom nothing was heard is fine.
"""

import sqlite3
from collections.abc import Sequence

from syncd.state.store import State


def of_syncs(state: State, syncs: Sequence[int]) -> tuple[int, int]:
    """(bounced, people) of those who are counted under these syncs and in FluenzR."""
    marks = ",".join("?" * len(syncs))
    row = state.one(
        "SELECT coalesce(sum(status='bounced'),0),count(*) FROM contact"
        f" WHERE state='ok' AND sync IN ({marks})",
        *syncs,
    )
    assert row is not None
    return row[0], row[1]


def of_groups(state: State, syncs: Sequence[int]) -> dict[int, tuple[int, int]]:
    """The same per group that was given to them: gid -> (bounced, people)."""
    marks = ",".join("?" * len(syncs))
    rows = state.rows(
        "SELECT j.value,coalesce(sum(c.status='bounced'),0),count(*) FROM contact c, json_each(c.sent,'$.g') j"
        f" WHERE c.state='ok' AND c.sync IN ({marks}) GROUP BY j.value",
        *syncs,
    )
    return {row[0]: (row[1], row[2]) for row in rows}


def of_sync(db: sqlite3.Connection, sync: int) -> dict[str, int]:
    """status -> people of one sync, but for those of whom nothing was heard. For `status`: an index answers it."""
    rows = db.execute(
        "SELECT status,count(*) FROM contact"
        " WHERE sync=? AND status<>'active' AND status IN ('unsubscribed','bounced','blocked','replied')"
        " GROUP BY status",
        (sync,),
    )
    return dict(rows.fetchall())
