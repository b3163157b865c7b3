"""The conformance suite itself: a good connector passes it, and each promise can fail."""

import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import ConfigDict

from syncd.connector import (
    Abilities,
    Checkpoint,
    Context,
    Merged,
    Options,
    Record,
    Resync,
    SourceField,
    Tombstone,
)
from syncd.errors import SourceError
from syncd.secret import Secret
from syncd.testing.conformance import SECRET, SECRET_REFERENCE, ConnectorSuite

ALL = Abilities(incremental=True, tombstones=True, merges=True, token=True, fields_known=True)
PROMISES = sorted(name for name in vars(ConnectorSuite) if name.startswith("test_"))


@dataclass
class Crm:
    """A made-up CRM in memory: its rows, each with the revision that changed it last."""

    rows: dict[str, tuple[int, dict]] = field(default_factory=dict)
    told: list[tuple[int, object]] = field(default_factory=list)  # tombstones and merges
    revision: int = 1
    broken: bool = False

    def put(self, records):
        self.revision += 1
        for record in records:
            self.rows[record["id"]] = (self.revision, dict(record))

    def take(self, event, key):
        self.revision += 1
        del self.rows[key]
        self.told.append((self.revision, event))


CRMS: dict[str, Crm] = {}  # by the folder of their test


class ToyOptions(Options):
    token: Secret


class Toy:
    """A connector with every ability, and every promise kept."""

    OPTIONS: ClassVar = ToyOptions
    ABILITIES: ClassVar = ALL
    SUMMARY: ClassVar = "A made-up CRM"

    def __init__(self, options, context):
        self.options, self.context = options, context

    @property
    def crm(self):
        return CRMS[str(self.context.folder)]

    def check(self):
        return f"{len(self.crm.rows)} rows"

    def fields(self):
        return [SourceField(name) for name in ("id", "email", "name")]

    def preset(self):
        return None

    def token(self):
        return repr([row for _, row in self.crm.rows.values()]) + "."

    def read(self, request):
        since, crm = self.since(request), self.crm
        if since is None:
            yield Resync("unknown cursor")
        revision, rows = crm.revision, list(crm.rows.items())
        with Path(os.devnull).open():
            for number, (key, (changed, row)) in enumerate(rows):
                if crm.broken and number > len(rows) // 2:
                    self.on_break()
                    return
                if changed > (since or 0):
                    yield Record(key, self.chosen(row, request), f"row {number}")
        if since:
            yield from (event for changed, event in crm.told if changed > since)
        yield Checkpoint(str(revision))

    def since(self, request):
        if request.cursor is None:
            return 0
        return int(request.cursor) if request.cursor.isdigit() else None

    def on_break(self):
        raise SourceError("The made-up CRM broke off")

    def chosen(self, row, request):
        return {n: v for n, v in row.items() if request.fields is None or n in request.fields}


class ToySuite(ConnectorSuite):
    connector = Toy
    many = 20

    def source(self, folder, records):
        CRMS[str(folder)] = Crm()
        CRMS[str(folder)].put(records)
        return self.connector(ToyOptions(token=SECRET_REFERENCE), Context(folder))

    def break_source(self, folder):
        CRMS[str(folder)].broken = True

    def change(self, folder, records):
        CRMS[str(folder)].put(records)

    def remove(self, folder, record):
        CRMS[str(folder)].take(Tombstone(record["id"]), record["id"])

    def merge(self, folder, loser, winner):
        CRMS[str(folder)].take(Merged(loser["id"], winner["id"]), loser["id"])


class TestToy(ToySuite):
    """A connector that keeps its promises passes."""


class Plain(Toy):
    """One without abilities: also a good connector."""

    ABILITIES = Abilities()

    def token(self):
        return None

    def read(self, request):
        return (event for event in super().read(request) if isinstance(event, Record))


class PlainSuite(ToySuite):
    connector = Plain


class TestPlain(PlainSuite):
    """What it does not declare is skipped, and says so."""


# One broken connector, or more, for each promise.


class LaxOptions(Options):
    model_config = ConfigDict(extra="ignore")
    token: Secret


class Lax(Toy):
    OPTIONS = LaxOptions


class TellsInRepr(Toy):
    def __repr__(self):
        return f"Toy({self.options.token.reveal()})"


class KeepsRevealed(Toy):
    def __init__(self, options, context):
        super().__init__(options, context)
        self.password = options.token.reveal()


class TellsInErrors(Toy):
    def on_break(self):
        raise SourceError("Broke off", why=f"GET /?token={self.options.token.reveal()}")


