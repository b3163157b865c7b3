"""The steps: sources change, hands act, time passes, commands run in any weather; at the end it clears.

python -m pytest tests/test_machine.py                            # short, always the same
HYPOTHESIS_PROFILE=chaos python -m pytest tests/test_machine.py   # long, and every time another one
"""

import dataclasses
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from machine.commands import Commands
from machine.model import KEYS, MAILS, REFUSED, UNUSABLE, Flow, Row
from machine.premises import CALM, EFFECTS, End, Fault, Violation, Weather
from syncd import run
from syncd.sandbox import Quirks, Sandbox

HOME = "/dev/shm" if Path("/dev/shm").is_dir() else None
SYNCS = ("crm", "shop")
TOLD_LINES = 150  # of the story, with a violation
ENDS = ("stop", "clock", "commit", "phase", "power before", "power after", "power late")
HANDS = {  # as it is counted -> the method of `Hands`
    "opted out": "opt_out", "replied": "opt_out", "removed": "remove", "edited": "edit", "noted": "note",
    "put in": "put_in", "taken out": "take_out", "tagged": "tag", "untagged": "tag", "created": "create",
    "renamed group": "rename_group", "remade group": "remake_group",
}  # fmt: skip

numbers = st.integers(0, 99)
addresses = st.sampled_from([*MAILS, *MAILS, REFUSED])
rows = st.builds(
    Row,
    email=st.one_of(addresses, addresses.map(str.upper), st.sampled_from(UNUSABLE)),
    first=st.sampled_from(["n1", "n2", "n3"]),
    company=st.sampled_from(["", "c1", "c2"]),
    score=st.integers(0, 9),
    vip=st.booleans(),
    out=st.sampled_from([False] * 7 + [True]),
    hidden=st.sampled_from([False] * 7 + [True]),
)
changes = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(SYNCS), numbers, rows),
    st.tuples(st.just("put"), st.sampled_from(SYNCS), numbers, rows),
    st.tuples(
        st.sampled_from(["address", "score", "score", "person", "swap", "remove", "out", "in"]),
        st.sampled_from(SYNCS), numbers, rows,
    ),
    st.tuples(
        st.sampled_from(["address", "address", "person", "swap", "remove"]),
        st.sampled_from(SYNCS), numbers, rows,
    ),
)  # fmt: skip
faults = st.builds(
    Fault,
    kind=st.sampled_from([*sorted(EFFECTS), *["drop before", "drop after", "late 110"] * 3]),
    method=st.sampled_from([*["POST|PUT|DELETE"] * 4, ".*", "GET"]),
    nth=st.sampled_from([1, 1, 2, 2, 3, 3, 4, 5, 7, 12]),
)
ends = st.builds(
    End,
    kind=st.sampled_from(ENDS),
    at=st.sampled_from([1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 40]),
)
storms = st.builds(
    Weather,
    faults=st.lists(faults, max_size=5).map(tuple),
    end=st.one_of(st.none(), ends),
    frames=st.one_of(*[st.none()] * 5, st.integers(20, 90)),
    jump=st.one_of(
        *[st.none()] * 4,
        st.tuples(st.integers(1, 60), st.sampled_from([-90_000.0, -600.0, 600.0, 90_000.0])),
    ),
    unreadable=st.sampled_from([""] * 6 + ["02468", "13579"]),
    undated=st.sampled_from([False] * 6 + [True]),
    act=st.one_of(st.none(), st.none(), st.tuples(st.integers(1, 20), numbers)),
)
weathers = st.one_of(st.just(CALM), storms, storms)
runs = st.one_of(st.none(), st.just(CALM), storms, storms)  # a run that follows, and its weather
readings = st.builds(
    Quirks,
    custom_fields_put=st.sampled_from(["merge", "replace"]),
    custom_fields_bulk=st.sampled_from(["merge", "replace"]),
    tags_put=st.sampled_from(["replace", "merge"]),
    bulk_errors=st.sampled_from(["index_email", "index", "email", "message", "whole400"]),
    bulk_skip_adds_groups=st.booleans(),
    clear_refused=st.sampled_from(["none", "null", "empty"]),
    email_shown=st.sampled_from(["as_sent", "lower"]),
    sort=st.sampled_from(["honoured", "ignored", "updated_at"]),
    total_pages=st.booleans(),
    absent=st.sampled_from(
        [frozenset(), frozenset(), frozenset(), frozenset({"POST /contacts/bulk"}), frozenset({"POST /groups/:id/contacts"})]
    ),
)  # fmt: skip


