"""Writes that need FluenzR's id: moves, groups, tags, removals. One contact after the other, several at a time.

Before an address change, a deletion or an enrolment the contact has been read in this run: a hand may have changed it.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from syncd.core.person import Payload, Person, Work, work
from syncd.errors import Conflict, NotFound, NotSupported, Refused, Unanswered
from syncd.state import contacts, listed, queue
from syncd.state.links import drop, new_contact
from syncd.state.runs import log_change
from syncd.upload.campaigns import enter_one, leave_campaigns
from syncd.upload.listing import note_listed
from syncd.upload.pool import Job, Request
from syncd.upload.readback import find, verify
from syncd.upload.session import NOT_SENT, Session, encode, words_of


def _single(
    session: Session,
    person: Person,
    kind: str,
    request: Callable[[], Any],
    *,
    joins: Sequence[int] = (),
    tags: Sequence[str] = (),
) -> Generator[Request, Any, bool]:
    """One write by id, marked before and in doubt after anything but the perfect answer. True: perfectly answered, still marked."""
    with session.state.tx():
        mails = session.mails(tuple(joins))
        contacts.mark(
            session.state, person, session.mark(kind), joins=joins, mails=mails, tags=tags
        )
    session.sent += 1
    try:
        yield request
    except NOT_SENT:
        with session.state.tx():
            contacts.unmark(session.state, person)
        raise
    except Refused as error:
        # 404: deleted by hand; 409: the address is taken; 400: not as documented. A read tells what is there now.
        with session.state.tx():
            contacts.answered(session.state, [person.cid])
            queue.note_error(session.state, person.cid, words_of(error))
        if isinstance(error, Conflict) and kind == "move":
            raise
        return False
    except Unanswered as error:
        session.doubt([person.cid], error)
        return False
    return True


def _done(
    session: Session, person: Person, sent: Payload, kind: str, detail: dict[str, Any], *names: str
) -> None:
    """Confirm, tell the history, and count, in a transaction of its own."""
    with session.state.tx():
        _record(session, person, sent, kind, detail, *names)
    session.watch.advance(0, detail=session.budget())


def _record(
    session: Session, person: Person, sent: Payload, kind: str, detail: dict[str, Any], *names: str
) -> None:
    contacts.confirm(session.state, person.cid, sent, run=session.run)
    log_change(session.state, session.run, person.cid, person.email, session.now_s(), kind, detail)
    session.count(person, *names)


def move(session: Session, person: Person) -> Job:
    """PUT the new address: the same contact, with its history and its opt-out."""
    assert person.rid is not None
    assert person.move_to is not None
    rid, target = person.rid, person.move_to
    body = encode({"email": target})
    try:
        perfect = yield from _single(session, person, "move", lambda: session.api.update(rid, body))
    except Conflict:
        yield from _taken(session, person, target)
        return
    if not perfect:
        return
    detail = {"fields": {"email": [person.email, target]}}
    _done(session, person, person.sent, "move", detail, "moved")
    with session.state.tx():
        contacts.set_email(session.state, person.cid, target)


def _taken(session: Session, person: Person, target: str) -> Job:
    """A stranger has the address: it gets a row of its own, and the next round links the record to it."""
    try:
        contact = yield from find(session, target)
    except (Unanswered, Refused):
        return
    if contact is None:
        return
    note_listed(session, contact)
    with session.state.tx():
        state = session.state
        queue.stay_put(state, person.cid)
        own = queue.owner_of(state, contact.id, target, but=person.cid)
        cid = own if own is not None else new_contact(state, target)
        contacts.absorb(state, cid, session.shown(contact), run=session.run)


def settle_by_id(session: Session, cid: int) -> Job:
    """Everything that one contact still needs by its id, in the order that is safest if it stops half-way: taking away comes first."""
    ready = yield from _ready(session, cid)
    if ready is None:
        return
    person, todo = ready
    if todo.delete:
        yield from _delete(session, person)
        return
    if todo.leave_all:
        yield from _leave_all(session, person)
        return
    steps: tuple[tuple[str, bool], ...] = (
        ("ungroup", bool(todo.leave)), ("untag", bool(todo.untag)), ("group", bool(todo.join)), ("tag", bool(todo.tag)),
        ("enrol", bool(todo.enter)),
    )  # fmt: skip
    for kind, needed in steps:
        if needed and not (yield from _step(session, cid, kind)):
            return


def _ready(session: Session, cid: int) -> Generator[Request, Any, tuple[Person, Work] | None]:
    """The contact with what is to be done, after the fresh read that it needs. None: nothing, or not now."""
    person = session.person(cid)
    if person is None:
        return None
    todo = work(person, session.groups.kinds)
    if not (todo.by_id or todo.look_up) or (todo.delete and not session.may_delete):
        return None
    # Whoever opted out leaves the groups, whoever else may come to this address.
    if not (todo.leave_all or todo.look_up) and queue.contested(session.state, person):
        return None
    mails = todo.enter or session.mails(todo.join)
    risky = todo.delete or todo.leave_all or todo.look_up or mails
    fresh = queue.read_in(session.state, cid) == session.run
    if person.rid is None or todo.delete or (risky and not fresh):
        if not (yield from verify(session, cid)):
            return None
        person = session.person(cid)
        if person is None or person.state != "ok":
            return None
        todo = work(person, session.groups.kinds)
        if queue.is_touched(session.state, cid) and not todo.leave_all:
            return None
    return (person, todo) if todo.by_id and person.rid is not None else None


def _step(session: Session, cid: int, kind: str) -> Generator[Request, Any, bool]:
    person = session.person(cid)
    assert person is not None
    assert person.rid is not None
    counted: tuple[str, ...]
    rid, api, todo, sent = person.rid, session.api, work(person, session.groups.kinds), person.sent
    if kind == "ungroup":
        gids, rids = (
            todo.leave,
            [session.groups.rids[g] for g in todo.leave if g in session.groups.rids],
        )
        # A group that was deleted by hand has no id any more, and no members.
        if rids and not (
            yield from _single(session, person, kind, lambda: api.remove_from_groups(rid, rids))
        ):
            return False
        detail = {"groups": {"add": [], "remove": _names(session, gids)}}
        last = todo.removal and not todo.untag
        counted = ("removed", "ungrouped") if last else ("ungrouped",)
        what = "remove" if todo.removal else "ungroup"
        _done(
            session, person, replace(sent, groups=sent.groups - set(gids)), what, detail, *counted
        )
    elif kind == "untag":
        tags = todo.untag
        if not (yield from _single(session, person, kind, lambda: api.remove_tags(rid, tags))):
            return False
        detail = {"tags": {"add": [], "remove": list(tags)}}
        counted = ("removed",) if todo.removal else ()
        _done(session, person, replace(sent, tags=sent.tags - set(tags)), "untag", detail, *counted)
    elif kind == "group":
        return (yield from _join(session, cid))
    elif kind == "enrol":
        return (yield from enter_one(session, cid))
    else:
        tags = todo.tag
        if not (
            yield from _single(session, person, kind, lambda: api.add_tags(rid, tags), tags=tags)
        ):
            return False
        detail = {"tags": {"add": list(tags), "remove": []}}
        _done(session, person, replace(sent, tags=sent.tags | set(tags)), "tag", detail)
    return True


def _join(session: Session, cid: int) -> Generator[Request, Any, bool]:
    """Every group that is still to be joined: by the group's endpoint, or by the contact's where that one is refused."""
    while True:
        person = session.person(cid)
        if person is None or person.rid is None or queue.is_in_flight(session.state, cid):
            return False
        rid, gids = person.rid, work(person, session.groups.kinds).join
        if not gids:
            return True
        if session.group_endpoint:
            yield from join_many(session, gids[0], [person])
            continue
        rids = session.rids(gids)
        ask = partial(session.api.add_to_groups, rid, rids)
        if not (yield from _single(session, person, "group", ask, joins=gids)):
            return False
        with session.state.tx():
            _joined(session, person, gids)


def _joined(session: Session, person: Person, gids: tuple[int, ...]) -> None:
    """FluenzR has put the contact into these groups (inside a transaction)."""
    detail = {"groups": {"add": _names(session, gids), "remove": []}}
    counted = ("grouped", "enrolled") if session.mails(gids) else ("grouped",)
    sent = replace(person.sent, groups=person.sent.groups | set(gids))
    _record(session, person, sent, "group", detail, *counted)


def _names(session: Session, gids: Sequence[int]) -> list[str]:
    return [session.groups.names[gid] for gid in gids]


def _leave_all(session: Session, person: Person) -> Job:
    """The source says that the person opted out: out of every campaign and group, also those given by hand."""
    assert person.rid is not None
    rid, rids = person.rid, _all_groups(session, person)
    if not (yield from leave_campaigns(session, rid)):
        return
    if rids and not (
        yield from _single(
            session, person, "ungroup", lambda: session.api.remove_from_groups(rid, rids)
        )
    ):
        return
    gids = tuple(sorted(session.groups.gids_of(rids)))
    detail = {"groups": {"add": [], "remove": _names(session, gids)}, "opted_out": True}
    sent = replace(person.sent, groups=frozenset(), campaigns=frozenset(), out=True)
    _done(session, person, sent, "ungroup", detail, *(("ungrouped",) if rids else ()))


def _all_groups(session: Session, person: Person) -> list[str]:
    """FluenzR's ids of every group in which a read of this run has seen the person, and of those that we gave."""
    seen = listed.find(session.state, person.email)
    ours = (session.groups.rids[gid] for gid in person.sent.groups if gid in session.groups.rids)
    return sorted({*(seen.group_rids if seen else ()), *ours})


