"""What a described API looks like: where things stand in its answers, and how times are written for it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from syncd.http import rfc3339

DATE_EARLIER = timedelta(days=2)

Paging = Literal["none", "page", "offset", "cursor", "link"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The options of a `rest` source, as far as they describe its answers; see RestOptions."""

    path: str
    method: str
    params: Mapping[str, str | int | bool]
    body: Mapping[str, Any] | None
    records: str
    key: str | None
    paging: Paging
    page_param: str
    first_page: int
    size: int | None
    size_param: str
    cursor: str | None
    cursor_param: str
    total: str | None
    modified: str | None
    since_param: str | None
    since_format: str
    overlap: timedelta
    deleted: str | None

    def since(self, moment: datetime) -> str:
        """A moment as the API wants it; never later than it is.

        A date is two days earlier: the API's days may begin half a day later than ours, and it may mean "after that day".
        """
        match self.since_format:
            case "date":
                return (moment.astimezone(UTC) - DATE_EARLIER).strftime("%Y-%m-%d")
            case "seconds":
                return str(int(moment.timestamp()))
            case "milliseconds":
                return str(int(moment.timestamp() * 1000))
        return rfc3339(moment)


def at(value: Any, path: str) -> Any:
    """The value at a path such as "data.items" or "names.0.first"; the value itself for ""; None where there is none."""
    for part in path.split(".") if path else ():
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def text_key(value: Any) -> str | None:
    """A key as text: a text that is not empty, or a whole number."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None