class Machine(RuleBasedStateMachine):
    """One account, one state, two syncs. host: serves each machine's account in its turn. fired: over all machines."""

    host: ClassVar[Sandbox]
    fired: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=HOME, prefix="machine")
        self._commands: Commands | None = None
        self._wrong = False  # something is not as it should be: there is no use in going on

    @property
    def commands(self) -> Commands:
        assert self._commands is not None
        return self._commands

    def step(self, name: str, work: Any, *arguments: Any, **options: Any) -> None:
        """Do one thing, count it, and tell its story when it goes wrong."""
        self.commands.premises.say(f"{name} {arguments} {options}")
        self._wrong = True
        try:
            work(*arguments, **options)
        except Violation as violation:
            story = "\n".join(self.commands.premises.trace[-TOLD_LINES:])
            raise Violation(f"{violation}\n--- the story ---\n{story}") from None
        self._wrong = False
        self.fired[name] += 1

    @initialize(
        quirks=readings,
        policies=st.tuples(*[st.sampled_from(["keep", "ungroup", "delete", "delete"])] * 2),
        guarded=st.sampled_from([False, False, False, True]),
        strangers=st.lists(numbers, max_size=2),
        first=st.lists(changes, min_size=2, max_size=5),
        then=runs,
    )
    def begin(
        self,
        quirks: Quirks,
        policies: Any,
        guarded: bool,
        strangers: list[int],
        first: Any,
        then: Any,
    ) -> None:
        """An account with some people in it, and two sources."""
        flows = [
            Flow("crm", "jsonl", policies[0], "stat", "dynhot", "t1"),
            Flow("shop", "csv", policies[1], "dyn", "hot", "t2", vip_group="made", custom=True),
        ]
        self._commands = Commands(
            Path(self._folder.name), self.host, quirks, flows, guarded=guarded
        )
        for number in strangers:
            self.commands.hands.create(number)
        self.change(first, then)

    def teardown(self) -> None:
        """Whatever happened: it clears up."""
        try:
            if self._commands is not None:
                if not self._wrong:
                    self.step("end", self.commands.clear_up)
                self.fired.update(self.commands.premises.fired)
                self.fired.update({f"judged {k}": n for k, n in self.commands.judge.judged.items()})
                self.fired.update(
                    {f"strict {k}": n for k, n in self.commands.ending.strict.items()}
                )
        finally:
            self._folder.cleanup()

    # --- the sources ------------------------------------------------------------------------------------------------

    def _run(self, weather: Weather | None) -> None:
        if weather is not None and self._sound():
            self.step("sync", self.commands.sync, run.Order(), weather)

    @rule(what=st.lists(changes, min_size=1, max_size=4), then=runs)
    def change(self, what: Any, then: Weather | None) -> None:
        """Records come, change, swap addresses, and go."""
        for kind, name, number, row in what:
            records = self.commands.model.sources[name]
            key = sorted(records)[number % len(records)] if records else KEYS[0]
            if kind == "put" or not records:
                records[KEYS[number % len(KEYS)]] = row
            elif kind == "address":
                records[key] = dataclasses.replace(records[key], email=row.email)
            elif kind == "score":
                records[key] = dataclasses.replace(records[key], score=row.score, vip=row.vip)
            elif kind == "person":
                records[key] = dataclasses.replace(
                    row, email=records[key].email, out=records[key].out
                )
            elif kind == "swap":
                other = sorted(records)[number // 7 % len(records)]
                one, two = records[key].email, records[other].email
                records[key] = dataclasses.replace(records[key], email=two)
                records[other] = dataclasses.replace(records[other], email=one)
            elif kind == "remove":
                del records[key]
            else:
                records[key] = dataclasses.replace(records[key], out=kind == "out")
            self.fired[f"source: {kind}"] += 1
        self.commands.premises.say(f"sources {self.commands.model.sources}")
        self._run(then)

    # --- hands ------------------------------------------------------------------------------------------------------

    @rule(
        what=st.sampled_from([*HANDS]),
        number=numbers,
        then=runs,
    )
    def hand(self, what: str, number: int, then: Weather | None) -> None:
        """Somebody does something in FluenzR."""
        self.step(f"hand {what}", getattr(self.commands.hands, HANDS[what]), number)
        self._run(then)

    @rule(
        seconds=st.sampled_from([600.0, 7200.0, 90_000.0]),
        off=st.sampled_from([0.0] * 3 + [-90_000.0, -3600.0, 3600.0, 90_000.0]),
    )
    def wait(self, seconds: float, off: float) -> None:
        """Time passes, and somebody may correct this machine's clock."""
        self.step("wait", self.commands.premises.time.advance_s, seconds)
        if off:
            self.step("set clock", self.commands.set_clock, off)

    # --- commands ---------------------------------------------------------------------------------------------------

    def _sound(self) -> bool:
        return self._commands is not None and not self._commands.is_lost

    @precondition(_sound)
    @rule(weather=weathers, broken=st.sampled_from([()] * 5 + [("crm",), ("shop",)]))
    def sync_all(self, weather: Weather, broken: tuple[str, ...]) -> None:
        """A run of everything."""
        self.step("sync", self.commands.sync, run.Order(), weather, broken)

    @precondition(_sound)
    @rule(
        order=st.one_of(
            st.builds(run.Order, names=st.sampled_from([("crm",), ("shop",)])),
            st.just(run.Order(full=True)),
            st.builds(run.Order, email=st.sampled_from(MAILS)),
            st.builds(run.Order, limit=st.integers(1, 3)),
        ),
        weather=weathers,
    )
    def sync_some(self, order: run.Order, weather: Weather) -> None:
        """A run of one sync, of one person, of the first few people, or a full one."""
        kind = (
            "full" if order.full else "email" if order.email else "limit" if order.limit else "one"
        )
        self.step(f"sync {kind}", self.commands.sync, order, weather)

    @precondition(_sound)
    @rule(weather=weathers)
    def sync_again(self, weather: Weather) -> None:
        """As the daemon does it after a failure: soon, and with whatever is left over."""
        self.step("sync again", self.commands.sync, run.Order(), weather)

    @precondition(_sound)
    @rule(order=st.sampled_from([run.Order(), run.Order(full=True), run.Order(names=("crm",))]))
    def plan(self, order: run.Order) -> None:
        """A plan changes nothing."""
        self.step("plan", self.commands.plan, order)

    @precondition(lambda self: self._sound() and self.commands.holds())
    @rule()
    def approve(self) -> None:
        """Somebody approves whatever is held."""
        self.step("approve", self.commands.approve)

    @precondition(lambda self: self._sound() and self.commands.has_run)
    @rule(email=st.sampled_from(MAILS))
    def release(self, email: str) -> None:
        """`syncd release`."""
        self.step("release", self.commands.release, email)

    @precondition(_sound)
    @rule(email=st.sampled_from(MAILS), weather=weathers)
    def forget(self, email: str, weather: Weather) -> None:
        """`syncd forget`."""
        self.step("forget", self.commands.forget, email, weather)

    @precondition(lambda self: self._sound() and self.commands.has_run)
    @rule(back=st.integers(0, 2), weather=weathers)
    def undo(self, back: int, weather: Weather) -> None:
        """`syncd undo` of one of the last runs."""
        self.step("undo", self.commands.undo, back, weather)

    @precondition(lambda self: self._sound() and self.commands.has_run)
    @rule()
    def back_up(self) -> None:
        """An operator makes a copy of the database."""
        self.step("back up", self.commands.back_up)

    @precondition(lambda self: self._sound() and self.commands.has_run)
    @rule(really=st.sampled_from([False, False, False, True]))  # it makes all later checks milder
    def lose(self, really: bool) -> None:
        """The database is gone: nothing is sent before it is built anew."""
        if really:
            self.step("lose", self.commands.lose)

    @precondition(lambda self: self._sound() and self.commands.has_backup)
    @rule()
    def restore(self) -> None:
        """A copy of an earlier day is put back: nothing is sent before it is brought up to date."""
        self.step("restore", self.commands.restore)

    @precondition(lambda self: self.commands.is_lost or self.commands.premises.path.exists())
    @rule(weather=weathers, broken=st.sampled_from([()] * 5 + [("crm",), ("shop",)]))
    def reconcile(self, weather: Weather, broken: tuple[str, ...]) -> None:
        """`syncd reconcile`, of a state that is there, lost, or restored."""
        self.step("reconcile", self.commands.reconcile, weather, broken)

    @precondition(_sound)
    @rule()
    def clear_up(self) -> None:
        """It clears up, and the account becomes what the sources say."""
        self.step("clear up", self.commands.clear_up)
