"""One sync's step, from what was known to what was read: promoted, linked and merged in one transaction, judged, kept or rolled back.

The guards count what the transaction really did; a plan is the same transaction, always rolled back.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from syncd.core.change import Change
from syncd.core.guard import Limits, Tally, enough, judge, shrunk
from syncd.core.person import Person, Work, enrolments, work
from syncd.core.step import added, change_of, count, digest_of, shrink_digest
from syncd.reading import Feed
from syncd.state import approvals, books, feedback, links, listed, runs, sealed, steps
from syncd.state.links import Promoted, SyncRule
from syncd.state.newcomers import NOBODY, Newcomers
from syncd.state.reads import Read, SyncRow
from syncd.upload.rounds import check_moved, refuse_missing_groups
from syncd.upload.session import Session

TRIALS_MAX = 10  # of a sealed plan: a longer chain of people who need each other is left out
log = structlog.get_logger(__name__)
GUARD_HELD = "guard.held"  # a guard holds a sync; `why` has its words, `people` are held


class _HeldBackError(Exception):
    """Rolls the step's transaction back; never leaves this module."""


@dataclass(slots=True)
class Step:
    """What one sync's step came to."""

    trips: list[str] = field(default_factory=list)  # what each guard says; not empty: held
    held: int = 0  # people whose change is held
    held_fates: dict[str, int] = field(default_factory=dict)  # records, by the book they are in
    same: int = 0  # records that mean the same as before
    struck: int = 0  # records of forgotten people


@dataclass(frozen=True, slots=True)
class Ground:
    """What a step stands on. show: told of every change, held or not (for plans); None: nobody asks.

    cost: told of what each change needs, for plans.
    seal: told of everything that would be sent to each person whom the step touches, also what waited before it.
    sealed: only what the plan in `scratch.sealed` has is promoted and sent.
    """

    session: Session
    rules: Mapping[int, SyncRule]
    limits: Limits
    show: Callable[[Change], None] | None = None
    cost: Callable[[Person, Work], None] | None = None
    chosen: bool = False  # only some people of the read are meant: it is no whole read
    seal: Callable[[Change], None] | None = None
    sealed: bool = False

    @property
    def looks_at_each(self) -> bool:
        """Whether every single change is asked for, those of newcomers too."""
        return bool(self.show or self.cost or self.seal or self.sealed)


def promote_read(ground: Ground, sync: SyncRow, feed: Feed, read: Read) -> Step:
    """Promote what was read unless a guard trips; then the held changes are kept for `approve`."""
    session, state = ground.session, ground.session.state
    step = Step()
    undecided = check_moved(session, steps.moved_contacts(state, sync))
    if ground.sealed:
        _leave_unplanned(ground, sync, feed, read, undecided)
    with steps.ChangeBook() as book:
        try:
            with state.tx():
                step.struck = links.strike_forgotten(state, sync)
                tally, done = _apply(ground, sync, feed, read, undecided)
                step.same = done.same
                approved = runs.approvals(state, sync.name)
                each = ground.looks_at_each or bool(approved)
                _count(ground, sync, tally, done.newcomers, approved, book, each=each)
                shrink = shrunk(tally, ground.limits)
                tally.shrink_approved = shrink_digest(shrink) in approved
                step.trips = judge(tally, ground.limits)
                books.note_candidates(state, sync, first_new=done.first_new)
                if step.trips:
                    _note_newcomers(ground, sync, NOBODY if each else done.newcomers, book)
                    step.held_fates = books.held_fates(state, sync)
                    raise _HeldBackError
                approvals.use(state, sync.name, run=session.run)
                runs.release_held(state, sync.name)
                _note_stepped(ground, sync, done.newcomers)
        except _HeldBackError:
            session.groups.load()
        step.held = book.count if step.trips else 0
        if step.trips:
            if not state.rehearsal:
                log.warning(
                    GUARD_HELD, run=session.run, sync=sync.name, people=step.held, why=step.trips
                )
            with state.tx():
                runs.hold(
                    state,
                    session.run,
                    sync.name,
                    book.changes(free=False),
                    shrink=(shrink, shrink_digest(shrink)) if shrink else None,
                )
                steps.drop_token(state, sync)
        if ground.show is not None:
            for change, _ in book.changes():
                ground.show(change)
    return step


