"""Webhooks as FluenzR's endpoints return them, as values, and the reading from JSON.

As tolerant as `types.py`. Source: FluenzR reference, "Webhooks": `url events secret` [I]; the JSON of
a webhook's state, of a test and of the log is [?].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from syncd.core.answer import ShapeError, clean
from syncd.fluenzr.types import count, text, time_ms, words

EVENTS = (  # [D]
    "contact.created",
    "contact.updated",
    "contact.deleted",
    "campaign.started",
    "campaign.paused",
    "campaign.completed",
    "email.sent",
    "email.delivered",
    "email.opened",
    "email.clicked",
    "email.replied",
    "email.bounced",
    "email.unsubscribed",
)


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where FluenzR sends events. active: None where it is not shown. secret: only where the answer shows it."""

    id: str
    url: str
    events: tuple[str, ...]
    active: bool | None
    created_ms: int | None
    secret: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class WebhookTest:
    """What came of a test. delivered, status: of the receiver's answer; None where it is not said."""

    delivered: bool | None
    status: int | None
    message: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver an event. What is not shown is empty or None."""

    id: str
    event: str
    delivered: bool | None
    status: int | None
    time_ms: int | None
    message: str


def webhook(item: Any) -> Webhook:
    """A webhook from its JSON. Raises ShapeError."""
    if not isinstance(item, dict):
        raise ShapeError("a webhook is not an object")
    events = item.get("events")
    return Webhook(
        text(item, "id", "webhook"),
        text(item, "url", "webhook"),
        tuple(one for one in events if isinstance(one, str)) if isinstance(events, list) else (),
        _active(item),
        time_ms(item.get("createdAt")),
        words(item, "secret"),
    )


def webhook_test(data: Any) -> WebhookTest:
    """The answer of a test: anything that agrees."""
    got = data if isinstance(data, dict) else {}
    return WebhookTest(_delivered(got), _status(got), _message(got))


def delivery(item: Any) -> Delivery:
    """An entry of the log. Raises ShapeError."""
    if not isinstance(item, dict):
        raise ShapeError("an entry of a webhook's log is not an object")
    when = (time_ms(item.get(name)) for name in ("timestamp", "createdAt", "sentAt", "deliveredAt"))
    return Delivery(
        words(item, "id"),
        words(item, "event", "type", "eventType"),
        _delivered(item),
        _status(item),
        next((ms for ms in when if ms is not None), None),
        _message(item),
    )


def _active(item: Mapping[str, Any]) -> bool | None:
    for name in ("active", "isActive", "enabled"):
        if isinstance(item.get(name), bool):
            return bool(item[name])
    status = words(item, "status").lower()
    return status in ("active", "enabled") if status else None


def _delivered(item: Mapping[str, Any]) -> bool | None:
    for name in ("delivered", "success"):
        if isinstance(item.get(name), bool):
            return bool(item[name])
    said = words(item, "status", "result").lower()
    if said:
        return said in ("delivered", "success", "succeeded", "ok")
    status = _status(item)
    return None if status is None else 200 <= status < 300


def _status(item: Mapping[str, Any]) -> int | None:
    names = ("statusCode", "responseStatus", "responseCode", "httpStatus", "status")
    return next((found for name in names if (found := count(item, name)) is not None), None)


def _message(item: Mapping[str, Any]) -> str:
    return clean(words(item, "error", "message"))
