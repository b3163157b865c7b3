"""The cursor of an incremental read: the largest `modified` value, as a text that gives back the same value.

`2026-01-31T12:00:00+00:00` for a time with zone, without the offset for a time without, `2026-01-31` for a date, `int:7`, `float:7.5`,
`decimal:7.5` and `text:abc` for the rest.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from syncd.errors import SourceError

_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ISO_TIME = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d).*", re.DOTALL)


def encoded(value: Any) -> str:
    """The cursor for a `modified` value."""
    match value:
        case datetime():
            return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
        case date():
            return value.isoformat()
        case int() | float() | Decimal():
            return f"{type(value).__name__.lower()}:{value}"
        case str():
            return f"text:{value}"
    raise SourceError(
        f"`modified`: a {type(value).__name__} does not tell what is newer",
        hint="Choose a column of times, dates or growing numbers",
    )


def decoded(cursor: str) -> Any:
    """The value of a cursor; None if it is not one of ours."""
    kind, _, rest = cursor.partition(":")
    try:
        match kind:
            case "text":
                return rest
            case "int":
                return int(rest)
            case "float":
                return float(rest)
            case "decimal":
                return Decimal(rest)
        return date.fromisoformat(cursor) if len(cursor) == 10 else datetime.fromisoformat(cursor)
    except (ValueError, ArithmeticError):
        return None


def earlier(value: Any, overlap: timedelta) -> Any:
    """`value`, a little earlier if it tells a time."""
    try:
        match value:
            case datetime():
                return value - overlap
            case date():
                return (datetime.combine(value, time()) - overlap).date()
            case str() if found := _ISO_TIME.fullmatch(value):
                # Cut off after the seconds: it sorts before every text that goes on differently.
                moved = datetime.fromisoformat(found[1]) - overlap
                return moved.isoformat(sep=value[10], timespec="seconds")
            case str() if _ISO_DATE.fullmatch(value):
                return (datetime.fromisoformat(value) - overlap).date().isoformat()
    except (OverflowError, ValueError):
        pass  # the beginning of the calendar, or a 31 February
    return value
