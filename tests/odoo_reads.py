"""Reads of an Odoo double, and what came of them."""

from typing import Any

from doubles.odoo import DATABASE, KEY, USER, Odoo

from connectors.odoo import OdooConnector, OdooOptions
from syncd.connector import Checkpoint, Context, Event, Merged, Record, Request, Resync, Tombstone

SECRET = "env:ODOO_KEY"
__all__ = [
    "KEY",
    "Merged",
    "Odoo",
    "Resync",
    "Tombstone",
    "connector",
    "cursor",
    "fields",
    "keys",
    "read",
]


def connector(odoo: Odoo, **options: Any) -> OdooConnector:
    given = {"token": SECRET, "base_url": odoo.url, "database": DATABASE, "user": USER, **options}
    return OdooConnector(OdooOptions.model_validate(given), Context(clock=odoo.clock))


def read(odoo: Odoo, cursor: str | None = None, *names: str, **options: Any) -> list[Event]:
    wanted = frozenset(names) if names else frozenset({"email"})
    return list(connector(odoo, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str | int) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == str(key))


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]
