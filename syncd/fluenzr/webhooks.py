"""The endpoints of webhooks: where FluenzR sends its events. Receiving them is not done here.

Source: FluenzR reference, "Webhooks": list, create, delete [I]; update, test, logs [D].
"""

from collections.abc import Iterable, Iterator

from syncd.fluenzr import webhook_types as types
from syncd.fluenzr.endpoints import Endpoints, given, part
from syncd.fluenzr.webhook_types import Delivery, Webhook, WebhookTest
from syncd.wire import Reply


class Webhooks(Endpoints):
    """Webhooks. What is marked [D] raises NotSupported where the account lacks it, or the webhook is not known."""

    def webhooks(self) -> list[Webhook]:
        """All webhooks. GET /webhooks [I]."""
        return list(self._listed("/webhooks", types.webhook, lambda webhook: webhook.id))

    def create_webhook(self, url: str, events: Iterable[str], *, secret: str) -> Webhook:
        """POST /webhooks [I]. secret: what FluenzR signs its events with. events: see `EVENTS`."""
        body = given(url=url, events=list(events), secret=secret)
        return self._wire.write("POST", "/webhooks", body, _webhook)

    def update_webhook(
        self,
        webhook_id: str,
        *,
        url: str | None = None,
        events: Iterable[str] | None = None,
        secret: str | None = None,
    ) -> Webhook:
        """PUT /webhooks/:id [D]: what is given, nothing else."""
        body = given(url=url, events=None if events is None else list(events), secret=secret)
        return self._wire.write("PUT", _path(webhook_id), body, _webhook, optional=True)

    def delete_webhook(self, webhook_id: str) -> None:
        """DELETE /webhooks/:id [I]. Raises NotFound."""
        self._wire.write("DELETE", _path(webhook_id), b"", lambda _: None)

    def test_webhook(self, webhook_id: str) -> WebhookTest:
        """POST /webhooks/:id/test [D]: FluenzR sends an event now."""
        return self._wire.write(
            "POST",
            f"{_path(webhook_id)}/test",
            b"",
            lambda reply: types.webhook_test(reply.data),
            optional=True,
        )

    def webhook_log(self, webhook_id: str) -> Iterator[Delivery]:
        """What was delivered and what was not, page by page. GET /webhooks/:id/logs [D]."""
        path = f"{_path(webhook_id)}/logs"
        return self._listed(path, types.delivery, lambda entry: entry.id, optional=True)


def _path(webhook_id: str) -> str:
    return f"/webhooks/{part(webhook_id)}"


def _webhook(reply: Reply) -> Webhook:
    return types.webhook(reply.data)
