"""Applying FluenzR's events to the state: by whoever opens it next, in the order of their arrival, a second time without harm.

An opt-out enters the ledger at once. Whoever was renamed, deleted or put back by hand is marked to be read, and the next run
begins with that. What an event shows of a person's fields and groups is not taken over: hands may change them (`on_existing`, drift).
Nothing here imports the store: the store itself applies what waits when it opens a state.
"""

from collections import Counter
from typing import TYPE_CHECKING

import structlog

from syncd.core.event import REPLIED, Deleted, Meaning, OptedOut, Replied, Shown, meanings, parse
from syncd.state import erase, inbox, ledger
from syncd.state.inbox import Waiting

if TYPE_CHECKING:
    from syncd.state.store import State

log = structlog.get_logger(__name__)
EVENTS_APPLIED = "events.applied"  # FluenzR's events were applied, by their kind

ROWS_MAX = 1000  # events of one transaction

# What is in flight is read anyway, and whoever is being erased is gone.
TO_READ = "UPDATE contact SET inflight='check',unsettled=0 WHERE inflight IS NULL AND state IN ('ok','new') AND "


def take_over(state: "State") -> int:
    """Apply what waits in the inbox; how many events that were.

    A rehearsal, and a rebuilding that may be given up, leaves them waiting: applying them again changes nothing.
    """
    if not inbox.exists(state.path):
        return 0
    counts: Counter[str] = Counter()
    with inbox.opened(state.path) as box:
        last = 0
        while letters := box.waiting(ROWS_MAX, after=last):
            last = letters[-1].seq
            with state.tx():
                kept = [letter.seq for letter in letters if not _apply(state, letter, counts)]
            if state.keeps:
                now_s = letters[-1].received_s
                box.applied([one.seq for one in letters], kept=kept, now_s=now_s)
        if counts and state.keeps:
            box.leave_no_trace()
    if counts and not state.rehearsal:
        log.info(EVENTS_APPLIED, **counts)
    return counts.total()


def _apply(state: "State", letter: Waiting, counts: Counter[str]) -> bool:
    """One event (inside a transaction); False when it means nothing to us, and may be kept to be looked at."""
    event = parse(letter.body)
    counts["events"] += 1
    found = meanings(event) if event else ()
    for meaning in found:
        counts[type(meaning).__name__.lower()] += 1
        _take(state, meaning)
    text = letter.body.decode("utf-8", "replace")
    return bool(found) or erase.unnamed(state, text) != text


def _take(state: "State", meaning: Meaning) -> None:
    match meaning:
        case OptedOut(contact_id, email, status):
            ledger.note_status(state, email, contact_id, status)
        case Replied(contact_id, email):
            ledger.note_status(state, email, contact_id, REPLIED)
        case Shown(contact_id, email):
            # Renamed by hand; or somebody stands where ours was deleted, or where ours is still to be made.
            state.write(TO_READ + "rid=? AND email<>?", contact_id, email)
            state.write(
                TO_READ + "email=? AND (rid<>? OR (state='new' AND sent IS NULL AND want IS NOT NULL))",
                email, contact_id,
            )  # fmt: skip
        case Deleted(contact_id, email):
            state.write(
                TO_READ + "state='ok' AND (rid=? OR (rid IS NULL AND email=?))", contact_id, email
            )