class Talks(Toy):
    def check(self):
        return "two\nlines"


class TombstonesOnly(Toy):
    ABILITIES = Abilities(tombstones=True)


class Filtered(Toy):
    """Changes the events of a read."""

    def read(self, request):
        for number, event in enumerate(super().read(request)):
            yield from self.instead(event, number, request)


class Forgets(Filtered):
    def instead(self, event, number, request):
        return [event] if number != 2 else []


class Repeats(Filtered):
    def instead(self, event, number, request):
        return [event] * (2 if number == 2 else 1)


class Mixes(Toy):
    def chosen(self, row, request):
        return super().chosen({**row, "email": "person1@example.com"}, request)


class NumbersAnew(Filtered):
    count = 0

    def instead(self, event, number, request):
        NumbersAnew.count += 1
        return [Record(f"{self.count}", event.fields)] if isinstance(event, Record) else [event]


class Keyless(Filtered):
    def instead(self, event, number, request):
        return [Record("", event.fields)] if isinstance(event, Record) else [event]


class NeverEmpty(Toy):
    def read(self, request):
        yield from super().read(request)
        if not self.crm.rows:
            yield Record("example", {})


class Greedy(Toy):
    def read(self, request):
        yield from list(super().read(request))


class EndsEarly(Toy):
    def on_break(self):
        return None


class BreaksInItsOwnWay(Toy):
    def on_break(self):
        raise ValueError("broken")


class Keeps(Toy):
    kept: ClassVar = []

    def read(self, request):
        self.kept.append(Path(os.devnull).open())  # noqa: SIM115  the fault in question
        yield from super().read(request)


class HidesFields(Toy):
    def fields(self):
        return super().fields()[:2]


class NamesTwice(Toy):
    def fields(self):
        return super().fields() * 2


class GivesEverything(Toy):
    def chosen(self, row, request):
        return row


class GivesNothing(Toy):
    def chosen(self, row, request):
        return row if request.fields is None else {}


class DropsRows(Filtered):
    def instead(self, event, number, request):
        return [event] if request.fields is None or number else []


class Bytes(Toy):
    def chosen(self, row, request):
        return {name: value.encode() for name, value in super().chosen(row, request).items()}


class NaiveTimes(Toy):
    def chosen(self, row, request):
        return {**super().chosen(row, request), "at": datetime.fromisoformat("2026-01-31")}


class Undeclared(Toy):
    ABILITIES = Abilities(incremental=True, merges=True, token=True)

    def read(self, request):
        yield from super().read(request)
        yield Tombstone("nobody")


class UndeclaredCursor(Plain):
    read = Toy.read


class UndeclaredToken(Plain):
    token = Toy.token


class NoToken(Toy):
    def token(self):
        return None


class RestlessToken(Toy):
    def token(self):
        self.count = getattr(self, "count", 0) + 1
        return f"{self.count}"


class DeafToken(Toy):
    def token(self):
        return "always"


class NoCursor(Filtered):
    def instead(self, event, number, request):
        return [event] if not isinstance(event, Checkpoint) else []


class AfterTheCursor(Toy):
    """Reads on from one step too late."""

    def since(self, request):
        return 0 if request.cursor is None else int(request.cursor) + 1


class CursorAtTheEnd(Filtered):
    def instead(self, event, number, request):
        return [Checkpoint(str(self.crm.revision))] if isinstance(event, Checkpoint) else [event]


class CursorRunsAhead(Filtered):
    """Its cursor of an incremental read is beyond what it has seen."""

    def instead(self, event, number, request):
        ahead = isinstance(event, Checkpoint) and request.cursor
        return [Checkpoint(str(self.crm.revision + 1))] if ahead else [event]


class TakesAnyCursor(Toy):
    def since(self, request):
        if request.cursor is None:
            return 0
        return int(request.cursor) if request.cursor.isdigit() else self.crm.revision


class ResyncsHalf(Filtered):
    def instead(self, event, number, request):
        return [event] if request.cursor != "?" or number != 1 else []


class NeverTells(Filtered):
    def instead(self, event, number, request):
        return [event] if not isinstance(event, Tombstone | Merged) else []


class Turned(Filtered):
    def instead(self, event, number, request):
        return [Merged(event.winner, event.loser)] if isinstance(event, Merged) else [event]


class BuriesAlive(Filtered):
    def instead(self, event, number, request):
        if isinstance(event, Tombstone):
            return [event, Record(event.key, {}), Tombstone("2")]
        return [event]


