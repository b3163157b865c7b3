"""Paths and expressions: what they read, what is missing, what is refused, and that nothing leaks out of the sandbox."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.expression import (
    MISSING,
    ExpressionError,
    compile_expression,
    compile_path,
    is_true,
)

RECORD = {
    "email": "Ann@example.com",
    "first": "Ann",
    "last": None,
    "score": 85,
    "text_score": "85",
    "flag": "false",
    "blank": " ",
    "day": date(2026, 1, 31),
    "E-mail Address": "other@example.com",
    "a.b": "dotted",
    "a": {"b": "nested", "c": [{"d": 1}, "second"]},
    "_company": {"name": "Acme", "items": 3, "size": None, "get": "got"},
    "_lists": ["News", None, "VIP"],
    "result": "r",
    "range": "r1",
    "class": "first",
}


def evaluate(text, record=RECORD, *, strict=False):
    return compile_expression(text, strict=strict).read(record)


def attempt(text, *, strict=False):
    """The value, or None and what the error says."""
    try:
        return evaluate(text, strict=strict), ""
    except ExpressionError as error:
        return None, str(error)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("email", "Ann@example.com"),
        ("last", None),
        ("E-mail Address", "other@example.com"),
        ("a.b", "dotted"),  # the whole text is a name: that is the first choice
        ("a.c.0.d", 1),
        ("a.c.1", "second"),
        ("a.c.9", None),
        ("a.c.x", None),
        ("a.x.y.z", None),
        ("email.x", None),
        ("last.x", None),
        ("_company.name", "Acme"),
        ("_company.items", 3),
        ("nobody", MISSING),
        ("nobody.name", MISSING),
        ("a..b", MISSING),
        (".", MISSING),
    ],
)
def test_path(path, value):
    assert compile_path(path).read(RECORD) == value


@pytest.mark.parametrize(
    ("path", "needs"),
    [
        ("email", ("email",)),
        ("E-mail Address", ("E-mail Address",)),
        ("a.b", ("a.b", "a")),
        ("_company.name", ("_company",)),
        ("St. Name", ("St. Name", "St")),
    ],
)
def test_a_path_says_which_names_it_may_mean(path, needs):
    reader = compile_path(path)
    assert reader.needs == (needs,)
    assert reader.names == set(needs)


@pytest.mark.parametrize("path", ["", "  ", "x" * 501])
def test_a_path_that_names_nothing_is_refused(path):
    with pytest.raises(ExpressionError, match="a path"):
        compile_path(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("score > 80", True),
        ("not (score > 80)", False),
        ("first ~ ' ' ~ email | lower", "Ann ann@example.com"),
        ("_company.name", "Acme"),
        ("_company.name | upper", "ACME"),
        ("_company.items + 1", 4),
        ("_company['name'] ~ ''", "Acme"),
        ("_company.get ~ ''", "got"),
        ("record['E-mail Address'] | lower", "other@example.com"),
        ("record.first", "Ann"),
        ("email.split('@')[1]", "example.com"),
        ("_lists | join(', ')", "News, VIP"),
        ("_lists | select | map('lower') | list", ["news", "vip"]),
        ("_lists | select | map('lower')", ["news", "vip"]),
        ("'VIP' in _lists", True),
        ("text_score | number > 80", True),
        ("text_score | int + 1", 86),
        ("flag | boolean", False),
        ("blank | boolean", False),
        ("blank | number > 80", False),
        ("blank | number | default(7)", 7),
        ("blank | date ~ 'x'", "x"),
        ("day | date", "2026-01-31"),
        ("result ~ range ~ class", "rr1first"),
        ("class", "first"),
        ("'yes' if score > 90", None),
        ("[first, last]", ["Ann", None]),
        ("none", None),
        ("true", True),
    ],
)
def test_expression(text, value):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("first ~ ' ' ~ last", "Ann "),
        ("last | default('Smith')", "Smith"),
        ("last or 'Smith'", "Smith"),
        ("last == none", True),
        ("last is none", True),
        ("last == ''", True),
        ("last != ''", False),
        ("last > 80", False),
        ("last < 80", False),
        ("80 >= last", False),
        ("last | int", 0),
        ("last | float > 1", False),
        ("last | number > 1", False),
        ("last | boolean", False),
        ("last | length", 0),
        ("last.first.name ~ 'x'", "x"),
        ("last.split('@')[1] ~ 'x'", "x"),
        ("_company.size > 10", False),
        ("_company.nobody.name ~ 'x'", "x"),
        ("_company.nobody is none", True),
        ("_lists[9] ~ 'x'", "x"),
        ("'x' if last else 'y'", "y"),
        ("last in ['', none]", True),
    ],
)
def test_empty_values_are_calm(text, value):
    """No "None" in anybody's name, no failure for a field that nobody has filled in."""
    assert evaluate(text) == value
    renamed = {key: value for key, value in RECORD.items() if key != "last"}
    assert evaluate(text, renamed) == value, "missing behaves as empty"


@pytest.mark.parametrize(
    "text",
    ["nobody", "nobody.name", "nobody | lower", "first if nobody else nobody", "nobody ~ ''"],
)
def test_an_empty_result_of_a_name_that_was_not_read_is_not_known(text):
    assert evaluate(text) is MISSING
    assert not is_true(evaluate(text))