def _note_stepped(ground: Ground, sync: SyncRow, who: Newcomers) -> None:
    """Where only some people are meant, or each is shown: whom this step touches, for the rest of the run."""
    state = ground.session.state
    if ground.looks_at_each or ground.chosen:
        steps.touch(state, who)
        steps.note_stepped(state)
    if ground.sealed:
        sealed.step_only_planned(state, sync.name)


def _leave_unplanned(
    ground: Ground, sync: SyncRow, feed: Feed, read: Read, undecided: set[int]
) -> None:
    """Take off the stage whatever leads to a change that the sealed plan does not have, as often as that shows others."""
    session, state = ground.session, ground.session.state
    for left in reversed(range(TRIALS_MAX)):
        found = sealed.NOBODY
        sealed.note_causes(state, sync)
        with contextlib.suppress(_HeldBackError), state.tx():
            links.strike_forgotten(state, sync)
            _, done = _apply(ground, sync, feed, read, undecided)
            steps.touch(state, done.newcomers)
            for one in steps.touched(state, sync):
                _judge_whole(ground, sync, one.now)
            found = sealed.strays(state, sync)
            raise _HeldBackError
        session.groups.load()
        taken = sealed.take_off(state, sync, found, all_of_it=not left)
        read.passed_over += taken
        if not taken:
            return


def _judge_whole(ground: Ground, sync: SyncRow, person: Person) -> None:
    """Everything that would be sent to this person: sealed, or compared with what is sealed."""
    if ground.seal is None and not ground.sealed:
        return
    session = ground.session
    kinds, names = session.groups.kinds, session.groups.names
    todo = work(person, kinds, unjudged=True)
    change = change_of(person, todo, sync=sync.name, names=names, kinds=kinds)
    if change is None:
        return
    if ground.seal is not None:
        ground.seal(change)
    # The source's opt-outs are held by nothing, not even by a plan that does not have them.
    if ground.sealed and not (
        sealed.meet(session.state, sync.name, digest_of(change)) or todo.leave_all
    ):
        sealed.note_stray(session.state, person.cid)


def meet_pending(ground: Ground, sync: SyncRow) -> None:
    """Of what earlier runs promoted and could not send, what the sealed plan has is sent too."""
    state = ground.session.state
    with state.tx(scratch_only=True):
        for person in steps.pending(state, sync):
            _judge_whole(ground, sync, person)
        sealed.step_pending(state, sync)


def _apply(
    ground: Ground, sync: SyncRow, feed: Feed, read: Read, undecided: set[int]
) -> tuple[Tally, Promoted]:
    """Promote, link, merge, adopt: what the run would build on (inside the transaction)."""
    session, state = ground.session, ground.session.state
    steps.prepare_touched(state)
    if read.unchanged_source:
        steps.touch_waiting(state, sync)
        return Tally(live_before=links.live_count(state, sync)), Promoted(sync.last_rowno + 1)
    books.note_gone(state, sync)
    rule = ground.rules[sync.sync]
    promoted = links.promote(state, sync, rule, session.groups)
    if not ground.chosen and not read.passed_over:
        steps.save_read(state, sync, read, version=feed.version, now_s=session.now_s())
    else:
        steps.drop_token(state, sync)  # what is known now is no whole read of any file
    links.link(state, ground.rules, undecided)
    links.merge_touched(state, ground.rules, session.groups)
    if not sync.listed and read.read:
        listed.adopt(state, run=session.run)
        listed.forget_absent_opt_outs(state)
        if not ground.chosen:  # a careful first try does not stand for everybody's first listing
            steps.mark_listed(state, sync)
        links.merge_touched(state, ground.rules, session.groups)
    if not ground.chosen:
        steps.touch_waiting(state, sync, but=promoted.newcomers)
    if not feed.settings.create_groups:
        wanted = steps.touched_groups(state) | promoted.newcomers.gids
        refuse_missing_groups(session, wanted, sync=feed.name)
    tally = Tally(
        live_before=promoted.live_before,
        read=read.read,
        read_before=sync.read_count,
        full=read.full,
        first_run=sync.promoted_at is None,
        filter_changed=sync.version is not None and sync.version != feed.version,
    )
    return tally, promoted


