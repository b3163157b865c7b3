"""What the engine does to the account, judged as it happens: each request before it, after it, and at its answer."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson

from syncd.sandbox import Faults
from syncd.sandbox.app import App
from syncd.sandbox.exchange import Answer, Request
from syncd.sandbox.faults import Effect
from syncd.sandbox.limits import Limit
from syncd.sandbox.people import Account
from syncd.sandbox.store import Contact
from world.sources import Who
from world.truth import CAMPAIGNS, OPTED_OUT, Known, Violation

if TYPE_CHECKING:
    from world.model import World

TICK_S = 1.5  # between any two things that happen: `Date` has whole seconds


class Tap(App):
    """The account's application, with the world looking on."""

    def __init__(self, world: "World", account: Account, faults: Faults) -> None:
        limit = Limit(account.now_s, requests=1000, window="fixed")
        super().__init__(account, faults=faults, limit=limit, api_key=None)
        self._world = world
        # At the request number kill_in the process that asks is ended; `kill` says what becomes of the request.
        self.kill: Callable[[], Effect] | None = None
        self.kill_in = 0
        self.ambush: Callable[[], None] | None = None  # strikes at the request number ambush_in
        self.ambush_in = 0

    def answer(self, request: Request) -> Answer:
        """What goes back, judged."""
        judge = self._world.judge
        if self.ambush is not None:
            self.ambush_in -= 1
            if self.ambush_in == 0:
                self.ambush()
        with judge.judging():
            judge.before(request)
        if self.kill is not None:
            self.kill_in -= 1
            if self.kill_in == 0:
                answer = self._struck(request, self.kill())
                answer.dropped = True
                with judge.judging():
                    judge.look()
                return answer
        answer = super().answer(request)
        with judge.judging():
            judge.look()
            judge.delivered(request, answer)
        return answer

    def settle(self, *, only_due: bool = False) -> None:
        """Late requests take effect; what they do is judged as theirs."""
        with self._account.lock:
            judge = self._world.judge
            with judge.judging():
                judge.look()
            super().settle(only_due=only_due)
            with judge.judging():
                judge.look(late=True)


