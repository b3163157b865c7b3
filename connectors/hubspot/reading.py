"""One read of HubSpot's contacts: everybody, or what was changed, archived, merged or put into a list since a cursor."""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any
from urllib.parse import quote

from connectors.hubspot.addresses import FURTHER, OPT_OUT, Addresses, further
from connectors.hubspot.joins import COMPANY, OWNER, Joins
from connectors.hubspot.lists import Lists
from connectors.hubspot.vendor import (
    CONTACTS,
    READ_CONTACTS,
    SEARCH,
    batch,
    pages,
    properties,
    rows_of,
)
from syncd.connector import Checkpoint, Event, Merged, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError
from syncd.http import (
    Api,
    HighWater,
    pack_ids,
    parse_time,
    read_cursor,
    unpack_ids,
    write_cursor,
)

VERSION = 1  # of the cursor
PAGE_ROWS, SEARCH_ROWS = 100, 200  # the largest that are allowed
QUERY_CHARS_MAX = 12_000  # properties in a URL; with more, each page is read by its ids
OVERLAP = timedelta(minutes=10)  # the search shows a change only after a while
# How far back of the last read the latest change may be: else an import is read again for ever.
LATE_MAX = timedelta(days=1)
SHOWN = timedelta(days=89)  # archived contacts are listed for 90 days [M]
MERGED, CHANGED, ID = "hs_merged_object_ids", "lastmodifieddate", "hs_object_id"

