"""Conversions: what a value becomes, what is refused, and that no message repeats a value."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.config_models import Convert
from syncd.core.transform import (
    KINDS,
    TransformError,
    Unusable,
    compile_transform,
    is_empty,
    to_plain,
)


def convert(kind, value, region=None):
    return compile_transform(kind, region)(value)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("text", "  Ann ", "Ann"),
        ("text", 3, "3"),
        ("text", 3.0, "3"),
        ("text", 2.5, "2.5"),
        ("text", Decimal("3.10"), "3.1"),
        ("text", Decimal("1E+3"), "1000"),
        ("text", True, "true"),
        ("text", date(2026, 1, 31), "2026-01-31"),
        ("text", time(9, 30), "09:30:00"),
        ("text", ["a", " b ", None, 3.0, ""], "a, b, 3"),
        ("text", "half\ud800", "half?"),
        ("text", "Zoë", "Zoë"),
        ("number", "42", 42),
        ("number", " -3.50 ", -3.5),
        ("number", "+1e3", 1000.0),
        ("number", "007", 7),
        ("number", 7, 7),
        ("number", 7.25, 7.25),
        ("number", Decimal("7.25"), 7.25),
        ("number", Decimal("7.00"), 7),
        ("date", "2026-01-31", "2026-01-31"),
        ("date", "2026-01-31T23:59:59Z", "2026-01-31"),
        ("date", "2026-01-31 23:59:59.123+02:00", "2026-01-31"),
        ("date", date(2026, 1, 31), "2026-01-31"),
        ("date", datetime(2026, 1, 31, 23, 59, tzinfo=UTC), "2026-01-31"),
        ("boolean", True, True),
        ("boolean", 1, True),
        ("boolean", 0.0, False),
        ("boolean", " YES ", True),
        ("boolean", "no", False),
        ("boolean", "False", False),
        ("boolean", "1", True),
        ("url", "example.com", "https://example.com"),
        ("url", "http://example.com/a?b=c", "http://example.com/a?b=c"),
        ("url", "//example.com", "https://example.com"),
        ("url", "example.com:8080/a", "https://example.com:8080/a"),
        ("lower", " ANN ", "ann"),
        ("upper", "ann", "ANN"),
        ("title", "jean-luc o'neil", "Jean-Luc O'neil"),
    ],
)
def test_conversion(kind, value, expected):
    result = convert(kind, value)
    assert (result, type(result)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", {"secret": "Ann"}),
        ("text", [{"secret": "Ann"}]),
        ("text", b"Ann"),
        ("text", float("inf")),
        ("text", Decimal("1E+999999")),
        ("number", "1,234"),
        ("number", "1 234,56"),
        ("number", "12 EUR"),
        ("number", "1_000"),
        ("number", "٣"),
        ("number", "nan"),
        ("number", "1e999"),
        ("number", float("nan")),
        ("number", float("-inf")),
        ("number", Decimal("sNaN")),
        ("number", "9" * 5000),
        ("number", 2**63),
        ("number", True),
        ("number", [1]),
        ("date", "31.01.2026"),
        ("date", "2026-02-30"),
        ("date", "soon"),
        ("date", 1767225600),
        ("boolean", "maybe"),
        ("boolean", "on"),
        ("boolean", 2),
        ("boolean", ["yes"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_and_not_repeated(kind, value):
    with pytest.raises(TransformError, match="expected") as caught:
        convert(kind, value)
    assert "Ann" not in str(caught.value)
    assert "1,234" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "region", "expected"),
    [
        ("06 12 34 56 78", "FR", "+33612345678"),
        ("+33 6 12 34 56 78", "US", "+33612345678"),
        ("0033612345678", "FR", "+33612345678"),
        ("(202) 555-0123", "US", "+12025550123"),
        ("+41440000001", None, "+41440000001"),
        ("06 12 34 56 78 ext. 5", "FR", "+33612345678"),
        (33612345678, "FR", "+33612345678"),
    ],
)
def test_phone_is_e164(written, region, expected):
    assert convert("phone", written, region) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("phone", "ask Ann"),
        ("phone", "12"),
        ("phone", "06 12 34 56 78"),  # national, and nobody said of which country
        ("url", "n/a"),
        ("url", "localhost"),
        ("url", "javascript:alert(1)"),
        ("url", "ftp://example.com"),
        ("url", "mailto:ann@example.com"),
        ("url", "http://example.com/a b"),
        ("url", "http://[broken"),
        ("url", "http://example.com:port"),
        ("url", "https://example.com/" + "a" * 3000),
    ],
)
def test_what_is_no_phone_and_no_url_is_unusable_not_an_error(kind, value):
    with pytest.raises(Unusable):
        convert(kind, value)


@pytest.mark.parametrize("value", [None, "", "  \t", [], (), float("nan"), Decimal("NaN")])
def test_empty(value):
    assert is_empty(value)


@pytest.mark.parametrize("value", [0, 0.0, False, "0", ["a"], {}, "-"])
def test_not_empty(value):
    assert not is_empty(value)


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3), (2.5, 2.5), (True, True), (" a ", "a"), (["a", 1], "a, 1")]
)
def test_without_as_numbers_and_booleans_stay_what_they_are(value, expected):
    result = to_plain(value)
    assert (result, type(result)) == (expected, type(expected))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(kind=st.sampled_from(KINDS), value=VALUES)
def test_whatever_the_value_the_result_can_be_sent_or_the_reason_is_ours(kind, value):
    try:
        result = convert(kind, value, "FR")
    except (TransformError, Unusable):
        return
    assert orjson.loads(orjson.dumps(result)) == result


def test_the_configuration_offers_every_conversion():
    assert get_args(Convert) == KINDS
