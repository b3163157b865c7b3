"""Runs of the engine in any weather, and what the model learns from each: what was promoted, who opted out, what must balance."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from machine.ending import Ending
from machine.hands import Hands
from machine.judge import Judge, slot
from machine.marks import Held, Who
from machine.model import (
    DYNAMIC,
    HUMAN,
    REFUSED,
    STATIC,
    Flow,
    Model,
    Promoted,
    Row,
)
from machine.premises import SETTLE_S, Premises, Violation, Weather
from syncd import config, run
from syncd.core.result import Status, SyncResult
from syncd.errors import StateError
from syncd.sandbox import Quirks, Sandbox

KEY = "flz_sk_" + "m" * 32
LIVE = "SELECT s.name,r.key,r.email,r.data FROM record r JOIN sync s USING(sync) WHERE r.live=1"
FEW = "max_enrolments = 1\nmax_removals = 1\nmax_creates = 2\nmax_field_changes = 2\nmax_shrink = '50%'\n"
MANY = "max_enrolments = 100\nmax_removals = 100\nmax_creates = 100\nmax_field_changes = 100\nmax_shrink = 100\n"

Account = dict[str, dict[str, Any]]  # address -> part -> value, as `Want.part` names them


class Runs:
    """One account with its engine. is_lost: the state must be rebuilt before anything else."""

    def __init__(
        self, folder: Path, host: Sandbox, quirks: Quirks, flows: list[Flow], *, guarded: bool
    ) -> None:
        self.model = Model(flows)
        self.premises = Premises(folder, host, quirks)
        self.judge = Judge(self.model, self.premises)
        self.premises.asked, self.premises.answered = self.judge.asked, self.judge.answered
        self.hands = Hands(self.model, self.premises, self.judge)
        self.ending = Ending(self.model, self.premises)
        self.is_lost = False
        self._memory: tuple[Held, Promoted] | None = None  # what the backup knows
        self._restored = False
        self._runs_since = 0  # ended well since the backup
        self._runs: list[int] = []
        self._changed: dict[int, set[tuple[str, str]]] = {}  # run -> address and part
        self._before_last: Account | None = (
            None  # before the last run, if nothing has happened since
        )
        account = self.premises.account
        for name in (*DYNAMIC, STATIC[0], HUMAN):
            account.add_group(name, dynamic=name in DYNAMIC)
        account.refuse(REFUSED)
        (folder / "config.toml").write_text(
            f'[fluenzr]\napi_key = "env:SYNCD_MACHINE_KEY"\nbase_url = "{host.url}"\nsettle = "{SETTLE_S:g} seconds"\n'
            f"[guard]\n{FEW if guarded else MANY}" + "".join(flow.table() for flow in flows)
        )
        self.settings = config.load(folder / "config.toml")

    @property
    def has_backup(self) -> bool:
        """Whether there is a copy to be put back."""
        return self._memory is not None

    @property
    def has_run(self) -> bool:
        """Whether there is a run to be undone."""
        return bool(self._runs)

    def holds(self) -> bool:
        """Whether something is held."""
        return bool(self.premises.query("SELECT 1 FROM held WHERE approved=0 LIMIT 1"))

    # --- runs -------------------------------------------------------------------------------------------------------

    def sync(self, order: run.Order, weather: Weather, broken: tuple[str, ...] = ()) -> bool:
        """One run. Whether it ended well."""
        names = order.names or tuple(self.model.sources)
        reads = self._write(names, broken)
        out = self._opting_out(reads)
        whole = not (order.names or order.chosen or broken)
        self.judge.begin(sends=True, complete=whole, read_out=out)
        before = self._account()
        results = None
        with self._excused(weather):
            results = self.premises.process(
                weather,
                lambda clock, watch: run.sync(self.settings, order, clock=clock, watch=watch),
            )
        failed = results is None or any(
            r.status is Status.FAILED and r.sync not in broken for r in results
        )
        self.model.marks.end(kept=not failed)
        whole_reads = {name: rows for name, rows in reads.items() if name not in broken}
        self._after(whole_reads, chosen=order.chosen)
        if results is None:
            self.premises.fired["died"] += 1
            return False
        self._check_results(results, weather, broken)
        if not failed:
            for who in out:
                self.model.marks.add(who, "-", "!", sure=True)
        self._note_run(results[0].run, before)
        return not failed

    def _write(self, names: tuple[str, ...], broken: tuple[str, ...]) -> Promoted:
        """Put the sources into their files; what of them can be read by these syncs."""
        reads: Promoted = {}
        for flow in self.model.flows:
            rows = self.model.sources[flow.name]
            read = flow.write(self.premises.folder, rows, broken=flow.name in broken)
            if flow.name in names:
                reads[flow.name] = read
                self.model.may_read(flow.name, read)
                self.premises.fired["source broken"] += flow.name in broken
        return reads

    def _opting_out(self, reads: Promoted) -> frozenset[Who]:
        return frozenset[Who]().union(
            *(self.model.opting_out(n, rows) for n, rows in reads.items())
        )

    @contextmanager
    def _excused(self, weather: Weather) -> Iterator[None]:
        """On a full disk the state cannot be used; that ends a command, and is no violation."""
        try:
            yield
        except StateError:
            if weather.frames is None:
                raise
            self.premises.fired["disk full"] += 1
            self.premises.say("    !! disk full")

    def _after(self, reads: Promoted, *, chosen: bool) -> None:
        """What was promoted is the read before or this one, of each sync as a whole; and nothing else has happened."""
        self.judge.look()
        actual: dict[str, dict[str, Any]] = {flow.name: {} for flow in self.model.flows}
        for name, key, email, text in self.premises.query(LIVE):
            data = orjson.loads(text)
            parts = (
                data["f"].get("firstName"),
                data["f"].get("company") or None,
                data["c"].get("score"),
            )
            actual[name][key] = (email, *parts, sorted(data["g"]), sorted(data["t"]))
        for flow in self.model.flows:
            before = self.model.promoted[flow.name]
            after = self.model.folded(flow.name, reads.get(flow.name, {}), before)
            found = actual[flow.name]
            if flow.name in reads and found == self._signed(flow, after):
                self.model.promote(flow.name, after)
            elif found == self._signed(flow, before):
                pass
            elif chosen and flow.name in reads:
                self._promote_some(flow, before, after, found)
            else:
                raise Violation(
                    f"I7 {flow.name} is neither what was promoted before nor this read: {found},"
                    f" before {self._signed(flow, before)}, read {self._signed(flow, after)}"
                )
        self.judge.check_own()
        self.judge.check_forgotten()

    def _promote_some(
        self, flow: Flow, before: dict[str, Row], after: dict[str, Row], found: dict[str, Any]
    ) -> None:
        """Only some people were meant: of each record the one or the other, and nobody is removed."""
        mixed = {}
        old, new = self._signed(flow, before), self._signed(flow, after)
        for key in found.keys() | before.keys():
            if found.get(key) == new.get(key) and key in after:
                mixed[key] = after[key]
            elif found.get(key) == old.get(key) and key in before:
                mixed[key] = before[key]
            elif key not in found and key in before and key not in after:
                continue  # it opted out, or the filter leaves it out now
            else:
                raise Violation(
                    f"I7 {flow.name} {key} is {found.get(key)}, of {old.get(key)} and {new.get(key)}"
                )
        self.model.promote(flow.name, mixed)

    @staticmethod
    def _signed(flow: Flow, rows: dict[str, Row]) -> dict[str, Any]:
        wants = {key: flow.wants(row) for key, row in rows.items()}
        return {
            key: (
                rows[key].email,
                *(want.fields.get(name) for name in ("firstName", "company", "score")),
                sorted(want.groups),
                sorted(want.tags),
            )
            for key, want in wants.items()
        }

    def _check_results(
        self, results: list[SyncResult], weather: Weather, broken: tuple[str, ...]
    ) -> None:
        for result in results:
            self.premises.say(f"  {result}")
            if result.status is not Status.FAILED and result.missing():
                raise Violation(f"I7 the books of {result.sync} do not balance: {result}")
            if "books" in (result.error or ""):
                raise Violation(f"I7 the books of {result.sync} do not balance: {result}")
            if (result.error is None) != (result.status is not Status.FAILED):
                raise Violation(f"I7 {result.sync} is {result.status} with error {result.error!r}")
            self.premises.fired[f"result {result.status}"] += 1
            reason = result.sync in broken or not weather.calm
            if result.status is not Status.FAILED or reason:
                continue
            # EXEMPT: a POST /groups without an answer took effect after the next run had listed the groups.
            if not (self.judge.lost_group and "roup" in (result.error or "")):
                raise Violation(f"I7 {result.sync} failed for no reason: {result.error}")
            self.judge.lost_group = False

    # --- what is seen of the account --------------------------------------------------------------------------------

    def _account(self) -> Account:
        found: Account = {}
        account = self.premises.account
        with account.lock:
            for contact in account.contacts.values():
                names = {slot(account.groups[rid].name) for rid in contact.groups}
                parts: dict[str, Any] = {**contact.fields, **contact.custom_fields}
                parts = {name: value for name, value in parts.items() if value not in (None, "")}
                parts |= {f"group {name}": True for name in names}
                parts |= {f"tag {name}": True for name in contact.tags}
                found[contact.email.lower()] = parts
        return found

    @staticmethod
    def _differences(before: Account, after: Account) -> set[tuple[str, str]]:
        return {
            (email, part)
            for email, parts in after.items()
            for part in parts.keys() | before.get(email, {}).keys()
            if parts.get(part) != before.get(email, {}).get(part)
        }

    def _note_run(self, number: int, before: Account) -> None:
        self._runs.append(number)
        self._runs_since += 1
        self._changed[number] = self._differences(before, self._account())
        self._before_last = before