Row = Mapping[str, Any]
Filter = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that shape a read. lists: names; None for all."""

    all_emails: bool
    lists: tuple[str, ...] | None


class Reading:
    """One read."""

    def __init__(self, api: Api, search: Api, request: Request, wishes: Wishes) -> None:
        self._api, self._search, self._request, self._wishes = api, search, request, wishes
        kinds = {one["name"]: one.get("type") for one in properties(api)}
        wanted = set(kinds) if request.fields is None else request.fields & set(kinds)
        self._kinds, self._shown = kinds, sorted(wanted)
        also = {"email", FURTHER, MERGED, CHANGED, ID, COMPANY, OWNER}
        self._asked = sorted(wanted | also & set(kinds))
        self._joins = Joins(api, request.fields, kinds)
        self._addresses: Addresses | None = None
        if wishes.all_emails:
            self._addresses = Addresses(api, asked=OPT_OUT in wanted)
        self._lists: Lists | None = None
        self._lost: set[str] = set()
        self._out: set[int] = set()  # who is known to have opted out by the end of this read
        self._began = api.server_time()

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        cursor = self._request.cursor
        parts = None if cursor is None else read_cursor(cursor, VERSION)
        at = parse_time(parts.get("at")) if parts else None
        if parts is None or at is None:
            reason = "the cursor is of no use"
        elif self._began - at > SHOWN:
            reason = (
                "the last read is more than 89 days ago: who was archived is not known for longer"
            )
        else:
            reason = ""
        self._lists = self._find_lists(parts if parts and not reason else None)
        if not reason and self._lists is not None and self._lists.lost:
            reason = "people have left a list, or a list has gone"
        if parts is None or at is None or reason:
            water = HighWater(began=self._began, since=None)
            if cursor is not None:
                yield Resync(reason)
            yield from self._everybody(water)
        else:
            since = max(parse_time(parts.get("since")) or at, at - LATE_MAX)
            water = HighWater(began=self._began, since=since)
            yield from self._changed(since - OVERLAP, unpack_ids(parts.get("out")) or set(), water)
        lists = {} if self._lists is None else self._lists.summary()
        known = {"since": water.reached(), "lists": lists, "out": pack_ids(self._out)}
        yield Checkpoint(write_cursor(VERSION, at=self._began, **known))

    def _find_lists(self, parts: Mapping[str, Any] | None) -> Lists | None:
        fields = self._request.fields
        if fields is not None and "_lists" not in fields:
            return None
        before = None if parts is None else parts.get("lists") or {}
        try:
            return Lists(self._api, self._wishes.lists, before, self._began - OVERLAP)
        except SourceDenied:
            if fields is not None:
                raise
            return None  # nobody asked for them by name

    # Everybody

    def _everybody(self, water: HighWater) -> Iterator[Event]:
        named = ",".join(self._asked)
        by_id = len(quote(named)) > QUERY_CHARS_MAX
        query: dict[str, str | int] = {"limit": PAGE_ROWS, "archived": "false"}
        if not by_id:
            query["properties"] = named
        for rows in pages(self._api, CONTACTS, query, needs=READ_CONTACTS):
            full = self._by_ids([int(row["id"]) for row in rows]) if by_id else rows
            yield from self._records(full, water)

    # Changes

    def _changed(self, since: datetime, out: set[int], water: HighWater) -> Iterator[Event]:
        """Archived first: the search learns later who is gone, and a key comes once. out: of whom the last read told an opt-out."""
        told = array("q")
        for event in self._archived(since):
            if isinstance(event, Tombstone) and "#" not in event.key:
                told.append(int(event.key))
            yield event
        gone = frozenset(told)
        window = [
            _filter(CHANGED, "GTE", _milliseconds(since)),
            _filter(CHANGED, "LTE", _milliseconds(self._began)),
        ]
        for ids in self._hits(window):
            fresh = [key for key in ids if key not in gone]
            told.extend(fresh)
            rows = self._by_ids(fresh)
            yield from self._records(rows, water)
            if self._addresses is not None:
                yield from self._addresses.left(rows)
        again = self._lists.changed() if self._lists is not None else set()
        if OPT_OUT in self._shown:
            again.update(self._newly_out(out, told))
        if self._addresses is not None and OPT_OUT in self._shown:
            # An opt-out belongs to its address: that of a further one does not change the contact.
            for ids in self._hits([{"propertyName": FURTHER, "operator": "HAS_PROPERTY"}]):
                again.update(ids)
        again.difference_update(told)
        left = sorted(again)
        for start in range(0, len(left), SEARCH_ROWS):
            yield from self._records(self._by_ids(left[start : start + SEARCH_ROWS]), None)

    def _newly_out(self, out: set[int], told: "array[int]") -> set[int]:
        """Who has opted out and was not told of before: whether unsubscribing by a link counts as a change, nobody says [?].

        Where there are as many as are known, they are not listed: a large account has more of them than searches in a day.
        """
        opted_out = [_filter(OPT_OUT, "EQ", "true")]
        known = out.difference(told) | self._out
        if self._count(opted_out) == len(known):
            self._out = known
            return set()
        now = {key for ids in self._hits(opted_out) for key in ids}
        self._out |= (now & out).difference(told)
        return now - out

    def _count(self, filters: Sequence[Filter]) -> Any:
        """How many the search would find; its answer says so whatever the limit of hits."""
        body = {"filterGroups": [{"filters": [*filters]}], "properties": [ID], "limit": 1}
        found = self._search.post(SEARCH, body, needs=READ_CONTACTS)
        rows_of(found, SEARCH)
        return found.get("total")

    def _archived(self, since: datetime) -> Iterator[Event]:
        """Who was archived since then; and whoever had been merged into them, which nobody else tells."""
        query: dict[str, str | int] = {
            "limit": PAGE_ROWS,
            "archived": "true",
            "properties": ",".join(("email", FURTHER, MERGED)),
        }
        for rows in pages(self._api, CONTACTS, query, needs=READ_CONTACTS):
            for row in rows:
                archived = parse_time(row.get("archivedAt"))
                if archived is None or archived >= since:
                    key, values = str(row["id"]), row["properties"]
                    yield from self._mergers(key, values)
                    yield Tombstone(key)
                    if self._addresses is not None:
                        yield from (Tombstone(one) for one in further(key, values))

    def _hits(self, filters: Sequence[Filter]) -> Iterator[list[int]]:
        """Whom the search finds, by id: a fixed window has no moving pages, and the 10,000 hits of a search are no limit.

        Only the ids: what the search knows of a contact may be older than what the last read has seen.
        """
        last = 0
        while True:
            after = _filter(ID, "GT", str(last))
            body = {
                "filterGroups": [{"filters": [*filters, after]}],
                "sorts": [{"propertyName": ID, "direction": "ASCENDING"}],
                "properties": [ID],
                "limit": SEARCH_ROWS,
            }
            found = self._search.post(SEARCH, body, needs=READ_CONTACTS)
            ids = [int(row["id"]) for row in rows_of(found, SEARCH)]
            if not ids:
                return
            if ids != sorted(set(ids)) or ids[0] <= last:
                raise SourceError(
                    "HubSpot: the search does not keep to the order of ids",
                    hint="Nothing is lost: the next run reads it anew, or read everything: syncd sync --full",
                )
            last = ids[-1]
            yield ids
            if len(ids) < SEARCH_ROWS and not found.get("paging"):
                return

    # Both

    def _by_ids(self, ids: Sequence[int]) -> list[Row]:
        path, wanted = f"{CONTACTS}/batch/read", {"properties": self._asked}
        return list(batch(self._api, path, list(map(str, ids)), wanted, needs=READ_CONTACTS))

    def _records(self, rows: Sequence[Row], water: HighWater | None) -> Iterator[Event]:
        for row in rows:
            yield from self._mergers(str(row["id"]), row["properties"])
        # Who was merged away comes no more, also if a page still shows it.
        there = [row for row in rows if str(row["id"]) not in self._lost]
        values = [row["properties"] for row in there]
        lists = {} if self._lists is None else self._lists.of([int(row["id"]) for row in there])
        records = []
        for row, joined in zip(there, self._joins.of(values), strict=True):
            key, held = str(row["id"]), row["properties"]
            if held.get(ID) not in (None, key):
                raise SourceError(f"HubSpot: contact {key} came with the values of another")
            fields = {n: _value(held[n], self._kinds[n]) for n in self._shown if n in held}
            fields |= joined
            if self._lists is not None:
                fields["_lists"] = lists.get(int(key), [])
            if fields.get(OPT_OUT) is True:
                self._out.add(int(key))
            if water is not None:
                water.see(parse_time(held.get(CHANGED)))
            records.append((Record(key, fields, f"contact {key}"), held))
        yield from (record for record, _ in records)
        if self._addresses is not None:
            yield from self._addresses.records(records)

    def _mergers(self, key: str, values: Row) -> Iterator[Event]:
        """Everybody who was ever merged into this contact, also by way of others."""
        losers = [one.strip() for one in str(values.get(MERGED) or "").split(";")]
        for loser in losers:
            if loser and loser != key:
                self._lost.add(loser)
                yield Merged(loser, key)
                if self._addresses is not None and self._request.cursor is not None:
                    first = str(values.get("email") or "")  # the winner has inherited the addresses
                    held = {FURTHER: f"{first};{values.get(FURTHER) or ''}"}
                    yield from (Tombstone(one) for one in further(loser, held))


def _value(text: Any, kind: str | None) -> Any:
    """HubSpot sends text; a condition such as `not hs_email_optout` needs a boolean, `score > 80` a number."""
    if text in (None, ""):
        return None
    if kind == "bool" and text in {"true", "false"}:
        return text == "true"
    if kind == "number":
        try:
            if str(text).lstrip("-").isdigit():
                return int(text)
            return float(text) if isfinite(float(text)) else text
        except ValueError:
            return text
    return text


def _filter(name: str, operator: str, value: str) -> Filter:
    return {"propertyName": name, "operator": operator, "value": value}


def _milliseconds(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))
