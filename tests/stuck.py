"""A source that gets stuck where nothing can interrupt it, as a connector that a third party has installed.

It hangs until the file `gate` is there: a connector that waits for a lock in a database or for a network drive looks the same.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from syncd.connector import (
    Abilities,
    Connector,
    Context,
    Event,
    Options,
    Record,
    Request,
    SourceField,
)

NAME = "stuck"
PEOPLE = ("ann", "bob", "cy")


class StuckOptions(Options):
    gate: str
    at: Literal["token", "fields", "first", "second"] = "first"
    opted_out: str = ""


class Stuck(Connector):
    OPTIONS: ClassVar[type[Options]] = StuckOptions
    ABILITIES: ClassVar[Abilities] = Abilities(token=True, fields_known=True)
    SUMMARY: ClassVar[str] = "Three people, when it gets so far"

    def __init__(self, options: StuckOptions, context: Context) -> None:
        self._options, self._gate = options, context.folder / options.gate

    def check(self) -> str:
        return "3 people"

    def fields(self) -> list[SourceField]:
        self._pass("fields")
        return [SourceField("email"), SourceField("out")]

    def token(self) -> str | None:
        self._pass("token")
        return None

    def read(self, request: Request) -> Iterator[Event]:
        for number, name in enumerate(PEOPLE):
            self._pass(("first", "second", "")[number])
            out = "yes" if name == self._options.opted_out else ""
            yield Record(name, {"email": f"{name}@example.com", "out": out}, name)

    def _pass(self, stage: str) -> None:
        while stage == self._options.at and not self._gate.exists():
            time.sleep(0.01)


@pytest.fixture(name="gate")
def gate_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Installs the connector; its threads end with the test."""
    install(tmp_path / "installed")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    gate = tmp_path / "gate"
    yield gate
    gate.touch()


def install(folder: Path) -> None:
    """What pip leaves of a package that has the connector."""
    info = folder / "stuck-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stuck\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[syncd.connectors]\n{NAME} = stuck:Stuck\n")
