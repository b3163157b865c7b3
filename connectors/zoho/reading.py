"""One read of a module of Zoho CRM: everybody, or what was modified or deleted since a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from connectors.zoho.vendor import (
    BATCH_IDS,
    COQL_ROWS,
    FIELDS_MAX,
    READ_ACCOUNTS,
    READ_COQL,
    READ_FIELDS,
    READ_VIEWS,
    TOKEN_ROWS_MAX,
    deleted,
    pages,
    read_module,
    rows_of,
)
from syncd.connector import Checkpoint, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceError
from syncd.http import Api, HighWater, Lookup, parse_time, read_cursor, write_cursor

VERSION = 1  # of the cursor
OVERLAP = timedelta(minutes=5)
CURSOR_AGE_MAX = timedelta(
    days=50
)  # the recycle bin keeps 60 days [M]: later, a deletion may be told no more
OWN = {"_company": "Account_Name", "_owner": "Owner", "_tags": "Tag"}  # what the joins are made of
CHANGED = "Modified_Time"

Row = Mapping[str, Any]


def module_fields(api: Api, module: str) -> dict[str, str]:
    """API name -> label, as the account's administrators have them now."""
    found = api.get("/crm/v8/settings/fields", {"module": module}, needs=READ_FIELDS)
    rows = rows_of(found, "the fields", "fields")
    return {str(one["api_name"]): str(one.get("field_label") or "") for one in rows}


