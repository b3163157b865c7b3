"""The conformance suite: what every connector promises, as tests that its author inherits.

    class TestAcme(ConnectorSuite):
        def source(self, folder, records): ...  # make the source hold just these; a connector over it
        def break_source(self, folder): ...     # damage what `source` made, towards its end

A declared ability asks for one more method: `change`, `remove`, `merge`. What an ability makes
pointless is skipped and says so; nothing is skipped for another reason. Each promise is one test, and
its text on failure says what the engine relies on. Needs pytest; nothing else of the product does.
"""

# ruff: noqa: ARG002  the methods to be given by a subclass use none of their arguments here

import gc
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from syncd.connector import (
    Checkpoint,
    Connector,
    Event,
    Merged,
    Record,
    Request,
    Resync,
    SourceField,
    Tombstone,
)
from syncd.errors import SourceError, SyncdError

SECRET = "planted-7c1f0e3c"  # noqa: S105  made up; searched for in all that a connector shows
SECRET_REFERENCE = "env:SYNCD_SUITE_SECRET"  # noqa: S105  what connectors under test are given
FREED_S_MAX = 5  # a server in the same process needs a moment to see that a connection is closed
UNKNOWN = "no_such_option"


class ConnectorSuite:
    """Inherit as `class TestAcme(ConnectorSuite)`; fixtures of your own may be `autouse`.

    The records are mappings with the texts `id`, `email` and `name`. `id` is to be the key; where the
    source assigns keys itself, say in `key_of` which one a record has got.
    """

    few = 5  # records in most tests
    many = 5_000  # records where laziness and breaks are tested: more than the source gives at once

    def source(self, folder: Path, records: Sequence[Mapping[str, str]]) -> Connector:
        """Make a source in `folder` that holds just `records`; called again, replace what it held.

        Where the connector takes secrets, give it SECRET_REFERENCE.
        """
        pytest.fail("Give the suite a method `source`")

    def break_source(self, folder: Path) -> None:
        """Damage the source that was made last: the first records can be read, the last cannot."""
        pytest.fail("Give the suite a method `break_source`")

    def change(self, folder: Path, records: Sequence[Mapping[str, str]]) -> None:
        """Change the records with these `id`s as the source's users would, or add them."""
        pytest.fail("An incremental connector's suite needs a method `change`")

    def remove(self, folder: Path, record: Mapping[str, str]) -> None:
        """Delete this record as the source's users would."""
        pytest.fail("The suite of a connector with tombstones needs a method `remove`")

    def merge(self, folder: Path, loser: Mapping[str, str], winner: Mapping[str, str]) -> None:
        """Merge one record into another as the source's users would."""
        pytest.fail("The suite of a connector with merges needs a method `merge`")

    def key_of(self, record: Mapping[str, str]) -> str:
        """The key that the source has for a record."""
        return record["id"]

    @pytest.fixture(autouse=True)
    def _planted_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(SECRET_REFERENCE.removeprefix("env:"), SECRET)

    # Options

    def test_unknown_options_are_refused_by_name(self, tmp_path: Path) -> None:
        """A misspelt option must never be taken for one that was left out."""
        options = type(self.source(tmp_path, people(1))).OPTIONS
        try:
            options.model_validate({UNKNOWN: 1})
        except ValidationError as error:
            named = [UNKNOWN in fault["loc"] for fault in error.errors(include_url=False)]
        else:
            named = []
        _promise(any(named), f"The option {UNKNOWN!r} must be refused and named: extra='forbid'")

    def test_secrets_are_never_shown(self, tmp_path: Path) -> None:
        """Not by repr, not in errors, and not when one stands in the configuration itself."""
        connector = self.source(tmp_path, people(self.many))
        options = type(connector).OPTIONS
        secret_names = [
            name
            for name, field in options.model_fields.items()
            if "Secret" in repr(field.annotation)
        ]
        if not secret_names:
            pytest.skip("the connector takes no secrets")
        shown = [repr(connector), str(connector)]
        shown += [repr(value) for value in getattr(connector, "__dict__", {}).values()]
        for name in secret_names:
            try:
                options.model_validate({name: f"https://user:{SECRET}@127.0.0.1/"})
            except ValidationError as error:
                shown.append(str(error))
        self.break_source(tmp_path)
        try:
            _read(connector)
        except SyncdError as error:
            shown.append("".join(traceback.format_exception(error)))
        _promise(not any(SECRET in text for text in shown), "A secret must never be shown")

    def test_it_describes_itself(self, tmp_path: Path) -> None:
        """One line each, for tables."""
        connector = self.source(tmp_path, people(self.few))
        for text in (connector.SUMMARY, connector.check()):
            _promise(bool(text.strip()) and "\n" not in text, f"{text!r} must be one line of text")

    def test_abilities_fit_together(self, tmp_path: Path) -> None:
        """Deletions and merges come in incremental reads; joined names begin with an underscore."""
        abilities = self.source(tmp_path, people(1)).ABILITIES
        _promise(
            abilities.incremental
            or not (abilities.tombstones or abilities.archivals or abilities.merges),
            "Tombstones and merges need `incremental`",
        )
        _promise(all(name.startswith("_") for name in abilities.joins), "Joins begin with _")

    # Full reads

    def test_every_record_comes_once(self, tmp_path: Path) -> None:
        """What is left out of a full read is taken for deleted; what comes twice has no one truth."""
        records = people(self.many)
        found = _records(_read(self.source(tmp_path, records)))
        expected = {self.key_of(record) for record in records}
        _promise(len(found) == len({r.key for r in found}), "A key must come once in a read")
        missing, strange = expected - {r.key for r in found}, {r.key for r in found} - expected
        _promise(not missing, f"{len(missing)} records did not come, such as {sorted(missing)[:3]}")
        _promise(not strange, f"There are no records {sorted(strange)[:3]}")
        by_key = {record.key: repr(dict(record.fields)) for record in found}
        mixed = [r["id"] for r in records if r["email"] not in by_key[self.key_of(r)]]
        _promise(not mixed, f"The records {mixed[:3]} come without their e-mail address")

    def test_keys_are_stable(self, tmp_path: Path) -> None:
        """Another key is another person: the old one would be removed."""
        connector = self.source(tmp_path, people(self.few))
        first, second = (_records(_read(connector)) for _ in range(2))
        _promise(
            sorted(r.key for r in first) == sorted(r.key for r in second),
            "Two reads of the same source must give the same keys",
        )
        _promise(all(type(r.key) is str and r.key for r in first), "A key is text, never empty")

    def test_a_source_without_records_is_no_disaster(self, tmp_path: Path) -> None:
        """Either nothing comes, or a SourceError says that a source cannot be empty."""
        try:
            found = _records(_read(self.source(tmp_path, [])))
        except SourceError:
            found = []
        _promise(not found, "A source without records must not give any")

    def test_the_first_record_is_out_before_the_source_was_read(self, tmp_path: Path) -> None:
        """A source may be larger than the memory, and slow."""
        connector = self.source(tmp_path, people(self.many))
        self.break_source(tmp_path)
        with _reading(connector, Request()) as events:
            try:
                first = next((event for event in events if isinstance(event, Record)), None)
            except SourceError:
                first = None
        _promise(first is not None, "The end of the source was read before the first record came")

    def test_a_broken_source_raises(self, tmp_path: Path) -> None:
        """A read that just ends early would remove everybody who came after the break."""
        connector = self.source(tmp_path, people(self.many))
        self.break_source(tmp_path)
        try:
            count = len(_records(_read(connector)))
        except SourceError as error:
            _promise(bool(error.what), "A SourceError says what happened")
        else:
            pytest.fail(f"The source is broken, and the read ended normally after {count} records")

    def test_closing_early_frees_everything(self, tmp_path: Path) -> None:
        """A daemon that keeps a file or connection for each broken-off read has none left one day."""
        connector = self.source(tmp_path, people(self.many))
        _read(connector)  # what is opened once and kept (a module, a pool) is open from now on
        before = _open_files()
        with _reading(connector, Request()) as events:
            next(events)
        deadline = time.monotonic() + FREED_S_MAX
        while (left := _open_files() - before) > 0 and time.monotonic() < deadline:
            gc.collect()
        _promise(left <= 0, f"{left} files or connections are still open after closing early")

    # Fields and values

    def test_fields_are_all_that_come(self, tmp_path: Path) -> None:
        """Else a mapping that names a real field would be refused as a mistake."""
        connector = self.source(tmp_path, people(self.few))
        known = [field.name for field in connector.fields()]
        _promise(
            all(isinstance(f, SourceField) for f in connector.fields()), "SourceFields, please"
        )
        _promise(len(known) == len(set(known)), "fields() must name each field once")
        if not connector.ABILITIES.fields_known:
            pytest.skip("the connector does not know its fields (fields_known)")
        allowed = set(known) | connector.ABILITIES.joins
        strange = {name for r in _records(_read(connector)) for name in r.fields} - allowed
        _promise(not strange, f"fields() does not name {sorted(strange)}")

    def test_only_the_fields_in_use_are_read(self, tmp_path: Path) -> None:
        """For speed, and because what is not mapped is nobody's business."""
        connector = self.source(tmp_path, people(self.few))
        whole = _records(_read(connector))
        name = min(whole[0].fields)
        for fields in (frozenset({name}), frozenset[str]()):
            part = _records(_read(connector, Request(fields=fields)))
            strange = {name for record in part for name in record.fields} - fields
            _promise(not strange, f"Asked for {sorted(fields)}, there came {sorted(strange)} too")
            same = sorted(r.key for r in part) == sorted(r.key for r in whole)
            _promise(same, "The records must not depend on the fields that are asked for")
            whole_name = {r.key: r.fields.get(name) for r in whole}
            kept = all(r.fields.get(name) == whole_name[r.key] for r in part if name in fields)
            _promise(kept, f"The field {name!r} must come, with its value, when it is asked for")

    def test_values_are_plain_and_times_in_utc(self, tmp_path: Path) -> None:
        """A value that JSON cannot carry, or a time without zone, has no fingerprint."""
        connector = self.source(tmp_path, people(self.few))
        for record in _records(_read(connector)):
            for name, value in record.fields.items():
                _promise(type(name) is str, f"The name {name!r} is not text")
                _promise(_plain(value), f"{name!r} holds {value!r}: use text, or an aware UTC time")

    def test_only_declared_events_come(self, tmp_path: Path) -> None:
        """The engine reads the abilities, and would not know what to do with anything else."""
        connector = self.source(tmp_path, people(self.few))
        abilities = connector.ABILITIES
        allowed: list[type] = [Record]
        allowed += [Checkpoint, Resync] if abilities.incremental else []
        allowed += [Tombstone] if abilities.tombstones or abilities.archivals else []
        allowed += [Merged] if abilities.merges else []
        events = _read(connector)
        cursor = _cursor(events)
        if abilities.incremental and cursor is not None:
            events += _read(connector, Request(cursor=cursor))
        strange = {type(event).__name__ for event in events if type(event) not in allowed}
        _promise(not strange, f"The abilities do not declare {sorted(strange)}")

    # Abilities

    def test_the_token_tells_whether_anything_changed(self, tmp_path: Path) -> None:
        """An unchanged source is not read; one that is wrongly taken for unchanged never again."""
        records = people(self.few)
        connector = self.source(tmp_path, records)
        token = connector.token()
        if not connector.ABILITIES.token:
            _promise(token is None, "Declare the ability `token`, or return None")
            pytest.skip("the connector has no token")
        _promise(bool(token), "token() must give one, as the abilities say")
        _read(connector)
        _promise(connector.token() == token, "token() must stay while the source stays")
        for other in ([_renamed(records[0]), *records[1:]], records[1:], []):
            try:
                changed = self.source(tmp_path, other).token()
            except SourceError:
                continue  # a source that cannot be empty
            _promise(changed != token, "token() must change when the source changes")

    def test_nothing_after_the_cursor_is_missed(self, tmp_path: Path) -> None:
        """What one incremental read misses, no later one brings."""
        records = people(self.few)
        connector = self._incremental(tmp_path, records)
        for turn in range(2):
            cursor = _needed_cursor(_read(connector))
            changed = [_renamed(records[0], turn), _renamed(person(100 + turn), turn)]
            self.change(tmp_path, changed)
            events = _read(connector, Request(cursor=cursor))
            self._all_there(events, changed)

    def test_a_change_during_a_read_is_not_missed(self, tmp_path: Path) -> None:
        """The cursor says how far the read has seen, not when it ended."""
        records = people(self.few)
        connector = self._incremental(tmp_path, records)
        changed = [_renamed(record) for record in records]
        with _reading(connector, Request()) as reading:
            events = [next(reading)]
            self.change(tmp_path, changed)
            events += reading
        events += _read(connector, Request(cursor=_needed_cursor(events)))
        self._all_there(events, changed)

    def test_the_cursor_of_an_incremental_read_goes_on(self, tmp_path: Path) -> None:
        """Each incremental read starts where the last one, full or not, had come to."""
        records = people(self.few)
        connector = self._incremental(tmp_path, records)
        first = _needed_cursor(_read(connector))
        self.change(tmp_path, [_renamed(records[0])])
        second = _cursor(_read(connector, Request(cursor=first))) or first
        changed = [_renamed(records[1])]
        self.change(tmp_path, changed)
        self._all_there(_read(connector, Request(cursor=second)), changed)

    def test_a_cursor_from_elsewhere_is_a_resync_or_an_error(self, tmp_path: Path) -> None:
        """A cursor that is of no use must never pass for "nothing has changed"."""
        records = people(self.few)
        connector = self._incremental(tmp_path, records)
        try:
            events = _read(connector, Request(cursor="?"))
        except SourceError:
            return
        _promise(any(isinstance(event, Resync) for event in events), "Yield Resync, or raise")
        self._all_there(events, records)

    def test_a_deletion_is_told(self, tmp_path: Path) -> None:
        """With tombstones (or archivals, then `remove` archives), an incremental read tells who is gone."""
        records = people(self.few)
        connector = self.source(tmp_path, records)
        if not (connector.ABILITIES.tombstones or connector.ABILITIES.archivals):
            pytest.skip("the connector has no tombstones")
        cursor = _needed_cursor(_read(connector))
        self.remove(tmp_path, records[0])
        events = _read(connector, Request(cursor=cursor))
        key = self.key_of(records[0])
        gone = {event.key for event in events if isinstance(event, Tombstone)}
        resync = any(isinstance(event, Resync) for event in events)
        _promise(key in gone or resync, "The deleted record needs a Tombstone, or a Resync")
        alive = {event.key for event in _records(events)}
        _promise(key not in alive, "A deleted record must not come as a record")
        _promise(not gone & alive, "A record that is there must have no Tombstone")

    def test_a_merge_is_told(self, tmp_path: Path) -> None:
        """With merges, an incremental read tells who became whom."""
        records = people(self.few)
        connector = self.source(tmp_path, records)
        if not connector.ABILITIES.merges:
            pytest.skip("the connector has no merges")
        cursor = _needed_cursor(_read(connector))
        self.merge(tmp_path, loser=records[0], winner=records[1])
        events = _read(connector, Request(cursor=cursor))
        told = Merged(loser=self.key_of(records[0]), winner=self.key_of(records[1]))
        resync = any(isinstance(event, Resync) for event in events)
        _promise(told in events or resync, f"{told} must come, or a Resync")

    def _incremental(self, folder: Path, records: Sequence[Mapping[str, str]]) -> Connector:
        connector = self.source(folder, records)
        if not connector.ABILITIES.incremental:
            pytest.skip("the connector is not incremental")
        return connector

    def _all_there(self, events: list[Event], expected: Sequence[Mapping[str, str]]) -> None:
        shown: dict[str, str] = {}
        for record in _records(events):
            shown[record.key] = shown.get(record.key, "") + repr(dict(record.fields))
        missed = [r["id"] for r in expected if r["name"] not in shown.get(self.key_of(r), "")]
        _promise(not missed, f"The changes of the records {missed} were missed")


