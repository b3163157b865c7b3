"""Reads of a double of Close with five people, and what came of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.close import KEY, Close

from connectors.close import CloseConnector, CloseOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request, Resync
from syncd.testing.clock import FakeClock


@pytest.fixture(name="crm")
def crm_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Close]:
    monkeypatch.setenv("CLOSE_KEY", KEY)
    with Close(FakeClock()) as double:
        for number in range(1, 6):
            double.put(f"c{number}", f"p{number}@example.com", name=f"Pia P{chr(64 + number)}")
            double.clock.advance_s(3600)
        double.clock.advance_s(86_400)
        yield double


def connector(crm: Close, **options: Any) -> CloseConnector:
    given = {"token": "env:CLOSE_KEY", "base_url": f"{crm.url}/api/v1", **options}
    return CloseConnector(CloseOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Close, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"_email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


def resynced(events: list[Event]) -> bool:
    return any(isinstance(event, Resync) for event in events)
