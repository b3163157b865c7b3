"""What stands in other tables: the records that links lead to, and whose cells they show in."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from connectors.airtable.cells import UNKNOWN, linked_ids, reader
from connectors.airtable.schema import Base, Column, Table
from connectors.airtable.vendor import BATCH_IDS, among, changed_since, records
from syncd.http import Api, Lookup, domain_of

BY_KIND = {"email": "email", "website": "url"}  # part of a joined record -> the kind of its column


class Linked:
    """The records behind one link: their names, and what else is joined of them."""

    def __init__(self, api: Api, base: Base, table: Table) -> None:
        self._api, self._path = api, base.path(table)
        self.columns = {table.primary: table.columns[table.primary]}
        readers = {"name": reader(table.columns[table.primary])}
        for part, kind in BY_KIND.items():
            found = next((one for one in table.columns.values() if one.kind == kind), None)
            if found is not None:
                self.columns[found.id] = found
                readers[part] = reader(found)
        self._readers = readers
        self._lookup = Lookup(self._fetch, batch=BATCH_IDS)

    def of(self, ids: Iterable[str]) -> Mapping[str, Mapping[str, Any] | None]:
        """id -> the parts of the record: id, name, and email, website and domain where the table has such columns."""
        return self._lookup.of(ids)

    def _fetch(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        pages = records(self._api, self._path, list(self.columns), where=among(ids))
        return {row["id"]: self._parts(row) for rows in pages for row in rows}

    def _parts(self, row: Mapping[str, Any]) -> dict[str, Any]:
        values = {part: read(row["fields"]) for part, read in self._readers.items()}
        known = {part: value for part, value in values.items() if value is not UNKNOWN}
        if "website" in known:
            known["domain"] = domain_of(known["website"])
        return {"id": row["id"], **known}


def whose_links_changed(
    api: Api, base: Base, links: Iterable[Column], since: datetime
) -> Iterator[list[str]]:
    """The ids of the records in which changed records of linked tables show, in batches."""
    for link in links:
        table = base.linked(link)
        back = str(link.options.get("inverseLinkFieldId"))
        if table is None:
            continue
        for rows in records(api, base.path(table), [back], where=changed_since(since)):
            ids = [one for row in rows for one in linked_ids(row["fields"].get(back))]
            for start in range(0, len(ids), BATCH_IDS):
                yield ids[start : start + BATCH_IDS]
