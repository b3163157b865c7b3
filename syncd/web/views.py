"""What each page shows: the questions to the state, and their answers in the words of `syncd.report`, as facts for the templates."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from syncd import statistics
from syncd.config_models import Settings
from syncd.report import past, people, plan
from syncd.report import statistics as report
from syncd.report.person import person_blocks
from syncd.state import (
    days,
    dossier,
    snapshots,
    story,
    unusable,
    write_back,
)
from syncd.state import (
    held as holding,
)
from syncd.state import (
    quarantine as stuck_ones,
)
from syncd.state.store import Connection
from syncd.web.chart import chart
from syncd.web.rehearsals import Rehearsal

DAYS = 30  # of the charts
CHANGES_SHOWN = 50  # on one page of what is held
RUNS_SHOWN_MAX = 50
STUCK_SHOWN_MAX = 200
NUMBER_MAX = 1_000_000_000

Facts = dict[str, Any]


def overview(settings: Settings, db: Connection | None, *, now_s: float) -> Facts:
    """Every sync as `status` has it, the last days, the account."""
    budget = settings.fluenzr.requests_per_minute * settings.fluenzr.share
    blocks = [
        (one, _joined(past.sync_facts(one, now_s=now_s)))
        for one in past.outlook(settings, db, now_s=now_s)
    ]
    if db is None:
        return {"here": "overview", "blocks": blocks, "account": [], "days": [], "people": 0}
    account = past.account_lines(story.account(db), requests_per_minute=budget, now_s=now_s)
    today = datetime.fromtimestamp(now_s, UTC).astimezone().date()
    return {
        "here": "overview",
        "blocks": blocks,
        "account": list(account),
        "people": days.people(db),
        **_trends(days.last(db, today=today, count=DAYS)),
    }


def _joined(facts: Iterable[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """A line without a label goes to the one before it."""
    joined: list[tuple[str, list[str]]] = []
    for label, text in facts:
        if label:
            joined.append((label, [text]))
        else:
            joined[-1][1].append(text)
    return joined


def _trends(found: list[days.Day]) -> Facts:
    changed = [
        (("created", d.created), ("updated", d.updated), ("removed", d.removed)) for d in found
    ]
    requests = [(("requests", d.requests),) for d in found]
    return {
        "days": found,
        "changes_chart": chart(changed, below="removed"),
        "requests_chart": chart(requests),
    }


def held(name: str, db: Connection | None, *, page: int) -> Facts:
    """What waits for an approval, those who would be mailed first. page: from 1 on."""
    standing = story.sync_now(db, name) if db else story.never_run(name)
    now = holding.of_sync(db, name) if db else None
    facts: Facts = {"here": "overview", "sync": standing, "held": now}
    if db is None or now is None:
        return facts
    pages = max(1, -(-now.people // CHANGES_SHOWN))
    page = min(max(page, 1), pages)
    listed = holding.changes(db, name, first=(page - 1) * CHANGES_SHOWN, limit=CHANGES_SHOWN)
    return facts | {
        "mailed": plan.mailed_words(now.mailed, now.mailed_by),
        "kinds": plan.kinds_words(now.by_kind),
        "changes": listed,
        "page": page,
        "pages": pages,
    }


def plan_of(name: str, last: Rehearsal | None) -> Facts:
    """What was found out of the next run."""
    facts: Facts = {"here": "overview", "sync": name, "plan": last}
    if last is None or last.result is None:
        return facts
    result = last.result
    leaving = [plan.leaving_words(result)] if result.remove else []
    return facts | {
        "mailed": plan.mailed_words(result.enrol, result.enrol_by_group),
        "lines": [*leaving, *plan.result_lines(result)],
        "next": plan.next_words([result], f"syncd sync {name}"),
    }


def runs(db: Connection | None) -> Facts:
    """The history."""
    found = story.runs(db, limit=RUNS_SHOWN_MAX) if db else []
    unended = past.NOT_ENDED if any(run.ended_s is None for run in found) else ""
    return {
        "here": "runs",
        "headers": past.HISTORY,
        "rows": past.history_rows(found),
        "unended": unended,
    }


def run(number: int, db: Connection | None) -> Facts:
    """One run. Raises UsageError when there is none."""
    found = story.run(db, number) if db else story.no_run(number)
    changes = story.changes_of_run(db, number) if db else []
    return {
        "here": "runs",
        "run": found,
        "head": past.run_head(found),
        "parts": [(part, list(past.part_lines(part))) for part in found.parts],
        "carried": list(past.carried_lines(found)),
        "changes": [(one, past.change_words(one, email=True)) for one in changes],
    }


def quarantine(db: Connection | None, *, now_s: float) -> Facts:
    """Who waits, which records cannot be used, and what sources do not take back."""
    stuck = stuck_ones.stuck(db, limit=STUCK_SHOWN_MAX) if db else []
    records, total = unusable.known(db, limit=STUCK_SHOWN_MAX) if db else ([], 0)
    untold = write_back.stuck(db)[:STUCK_SHOWN_MAX] if db else []
    return {
        "here": "quarantine",
        "nobody": people.NOBODY_STUCK,
        "stuck": (people.STUCK, people.stuck_rows(stuck, now_s=now_s)),
        "unusable": (past.UNUSABLE, past.unusable_rows(records)),
        "unusable_more": total - len(records),
        "stay": past.UNUSABLE_STAY,
        "untold": (people.UNTOLD, people.untold_rows(untold)),
    }


def person(settings: Settings, email: str, db: Connection | None, *, now_s: float) -> Facts:
    """What `syncd why` says."""
    found, reads = dossier.of_address(settings.state.path, db, email, list(settings.syncs))
    rules = {name: sync.rules() for name, sync in settings.syncs.items()}
    blocks = person_blocks(found, now_s=now_s, rules=rules, reads=reads)
    return {"here": "person", "email": found.email, "blocks": blocks, "problem": ""}


def campaigns(db: Connection | None, *, since: str) -> Facts:
    """What was kept of the campaigns since a day (YYYY-MM-DD)."""
    kept = statistics.as_kept(snapshots.since(db, since)) if db else []
    known = any(standing.since for _, standing, _ in kept)
    rows = [
        (
            report.standing_row(standing, known=known),
            chart([(("sent", day.counts.get("sent", 0)),) for day in told[-DAYS:]]),
            last.day,
        )
        for last, standing, told in kept
    ]
    oldest = min((standing.since for _, standing, _ in kept if standing.since), default=None)
    return {
        "here": "campaigns",
        "headers": report.standing_headers(known=known),
        "rows": rows,
        "since": oldest,
    }