def person(number: int) -> dict[str, str]:
    """A made-up record."""
    return {"id": f"{number}", "email": f"person{number}@example.com", "name": f"Person {number}."}


def people(count: int) -> list[dict[str, str]]:
    """`count` made-up records with the ids 1, 2, 3, ..."""
    return [person(number) for number in range(1, count + 1)]


def _renamed(record: Mapping[str, str], turn: int = 0) -> dict[str, str]:
    return {**record, "name": f"Renamed {record['id']}-{turn}."}


def _promise(kept: bool, text: str) -> None:  # noqa: FBT001  the condition of an assertion
    if not kept:
        pytest.fail(text)


@contextmanager
def _reading(connector: Connector, request: Request) -> Iterator[Iterator[Event]]:
    """The events of a read; closed at the end, as the engine does whatever happens."""
    events = connector.read(request)
    try:
        yield events
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            close()


def _read(connector: Connector, request: Request | None = None) -> list[Event]:
    with _reading(connector, request or Request()) as events:
        return list(events)


def _records(events: list[Event]) -> list[Record]:
    return [event for event in events if isinstance(event, Record)]


def _cursor(events: list[Event]) -> str | None:
    cursors = [event.cursor for event in events if isinstance(event, Checkpoint)]
    return cursors[-1] if cursors else None


def _needed_cursor(events: list[Event]) -> str:
    cursor = _cursor(events)
    if cursor is None:
        pytest.fail("An incremental connector must end its read with a Checkpoint")
    return cursor


def _plain(value: Any) -> bool:
    match value:
        case None | str() | int() | float():
            return True
        case datetime():
            return value.utcoffset() == timedelta(0)
        case Mapping():
            return all(type(name) is str and _plain(each) for name, each in value.items())
        case list() | tuple():
            return all(_plain(each) for each in value)
    return False


def _open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))
