"""One read of Odoo's people: everybody, or who was changed, archived, merged, tagged, subscribed or opted out since a cursor."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors.odoo.beside import Beside
from connectors.odoo.marks import Changed
from connectors.odoo.merges import merges_since
from connectors.odoo.model import Choice, People
from connectors.odoo.person import mentioned
from connectors.odoo.record import Records
from connectors.odoo.vendor import Domain, Row, Server, fields_of, pages, search
from syncd.connector import Checkpoint, Event, Request, Resync, Tombstone
from syncd.errors import SourceDenied
from syncd.http import HighWater, parse_time, read_cursor, write_cursor

VERSION = 1  # of the cursor
PAGE_ROWS = 1_000  # 50 ms of Odoo's time where it was measured
LONG_ROWS = 25  # where a field may hold a megabyte: an answer ends at 32 MB
SCAN_ROWS = 10_000  # rows of an id and an address
# `write_date` is the time at which a transaction began, and is seen when that has ended: Odoo ends a request after 120 s, an
# import or a scheduled job later.
OVERLAP = timedelta(minutes=10)
MERGES_BACK = timedelta(days=31)  # in a full read, which has no time to start from
READ_PEOPLE = "the right to read contacts, or leads"
LONG_TYPES = frozenset({"html", "text", "json", "properties"})


class Reading:
    """One read."""

    def __init__(self, server: Server, request: Request, choice: Choice) -> None:
        self._server, self._request, self._model = server, request, choice.model
        kinds = {
            name: kind
            for name, kind in fields_of(server, choice.model.name, READ_PEOPLE).items()
            if kind.get("type") != "binary"
        }
        self._kinds = kinds
        self._began = server.api.server_time()
        self._people = People(choice, kinds)
        self._beside = Beside(server, request.fields, choice, kinds, self._people)
        self._records = Records(server, choice, kinds, request.fields, self._beside)
        self._asked = sorted(self._records.needed() | self._people.fields)
        long = any(kinds[name].get("type") in LONG_TYPES for name in self._records.shown)
        self._page_rows = LONG_ROWS if long else PAGE_ROWS

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        text = self._request.cursor
        parts = None if text is None else read_cursor(text, VERSION)
        since = parse_time(parts.get("since")) if parts else None
        self._beside.read()
        changed = self._beside.marks.changed_since(parts.get("marks")) if parts else None
        if parts is None or since is None or changed is None:
            reason = "the cursor is of no use"
        elif parts.get("beside") != self._beside.read_names:
            reason = "what may be read beside the people is not what it was"
        else:
            reason = ""
        water = HighWater(began=self._began, since=None if reason else since)
        if reason or since is None or changed is None:
            if text is not None:
                yield Resync(reason)
            yield from self._merged(self._began - MERGES_BACK)
            for rows in self._pages(self._people.domain):
                _see(water, rows)
                yield from self._records.of(rows)
        else:
            yield from self._merged(since - OVERLAP)
            yield from self._changed(since - OVERLAP, changed, water)
        reached = water.reached()
        if reached is not None:
            names, marks = self._beside.read_names, self._beside.marks.summary()
            yield Checkpoint(write_cursor(VERSION, since=reached, beside=names, marks=marks))

    def _merged(self, since: datetime) -> Iterator[Event]:
        """Where messages may not be read, the next full read finds that the losers are gone."""
        if self._model.companies and "message_ids" in self._kinds:
            try:
                yield from list(merges_since(self._server, since))
            except SourceDenied:
                return

    def _changed(self, since: datetime, changed: Changed, water: HighWater) -> Iterator[Event]:
        """Whose row was written since then, among all contacts: who is no person any more must be told. Then who is concerned."""
        told: set[int] = set()
        # Only >= in UTC and without a zone means the same in all versions; and the filter stays, while the ids go on.
        domain = [["write_date", ">=", f"{since:%Y-%m-%d %H:%M:%S}"]]
        for rows in self._pages(domain, archived=True):
            told.update(row["id"] for row in rows)
            _see(water, rows)
            yield from self._told(rows)
        for ids in self._concerned(changed) if changed else ():
            fresh = [key for key in ids if key not in told]
            for start in range(0, len(fresh), self._page_rows):
                part = [["id", "in", fresh[start : start + self._page_rows]]]
                yield from self._told(self._page(part))

    def _concerned(self, changed: Changed) -> Iterator[list[int]]:
        """The ids of the people for whom something may have changed beside them."""
        model, mails = self._model.name, self._records.mails
        fields = mails if changed.addresses else ["id"]
        for rows in pages(self._server, model, self._people.domain, fields, rows_max=SCAN_ROWS):
            yield [
                row["id"]
                for row in rows
                if changed.concerns(
                    row["id"], (one for name in mails for one in mentioned(row.get(name)) or ())
                )
            ]

    def _told(self, rows: Sequence[Row]) -> Iterator[Event]:
        """Records of those who are people, tombstones of all others."""
        people = []
        for row in rows:
            archived = row.get("active") is False
            if not archived and row in self._people:
                people.append(row)
                continue
            for key in self._records.keys(row):
                yield Tombstone(key, "archived" if archived else "deleted")
        yield from self._records.of(people)

    def _pages(self, domain: Domain, *, archived: bool = False) -> Iterator[list[Row]]:
        return pages(
            self._server,
            self._model.name,
            domain,
            self._asked,
            rows_max=self._page_rows,
            archived=archived,
            needs=READ_PEOPLE,
        )

    def _page(self, domain: list[Any]) -> list[Row]:
        return search(
            self._server,
            self._model.name,
            domain,
            self._asked,
            rows_max=self._page_rows,
            archived=True,
            needs=READ_PEOPLE,
        )


def _see(water: HighWater, rows: Sequence[Row]) -> None:
    """Odoo writes all times alike, so that the largest text is the latest."""
    water.see(parse_time(max((row.get("write_date") or "" for row in rows), default="")))
