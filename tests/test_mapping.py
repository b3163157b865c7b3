"""The mapping: what a record becomes, why it does not, and when it counts as changed."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.expression import ExpressionError
from syncd.core.fingerprint import compile_fingerprint
from syncd.core.mapping import FieldRule, MappingRules, NameRule, compile_mapping, rules_version
from syncd.core.model import Skipped, SkipReason, Wanted

EMAIL = FieldRule("email", path="email")
ANN = {"email": " Ann@Example.com ", "first": "Ann", "score": 85, "out": "no"}


def rules(*fields, **others):
    return MappingRules(fields=(EMAIL, *fields), **others)


def mapped(record, *fields, **others):
    return compile_mapping(rules(*fields, **others)).map(record)


def one(value, *, empty="clear", **rule):
    """What a record whose `x` is `value` gives for one field; absent when it is left out."""
    outcome = mapped(
        {"email": "ann@example.com", "x": value},
        FieldRule("company", path="x", **rule),
        empty=empty,
    )
    return outcome.fields.get("company", "left out") if isinstance(outcome, Wanted) else outcome


def test_a_record_becomes_a_contact():
    record = {
        "email": " Ann@Example.com ",
        "firstname": " Ann ",
        "_company": {"id": 7, "name": "Acme"},
        "jobtitle": "CTO",
        "department": "IT",
        "phone": "06 12 34 56 78",
        "score": "81.5",
        "_owner": {"email": "owner@example.com"},
        "_lists": ["News", " Beta "],
        "_tags": ["b", "a"],
        "out": None,
    }
    outcome = mapped(
        record,
        FieldRule("firstName", path="firstname"),
        FieldRule("company", path="_company.name", default=""),
        FieldRule("jobTitle", expr='jobtitle ~ " / " ~ department'),
        FieldRule("phone", path="phone", convert="phone", region="FR"),
        FieldRule("consent", value="web opt-in", send_as="consentSource"),
        custom_fields=(
            FieldRule("score", path="score", convert="number"),
            FieldRule("owner", path="_owner.email"),
        ),
        where="score | number > 3",
        opted_out="out",
        groups=(
            NameRule(name="Customers"),
            NameRule(name="VIP", when="score | number > 80"),
            NameRule(name="Giants", when="score | number > 1000"),
            NameRule(source="_lists", prefix="CRM "),
        ),
        tags=(NameRule(name="crm"), NameRule(source="_tags"), NameRule(name="a")),
    )
    assert outcome == Wanted(
        email="ann@example.com",
        fields={
            "firstName": "Ann",
            "company": "Acme",
            "jobTitle": "CTO / IT",
            "phone": "+33612345678",
            "consentSource": "web opt-in",
        },
        custom_fields={"score": 81.5, "owner": "owner@example.com"},
        groups=("CRM Beta", "CRM News", "Customers", "VIP"),
        tags=("a", "b", "crm"),
    )


@pytest.mark.parametrize(
    ("value", "clear", "keep"),
    [
        ("Acme", "Acme", "Acme"),
        ("", None, "left out"),
        ("   ", None, "left out"),
        (None, None, "left out"),
        ([], None, "left out"),
        ([None, " "], None, "left out"),
        (0, "0", "0"),
        (False, "false", "false"),
    ],
)
def test_an_empty_value_clears_or_keeps(value, clear, keep):
    assert one(value) == clear
    assert one(value, empty="keep") == keep


def test_a_default_stands_in_for_empty_and_for_missing():
    assert one("", default="none") == "none"
    assert one(None, default="none", empty="keep") == "none"
    assert one("Acme", default="none") == "Acme"
    missing = FieldRule("company", path="nobody", default="none")
    assert mapped(ANN, missing).fields == {"company": "none"}


def test_an_empty_default_makes_missing_known_to_be_empty():
    missing = FieldRule("company", path="_company.name", default="")
    assert mapped(ANN, missing).fields == {"company": None}
    assert mapped(ANN, missing, empty="keep").fields == {}


@pytest.mark.parametrize("empty", ["clear", "keep"])
@pytest.mark.parametrize(
    "rule", [{"path": "nobody"}, {"path": "nobody.name"}, {"expr": "nobody | lower"}]
)
def test_what_was_not_read_is_left_out(rule, empty):
    outcome = mapped(ANN, FieldRule("company", **rule), empty=empty)
    assert outcome.fields == {}


def test_fluenzr_s_own_fields_are_text_and_others_stay_what_they_are():
    record = {
        "email": "ann@example.com",
        "n": 3.0,
        "b": True,
        "d": datetime(2026, 1, 31, tzinfo=UTC),
    }
    outcome = mapped(
        record,
        FieldRule("phone", path="n"),
        FieldRule("x", path="n", send_as="extra"),
        custom_fields=(
            FieldRule("n", path="n", convert="number"),
            FieldRule("b", path="b"),
            FieldRule("d", path="d"),
            FieldRule("fixed", value=7),
        ),
    )
    assert outcome.fields == {"phone": "3", "extra": 3}
    assert outcome.custom_fields == {
        "n": 3,
        "b": True,
        "d": "2026-01-31T00:00:00+00:00",
        "fixed": 7,
    }


def test_a_number_that_is_no_phone_counts_as_empty_and_is_noted():
    mapping = compile_mapping(
        rules(
            FieldRule("phone", path="phone", convert="phone", region="FR"),
            FieldRule("website", path="web", convert="url", default="https://example.com"),
        )
    )
    outcome = mapping.map({"email": "ann@example.com", "phone": "ask Ann", "web": "n/a"})
    assert outcome.fields == {"phone": None, "website": "https://example.com"}
    mapping.map({"email": "bob@example.com", "phone": "+33612345678", "web": "-"})
    assert mapping.notes == {"fields.phone": 1, "fields.website": 2}


@pytest.mark.parametrize("written", ["", "  ", None, "not an address", 7, "a@b@example.com"])
def test_without_a_usable_address_a_record_is_skipped(written):
    outcome = mapped({**ANN, "email": written})
    assert isinstance(outcome, Skipped)
    assert (outcome.reason, outcome.email) == (SkipReason.ADDRESS, None)


def test_without_the_name_of_the_address_a_record_is_skipped():
    assert mapped({"first": "Ann"}).reason is SkipReason.ADDRESS


def test_a_filtered_record_says_whose_it_was():
    assert mapped(ANN, where="score > 90") == Skipped(
        SkipReason.FILTERED, "the filter `where` says no", "ann@example.com"
    )


@pytest.mark.parametrize("out", [True, "true", "YES", 1, "1", " yes "])
def test_an_opt_out_is_read_in_words(out):
    outcome = mapped({**ANN, "out": out}, opted_out="out")
    assert (outcome.reason, outcome.email) == (SkipReason.OPTED_OUT, "ann@example.com")


@pytest.mark.parametrize("out", [False, "false", "NO", 0, "0", "", "  ", None])
def test_consent_is_read_in_words(out):
    assert isinstance(mapped({**ANN, "out": out}, opted_out="out"), Wanted)


@pytest.mark.parametrize("out", ["maybe", "2", 2, ["no"], {"a": 1}, "on", "unsubscribed"])
@pytest.mark.parametrize("opted_out", ["out", "out | boolean", "(out)"])
def test_an_opt_out_that_cannot_be_read_blocks_the_record(out, opted_out):
    outcome = mapped({**ANN, "out": out}, opted_out=opted_out)
    assert (outcome.reason, outcome.email) == (SkipReason.BLOCKED, "ann@example.com")
    assert outcome.detail.startswith("opted_out: ")


def test_an_opt_out_that_was_not_read_blocks_the_record():
    record = {"email": "ann@example.com"}
    outcome = mapped(record, opted_out="out")
    assert outcome.reason is SkipReason.BLOCKED
    assert isinstance(mapped(record, opted_out="out | default(false)"), Wanted)
    assert isinstance(mapped(record, opted_out="out | default('')"), Wanted)


@pytest.mark.parametrize(
    "broken",
    [
        {"where": "score > 90"},
        {"where": "first > 3"},
        {"groups": (NameRule(name="x", when="1 / 0"),)},
        {"custom_fields": (FieldRule("x", path="first", convert="number"),)},
    ],
)
def test_an_opt_out_is_seen_whatever_else_is_broken(broken):
    outcome = mapped({**ANN, "out": "yes"}, opted_out="out", **broken)
    assert (outcome.reason, outcome.email) == (SkipReason.OPTED_OUT, "ann@example.com")


def test_an_opt_out_is_seen_without_a_usable_address():
    outcome = mapped({**ANN, "out": "yes", "email": "none"}, opted_out="out")
    assert (outcome.reason, outcome.email) == (SkipReason.OPTED_OUT, None)
    blocked = compile_mapping(MappingRules((FieldRule("email", expr="1 / 0"),), opted_out="out"))
    assert blocked.map({"out": "yes"}).reason is SkipReason.OPTED_OUT
    assert blocked.map({"out": "no"}).reason is SkipReason.BLOCKED


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        ({"where": "first > 3"}, "where: text cannot be compared with a number"),
        ({"custom_fields": (FieldRule("x", path="first", convert="date"),)}, "custom_fields.x: "),
        ({"custom_fields": (FieldRule("x", path="dict"),)}, "custom_fields.x: text expected"),
        ({"groups": (NameRule(name="a"), NameRule(name="x", when="1 / 0"))}, "groups[1].when: "),
        ({"groups": (NameRule(source="nested"),)}, "groups[0].from: "),
        ({"tags": (NameRule(name="x", when="first > 3"),)}, "tags[0].when: "),
    ],
)
def test_a_rule_that_fails_blocks_the_record_and_names_its_place(broken, place):
    outcome = mapped({**ANN, "dict": {"a": 1}, "nested": [[{"a": 1}]]}, **broken)
    assert (outcome.reason, outcome.email) == (SkipReason.BLOCKED, "ann@example.com")
    assert outcome.detail.startswith(place)
    assert "Ann" not in outcome.detail


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        (["  ", None, " a "], ("a",)),
        ([{"id": 1, "name": "a"}, {"id": 2}], ("a",)),
        ("a", ("a",)),
        ([3, 2.0], ("2", "3")),
        ([], ()),
        (None, ()),
        ("", ()),
    ],
)
def test_names_of_a_record_are_trimmed_sorted_and_single(value, names):
    outcome = mapped({**ANN, "_tags": value}, tags=(NameRule(source="_tags"),))
    assert (outcome.tags, outcome.tags_complete) == (names, True)


def test_names_that_were_not_read_are_not_known_and_the_others_stay():
    outcome = mapped(
        ANN,
        groups=(NameRule(name="Customers"), NameRule(source="_lists")),
        tags=(NameRule(name="crm"), NameRule(source="first")),
    )
    assert (outcome.groups, outcome.groups_complete) == (("Customers",), False)
    assert (outcome.tags, outcome.tags_complete) == (("Ann", "crm"), True)


def test_the_names_in_use_are_known_with_their_places():
    mapping = compile_mapping(
        rules(
            FieldRule("company", path="address.company"),
            FieldRule("consent", value="yes", send_as="consent"),
            where="score > 3 and country",
            opted_out="out",
            groups=(NameRule(name="a"), NameRule(name="b", when="vip"), NameRule(source="_lists")),
            tags=(NameRule(source="_tags"),),
            custom_fields=(FieldRule("owner", path="_owner.email"),),
        )
    )
    assert {(use.place, use.names) for use in mapping.uses} == {
        ("fields.email", ("email",)),
        ("fields.company", ("address.company", "address")),
        ("where", ("score",)),
        ("where", ("country",)),
        ("opted_out", ("out",)),
        ("groups[1].when", ("vip",)),
        ("groups[2].from", ("_lists",)),
        ("tags[0].from", ("_tags",)),
        ("custom_fields.owner", ("_owner",)),
    }
    assert mapping.names == {name for use in mapping.uses for name in use.names}


def test_a_rule_that_does_not_compile_is_refused():
    with pytest.raises(ExpressionError):
        compile_mapping(rules(where="score >"))


VARIANTS = [
    rules(),
    rules(FieldRule("company", path="x")),
    rules(FieldRule("company", path="y")),
    rules(FieldRule("company", expr="x")),
    rules(FieldRule("company", value="x")),
    rules(FieldRule("company", path="x", convert="upper")),
    rules(FieldRule("company", path="x", default="d")),
    rules(FieldRule("company", path="x", send_as="firm")),
    rules(FieldRule("company", path="x"), empty="keep"),
    rules(custom_fields=(FieldRule("company", path="x"),)),
    rules(where="x"),
    rules(opted_out="x"),
    rules(groups=(NameRule(name="x"),)),
    rules(tags=(NameRule(name="x"),)),
    rules(groups=(NameRule(source="x"),)),
    rules(groups=(NameRule(source="x", prefix="p "),)),
    rules(groups=(NameRule(name="x", when="y"),)),
]


def test_each_other_mapping_has_another_version():
    assert len({rules_version(variant) for variant in VARIANTS}) == len(VARIANTS)
    assert rules_version(rules()) == rules_version(rules())


def test_version_and_fingerprint_are_the_same_in_another_process():
    program = (
        "from tests.test_mapping import ANN, VARIANTS, compile_mapping\n"
        "for v in VARIANTS:\n"
        "    m = compile_mapping(v)\n"
        "    print(m.version, m.fingerprint({**ANN, 'x': {'b': {1, 2}, 'a': [1]}}).hex())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            cwd=Path(__file__).parents[1],
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert len(printed.pop().splitlines()) == len(VARIANTS)


def test_fingerprint_sees_only_the_names_in_use():
    fingerprint = compile_fingerprint({"a", "b"}, "1")
    assert fingerprint({"a": 1, "b": 2, "c": 3}) == fingerprint({"c": 4, "b": 2, "a": 1})
    assert len(fingerprint({"a": 1, "b": 2})) == 16


def test_fingerprint_does_not_depend_on_the_order_of_keys_inside_a_value():
    fingerprint = compile_fingerprint({"a"}, "1")
    for big in (1, 2**70):  # 2**70: beyond what the fast way can write
        one_way = {"a": {"x": big, "y": [{"p": 1, "q": 2}]}}
        other_way = {"a": {"y": [{"q": 2, "p": 1}], "x": big}}
        assert fingerprint(one_way) == fingerprint(other_way)


DISTINCT = [
    {},
    {"a": None},
    {"a": ""},
    {"a": {}},
    {"a": "x"},
    {"a": 1},
    {"a": "1"},
    {"a": True},
    {"a": ["x"]},
    {"a": 2**70},
    {"a": "half\ud800"},
    {"a": Decimal("1.5")},
    {"b": "x"},
    {"a": "x", "b": "x"},
    {"a": "x", "b": None},
    {"a": {"b": "x"}},
    {"a": b"x"},
]


@pytest.mark.parametrize("names", [{"a", "b"}, {"a"}])
def test_other_values_have_another_fingerprint(names):
    fingerprint = compile_fingerprint(names, "1")
    seen = {}
    for record in DISTINCT:
        used = {name: record[name] for name in record if name in names}
        before = seen.setdefault(fingerprint(record), used)
        assert before == used
    assert fingerprint({}) != compile_fingerprint(names, "2")({})
    assert fingerprint({"a": 1, "b": 1}) != compile_fingerprint(names, "2")({"a": 1, "b": 1})


def test_a_mapping_without_names_has_one_fingerprint():
    assert compile_fingerprint(set(), "1")({"a": 1}) == compile_fingerprint(set(), "1")({})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.sampled_from(["ann@example.com", "yes", "no", "+33612345678", "example.com", "2026-01-31"])
    | st.decimals()
    | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=4,
)
KEYS = [
    "email",
    "first",
    "company",
    "score",
    "out",
    "phone",
    "web",
    "since",
    "_lists",
    "vip",
    "address.city",
]
EVERYTHING = compile_mapping(
    MappingRules(
        fields=(
            EMAIL,
            FieldRule("firstName", path="first", convert="title"),
            FieldRule("company", path="company.name"),
            FieldRule("jobTitle", expr="first ~ ' ' ~ score"),
            FieldRule("phone", path="phone", convert="phone", region="FR"),
            FieldRule("website", path="web", convert="url"),
            FieldRule("city", path="address.city", send_as="city", default="?"),
        ),
        custom_fields=(
            FieldRule("score", path="score", convert="number"),
            FieldRule("since", path="since", convert="date"),
            FieldRule("vip", path="vip", convert="boolean"),
            FieldRule("raw", path="company"),
        ),
        where="first or company",
        opted_out="out",
        groups=(NameRule(name="VIP", when="score > 3"), NameRule(source="_lists", prefix="L ")),
        tags=(NameRule(source="vip"),),
    )
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_whatever_a_record_holds_the_outcome_can_be_stored_and_sent(record):
    outcome = EVERYTHING.map(record)
    assert len(EVERYTHING.fingerprint(record)) == 16
    if isinstance(outcome, Skipped):
        assert outcome.detail
        return
    for value in (*outcome.fields.values(), *outcome.custom_fields.values()):
        assert value is None or (isinstance(value, str | int | float) and value != "")
        assert orjson.loads(orjson.dumps(value)) == value
    assert all(name and name == name.strip() for name in (*outcome.groups, *outcome.tags))
