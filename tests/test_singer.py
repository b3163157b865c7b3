"""Singer: what a whole run of a tap told, and nothing of any other run."""

import collections
import json
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from pydantic import ValidationError

from connectors.singer import SingerConnector, SingerOptions
from syncd.connector import Checkpoint, Context, Record, Request, Resync, SourceField, Tombstone
from syncd.errors import ConfigError, SourceError
from syncd.testing.conformance import SECRET_REFERENCE, ConnectorSuite

TAP = [sys.executable, "-I", "-S", str(Path(__file__).with_name("singer_tap.py"))]
INCREMENTAL = {"metadata": [{"breadcrumb": [], "metadata": {
    "replication-method": "INCREMENTAL", "replication-key": "at"}}]}  # fmt: skip
LOG_BASED = {
    "metadata": [{"breadcrumb": [], "metadata": {"forced-replication-method": "LOG_BASED"}}]
}
ANN = {"id": "1", "email": "ann@example.com", "name": "Ann", "at": "01"}
BOB = {"id": "2", "email": "bob@example.com", "name": "Bob", "at": "02"}


class Tap:
    """Connectors over the tests' tap in one folder, and what it has noted."""

    def __init__(self, folder):
        self.folder = folder

    def table(self, *rows):
        (self.folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def source(self, config=None, **options):
        options = {"command": TAP, "stream": "people", "config": config or {}, **options}
        options["config"].setdefault("table", "people.jsonl")
        validated = SingerOptions.model_validate(options, context={"folder": self.folder})
        return SingerConnector(validated, Context(self.folder))

    def playing(self, *steps, entry=None, **options):
        return self.source({"play": list(steps), "entry": entry or {}}, **options)

    def seen(self):
        return [json.loads(line) for line in (self.folder / "seen.jsonl").read_text().splitlines()]


@pytest.fixture
def tap(tmp_path):
    return Tap(tmp_path)


def read(connector, cursor=None, fields=None):
    return list(connector.read(Request(cursor=cursor, fields=fields)))


def cursor_of(events):
    assert isinstance(events[-1], Checkpoint)
    return events[-1].cursor


def keys(events):
    return [event.key for event in events if isinstance(event, Record)]


# --- a full table -----------------------------------------------------------------------------------------------------


def test_a_full_table_is_records_and_no_cursor(tap):
    tap.table(ANN, BOB)
    assert read(tap.source()) == [
        Record("1", ANN, "people record 1"),
        Record("2", BOB, "people record 2"),
    ]


def test_a_cursor_of_a_stream_that_is_a_full_table_now_is_a_resync(tap):
    tap.table(ANN)
    cursor = cursor_of(read(tap.source({"entry": INCREMENTAL})))
    events = read(tap.source(), cursor)
    assert isinstance(events[0], Resync)
    assert keys(events) == ["1"]
    assert tap.seen()[-1]["state"] is None


def test_other_streams_and_unknown_fields_are_left_out(tap):
    source = tap.playing(
        ["schema"], ["row", {**ANN, "stream": "deals"}], ["row", {**ANN, "extra": 1}]
    )
    assert read(source) == [Record("1", ANN, "people record 1")]
    assert source.fields() == [SourceField(name) for name in ("id", "email", "name", "at", "inner")]


def test_only_the_fields_in_use_come_and_the_key_is_read_all_the_same(tap):
    tap.table(ANN)
    for entry in ({}, INCREMENTAL):
        (record, *_) = read(tap.source({"entry": entry}), fields=frozenset({"name", "nowhere"}))
        assert (record.key, record.fields) == ("1", {"name": "Ann"})


def test_a_field_that_the_catalog_does_not_name_never_comes(tap):
    source = tap.playing(["schema"], ["row", {**ANN, "extra": 1}])
    assert read(source, fields=frozenset({"name", "extra"}))[0].fields == {"name": "Ann"}


def test_values_come_as_json_has_them(tap):
    inner = {"list": [1, 2.5, None, True], "at": "2026-01-31T12:00:00+01:00"}
    for entry in ({}, INCREMENTAL):
        source = tap.playing(["schema"], ["row", {"id": 1, "inner": inner}], entry=entry)
        assert read(source)[0] == Record("1", {"id": 1, "inner": inner}, "people record 1")


# --- versions ---------------------------------------------------------------------------------------------------------

ACTIVATE = ["out", {"type": "ACTIVATE_VERSION", "stream": "people", "version": 7}]


def test_rows_of_a_version_count_once_it_is_activated(tap):
    assert keys(read(tap.playing(["schema"], ACTIVATE, ["row", {**ANN, "version": 7}], ACTIVATE))) == ["1"]  # fmt: skip
    with pytest.raises(SourceError, match=r"did not finish.*no ACTIVATE_VERSION came after"):
        read(tap.playing(["schema"], ACTIVATE, ["row", {**ANN, "version": 7}]))


def test_the_version_of_another_stream_activates_nothing(tap):
    other = ["out", {"type": "ACTIVATE_VERSION", "stream": "deals", "version": 7}]
    with pytest.raises(SourceError, match="did not finish"):
        read(tap.playing(["schema"], ["row", {**ANN, "version": 7}], other))


def test_two_versions_in_one_run_are_no_read(tap):
    rows = [["row", {**ANN, "version": 6}], ["row", {**BOB, "version": 7}]]
    with pytest.raises(SourceError, match="second version"):
        read(tap.playing(["schema"], *rows, ACTIVATE))


def test_a_new_version_in_an_incremental_read_is_a_resync_from_the_beginning(tap):
    tap.table(ANN, BOB)
    first = read(tap.source({"entry": INCREMENTAL, "version": 1}))
    same = read(tap.source({"entry": INCREMENTAL, "version": 1}), cursor_of(first))
    assert [type(event) for event in same] == [Checkpoint]
    events = read(tap.source({"entry": INCREMENTAL, "version": 2}), cursor_of(same))
    assert isinstance(events[0], Resync)
    assert sorted(keys(events)) == ["1", "2"]
    assert [seen["state"] for seen in tap.seen()[-2:]] == [{"at": "02"}, None]
    assert [type(e) for e in read(tap.source({"entry": INCREMENTAL, "version": 2}), cursor_of(events))] == [Checkpoint]  # fmt: skip


# --- incremental and log-based reads ----------------------------------------------------------------------------------


def test_an_incremental_stream_goes_on_from_the_last_state(tap):
    tap.table(ANN)
    first = read(tap.source({"entry": INCREMENTAL}))
    assert keys(first) == ["1"]
    tap.table(ANN, BOB)
    assert keys(read(tap.source({"entry": INCREMENTAL}), cursor_of(first))) == ["2"]
    assert tap.seen()[-1]["state"] == {"at": "01"}


def test_only_the_last_state_of_a_run_that_ended_well_is_a_cursor(tap):
    early = ["out", {"type": "STATE", "value": {"at": "99"}}]
    late = ["out", {"type": "STATE", "value": {"at": "01"}}]
    events = read(tap.playing(["schema"], early, ["row", ANN], late, entry=INCREMENTAL))
    assert [type(event) for event in events] == [Record, Checkpoint]
    assert json.loads(events[1].cursor)["state"] == {"at": "01"}
    broken = tap.playing(["schema"], ["row", ANN], early, ["exit", 3], entry=INCREMENTAL)
    given = []
    with pytest.raises(SourceError, match="exit code 3"):
        collections.deque(map(given.append, broken.read(Request())), maxlen=0)
    assert [type(event) for event in given] == [Record]  # what came may say who opted out


@pytest.mark.parametrize("value", [None, {}])
def test_an_empty_state_is_no_cursor(tap, value):
    state = ["out", {"type": "STATE", "value": value}]
    events = read(tap.playing(["schema"], ["row", ANN], state, entry=INCREMENTAL))
    assert [type(event) for event in events] == [Record]


def test_of_each_key_the_last_row_counts(tap):
    rows = [ANN, BOB, {**ANN, "name": "Anne"}, {"id": "2", "_sdc_deleted_at": "03"}, {"id": "3"}]
    events = read(tap.playing(["schema"], *(["row", row] for row in rows), entry=INCREMENTAL))
    assert sorted(events, key=lambda event: event.key) == [
        Record("1", {**ANN, "name": "Anne"}, "people record 3"),
        Tombstone("2"),
        Record("3", {"id": "3"}, "people record 5"),
    ]


def test_rows_wait_on_disk_and_come_in_the_same_order_each_time(tap, monkeypatch):
    monkeypatch.setattr("syncd.temporary.PART_BYTES", 100)
    source = tap.playing(["schema"], ["rows", 2000], entry=INCREMENTAL)
    first, second = keys(read(source)), keys(read(source))
    assert first == second
    assert first[:4] == ["37", "49", "155", "162"]  # in another process too
    assert sorted(first, key=int) == [str(number) for number in range(2000)]


def test_a_deletion_in_a_full_table_is_a_tombstone(tap):
    row = {**ANN, "_sdc_deleted_at": "2026-01-01T00:00:00Z"}
    assert read(tap.playing(["schema"], ["row", row])) == [Tombstone("1")]
    assert keys(read(tap.playing(["schema"], ["row", {**ANN, "_sdc_deleted_at": None}]))) == ["1"]


def test_a_log_that_does_not_say_that_it_held_everything_is_no_full_read(tap):
    state = ["out", {"type": "STATE", "value": {"lsn": 5}}]
    with pytest.raises(SourceError, match="LOG_BASED read from the beginning needs an ACTIVATE"):
        read(tap.playing(["schema"], ["row", ANN], state, entry=LOG_BASED))
    whole = read(tap.playing(["schema"], ["row", ANN], ACTIVATE, state, entry=LOG_BASED))
    more = tap.playing(["schema"], ["row", BOB], state, entry=LOG_BASED)
    assert keys(read(more, cursor_of(whole))) == ["2"]


@pytest.mark.parametrize("cursor", ["?", "{}", "[]", "null", '{"by":["LOG_BASED",""],"state":{}}'])
def test_a_strange_cursor_is_a_resync(tap, cursor):
    tap.table(ANN)
    events = read(tap.source({"entry": INCREMENTAL}), cursor)
    assert [type(event) for event in events] == [Resync, Record, Checkpoint]
    assert tap.seen()[-1]["state"] is None


def test_another_replication_key_is_a_resync(tap):
    tap.table(ANN)
    cursor = cursor_of(read(tap.source(replication_key="at")))
    assert isinstance(read(tap.source(replication_key="name"), cursor)[0], Resync)


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "key"), [("a", "a"), (7, "7"), (7.0, "7"), (2**60, str(2**60)), (" ", " ")]
)
def test_keys_are_texts_and_whole_numbers(tap, value, key):
    assert keys(read(tap.playing(["schema"], ["row", {"id": value}]))) == [key]


