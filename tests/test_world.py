"""Random worlds against the real engine, in a short profile; `make chaos` is the long one."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from world import FAULT_KINDS, KEY, STEP_KINDS, live_one, one_certificate, small_limits

from syncd import run
from syncd.sandbox import Sandbox
from syncd.state import erase, ledger, links, marker, rebuild, release
from syncd.state.store import State
from syncd.upload import campaigns, rounds
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
    """What went wrong in these worlds, with how to see it; and what happened in them."""
    wrong, fired = [], Counter[str]()
    for seed in seeds:
        world, words = live_one(seed, folder / str(seed), host, runs=RUNS, forked=forked)
        fired += world.fired
        if words:
            kill = " --kill" if forked else ""
            wrong.append(f"{words}\n  PYTHONPATH=tests python -m world --trace{kill} {seed}")
    return wrong, fired


def test_whatever_happens_the_account_becomes_what_the_sources_say(
    tmp_path: Path, host: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_limits(monkeypatch.setattr, threads=1)
    wrong, fired = live(range(1, 21), tmp_path, host)
    assert not wrong, "\n".join(wrong)
    assert [kind for kind in (*FAULT_KINDS, *STEP_KINDS) if not fired[kind]] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and killed")
def test_a_process_that_is_killed_at_any_moment_loses_and_repeats_nothing(
    tmp_path: Path, host: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_limits(monkeypatch.setattr, threads=4)
    wrong, fired = live(range(1, 9), tmp_path, host, forked=True)
    assert not wrong, "\n".join(wrong)
    assert fired["crash"] >= 10
    assert fired["full disk"] >= 1


# --- the worlds notice what is wrong ------------------------------------------------------------------


Break = Callable[[pytest.MonkeyPatch], None]


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


def does_nothing(owner: object, name: str, result: Any = None) -> Break:
    """A part of the engine that is not there."""

    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(owner, name, lambda *_, **__: result)

    return broken


def end_what_was_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from what the sources want ends as soon as it is looked at."""
    monkeypatch.setattr(links, "lay_over", lambda want, exemptions: (want, list(exemptions)))


def believe_no_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was enrolled without an answer seems not to be in the campaign."""
    monkeypatch.setattr(campaigns, "_among", lambda *_: frozenset())


@pytest.mark.parametrize(
    ("broken", "first"),  # the first seed: where it was caught once, so that it is caught soon
    [
        pytest.param(forget_the_ledger, 5058, id="no ledger"),
        pytest.param(trust_every_request, 5094, id="nothing is read back"),
        pytest.param(hand_on_no_history, 5008, id="no history travels"),
        pytest.param(does_nothing(marker, "is_behind", result=False), 5023, id="a backup passes"),
        pytest.param(does_nothing(rebuild, "_bar"), 5008, id="nobody is barred by a rebuild"),
        pytest.param(does_nothing(erase, "take_over"), 5068, id="no file of the forgotten"),
        pytest.param(does_nothing(erase, "_purge_history"), 5007, id="traces of the forgotten"),
        pytest.param(does_nothing(release, "_latch", result=("", ())), 5105, id="release ends all"),
        pytest.param(end_what_was_put_back, 5030, id="nothing stays undone"),
        pytest.param(believe_no_campaign, 5013, id="lost enrolments are sent again"),
    ],
)
def test_a_broken_engine_is_caught(
    broken: Break, first: int, tmp_path: Path, host: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_limits(monkeypatch.setattr, threads=1)
    broken(monkeypatch)
    for seed in range(first, first + 100):
        if live(range(seed, seed + 1), tmp_path, host)[0]:
            return
    pytest.fail("nobody noticed")
