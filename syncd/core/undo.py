"""What one run did to one contact, what of it may be put back, and how that holds against what the sources still want. Pure.

Putting back is an *exception* from what the sources want: as long as they want the very thing that was undone, the value
from before the run is wanted instead. As soon as they want something else, the exception ends.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from syncd.core.model import GroupKind
from syncd.core.person import EMPTY, Payload, Person, enrolments, same_value, work

CUSTOM = "customFields."  # how the history names a custom field


@dataclass(slots=True)
class Deed:
    """What one run did to one contact. fields: name -> [old, new]; groups and tags: name -> whether it was given (else taken).

    groups: names; email: the address after the run; created: the run made the contact, and gave `groups` and `tags` with it.
    """

    email: str = ""
    created: bool = False
    deleted: bool = False
    opted_out: bool = False
    moved_from: str | None = None
    fields: dict[str, list[Any]] = field(default_factory=dict)
    groups: dict[str, bool] = field(default_factory=dict)
    tags: dict[str, bool] = field(default_factory=dict)

    def take(self, email: str, detail: Mapping[str, Any]) -> None:
        """One change more, in the order in which they happened."""
        self.email = email
        self.deleted |= bool(detail.get("deleted"))
        self.opted_out |= bool(detail.get("opted_out"))
        for name, (old, new) in detail.get("fields", {}).items():
            if name == "email":
                self.moved_from = self.moved_from or old
                self.email = new
            elif name in self.fields:
                self.fields[name][1] = new
            else:
                self.fields[name] = [old, new]
        for given, names in (("groups", self.groups), ("tags", self.tags)):
            edit = detail.get(given, {})
            _take_edit(names, edit.get("add", ()), edit.get("remove", ()))


def _take_edit(names: dict[str, bool], add: Iterable[str], remove: Iterable[str]) -> None:
    for name, given in (*((n, True) for n in add), *((n, False) for n in remove)):
        if names.get(name) is (not given):
            del names[name]  # there and back again
        else:
            names[name] = given


class Part(StrEnum):
    """Which part of a contact an exception is about."""

    FIELD = "f"
    CUSTOM_FIELD = "c"
    GROUP = "g"  # by gid
    TAG = "t"


@dataclass(frozen=True, slots=True)
class Exemption:
    """One thing that was put back. undone: what the sources want; instead: what is wanted as long as they do.

    Of groups and tags both are booleans. left: no source wanted the person at all then. of: the run that it undoes.
    """

    part: Part
    name: str | int
    undone: Any
    instead: Any
    left: bool = False
    of: int = 0


def lay_over(
    want: Payload | None, exemptions: Sequence[Exemption]
) -> tuple[Payload | None, list[Exemption]]:
    """What is wanted with these exceptions, and which of them have ended."""
    ended = []
    result = want
    for one in exemptions:
        holds = (
            one.left == (want is None) and not (want and want.out) and _holds(one, want or EMPTY)
        )
        if not holds:
            ended.append(one)
            continue
        result = _laid(one, result or EMPTY)
    return result, ended


def lay_off(want: Payload | None, exemptions: Sequence[Exemption]) -> Payload | None:
    """What the sources want, from what is wanted with these exceptions."""
    result = want
    for one in exemptions:
        result = None if one.left else _laid(replace(one, instead=one.undone), result or EMPTY)
    return result


def _holds(one: Exemption, want: Payload) -> bool:
    """Whether the sources still want exactly what was undone."""
    match one.part:
        case Part.FIELD:
            return one.name in want.fields and same_value(want.fields[str(one.name)], one.undone)
        case Part.CUSTOM_FIELD:
            values = want.custom_fields
            return one.name in values and same_value(values[str(one.name)], one.undone)
        case Part.GROUP:
            return (one.name in want.groups) is bool(one.undone)
        case Part.TAG:
            return (one.name in want.tags) is bool(one.undone)


def _laid(one: Exemption, want: Payload) -> Payload:
    name: Any = one.name
    match one.part:
        case Part.FIELD:
            return replace(want, fields={**want.fields, name: one.instead})
        case Part.CUSTOM_FIELD:
            return replace(want, custom_fields={**want.custom_fields, name: one.instead})
        case Part.GROUP:
            return replace(
                want, groups=want.groups | {name} if one.instead else want.groups - {name}
            )
        case Part.TAG:
            return replace(want, tags=want.tags | {name} if one.instead else want.tags - {name})


def without_drift(person: Person, before: Payload) -> Payload:
    """What counts as sent after a read: where we had sent what is wanted, it still does, whatever hands have made of it."""
    sent, want = person.sent, person.want or EMPTY
    return replace(
        sent,
        fields=_undrifted(sent.fields, before.fields, want.fields),
        custom_fields=_undrifted(sent.custom_fields, before.custom_fields, want.custom_fields),
        groups=sent.groups | (before.groups & want.groups),
        tags=sent.tags | (before.tags & want.tags),
    )


def _undrifted(
    sent: Mapping[str, Any], before: Mapping[str, Any], want: Mapping[str, Any]
) -> dict[str, Any]:
    kept = {n: before.get(n) for n, value in want.items() if same_value(before.get(n), value)}
    return {n: value for n, value in {**sent, **kept}.items() if value is not None}


class Reason(StrEnum):
    """Why something is not undone; the order is the one in which people are told."""

    MAILED = "mailed"
    DELETED = "deleted"
    CREATED = "created"
    OPTED_OUT = "opted out"
    WOULD_MAIL = "would mail"
    MOVED = "moved"
    TOUCHED = "touched"
    LATER_RUN = "later run"
    WANTED = "wanted otherwise"
    GONE = "gone"
    UNREADABLE = "unreadable"
    WAITS = "waits"


@dataclass(frozen=True, slots=True)
class NotUndone:
    """One thing of the run that stays as it is. what: in words."""

    email: str
    reason: Reason
    what: str


@dataclass(frozen=True, slots=True)
class Ground:
    """What a decision stands on. person: after a fresh read; want: without exceptions; later: names that later runs changed.

    of: the run that is undone; exempt: what was put back before, by (part, name).
    fields, custom_fields: as FluenzR shows them; groups: gids, tags: likewise, None where it does not tell.
    gids: group name -> gid; there: gids that FluenzR has; kinds: by gid.
    """

    person: Person
    want: Payload | None
    later: Collection[str]
    of: int
    exempt: Mapping[tuple[Part, str | int], Exemption]
    fields: Mapping[str, Any]
    custom_fields: Mapping[str, Any]
    groups: Collection[int] | None
    tags: Collection[str] | None
    gids: Mapping[str, int]
    there: Collection[int]
    kinds: Mapping[int, GroupKind]


@dataclass(slots=True)
class Decision:
    """What is put back, and what is not."""

    exemptions: list[Exemption] = field(default_factory=list)
    not_undone: list[NotUndone] = field(default_factory=list)

    def keep(self, email: str, reason: Reason, what: str) -> None:
        """This stays as it is."""
        self.not_undone.append(NotUndone(email, reason, what))


def hindrance(person: Person | None, deed: Deed, kinds: Mapping[int, GroupKind]) -> Reason | None:
    """Why nothing at all of this contact can be put back; None: it can."""
    if deed.deleted:
        return Reason.DELETED
    if person is None or person.state != "ok":
        return Reason.GONE
    if person.email != deed.email:
        return Reason.TOUCHED  # another address by hand, or by a later run: perhaps another person
    todo = work(person, kinds, unjudged=True)
    # Undoing sends everything that is to be sent to a contact: it must not carry a mail, a deletion or a move along.
    if enrolments(todo, kinds) or todo.delete or todo.move_to or person.move_to:
        return Reason.WAITS
    return None


def decide(deed: Deed, ground: Ground) -> Decision:
    """What of this deed is put back: only where FluenzR shows exactly what the run left, and nobody wants something new."""
    found, email = Decision(), ground.person.email
    if deed.moved_from:
        found.keep(email, Reason.MOVED, f"the address was {deed.moved_from}")
    if deed.opted_out:
        found.keep(
            email, Reason.OPTED_OUT, "out of every group: the source says that the person opted out"
        )
        return found
    for name, (old, new) in sorted(deed.fields.items()):
        _decide_field(found, ground, name, old, new)
    for name, given in sorted(deed.groups.items()):
        _decide_group(found, ground, name, given=given)
    for name, given in sorted(deed.tags.items()):
        _decide_tag(found, ground, name, given=given)
    return found


def _decide_field(found: Decision, ground: Ground, name: str, old: Any, new: Any) -> None:
    if same_value(old, new):
        return
    custom = name.startswith(CUSTOM)
    part, key = (Part.CUSTOM_FIELD, name.removeprefix(CUSTOM)) if custom else (Part.FIELD, name)
    shown = ground.custom_fields if custom else ground.fields
    email, what = ground.person.email, f"{name}: {_value(old)} -> {_value(new)}"
    one = _after(ground, Exemption(part, key, new, old, of=ground.of))
    if one is None:
        return
    if name in ground.later:
        found.keep(email, Reason.LATER_RUN, what)
    elif not same_value(shown.get(key), new):
        found.keep(email, Reason.TOUCHED, f"{what}, now {_value(shown.get(key))}")
    elif ground.want is None or ground.want.out or not _holds(one, ground.want):
        found.keep(email, Reason.WANTED, what)
    else:
        found.exemptions.append(one)


def _decide_group(found: Decision, ground: Ground, name: str, *, given: bool) -> None:
    person, gid = ground.person, ground.gids.get(name)
    what = f"group {name}: {'joined' if given else 'left'}"
    if gid is None or gid not in ground.there:
        found.keep(person.email, Reason.GONE, f"{what}; FluenzR has no such group any more")
        return
    members = person.sent.groups if ground.groups is None else ground.groups
    if (gid in members) is not given:
        return  # it is as before the run already
    if person.opted_out:
        found.keep(person.email, Reason.OPTED_OUT, what)
    elif not given and ground.kinds.get(gid) is not GroupKind.STATIC:
        found.keep(person.email, Reason.WOULD_MAIL, what)
    else:
        one = Exemption(Part.GROUP, gid, given, not given, of=ground.of)
        _exempt(found, ground, one, f"group {name}", what)


def _decide_tag(found: Decision, ground: Ground, name: str, *, given: bool) -> None:
    tags = ground.person.sent.tags if ground.tags is None else ground.tags
    if (name in tags) is given:
        what = f"tag {name}: {'given' if given else 'taken away'}"
        one = Exemption(Part.TAG, name, given, not given, of=ground.of)
        _exempt(found, ground, one, f"tag {name}", what)


def _after(ground: Ground, one: Exemption) -> Exemption | None:
    """The same upon what was put back before: what the sources want stays the one thing; None: it was this very run."""
    before = ground.exempt.get((one.part, one.name))
    if before is None:
        return one
    if before.of == one.of:
        return None
    return replace(one, undone=before.undone) if same_value(before.instead, one.undone) else one


def _exempt(found: Decision, ground: Ground, one: Exemption, name: str, what: str) -> None:
    left, upon = ground.want is None, _after(ground, one)
    if upon is None:
        return
    one = upon
    if name in ground.later:
        found.keep(ground.person.email, Reason.LATER_RUN, what)
    elif not _holds(one, ground.want or EMPTY):
        found.keep(ground.person.email, Reason.WANTED, what)
    else:
        found.exemptions.append(replace(one, left=left))


def _value(value: Any) -> str:
    return "(empty)" if value is None or value == "" else str(value)
