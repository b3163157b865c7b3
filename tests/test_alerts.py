"""Alerts of real runs, received by a real server: each change is told once, and what was not delivered is not lost."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from house import House, house_fixture, people, row  # noqa: F401 - a fixture
from receiver import Receiver, receiving
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import alerts, config, lookout
from syncd.errors import ConfigError, StateError
from syncd.sandbox.faults import Status
from syncd.state import told

HOUR, DAY = 3600, 86_400
ALERTS = {"alerts": {"urls": ["env:ALERT_URL"]}}
EVERY = "every 15 minutes"


@pytest.fixture(name="receiver")
def receiver_fixture(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with receiving() as receiver:
        monkeypatch.setenv("ALERT_URL", receiver.url())
        yield receiver


def tell(house: House) -> list[alerts.Delivery]:
    return alerts.tell(house.settings, clock=house.clock)


def ran(house: House) -> None:
    """A run, and the look after it."""
    house.sync()
    tell(house)
    tell(house)  # another look finds nothing new


def test_a_failing_sync_is_told_at_the_second_failure_once_and_once_when_it_is_over(
    house: House, receiver: Receiver
) -> None:
    house.configure(more=ALERTS, schedule=EVERY)
    house.break_source(row(1, "ann@example.com"))
    ran(house)
    assert receiver.titles == []
    for _ in range(3):
        ran(house)
    assert receiver.titles == ["syncd: people has failed 2 times in a row"]
    [failure] = receiver.got
    assert failure["type"] == "failure"
    assert "people.csv" in failure["message"]
    house.write(row(1, "ann@example.com"))
    ran(house)
    ran(house)
    assert receiver.titles[1:] == ["syncd: people does not fail any more"]
    assert receiver.got[1]["type"] == "success"


def test_what_a_guard_holds_is_told_in_its_words_with_the_command(
    house: House, receiver: Receiver
) -> None:
    house.account.add_group("Drip", dynamic=True)
    house.configure(more=ALERTS, guard={"max_enrolments": 2}, groups=["Drip"], schedule=EVERY)
    house.write(*people(3))
    house.sync()
    tell(house)
    house.sync()  # held anew, under another number
    tell(house)
    [held] = receiver.got
    assert held["title"] == "syncd: people is held by a guard: 3 people"
    assert "3 people would join 'Drip' and be mailed; the limit is 2" in held["message"]
    assert "syncd approve 1 people" in held["message"]
    house.approve(2)
    tell(house)
    assert receiver.titles[1:] == ["syncd: people is not held any more"]


def test_an_empty_source_holds_nobody_and_is_told(house: House, receiver: Receiver) -> None:
    house.configure(more=ALERTS)
    house.write(row(1, "ann@example.com"))
    house.sync()
    house.write()
    ran(house)
    assert len(receiver.got) == 1
    assert "The source is empty" in receiver.got[0]["message"]


def test_a_quarantine_that_grows_is_told(house: House, receiver: Receiver) -> None:
    house.configure(more=ALERTS)
    for one in people(12):
        house.account.refuse(one["email"])
    house.write(*people(9))
    ran(house)
    assert receiver.titles == []
    house.write(*people(12))
    ran(house)
    assert receiver.titles == ["syncd: 12 people of people cannot be delivered to FluenzR"]
    assert "example.com" not in receiver.got[0]["message"]


def test_nothing_succeeded_for_too_long_is_told_whatever_runs(
    house: House, receiver: Receiver
) -> None:
    house.configure(
        more={"alerts": {**ALERTS["alerts"], "silence_after": "2 hours"}}, schedule=EVERY
    )
    house.write(row(1, "ann@example.com"))
    ran(house)
    house.later(minutes=2 * 60 + 14)
    tell(house)
    assert receiver.titles == []  # a success was due a quarter of an hour after the last one
    house.later(minutes=2)
    tell(house)
    tell(house)
    assert receiver.titles == ["syncd: people has not succeeded since 2026-01-01 10:00 UTC"]
    ran(house)
    assert receiver.titles[1:] == ["syncd: people runs again"]


def test_a_machine_on_which_nothing_ever_succeeded_is_told_of(
    house: House, receiver: Receiver
) -> None:
    house.configure(more=ALERTS, schedule=EVERY)
    tell(house)
    house.later(hours=25)
    tell(house)
    assert receiver.titles == ["syncd: people has not succeeded yet"]


def test_an_opt_out_that_fluenzr_does_not_take_is_told(house: House, receiver: Receiver) -> None:
    house.configure(more=ALERTS, opted_out="out", groups=["Customers"])
    house.write(row(1, "ann@example.com"))
    house.sync()
    assert house.members("Customers") == {"ann@example.com"}
    house.write(row(1, "ann@example.com", out="yes"))
    house.fault(Status(status=500, applied=False), "PUT|PATCH|DELETE|POST", "/(contacts|groups)/.*")
    house.sync()
    tell(house)
    assert receiver.titles == []
    house.later(hours=1.1)
    tell(house)
    assert receiver.titles == [
        "syncd: 1 person opted out in a source, and FluenzR was not told yet"
    ]
    house.faults.clear()
    house.later(days=1)
    ran(house)
    assert "syncd: no opt-out waits any more" in receiver.titles


def test_a_lost_state_is_told(house: House, receiver: Receiver) -> None:
    house.configure(more=ALERTS)
    house.write(row(1, "ann@example.com"))
    ran(house)
    house.state.unlink()
    tell(house)
    tell(house)
    assert receiver.titles == ["syncd: the state cannot be used"]
    assert "syncd reconcile" in receiver.got[0]["message"]


def test_what_was_not_delivered_is_told_by_the_next_look(house: House, receiver: Receiver) -> None:
    house.configure(more=ALERTS)
    house.break_source()
    house.sync()
    house.sync()
    receiver.status = 503
    [first] = tell(house)
    assert "It answered with status 503" in first.error
    assert receiver.got == []
    receiver.status = 200
    [second] = tell(house)
    assert second.error == ""
    assert tell(house) == []
    assert len(receiver.got) == 1


def test_each_address_is_told_for_itself(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that does not answer has nothing told twice to the other."""
    monkeypatch.setenv("DEAD_URL", "json://127.0.0.1:9/dead")
    house.configure(more={"alerts": {"urls": ["env:DEAD_URL", "env:ALERT_URL"]}})
    house.break_source()
    house.sync()
    house.sync()
    for _ in range(3):
        found = tell(house)
    assert [(one.place, "cannot be reached" in one.error) for one in found] == [
        ("env:DEAD_URL", True)
    ]
    assert len(receiver.got) == 1


