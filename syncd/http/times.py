"""Times as vendors write them, read into aware UTC datetimes; and written back as most of them want them.

Source: connectors reference, part A.3.5: Z with 0 to 9 decimals, +0000 without a colon (Salesforce), naive UTC (Odoo,
EspoCRM), seconds (Copper), milliseconds as text (HubSpot), zones with an offset (Zoho, Freshsales).
"""

import re
from datetime import UTC, datetime, timedelta

MILLISECONDS_FROM = 100_000_000_000  # as seconds this is the year 5138: nobody means that

_NUMBER = re.compile(r"-?\d{9,16}(\.\d+)?")  # eight digits are a date: 20261120


def parse_time(value: object) -> datetime | None:
    """An aware UTC datetime; a time without zone is UTC. None where there is no time, or nothing that is one."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = str(value).strip()
    try:
        if _NUMBER.fullmatch(text):
            number = float(text)
            return _of_epoch(number / 1000 if abs(number) >= MILLISECONDS_FROM else number)
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def rfc3339(moment: datetime, *, timespec: str = "seconds") -> str:
    """ "2026-11-20T10:15:30Z"; timespec: "milliseconds" or "microseconds" for more."""
    return moment.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def _of_epoch(seconds: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