@pytest.mark.parametrize("value", ["", None, 7.5, True, 1e300, 2.0**53, 2**70, ["a"], {"a": 1}])
def test_anything_else_is_no_key(tap, value):
    line = json.dumps({"type": "RECORD", "stream": "people", "record": {"id": value}})
    with pytest.raises(SourceError, match=r"line 2.*no usable key"):
        read(tap.playing(["schema"], ["raw", line]))


def test_a_key_of_several_fields_cannot_be_mistaken_for_another(tap):
    rows = [{"id": "a,b", "name": "c"}, {"id": "a", "name": "b,c"}, {"id": 1, "name": "c"}]
    steps = [["row", row] for row in rows]
    found = keys(read(tap.playing(["schema", "id", "name"], *steps)))
    assert found == ['["a,b","c"]', '["a","b,c"]', '["1","c"]']
    assert keys(read(tap.playing(["schema"], *steps, key=["id", "name"]))) == found


def test_the_option_key_comes_before_the_schema(tap):
    assert keys(read(tap.playing(["schema"], ["row", ANN], key="email"))) == ["ann@example.com"]


def test_without_any_key_the_fields_are_named(tap):
    empty = ["out", {"type": "SCHEMA", "stream": "people", "schema": {}, "key_properties": []}]
    with pytest.raises(ConfigError, match=r"no key of its own.*id, email.*Set `key`"):
        read(tap.playing(empty, ["row", ANN]))
    with pytest.raises(ConfigError, match=r"no selected field 'mail'.*Did you mean 'email'"):
        read(tap.playing(empty, ["row", ANN], key="mail"))


