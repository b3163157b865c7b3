"""One read of EspoCRM's people: everybody, or what may have changed since a cursor.

What a person's own `modifiedAt` does not tell is read besides: who has opted out, for that belongs to the address, and changes through
other records (seen, 2); whose account has changed (seen, 15); who was deleted, as far as this login sees that (seen, 7).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from connectors.espocrm.attributes import attributes_of
from connectors.espocrm.lists import digest_of, target_lists
from connectors.espocrm.people import (
    ACCOUNT,
    CHANGED,
    CONTACT,
    EMAIL,
    LEAD,
    OPTED_OUT,
    People,
    Wish,
    key_of,
)
from connectors.espocrm.vendor import (
    BATCH_CHARS,
    BATCH_IDS,
    Espo,
    Item,
    equal,
    greater,
    is_true,
    one_of,
)
from syncd.connector import Checkpoint, Event, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.http import HighWater, parse_time, read_cursor, write_cursor

VERSION = 1  # of the cursor
OVERLAP = timedelta(minutes=5)
LOG = "/ActionHistoryRecord"
NEEDED = frozenset({CHANGED, EMAIL, OPTED_OUT})  # every entity of people has them


class Reading:
    """One read."""

    def __init__(
        self,
        espo: Espo,
        request: Request,
        *,
        entities: Sequence[str],
        all_emails: bool,
        lists: tuple[str, ...] | None,
    ) -> None:
        self._espo, self._request, self._entities = espo, request, entities
        self._wish = Wish(request.fields, all_emails)
        self._known = {entity: attributes_of(espo, entity) for entity in entities}
        self._began = espo.api.server_time()
        self._absent: set[str] | None = None
        self._looked_at = set[str]()
        wants_lists = self._wish.has("_lists") or self._wish.has("_lists_opted_out")
        self._lists = list(target_lists(espo, lists, entities)) if wants_lists else []
        self._people = People(espo, self._wish, self._lists)
        self._told = set[str]()

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        parts = None if self._request.cursor is None else read_cursor(self._request.cursor, VERSION)
        since = parse_time(parts.get("since")) if parts else None
        members = digest_of(self._lists)
        if parts is not None and parts.get("members") != members:
            since = None  # somebody joined or left: that does not change a person
        if self._request.cursor is not None and since is None:
            yield Resync("the cursor is of no use, or a target list has other members")
        water = HighWater(began=self._began, since=since)
        if since is None:
            for entity in self._entities:
                for rows in self._listing(entity, []):
                    yield from self._page(entity, rows, water)
        else:
            yield from self._changes(since - OVERLAP, water)
        reached = water.reached()
        if reached is not None:
            yield Checkpoint(write_cursor(VERSION, since=reached, members=members))

    def _changes(self, since: datetime, water: HighWater) -> Iterator[Event]:
        """Opt-outs first. A key comes once: what is told already is left out, for a later change of it is the next read's."""
        yield from self._deleted(since)
        if self._wish.opt_outs:
            for entity in self._entities:
                for rows in self._listing(entity, [is_true(OPTED_OUT)]):
                    yield from self._fresh(entity, rows, water)
        for entity in self._entities:
            for rows in self._changed(entity, since):
                yield from self._fresh(entity, rows, water)
        if CONTACT in self._entities:
            for accounts in _batches(self._changed_accounts(since)):
                for rows in self._listing(CONTACT, [one_of("accountId", accounts)]):
                    yield from self._fresh(CONTACT, rows, water)
        if self._wish.further and self._wish.opt_outs:
            yield from self._sharing(water)

    def _listing(self, entity: str, where: Sequence[Item]) -> Iterator[list[dict[str, Any]]]:
        select = self._wish.select(entity)
        for rows in self._espo.pages(f"/{entity}", where=where, select=select):
            if entity not in self._looked_at:
                self._look_at(entity, rows[0], select)
            yield rows

    def _page(
        self, entity: str, rows: Sequence[Mapping[str, Any]], water: HighWater
    ) -> Iterator[Event]:
        for row in rows:
            water.see(parse_time(row[CHANGED]))
        yield from self._people.records(entity, rows)

    def _fresh(
        self, entity: str, rows: Sequence[Mapping[str, Any]], water: HighWater
    ) -> Iterator[Event]:
        keys = [key_of(entity, str(row["id"])) for row in rows]
        fresh = [row for row, key in zip(rows, keys, strict=True) if key not in self._told]
        self._told.update(keys)
        yield from self._page(entity, fresh, water)

    def _changed(self, entity: str, since: datetime) -> Iterator[list[dict[str, Any]]]:
        """By id within a window that only begins: a row that changes meanwhile stays in it, and comes once.

        A time that EspoCRM does not understand is no error there: everything comes (seen, 11). So each row is looked at.
        """
        # "Greater" leaves out the same second.
        bound = since.replace(microsecond=0) - timedelta(seconds=1)
        where = [greater(CHANGED, f"{bound:%Y-%m-%d %H:%M:%S}")]
        listing = (
            self._espo.pages(f"/{ACCOUNT}", where=where, select=f"id,{CHANGED}")
            if entity == ACCOUNT
            else self._listing(entity, where)
        )
        for rows in listing:
            times = [parse_time(row.get(CHANGED)) for row in rows]
            if any(changed is None or changed <= bound for changed in times):
                raise SourceError(
                    f"EspoCRM gives rows of /{entity} that have not changed since {bound:%Y-%m-%d %H:%M:%S}",
                    why=f"It, or something on the way, has left out the condition; or the role hides `{CHANGED}`",
                    hint="Read everything instead: syncd sync --full; and tell who runs the CRM",
                )
            yield rows

    def _changed_accounts(self, since: datetime) -> Iterator[str]:
        """Renaming an account changes `accountName` of its contacts, and not their time (seen, 15)."""
        if not (self._wish.has("_company") or self._wish.has("accountName")):
            return
        try:
            for rows in self._changed(ACCOUNT, since):
                yield from (str(row["id"]) for row in rows)
        except SourceDenied:
            if self._request.fields is None or self._wish.has("_company"):
                raise
            # `accountName` alone needs no right to accounts; a new name of one shows in the daily full read.

    def _deleted(self, since: datetime) -> Iterator[Event]:
        """What the log of actions tells: everything to administrators, to others what they deleted themselves (seen, 7)."""
        where = [
            equal("action", "delete"),
            one_of("targetType", list(self._entities)),
            greater("createdAt", f"{since:%Y-%m-%d %H:%M:%S}"),
        ]
        gone: dict[str, set[str]] = {}
        try:
            for rows in self._espo.pages(
                LOG, where=where, select="number,targetType,targetId,action", by="number"
            ):
                for row in rows:
                    if row.get("action") == "delete" and row.get("targetId"):
                        gone.setdefault(str(row.get("targetType")), set()).add(str(row["targetId"]))
        except (SourceDenied, SourceRefused):
            return  # the daily full read finds them
        for entity in self._entities:
            for ids in _batches(sorted(gone.get(entity, ()))):
                live = {  # restored since: it comes as a change
                    str(row["id"])
                    for rows in self._espo.pages(
                        f"/{entity}", where=[one_of("id", ids)], select="id"
                    )
                    for row in rows
                }
                for key in ids:
                    if key not in live:
                        self._told.add(key_of(entity, key))
                        yield Tombstone(key_of(entity, key))

    def _sharing(self, water: HighWater) -> Iterator[Event]:
        """Whoever has an opted-out address as a further one: it was opted out through another record, of whatever kind."""
        for entity in {CONTACT, LEAD, ACCOUNT} - set(self._entities):
            try:
                for rows in self._espo.pages(
                    f"/{entity}", where=[is_true(OPTED_OUT)], select=f"id,{EMAIL}"
                ):
                    self._wish.out.update(str(row[EMAIL]).lower() for row in rows if row.get(EMAIL))
            except SourceDenied:
                continue  # the daily full read finds them
        asked = set[str]()
        while new := self._wish.out - asked:  # whoever is found may show others
            asked |= new
            for addresses in _batches(sorted(new)):
                for entity in self._entities:
                    for rows in self._listing(entity, [one_of(EMAIL, addresses)]):
                        yield from self._fresh(entity, rows, water)

    def _look_at(self, entity: str, row: Mapping[str, Any], select: str) -> None:
        """Names that EspoCRM does not know, or hides from this role, are left out without a word (seen, 11)."""
        self._looked_at.add(entity)
        asked = {*select.split(",")} if select else set(NEEDED)
        absent = asked - row.keys()
        missed = absent & (NEEDED | (self._known[entity] or frozenset()))
        self._absent = absent if self._absent is None else self._absent & absent
        if not missed and self._looked_at == set(self._entities):
            missed = self._absent  # an entity need not have what another has
        if missed:
            raise SourceDenied(
                f"EspoCRM gives no `{min(missed)}` of {entity}",
                why="There is no such field in a listing, or the role hides it: EspoCRM leaves such names out without a word",
                hint="Correct the name, or let the role read the field (Roles, Field Level)",
            )


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """As many as one condition may have: an address may be long, and a URL must not."""
    batch: list[str] = []
    for key in keys:
        if batch and (len(batch) == BATCH_IDS or len(quote("".join(batch) + key)) > BATCH_CHARS):
            yield batch
            batch = []
        batch.append(key)
    if batch:
        yield batch
