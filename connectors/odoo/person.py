"""What the connector makes of Odoo's values: addresses in one text, plain values.

Everything here is a pure function. Source: connectors-seen, Odoo, points 7 and 9; connectors reference, section 6, "Fields".
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from syncd.http import parse_time

EMAIL_CHARS_MAX = 4_000  # of a field that holds addresses; a longer one is a note

_PLAIN = re.compile(r"[^\s<>\"(),;:|/\\@]+@[^\s<>\"(),;:|/\\@]+")
_BETWEEN = re.compile(r"[,;\r\n]+")
_WORDS = re.compile(r"[\s<>\"()|,;]+")
_QUOTED = re.compile(r'"[^"]*"')
_BRACKETS = re.compile(r"<([^<>]*)>")


def addresses(text: object) -> list[str]:
    """The addresses that a text offers, in its order, each once: "a@x.org, b@x.org", "Ann <a@x.org>"."""
    if not isinstance(text, str) or not text or len(text) > EMAIL_CHARS_MAX:
        return []
    if _PLAIN.fullmatch(text):
        return [text]
    found = []
    bare = _QUOTED.sub(" ", text) if "<" in text else text
    for part in _BETWEEN.split(bare):
        inside = _BRACKETS.search(
            part
        )  # what stands before the bracket is a name, whatever it looks like
        for word in _WORDS.split(inside[1] if inside else part):
            address = _bare(word)
            if "@" in address:
                found.append(address)
    return list({address.lower(): address for address in reversed(found)}.values())[::-1]


def mentioned(text: object) -> list[str] | None:
    """Everything in a text that looks like an address, in lower case: what an opt-out may mean. None: too long to tell."""
    if not isinstance(text, str) or not text:
        return []
    if _PLAIN.fullmatch(text):
        return [text.lower()]
    if len(text) > EMAIL_CHARS_MAX:
        return None
    return [_bare(word).lower() for word in re.split(r"[\s<>\"()|,;/]+", text) if "@" in word]


def _bare(word: str) -> str:
    """Without what people leave around an address."""
    word = word.strip("'.[]{}\u200b\u200e\u200f\u202a\u202b\u202c\ufeff")
    return word[7:] if word[:7].lower() == "mailto:" else word


def _plain(value: Any) -> Any:
    return None if value is False else value


def _linked(value: Any) -> Any:
    """[3, "Example SA"] -> {"id": 3, "name": "Example SA"}."""
    if isinstance(value, list) and len(value) == 2:
        return {"id": value[0], "name": value[1] or None}
    return _plain(value)


def _moment(value: Any) -> Any:
    return parse_time(value) if value else None


def converter(kind: Mapping[str, Any]) -> Callable[[Any], Any] | None:
    """What makes a plain value of a field of this type; None where the value is one. `false` is Odoo's empty value for every type."""
    match kind.get("type"):
        case "boolean":
            return None
        case "many2one":
            return _linked
        case "datetime":
            return _moment
    return _plain
