"""Undoing a run: what it changed is put back where nobody has touched it since, and what cannot be undone is told.

Whatever is put back becomes an exception from what the sources want (`core.undo`), in the transaction before anything is sent;
then it is sent like any other change: marked, sent, confirmed. So a killed undoing is finished by the next run, or by the same
command. Nobody is created, deleted, moved or added to a dynamic group by it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from syncd.clock import Clock
from syncd.config import Settings
from syncd.core.model import GroupKind
from syncd.core.person import Payload, Person, same_value, work
from syncd.core.undo import (
    CUSTOM,
    Decision,
    Exemption,
    Ground,
    NotUndone,
    Part,
    Reason,
    decide,
    hindrance,
    lay_off,
    without_drift,
)
from syncd.errors import FluenzrError, UsageError
from syncd.fluenzr import FluenzR
from syncd.run import rules_of
from syncd.state import contacts, listed, queue, runs, steps, undone
from syncd.state.groups import Groups
from syncd.state.store import State, hold, open_state
from syncd.state.undone import Extent, Past
from syncd.upload import listing
from syncd.upload.pool import Job, Pool
from syncd.upload.readback import verify
from syncd.upload.recover import recover
from syncd.upload.rounds import upload
from syncd.upload.session import Session
from syncd.watch import Watch

CHUNK_PEOPLE = 500  # read, decided and committed at a time
LIST_ROWS = listing.PAGE_ROWS  # a page of the listing shows so many for the price of one read

WHAT = {
    Reason.DELETED: "was deleted by the run",
    Reason.GONE: "is not in FluenzR any more",
    Reason.TOUCHED: "has another address now",
    Reason.WAITS: "waits for another change that mails, moves or deletes; `syncd sync` first",
}


@dataclass(slots=True)
class UndoResult:
    """What an undoing came to. people: with everything put back or partly; fields, groups, tags: put back, in all.

    run: the number of the undoing itself; of: the run that it undoes. not_undone: reason -> how many things.
    """

    run: int
    of: int
    people: int = 0
    fields: int = 0
    groups: int = 0
    tags: int = 0
    not_undone: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    seconds: float = 0.0
    error: str | None = None

    @property
    def exit_code(self) -> int:
        """0 all undone, 3 some of it not, 1 failed."""
        return 1 if self.error else 3 if self.not_undone else 0


def look(state: State, number: int) -> Extent:
    """How much the run did. Raises UsageError when there is no such run."""
    found = undone.extent(state.db, number)
    if found is None:
        raise UsageError(f"There is no run {number}", hint="`syncd history` lists the runs")
    return found


def undo(
    settings: Settings,
    number: int,
    *,
    api: FluenzR,
    clock: Clock,
    watch: Watch,
    show: Callable[[NotUndone], None],
    wait_s: float,
) -> UndoResult:
    """Undo one run. show: told of everything that stays as it is, those who were mailed first. wait_s: for the lock.

    An undoing is undone by giving the word back to the sources. Raises UsageError, StateError, Interrupted.
    """
    path = settings.state.path
    with hold(path, wait_s=wait_s, clock=clock), open_state(path) as state:
        extent = look(state, number)
        pool = Pool(clock, api)
        try:
            return _Undoing(
                settings, state, api, pool, clock, watch, number, extent, show
            ).execute()
        finally:
            pool.close()


class _Undoing:
    """The steps of one undoing, with what they share."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        api: FluenzR,
        pool: Pool,
        clock: Clock,
        watch: Watch,
        number: int,
        extent: Extent,
        show: Callable[[NotUndone], None],
    ) -> None:
        self.state, self.clock, self._show, self._extent = state, clock, show, extent
        self._started_s = clock.monotonic_s()
        with state.tx():
            run = runs.start_run(state, now_s=int(clock.now_s()), kind="undo")
            self.rules = rules_of(settings, state)
        probe = state.meta("probe") or {}
        self.session = Session(
            state, api, pool, Groups(state), clock, watch, run,
            bulk=settings.fluenzr.bulk,
            settle_s=settings.fluenzr.settle_s,
            custom_fields_merge=probe.get("bulk_custom_fields") == "merge",
            clears_with="" if probe.get("clearing") == "empty_string" else None,
            only_stepped=True,
            links=False,  # a read may show another address by hand: that is left to the next sync
        )  # fmt: skip
        listed.prepare_listed(state)
        steps.prepare_stepped(state)
        # What the last run left in flight is confirmed under our number: it is part of what that run did.
        self.runs = (number, run) if extent.last else (number,)
        self.result = UndoResult(run, number)
        self._unreadable = set[int]()

    def execute(self) -> UndoResult:
        session, result = self.session, self.result
        try:
            listing.read_groups(session)
            recover(session)
            listing.refresh_opt_outs(session)
            if self._extent.kind == "undo":
                self._give_back()
            else:
                self._tell_mailed()
                self._list_if_cheaper()
                for some in _chunks(
                    undone.pasts(self.state, self.runs, names=session.groups.names)
                ):
                    self._put_back(some)
            upload(session, self.rules)
        except FluenzrError as error:
            result.error = str(error)
        self._count()
        result.requests = session.api.requests
        result.seconds = round(self.clock.monotonic_s() - self._started_s, 3)
        with self.state.tx():
            if result.error:
                runs.end_failed(self.state, session.run, result.error, now_s=session.now_s())
            else:
                runs.end_run(self.state, session.run, [], now_s=session.now_s())
        return result

    def _tell(self, found: NotUndone) -> None:
        counts = self.result.not_undone
        counts[found.reason.value] = counts.get(found.reason.value, 0) + 1
        self._show(found)

    def _tell_mailed(self) -> None:
        """First of all who was mailed: nothing calls that back."""
        for past in undone.pasts(self.state, self.runs, names=self.session.groups.names):
            groups = [name for name in past.joined if not self._is_static(name)]
            groups += past.enrolled
            if groups:
                what = f"mailed on joining {', '.join(sorted(set(groups)))}"
                self._tell(NotUndone(past.deed.email, Reason.MAILED, what))

    def _is_static(self, name: str) -> bool:
        gid = self._gids().get(name)
        return gid is not None and self.session.groups.kinds[gid] is GroupKind.STATIC

    def _gids(self) -> dict[str, int]:
        groups = self.session.groups
        return {name: gid for gid, name in groups.names.items() if groups.is_group(gid)}

    # --- reading --------------------------------------------------------------------------------------------------

    def _list_if_cheaper(self) -> None:
        """Each contact is read before anything is decided; of many, a listing of the account shows them for less."""
        people = self._extent.changed + self._extent.created
        if people > LIST_ROWS and people * LIST_ROWS > queue.known_count(self.state):
            listing.list_account(self.session)

    def _read(self, past: Past) -> Job:
        session, person = self.session, self.session.person(past.cid)
        if person is None or person.state != "ok" or past.deed.deleted:
            return
        past.before = person
        seen = listed.find(self.state, person.email)
        same = seen is not None and person.rid in (None, seen.shown.rid)
        if seen is not None and same and not queue.is_in_flight(self.state, past.cid):
            with self.state.tx():
                contacts.absorb(self.state, past.cid, seen.shown, run=session.run)
        elif not (yield from verify(session, past.cid)):
            self._unreadable.add(past.cid)

    # --- deciding -------------------------------------------------------------------------------------------------

    def _put_back(self, some: list[Past]) -> None:
        self.session.watch.phase("", "check", len(some))
        self.session.pool.drive(self._read(past) for past in some)
        with self.state.tx():
            for past in some:
                self._put_back_one(past)

    def _put_back_one(self, past: Past) -> None:
        session, state, cid = self.session, self.state, past.cid
        person = session.person(cid)
        if cid in self._unreadable or (person and queue.is_in_flight(state, cid)):
            words = "could not be read just now: run the same command again"
            self._tell(NotUndone(past.deed.email, Reason.UNREADABLE, words))
            return
        before = past.before
        if person is not None and before is not None and _same_contact(before, person):
            # Reading somebody is no reason to overwrite what hands have changed: drift is left alone, here too.
            contacts.note_sent(state, cid, without_drift(person, before.sent))
        reason = hindrance(person, past.deed, session.groups.kinds)
        if reason is not None:
            self._tell(NotUndone(past.deed.email, reason, WHAT[reason]))
            return
        assert person is not None
        exempt = undone.of_contacts(state, [cid]).get(cid, [])
        decision = self._decide(past, person, exempt)
        if past.deed.created:
            words = (
                "was created by the run: stays in FluenzR, without the groups and tags that it got"
            )
            decision.keep(person.email, Reason.CREATED, words)
        for found in decision.not_undone:
            self._tell(found)
        again = [one for one in exempt if one.of == self.result.of]
        if decision.exemptions or again:
            # Those of an earlier try are ours now, too: they are counted, and sent if they were not.
            undone.save(state, cid, [*again, *decision.exemptions], run=session.run)
            steps.step(state, cid)

    def _decide(self, past: Past, person: Person, exempt: list[Exemption]) -> Decision:
        session = self.session
        seen = listed.find(self.state, person.email)
        shown = None if seen is None else seen.shown
        undoings = undone.undoings(self.state)
        names = {_name(one, session.groups.names): one.of for one in exempt}
        later = {
            name
            for run, changed in past.later.items()
            for name in changed
            # What a later run did and was undone since does not count.
            if run not in undoings and names.get(name) != run
        }
        ground = Ground(
            person=person,
            want=lay_off(person.want, exempt),
            later=later,
            of=self.result.of,
            exempt={(one.part, one.name): one for one in exempt},
            # What FluenzR never shows (`send_as`) is believed as it was sent.
            fields={**person.sent.fields, **(shown.fields if shown else {})},
            custom_fields={**person.sent.custom_fields, **(shown.custom_fields if shown else {})},
            groups=shown.groups if shown else None,
            tags=shown.tags if shown else None,
            gids=self._gids(),
            there=session.groups.rids,
            kinds=session.groups.kinds,
        )
        return decide(past.deed, ground)

    def _give_back(self) -> None:
        """The run to be undone was an undoing: its exceptions end, and what the sources want holds again, mails excepted."""
        session, state = self.session, self.state
        with state.tx():
            for cid in undone.people_of_undoing(state, self.result.of):
                person = session.person(cid)
                assert person is not None
                made = undone.made_by(state, cid, self.result.of)
                barred = [one for one in made if self._would_mail(one)]
                for one in barred:
                    words = f"group {session.groups.names[int(one.name)]}: joining it would mail"
                    self._tell(NotUndone(person.email, Reason.WOULD_MAIL, words))
                ended = [one for one in made if one not in barred]
                todo = work(person, session.groups.kinds, unjudged=True)
                if ended and (todo.delete or todo.move_to or session.mails(todo.join)):
                    self._tell(NotUndone(person.email, Reason.WAITS, WHAT[Reason.WAITS]))
                elif ended:
                    undone.end(state, cid, ended)
                    undone.save(state, cid, [], run=session.run)
                    steps.step(state, cid)
                    self._add([one.part for one in ended])

    def _would_mail(self, one: Exemption) -> bool:
        kinds = self.session.groups.kinds
        joins = one.part is Part.GROUP and bool(one.undone)
        return joins and kinds.get(int(one.name)) is not GroupKind.STATIC

    # --- what it came to ------------------------------------------------------------------------------------------

    def _add(self, parts: list[Part]) -> None:
        result = self.result
        result.people += bool(parts)
        result.fields += sum(part in (Part.FIELD, Part.CUSTOM_FIELD) for part in parts)
        result.groups += parts.count(Part.GROUP)
        result.tags += parts.count(Part.TAG)

    def _count(self) -> None:
        """What FluenzR has confirmed counts as put back; the rest waits for the next run."""
        for cid in undone.people_of_undoing(self.state, self.session.run):
            person = self.session.person(cid)
            assert person is not None
            made = undone.made_by(self.state, cid, self.session.run)
            done = [one for one in made if _is_done(one, person.sent)]
            if len(done) < len(made):
                words = "not confirmed yet: the next run goes on with it"
                self._tell(NotUndone(person.email, Reason.WAITS, words))
            self._add([one.part for one in done])


