"""Whatever happens in whatever order, nobody is mailed by mistake, and in the end the account is what the sources say.

`make test` lives one story in which everything happens once, and then always the same random ones. The long profile lives others
each time, and makes what fails small: `HYPOTHESIS_PROFILE=chaos EXAMPLES=3000 pytest tests/test_machine.py -k random`.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from machine.model import REFUSED, Row
from machine.premises import CALM, EFFECTS, End, Fault, Violation, Weather
from machine.rules import ENDS, HANDS, Machine
from machine.runs import KEY

from syncd import run
from syncd.sandbox import Quirks, Sandbox
from syncd.state import ledger, marker, rebuild
from syncd.upload import bulk, listing, pool, recover

IS_CHAOS = os.environ.get("HYPOTHESIS_PROFILE") == "chaos"
SHORT = settings(
    max_examples=8,
    stateful_step_count=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # a failure is told with its whole story at once; chaos makes it small
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)
CHAOS = settings(
    SHORT,
    max_examples=int(os.environ.get("EXAMPLES", "3000")),
    stateful_step_count=30,
    derandomize=False,
    phases=[Phase.generate, Phase.shrink],
)
WRITES = "POST|PUT|DELETE"
DUE = {  # what must have happened in one go of this test
    *EFFECTS, *(f"hand: {what}" for what in HANDS), *(f"result {status}" for status in ("ok", "failed", "held", "partial")),
    "crash", "stop", "power cut", "died", "disk full", "clock jump back", "clock jump forward", "unreadable", "no date",
    "source broken", "hand in a run", "approved", "released", "forgotten", "undo", "undone whole", "plan", "set clock",
    "refused StateLost", "refused StateRestored", "rebuilt", "rebuilt from a backup", "reconcile",
    "sync one", "sync full", "sync email", "sync limit", "judged enrolment", "judged move", "judged delete",
    "strict field", "strict groups", "strict nothing left", "strict kept away", "strict taken back",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One server, small batches and pages, one thread, no certificates: nothing here speaks TLS."""
    monkeypatch.setenv("SYNCD_MACHINE_KEY", KEY)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setattr(bulk, "BULK_ROWS_MAX", 3)
    monkeypatch.setattr(recover, "MANY", 2)
    monkeypatch.setattr(recover, "PAGE_ROWS", 4)
    monkeypatch.setattr(listing, "PAGE_ROWS", 4)
    monkeypatch.setattr(pool, "THREADS_MAX", 1)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with Sandbox().serve() as host:
        monkeypatch.setattr(Machine, "host", host, raising=False)
        yield
    structlog.reset_defaults()


@contextmanager
def story(
    *, guarded: bool = False, policies: tuple[str, str] = ("delete", "ungroup")
) -> Iterator[Machine]:
    """A machine with three people in its sources; whatever was done with it, it clears up afterwards."""
    machine = Machine()
    names = ((1, "ann"), (7, "bob"))
    first = [("put", "crm", n, Row(f"{name}@example.com", score=n)) for n, name in names]
    first.append(("put", "shop", 2, Row("cat@example.com", score=9, vip=True)))
    try:
        machine.begin(
            quirks=Quirks(),
            policies=policies,
            guarded=guarded,
            strangers=[1],
            first=first,
            then=None,
        )
        yield machine
    finally:
        machine.teardown()


def put(machine: Machine, email: str, *, key: int = 3, sync: str = "crm", **parts: Any) -> None:
    """One record of a source becomes this."""
    machine.change(what=[("put", sync, key, Row(email, **parts))], then=None)


def live_through(*days: Weather) -> None:
    """Each time with something to send."""
    with story() as machine:
        for number, weather in enumerate(days):
            put(machine, "dan@example.com", first=f"n{number}", score=number % 10)
            put(machine, f"day{number}@example.com", sync="shop", key=number, score=number % 10)
            machine.sync_all(weather=weather, broken=())


def faults() -> None:
    """Everything that goes wrong with a request, with a process, and around it."""
    live_through(*(Weather(faults=(Fault(kind, WRITES, 1),)) for kind in EFFECTS))
    late = {"clock": 9, "commit": 9, "stop": 9}
    live_through(
        *(Weather(end=End(kind, late.get(kind, 3))) for kind in ENDS),
        *(Weather(frames=frames) for frames in (20, 40, 60)),
        *(Weather(jump=(9, seconds)) for seconds in (-90_000.0, 90_000.0)),
        Weather(undated=True),
        Weather(act=(4, 0)),
        Weather(act=(4, 2)),
    )


def hands() -> None:
    """Guards hold, somebody approves; then everything that people do in FluenzR."""
    with story(guarded=True) as machine:
        put(machine, "dan@example.com", key=3, sync="shop")
        machine.sync_all(weather=CALM, broken=())  # two people would be mailed: held
        machine.clear_up()
        for number in (22, 61, 2, 35):
            for what in reversed(HANDS):
                machine.hand(what=what, number=number, then=None)
        machine.clear_up()


