"""How everything stands, in the terms of `core.alert`: for alerts and for /readyz.

It puts together what the state tells and when the schedule awaits the next success.
"""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

from syncd.config import Settings, SyncSettings
from syncd.core.alert import Facts, Limits, SyncFacts
from syncd.core.moments import next_cron_s
from syncd.core.schedule import Every
from syncd.errors import StateError
from syncd.log import without_addresses
from syncd.state import health, story
from syncd.state.store import Connection


def facts(settings: Settings, *, now_s: float, seen_s: Mapping[str, float]) -> Facts:
    """What is known now. seen_s: since when a sync is looked after, for those that never succeeded.

    Nobody's address is in it. Never raises: a state that cannot be read is a fact.
    """
    try:
        with story.reading(settings.state.path) as db:
            syncs = tuple(
                _of_sync(sync, db, now_s=now_s, seen_s=seen_s.get(name))
                for name, sync in settings.syncs.items()
            )
            opt_outs, since_s = health.opt_outs_waiting(db) if db else (0, None)
    except StateError as error:
        return Facts(now_s, state_error=without_addresses(str(error)))
    return Facts(now_s, syncs, opt_outs=opt_outs, opt_outs_since_s=since_s)


def limits(settings: Settings) -> Limits:
    """From when on something is wrong: as `[alerts]` says, where there is one."""
    return settings.alerts.limits() if settings.alerts else Limits()


def _of_sync(
    sync: SyncSettings, db: Connection | None, *, now_s: float, seen_s: float | None
) -> SyncFacts:
    name = sync.name
    now = story.never_run(name) if db is None else story.sync_now(db, name)
    ended_s = now.last.ended_s if now.last else None
    success_s = None if now.completed_s is None else min(float(now.completed_s), now_s)
    return SyncFacts(
        name,
        failed_runs=now.failures,
        error=without_addresses((now.last.error if now.last else None) or ""),
        held=now.held - now.approved,
        held_run=health.held_run(db, name) if db else None,
        trips=tuple(map(without_addresses, now.trips)),
        quarantined=now.stuck,
        ended_s=None if ended_s is None else min(float(ended_s), now_s),
        success_s=success_s,
        awaited_s=seen_s if success_s is None else _awaited_s(sync, success_s),
        scheduled=sync.schedule is not None,
    )


def _awaited_s(sync: SyncSettings, success_s: float) -> float:
    """When the success after this one is due."""
    if sync.schedule is None:
        return success_s
    if isinstance(sync.schedule, Every):
        return success_s + sync.schedule.seconds
    return next_cron_s(sync.schedule, ZoneInfo(sync.timezone), success_s)
