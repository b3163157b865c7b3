"""Reads of a double of Airtable with five people, and what came of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.airtable import BASE, TOKEN, Airtable

from connectors.airtable import AirtableConnector, AirtableOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request, Resync
from syncd.testing.clock import FakeClock


@pytest.fixture(name="crm")
def crm_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Airtable]:
    monkeypatch.setenv("AIRTABLE_TOKEN", TOKEN)
    with Airtable(FakeClock()) as double:
        for number in range(1, 6):
            double.put(number, Name=f"P{number}", Email=f"p{number}@example.com")
            double.clock.advance_s(3600)
        yield double


def connector(crm: Airtable, **options: Any) -> AirtableConnector:
    given = {
        "token": "env:AIRTABLE_TOKEN", "base_url": crm.url, "base": BASE, "table": "People", **options,
    }  # fmt: skip
    return AirtableConnector(AirtableOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Airtable, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"Email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def numbers(events: list[Event]) -> list[int]:
    """Whose records came."""
    return [int(event.key.removeprefix("rec")) for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


def reason(events: list[Event]) -> str:
    """Why everything was read; empty where it was not."""
    return next((event.reason for event in events if isinstance(event, Resync)), "")
