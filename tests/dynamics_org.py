"""What the tests of the Dynamics connector share: a connector over the double, and ways to look at a read."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from doubles.dynamics import SECRET, Dynamics, gid

from connectors.dynamics import DynamicsConnector, DynamicsOptions
from syncd.connector import Checkpoint, Context, Event, Merged, Record, Request, Resync, Tombstone
from syncd.http import rfc3339
from syncd.testing.clock import FakeClock

HOUR_S = 3600
DAY_S = 24 * HOUR_S
NUMBERS = range(1, 8)
IDS = [gid("contact", number) for number in NUMBERS]
BOTH = ["contact", "lead"]


@contextmanager
def org_of_seven(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dynamics]:
    """An environment with seven contacts, and the secret of its app."""
    monkeypatch.setenv("D365_SECRET", SECRET)
    with Dynamics(FakeClock()) as double:
        for number in NUMBERS:
            double.put("contact", number, emailaddress1=f"p{number}@example.com", firstname="P")
        double.clock.advance_s(HOUR_S)
        yield double


def connector(org: Dynamics, **options: Any) -> DynamicsConnector:
    given = {
        "base_url": org.url, "token_url": f"{org.url}/token", "client_id": "app",
        "client_secret": "env:D365_SECRET", **options,
    }  # fmt: skip
    return DynamicsConnector(DynamicsOptions.model_validate(given), Context(clock=org.clock))


def read(org: Dynamics, cursor: str | None = None, *fields: str, **options: Any) -> list[Event]:
    wanted = frozenset(fields) if fields else frozenset({"emailaddress1"})
    return list(connector(org, **options).read(Request(cursor=cursor, fields=wanted)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def fields(events: list[Event], key: str) -> Any:
    return next(e.fields for e in events if isinstance(e, Record) and e.key == key)


def gone(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.key, event.kind) for event in events if isinstance(event, Tombstone)]


def merged(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.loser, event.winner) for event in events if isinstance(event, Merged)]


def resync(events: list[Event]) -> str:
    return next((event.reason for event in events if isinstance(event, Resync)), "")


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


def stamp(org: Dynamics, table: str, number: int, *, minutes_ago: int) -> None:
    """A row is stamped when it is changed, and seen when its transaction ends: it comes late."""
    moment = datetime.fromtimestamp(org.clock.now_s(), UTC) - timedelta(minutes=minutes_ago)
    org.tables[table][gid(table, number)]["modifiedon"] = rfc3339(moment)
