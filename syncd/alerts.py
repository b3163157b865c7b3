"""Telling somebody, through Apprise: what `core.alert` finds worth it, to each address of `[alerts] urls` by itself.

It owns the sending, and the rule that only what was delivered counts as told. An address is a secret: neither it nor what Apprise
logs of it (its parts stand in web addresses) is ever shown; why a sending failed is said in our words.
"""

import contextlib
import logging
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

from syncd import standing
from syncd.clock import Clock
from syncd.config import Settings
from syncd.config_models import AlertsSettings
from syncd.core import alert
from syncd.errors import ConfigError, NotDelivered, SyncdError
from syncd.secret import Secret
from syncd.state import told

log = structlog.get_logger(__name__)
ALERTS_TOLD = "alerts.told"  # one address of `[alerts]` was told something
ALERTS_POSTPONED = "alerts.postponed"  # it could not be told; tried again at the next look

NAME = "fluenzr-syncd"
TOO_LOUD = ("apprise", "requests", "urllib3")  # they log the addresses that they ask
ANSWER = re.compile(r"error=(\d{3})\b")  # Apprise's word for the status of an HTTP answer
SEND_S_MAX = (
    20.0  # one message to one address; a connection waits for 4 s unless the address says otherwise
)
TROUBLE, OVER = "failure", "success"  # as Apprise calls them


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one address: what it was told, or why it was not. place: its reference."""

    place: str
    title: str
    error: str = ""


def tell(settings: Settings, *, clock: Clock) -> list[Delivery]:
    """Tell every address what has changed since it was told last; nothing where that is nothing.

    Returns what was sent, and what could not be sent: that is told by the next look. Where another process is telling just now, it is
    left to it. Raises StateError where what was told cannot be kept: then nothing is sent, or it would be sent again and again.
    """
    found: list[Delivery] = []
    if settings.alerts is None:
        return found
    with told.opened(settings.state.path) as book:
        if book is None:
            return found
        now_s = clock.now_s()
        book.forget_others([url.reference for url in settings.alerts.urls])
        seen_s = book.seen_s(list(settings.syncs), now_s=now_s)
        facts = standing.facts(settings, now_s=now_s, seen_s=seen_s)
        troubles = alert.troubles(facts, standing.limits(settings))
        for url in settings.alerts.urls:
            before = book.of(url.reference)
            news = alert.news(before, troubles, syncs=settings.syncs)
            delivery = None
            if not news.empty:
                book.prove(now_s=now_s)
                delivery = _deliver(url, news, settings)
            if delivery is not None:
                found.append(delivery)
            if delivery is None or not delivery.error:
                book.keep(url.reference, news.told)
    return found


def look(settings: Settings, *, clock: Clock) -> list[Delivery]:
    """The same, for whom it must never stop: what goes wrong is logged."""
    try:
        found = tell(settings, clock=clock)
    except SyncdError as error:
        log.error(ALERTS_POSTPONED, why=str(error))  # noqa: TRY400 - it explains itself
        return []
    for one in found:
        if one.error:
            log.error(ALERTS_POSTPONED, place=one.place, told=one.title, why=one.error)
        else:
            log.info(ALERTS_TOLD, place=one.place, told=one.title)
    return found


def test(settings: Settings) -> list[Delivery]:
    """Send a made-up alert to every address; it counts for nothing. Raises ConfigError where there is none."""
    title, body = "syncd: a test", "This is how an alert of syncd arrives. Nothing is wrong."
    return [
        _sent(url, title, _signed(body, settings), kind=OVER) for url in configured(settings).urls
    ]


def configured(settings: Settings) -> AlertsSettings:
    """The table `[alerts]`. Raises ConfigError where it is missing."""
    if settings.alerts is None:
        raise ConfigError(
            "Nobody is to be told",
            place="alerts",
            hint='Add [alerts] with urls = ["env:ALERT_URL"], an address as Apprise writes it',
        )
    return settings.alerts


def _deliver(url: Secret, news: alert.News, settings: Settings) -> Delivery:
    title, body = alert.message(news)
    return _sent(url, title, _signed(body, settings), kind=TROUBLE if news.troubles else OVER)


def _signed(body: str, settings: Settings) -> str:
    """Which of several installations it is."""
    return f"{body}\n\n{settings.path} on {socket.gethostname()}"


def _sent(url: Secret, title: str, body: str, *, kind: str) -> Delivery:
    try:
        send(url, title, body, kind=kind)
    except SyncdError as error:
        return Delivery(url.reference, title, str(error))
    return Delivery(url.reference, title)


def send(url: Secret, title: str, body: str, *, kind: str) -> None:
    """One message to one address. Raises ConfigError, NotDelivered."""
    address = url.reveal()
    with _quiet() as heard:
        apprise = _apprise(url)
        asset = apprise.AppriseAsset(
            app_id=NAME,
            app_desc=NAME,
            async_mode=False,
            secure_logging=True,
            plugin_paths=[],
            service_timeout=SEND_S_MAX,
        )
        service = apprise.Apprise.instantiate(address, asset=asset)
        if service is None:
            raise ConfigError(
                f"{url.reference} holds no address that Apprise understands",
                place="alerts.urls",
                hint="Write it as https://appriseit.com describes it, such as mailtos://... or slack://...",
            )
        messenger = apprise.Apprise(asset=asset)
        messenger.add(service)
        delivered = messenger.notify(body=body, title=title, notify_type=kind, body_format="text")
    if not delivered:
        raise NotDelivered(
            f"The alert was not taken by {url.reference}",
            why=_why(heard),
            hint="It is tried again; look at the address with `syncd notify --test`",
        )


def _apprise(url: Secret):  # type: ignore[no-untyped-def]
    try:
        import apprise
    except ImportError:
        raise ConfigError(
            f"Apprise is not installed, and so {url.reference} cannot be told anything",
            place="alerts",
            hint="Install it: pip install 'fluenzr-syncd[alerts]'",
        ) from None
    return apprise


def _why(heard: list[str]) -> str:
    """What is safe to say of what Apprise logged: a status, and no part of an address."""
    for line in heard:
        if found := ANSWER.search(line):
            return f"It answered with status {found[1]}"
    if any("onnection" in line for line in heard):
        return "It cannot be reached"
    return ""


class _Ear(logging.Handler):
    """Keeps what is logged, for `_why`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())


@contextlib.contextmanager
def _quiet() -> Iterator[list[str]]:
    """While the block lasts, what Apprise and those below it log goes nowhere but here."""
    ear = _Ear()
    loud = [logging.getLogger(name) for name in TOO_LOUD]
    before = [(one.propagate, one.level) for one in loud]
    for one in loud:
        one.propagate = False
        one.setLevel(logging.WARNING)
        one.addHandler(ear)
    try:
        yield ear.heard
    finally:
        for one, (propagate, level) in zip(loud, before, strict=True):
            one.propagate = propagate
            one.setLevel(level)
            one.removeHandler(ear)
