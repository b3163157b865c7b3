"""What `status` and `history` show: how each sync stands, what past runs did."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from syncd.core.change import Edit
from syncd.core.schedule import Cron
from syncd.report.plan import edits
from syncd.report.text import (
    ago,
    clean,
    count,
    duration,
    iso,
    moment,
    people,
    say,
    say_json,
    style,
    table,
)
from syncd.state import story
from syncd.state.approvals import Approval
from syncd.state.quarantine import Stuck
from syncd.state.story import Account, Part, PastChange, PastRun, SyncNow
from syncd.state.unusable import Unusable

if TYPE_CHECKING:
    from syncd.config_models import Settings, SyncSettings
    from syncd.state.store import Connection

NUMBERS = (
    "read",
    "changed",
    "created",
    "updated",
    "moved",
    "removed",
    "enrolled",
    "quarantined",
    "held",
)
UNUSABLE = ("not usable", "sync", "because")
UNUSABLE_STAY = (
    "They stay as they were in FluenzR, if they are there, until their source is put right."
)
HISTORY = ("run", "started", "took", "sync", "status", "numbers")
NOT_ENDED = "not ended: it is running now, or it was killed; the next run goes on where it stopped"


@dataclass(frozen=True, slots=True)
class SyncOutlook:
    """How a sync stands, and when it starts next. next_s: None: by hand only; schedule: in words, or as cron writes it.

    rests: it keeps failing, and so does not start sooner.
    """

    sync: SyncNow
    next_s: float | None
    schedule: str | None
    rests: bool = False


def outlook(settings: "Settings", db: "Connection | None", *, now_s: float) -> list[SyncOutlook]:
    """Every sync, in the file's order. db: None before the first run."""
    from syncd.timetable import next_start_s, not_before_s, rests_until_s

    found = []
    for name, sync in settings.syncs.items():
        standing = story.sync_now(db, name) if db else story.never_run(name)
        next_s = next_start_s(sync, completed_s=standing.completed_s, now_s=now_s)
        until_s = rests_until_s(standing)
        rests = False
        if sync.schedule is not None and next_s is not None and next_s < until_s:
            rests = True
            next_s = not_before_s(sync.schedule, ZoneInfo(sync.timezone), until_s)
        found.append(SyncOutlook(standing, next_s, _schedule(sync), rests))
    return found


def _schedule(sync: "SyncSettings") -> str | None:
    if sync.schedule is None:
        return None
    if isinstance(sync.schedule, Cron):
        return f"{sync.schedule.text}, {sync.timezone}"
    return f"every {duration(sync.schedule.seconds)}"


def status_json(one: SyncOutlook, *, now_s: float) -> None:
    """One object: times in ISO 8601, ages in seconds, the last run's numbers as `syncd sync --json` has them."""
    sync = one.sync
    last = sync.last
    say_json(
        {
            "sync": sync.name,
            "schedule": one.schedule,
            "next_run": iso(one.next_s),
            "last_run": last.run if last else None,
            "status": last.status if last else None,
            "started": iso(last.started_s if last else None),
            "ended": iso(last.ended_s if last else None),
            "completed": iso(sync.completed_s),
            "age_seconds": None
            if sync.completed_s is None
            else max(0, round(now_s - sync.completed_s)),
            "held": sync.held - sync.approved,
            "held_run": sync.held_run,
            "approved": sync.approved,
            "quarantined": sync.stuck,
            "deletes_waiting": sync.deletes_waiting,
            "bounced": sync.bounced,
            "unsubscribed": sync.unsubscribed,
            "counts": {k: v for k, v in last.counts.items() if k != "error"} if last else {},
            "error": last.error if last else None,
        }
    )


def status_words(syncs: Iterable[SyncOutlook], *, now_s: float) -> None:
    """One block per sync."""
    for one in syncs:
        last = one.sync.last
        say(style(one.sync.name, "bold") + (f": {last.status}" if last else ": has never run"))
        for label, text in sync_facts(one, now_s=now_s):
            say(f"  {label:<10} {text}")


def sync_facts(one: SyncOutlook, *, now_s: float) -> Iterator[tuple[str, str]]:
    """How a sync stands: (label, text); a line without a label belongs to the one before it."""
    sync = one.sync
    last = sync.last
    if last:
        yield "last run", f"{last.run}, {when(last.started_s, now_s=now_s)}"
        yield "numbers", numbers(last.counts)
    if last and last.error:
        yield "error", clean(last.error)
    yield "next run", _next(one.next_s, one.schedule, now_s=now_s)
    if one.rests:
        yield "", f"left alone for a while: it has failed {sync.failures:,} times in a row"
    if sync.completed_s is not None:
        yield "data", f"as of {when(sync.completed_s, now_s=now_s)}"
    if sync.bounced or sync.unsubscribed:
        yield "mailing", f"{people(sync.bounced)} have bounced, {sync.unsubscribed:,} unsubscribed"
    yield from _waiting(sync)


