"""What must be there when the weather has cleared: the account is what the sources say, as far as marks and hands leave it to us."""

from collections import Counter

from machine.judge import slot
from machine.model import DYNAMIC, FORBID_CREATE, FORBID_GROUP, OPTED_OUT, Model, Want
from machine.premises import Premises, Violation
from syncd.sandbox.store import Contact


class Ending:
    """The account against the model, address by address. strict: how often nothing excused anything."""

    def __init__(self, model: Model, premises: Premises) -> None:
        self._model, self._account = model, premises.account
        self.strict: Counter[str] = Counter()

    def check(self) -> None:
        """Raise Violation for the first thing that is not as it should be."""
        wanted = self._model.wanted()
        for email, want in wanted.items():
            contact = self._account.contact_by_email(email)
            if contact is None:
                self._check_absent(email)
            else:
                self._check_present(contact, email, want)
        for contact in self._account.contacts.values():
            email = contact.email.lower()
            if contact.id not in self._model.by_hand:
                self._check_made(contact, email)
                if email not in wanted:
                    self._check_unwanted(contact, email)

    def _check_absent(self, email: str) -> None:
        may = self._model.marks.possible(self._model.everybody(email))
        if not may & FORBID_CREATE:
            raise Violation(f"I1 {email} was not created, and nothing stands against it: {may}")
        self.strict["kept away"] += 1

    def _groups(self, contact: Contact) -> set[str]:
        return {slot(self._account.groups[rid].name) for rid in contact.groups}

    def _check_present(self, contact: Contact, email: str, want: Want) -> None:
        model, everybody = self._model, self._model.everybody(email)
        must, may = model.marks.known(everybody), model.marks.possible(everybody)
        groups = self._groups(contact)
        if "-" in must and contact.id not in model.regrouped and groups - {"human"}:
            raise Violation(f"I4 {email} opted out in a source, and is in {groups}")
        if "-" in may:
            return  # taken out of everything, and left alone from then on
        drift = self._excused(email, want)
        have = {**contact.fields, **contact.custom_fields}
        for name, value in want.fields.items():
            if name in drift or (
                value is None and (model.lingering(email) or email in model.touched)
            ):
                continue  # cleared only where it was ours
            if value is None and contact.id in model.by_hand:
                continue
            if (have.get(name) or None) != (value or None):
                raise Violation(f"I1 {email}.{name} is {have.get(name)!r}, wanted {value!r}")
            self.strict["field"] += 1
        if missing := {tag for tag in want.tags - set(contact.tags) if f"tag {tag}" not in drift}:
            raise Violation(f"I1 {email} lacks the tags {missing}")
        self._check_groups(contact, email, want.groups - groups, drift, may)
        self._check_extra(contact, email, want, drift)

    def _excused(self, email: str, want: Want) -> set[str]:
        undone = self._model.put_back[email]
        return self._model.drift[email] | {n for n, then in undone.items() if want.part(n) == then}

    def _check_groups(
        self, contact: Contact, email: str, missing: set[str], drift: set[str], may: set[str]
    ) -> None:
        if contact.status in OPTED_OUT or may & FORBID_GROUP:
            return
        self.strict["groups"] += 1
        for group in missing:
            mails = group in DYNAMIC
            barred = mails and (may & {"x", "*", "~", f"@{group}"} or contact.status == "replied")
            if not barred and f"group {group}" not in drift:
                raise Violation(
                    f"I1 {email} is not in {group}, and nothing stands against it: {may}"
                )

    def _check_extra(self, contact: Contact, email: str, want: Want, drift: set[str]) -> None:
        """Nothing of ours is left of what was wanted once."""
        model = self._model
        ours = contact.id not in model.by_hand | model.adopted
        if not ours or email in model.touched or model.lingering(email):
            return
        extra = {f"group {name}" for name in self._groups(contact) - want.groups - {"human"}}
        extra |= {f"tag {name}" for name in set(contact.tags) - want.tags - {"human"}}
        if extra - drift:
            raise Violation(f"I6 {email} still has {extra - drift}")
        self.strict["nothing left"] += 1

    def _check_made(self, contact: Contact, email: str) -> None:
        if contact.id in self._model.hidden and contact.id not in self._model.undated:
            raise Violation(
                f"I8 {email} was deleted by hand, made again by an update, and not undone"
            )

    def _check_unwanted(self, contact: Contact, email: str) -> None:
        """Made by us, wanted by nobody any more: as the syncs' policies have it."""
        model = self._model
        excused = email in model.touched or contact.id in model.adopted or model.drift[email]
        been = [who for who, places in model.been.items() if email in places]
        policies = {model.flow(who[0]).policy for who in been if isinstance(who, tuple)}
        if excused or model.put_back[email] or "keep" in policies or not policies:
            return
        if left := [*(self._groups(contact) - {"human"}), *contact.tags]:
            raise Violation(f"I6 nobody wants {email} any more, and it still has {left}")
        self.strict["taken back"] += 1
        may = model.marks.possible([email, *been])
        provable = contact.id not in model.undated and not may & {"!", "-", "x"}
        if policies == {"delete"} and contact.status == "active" and provable:
            raise Violation(f"I6 nobody wants {email} any more, and it was not deleted")
