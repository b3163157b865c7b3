"""The house in which the engine's tests live: a folder, CSV sources, a configuration, the sandbox, a clock.

Everything is real but time: files, SQLite, HTTP on 127.0.0.1. Every run's books are checked here, so
that no test can forget it. A test says what the world is like, runs, and looks at the account:

    house.configure(groups=["Customers"])
    house.write(row(1, "ann@example.com", first="Ann"))
    assert house.sync().created == 1
    assert house.members("Customers") == {"ann@example.com"}
"""

import csv
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import tomlkit

from syncd import config, run
from syncd.core.change import Change
from syncd.core.result import PlanResult, Status, SyncResult
from syncd.sandbox import Faults, Sandbox
from syncd.sandbox.faults import Effect, Rule
from syncd.state import approvals
from syncd.state.store import change
from syncd.testing.clock import FakeClock
from syncd.watch import Nobody

KEY = "flz_sk_" + "a" * 32
COLUMNS = ("id", "email", "first", "last", "score", "out")
FIELDS = {"email": "email", "firstName": "first", "lastName": "last"}
BULK = "/contacts/bulk"

Row = dict[str, str]


def row(key: object, email: str, **columns: object) -> Row:
    """One line of a source; what is not named is empty."""
    unknown = set(columns) - set(COLUMNS)
    assert not unknown, unknown
    given: dict[str, object] = {"id": key, "email": email, **columns}
    return {name: str(given.get(name, "")) for name in COLUMNS}


def people(count: int, *, start: int = 0, **columns: object) -> list[Row]:
    """So many different people: p0@example.com, p1@example.com..."""
    return [
        row(n, f"p{n}@example.com", **{"first": f"F{n}", **columns})
        for n in range(start, start + count)
    ]


class Killed(BaseException):
    """The process died; nothing of ours may catch it."""


class Killer(Nobody):
    """Kills the run when a phase begins, after everything that was committed before it."""

    def __init__(self, phase: str) -> None:
        self._phase = phase

    def phase(self, sync: str, phase: str, total: int | None) -> None:
        if phase == self._phase:
            raise Killed


class Ahead(FakeClock):
    """The house's clock, for a machine that believes to be some days further."""

    def __init__(self, clock: FakeClock, days: float) -> None:
        super().__init__()
        self._clock, self._ahead_s = clock, days * 86_400

    def now_s(self) -> float:
        return self._clock.now_s() + self._ahead_s

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()

    def sleep_s(self, seconds: float) -> None:
        self._clock.sleep_s(seconds)


