"""Several records, one person: what all of them together want of the contact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from syncd.core.person import Payload

CAUTION = {"keep": 0, "ungroup": 1, "delete": 2}


@dataclass(frozen=True, slots=True)
class Contribution:
    """One linked record. rank: position of its sync in the configuration. data: the mapped {"f","c","g","t"}.

    leaves_alone: its sync does not touch people who were in FluenzR before (`on_existing = "skip"`).
    """

    rank: int
    sync: int
    key: str
    live: bool
    policy: str
    data: Mapping[str, Any] | None
    leaves_alone: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """What is wanted of the contact (None: nothing any more), and how careful to be when that ends."""

    want: Payload | None
    policy: str | None
    sync: int | None  # of the first record that contributes, else of the first that is linked


def merge(
    records: Sequence[Contribution],
    *,
    adopted: bool,
    out: bool,
    policy_before: str | None,
    groups: Mapping[str, int],
    campaigns: Mapping[str, int],
) -> Merged:
    """Per field the first non-empty value by rank; groups and tags are the union; the most cautious policy of all linked.

    Campaigns are the union of those of live records: whoever left the source is not enrolled anew.
    adopted: the contact was in FluenzR before. out: the source said that the person opted out. groups: name -> gid.
    campaigns: likewise, those that take people.
    """
    ordered = sorted(records, key=lambda r: (not r.live, r.rank, r.sync, r.key))
    alone = {id(r) for r in ordered if adopted and r.leaves_alone}
    policies = ["keep" if id(r) in alone else r.policy for r in ordered]
    policy = min(policies, key=CAUTION.__getitem__, default=policy_before)
    # A record that left goes on contributing where nothing is to happen on removal.
    used = [r for r in ordered if r.data and id(r) not in alone and (r.live or r.policy == "keep")]
    first = next(iter(used or ordered), None)
    sync = first.sync if first else None
    if out:
        return Merged(Payload(out=True), policy, sync)
    if not used:
        return Merged(None, policy, sync)
    fields: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    joined: set[int] = set()
    entered: set[int] = set()
    tags: set[str] = set()
    for record in used:
        assert record.data is not None
        _lay_under(fields, record.data["f"])
        _lay_under(custom, record.data["c"])
        joined.update(groups[name] for name in record.data["g"])
        tags.update(record.data["t"])
        if record.live:
            entered.update(campaigns[n] for n in record.data.get("p", ()) if n in campaigns)
    want = Payload(fields, custom, frozenset(joined), frozenset(tags), campaigns=frozenset(entered))
    return Merged(want, policy, sync)


def _lay_under(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, value in more.items():
        if values.get(name) is None:
            values[name] = value
