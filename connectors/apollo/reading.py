"""One read of Apollo's contacts: everybody, or those for whom something has changed since a cursor."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from connectors.apollo.beside import (
    CustomField,
    Label,
    custom_fields,
    label_ids,
    labels,
    pack,
    stages,
    unpack,
    unsubscribed,
    users,
)
from connectors.apollo.listing import Gap, Listing
from connectors.apollo.person import (
    FIELDS,
    UNKNOWN,
    address_of,
    company_of,
    further,
    opted_out,
    phone_of,
)
from connectors.apollo.vendor import Row, ident, reads
from syncd.connector import Checkpoint, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceRefused
from syncd.http import (
    Api,
    HighWater,
    are_other,
    digests,
    further_key,
    parse_time,
    read_cursor,
    write_cursor,
)

VERSION = 1  # of the cursor
OVERLAP = timedelta(minutes=15)  # the index shows a change only after a while
# How far before the last read the latest change may lie: else an import that came last is read again in each run, for ever.
LATE_MAX = timedelta(hours=1)
LIST_ROWS_MAX = 2_000  # a list with other members that is longer waits for the next full read
ALONE_MAX = 100  # contacts that are asked for one by one; for more, everybody is read
JOINED = frozenset({"_company", "_owner", "_lists", "_stage", "_phone", "_opted_out"})
LABEL_IDS, STAGE = "label_ids", "contact_stage_id"
CUSTOM = re.compile(r"[0-9a-f]{24}")  # the id of a custom field


@dataclass(frozen=True, slots=True)
class _Cursor:
    """What the last read knew. since: the latest change that it saw; at: when it began; labels: the state of each list."""

    since: datetime
    at: datetime
    unsubscribed: set[str]
    labels: Mapping[str, str]


class Reading:
    """One read. lists: names of the lists whose contacts alone are read; none for all contacts."""

    def __init__(
        self, api: Api, request: Request, *, all_emails: bool, lists: tuple[str, ...]
    ) -> None:
        self._api, self._request, self._all_emails = api, request, all_emails
        self._labels: dict[str, Label] = labels(api) if lists or self._wants("_lists") else {}
        self._only = frozenset(label_ids(self._labels, lists))
        self._stages = stages(api) if self._wants("_stage") or self._wants("_opted_out") else {}
        self._owners = users(api) if self._wants("_owner") else {}
        self._custom = self._custom_fields()
        self._unsubscribed = unsubscribed(api) if self._wants("_opted_out") else set[str]()
        self._listing = Listing(api, sorted(self._only))
        self._latest: datetime | None = None
        wanted = FIELDS if request.fields is None else request.fields
        self._own = sorted(set(FIELDS).intersection(wanted))
        makers = {
            "_company": company_of,
            "_phone": phone_of,
            "_owner": self._owner_of,
            "_lists": self._lists_of,
            "_stage": lambda row: (self._stage_of(row) or None) if STAGE in row else UNKNOWN,
            "_opted_out": self._opted_out,
        }
        self._made = [(name, maker) for name, maker in makers.items() if self._wants(name)]

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        text, names = self._request.cursor, digests(self._names())
        parts = None if text is None else read_cursor(text, VERSION)
        before, since = _cursor(parts), None
        reason = self._reason_to_start_anew(parts, before, names)
        if before is not None and not reason:
            since = max(before.since, before.at - LATE_MAX)
            try:
                yield from self._changed(since - OVERLAP, before)
            except Gap as gap:
                reason = str(gap)
        if before is None or reason:
            if text is not None:
                yield Resync(reason)
            for rows in self._listing.everybody():
                yield from self._records(rows)
        reached = self._reached(since)
        if reached is not None:
            states = {key: label.state for key, label in self._labels.items()}
            told = {"names": names, "labels": states, "unsubscribed": pack(self._unsubscribed)}
            yield Checkpoint(write_cursor(VERSION, since=reached, at=self._listing.began, **told))

    def _reached(self, since: datetime | None) -> datetime | None:
        if self._listing.began is None:
            return None
        water = HighWater(began=self._listing.began, since=since)
        water.see(self._latest)
        return water.reached()

    def _reason_to_start_anew(
        self, parts: Mapping[str, Any] | None, before: _Cursor | None, names: Mapping[str, str]
    ) -> str:
        if parts is None or before is None:
            return "the cursor is of no use"
        if are_other(parts.get("names"), names):
            return "a list, a stage, an owner or a choice was renamed, or has gone"
        if len(self._unsubscribed - before.unsubscribed) > ALONE_MAX:
            return "many people have unsubscribed"
        return ""

    def _names(self) -> dict[str, str]:
        """What contacts carry by name and Apollo keeps by id."""
        found = {f"list {key}": label.name for key, label in self._labels.items()}
        found |= {f"stage {key}": name for key, name in self._stages.items()}
        found |= {f"owner {key}": repr(sorted(one.items())) for key, one in self._owners.items()}
        for key, field in self._custom.items():
            found |= {f"choice {key} {one}": name for one, name in field.options.items()}
        return found

    def _changed(self, since: datetime, before: _Cursor) -> Iterator[Event]:
        """Who was changed; who is in a list that has other members; who has unsubscribed."""
        for rows in self._listing.changed(since):
            yield from self._renewed(rows)
        if self._wants("_lists"):
            for key, label in self._labels.items():
                if label.state != before.labels.get(key) and label.count <= LIST_ROWS_MAX:
                    for rows in self._listing.members(key):
                        yield from self._renewed(rows)
        for key in sorted(self._unsubscribed - before.unsubscribed):
            yield from self._renewed(self._listing.fresh(self._alone(key)))

    def _alone(self, key: str) -> list[Row]:
        """One contact; none where it was deleted."""
        path = f"/contacts/{ident({'id': key})}"
        try:
            found = self._api.get(path, needs=reads("/contacts/show"))
        except SourceRefused:
            return []
        row = found.get("contact") if isinstance(found, dict) else None
        return [row] if isinstance(row, dict) else []

    def _renewed(self, rows: Sequence[Row]) -> Iterator[Event]:
        """Contacts that may have been there before, and may not be in the lists any more. Without lists of its own, that is not known."""
        for row in rows:
            if not self._only or not self._only.isdisjoint(row.get(LABEL_IDS) or ()):
                yield from self._records([row])
                continue
            self._see(row)
            if LABEL_IDS in row:
                yield Tombstone(ident(row))
                if self._all_emails:
                    yield from (Tombstone(further_key(ident(row), one)) for one, _ in further(row))

    def _records(self, rows: Sequence[Row]) -> Iterator[Event]:
        for row in rows:
            self._see(row)
            key, fields = ident(row), self._values(row)
            yield Record(key, fields, f"contact {key}")
            if not self._all_emails:
                continue
            for address, entry in further(row):
                other = {"email": address}
                other |= {n: entry[n] for n in ("email_status", "email_true_status") if n in entry}
                place = f"contact {key}, another address"
                whole = {**fields, **self._request.chosen(other)}
                yield Record(further_key(key, address), whole, place)

    def _see(self, row: Row) -> None:
        changed = parse_time(row.get("updated_at"))
        if changed is not None and (self._latest is None or changed > self._latest):
            self._latest = changed

    def _values(self, row: Row) -> dict[str, Any]:
        """What is in use: Apollo's own names, custom fields by their ids, and what is put together."""
        found = {name: row[name] for name in self._own if name in row}
        if "email" in found:
            found["email"] = address_of(found["email"])
        values = row.get("typed_custom_fields", UNKNOWN) or {}
        if self._custom and isinstance(values, dict):
            found |= {key: one.shown(values.get(key)) for key, one in self._custom.items()}
        for name, maker in self._made:
            value = maker(row)
            if value is not UNKNOWN:
                found[name] = value
        return found

    def _owner_of(self, row: Row) -> Any:
        return self._owners.get(str(row["owner_id"])) if "owner_id" in row else UNKNOWN

    def _lists_of(self, row: Row) -> Any:
        """A list that has gone leaves its id behind."""
        if LABEL_IDS not in row:
            return UNKNOWN
        return [self._labels[one].name for one in row[LABEL_IDS] or () if one in self._labels]

    def _stage_of(self, row: Row) -> str:
        return self._stages.get(str(row.get(STAGE)), "")

    def _opted_out(self, row: Row) -> Any:
        written = ident(row) in self._unsubscribed
        return opted_out(row, stage=self._stage_of(row), unsubscribed=written)

    def _custom_fields(self) -> dict[str, CustomField]:
        """The custom fields in use. Where nobody asks for one by name, those that this key may not read are left out."""
        wanted = self._request.fields
        if wanted is not None and not any(CUSTOM.fullmatch(name) for name in wanted):
            return {}
        try:
            found = custom_fields(self._api)
        except SourceDenied:
            if wanted is not None:
                raise
            return {}
        return {key: one for key, one in found.items() if wanted is None or key in wanted}

    def _wants(self, name: str) -> bool:
        return self._request.fields is None or name in self._request.fields


def _cursor(parts: Mapping[str, Any] | None) -> _Cursor | None:
    if parts is None:
        return None
    since, at = parse_time(parts.get("since")), parse_time(parts.get("at"))
    out, states = unpack(parts.get("unsubscribed")), parts.get("labels")
    if since is None or at is None or out is None or not isinstance(states, dict):
        return None
    return _Cursor(since, at, out, states)
