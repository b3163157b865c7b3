"""The numbers for Prometheus: the same from the listener and in the textfile, nobody's address, and every series that deploy/ asks for."""

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from house import House, house_fixture, people, row  # noqa: F401 - a fixture
from prometheus_client.parser import text_string_to_metric_families
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import lookout
from syncd.metrics import Numbers
from syncd.web.app import serving
from syncd.web.monitoring import readiness, routes

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD = DEPLOY / "grafana" / "fluenzr-syncd.json"
PROMTOOL = shutil.which("promtool")
SERIES = re.compile(r"\bsyncd_\w+")
NOW_S = 1_767_261_600
EVERY = "every 15 minutes"

Samples = dict[tuple[str, ...], float]


def samples(house: House, numbers: Numbers | None = None) -> Samples:
    """(series, label values in order of their names) -> value."""
    text, _ = (numbers or Numbers()).exposition(house.settings)
    return {
        (one.name, *(one.labels[name] for name in sorted(one.labels, reverse=True))): one.value
        for family in text_string_to_metric_families(text.decode())
        for one in family.samples
    }


def test_a_run_is_told_in_numbers(house: House) -> None:
    house.configure(schedule=EVERY)
    house.write(*people(3))
    house.sync()
    found = samples(house)
    people_of = ("syncd_sync_people", "people")
    assert found[people_of] == 3
    assert found["syncd_sync_records", "people"] == 3
    assert found["syncd_sync_last_run_people", "people", "created"] == 3
    assert found["syncd_sync_last_run_records", "people", "read"] == 3
    assert found["syncd_sync_last_success_timestamp_seconds", "people"] == NOW_S
    assert found["syncd_sync_last_run_status", "people", "ok"] == 1
    assert found["syncd_sync_last_run_status", "people", "failed"] == 0
    assert found["syncd_sync_last_run_requests", "people"] > 0
    assert found["syncd_request_limit_per_minute",] == 900
    assert found["syncd_opt_outs_read_timestamp_seconds",] == NOW_S
    assert found["syncd_state_usable",] == 1


def test_failures_held_and_quarantined_are_counted(house: House) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip"], guard={"max_enrolments": 2})
    house.write(*people(3))
    house.sync()
    assert samples(house)["syncd_sync_held_people", "people"] == 3
    house.configure(groups=[])
    house.account.refuse("p1@example.com")
    house.write(*people(3))
    house.sync()
    found = samples(house)
    assert found["syncd_sync_held_people", "people"] == 0
    assert found["syncd_sync_quarantined_people", "people"] == 1
    house.break_source()
    for count in (1, 2):
        house.sync()
        found = samples(house)
        assert found["syncd_sync_failed_runs", "people"] == count
        assert found["syncd_sync_last_run_status", "people", "failed"] == 1
        assert found["syncd_sync_last_success_timestamp_seconds", "people"] == NOW_S


def test_everybody_is_counted_anew_after_each_run(house: House) -> None:
    numbers = Numbers()
    house.write(*people(3))
    house.sync()
    assert samples(house, numbers)["syncd_sync_people", "people"] == 3
    house.write(*people(5))
    house.sync()
    assert samples(house, numbers)["syncd_sync_people", "people"] == 5


def test_no_address_is_in_them_and_no_more_series_than_syncs_ask_for(house: House) -> None:
    house.write(*people(3))
    house.sync()
    before = set(samples(house))
    house.write(*people(40))
    house.sync()
    text, _ = Numbers().exposition(house.settings)
    assert b"@" not in text
    assert b"example.com" not in text
    assert set(samples(house)) == before


def test_before_the_first_run_and_with_a_lost_state_it_still_answers(house: House) -> None:
    found = samples(house)
    assert found["syncd_sync_last_success_timestamp_seconds", "people"] == 0
    assert not house.state.exists()
    house.write(*people(1))
    house.sync()
    house.state.unlink()
    lost = samples(house)
    assert lost["syncd_state_usable",] == 0
    assert "syncd_sync_people" not in {name for name, *_ in lost}


# The textfile


def test_textfile_says_the_same_and_may_be_read_by_its_collector(house: House) -> None:
    house.configure(more={"metrics": {"textfile": "out/syncd.prom"}})
    (house.folder / "out").mkdir()
    house.write(*people(3))
    house.sync()
    lookout.look(house.settings, clock=house.clock)
    file = house.folder / "out" / "syncd.prom"
    assert file.read_bytes() == Numbers().exposition(house.settings)[0]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644  # also below the umask of the service
    assert [one.name for one in file.parent.iterdir()] == ["syncd.prom"]


