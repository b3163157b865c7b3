"""The conversions of a mapping: `as` = text number date boolean phone url lower upper title.

A value that cannot be converted is never sent half-converted: TransformError blocks its record. A
telephone number or web address that is no such thing is Unusable instead: it counts as empty, for
it is no reason to lose a contact. No message holds a value of the record.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

import phonenumbers
from jinja2.filters import do_title

Scalar = str | int | float | bool | None

KINDS: Final = ("text", "number", "date", "boolean", "phone", "url", "lower", "upper", "title")
NUMBER_MAX = 10**99
INTEGER_MAX = 2**63 - 1  # what JSON libraries carry without loss
URL_CHARS_MAX = 2048  # what browsers and CRMs accept
TRUE_WORDS: Final = frozenset({"true", "yes", "1"})
FALSE_WORDS: Final = frozenset({"false", "no", "0"})

_NUMBER = re.compile(r"[+-]?[0-9]{1,99}(\.[0-9]{1,99})?([eE][+-]?[0-9]{1,3})?")
_URL = re.compile(r"[^\s<>\"\x00-\x1f]+")
# In "example.com:8080" stands a port, not a scheme.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?![0-9])")


class TransformError(ValueError):
    """A value that cannot be converted; the text says what was expected, never the value."""


class Unusable(ValueError):
    """A telephone number or web address that is none: no failure, the value counts as empty."""


def is_empty(value: object) -> bool:
    """Whether a value is no value: None, blank text, an empty list, or NaN.

    NaN is how tables of numbers write "no value"; the fingerprint cannot tell it from None either.
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list | tuple):
        return not value
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float) and math.isnan(value)


def compile_transform(kind: str, region: str | None = None) -> Callable[[Any], Scalar]:
    """The function for one of KINDS. region: the country whose national telephone numbers are
    understood ("FR").

    The function is given a value that is not empty; it raises TransformError or Unusable.
    """
    if kind == "phone":
        return lambda value: to_phone(value, region)
    return _TRANSFORMS[kind]


def to_text(value: Any) -> str:
    """Trimmed text; whole numbers without ".0", true and false, ISO dates, lists joined by ", "."""
    if isinstance(value, str):
        text = value.strip()
        return text if text.isascii() else _encodable(text)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        _check_bounds(value)
        if value == int(value):
            return str(int(value))
        return f"{value:f}".rstrip("0") if isinstance(value, Decimal) else repr(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return ", ".join(
            text for text in (to_text(item) for item in value if not is_empty(item)) if text
        )
    raise _expected("text", value)


def to_number(value: Any) -> float:
    """A whole or decimal number; text only in plain notation ("1234.5", "-3", "1e6").

    Whole numbers come back as int. "1,234" and "1 234,56" are refused: a comma means thousands to
    some and decimals to others.
    """
    if isinstance(value, str):
        text = value.strip()
        match = _NUMBER.fullmatch(text)
        if not match:
            raise TransformError("a number such as 1234.56 expected (no spaces, commas or units)")
        value = float(text) if match[1] or match[2] else int(text)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise _expected("a number", value)
    _check_bounds(value)
    if isinstance(value, float) or value != int(value):
        return float(value)
    if not -INTEGER_MAX <= int(value) <= INTEGER_MAX:
        raise TransformError("a number of at most 18 digits expected")
    return int(value)


def _check_bounds(value: float | Decimal) -> None:
    """Refuse what is infinite, no number, or so large that its digits alone cost time."""
    if isinstance(value, Decimal) and not value.is_finite():
        raise TransformError("a finite number expected")
    if not -NUMBER_MAX < value < NUMBER_MAX:  # of float's NaN and infinity neither is true
        raise TransformError("a finite number of at most 99 digits expected")


def to_date(value: Any) -> str:
    """The date as YYYY-MM-DD, from ISO 8601 text or a date; of a date with time, the date as it is
    written there.
    """
    if isinstance(value, date):
        return value.isoformat()[:10]
    if not isinstance(value, str):
        raise _expected("an ISO 8601 date such as 2026-01-31", value)
    try:
        return datetime.fromisoformat(value.strip()).date().isoformat()
    except ValueError:
        raise TransformError("an ISO 8601 date such as 2026-01-31 expected") from None


def to_boolean(value: Any) -> bool:
    """True or false, from booleans, 1 and 0, and the words true false yes no 1 0 in any letter
    case.
    """
    if isinstance(value, bool):
        return value
    word = to_text(value).lower() if isinstance(value, str | int | float | Decimal) else ""
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise TransformError("true, false, yes, no, 1 or 0 expected")


def to_phone(value: Any, region: str | None) -> str:
    """The telephone number in E.164 form ("+33123456789"), without its extension.

    A number counts when its length is possible in its country; which ranges are in use changes too
    often to judge.
    """
    text = to_text(value)
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise Unusable("a telephone number expected") from None
    if not phonenumbers.is_possible_number(number):
        raise Unusable("a telephone number expected")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def to_url(value: Any) -> str:
    """The web address, with https:// where it has no scheme; only http and https, and a host with a
    dot.
    """
    text = to_text(value)
    if not _SCHEME.match(text):
        text = "https://" + text.removeprefix("//")
    try:
        parts = urlsplit(text)
        host, _port = parts.hostname or "", parts.port
    except ValueError:
        raise Unusable("a web address expected") from None
    usable = parts.scheme in {"http", "https"} and "." in host.strip(".")
    if not usable or not _URL.fullmatch(text) or len(text) > URL_CHARS_MAX:
        raise Unusable("a web address expected")
    return text


def to_plain(value: Any) -> Scalar:
    """A value without `as`: numbers and booleans stay what they are, everything else is text."""
    if isinstance(value, bool):
        return value
    return to_number(value) if isinstance(value, int | float | Decimal) else to_text(value)


def _encodable(text: str) -> str:
    """Half of a surrogate pair, as broken exports have it, could not be sent at all: it becomes
    "?".
    """
    return text.encode("utf-8", "replace").decode()


def _expected(what: str, value: object) -> TransformError:
    return TransformError(f"{what} expected, {kind_of(value)} found")


def kind_of(value: object) -> str:
    """What kind of value this is, in a reader's words, never the value itself."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    for types, words in _WORDS:
        if isinstance(value, types):
            return words
    return "a value of another kind"


_WORDS: Final[tuple[tuple[type | tuple[type, ...], str], ...]] = (
    (str, "text"),
    ((int, float, Decimal), "a number"),
    ((date, time), "a date or time"),
    ((list, tuple), "a list"),
    (Mapping, "an object with fields of its own"),
)

_TRANSFORMS: Final[dict[str, Callable[[Any], Scalar]]] = {
    "text": to_text,
    "number": to_number,
    "date": to_date,
    "boolean": to_boolean,
    "url": to_url,
    "lower": lambda value: to_text(value).lower(),
    "upper": lambda value: to_text(value).upper(),
    "title": lambda value: do_title(to_text(value)),
}
