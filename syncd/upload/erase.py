"""Deleting in FluenzR whom somebody has asked to forget: by the id, and by the exact address until nobody is there.

Deleting twice does no harm, so that a lost answer is simply asked again; what cannot be done now is done by the next run.
"""

from collections.abc import Generator
from typing import Any

from syncd.errors import FluenzrError, NotFound, Refused, Unanswered
from syncd.state import erase, queue
from syncd.upload.pool import Job, Request
from syncd.upload.readback import find
from syncd.upload.session import Session

TRIES_MAX = 3  # of one deletion in one run


def erase_due(session: Session) -> None:
    """Finish what `forget` could not: everybody who is still to be deleted. Nothing of them may be in flight."""
    cids = erase.to_delete(session.state)
    if not cids:
        return
    session.pool.drive(_job(session, cid) for cid in cids)
    erase.leave_no_trace(session.state)


def _job(session: Session, cid: int) -> Job:
    yield from erase_contact(session, cid)


def erase_contact(session: Session, cid: int) -> Generator[Request, Any, FluenzrError | None]:
    """Delete one contact and drop its row; what was in the way, None when nobody is there any more."""
    row = queue.row(session.state, cid)
    if row is None:
        return None
    try:
        if row["rid"] is not None:
            yield from _delete(session, row["rid"])
        yield from _delete_all(session, row["email"])
    except (Unanswered, Refused) as error:
        return error
    erase.note_deleted(session.state, cid)
    return None


def _delete_all(session: Session, email: str) -> Job:
    """Whoever has this address, until nobody has."""
    for _ in range(TRIES_MAX):
        contact = yield from find(session, email)
        if contact is None:
            return
        yield from _delete(session, contact.id)
    raise Unanswered(
        "A deleted contact is still shown by FluenzR",
        hint="The next run looks again",
        answered=True,
    )


def _delete(session: Session, rid: str) -> Job:
    """Delete by id; somebody whom FluenzR does not have is deleted."""
    for again in range(TRIES_MAX, 0, -1):
        try:
            yield lambda: session.api.delete(rid)
        except NotFound:
            return
        except Unanswered:
            if again == 1:
                raise
        else:
            return
