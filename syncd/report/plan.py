"""What `syncd plan` shows: first who would be mailed, then what a guard would hold, then the changes.

Changes are streamed, for a first run has as many as there are people: people see the first ones, JSON
passes through a file that is deleted when it is closed.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, Self

from syncd.core.change import Change, ChangeKind, Edit
from syncd.core.result import PlanResult
from syncd.report.text import (
    as_json,
    clean,
    count,
    duration,
    people,
    raw,
    say,
    shown,
    style,
    talk,
)

CHANGES_SHOWN_MAX = 20  # of each sync; --json has them all
ADDRESSES_SHOWN_MAX = 5  # of those who would be mailed, and of those who would leave
CONTRACT = (
    "sync",
    "create",
    "update",
    "move",
    "remove",
    "group",
    "ungroup",
    "enrol",
    "quarantine",
    "held",
    "requests",
    "seconds_at_limit",
)
KINDS = tuple(kind.value for kind in ChangeKind)
SIGNS = {
    ChangeKind.CREATE: "+",
    ChangeKind.REMOVE: "-",
    ChangeKind.MOVE: ">",
    ChangeKind.UPDATE: "~",
    ChangeKind.GROUP: "~",
    ChangeKind.UNGROUP: "~",
}
SKIPPED = {
    "filtered": "left out by `where`",
    "address": "without a usable address",
    "opted_out": "opted out in the source",
    "blocked": "with a value that could not be read",
    "never": "barred by the never-ledger",
    "deleted by hand": "deleted by hand in FluenzR",
    "gone": "gone from the source",
}
UNUSABLE = ("address", "blocked")  # what is skipped for what stands in the record, and is named


class PlanReport(Protocol):
    """Is shown each change as it comes, then the results."""

    def show(self, change: Change) -> None:
        """One change more."""

    def finish(self, results: Iterable[PlanResult]) -> None:
        """Say it all."""

    def __enter__(self) -> Self:
        """Ready for changes."""

    def __exit__(self, *exc: object) -> None:
        """Free what it holds."""


class PlanJson:
    """One object per sync, with every change."""

    def __init__(self) -> None:
        self._spools: dict[str, IO[str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for spool in self._spools.values():
            spool.close()

    def show(self, change: Change) -> None:
        """Keep it in the sync's file."""
        spool = self._spools.get(change.sync)
        if spool is None:
            spool = tempfile.TemporaryFile("w+", encoding="utf-8", errors="surrogatepass")  # noqa: SIM115
            self._spools[change.sync] = spool
        else:
            spool.write(",")
        spool.write(as_json(change.contract()))

    def finish(self, results: Iterable[PlanResult]) -> None:
        """The objects, one a line."""
        for result in results:
            raw(as_json({name: getattr(result, name) for name in CONTRACT})[:-1] + ',"changes":[')
            spool = self._spools.get(result.sync)
            if spool is not None:
                spool.seek(0)
                shutil.copyfileobj(spool, _Stdout())
            raw("]" + (f',"error":{as_json(result.error)}' if result.error else "") + "}\n")


class _Stdout:
    def write(self, text: str) -> int:
        raw(text)
        return len(text)


@dataclass(slots=True)
class _Sample:
    changes: list[Change] = field(default_factory=list)
    count: int = 0
    mailed: list[str] = field(default_factory=list)
    leaving: list[str] = field(default_factory=list)


class PlanWords:
    """For people. then: the command that would carry the plan out, such as "syncd sync"."""

    def __init__(self, then: str) -> None:
        self._then = then
        self._samples: dict[str, _Sample] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, change: Change) -> None:
        """Keep the first ones of each sync."""
        sample = self._samples.setdefault(change.sync, _Sample())
        sample.count += 1
        if len(sample.changes) < CHANGES_SHOWN_MAX:
            sample.changes.append(change)
        if change.enrol and len(sample.mailed) < ADDRESSES_SHOWN_MAX:
            sample.mailed.append(change.email)
        if change.kind is ChangeKind.REMOVE and len(sample.leaving) < ADDRESSES_SHOWN_MAX:
            sample.leaving.append(change.email)

    def finish(self, results: Iterable[PlanResult]) -> None:
        """One block per sync, and what to type next."""
        found = list(results)
        for result in found:
            _block(result, self._samples.get(result.sync, _Sample()))
        say(next_words(found, self._then))


def _block(result: PlanResult, sample: _Sample) -> None:
    say(style(result.sync, "bold"))
    if result.error:
        say(f"  {style('No plan:', 'red')} {clean(result.error)}")
        say()
        return
    _mailed(result, sample.mailed)
    if result.trips:
        say(f"  {style('A guard would hold this sync whole:', 'yellow')}")
        for trip in result.trips:
            say(f"    - {clean(trip)}")
    if result.remove:
        say(f"  {leaving_words(result)}")
        say(f"    {_named(sample.leaving, result.remove)}")
    for line in result_lines(result):
        say(f"  {line}")
    if sample.changes:
        say()
    for change in sample.changes:
        _change(change)
    if sample.count > len(sample.changes):
        say(f"  and {count(sample.count - len(sample.changes))} more; --json shows them all")
    say()


