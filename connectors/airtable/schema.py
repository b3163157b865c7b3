"""What a base consists of, and which changes of it Airtable tells.

A record's time of change moves when somebody edits one of its cells, and not when a computed cell gets another value [S1]. A formula
over cells of its own record changes with these. A lookup, rollup, count or link shows other records: their changes are asked for, and
whose cells they stand in is told by the column that links back. What else is computed (of the present time, through two tables, by
an AI, by a sync from elsewhere) changes untold: with such a column in use each read is a whole one.

Source: airtable.com/developers/web/api, "Get base schema" and "Field types and cell values"; S1 as in `vendor`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from connectors.airtable.vendor import READ_SCHEMA, rows_of
from syncd.errors import SourceError
from syncd.http import Api, digests

LINK, LOOKUP = "multipleRecordLinks", "multipleLookupValues"
THROUGH_A_LINK = frozenset({LOOKUP, "rollup", "count"})
# Cells that somebody fills in, or that never change by themselves. A kind that is not known here may be computed.
TOLD = frozenset({
    "autoNumber", "barcode", "checkbox", "createdBy", "createdTime", "currency", "date", "dateTime", "duration", "email",
    "lastModifiedBy", "lastModifiedTime", "multilineText", "multipleAttachments", "multipleCollaborators",
    "multipleSelects", "number", "percent", "phoneNumber", "rating", "richText", "singleCollaborator", "singleLineText",
    "singleSelect", "url",
})  # fmt: skip
SYNCED = "externalSyncSource"  # a table with such a column is filled by a sync from elsewhere
LOOKS = (
    "choices",
    "color",
    "icon",
)  # of a column's options: what changes no value, or is told apart

_OF_NOW = re.compile(r"\b(NOW|TODAY)\s*\(", re.IGNORECASE)


class Untold(Exception):
    """Changes of a column are not told; its text says why."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column. kind, options: as Airtable calls and describes them."""

    id: str
    name: str
    kind: str
    options: Mapping[str, Any]

    @property
    def is_broken(self) -> bool:
        """Whether its formula or its link has gone, so that its cells say nothing."""
        return self.options.get("isValid") is False

    @property
    def shows(self) -> str:
        """The kind of its cells: of a computed column that of the result."""
        result = self.options.get("result")
        return str(result.get("type") or "") if isinstance(result, dict) else self.kind


@dataclass(frozen=True, slots=True)
class Table:
    """One table. columns: by id, in their order. views: id -> name."""

    id: str
    name: str
    primary: str
    columns: Mapping[str, Column]
    views: Mapping[str, str]

    def column(self, name: str) -> Column:
        """The column of this name. Raises SourceError."""
        for one in self.columns.values():
            if one.name == name:
                return one
        raise SourceError(
            f"Airtable: the table {self.name!r} has no column {name!r}",
            hint="Correct the name in the source's options; columns are written as Airtable shows them",
        )

    def view(self, name: str) -> str:
        """The id of the view of this name. Raises SourceError."""
        found = [key for key, one in self.views.items() if one == name]
        if len(found) != 1:
            raise SourceError(
                f"Airtable: the table {self.name!r} has {len(found) or 'no'} view"
                f"{'s' if found else ''} {name!r}",
                hint="Correct the name in `views`; rename one of two; personal views of others are hidden",
            )
        return found[0]


@dataclass(frozen=True, slots=True)
class Base:
    """One base. id: app... tables: by id."""

    id: str
    tables: Mapping[str, Table]

    def table(self, name: str) -> Table:
        """The table of this name or id. Raises SourceError."""
        found = self.tables.get(name) or next(
            (one for one in self.tables.values() if one.name == name), None
        )
        if found is None:
            names = ", ".join(repr(one.name) for one in self.tables.values()) or "none"
            raise SourceError(
                f"Airtable: the base has no table {name!r}", hint=f"Its tables are {names}"
            )
        return found

    def path(self, table: Table) -> str:
        """Where a table's records are listed."""
        return f"/v0/{self.id}/{table.id}"

    def linked(self, column: Column) -> Table | None:
        """The table that a link leads to."""
        return self.tables.get(str(column.options.get("linkedTableId")))

    def links_behind(self, table: Table, column: Column) -> set[str]:
        """The links of this table through which other records show in a column. Raises Untold."""
        return _Tracing(self, table).links(column, ())


