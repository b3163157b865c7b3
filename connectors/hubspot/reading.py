"""One read of HubSpot's contacts: everybody, or what was changed, archived, merged or put into a list since a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from connectors.hubspot.lists import Members, all_members
from connectors.hubspot.vendor import (
    CONTACTS,
    READ_COMPANIES,
    READ_CONTACTS,
    READ_OWNERS,
    SEARCH,
    pages,
    properties,
    rows_of,
)
from syncd.connector import Checkpoint, Event, Merged, Record, Request, Resync, Tombstone
from syncd.errors import SourceError
from syncd.http import Api, HighWater, Lookup, parse_time, read_cursor, write_cursor

VERSION = 1  # of the cursor
PAGE_ROWS, SEARCH_ROWS, BATCH_IDS = 100, 200, 100  # the largest that are allowed
QUERY_CHARS_MAX = 12_000  # properties in a URL; with more, each page is read by its ids
OVERLAP = timedelta(minutes=10)  # the search shows a change only after a while
MERGED, CHANGED = "hs_merged_object_ids", "lastmodifieddate"


class Reading:
    """One read."""

    def __init__(
        self,
        api: Api,
        search: Api,
        request: Request,
        *,
        all_emails: bool,
        lists: tuple[str, ...] | None,
    ) -> None:
        self._api, self._search, self._request = api, search, request
        self._all_emails, self._lists = all_emails, lists
        kinds = {one["name"]: one.get("type") for one in properties(api)}
        wanted = set(kinds) if request.fields is None else request.fields & set(kinds)
        self._shown = sorted(wanted)
        also = {
            "email",
            "hs_additional_emails",
            MERGED,
            CHANGED,
            "associatedcompanyid",
            "hubspot_owner_id",
        }
        self._asked = ",".join(sorted(wanted | also & set(kinds)))
        self._kinds = kinds
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._owners: Mapping[str, Mapping[str, Any]] | None = None
        self._members: list[Members] = []
        self._began = api.server_time()

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        parts = None if self._request.cursor is None else read_cursor(self._request.cursor, VERSION)
        since = parse_time(parts.get("since")) if parts else None
        if self._wants("_lists"):
            before = parts.get("lists") if parts else None
            cutoff = self._began - OVERLAP
            self._members = list(all_members(self._api, self._lists, before or {}, cutoff))
        reason = self._reason_to_start_anew(parts, since)
        water = HighWater(began=self._began, since=None if reason else since)
        if since is None or reason:
            if self._request.cursor is not None:
                yield Resync(reason)
            yield from self._everybody(water)
        else:
            yield from self._changed(since - OVERLAP, water)
        reached = water.reached()
        if reached is not None:
            lists = {one.id: one.summary for one in self._members}
            yield Checkpoint(write_cursor(VERSION, since=reached, lists=lists))

    def _reason_to_start_anew(self, parts: Mapping[str, Any] | None, since: datetime | None) -> str:
        if since is None:
            return "the cursor is of no use"
        if not self._wants("_lists") or parts is None:
            return ""
        before = parts.get("lists") or {}
        gone = set(before) - {one.id for one in self._members}
        if gone or any(one.lost for one in self._members):
            return "people have left a list, or a list has gone"
        return ""

    def _everybody(self, water: HighWater) -> Iterator[Event]:
        by_id = len(self._asked) > QUERY_CHARS_MAX
        query: dict[str, str | int] = {"limit": PAGE_ROWS, "archived": "false"}
        if not by_id:
            query["properties"] = self._asked
        for rows in pages(self._api, CONTACTS, query, needs=READ_CONTACTS):
            if by_id:
                yield from self._by_ids([row["id"] for row in rows], water)
            else:
                yield from self._records(rows, water)

    def _changed(self, since: datetime, water: HighWater) -> Iterator[Event]:
        """Archived first: the search learns later who is gone, and a key comes once."""
        told: set[int] = set()
        query: dict[str, str | int] = {"limit": PAGE_ROWS, "archived": "true", "properties": "email"}
        for rows in pages(self._api, CONTACTS, query, needs=READ_CONTACTS):
            for row in rows:
                archived = parse_time(row.get("archivedAt"))
                if archived is None or archived >= since:
                    told.add(int(row["id"]))
                    yield Tombstone(row["id"])
        for rows in self._hits(since):
            fresh = [row for row in rows if int(row["id"]) not in told]
            told.update(int(row["id"]) for row in fresh)
            yield from self._records(fresh, water)
        joined = {key for one in self._members for key in one.changed} - told
        yield from self._by_ids([str(key) for key in sorted(joined)], None)

    def _hits(self, since: datetime) -> Iterator[list[dict[str, Any]]]:
        """The contacts that were changed from `since` until the read began, by id: a fixed window has no moving pages and no limit."""
        last = 0
        while True:
            filters = [
                {"propertyName": CHANGED, "operator": "GTE", "value": _milliseconds(since)},
                {"propertyName": CHANGED, "operator": "LTE", "value": _milliseconds(self._began)},
                {"propertyName": "hs_object_id", "operator": "GT", "value": str(last)},
            ]
            found = self._search.post(
                SEARCH,
                {
                    "filterGroups": [{"filters": filters}],
                    "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
                    "properties": self._asked.split(","),
                    "limit": SEARCH_ROWS,
                },
                needs=READ_CONTACTS,
            )
            rows = rows_of(found, SEARCH)
            if not rows:
                return
            ids = [int(row["id"]) for row in rows]
            if ids != sorted(set(ids)) or ids[0] <= last:
                raise SourceError(
                    "HubSpot: the search does not keep to the order of ids",
                    hint="Nothing is lost: the next run reads it anew, or read everything: syncd sync --full",
                )
            last = ids[-1]
            yield rows
            if len(rows) < SEARCH_ROWS and "paging" not in found:
                return

    def _by_ids(self, ids: Sequence[str], water: HighWater | None) -> Iterator[Event]:
        for start in range(0, len(ids), BATCH_IDS):
            inputs = [{"id": key} for key in ids[start : start + BATCH_IDS]]
            body = {"inputs": inputs, "properties": self._asked.split(",")}
            found = self._api.post(f"{CONTACTS}/batch/read", body, needs=READ_CONTACTS)
            yield from self._records(rows_of(found, f"{CONTACTS}/batch/read"), water)

    def _records(
        self, rows: Sequence[Mapping[str, Any]], water: HighWater | None
    ) -> Iterator[Event]:
        pages = [row["properties"] for row in rows]
        companies = self._joined_companies(pages)
        for row, values in zip(rows, pages, strict=True):
            key = str(row["id"])
            if values.get("hs_object_id") not in (None, key):
                raise SourceError(f"HubSpot: contact {key} came with the values of another")
            for loser in str(values.get(MERGED) or "").split(";"):
                if loser.strip() and loser.strip() != key:
                    yield Merged(loser.strip(), key)
            fields = {
                name: _value(values[name], self._kinds[name])
                for name in self._shown
                if name in values
            }
            if self._wants("_company"):
                fields["_company"] = companies.get(str(values.get("associatedcompanyid") or ""))
            if self._wants("_owner"):
                fields["_owner"] = self._owner(values.get("hubspot_owner_id"))
            if self._wants("_lists"):
                fields["_lists"] = [one.name for one in self._members if one.holds(int(key))]
            if water is not None:
                water.see(parse_time(values.get(CHANGED)))
            yield Record(key, fields, f"contact {key}")
            if self._all_emails:
                yield from _further(key, fields, values)

    def _wants(self, join: str) -> bool:
        return self._request.fields is None or join in self._request.fields

    def _joined_companies(self, pages: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        if not self._wants("_company"):
            return {}
        ids = [
            str(values["associatedcompanyid"])
            for values in pages
            if values.get("associatedcompanyid")
        ]
        return self._companies.of(ids)

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        path = "/crm/v3/objects/companies/batch/read"
        body = {"inputs": [{"id": key} for key in ids], "properties": ["name", "domain", "website"]}
        found = {}
        for row in rows_of(self._api.post(path, body, needs=READ_COMPANIES), path):
            values = row["properties"]
            found[str(row["id"])] = {
                "id": str(row["id"]),
                **{name: values.get(name) for name in ("name", "domain", "website")},
            }
        return found

    def _owner(self, key: Any) -> Mapping[str, Any] | None:
        if self._owners is None:
            self._owners = {
                str(row["id"]): {
                    "id": str(row["id"]),
                    "name": f"{row.get('firstName') or ''} {row.get('lastName') or ''}".strip(),
                    "email": row.get("email"),
                }
                for archived in ("false", "true")
                for rows in pages(
                    self._api,
                    "/crm/v3/owners",
                    {"limit": 100, "archived": archived},
                    needs=READ_OWNERS,
                )
                for row in rows
            }
        return self._owners.get(str(key)) if key else None


def _value(text: Any, kind: str | None) -> Any:
    """HubSpot sends text; a condition such as `not hs_email_optout` needs a boolean, `score > 80` a number."""
    if text in (None, ""):
        return None
    if kind == "bool" and text in {"true", "false"}:
        return text == "true"
    if kind == "number":
        try:
            return int(text) if str(text).lstrip("-").isdigit() else float(text)
        except ValueError:
            return text
    return text


def _further(key: str, fields: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Record]:
    """A record of each further address of a contact, with all its other values."""
    for address in str(values.get("hs_additional_emails") or "").split(";"):
        if address.strip():
            mark = blake2b(address.strip().lower().encode(), digest_size=8).hexdigest()
            yield Record(
                f"{key}#{mark}",
                {**fields, "email": address.strip()},
                f"contact {key}, another address",
            )


def _milliseconds(moment: datetime) -> str:
    return str(int(moment.timestamp() * 1000))
