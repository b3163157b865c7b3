"""What it means for us that FluenzR shows a contact: whose it is, what of it is ours, whether it is an accident of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from syncd.core.model import GroupKind
from syncd.core.person import Payload, Person, differing, work

# What a contact of the API shows [D]; a passthrough field (`send_as`) is believed as it was sent.
VISIBLE = frozenset({"firstName", "lastName", "company", "jobTitle", "phone", "website"})


def _visible(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name in VISIBLE}


@dataclass(frozen=True, slots=True)
class Shown:
    """A contact as FluenzR shows it. email: lower case. groups: gids; None: the answer does not tell. created_ms: None: unknown.

    campaigns: of those whose enrolment is in doubt, the ones that it is in; None: nobody can tell.
    """

    rid: str
    email: str
    status: str
    fields: Mapping[str, Any]
    custom_fields: Mapping[str, Any]
    groups: frozenset[int] | None
    tags: frozenset[str] | None
    created_ms: int | None
    updated_ms: int | None = None
    campaigns: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What we know of how the row came to be. inflight: what was being sent; at: the server's clock (ms) before that."""

    rid: str | None
    origin: str | None
    made_from: int | None
    made: int | None
    inflight: str | None
    inflight_at: int | None


def is_ours(claim: Claim, shown: Shown) -> bool:
    """Positive proof that we made this contact: its id was known to be ours, or it came to be between our request and its confirmation."""
    if claim.origin != "created":
        return False
    if claim.rid is not None:
        return claim.rid == shown.rid
    if claim.made_from is None or claim.made is None or shown.created_ms is None:
        return False
    return claim.made_from <= shown.created_ms <= claim.made


def is_just_made(claim: Claim, want: Payload, shown: Shown) -> bool:
    """Whether the create that is in flight has made it: since then, with all our fields and tags."""
    if claim.inflight != "create" or claim.inflight_at is None or shown.created_ms is None:
        return False
    if shown.created_ms < claim.inflight_at or shown.tags is None or not want.tags <= shown.tags:
        return False
    wanted = _visible({k: v for k, v in want.fields.items() if v is not None})
    custom = {k: v for k, v in want.custom_fields.items() if v is not None}
    return not differing(wanted, shown.fields) and not differing(custom, shown.custom_fields)


def ours_of(want: Payload, sent: Payload, shown: Shown) -> Payload:
    """The part of what FluenzR shows that is ours: wanted by us, or given by us. Strangers' memberships stay strangers'."""
    groups = sent.groups if shown.groups is None else shown.groups & (want.groups | sent.groups)
    tags = sent.tags if shown.tags is None else shown.tags & (want.tags | sent.tags)
    return Payload(
        _ours(want.fields, sent.fields, shown.fields)
        | {n: v for n, v in sent.fields.items() if n not in VISIBLE and n not in shown.fields},
        _ours(want.custom_fields, sent.custom_fields, shown.custom_fields),
        groups,
        tags,
        sent.out,
        sent.campaigns,  # a contact does not show its campaigns
    )


def _ours(
    want: Mapping[str, Any], sent: Mapping[str, Any], shown: Mapping[str, Any]
) -> dict[str, Any]:
    """A field to be cleared counts only where we had written it: what people wrote by hand stays."""
    names = [n for n in want if want[n] is not None or sent.get(n) is not None]
    return {n: shown[n] for n in [*names, *sent] if shown.get(n) is not None}


def is_accident(body: Mapping[str, Any] | None, inflight_at: int | None, shown: Shown) -> bool:
    """Whether a bulk update of ours has made this contact because somebody deleted or renamed the one it was meant for.

    Only an exact image of the request, made since: its fields, no tag, no group. Anything else is somebody's own contact.
    """
    if inflight_at is None or shown.created_ms is None or shown.created_ms < inflight_at:
        return False
    return is_image(body, shown)


def was_changed(shown: Shown) -> bool:
    """Whether it has been changed since it was made: an accident of ours has not."""
    if shown.created_ms is None or shown.updated_ms is None:
        return False
    return shown.updated_ms > shown.created_ms


def is_image(body: Mapping[str, Any] | None, shown: Shown) -> bool:
    """Whether the contact is exactly what the bulk update would have made, whenever it was made."""
    if body is None or shown.tags is None or shown.groups is None or shown.tags or shown.groups:
        return False
    return _image(_visible(body["f"]), shown.fields) and _image(body["c"], shown.custom_fields)


def _image(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    return not differing(sent, shown) and not differing(shown, sent)


def came_true(
    kind: str,
    before: Person,
    after: Person | None,
    kinds: Mapping[int, GroupKind],
    claims: frozenset[int],
) -> tuple[str, ...] | None:
    """What a change that was in doubt turns out to have done, in the words of the books; None: it was not applied.

    claims: groups that it might have enrolled in.
    """
    if kind == "delete":
        return ("removed",) if after is None else None
    if after is None or after.state != "ok":
        return None
    enrolled = ("enrolled",) if claims & (after.sent.groups | after.sent.campaigns) else ()
    todo = work(after, kinds)
    match kind:
        case "create" if after.origin == "created":
            return ("created", *(("grouped",) if after.sent.groups else ()), *enrolled)
        case "update" | "field" if not (todo.fields or todo.custom_fields):
            return ("updated",)
        case "move" if after.email == before.move_to:
            return ("moved",)
        case "group" | "enrol" if _has_all(before.sent, after.sent):
            return ("grouped", *enrolled)
        case "ungroup" if not todo.leave and not todo.leave_all:
            gone = after.want is None and not todo.untag
            return ("removed", "ungrouped") if gone else ("ungrouped",)
        case "untag" if not todo.untag:
            return ("removed",) if after.want is None else ()
        case "tag" if before.sent.tags <= after.sent.tags:
            return ()
    return None


def _has_all(claimed: Payload, now: Payload) -> bool:
    return claimed.groups <= now.groups and claimed.campaigns <= now.campaigns
