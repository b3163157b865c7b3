"""The history: runs, what each changed, and what a guard has held until somebody approves it."""

from collections.abc import Iterable
from typing import Any

import orjson

from syncd.core.change import Change
from syncd.core.result import SyncResult
from syncd.state.erase import unnamed
from syncd.state.store import State

KEEP_S = 400 * 24 * 3600  # the history reaches back a little more than a year


def start_run(state: State, *, now_s: int, kind: str = "sync") -> int:
    """A new run; its number (inside a transaction). What is older than KEEP_S goes."""
    for table in ("change", "run_sync", "approval", "carried"):
        state.write(
            f"DELETE FROM {table} WHERE run IN (SELECT run FROM run WHERE started_at<?)",
            now_s - KEEP_S,
        )
    # The last one stays: numbers are never given again, for contacts remember the run that made them.
    state.write(
        "DELETE FROM run WHERE started_at<? AND run<(SELECT max(run) FROM run)", now_s - KEEP_S
    )
    run = state.db.execute("INSERT INTO run(started_at,kind) VALUES(?,?)", (now_s, kind)).lastrowid
    assert run is not None
    return run


def end_run(state: State, run: int, results: Iterable[SyncResult], *, now_s: int) -> None:
    """The books of a run, kept (inside a transaction)."""
    for result in results:
        result.error = unnamed(state, result.error)
        state.write(
            "INSERT OR REPLACE INTO run_sync VALUES(?,?,?,?,?,?)",
            run, result.sync, result.status.value, _json({**result.contract(), "skipped_by": result.skipped_by}),
            result.error, _json(result.trips) if result.trips else None,
        )  # fmt: skip
        if result.status.value in ("ok", "partial"):
            state.write("UPDATE sync SET completed_at=? WHERE name=?", now_s, result.sync)
    state.write("UPDATE run SET ended_at=? WHERE run=?", now_s, run)


def end_failed(state: State, run: int, error: str, *, now_s: int) -> None:
    """A run that is no sync's did not come to its end: `history` says why (inside a transaction)."""
    words = unnamed(state, error)
    state.write("INSERT OR REPLACE INTO run_sync VALUES(?,'','failed','{}',?,NULL)", run, words)
    state.write("UPDATE run SET ended_at=? WHERE run=?", now_s, run)


def log_change(
    state: State, run: int, cid: int, email: str, now_s: int, kind: str, detail: dict[str, Any]
) -> None:
    """One confirmed change, old and new, for `history`, `why` and `undo` (creates are told by the contact itself)."""
    state.write(
        "INSERT INTO change(run,cid,email,at,kind,detail) VALUES(?,?,?,?,?,?)",
        run, cid, email, now_s, kind, _json(detail),
    )  # fmt: skip


def hold(
    state: State,
    run: int,
    sync: str,
    held: Iterable[tuple[Change, bytes]],
    *,
    shrink: tuple[str, bytes] | None,
) -> None:
    """Keep what a guard holds; it replaces what was held of this sync before, approvals of the same changes excepted.

    shrink: where the source itself is held, whoever would change by it; it stands there without an address.
    """
    approved = approvals(state, sync)
    state.write("DELETE FROM held WHERE sync=?", sync)
    state.db.executemany(
        "INSERT OR REPLACE INTO held(run,sync,email,change,digest,approved) VALUES(?,?,?,?,?,?)",
        (
            (
                run, sync, change.email,
                _json({**change.contract(), "enrol": list(change.enrol)}), digest, int(digest in approved),
            )
            for change, digest in held
        ),
    )  # fmt: skip
    if shrink is not None:
        text, digest = shrink
        state.write(
            "INSERT INTO held(run,sync,email,change,digest,approved) VALUES(?,?,'',?,?,?)",
            run, sync, _json({"change": text}), digest, int(digest in approved),
        )  # fmt: skip


def approvals(state: State, sync: str) -> set[bytes]:
    """Digests of the changes that somebody has approved, not used up yet."""
    return {
        row[0] for row in state.rows("SELECT digest FROM held WHERE sync=? AND approved=1", sync)
    }


def release_held(state: State, sync: str) -> None:
    """The sync was promoted: what was held is done or overtaken, and its approval is used up."""
    state.write("DELETE FROM held WHERE sync=?", sync)


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
