"""What the tests of bad input share: a sync that works, something that spoils it, and what must hold then.

    harmless(synced, edit("base_url", "bas_url"), 2, 'did you mean "base_url"?')

runs well, spoils, runs, looks at exit code, stderr, FluenzR, the state and every place where a secret could
stand, puts right what was spoilt, and runs well again.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial

import pytest
from shell import KEY, Said, Shell

from syncd.cli.invocation import Invocation
from syncd.testing.clock import FakeClock

ANN, BOB = (1, "ann@example.com", "Ann", 10), (2, "bob@example.com", "Bob", 20)
BOTH = {"ann@example.com", "bob@example.com"}
PASSWORD = "corr3ct-h0rse-battery"
TABLES = ("record", "contact", "never", "grp", "held", "sync")
VOLATILE = {"token"}  # dropped by a run that failed, so that the next one reads

Spoil = Callable[[Shell], object]


@pytest.fixture(name="synced")
def synced_fixture(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Ann and Bob are in FluenzR; time is free, so that no retry waits."""
    monkeypatch.setattr("syncd.cli.app.Invocation", partial(Invocation, clock=FakeClock()))
    monkeypatch.setenv("DB_PASSWORD", PASSWORD)
    shell.people(ANN, BOB)
    assert shell.inside("sync").code == 0
    return shell


def known(shell: Shell) -> list[object]:
    """All that the state knows of people."""
    with closing(sqlite3.connect(shell.folder / "syncd.db")) as db:
        db.row_factory = sqlite3.Row
        rows = [dict(row) for table in TABLES for row in db.execute(f"SELECT * FROM {table}")]
    return [{name: row[name] for name in sorted(row.keys() - VOLATILE)} for row in rows]


def secrets_in(shell: Shell, said: Said) -> list[str]:
    """Where a secret stands that must not: on the streams, in any file but the configuration."""
    places = {"stdout": said.out.encode(), "stderr": said.err.encode()}
    places |= {
        file.name: file.read_bytes()
        for file in shell.folder.iterdir()
        if file.is_file() and file.name != "config.toml"
    }
    secrets = (KEY.encode(), PASSWORD.encode())
    return [name for name, content in places.items() if any(one in content for one in secrets)]


def refused(shell: Shell, said: Said, code: int, *parts: str) -> None:
    """It failed as it should: with these words on stderr, and without a word too much."""
    assert said.code == code, said.out + said.err
    for part in parts:
        assert part in said.err, said.err
    assert "Traceback" not in said.err
    assert "our bug" not in said.err
    assert not secrets_in(shell, said)


def harmless(shell: Shell, spoil: Spoil, code: int, *parts: str, words: str = "sync") -> Said:
    """Spoil, run, look; put right, and run well."""
    before, writes = known(shell), shell.sandbox.writes()
    files = [shell.folder / name for name in ("config.toml", "people.csv")]
    contents = [file.read_bytes() for file in files]
    spoil(shell)
    said = shell.inside(*words.split())
    refused(shell, said, code, *parts)
    assert shell.sandbox.writes() == writes
    assert known(shell) == before
    for file, content in zip(files, contents, strict=True):
        if file.is_dir():
            file.rmdir()
        file.write_bytes(content)
    good = shell.inside("sync")
    assert good.code == 0, good.err
    assert set(shell.account.contacts_by_email()) == BOTH
    assert shell.sandbox.writes() == writes
    return said


def edit(old: str, new: str) -> Spoil:
    """One change of the configuration."""

    def spoil(shell: Shell) -> None:
        text = (shell.folder / "config.toml").read_text("utf-8")
        assert old in text
        shell.write("config.toml", text.replace(old, new, 1))

    return spoil
