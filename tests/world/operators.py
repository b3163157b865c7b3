"""What operators do between two runs, each by the product's own commands: approve, forget, release, reconcile, undo; and what
befalls the state: a backup, a loss, a restoration, a clock that is set anew.

What each means for what is true afterwards is written into the truth here.
"""

import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from syncd import enrolment as enrolling
from syncd import forget as forgetting
from syncd import reconcile as reconciling
from syncd import run
from syncd import undo as undoing
from syncd.check import client
from syncd.core.undo import NotUndone, Reason
from syncd.enrolment import Choice, Enrolment
from syncd.errors import FluenzrError, SourceError, StateLost, StateRestored, UsageError
from syncd.reconcile import Reconciled
from syncd.state import approvals, store
from syncd.state import release as releasing
from syncd.state.marker import Standing as Stands
from syncd.state.marker import standing
from syncd.undo import UndoResult
from syncd.watch import Nobody
from world.clock import RunClock
from world.peek import Peek, PutBack
from world.process import Command, Refusal
from world.sources import Wanted, Who, address
from world.truth import CAMPAIGNS, OPTED_OUT, Standing, Violation

if TYPE_CHECKING:
    from world.model import World

STEP_KINDS = (
    "approve", "forget", "release", "undo", "undo of an undoing", "repair", "rebuild: lost",
    "rebuild: restored", "clock forward", "clock back", "enrol",
)  # fmt: skip
RUNS_BACK = 6  # so far back a run is undone
# Reasons for which nothing at all of a contact is put back.
WHOLE = {Reason.DELETED, Reason.GONE, Reason.TOUCHED, Reason.WAITS, Reason.OPTED_OUT, Reason.UNREADABLE, Reason.MOVED}  # fmt: skip
PATIENCE = 3  # rebuildings in bad weather; then it clears

# Who stands behind an address: its contact, and one that is on its way to it, unless somebody else stays behind at its old address.
BEHIND = """
SELECT c.cid, c.email, c.rid FROM contact c WHERE c.email=?1 OR c.cid IN (SELECT cid FROM record WHERE email=?1)
AND NOT EXISTS (SELECT 1 FROM record o WHERE o.email=c.email AND o.live=1)
"""


