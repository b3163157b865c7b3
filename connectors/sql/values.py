"""What a database gives as a value, and what of it JSON can carry."""

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any
from uuid import UUID

PLAIN = frozenset({str, int, float, bool, dict, type(None)})
ADDRESSES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
TEXTUAL = (UUID, time, timedelta, *ADDRESSES)
INT_MAX = 2**63  # larger whole numbers become text, for JSON cannot carry them

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def key_of(value: Any) -> str | None:
    """The key as text; None for what is no key."""
    if type(value) is str:
        return value or None
    if isinstance(value, bool | float | dict | list):
        return None
    try:
        found = plain(value)
    except ValueError:
        return None
    return str(found) if isinstance(found, int | str) and found != "" else None


def plain(value: Any) -> Any:
    """A value as JSON can carry it, without loss. Raises ValueError for what cannot be."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, TEXTUAL):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytes | bytearray | memoryview):
        decoded = bytes(value).decode()
        if _CONTROLS.search(decoded):
            raise ValueError("It holds binary data")
        return decoded
    raise ValueError(f"It holds values of the kind {type(value).__name__}")


def _number(value: Decimal) -> int | float | str:
    if value.is_finite():
        if abs(value) < INT_MAX and value == value.to_integral_value():
            return int(value)
        if Decimal(repr(float(value))) == value:
            return float(value)
    return f"{value:f}"
