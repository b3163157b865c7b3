"""One read of a module of Zoho CRM: everybody, or those for whom something has changed since a cursor."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connectors.zoho.beside import (
    tag_digests,
    view_members,
)
from connectors.zoho.listing import ACCOUNTS, Listing, Row, records_by_ids
from connectors.zoho.vendor import (
    BATCH_IDS,
    FIELDS_MAX,
    READ_ACCOUNTS,
    READ_FIELDS,
    Gap,
    rows_of,
)
from syncd.connector import Checkpoint, Event, Record, Request, Resync, Tombstone
from syncd.http import (
    Api,
    HighWater,
    Lookup,
    are_other,
    members_digest,
    pack_ids,
    parse_time,
    read_cursor,
    unpack_ids,
    write_cursor,
)

VERSION = 2  # of the cursor
OVERLAP = timedelta(minutes=5)
# How far before the last read the latest change may lie: else an import that came last is read again in each run, for ever.
LATE_MAX = timedelta(hours=1)
# The recycle bin keeps 60 days [M]: later, a deletion may be told no more.
CURSOR_AGE_MAX = timedelta(days=50)
OWN = {"_company": "Account_Name", "_owner": "Owner", "_tags": "Tag"}  # what the joins are made of
CHANGED, OPT_OUT = "Modified_Time", "Email_Opt_Out"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a module. flag: whether it is true or false."""

    label: str
    flag: bool


@dataclass(frozen=True, slots=True)
class _Cursor:
    """What the last read knew. since: the latest change that it saw; at: when it began; opted_out: whom it told of."""

    since: datetime
    at: datetime
    opted_out: set[str]


def module_fields(api: Api, module: str) -> dict[str, Field]:
    """API name -> field, as the account's administrators have them now."""
    found = api.get("/crm/v8/settings/fields", {"module": module}, needs=READ_FIELDS)
    return {
        str(one["api_name"]): Field(
            str(one.get("field_label") or ""), one.get("data_type") == "boolean"
        )
        for one in rows_of(found, "the fields", "fields")
    }