def _next(next_s: float | None, schedule: str | None, *, now_s: float) -> str:
    if next_s is None:
        return "by hand only: it has no schedule"
    words = "due now" if next_s <= now_s else when(next_s, now_s=now_s)
    return f"{words}, {schedule}, where `syncd run` is running"


def _waiting(sync: SyncNow) -> Iterator[tuple[str, str]]:
    if sync.held > sync.approved:
        yield "held", f"{people(sync.held - sync.approved)} of run {sync.held_run}"
        for trip in sync.trips:
            yield "", f"- {clean(trip)}"
        yield "", f"release: syncd approve {sync.held_run} {sync.name}"
    if sync.approved:
        yield "approved", f"{people(sync.approved)}: the next run sends it"
    if sync.stuck:
        yield "waiting", f"{people(sync.stuck)} whom FluenzR refuses, or who were put off"
    if sync.deletes_waiting:
        yield (
            "deletes",
            f"{people(sync.deletes_waiting)} to be deleted: `syncd sync` without names does it,",
        )
        yield "", "once every sync was read and none failed or is held"


def account_words(account: Account, *, requests_per_minute: float, now_s: float) -> None:
    """What is the same for all syncs."""
    say()
    for line in account_lines(account, requests_per_minute=requests_per_minute, now_s=now_s):
        say(line)


def account_lines(account: Account, *, requests_per_minute: float, now_s: float) -> Iterator[str]:
    """The same as lines."""
    if account.unended:
        begun = ago(account.unended.started_s, now_s=now_s)
        yield f"run {account.unended.run}, begun {begun}, has not ended: it is at work, or was killed"
    yield f"budget: at most {requests_per_minute:,.0f} requests a minute, less where FluenzR says so"
    if account.in_flight:
        yield f"{people(account.in_flight)} in flight: the next run reads them back first"
    yield f"{people(account.opted_out)} opted out or were blocked: never created, never mailed"
    if account.deleted_by_hand:
        yield f"{people(account.deleted_by_hand)} deleted by hand in FluenzR stay deleted"
    if account.to_erase:
        yield f"{people(account.to_erase)} forgotten, still to be deleted in FluenzR by the next run"


def waiting_words(stuck: list[Stuck], *, now_s: float) -> None:
    """Who waits for FluenzR."""
    if stuck:
        say()
        rows = [(s.email, str(s.tries), again(s, now_s=now_s), s.error or "") for s in stuck]
        for line in table(rows, ("waiting", "tries", "again", "because"), right=[1]):
            say(line)


def unusable_words(found: list[Unusable], total: int) -> None:
    """Which records cannot be used, and why."""
    if not found:
        return
    say()
    for line in table(unusable_rows(found), UNUSABLE):
        say(line)
    if total > len(found):
        say(f"and {count(total - len(found))} more records")
    say(UNUSABLE_STAY)


def unusable_rows(found: list[Unusable]) -> list[tuple[str, ...]]:
    """The columns of `UNUSABLE`, a row a record."""
    return [(_record(one), one.sync, one.note or "") for one in found]


def _record(one: Unusable) -> str:
    return f"key {one.key}" + (f" <{one.email}>" if one.email else "")


def again(one: Stuck, *, now_s: float) -> str:
    """When somebody's change is tried again."""
    return "next run" if one.not_before_s <= now_s else ago(one.not_before_s, now_s=now_s)


def numbers(counts: Mapping[str, Any]) -> str:
    """The numbers of one run that are not 0."""
    # A failed run has not come to everybody: they are in no quarantine.
    words = {"quarantined": "not sent yet"} if counts.get("status") == "failed" else {}
    parts = [
        f"{words.get(name, name)} {count(counts[name])}" for name in NUMBERS if counts.get(name)
    ]
    return ", ".join(parts) or "nothing read, nothing changed"


def when(epoch_s: float, *, now_s: float) -> str:
    """A time, and how long ago that is."""
    return f"{moment(epoch_s)} ({ago(epoch_s, now_s=now_s)})"


def run_json(run: PastRun, changes: Iterable[PastChange] = ()) -> None:
    """One object a run; with its changes where they were asked for."""
    listed = [change_object(change) for change in changes]
    say_json(
        {
            "run": run.run,
            "kind": run.kind,
            "started": iso(run.started_s),
            "ended": iso(run.ended_s),
            "syncs": [_part_object(part) for part in run.parts],
            "change_count": run.change_count,
            **({"changes": listed} if listed else {}),
            **({"created": list(run.created)} if run.created else {}),
            **({"approved": [asdict(one) for one in run.approved]} if run.approved else {}),
        }
    )


