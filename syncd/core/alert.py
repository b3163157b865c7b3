"""What is worth telling somebody: the troubles that there are now, and how they differ from what was told before.

It decides, and knows nothing of clocks, files or networks. A trouble is told once when it begins, again only when it has doubled,
and once when it is over; whatever was not delivered counts as not told.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never

DAY_S = 86_400.0
QUARANTINED_MIN = 10  # a few bad addresses are everyday life: `status` and exit code 3 tell of them
QUARANTINED_OVER = 5  # below it the trouble is over: at one limit it would come and go
OPT_OUT_LAG_S_MAX = (
    3600.0  # every run carries them out: what waits longer is refused, or does not run
)
GROWN, GROWN_MIN = 2, 10  # so many times what was told, and so many more, is news
LINES_MAX = 20  # of one message; it says how many more there are
TEXT_CHARS_MAX = 600  # of one trouble: an error can hold a page of somebody's HTML


class Kind(StrEnum):
    """What can be wrong."""

    STATE = "state"
    FAILING = "failing"
    HELD = "held"
    SILENT = "silent"
    OPT_OUTS = "opt_outs"
    QUARANTINE = "quarantine"


GROWING = {Kind.HELD, Kind.QUARANTINE, Kind.OPT_OUTS}


@dataclass(frozen=True, slots=True)
class Limits:
    """From when on it is a trouble. failures: runs of a sync in a row; silence_s: without a success that was due."""

    failures: int = 2
    silence_s: float = DAY_S


@dataclass(frozen=True, slots=True)
class SyncFacts:
    """How one sync stands. Times are epoch seconds.

    failed_runs: in a row, up to now; error: of the last one. held: people; held_run: None where nothing waits for an approval;
    trips: what its guards said. ended_s: of the last run, whatever came of it. success_s: of the last one that succeeded.
    awaited_s: from when on another success is awaited: the next moment of its schedule, else the last success itself; None: not known.
    """

    name: str
    failed_runs: int = 0
    error: str = ""
    held: int = 0
    held_run: int | None = None
    trips: tuple[str, ...] = ()
    quarantined: int = 0
    ended_s: float | None = None
    success_s: float | None = None
    awaited_s: float | None = None
    scheduled: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """How everything stands. state_error: why the state cannot be read: then nothing else is known.

    opt_outs: people whose opt-out in a source is still to be carried out; opt_outs_since_s: since when the first of them waits.
    """

    now_s: float
    syncs: tuple[SyncFacts, ...] = ()
    state_error: str = ""
    opt_outs: int = 0
    opt_outs_since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong. sync: "": of everything. text: what to know and to do. size: what may grow.

    begins: False: too small to be told, too large to be over.
    """

    kind: Kind
    sync: str
    title: str
    text: str = ""
    size: int = 1
    begins: bool = True

    @property
    def key(self) -> str:
        """What it is told under; no name of a sync has a colon."""
        return f"{self.kind}:{self.sync}"


@dataclass(frozen=True, slots=True)
class News:
    """What somebody is to be told now. told: key -> size of what has been told once this is delivered."""

    troubles: tuple[Trouble, ...]
    over: tuple[str, ...]  # what has ended, in words
    told: Mapping[str, int]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.troubles or self.over)


def troubles(facts: Facts, limits: Limits) -> list[Trouble]:
    """Everything that is wrong now, the gravest kinds first."""
    if facts.state_error:
        return [Trouble(Kind.STATE, "", "the state cannot be used", _cut(facts.state_error))]
    found = [*_silent(facts, limits), *_opt_outs(facts)]
    for sync in facts.syncs:
        found += [*_failing(sync, limits), *_held(sync), *_quarantined(sync)]
    return sorted(found, key=lambda one: list(Kind).index(one.kind))


def _failing(sync: SyncFacts, limits: Limits) -> Iterator[Trouble]:
    if sync.failed_runs >= limits.failures:
        times = (
            "has failed"
            if sync.failed_runs == 1
            else f"has failed {sync.failed_runs:,} times in a row"
        )
        yield Trouble(Kind.FAILING, sync.name, f"{sync.name} {times}", _cut(sync.error))


def _held(sync: SyncFacts) -> Iterator[Trouble]:
    if sync.held_run is None:
        return
    whom = f": {_people(sync.held)}" if sync.held else ""
    release = f"Look: syncd plan {sync.name}. Release: syncd approve {sync.held_run} {sync.name}"
    renewed = "(each run that holds it anew has another number: syncd status)"
    text = "\n".join([*sync.trips, f"{release} {renewed}"])
    yield Trouble(Kind.HELD, sync.name, f"{sync.name} is held by a guard{whom}", text, sync.held)


def _quarantined(sync: SyncFacts) -> Iterator[Trouble]:
    count = sync.quarantined
    if count >= QUARANTINED_OVER:
        title = f"{_people(count)} of {sync.name} cannot be delivered to FluenzR"
        text = "Who, and why: syncd quarantine list"
        yield Trouble(
            Kind.QUARANTINE, sync.name, title, text, count, begins=count >= QUARANTINED_MIN
        )


