"""The script of one world: so many random rounds, and then the end, at which all must be well."""

import functools
import random
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import certifi

from syncd import registry, run
from syncd.core.result import Status
from syncd.sandbox import Sandbox
from syncd.upload import bulk, campaigns, listing, pool, recover
from syncd.watch import Nobody
from world.clock import RunClock
from world.ending import Ending, check_quiet, check_results, check_unmanaged
from world.model import REFUSED, World
from world.operators import Operators
from world.process import AHEAD_S_MAX, Refusal
from world.truth import Violation

BACK_OFF_S = 25 * 3600.0  # longer than any back-off
RUNS_TO_REST = 8  # so many quiet runs, a day apart, bring any world to rest
BACKUPS = 0.4  # how probably the state is copied after a run, where it is to be restored once
STEPS = 0.6  # how probably operators do something between two runs


class Script:
    """Lives one world."""

    def __init__(self, world: World) -> None:
        self.world, self.operators = world, Operators(world)

    def live(self, runs: int) -> None:
        """So many random runs with random things between them; then the end. Raises Violation."""
        world, rng = self.world, random.Random(self.world.seed * 7 + 3)
        steps = random.Random(world.seed * 11 + 5)
        for number in range(runs):
            world.say(f"--- {number}")
            for _ in range(rng.randrange(1, 8 if world.wide else 4) + 2 * (number == 0)):
                if rng.random() < (0.73 if world.wide else 0.8):
                    name = world.sources.mutate(rng)
                    world.say(f"  source: {name} {world.sources.tables[name]}")
                else:
                    world.hands.outside(rng)
            world.time.tick(rng.choice([5.0, 5.0, 60.0, 600.0, 7200.0]))
            self._one_round(rng)
            if world.lossy and steps.random() < BACKUPS:
                self.operators.back_up()
            if steps.random() < STEPS:
                world.time.tick(steps.choice([5.0, 600.0]))
                self.operators.step(steps, steps.choice([0.0, 0.1, 0.3]))
        self.finish(rng)

    def _one_round(self, rng: random.Random) -> None:
        world = self.world
        share = rng.choice([0.0, 0.1, 0.3, 0.6] if world.wide else [0.0, 0.02, 0.1, 0.3])
        broken = {name for name in world.sources.tables if rng.random() < 0.12}
        names = (rng.choice(sorted(world.sources.tables)),) if rng.random() < 0.15 else ()
        order = run.Order(names=names, full=rng.random() < 0.2)
        if rng.random() < 0.08:
            order = (
                run.Order(email=rng.choice(world.mails))
                if rng.random() < 0.5
                else run.Order(limit=rng.randrange(1, 4))
            )
        if world.guarded and rng.random() < 0.4:
            self.operators.approve()
        if rng.random() < 0.1:
            self.rehearse(broken, order)
        self.one_run(rng, share, broken=broken, order=order)

    def one_run(
        self,
        rng: random.Random,
        share: float,
        *,
        broken: set[str] | None = None,
        order: run.Order | None = None,
    ) -> None:
        """Run until a process ends by itself, or leave it dead: the next run comes later. share: of the requests that go wrong."""
        world, broken, order = self.world, broken or set(), order or run.Order()
        world.write_sources(broken, order.names)
        world.say(f"  sync {order}")
        values, began_s = world.shown_values(), world.time.now_s()
        results = world.engine.carry_out(
            lambda clock: run.sync(world.settings, order, clock=clock, watch=Nobody()),
            rng,
            share=share,
        )
        if results is None:
            return
        if isinstance(results, Refusal):
            raise Violation(f"I7 sync is refused for no reason: {results.words}")
        self.operators.note_run()
        check_results(world, results, broken, share)
        if not any(r.status is Status.FAILED for r in results if r.sync not in broken):
            world.truth.latched |= world.sources.due_out
            world.truth.seen_out |= world.sources.due_seen
            if not (share or broken or order.names or order.chosen):
                self._note_good(results[0].run, values, began_s)
        check_unmanaged(world)

    def _note_good(self, run: int, values: dict[tuple[str, str], Any], began_s: float) -> None:
        """Everything was read, and nothing went wrong: what such a run has done is known for certain."""
        truth, now = self.world.truth, self.world.shown_values()
        truth.did[run] = {
            (contact_id, name, truth.known[contact_id].email): old
            for (contact_id, name), old in values.items()
            if (contact_id, name) in now and now[contact_id, name] != old
        }
        truth.saying, truth.good_s = set(self.world.sources.due_seen), began_s

    def rehearse(self, broken: set[str], order: run.Order) -> None:
        """A plan: it sends nothing but reads, and leaves no trace."""
        world = self.world
        world.say(f"  plan {order}")
        world.write_sources(broken, order.names)
        before, changes = world.state.tables(), world.judge.changes
        run.plan(
            world.settings,
            order,
            clock=RunClock(world.time, ahead_s=world.engine.ahead_s),
            watch=Nobody(),
            show=lambda change: None,
        )
        world.judge.close()
        if world.judge.changes != changes or world.state.tables() != before:
            raise Violation("I10 a plan has changed something")

    # --- the end ----------------------------------------------------------------------------------------------

    def finish(self, rng: random.Random) -> None:
        """The weather clears: the account must become what the sources say, and then stay."""
        world = self.world
        world.say("--- finish")
        world.account.accept(REFUSED)
        world.account.quirks = world.quirks
        world.sources.fill_empty()
        if world.jumpy:  # somebody has put the clock right; what it had put off comes in time
            world.engine.ahead_s, world.jumpy = 0.0, 0.0
            world.time.tick(AHEAD_S_MAX)
        if world.truth.rebuilt and rng.random() < 0.5:
            for who in sorted(who for who in world.truth.absent if isinstance(who, str)):
                self.operators.release(rng, who)
        quiet = 0
        for number in range(RUNS_TO_REST):
            world.time.tick(BACK_OFF_S)
            before, counts = world.tap.writes, world.tap.counts.copy()
            self.one_run(rng, 0.0)
            self.operators.approve()
            quiet = quiet + 1 if world.tap.writes == before else 0
            if quiet >= 2 and not world.state.query("SELECT 1 FROM held LIMIT 1"):
                break
            if number == RUNS_TO_REST - 1:
                asked = world.tap.counts - counts
                raise Violation(f"I2 still writing after {RUNS_TO_REST} runs: {asked}")
        counts = world.tap.counts.copy()
        self.one_run(rng, 0.0)
        check_quiet(world, world.tap.counts - counts)
        Ending(world).check()


