"""The other commands of the product, and what the model learns from each; in the end it clears up."""

from collections import Counter
from functools import partial
from typing import Any

from machine.marks import Held, Who
from machine.model import (
    MAILS,
    OPTED_OUT,
    REFUSED,
    Promoted,
    Row,
    address,
)
from machine.premises import CALM, Violation, Weather
from machine.runs import Account, Runs
from syncd import forget as forgetting
from syncd import reconcile as reconciling
from syncd import run
from syncd import undo as undoing
from syncd.check import client
from syncd.errors import FluenzrError, SourceError, StateError, StateLost, StateRestored, UsageError
from syncd.state import approvals, marker, release, store, story
from syncd.state.marker import Standing
from syncd.upload import listing

BACK_OFF_S = 25 * 3600.0  # longer than any back-off
LONG_S = 8 * 24 * 3600.0  # longer than any error of the clock
SKEW_S_MAX = 3 * 24 * 3600.0
RUNS_TO_REST = 10  # so many quiet runs, a day apart, bring any account to rest


class Commands(Runs):
    """Everything that is done with one account."""

    # --- other commands ---------------------------------------------------------------------------------------------

    def plan(self, order: run.Order) -> None:
        """It sends nothing but reads, and leaves no trace."""
        self._write((), ())
        self.judge.begin()
        before, writes = (
            (self.premises.tables(), self._files(), self._account()),
            self.premises.tap.writes,
        )
        self.premises.process(
            CALM,
            lambda clock, watch: run.plan(
                self.settings, order, clock=clock, watch=watch, show=lambda change: None
            ),
        )
        self.model.marks.end(kept=False)
        after = (self.premises.tables(), self._files(), self._account())
        fresh = not before[0].get("meta")  # a first start that was cut off: its tables are made now
        if (after != before and not fresh) or self.premises.tap.writes != writes:
            raise Violation("I9 a plan has changed something")

    def _files(self) -> list[bytes]:
        beside = (
            self.premises.path.with_name(f"syncd.db.{end}") for end in ("forgotten", "installed")
        )
        return [file.read_bytes() if file.exists() else b"" for file in beside]

    def approve(self) -> int:
        """Approve everything that is held; how much."""
        rows = self.premises.query("SELECT DISTINCT run,sync FROM held WHERE approved=0")
        for number, sync in rows:
            self.premises.fired["approved"] += 1
            self._change(partial(_approve, number=number, sync=sync))
        return len(rows)

    def _change(self, work: Any) -> Any:
        return self.premises.process(
            CALM,
            lambda clock, watch: store.change(self.premises.path, work, clock=clock, wait_s=0),
        )

    def release(self, email: str) -> None:
        """What was held against somebody ends, as far as it may; nobody is mailed by it."""
        try:
            released = self._change(lambda state: release.release(state, [email]))[0]
        except UsageError:
            return  # nothing is known of the address
        finally:
            self._before_last = None
        self.premises.say(f"  {released}")
        marks = self.model.marks
        marks.release([email, *self.model.keys_at(email)], released.ended)
        for who, places in self.model.been.items():
            if email in places:  # it may still be linked: then it was released, too
                marks.must[who] -= released.ended
        if released.ended:
            marks.add(email, "*", sure=True)
            self.premises.fired["released"] += 1

    def forget(self, email: str, weather: Weather) -> None:
        """From the first line of the log on, the address is never created again, whatever happens to the command."""
        self._before_last = None
        self.judge.begin(forgetting=email)
        keys = [who for who in self.model.been if self._row_of(who) is not None]
        problems: list[str] | None = ["died"]
        with self._excused(weather):
            problems = self.premises.process(weather, partial(self._forget, email))
        self.model.marks.end(kept=False)
        if not self._is_forgotten(email):
            if problems == []:
                raise Violation(f"I9 {email} was forgotten, and stands in no log")
            return
        self.model.marks.add(email, "#", sure=True)
        self.model.forgotten[email] = problems == []
        self.premises.fired["forgotten"] += 1
        for who in keys:
            if self._is_forgotten(who):
                self._forget_record(who, email)
        for who in self.model.keys_at(email):
            raise Violation(f"I9 {email} was forgotten, but not {who}")
        if problems == [] and self.premises.account.contact_by_email(email) is not None:
            raise Violation(f"I9 {email} was forgotten, and is still in FluenzR")
        self.judge.look()
        self.judge.check_own()
        self.judge.check_forgotten()

    def _forget(self, email: str, clock: Any, watch: Any) -> list[str]:
        with client(self.settings, clock) as api:
            return forgetting.forget(
                self.settings, email, api=api, clock=clock, watch=watch, wait_s=0
            )

    def _forget_record(self, who: Who, email: str) -> None:
        assert isinstance(who, tuple)
        if email not in self.model.been[who]:
            raise Violation(f"I9 {who} was forgotten with {email}, where it never was")
        self.model.marks.add(who, "#", sure=True)
        self.model.promoted[who[0]].pop(who[1], None)
        self.model.left.pop(who, None)

    def _row_of(self, who: Who) -> Row | None:
        return self.model.promoted[who[0]].get(who[1]) or self.model.left.get(who)

    def _is_forgotten(self, who: Who) -> bool:
        if not self.premises.query("SELECT 1 FROM meta WHERE k='salt'"):
            return False  # a first start that was cut off
        keys = store.forgotten_keys(self.premises.path)
        with story.reading(self.premises.path) as db:
            if db is None:
                return False
            if isinstance(who, str):
                return store.address_key(db, who) in keys
            numbers = dict(db.execute("SELECT name,sync FROM sync").fetchall())
            return who[0] in numbers and store.record_key(db, numbers[who[0]], who[1]) in keys

    def undo(self, back: int, weather: Weather) -> None:
        """What a run changed is put back, and nobody is mailed, made or deleted."""
        if len(self._runs) <= back:
            return
        number, before = self._runs[-1 - back], self._account()
        last = self._before_last if back == 0 and weather.calm else None
        self._before_last = None
        self.judge.begin()
        result = None
        with self._excused(weather):
            result = self.premises.process(weather, partial(self._undo, number))
        self.model.marks.end(kept=False)
        self._after({}, chosen=False)
        self.premises.say(f"  {result}")
        after, wanted = self._account(), self.model.wanted()
        parts = self._differences(before, after)
        for near in (number - 1, number, number + 1):
            parts |= self._changed.get(near, set())
        for email, part in parts:
            self.model.put_back[email][part] = wanted[email].part(part) if email in wanted else None
        if result is not None and result.error is None:
            self._runs.append(result.run)
            self._changed[result.run] = self._differences(before, after)
            if last is not None and result.exit_code == 0:
                self._check_undone(last, after)

    def _undo(self, number: int, clock: Any, watch: Any) -> undoing.UndoResult:
        with client(self.settings, clock) as api:
            return undoing.undo(
                self.settings, number, api=api, clock=clock, watch=watch, show=self._told, wait_s=0
            )

    def _told(self, found: Any) -> None:
        self.premises.say(f"  {found}")

    def _check_undone(self, before: Account, after: Account) -> None:
        """All of it was undone, right after the run: everybody is as before it."""
        self.premises.fired["undone whole"] += 1
        for email, parts in before.items():
            if email in after and after[email] != parts:
                raise Violation(f"I8 undone, and {email} is {after[email]}, before the run {parts}")

    # --- the state --------------------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """A copy of the database, with what the model knows of it."""
        if self.premises.path.exists():
            self.premises.back_up()
            self._runs_since = 0
            promoted = {name: dict(rows) for name, rows in self.model.promoted.items()}
            self._memory = (self.model.marks.remember(), promoted)

    def lose(self) -> None:
        """The database is gone; only the log of the forgotten is left, and the marker."""
        if self.premises.path.exists() and marker.installed(self.premises.path).exists():
            self.premises.lose()
            self._restored = False
            self._forget_everything({}, {flow.name: {} for flow in self.model.flows}, StateLost)

    def restore(self) -> None:
        """A copy of an earlier day stands in its place."""
        if self._memory is None:
            return
        self.premises.restore()
        if marker.standing(self.premises.path) is Standing.GOOD:
            if self._runs_since:
                raise Violation("I10 a copy of an earlier day passes for the newest state")
            return  # nothing was done since
        self._restored = True
        held, promoted = self._memory
        self._forget_everything(held, promoted, StateRestored)

    def _forget_everything(self, held: Held, promoted: Promoted, refusal: type[StateError]) -> None:
        self.is_lost, self._before_last, self._runs = True, None, []
        marks = self.model.marks
        marks.lose(held)
        for name, rows in self.model.promoted.items():
            self.model.left.update({(name, key): row for key, row in rows.items()})
        self.model.promoted = {
            name: {k: row for k, row in rows.items() if not marks.sure((name, k), "#")}
            for name, rows in promoted.items()
        }
        before = self._account()
        self._write((), ())
        try:
            self.sync_anyway()
        except refusal:
            self.premises.fired[f"refused {refusal.__name__}"] += 1
        else:
            raise Violation("I10 a run went on with a state that is lost or restored")
        if self._account() != before:
            raise Violation("I10 a run that was refused has changed the account")

    def sync_anyway(self) -> None:
        """A run that must be refused."""
        self.premises.process(
            CALM,
            lambda clock, watch: run.sync(self.settings, run.Order(), clock=clock, watch=watch),
        )

    def reconcile(self, weather: Weather, broken: tuple[str, ...] = ()) -> bool:
        """The state is repaired, or built anew; it sends nothing. Whether it was done."""
        if not self.premises.path.exists() and not self.is_lost:
            return False
        self._before_last = None
        reads = self._write(tuple(self.model.sources) if self.is_lost else (), broken)
        self.judge.begin()
        done = None
        try:
            with self._excused(weather):
                done = self.premises.process(weather, self._reconcile)
        except (FluenzrError, SourceError) as error:
            self.premises.say(f"  {error}")
            if weather.calm and not broken:
                raise Violation(f"I7 reconcile failed for no reason: {error}") from error
        kept = done is not None
        self.premises.say(f"  {done}")
        self.model.marks.end(kept=kept)
        if self.is_lost and kept:
            self._rebuilt(reads)
        if not self.is_lost:
            self._after({name: r for name, r in reads.items() if name not in broken}, chosen=False)
        if kept and weather.calm:
            self.model.drift.clear()
        return kept

    def _reconcile(self, clock: Any, watch: Any) -> reconciling.Reconciled:
        with client(self.settings, clock) as api:
            return reconciling.reconcile(
                self.settings, api=api, clock=clock, watch=watch, wait_s=0, lost=False
            )

    def _rebuilt(self, reads: Promoted) -> None:
        """Nobody who is known is ever enrolled, nobody who is missing is created, and who opted out is known again."""
        self.is_lost = False
        marks, account = self.model.marks, self.premises.account
        self.premises.fired["rebuilt from a backup" if self._restored else "rebuilt"] += 1
        for contact in account.contacts.values():
            email = contact.email.lower()
            opted = ["!"] if contact.status in OPTED_OUT else []
            marks.add(email, "*", *opted, sure=True)
            self.model.touched.add(email)
            if not self._restored:
                self.model.adopted.add(contact.id)
        for who in self._opting_out(reads):
            marks.add(who, "-", "!", sure=True)
        for name, rows in reads.items():
            for key, row in rows.items():
                email = address(row.email)
                gone = email is not None and account.contact_by_email(email) is None
                for who in ((name, key), *([email] if email else [])):
                    marks.add(who, "*", sure=True)
                    marks.add(who, "?", sure=gone and not self._restored)
        for email in (*MAILS, REFUSED):
            marks.add(email, "*", "?", "x", sure=False)
            self.model.touched.add(email)
        for who in [*self.model.been]:
            marks.add(who, "*", "?", sure=False)

    def set_clock(self, seconds: float) -> None:
        """The machine's clock was wrong, or is from now on."""
        skew_s = self.premises.skew_s
        skew_s[0] = max(-SKEW_S_MAX, min(SKEW_S_MAX, skew_s[0] + seconds))

    # --- the end ----------------------------------------------------------------------------------------------------

    def clear_up(self) -> None:
        """The weather clears: the account must become what the sources say, and then stay."""
        premises = self.premises
        premises.account.accept(REFUSED)
        premises.time.advance_s(LONG_S)
        if self.is_lost and not self.reconcile(CALM):
            raise Violation("I7 a state could not be rebuilt in calm weather")
        quiet = 0
        for _ in range(RUNS_TO_REST):
            premises.time.advance_s(BACK_OFF_S)
            writes = premises.tap.writes
            self.sync(run.Order(), CALM)
            held = self.approve()
            quiet = quiet + 1 if premises.tap.writes == writes and not held else 0
            if quiet >= 2:
                break
        else:
            raise Violation(f"I2 still writing after {RUNS_TO_REST} runs")
        for email in self.model.forgotten:
            self.model.forgotten[email] = True
        counts = premises.tap.counts.copy()
        self.sync(run.Order(), CALM)
        self._check_quiet(premises.tap.counts - counts)
        self.judge.check_forgotten()
        self.ending.check()
        premises.account.refuse(REFUSED)

    def _check_quiet(self, asked: Counter[tuple[str, str]]) -> None:
        """A quiet run asks for the groups and for those who opted out."""
        pages = 0
        for status in OPTED_OUT:
            people = sum(c.status == status for c in self.premises.account.contacts.values())
            pages += max(1, -(-people // listing.PAGE_ROWS))
            # Without the number of all, a page that is full may have another behind it.
            pages += (
                not self.premises.quirks.total_pages
                and people > 0
                and people % listing.PAGE_ROWS == 0
            )
        if asked != {("GET", "/groups"): 1, ("GET", "/contacts"): pages}:
            raise Violation(f"I2 a quiet run asks too much: {dict(asked)}")


def _approve(state: store.State, *, number: int, sync: str) -> int:
    return approvals.approve(state.db, number, sync, by="ops", now_s=0)
