"""One read of Close's contacts: everybody, or those for whom something has changed since a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.close import views
from connectors.close.beside import Leads, owner_field, unsubscribed, users
from connectors.close.events import KEPT, Gap, News, Told, addresses_of, news
from connectors.close.people import OPTED_OUT, Shape, custom_fields
from connectors.close.search import ADDRESSES_MAX, MADE, Search, changed_since, having
from connectors.close.vendor import CONTACTS, CUSTOM, READ_CONTACTS, Row, ident, listed, single
from syncd.connector import Checkpoint, Event, Merged, Record, Request, Resync, Tombstone
from syncd.http import (
    Api,
    HighWater,
    further_key,
    if_allowed,
    parse_time,
    read_cursor,
    write_cursor,
)

VERSION = 1  # of the cursor
OVERLAP = timedelta(minutes=10)  # Close asks to look at the last five minutes of its log again
RECENT = timedelta(hours=1)  # how late the search may be when everybody is read
# How far back of the last read the latest change may be: else it is read again in each run, for ever. The log knows of the rest.
LATE_MAX = timedelta(hours=1)
LEADS_MAX = 200  # whose contacts are asked for one by one; for more, everybody is read
CHUNK_ROWS = 50  # of contacts that are read one by one
ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)  # as of then: whatever the search knows will do


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that shape a read. owner: the custom field that names it; empty for none."""

    all_emails: bool
    views: tuple[str, ...]
    owner: str


