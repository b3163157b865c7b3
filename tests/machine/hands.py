"""What recipients and the people who use FluenzR do, and what the model has to know of it."""

from collections.abc import Callable

from machine.judge import Judge, slot
from machine.model import HUMAN, MAILS, OPTED_OUT, Model, Own
from machine.premises import TICK_S, Premises
from syncd.sandbox.exchange import Refusal
from syncd.sandbox.store import Contact

KNOWN = (
    "SELECT 1 FROM contact WHERE state='ok' AND inflight IS NULL AND email=? AND coalesce(rid,?)=?"
)


class Hands:
    """Everything that hands do. What needs a contact takes one by a number; nobody touches what is in flight, for no read could tell."""

    def __init__(self, model: Model, premises: Premises, judge: Judge) -> None:
        self._model, self._premises, self._judge = model, premises, judge
        self._account = premises.account
        # What may also happen in the middle of a run.
        self._acts: tuple[Callable[[int], None], ...] = (
            self.opt_out, self.opt_out, self.remove_unseen, self.edit, self.create,
        )  # fmt: skip
        premises.act = self.act

    def act(self, number: int) -> None:
        """Something at this very moment, while a run goes on."""
        self._premises.fired["hand in a run"] += 1
        self._acts[number % len(self._acts)](number // len(self._acts))

    def _pick(self, number: int, *, idle: bool = True) -> Contact | None:
        everybody = sorted(
            self._account.contacts.values(), key=lambda contact: contact.email.lower()
        )
        if not everybody:
            return None
        contact = everybody[number % len(everybody)]
        taken = idle and self._premises.busy(contact.email.lower(), contact.id)
        return None if taken else contact

    def _done(self, what: str, *words: object) -> None:
        self._premises.fired[f"hand: {what}"] += 1
        self._premises.say(f"  hand: {what} {' '.join(map(str, words))}")
        self._judge.resync(by_hand=True)
        self._premises.time.advance_s(TICK_S)

    def opt_out(self, number: int) -> None:
        """Somebody unsubscribes, bounces, is blocked, or replies. It may meet a contact that is in flight."""
        contact = self._pick(number, idle=False)
        if contact is None or contact.status != "active":
            return
        status = (*OPTED_OUT, "replied")[number // 7 % 4]
        self._account.opt_out(contact.email, status=status)
        mark = "~" if status == "replied" else "!"
        self._model.marks.add(contact.email.lower(), mark, sure=False)
        for row in self._premises.query("SELECT email FROM contact WHERE rid=?", contact.id):
            self._model.marks.add(row["email"], mark, sure=False)
        self._done("replied" if status == "replied" else "opted out", contact.email, status)

    def remove(self, number: int, *, seen: bool = True) -> None:
        """Somebody deletes a contact. seen: between two runs, so that the engine will notice if it knew the contact."""
        contact = self._pick(number)
        if contact is None:
            return
        email = contact.email.lower()
        known = seen and bool(self._premises.query(KNOWN, email, contact.id, contact.id))
        self._account.remove(email)
        self._model.marks.add(email, "x", sure=known)
        self._model.touched.add(email)
        self._done("removed", email)

    def remove_unseen(self, number: int) -> None:
        """In the middle of a run: whether the engine could know is left open."""
        self.remove(number, seen=False)

    def edit(self, number: int) -> None:
        """Somebody writes over a field that is mapped."""
        contact = self._pick(number)
        if contact is not None:
            self._account.edit(contact.email, firstName="human")
            self._model.drift[contact.email.lower()].add("firstName")
            self._done("edited", contact.email)

    def note(self, number: int) -> None:
        """Somebody writes into a custom field that is not mapped."""
        contact = self._pick(number)
        if contact is not None:
            self._account.edit(contact.email, custom_fields={"note": f"noted {number}"})
            self._own(contact).note = f"noted {number}"
            self._done("noted", contact.email)

    def _own(self, contact: Contact) -> Own:
        group = any(slot(self._account.groups[rid].name) == HUMAN for rid in contact.groups)
        own = Own(
            contact.fields.get("phone"),
            contact.custom_fields.get("note"),
            HUMAN in contact.tags,
            group,
        )
        return self._model.own.setdefault(contact.id, own)

    def put_in(self, number: int) -> None:
        """Somebody puts a contact into a group."""
        self._group(number, put=True)

    def take_out(self, number: int) -> None:
        """Somebody takes a contact out of a group."""
        self._group(number, put=False)

    def _group(self, number: int, *, put: bool) -> None:
        contact, groups = self._pick(number), list(self._account.groups.values())
        if contact is None or not groups:
            return
        group, email = groups[number // 5 % len(groups)], contact.email.lower()
        if (group.id in contact.groups) is put:
            return
        own = self._own(contact)
        (self._account.join if put else self._account.leave)(contact, [group.id])
        if slot(group.name) == HUMAN:
            own.group = put
            self._model.emptied.discard(contact.id)
        elif put:
            self._model.regrouped.add(contact.id)
        self._model.drift[email].add(f"group {slot(group.name)}")
        self._model.marks.add(email, *([f"@{slot(group.name)}"] if put else []), sure=False)
        self._done("put in" if put else "taken out", email, group.name)

    def tag(self, number: int) -> None:
        """Somebody gives a tag of their own, or takes away one of ours."""
        contact = self._pick(number)
        if contact is None:
            return
        email, own = contact.email.lower(), self._own(contact)
        taken = contact.tags[0] if contact.tags and number % 2 else ""
        kept = [tag for tag in contact.tags if tag != taken]
        self._account.edit(email, tags=kept if taken else [*kept, HUMAN])
        own.tag = HUMAN in contact.tags
        if taken and taken != HUMAN:
            self._model.drift[email].add(f"tag {taken}")
        self._done("untagged" if taken else "tagged", email, taken)

    def create(self, number: int) -> None:
        """Somebody adds a contact of their own, perhaps where one was deleted."""
        email = MAILS[number % len(MAILS)]
        if self._account.contact_by_email(email) is not None or self._premises.busy(email):
            return
        contact = self._account.add_contact(
            email,
            firstName="orig",
            phone=f"p{number}",
            custom_fields={"note": "keep"},
            tags=[HUMAN],
        )
        own = self._own(contact)
        if number % 3 == 0:
            groups = self._account.groups.values()
            self._account.join(contact, [next(g.id for g in groups if slot(g.name) == HUMAN)])
            own.group = True
        self._model.touched.add(email)
        self._done("created", email, contact.id)

    def rename_group(self, number: int) -> None:
        """Somebody gives a group another name."""
        groups = list(self._account.groups.values())
        group = groups[number % len(groups)]
        with self._account.lock:
            try:
                self._account.rename_group(group, group.name + "+")
            except Refusal:
                return
        self._done("renamed group", group.name)

    def remake_group(self, number: int) -> None:
        """Somebody deletes a group, and perhaps makes it anew."""
        groups = [g for g in self._account.groups.values() if slot(g.name) != HUMAN]
        flying = self._premises.query("SELECT 1 FROM contact WHERE inflight IS NOT NULL LIMIT 1")
        if not groups or flying:
            return
        group = groups[number % len(groups)]
        self._account.delete_group(group)
        if number // 8 % 2:
            self._account.create_group(group.name, dynamic=group.dynamic)
        self._done("remade group", group.name)
