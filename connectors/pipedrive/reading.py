"""One read of Pipedrive's persons: everybody, or those for whom something has changed since a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from connectors.pipedrive.beside import Row, Statuses, filter_members
from connectors.pipedrive.person_fields import (
    ADDED,
    ALWAYS,
    KEY_CHARS,
    LABELS,
    STATUS,
    UNSUBSCRIBED,
    added_fields,
    person_fields,
)
from connectors.pipedrive.recent import lost_since
from connectors.pipedrive.vendor import (
    BATCH_IDS,
    ORGANIZATIONS,
    READ_CONTACTS,
    READ_USERS,
    USERS,
    pages,
    people,
    rows_of,
)
from syncd.connector import Checkpoint, Event, Merged, Record, Request, Resync, Tombstone
from syncd.http import (
    Api,
    HighWater,
    Lookup,
    are_other,
    digests,
    further_key,
    members_digest,
    parse_time,
    read_cursor,
    rfc3339,
    write_cursor,
)

VERSION = 2  # of the cursor
OVERLAP = timedelta(minutes=5)
# How far before the last read the latest change may lie: else an import that came last is read again in each run, for ever, and
# uses up the day's tokens.
LATE_MAX = timedelta(hours=1)
MERGES_BACK = timedelta(days=7)  # in a full read, which has no time to start from
CUSTOM_MAX = 15  # keys that `custom_fields` may name; with more, all of them come
ORGANIZATIONS_MAX = 20  # whose persons are asked for one by one; for more, all persons are listed


class Reading:
    """One read."""

    def __init__(
        self, api: Api, request: Request, *, all_emails: bool, filters: tuple[str, ...]
    ) -> None:
        self._api, self._request = api, request
        self._all_emails, self._filter_names = all_emails, filters
        self._fields = person_fields(api)
        self._began = api.server_time()
        self._added = sorted(self._wanted_added())
        self._statuses = Statuses(self._added)
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._owners = self._read_owners() if self._wants("_owner") else {}
        self._filters: list[tuple[str, frozenset[int]]] = []

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        cursor = self._request.cursor
        parts = None if cursor is None else read_cursor(cursor, VERSION)
        since, at = (parse_time(parts.get(name)) if parts else None for name in ("since", "at"))
        if self._wants("_lists"):
            self._filters = filter_members(self._api, self._filter_names)
        names, members = digests(self._names()), members_digest(self._filters)
        reason = self._reason_to_start_anew(parts, names, members)
        if parts is None or since is None or at is None or reason:
            if cursor is not None:
                yield Resync(reason or "the cursor is of no use")
            water = HighWater(began=self._began, since=None)
            for rows in people(self._api, self._query()):
                yield from self._page(rows, water)
            lost = self._lost(self._began - MERGES_BACK)
            yield from (event for event in lost if isinstance(event, Merged))
        else:
            since = max(since, at - LATE_MAX)
            water = HighWater(began=self._began, since=since)
            yield from self._changed(since - OVERLAP, at - OVERLAP, water)
        reached = water.reached()
        if reached is not None:
            told = {"names": names, "members": members, "statuses": self._statuses.kept()}
            yield Checkpoint(write_cursor(VERSION, since=reached, at=self._began, **told))

    def _wanted_added(self) -> frozenset[str]:
        """The add-on's fields that are in use. A name in a mapping is asked for in any case: without the add-on that is an error."""
        wanted = self._request.fields
        named = frozenset(ADDED) & (wanted or frozenset())
        if wanted is None or "_opted_out" in wanted:
            there = added_fields(self._api)
            return named | (there if wanted is None else there & {STATUS})
        return named

    def _reason_to_start_anew(
        self, parts: Mapping[str, Any] | None, names: Mapping[str, str], members: str
    ) -> str:
        """What changes no person, and concerns many."""
        if parts is None or not self._statuses.remember(parts.get("statuses")):
            return "the cursor is of no use"
        if are_other(parts.get("names"), names):
            return "a label, a choice or an owner was renamed, or has gone"
        if parts.get("members") != members:
            return "the members of a filter are others"
        return ""

    def _names(self) -> dict[str, str]:
        """What people carry by name and Pipedrive keeps by id: labels, choices, owners."""
        wanted = self._request.fields
        found = {
            f"{key} {option}": label
            for key, field in self._fields.items()
            if wanted is None or key in wanted or (key == LABELS and "_tags" in wanted)
            for option, label in field.options.items()
        }
        owners = {f"owner {key}": repr(sorted(one.items())) for key, one in self._owners.items()}
        return found | owners

    def _changed(self, since: datetime, at: datetime, water: HighWater) -> Iterator[Event]:
        """Who was updated; who belongs to an organization that was; whose status in campaigns is not what was told."""
        organizations = self._changed_organizations(at)
        window = {
            "updated_since": rfc3339(since),
            # Exclusive, and of whole seconds: what changes from now on is the next read's.
            "updated_until": rfc3339(self._began + timedelta(seconds=1)),
        }
        stretches: list[dict[str, str]] = [window]
        if self._added or len(organizations) > ORGANIZATIONS_MAX:
            stretches.append({})
        else:
            stretches += [{"org_id": key} for key in sorted(organizations)]
        told = set[int]()
        for event in self._lost(at):
            if isinstance(event, Tombstone) and "#" not in event.key:
                told.add(int(event.key))
            yield event
        for stretch in stretches:
            for rows in people(self._api, {**self._query(), **stretch}):
                concerned = []
                for row in rows:
                    if int(row["id"]) in told:
                        continue
                    joined = _id(row.get("org_id")) in organizations
                    if stretch is window or joined or not self._statuses.is_as_before(row):
                        told.add(int(row["id"]))
                        concerned.append(row)
                    else:
                        self._statuses.note(row)
                yield from self._page(concerned, water)

    def _lost(self, at: datetime) -> Iterator[Event]:
        """Who is gone, as far as that is told; who was merged hands on an opt-out."""
        lost = lost_since(self._api, at)
        yield from (Merged(str(loser), str(winner)) for loser, winner in lost.into.items())
        for key, addresses in lost.gone.items():
            yield Tombstone(str(key))
            if self._all_emails:
                yield from (Tombstone(further_key(str(key), one)) for one in addresses)

    def _changed_organizations(self, at: datetime) -> set[str]:
        if not self._wants("_company"):
            return set()
        query = {"updated_since": rfc3339(at), "sort_by": "id", "sort_direction": "asc"}
        return {str(row["id"]) for rows in pages(self._api, ORGANIZATIONS, query) for row in rows}

    def _query(self) -> dict[str, str]:
        query = {}
        wanted = self._request.fields
        if wanted is not None:
            custom = sorted(key for key in wanted if len(key) == KEY_CHARS)
            if 0 < len(custom) <= CUSTOM_MAX:
                query["custom_fields"] = ",".join(custom)
        if self._added:
            query["include_fields"] = ",".join(self._added)
        return query

    def _page(self, rows: Sequence[Row], water: HighWater) -> Iterator[Event]:
        companies: Mapping[str, Any] = {}
        if self._wants("_company"):
            companies = self._companies.of(_id(row.get("org_id")) for row in rows)
        for row in rows:
            water.see(parse_time(row.get("update_time")))
            key = str(row["id"])
            further = list(_further(key, row)) if self._all_emails else []
            if row.get("is_deleted"):  # listed or not [?]
                yield from map(Tombstone, [key, *(one for one, _ in further)])
                continue
            self._statuses.note(row)
            fields = self._values(row)
            if self._wants("_company"):
                company = _id(row.get("org_id"))
                fields["_company"] = companies.get(company) if company else None
            if self._wants("_owner"):
                fields["_owner"] = self._owners.get(_id(row.get("owner_id")) or "")
            yield Record(key, fields, f"person {key}")
            for one, address in further:
                yield Record(one, {**fields, "_email": address}, f"person {key}, another address")

    def _values(self, row: Row) -> dict[str, Any]:
        """The person's own values, custom fields at the top, and what is put together of them.

        Pipedrive's own fields stay as the API has them: a label of `marketing_status` is in the user's language.
        """
        found = {name: value for name, value in row.items() if name in ALWAYS}
        for name in ADDED:
            if found.get(name) is None:  # not told: not known
                found.pop(name, None)
        for name, value in {**row, **(row.get("custom_fields") or {})}.items():
            if name in self._fields and name not in ALWAYS:
                found[name] = self._fields[name].shown(value)
        labels = self._fields.get(LABELS)
        if LABELS in row and (labels or not row[LABELS]):
            found["_tags"] = [str(labels.shown(one)) for one in row[LABELS] or ()] if labels else []
        status = row.get(STATUS)
        if status is not None or STATUS not in self._added:  # asked for and not told: not known
            found["_opted_out"] = status == UNSUBSCRIBED
        for name, origin in (("_email", "emails"), ("_phone", "phones")):
            if origin in row:
                found[name] = _primary(row[origin])
        if self._filter_names and self._wants("_lists"):
            found["_lists"] = [name for name, ids in self._filters if int(row["id"]) in ids]
        wanted = self._request.fields
        return found if wanted is None else {n: v for n, v in found.items() if n in wanted}

    def _wants(self, join: str) -> bool:
        if join == "_lists" and not self._filter_names:
            return False
        return self._request.fields is None or join in self._request.fields

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        query: dict[str, str | int] = {"ids": ",".join(ids), "limit": BATCH_IDS}
        found = self._api.get(ORGANIZATIONS, query, needs=READ_CONTACTS)
        return {
            str(row["id"]): {
                "id": str(row["id"]),
                **{name: row[name] for name in ("name", "website") if name in row},
            }
            for row in rows_of(found, ORGANIZATIONS)
        }

    def _read_owners(self) -> dict[str, dict[str, Any]]:
        return {
            str(row["id"]): {
                "id": str(row["id"]), "name": row.get("name"), "email": row.get("email"),
            }
            for row in rows_of(self._api.get(USERS, needs=READ_USERS), USERS)
        }  # fmt: skip


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


def _further(key: str, row: Row) -> Iterator[tuple[str, str]]:
    """(key, address) of each further address of a person."""
    told = {str(_primary(row.get("emails")) or "").strip().lower()}
    for entry in row.get("emails") or ():
        address = str(entry.get("value") or "").strip()
        if not address or address.lower() in told:
            continue
        told.add(address.lower())
        yield further_key(key, address), address
