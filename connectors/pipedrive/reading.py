"""One read of Pipedrive's persons: everybody, or those that were updated since a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from connectors.pipedrive.vendor import (
    BATCH_IDS,
    FILTERS,
    ORGANIZATIONS,
    PERSON_FIELDS,
    PERSONS,
    READ_CONTACTS,
    READ_USERS,
    USERS,
    pages,
    rows_of,
)
from syncd.connector import Checkpoint, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceError
from syncd.http import Api, HighWater, Lookup, parse_time, read_cursor, rfc3339, write_cursor

VERSION = 1  # of the cursor
OVERLAP = timedelta(minutes=5)
CUSTOM_MAX = 15  # keys that `custom_fields` may name; with more, all of them come
KEY_CHARS = 40  # of a custom field
ALWAYS = (
    "id", "name", "first_name", "last_name", "emails", "phones", "org_id", "owner_id", "label_ids",
    "add_time", "update_time", "visible_to", "picture_id", "marketing_status", "doi_status",
)  # fmt: skip
# Sent only with the Campaigns add-on [S1]: asked for where it is used.
ADDED = ("marketing_status", "doi_status")
RENAMED = frozenset(
    {"email", "phone", "label", "im"}
)  # metadata of v1 for what v2 sends under other names


@dataclass(frozen=True, slots=True)
class PersonField:
    """One field of persons. options: id -> label, where it has a choice of values."""

    key: str
    name: str
    options: Mapping[str, str]

    def shown(self, value: Any) -> Any:
        """A value as people see it: labels for ids."""
        if isinstance(value, dict):
            value = value.get("value")
        if not self.options or value is None:
            return value
        if isinstance(value, list):
            return [self.options.get(str(one), str(one)) for one in value]
        return self.options.get(str(value), value)


def person_fields(api: Api) -> dict[str, PersonField]:
    """key -> field. Named field_code and field_name, or key and name as in v1 [?]: both are read."""
    found = {}
    for rows in pages(api, PERSON_FIELDS, {}):
        for row in rows:
            key = str(row.get("field_code") or row.get("key") or "")
            if not key:
                raise SourceError("Pipedrive: a field of persons has no key")
            options = {str(one["id"]): str(one["label"]) for one in row.get("options") or ()}
            name = str(row.get("field_name") or row.get("name") or "")
            if key not in RENAMED:
                found[key] = PersonField(key, name, options)
            elif key == "label":
                found["label_ids"] = PersonField("label_ids", name, options)
    return found


class Reading:
    """One read."""

    def __init__(
        self, api: Api, request: Request, *, all_emails: bool, filters: tuple[str, ...]
    ) -> None:
        self._api, self._request = api, request
        self._all_emails, self._filter_names = all_emails, filters
        self._fields = person_fields(api)
        self._began = api.server_time()
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._owners: Mapping[str, Mapping[str, Any]] | None = None
        self._filters: list[tuple[str, frozenset[int]]] = []

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        parts = None if self._request.cursor is None else read_cursor(self._request.cursor, VERSION)
        since = parse_time(parts.get("since")) if parts else None
        if self._wants("_lists"):
            self._filters = list(self._read_filters())
        members = _digest(self._filters)
        if parts is not None and parts.get("members") != members:
            since = None  # somebody joined or left: joining a filter does not change a person
        if self._request.cursor is not None and since is None:
            yield Resync("the cursor is of no use, or the members of a filter are others")
        water = HighWater(began=self._began, since=since)
        told = set[int]()
        for rows in pages(self._api, PERSONS, self._query(since)):
            fresh = [row for row in rows if int(row["id"]) not in told]
            if since is not None:  # a full listing is by id: nothing comes twice
                told.update(int(row["id"]) for row in fresh)
            yield from self._page(fresh, water)
        reached = water.reached()
        if reached is not None:
            yield Checkpoint(write_cursor(VERSION, since=reached, members=members))

    def _query(self, since: datetime | None) -> dict[str, str | int]:
        query: dict[str, str | int] = {"sort_by": "id", "sort_direction": "asc"}
        if since is not None:
            query["updated_since"] = rfc3339(since - OVERLAP)
            # Exclusive, and of whole seconds: what changes from now on is the next read's.
            query["updated_until"] = rfc3339(self._began + timedelta(seconds=1))
        wanted = self._request.fields
        if wanted is not None:
            custom = sorted(key for key in wanted if len(key) == KEY_CHARS)
            if 0 < len(custom) <= CUSTOM_MAX:
                query["custom_fields"] = ",".join(custom)
            added = [name for name in ADDED if name in wanted]
            if added:
                query["include_fields"] = ",".join(added)
        return query

    def _page(self, rows: Sequence[Mapping[str, Any]], water: HighWater) -> Iterator[Event]:
        companies: Mapping[str, Any] = {}
        if self._wants("_company"):
            companies = self._companies.of(_id(row.get("org_id")) for row in rows)
        for row in rows:
            water.see(parse_time(row.get("update_time")))
            key = str(row["id"])
            if row.get("is_deleted"):  # listed or not [?]
                yield Tombstone(key)
                continue
            fields = self._values(row)
            if self._wants("_company"):
                company = _id(row.get("org_id"))
                fields["_company"] = companies.get(company) if company else None
            if self._wants("_owner"):
                fields["_owner"] = self._owner(_id(row.get("owner_id")))
            yield Record(key, fields, f"person {key}")
            if self._all_emails:
                yield from _further(key, fields, row)

    def _values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The person's own values, custom fields at the top, and what is put together of them."""
        found = {name: value for name, value in row.items() if name in ALWAYS}
        for name, value in {**row, **(row.get("custom_fields") or {})}.items():
            field = self._fields.get(name)
            if field is not None and name != "label_ids" and (name not in found or field.options):
                found[name] = field.shown(value)
        labels = self._fields.get("label_ids")
        if "label_ids" in row:
            found["_tags"] = [
                str(labels.shown(one) if labels else one) for one in row["label_ids"] or ()
            ]
        for name, origin in (("_email", "emails"), ("_phone", "phones")):
            if origin in row:
                found[name] = _primary(row[origin])
        if self._wants("_lists"):
            found["_lists"] = [name for name, ids in self._filters if int(row["id"]) in ids]
        wanted = self._request.fields
        return found if wanted is None else {n: v for n, v in found.items() if n in wanted}

    def _wants(self, join: str) -> bool:
        return self._request.fields is None or join in self._request.fields

    def _read_filters(self) -> Iterator[tuple[str, frozenset[int]]]:
        """(name, ids of its members) of each filter that is asked for."""
        if not self._filter_names:
            return
        known = {
            str(row["name"]): str(row["id"])
            for row in rows_of(self._api.get(FILTERS, {"type": "people"}), FILTERS)
        }
        for name in self._filter_names:
            if name not in known:
                raise SourceError(
                    f"Pipedrive has no filter {name!r} of people that this login can see",
                    hint="Correct the name in `filters`, or share the filter with its user",
                )
            query = {"filter_id": known[name], "sort_by": "id", "sort_direction": "asc"}
            rows = (row for page in pages(self._api, PERSONS, query) for row in page)
            yield name, frozenset(int(row["id"]) for row in rows)

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        query: dict[str, str | int] = {"ids": ",".join(ids), "limit": BATCH_IDS}
        found = self._api.get(ORGANIZATIONS, query, needs=READ_CONTACTS)
        return {
            str(row["id"]): {
                "id": str(row["id"]), "name": row.get("name"), "website": row.get("website"),
            }
            for row in rows_of(found, ORGANIZATIONS)
        }  # fmt: skip

    def _owner(self, key: str | None) -> Mapping[str, Any] | None:
        if self._owners is None:
            self._owners = {
                str(row["id"]): {
                    "id": str(row["id"]), "name": row.get("name"), "email": row.get("email"),
                }
                for row in rows_of(self._api.get(USERS, needs=READ_USERS), USERS)
            }  # fmt: skip
        return self._owners.get(key) if key else None