def commands() -> None:
    """Plans, opt-outs, removals, moves, and runs of a part."""
    with story() as machine:
        machine.sync_all(weather=CALM, broken=())
        put(machine, "ann@example.com", key=1, first="n9")
        machine.plan(order=run.Order())
        machine.sync_some(order=run.Order(names=("crm",)), weather=CALM)
        machine.undo(back=0, weather=CALM)
        put(machine, "joann@example.com", key=1)  # a stranger has it
        put(machine, "dan@example.com", key=7)  # nobody has it: Bob moves
        machine.sync_all(weather=CALM, broken=("shop",))
        machine.sync_some(order=run.Order(full=True), weather=Weather(unreadable="02468"))
        machine.change(what=[("out", "shop", 0, Row(""))], then=CALM)
        machine.change(what=[("remove", "crm", 0, Row(""))], then=CALM)
        put(machine, REFUSED, key=2)
        put(machine, "eve@example.com", sync="shop", key=4)
        machine.sync_all(weather=CALM, broken=())
        machine.change(what=[("remove", "shop", 1, Row(""))], then=CALM)
        machine.wait(seconds=600.0, off=3600.0)


def histories() -> None:
    """What was, and must be remembered: enrolments, deletions by hand, records that leave others behind."""
    with story(policies=("delete", "delete")) as machine:
        put(machine, "ann@example.com", key=1, score=9)
        put(machine, "ann@example.com", key=3)  # two records, one person
        machine.hand(what="created", number=4, then=None)
        put(machine, "dan@example.com", key=0)  # ... who was there before
        machine.sync_all(weather=CALM, broken=())
        put(machine, "dan@example.com", key=0, score=9)
        put(machine, "eve@example.com", key=1, score=9)  # was mailed as Ann, who stays
        put(machine, "nonsense", key=3, first="n3")
        machine.sync_all(weather=CALM, broken=())
        put(machine, "bob@example.com", key=7, score=1)
        machine.sync_all(weather=CALM, broken=())
        put(machine, "bob@example.com", key=7, score=9)
        machine.sync_all(weather=CALM, broken=())
        machine.hand(what="removed", number=1, then=None)
        put(machine, "bob@example.com", key=7, score=9, first="n9")
        machine.sync_all(weather=CALM, broken=())  # an update that makes the contact anew
        machine.change(what=[("remove", "crm", 1, Row(""))], then=None)
        machine.sync_all(
            weather=CALM, broken=("shop",)
        )  # nobody is deleted while one source cannot be read


def state() -> None:
    """Backups, losses, erasures; people who come back by release."""
    with story(policies=("delete", "delete")) as machine:
        machine.sync_some(order=run.Order(email="ann@example.com"), weather=CALM)
        machine.back_up()
        machine.sync_some(order=run.Order(limit=1), weather=CALM)
        machine.sync_all(weather=CALM, broken=())
        machine.restore()
        half_way = Weather(faults=(Fault("drop before", "GET", 2),))
        machine.reconcile(weather=half_way, broken=("crm",))
        machine.reconcile(weather=CALM, broken=())
        machine.hand(what="removed", number=0, then=CALM)
        machine.clear_up()
        machine.release(email="ann@example.com")
        machine.clear_up()
        machine.forget(email="bob@example.com", weather=CALM)
        machine.forget(email="cat@example.com", weather=Weather(end=End("power after", 1)))
        machine.hand(what="removed", number=0, then=None)
        machine.lose(really=True)
        machine.reconcile(weather=CALM, broken=())


def test_random_stories_end_well() -> None:
    Machine.fired.clear()
    if not IS_CHAOS:
        for tell in (
            faults,
            hands,
            commands,
            histories,
            state,
        ):  # each thing happens, whatever chance brings
            tell()
    run_state_machine_as_test(Machine, settings=CHAOS if IS_CHAOS else SHORT)
    missed = sorted(DUE - {name for name, times in Machine.fired.items() if times})
    assert missed == [], f"{missed} never happened; what did: {sorted(Machine.fired.items())}"


# --- a machine that cannot fail proves nothing --------------------------------------------------------------------


def forget_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ever held against anybody."""
    monkeypatch.setattr(ledger, "of_contact", lambda *_: frozenset())
    monkeypatch.setattr(ledger, "of_contacts", lambda *_: {})


def believe_every_backup(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that was put back counts as the newest one."""
    monkeypatch.setattr(marker, "is_behind", lambda *_: False)


def rebuild_trustingly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is missing after a loss was never there."""
    monkeypatch.setattr(rebuild, "bar_staged", lambda *_: None)
    monkeypatch.setattr(rebuild, "bar_everybody", lambda *_: None)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (forget_the_ledger, "held against it"),
        (believe_every_backup, "I10"),
        (rebuild_trustingly, "I4 asks to create"),
    ],
)
def test_a_broken_engine_is_caught(
    broken: Callable[[pytest.MonkeyPatch], None], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(monkeypatch)
    with pytest.raises(Violation, match=words):
        state()
