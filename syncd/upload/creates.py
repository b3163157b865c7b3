"""Creates, up to 1000 people a request, or one by one where the account has no bulk endpoint.

A bulk create skips who is there already and never touches a stranger. Only an answer whose numbers fit says that it was applied;
anything else leaves the people in flight, to be read.
"""

from collections import Counter
from collections.abc import Sequence

import orjson

from syncd.errors import Conflict, Refused, Unanswered
from syncd.state import creating
from syncd.state.creating import Creation
from syncd.upload.bulk import ask_bulk, leave_in_doubt, named, refuse, refuse_together
from syncd.upload.pool import Job
from syncd.upload.session import NOT_SENT, Session, words_of

DATE_STEP_MS = 1000  # a Date header is cut to the second: the moment itself is up to one later


def _mark(session: Session, people: Sequence[Creation], mails: tuple[int, ...]) -> None:
    """Commit that these people are about to be created."""
    how = session.mark("create")
    with session.state.tx():
        creating.mark(session.state, people, how, mails)
    session.sent += 1


def _unmark(session: Session, people: Sequence[Creation]) -> None:
    with session.state.tx():
        creating.unmark(session.state, people)


def create_many(session: Session, people: Sequence[Creation], gids: tuple[int, ...]) -> Job:
    """One bulk create for people who join the same groups; halved while FluenzR refuses it as a whole."""
    mails = session.mails(gids)
    _mark(session, people, mails)
    answer = yield from ask_bulk(
        session, people, _body(session, people, gids), unmark=lambda: _unmark(session, people)
    )
    if isinstance(answer, Refused):
        if len(people) == 1:
            with session.state.tx():
                refuse(session, "create", people[0], words_of(answer), alone=True)
        elif not refuse_together(session, "create", people, answer):
            half = len(people) // 2
            yield from create_many(session, people[:half], gids)
            yield from create_many(session, people[half:], gids)
        return
    if answer is None:
        return
    bad = named(answer, [one.email for one in people])
    if answer.skipped or answer.updated or answer.created + len(bad) != len(people):
        leave_in_doubt(session, people)  # some were there, or nothing fits
        return
    with session.state.tx():
        if bad:
            creating.unmark(session.state, [people[place] for place in bad])
        for place, words in bad.items():
            refuse(session, "create", people[place], words, alone=len(people) == 1)
        good = [one for place, one in enumerate(people) if place not in bad] if bad else people
        _created(session, good, answer.date_ms, mails)
    if answer.created:
        session.alike["create", people[0].tries].taken()
    session.watch.advance(len(people), detail=session.budget())


def _body(session: Session, people: Sequence[Creation], gids: tuple[int, ...]) -> bytes:
    contacts = ",".join([one.body for one in people]).encode()
    rids = orjson.dumps(session.rids(gids))
    return b'{"contacts":[%b],"groupIds":%b,"onDuplicate":"skip"}' % (contacts, rids)


def create_one(session: Session, one: Creation) -> Job:
    """POST /contacts, where there is no bulk endpoint."""
    mails = session.mails(one.gids)
    _mark(session, [one], mails)
    body = orjson.dumps({**orjson.loads(one.body), "groupIds": session.rids(one.gids)})
    try:
        answer = yield lambda: session.api.create(body)
    except NOT_SENT:
        _unmark(session, [one])
        raise
    except Conflict:
        leave_in_doubt(session, [one])  # there already: read and adopted
    except Refused as error:
        with session.state.tx():
            creating.unmark(session.state, [one])
            session.refuse(one.cid, words_of(error))
    except Unanswered as error:
        session.doubt([one.cid], error)
    else:
        with session.state.tx():
            _created(session, [one], answer.date_ms, mails)
            creating.note_id(session.state, one.cid, answer.contact.id)
        session.watch.advance(1, detail=session.budget())


def _created(
    session: Session, people: Sequence[Creation], made_ms: int | None, mails: tuple[int, ...]
) -> None:
    if made_ms is not None:
        made_ms += DATE_STEP_MS
    creating.confirm(session.state, people, made_ms=made_ms, run=session.run, mailed=bool(mails))
    for sync, count in Counter(one.sync for one in people).items():
        session.books.add(sync, "created", count)
        if people[0].gids:  # the same for all of a batch
            session.books.add(sync, "grouped", count)
        if mails:
            session.books.add(sync, "enrolled", count)