def test_alerts_are_told_while_a_run_holds_the_state(house: House, receiver: Receiver) -> None:
    """A daemon that hangs in a run is what somebody must hear of."""
    from syncd.state.store import hold, open_state

    house.configure(more=ALERTS)
    house.break_source()
    house.sync()
    house.sync()
    with (
        hold(house.state, wait_s=0, clock=house.clock),
        open_state(house.state) as state,
        state.tx(),
    ):
        tell(house)
    assert len(receiver.got) == 1


def test_two_processes_do_not_tell_the_same(house: House, receiver: Receiver) -> None:
    house.configure(more=ALERTS)
    house.break_source()
    house.sync()
    house.sync()
    with told.opened(house.state) as book:
        assert book is not None
        assert tell(house) == []
    assert receiver.got == []
    assert len(tell(house)) == 1


def test_nothing_is_sent_where_it_cannot_be_kept(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be sent again at each look."""
    house.configure(more=ALERTS)
    house.break_source()
    house.sync()
    house.sync()
    (house.folder / "syncd.db.alerts").mkdir()
    with pytest.raises(StateError):
        tell(house)
    lookout.look(house.settings, clock=house.clock)  # and that stops nothing
    assert receiver.got == []


def test_what_was_told_is_readable_by_its_owner_only_and_names_nobody(
    house: House, receiver: Receiver
) -> None:
    house.configure(more=ALERTS)
    house.write(row(1, "ann@example.com"), row(1, "bob@example.com"))  # one key twice
    house.sync()
    house.sync()
    tell(house)
    assert len(receiver.got) == 1
    for file in house.folder.glob("syncd.db.alerts*"):
        assert file.stat().st_mode & 0o077 == 0
        assert b"example.com" not in file.read_bytes()
        assert b"s3cret-path" not in file.read_bytes()
    assert "@example.com" not in str(receiver.got)


def test_the_address_is_never_shown(
    house: House,
    receiver: Receiver,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    house.configure(more=ALERTS)
    house.break_source()
    house.sync()
    house.sync()
    for receiver.status in (404, 200):
        found = tell(house)
        assert "s3cret-path" not in str(found)
    assert receiver.paths == ["/s3cret-path", "/s3cret-path"]
    out, err = capfd.readouterr()
    assert "s3cret-path" not in out + err + caplog.text


@pytest.mark.parametrize("address", ["nonsense", "nosuch://s3cret-path", "slack://s3cret-path"])
def test_an_address_that_apprise_does_not_know_is_refused_without_showing_it(
    house: House, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("ALERT_URL", address)
    house.configure(more=ALERTS)
    [found] = alerts.test(house.settings)
    assert "alerts.urls: env:ALERT_URL holds no address that Apprise understands" in found.error
    assert address not in found.error


def test_an_address_in_the_configuration_itself_is_refused_without_repeating_it(
    house: House,
) -> None:
    with pytest.raises(ConfigError) as caught:
        house.configure(more={"alerts": {"urls": ["slack://T0/B0/s3cret-path"]}})
    assert "alerts.urls" in str(caught.value)
    assert "s3cret-path" not in str(caught.value)


# The command


def with_alerts(shell: Shell, receiver: Receiver) -> None:
    text = (shell.folder / "config.toml").read_text("utf-8")
    shell.write("config.toml", f'{text}\n[alerts]\nurls = ["env:ALERT_URL"]\n')
    shell.environment["ALERT_URL"] = receiver.url()


def test_notify_without_alerts_says_what_to_write(shell: Shell) -> None:
    said = shell.inside("notify")
    assert said.code == 2
    assert 'urls = ["env:ALERT_URL"]' in said.err


def test_notify_test_reaches_everybody(shell: Shell, receiver: Receiver) -> None:
    with_alerts(shell, receiver)
    said = shell("notify", "--test")
    assert (said.code, said.err) == (0, "")
    assert said.out == "env:ALERT_URL was told: syncd: a test\n"
    assert receiver.got[0]["message"].startswith("This is how an alert of syncd arrives.")
    assert str(shell.folder / "config.toml") in receiver.got[0]["message"]
    receiver.status = 403
    refused = shell("notify", "--test")
    assert refused.code == 1
    assert "It answered with status 403" in refused.err
    assert "s3cret" not in refused.err


def test_one_shot_runs_tell_once_across_processes(shell: Shell, receiver: Receiver) -> None:
    """As cron runs them: each is a process of its own."""
    with_alerts(shell, receiver)
    codes = [shell("sync").code for _ in range(3)]  # there is no people.csv
    assert codes == [1, 1, 1]
    assert receiver.titles == ["syncd: customers has failed 2 times in a row"]
    shell.people((1, "ann@example.com", "Ann"))
    assert shell("sync").code == 0
    assert receiver.titles[1:] == ["syncd: customers does not fail any more"]
    said = shell("notify")
    assert (said.code, said.out) == (0, "Nothing has changed since everybody was told last.\n")


def test_an_address_that_does_not_answer_changes_no_run(shell: Shell, receiver: Receiver) -> None:
    with_alerts(shell, receiver)
    receiver.status = 500
    shell("sync")
    said = shell("sync")
    assert said.code == 1
    assert "alerts.postponed" in said.err
    shell.people((1, "ann@example.com", "Ann"))
    assert shell("sync").code == 0


def test_a_failure_before_the_run_is_looked_at_too(shell: Shell, receiver: Receiver) -> None:
    """A column that is gone ends the run before it begins; the dead-man's timer finds the silence."""
    with_alerts(shell, receiver)
    shell.people((1, "ann@example.com", "Ann"))
    assert shell("sync").code == 0
    shell.write("people.csv", "id,mail\n1,ann@example.com\n")
    assert shell("sync").code == 2
    assert (shell.folder / "syncd.db.alerts").exists()


def test_settings_have_their_defaults(tmp_path: Path) -> None:
    table = config.AlertsSettings.model_validate({"urls": ["env:X"]})
    assert (table.failures, table.silence_after_s) == (2, DAY)