def _opt_outs(facts: Facts) -> Iterator[Trouble]:
    if facts.opt_outs_since_s is None:
        return
    waits_s = facts.now_s - facts.opt_outs_since_s
    if waits_s > OPT_OUT_LAG_S_MAX:
        title = f"{_people(facts.opt_outs)} opted out in a source, and FluenzR was not told yet"
        text = f"The first of them has waited for {_duration(waits_s)}. Why: syncd quarantine list, syncd status"
        yield Trouble(Kind.OPT_OUTS, "", title, text, facts.opt_outs)


def _silent(facts: Facts, limits: Limits) -> Iterator[Trouble]:
    """No success where one is awaited: nothing runs, or no run comes to its end.

    Of a sync that fails or is held that is told; then only the end of all runs is news. Syncs without a schedule are run together
    by something else, or by hand: they count only where no sync has one.
    """
    scheduled = [sync for sync in facts.syncs if sync.scheduled]
    for sync in scheduled:
        known = _known(sync, limits)
        since_s = _later(sync.awaited_s, sync.ended_s if known else None)
        if since_s is not None and facts.now_s - since_s > limits.silence_s:
            yield _silence(sync.name, sync.ended_s if known else sync.success_s, ran=known)
    if scheduled:
        return
    known = any(_known(sync, limits) for sync in facts.syncs)
    last_s = _latest(sync.ended_s if known else sync.success_s for sync in facts.syncs)
    since_s = _later(last_s, _latest(sync.awaited_s for sync in facts.syncs))
    if since_s is not None and facts.now_s - since_s > limits.silence_s:
        yield _silence("", last_s, ran=known)


def _known(sync: SyncFacts, limits: Limits) -> bool:
    """Whether something else is told of this sync that says why it does not succeed."""
    return any((*_failing(sync, limits), *_held(sync)))


def _silence(sync: str, last_s: float | None, *, ran: bool) -> Trouble:
    subject = f"{sync} has not" if sync else "no sync has"
    since = " yet" if last_s is None else f" since {_moment(last_s)}"
    text = "Is the daemon or the timer at work? systemctl status fluenzr-syncd, syncd status"
    title = f"{subject} {'run' if ran else 'succeeded'}{since}"
    return Trouble(Kind.SILENT, sync, title, text)


def _latest(moments_s: Iterable[float | None]) -> float | None:
    return max((one for one in moments_s if one is not None), default=None)


def _later(first_s: float | None, second_s: float | None) -> float | None:
    return _latest((first_s, second_s))


def news(told: Mapping[str, int], now: Sequence[Trouble], *, syncs: Collection[str]) -> News:
    """What is to be told. told: key -> size of what was delivered before; syncs: those of the configuration."""
    by_key = {one.key: one for one in now}
    begun = tuple(one for one in now if _is_news(one, told.get(one.key)))
    blind = any(one.kind is Kind.STATE for one in now)  # of everything else nothing is known
    gone = [] if blind else [key for key in told if key not in by_key]
    stays = {key: size for key, size in told.items() if key not in gone}
    over = tuple(_over(key) for key in sorted(gone) if not _sync(key) or _sync(key) in syncs)
    return News(begun, over, stays | {one.key: one.size for one in begun})


def _is_news(one: Trouble, size_told: int | None) -> bool:
    if size_told is None:
        return one.begins
    grown = one.size >= size_told * GROWN and one.size >= size_told + GROWN_MIN
    return one.kind in GROWING and grown


def _sync(key: str) -> str:
    return key.partition(":")[2]


def _over(key: str) -> str:
    """The end of a trouble, in words."""
    sync = _sync(key)
    match Kind(key.partition(":")[0]):
        case Kind.STATE:
            return "the state can be used again"
        case Kind.FAILING:
            return f"{sync} does not fail any more"
        case Kind.HELD:
            return f"{sync} is not held any more"
        case Kind.SILENT:
            return f"{sync} runs again" if sync else "runs succeed again"
        case Kind.OPT_OUTS:
            return "no opt-out waits any more"
        case Kind.QUARANTINE:
            return f"the quarantine of {sync} is as good as empty again"
        case other:
            assert_never(other)


def message(found: News) -> tuple[str, str]:
    """Title and body of one message that tells all of it."""
    titles = [one.title for one in found.troubles] + list(found.over)
    more = f" (and {len(titles) - 1} more)" if len(titles) > 1 else ""
    parts = [_part(one) for one in found.troubles] + [f"{words}." for words in found.over]
    if len(parts) > LINES_MAX:
        parts = [*parts[:LINES_MAX], f"and {len(parts) - LINES_MAX} more: syncd status"]
    return f"syncd: {titles[0]}{more}", "\n\n".join(parts)


def _part(one: Trouble) -> str:
    return f"{one.title}.\n{one.text}" if one.text else f"{one.title}."


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS_MAX else f"{text[:TEXT_CHARS_MAX]} ..."


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"


def _moment(epoch_s: float) -> str:
    return f"{datetime.fromtimestamp(epoch_s, UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    hours = int(seconds // 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} h {int(seconds % 3600 // 60)} min"
