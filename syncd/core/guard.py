"""The guards: how many people one step may touch before somebody must look at it.

A guard judges one step, from the last promoted read to this one. What exceeds one limit holds the whole sync, creates too:
a wrong file, filter or key mails wrong people, and that cannot be called back.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.core.limit import Limit

# Floors keep small lists usable; they hold for shares only, a plain number is the limit itself (design, decision 1).
REMOVALS_FLOOR = 10
CREATES_FLOOR = 1000
FIELD_CHANGES_FLOOR = 100
BOUNCED_FLOOR = 10
PEOPLE_MAX = 10**9  # nobody has so many


@dataclass(slots=True)
class Tally:
    """What one step would do, counted in people (records where it says so). Approved changes are not in it."""

    live_before: int = 0  # live records of the sync before the read
    read: int = 0  # records
    read_before: int | None = None  # records of the last promoted full read
    full: bool = False
    first_run: bool = False
    filter_changed: bool = False  # the mapping is not the one of the last run
    creates: int = 0
    removals: int = 0
    gone_approved: int = 0  # people whose removal somebody has approved
    shrink_approved: bool = False  # somebody has approved that the source shrank by exactly so much
    enrolments: dict[str, int] = field(default_factory=dict)  # group name -> people
    enrolled: int = 0  # people
    group_removals: dict[str, int] = field(default_factory=dict)
    group_sizes: dict[str, int] = field(default_factory=dict)  # to whom the sync gave the group
    field_changes: dict[str, int] = field(default_factory=dict)
    confirmed: int = 0  # people of the sync that FluenzR is known to have, or `enough` of them
    bounced: dict[str, tuple[int, int]] = field(default_factory=dict)  # of whom -> bounced, people


@dataclass(frozen=True, slots=True)
class Limits:
    """The [guard] table."""

    max_enrolments: Limit
    max_removals: Limit
    max_creates: Limit
    max_field_changes: Limit
    max_shrink: Limit
    max_bounce_rate: Limit


def judge(tally: Tally, limits: Limits) -> list[str]:
    """What each limit that is exceeded has to say, in words and numbers; empty: nothing is held."""
    found = [*_enrolments(tally, limits), *_bounces(tally, limits), *_source(tally, limits)]
    found += [*_removals(tally, limits), *_creates(tally, limits), *_fields(tally, limits)]
    if found and tally.filter_changed:
        found.append(
            "The mapping, the filter or the source of this sync changed since its last run"
        )
    return found


def allowed(limit: Limit, of: int, *, floor: int = 0) -> int:
    """The number that a limit allows. of: what a share is a share of. floor: for shares only."""
    if limit.count is not None:
        return limit.count
    assert limit.share is not None
    return max(floor, int(limit.share * of))


def _enrolments(tally: Tally, limits: Limits) -> list[str]:
    limit = allowed(limits.max_enrolments, tally.live_before)
    if tally.enrolled <= limit:
        return []
    groups = " and ".join(
        f"{name!r} ({count:,})" if len(tally.enrolments) > 1 else repr(name)
        for name, count in sorted(tally.enrolments.items())
    )
    return [
        f"{_people(tally.enrolled)} would join {groups} and be mailed; the limit is {limit:,} (max_enrolments)"
    ]


def _bounces(tally: Tally, limits: Limits) -> list[str]:
    """Whoever sends to many addresses that do not exist is soon not delivered anywhere."""
    if not tally.enrolled:
        return []
    found = []
    for whom, (bounced, people) in tally.bounced.items():
        limit = allowed(limits.max_bounce_rate, people, floor=BOUNCED_FLOOR)
        if bounced > limit:
            found.append(
                f"{bounced:,} of the {people:,} people of {whom} have bounced, and {tally.enrolled:,} more would be mailed;"
                f" the limit is {limit:,} (max_bounce_rate)"
            )
    return found


def shrunk(tally: Tally, limits: Limits) -> str:
    """What max_shrink says of the read, as a text that an approval can be bound to; empty: nothing."""
    if not tally.full:
        return ""
    before = tally.read_before or 0
    if tally.read == 0:
        # An approval of everybody's removal is another way past an empty source.
        all_approved = 0 < tally.live_before <= tally.gone_approved
        return "" if all_approved else f"shrink {before} 0"
    lost = before - tally.read - tally.gone_approved
    return f"shrink {before} {tally.read}" if lost > allowed(limits.max_shrink, before) else ""


def _source(tally: Tally, limits: Limits) -> list[str]:
    if tally.shrink_approved or not shrunk(tally, limits):
        return []
    if tally.read == 0:
        return ["The source is empty; an empty source is always held"]
    before = tally.read_before or 0
    limit = allowed(limits.max_shrink, before)
    return [
        f"The source shrank from {before:,} to {tally.read:,} records; the limit is {limit:,} fewer (max_shrink)"
    ]


def _removals(tally: Tally, limits: Limits) -> list[str]:
    limit = allowed(limits.max_removals, tally.live_before, floor=REMOVALS_FLOOR)
    found = []
    if tally.removals > limit:
        found.append(
            f"{tally.removals:,} of {tally.live_before:,} people would leave the sync; the limit is {limit:,} (max_removals)"
        )
    for name, count in sorted(tally.group_removals.items()):
        limit = allowed(
            limits.max_removals, tally.group_sizes.get(name, count), floor=REMOVALS_FLOOR
        )
        if count > limit:
            found.append(
                f"{_people(count)} would leave the group {name!r}; the limit is {limit:,} (max_removals)"
            )
    return found


def _creates(tally: Tally, limits: Limits) -> list[str]:
    if tally.first_run:
        return []
    limit = allowed(limits.max_creates, tally.live_before, floor=CREATES_FLOOR)
    if tally.creates <= limit:
        return []
    return [f"{_people(tally.creates)} would be created; the limit is {limit:,} (max_creates)"]


def enough(tally: Tally, limits: Limits) -> int | None:
    """With so many confirmed people the field changes are within their limit, however many more there are; None: with no number."""
    most, limit = max(tally.field_changes.values(), default=0), limits.max_field_changes
    if most <= allowed(limit, 0, floor=FIELD_CHANGES_FLOOR):
        return 0
    needed = most / limit.share if limit.share else math.inf
    return math.ceil(needed) + 1 if needed < PEOPLE_MAX else None


def _fields(tally: Tally, limits: Limits) -> list[str]:
    limit = allowed(limits.max_field_changes, tally.confirmed, floor=FIELD_CHANGES_FLOOR)
    return [
        f"{count:,} of {tally.confirmed:,} people would get another value in {name!r}; the limit is {limit:,} (max_field_changes)"
        for name, count in sorted(tally.field_changes.items())
        if count > limit
    ]


def count_into(counts: dict[str, int], names: Mapping[str, object] | tuple[str, ...]) -> None:
    """One person more for each of these names."""
    for name in names:
        counts[name] = counts.get(name, 0) + 1


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"
