"""Reading EspoCRM's double in tests: five contacts an hour apart, and what a read of them gave."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.espocrm import KEY, SECRET, EspoCrm

from connectors.espocrm import EspocrmConnector, EspocrmOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request
from syncd.testing.clock import FakeClock

OUT = "emailAddressIsOptedOut"


@pytest.fixture
def crm(monkeypatch: pytest.MonkeyPatch) -> Iterator[EspoCrm]:
    monkeypatch.setenv("ESPO_KEY", KEY)
    monkeypatch.setenv("ESPO_SECRET", SECRET)
    with EspoCrm(FakeClock()) as double:
        for key in "abcde":
            double.put("Contact", key, f"{key}@example.com", firstName=f"P{key}")
            double.clock.advance_s(3600)
        yield double


def connector(crm: EspoCrm, **options: Any) -> EspocrmConnector:
    given = {"token": "env:ESPO_KEY", "base_url": crm.url, **options}
    return EspocrmConnector(EspocrmOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: EspoCrm, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields or {"emailAddress", OUT})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]