def test_textfile_that_cannot_be_written_stops_nothing(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.configure(more={"metrics": {"textfile": "missing/syncd.prom"}})
    house.write(*people(1))
    house.sync()
    lookout.look(house.settings, clock=house.clock)
    assert "metrics.postponed" in capsys.readouterr().out


def test_one_shot_run_writes_the_textfile_also_when_it_fails(shell: Shell) -> None:
    text = (shell.folder / "config.toml").read_text("utf-8")
    shell.write("config.toml", f'{text}\n[metrics]\ntextfile = "syncd.prom"\n')
    assert shell("sync").code == 1  # there is no people.csv
    found = (shell.folder / "syncd.prom").read_text()
    assert 'syncd_sync_failed_runs{sync="customers"} 1.0' in found


# The listener


@pytest.fixture(name="http")
def http_fixture(house: House) -> Iterator[httpx.Client]:
    more = routes(lambda: house.settings, clock=house.clock)
    place = ("127.0.0.1", 0)
    with (
        serving(None, house.state, place, clock=house.clock, on_news=lambda: None, more=more) as at,
        httpx.Client(base_url=f"http://{at[0]}:{at[1]}", trust_env=False) as http,
    ):
        yield http


def test_listener_answers_metrics_in_prometheus_own_form(house: House, http: httpx.Client) -> None:
    house.write(*people(2))
    house.sync()
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert answer.content == Numbers().exposition(house.settings)[0]
    open_metrics = http.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert open_metrics.text.endswith("# EOF\n")


def test_ready_is_when_every_sync_succeeds_and_nothing_is_wrong(
    house: House, http: httpx.Client
) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(groups=["Drip"], guard={"max_enrolments": 2}, schedule=EVERY)
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["why"] == ["people has not succeeded yet"]
    house.write(*people(2))
    house.sync()
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "ready": True,
            "why": [],
            "syncs": {"people": {"last_success": float(NOW_S), "held": 0, "quarantined": 0}},
        },
    )
    house.write(*people(5))
    house.sync()
    answer = http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["why"] == ["people is held by a guard: 3 people"]
    assert answer.json()["syncs"]["people"]["held"] == 3
    assert http.get("/healthz").status_code == 200  # the process is well


def test_not_ready_when_the_last_success_is_too_long_ago(house: House) -> None:
    house.configure(schedule=EVERY)
    house.write(row(1, "ann@example.com"))
    house.sync()
    assert readiness(house.settings, clock=house.clock)[0] == 200
    house.later(days=1.1)
    status, body = readiness(house.settings, clock=house.clock)
    assert status == 503
    assert json.loads(body)["why"] == ["people has not succeeded since 2026-01-01 10:00 UTC"]


# What deploy/ asks for


def known(house: House) -> set[str]:
    """Every series that /metrics names."""
    house.write(*people(1))
    house.sync()
    text, _ = Numbers().exposition(house.settings)
    return set(re.findall(r"^# TYPE (\w+) ", text.decode(), re.MULTILINE))


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load(RULES.read_text("utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def test_alert_rules_ask_for_series_that_exist(house: House) -> None:
    there = known(house)
    for rule in rules():
        asked = set(SERIES.findall(rule["expr"]))
        assert asked, rule
        assert asked <= there, rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]


def test_dashboard_asks_for_series_that_exist_and_shows_all_of_them(house: House) -> None:
    there = known(house)
    board = json.loads(DASHBOARD.read_text("utf-8"))
    asked: set[str] = set()
    for panel in board["panels"]:
        found = {name for target in panel["targets"] for name in SERIES.findall(target["expr"])}
        assert found, panel["title"]
        asked |= found
    asked |= set(SERIES.findall(json.dumps(board["templating"])))
    assert asked == there
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


def test_every_series_is_explained_in_the_docs(house: House) -> None:
    text = (DEPLOY.parent / "docs" / "how-to" / "monitor.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(syncd_\w+)", text, re.MULTILINE)) == known(house)


@pytest.mark.skipif(PROMTOOL is None, reason="this machine has no promtool")
def test_promtool_accepts_the_rules_and_the_metrics(house: House) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "rules", RULES], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    house.write(*people(1))
    house.sync()
    text, _ = Numbers().exposition(house.settings)
    linted = subprocess.run(
        [PROMTOOL, "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (linted.returncode, linted.stderr) == (0, b"")