def _digest(filters: Sequence[tuple[str, frozenset[int]]]) -> str:
    digest = blake2b(digest_size=12)
    for name, ids in filters:
        digest.update(repr((name, sorted(ids))).encode())
    return digest.hexdigest() if filters else ""


def _id(value: Any) -> str | None:
    """An id of v2 is a number; v1 sends an object with the number as its value."""
    if isinstance(value, dict):
        value = value.get("value") or value.get("id")
    return str(value) if value else None


def _primary(entries: Any) -> str | None:
    """The value of the primary entry, else of the first that has one."""
    values = [one for one in entries or () if isinstance(one, dict) and one.get("value")]
    chosen = next((one for one in values if one.get("primary")), values[0] if values else None)
    return str(chosen["value"]) if chosen else None


def _further(key: str, fields: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[Record]:
    """A record of each further address of a person, with all the other values."""
    told = {str(_primary(row.get("emails")) or "").strip().lower()}
    for entry in row.get("emails") or ():
        address = str(entry.get("value") or "").strip()
        if not address or address.lower() in told:
            continue
        told.add(address.lower())
        mark = blake2b(address.lower().encode(), digest_size=8).hexdigest()
        place = f"person {key}, another address"
        yield Record(f"{key}#{mark}", {**fields, "_email": address}, place)
