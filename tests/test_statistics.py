"""`syncd stats`: what the campaigns have come to, kept once a day, and out of here."""

import csv
import io
import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from house import KEY, House, house_fixture, row  # noqa: F401 - a fixture
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import statistics
from syncd.core.trend import Interval, between, grown, intervals
from syncd.fluenzr import FluenzR
from syncd.fluenzr.campaign_types import COUNTS
from syncd.sandbox.faults import Act, Drop
from syncd.state.store import hold
from syncd.statistics import Standing, Timeline

ANN, BOB = "ann@example.com", "bob@example.com"
TIMELINE = "GET /campaigns/:id/stats/timeline"


def keep(house: House) -> int:
    if not statistics.is_due(house.settings, house.clock):
        return 0
    with FluenzR(KEY, base_url=house.sandbox.url, clock=house.clock) as api:
        return statistics.keep(house.settings, api=api, clock=house.clock)


def standings(house: House, days: int = 7) -> list[Standing]:
    with FluenzR(KEY, base_url=house.sandbox.url, clock=house.clock) as api:
        return statistics.standings(house.settings, api=api, clock=house.clock, days=days)


def timeline(house: House, days: int = 7) -> Timeline:
    with FluenzR(KEY, base_url=house.sandbox.url, clock=house.clock) as api:
        (campaign,) = api.campaigns()
        return statistics.timeline(house.settings, campaign, api=api, clock=house.clock, days=days)


def mailed(house: House, *emails: str) -> None:
    """The campaign Q1 mails these people now."""
    if not house.account.campaigns:
        house.account.add_campaign("Q1")
    for email in emails:
        house.account.add_contact(email)
        house.account.enrol_by_hand(email, "Q1")


# kept once a day


def test_the_first_run_of_a_day_keeps_the_totals_and_no_other(house: House) -> None:
    mailed(house, ANN)
    assert keep(house) == 0  # before the first run there is no state, and so no trend
    house.write(row(1, ANN))
    house.sync()
    assert (keep(house), keep(house)) == (1, 0)
    house.later(hours=15)
    assert keep(house) == 1
    assert [one.day for one in statistics.kept(house.settings, house.clock, 7)] == [
        "2026-01-01",
        "2026-01-02",
    ]


def test_what_goes_wrong_with_statistics_fails_nothing(house: House) -> None:
    mailed(house, ANN)
    house.sync()
    house.fault(Drop(applied=True), "GET", "/campaigns", times=5)
    assert keep(house) == 0
    assert keep(house) == 1


def test_a_state_in_use_is_left_to_whoever_uses_it(house: House) -> None:
    mailed(house, ANN)
    house.sync()
    with hold(house.state, wait_s=0.0, clock=house.clock):
        assert keep(house) == 0
    assert keep(house) == 1


def test_what_is_older_than_the_history_goes(house: House) -> None:
    mailed(house, ANN)
    house.sync()
    keep(house)
    house.later(days=401)
    keep(house)
    assert len(statistics.kept(house.settings, house.clock, 1000)) == 1


def test_a_campaign_that_is_deleted_meanwhile_is_left_out(house: House) -> None:
    mailed(house, ANN)
    other = house.account.add_campaign("Other")

    def vanish() -> None:
        house.account.campaigns.pop(other.id, None)

    house.fault(Act(action=vanish, after=True), "GET", "/campaigns", times=1)
    assert [one.campaign.name for one in standings(house)] == ["Q1"]


# trends


def test_a_table_tells_how_much_is_new(house: House) -> None:
    mailed(house, ANN)
    house.sync()
    (before,) = standings(house)
    assert (before.since, before.stats.sent) == (None, 1)
    keep(house)
    house.later(days=2)
    mailed(house, BOB)
    house.account.happens("replied", ANN, campaign="Q1")
    (now,) = standings(house)
    assert (now.since, now.stats.sent) == ("2026-01-01", 2)
    assert (now.grown["sent"], now.grown["replied"]) == (1, 1)


@pytest.mark.parametrize("status", [404, 405])
@pytest.mark.parametrize("nested", [True, False])
def test_days_are_told_with_and_without_a_timeline(house: House, nested: bool, status: int) -> None:
    house.quirks(stats_nested=nested, absent_status=status)
    mailed(house)
    house.sync()
    keep(house)
    mailed(house, ANN)
    house.later(days=1)
    keep(house)
    mailed(house, BOB)
    told = timeline(house)
    assert told.told
    assert [(day.start, day.counts["sent"]) for day in told.days] == [
        ("2026-01-01", 1),
        ("2026-01-02", 1),
    ]
    house.quirks(absent=frozenset({TIMELINE}))
    house.later(days=1)
    compared = timeline(house)
    assert not compared.told
    assert [(day.start, day.end, day.counts["sent"]) for day in compared.days] == [
        ("2026-01-01", "2026-01-02", 1),
        ("2026-01-02", "2026-01-03", 1),
    ]


