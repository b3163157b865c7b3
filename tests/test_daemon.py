"""The daemon: when it starts what, how it ends, and what the service manager hears of it."""

import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from receiver import receiving
from warm import Command

from syncd.clock import SystemClock
from syncd.core.due import first_start_s
from syncd.core.moments import next_cron_s
from syncd.core.schedule import Cron, parse_schedule
from syncd.sandbox import Rule, Sandbox
from syncd.sandbox.faults import SLOW_S_MAX, Act, Slow
from syncd.state.store import hold

SYNCD = Path(sys.executable).with_name("syncd")
PATIENCE_S = 20.0  # for anything that should happen at once; only a failing test waits that long
RUNS_MAX = 10  # after which something must have happened
NOW = datetime(2026, 1, 14, 12, 0, tzinfo=UTC).timestamp()  # a Wednesday
MINUTE, HOUR, DAY = 60, 3600, 86400


def cron(text: str) -> Cron:
    schedule = parse_schedule(text)
    assert isinstance(schedule, Cron)
    return schedule


def next_in_utc_s(schedule: Cron, after_s: float) -> float:
    return next_cron_s(schedule, ZoneInfo("UTC"), after_s)


# When it starts first


@pytest.mark.parametrize(
    ("schedule", "completed_s", "start_s"),
    [
        ("every 15 minutes", None, NOW),  # never yet
        ("every 15 minutes", NOW - 16 * MINUTE, NOW),  # older than the interval
        ("every 15 minutes", NOW - 15 * MINUTE, NOW),
        ("every 15 minutes", NOW - 5 * MINUTE, NOW + 10 * MINUTE),
        ("every 15 minutes", NOW - 9 * DAY, NOW),
        ("every 1 day", NOW - 23 * HOUR, NOW + HOUR),
        ("every 15 minutes", NOW + 900 * DAY, NOW + 15 * MINUTE),  # a clock that was wrong
        ("0 * * * *", None, NOW + HOUR),  # never yet: it waits for its time
        ("30 11 * * *", NOW - HOUR, NOW),  # missed while nothing ran
        ("30 11 * * *", NOW - 9 * DAY, NOW),  # missed nine times: one catch-up
        ("30 11 * * *", NOW - 20 * MINUTE, NOW + 23.5 * HOUR),  # done today
        ("30 11 * * *", NOW - 30 * MINUTE, NOW + 23.5 * HOUR),  # done in the second it was due
        ("0 12 * * *", NOW - DAY, NOW),  # due right now
        ("30 11 * * *", NOW + 900 * DAY, NOW + 23.5 * HOUR),
    ],
)
def test_first_start(schedule: str, completed_s: float | None, start_s: float) -> None:
    parsed = parse_schedule(schedule)
    assert parsed is not None
    found = first_start_s(
        parsed,
        completed_s=completed_s,
        now_s=NOW,
        next_s=next_in_utc_s,
    )
    assert found == start_s


def test_pause_of_days_is_caught_up_exactly_once() -> None:
    """After the catch-up the schedule goes on as if nothing had been missed."""

    def start_s(completed_s: float, now_s: float) -> float:
        return first_start_s(
            cron("0 */6 * * *"),
            completed_s=completed_s,
            now_s=now_s,
            next_s=next_in_utc_s,
        )

    now_s = NOW + 100
    assert start_s(NOW - 5 * DAY, now_s) == now_s
    done_s = now_s + 40
    assert start_s(done_s, done_s + 1) == NOW + 6 * HOUR


# The process


