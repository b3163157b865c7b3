"""The page's plans: what the next run would send, found out on request, and what keeps it from being found out."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from house import house_fixture, row  # noqa: F401 - a fixture
from page_house import (
    Stand,
    Visitor,
    add_people,
    held_house,
    stand_fixture,  # noqa: F401 - a fixture
)

from syncd import run
from syncd.core.result import PlanResult
from syncd.state.store import hold
from syncd.web.rehearsals import KEPT_MAX, WAIT_S

ANN = "ann@example.com"
PATIENCE_S = 20.0  # only a failing test waits that long


def planned(visitor: Visitor, sync: str = "people") -> str:
    """The page of a plan that was asked for, once it is made."""
    path = f"/plan/{sync}"
    assert visitor.post(path, visitor.form(path)).headers["location"] == path
    until(lambda: 'http-equiv="refresh"' not in visitor.get(path).text)
    return visitor.answers[-1].text


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_plan_says_what_plan_says_and_sends_nothing(stand: Stand) -> None:
    house = stand.house
    held_house(stand, more=1)
    add_people(house, 2, first="Other")
    visitor = stand.visitor()
    assert "Find out" in visitor.get("/plan/people").text
    before, writes = house.tables(), house.sandbox.writes()
    text = planned(visitor)
    assert (house.tables(), house.sandbox.writes()) == (before, writes)
    assert "<strong>1 person would be mailed</strong>" in text
    assert "People: create 1, update 1" in text
    assert "2 changes" in text
    assert text.index("new1@example.com") < text.index("new0@example.com"), "the mailed come first"
    assert "<del>New0</del>" in text
    assert "<ins>Other0</ins>" in text
    assert "<code>syncd sync people</code>" in text or "Next: syncd sync people" in text
    house.write(row(1, ANN))
    assert "new1@example.com" in visitor.get("/plan/people").text, "it is kept"
    assert "2 people would leave" in planned(visitor)


def test_a_plan_that_a_guard_would_hold_says_so(stand: Stand) -> None:
    held_house(stand, more=3)
    text = planned(stand.visitor())
    assert "A guard would hold this sync whole" in text
    assert "3 people would be mailed" in text


def test_what_keeps_a_plan_from_being_made_is_said(stand: Stand) -> None:
    held_house(stand)
    (stand.house.folder / "people.csv").unlink()
    text = planned(stand.visitor())
    assert "No plan: No file matches people.csv" in text
    assert "Find out again" in text


def test_a_bug_in_a_plan_is_told_in_the_log_and_not_on_the_page(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held_house(stand)

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(ANN)

    monkeypatch.setattr(run, "plan", broken)
    text = planned(stand.visitor())
    assert "This is our bug" in text
    assert ANN not in text
    assert "error.unexpected" in capsys.readouterr().out


def test_one_plan_is_made_at_a_time(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    held_house(stand)
    visitor = stand.visitor()
    form = visitor.form("/plan/people")
    go_on, planned_by = threading.Event(), run.plan

    def slow(*given: Any, **named: Any) -> list[PlanResult]:
        assert go_on.wait(PATIENCE_S)
        return planned_by(*given, **named)

    monkeypatch.setattr(run, "plan", slow)
    assert visitor.post("/plan/people", form).status_code == 303
    assert "The source is being read" in visitor.get("/plan/people").text
    again = visitor.post("/plan/people", form)
    assert again.status_code == 409
    assert "A plan of people is being made" in again.text
    go_on.set()
    until(lambda: "3 people would be mailed" in visitor.get("/plan/people").text)


def test_a_plan_waits_for_a_run_that_is_at_work(stand: Stand) -> None:
    held_house(stand)
    with hold(stand.house.state, wait_s=0.0, clock=stand.house.clock):
        waited_s = stand.house.clock.now_s()
        text = planned(stand.visitor())
    assert "Another process" in text
    assert stand.house.clock.now_s() - waited_s >= WAIT_S


def test_of_a_large_plan_the_first_changes_are_shown(stand: Stand) -> None:
    house = stand.house
    held_house(stand)
    house.configure(groups=[])
    stand.configure('token = "env:SYNCD_PAGE_TOKEN"')
    house.write(*(row(n, f"many{n}@example.com") for n in range(1000, 1250)))
    text = planned(stand.visitor())
    assert text.count('class="head"') == KEPT_MAX
    assert f"the first {KEPT_MAX}" in text
    assert "create 250" in text
