"""Random worlds against the real engine, in a short profile; `python tests/world.py FIRST COUNT` is the long one."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from world import FAULT_KINDS, KEY, live_one, one_certificate, small_limits

from syncd import run
from syncd.sandbox import Sandbox
from syncd.state import ledger
from syncd.state.store import State
from syncd.upload import rounds
from syncd.upload.session import Session

RUNS = 6


@pytest.fixture(scope="module")
def host() -> Iterator[Sandbox]:
    """One server for all worlds: each brings an account of its own."""
    with Sandbox().serve() as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNCD_WORLD_KEY", KEY)
    monkeypatch.setenv("SSL_CERT_FILE", one_certificate(tmp_path))


def live(
    seeds: range, folder: Path, host: Sandbox, *, forked: bool = False
) -> tuple[list[str], Counter[str]]:
    """What went wrong in these worlds, with how to see it; and the faults that happened."""
    wrong, fired = [], Counter[str]()
    for seed in seeds:
        world, words = live_one(seed, folder / str(seed), host, runs=RUNS, forked=forked)
        fired += world.fired
        if words:
            kill = " --kill" if forked else ""
            wrong.append(f"{words}\n  python tests/world.py {seed} --runs {RUNS} --trace{kill}")
    return wrong, fired


def test_whatever_happens_the_account_becomes_what_the_sources_say(
    tmp_path: Path, host: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_limits(monkeypatch.setattr, threads=1)
    wrong, fired = live(range(1, 49), tmp_path, host)
    assert not wrong, "\n".join(wrong)
    assert [kind for kind in FAULT_KINDS if not fired[kind]] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and killed")
def test_a_process_that_is_killed_at_any_moment_loses_and_repeats_nothing(
    tmp_path: Path, host: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_limits(monkeypatch.setattr, threads=4)
    wrong, fired = live(range(1, 21), tmp_path, host, forked=True)
    assert not wrong, "\n".join(wrong)
    assert fired["crash"] >= 10


def forget_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ever held against anybody."""

    def nothing(*_: object) -> frozenset[str]:
        return frozenset()

    monkeypatch.setattr(ledger, "of_contact", nothing)


def trust_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """What got no answer counts as never sent."""

    def forget(session: Session) -> None:
        session.state.db.execute("UPDATE contact SET inflight=NULL,unsettled=0")

    monkeypatch.setattr(run, "recover", forget)
    monkeypatch.setattr(rounds, "recover", forget)


def hand_on_no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds for an address does not travel with the record that leaves it."""

    def copy(state: State, source: str | None, target: str | None) -> None:
        pass

    monkeypatch.setattr(ledger, "copy", copy)


@pytest.mark.parametrize(
    ("broken", "first"),  # the first seed: where it was caught once, so that it is caught soon
    [(forget_the_ledger, 5034), (trust_every_request, 5001), (hand_on_no_history, 5007)],
)
def test_a_broken_engine_is_caught(
    broken: Callable[[pytest.MonkeyPatch], None],
    first: int,
    tmp_path: Path,
    host: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small_limits(monkeypatch.setattr, threads=1)
    broken(monkeypatch)
    for seed in range(first, first + 100):
        if live(range(seed, seed + 1), tmp_path, host)[0]:
            return
    pytest.fail("nobody noticed")