class Reading:
    """One read."""

    def __init__(self, api: Api, request: Request, wishes: Wishes) -> None:
        self._api, self._request, self._wishes = api, request, wishes
        self._named = request.fields is not None
        self._search = Search(api)
        mine = custom_fields(api, "contact")
        self._began = api.server_time()
        out: frozenset[str] | None = None
        if self._wants(OPTED_OUT):
            out = if_allowed(lambda: unsubscribed(api), named=self._named)
        self._shape = Shape(
            request.fields,
            mine,
            all_emails=wishes.all_emails,
            unsubscribed=None if out is None else out.__contains__,
        )
        self._with_company = self._wants("_company")
        theirs = custom_fields(api, "lead") if self._with_company or wishes.owner else {}
        self._users: Mapping[str, Any] | None = None
        self._owner, self._of_lead = "", False
        if wishes.owner and self._wants("_owner"):
            self._users = if_allowed(lambda: users(api), named=self._named)
            self._owner, self._of_lead = owner_field(wishes.owner, mine, theirs)
        self._fields = self._shape.fields()
        if self._owner and not self._of_lead:
            self._fields = tuple(dict.fromkeys([*self._fields, f"{CUSTOM}{self._owner}"]))
        self._lead_fields = theirs
        self._views: list[views.View] = []
        self._hear(News())
        self._told: set[str] = set()
        self._full = True
        self._water = HighWater(began=self._began, since=None)

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        if self._wishes.views and self._wants("_lists"):
            found = if_allowed(
                lambda: views.members(self._api, self._search, self._wishes.views),
                named=self._named,
            )
            self._views = found or []
        cursor = self._request.cursor
        parts = None if cursor is None else read_cursor(cursor, VERSION)
        at = parse_time(parts.get("at")) if parts else None
        reason = "the cursor is of no use"
        if parts is not None and at is not None:
            try:
                self._ask_for_news(at, parts)
                self._full = False
            except Gap as gap:
                reason = str(gap)
        if parts is None or at is None or self._full:
            if cursor is not None:
                yield Resync(reason)
            yield from self._everybody()
        else:
            since = max(parse_time(parts.get("since")) or at, at - LATE_MAX)
            self._water = HighWater(began=self._began, since=since)
            yield from self._changed(since - OVERLAP)
        listed = views.summary(self._views)
        since_now = self._water.reached()
        yield Checkpoint(write_cursor(VERSION, at=self._began, since=since_now, views=listed))

    # Who is to be read

    def _ask_for_news(self, at: datetime, parts: Mapping[str, Any]) -> None:
        """Whatever must be known before the first record. Raises Gap."""
        if self._began - at > KEPT:
            raise Gap("the last read is more than 29 days ago: the log of events goes back 30")
        again = views.changed(self._views, parts.get("views"))
        opt_outs = self._wants(OPTED_OUT)
        found = news(self._api, at - OVERLAP, leads=self._needs_leads(), opt_outs=opt_outs)
        found.leads |= again["lead"]
        if len(found.leads) > LEADS_MAX:
            raise Gap("more leads have changed than are cheaper to be asked for one by one")
        for key in again["contact"] | self._holders(found.addresses):
            found.contacts.setdefault(key, Told(ANY_TIME))
        self._hear(found)

    def _hear(self, found: News) -> None:
        self._news = found
        self._pending = found.contacts  # until they have come
        self._leads = Leads(self._api, self._search, self._lead_fields, found.leads)

    def _holders(self, addresses: set[str]) -> set[str]:
        """The contacts with these addresses. Raises Gap where one is not found: nobody says how the search compares them."""
        found, left = set[str](), set(addresses)
        ordered = sorted(addresses)
        for start in range(0, len(ordered), ADDRESSES_MAX):
            some = ordered[start : start + ADDRESSES_MAX]
            for rows in self._search.everything("contact", ("id", MADE, "emails"), [having(some)]):
                for row in rows:
                    held = {address.lower() for address in addresses_of(row.get("emails"))}
                    if held & addresses:
                        found.add(ident(row, "contact"))
                        left -= held
        if left:
            raise Gap("somebody has unsubscribed whom the search does not find")
        return found

    def _needs_leads(self) -> bool:
        return self._with_company or self._of_lead or any(v.kind == "lead" for v in self._views)

    # What is read

    def _everybody(self) -> Iterator[Event]:
        """The log first: whoever has changed lately is not taken from the search unless it knows of it."""
        since = self._began - RECENT
        leads = self._needs_leads()
        self._hear(news(self._api, since, leads=leads, opt_outs=False, most=None))
        for rows in self._search.everything("contact", self._fields):
            yield from self._records(self._fresh(rows))
        yield from self._left()

    def _changed(self, since: datetime) -> Iterator[Event]:
        for lead in sorted(self._news.leads):
            yield from self._records(self._untold(self._of(lead)))
        for rows in self._search.everything(
            "contact", self._fields, [changed_since("contact", since)]
        ):
            yield from self._records(self._untold(self._fresh(rows)))
        yield from self._left()

    def _fresh(self, rows: Sequence[Row]) -> list[Row]:
        """Without those of whom the log knows more than the search."""
        return [row for row in rows if not self._is_stale(row)]

    def _is_stale(self, row: Row) -> bool:
        told = self._pending.get(ident(row, "contact"))
        if told is None:
            return False
        changed = parse_time(row.get("date_updated"))
        return told.gone or changed is None or changed < told.at

    def _untold(self, rows: Sequence[Row]) -> list[Row]:
        fresh = [row for row in rows if ident(row, "contact") not in self._told]
        self._told.update(str(row["id"]) for row in fresh)
        return fresh

    def _of(self, lead: str) -> list[Row]:
        """The contacts of a lead, as they are now."""
        rows = listed(self._api, CONTACTS, {"lead_id": lead}, needs=READ_CONTACTS)
        return [{"lead_id": lead, **row} for row in rows]

    def _left(self) -> Iterator[Event]:
        """Who has not come yet: whom the search knows in an older state, or not at all; and who is gone."""
        anyhow = [key for key, told in self._pending.items() if told.at == ANY_TIME]
        rows = self._search.by_ids("contact", anyhow, self._fields) if anyhow else []
        yield from self._records(self._untold(rows))
        chunk: list[Row] = []
        for key, told in list(self._pending.items()):
            row = None
            if not told.gone or told.into:
                row = single(self._api, CONTACTS, key)
            if row is None:
                yield from self._gone(key, told)
                continue
            chunk.append(row)
            if len(chunk) == CHUNK_ROWS:
                yield from self._records(self._untold(chunk))
                chunk = []
        yield from self._records(self._untold(chunk))

    def _gone(self, key: str, told: Told) -> Iterator[Event]:
        winner = self._winner(key, told) if told.into else None
        if winner is not None:
            yield Merged(key, winner)
        elif not self._full:  # else whoever does not come is gone
            yield Tombstone(key)
        if self._wishes.all_emails and not self._full:
            earlier = sorted(self._news.earlier.get(key, ()))
            yield from (Tombstone(further_key(key, address)) for address in earlier)

    def _winner(self, key: str, told: Told) -> str | None:
        """Who has taken over a contact's addresses when its lead was merged into another."""
        earlier = self._news.earlier.get(key, set())
        heirs = [
            str(row["id"])
            for row in self._of(told.into)
            if earlier & {address.lower() for address in addresses_of(row.get("emails"))}
        ]
        return heirs[0] if len(heirs) == 1 and heirs[0] != key else None

    # What becomes of a contact

    def _records(self, rows: Sequence[Row]) -> Iterator[Event]:
        leads: Mapping[str, Mapping[str, Any] | None] = {}
        if rows and (self._with_company or self._of_lead):
            leads = self._leads.of(row.get("lead_id") for row in rows)
        for row in rows:
            key = ident(row, "contact")
            self._pending.pop(key, None)
            self._water.see(parse_time(row.get("date_updated")))
            fields = {**self._shape.values(row), **self._joined(row, leads)}
            yield Record(key, fields, f"contact {key}")
            now = dict(self._shape.further(row))
            for one, address in now.items():
                other = {**fields, "_email": address} if "_email" in fields else fields
                yield Record(one, other, f"contact {key}, another address")
            if self._wishes.all_emails and not self._full:
                before = (further_key(key, one) for one in self._news.earlier.get(key, ()))
                yield from (Tombstone(one) for one in sorted(set(before) - now.keys()))

    def _joined(self, row: Row, leads: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lead = leads.get(str(row.get("lead_id")))
        if self._with_company:
            if lead is not None:
                found["_company"] = self._leads.company(lead)
            elif "lead_id" in row and row["lead_id"] is None:
                found["_company"] = None
        holder = lead if self._of_lead else row
        if self._users is not None and holder is not None:
            owner = holder.get(f"{CUSTOM}{self._owner}")
            owner = owner[0] if isinstance(owner, list) and owner else owner
            found["_owner"] = self._users.get(str(owner)) if owner else None
        if self._views and ("lead_id" in row or all(v.kind == "contact" for v in self._views)):
            found["_lists"] = [view.name for view in self._views if view.holds(row)]
        return found

    # What may be read

    def _wants(self, name: str) -> bool:
        return self._request.fields is None or name in self._request.fields