BROKEN = [
    (Lax, "test_unknown_options_are_refused_by_name"),
    (TellsInRepr, "test_secrets_are_never_shown"),
    (KeepsRevealed, "test_secrets_are_never_shown"),
    (TellsInErrors, "test_secrets_are_never_shown"),
    (Talks, "test_it_describes_itself"),
    (TombstonesOnly, "test_abilities_fit_together"),
    (Forgets, "test_every_record_comes_once"),
    (Repeats, "test_every_record_comes_once"),
    (Mixes, "test_every_record_comes_once"),
    (NumbersAnew, "test_keys_are_stable"),
    (Keyless, "test_keys_are_stable"),
    (NeverEmpty, "test_a_source_without_records_is_no_disaster"),
    (Greedy, "test_the_first_record_is_out_before_the_source_was_read"),
    (EndsEarly, "test_a_broken_source_raises"),
    (BreaksInItsOwnWay, "test_a_broken_source_raises"),
    (Keeps, "test_closing_early_frees_everything"),
    (HidesFields, "test_fields_are_all_that_come"),
    (NamesTwice, "test_fields_are_all_that_come"),
    (GivesEverything, "test_only_the_fields_in_use_are_read"),
    (GivesNothing, "test_only_the_fields_in_use_are_read"),
    (DropsRows, "test_only_the_fields_in_use_are_read"),
    (Bytes, "test_values_are_plain_and_times_in_utc"),
    (NaiveTimes, "test_values_are_plain_and_times_in_utc"),
    (Undeclared, "test_only_declared_events_come"),
    (UndeclaredCursor, "test_only_declared_events_come"),
    (UndeclaredToken, "test_the_token_tells_whether_anything_changed"),
    (NoToken, "test_the_token_tells_whether_anything_changed"),
    (RestlessToken, "test_the_token_tells_whether_anything_changed"),
    (DeafToken, "test_the_token_tells_whether_anything_changed"),
    (NoCursor, "test_nothing_after_the_cursor_is_missed"),
    (AfterTheCursor, "test_nothing_after_the_cursor_is_missed"),
    (CursorAtTheEnd, "test_a_change_during_a_read_is_not_missed"),
    (CursorRunsAhead, "test_the_cursor_of_an_incremental_read_goes_on"),
    (TakesAnyCursor, "test_a_cursor_from_elsewhere_is_a_resync_or_an_error"),
    (ResyncsHalf, "test_a_cursor_from_elsewhere_is_a_resync_or_an_error"),
    (NeverTells, "test_a_deletion_is_told"),
    (BuriesAlive, "test_a_deletion_is_told"),
    (NeverTells, "test_a_merge_is_told"),
    (Turned, "test_a_merge_is_told"),
]


def suite_of(toy):
    return type(
        "Suite", (ToySuite,), {"connector": toy, "key_of": lambda _, record: record["id"]}
    )()


@pytest.mark.parametrize(("toy", "promise"), BROKEN)
def test_each_promise_can_fail(toy, promise, tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET_REFERENCE.removeprefix("env:"), SECRET)
    monkeypatch.setattr("syncd.testing.conformance.FREED_S_MAX", 0)
    expected = ValueError if toy is BreaksInItsOwnWay else pytest.fail.Exception
    with pytest.raises(expected):
        getattr(suite_of(toy), promise)(tmp_path)
    while Keeps.kept:
        Keeps.kept.pop().close()


def test_no_promise_is_without_a_broken_connector():
    assert sorted({promise for _, promise in BROKEN}) == PROMISES


@pytest.mark.parametrize("promise", PROMISES)
def test_only_missing_abilities_are_skipped(promise, tmp_path, monkeypatch):
    monkeypatch.setenv(SECRET_REFERENCE.removeprefix("env:"), SECRET)
    getattr(suite_of(Toy), promise)(tmp_path)  # nothing is skipped for one with all abilities
    reason = "the connector "
    try:
        getattr(suite_of(Plain), promise)(tmp_path)
    except pytest.skip.Exception as skipped:
        reason = str(skipped)
    assert reason.startswith("the connector ")


@pytest.mark.parametrize("hook", ["source", "break_source", "change", "remove", "merge"])
def test_a_missing_method_fails_and_never_skips(hook):
    arguments = {"source": 2, "break_source": 1, "change": 2, "remove": 2, "merge": 3}[hook]
    with pytest.raises(pytest.fail.Exception, match=f"needs? a method `{hook}`|method `{hook}`"):
        getattr(ConnectorSuite(), hook)(*range(arguments))
