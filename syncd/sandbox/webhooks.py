"""The endpoints of webhooks, and the delivery of one event, at once and without a second attempt.

Source: FluenzR reference, "Webhooks": list, create, delete [I]; update, test, logs [D]; how a webhook's
state, a test and the log are told is [?], switched by `Quirks`.
"""

from typing import Any

from syncd.sandbox.bodies import strings, text
from syncd.sandbox.delivery import Attempt, deliver, signed
from syncd.sandbox.exchange import Answer, Request, invalid, missing, paged, success
from syncd.sandbox.store import Store

EVENTS = {  # [D]
    "contact": ("created", "updated", "deleted"),
    "campaign": ("started", "paused", "completed"),
    "email": ("sent", "delivered", "opened", "clicked", "replied", "bounced", "unsubscribed"),
}


def list_webhooks(store: Store, request: Request, _: str) -> Answer:
    """GET /webhooks [I]."""
    every = list(store.webhooks.values())
    return paged(
        every, lambda one: _view(store, one), request.query, total_pages=store.quirks.total_pages
    )


def create(store: Store, request: Request, _: str) -> Answer:
    """POST /webhooks [I]."""
    body, now = request.json(), store.now()
    webhook: dict[str, Any] = {"id": store.new_id("whk")}
    webhook |= _settings(body)
    webhook |= {"createdAt": now, "updatedAt": now, "attempts": []}
    store.webhooks[webhook["id"]] = webhook
    return success(_view(store, webhook), status=201)


def update(store: Store, request: Request, webhook_id: str) -> Answer:
    """PUT /webhooks/:id [D]."""
    webhook, body = _webhook(store, webhook_id), request.json()
    kept = {name: webhook[name] for name in ("url", "events", "secret")}
    webhook |= _settings(kept | body)
    webhook["updatedAt"] = store.now()
    return success(_view(store, webhook))


def delete(store: Store, _request: Request, webhook_id: str) -> Answer:
    """DELETE /webhooks/:id [I]."""
    _webhook(store, webhook_id)
    del store.webhooks[webhook_id]
    return success({"id": webhook_id, "deleted": True})


def test(store: Store, _request: Request, webhook_id: str) -> Answer:
    """POST /webhooks/:id/test [D]: one made-up event of the first kind that it asks for [?]."""
    webhook = _webhook(store, webhook_id)
    attempt = attempted(store, webhook, webhook["events"][0], {"test": True})
    shown: dict[str, Any] = {"id": webhook_id}
    if store.quirks.webhook_words == "flags":
        shown |= {"delivered": attempt.delivered, "statusCode": attempt.status}
    else:
        shown |= {"status": _word(attempt), "responseStatus": attempt.status}
    return success(shown)


def logs(store: Store, request: Request, webhook_id: str) -> Answer:
    """GET /webhooks/:id/logs [D], newest first [?]."""
    attempts = list(reversed(_webhook(store, webhook_id)["attempts"]))
    total_pages = store.quirks.total_pages
    return paged(attempts, lambda one: _entry(store, one), request.query, total_pages=total_pages)


def attempted(store: Store, webhook: dict[str, Any], event: str, data: dict[str, Any]) -> Attempt:
    """One event is delivered to one webhook, and noted in its log."""
    when, event_id = store.now(), store.new_id("evt")
    payload = {"id": event_id, "type": event, "timestamp": when, "data": data}
    body, headers = signed(webhook["secret"], payload, now_s=store.now_s())
    status, error = deliver(webhook["url"], body, headers)
    attempt = Attempt(event_id, event, when, status, error)
    webhook["attempts"].append(attempt)
    return attempt


def _webhook(store: Store, webhook_id: str) -> dict[str, Any]:
    found = store.webhooks.get(webhook_id)
    if found is None:
        raise missing("Webhook")
    return found


def _view(store: Store, webhook: dict[str, Any]) -> dict[str, Any]:
    """Everything but the secret, which nobody can read back."""
    shown = {name: webhook[name] for name in ("id", "url", "events", "createdAt", "updatedAt")}
    flags = store.quirks.webhook_words == "flags"
    return shown | ({"active": True} if flags else {"status": "active"})


def _entry(store: Store, attempt: Attempt) -> dict[str, Any]:
    if store.quirks.webhook_words == "flags":
        shown: dict[str, Any] = {"success": attempt.delivered, "statusCode": attempt.status}
        return shown | {"id": attempt.id, "event": attempt.event, "timestamp": attempt.when}
    shown = {"status": _word(attempt), "responseStatus": attempt.status, "error": attempt.error}
    return shown | {"id": attempt.id, "type": attempt.event, "createdAt": attempt.when}


def _word(attempt: Attempt) -> str:
    return "success" if attempt.delivered else "failed"


def _settings(body: dict[str, Any]) -> dict[str, Any]:
    url, events, secret = text(body, "url"), strings(body, "events"), text(body, "secret")
    if not url.startswith(("http://", "https://")):
        raise invalid("url must be a web address")
    unknown = [one for one in events if not _is_event(one)]
    if unknown or not events:
        raise invalid("Unknown events", {"events": unknown})
    return {"url": url, "events": events, "secret": secret}


def _is_event(name: str) -> bool:
    noun, _, verb = name.partition(".")
    return verb in EVENTS.get(noun, ())
