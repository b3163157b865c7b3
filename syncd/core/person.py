"""One contact as the state knows it, and what is to be done to it in FluenzR. Pure: the same person, the same work.

`want` is what the sources ask for, `sent` what FluenzR was last confirmed to have of ours; the work is what leads from one to the other,
less what the never-ledger and the contact's status forbid (`docs/architecture.md`, "What is never done").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from syncd.core.model import OPTED_OUT_STATUSES, GroupKind

# what of the ledger forbids: to create; to be added to any group; to be added to a dynamic group
NO_CREATE = frozenset({"!", "x", "#", "?"})
NO_GROUP = frozenset({"!", "#", "?"})
NO_ENROL = frozenset({"*", "x", "~"})

# status -> what the ledger keeps of it for ever; who replied is in a conversation, so that no sequence begins anew
LATCHES = {**dict.fromkeys(OPTED_OUT_STATUSES, "!"), "replied": "~"}
MAILED = frozenset(
    {None, "", "active"}
)  # statuses that are not known to forbid mail; None, empty: FluenzR shows none


@dataclass(frozen=True, slots=True)
class Payload:
    """The parts of a contact that are ours. groups, campaigns: gid of `grp`; out: taken out of everything, by the source's opt-out.

    campaigns: wanted, or entered once; nobody is taken out of one because a source wants something else.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    custom_fields: dict[str, Any] = field(default_factory=dict)
    groups: frozenset[int] = frozenset()
    tags: frozenset[str] = frozenset()
    out: bool = False
    campaigns: frozenset[int] = frozenset()

    def dump(self) -> str:
        """As the state keeps it; equal payloads give equal text."""
        data: dict[str, Any] = {
            "f": self.fields,
            "c": self.custom_fields,
            "g": sorted(self.groups),
            "t": sorted(self.tags),
        }
        if self.out:
            data["out"] = True
        if self.campaigns:
            data["p"] = sorted(self.campaigns)
        return orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()


EMPTY = Payload()


def load(text: str | None) -> Payload | None:
    """What `dump` wrote; None for NULL."""
    if text is None:
        return None
    data = orjson.loads(text)
    return Payload(
        data.get("f", {}),
        data.get("c", {}),
        frozenset(data.get("g", ())),
        frozenset(data.get("t", ())),
        bool(data.get("out")),
        frozenset(data.get("p", ())),
    )


@dataclass(frozen=True, slots=True)
class Person:
    """A row of `contact` with what the ledger says of it. blocked: a linked record, or one that may be an opt-out, cannot be read."""

    cid: int
    email: str
    rid: str | None
    origin: str | None
    status: str | None
    state: str
    policy: str | None
    want: Payload | None
    sent: Payload
    move_to: str | None
    never: frozenset[str]
    tries: int = 0
    blocked: bool = False
    judged: frozenset[int] = (
        frozenset()
    )  # the groups and campaigns in which the guards let it be enrolled

    @property
    def opted_out(self) -> bool:
        """Whether FluenzR or the ledger says so; a latch."""
        return self.status in OPTED_OUT_STATUSES or "!" in self.never

    def may_join(self, gid: int, kind: GroupKind) -> bool:
        """Whether it may be added to this group or campaign. What is not known to be a static group mails whoever joins it."""
        if self.opted_out or self.never & NO_GROUP or kind is GroupKind.ENDED:
            return False
        if kind is GroupKind.STATIC:
            return True
        barred = self.never & NO_ENROL or f"g{gid}" in self.never
        return not (barred or self.status not in MAILED or self.blocked)


def why_not_enrolled(person: Person, gid: int) -> str:
    """Why `may_join` forbids a campaign, in a few words for people; empty: it does not."""
    if person.opted_out:
        return "opted out"
    if f"g{gid}" in person.never:
        return "enrolled before"
    if person.status == "replied" or "~" in person.never:
        return "replied"
    if person.never & (NO_GROUP | NO_ENROL):
        return "barred by the never-ledger"
    if person.status not in MAILED:
        return "not active"
    return "not readable in the source" if person.blocked else ""


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done to one contact. fields, custom_fields: name -> (old, new), only what differs."""

    create: bool = False
    forbidden: str = ""  # why a wanted contact is not created: what of the ledger says so
    look_up: bool = (
        False  # opted out in the source: whether FluenzR has the address must be found out
    )
    leave_all: bool = False  # opted out in the source: out of every group and campaign
    move_to: str | None = None
    delete: bool = False
    removal: bool = False  # nobody wants it any more: groups and tags go because of that
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    custom_fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    join: tuple[int, ...] = ()
    enter: tuple[int, ...] = ()  # campaigns
    leave: tuple[int, ...] = ()
    tag: tuple[str, ...] = ()
    untag: tuple[str, ...] = ()

    @property
    def by_id(self) -> bool:
        """Whether something is to be done that needs FluenzR's id."""
        return bool(
            self.join
            or self.enter
            or self.leave
            or self.tag
            or self.untag
            or self.delete
            or self.leave_all
        )

    @property
    def any(self) -> bool:
        """Whether anything is to be done."""
        return bool(
            self.create
            or self.look_up
            or self.move_to
            or self.fields
            or self.custom_fields
            or self.by_id
        )


