"""What it means for us that FluenzR shows a contact: whose it is, what of it is ours, whether it is an accident of ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from syncd.core.person import Payload, differing


@dataclass(frozen=True, slots=True)
class Shown:
    """A contact as FluenzR shows it. email: lower case. groups: gids; None: the answer does not tell. created_ms: None: unknown."""

    rid: str
    email: str
    status: str
    fields: Mapping[str, Any]
    custom_fields: Mapping[str, Any]
    groups: frozenset[int] | None
    tags: frozenset[str] | None
    created_ms: int | None


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
    wanted = {k: v for k, v in want.fields.items() if v is not None}
    custom = {k: v for k, v in want.custom_fields.items() if v is not None}
    return not differing(wanted, shown.fields) and not differing(custom, shown.custom_fields)


def ours_of(want: Payload, sent: Payload, shown: Shown) -> Payload:
    """The part of what FluenzR shows that is ours: wanted by us, or given by us. Strangers' memberships stay strangers'."""
    groups = sent.groups if shown.groups is None else shown.groups & (want.groups | sent.groups)
    tags = sent.tags if shown.tags is None else shown.tags & (want.tags | sent.tags)
    return Payload(
        _ours(want.fields, sent.fields, shown.fields),
        _ours(want.custom_fields, sent.custom_fields, shown.custom_fields),
        groups,
        tags,
        sent.out,
    )


def _ours(
    want: Mapping[str, Any], sent: Mapping[str, Any], shown: Mapping[str, Any]
) -> dict[str, Any]:
    """A field to be cleared counts only where we had written it: what people wrote by hand stays."""
    names = [n for n in want if want[n] is not None or sent.get(n) is not None]
    return {n: shown[n] for n in [*names, *sent] if shown.get(n) is not None}


def is_accident(body: Mapping[str, Any] | None, inflight_at: int | None, shown: Shown) -> bool:
    """Whether a bulk update of ours has made this contact because somebody deleted or renamed the one it was meant for.

    Only an exact image of the request: its fields, no tag, no group. Anything else is somebody's own contact.
    """
    if body is None or inflight_at is None or shown.created_ms is None:
        return False
    if shown.created_ms < inflight_at or shown.tags or shown.tags is None:
        return False
    if shown.groups or shown.groups is None:
        return False
    return _image(body["f"], shown.fields) and _image(body["c"], shown.custom_fields)


def _image(sent: Mapping[str, Any], shown: Mapping[str, Any]) -> bool:
    return not differing(sent, shown) and not differing(shown, sent)