# --- many worlds --------------------------------------------------------------------------------------------------


def live_one(
    seed: int,
    folder: Path,
    host: Sandbox,
    *,
    runs: int,
    tracing: bool = False,
    forked: bool = False,
) -> tuple[World, str]:
    """One world from its beginning to its end; what went wrong, empty for nothing."""
    folder.mkdir()
    world = World(seed, folder, host, tracing=tracing, forked=forked)
    try:
        Script(world).live(runs)
    except Violation as violation:
        return world, str(violation)
    except Exception as error:  # noqa: BLE001 - a seed that breaks must not hide the others
        places = [
            f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__)
        ][-4:]
        return world, f"EXC {error!r} at {places}"
    finally:
        if tracing:
            world.say("\n".join(dump(world)))
        world.close()
    return world, ""


def dump(world: World) -> Iterator[str]:
    """The end of one world, for reading."""
    policies = [(flow.name, flow.policy) for flow in world.flows]
    yield f"{policies} humans={world.humans} guarded={world.guarded} lossy={world.lossy} wide={world.wide}"
    yield str(world.quirks)
    for table in ("contact", "record", "grp", "held", "undone"):
        for row in world.state.query(f"SELECT * FROM {table}"):
            yield f"{table}: {_told(row)}"
    for who, marks in world.state.marks(world.state.people()).items():
        yield f"never {who}: {sorted(marks)}"
    for email, contact in world.account.contacts_by_email().items():
        yield f"account {email}: {contact}"


def _told(row: sqlite3.Row) -> dict[str, object]:
    return {k: v for k, v in dict(row).items() if v not in (None, b"") and k != "fingerprint"}


def small_limits(set_limit: Callable[[object, str, Any], object], *, threads: int) -> None:
    """Small batches and pages, so that few people reach the paths of many; one thread, so that a seed repeats.

    Connectors are looked for once: that alone costs 10 ms each time.
    """
    set_limit(registry, "load", functools.cache(registry.load))
    set_limit(bulk, "BULK_ROWS_MAX", 4)
    set_limit(campaigns, "ROWS_MAX", 3)
    set_limit(recover, "MANY", 2)
    set_limit(listing, "PAGE_ROWS", 5)
    set_limit(recover, "PAGE_ROWS", 5)
    set_limit(pool, "THREADS_MAX", threads)


def one_certificate(folder: Path) -> str:
    """A file with one certificate instead of all: no HTTPS is spoken here, and reading them all costs 20 ms a run."""
    whole = Path(certifi.where()).read_text("utf-8")
    begin, end = whole.index("-----BEGIN"), whole.index("-----END CERTIFICATE-----")
    path = folder / "one.pem"
    path.write_text(whole[begin:end] + "-----END CERTIFICATE-----\n")
    return str(path)