class Service:
    """A running `syncd run`, its log, and the service manager that listens to it."""

    def __init__(self, config: Path, manager: "Manager") -> None:
        self._manager = manager
        environment = {
            **{name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")},
            "FLUENZR_API_KEY": "flz_sk_" + "a" * 32,
            "NOTIFY_SOCKET": manager.address,
        }
        self.process = Command(
            *("--config", str(config), "run"),
            folder=config.parent,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        assert self.process.stderr is not None
        self._stderr = self.process.stderr.fileno()
        self._rest = b""
        self.log: list[str] = []

    def logged(self, event: str, **fields: Any) -> dict[str, Any]:
        """The next log entry of this event with these fields."""

        def right(line: str) -> bool:
            entry = json.loads(line) if line.startswith("{") else {}
            return entry.get("event") == event and all(
                entry.get(name) == value for name, value in fields.items()
            )

        entry: dict[str, Any] = json.loads(self._line(right))
        return entry

    def heard(self, message: str) -> str:
        """The next message to the service manager that begins with these words."""
        while True:
            received = self._manager.messages.get(timeout=PATIENCE_S)
            if received.startswith(message):
                return received

    def heard_within(self, seconds: float) -> list[str]:
        """All messages to the service manager until so many seconds from now."""
        deadline, heard = time.monotonic() + seconds, []
        with suppress(queue.Empty):
            while (left_s := deadline - time.monotonic()) > 0:
                heard.append(self._manager.messages.get(timeout=left_s))
        return heard

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """The exit code after a signal, and the seconds that it took."""
        began = time.monotonic()
        self.process.send_signal(number)
        with suppress(EOFError):
            self._line(lambda _: False)
        return self.process.wait(PATIENCE_S), time.monotonic() - began

    def _line(self, right: Callable[[str], bool]) -> str:
        deadline = time.monotonic() + PATIENCE_S
        while (left_s := deadline - time.monotonic()) > 0:
            line, separator, rest = self._rest.partition(b"\n")
            if separator:
                self._rest = rest
                self.log.append(line.decode())
                if right(self.log[-1]):
                    return self.log[-1]
            elif select.select([self._stderr], [], [], left_s)[0]:
                more = os.read(self._stderr, 65536)
                if not more:
                    raise EOFError("\n".join(self.log))
                self._rest += more
        raise AssertionError("not logged; the log:\n" + "\n".join(self.log))


class Manager:
    """The service manager: listens all the time, as systemd does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(address)
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Manager":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.sendto(b"", self.address)
        self._thread.join()
        self._end.close()

    def _listen(self) -> None:
        while message := self._end.recv(4096):
            self.messages.put(message.decode())


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
def start(tmp_path: Path, manager: Manager) -> Iterator[Callable[[], Service]]:
    """Starts the daemon on the configuration in `tmp_path`; at the end it is killed."""
    started: list[Service] = []

    def go() -> Service:
        started.append(Service(tmp_path / "config.toml", manager))
        return started[-1]

    yield go
    for service in started:
        service.process.kill()
        service.process.wait(PATIENCE_S)
        assert service.process.stderr is not None
        service.process.stderr.close()


def write_people(folder: Path, *names: str) -> None:
    lines = ["id,email,first", *(f"{name},{name}@example.com,{name}" for name in names)]
    # In one step, as whoever exports a file should: a reader sees the old one or the new one.
    (folder / "next.csv").write_text("\n".join(lines) + "\n")
    (folder / "next.csv").replace(folder / "people.csv")


def write_config(folder: Path, base_url: str, *, schedule: str = "every 1 second") -> None:
    (folder / "config.toml").write_text(
        f"""
        [fluenzr]
        api_key = "env:FLUENZR_API_KEY"
        base_url = "{base_url}"

        [state]
        path = "syncd.db"

        [source.people]
        connector = "csv"
        path = "people.csv"
        key = "id"

        [sync.people]
        source = "people"
        schedule = "{schedule}"

        [sync.people.fields]
        email = "email"
        firstName = "first"
        """
    )


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """FluenzR with nobody in it, and a configuration that feeds three people to it every second."""
    sandbox = Sandbox(clock=SystemClock())
    with sandbox.serve():
        write_people(tmp_path, "ann", "bob", "cy")
        write_config(tmp_path, sandbox.url)
        yield sandbox


def test_first_run_comes_at_once_and_the_next_ones_follow(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    service = start()
    assert service.logged("sync.completed", sync="people")["created"] == 3
    write_people(tmp_path, "ann", "bob", "cy", "dan")
    assert service.logged("sync.completed", created=1)["status"] == "ok"


def test_daemon_keeps_the_statistics_of_each_day(
    start: Callable[..., Service], sandbox: Sandbox
) -> None:
    sandbox.account.add_campaign("Q1")
    service = start()
    assert service.logged("statistics.kept")["campaigns"] == 1
    assert service.end()[0] == 0


def test_daemon_copies_the_state_after_its_first_run(
    start: Callable[..., Service], sandbox: Sandbox, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(config.read_text() + '[backup]\nfolder = "backups"\n')
    service = start()
    assert service.logged("backup.made")["contacts"] == 3
    assert len(list((tmp_path / "backups").iterdir())) == 1
    assert service.end()[0] == 0


def test_service_manager_hears_ready_alive_and_stopping(
    sandbox: Sandbox, start: Callable[[], Service]
) -> None:
    service = start()
    assert service.heard("READY=1") == "READY=1"
    assert "people" in service.heard("STATUS=people")
    assert service.heard("WATCHDOG=1") == "WATCHDOG=1"
    assert service.heard("STATUS=idle; next: people at ")
    service.process.send_signal(signal.SIGTERM)
    assert service.heard("STOPPING=1") == "STOPPING=1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_daemon_ends_at_once_with_exit_code_0(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path, number: signal.Signals
) -> None:
    write_people(tmp_path, "ann")
    service = start()
    service.logged("sync.completed")
    code, seconds = service.end(number)
    assert code == 0
    assert seconds < 5
    assert "daemon.stopped" in service.log[-1]


def test_request_that_hangs_does_not_keep_the_daemon(
    start: Callable[[], Service], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write_people(tmp_path, "ann")
        write_config(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        service = start()
        silent.settimeout(PATIENCE_S)
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(4) == b"GET "  # it is under way, and gets no answer
            service.heard_within(0.5)  # what was said before
            # Three ticks of the main thread: only progress feeds the watchdog, and there is none.
            assert service.heard_within(3.0) == []
            # It fell due again meanwhile, and was not started twice.
            assert service.logged("sync.skipped")["sync"] == "people"
            code, seconds = service.end()
    assert (code, seconds < 5) == (0, True)
    with hold(tmp_path / "syncd.db", wait_s=0.0, clock=SystemClock()):
        pass  # the lock is free: StateBusy otherwise


def test_bulk_request_that_lasts_does_not_keep_the_daemon(
    sandbox: Sandbox, start: Callable[[], Service]
) -> None:
    """Its thread cannot be interrupted: the process leaves without it, before the answer comes."""
    slow = Rule(name="slow", effect=Slow(seconds=SLOW_S_MAX), path="/contacts/bulk")
    sandbox.faults.add(slow)
    service = start()
    while not sandbox.faults.fired["slow"]:
        assert service.process.poll() is None
        service.heard_within(0.02)
    code, seconds = service.end()
    assert code == 0
    assert seconds < SLOW_S_MAX - 0.5
    assert json.loads(service.log[-1])["left_in_flight"] is True


def test_stop_in_the_middle_of_a_run_loses_nothing_and_repeats_nothing(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    """The signal comes when FluenzR has created the people, and before the daemon knows it."""
    first: list[Service] = []
    stop = Act(action=lambda: first[0].process.send_signal(signal.SIGTERM), after=True)
    sandbox.faults.add(Rule(name="stop", effect=stop, path="/contacts/bulk", times=1))
    first.append(start())
    assert first[0].process.wait(PATIENCE_S) == 0
    assert sandbox.faults.fired["stop"] == 1
    start().logged("sync.completed", status="ok", read=3)
    assert len(sandbox.account.contacts_by_email()) == 3
    assert sandbox.counts["POST", "/contacts/bulk"] == 1


def test_wrong_configuration_is_refused_on_reload_and_the_old_one_stays(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    service = start()
    service.logged("sync.completed")
    right = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(
        right.replace('schedule = "every 1 second"', 'schedule = "now and then"\nshedule = 1')
    )
    service.process.send_signal(signal.SIGHUP)
    refused = service.logged("config.refused")["error"]
    assert "sync.people.schedule" in refused
    assert "sync.people.shedule" in refused  # all that is wrong, not the first of it
    write_people(tmp_path, "ann", "bob", "cy", "dan")
    assert service.logged("sync.completed", created=1)["status"] == "ok"
    assert service.heard("RELOADING=1\nMONOTONIC_USEC=")
    assert service.heard("READY=1")  # or systemd would wait for ever


def test_right_configuration_is_taken_over_on_reload(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    service = start()
    service.logged("sync.completed")
    config = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(
        config.replace("[sync.people", "[sync.persons").replace("every 1 second", "every 3 hours")
    )
    service.process.send_signal(signal.SIGHUP)
    assert service.logged("config.reloaded")["syncs"] == ["persons"]
    service.logged("sync.completed", sync="persons")
    assert service.end()[0] == 0


def test_hundreds_of_reloads_in_the_middle_of_runs_lose_and_double_none(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    sandbox.faults.add(Rule(name="slow", effect=Slow(seconds=0.05), path="/contacts"))
    service = start()
    service.logged("sync.completed", created=3)
    for _ in range(300):
        service.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
    for _ in range(3):
        service.logged("sync.completed", status="ok", unchanged=3)
    assert service.end()[0] == 0
    log = [json.loads(line) for line in service.log]
    assert sum(one["event"] == "config.reloaded" for one in log) > 20
    begun = [one["timestamp"] for one in log if one["event"] == "run.started"]
    moments = [datetime.fromisoformat(text).timestamp() for text in begun]
    assert min(later - sooner for sooner, later in pairwise(moments)) > 0.5
    ended = [one for one in log if one["event"] == "sync.completed"]
    assert len(ended) == len(begun)
    assert {one["status"] for one in ended} == {"ok"}
    assert sum(one.get("created", 0) for one in ended) == 3


def test_run_under_another_process_is_put_off_and_is_no_error(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    config = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(config.replace("every 1 second", "every 3 hours"))
    with hold(tmp_path / "syncd.db", wait_s=0.0, clock=SystemClock()):
        service = start()
        assert service.logged("run.postponed")["level"] == "info"
        service.heard("STATUS=idle")  # said at the start
        wait = next_start(service) - datetime.now(UTC)
    assert timedelta(seconds=30) < wait <= timedelta(seconds=60)


def next_start(service: Service) -> datetime:
    """When the daemon says that it starts `people` again."""
    said = service.heard("STATUS=idle; next: people at ").removesuffix(" UTC")
    return datetime.strptime(said[-19:], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)


def test_failing_source_is_told_and_tried_again(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    (tmp_path / "people.csv").unlink()
    service = start()
    failed = service.logged("sync.completed", status="failed")
    assert "people.csv" in failed["error"]
    assert failed["level"] == "error"
    write_people(tmp_path, "ann")
    service.logged("sync.completed", status="ok", created=1)


SECOND_SYNC = """
[source.others]
connector = "csv"
path = "others.csv"
key = "id"

[sync.others]
source = "others"
{settings}

[sync.others.fields]
email = "email"
"""


def test_source_that_lost_a_column_keeps_no_other_sync(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    """Both are due together, and so in one run."""
    (tmp_path / "others.csv").write_text("id,mail\n1,dan@example.com\n")
    with (tmp_path / "config.toml").open("a") as file:
        file.write(SECOND_SYNC.format(settings='schedule = "every 1 second"'))
    service = start()
    service.logged("sync.completed", sync="people", status="ok", created=3)
    service.end()
    assert any("sync.others.fields.email" in line for line in service.log)


def test_people_who_left_are_deleted_by_a_run_of_all_syncs(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    """Only then is it known that no source has them; so the sync that is run by hand is read as well."""
    (tmp_path / "others.csv").write_text("id,email\n1,dan@example.com\n")
    config = (tmp_path / "config.toml").read_text()
    config = config.replace('source = "people"', 'source = "people"\non_removal = "delete"')
    (tmp_path / "config.toml").write_text(config + SECOND_SYNC.format(settings=""))
    service = start()
    service.logged("sync.completed", sync="people", created=3)
    write_people(tmp_path, "ann", "bob")
    service.logged("sync.completed", sync="others", created=1)
    left = {"ann@example.com", "bob@example.com", "dan@example.com"}
    for _ in range(RUNS_MAX):
        if set(sandbox.account.contacts_by_email()) == left:
            break
        service.logged("sync.completed", sync="people")
    assert set(sandbox.account.contacts_by_email()) == left


def test_restart_keeps_the_schedule(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    config = (tmp_path / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(config.replace("every 1 second", "every 3 hours"))
    first = start()
    first.logged("sync.completed", created=3)
    assert first.end()[0] == 0
    second = start()
    second.logged("daemon.started")
    second.heard("READY=1")
    assert timedelta(hours=2) < next_start(second) - datetime.now(UTC) <= timedelta(hours=3)
    second.end()
    assert not any("run.started" in line for line in second.log)


def test_wrong_configuration_at_the_start_is_exit_code_2(
    sandbox: Sandbox, start: Callable[[], Service], tmp_path: Path
) -> None:
    with (tmp_path / "config.toml").open("a") as file:
        file.write("\n[nonsense]\n")
    service = start()
    with suppress(EOFError):
        service.logged("daemon.started")
    assert service.process.wait(PATIENCE_S) == 2


ALERTS = """
[alerts]
urls = ["env:ALERT_URL"]

[metrics]
textfile = "syncd.prom"

[http]
listen = "127.0.0.1:0"
"""


def test_daemon_tells_of_a_failing_sync_once_also_after_a_restart(
    sandbox: Sandbox,
    start: Callable[[], Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (tmp_path / "config.toml").open("a") as file:
        file.write(ALERTS)
    (tmp_path / "people.csv").unlink()
    with receiving() as receiver:
        monkeypatch.setenv("ALERT_URL", receiver.url())
        first = start()
        port = first.logged("listener.started")["port"]
        assert "failed 2 times" in first.logged("alerts.told")["told"]
        ready = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False)
        assert ready.status_code == 503
        assert "people has failed" in ready.json()["why"][0]
        assert first.end()[0] == 0
        second = start()
        second.logged("sync.completed", status="failed")
        write_people(tmp_path, "ann")
        second.process.send_signal(signal.SIGHUP)  # or it would be left alone for a while
        assert "does not fail any more" in second.logged("alerts.told")["told"]
        assert len(receiver.got) == 2
        assert second.end()[0] == 0
        assert "s3cret-path" not in "\n".join(first.log + second.log)
    assert 'syncd_sync_failed_runs{sync="people"} 0.0' in (tmp_path / "syncd.prom").read_text()


def test_address_that_hangs_keeps_neither_runs_nor_the_end(
    sandbox: Sandbox,
    start: Callable[[], Service],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (tmp_path / "config.toml").open("a") as file:
        file.write(ALERTS)
    (tmp_path / "people.csv").unlink()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("ALERT_URL", f"json://127.0.0.1:{silent.getsockname()[1]}/?rto=60")
        service = start()
        silent.settimeout(PATIENCE_S)
        connection, _ = silent.accept()
        with connection:
            write_people(tmp_path, "ann")
            service.process.send_signal(signal.SIGHUP)  # or it would be left alone for a while
            service.logged("sync.completed", status="ok")
            code, seconds = service.end()
    assert (code, seconds < 5) == (0, True)
