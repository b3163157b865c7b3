"""FluenzR's webhooks: registering ours, replacing its secret, and receiving events without the daemon.

What an event means is `core/event.py`'s business, receiving them `web/`'s. Ours is the one whose address is `[webhooks] public_url`.
"""

import secrets
from collections.abc import Callable
from contextlib import suppress

from syncd.clock import Clock
from syncd.config import Settings
from syncd.config_models import WebhooksSettings
from syncd.core.event import WANTED_TYPES
from syncd.errors import ConfigError, Interrupted, NotSupported, StateBusy
from syncd.fluenzr import FluenzR
from syncd.fluenzr.webhook_types import Webhook
from syncd.secret import Secret
from syncd.state import inbox
from syncd.state.store import change
from syncd.web.app import serving
from syncd.web.monitoring import routes

POLL_S = 0.25  # how often events that came are applied, where nothing else holds the state
SECRET_BYTES = 32


def receive(
    settings: Settings,
    address: tuple[str, int],
    *,
    clock: Clock,
    on_ready: Callable[[tuple[str, int]], None],
) -> None:
    """Receive events and apply them until the clock is stopped. Raises ConfigError, UsageError, StateError."""
    table, path = ours(settings), settings.state.path
    table.secret.reveal()  # rather now than at the first event
    more = routes(lambda: settings, clock=clock)
    with (
        serving(table, path, address, clock=clock, on_news=lambda: None, more=more) as place,
        inbox.opened(path) as box,
        suppress(Interrupted),
    ):
        on_ready(place)
        while True:
            if box.waiting_count():
                with suppress(StateBusy):  # whoever holds it applies them
                    change(path, lambda _: None, clock=clock, wait_s=0.0)
            clock.sleep_s(POLL_S)


def ours(settings: Settings) -> WebhooksSettings:
    """The table `[webhooks]`. Raises ConfigError where it is missing."""
    if settings.webhooks is None:
        raise ConfigError(
            "Receiving FluenzR's events is not configured",
            place="webhooks",
            hint='Add [webhooks] with secret = "file:webhook.secret" and public_url = "https://..."',
        )
    return settings.webhooks


def register(settings: Settings, api: FluenzR) -> tuple[Webhook, bool]:
    """Ask FluenzR to send its events here; the webhook, and whether it is new.

    Doing so twice changes nothing. The secret is made and written where `[webhooks] secret` is a file that is not there yet.
    """
    table = ours(settings)
    url = _url(table)
    found = [webhook for webhook in api.webhooks() if webhook.url == url]
    for webhook in found:
        if set(webhook.events) >= set(WANTED_TYPES):
            return webhook, False
    secret = _known_or_new(table.secret)
    for webhook in found:  # it asks for too little
        with suppress(NotSupported):
            return api.update_webhook(webhook.id, events=WANTED_TYPES, secret=secret), True
        api.delete_webhook(webhook.id)
    return api.create_webhook(url, WANTED_TYPES, secret=secret), True


def rotate(settings: Settings, api: FluenzR) -> Webhook:
    """Replace the secret. Until FluenzR has confirmed the new one, both are taken, also by a daemon that runs.

    Raises ConfigError where the secret is no file, or nothing is registered; whatever fails, doing it again goes on.
    """
    table = ours(settings)
    url = _url(table)
    found = [webhook for webhook in api.webhooks() if webhook.url == url]
    if not found:
        raise ConfigError(
            f"FluenzR has no webhook for {url}", hint="Register it: syncd webhooks register"
        )
    new = _new()
    _write(table.secret, "\n".join([new, *table.secret.reveal().split()]))
    current, *others = found
    try:
        changed = api.update_webhook(current.id, secret=new)
    except NotSupported:
        changed, others = api.create_webhook(url, current.events, secret=new), found
    for webhook in others:  # also what an earlier attempt has left
        api.delete_webhook(webhook.id)
    _write(table.secret, new)
    return changed


def _url(table: WebhooksSettings) -> str:
    if table.public_url is None:
        raise ConfigError(
            "is missing",
            place="webhooks.public_url",
            hint="Write where FluenzR reaches this machine, such as https://sync.example.com/webhooks/fluenzr",
        )
    return table.public_url


def _known_or_new(secret: Secret) -> str:
    try:
        return secret.reveal().split()[0]
    except ConfigError:
        if not secret.is_file or secret.exists():
            raise
    new = _new()
    _write(secret, new)
    return new


def _new() -> str:
    return secrets.token_hex(SECRET_BYTES)


def _write(secret: Secret, value: str) -> None:
    if not secret.is_file:
        raise ConfigError(
            f"The secret {secret.reference} cannot be replaced from here",
            place="webhooks.secret",
            hint='Make it a file, such as secret = "file:webhook.secret", which is written for its owner only',
        )
    secret.replace(value)