class Reading:
    """One read."""

    def __init__(
        self, api: Api, request: Request, *, module: str, all_emails: bool, views: tuple[str, ...]
    ) -> None:
        self._api, self._request, self._module = api, request, module
        self._all_emails, self._view_names = all_emails, views
        self._path, self._needs = f"/crm/v8/{module}", read_module(module)
        known = module_fields(api, module)
        self._shown = set(known) if request.fields is None else request.fields & set(known)
        joined = {field for join, field in OWN.items() if self._wants(join)}
        also = {CHANGED, "Email", "Secondary_Email"}
        names = sorted((self._shown | joined | also) & {*known, "Tag", CHANGED} - {"id"})
        first = [CHANGED, *(name for name in names if name != CHANGED)]
        self._parts = [first[at : at + FIELDS_MAX] for at in range(0, len(first), FIELDS_MAX)]
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._began = api.server_time()
        self._views: list[tuple[str, frozenset[str]]] = []

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        parts = None if self._request.cursor is None else read_cursor(self._request.cursor, VERSION)
        since = parse_time(parts.get("since")) if parts else None
        if self._wants("_lists"):
            self._views = list(self._read_views())
        members = _digest(self._views)
        reason = ""
        if since is None:
            reason = "the cursor is of no use"
        elif self._began - since > CURSOR_AGE_MAX:
            reason = "the cursor is older than what Zoho tells of deletions"
        elif parts is not None and parts.get("members") != members:
            reason = "the members of a view are others"
        water = HighWater(began=self._began, since=None if reason else since)
        if since is None or reason:
            if self._request.cursor is not None:
                yield Resync(reason)
            yield from self._everybody(water)
        else:
            yield from self._changed(since - OVERLAP, water)
        reached = water.reached()
        if reached is not None:
            yield Checkpoint(write_cursor(VERSION, since=reached, members=members))

    def _everybody(self, water: HighWater) -> Iterator[Event]:
        query = {"fields": ",".join(self._parts[0]), "sort_by": "id", "sort_order": "asc"}
        count, last = 0, 0
        for rows in pages(self._api, self._path, query, needs=self._needs):
            for row in rows:
                if int(row["id"]) <= last:
                    raise _out_of_order(self._path)
                last = int(row["id"])
            count += len(rows)
            yield from self._records(rows, water)
            if count >= TOKEN_ROWS_MAX:
                break
        if count < TOKEN_ROWS_MAX:
            return
        for ids in self._ids_after(last):
            yield from self._records(self._by_ids(ids, self._parts[0]), water)

    def _ids_after(self, last: int) -> Iterator[list[str]]:
        """All ids beyond what page tokens reach, in batches."""
        while True:
            query = f"select id from {self._module} where id > {last} order by id asc limit 0, {COQL_ROWS}"  # noqa: S608
            found = self._api.post("/crm/v8/coql", {"select_query": query}, needs=READ_COQL)
            ids = [int(row["id"]) for row in rows_of(found, "coql")]
            if not ids:
                return
            if ids != sorted(set(ids)) or ids[0] <= last:
                raise _out_of_order("coql")
            last = ids[-1]
            for at in range(0, len(ids), BATCH_IDS):
                yield [str(key) for key in ids[at : at + BATCH_IDS]]

    def _changed(self, since: datetime, water: HighWater) -> Iterator[Event]:
        """Deletions first: a key comes once. Records that change meanwhile are listed again, and are the next read's."""
        told = set[str]()
        for rows in deleted(self._api, self._module, since):
            for row in rows:
                told.add(str(row["id"]))
                yield Tombstone(str(row["id"]))
        query = {"fields": ",".join(self._parts[0]), "sort_by": CHANGED, "sort_order": "asc"}
        start: datetime | None = since
        while start is not None:
            count, latest, listing = 0, start, start
            start = None
            for rows in pages(self._api, self._path, query, since=listing, needs=self._needs):
                count += len(rows)
                fresh = [row for row in rows if str(row["id"]) not in told]
                told.update(str(row["id"]) for row in fresh)
                yield from self._records(fresh, water)
                times = [parse_time(row.get(CHANGED)) for row in rows]
                latest = max([latest, *(moment for moment in times if moment is not None)])
                if count >= TOKEN_ROWS_MAX:  # no further by tokens: go on from the last time
                    if latest <= listing:
                        raise SourceError(
                            f"Zoho: more than {TOKEN_ROWS_MAX:,} records were modified at one time",
                            hint="Read everything once: syncd sync --full",
                        )
                    start = latest
                    break

    def _records(self, rows: Sequence[Row], water: HighWater) -> Iterator[Event]:
        whole = self._with_all_fields(rows)
        companies = self._joined_companies(whole)
        for row in whole:
            key = str(row["id"])
            water.see(parse_time(row.get(CHANGED)))
            fields = {name: row[name] for name in self._shown if name in row}
            if self._wants("_company") and "Account_Name" in row:
                company = _id(row["Account_Name"])
                fields["_company"] = companies.get(company) if company else None
            if self._wants("_owner") and "Owner" in row:
                owner = row["Owner"] or None
                fields["_owner"] = owner and {n: owner.get(n) for n in ("id", "name", "email")}
            if self._wants("_tags") and "Tag" in row:
                fields["_tags"] = [str(one["name"]) for one in row["Tag"] or ()]
            if self._wants("_lists"):
                fields["_lists"] = [name for name, ids in self._views if key in ids]
            yield Record(key, fields, f"{self._module} {key}")
            if self._all_emails:
                yield from _further(key, fields, row)

    def _with_all_fields(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with the fields beyond the first 50, which take requests of their own."""
        if len(self._parts) == 1:
            return list(rows)
        found: dict[str, dict[str, Any]] = {str(row["id"]): dict(row) for row in rows}
        for part in self._parts[1:]:
            ids = list(found)
            for at in range(0, len(ids), BATCH_IDS):
                for row in self._by_ids(ids[at : at + BATCH_IDS], part):
                    found[str(row["id"])] |= row
        return list(found.values())

    def _by_ids(self, ids: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
        query = {"ids": ",".join(ids), "fields": ",".join(names), "per_page": BATCH_IDS}
        return rows_of(self._api.get(self._path, query, needs=self._needs), self._path)

    def _wants(self, join: str) -> bool:
        return self._request.fields is None or join in self._request.fields

    def _joined_companies(self, rows: Sequence[Row]) -> Mapping[str, Any]:
        if not self._wants("_company") or self._module != "Contacts":
            return {}
        return self._companies.of(_id(row.get("Account_Name")) for row in rows)

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        query = {"ids": ",".join(ids), "fields": "Account_Name,Website", "per_page": BATCH_IDS}
        found = self._api.get("/crm/v8/Accounts", query, needs=READ_ACCOUNTS)
        return {
            str(row["id"]): {
                "id": str(row["id"]), "name": row.get("Account_Name"), "website": row.get("Website"),
            }
            for row in rows_of(found, "/crm/v8/Accounts")
        }  # fmt: skip

    def _read_views(self) -> Iterator[tuple[str, frozenset[str]]]:
        """(name, ids of its members) of each view that is asked for."""
        if not self._view_names:
            return
        path = "/crm/v8/settings/custom_views"
        found = self._api.get(path, {"module": self._module}, needs=READ_VIEWS)
        known: dict[str, str] = {}
        for row in rows_of(found, path, "custom_views"):
            known[str(row.get("display_value") or row.get("name"))] = str(row["id"])
        for name in self._view_names:
            if name not in known:
                raise SourceError(
                    f"Zoho has no view {name!r} of {self._module}",
                    hint="Correct the name in `views`, or share the view with the token's user",
                )
            listing = {"fields": "id", "cvid": known[name]}  # a view has its own order [S3]
            rows = pages(self._api, self._path, listing, needs=self._needs)
            ids = frozenset(str(row["id"]) for page in rows for row in page)
            if len(ids) >= TOKEN_ROWS_MAX:
                raise SourceError(f"Zoho: the view {name!r} has more members than can be listed")
            yield name, ids


def _out_of_order(path: str) -> SourceError:
    return SourceError(
        f"Zoho: {path} does not keep to the order of ids",
        hint="Nothing is lost: the next run reads it anew",
    )


def _digest(views: Sequence[tuple[str, frozenset[str]]]) -> str:
    digest = blake2b(digest_size=12)
    for name, ids in views:
        digest.update(repr((name, sorted(ids))).encode())
    return digest.hexdigest() if views else ""


def _id(lookup: Any) -> str | None:
    return str(lookup["id"]) if isinstance(lookup, dict) and lookup.get("id") else None


def _further(key: str, fields: Row, row: Row) -> Iterator[Record]:
    """A record of the secondary address, with all the other values."""
    address = str(row.get("Secondary_Email") or "").strip()
    if address and address.lower() != str(row.get("Email") or "").strip().lower():
        yield Record(f"{key}#2", {**fields, "Email": address}, f"record {key}, secondary address")