def test_an_empty_result_is_known_when_every_name_was_read():
    assert evaluate("last | lower") == ""
    assert evaluate("last ~ ''") == ""


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("score", {"score"}),
        ("_company.name ~ first", {"_company", "first"}),
        ("record['E-mail Address'] or record.first", {"E-mail Address", "first"}),
        ("a if b else c | default(d)", {"a", "b", "c", "d"}),
        ("[x, {'k': y}]", {"x", "y"}),
        ("'text'", set()),
        ("_lists | join(separator)", {"_lists", "separator"}),
        ("range", {"range"}),
    ],
)
def test_the_names_in_use_are_known_before_a_run(text, names):
    reader = compile_expression(text)
    assert reader.names == names
    assert {name for alternatives in reader.needs for name in alternatives} == names


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("first ~", 8),
        ("first last", 7),
        ("first & last", 7),
        ("(first", 7),
        ("first ==", 9),
        ("   first last", 10),
        ("first =~ 'x'", 7),
        ("'open", 1),
        ("a\n~ &", 5),
        ("first }} last", 7),
        ("first if", 9),
    ],
)
def test_a_mistake_is_named_with_its_column(text, column):
    with pytest.raises(ExpressionError, match=f"at column {column}") as caught:
        compile_expression(text)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("first | lowwer", 'did you mean "lower"'),
        ("'x' if first else last | uper", 'did you mean "upper"'),
        ("first is defind", 'did you mean "defined"'),
        ("lower(first)", "value | lower"),
        ("range(3)", "no function"),
        ("first.__class__", "not allowed"),
        ("first['x'].__class__.__mro__", "not allowed"),
        ("record", "name of a field"),
        ("record | length", "name of a field"),
        ("record[first]", "name of a field"),
        ("first | random", "no filter"),
        ("first | attr('x')", "no filter"),
        ("", "empty"),
        ("   ", "empty"),
        ("(" * 2000 + "1" + ")" * 1999, "nested too deeply"),
        ("x" * 4001, "at most 4000"),
    ],
)
def test_what_would_fail_in_a_run_is_refused_at_load(text, words):
    with pytest.raises(ExpressionError, match=words.replace("|", r"\|")):
        compile_expression(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("text_score > 80", "text cannot be compared with a number: convert it first"),
        ("first + 1", "do not fit"),
        ("last + 1", "default"),
        ("1 / (score - 85)", "division by zero"),
        ("first | number", "a number such as"),
        ("first | date", "ISO 8601"),
        ("first | boolean", "true, false, yes, no"),
    ],
)
def test_a_failure_for_one_record_is_told_without_its_values(text, words):
    value, told = attempt(text)
    assert value is None
    assert words in told
    assert "Ann" not in told
    assert "85" not in told


@pytest.mark.parametrize(
    "text", ["_lists.append('x') ~ ''", "first.nothing() ~ ''", "_lists.clear() ~ ''"]
)
def test_nothing_changes_a_record(text):
    assert evaluate(text) == ""
    assert RECORD["_lists"] == ["News", None, "VIP"]


@pytest.mark.parametrize(
    "text",
    [
        "''['__cla' ~ 'ss__'] ~ ''",
        "first['__class__'] ~ ''",
        "'{0.__class__}'.format(first)",
        "['x'] | map(attribute='__class__') | join",
    ],
)
def test_the_sandbox_shows_nothing_of_python(text):
    value, told = attempt(text)
    assert "class" not in f"{value} {told}"


@pytest.mark.parametrize(
    "text",
    [
        "nobody",
        "nobody.x",
        "not nobody",
        "nobody or last",
        "last or nobody",
        "nobody == 1",
        "nobody != 1",
        "nobody is true",
        "nobody is none",
        "nobody is string",
        "nobody in ['yes']",
        "nobody | boolean",
        "nobody | lower",
        "nobody | length",
        "'yes' if nobody",
        "_company.nobody",
        "_company.nobody is true",
        "record['Opt Out']",
        "[nobody]",
    ],
)
def test_a_strict_expression_never_takes_what_was_not_read_for_an_answer(text):
    with pytest.raises(ExpressionError, match="not in the record, so it is not known"):
        evaluate(text, strict=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("last", None),
        ("not last", True),
        ("nobody | default(false)", False),
        ("nobody | default('')", ""),
        ("nobody is defined and nobody", False),
        ("first is defined and first", "Ann"),
        ("last | boolean", False),
        ("score is none", False),
        ("_company.size", None),
    ],
)
def test_a_strict_expression_takes_empty_values_and_defaults(text, value):
    assert evaluate(text, strict=True) == value


NAMES = ["first", "last", "score", "_company", "_lists", "nobody", "text_score"]
ATOMS = st.sampled_from(
    [*NAMES, "1", "'x'", "none", "true", "_company.name", "_company.size", "[]"]
)
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.tuples(
            inner, st.sampled_from(["~", "+", "*", "/", "==", "<", ">=", "and", "or", "in"]), inner
        ).map(lambda parts: "({} {} {})".format(*parts))
        | st.tuples(
            inner,
            st.sampled_from(["lower", "int", "number", "list", "length", "join", "first", "round"]),
        ).map(lambda parts: "({} | {})".format(*parts))
        | st.tuples(inner, inner, inner).map(lambda parts: "({} if {} else {})".format(*parts))
    ),
    max_leaves=5,
)


@given(text=EXPRESSIONS, strict=st.booleans())
def test_whatever_the_expression_it_gives_plain_values_or_our_own_error(text, strict):
    value, told = attempt(text, strict=strict)
    assert "Ann" not in told
    assert "Acme" not in told
    assert value is MISSING or isinstance(value, None | str | int | float | list | dict)
