"""One read of Dynamics 365: everybody, or what was changed, deleted, deactivated, merged or put into a list since a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connectors.dynamics import lists, tracking
from connectors.dynamics.consents import CONSENTS, Consents
from connectors.dynamics.lists import LISTS, Members
from connectors.dynamics.owners import OWNER, TEAMS, USERS, Owners
from connectors.dynamics.people import (
    ADDRESSES,
    OPTED_OUT,
    QUALIFIED,
    Shape,
    opted_out,
    qualified_lead,
    shape,
)
from connectors.dynamics.tracking import Delta, Gap
from connectors.dynamics.vendor import (
    Row,
    Table,
    among,
    batches,
    columns,
    ident,
    needs,
    pages,
    tables,
)
from syncd.connector import Checkpoint, Event, Merged, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError
from syncd.http import Api, HighWater, parse_time, read_cursor, rfc3339, write_cursor

VERSION = 1  # of the cursor
OVERLAP = timedelta(
    minutes=10
)  # a change is stamped when it is made, and seen when it is committed
TOKEN_AGE_MAX = timedelta(days=7)  # older changes may be dropped [S1]
LATE_MAX = timedelta(
    days=1
)  # how far back of the last read the latest change may be; else an import is read again for ever
ALIVE = "statecode eq 0 or merged eq true"
JOINED = {"_company": "account", "_owner": USERS, "_lists": LISTS, OPTED_OUT: CONSENTS}
ADDRESSES_IN = 50  # in one filter: they are longer than ids


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that shape a read. base: the path of the API. people: the tables that are read."""

    base: str
    people: tuple[str, ...]
    lists: tuple[str, ...] | None
    all_emails: bool
    rows_max: int


@dataclass(frozen=True, slots=True)
class _News:
    """What is known before the first record of an incremental read. deltas, since: by table, one or the other."""

    at: datetime
    deltas: Mapping[str, Delta]
    since: Mapping[str, datetime]
    listed: Mapping[str, set[str]]


