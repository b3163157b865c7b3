"""What a plan adds up to: people per kind of change, requests, and who would be mailed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from syncd.core.change import Change, ChangeKind
from syncd.core.person import work
from syncd.core.result import PlanResult
from syncd.core.step import change_of
from syncd.state import steps
from syncd.state.reads import SyncRow
from syncd.upload.bulk import BULK_ROWS_MAX
from syncd.upload.session import Session


@dataclass(slots=True)
class Forecast:
    """The running totals of one sync's plan. show: told of every change."""

    sync: str
    show: Callable[[Change], None]
    result: PlanResult = field(init=False)
    _creates: dict[tuple[str, ...], int] = field(default_factory=dict)  # set of groups -> people
    _updates: int = 0
    _singles: int = 0
    _joins: dict[str, int] = field(default_factory=dict)  # group -> people who are there already
    _enters: dict[str, int] = field(default_factory=dict)  # campaign -> people

    def __post_init__(self) -> None:
        self.result = PlanResult(self.sync)

    def note(self, change: Change) -> None:
        """Count one change, and show it."""
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
        self._count_requests(change, changes_fields=changes_fields)
        self.show(change)

    def groups(self) -> set[str]:
        """Names of all groups that somebody would join."""
        return {*self._joins, *(name for names in self._creates for name in names)}

    def _count_requests(self, change: Change, *, changes_fields: bool) -> None:
        before = self._requests()
        for name in change.campaigns:
            self._enters[name] = self._enters.get(name, 0) + 1
            self._singles += 1  # everybody is read alone before
        if change.kind is ChangeKind.CREATE:
            key = change.groups.add
            self._creates[key] = self._creates.get(key, 0) + 1
        else:
            self._updates += changes_fields
            for name in change.groups.add:
                self._joins[name] = self._joins.get(name, 0) + 1
            self._singles += change.kind is ChangeKind.MOVE
            self._singles += (
                bool(change.groups.remove) + bool(change.tags.add) + bool(change.tags.remove)
            )
        self.result.requests += self._requests() - before

    def _requests(self) -> int:
        batches = (
            self._updates,
            *self._creates.values(),
            *self._joins.values(),
            *self._enters.values(),
        )
        return self._singles + sum(-(-people // BULK_ROWS_MAX) for people in batches)


def pending(session: Session, sync: SyncRow) -> Iterator[Change]:
    """What earlier runs promoted and have not sent yet, or could not."""
    kinds, names = session.groups.kinds, session.groups.names
    for person in steps.pending(session.state, sync):
        change = change_of(person, work(person, kinds), sync=sync.name, names=names, kinds=kinds)
        if change is not None:
            yield change
