"""What the engine may never do, judged at each of its requests by what it asks, whether or not the request arrives.

Also what the account must never show, looked at after each request: nobody mailed twice, people's own things as they were.
"""

from collections import Counter
from typing import Any

import orjson

from machine.marks import Who
from machine.model import FORBID_CREATE, FORBID_GROUP, HUMAN, OPTED_OUT, Model
from machine.premises import Premises, Violation
from syncd.sandbox.exchange import Answer, Request
from syncd.sandbox.store import Contact

RECORDS_AT = (
    "SELECT s.name,r.key FROM record r JOIN sync s USING(sync) WHERE r.email=? AND r.live=1"
)


def slot(name: str) -> str:
    """The group that the sources mean, whatever hands have renamed it to."""
    return name.rstrip("+")


class Judge:
    """Looks at every request and at the account. mails_allowed, creates_allowed: what the command that runs may do."""

    def __init__(self, model: Model, premises: Premises) -> None:
        self._model, self._premises, self._account = model, premises, premises.account
        self.sends = True  # the command may create and enrol
        self.complete = False  # this run reads every sync, and none of them is broken
        self.read_out: frozenset[Who] = (
            frozenset()
        )  # who opts out in what this run has read before its first POST
        self.shown: set[str] = set()  # ids of contacts that this process was shown
        self.lost_group = False  # a POST /groups got no answer
        self._known: dict[
            str, tuple[str, str]
        ] = {}  # id -> address and status, when last looked at
        self._mails_seen = 0
        self._updating: set[str] = set()  # addresses of bulk updates that arrived
        self.judged: Counter[str] = Counter()
        self.forgetting = ""  # whom the command that runs is to forget

    def begin(
        self,
        *,
        sends: bool = False,
        complete: bool = False,
        read_out: frozenset[Who] = frozenset(),
        forgetting: str = "",
    ) -> None:
        """A process begins."""
        self.sends, self.complete, self.read_out = sends, complete, read_out
        self.forgetting = forgetting
        self.shown.clear()
        self._model.marks.begin()

    # --- what is asked ------------------------------------------------------------------------------------------

    def asked(self, request: Request) -> None:  # noqa: C901 - one case an endpoint
        """A request arrives, and may yet get lost."""
        self.look()
        method, parts = request.method, request.path.strip("/").split("/")
        if method == "GET":
            return
        if method == "POST" and request.path != "/groups":
            for who in self.read_out:  # every source of this run was read by now
                self._model.marks.add(who, "-", "!", sure=True)
        self.judged[f"{method} {len(parts)}"] += 1
        body: dict[str, Any] = orjson.loads(request.body) if request.body else {}
        match method, parts:
            case "POST", ["contacts", "bulk"] if body["onDuplicate"] == "skip":
                for row in body["contacts"]:
                    self._create(row["email"], body["groupIds"])
            case "POST", ["contacts", "bulk"]:
                for row in body["contacts"]:
                    self._update_many(row)
            case "POST", ["contacts"]:
                self._create(body["email"], body["groupIds"])
            case "POST", ["groups", rid, "contacts"]:
                for one in body.get("contactIds", body.get("contacts", [])):
                    self._join(one, [rid])
            case "POST", ["contacts", rid, "groups"]:
                self._join(rid, body["groupIds"])
            case "PUT", ["contacts", rid] if "email" in body:
                self._move(rid, body["email"])
            case "DELETE", ["contacts", rid]:
                self._delete(rid)
            case "DELETE", ["contacts", rid, "groups"]:
                self._leave(rid, body["groupIds"])
            case "DELETE", ["contacts", rid, "tags"] if HUMAN in body["tags"]:
                raise Violation(f"I3 takes people's own tag from {rid}")

    def _records_at(self, email: str) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self._premises.query(RECORDS_AT, email)]

    def held(self, email: str) -> set[str]:
        """What the engine must know of an address and of the records that want it now."""
        marks, promoted = self._model.marks, self._model.promoted
        records = self._records_at(email)
        held = marks.known([email, *records])
        for name, key in records:
            before = promoted[name].get(key)
            if before is not None and before.email != email:  # promoted by this very process
                held |= marks.before[before.email] - {"#"}
        return held

    def _create(self, email: str, groups: list[str]) -> None:
        held = self.held(email)
        if held & FORBID_CREATE:
            raise Violation(f"I4 asks to create {email}, held against it: {held}")
        if not self.sends:
            raise Violation(f"I8 creates {email}, which this command never may")
        if not self._records_at(email):
            raise Violation(f"I6 asks to create {email}, whom nobody wants")
        self._enrol(email, groups, held)

    def _enrol(self, email: str, groups: list[str], held: set[str]) -> None:
        for rid in groups:
            group = self._account.groups.get(rid)
            if group is None or not group.dynamic:
                continue
            self.judged["enrolment"] += 1
            if held & {"x", "*", f"@{slot(group.name)}"}:
                raise Violation(f"I5 asks to enrol {email} in {group.name}, against it: {held}")
            if not self.sends:
                raise Violation(f"I8 mails {email}, which this command never may")

    def _contact(self, rid: str) -> Contact | None:
        return self._account.contacts.get(rid)

    def _join(self, rid: str, groups: list[str]) -> None:
        contact = self._contact(rid)
        if contact is None:
            return
        email = contact.email.lower()
        groups = [one for one in groups if one not in contact.groups]
        held = self.held(email)
        if groups and held & FORBID_GROUP:
            raise Violation(f"I4 asks to put {email} into a group, held against it: {held}")
        self._enrol(email, groups, held)
        mailing = [
            g for g in groups if g in self._account.groups and self._account.groups[g].dynamic
        ]
        if mailing and rid not in self.shown:
            raise Violation(f"I5 enrols {email} without a fresh read")

    def _move(self, rid: str, target: str) -> None:
        contact, target = self._contact(rid), target.lower()
        if contact is None or contact.email.lower() == target:
            return
        email, held = contact.email.lower(), self._model.marks.known([target])
        self.judged["move"] += 1
        if held & {"!", "-", "#"}:
            raise Violation(f"I4 asks to move {email} to {target}, held against it: {held}")
        if self._records_at(email):
            raise Violation(f"I1 asks to move {email}, who is wanted there, to {target}")
        if not self._records_at(target):
            raise Violation(f"I6 asks to move {email} to {target}, where nobody is wanted")
        if rid not in self.shown:
            raise Violation(f"I5 moves {email} without a fresh read")

    def _update_many(self, row: dict[str, Any]) -> None:
        email = row["email"].lower()
        if set(row) & {"groupIds", "tags", "groups"}:
            raise Violation(f"I5 a bulk update of {email} carries groups or tags")
        if self.held(email) & {"!", "-", "#"}:
            raise Violation(f"I4 {email} opted out, and is in a bulk update")
        self._updating.add(email)

    def _leave(self, rid: str, groups: list[str]) -> None:
        contact, model = self._contact(rid), self._model
        if contact is None:
            return
        email, own = contact.email.lower(), model.own.get(rid)
        humans = {g.id for g in self._account.groups.values() if slot(g.name) == HUMAN}
        opted = "-" in model.marks.possible([*model.everybody(email), *self._records_at(email)])
        if opted:
            model.emptied.add(rid)
        elif own is not None and own.group and humans & set(groups):
            raise Violation(f"I3 takes {email} out of people's own group")

    def _delete(self, rid: str) -> None:
        """Only somebody forgotten, an accident of its own, or its own contact that no source wants."""
        contact, model = self._contact(rid), self._model
        if contact is None or rid in model.hidden:
            return
        email = contact.email.lower()
        self.judged["delete"] += 1
        if email == self.forgetting or model.marks.sure(email, "#") or self._is_condemned(rid):
            return
        if rid in model.by_hand | model.adopted:
            raise Violation(f"I3 asks to delete {email}, which it has not made")
        if contact.status in OPTED_OUT:
            raise Violation(f"I4 asks to delete {email}, who has opted out")
        if not (self.sends and self.complete):
            raise Violation(f"I6 asks to delete {email} without the word of every source")
        if rid not in self.shown:
            raise Violation(f"I5 deletes {email} without a fresh read")
        if self._records_at(email):
            raise Violation(f"I4 asks to delete {email}, whom a source wants")

    def _is_condemned(self, rid: str) -> bool:
        return bool(
            self._premises.query("SELECT 1 FROM contact WHERE rid=? AND state='forget'", rid)
        )

    # --- what comes of it ---------------------------------------------------------------------------------------

    def look(self) -> None:
        """Judge what requests have done to the account since the last look, late ones too."""
        model, account = self._model, self._account
        for rid, contact in account.contacts.items():
            email = contact.email.lower()
            if rid not in self._known:
                self._premises.say(f"    created {email} {rid}")
                if email in self._updating and not contact.groups and not contact.tags:
                    model.hidden[rid] = email  # somebody was gone: to be undone
                if not account.quirks.date_header:
                    model.undated.add(rid)
            elif self._known[rid][0] != email:
                model.moved(self._known[rid][0], email)
        for mail in account.outbox[self._mails_seen :]:
            self._mailed(mail.email.lower(), slot(mail.group))
        self.resync(by_hand=False)

    def _mailed(self, email: str, group: str) -> None:
        self._premises.say(f"    mailed {email} {group}")
        held = self.held(email)
        if f"@{group}" in held:
            raise Violation(f"I5 {email} was enrolled twice in {group}")
        if held & {"!", "-", "#"}:
            raise Violation(f"I4 {email} was mailed, held against it: {held}")
        self._model.marks.add(email, f"@{group}", sure=True)

    def resync(self, *, by_hand: bool) -> None:
        """Take the account as it is. by_hand: whatever is new was made by people."""
        contacts = self._account.contacts
        if by_hand:
            self._model.by_hand |= contacts.keys() - self._known.keys()
            for mail in self._account.outbox[self._mails_seen :]:
                self._model.marks.add(mail.email.lower(), f"@{slot(mail.group)}", sure=False)
        self._known = {rid: (one.email.lower(), one.status) for rid, one in contacts.items()}
        self._mails_seen = len(self._account.outbox)
        for rid in self._model.hidden.keys() - contacts.keys():
            del self._model.hidden[rid]

    def answered(self, request: Request, answer: Answer) -> None:
        """What the engine has learned by this answer."""
        fate = "dropped" if answer.dropped else "cut" if answer.cut else answer.status
        asked = f"{request.query or ''} {request.body.decode()[:400]}".strip()
        self._premises.say(f"  {request.method} {request.path} {asked} -> {fate}")
        self.look()
        if (request.method, request.path) == ("POST", "/groups") and fate not in (201, 409):
            self.lost_group = True
        if request.method != "GET" or answer.dropped or answer.cut or answer.status != 200:
            return
        try:
            data = orjson.loads(answer.body)["data"]
        except (orjson.JSONDecodeError, TypeError):
            return
        for item in data if isinstance(data, list) else [data]:
            if item["id"].startswith("con_"):
                self.shown.add(item["id"])
                if item["status"] in OPTED_OUT:
                    self._model.marks.told(item["email"].lower(), "!")

    # --- at any time --------------------------------------------------------------------------------------------

    def check_own(self) -> None:
        """People's own things are as they left them."""
        model, account = self._model, self._account
        for rid, own in model.own.items():
            contact = account.contacts.get(rid)
            if contact is None:
                continue
            humans = {g.id for g in account.groups.values() if slot(g.name) == HUMAN}
            have = {
                "phone": contact.fields.get("phone"), "note": contact.custom_fields.get("note"),
                "tag": HUMAN in contact.tags, "group": bool(humans & contact.groups.keys()),
            }  # fmt: skip
            for name, value in have.items():
                wanted = getattr(own, name)
                if name == "group" and rid in model.emptied:
                    continue
                if value != wanted:
                    raise Violation(f"I3 {name} of {contact.email}: {wanted} -> {value}")

    def check_forgotten(self) -> None:
        """Whoever was forgotten is not there again by our doing, and no byte of the state names the address."""
        for email, clean in self._model.forgotten.items():
            contact = self._account.contact_by_email(email)
            if not clean:
                continue
            if contact is not None and contact.id not in self._model.by_hand:
                raise Violation(f"I9 {email} was forgotten, and is in FluenzR")
            if found := self._premises.traces(email):
                raise Violation(f"I9 {email} was forgotten, and stands in {found}")