class Reading:
    """One read. Leads come before contacts, so that what holds for a lead is handed on to its contact."""

    def __init__(self, api: Api, request: Request, wishes: Wishes) -> None:
        self._api, self._request, self._wishes = api, request, wishes
        self._tables = tables(api, wishes.base, [*wishes.people, *JOINED.values(), TEAMS])
        self._began = api.server_time()
        self._people: dict[str, Table] = {
            name: self._table(name) for name in ("lead", "contact") if name in wishes.people
        }
        self._joins = frozenset(join for join in JOINED if self._can_join(join))
        self._shapes = [
            shape(
                table,
                columns(api, wishes.base, name),
                request.fields,
                self._joins,
                rows_max=wishes.rows_max,
                leads=name == "contact" and "lead" in wishes.people,
            )
            for name, table in self._people.items()
        ]
        self._owners = Owners(api, self._tables)
        self._consents: Consents | None = None
        if OPTED_OUT in self._joins:
            self._consents = Consents(api, self._tables.get(CONSENTS))
        self._members: list[Members] = []
        if "_lists" in self._joins:
            self._members = self._read_lists()
        self._tokens: dict[str, str | None] = {}
        self._waters: dict[str, HighWater] = {}
        self._told: set[str] = set()
        self._merged: dict[str, str] = {}
        self._qualified: set[str] = set()

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        news = None
        if self._request.cursor is not None:
            try:
                news = self._news(read_cursor(self._request.cursor, VERSION))
            except Gap as gap:
                yield Resync(str(gap))
        if news is None:
            yield from self._everybody()
        else:
            yield from self._changed(news)
        yield Checkpoint(self._cursor())

    def _cursor(self) -> str:
        known = {}
        for name, water in self._waters.items():
            since = rfc3339(water.reached() or self._began)
            known[name] = {"token": self._tokens.get(name), "since": since}
        parts: dict[str, Any] = {"at": self._began, "tables": known}
        if "_lists" in self._joins:
            parts["lists"] = lists.summary(self._members)
        return write_cursor(VERSION, **parts)

    # Everybody

    def _everybody(self) -> Iterator[Event]:
        """The tokens come first: what changes while everybody is read is in the next read's deltas."""
        for one in self._shapes:
            name = one.table.name
            self._tokens[name] = tracking.begin(self._api, one.table)
            self._waters[name] = HighWater(began=self._began, since=None)
        for one in self._shapes:
            for rows in self._pages(one, ALIVE):
                yield from self._events_of(one, rows, full=True)
        yield from self._mergers()

    # Changes

    def _news(self, parts: Mapping[str, Any] | None) -> _News:
        """What must be known before the first record. Raises Gap: then everything is read."""
        at = parse_time(parts.get("at")) if parts else None
        known = parts.get("tables") if parts else None
        if parts is None or at is None or not isinstance(known, dict):
            raise Gap("the cursor is of no use")
        if not set(self._people) <= set(known):
            raise Gap("the cursor is of other tables")
        if self._began - at > TOKEN_AGE_MAX:
            raise Gap("the last read is more than 7 days ago: changes are not known for longer")
        listed: Mapping[str, set[str]] = {}
        if "_lists" in self._joins:
            listed = lists.changed(self._members, parts.get("lists"))
        deltas: dict[str, Delta] = {}
        since: dict[str, datetime] = {}
        for name, table in self._people.items():
            token, seen = known[name].get("token"), parse_time(known[name].get("since")) or at
            self._waters[name] = HighWater(began=self._began, since=seen)
            if token:
                deltas[name] = tracking.changes(self._api, table, token)
                self._tokens[name] = deltas[name].token
            else:
                since[name] = max(seen, at - LATE_MAX)
        return _News(at, deltas, since, listed)

    def _changed(self, news: _News) -> Iterator[Event]:
        asked = set[str]()
        for one in self._shapes:
            name = one.table.name
            delta = news.deltas.get(name, Delta(frozenset(), frozenset(), ""))
            for condition in self._conditions(one, news):
                for rows in self._pages(one, condition):
                    yield from self._events_of(one, rows)
            named = delta.changed | news.listed.get(name, set())
            while left := sorted((named | set(self._merged.values())) - self._told - asked):
                asked.update(left)
                for keys in batches(left):
                    for rows in self._pages(one, among(one.table.id, keys)):
                        yield from self._events_of(one, rows)
            for key in sorted(delta.gone - self._told):
                yield from self._gone(key, "deleted")
        yield from self._mergers()

    def _conditions(self, one: Shape, news: _News) -> Iterator[str]:
        """Whose rows are to be read, where nobody names their ids."""
        name = one.table.name
        if name in news.since:
            yield f"modifiedon ge {rfc3339(news.since[name] - OVERLAP)}"
        # A company's new name changes no contact.
        if "_company" in self._joins and name == "contact":
            since = rfc3339(news.at - OVERLAP)
            yield f"statecode eq 0 and parentcustomerid_account/modifiedon ge {since}"
        if self._consents is not None:
            for found in self._consents.changed(news.at - OVERLAP):
                for some in batches(sorted(set(found)), ADDRESSES_IN):
                    for column in ADDRESSES:
                        yield f"statecode eq 0 and {among(column, some)}"

    # Both

    def _pages(self, one: Shape, condition: str) -> Iterator[list[Row]]:
        table = one.table
        return pages(
            self._api, table.path, one.select(condition), rows_max=one.rows_max,
            annotations=one.annotations, needs=needs(table.name),
        )  # fmt: skip

    def _events_of(self, one: Shape, rows: Sequence[Row], *, full: bool = False) -> Iterator[Event]:
        """Records and tombstones at once; merges and conversions are gathered. full: a key comes once by itself."""
        live = []
        for row in rows:
            key, state = ident(row.get(one.table.id)), row.get("statecode")
            if type(state) is not int:
                raise SourceError(
                    f"Dynamics 365: a row of {one.table.name} without a state (statecode)",
                    hint="Nothing is lost: the next run reads it anew",
                )
            if not full:
                if key in self._told:
                    continue
                self._told.add(key)
            self._waters[one.table.name].see(parse_time(row.get("modifiedon")))
            master = row.get("_masterid_value")
            if row.get("merged") is True and master:
                self._merged[key] = ident(master)
                if not full:
                    yield from self._further_gone(key)
            elif state == 0:
                live.append((key, row))
            elif full:
                continue  # who does not come is gone
            elif one.table.name == "lead" and state == QUALIFIED:
                self._qualified.add(key)  # told at the end, when its contact is known
            else:
                yield from self._gone(key, "archived")
        yield from self._records(one, live, full=full)

    def _records(
        self, one: Shape, live: Sequence[tuple[str, Row]], *, full: bool
    ) -> Iterator[Event]:
        owners: Mapping[str, Mapping[str, Any]] = {}
        if "_owner" in self._joins:
            owners = self._owners.of([row for _, row in live])
        name = one.table.name
        mine = [member for member in self._members if member.table == name]
        for key, row in live:
            fields = one.fields(row)
            owner = owners.get(str(row.get(OWNER) or "").lower())
            if owner is not None:
                fields["_owner"] = owner
            if self._consents is not None:
                refused = opted_out(row, self._consents)
                if refused is not None:
                    fields[OPTED_OUT] = refused
            if "_lists" in self._joins:
                packed = lists.packed(key)
                found = {member.name for member in mine if member.holds(packed)}
                fields["_lists"] = sorted(found)
            lead = qualified_lead(row)
            if lead is not None:
                self._merged.setdefault(lead, key)
            yield Record(key, fields, f"{name} {key}")
            if self._wishes.all_emails:
                yield from _further(key, fields, row, name, full=full)

    def _gone(self, key: str, kind: Any) -> Iterator[Event]:
        yield Tombstone(key, kind)
        yield from self._further_gone(key)

    def _further_gone(self, key: str) -> Iterator[Event]:
        if self._wishes.all_emails:
            yield from (Tombstone(f"{key}#{number}") for number in FURTHER)

    def _mergers(self) -> Iterator[Event]:
        """Each loser with the one that is left at the end: A into B, and B into C, makes A into C."""
        for loser in self._merged:
            winner, steps = self._merged[loser], 0
            while winner in self._merged and steps < len(self._merged):
                winner, steps = self._merged[winner], steps + 1
            if winner != loser:
                yield Merged(loser, winner)
        for key in sorted(self._qualified - self._merged.keys()):
            yield from self._gone(key, "archived")

    # What there is, and what may be read

    def _table(self, name: str) -> Table:
        if name not in self._tables:
            raise SourceError(
                f"Dynamics 365: this environment has no table {name}",
                hint="Leave out what needs it, or install the app that brings it",
            )
        return self._tables[name]

    def _read_lists(self) -> list[Members]:
        try:
            return lists.members(self._api, self._table(LISTS), self._people, self._wishes.lists)
        except lists.NotRunnable:
            if self._request.fields is not None:
                raise
            self._joins -= {"_lists"}  # nobody asked for them by name
            return []

    def _can_join(self, join: str) -> bool:
        if self._request.fields is not None:
            return join in self._request.fields
        name = JOINED[join]  # nobody asked for it by name: what cannot be read is left out
        if name not in self._tables:
            return join == OPTED_OUT
        try:
            one_row(self._api, self._tables[name])
        except SourceDenied:
            return False
        return True


FURTHER = {number: name for number, name in enumerate(ADDRESSES, 1) if number > 1}


def one_row(api: Api, table: Table) -> None:
    """Ask for one id. Raises SourceDenied."""
    api.get(table.path, [("$select", table.id), ("$top", "1")], needs=needs(table.name))


def _further(
    key: str, fields: Mapping[str, Any], row: Row, name: str, *, full: bool
) -> Iterator[Event]:
    """A record of each further address, with all the other values; who has none any more, is gone."""
    seen = {str(row.get(ADDRESSES[0]) or "").strip().lower()}
    for number, column in FURTHER.items():
        address = str(row.get(column) or "").strip()
        if address and address.lower() not in seen:
            seen.add(address.lower())
            place = f"{name} {key}, address {number}"
            yield Record(f"{key}#{number}", {**fields, ADDRESSES[0]: address}, place)
        elif not full:
            yield Tombstone(f"{key}#{number}")
