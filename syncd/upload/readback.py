"""Reading contacts back: the one path by which doubt ends, and the fresh read before anything that cannot be called back.

Source of the rules: `docs/architecture.md`, "In flight means: read it first".
"""

import contextlib
from collections.abc import Generator, Mapping
from typing import Any

import orjson

from syncd.core.person import EMPTY, load
from syncd.core.seen import Shown, is_accident, is_image, is_ours, was_changed
from syncd.errors import NotFound, Refused, Unanswered
from syncd.fluenzr.types import Contact
from syncd.state import contacts, ledger, queue
from syncd.state.store import Row
from syncd.upload.listing import note_listed
from syncd.upload.pool import Job, Request
from syncd.upload.session import Session


def verify(session: Session, cid: int) -> Generator[Request, Any, bool]:
    """Read one contact and take over what FluenzR shows. False: it could not be read; nothing has changed."""
    row = queue.row(session.state, cid)
    if row is None:
        return True
    if row["state"] == "forget":
        with session.state.tx():
            queue.not_in_flight(session.state, cid)
        return True
    try:
        contact = yield from _fetch(session, row)
        if row["inflight"] == "update":
            contact = yield from _undo_accident(session, row, contact)
    except (Unanswered, Refused):
        return False
    if contact is not None:
        note_listed(session, contact)
    session.settle(cid, contact)
    return True


def verify_job(session: Session, cid: int) -> Job:
    """`verify` for the pool, where nobody asks for its answer."""
    yield from verify(session, cid)


def _fetch(session: Session, row: Row) -> Generator[Request, Any, Contact | None]:
    if row["rid"] is not None:
        try:
            contact: Contact = yield lambda: session.api.contact(row["rid"])
        except NotFound:
            pass  # deleted by hand, or made anew: the address tells
        else:
            return contact
    return (yield from find(session, row["email"]))


def find(session: Session, email: str) -> Generator[Request, Any, Contact | None]:
    """The contact with exactly this address; None for one that is unknown just now (`?<cid>`)."""
    if email.startswith("?"):
        return None
    found: Contact | None = yield lambda: session.api.find(email)
    return found


def _undo_accident(
    session: Session, row: Row, contact: Contact | None
) -> Generator[Request, Any, Contact | None]:
    """A bulk update makes a contact where somebody had deleted or renamed ours: that one goes, it was in no group and mailed nobody."""
    at_address = contact
    if contact is not None and contact.email.strip().lower() != row["email"]:
        at_address = yield from find(session, row["email"])
    if at_address is None:
        return contact
    body = None if row["body"] is None else orjson.loads(row["body"])
    shown = session.shown(at_address)
    if is_ours(contacts.claim_of(row), shown) and was_changed(shown):
        return contact  # the one that was meant, as young as the request by clocks that count in seconds
    if not is_accident(body, row["inflight_at"], shown):
        _suspect(session, row, body, shown)
        return contact
    accident = at_address.id
    with contextlib.suppress(NotFound):
        yield lambda: session.api.delete(accident)
    return None if contact is None or contact.id == accident else contact


def _suspect(session: Session, row: Row, body: Mapping[str, Any] | None, shown: Shown) -> None:
    """Without a Date nothing proves an accident: it is not deleted, but the address counts as deleted by hand."""
    sent = load(row["sent"]) or EMPTY
    had_more = bool(sent.groups or sent.tags) or row["rid"] not in (None, shown.rid)
    if row["inflight_at"] is None and had_more and is_image(body, shown):
        with session.state.tx():
            ledger.bar_address(session.state, row["email"], "x")