def _is_done(one: Exemption, sent: Payload) -> bool:
    match one.part:
        case Part.FIELD:
            return same_value(sent.fields.get(str(one.name)), one.instead)
        case Part.CUSTOM_FIELD:
            return same_value(sent.custom_fields.get(str(one.name)), one.instead)
        case Part.GROUP:
            return (one.name in sent.groups) is bool(one.instead)
        case Part.TAG:
            return (one.name in sent.tags) is bool(one.instead)


def _name(one: Exemption, groups: Mapping[int, str]) -> str:
    """As the history names it."""
    match one.part:
        case Part.FIELD:
            return str(one.name)
        case Part.CUSTOM_FIELD:
            return f"{CUSTOM}{one.name}"
        case Part.GROUP:
            return f"group {groups[int(one.name)]}"
        case Part.TAG:
            return f"tag {one.name}"


def _chunks(pasts: Iterator[Past]) -> Iterator[list[Past]]:
    while some := list(islice(pasts, CHUNK_PEOPLE)):
        yield some


def _same_contact(before: Person, now: Person) -> bool:
    """Whether FluenzR still has the contact that it had: not one that somebody made anew, or renamed, under the same address."""
    if before.rid is not None:
        return before.rid == now.rid
    if before.origin != now.origin:  # its id was never known; adopted now: it is another one
        return False
    was, shown = before.sent, now.sent  # something of ours is still there
    fields = any(same_value(shown.fields.get(name), value) for name, value in was.fields.items())
    return fields or bool(was.tags & shown.tags or was.groups & shown.groups)
