"""Field updates, up to 1000 contacts a request, or one by one where the account has no bulk endpoint; and what bulk answers mean.

A bulk update carries fields only, never groups or tags.
Only an answer whose numbers fit says that it was applied; anything else leaves the contacts in flight, to be read.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from syncd.core.person import EMPTY, Payload, Person
from syncd.core.undo import CUSTOM
from syncd.errors import NotFound, NotSupported, Refused, Unanswered
from syncd.fluenzr.types import BulkAnswer
from syncd.state import contacts, listed
from syncd.state.runs import log_change
from syncd.upload.pool import Job, Request
from syncd.upload.session import NOT_SENT, Session, encode, words_of

BULK_ROWS_MAX = 1000  # FluenzR's own limit [D]
TOO_LARGE = 413  # says nothing about people: smaller batches may pass


@dataclass(frozen=True, slots=True)
class Update:
    """One contact's field update: no more than that, for a thousand of them wait for each answer.

    sent: what FluenzR has of ours before it. fields, custom_fields: what is sent; None clears. kept: of the custom fields, ours.
    """

    cid: int
    email: str
    tries: int
    sent: Payload
    fields: dict[str, Any]
    custom_fields: dict[str, Any]
    kept: dict[str, Any]


# --- updates ------------------------------------------------------------------------------------------------------


def plan_update(
    session: Session, person: Person, fields: dict[str, Any], custom: dict[str, Any]
) -> Update:
    """What to send of the fields that differ. Custom fields may replace those of people [?]: then all of them go, theirs and ours."""
    kept = custom
    if custom and not session.custom_fields_merge:
        seen = listed.find(session.state, person.email)
        custom = {**(seen.shown.custom_fields if seen else {}), **custom}
        ours = (person.want or EMPTY).custom_fields
        kept = {name: value for name, value in custom.items() if name in ours}
    return Update(person.cid, person.email, person.tries, person.sent, fields, custom, kept)


def update_body(update: Update, *, clears_with: Any, email: bool = True) -> dict[str, Any]:
    """One contact of an update request."""
    body: dict[str, Any] = {"email": update.email} if email else {}
    body.update({k: clears_with if v is None else v for k, v in update.fields.items()})
    if update.custom_fields:
        body["customFields"] = {
            k: clears_with if v is None else v for k, v in update.custom_fields.items()
        }
    return body


def _body(updates: Sequence[Update], *, clears_with: Any) -> bytes:
    rows = [update_body(update, clears_with=clears_with) for update in updates]
    return encode({"contacts": rows, "onDuplicate": "update"})


def update_many(session: Session, updates: Sequence[Update]) -> Job:
    """One bulk update, fields only; halved while FluenzR refuses it as a whole."""
    how = session.mark("update")
    bodies = ((one.cid, {"f": one.fields, "c": one.custom_fields}) for one in updates)
    with session.state.tx():
        contacts.mark_updates(session.state, bodies, how)
    session.sent += 1
    clears_with = session.clears_with
    body = _body(updates, clears_with=clears_with)
    answer = yield from ask_bulk(session, updates, body, unmark=lambda: _unmark(session, updates))
    if isinstance(answer, Refused):
        yield from _halve_update(session, updates, answer, clears_with=clears_with)
        return
    if answer is None:
        return
    bad = named(answer, [update.email for update in updates])
    if answer.skipped or answer.created or answer.updated + len(bad) != len(updates):
        # Somebody was deleted or renamed by hand, and the request has made a new contact: read each.
        leave_in_doubt(session, updates)
        return
    again: list[Update] = []
    with session.state.tx():
        for place, update in enumerate(updates):
            if place not in bad:
                updated(session, update)
                continue
            contacts.unmark_updates(session.state, [update.cid])
            if clears_with is None and _clears(update):
                again.append(update)
            else:
                refuse(session, "update", update, bad[place], alone=len(updates) == 1)
    if answer.updated:
        session.alike["update", updates[0].tries].taken()
    if again:
        session.null_refused()
        yield from update_many(session, again)
    session.watch.advance(len(updates), detail=session.budget())


def _unmark(session: Session, updates: Sequence[Update]) -> None:
    with session.state.tx():
        contacts.unmark_updates(session.state, [update.cid for update in updates])


def _halve_update(
    session: Session, updates: Sequence[Update], error: Refused, *, clears_with: Any
) -> Job:
    if len(updates) == 1:
        if clears_with is None and _clears(updates[0]):
            session.null_refused()
            yield from update_many(session, updates)
        else:
            with session.state.tx():
                refuse(session, "update", updates[0], words_of(error), alone=True)
    elif not refuse_together(session, "update", updates, error):
        half = len(updates) // 2
        yield from update_many(session, updates[:half])
        yield from update_many(session, updates[half:])


def _clears(update: Update) -> bool:
    return None in update.fields.values() or None in update.custom_fields.values()


def update_one(session: Session, person: Person, update: Update) -> Job:
    """PUT /contacts/:id: for opted-out contacts, which are in no bulk, and where there is no bulk endpoint."""
    assert person.rid is not None
    rid = person.rid
    with session.state.tx():
        contacts.mark(session.state, person, session.mark("field"))
    session.sent += 1
    clears_with = session.clears_with
    body = encode(update_body(update, clears_with=clears_with, email=False))
    try:
        yield lambda: session.api.update(rid, body)
    except NOT_SENT:
        session.unmark([person])
        raise
    except NotFound:
        leave_in_doubt(session, [person])
    except Refused as error:
        with session.state.tx():
            contacts.unmark(session.state, person)
        if clears_with is None and _clears(update):
            session.null_refused()
            yield from update_one(session, person, update)
        else:
            with session.state.tx():
                session.refuse(person.cid, words_of(error))
    except Unanswered as error:
        session.doubt([person.cid], error)
    else:
        with session.state.tx():
            updated(session, update)
        session.watch.advance(1, detail=session.budget())


def updated(session: Session, update: Update) -> None:
    """FluenzR has these fields now (inside a transaction)."""
    sent, kept = update.sent, update.kept
    new = replace(
        sent,
        fields=_written(sent.fields, update.fields),
        custom_fields=_written(sent.custom_fields, kept),
    )
    before = _before(session, update)
    changes = {k: [before.fields.get(k), v] for k, v in update.fields.items()}
    changes.update(
        {
            f"{CUSTOM}{k}": [before.custom_fields.get(k), v]
            for k, v in kept.items()
            if sent.custom_fields.get(k) != v
        }
    )
    contacts.confirm(session.state, update.cid, new, run=session.run)
    log_change(
        session.state,
        session.run,
        update.cid,
        update.email,
        session.now_s(),
        "update",
        {"fields": changes},
    )
    session.books.add(session.sync_of(update.cid), "updated")


def _before(session: Session, update: Update) -> Payload:
    """What the fields were before they are written. A name that we have never written may have a value of people's own: if a read of
    this run has shown it, `undo` can put it back.
    """
    sent, names = update.sent, {**update.fields, **update.kept}
    if all(name in sent.fields or name in sent.custom_fields for name in names):
        return sent
    seen = listed.find(session.state, update.email)
    if seen is None:
        return sent
    shown = seen.shown
    return replace(
        sent,
        fields={**shown.fields, **sent.fields},
        custom_fields={**shown.custom_fields, **sent.custom_fields},
    )


def _written(before: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in {**before, **new}.items() if v is not None}


# --- answers ------------------------------------------------------------------------------------------------------


class Asked(Protocol):
    """Somebody whom a request is about."""

    @property
    def cid(self) -> int:
        """The contact's number."""

    @property
    def email(self) -> str:
        """Its address."""

    @property
    def tries(self) -> int:
        """How often it failed."""


