"""One read of a table: every record, or those for which something has changed since a cursor."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from connectors.airtable.cells import UNKNOWN, Cells, linked_ids, person_of, reader
from connectors.airtable.linked import Linked, whose_links_changed
from connectors.airtable.schema import (
    LINK,
    SYNCED,
    Base,
    Column,
    Table,
    Untold,
    definitions,
)
from connectors.airtable.vendor import Row, among, changed_since, records
from syncd.connector import Checkpoint, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api, are_other, members_digest, parse_time, read_cursor, write_cursor

VERSION = 1  # of the cursor
OVERLAP = timedelta(minutes=5)
JOINED = frozenset({"_company", "_owner", "_email", "_lists"})
PEOPLE = frozenset({"singleCollaborator", "multipleCollaborators", "createdBy", "lastModifiedBy"})

Found = Mapping[str, Mapping[str, Any] | None]


class _Anew(Exception):
    """Everything must be read; its text says why."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options that shape a read: names of columns and of views."""

    emails: tuple[str, ...] = ()
    company: str | None = None
    owner: str | None = None
    views: tuple[str, ...] = ()

    def joined(self, table: Table) -> dict[str, Column]:
        """The columns behind `_company` and `_owner`. Raises SourceError."""
        found = {}
        for join, name in (("_company", self.company), ("_owner", self.owner)):
            if name is None:
                continue
            found[join] = table.column(name)
            if found[join].kind not in {LINK, *PEOPLE}:
                raise SourceError(
                    f"Airtable: the column {name!r} holds neither links nor collaborators",
                    hint=f"A column of any other kind needs no option: map it under its own name, and leave out {join[1:]}",
                )
        return found


