"""Campaigns: which there are, who is in them, and enrolling people, each once for ever.

Whoever is enrolled in a campaign is mailed by it, as by a dynamic group: the ledger is written before the request. A contact
does not show its campaigns; what a lost answer has done is asked of the campaign's own listing [D]. Where an account has none,
it counts as done: nobody is enrolled again. Source: FluenzR reference, "Campaigns": `{"added","skipped","errors"}` [D].
"""

import contextlib
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from syncd.core.model import GroupKind
from syncd.core.nearest import suggestion
from syncd.core.person import Person, Work, work
from syncd.errors import AccessDenied, ConfigError, NotFound, NotSupported, Refused, Unanswered
from syncd.fluenzr import FluenzR
from syncd.fluenzr.campaign_types import ENDED, Campaign, Enrolled
from syncd.state import contacts, ledger, listed, queue
from syncd.state.groups import SeenGroup
from syncd.state.runs import log_change
from syncd.upload.pool import Job, Request
from syncd.upload.session import NOT_SENT, Session, words_of

log = structlog.get_logger(__name__)
CAMPAIGNS_REFUSED = "campaigns.refused"  # FluenzR does not list its campaigns now
MEMBERS_MISSING = "campaign.members_missing"  # nobody can tell who is in this campaign

ROWS_MAX = 1000  # people a request: by analogy with groups [?]
MEMBER_ROWS = 100  # of a listing, kept in one transaction

Refuse = Callable[[int, str], None]  # cid, FluenzR's words


# --- which there are, and who is in them --------------------------------------------------------------------------


def read_campaigns(session: Session) -> list[Campaign]:
    """Take over the account's campaigns; they themselves."""
    found = session.api.campaigns()
    with session.state.tx():
        session.groups.refresh_campaigns(SeenGroup(one.id, one.name, _kind(one)) for one in found)
    return found


def _kind(campaign: Campaign) -> GroupKind:
    return GroupKind.ENDED if campaign.status in ENDED else GroupKind.CAMPAIGN


def meet_campaigns(session: Session, names: Sequence[str], *, sync: str) -> None:
    """The campaigns that a sync names are there, and who is in them is known. Raises ConfigError for one that is not.

    Whoever was in a campaign before the sync knew it is not enrolled again, and counts for no guard.
    """
    groups = session.groups
    with session.state.tx():
        gids = {name: groups.campaign(name) for name in names}
    missing = [name for name, gid in gids.items() if gid not in groups.campaigns]
    if missing:
        known = [groups.names[gid] for gid in groups.campaigns]
        raise ConfigError(
            f"FluenzR has no campaign {', '.join(map(repr, missing))}",
            place=f"sync.{sync}.campaigns",
            hint=suggestion(missing[0], known) or "Create it: syncd campaigns create FILE",
        )
    for gid in groups.unread_campaigns(gids.values()):
        note_members(session, gid)


def note_members(session: Session, gid: int) -> None:
    """Whoever is in the campaign now is not enrolled again."""
    rid, chunk = session.groups.rids[gid], list[tuple[str, str]]()
    with contextlib.suppress(NotSupported):  # then FluenzR's own "skipped" tells
        for member in session.api.campaign_members(rid):
            chunk.append((member.contact_id, member.email))
            if len(chunk) >= MEMBER_ROWS:
                _bar(session, gid, chunk)
                chunk = []
    _bar(session, gid, chunk)
    with session.state.tx():
        session.groups.note_members_read(gid, now_s=session.now_s())


def _bar(session: Session, gid: int, members: Iterable[tuple[str, str]]) -> None:
    with session.state.tx():
        for rid, shown in members:
            email = shown.strip().lower() or queue.email_of(session.state, rid)
            email = email or listed.email_of(session.state, rid)
            if email:
                ledger.bar_address(session.state, email, f"g{gid}")


def _among(api: FluenzR, campaign: str, rids: Collection[str]) -> frozenset[str]:
    """Those of these contacts who are in the campaign: a listing that ends when all of them were seen."""
    found, left = set[str](), set(rids)
    for member in api.campaign_members(campaign):
        if member.contact_id in left:
            found.add(member.contact_id)
            left.discard(member.contact_id)
            if not left:
                break
    return frozenset(found)