def ask_bulk(
    session: Session, people: Sequence[Asked], body: bytes, *, unmark: Callable[[], None]
) -> Generator[Request, Any, BulkAnswer | Refused | None]:
    """Send one bulk request. None: in doubt, or to be sent one by one. Refused: nothing applied, and the marks are taken back."""
    try:
        answer: BulkAnswer = yield lambda: session.api.bulk(body)
    except NOT_SENT:
        unmark()
        raise
    except NotSupported:
        unmark()
        session.no_bulk()
        return None
    except Refused as error:
        unmark()
        return error
    except Unanswered as error:
        session.doubt([person.cid for person in people], error)
        return None
    said = _refusal_of_all(answer, len(people))
    if said is not None:
        unmark()
    return said or answer


def _refusal_of_all(answer: BulkAnswer, asked: int) -> Refused | None:
    """Nothing was done, it says, and fewer errors than people: what is said of nobody is said of all of them."""
    nothing_done = not (answer.created or answer.updated or answer.skipped)
    if not nothing_done or not 0 < len(answer.errors) < asked:
        return None
    return Refused(f"FluenzR took nobody of {asked}", why=answer.errors[0].message)


def refuse(session: Session, kind: str, person: Asked, words: str, *, alone: bool) -> None:
    """FluenzR's words about one person (inside a transaction). alone: in the request."""
    if alone:
        session.alike[kind, person.tries].refused(words, person.email)
    session.refuse(person.cid, words)


def refuse_together(session: Session, kind: str, people: Sequence[Asked], error: Refused) -> bool:
    """Whether these are put off as they are, for FluenzR refuses everybody alike: a batch that could be halved is not."""
    alike = session.alike[kind, people[0].tries]
    if not alike.general or error.status == TOO_LARGE:
        return False
    words = f"{words_of(error)} (so FluenzR says of everybody; {len(people)} people were not tried alone)"
    with session.state.tx():
        session.refuse_together([person.cid for person in people], words, said=alike.words)
    return True


def leave_in_doubt(session: Session, people: Sequence[Asked]) -> None:
    """An answer came that does not say what was applied: they are read at once."""
    with session.state.tx():
        contacts.answered(session.state, [person.cid for person in people])


def named(answer: BulkAnswer, emails: Sequence[str]) -> dict[int, str]:
    """place in the request -> FluenzR's words, for the errors that say whom they mean: by index or by address [?]."""
    nothing_done = not (answer.created or answer.updated or answer.skipped)
    if nothing_done and len(answer.errors) == len(emails):
        return {place: error.message for place, error in enumerate(answer.errors)}  # all of them
    places = {email: place for place, email in enumerate(emails)}
    bad: dict[int, str] = {}
    for error in answer.errors:
        by_email = places.get((error.email or "").strip().lower())
        if by_email is not None:
            bad[by_email] = error.message
        elif error.index is not None and 0 <= error.index < len(emails) and error.email is None:
            bad[error.index] = error.message
    return bad
