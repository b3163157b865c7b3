"""Reads of a double of Pipedrive with five people, and what came of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.pipedrive import TOKEN, Pipedrive

from connectors.pipedrive import PipedriveConnector, PipedriveOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request
from syncd.testing.clock import FakeClock


@pytest.fixture(name="crm")
def crm_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipedrive]:
    monkeypatch.setenv("PIPEDRIVE_TOKEN", TOKEN)
    with Pipedrive(FakeClock()) as double:
        for key in range(1, 6):
            double.put(key, f"p{key}@example.com", first_name=f"P{key}")
            double.clock.advance_s(3600)
        yield double


def connector(crm: Pipedrive, **options: Any) -> PipedriveConnector:
    given = {"token": "env:PIPEDRIVE_TOKEN", "base_url": crm.url, **options}
    return PipedriveConnector(PipedriveOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Pipedrive, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"_email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]