def _part_object(part: Part) -> dict[str, Any]:
    found = asdict(part)
    return {key: found[key] for key in ("sync", "status", "counts", "error", "trips")}


def change_object(change: PastChange) -> dict[str, Any]:
    """One past change for programs."""
    return {
        "run": change.run,
        "at": iso(change.at_s),
        "email": change.email,
        "change": change.kind,
        **change.detail,
    }


def _of_sync(part: Part) -> tuple[str, str, str]:
    return (part.sync, part.status, numbers(part.counts))


def _other(run: PastRun, failure: Part | None) -> tuple[str, str, str]:
    """A run that is not of a sync, in the columns of one. failure: why it did not come to its end."""
    if run.kind == "sync":
        return ("", "", "")
    status = "" if failure is None else failure.status
    return (f"({run.kind})", status, count(run.change_count, "change"))


def history_words(runs: list[PastRun]) -> None:
    """A table, the newest run first."""
    if not runs:
        say("Nothing has run yet. Next: syncd plan")
        return
    for line in table(history_rows(runs), HISTORY, right=[0]):
        say(line)
    if any(run.ended_s is None for run in runs):
        say(NOT_ENDED)


def history_rows(runs: list[PastRun]) -> list[tuple[str, ...]]:
    """The columns of `HISTORY`, a row for each sync of a run; what is the same for all stands in the first."""
    rows = list[tuple[str, ...]]()
    for run in runs:
        took = "not ended" if run.ended_s is None else duration(run.ended_s - run.started_s)
        first = (str(run.run), moment(run.started_s), took)
        parts: list[Part | None] = [*run.parts] or [None]
        for number, part in enumerate(parts):
            lead = first if number == 0 else ("", "", "")
            words = _other(run, part) if part is None or not part.sync else _of_sync(part)
            rows.append((*lead, *words))
    return rows


def run_words(run: PastRun, changes: list[PastChange]) -> None:
    """One run in detail."""
    say(run_head(run))
    for part in run.parts:
        _part_words(part)
    for line in carried_lines(run):
        say(line)
    if changes or run.created:
        say()
    for email in run.created:
        say(f"created {clean(email)}")
    if run.created_count > len(run.created):
        say(f"and {count(run.created_count - len(run.created))} more created")
    for change in changes:
        for line in change_words(change, email=True):
            say(line)
    if run.change_count > len(changes):
        say(f"and {count(run.change_count - len(changes))} more changes")


def _part_words(part: Part) -> None:
    if part.sync:
        say(f"{style(part.sync, 'bold')}: {part.status}")
    for line in part_lines(part):
        say(f"  {line}" if part.sync else line)


def run_head(run: PastRun) -> str:
    """Which run, of what kind, when, and how long it took."""
    took = (
        "has not ended" if run.ended_s is None else f"took {duration(run.ended_s - run.started_s)}"
    )
    return f"run {run.run} ({run.kind}), {moment(run.started_s)}, {took}"


def part_lines(part: Part) -> Iterator[str]:
    """What one sync's part of a run came to; without a sync: of a command that is none."""
    if not part.sync:
        yield f"{part.status}: {clean(part.error or '')}"
        return
    yield f"{numbers(part.counts)}, requests {count(part.counts.get('requests', 0))}"
    if part.error:
        yield clean(part.error)
    for trip in part.trips:
        yield f"held: {clean(trip)}"


def carried_lines(run: PastRun) -> Iterator[str]:
    """What the run carried out of what was held."""
    for one in run.approved:
        yield f"{clean(one.sync)}: carried out what was {approval_words(one)}"


def approval_words(one: Approval) -> str:
    """Who has released what a guard held."""
    return clean(f"held in run {one.run}, approved by {one.by}, {moment(one.at_s)}")


def change_words(change: PastChange, *, email: bool = False) -> list[str]:
    """One past change: a head line, then old -> new."""
    who = f"{clean(change.email)}  " if email else ""
    detail = change.detail
    lines = [
        f"{moment(change.at_s)}  {who}{change.kind}" + ("" if email else f"  (run {change.run})")
    ]
    fields = {name: (pair[0], pair[1]) for name, pair in (detail.get("fields") or {}).items()}
    groups, tags = (_edit(detail.get(name)) for name in ("groups", "tags"))
    campaigns = _edit(detail.get("campaigns")).add
    lines += [f"    {line}" for line in edits(fields, groups, tags, campaigns)]
    for name in detail.get("skipped", ()):
        lines.append(
            f"    campaigns: FluenzR skipped {clean(name)}: in it already, or not to be mailed"
        )
    return lines


def _edit(told: Mapping[str, Any] | None) -> Edit:
    told = told or {}
    return Edit(tuple(told.get("add", ())), tuple(told.get("remove", ())))