# --- the catalog ------------------------------------------------------------------------------------------------------


def test_the_discovered_stream_alone_is_selected_with_its_fields(tap):
    facts = [{"breadcrumb": ["properties", "inner"], "metadata": {"inclusion": "unsupported"}}]
    tap.table(ANN)
    source = tap.source({"entry": {"metadata": facts}})
    read(source)
    catalog = tap.seen()[-1]["catalog"]
    chosen = {
        (entry["stream"], *each["breadcrumb"]): each["metadata"].get("selected")
        for entry in catalog["streams"]
        for each in entry["metadata"]
    }
    assert chosen == {
        ("people",): True,
        ("people", "properties", "inner"): False,
        **{("people", "properties", name): True for name in ("id", "email", "name", "at")},
        ("deals",): False,
    }
    assert "inner" not in {field.name for field in source.fields()}
    assert len(tap.seen()) == 2  # asked for its catalog once


def test_a_catalog_file_is_taken_as_it_is(tap):
    properties = {"id": {}, "email": {}, "name": {}, "at": {}}
    facts = [
        {"breadcrumb": [], "metadata": {"selected": True, "replication-method": "FULL_TABLE"}},
        {"breadcrumb": ["properties", "name"], "metadata": {"selected": False}},
        {"breadcrumb": ["properties", "at"], "metadata": {"selected-by-default": False}},
        {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}},
    ]
    entry = {"tap_stream_id": "db-people", "stream": "people", "metadata": facts}
    entry["schema"] = {"properties": properties}
    (tap.folder / "catalog.json").write_text(json.dumps({"streams": [entry]}))
    tap.table(ANN)
    source = tap.source(catalog="catalog.json")
    assert [field.name for field in source.fields()] == ["id", "email"]
    assert read(source)[0].fields == {"id": "1", "email": "ann@example.com"}
    assert ["--discover" in seen["argv"] for seen in tap.seen()] == [False]
    by_id = tap.source(catalog="catalog.json", stream="db-people")
    assert keys(read(by_id)) == ["1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ('{"streams": [{"schema": {}}]}', "cannot be used.*'stream'"),
        ('{"streams": [{"stream": "person"}]}', "no stream 'people'.*Did you mean 'person'"),
        ('{"streams": [{"stream": "people"}]}', "does not say which fields"),
        (None, "cannot be used.*No such file"),
    ],
)
def test_an_unusable_catalog_says_what_it_lacks(tap, content, words):
    if content is not None:
        (tap.folder / "catalog.json").write_text(content)
    with pytest.raises(ConfigError, match=words):
        tap.source(catalog="catalog.json").fields()


