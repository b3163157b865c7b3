"""FluenzR's webhook events: whether one is genuine, and what it means for us.

An event is a hint, never the truth: only an opt-out is believed at once, for a latch can only make us more careful. A contact
that was renamed, deleted or put back by hand is *read* before anything is done to it. So events may come twice, late and in any order.
Source: FluenzR reference, "Webhooks" [D]: signature, tolerance, payload; which fields an event really has [?].
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import orjson

from syncd.core.model import OPTED_OUT_STATUSES

TOLERANCE_S = 300  # [D]
SCHEME = "sha256="
ID_CHARS_MAX = 200  # an "evt_..." has about thirty
REPLIED = "replied"

# What `syncd webhooks register` asks for: every event that means something to us.
WANTED_TYPES = (
    "contact.created",
    "contact.updated",
    "contact.deleted",
    "email.bounced",
    "email.replied",
    "email.unsubscribed",
)


class Fault(StrEnum):
    """Why a request is no event of FluenzR's."""

    SIGNATURE = "its signature is not that of the secret"
    TIME = "its time is more than five minutes from ours"
    FORM = "it is not an event in JSON"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. id: FluenzR's own, else the digest of the body. data: as it came."""

    id: str
    type: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OptedOut:
    """This person must not be mailed any more. contact_id, email: at least one of them is known."""

    contact_id: str | None
    email: str | None
    status: str


@dataclass(frozen=True, slots=True)
class Replied:
    """A conversation is going on: no sequence starts anew."""

    contact_id: str | None
    email: str | None


@dataclass(frozen=True, slots=True)
class Shown:
    """FluenzR has this contact under this address now."""

    contact_id: str
    email: str


@dataclass(frozen=True, slots=True)
class Deleted:
    """FluenzR has this contact no more."""

    contact_id: str | None
    email: str | None


Meaning: TypeAlias = OptedOut | Replied | Shown | Deleted


def fault(
    secrets: Iterable[str], *, signature: str, timestamp: str, body: bytes, now_s: float
) -> Fault | None:
    """Whether a request comes from FluenzR, now; the comparison takes the same time whatever differs.

    secrets: any of them may have signed; two while one is being replaced. signature, timestamp: the headers, as they came.
    """
    signed = timestamp.encode("latin-1", "replace") + b"." + body
    given = signature.encode("latin-1", "replace")
    genuine = False
    for secret in secrets:
        digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
        genuine |= hmac.compare_digest(given, (SCHEME + digest).encode())
    if not genuine:
        return Fault.SIGNATURE
    if not (timestamp.isascii() and timestamp.isdigit()):
        return Fault.TIME
    return None if abs(now_s - int(timestamp)) <= TOLERANCE_S else Fault.TIME


def parse(body: bytes) -> Event | None:
    """The event of a body; None for what is none. Without an id of its own it is known by what it says."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(content, dict):
        return None
    kind, data, identity = content.get("type"), content.get("data"), content.get("id")
    if not isinstance(kind, str) or not kind:
        return None
    if not isinstance(identity, str) or not 0 < len(identity) <= ID_CHARS_MAX:
        identity = "sha256:" + hashlib.sha256(body).hexdigest()
    return Event(identity, kind, data if isinstance(data, dict) else {})


def meanings(event: Event) -> tuple[Meaning, ...]:
    """What an event means for us; () for one that means nothing, or does not say whom it is about."""
    contact = event.data.get("contact")
    if not isinstance(contact, dict):
        contact = {}
    identity = _text(event.data.get("contactId")) or _text(contact.get("id"))
    email = (_text(event.data.get("contactEmail")) or _text(contact.get("email")) or "").lower()
    who = (identity, email or None)
    if not any(who):
        return ()
    status = _text(contact.get("status"))
    match event.type:
        case "email.unsubscribed":
            return (OptedOut(*who, "unsubscribed"),)
        case "email.bounced" if event.data.get("bounceType") != "soft":
            return (OptedOut(*who, "bounced"),)
        case "email.replied":
            return (Replied(*who),)
        case "contact.deleted":
            return (Deleted(*who),)
        case "contact.created" | "contact.updated":
            return (*_of_status(status, *who), *_of_place(*who))
    return ()


def _of_status(
    status: str | None, identity: str | None, email: str | None
) -> tuple[OptedOut | Replied, ...]:
    if status in OPTED_OUT_STATUSES:
        return (OptedOut(identity, email, status),)
    return (Replied(identity, email),) if status == REPLIED else ()


def _of_place(identity: str | None, email: str | None) -> tuple[Shown, ...]:
    return (Shown(identity, email),) if identity and email else ()


def _text(value: Any) -> str | None:
    return value.strip() if isinstance(value, str) and value.strip() else None
