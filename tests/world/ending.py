"""What must hold after each run, and at the end: the account is what the sources say, as far as hands and opt-outs leave it to us."""

import dataclasses
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any

from syncd.core.result import Status, SyncResult
from syncd.sandbox.store import Contact
from syncd.upload import listing
from world.hands import MAILS
from world.peek import PutBack
from world.sources import Wanted, Who
from world.truth import OPTED_OUT, Violation

if TYPE_CHECKING:
    from world.model import World


def check_results(
    world: "World", results: list[SyncResult], broken: set[str], share: float
) -> None:
    """The books of a run balance, and it fails only for a reason."""
    for result in results:
        world.say(f"  result { ({k: v for k, v in dataclasses.asdict(result).items() if v}) }")
        unbalanced = result.missing() and result.status is not Status.FAILED
        if unbalanced or "books" in (result.error or ""):
            raise Violation(f"I7 the books of {result.sync} do not balance: {result}")
        if (result.error is None) != (result.status is not Status.FAILED):
            raise Violation(f"I7 {result.sync} is {result.status} with error {result.error!r}")
        if result.status is Status.FAILED and not share and result.sync not in broken:
            raise Violation(f"I7 {result.sync} failed for no reason: {result.error}")


def check_unmanaged(world: "World") -> None:
    """What is people's own stays."""
    group = world.account.group("human").id
    for i, own in world.truth.unmanaged.items():
        contact = world.account.contacts.get(i)
        if contact is None:
            continue
        have = {
            "phone": contact.fields.get("phone"), "note": contact.custom_fields.get("note"),
            "tag": "human" in contact.tags, "group": group in contact.groups,
        }  # fmt: skip
        for name, value in own.items():
            if name == "group" and _emptied(world, contact):
                continue
            if have[name] != value:
                raise Violation(f"I3 {name} of {contact.email}: {value} -> {have[name]}")


def _emptied(world: "World", contact: Contact) -> bool:
    """A source's opt-out takes people out of every group, also those given by hand; also whom the record has moved to since."""
    email = contact.email.lower()
    out = """SELECT 1 FROM contact WHERE (rid=? OR email=?) AND want LIKE '%"out":true%'"""
    if email in world.truth.latched or world.state.query(out, contact.id, email):
        world.truth.emptied.add(contact.id)
    return contact.id in world.truth.emptied


