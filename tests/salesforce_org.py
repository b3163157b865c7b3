"""What the tests of the Salesforce connector share: a connector over the double, and ways to look at a read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from doubles.salesforce import Salesforce, sid

from connectors.salesforce import SalesforceConnector, SalesforceOptions
from syncd.connector import Checkpoint, Context, Event, Merged, Record, Request, Resync, Tombstone
from syncd.testing.clock import FakeClock

LOGIN = {"client_id": "app", "client_secret": "env:SF_SECRET", "refresh_token": "env:SF_REFRESH"}
BOTH = ["Contact", "Lead"]
HOUR_S = 3600
DAY_S = 24 * HOUR_S

NUMBERS = range(1, 8)
IDS = [sid("Contact", number) for number in NUMBERS]


@contextmanager
def org_of_seven(monkeypatch: pytest.MonkeyPatch) -> Iterator[Salesforce]:
    """An org with seven contacts, and the secrets of its app."""
    monkeypatch.setenv("SF_SECRET", "client-made-up")
    monkeypatch.setenv("SF_REFRESH", "refresh-1")
    with Salesforce(FakeClock()) as double:
        for number in NUMBERS:
            double.put("Contact", number, Email=f"p{number}@example.com", FirstName=f"P{number}")
        yield double


def connector(org: Salesforce, **options: Any) -> SalesforceConnector:
    given = {**LOGIN, "login_url": org.url, **options}
    given = {name: value for name, value in given.items() if value is not None}
    return SalesforceConnector(SalesforceOptions.model_validate(given), Context(clock=org.clock))


def read(org: Salesforce, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields) if fields else frozenset({"Email"})
    return list(connector(org, **options).read(Request(cursor=cursor, fields=wanted)))


def records(events: list[Event]) -> list[Record]:
    return [event for event in events if isinstance(event, Record)]


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


def resync(events: list[Event]) -> str:
    """The reason of a resync; "" where there was none."""
    return next((event.reason for event in events if isinstance(event, Resync)), "")


def gone(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Tombstone)]


def merged(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.loser, event.winner) for event in events if isinstance(event, Merged)]