def _mailed(result: PlanResult, some: list[str]) -> None:
    head, groups = mailed_words(result.enrol, result.enrol_by_group)
    if not result.enrol:
        say(f"  {head}{groups}")
        return
    say(style(f"  {head}", "bold") + groups)
    say(f"    {_named(some, result.enrol)}")


def mailed_words(people_count: int, by_group: Mapping[str, int]) -> tuple[str, str]:
    """How many people would be mailed, and by joining what. by_group: group or campaign -> people."""
    if not people_count:
        return "Nobody would be mailed", ": nobody joins a dynamic group or a campaign"
    groups = ", ".join(f'"{clean(name)}" ({count(n)})' for name, n in sorted(by_group.items()))
    return f"{people(people_count)} would be mailed", f", on joining {groups}" if groups else ""


def _named(some: list[str], total: int) -> str:
    rest = total - len(some)
    return ", ".join(map(clean, some)) + (f" and {count(rest)} more" if rest > 0 else "")


def leaving_words(result: PlanResult) -> str:
    """How many people would be taken out."""
    return f"{people(result.remove)} would leave, for no source wants them any more"


def result_lines(result: PlanResult) -> Iterator[str]:
    """What the plan comes to, beside who would be mailed: a line each, those that belong to the one before begin with spaces."""
    yield f"People: {kinds_words({kind: getattr(result, kind) for kind in KINDS})}"
    if result.quarantine:
        yield (
            f"{people(result.quarantine)} would wait: FluenzR refused them before (`syncd why EMAIL`)"
        )
    skipped = skipped_words(result.skipped_by)
    yield (
        f"Records: {count(result.read)} read, {count(result.unchanged)} unchanged"
        + (f", {count(result.opted_out)} opted out" if result.opted_out else "")
        + (f"; skipped: {skipped}" if skipped else "")
    )
    for place, why in result.unusable:
        yield f"  {clean(place)}: {clean(why)}"
    rest = sum(result.skipped_by.get(name, 0) for name in UNUSABLE) - len(result.unusable)
    if rest > 0:
        yield f"  and {count(rest)} more that cannot be used"
    at_limit = duration(result.seconds_at_limit)
    yield f"Cost: {count(result.requests, 'request')}, {at_limit} at the API's limit"
    if result.new_groups:
        names = ", ".join(f'"{clean(name)}"' for name in result.new_groups)
        yield f"Groups that would be created, static ones: {names}"
    if not result.sees_removals:
        yield "This read does not see everybody who left the source: a full one does (full_every, --full)"


def kinds_words(by_kind: Mapping[str, int]) -> str:
    """ "create 3, update 1": people by what happens to them."""
    parts = [f"{kind} {count(by_kind[kind])}" for kind in KINDS if by_kind.get(kind)]
    return ", ".join(parts) or "nothing to change"


def skipped_words(by: dict[str, int]) -> str:
    """ "3 left out by `where`, 1 without a usable address"."""
    return ", ".join(f"{count(n)} {SKIPPED.get(name, name)}" for name, n in by.items() if n)


def _change(change: Change) -> None:
    why = f"  ({clean(change.why)})" if change.why else ""
    mailed = style("  MAILED", "yellow") if change.enrol else ""
    say(f"  {SIGNS[change.kind]} {clean(change.email)}  {change.kind.value}{mailed}{why}")
    for line in edits(
        change.fields,
        change.groups,
        change.tags,
        change.campaigns,
        created=change.kind.value == "create",
    ):
        say(f"      {line}")


def edits(
    fields: dict[str, tuple[object, object]],
    groups: Edit,
    tags: Edit,
    campaigns: tuple[str, ...] = (),
    *,
    created: bool = False,
) -> list[str]:
    """One line a field (old -> new), one for groups, one for tags, one for campaigns."""
    lines = []
    for name, (old, new) in fields.items():
        value = shown(new) if created else f"{shown(old)} -> {shown(new)}"
        lines.append(f"{clean(name)}: {value}")
    for word, edit in (("groups", groups), ("tags", tags), ("campaigns", Edit(campaigns))):
        names = [f"+{clean(n)}" for n in edit.add] + [f"-{clean(n)}" for n in edit.remove]
        if names:
            lines.append(f"{word}: {', '.join(names)}")
    return lines


def sealed_words(path: Path, rows: int | None) -> None:
    """On stderr, for the plan itself is the answer. None: there is no plan to be sealed."""
    if rows is None:
        talk(f"{path} was not written: the plan is not whole")
    else:
        talk(f"Sealed: {count(rows, 'change')} in {path}, addresses too; only you may read it")


def next_words(results: list[PlanResult], then: str) -> str:
    """What to do about it. then: the command that would carry the plan out."""
    work = sum(getattr(result, kind) for result in results for kind in KINDS)
    if any(result.error for result in results):
        return "Next: put right what failed, then run `syncd plan` again"
    if any(result.trips for result in results):
        return f"Next: put the source or [guard] right; or `{then}`, which holds it for `syncd approve`"
    return f"Next: {then}" if work else "Nothing to send."