def check_quiet(world: "World", asked: Counter[tuple[str, str]]) -> None:
    """A quiet run asks for groups, campaigns and those who opted out; after a full last page, whether there is one more."""
    pages, full = 0, 0
    for status in OPTED_OUT:
        people = sum(contact.status == status for contact in world.account.contacts.values())
        pages += max(1, -(-people // listing.PAGE_ROWS))
        full += people > 0 and people % listing.PAGE_ROWS == 0
    listings = asked["GET", "/contacts"]
    expected = {("GET", "/groups"): 1, ("GET", "/campaigns"): 1, ("GET", "/contacts"): listings}
    if asked != expected or not pages <= listings <= pages + full:
        raise Violation(f"I2 a quiet run asks too much: {dict(asked)}")


class Ending:
    """The account at the end, against what the sources want."""

    def __init__(self, world: "World") -> None:
        self._world, self._truth = world, world.truth
        self._rows = {row["email"]: row for row in world.state.query("SELECT * FROM contact")}
        self._wanted = world.sources.wanted(world.truth.forgotten)
        self._put_back = world.state.exceptions()

    def check(self) -> None:
        """Raises Violation."""
        for email, want in self._wanted.items():
            self._world.judged["wanted"] += 1
            self._check_wanted(email, want, self._rows.get(email))
        for contact in self._world.account.contacts.values():
            email = contact.email.lower()
            if email in self._truth.forgotten:
                raise Violation(f"I9 {email} was forgotten, and is there")
            out = email in self._truth.seen_out and email not in self._truth.touched
            if out and contact.groups:
                groups = self._world.account.groups_of(email)
                raise Violation(f"I4 {email} opted out in a source, and is in {groups}")
            if not self._truth.known[contact.id].by_hand:
                self._check_made(contact)
        self._check_standing()
        self._check_traces()

    def _check_wanted(self, email: str, want: Wanted, row: sqlite3.Row | None) -> None:
        everybody: set[Who] = {email, *want.records}
        if row is None and not everybody & self._truth.latched:
            raise Violation(f"I1 {email} has no row")
        if row is None or '"out":true' in (row["want"] or ""):
            return  # opted out in a source, or somebody whose history the record carries
        if everybody & self._truth.seen_out:
            raise Violation(f"I4 {email} opted out in a source, and is wanted: {dict(row)}")
        contact = self._world.account.contact_by_email(email)
        if row["state"] == "new":
            self._check_absent(email, row, want)
        elif contact is None:  # the account was read whole since
            raise Violation(f"I1 {email} is believed to exist and does not: {dict(row)}")
        else:
            self._check_present(contact, row, want)

    def _held_against(self, row: sqlite3.Row) -> set[str]:
        state = self._world.state
        return state.never(row["email"], [who for who, _ in state.records_of(row["cid"])])

    def _check_absent(self, email: str, row: sqlite3.Row, want: Wanted) -> None:
        never, truth = self._held_against(row), self._truth
        if "x" in never or (truth.rebuilt and "?" in never):
            if not (self._world.humans or truth.rebuilt):
                raise Violation(f"I1 {email} is gone, and nobody has deleted it")
            return
        opted = email in truth.opted or bool(want.records & truth.opt_record) or "!" in never
        if not opted:
            raise Violation(f"I1 {email} was not created: {dict(row)}")

    def _check_present(self, contact: Contact, row: sqlite3.Row, want: Wanted) -> None:
        email, humans = contact.email.lower(), self._world.humans
        ours = not self._truth.known[contact.id].by_hand and contact.id not in self._truth.found
        linked = {who for who, _ in self._world.state.records_of(row["cid"])}
        alone = linked == want.records  # no record that left, or is frozen, goes on contributing
        want = _with_exceptions(want, self._put_back.get(email, []))
        have = {**contact.fields, **contact.custom_fields}
        for name, value in want.fields.items():
            if name == "firstName" and contact.id in self._truth.edited:
                continue  # what a hand has written over is left alone until the source changes
            if value is None and (not ours or humans):
                continue  # cleared only where it was ours
            if alone and not _same(have.get(name), value):
                raise Violation(f"I1 {email}.{name} is {have.get(name)!r}, wanted {value!r}")
        tags = set(contact.tags)
        if not want.tags <= tags or (alone and not humans and ours and tags != want.tags):
            raise Violation(f"I1 tags of {email}: {tags}, wanted {want.tags}")
        groups = self._world.account.groups_of(email)
        if contact.status not in OPTED_OUT:
            self._check_groups(email, want.groups - groups, self._held_against(row))
            self._check_campaigns(contact, want.campaigns, self._held_against(row))
        if alone and not humans and ours and groups - want.groups:
            raise Violation(f"I1 {email} is still in {groups - want.groups}")

    def _check_groups(self, email: str, missing: set[str], never: set[str]) -> None:
        world = self._world
        for group in missing:
            if "!" in never or (world.humans and email in self._truth.touched):
                continue
            # Somebody absent at a rebuild whom people have put back since is adopted, and waits for `release`.
            if self._truth.rebuilt and "?" in never:
                continue
            # Who replied once is in a conversation, also when the status is another one; the mark follows the record.
            replied = "~" in never and self._truth.replied
            replied = replied or world.account.contact(email)["status"] == "replied"
            if group in world.dynamic and (never & {group, "*", "x"} or replied):
                continue
            raise Violation(f"I1 {email} is not in {group} (never: {never})")

    def _check_campaigns(self, contact: Contact, wanted: set[str], never: set[str]) -> None:
        """Whoever is wanted in a campaign has been in it, or must never be."""
        for name in wanted:
            self._world.judged["campaigns"] += 1
            inside = contact.id in self._world.account.campaign(name).members
            barred = never & {name, "!", "?", "*", "x", "~"} or contact.status == "replied"
            if not inside and not barred:
                raise Violation(f"I1 {contact.email} is not in {name} (never: {never})")

    def _check_made(self, contact: Contact) -> None:
        email, truth, humans = contact.email.lower(), self._truth, self._world.humans
        row = self._rows.get(email)
        by_hand = email in truth.touched or contact.id in truth.renamed
        if row is None and not by_hand and contact.id not in truth.found:
            raise Violation(f"I6 {email} was made and has no row")
        # EXEMPT (the engine cannot know): nothing has shown the opt-out, and without a Date nothing proves an accident.
        unknown = contact.id in truth.undated and email not in truth.observed
        if contact.id in truth.hidden and contact.status == "active" and not unknown:
            raise Violation(f"I4 {email} {truth.hidden[contact.id]}")
        since, here = truth.known[contact.id].created_s, truth.made_at[contact.id] == email
        judged = here and contact.id not in truth.renamed | truth.undated
        never = self._world.state.never(email, [])
        if judged and since > truth.removed.get(email, since) and "x" in never:
            # Made after a deletion by hand of which the engine knows: an accident that was not undone.
            raise Violation(f"I8 {email} was deleted by hand, and made again")
        deletes = all(flow.policy == "delete" for flow in self._world.flows)
        unwanted = email not in self._wanted and contact.status == "active"
        if (
            deletes
            and unwanted
            and email not in truth.opted | truth.latched
            and not humans
            and not self._world.sources.frozen()
            and contact.id not in truth.found
            and row is not None
            and row["origin"] == "created"
            # EXEMPT (by design): "!" follows a record, also to an address that never opted out; then it is ungrouped.
            and "!" not in self._held_against(row)
            and not any(one.left for one in self._put_back.get(email, []))
        ):
            raise Violation(f"I1 {email} should be deleted: {dict(row)}")

    def _check_standing(self) -> None:
        """What was put back stays, for the sources have wanted the same ever since."""
        for (email, part, name), one in self._truth.standing.items():
            contact = self._world.account.contact_by_email(email)
            if contact is None or email in self._truth.touched or contact.status in OPTED_OUT:
                continue
            never = self._held_against(self._rows[email]) if email in self._rows else set()
            if part == "g" and never & {"!", "?"}:
                continue
            self._world.judged["put back"] += 1
            have: Any
            if part in "fc":
                have = {**contact.fields, **contact.custom_fields}.get(name)
            elif part == "t":
                have = name in contact.tags
            else:
                have = name in self._world.account.groups_of(email)
            edited = name == "firstName" and contact.id in self._truth.edited
            if not edited and not _same(have, one.instead):
                raise Violation(f"I10 {name} of {email} was undone, and is {have!r} again: {one}")

    def _check_traces(self) -> None:
        """No address of a forgotten person stands in any file of the state."""
        for email in sorted(who for who in self._truth.forgotten if isinstance(who, str)):
            if any(email in mail and mail != email for mail in MAILS):
                continue  # it is the end of another one's address
            files = self._world.state.holds(email)
            if files:
                raise Violation(f"I9 {email} was forgotten, and stands in {files}")


def _same(have: Any, want: Any) -> bool:
    return (have or None) == (want or None) or (have == want == 0)


def _with_exceptions(want: Wanted, put_back: list[PutBack]) -> Wanted:
    """What is wanted with these laid over it, as long as the sources want what was undone."""
    found = dataclasses.replace(
        want, fields=dict(want.fields), groups=set(want.groups), tags=set(want.tags)
    )
    for one in put_back:
        if one.part in "fc" and _same(want.fields.get(one.name), one.undone):
            found.fields[one.name] = one.instead
        names = {"g": found.groups, "t": found.tags}.get(one.part)
        if names is not None and (one.name in names) is bool(one.undone):
            (names.add if one.instead else names.discard)(one.name)
    return found
