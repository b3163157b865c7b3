"""Reads of a double of Attio with five people, and what came of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.attio import TOKEN, Attio

from connectors.attio import AttioConnector, AttioOptions
from syncd.connector import Context, Event, Record, Request
from syncd.testing.clock import FakeClock


@pytest.fixture(name="crm")
def crm_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Attio]:
    monkeypatch.setenv("ATTIO_TOKEN", TOKEN)
    with Attio(FakeClock()) as double:
        for number in range(1, 6):
            name = {"first_name": "Pia", "last_name": f"P{number}", "full_name": f"Pia P{number}"}
            double.put(f"p{number}", f"p{number}@example.com", name=name)
            double.clock.advance_s(3600)
        yield double


def connector(crm: Attio, **options: Any) -> AttioConnector:
    given = {"token": "env:ATTIO_TOKEN", "base_url": crm.url, **options}
    return AttioConnector(AttioOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Attio, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"_email"})
    return list(connector(crm, **options).read(Request(fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)
