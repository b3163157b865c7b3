"""What the steps of one run's upload share: the state, the client, the books, the time."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog

from syncd.clock import Clock
from syncd.core.alike import Alike
from syncd.core.model import GroupKind
from syncd.core.person import EMPTY, Payload, Person, same_value
from syncd.core.seen import Shown, came_true
from syncd.core.undo import CUSTOM
from syncd.errors import (
    AccessDenied,
    FluenzrError,
    Interrupted,
    NotSupported,
    StateError,
    SyncdError,
    Throttled,
    Unanswered,
)
from syncd.fluenzr import FluenzR
from syncd.fluenzr.types import Contact
from syncd.state import books, contacts, listed, queue, runs, steps
from syncd.state.contacts import Mark, Settled
from syncd.state.groups import Groups
from syncd.state.runs import log_change
from syncd.state.store import State
from syncd.upload.pool import Pool, Request
from syncd.watch import Watch

# A request that was not applied, and a run that cannot go on: the marks of what was about to be sent are taken back.
NOT_SENT = (AccessDenied, Throttled, Interrupted)


log = structlog.get_logger(__name__)
CODE = re.compile(r"[A-Z][A-Z_]+(?=:|$)")  # FluenzR's own, before its words
CONTACT_QUARANTINED = "contact.quarantined"  # FluenzR refuses one; `contact` is a keyed digest
CONTACTS_REFUSED = "contacts.refused"  # so many people, in the same words


@dataclass(slots=True)
class Books:
    """People per sync and what happened to them in this run."""

    counts: dict[int | None, dict[str, int]] = field(default_factory=dict)

    def add(self, sync: int | None, name: str, people: int = 1) -> None:
        """Count people under a name of `SyncResult`."""
        counts = self.counts.setdefault(sync, {})
        counts[name] = counts.get(name, 0) + people

    def of(self, sync: int) -> dict[str, int]:
        """The counts of one sync."""
        return self.counts.get(sync, {})


@dataclass(slots=True)
class Session:
    """One run's upload. may_delete: every source was read and none is held (algorithm, rule 6a)."""

    state: State
    api: FluenzR
    pool: Pool
    groups: Groups
    clock: Clock
    watch: Watch
    run: int
    bulk: str = "auto"  # auto | on | off
    settle_s: float = 120.0
    custom_fields_merge: bool = False  # the probe has shown that a bulk update merges them
    clears_with: Any = (
        None  # what clears a field: null, or "" where the probe has shown that null is refused
    )
    may_delete: bool = False
    only_stepped: bool = False  # a careful first try: only whom this run's steps have touched
    links: bool = (
        True  # False: no record is linked anew, so that nobody moves and nobody is created
    )
    group_endpoint: bool = True  # POST /groups/:id/contacts serves (its body is not documented [?])
    campaigns: list[str] | None = None  # ids of those that may still send; None: not asked yet
    # cid -> of the campaigns whose enrolment is in doubt, those that it is in; None: nobody can tell
    entered: dict[int, frozenset[int] | None] = field(default_factory=dict)
    bulk_missing: bool = False  # this account has no bulk endpoint
    # By kind of write, and how often the people were tried: those who were not tried alone must not wait for those who were.
    alike: dict[tuple[str, int], Alike] = field(default_factory=lambda: defaultdict(Alike))
    refused_alike: dict[int | None, str] = field(
        default_factory=dict
    )  # sync -> what is said of all
    books: Books = field(default_factory=Books)
    sent: int = 0  # writes of this round
    first_page: Request | None = None  # of the account's listing, begun before the reading

    def __post_init__(self) -> None:
        self.pool.still_waiting = self._note_still_waiting
        books.prepare_counted(self.state)

    def _note_still_waiting(self, since_s: float) -> None:
        """A request handed over then may be sent at any moment: should we die, it was sent now, and not when it was marked."""
        with self.state.tx():
            queue.sent_at_most_now(self.state, since_s=int(since_s), now_s=self.now_s())

    def no_bulk(self) -> None:
        """The bulk endpoint is not there: contacts go one by one from here on. Raises where the configuration insists on it."""
        if self.bulk == "on":
            raise NotSupported(
                "FluenzR has no POST /contacts/bulk for this account",
                hint='Set [fluenzr] bulk = "auto" to send contacts one by one',
            )
        self.bulk_missing = True

    def null_refused(self) -> None:
        """How a field is cleared is not documented [?]: null was refused, so an empty string it is, from now on."""
        self.clears_with = ""
        with self.state.tx():
            known = self.state.meta("probe") or {}
            self.state.set_meta("probe", {**known, "clearing": "empty_string"})

    @property
    def one_by_one(self) -> bool:
        """Whether contacts are sent singly."""
        return self.bulk == "off" or self.bulk_missing

    def budget(self) -> str:
        """A few words on the API's budget, for the progress bar."""
        view = self.api.budget()
        return f"{view.remaining:,} requests left" if view.remaining is not None else ""

    def now_s(self) -> int:
        """Epoch seconds by our clock."""
        return int(self.clock.now_s())

    def mark(self, kind: str) -> Mark:
        """The time stamps of a write that is about to be sent."""
        wait_s = math.ceil(
            self.api.budget().wait_s
        )  # it may have to wait for its turn before it is sent
        return Mark(kind, self.api.server_time_ms(), self.now_s() + wait_s)

    def doubt(self, cids: Sequence[int], error: Unanswered) -> None:
        """A request ended without an answer that can be trusted: its contacts stay in flight, to be read."""
        with self.state.tx():
            if error.answered:
                contacts.answered(self.state, cids)
            else:
                contacts.unanswered(self.state, cids, now_s=self.now_s())

    def unmark(self, people: Sequence[Person]) -> None:
        """What was about to be sent was definitely not applied."""
        with self.state.tx():
            for person in people:
                contacts.unmark(self.state, person)

    def person(self, cid: int) -> Person | None:
        """One contact as the state has it now."""
        return contacts.person(self.state, cid)

    def sync_of(self, cid: int) -> int | None:
        """The sync that a contact is counted under."""
        return queue.sync_of(self.state, cid)

    def count(self, person: Person, *names: str) -> None:
        """Count a person under these names, once in this run, however many groups it was (inside a transaction).

        person: as before the change; whoever a bulk request has made in this run was counted with the groups of then.
        """
        made = queue.made_run(self.state, person.cid) == self.run
        groups = tuple(person.sent.groups) if made else ()
        counted = {"grouped": bool(groups), "enrolled": bool(self.mails(groups))}
        sync = self.sync_of(person.cid)
        for name in names:
            if not counted.get(name) and books.count_once(self.state, person.cid, name):
                self.books.add(sync, name)

    def shown(self, contact: Contact) -> Shown:
        """A contact of the API in the words of the core."""
        groups = None if contact.group_ids is None else self.groups.gids_of(contact.group_ids)
        return Shown(
            rid=contact.id,
            email=contact.email.strip().lower(),
            status=contact.status,
            fields=contact.fields,
            custom_fields=contact.custom_fields,
            groups=groups,
            tags=contact.tags,
            created_ms=contact.created_ms,
            updated_ms=contact.updated_ms,
        )

    def mails(self, gids: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the groups that mail whoever joins them."""
        return tuple(g for g in gids if self.groups.kinds.get(g) is not GroupKind.STATIC)

    def rids(self, gids: tuple[int, ...]) -> list[str]:
        """FluenzR's ids of these groups."""
        return [self.groups.rids[gid] for gid in gids]

    def settle(self, cid: int, contact: Contact | None) -> None:
        """Take over what a read has shown, in a transaction of its own."""
        with self.state.tx():
            self.settle_now(cid, contact)

    def settle_now(self, cid: int, contact: Contact | None) -> None:
        """The same inside a transaction."""
        sync = self.sync_of(cid)
        shown = None if contact is None else self.shown(contact)
        if shown is not None:
            shown = replace(shown, campaigns=self.entered.get(cid))
        kinds = self.groups.kinds
        settled = contacts.settle(
            self.state, cid, shown, run=self.run, now_s=self.now_s(), kinds=kinds
        )
        if settled is None or settled.kind is None:
            return
        done = came_true(settled.kind, settled.before, settled.after, kinds, settled.claims)
        if done is None:
            if settled.put_off:
                self.books.add(sync, "quarantined")
            return
        contacts.note_written(self.state, cid, run=self.run, created="created" in done)
        self._tell(settled, done)
        for name in done:
            if books.count_once(self.state, cid, name):
                self.books.add(sync, name)

    def _tell(self, settled: Settled, done: tuple[str, ...]) -> None:
        """The history of a change whose answer was lost (creates are told by the contact itself)."""
        before, after = settled.before, settled.after or settled.before
        names = self.groups.names
        fields: dict[str, Any] = {}
        if "updated" in done:
            fields = written(before.sent, after)
        if "moved" in done:
            fields = {"email": [before.email, after.email]}
        # Only what was asked for is told as ours: a hand may have done the rest meanwhile.
        left = before.sent.groups - after.sent.groups if settled.kind == "ungroup" else frozenset()
        untagged = before.sent.tags - after.sent.tags if settled.kind == "untag" else frozenset()
        joined = (settled.claims | settled.joins) & after.sent.groups
        groups = {
            "add": sorted(names[g] for g in joined),
            "remove": sorted(names[g] for g in left),
        }
        tags = {"add": sorted(settled.tags & after.sent.tags), "remove": sorted(untagged)}
        entered = settled.claims & after.sent.campaigns
        campaigns = {"add": sorted(names[g] for g in entered), "remove": []}
        kinds = {
            "updated": "update",
            "moved": "move",
            "removed": "remove",
            "grouped": "group",
            "ungrouped": "ungroup",
        }
        kind = next((kinds[name] for name in done if name in kinds), None)
        if settled.kind in ("tag", "untag"):
            kind = settled.kind
        if kind is not None and "created" not in done:
            detail: dict[str, Any] = {"fields": fields, "groups": groups, "tags": tags}
            detail["campaigns"] = campaigns
            detail["answer"] = "lost"
            if settled.kind == "delete":
                detail["deleted"] = True
            log_change(self.state, self.run, before.cid, before.email, self.now_s(), kind, detail)

    def reference(self, cid: int) -> str:
        """A short name for a contact in the log, where no address may stand; `why` does not need it."""
        row = queue.row(self.state, cid)
        return (self.state.address_key(row["email"]) or "")[2:12] if row is not None else ""

    def refuse(self, cid: int, words: str) -> None:
        """FluenzR has refused this contact in its own words (inside a transaction)."""
        contact, code = self.reference(cid), CODE.match(words)
        log.warning(CONTACT_QUARANTINED, contact=contact, code=code[0] if code else None)
        log.debug(CONTACT_QUARANTINED, contact=contact, why=words)  # they may name somebody
        put_off = contacts.bump(
            self.state, cid, words, now_s=self.now_s(), kinds=self.groups.kinds, refused=True
        )
        if put_off:
            self.books.add(self.sync_of(cid), "quarantined")

    def refuse_together(self, cids: Sequence[int], words: str, *, said: str) -> None:
        """FluenzR refuses everybody with the words `said`: these were not tried alone (inside a transaction)."""
        code = CODE.match(said)
        log.warning(CONTACTS_REFUSED, people=len(cids), code=code[0] if code else None)
        kinds, now_s = self.groups.kinds, self.now_s()
        for cid in cids:
            if contacts.bump(
                self.state, cid, words, now_s=now_s, kinds=kinds, refused=True, alone=False
            ):
                sync = self.sync_of(cid)
                self.books.add(sync, "quarantined")
                self.refused_alike[sync] = said


@contextmanager
def opened(
    state: State, api: FluenzR, clock: Clock, watch: Watch, *, kind: str, settle_s: float
) -> Iterator[Session]:
    """A session of a command that is no sync, with its run in the history and its scratch tables."""
    pool = Pool(clock, api)
    try:
        with state.tx():
            number = runs.start_run(state, now_s=int(clock.now_s()), kind=kind)
        books.prepare_books(state)
        listed.prepare_listed(state)
        steps.prepare_stepped(state)
        try:
            yield Session(state, api, pool, Groups(state), clock, watch, number, settle_s=settle_s)
        except SyncdError as error:
            with (
                suppress(StateError),
                state.tx(),
            ):  # what happened is raised, whatever becomes of this
                runs.end_failed(state, number, str(error), now_s=int(clock.now_s()))
            raise
    finally:
        pool.close()


def written(sent: Payload, after: Person) -> dict[str, list[Any]]:
    """name -> [old, new] of the fields that have become what is wanted."""
    want, now = after.want or EMPTY, after.sent
    parts = (("", sent.fields, now.fields, want.fields), (CUSTOM, sent.custom_fields, now.custom_fields, want.custom_fields))  # fmt: skip
    return {
        prefix + name: [old.get(name), new.get(name)]
        for prefix, old, new, wanted in parts
        for name in wanted
        if same_value(new.get(name), wanted[name]) and not same_value(old.get(name), new.get(name))
    }


def words_of(error: FluenzrError) -> str:
    """FluenzR's own words about one contact, for the quarantine."""
    return error.why or error.what


def encode(body: Any) -> bytes:
    """A request's body."""
    return orjson.dumps(body)
