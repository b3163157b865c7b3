"""What the account's campaigns have come to: now, day by day, and kept once a day.

FluenzR tells totals [I]; a timeline only on some accounts [D]. So the first run of each day (the daemon's, or `syncd sync`) keeps
the totals in the state, and days are told apart by them where the timeline is missing.
"""

from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby

import structlog

from syncd.clock import Clock
from syncd.config_models import Settings
from syncd.core.trend import COUNTED, Interval, grown, intervals
from syncd.errors import (
    AccessDenied,
    Interrupted,
    NotFound,
    Refused,
    StateBusy,
    StateError,
    SyncdError,
)
from syncd.fluenzr import FluenzR
from syncd.fluenzr.campaign_types import Campaign, Stats
from syncd.state import snapshots
from syncd.state.snapshots import Snapshot
from syncd.state.store import change, open_for_reading
from syncd.upload.pool import Job, Pool

log = structlog.get_logger(__name__)
STATISTICS_KEPT = "statistics.kept"  # the day's numbers of so many campaigns are kept
STATISTICS_POSTPONED = "statistics.postponed"  # FluenzR was not asked, or not answered

DAYS_DEFAULT = 7


@dataclass(frozen=True, slots=True)
class Standing:
    """One campaign now. since, grown: since which day (YYYY-MM-DD) it has grown by how much; None: no earlier day is kept."""

    campaign: Campaign
    stats: Stats
    since: str | None = None
    grown: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timeline:
    """One campaign day by day. told: by FluenzR's timeline; else by the snapshots that were kept."""

    campaign: Campaign
    told: bool
    days: list[Interval]


def standings(settings: Settings, *, api: FluenzR, clock: Clock, days: int) -> list[Standing]:
    """Every campaign with what it has come to, and how much of that in the last days. Raises FluenzrError, StateError."""
    days_kept = kept(settings, clock, days)
    found = []
    for campaign, stats in totals(api, clock):
        growth = grown(_days_of(days_kept, campaign.id), stats.named())
        since, counts = growth or (None, {})
        found.append(Standing(campaign, stats, since, counts))
    return found


def timeline(
    settings: Settings, campaign: Campaign, *, api: FluenzR, clock: Clock, days: int
) -> Timeline:
    """One campaign's last days: as FluenzR tells them, else from what was kept. Raises FluenzrError, StateError."""
    now = datetime.fromtimestamp(clock.now_s(), UTC)
    start = (now - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        points = api.campaign_timeline(campaign.id, start=start, end=now)
    except Refused:  # most of all: this account has no timeline
        before = _days_of(kept(settings, clock, days), campaign.id)
        today = (_day(clock.now_s()), api.campaign_stats(campaign.id).named())
        return Timeline(campaign, told=False, days=intervals([*before, today]))
    told = []
    for point in points:
        named = point.stats.named()
        counts = {name: int(value) for name in COUNTED if (value := named[name]) is not None}
        day = datetime.fromtimestamp(point.start_ms / 1000, UTC)
        end = day + timedelta(days=1)
        told.append(Interval(f"{day:%Y-%m-%d}", f"{end:%Y-%m-%d}", counts))
    return Timeline(campaign, told=True, days=told)


def totals(api: FluenzR, clock: Clock) -> list[tuple[Campaign, Stats]]:
    """Every campaign with its statistics, in the account's order. Raises FluenzrError."""
    campaigns = api.campaigns()
    stats: dict[str, Stats] = {}

    def ask(campaign: Campaign) -> Job:
        with suppress(NotFound):  # deleted by hand since the listing
            stats[campaign.id] = yield partial(api.campaign_stats, campaign.id)

    pool = Pool(clock, api)
    try:
        pool.drive(ask(campaign) for campaign in campaigns)
    finally:
        pool.close()
    return [(one, stats[one.id]) for one in campaigns if one.id in stats]


def is_due(settings: Settings, clock: Clock) -> bool:
    """Whether today's totals are still to be kept; never before the first run. UTC."""
    try:
        db = open_for_reading(settings.state.path)
    except StateError:
        return False  # the runs say what is wrong
    if db is None:
        return False
    with closing(db):
        last_s = snapshots.taken_at_s(db)
    return last_s is None or _day(last_s) != _day(clock.now_s())


def keep(settings: Settings, *, api: FluenzR, clock: Clock) -> int:
    """Keep what every campaign has come to; how many campaigns.

    What goes wrong is logged: no run fails for its statistics. Another process that works with the state takes them instead.
    """
    try:
        now_s = int(clock.now_s())
        day = _day(now_s)
        found = [
            Snapshot(day, now_s, campaign.id, campaign.name, campaign.status, stats.named())
            for campaign, stats in totals(api, clock)
        ]
        change(
            settings.state.path,
            lambda state: snapshots.save(state, found, now_s=now_s),
            clock=clock,
            wait_s=0.0,
        )
    except (StateBusy, Interrupted):
        return 0
    except AccessDenied as error:  # the key serves for contacts only
        log.info(STATISTICS_POSTPONED, why=str(error))
        return 0
    except SyncdError as error:
        log.warning(STATISTICS_POSTPONED, why=str(error))
        return 0
    log.info(STATISTICS_KEPT, campaigns=len(found))
    return len(found)


def kept(settings: Settings, clock: Clock, days: int) -> list[Snapshot]:
    """What was kept of the last days, by campaign, the oldest first. Raises StateError."""
    db = open_for_reading(settings.state.path)
    if db is None:
        return []
    with closing(db):
        return snapshots.since(db, _day(clock.now_s() - days * 86400))


def as_kept(found: list[Snapshot]) -> list[tuple[Snapshot, Standing, list[Interval]]]:
    """Every campaign as it was last kept, FluenzR is not asked: (when, its standing against the first of these, day by day)."""
    told = []
    for campaign_id, group in groupby(found, key=lambda one: one.id):
        days = list(group)
        last = days[-1]
        stats = Stats.of_named(last.stats)
        kept_days = _days_of(days, campaign_id)
        since, counts = grown(kept_days[:-1], last.stats) or (None, {})
        standing = Standing(Campaign(last.id, last.name, last.status), stats, since, counts)
        told.append((last, standing, intervals(kept_days)))
    return told


def _days_of(found: list[Snapshot], campaign_id: str) -> list[tuple[str, dict[str, float | None]]]:
    return [(one.day, one.stats) for one in found if one.id == campaign_id]


def _day(epoch_s: float) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d}"