NOTHING = Work()


def work(person: Person, kinds: Mapping[int, GroupKind], *, unjudged: bool = False) -> Work:
    """What leads from `sent` to `want`. kinds: of every group that the state knows, by gid.

    unjudged: also enrolments that no guard has let pass yet; those are never sent.
    """
    open_to = partial(_open, person, kinds=kinds, unjudged=unjudged)
    if person.state == "new":
        return _work_of_absent(person, open_to)
    if person.state != "ok":
        return NOTHING  # being erased: not ours to decide here
    want, sent = person.want, person.sent
    if want is None:
        return _work_of_left(person)
    return Work(
        leave_all=want.out and not sent.out,
        move_to=person.move_to,
        fields=differing(want.fields, sent.fields),
        custom_fields=differing(want.custom_fields, sent.custom_fields),
        join=() if want.out else open_to(want.groups - sent.groups),
        enter=() if want.out else open_to(want.campaigns - sent.campaigns),
        leave=tuple(sorted(sent.groups - want.groups)),
        tag=tuple(sorted(want.tags - sent.tags)),
        untag=tuple(sorted(sent.tags - want.tags)),
    )


def _work_of_absent(person: Person, open_to: Callable[[frozenset[int]], tuple[int, ...]]) -> Work:
    """Not in FluenzR as far as we know. open_to: those of some groups or campaigns that the person may be added to."""
    want = person.want
    if want is None:
        return NOTHING
    if want.out:
        return Work(look_up=not person.sent.out, forbidden="!")
    barred = person.never & NO_CREATE
    if barred or person.blocked:
        return Work(forbidden="".join(sorted(barred)) or "blocked")
    return Work(
        create=True,
        join=open_to(want.groups),
        enter=open_to(want.campaigns),
        tag=tuple(sorted(want.tags)),
    )


def _open(
    person: Person, gids: frozenset[int], *, kinds: Mapping[int, GroupKind], unjudged: bool
) -> tuple[int, ...]:
    if not gids:  # nearly always
        return ()

    def may(gid: int) -> bool:
        kind = _kind(kinds, gid)
        judged = unjudged or kind is GroupKind.STATIC or gid in person.judged
        return judged and person.may_join(gid, kind)

    return tuple(gid for gid in sorted(gids) if may(gid))


def _work_of_left(person: Person) -> Work:
    """No source wants it any more: only what we gave is taken back, and only what we made is deleted."""
    if (person.policy or "keep") == "keep":
        return NOTHING
    # An opted-out contact is the memory of the opt-out; an adopted one belongs to somebody else.
    if person.policy == "delete" and person.origin == "created" and not person.opted_out:
        return Work(delete=True, removal=True)
    return Work(
        removal=bool(person.sent.groups or person.sent.tags),
        leave=tuple(sorted(person.sent.groups)),
        untag=tuple(sorted(person.sent.tags)),
    )


def _kind(kinds: Mapping[int, GroupKind], gid: int) -> GroupKind:
    return kinds.get(gid, GroupKind.UNKNOWN)


def differing(want: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """name -> (old, new) of what differs. A wanted None clears, and only what `sent` says we had written."""
    return {
        name: (sent.get(name), value)
        for name, value in want.items()
        if not same_value(sent.get(name), value)
    }


def same_value(one: Any, other: Any) -> bool:
    """Whether FluenzR would show the same: it may give numbers and booleans back as text, and empty for null [?]."""
    if one == other and type(one) is type(other):
        return True
    return _plain(one) == _plain(other)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def enrolments(todo: Work, kinds: Mapping[int, GroupKind]) -> tuple[int, ...]:
    """What of `todo` would mail the person: groups not known to be static, and campaigns."""
    return (*(g for g in todo.join if _kind(kinds, g) is not GroupKind.STATIC), *todo.enter)
