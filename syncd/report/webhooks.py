"""What `webhooks` says."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from syncd.report.text import iso, say, say_json, shown, style, table

if TYPE_CHECKING:
    from syncd.fluenzr.webhook_types import Webhook


def ready(address: tuple[str, int]) -> None:
    """Where events are received."""
    host, port = address
    say(f"Receiving FluenzR's events on http://{host}:{port}. Ctrl-C ends it.")


def listed(found: "Sequence[Webhook]", *, ours: str | None, json: bool) -> None:
    """The account's webhooks."""
    if json:
        for webhook in found:
            say_json(
                {
                    "id": webhook.id,
                    "url": webhook.url,
                    "events": list(webhook.events),
                    "active": webhook.active,
                    "created": iso(
                        None if webhook.created_ms is None else webhook.created_ms / 1000
                    ),
                    "ours": webhook.url == ours,
                }
            )
        return
    if not found:
        say("FluenzR has no webhooks. Next: syncd webhooks register")
        return
    rows = [
        (webhook.id, shown(webhook.url), ", ".join(webhook.events), _standing(webhook, ours))
        for webhook in found
    ]
    for line in table(rows, ("id", "url", "events", "")):
        say(line)


def _standing(webhook: "Webhook", ours: str | None) -> str:
    if webhook.active is False:
        return "failed: FluenzR has given up on it"
    return "ours" if webhook.url == ours else ""


def registered(webhook: "Webhook", *, changed: bool, listens: bool) -> None:
    """What was asked for, and what is still to be done."""
    what = (
        "FluenzR sends its events to" if changed else "Nothing to do: FluenzR sends its events to"
    )
    say(f"{what} {shown(webhook.url)} ({webhook.id})")
    if not listens:
        say("They are received by `syncd webhooks serve`, or by `syncd run` with an [http] table.")


def deleted(webhook_id: str) -> None:
    """That it is gone."""
    say(f"{shown(webhook_id)} is deleted: FluenzR sends nothing there any more")


def rotated(webhook: "Webhook") -> None:
    """That the new secret holds."""
    say(f"{style('Done', 'green')}: FluenzR signs with the new secret ({webhook.id})")