def read_base(api: Api, base: str) -> Base:
    """The base as it is now. Raises SourceError."""
    path = f"/v0/meta/bases/{base}/tables"
    found = rows_of(api.get(path, needs=READ_SCHEMA), path, "tables")
    try:
        tables = [_table(row) for row in found]
    except (LookupError, TypeError, AttributeError):
        raise SourceError(
            f"Airtable: {path} does not describe tables as it should",
            hint="Check base_url: is this Airtable's API?",
        ) from None
    return Base(base, {one.id: one for one in tables})


def _table(row: Mapping[str, Any]) -> Table:
    columns = [
        Column(str(one["id"]), str(one["name"]), str(one["type"]), one.get("options") or {})
        for one in row["fields"]
    ]
    return Table(
        str(row["id"]),
        str(row["name"]),
        str(row["primaryFieldId"]),
        {one.id: one for one in columns},
        {str(one["id"]): str(one["name"]) for one in row.get("views") or ()},
    )


@dataclass(frozen=True, slots=True)
class _Tracing:
    base: Base
    table: Table
    far: bool = field(default=False)  # whether this table is a linked one already

    def links(self, column: Column, before: tuple[str, ...]) -> set[str]:
        """See `Base.links_behind`. before: the columns that led here."""
        kind, options = column.kind, column.options
        if column.is_broken or kind in TOLD:
            return set()
        if column.id in before:
            raise Untold(f"{column.name!r} is computed from itself")
        if kind == "formula":
            if _OF_NOW.search(str(options.get("formula") or "")):
                raise Untold(f"{column.name!r} is computed from the present time")
            return self._behind(column, before)
        if kind == LINK:
            linked = self._linked(column)
            return self._through(column, linked.columns.get(linked.primary))
        if kind in THROUGH_A_LINK:
            link = self.table.columns.get(str(options.get("recordLinkFieldId")))
            if link is None or link.kind != LINK:
                raise Untold(f"{column.name!r} shows what nobody can name")
            shown = self._linked(link).columns.get(str(options.get("fieldIdInLinkedTable")))
            also = self._behind(column, before) if options.get("referencedFieldIds") else set()
            return self._through(link, shown) | also
        raise Untold(f"{column.name!r} is computed in a way that tells no changes ({kind})")

    def _behind(self, column: Column, before: tuple[str, ...]) -> set[str]:
        referenced = column.options.get("referencedFieldIds")
        found = set[str]()
        if not isinstance(referenced, list):
            raise Untold(f"{column.name!r} does not say what it is computed from")
        for one in referenced:
            other = self.table.columns.get(str(one))
            if other is not None:
                found |= self.links(other, (*before, column.id))
        return found

    def _linked(self, link: Column) -> Table:
        linked = self.base.linked(link)
        if linked is None or str(link.options.get("inverseLinkFieldId")) not in linked.columns:
            raise Untold(f"the table behind {link.name!r} does not link back")
        return linked

    def _through(self, link: Column, shown: Column | None) -> set[str]:
        if self.far:
            raise Untold(f"{link.name!r} is a link of a linked table")
        if shown is not None:
            _Tracing(self.base, self._linked(link), far=True).links(shown, ())
        return {link.id}


def definitions(columns: Mapping[str, Column]) -> dict[str, str]:
    """What a cursor keeps of columns and their choices: what is renamed, or computed otherwise, changes values and no record."""
    found = {}
    for key, one in columns.items():
        definition = [one.name, one.kind, _without_looks(one.options)]
        found[key] = orjson.dumps(definition, option=orjson.OPT_SORT_KEYS).decode()
        found |= {f"{key} {choice}": name for choice, name in _choices(one.options)}
    return digests(found)


def _choices(options: Any) -> Iterator[tuple[str, str]]:
    if not isinstance(options, dict):
        return
    for one in options.get("choices") or ():
        yield str(one.get("id")), str(one.get("name"))
    result = options.get("result")
    if isinstance(result, dict):
        yield from _choices(result.get("options"))


def _without_looks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_looks(one) for name, one in value.items() if name not in LOOKS}
    return value
