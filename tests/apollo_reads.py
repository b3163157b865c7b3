"""Reads of a double of Apollo with five contacts, and what came of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.apollo import KEY, Apollo

from connectors.apollo import ApolloConnector, ApolloOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request, Resync
from syncd.testing.clock import FakeClock


@pytest.fixture(name="crm")
def crm_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Apollo]:
    monkeypatch.setenv("APOLLO_KEY", KEY)
    with Apollo(FakeClock()) as double:
        for number in range(1, 6):
            double.put(number, f"p{number}@example.com", first_name=f"P{number}")
            double.clock.advance_s(3600)
        yield double


def connector(crm: Apollo, **options: Any) -> ApolloConnector:
    given = {"token": "env:APOLLO_KEY", "base_url": f"{crm.url}/api/v1", **options}
    return ApolloConnector(ApolloOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Apollo, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def numbers(events: list[Event]) -> list[int]:
    """Whose records came, in order; further addresses left out."""
    return sorted(int(e.key, 16) for e in events if isinstance(e, Record) and "#" not in e.key)


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


def reason(events: list[Event]) -> str:
    """Why everything was read; empty where it was not."""
    return next((event.reason for event in events if isinstance(event, Resync)), "")