class House:
    """One account, its sources and its state. What tests look at often has a short name here."""

    def __init__(self, folder: Path, sandbox: Sandbox, clock: FakeClock) -> None:
        self.folder, self.sandbox, self.clock = folder, sandbox, clock
        self.state = folder / "syncd.db"
        self.account, self.faults = sandbox.account, sandbox.faults
        self.configure()

    # --- the world ----------------------------------------------------------------------------------

    def configure(
        self,
        *,
        guard: Mapping[str, Any] | None = None,
        fluenzr: Mapping[str, Any] | None = None,
        syncs: Mapping[str, Mapping[str, Any]] | None = None,
        source: Mapping[str, Any] | None = None,
        backup: Mapping[str, Any] | None = None,
        more: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Write the configuration: one sync `people` with these options, or several named ones.

        Each sync reads the CSV file of its own name, by the key `id`; or, with `source`, all read that one. An option that is None is
        left out: without `fields`, the source's own mapping applies. more: other tables.
        """
        tables = dict(syncs) if syncs is not None else {"people": options}
        assert not (syncs and options)
        document = {
            "fluenzr": {
                "api_key": "env:SYNCD_TEST_KEY",
                "base_url": self.sandbox.url,
                **(fluenzr or {}),
            },
            "guard": dict(guard or {}),
            **({} if backup is None else {"backup": dict(backup)}),
            **(more or {}),
            "source": {
                name: dict(source or {"connector": "csv", "path": f"{name}.csv", "key": "id"})
                for name in tables
            },
            "sync": {
                name: {
                    option: value
                    for option, value in {"source": name, "fields": FIELDS, **table}.items()
                    if value is not None
                }
                for name, table in tables.items()
            },
        }
        file = self.folder / "config.toml"
        file.write_text(tomlkit.dumps(document))
        self.settings = config.load(file)

    def write(self, *rows: Row, source: str = "people") -> None:
        """What the source holds from now on."""
        with (self.folder / f"{source}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def break_source(self, *rows: Row, source: str = "people") -> None:
        """A source whose read ends with an error after these rows."""
        self.write(*rows, source=source)
        with (self.folder / f"{source}.csv").open("a") as file:
            file.write("a row that was cut\n")

    def quirks(self, **readings: Any) -> None:
        """How FluenzR behaves from now on where its reference is silent: see `Quirks`."""
        self.account.quirks = self.sandbox.quirks = replace(self.account.quirks, **readings)

    def fault(self, effect: Effect, method: str, path: str, **which: Any) -> str:
        """Something goes wrong with such requests; the name under which it is counted."""
        name = f"{type(effect).__name__} {method} {path} {sorted(which.items())}"
        self.faults.add(Rule(name=name, effect=effect, method=method, path=path, **which))
        return name

    def later(self, *, minutes: float = 0, hours: float = 0, days: float = 0) -> None:
        """Time passes."""
        self.clock.advance_s((minutes + 60 * (hours + 24 * days)) * 60)

    # --- what the engine does -----------------------------------------------------------------------

    def sync(self, *names: str, **order: Any) -> SyncResult:
        """One run; the result of the only (or first) sync."""
        return self.sync_all(*names, **order)[0]

    def sync_all(self, *names: str, ahead_days: float = 0, **order: Any) -> list[SyncResult]:
        """One run; every sync's result. The books balance, and only a failed run has an error. ahead_days: of our clock alone."""
        clock = Ahead(self.clock, ahead_days) if ahead_days else self.clock
        results = run.sync(
            self.settings, run.Order(names=names, **order), clock=clock, watch=Nobody()
        )
        for result in results:
            assert result.missing() == 0, result
            assert (result.error is None) == (result.status is not Status.FAILED), result
        return results

    def killed_at(self, phase: str) -> None:
        """One run that dies when this phase begins: `settle`, `check`, `upload`..."""
        with pytest.raises(Killed):
            run.sync(self.settings, run.Order(), clock=self.clock, watch=Killer(phase))

    def plan(self, *names: str, **order: Any) -> tuple[PlanResult, list[Change]]:
        """What would happen; it sends nothing and leaves no trace."""
        changes = list[Change]()
        before, writes = self.tables(), self.sandbox.writes()
        results = run.plan(
            self.settings,
            run.Order(names=names, **order),
            clock=self.clock,
            watch=Nobody(),
            show=changes.append,
        )
        assert (self.tables(), self.sandbox.writes()) == (before, writes)
        return results[0], changes

    def approve(self, number: int, sync: str | None = None) -> int:
        """Release what a guard held in this run."""
        count: int = change(
            self.state,
            lambda state: approvals.approve(state.db, number, sync, by="ops", now_s=0),
            clock=self.clock,
        )
        return count

    # --- what is to be seen -------------------------------------------------------------------------

    def members(self, group: str) -> set[str]:
        """Who is in a group."""
        return self.account.members(group)

    def everybody(self) -> set[str]:
        """Every address in the account."""
        return set(self.account.contacts_by_email())

    def mailed(self) -> list[str]:
        """Who was mailed, in order."""
        return self.account.mailed()

    def sent(self, path: str = BULK) -> list[dict[str, Any]]:
        """The bodies of the last writes to this path, oldest first."""
        return [orjson.loads(body) for _, where, body in self.sandbox.bodies if where == path]

    def writes(self) -> list[tuple[str, str]]:
        """Method and path of every write so far."""
        return [(seen.method, seen.path) for seen in self.sandbox.requests if seen.method != "GET"]

    def query(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Rows of the state file."""
        with closing(sqlite3.connect(self.state)) as db:
            db.row_factory = sqlite3.Row
            return [dict(found) for found in db.execute(sql, values)]

    def known(self, email: str) -> dict[str, Any]:
        """The state's row of an address."""
        (found,) = self.query("SELECT * FROM contact WHERE email=?", email)
        return found

    def in_flight(self) -> int:
        """Contacts of which something is in flight."""
        return len(self.query("SELECT 1 FROM contact WHERE inflight IS NOT NULL"))

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that the state holds."""
        if not self.state.exists():
            return {}
        names = [
            found["name"]
            for found in self.query("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {name: self.query(f"SELECT * FROM {name}") for name in sorted(names)}


def loaded(house: House, *rows: dict[str, str], **options: Any) -> dict[str, str]:
    """The people are in the account, in the dynamic group Newsletter; address -> id."""
    if "Newsletter" not in {group.name for group in house.account.groups.values()}:
        house.account.add_group("Newsletter", dynamic=True)
    house.configure(**{"groups": ["Newsletter"], **options})
    house.write(*rows)
    house.sync()
    return ids(house)


def ids(house: House) -> dict[str, str]:
    return {email: one["id"] for email, one in house.account.contacts_by_email().items()}


def first_names(house: House) -> dict[str, str]:
    return {email: one["firstName"] for email, one in house.account.contacts_by_email().items()}


def two_syncs(house: House, **options: Any) -> None:
    """`crm` comes before `shop`."""
    crm = {"groups": ["CRM", "Both"], "tags": ["crm"], **options}
    shop = {"groups": ["Shop", "Both"], "tags": ["shop"], **options}
    house.configure(syncs={"crm": crm, "shop": shop})


@pytest.fixture(name="house")
def house_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """An empty house. Every fault that a test has ordered must have happened by its end."""
    monkeypatch.setenv("SYNCD_TEST_KEY", KEY)
    clock = FakeClock()
    with Sandbox(clock=clock, faults=Faults()).serve() as sandbox:
        yield House(tmp_path, sandbox, clock)
        assert sandbox.faults.unfired() == []