def look_up_lost(session: Session) -> None:
    """Ask the campaigns about everybody whose enrolment is in doubt; `session.entered` holds the answers for the reads that follow."""
    session.entered.clear()
    lost = queue.lost_enrolments(session.state)
    session.pool.drive(_look_up(session, gid, people) for gid, people in lost.items())


def _look_up(session: Session, gid: int, people: dict[int, str | None]) -> Job:
    """people: cid -> FluenzR's id."""
    rids = [rid for rid in people.values() if rid is not None]
    campaign = session.groups.rids.get(gid)
    inside: frozenset[str] | None = frozenset()
    if campaign is not None and rids:
        try:
            inside = yield partial(_among, session.api, campaign, rids)
        except (NotSupported, NotFound):
            log.warning(MEMBERS_MISSING, campaign=campaign)
            inside = None
        except (Unanswered, Refused):
            return  # not now: they stay in doubt
    for cid, rid in people.items():
        known = None if inside is None or rid is None else frozenset({gid} if rid in inside else ())
        session.entered[cid] = known


# --- enrolling ----------------------------------------------------------------------------------------------------


def may_enter_now(todo: Work) -> bool:
    """Whether everything else is done: the e-mails use the fields, and whoever leaves is not enrolled."""
    others = (
        todo.fields or todo.custom_fields or todo.move_to or todo.join or todo.leave or todo.tag
    )
    return bool(todo.enter) and not (others or todo.leave_all or todo.delete)


def enter_one(session: Session, cid: int) -> Generator[Request, Any, bool]:
    """Every campaign that one contact is still to be enrolled in. False: one of them is in doubt, or refused."""
    person = session.person(cid)
    gids = () if person is None else work(person, session.groups.kinds).enter
    for gid in gids:
        person = session.person(cid)
        if person is None or not may_enter_now(work(person, session.groups.kinds)):
            return False
        yield from enter_many(session, gid, [person])
        if queue.is_in_flight(session.state, cid):
            return False
    return True


def enter_many(
    session: Session, gid: int, people: Sequence[Person], *, refuse: Refuse | None = None
) -> Job:
    """POST /campaigns/:id/contacts for up to 1000 people; halved while refused.

    refuse: told of everybody whom FluenzR refuses, inside a transaction; else they are quarantined.
    """
    refuse = refuse or session.refuse
    campaign = session.groups.rids[gid]
    rids = [person.rid for person in people if person.rid is not None]
    assert len(rids) == len(people)
    how = session.mark("enrol")
    with session.state.tx():
        for person in people:
            contacts.mark(session.state, person, how, enters=(gid,), mails=(gid,))
    session.sent += 1
    try:
        answer = yield partial(session.api.add_to_campaign, campaign, contact_ids=rids)
    except NOT_SENT:
        session.unmark(people)
        raise
    except Refused as error:
        session.unmark(people)
        yield from _refused(session, gid, people, error, refuse)
    except Unanswered as error:
        session.doubt([person.cid for person in people], error)
    else:
        yield from _answered(session, gid, people, answer, refuse)


def _refused(
    session: Session, gid: int, people: Sequence[Person], error: Refused, refuse: Refuse
) -> Job:
    """All of it: perhaps the campaign has ended meanwhile, perhaps one of them is the reason."""
    campaign = session.groups.rids[gid]
    try:
        ended = _kind((yield partial(session.api.campaign, campaign))) is GroupKind.ENDED
    except NotFound:
        ended = True
    except (Unanswered, Refused):
        ended = False
    if ended:
        with session.state.tx():
            session.groups.end_campaign(gid)
    elif len(people) > 1:
        half = len(people) // 2
        yield from enter_many(session, gid, people[:half], refuse=refuse)
        yield from enter_many(session, gid, people[half:], refuse=refuse)
    else:
        with session.state.tx():
            refuse(people[0].cid, words_of(error))


