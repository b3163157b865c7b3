"""The quarantine: contacts that FluenzR refuses, and those that were put off after answers that left us in doubt.

Their change is tried again after a back-off. `retry` ends the back-off; `drop` gives the change up: the contact stays as it
is in FluenzR until its sources want something else of it. An opt-out is never given up.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from syncd.errors import UsageError
from syncd.state.store import Connection, State

DROPPED_S = 253_402_300_799  # not_before of a change that was given up: the last second of the year 9999; a new want ends it

STUCK = "tries>0 AND not_before>0"
AGAIN = "UPDATE contact SET tries=0,not_before=0,err=NULL,todo=1 WHERE "


@dataclass(frozen=True, slots=True)
class Stuck:
    """One person whose change waits. error: FluenzR's words, or ours; not_before_s: when it is tried again. sync: where it is counted."""

    email: str
    sync: str | None
    error: str | None
    tries: int
    not_before_s: int


def stuck(db: Connection, *, limit: int | None = None) -> list[Stuck]:
    """Those who wait longest first; all of them without a limit."""
    rows = db.execute(
        "SELECT c.email,s.name,c.err,c.tries,c.not_before FROM contact c LEFT JOIN sync s ON s.sync=c.sync"
        f" WHERE {STUCK} AND c.state<>'forget' ORDER BY c.tries DESC,c.email LIMIT ?",
        (-1 if limit is None else limit,),
    )
    return [Stuck(*row) for row in rows]


def retry(state: State, emails: Collection[str]) -> int:
    """End the back-off of these addresses, dropped ones too, or of everybody where none is named (inside a transaction); how many.

    Raises UsageError when one of them is not in quarantine; then nothing is done.
    """
    if not emails:
        return state.write(AGAIN + STUCK)
    _refuse_others(state, emails, f"({STUCK} OR not_before={DROPPED_S})")
    for email in emails:
        state.write(AGAIN + "email=?", email)
    return len(emails)


def drop(state: State, emails: Collection[str]) -> int:
    """Give up the change that waits for these addresses (inside a transaction); how many.

    Raises UsageError when one of them is not in quarantine, in flight, or to be taken out of everything; then nothing is done.
    """
    _refuse_others(state, emails, STUCK)
    opted_out = _those(state, emails, "json_extract(want,'$.out')")
    if opted_out:
        raise UsageError(
            f"A source says that {', '.join(opted_out)} opted out",
            why="An opt-out is carried out, however often it fails: it cannot be given up",
            hint="Nothing was dropped; try it at once: `syncd quarantine retry EMAIL`, then `syncd sync`",
        )
    in_flight = _those(state, emails, "inflight IS NOT NULL")
    if in_flight:
        raise UsageError(
            f"Something of {', '.join(in_flight)} is in flight",
            why="It may have been applied already: it is read first",
            hint="Nothing was dropped; run `syncd sync`, then drop it",
        )
    for email in emails:
        # Its error stays, for `why`. A want that changes sets tries and not_before back.
        state.write(
            "UPDATE contact SET tries=0,not_before=?,todo=0 WHERE email=?", DROPPED_S, email
        )
    return len(emails)


def _refuse_others(state: State, emails: Collection[str], where: str) -> None:
    others = sorted(set(emails) - set(_those(state, emails, where)))
    if others:
        raise UsageError(
            f"Not in quarantine: {', '.join(others)}",
            hint="Nothing was done; `syncd quarantine list` shows who is. A record that cannot be read waits for its source",
        )


def _those(state: State, emails: Collection[str], where: str) -> list[str]:
    def holds(email: str) -> Any:
        return state.value(
            f"SELECT 1 FROM contact WHERE email=? AND state<>'forget' AND {where}", email
        )

    return [email for email in emails if holds(email)]