def test_what_is_not_told_is_not_counted_and_what_shrinks_is_nothing() -> None:
    assert between(
        {"sent": 3, "opened": None, "clicked": 5}, {"sent": 5, "opened": 2, "clicked": 4}
    ) == {
        "sent": 2,
        "clicked": 0,
    }
    days: list[tuple[str, Any]] = [("2026-01-01", {"sent": 1}), ("2026-01-04", {"sent": 4})]
    assert intervals(days) == [Interval("2026-01-01", "2026-01-04", {"sent": 3})]
    assert grown(days, {"sent": 5}) == ("2026-01-01", {"sent": 4})
    assert grown([], {"sent": 5}) is None


# the command


def said_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def start(shell: Shell) -> None:
    shell.account.add_campaign("Spring, 2026")
    shell.account.add_contact(ANN)
    shell.account.enrol_by_hand(ANN, "Spring, 2026")
    shell.account.happens("opened", ANN, campaign="Spring, 2026")
    shell.people((1, "eve@example.com"))


def test_the_first_sync_of_a_day_keeps_statistics(shell: Shell) -> None:
    start(shell)
    said = shell.inside("sync")
    assert said.code == 0
    (one,) = shell.inside("stats", "--json").objects
    assert (one["name"], one["sent"], one["openRate"]) == ("Spring, 2026", 1, 100.0)
    assert (one["since"] is not None, one["grown"]["sent"]) == (True, 0)
    before = shell.sandbox.counts["GET", "/campaigns"]
    shell.inside("sync")
    assert shell.sandbox.counts["GET", "/campaigns"] == before


def test_stats_speak_to_people(shell: Shell) -> None:
    start(shell)
    said = shell.inside("stats")
    assert said.code == 0
    assert "Spring, 2026" in said.out
    assert "100.0 %" in said.out
    assert "Nothing was kept yet" in said.out
    assert "2026" in shell.inside("stats", "--campaign", "spring, 2026").out
    assert shell.inside("stats", "--campaign", "Winter").code == 2
    assert shell.inside("stats", "--days", "0").code == 2


def test_exports_have_the_columns_of_the_api(shell: Shell) -> None:
    start(shell)
    shell.inside("sync")
    columns = ["id", "name", "status", "createdAt", "startedAt", *COUNTS]
    said = shell.inside("stats", "export")
    (line,) = said_csv(said.out)
    assert list(line) == columns
    assert (line["name"], line["sent"], line["openRate"]) == ("Spring, 2026", "1", "100.0")
    (one,) = shell.inside("stats", "export", "--format", "json").objects
    assert list(one) == columns
    (day,) = shell.inside("stats", "export", "--format", "json", "--daily").objects
    assert list(day) == ["date", *columns]
    assert (day["sent"], day["name"]) == (1, "Spring, 2026")
    path = shell.folder / "stats.csv"
    for _ in range(2):
        assert shell.inside("stats", "export", "--out", str(path)).out == ""
    assert path.read_text() == said.out
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in shell.folder.iterdir() if "stats.csv" in one.name] == ["stats.csv"]


def test_sqlite_gets_each_campaign_and_day_once(shell: Shell) -> None:
    start(shell)
    shell.inside("sync")
    path = shell.folder / "out" / "stats.db"
    words = ("stats", "export", "--format", "sqlite", "--out", str(path))
    for _ in range(2):
        assert shell.inside(*words).code == 0
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT name,sent,openRate FROM campaign").fetchall() == [
            ("Spring, 2026", 1, 100.0)
        ]
        assert db.execute("SELECT name,sent FROM campaign_day").fetchall() == [("Spring, 2026", 1)]
    assert path.stat().st_mode & 0o777 == 0o600
    assert shell.inside("stats", "export", "--format", "sqlite").code == 2
    other = shell.write("notes.txt", "no database " * 100)
    assert shell.inside(*words[:-1], str(other)).code == 1
    assert other.read_text().startswith("no database")
    assert shell.inside("stats", "export", "--out", "nowhere/stats.csv").code == 1
    assert json.loads(shell.inside("stats", "export", "--format", "json").out)


def test_each_command_has_help_with_an_example(shell: Shell) -> None:
    for words in (("stats",), ("stats", "export")):
        assert "Example:  syncd stats" in shell.inside(*words, "--help").out