def _answered(
    session: Session, gid: int, people: Sequence[Person], answer: Enrolled, refuse: Refuse
) -> Job:
    """Believed only where its numbers fit: everybody is added, skipped, or refused."""
    refused = len(answer.errors)
    inside: Collection[str] | None = None
    if answer.added + answer.skipped + refused == len(people):
        inside = yield from _inside(session, gid, people, answer)
    if inside is None:
        with session.state.tx():
            contacts.answered(session.state, [person.cid for person in people])
        return
    bad, left = _named(people, answer), answer.added
    # FluenzR need not say whom an error means [?]: then it is whoever is not in the campaign.
    unnamed = answer.errors[0].message if len(bad) < refused else ""
    with session.state.tx():
        for place, person in enumerate(people):
            words = bad.get(place, unnamed)
            if words and person.rid not in inside:
                contacts.unmark(session.state, person)
                refuse(person.cid, words)
                continue
            added = place not in bad and person.rid in inside and left > 0
            left -= added
            _entered(session, person, gid, added=added)
    session.watch.advance(len(people), detail=session.budget())


def _inside(
    session: Session, gid: int, people: Sequence[Person], answer: Enrolled
) -> Generator[Request, Any, Collection[str] | None]:
    """Who of them is in the campaign: whoever was skipped or refused was in it before, or may not be mailed. None: not known now."""
    rids = [person.rid or "" for person in people]
    if answer.added == len(people):
        return rids
    bad = _named(people, answer)
    try:
        found: frozenset[str] = yield partial(_among, session.api, session.groups.rids[gid], rids)
    except (NotSupported, NotFound):
        # Nobody can tell who was skipped: the numbers are right, and nobody is asked for again.
        good = [rid for place, rid in enumerate(rids) if place not in bad]
        return good if len(bad) == len(answer.errors) else None
    except (Unanswered, Refused):
        return None
    return found


def _named(people: Sequence[Person], answer: Enrolled) -> dict[int, str]:
    """place in the request -> FluenzR's words, for the errors that say whom they mean [?]."""
    if len(answer.errors) == len(people):
        return {place: error.message for place, error in enumerate(answer.errors)}
    by_id = {person.rid: place for place, person in enumerate(people)}
    by_email = {person.email: place for place, person in enumerate(people)}
    bad = {}
    for error in answer.errors:
        place = by_id.get(error.contact_id, by_email.get(error.email.strip().lower()))
        if place is not None:
            bad[place] = error.message
    return bad


def _entered(session: Session, person: Person, gid: int, *, added: bool) -> None:
    """FluenzR has enrolled the contact, or has skipped it for good (inside a transaction)."""
    sent = replace(person.sent, campaigns=person.sent.campaigns | {gid})
    contacts.confirm(session.state, person.cid, sent, run=session.run)
    name = session.groups.names[gid]
    detail: dict[str, Any] = {"campaigns": {"add": [name] if added else [], "remove": []}}
    if not added:
        detail["skipped"] = [name]
    now_s = session.now_s()
    log_change(session.state, session.run, person.cid, person.email, now_s, "group", detail)
    session.count(person, *(("grouped", "enrolled") if added else ()))


# --- leaving ------------------------------------------------------------------------------------------------------


def leave_campaigns(session: Session, rid: str) -> Generator[Request, Any, bool]:
    """Out of every campaign that may still send. Doing it twice does no harm, so nothing is marked. False: not sure, later again."""
    try:
        if session.campaigns is None:
            session.campaigns = yield from _open_campaigns(session)
        for campaign in session.campaigns:
            session.sent += 1
            with contextlib.suppress(Refused):  # not a member, or no such endpoint on this account
                yield partial(session.api.remove_from_campaign, campaign, [rid])
    except (Unanswered, Refused):
        return False
    return True


def _open_campaigns(session: Session) -> Generator[Request, Any, list[str]]:
    try:
        found: list[Campaign] = yield session.api.campaigns
    except AccessDenied as error:  # the key serves for contacts only: groups are left all the same
        log.warning(CAMPAIGNS_REFUSED, why=str(error))
        return []
    return [campaign.id for campaign in found if campaign.status not in ENDED]
