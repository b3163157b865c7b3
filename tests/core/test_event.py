"""FluenzR's events: which are genuine, and what they mean."""

import hashlib
import hmac
from typing import Any

import orjson
import pytest

from syncd.core.event import (
    TOLERANCE_S,
    Deleted,
    Event,
    Fault,
    Meaning,
    OptedOut,
    Replied,
    Shown,
    fault,
    meanings,
    parse,
)

NOW_S = 1_800_000_000
BODY = b'{"id":"evt_1","type":"email.unsubscribed","data":{"contactId":"con_1"}}'


def signature(secret: str, timestamp: str, body: bytes = BODY) -> str:
    text = timestamp.encode() + b"." + body
    return "sha256=" + hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()


def judged(
    given: str, timestamp: str, *, secrets: tuple[str, ...] = ("s",), body: bytes = BODY
) -> Fault | None:
    return fault(secrets, signature=given, timestamp=timestamp, body=body, now_s=NOW_S)


def test_what_the_secret_has_signed_is_genuine() -> None:
    assert judged(signature("s", str(NOW_S)), str(NOW_S)) is None


def test_the_example_of_the_reference_in_its_own_form() -> None:
    """`sha256=` and the hex of HMAC-SHA256 over `<timestamp>.<raw body>`."""
    digest = hmac.new(b"s", f"{NOW_S}.".encode() + BODY, "sha256").hexdigest()
    assert judged(f"sha256={digest}", str(NOW_S)) is None


def test_while_a_secret_is_replaced_both_may_have_signed() -> None:
    for secret in ("new", "old"):
        given = signature(secret, str(NOW_S))
        assert judged(given, str(NOW_S), secrets=("new", "old")) is None


@pytest.mark.parametrize(
    "given",
    [
        "",
        "sha256=",
        signature("other", str(NOW_S)),
        signature("s", str(NOW_S)).removeprefix("sha256="),
        signature("s", str(NOW_S)).upper(),
        signature("s", str(NOW_S - 1)),
        signature("s", str(NOW_S), BODY + b" "),
        "sha256=\N{SNOWMAN}",
    ],
)
def test_anything_else_is_refused(given: str) -> None:
    assert judged(given, str(NOW_S)) is Fault.SIGNATURE


@pytest.mark.parametrize(
    ("ahead_s", "found"),
    [
        (-TOLERANCE_S, None),
        (TOLERANCE_S, None),
        (-TOLERANCE_S - 1, Fault.TIME),
        (TOLERANCE_S + 1, Fault.TIME),
    ],
)
def test_five_minutes_of_clock_tolerance_on_either_side(ahead_s: int, found: Fault | None) -> None:
    timestamp = str(NOW_S + ahead_s)
    assert judged(signature("s", timestamp), timestamp) is found


@pytest.mark.parametrize("timestamp", ["", "now", "1.8e9", "-5", "\N{SUPERSCRIPT TWO}"])
def test_a_time_that_is_none_is_refused(timestamp: str) -> None:
    text = timestamp.encode("latin-1", "replace") + b"." + BODY
    given = "sha256=" + hmac.new(b"s", text, hashlib.sha256).hexdigest()
    assert judged(given, timestamp) is Fault.TIME


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"{}", b'{"type":7}', b"\xff"])
def test_what_is_no_event(body: bytes) -> None:
    assert parse(body) is None


def test_without_an_id_the_same_words_are_the_same_event() -> None:
    one, same = parse(b'{"type":"a"}'), parse(b'{"type":"a"}')
    other = parse(b'{"type":"b"}')
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.id == same.id != other.id


def means(kind: str, **data: Any) -> tuple[Meaning, ...]:
    event = parse(orjson.dumps({"id": "evt_1", "type": kind, "data": data}))
    assert isinstance(event, Event)
    return meanings(event)


WHO = {"contactId": "con_1", "contactEmail": "Ann@Example.com"}
CONTACT = {"id": "con_1", "email": "Ann@Example.com", "status": "active"}


@pytest.mark.parametrize(
    ("kind", "data", "meaning"),
    [
        ("email.unsubscribed", WHO, OptedOut("con_1", "ann@example.com", "unsubscribed")),
        ("email.bounced", WHO, OptedOut("con_1", "ann@example.com", "bounced")),
        ("email.bounced", {**WHO, "bounceType": "hard"}, OptedOut("con_1", "ann@example.com", "bounced")),
        ("email.replied", WHO, Replied("con_1", "ann@example.com")),
        ("email.unsubscribed", {"contactId": "con_1"}, OptedOut("con_1", None, "unsubscribed")),
        ("contact.deleted", {"contact": CONTACT}, Deleted("con_1", "ann@example.com")),
        ("contact.deleted", {"contactId": "con_1"}, Deleted("con_1", None)),
        ("contact.updated", {"contact": CONTACT}, Shown("con_1", "ann@example.com")),
        ("contact.created", {"contact": CONTACT}, Shown("con_1", "ann@example.com")),
    ],
)  # fmt: skip
def test_what_an_event_means(kind: str, data: dict[str, Any], meaning: Meaning) -> None:
    assert means(kind, **data) == (meaning,)


@pytest.mark.parametrize("status", ["unsubscribed", "bounced", "blocked"])
def test_a_contact_that_was_blocked_by_hand_has_opted_out(status: str) -> None:
    found = means("contact.updated", contact={**CONTACT, "status": status})
    assert found[0] == OptedOut("con_1", "ann@example.com", status)


def test_a_soft_bounce_bars_nobody() -> None:
    assert means("email.bounced", **WHO, bounceType="soft") == ()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("email.sent", WHO),
        ("campaign.started", {"campaignId": "cmp_1"}),
        ("made.up", WHO),
        ("email.unsubscribed", {}),
        ("email.unsubscribed", {"contactId": 7, "contactEmail": ["x"]}),
        ("contact.updated", {"contact": "con_1"}),
    ],
)
def test_what_means_nothing_to_us(kind: str, data: dict[str, Any]) -> None:
    assert means(kind, **data) == ()