def test_an_unknown_replication_method_is_refused(tap):
    with pytest.raises(ConfigError, match=r"replication method 'LOG'.*LOG_BASED"):
        tap.source({"entry": {"replication_method": "LOG"}}).fields()


def test_what_is_no_catalog_is_a_source_error(tap):
    with pytest.raises(SourceError, match="did not print a catalog"):
        tap.source({"catalog": "usage: tap"}).fields()


def test_two_streams_of_one_name_are_told_apart_by_their_ids(tap):
    entries = [
        {"tap_stream_id": f"{schema}-people", "stream": "people", "metadata": [],
         "schema": {"properties": {"id": {}}}}
        for schema in ("a", "b")
    ]  # fmt: skip
    (tap.folder / "catalog.json").write_text(json.dumps({"streams": entries}))
    options = {"catalog": "catalog.json", "stream": "a-people"}
    with pytest.raises(ConfigError, match=r"has more than one stream 'people'.*a-people"):
        read(tap.playing(["schema"], **{**options, "stream": "people"}))
    with pytest.raises(SourceError, match=r"sent nothing of the stream a-people.*It sent people"):
        read(tap.playing(["schema"], ["row", ANN], **options))  # of which of the two?


def test_messages_under_both_names_of_a_stream_may_be_two_streams(tap):
    entry = {"tap_stream_id": "crm-people"}
    assert keys(read(tap.playing(["schema"], ["row", ANN], entry=entry))) == ["1"]
    rows = [["row", ANN], ["row", {**BOB, "stream": "crm-people"}]]
    with pytest.raises(SourceError, match="people and crm-people may both be the stream people"):
        read(tap.playing(["schema"], *rows, entry=entry))