class Reading:
    """One read."""

    def __init__(
        self, api: Api, request: Request, *, module: str, all_emails: bool, views: tuple[str, ...]
    ) -> None:
        self._api, self._request, self._module = api, request, module
        self._all_emails, self._view_names = all_emails, views
        known = module_fields(api, module)
        self._flags = {name for name, field in known.items() if field.flag} | {OPT_OUT}
        self._shown = set(known) if request.fields is None else request.fields & set(known)
        joined = {field for join, field in OWN.items() if self._wants(join)}
        also = {CHANGED, "Email", "Secondary_Email"}
        names = sorted((self._shown | joined | also) & {*known, "Tag", CHANGED} - {"id"})
        first = [CHANGED, *(name for name in names if name != CHANGED)]
        self._parts = [first[at : at + FIELDS_MAX] for at in range(0, len(first), FIELDS_MAX)]
        self._listing = Listing(api, module, self._parts[0])
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._began = api.server_time()
        self._views: list[tuple[str, frozenset[str]]] = []
        self._opted_out: set[str] = set()  # who is told to have, in this read

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        text = self._request.cursor
        parts = None if text is None else read_cursor(text, VERSION)
        if self._wants("_lists"):
            self._views = view_members(self._api, self._module, self._view_names)
        tags = tag_digests(self._api, self._module) if self._wants("_tags") else {}
        members = members_digest(self._views)
        before = _cursor(parts)
        reason = self._reason_to_start_anew(parts, before, tags, members)
        gone: list[str] = []
        if before is not None and not reason:
            try:
                gone = self._listing.deleted(before.at - OVERLAP)
            except Gap as gap:
                reason = str(gap)
        if before is None or reason:
            if text is not None:
                yield Resync(reason)
            water = HighWater(began=self._began, since=None)
            for rows in self._listing.rows(None, set()):
                yield from self._records(rows, water)
        else:
            since = max(before.since, before.at - LATE_MAX)
            water = HighWater(began=self._began, since=since)
            yield from self._changed(since - OVERLAP, before, gone, water)
        reached = water.reached()
        if reached is not None:
            told = {
                "members": members,
                "tags": tags,
                "opted_out": pack_ids(map(int, self._opted_out)),
            }
            yield Checkpoint(write_cursor(VERSION, since=reached, at=self._began, **told))

    def _reason_to_start_anew(
        self,
        parts: Mapping[str, Any] | None,
        before: _Cursor | None,
        tags: Mapping[str, str],
        members: str,
    ) -> str:
        if parts is None or before is None:
            return "the cursor is of no use"
        if self._began - before.at > CURSOR_AGE_MAX:
            return "the cursor is older than what Zoho tells of deletions"
        if are_other(parts.get("tags"), tags):
            return "a tag was renamed, or has gone"
        if parts.get("members") != members:
            return "the members of a view are others"
        return ""

    def _changed(
        self, since: datetime, before: _Cursor, gone: Sequence[str], water: HighWater
    ) -> Iterator[Event]:
        """Who was deleted first, for a key comes once; then who was modified, then for whom something was beside the record.

        Who is told to be deleted and is there all the same was restored. Who is hidden is asked for after the listing: a server that
        does not heed the question answers with those who are listed.
        """
        told = set(gone)
        restored = set[str]()
        for rows in self._listing.by_ids(sorted(told)):
            restored.update(str(row["id"]) for row in rows)
            yield from self._renewed(rows, water)
        yield from self._gone(sorted(told - restored))
        for rows in self._listing.rows(since, told):
            yield from self._renewed(rows, water)
        hidden = self._listing.hidden(before.at - OVERLAP) - told
        told |= hidden
        yield from self._gone(sorted(hidden))
        if self._wants("_company") and self._module == "Contacts":
            for ids in self._listing.of_changed_accounts(before.at - OVERLAP):
                yield from self._again(ids, told, water)
        if OPT_OUT in self._shown:
            opted_out = self._listing.opted_out()
            yield from self._again(sorted(opted_out - before.opted_out), told, water)
            self._opted_out |= opted_out - told

    def _gone(self, keys: Sequence[str]) -> Iterator[Event]:
        for key in keys:
            yield Tombstone(key)
            if self._all_emails:
                yield Tombstone(_second(key))

    def _again(self, ids: Sequence[str], told: set[str], water: HighWater) -> Iterator[Event]:
        """These records, whenever they were modified."""
        for rows in self._listing.by_ids([key for key in ids if key not in told]):
            told.update(str(row["id"]) for row in rows)
            yield from self._renewed(rows, water)

    def _renewed(self, rows: Sequence[Row], water: HighWater) -> Iterator[Event]:
        """Records that may have been there before with another address, which is gone then."""
        yield from self._records(rows, water)
        if self._all_emails:
            yield from (Tombstone(_second(str(row["id"]))) for row in rows if not _other(row))

    def _records(self, rows: Sequence[Row], water: HighWater) -> Iterator[Event]:
        whole = self._with_all_fields(rows)
        companies = self._joined_companies(whole)
        for row in whole:
            key = str(row["id"])
            water.see(parse_time(row.get(CHANGED)))
            if row.get(OPT_OUT) is True:
                self._opted_out.add(key)
            fields = {
                name: row[name]
                for name in self._shown
                # A flag is true or false: where it is neither, it was not shown, and is not known.
                if name in row and not (row[name] is None and name in self._flags)
            }
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
            if self._all_emails and _other(row):
                place = f"{self._module} {key}, secondary address"
                yield Record(_second(key), {**fields, "Email": _other(row)}, place)

    def _with_all_fields(self, rows: Sequence[Row]) -> list[Row]:
        """The rows with the fields beyond the first 50, which take requests of their own."""
        if len(self._parts) == 1:
            return list(rows)
        found: dict[str, dict[str, Any]] = {str(row["id"]): dict(row) for row in rows}
        ids = list(found)
        for part in self._parts[1:]:
            for at in range(0, len(ids), BATCH_IDS):
                some = ids[at : at + BATCH_IDS]
                for row in records_by_ids(self._api, self._module, some, ",".join(part)):
                    found[str(row["id"])] |= row
        return list(found.values())

    def _wants(self, join: str) -> bool:
        if join == "_lists" and not self._view_names:
            return False
        return self._request.fields is None or join in self._request.fields

    def _joined_companies(self, rows: Sequence[Row]) -> Mapping[str, Any]:
        if not self._wants("_company") or self._module != "Contacts":
            return {}
        return self._companies.of(_id(row.get("Account_Name")) for row in rows)

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        query = {"ids": ",".join(ids), "fields": "Account_Name,Website", "per_page": BATCH_IDS}
        found = self._api.get(ACCOUNTS, query, needs=READ_ACCOUNTS)
        return {
            str(row["id"]): {
                "id": str(row["id"]),
                **{n: row[own] for n, own in (("name", "Account_Name"), ("website", "Website")) if own in row},
            }
            for row in rows_of(found, ACCOUNTS)
        }  # fmt: skip


def _cursor(parts: Mapping[str, Any] | None) -> _Cursor | None:
    if parts is None:
        return None
    since, at = parse_time(parts.get("since")), parse_time(parts.get("at"))
    opted_out = unpack_ids(parts.get("opted_out"))
    if since is None or at is None or opted_out is None:
        return None
    return _Cursor(since, at, set(map(str, opted_out)))


def _id(lookup: Any) -> str | None:
    return str(lookup["id"]) if isinstance(lookup, dict) and lookup.get("id") else None


def _second(key: str) -> str:
    """The key of the record of a secondary address."""
    return f"{key}#2"


def _other(row: Row) -> str:
    """The secondary address, where it is another one."""
    address = str(row.get("Secondary_Email") or "").strip()
    return "" if address.lower() == str(row.get("Email") or "").strip().lower() else address