def _count(
    ground: Ground,
    sync: SyncRow,
    tally: Tally,
    who: Newcomers,
    approved: set[bytes],
    book: steps.ChangeBook,
    *,
    each: bool,
) -> None:
    """Fill the tally with what this step adds, approved changes excepted; every change goes into the book.

    each: newcomers too are looked at one by one; else they are counted by what they want, and are in no book.
    """
    session, state = ground.session, ground.session.state
    if each:
        steps.touch(state, who)
    else:
        tally.creates += who.count  # nobody of them would be mailed
    for one in steps.touched(state, sync):
        _judge_whole(ground, sync, one.now)
        noted = _note(ground, sync, one, book)
        if noted is None:
            continue
        change, todo, digest = noted
        if digest in approved:
            approvals.note_carried_out(state, one.now.cid, run=session.run)
            tally.gone_approved += int(todo.delete or todo.removal)
            continue
        count(tally, change, todo, known=one.known, leaves=one.leaves)
    if tally.group_removals:
        sizes = steps.group_sizes(state, sync)
        names = session.groups.names
        tally.group_sizes = {names[gid]: size for gid, size in sizes.items()}
    if tally.enrolled:
        _count_bounced(ground, sync, tally)
    if tally.field_changes:
        at_most = enough(tally, ground.limits)
        tally.confirmed = steps.confirmed_count(state, sync, at_most=at_most)


def _count_bounced(ground: Ground, sync: SyncRow, tally: Tally) -> None:
    """How many of those who came from this source have bounced, and of those on each list that would mail more of them."""
    source = ground.rules[sync.sync].source
    syncs = [number for number, rule in ground.rules.items() if rule.source == source]
    state, names = ground.session.state, ground.session.groups.names
    tally.bounced[f"the source {source!r}"] = feedback.of_syncs(state, syncs)
    for gid, counts in feedback.of_groups(state, syncs).items():
        if names[gid] in tally.enrolments:
            tally.bounced[f"the group {names[gid]!r}"] = counts


def _note(
    ground: Ground, sync: SyncRow, one: steps.Touched, book: steps.ChangeBook
) -> tuple[Change, Work, bytes] | None:
    """One person's change, into the book; None when the step changes nothing for this person."""
    groups, state = ground.session.groups, ground.session.state
    todo = added(one.now, one.before, groups.kinds)
    change = change_of(one.now, todo, sync=sync.name, names=groups.names, kinds=groups.kinds)
    if change is None:
        return None
    if ground.cost is not None:
        ground.cost(one.now, todo)
    digest = digest_of(change)
    # The source's opt-outs were applied before, and are held by nothing.
    book.add(change, digest, free=todo.leave_all)
    steps.note_changing(state, one.now.cid)
    steps.let_pass(state, one.now.cid, enrolments(todo, groups.kinds))
    return change, todo, digest


def _note_newcomers(ground: Ground, sync: SyncRow, who: Newcomers, book: steps.ChangeBook) -> None:
    """The step is held: newcomers, so far only counted, are kept one by one for `approve`."""
    state = ground.session.state
    steps.touch(state, who)
    for one in steps.touched(state, sync, first=who.first, last=who.last):
        _note(ground, sync, one, book)