def test_a_catalog_without_end_is_not_kept(tap, monkeypatch):
    monkeypatch.setattr("connectors.singer.CATALOG_BYTES_MAX", 100)
    with pytest.raises(SourceError, match="catalog of at most 100 bytes"):
        tap.source().fields()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({}, "FULL_TABLE: each read is a full one, so deletions are seen"),
        (INCREMENTAL, "INCREMENTAL by at: deletions are seen by full reads only"),
        (LOG_BASED, "LOG_BASED: deletions come with the log"),
    ],
)
def test_check_says_whether_deletions_are_seen(tap, entry, words):
    tap.table(ANN)
    assert tap.source({"entry": entry}).check() == (
        f"{Path(sys.executable).name}, stream people: 5 fields; {words}"
    )
    tap.table()
    assert "5 fields, no records; " in tap.source({"entry": entry}).check()


# --- options ----------------------------------------------------------------------------------------------------------


def test_a_command_line_is_split_and_never_given_to_a_shell(tap):
    options = SingerOptions.model_validate({"command": "tap-x 'a b' $HOME; rm", "stream": "s"})
    assert options.command == ("tap-x", "a b", "$HOME;", "rm")


@pytest.mark.parametrize(
    "wrong",
    [{"command": ""}, {"command": []}, {"command": "'a"}, {"key": ""}, {"key": []},
     {"timeout": 5}, {"timeout": "0 seconds"}, {"config": "a"}, {"stream": ""}],
)  # fmt: skip
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValidationError):
        SingerOptions.model_validate({"command": "tap", "stream": "people", **wrong})


def test_secrets_are_looked_up_at_any_depth_and_files_of_the_web_are_not(tap, monkeypatch):
    monkeypatch.setenv("TAP_PASSWORD", "hunter-22")
    (tap.folder / "token").write_text("t0ken-33\n")
    tap.table(ANN)
    config = {
        "password": "env:TAP_PASSWORD",
        "deep": [{"token": "file:token"}],
        "url": "file:///data/people.csv",
        "start_date": date(2026, 1, 31),
    }
    source = tap.source(config, environment={"TAP_TOKEN": "file:token"})
    assert "hunter-22" not in repr(vars(source))
    read(source)
    seen = tap.seen()[-1]
    assert seen["config"] == {
        "password": "hunter-22",
        "deep": [{"token": "t0ken-33"}],
        "url": "file:///data/people.csv",
        "start_date": "2026-01-31",
        "table": "people.jsonl",
    }
    assert seen["environment"]["TAP_TOKEN"] == "t0ken-33"


def test_a_missing_secret_is_named_before_the_tap_is_started(tap):
    with pytest.raises(ConfigError, match="env:NO_SUCH_THING is missing"):
        read(tap.source({"password": "env:NO_SUCH_THING"}))
    assert not (tap.folder / "seen.jsonl").exists()


class Promises(ConnectorSuite):
    """One tap, three ways to be read; what a way cannot show, its class does not declare."""

    entry: dict
    kind = SingerConnector

    def source(self, folder, records):
        rows = [{**record, "at": f"{at:09}"} for at, record in enumerate(records, 1)]
        self._write(folder, rows)
        options = {
            "command": TAP,
            "stream": "people",
            "config": {"table": "people.jsonl", "password": SECRET_REFERENCE, "entry": self.entry},
        }
        validated = SingerOptions.model_validate(options, context={"folder": folder})
        return self.kind(validated, Context(folder))

    def break_source(self, folder):
        with (folder / "people.jsonl").open("a") as file:
            file.write("half a ro\n")

    def change(self, folder, records):
        self._put(folder, {record["id"]: record for record in records})

    def remove(self, folder, record):
        self._put(folder, {record["id"]: {**record, "gone": True}})

    def _put(self, folder, changed):
        rows = [json.loads(line) for line in (folder / "people.jsonl").read_text().splitlines()]
        at = max(row["at"] for row in rows)
        rows = [row for row in rows if row["id"] not in changed]
        rows += [{**row, "at": f"{int(at) + 1:09}"} for row in changed.values()]
        self._write(folder, rows)

    def _write(self, folder, rows):
        (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


class FullTable(SingerConnector):
    ABILITIES = replace(SingerConnector.ABILITIES, incremental=False, tombstones=False)


class Incremental(SingerConnector):
    ABILITIES = replace(SingerConnector.ABILITIES, tombstones=False)


class TestAFullTableKeepsThePromises(Promises):
    entry, kind = {}, FullTable


class TestAnIncrementalStreamKeepsThePromises(Promises):
    entry, kind = INCREMENTAL, Incremental


class TestALogKeepsThePromises(Promises):
    entry = LOG_BASED