class Judge:
    """Looks at the account and compares it with the truth.

    duty: what the process that runs is for (sync, enrol, forget, undo, reconcile): each may do less than a run.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        self.duty = "sync"
        self.in_run, self.run_start_s = False, 0.0
        self.hands: random.Random | None = None  # what people do while a process goes on
        self.changes = 0  # requests that were to change something
        self._violation: Violation | None = None

    @contextmanager
    def judging(self) -> Iterator[None]:
        """A violation seen by the server's thread is raised when the run is over."""
        try:
            yield
        except Violation as violation:
            self._violation = self._violation or violation

    def close(self) -> None:
        """Raise what was seen."""
        if self._violation is not None:
            raise self._violation

    def before(self, request: Request) -> None:
        """A request arrives: time has passed, and perhaps somebody does something at this moment."""
        world = self._world
        world.time.tick(TICK_S)
        with world.account.lock:
            world.tap.settle(only_due=True)
            self.look()
            if self.hands is not None and self.hands.random() < (0.06 if world.wide else 0.03):
                world.hands.outside(self.hands, light=True)
            if request.method == "GET":
                return
            self.changes += 1
            if self.duty == "sync" and request.method == "POST" and request.path != "/groups":
                world.truth.latched |= world.sources.due_out  # every source of the run was read
            self._judge_duty(request)
            if request.method == "DELETE" and request.path.count("/") == 2:
                contact = world.account.contacts.get(request.path.rpartition("/")[2])
                if contact is not None:
                    self._judge_delete_sent(contact)

    def _judge_duty(self, request: Request) -> None:
        """What this command may not send at all."""
        asked = f"{request.method} {request.path} {request.body.decode()[:200]}"
        if self.duty == "reconcile":
            raise Violation(f"I10 a reconciliation sends {asked}")
        if self.duty == "enrol" and not request.path.startswith("/campaigns/"):
            raise Violation(f"I10 an enrolment sends {asked}")
        if self.duty == "forget" and request.method != "DELETE":
            raise Violation(f"I10 a forgetting sends {asked}")
        if self.duty != "undo" or not request.path.startswith("/contacts"):
            return
        body = orjson.loads(request.body) if request.body else {}
        creates = request.method == "POST" and (
            request.path == "/contacts" or body.get("onDuplicate") == "skip"
        )
        if creates or (request.method == "PUT" and "email" in body):
            raise Violation(f"I10 an undoing sends {asked}")

    def look(self, *, late: bool = False) -> None:
        """Judge what the engine has done to the account since the last look. late: by a request of earlier."""
        world, truth = self._world, self._world.truth
        with world.account.lock:
            for contact in world.account.contacts.values():
                if contact.id not in truth.known:
                    self._judge_create(contact, late=late)
            for mail in world.account.outbox[truth.mails_seen :]:
                self._judge_enrolment(mail.email.lower(), mail.group or mail.campaign, late=late)
            gone = [i for i in truth.known if i not in world.account.contacts]
            for contact_id in gone:
                self._judge_delete(contact_id, truth.known[contact_id])
            self.resync(by_hand=False)

    def resync(self, *, by_hand: bool) -> None:
        """Take the account as it is."""
        truth, now_s = self._world.truth, self._world.time.now_s()
        before = truth.known
        truth.known = {
            i: Known(
                contact.email.lower(),
                contact.status,
                before[i].by_hand if i in before else by_hand,
                before[i].created_s if i in before else now_s,
            )
            for i, contact in self._world.account.contacts.items()
        }
        truth.mails_seen = len(self._world.account.outbox)

    def _everybody(self, email: str) -> list[Who]:
        return [email, *self._world.state.records_at(email)]

    def _judge_create(self, contact: Contact, *, late: bool) -> None:
        world, truth, email = self._world, self._world.truth, contact.email.lower()
        world.say(f"    created {email} {contact.id}{' (late)' if late else ''}")
        world.judged["creates"] += 1
        truth.made_at[contact.id] = email
        if not world.account.quirks.date_header:
            truth.undated.add(contact.id)
        everybody = self._everybody(email)
        # A request that was sent before may come later; it must be gone in the end.
        if not late and (email in truth.forgotten or {*everybody[1:]} & truth.forgotten):
            raise Violation(f"I9 created {email}, who was forgotten")
        absent = [who for who in everybody if who in truth.absent]
        if absent:
            raise Violation(f"I4 created {email}, but {absent} were not there at the rebuild")
        if any(truth.opted_out(who) for who in everybody):  # allowed only as an accident
            truth.hidden[contact.id] = "had opted out, was deleted, and was created again"

    def _judge_enrolment(self, email: str, group: str, *, late: bool) -> None:
        world, truth = self._world, self._world.truth
        world.say(f"    mailed {email} {group}{' (late)' if late else ''}")
        world.judged["mails"] += 1
        world.judged["campaign mails"] += group in CAMPAIGNS
        if self.duty not in ("sync", "enrol") and not late:
            raise Violation(f"I10 {email} enrolled in {group} by {self.duty}")
        for who in self._everybody(email):
            if (who, group) in truth.enrolled:
                before = truth.enrolled[who, group]
                raise Violation(
                    f"I5 {who} enrolled twice in {group} (before as {before}, now {email})"
                )
            truth.enrolled[who, group] = email
            if who in truth.barred:
                raise Violation(f"I5 enrolled {who} in {group}, who may have been before")
            if truth.opted_out(who):
                raise Violation(f"I4 enrolled {who}, which had opted out")

    def _judge_delete(self, contact_id: str, known: Known) -> None:
        world = self._world
        world.say(f"    deleted {known.email}")
        world.judged["deletes"] += 1
        if world.truth.is_forgotten(contact_id, known.email):
            return
        if known.by_hand:
            raise Violation(f"I3 deleted a contact that it did not create: {known.email}")
        if known.status in OPTED_OUT:
            raise Violation(f"I4 deleted the opted-out contact {known.email}")

    def _judge_delete_sent(self, contact: Contact) -> None:
        """Judged when the request leaves: it may take effect late, when the sources have changed."""
        world, email = self._world, contact.email.lower()
        known = world.truth.known[contact.id]
        if world.truth.is_forgotten(contact.id, email):
            world.truth.forget_ids.add(contact.id)
            return
        row = world.state.query(
            "SELECT inflight_at FROM contact WHERE email=? AND inflight='update'", email
        )
        if row and row[0][0] is not None and row[0][0] <= known.created_s * 1000:
            return  # undoing its own accident
        if self.duty != "sync":
            raise Violation(f"I10 {email} deleted by {self.duty}")
        wanted = world.sources.wants_address(email, world.truth.forgotten)
        if known.created_s < self.run_start_s and wanted:
            raise Violation(f"I4 deleted the wanted contact {email}")

    def delivered(self, request: Request, answer: Answer) -> None:
        """What of the answer has reached the engine."""
        world, truth = self._world, self._world.truth
        fate = "dropped" if answer.dropped else "cut" if answer.cut else answer.status
        body = request.body.decode()[:600]
        world.say(f"  {request.method} {request.path} {request.query or ''} {body} -> {fate}")
        if request.method != "GET" or answer.dropped or answer.cut or answer.status != 200:
            return
        if request.path.startswith("/campaigns"):
            return
        try:
            data: Any = orjson.loads(answer.body)["data"]
        except (orjson.JSONDecodeError, TypeError):
            return
        for item in data if isinstance(data, list) else [data]:
            if item["id"].startswith("con_"):
                truth.shown[item["id"]] = world.time.now_s()
                truth.shown_as[item["id"]] = item["email"].lower()
                if item["status"] in OPTED_OUT:
                    truth.observed.add(item["email"].lower())
