"""What people do to the account by hand: those who use FluenzR, and those who get its mail."""

import random
import sqlite3
from typing import TYPE_CHECKING

from syncd.sandbox.store import Contact
from world.judge import TICK_S
from world.sources import Key, address
from world.truth import CAMPAIGNS, OPTED_OUT

if TYPE_CHECKING:
    from world.model import World

NAMES = ("ann", "joann", "bob", "cat", "dan", "eve", "fay", "gus")
MAILS = tuple(f"{name}@example.com" for name in NAMES)
DYNAMIC = frozenset({"dyn", "dynhot"})


class Hands:
    """Changes the account, and writes into the truth what it has done."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def busy(self, contact: Contact) -> bool:
        """Whether something of this contact is in flight: nobody touches it then, for the read could not tell who did what."""
        email = contact.email.lower()
        return bool(
            self._world.state.query(
                "SELECT 1 FROM contact WHERE inflight IS NOT NULL AND (rid=? OR email=? OR move_to=?)",
                contact.id, email, email,
            )
        )  # fmt: skip

    def create(self, email: str, rng: random.Random) -> None:
        """Somebody adds a contact of their own; never one who was forgotten."""
        world, truth = self._world, self._world.truth
        if world.account.contact_by_email(email) is not None or email in truth.forgotten:
            return
        phone = f"p{rng.randrange(10**6)}"
        contact = world.account.add_contact(
            email, firstName="orig", phone=phone, custom_fields={"note": "keep"}, tags=["human"]
        )
        own = {"phone": phone, "note": "keep", "tag": True, "group": False}
        truth.unmanaged[contact.id] = own
        if rng.random() < 0.4:
            world.account.put_in(email, "human")
            own["group"] = True
        if email in truth.latched:
            truth.touched.add(email)  # after the opt-out of the source was carried out: their doing
        world.judge.resync(by_hand=True)
        world.say(f"  hand: created {email} {contact.id}")
        if rng.random() < 0.3:
            self._opt_out(contact, rng)

    def _opt_out(self, contact: Contact, rng: random.Random) -> None:
        world, truth, email = self._world, self._world.truth, contact.email.lower()
        world.account.opt_out(email, status=rng.choice(OPTED_OUT))
        truth.opted.add(email)
        truth.opted_at[contact.id] = world.time.now_s()
        world.judged["opt-outs"] += 1
        world.say(f"  hand: {email} opted out")
        rows = world.state.query(
            "SELECT * FROM contact WHERE rid=? OR (email=? AND state='ok')", contact.id, email
        )
        for row in rows[:1]:
            # EXEMPT (the engine cannot know): made without a Date, and its id was never told. Once a hand has deleted it and made another
            # one in its place, nothing tells them apart; it counts if an answer has shown the opt-out.
            if row["rid"] is None and contact.id in truth.undated:
                truth.opt_moved.add(email)
                continue
            (truth.opt_mail if row["email"] == email else truth.opt_moved).add(email)
            # EXEMPT (the engine cannot know): an opt-out in the middle of a run, after this run's fresh read of the contact, does not
            # count for a record which the source has already moved to another address and which is about to be linked anew.
            shown_s, judge = truth.shown.get(contact.id, -1.0), world.judge
            read = judge.in_run and shown_s >= judge.run_start_s
            truth.opt_record |= {
                who
                for who, record in world.state.records_of(row["cid"])
                if not (read and self._moving(who, record, row["email"]))
            }

    def _moving(self, who: Key, record: sqlite3.Row, email: str) -> bool:
        if record["dirty"] and record["email"] != email:
            return True
        # Read before the promotion: the check of moved contacts comes before the record is dirty.
        source = self._world.sources.record(who)
        return source is not None and address(source["email"]) not in (None, email)

    def outside(self, rng: random.Random, *, light: bool = False) -> None:
        """A recipient, or somebody who uses FluenzR, does something to one contact. light: what may happen while a run goes on."""
        world = self._world
        world.time.tick(TICK_S)
        idle = [c for c in world.account.contacts.values() if not self.busy(c)]
        if not idle:
            return
        contact, chance = rng.choice(idle), rng.random()
        email = contact.email.lower()
        if chance < 0.35:
            if contact.status == "active":
                if rng.random() < 0.7:
                    self._opt_out(contact, rng)
                else:
                    world.account.opt_out(email, status="replied")
                    world.truth.replied.add(email)
                    world.say(f"  hand: {email} replied")
        elif world.humans:
            self._touch(contact, chance, rng, light=light)
        world.judge.resync(by_hand=True)
        world.time.tick(TICK_S)

    def _touch(  # noqa: C901 - one case a change
        self, contact: Contact, chance: float, rng: random.Random, *, light: bool
    ) -> None:
        world, truth, email = self._world, self._world.truth, contact.email.lower()
        if chance < 0.5:
            world.account.remove(email)
            truth.touched.add(email)
            truth.removed[email] = world.time.now_s()
            world.say(f"  hand: removed {email}")
            if world.wide and rng.random() < 0.4:  # and puts the person back
                world.time.tick(TICK_S)
                self.create(email, rng)
        elif chance < 0.6:
            self._rename(contact, rng.choice([*MAILS, f"new{rng.randrange(3)}@example.com"]))
        elif light:
            return
        elif chance < 0.7:
            world.account.edit(email, firstName="human")
            truth.edited.add(contact.id)
            world.say(f"  hand: edited {email}")
        elif chance < 0.73:
            self._enrol(contact, rng)
        elif chance < 0.8:
            group = rng.choice(["stat", "dyn", "dynhot", "hot"])
            truth.touched.add(email)
            put = rng.random() < 0.5
            (world.account.put_in if put else world.account.take_out)(email, group)
            world.say(f"  hand: {'put' if put else 'took'} {email} {group}")
        elif chance < 0.9:
            self._note(contact)
        elif chance < 0.98:
            self.create(rng.choice(MAILS), rng)
        elif not world.state.query("SELECT 1 FROM contact WHERE inflight IS NOT NULL LIMIT 1"):
            group = rng.choice(["hot", "dynhot"])
            world.account.remove_group(group)
            world.account.add_group(group, dynamic=group in DYNAMIC)
            truth.standing.clear()  # nobody is in it any more
            world.say(f"  hand: made the group {group} anew")

    def _enrol(self, contact: Contact, rng: random.Random) -> None:
        world, email = self._world, contact.email.lower()
        campaign = world.account.campaign(rng.choice(CAMPAIGNS))
        if rng.random() < 0.7:
            world.account.enrol_by_hand(email, campaign.name)
        else:
            campaign.members.pop(contact.id, None)
        world.say(f"  hand: {email} in or out of {campaign.name}")

    def _note(self, contact: Contact) -> None:
        world, email = self._world, contact.email.lower()
        world.account.edit(email, custom_fields={"note": "edited"})
        phone, tag = contact.fields.get("phone"), "human" in contact.tags
        own = {"phone": phone, "tag": tag, "group": False}
        world.truth.unmanaged.setdefault(contact.id, own)["note"] = "edited"
        world.say(f"  hand: noted {email}")

    def _rename(self, contact: Contact, email: str) -> None:
        world, truth, old = self._world, self._world.truth, contact.email.lower()
        claimed = world.state.query(
            "SELECT 1 FROM contact WHERE inflight IS NOT NULL AND (email=? OR move_to=?)",
            email,
            email,
        )
        taken = world.account.contact_by_email(email) is not None or email in truth.forgotten
        if claimed or taken:
            return
        truth.touched |= {old, email}
        if contact.status in OPTED_OUT and old in truth.opt_mail | truth.opt_moved:
            truth.opt_moved.add(email)
        world.account.rename(old, email)
        truth.renamed.add(contact.id)
        world.say(f"  hand: renamed {old} {email} ({contact.id})")