class Reading:
    """One read."""

    def __init__(
        self, api: Api, request: Request, base: Base, table: Table, wishes: Wishes
    ) -> None:
        self._api, self._request, self._base, self._table = api, request, base, table
        self._path, self._began = base.path(table), api.server_time()
        own = [
            one
            for one in table.columns.values()
            if one.name not in JOINED and self._wants(one.name)
        ]
        joined = {join: one for join, one in wishes.joined(table).items() if self._wants(join)}
        emails = [table.column(name) for name in wishes.emails]
        # Who has a further address is known from the columns, whether or not the address itself is in use.
        first = emails[:1] if self._wants("_email") or len(emails) > 1 else []
        used = [*own, *joined.values(), *first, *emails[1:]]
        self._columns = {one.id: one for one in used}
        self._links = {
            key: Linked(api, base, linked)
            for key, one in self._columns.items()
            if one.kind == LINK and not one.is_broken and (linked := base.linked(one)) is not None
        }
        self._readers = [(one.name, reader(one)) for one in own if one.id not in self._links]
        self._named = [one for one in own if one.id in self._links]
        self._joined, self._emails = joined, [(one.id, reader(one)) for one in emails]
        views = wishes.views if self._wants("_lists") else ()
        self._views = {name: table.view(name) for name in views}
        self._members: dict[str, set[str]] = {}
        self._behind: list[Column] = []

    def events(self) -> Iterator[Event]:
        """Everything that this read tells. Where changes are not told there is no cursor: each read is a whole one."""
        cursor, untold = self._request.cursor, self._trace()
        self._members = {name: self._ids_in(key) for name, key in self._views.items()}
        told = {"columns": self._definitions(), "members": members_digest(self._members.items())}
        changes: Iterable[list[Row]] | None = None
        if cursor is not None:
            try:
                changes = self._changes(cursor, told, untold)
            except _Anew as anew:
                yield Resync(str(anew))
        whole = changes is None
        for rows in records(self._api, self._path, self._asked()) if changes is None else changes:
            yield from self._records(rows, renewed=not whole)
        if not untold:
            yield Checkpoint(write_cursor(VERSION, since=self._began, **told))

    def _trace(self) -> str:
        """Find the links behind the columns in use; or say why changes are not told."""
        if any(one.kind == SYNCED for one in self._table.columns.values()):
            return "the table is synced from elsewhere, which changes records untold"
        links = set[str]()
        try:
            for one in self._columns.values():
                links |= self._base.links_behind(self._table, one)
        except Untold as untold:
            return str(untold)
        self._behind = [self._table.columns[key] for key in sorted(links)]
        return ""

    def _definitions(self) -> dict[str, str]:
        found = definitions(self._columns)
        for linked in self._links.values():
            found |= definitions(linked.columns)
        return found

    def _changes(self, cursor: str, told: Mapping[str, Any], untold: str) -> Iterator[list[Row]]:
        """What has changed since the cursor. Raises _Anew, before anything is read, where that is not told."""
        parts = read_cursor(cursor, VERSION) or {}
        since = parse_time(parts.get("since"))
        if untold:
            raise _Anew(untold)
        if since is None:
            raise _Anew("the cursor is of no use")
        if are_other(parts.get("columns"), told["columns"]):
            raise _Anew("a column, or a choice of one, was renamed or defined otherwise")
        if parts.get("members") != told["members"]:
            raise _Anew("the members of a view are others")
        where = changed_since(since - OVERLAP)
        pages = records(self._api, self._path, self._asked(), where=where)
        try:
            first = next(pages, [])
        except SourceRefused as error:
            raise _Anew(f"Airtable does not say what has changed ({error.why})") from None
        return self._changed(chain([first], pages), since - OVERLAP)

    def _changed(self, pages: Iterable[list[Row]], since: datetime) -> Iterator[list[Row]]:
        """Records that were changed, then those in which changed records of other tables show."""
        told = set[str]()
        for rows in pages:
            told.update(row["id"] for row in rows)
            yield rows
        for ids in whose_links_changed(self._api, self._base, self._behind, since):
            left = [one for one in dict.fromkeys(ids) if one not in told]
            told.update(left)
            if left:
                yield from records(self._api, self._path, self._asked(), where=among(left))

    def _asked(self) -> list[str]:
        """The ids of the columns to ask for; the smallest, where no cell is in use."""
        return list(self._columns) or [self._table.primary]

    def _ids_in(self, view: str) -> set[str]:
        where = [("view", view)]
        pages = records(self._api, self._path, [self._table.primary], where=where)
        return {row["id"] for rows in pages for row in rows}

    def _records(self, rows: Sequence[Row], *, renewed: bool) -> Iterator[Event]:
        """renewed: these records may have been there before with another address, which is gone then."""
        found = self._linked(rows)
        for row in rows:
            key, cells = row["id"], row["fields"]
            fields = {name: read(cells) for name, read in self._readers}
            fields |= {one.name: _names(one, cells, found[one.id]) for one in self._named}
            fields |= {join: self._part(one, cells, found) for join, one in self._joined.items()}
            if self._views:
                fields["_lists"] = [name for name, ids in self._members.items() if key in ids]
            addresses = [(column, read(cells)) for column, read in self._emails]
            if addresses and self._wants("_email"):
                fields["_email"] = addresses[0][1]
            known = {name: value for name, value in fields.items() if value is not UNKNOWN}
            yield Record(key, known, f"record {key}")
            yield from self._further(key, known, addresses, renewed=renewed)

    def _further(
        self,
        key: str,
        fields: Mapping[str, Any],
        addresses: Sequence[tuple[str, Any]],
        *,
        renewed: bool,
    ) -> Iterator[Event]:
        """A person of its own for each address beyond the first, by its column; each address once."""
        told = {_plain(address) for _, address in addresses[:1]}
        for column, address in addresses[1:]:
            if _plain(address) and _plain(address) not in told:
                told.add(_plain(address))
                other = {"_email": address} if self._wants("_email") else {}
                place = f"record {key}, another address"
                yield Record(f"{key}#{column}", {**fields, **other}, place)
            elif renewed and address is not UNKNOWN:
                yield Tombstone(f"{key}#{column}")

    def _linked(self, rows: Sequence[Row]) -> dict[str, Found]:
        """link -> what it leads to from these records."""
        return {
            key: linked.of(one for row in rows for one in linked_ids(row["fields"].get(key)))
            for key, linked in self._links.items()
        }

    def _part(self, column: Column, cells: Cells, found: Mapping[str, Found]) -> Any:
        if column.kind in PEOPLE:
            return person_of(cells.get(column.id))
        if column.id not in found:
            return UNKNOWN
        ids = linked_ids(cells.get(column.id))
        return found[column.id].get(ids[0]) if ids else None

    def _wants(self, name: str) -> bool:
        return self._request.fields is None or name in self._request.fields


def _names(column: Column, cells: Cells, found: Found) -> Any:
    """The names of linked records, as Airtable shows them: one, where the column is for one."""
    parts = [found.get(one) for one in linked_ids(cells.get(column.id))]
    if any(one is not None and "name" not in one for one in parts):
        return UNKNOWN
    names = [one["name"] for one in parts if one is not None and one["name"] not in (None, "")]
    if column.options.get("prefersSingleRecordLink") and len(names) < 2:
        return names[0] if names else None
    return names


def _plain(address: Any) -> str:
    return address.strip().lower() if isinstance(address, str) else ""
