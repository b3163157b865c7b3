"""JSON Lines: every object once, with its values as they are, or an error that says where."""

import codecs
import gzip
import json
import tracemalloc
from itertools import islice

import pytest
from pydantic import ValidationError

from connectors.jsonl import JsonlConnector, JsonlOptions
from syncd.connector import Context, Record, Request
from syncd.errors import SourceError
from syncd.testing.conformance import ConnectorSuite

PEOPLE = '{"id": 1, "email": "ann@example.com"}\n{"id": 2, "email": "bob@example.com"}\n'


@pytest.fixture
def source(tmp_path):
    """Write `content` to people.jsonl in the configuration's folder; build the connector on it."""

    def build(content=None, *, name="people.jsonl", **options):
        if content is not None:
            data = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(data)
        options.setdefault("path", name)
        options.setdefault("key", "id")
        return JsonlConnector(JsonlOptions.model_validate(options), Context(tmp_path))

    return build


def read(connector, fields=None):
    return list(connector.read(Request(fields=fields)))


def test_objects_are_records_with_key_values_and_place(source):
    assert read(source(PEOPLE)) == [
        Record("1", {"id": 1, "email": "ann@example.com"}, "people.jsonl:1"),
        Record("2", {"id": 2, "email": "bob@example.com"}, "people.jsonl:2"),
    ]


def test_values_stay_as_json_has_them(source):
    values = {"a": None, "b": True, "c": 1.5, "d": ["x", {"y": 1}], "e": {"f": ""}, "g": "Zoë"}
    assert read(source(json.dumps({"id": "x", **values})))[0].fields == {"id": "x", **values}


def test_blank_lines_are_skipped_and_counted(source):
    assert [r.place for r in read(source("\n" + PEOPLE.replace("\n", "\r\n \t\r\n")))] == [
        "people.jsonl:2",
        "people.jsonl:4",
    ]


@pytest.mark.parametrize(
    ("key", "line", "expected"),
    [
        ("id", {"id": "a"}, "a"),
        ("id", {"id": 0}, "0"),
        ("_id.$oid", {"_id": {"$oid": "5f"}}, "5f"),
        (None, {"id": 1}, ""),
    ],
)
def test_key_is_a_path_to_a_text_or_whole_number(source, key, line, expected):
    assert read(source(json.dumps(line), key=key))[0].key == expected


@pytest.mark.parametrize("value", ['""', "null", "true", "1.5", "[1]", "123456789012345678901234"])
def test_what_is_no_key_raises_with_its_place(source, value):
    with pytest.raises(SourceError, match=r"people.jsonl:3: there is no usable key at 'id'"):
        read(source(PEOPLE + f'{{"id": {value}}}'))


def test_a_missing_key_names_the_nearest(source):
    with pytest.raises(SourceError, match="Did you mean 'id'"):
        read(source(PEOPLE, key="iid"))
    with pytest.raises(SourceError, match=r"at 'id.deep'"):
        read(source(PEOPLE, key="id.deep"))


def test_only_the_fields_in_use_are_read_and_the_key_still_is(source):
    assert read(source(PEOPLE), frozenset({"email", "nowhere"}))[0] == Record(
        "1", {"email": "ann@example.com"}, "people.jsonl:1"
    )


@pytest.mark.parametrize(
    "encoded",
    [codecs.BOM_UTF8 + PEOPLE.encode(), PEOPLE.encode("utf-16"), gzip.compress(PEOPLE.encode())],
    ids=["utf-8 with mark", "utf-16", "gzip"],
)
def test_encoding_and_gzip_are_told_by_the_first_bytes(source, encoded):
    assert [record.key for record in read(source(encoded))] == ["1", "2"]


def test_encoding_can_be_set(source):
    content = '{"id": 1, "name": "Zoë"}'.encode("cp1252")
    assert read(source(content, encoding="cp1252"))[0].fields["name"] == "Zoë"
    with pytest.raises(SourceError, match=r"people.jsonl:1: .*decode as utf-8"):
        read(source(content))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (PEOPLE + "{", "people.jsonl:3: the line is not a JSON object"),
        (PEOPLE + '{"id": 3, "x": NaN}', "people.jsonl:3: the line is not a JSON object"),
        (PEOPLE + '{"id": 3, "email": "cut o', "people.jsonl:3: the line is not a JSON object"),
        ("[" + PEOPLE, "people.jsonl:1: the line is not a JSON object.*jq -c"),
        ("[1]\n", "people.jsonl:1: .*It is a list"),
        ('{"id":1,"x":"' + "x" * 17_000_000, "people.jsonl:1: the line is longer than 16777216"),
        (PEOPLE + '{"id": 3\0}', "people.jsonl:3: there is a NUL"),
    ],
)
def test_broken_lines_raise_with_their_place(source, content, says):
    with pytest.raises(SourceError, match=says):
        read(source(content))


def test_an_empty_file_is_an_empty_list(source):
    assert read(source("")) == []


def test_files_of_a_pattern_are_read_in_order(source, tmp_path):
    for name, key in (("b", "2"), ("a", "1")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": key}))
    assert [(r.key, r.place) for r in read(source(path="*.jsonl"))] == [
        ("1", "a.jsonl:1"),
        ("2", "b.jsonl:1"),
    ]
    assert source(path="*.jsonl").check() == "2 files, 2 records"


def test_a_file_that_changes_while_it_is_read_ends_the_read(source, tmp_path):
    events = source(PEOPLE).read(Request())
    next(events)
    with (tmp_path / "people.jsonl").open("a") as file:
        file.write("{}")
    with pytest.raises(SourceError, match="changed while it was read"):
        list(events)


def test_fields_are_all_names_of_the_first_thousand(source):
    lines = ['{"id": 1, "a": null}', '{"id": 2, "b": {"c": 1}, "a": 5}'] + ['{"id": 3}'] * 998
    fields = source("\n".join([*lines, '{"id": 4, "late": 1}', "broken"])).fields()
    assert [(f.name, f.example) for f in fields] == [("id", "1"), ("a", "5"), ("b", "{'c': 1}")]
    assert not JsonlConnector.ABILITIES.fields_known


def test_the_token_follows_the_bytes_and_the_options(source):
    token = source(PEOPLE).token()
    assert source(PEOPLE).token() == token
    assert source(PEOPLE + "\n").token() != token
    assert source(PEOPLE, key="email").token() != token


def test_check_counts(source):
    assert source(PEOPLE).check() == "people.jsonl, 2 records"


@pytest.mark.parametrize("options", [{"delimiter": ","}, {"path": ""}, {"encoding": "utf-9"}])
def test_bad_options_are_refused(source, options):
    with pytest.raises(ValidationError, match=next(iter(options))):
        source(**options)


def test_reading_is_lazy_and_memory_flat(source, tmp_path):
    with (tmp_path / "people.jsonl").open("w") as file:
        file.writelines(f'{{"id": {n}, "note": "{"x" * 100}"}}\n' for n in range(30_000))
    size = (tmp_path / "people.jsonl").stat().st_size
    tracemalloc.start()
    try:
        assert len(list(islice(source().read(Request()), 1))) == 1
        assert sum(1 for _ in source().read(Request())) == 30_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 4


class TestJsonlKeepsThePromises(ConnectorSuite):
    def source(self, folder, records):
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "people.jsonl").write_text(lines)
        return JsonlConnector(JsonlOptions(path="people.jsonl", key="id"), Context(folder))

    def break_source(self, folder):
        with (folder / "people.jsonl").open("a") as file:
            file.write('{"id": "half an obj')
