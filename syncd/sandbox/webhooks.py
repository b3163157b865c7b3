"""The endpoints of webhooks. The sandbox keeps them and delivers nothing.

Source: FluenzR reference, "Webhooks": list, create, delete [I]; update, test, logs [D].
"""

from typing import Any

from syncd.sandbox.bodies import strings, text
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
    return paged(every, _view, request.query, total_pages=store.quirks.total_pages)


def create(store: Store, request: Request, _: str) -> Answer:
    """POST /webhooks [I]."""
    body, now = request.json(), store.now()
    webhook: dict[str, Any] = {"id": store.new_id("whk")}
    webhook |= _settings(body)
    webhook |= {"status": "active", "createdAt": now, "updatedAt": now}
    store.webhooks[webhook["id"]] = webhook
    return success(_view(webhook), status=201)


def update(store: Store, request: Request, webhook_id: str) -> Answer:
    """PUT /webhooks/:id [D]."""
    webhook, body = _webhook(store, webhook_id), request.json()
    kept = {name: webhook[name] for name in ("url", "events", "secret")}
    webhook |= _settings(kept | body)
    webhook["updatedAt"] = store.now()
    return success(_view(webhook))


def delete(store: Store, _request: Request, webhook_id: str) -> Answer:
    """DELETE /webhooks/:id [I]."""
    _webhook(store, webhook_id)
    del store.webhooks[webhook_id]
    return success({"id": webhook_id, "deleted": True})


def test(store: Store, _request: Request, webhook_id: str) -> Answer:
    """POST /webhooks/:id/test [D]: says that nothing was delivered."""
    _webhook(store, webhook_id)
    return success({"id": webhook_id, "delivered": False})


def logs(store: Store, request: Request, webhook_id: str) -> Answer:
    """GET /webhooks/:id/logs [D]: empty."""
    _webhook(store, webhook_id)
    empty: list[dict[str, Any]] = []
    return paged(empty, dict, request.query, total_pages=store.quirks.total_pages)


def _webhook(store: Store, webhook_id: str) -> dict[str, Any]:
    found = store.webhooks.get(webhook_id)
    if found is None:
        raise missing("Webhook")
    return found


def _view(webhook: dict[str, Any]) -> dict[str, Any]:
    """Everything but the secret, which nobody can read back."""
    return {name: value for name, value in webhook.items() if name != "secret"}


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