class Operators:
    """Carries commands out, and keeps the last backup."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._copy: Peek | None = None
        self._runs_since_copy = 0  # that ended by themselves: what the copy does not know

    def note_run(self) -> None:
        """A run has ended by itself."""
        self._runs_since_copy += 1

    def step(self, rng: random.Random, share: float) -> None:
        """One of them, by chance. share: of the requests that go wrong."""
        world = self._world
        steps: list[tuple[Callable[[], object], float]] = [
            (lambda: self.forget(rng, share), 2.0),
            (lambda: self.release(rng), 3.0),
            (lambda: self.undo(rng, share), 4.0),
            (lambda: self.repair(rng, share), 2.0),
            (lambda: self.enrol(rng, share), 3.0),
        ]
        if world.guarded:
            steps.append((self.approve, 3.0))
        if world.jumpy:
            steps.append((lambda: self._set_clock(rng), 2.0))
        if world.lossy:
            steps.append((lambda: self._lose(rng, share), 1.5))
            steps.append((lambda: self._restore(rng, share), 3.0 if self._copy else 0.0))
        step = rng.choices([step for step, _ in steps], [weight for _, weight in steps])[0]
        step()

    def _set_clock(self, rng: random.Random) -> None:
        self._world.engine.ahead_s = self._world.engine.jumped_s(rng)

    def _change(self, work: Callable[[store.State], Any]) -> Command:
        return lambda clock: store.change(self._world.state.path, work, clock=clock)

    # --- approve, release -------------------------------------------------------------------------------------

    def approve(self) -> None:
        """Somebody approves everything that is held."""
        world = self._world
        rows = world.state.query("SELECT DISTINCT run,sync FROM held WHERE approved=0")
        for number, sync in rows:
            world.say(f"  approve {number} {sync}")
            command = self._change(partial(_approve, number=number, sync=sync))
            done = world.engine.carry_out(command, random.Random(number), share=0.0)
            if isinstance(done, Refusal):
                raise Violation(f"I7 approve is refused: {done.words}")
            world.fired["approve"] += 1

    def release(self, rng: random.Random, email: str | None = None) -> None:
        """Somebody releases an address, rather one against which something stands."""
        world, truth = self._world, self._world.truth
        # Also whoever has no row any more, or none yet: the ledger outlives them.
        everybody = world.state.people() | set(world.mails)
        before = world.state.marks(everybody)
        ends = [who for who, marks in before.items() if marks & {"x", "?", "-"}]
        barred = sorted(who for who in ends if isinstance(who, str) and who in world.mails)
        email = email or rng.choice(barred if barred and rng.random() < 0.9 else world.mails)
        world.say(f"  release {email}")
        command = self._change(lambda state: releasing.release(state, [email]))
        done = world.engine.carry_out(command, rng, share=rng.choice([0.0, 0.1]), hands=False)
        if isinstance(done, Refusal) and done.kind is not UsageError:
            raise Violation(f"I7 release is refused: {done.words}")
        after = world.state.marks(everybody)
        ended = {who: before[who] - after[who] for who in everybody if before[who] - after[who]}
        if not ended:
            return
        world.fired["release"] += 1
        self._judge_release(email, ended)
        world.say(f"  released {ended}")
        truth.barred.add(email)
        contact = world.account.contact_by_email(email)
        agreed = contact is not None and contact.status not in OPTED_OUT
        for who, marks in ended.items():
            if "?" in marks:
                truth.absent.discard(who)
            if "-" in marks:
                truth.latched.discard(who)
                truth.seen_out.discard(who)
            # The source's word and FluenzR's agree; or nobody can know what FluenzR's was: the state is lost, or a hand deleted
            # the contact before any answer showed it. Then it is upon whoever releases, and nobody is mailed by it.
            unseen = "?" in marks or ("x" in marks and email not in truth.observed)
            lifted: set[Who] = {who} if "-" in marks and agreed else set()
            if unseen and "!" not in after[who]:
                lifted |= {who, *world.state.records_at(email)}
            for people in (truth.opt_mail, truth.opt_moved, truth.opt_record):
                people -= lifted

    def _judge_release(self, email: str, ended: dict[Who, set[str]]) -> None:
        """An opt-out ends only where the sources say no more that there is one, and FluenzR shows none."""
        world, truth = self._world, self._world.truth
        ends = {who for who, marks in ended.items() if marks & {"-", "!"}}
        said = ends & truth.saying & world.sources.says_out()
        if said:
            raise Violation(f"I4 release ended an opt-out, which a source says of {said}")
        contact = world.account.contact_by_email(email)
        if contact is None or email not in ends or email in truth.touched:
            return
        out = contact.status in OPTED_OUT
        if out and truth.opted_at.get(contact.id, truth.good_s) < truth.good_s:
            raise Violation(f"I4 release ended an opt-out, which FluenzR shows at {email}")

    # --- forget -----------------------------------------------------------------------------------------------

    def forget(self, rng: random.Random, share: float) -> None:
        """Somebody asks to be forgotten. Whatever becomes of the command: what stands in the file holds."""
        world, truth, email = self._world, self._world.truth, rng.choice(self._world.mails)
        if email in truth.forgotten or len(truth.forgotten) > len(world.mails):
            return
        behind = world.state.query(BEHIND, email)
        meant: set[Who] = {email, *(r["email"] for r in behind if not r["email"].startswith("?"))}
        rows = world.state.query(
            "SELECT s.name,r.key FROM record r JOIN sync s USING(sync) WHERE r.email=?", email
        )
        meant |= {(row[0], row[1]) for row in rows}
        meant |= {who for r in behind for who, _ in world.state.records_of(r["cid"])}
        world.say(f"  forget {email}: {meant}")
        before = set(truth.forgotten)
        truth.forgotten |= meant
        truth.forget_ids |= {row["rid"] for row in behind if row["rid"]}

        def command(clock: RunClock) -> list[str]:
            with client(world.settings, clock) as api:
                return forgetting.forget(
                    world.settings, email, api=api, clock=clock, watch=Nobody(), wait_s=0.0
                )

        done = world.engine.carry_out(command, rng, share=share, duty="forget")
        if isinstance(done, Refusal) or (done and not share):
            raise Violation(f"I7 forget has problems for no reason: {done}")
        if done is None:
            truth.forgotten = before | world.state.forgotten(meant)
            return
        world.fired["forget"] += 1
        world.say(f"  forgotten: {done}")
        missing = meant - world.state.forgotten(meant)
        if missing:
            raise Violation(f"I9 {email} was forgotten, but not {missing}")

    # --- enrol ------------------------------------------------------------------------------------------------

    def enrol(self, rng: random.Random, share: float) -> None:
        """Somebody enrols a group in a campaign, who may also be enrolled by a sync."""
        world = self._world
        name, group = rng.choice(CAMPAIGNS), rng.choice(["stat", "human", "hot"])
        if not world.state.query("SELECT 1 FROM run LIMIT 1"):
            return
        world.say(f"  enrol {group} in {name}")

        def command(clock: RunClock) -> Enrolment:
            with client(world.settings, clock) as api:
                return enrolling.enrol(
                    world.settings, name, Choice(groups=(group,)), allow=100, dry_run=False,
                    api=api, clock=clock, watch=Nobody(), wait_s=0.0,
                )  # fmt: skip

        done = world.engine.carry_out(command, rng, share=share, duty="enrol")
        if isinstance(done, Refusal):
            if not (share and issubclass(done.kind, FluenzrError)):
                raise Violation(f"I7 enrol is refused for no reason: {done.words}")
        elif done is not None:
            world.fired["enrol"] += 1
            world.say(f"  enrolled: {done}")

    # --- undo -------------------------------------------------------------------------------------------------

    def undo(self, rng: random.Random, share: float) -> None:
        """Somebody undoes one of the last runs, or an undoing."""
        world = self._world
        rows = world.state.query("SELECT run,kind FROM run ORDER BY run DESC LIMIT ?", RUNS_BACK)
        if not rows:
            return
        undoings = [row["run"] for row in rows if row["kind"] == "undo"]
        certain = [number for number, did in world.truth.did.items() if did]
        number = rng.choice(rows)["run"]
        if undoings and rng.random() < 0.3:
            number = rng.choice(undoings)
        elif certain and rng.random() < 0.6:
            number, share = certain[-1], 0.0  # then it can be judged what it must do
        kind = world.state.query("SELECT kind FROM run WHERE run=?", number)[0][0]
        world.say(f"  undo {number} ({kind})")

        def command(clock: RunClock) -> tuple[UndoResult, list[NotUndone]]:
            told: list[NotUndone] = []
            with client(world.settings, clock) as api:
                result = undoing.undo(
                    world.settings, number, api=api, clock=clock, watch=Nobody(),
                    show=told.append, wait_s=0.0,
                )  # fmt: skip
            return result, told

        done = world.engine.carry_out(command, rng, share=share, duty="undo")
        if isinstance(done, Refusal) or (done and done[0].error and not share):
            raise Violation(f"I7 undo fails for no reason: {done}")
        if done is not None:
            result, told = done
            world.fired["undo of an undoing" if kind == "undo" else "undo"] += 1
            world.say(f"  undone: {result} {told}")
            if not share and kind == "sync":
                self._judge_undone(number, told)
        self._note_put_back(given_back=kind == "undo")

    def _judge_undone(self, number: int, told: list[NotUndone]) -> None:
        """What the command does not tell as kept is as it was before the run."""
        world, truth, values = self._world, self._world.truth, self._world.shown_values()
        for (contact_id, name, then), old in truth.did.get(number, {}).items():
            contact = world.account.contacts.get(contact_id)
            email, label = then, "customFields.score" if name == "score" else name
            if contact is None or contact_id in truth.edited or contact.email.lower() != then:
                continue
            # EXEMPT (the engine cannot know): where a skipped create adds groups all the same, it looks as if the person was there.
            skipped = world.quirks.bulk_skip_adds_groups and truth.known[contact_id].by_hand
            if skipped and name.startswith("group "):
                continue
            about = [one for one in told if one.email == email]
            kept = any(one.reason in WHOLE or one.what.startswith(f"{label}:") for one in about)
            if kept or email in truth.touched:
                continue
            world.judged["undone"] += 1
            have = values[contact_id, name]
            if (have or None) != (old or None):
                raise Violation(f"I10 {name} of {email} was {old!r} before {number}: {have!r}")

    def _note_put_back(self, *, given_back: bool) -> None:
        """What stands now, where the sources say the same as they did when they were promoted."""
        world, truth = self._world, self._world.truth
        found = {
            (email, one.part, one.name): one
            for email, several in world.state.exceptions().items()
            for one in several
        }
        if given_back:
            truth.standing = {k: one for k, one in truth.standing.items() if k in found}
        wanted = world.sources.wanted(truth.forgotten)
        for place, one in found.items():
            want = wanted.get(place[0])
            if want is not None and self._stands(place[0], one, want):
                truth.standing[place] = Standing(want, one.instead)

    def _stands(self, email: str, one: PutBack, want: Wanted) -> bool:
        """Whether the files want exactly what was undone, and nobody else has a say."""
        truth, state = self._world.truth, self._world.state
        rows = state.query("SELECT cid FROM contact WHERE email=?", email)
        linked = {who for row in rows for who, _ in state.records_of(row["cid"])}
        out = truth.latched & {email, *linked}
        if one.left or linked != want.records or out or email in truth.touched:
            return False
        if one.part in "fc":
            return bool(want.fields.get(one.name, ()) == one.undone)
        names = want.groups if one.part == "g" else want.tags
        return (one.name in names) is bool(one.undone)

    # --- reconcile --------------------------------------------------------------------------------------------

    def repair(self, rng: random.Random, share: float) -> None:
        """The state is there, and made to agree with FluenzR."""
        world = self._world
        if not world.state.query("SELECT 1 FROM run LIMIT 1"):
            return
        world.say("  reconcile: repair")
        done = self._reconcile(rng, share, lost=False, hands=True)
        if isinstance(done, Refusal) and not (share and issubclass(done.kind, FluenzrError)):
            raise Violation(f"I7 reconcile is refused for no reason: {done.words}")
        if isinstance(done, Reconciled):
            world.fired["repair"] += 1
            world.say(f"  reconciled: {done}")
            if done.was is not Stands.GOOD:
                raise Violation(f"I7 a state that is there counts as {done.was}")
            if not done.repaired.doubtful:
                world.truth.edited.clear()  # the next run puts right what was changed by hand

    def _reconcile(self, rng: random.Random, share: float, *, lost: bool, hands: bool) -> Any:
        world = self._world

        def command(clock: RunClock) -> Reconciled:
            with client(world.settings, clock) as api:
                return reconciling.reconcile(
                    world.settings, api=api, clock=clock, watch=Nobody(), wait_s=0.0, lost=lost
                )

        return world.engine.carry_out(command, rng, share=share, duty="reconcile", hands=hands)

    def back_up(self) -> None:
        """A copy of the database, as an operator makes it at any time between two commands."""
        if self._world.state.query("SELECT 1 FROM run LIMIT 1"):
            self._world.say("  backup")
            self._copy = self._world.state.back_up(self._world.folder / "backup.db")
            self._runs_since_copy = 0

    def _restore(self, rng: random.Random, share: float) -> None:
        """The last backup is put in the state's place."""
        world = self._world
        if self._copy is None:
            return
        world.say(f"  restore: {self._runs_since_copy} runs ago")
        world.state.restore(self._copy)
        if not self._runs_since_copy and self._refusal(rng) is None:
            return  # it is the newest one still
        self._must_be_refused(rng, StateRestored)
        world.fired["restored: noticed"] += 1
        self._rebuild(rng, share, copy=self._copy, lost=False)
        self._copy = None

    def _lose(self, rng: random.Random, share: float) -> None:
        """The database is gone; where nobody was forgotten yet, everything may be."""
        world = self._world
        if not world.state.query("SELECT 1 FROM run LIMIT 1"):
            return
        everything = not world.truth.forgotten and rng.random() < 0.3
        world.say(f"  lose the state{', all of it' if everything else ''}")
        world.state.lose(*((".installed", ".lock", ".forgotten") if everything else ()))
        if everything:
            self._copy = None  # its hashes have another salt than those to come
        else:
            self._must_be_refused(rng, StateLost)
        self._rebuild(rng, share, copy=None, lost=everything)

    def _refusal(self, rng: random.Random) -> Refusal | None:
        """What a command says that may not run now; None: it runs. A plan leaves everything as it is."""
        world = self._world
        world.write_sources(set())
        command: Command = lambda clock: run.plan(  # noqa: E731 - of a type that is checked
            world.settings, run.Order(), clock=clock, watch=Nobody(), show=lambda change: None
        )
        done = world.engine.carry_out(command, rng, share=0.0, duty="reconcile")
        return done if isinstance(done, Refusal) else None

    def _must_be_refused(self, rng: random.Random, *kinds: type[Exception]) -> None:
        """Nothing runs, and `reconcile` is asked for."""
        world = self._world
        several: list[Command] = [
            lambda clock: run.sync(world.settings, run.Order(), clock=clock, watch=Nobody()),
            self._change(lambda state: releasing.release(state, [world.mails[0]])),
            self._change(partial(_approve, number=1, sync="s1")),
        ]
        world.write_sources(set())
        command = rng.choice(several)
        done = world.engine.carry_out(command, rng, share=0.0, duty="reconcile")
        if not isinstance(done, Refusal) or done.kind not in kinds:
            raise Violation(f"I5 a state that is not the newest one was used: {done}")
        if "syncd reconcile" not in done.words:
            raise Violation(f"I7 nothing asks for reconcile: {done.words}")

    def _rebuild(self, rng: random.Random, share: float, *, copy: Peek | None, lost: bool) -> None:
        """Until it is done; before that nothing else runs."""
        world = self._world
        for attempt in range(PATIENCE + 1):
            bad = attempt < PATIENCE
            broken = {name for name in world.sources.tables if bad and rng.random() < 0.1}
            world.write_sources(broken)
            full = world.fired["full disk"]
            done = self._reconcile(rng, share if bad else 0.0, lost=lost, hands=False)
            if isinstance(done, Reconciled):
                break
            # SQLite commits the state, then the scratch file; where only that one has no room any more, all of it was kept.
            if world.fired["full disk"] > full and standing(world.state.path) is Stands.GOOD:
                break
            if isinstance(done, Refusal):
                reason = (broken and done.kind is SourceError) or (
                    share and bad and issubclass(done.kind, FluenzrError)
                )
                if not reason:
                    raise Violation(f"I7 reconcile is refused for no reason: {done.words}")
            if attempt or not lost:  # of a folder that was lost whole, nothing shows it before
                self._must_be_refused(rng, StateLost, StateRestored)
        else:
            raise Violation("I7 the weather is clear, and reconcile does not end")
        world.say(f"  reconciled: {done}")
        world.fired["rebuild: restored" if copy else "rebuild: lost"] += 1
        world.truth.did.clear()
        world.truth.note_rebuilt(
            sources=world.sources.everybody(),
            unreachable=self._unreachable(copy),
            due_out=world.sources.due_out,
            copy=copy,
        )
        world.truth.latched |= world.sources.due_out
        world.truth.seen_out |= world.sources.due_seen

    def _unreachable(self, copy: Peek | None) -> set[Who]:
        """Who stands in a source and is not in FluenzR: address and key. A contact that the copy knows may have moved, with its record."""
        world = self._world
        account = {known.email for known in world.truth.known.values()}
        linked = set[Who]()
        if copy is not None:
            rows = copy.query(
                "SELECT s.name,r.key FROM record r JOIN sync s USING(sync) WHERE r.cid IS NOT NULL"
            )
            linked = {(row[0], row[1]) for row in rows}
        found, moved = set[Who](), set[Who]()
        for name, records in world.sources.tables.items():
            for key, record in records.items():
                email = address(record["email"])
                here: set[Who] = {(name, key), *([email] if email else [])}
                (moved if (name, key) in linked else found).update(
                    set() if email in account else here
                )
        return found - moved


def _approve(state: store.State, *, number: int, sync: str) -> int:
    return approvals.approve(state.db, number, sync, by="ops", now_s=0)
