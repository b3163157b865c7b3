"""What a plan adds up to: people per kind of change, requests, and who would be mailed."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from syncd.core.change import Change, ChangeKind
from syncd.core.person import Person, Work, work
from syncd.core.result import PlanResult
from syncd.core.step import change_of
from syncd.state import listed, queue, steps
from syncd.state.reads import SyncRow
from syncd.upload.bulk import BULK_ROWS_MAX
from syncd.upload.session import Session


@dataclass(slots=True)
class Forecast:
    """The running totals of one sync's plan. show: told of every change."""

    sync: str
    session: Session
    show: Callable[[Change], None]
    result: PlanResult = field(init=False)
    _alone: int = 0  # requests for one person
    _batches: Counter[Hashable] = field(default_factory=Counter)  # what goes together -> people
    _groups: set[str] = field(default_factory=set)  # names

    def __post_init__(self) -> None:
        self.result = PlanResult(self.sync)

    def note(self, change: Change) -> None:
        """Count the people of one change, and show it."""
        result = self.result
        result.create += change.kind is ChangeKind.CREATE
        result.move += change.kind is ChangeKind.MOVE
        result.remove += change.kind is ChangeKind.REMOVE
        changes_fields = (
            bool(set(change.fields) - {"email"}) and change.kind is not ChangeKind.CREATE
        )
        result.update += changes_fields
        result.group += bool(change.groups.add or change.campaigns)
        result.ungroup += bool(change.groups.remove)
        result.enrol += bool(change.enrol)
        for name in change.enrol:
            result.enrol_by_group[name] = result.enrol_by_group.get(name, 0) + 1
        self.show(change)

    def groups(self) -> set[str]:
        """Names of all groups that somebody would join."""
        return self._groups

    def cost(self, person: Person, todo: Work) -> None:
        """Count the requests that this would take, as `syncd.upload` sends them."""
        before = self._requests()
        self._alone += _read_first(self.session, person, todo)
        for gid in todo.enter:
            self._batches["campaign", gid] += 1
        # By name, now: a held step is rolled back, and with it the numbers of groups that only it has named.
        self._groups.update(self.session.groups.names[gid] for gid in todo.join)
        if todo.create:
            self._together("create", todo.join)
        else:
            self._cost_of_present(person, todo)
        self.result.requests += self._requests() - before

    def _cost_of_present(self, person: Person, todo: Work) -> None:
        self._alone += bool(todo.move_to) + todo.delete + todo.leave_all
        if todo.leave_all:
            self._batches["campaigns"] = 1  # which there are; leaving each costs another one
        if todo.delete or todo.leave_all:
            return
        if todo.fields or todo.custom_fields:
            if person.opted_out:  # in no bulk
                self._alone += 1
            else:
                self._together("update")
        self._alone += bool(todo.leave) + bool(todo.untag) + bool(todo.tag)
        for gid in todo.join:
            if todo.leave:  # taking away comes first, and what follows is sent alone, too
                self._alone += 1
            else:
                self._batches["join", gid] += 1

    def _together(self, *key: Hashable) -> None:
        if self.session.one_by_one:
            self._alone += 1
        else:
            self._batches[key] += 1

    def _requests(self) -> int:
        return self._alone + sum(-(-people // BULK_ROWS_MAX) for people in self._batches.values())


def _read_first(session: Session, person: Person, todo: Work) -> bool:
    """Whether FluenzR is asked about this person alone: for an id, or for what must not be done by an old picture."""
    state = session.state
    if todo.create:
        return bool(todo.enter)
    if todo.move_to or todo.delete:
        return True
    by_id = todo.by_id or (person.opted_out and bool(todo.fields or todo.custom_fields))
    if by_id and person.rid is None:
        return True
    mailing = session.mails(todo.join) or todo.enter or todo.leave_all or todo.look_up
    if mailing and queue.read_in(state, person.cid) != session.run:
        return True
    lost = todo.custom_fields and not session.custom_fields_merge
    return bool(lost) and listed.find(state, person.email) is None


def pending(forecast: Forecast, sync: SyncRow) -> Iterator[Change]:
    """What earlier runs promoted and have not sent yet, or could not."""
    session = forecast.session
    kinds, names = session.groups.kinds, session.groups.names
    for person in steps.pending(session.state, sync):
        todo = work(person, kinds)
        change = change_of(person, todo, sync=sync.name, names=names, kinds=kinds)
        if change is not None:
            forecast.cost(person, todo)
            yield change
