"""One read of Salesforce: everybody, or what was changed, deleted, merged, converted or put into a campaign since a cursor."""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from connectors.salesforce import bulk
from connectors.salesforce.bulk import Bulk
from connectors.salesforce.campaigns import MEMBER, Campaigns, Known, known_of, left_since
from connectors.salesforce.people import EMAIL, Shape, shape
from connectors.salesforce.soql import Deleted, Gap, Row, Soql, among, batches, truth, within
from connectors.salesforce.vendor import describe, ident
from syncd.connector import Checkpoint, Event, Merged, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceRefused
from syncd.http import Api, HighWater, parse_time, read_cursor, write_cursor

VERSION = 1  # of the cursor
SHOWN = timedelta(days=15)  # how long deletions are known [S5]
LATE_MAX = timedelta(
    days=1
)  # how far back of the last read the latest change may be; else an import is read again for ever
MERGES_SHOWN = timedelta(days=16)  # of the recycle bin, and a day more


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that shape a read. tables: Contact, Lead. overlap: how late a change may become visible. all_emails: further ones too."""

    version: str
    tables: tuple[str, ...]
    lists: tuple[str, ...] | None
    bulk: Literal["auto", "on", "off"]
    overlap: timedelta
    all_emails: bool


@dataclass(frozen=True, slots=True)
class _News:
    """What is known before the first record of an incremental read. at: up to when the last read saw deletions."""

    at: datetime
    since: Mapping[str, datetime]
    deleted: Mapping[str, Deleted]
    joined: Mapping[str, set[str]]


class Reading:
    """One read. Leads come before contacts, so that what holds for a lead is handed on through its contact's own merges."""

    def __init__(
        self, api: Api, patient: Callable[[], Api], request: Request, wishes: Wishes
    ) -> None:
        self._api, self._request, self._wishes = api, request, wishes
        self._soql = Soql(api, wishes.version)
        self._bulk = Bulk(api, patient, wishes.version)
        self._visible: dict[str, frozenset[str]] = {}
        tables = [table for table in ("Lead", "Contact") if table in wishes.tables]
        self._shapes = [
            shape(
                table,
                describe(api, wishes.version, table),
                request.fields,
                self._columns_of,
                all_emails=wishes.all_emails,
            )
            for table in tables
        ]
        self._began = self._covered = api.server_time()
        self._campaigns = None
        if request.fields is None or "_lists" in request.fields:
            self._campaigns = self._find_campaigns(tables)
        self._left: Deleted | None = None
        self._waters: dict[str, HighWater] = {}
        self._told: set[str] = set()

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        cursor, news = self._request.cursor, None
        if cursor is not None:
            try:
                news = self._news(read_cursor(cursor, VERSION))
            except Gap as gap:
                yield Resync(str(gap))
        if news is None:
            yield from self._everybody()
        else:
            yield from self._changed(news)
        yield Checkpoint(self._cursor())

    def _cursor(self) -> str:
        parts: dict[str, Any] = {
            "at": min(self._covered, self._began),
            "since": {
                table: None if (reached := water.reached()) is None else reached.isoformat()
                for table, water in self._waters.items()
            },
        }
        if self._campaigns is not None:
            parts["campaigns"] = self._campaigns.digests()
            start = min(self._covered, self._began) - self._wishes.overlap
            parts["left"] = left_since(self._left, start)
        return write_cursor(VERSION, **parts)

    # Everybody

    def _everybody(self) -> Iterator[Event]:
        self._waters, self._covered = self._new_waters({}), self._began
        if self._campaigns is not None:
            with suppress(Gap):  # then the next read starts anew, too
                start = self._began - self._wishes.overlap
                self._left = self._soql.deleted(MEMBER, start, start, self._began)
        for one in self._shapes:
            # What held for a merged person holds for the one that is left, also if that happened just before this read.
            recent = within("SystemModstamp", self._began - MERGES_SHOWN, self._began)
            gone = ["IsDeleted = true", "MasterRecordId != null", *recent]
            merged: dict[str, str] = {}
            for rows in self._soql.pages(("Id", "MasterRecordId"), one.table, gone, deleted=True):
                merged |= {ident(row["Id"]): ident(row["MasterRecordId"]) for row in rows}
            yield from _mergers(merged)
            for rows in self._all_pages(one):
                self._see(one.table, rows)
                yield from self._converted(rows)
                yield from self._records(one, [row for row in rows if not _is_converted(row)])

    def _all_pages(self, one: Shape) -> Iterator[list[Row]]:
        """By a job where there are many; without jobs (an edition, a right) by queries, if this was our own choice."""
        mode, job = self._wishes.bulk, None
        if mode == "on" or (mode == "auto" and self._soql.count(one.table) >= bulk.FROM_ROWS):
            try:
                job = self._bulk.start(one.columns, one.table)
            except (SourceDenied, SourceRefused):
                if mode == "on":
                    raise
        if job is not None:
            return self._bulk.pages(job, one.columns, one.table)
        return self._soql.pages(one.columns, one.table)

    # Changes

    def _news(self, parts: Mapping[str, Any] | None) -> _News:
        """What must be known before the first record. Raises Gap: then everything is read."""
        at = parse_time(parts.get("at")) if parts else None
        before = parts.get("since") if parts else None
        tables = [one.table for one in self._shapes]
        if parts is None or at is None or not isinstance(before, dict):
            raise Gap("the cursor is of no use")
        if not set(tables) <= set(before):
            raise Gap("the cursor is of other objects")
        if self._began - at > SHOWN:
            raise Gap("the last read is more than 15 days ago: deletions are not known for longer")
        known: Known | None = None
        if self._campaigns is not None:
            tables = [*tables, MEMBER]
            known = known_of(parts)
            if known is None:
                raise Gap("the cursor says nothing of campaigns, or too many have left one")
        seen = {table: parse_time(before.get(table)) or at for table in tables}
        since = {table: max(moment, at - LATE_MAX) for table, moment in seen.items()}
        start = at - self._wishes.overlap
        deleted = {t: self._soql.deleted(t, at, start, self._began) for t in tables}
        covered = min([self._began, *(d.covered for d in deleted.values() if d.covered)])
        self._covered = max(covered, at)
        self._waters = self._new_waters(since)
        joined: Mapping[str, set[str]] = {}
        if self._campaigns is not None and known is not None:
            self._left = deleted[MEMBER]
            joined = self._campaigns.changed(
                known, deleted[MEMBER], self._window(since[MEMBER]), self._waters[MEMBER]
            )
        return _News(at, since, deleted, joined)

    def _changed(self, news: _News) -> Iterator[Event]:
        """Each stretch by id within a fixed time: whoever is changed meanwhile leaves it, and comes in the next read."""
        again: dict[str, set[str]] = {one.table: set() for one in self._shapes}
        for one in self._shapes:
            merged: dict[str, str] = {}
            converted: list[Event] = []
            stretches = [within("SystemModstamp", *self._window(news.since[one.table]))]
            stretches += [
                within(f"{parent}.SystemModstamp", *self._window(news.at)) for parent in one.watched
            ]
            for conditions in stretches:
                for rows in self._soql.pages(one.columns, one.table, conditions, deleted=True):
                    self._see(one.table, rows)
                    yield from self._news_of(one, rows, merged, converted)
            gone = news.deleted[one.table].when
            named = set(gone) | news.joined.get(one.table, set()) | again[one.table]
            while left := sorted((named | set(merged.values())) - self._told):
                yield from self._by_ids(one, left, gone, merged, converted)
            yield from _mergers(merged)
            yield from (event for loser in merged for event in self._further_gone(one, loser))
            for event in converted:
                if isinstance(event, Merged) and "Contact" in again:
                    again["Contact"].add(event.winner)
                yield event

    def _by_ids(
        self,
        one: Shape,
        keys: Sequence[str],
        gone: Container[str],
        merged: dict[str, str],
        converted: list[Event],
    ) -> Iterator[Event]:
        """These people, whenever they were changed. gone: who was deleted, also if the recycle bin does not hold them any more."""
        for some in batches(keys):
            conditions = [among("Id", some)]
            for rows in self._soql.pages(one.columns, one.table, conditions, deleted=True):
                yield from self._news_of(one, rows, merged, converted)
            unseen = [key for key in some if key not in self._told]
            self._told.update(unseen)
            for key in unseen:
                if key in gone:
                    yield from self._gone(one, key)

    def _news_of(
        self, one: Shape, rows: Sequence[Row], merged: dict[str, str], converted: list[Event]
    ) -> Iterator[Event]:
        """Records at once; merges and conversions are gathered, for their order matters."""
        live = []
        for row in rows:
            key = ident(row["Id"])
            if key in self._told:
                continue
            self._told.add(key)
            if not truth(row["IsDeleted"]):
                live.append(row)
            elif row["MasterRecordId"]:
                merged[key] = ident(row["MasterRecordId"])
            else:
                yield from self._gone(one, key)
        converted += self._converted(live)
        for row in filter(_is_converted, live):
            if not self._hands_on(row):
                converted.append(Tombstone(row["Id"]))
            converted += self._further_gone(one, row["Id"])
        people = [row for row in live if not _is_converted(row)]
        yield from self._records(one, people)
        for row in people:  # an address that a field holds no more
            there = one.further(row)
            yield from (
                Tombstone(_further(row["Id"], name)) for name in one.mails if name not in there
            )

    def _gone(self, one: Shape, key: str) -> Iterator[Event]:
        yield Tombstone(key)
        yield from self._further_gone(one, key)

    def _further_gone(self, one: Shape, key: str) -> Iterator[Event]:
        yield from (Tombstone(_further(key, name)) for name in one.mails)

    # Both

    def _records(self, one: Shape, rows: Sequence[Row]) -> Iterator[Event]:
        lists: Mapping[str, list[str]] = {}
        if self._campaigns is not None:
            lists = self._campaigns.of(one.table, [row["Id"] for row in rows])
        noun = one.table.lower()
        for row in rows:
            key = ident(row["Id"])
            fields = one.fields(row)
            if self._campaigns is not None:
                fields["_lists"] = lists.get(key, [])
            yield Record(key, fields, f"{noun} {key}")
            for name, address in one.further(row).items():
                also = {EMAIL: address} if EMAIL in fields else {}
                yield Record(_further(key, name), {**fields, **also}, f"{noun} {key}, {name}")

    def _converted(self, rows: Sequence[Row]) -> Iterator[Event]:
        """A converted lead has become a contact; where contacts are not read, it is just gone."""
        for row in rows:
            if _is_converted(row) and self._hands_on(row):
                yield Merged(ident(row["Id"]), ident(row["ConvertedContactId"]))

    def _hands_on(self, row: Row) -> bool:
        return "Contact" in self._wishes.tables and bool(row.get("ConvertedContactId"))

    def _see(self, table: str, rows: Sequence[Row]) -> None:
        """The stamps of one page are written alike, so that the latest is the greatest text."""
        if rows:
            self._waters[table].see(parse_time(max(str(row["SystemModstamp"]) for row in rows)))

    def _window(self, since: datetime) -> tuple[datetime, datetime]:
        return since - self._wishes.overlap, self._began

    def _new_waters(self, since: Mapping[str, datetime]) -> dict[str, HighWater]:
        tables = [one.table for one in self._shapes]
        tables += [MEMBER] if self._campaigns is not None else []
        return {table: HighWater(began=self._began, since=since.get(table)) for table in tables}

    def _columns_of(self, table: str) -> frozenset[str]:
        if table not in self._visible:
            found = describe(self._api, self._wishes.version, table)
            self._visible[table] = frozenset(column.name for column in found)
        return self._visible[table]

    def _find_campaigns(self, tables: Iterable[str]) -> Campaigns | None:
        try:
            return Campaigns(self._soql, tables, self._wishes.lists)
        except SourceDenied:
            if self._request.fields is not None:
                raise
            return None  # nobody asked for them by name


def _further(key: str, name: str) -> str:
    """The key of the person whom the address in this field makes."""
    return f"{key}#{name}"


def _is_converted(row: Row) -> bool:
    return truth(row.get("IsConverted"))


def _mergers(merged: Mapping[str, str]) -> Iterator[Merged]:
    """Each loser with the one that is left at the end: A into B, and B into C, makes A into C."""
    for loser in merged:
        winner, steps = merged[loser], 0
        while winner in merged and steps < len(merged):
            winner, steps = merged[winner], steps + 1
        if winner != loser:
            yield Merged(loser, winner)