def _delete(session: Session, person: Person) -> Job:
    assert person.rid is not None
    rid = person.rid
    if not (yield from _single(session, person, "delete", lambda: session.api.delete(rid))):
        return
    with session.state.tx():
        sync = session.sync_of(person.cid)
        detail = {
            "groups": {"add": [], "remove": _names(session, sorted(person.sent.groups))},
            "deleted": True,
        }
        log_change(
            session.state, session.run, person.cid, person.email, session.now_s(), "remove", detail
        )
        drop(session.state, person.cid)
        session.books.add(sync, "removed")


def join_many(session: Session, gid: int, people: Sequence[Person]) -> Job:
    """POST /groups/:id/contacts for up to 1000 people; halved while refused, one by one where the endpoint is missing."""
    group = session.groups.rids[gid]
    rids = [person.rid for person in people if person.rid is not None]
    how, mails = session.mark("group"), session.mails((gid,))
    with session.state.tx():
        for person in people:
            contacts.mark(session.state, person, how, joins=(gid,), mails=mails)
    session.sent += 1
    try:
        yield lambda: session.api.add_contacts_to_group(group, rids)
    except NOT_SENT:
        session.unmark(people)
        raise
    except (NotSupported, NotFound, Refused) as error:
        session.unmark(people)
        if isinstance(error, NotSupported | NotFound) or len(people) == 1:
            session.group_endpoint = False
            return
        half = len(people) // 2
        yield from join_many(session, gid, people[:half])
        yield from join_many(session, gid, people[half:])
    except Unanswered as error:
        session.doubt([person.cid for person in people], error)
    else:
        with session.state.tx():
            for person in people:
                _joined(session, person, (gid,))
        session.watch.advance(len(people), detail=session.budget())
