"""What one step adds to what was to be done anyway, as a change for people and as numbers for the guards. Pure."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import orjson

from syncd.core.change import Change, ChangeKind, Edit
from syncd.core.guard import Tally, count_into
from syncd.core.model import GroupKind
from syncd.core.person import EMPTY, NOTHING, Person, Work, enrolments, work


def added(person: Person, before: Person | None, kinds: Mapping[int, GroupKind]) -> Work:
    """The work that this step adds. before: the same contact with what it wanted before; None: it was not wanted yet.

    Of enrolments all that no guard has judged yet, whenever they came to be: who was barred before may not be now, a group that
    mailed nobody may have been made dynamic, and a record may have found its contact only when its step was over.
    """
    now = work(person, kinds, unjudged=True)
    then = NOTHING if before is None else work(before, kinds, unjudged=True)
    mails = {*enrolments(now, kinds)}
    return replace(
        now,
        create=now.create and not then.create,
        delete=now.delete and not then.delete,
        removal=now.removal and not then.removal,
        leave_all=now.leave_all and not then.leave_all,
        move_to=now.move_to if now.move_to != then.move_to else None,
        fields={k: v for k, v in now.fields.items() if then.fields.get(k) != v},
        custom_fields={
            k: v for k, v in now.custom_fields.items() if then.custom_fields.get(k) != v
        },
        join=tuple(g for g in now.join if g not in (person.judged if g in mails else then.join)),
        enter=tuple(g for g in now.enter if g not in person.judged),
        leave=tuple(g for g in now.leave if g not in then.leave),
        tag=tuple(t for t in now.tag if t not in then.tag),
        untag=tuple(t for t in now.untag if t not in then.untag),
    )


def kind_of(todo: Work) -> ChangeKind | None:
    """The most far-reaching of what happens; None: nothing that anybody would notice."""
    if todo.create:
        return ChangeKind.CREATE
    if todo.move_to:
        return ChangeKind.MOVE
    if todo.delete or todo.removal:
        return ChangeKind.REMOVE
    if todo.fields or todo.custom_fields or todo.tag or todo.untag:
        return ChangeKind.UPDATE
    if todo.join or todo.enter:
        return ChangeKind.GROUP
    return ChangeKind.UNGROUP if todo.leave or todo.leave_all else None


def change_of(
    person: Person,
    todo: Work,
    *,
    sync: str,
    names: Mapping[int, str],
    kinds: Mapping[int, GroupKind],
) -> Change | None:
    """The change as people see it; None when there is none."""
    kind = kind_of(todo)
    if kind is None:
        return None
    fields = {**todo.fields, **{f"customFields.{k}": v for k, v in todo.custom_fields.items()}}
    if todo.create:
        want = person.want or EMPTY
        fields = {k: (None, v) for k, v in want.fields.items() if v is not None}
        fields |= {
            f"customFields.{k}": (None, v) for k, v in want.custom_fields.items() if v is not None
        }
    if todo.move_to:
        fields = {"email": (person.email, todo.move_to), **fields}
    return Change(
        email=person.email,
        sync=sync,
        kind=kind,
        fields=fields,
        groups=Edit(_sorted(names, todo.join), _sorted(names, todo.leave)),
        tags=Edit(todo.tag, todo.untag),
        campaigns=_sorted(names, todo.enter),
        enrol=_sorted(names, enrolments(todo, kinds)),
        why=_why(todo),
    )


def _sorted(names: Mapping[int, str], gids: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(sorted(names[gid] for gid in gids))


def _why(todo: Work) -> str:
    if todo.create:
        return "new in the source, not in FluenzR"
    if todo.move_to:
        return "the address changed in the source"
    if todo.delete:
        return "no source wants this person any more; deleted by on_removal"
    if todo.removal:
        return "no source wants this person any more; groups and tags are taken back"
    if todo.leave_all:
        return "opted out in the source: out of every group"
    if todo.fields or todo.custom_fields:
        return "the source has other values"
    if todo.enter and not (todo.join or todo.leave or todo.tag or todo.untag):
        return "the sync enrols this person in a campaign"
    return "groups or tags of the sync apply differently now"


def digest_of(change: Change) -> bytes:
    """What an approval is bound to: exactly this change to exactly this person."""
    text = orjson.dumps(
        {**change.contract(), "enrol": list(change.enrol)}, option=orjson.OPT_SORT_KEYS
    )
    return hashlib.blake2b(text, digest_size=16).digest()


def shrink_digest(text: str) -> bytes:
    """What an approval of a shrunken source is bound to: exactly these numbers."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def count(tally: Tally, change: Change, todo: Work, *, known: bool, leaves: bool) -> None:
    """Add one change to the guards' tally. known: the contact was confirmed before this step (no create, no adoption).

    leaves: no record of the sync is this person's any more; another sync may still want the contact.
    """
    if todo.create:
        tally.creates += 1
    if change.enrol:
        tally.enrolled += 1
        count_into(tally.enrolments, change.enrol)
    # An opt-out is never held up by a guard.
    if not todo.leave_all:
        count_into(tally.group_removals, change.groups.remove)
        takes = todo.leave or todo.untag
        tally.removals += bool(todo.delete or todo.removal or (leaves and takes))
    if known:
        count_into(tally.field_changes, change.fields)
