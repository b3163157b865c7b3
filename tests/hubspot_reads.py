"""Reads of a HubSpot double, and what came of them."""

from typing import Any

from doubles.hubspot import TOKEN, HubSpot

from connectors.hubspot import HubspotConnector, HubspotOptions
from syncd.connector import Checkpoint, Context, Event, Merged, Record, Request, Resync, Tombstone

SECRET = "env:HUBSPOT_TOKEN"
__all__ = [
    "TOKEN",
    "Event",
    "HubSpot",
    "Merged",
    "Record",
    "Resync",
    "Tombstone",
    "connector",
    "cursor",
    "fields",
    "keys",
    "read",
]


def connector(crm: HubSpot, **options: Any) -> HubspotConnector:
    given = {"token": SECRET, "base_url": crm.url, **options}
    return HubspotConnector(HubspotOptions.model_validate(given), Context(clock=crm.clock))


def read(crm: HubSpot, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields) if fields else frozenset({"email"})
    return list(connector(crm, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]
