"""The nouns of a run, as the core sees them: plain values, no behaviour that needs a clock or a file."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple


class SkipReason(StrEnum):
    """Why a record of the source is not wanted in FluenzR; stored with the record, counted per reason."""

    FILTERED = "filtered"  # `where` says no
    ADDRESS = "address"  # empty or unusable address: frozen at its last good state
    OPTED_OUT = "opted_out"  # the source says that the person opted out
    BLOCKED = (
        "blocked"  # an expression or a transform failed: frozen, and nothing is enrolled meanwhile
    )


# How the detail of a BLOCKED record begins that may be an opt-out: until it can be read, it counts as no consent of anybody at its address.
OPT_OUT_UNREAD = "opted_out: "


class Wanted(NamedTuple):
    """A record after mapping; a tuple, for there is one for every new or changed record, and a frozen class costs 1 us more.

    Field values are str, int, float, bool or None (None: to be cleared).
    groups, tags: names, sorted, without doubles. groups_complete, tags_complete: False when a part of them was not
    read: what is listed is wanted, and what was known besides stays.
    """

    email: str  # trimmed, lower case
    fields: dict[str, Any]
    custom_fields: dict[str, Any]
    groups: tuple[str, ...]
    tags: tuple[str, ...]
    groups_complete: bool = True
    tags_complete: bool = True
    campaigns: tuple[str, ...] = ()  # names, sorted, without doubles


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is not wanted, with the reason and words for people. email: where it is known and usable."""

    reason: SkipReason
    detail: str
    email: str | None = None


Outcome = Wanted | Skipped


class GroupKind(StrEnum):
    """What one can be put in: FluenzR's two types of group, and campaigns.

    A type that FluenzR does not tell counts as dynamic, for dynamic groups send mail; so do campaigns.
    """

    STATIC = "static"
    DYNAMIC = "dynamic"
    UNKNOWN = "unknown"
    CAMPAIGN = "campaign"
    ENDED = "ended"  # a campaign that takes nobody any more: completed, archived, or gone


OPTED_OUT_STATUSES = frozenset({"unsubscribed", "bounced", "blocked"})
