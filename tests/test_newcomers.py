"""Newcomers are promoted, linked and created in a few statements: who is decided one by one instead must end just the same."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from house import KEY, House, Row, people, row

from syncd.core.result import Status
from syncd.migrations import migrations
from syncd.sandbox import Faults, Sandbox
from syncd.state import newcomers, reads
from syncd.testing.clock import FakeClock

SEEDS = range(6)
NAMES = (
    "Ann",
    "Zoë",
    "",
    " ",
    'O"Hara',
    '"g":["Customers"]',
    '},"g":[',
    "null",
    "日本",
    "a\\b",
    "out",
)
OWN = ("cid", "rid", "made", "made_from", "inflight_at")  # numbers that stand for themselves


@contextmanager
def house(folder: Path) -> Iterator[House]:
    folder.mkdir()
    clock = FakeClock()
    with Sandbox(clock=clock, faults=Faults()).serve() as sandbox:
        yield House(folder, sandbox, clock)


def some_rows(rng: random.Random, first: int, count: int) -> list[Row]:
    """Mostly plain people; some have no address, one that stands twice, one that is in FluenzR, or opted out."""
    rows = []
    for key in range(first, first + count):
        address = f"p{key}@example.com"
        strange = rng.random()
        if strange < 0.1:
            address = rng.choice(
                (
                    "",
                    "no address",
                    "there@example.com",
                    f"p{rng.randrange(first + count)}@example.com",
                )
            )
        rows.append(
            row(
                key, address, first=rng.choice(NAMES), last=rng.choice(NAMES),
                score=rng.choice(("", "1", "7", "2.50")), out=rng.choice(("", "", "", "", "yes")),
            )
        )  # fmt: skip
    return rows


def outcome(at: House) -> dict[str, Any]:
    """What FluenzR and the state have, whatever their numbers."""
    emails = {one["cid"]: one["email"] for one in at.query("SELECT cid,email FROM contact")}
    contacts = {
        one["email"]: {name: value for name, value in one.items() if name not in OWN}
        for one in at.query("SELECT * FROM contact")
    }
    records = {
        (one["sync"], one["key"]): {**one, "cid": emails.get(one["cid"])}
        for one in at.query("SELECT * FROM record ORDER BY rowno")
    }
    never = sorted((one["what"], one["sure"]) for one in at.query("SELECT what,sure FROM never"))
    held = at.query("SELECT sync,email,change,digest FROM held ORDER BY sync,email")
    account = {
        email: {name: one.get(name) for name in ("firstName", "lastName", "tags", "customFields", "status")}
        | {"groups": sorted(at.account.groups_of(email))}
        for email, one in at.account.contacts_by_email().items()
    }  # fmt: skip
    return {
        "contacts": contacts, "records": list(records.items()), "never": never, "held": held,
        "account": account, "mailed": sorted(at.mailed()),
    }  # fmt: skip


def life(folder: Path, seed: int) -> Iterator[Any]:
    """Three runs with changes between them; what each says, and what is there after it."""
    rng = random.Random(seed)
    sync: dict[str, Any] = {
        "groups": ["Customers", {"name": "Newsletter", "when": "score == '7'"}],
        "tags": ["crm", {"from": "last"}] if rng.random() < 0.5 else [],
        "opted_out": "out",
        "custom_fields": {"score": {"path": "score", "as": "number"}} if rng.random() < 0.5 else {},
        "on_removal": rng.choice(("keep", "ungroup")),
    }
    with house(folder) as at:
        at.account.add_group("Newsletter", dynamic=True)
        at.account.add_contact("there@example.com")
        guard = {"max_enrolments": rng.choice((2, 1000)), "max_removals": "100%"}
        both = rng.random() < 0.5
        at.configure(guard=guard, syncs=dict.fromkeys(("crm", "shop")[: 1 + both], sync))
        rows = some_rows(rng, 0, rng.randrange(1, 60))
        for run in range(1, 4):
            at.write(*rows, source="crm")
            at.write(*some_rows(rng, 20, 30), source="shop")
            _, changes = at.plan()
            yield sorted((change.email, change.dump()) for change in changes)
            results = at.sync_all()
            # Several jobs may ask the same at once, so the number of requests is not quite a function of the data.
            yield [{**result.contract(), "seconds": 0, "requests": 0} for result in results]
            yield outcome(at)
            if Status.HELD in {result.status for result in results}:
                at.approve(run)
            at.later(hours=1)
            rows = [one for one in rows if rng.random() > 0.1]
            rows += some_rows(rng, 100 * run, rng.randrange(20))


@pytest.mark.parametrize("seed", SEEDS)
def test_newcomers_end_as_whoever_is_decided_one_by_one(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_TEST_KEY", KEY)
    if seed % 2:
        monkeypatch.setattr(newcomers, "LARGE_ROWS_MIN", 1)  # indexes are built at the end
    together = list(life(tmp_path / "together", seed))
    monkeypatch.setattr(reads, "KINDS_MAX", 0)  # nobody is like others: each is looked at
    alone = list(life(tmp_path / "alone", seed))
    assert together == alone


def test_a_large_load_leaves_every_index_and_no_person_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_TEST_KEY", KEY)
    monkeypatch.setattr(newcomers, "LARGE_ROWS_MIN", 10)
    with house(tmp_path / "house") as at:
        at.write(*people(5))
        at.sync()
        names = "SELECT name,sql FROM sqlite_master WHERE type='index' ORDER BY name"
        before = at.query(names)
        at.write(*people(50))
        assert at.sync().created == 45
        assert at.query(names) == before
        assert at.query("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def test_what_an_older_version_has_sent_is_known_and_kept_once(tmp_path: Path) -> None:
    """The state of a version that kept what is wanted and what was sent apart."""
    from sqlite_utils import Database

    with closing(sqlite3.connect(tmp_path / "old.db", isolation_level=None)) as db:
        old = Database(db, execute_plugins=False)
        migrations.apply(old, stop_before="m008_size")
        for email, want, sent in (("a", "w", "w"), ("b", "w", "s"), ("c", None, None)):
            db.execute(
                "INSERT INTO contact(email,state,want,sent) VALUES(?,'ok',?,?)", (email, want, sent)
            )
        db.execute("DELETE FROM contact WHERE email='c'")
        migrations.apply(old)
        kept = db.execute("SELECT email,want,sent_as,sent FROM contact ORDER BY email").fetchall()
        assert kept == [("a", "w", "=", "w"), ("b", "w", "s", "s")]
        db.execute("UPDATE contact SET want='other' WHERE email='a'")
        assert db.execute("SELECT sent FROM contact WHERE email='a'").fetchone() == ("w",)
        db.execute("INSERT INTO contact(email,state) VALUES('d','new')")
        (cid,) = db.execute("SELECT cid FROM contact WHERE email='d'").fetchone()
        assert cid == 4  # a number is never given again
