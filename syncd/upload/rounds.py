"""The order of the upload: erasures, moves, creates, field updates, then what needs an id. Repeated until a round sends nothing.

A round begins with the records whose address has changed: their contacts are read, linked and merged; it ends with
reading what is in doubt.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Generic, TypeVar

from syncd.core.person import Person, Work, enrolments, work
from syncd.errors import ConfigError, Conflict, FluenzrError, Unanswered
from syncd.state import creating, listed, queue
from syncd.state.creating import Creation
from syncd.state.groups import SeenGroup
from syncd.state.links import SyncRule, link, merge_touched
from syncd.state.queue import Filter, Unsettled
from syncd.upload import bulk, by_id, campaigns, creates
from syncd.upload.erase import erase_due
from syncd.upload.listing import read_groups
from syncd.upload.pool import Job
from syncd.upload.readback import verify, verify_job
from syncd.upload.recover import read_created, recover, wait_until_settled
from syncd.upload.session import Session

ROUNDS_MAX = 5
BUFFER_ROWS_MAX = 20_000  # people waiting for their batch to fill, over all sets of groups

GROUP_SENT = "group_sent"  # of the state's meta table: a group is being created since then, by our clock and by FluenzR's

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


def upload(session: Session, rules: Mapping[int, SyncRule]) -> None:
    """Bring FluenzR to what is wanted. Everything that was promoted and not sent yet is sent."""
    create_groups(session)
    for _ in range(ROUNDS_MAX):
        undecided = check_moved(session) if session.links else set()
        with session.state.tx():
            if session.links:
                link(session.state, rules, undecided)
            merge_touched(session.state, rules, session.groups)
        create_groups(session)
        session.sent = 0
        _send(session)
        settled = recover(session)
        if not (session.sent or settled):
            return


def opt_out(session: Session, rules: Mapping[int, SyncRule]) -> None:
    """Whom a source has opted out leaves every group and campaign, before anything else is sent.

    Nothing holds it up: no guard, no careful first try of others, no group that is missing.
    """
    with session.state.tx():
        merge_touched(session.state, rules, session.groups, only_opted_out=True)
    found = queue.due(session.state, queue.LEAVING, now_s=session.now_s(), only_stepped=False)
    session.pool.drive(by_id.settle_by_id(session, person.cid) for person in found)


def check_moved(session: Session, cids: list[int] | None = None) -> set[int]:
    """Read the contacts whose records have another address now, before anything is decided; those that stay undecided.

    cids: the contacts to read instead of those of dirty records (before a promotion).
    """
    undecided = queue.undecidable(session.state)
    if cids is None:
        cids = queue.moved(session.state)
    undecided |= queue.in_back_off(session.state, cids, now_s=session.now_s())

    def read(cid: int) -> Job:
        if not (yield from verify(session, cid)):
            undecided.add(cid)

    to_read = [cid for cid in cids if cid not in undecided]
    if to_read:
        session.watch.phase("", "check", len(to_read))
    session.pool.drive(read(cid) for cid in to_read)
    return undecided


def create_groups(session: Session) -> None:
    """Groups that are named and missing are created, static, before anybody is sent."""
    if not session.groups.to_create():
        return
    _find_lost_group(session)
    for gid in session.groups.to_create():
        if not queue.is_group_wanted(session.state, gid):
            continue  # named once, by a configuration or a source of the past
        name = session.groups.names[gid]
        how = session.mark("create")
        _note_group_sent(session, (how.now_s, how.server_ms))
        try:
            group = session.api.create_group(name)
        except Conflict:
            read_groups(session)  # somebody else has made it just now
            _note_group_sent(session, None)
            if gid in session.groups.rids:
                continue
            raise
        except Unanswered as error:
            raise Unanswered(
                f"The group {name!r} could not be created", why=error.why or error.what,
                hint="Nothing was sent; the next run looks for the group first", answered=True,
            ) from None  # fmt: skip
        except FluenzrError:
            _note_group_sent(session, None)
            raise
        with session.state.tx():
            session.groups.created(gid, SeenGroup(group.id, group.name, group.kind))
            session.state.set_meta(GROUP_SENT, None)


def _note_group_sent(session: Session, at: tuple[int, int | None] | None) -> None:
    with session.state.tx():
        session.state.set_meta(GROUP_SENT, at)


def _find_lost_group(session: Session) -> None:
    """A create that got no answer may still take effect: looked for when it cannot any more, lest there be two of one name."""
    sent = session.state.meta(GROUP_SENT)
    if sent is None:
        return
    wait_until_settled(session, Unsettled(*sent))
    read_groups(session)
    _note_group_sent(session, None)


def refuse_missing_groups(session: Session, wanted: set[int], *, sync: str) -> None:
    """`create_groups = false`: a missing group is a mistake. Raises ConfigError."""
    missing = sorted(
        session.groups.names[gid] for gid in session.groups.to_create() if gid in wanted
    )
    if missing:
        raise ConfigError(
            f"FluenzR has no group {', '.join(map(repr, missing))}",
            place=f"sync.{sync}.groups",
            hint="Create it in FluenzR, or set create_groups = true",
        )


# --- one round ----------------------------------------------------------------------------------------------------


def _send(session: Session) -> None:
    session.watch.phase("", "upload", queue.due_count(session.state))
    erase_due(session)
    session.pool.drive(_moves(session))
    _create(session)
    _update(session)
    _join(session)
    session.pool.drive(_by_id(session))
    _rest(session)


def _due(session: Session, which: Filter) -> Iterator[tuple[Person, Work]]:
    """Contacts that are due, with what is to be done."""
    found = queue.due(
        session.state, which, now_s=session.now_s(), only_stepped=session.only_stepped
    )
    for person in found:
        yield person, work(person, session.groups.kinds)


def _moves(session: Session) -> Iterator[Job]:
    """Address changes, of people who were read in this run: whoever could not be read waits."""
    for person, todo in _due(session, queue.MOVING):
        if todo.move_to and _fresh(session, person.cid):
            yield by_id.move(session, person)


def _create(session: Session) -> None:
    """Creates; once more where the account turns out to have no bulk endpoint."""
    session.pool.drive(_creates(session))
    if session.bulk_missing:
        session.pool.drive(_creates(session))


def _creates(session: Session) -> Iterator[Job]:
    found = creating.due(
        session.state,
        session.groups.kinds,
        now_s=session.now_s(),
        only_stepped=session.only_stepped,
    )
    batches: Batches[tuple[tuple[int, ...], int], Creation] = Batches()
    for one in found:
        if session.one_by_one:
            yield creates.create_one(session, one)
            continue
        # What failed as often goes together: it may sink its batch again, and whoever was not tried alone comes first.
        for (gids, _), people in batches.add((one.gids, one.tries), one):
            yield creates.create_many(session, people, gids)
    for (gids, _), people in batches.rest():
        yield creates.create_many(session, people, gids)


def _update(session: Session) -> None:
    if not session.custom_fields_merge:
        # Custom fields of people could be lost [?]: theirs are read first and sent along.
        session.pool.drive(_reads_before_custom_fields(session))
    session.pool.drive(_updates(session))
    if session.bulk_missing:
        session.pool.drive(_updates(session))


def _needs_update(todo: Work) -> bool:
    return bool(todo.fields or todo.custom_fields)


def _reads_before_custom_fields(session: Session) -> Iterator[Job]:
    cids = [
        person.cid
        for person, todo in _due(session, queue.CUSTOMISED)
        if todo.custom_fields and not listed.find(session.state, person.email)
    ]
    yield from (verify_job(session, cid) for cid in cids)


def _updates(session: Session) -> Iterator[Job]:
    batches: Batches[int, bulk.Update] = Batches()
    for person, todo in _due(session, queue.PRESENT):
        if not _needs_update(todo):
            continue
        fields = {name: new for name, (_, new) in todo.fields.items()}
        custom = {name: new for name, (_, new) in todo.custom_fields.items()}
        if (
            custom
            and not session.custom_fields_merge
            and not listed.find(session.state, person.email)
        ):
            continue  # could not be read: not now
        # Opted-out people are in no bulk: if somebody deletes one by hand, a bulk would make the address anew.
        if person.opted_out or session.one_by_one:
            yield _update_by_id(session, person.cid)
            continue
        update = bulk.plan_update(session, person, fields, custom)
        for _, updates in batches.add(person.tries, update):
            yield bulk.update_many(session, updates)
    for _, updates in batches.rest():
        yield bulk.update_many(session, updates)


def _update_by_id(session: Session, cid: int) -> Job:
    """A PUT needs the id; it comes with a fresh read, after which the question is asked again."""
    person = session.person(cid)
    if person is None or (person.rid is None and not (yield from verify(session, cid))):
        return
    person = session.person(cid)
    if person is None or person.state != "ok" or person.rid is None:
        return
    todo = work(person, session.groups.kinds)
    if not _needs_update(todo):
        return
    fields = {name: new for name, (_, new) in todo.fields.items()}
    custom = {name: new for name, (_, new) in todo.custom_fields.items()}
    yield from bulk.update_one(session, person, bulk.plan_update(session, person, fields, custom))


def _join(session: Session) -> None:
    """Adds to groups and campaigns, up to 1000 people a request; what is left goes with the next step."""
    cids = [
        person.cid
        for person, todo in _due(session, queue.PRESENT)
        if (todo.join or todo.enter)
        and (
            person.rid is None
            or (enrolments(todo, session.groups.kinds) and not _fresh(session, person.cid))
        )
        and not queue.contested(session.state, person)
    ]
    session.pool.drive(iter([read_created(session, cids)]))
    session.pool.drive(verify_job(session, cid) for cid in cids if not _fresh(session, cid))
    _until_none_is_left(session, _joins)
    _until_none_is_left(session, _enters)


def _until_none_is_left(session: Session, step: Callable[[Session], Iterator[Job]]) -> None:
    """Again and again: of each person a step takes one group at a time."""
    before = -1
    while session.sent != before:
        before = session.sent
        session.pool.drive(step(session))


def _fresh(session: Session, cid: int) -> bool:
    return queue.read_in(session.state, cid) == session.run


def _joins(session: Session) -> Iterator[Job]:
    batches: Batches[int, Person] = Batches()
    if not session.group_endpoint:  # refused meanwhile: one by one, by the contact
        return
    for person, todo in _due(session, queue.IDENTIFIED):
        only_joins = todo.join and not (todo.leave or todo.leave_all or todo.delete)
        ready = not session.mails(todo.join) or _fresh(session, person.cid)
        if not only_joins or not ready or queue.contested(session.state, person):
            continue
        # One group at a time and contact: the others follow when this one is confirmed.
        for gid, people in batches.add(todo.join[0], person):
            yield by_id.join_many(session, gid, people)
    for gid, people in batches.rest():
        yield by_id.join_many(session, gid, people)


def _enters(session: Session) -> Iterator[Job]:
    batches: Batches[int, Person] = Batches()
    for person, todo in _due(session, queue.IDENTIFIED):
        ready = campaigns.may_enter_now(todo) and _fresh(session, person.cid)
        if not ready or queue.contested(session.state, person):
            continue
        for gid, people in batches.add(todo.enter[0], person):
            yield campaigns.enter_many(session, gid, people)
    for gid, people in batches.rest():
        yield campaigns.enter_many(session, gid, people)


def _by_id(session: Session) -> Iterator[Job]:
    for person, todo in _due(session, queue.ANYBODY):
        if todo.by_id or todo.look_up:
            yield by_id.settle_by_id(session, person.cid)


def _rest(session: Session) -> None:
    """Contacts with nothing left to do leave the queue; whom no guard has judged yet waits for that."""
    kinds = session.groups.kinds
    quiet = [
        person.cid
        for person, todo in _due(session, queue.ANYBODY)
        if not todo.any and not todo.move_to and not work(person, kinds, unjudged=True).any
    ]
    with session.state.tx():
        queue.leave_queue(session.state, quiet)


class Batches(Generic[Key, Item]):
    """Items gathered by key until a batch is full. Bounded: when too many wait, the fullest goes first."""

    def __init__(self) -> None:
        self._waiting: dict[Key, list[Item]] = {}
        self._count = 0

    def add(self, key: Key, item: Item) -> Sequence[tuple[Key, list[Item]]]:
        """Add one item; the batch that is full by it, if any."""
        batch = self._waiting.setdefault(key, [])
        batch.append(item)
        self._count += 1
        if len(batch) >= bulk.BULK_ROWS_MAX:
            return (self._take(key),)
        if self._count >= BUFFER_ROWS_MAX:
            return (self._take(max(self._waiting, key=lambda k: len(self._waiting[k]))),)
        return ()

    def rest(self) -> Iterator[tuple[Key, list[Item]]]:
        """What is left."""
        for key in list(self._waiting):
            yield self._take(key)

    def _take(self, key: Key) -> tuple[Key, list[Item]]:
        batch = self._waiting.pop(key)
        self._count -= len(batch)
        return key, batch
