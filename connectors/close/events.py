"""Close's log of events: what the search does not know yet, or never tells.

It is no index, so it is not late; and it alone tells who was deleted, which leads were merged, and who has unsubscribed. It is kept for
30 days; whoever is no administrator sees the values in it for an hour only. Newest first, 50 a page.

Source: developer.close.com/api/resources/events, its list of event types, and .../events/list.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors.close.vendor import CUSTOM, Row, rows_of
from syncd.errors import SourceError
from syncd.http import Api, Trail, parse_time

EVENTS = "/event/"
READ_EVENTS = "a role that may see the log of events"
EVENT_ROWS = 50  # the largest page
EVENTS_MAX = 5_000  # of one kind; with more, reading everything is cheaper
KEPT = timedelta(days=29)  # the log goes back 30 days
# The time of an event that does not show the object is a little later than that of the object itself.
LATER = timedelta(seconds=2)
OF_A_COMPANY = frozenset({"name", "display_name", "url", "status_id", "status_label"})


class Gap(Exception):
    """The log does not tell what has changed: everything must be read. Its text is the reason."""


@dataclass(slots=True)
class Told:
    """What the log says of a contact. at: it is known as of then. gone: deleted. into: by a merge into this lead."""

    at: datetime
    gone: bool = False
    into: str = ""


@dataclass(slots=True)
class News:
    """What has happened since some time.

    leads: those that are called otherwise, have another status, or have swallowed another one. addresses: in lower case, of whom
    an unsubscribing was told, or that it was taken back. earlier: addresses that a contact had before.
    """

    contacts: dict[str, Told] = field(default_factory=dict)
    leads: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    earlier: dict[str, set[str]] = field(default_factory=dict)


def news(
    api: Api, since: datetime, *, leads: bool, opt_outs: bool, most: int | None = EVENTS_MAX
) -> News:
    """Everything that was told since then. leads, opt_outs: whether these are asked for. Raises Gap, SourceError."""
    found = News()
    for action in ("created", "updated", "deleted"):
        for event in _events(api, "contact", action, since, most):
            _note_contact(found, event, action)
    for action in ("updated", "merged") if leads else ():
        for event in _events(api, "lead", action, since, most):
            lead = event.get("lead_id") or event.get("object_id")
            if lead and (action == "merged" or _concerns_a_company(event)):
                found.leads.add(str(lead))
    for action in ("created", "deleted") if opt_outs else ():
        for event in _events(api, "unsubscribed_email", action, since, most):
            found.addresses.add(_address(event))
    return found


def addresses_of(entries: Any) -> list[str]:
    """The addresses of `emails`, as they are written."""
    rows = entries if isinstance(entries, list) else ()
    texts = (row.get("email") for row in rows if isinstance(row, dict))
    return [text.strip() for text in texts if isinstance(text, str) and text.strip()]


def _note_contact(found: News, event: Row, action: str) -> None:
    key, gone = str(event.get("object_id") or ""), action == "deleted"
    if not key:
        raise SourceError("Close: an event of a contact does not say of which")
    shown, before = _values(event, "data"), _values(event, "previous_data")
    known_at = parse_time(shown.get("date_updated"))
    at = _time(event) - LATER if known_at is None else known_at
    told = found.contacts.get(key)
    if told is None:
        told = found.contacts[key] = Told(at)
    told.at, told.gone = max(told.at, at), told.gone or gone
    if gone:
        told.into = str(_values(event, "meta").get("merge_destination_lead_id") or "")
    earlier = {address.lower() for address in addresses_of(before.get("emails"))}
    if earlier:
        found.earlier.setdefault(key, set()).update(earlier)


def _concerns_a_company(event: Row) -> bool:
    changed = event.get("changed_fields")
    if not isinstance(changed, list) or not changed:
        return True  # it does not say what it was
    names = map(str, changed)
    return any(name in OF_A_COMPANY or name.startswith(CUSTOM) for name in names)


def _address(event: Row) -> str:
    for values in (_values(event, "data"), _values(event, "previous_data")):
        address = values.get("email")
        if isinstance(address, str) and "@" in address:
            return address.strip().lower()
    raise Gap("somebody has unsubscribed, and the log does not show who any more")


def _values(event: Row, name: str) -> Mapping[str, Any]:
    found = event.get(name)
    return found if isinstance(found, dict) else {}


def _events(api: Api, kind: str, action: str, since: datetime, most: int | None) -> Iterator[Row]:
    """The events since then, newest first. A cursor goes on beyond the time that the first page was asked for."""
    trail, count = Trail(f"Close: {EVENTS}"), 0
    query: dict[str, str | int] = {"object_type": kind, "action": action, "_limit": EVENT_ROWS}
    page: dict[str, str] = {"date_updated__gte": since.isoformat()}
    while True:
        found = api.get(EVENTS, {**query, **page}, needs=READ_EVENTS)
        rows = rows_of(found, EVENTS)
        recent = [row for row in rows if _time(row) >= since]
        yield from recent
        count += len(recent)
        if most is not None and count > most:
            raise Gap("more has changed than is cheaper to be read one by one")
        following = found.get("cursor_next")
        if not following or (rows and not recent):
            return
        trail.step(following)
        page = {"_cursor": str(following)}


def _time(event: Row) -> datetime:
    moment = parse_time(event.get("date_updated")) or parse_time(event.get("date_created"))
    if moment is None:
        raise SourceError("Close: an event came without its time")
    return moment
