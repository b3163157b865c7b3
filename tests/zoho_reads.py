"""Reads of a double of Zoho with five people, and what came of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.zoho import REFRESH, Zoho

from connectors.zoho import ZohoConnector, ZohoOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request
from syncd.testing.clock import FakeClock


@pytest.fixture(name="crm")
def crm_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zoho]:
    monkeypatch.setenv("ZOHO_REFRESH", REFRESH)
    monkeypatch.setenv("ZOHO_SECRET", "client-made-up")
    with Zoho(FakeClock()) as double:
        for key in range(1, 6):
            double.put(key, Email=f"p{key}@example.com", First_Name=f"P{key}")
            double.clock.advance_s(3600)
        yield double


def connector(crm: Zoho, **options: Any) -> ZohoConnector:
    given = {
        "client_id": "id", "client_secret": "env:ZOHO_SECRET", "refresh_token": "env:ZOHO_REFRESH",
        "token_url": f"{crm.url}/oauth/v2/token", **options,
    }  # fmt: skip
    return ZohoConnector(ZohoOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: Zoho, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"Email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]
