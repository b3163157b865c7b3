"""Mistakes in the configuration in its author's words: the place, what is expected, what was found,
the nearest name.

It turns what TOML and pydantic report into `Mistake`s, and all of them into one ConfigError. A
value that may be a secret is never repeated.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from syncd.core.nearest import suggestion
from syncd.errors import ConfigError

SHOWN_CHARS_MAX = 60  # of a value or a line that a message repeats

_SECRET_NAME = re.compile(
    r"api_?key|token|secret|passw|url|dsn|credential|auth|cookie|private", re.I
)
_SECRET_VALUE = re.compile(r"flz_sk_|://[^/\s]*@|[^\s.,;:/@]{32}")
_AT = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")
_BARE = re.compile(r"[A-Za-z0-9_-]+")

_EXPECTED: Final = {
    "bool_type": "true or false expected",
    "bool_parsing": "true or false expected",
    "dict_type": "a table expected",
    "float_type": "a number expected",
    "float_parsing": "a number expected",
    "int_from_float": "a whole number expected",
    "int_parsing": "a whole number expected",
    "int_type": "a whole number expected",
    "list_type": "a list expected",
    "model_type": "a table expected",
    "path_type": "a path expected",
    "string_type": "text expected",
    "tuple_type": "a list expected",
}
_BOUNDS: Final = {
    "greater_than": "a number above {gt} expected",
    "greater_than_equal": "a number of at least {ge} expected",
    "less_than": "a number below {lt} expected",
    "less_than_equal": "a number of at most {le} expected",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: its place in dots ("sync.customers.fields.phone"), and what is wrong there."""

    place: str
    text: str


def refuse(file: Path, mistakes: Iterable[Mistake], *, then: str = "syncd check") -> ConfigError:
    """One ConfigError that lists all mistakes, a line each. then: the command to run when they are corrected."""
    found = list(dict.fromkeys(mistakes))
    hint = f"Correct {file}, then run: {then}"
    if len(found) == 1:
        return ConfigError(found[0].text, place=found[0].place, hint=hint)
    lines = [f"  {mistake.place}: {mistake.text}" for mistake in found]
    return ConfigError("\n".join([f"{len(found)} mistakes in {file.name}:", *lines]), hint=hint)


def join(*parts: str | int) -> str:
    """The place that these keys and numbers lead to, as it would be written in TOML."""
    place = ""
    for part in parts:
        if isinstance(part, int):
            place += f"[{part}]"
        else:
            part = re.sub(r"flz_sk_\w+", "flz_sk_***", part)  # a key where a name should be
            key = part if _BARE.fullmatch(part) else f'"{part}"'
            place += f".{key}" if place else key
    return place


def broken_toml(file: Path, text: str, error: tomllib.TOMLDecodeError) -> ConfigError:
    """Where the file stops being TOML: line, column, and the line itself unless it may hold a
    secret.
    """
    lines = text.splitlines() or [""]
    message = str(error)
    at = _AT.search(message)
    line, column = (int(at[1]), int(at[2])) if at and at[1] else (len(lines), len(lines[-1]) + 1)
    message = message[: at.start()] if at else message
    written = lines[min(line, len(lines)) - 1].strip()[:SHOWN_CHARS_MAX]
    secret = _SECRET_NAME.search(written) or _SECRET_VALUE.search(written)
    shown = "" if secret or not written else f": {written}"
    return ConfigError(
        f"{file.name} is not valid TOML: line {line}, column {column}{shown}",
        why=message,
        hint=f"Correct {file}, line {line}; text stands in quotes, a table's name in [brackets]",
    )


def mistakes_of(
    error: ValidationError, model: type[BaseModel], table: object, *place: str | int
) -> list[Mistake]:
    """What pydantic found wrong with a table that stands at `place`: one mistake a place."""
    mistakes: dict[str, Mistake] = {}
    for detail in error.errors(include_url=False):
        where = join(*place, *_written(detail, table))
        mistakes.setdefault(where, Mistake(where, _text(detail, model)))
    return list(mistakes.values())


def found(place: str | int, value: object) -> str:
    """A value as a message may repeat it: cut, and not at all where it may be a secret."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if _SECRET_NAME.search(str(place)) or _SECRET_VALUE.search(str(value)):
        return "what is written there (not repeated, it may be a secret)"
    text = str(value)
    text = text if len(text) <= SHOWN_CHARS_MAX else text[:SHOWN_CHARS_MAX] + "..."
    return f'"{text}"' if isinstance(value, str) else text


def _written(detail: ErrorDetails, table: Any) -> Iterator[str | int]:
    """The part of pydantic's location that the file has; after it come models of its own making."""
    for number, part in enumerate(detail["loc"], start=1):
        there = part in table if isinstance(table, dict) else isinstance(table, list)
        if not there and not (detail["type"] == "missing" and number == len(detail["loc"])):
            return
        yield part
        table = table[part] if there else None


def _text(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, location, value = detail["type"], detail["loc"], detail.get("input")
    context = detail.get("ctx", {})
    key = location[-1] if location else ""
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return (
            f"there is no such key; {suggestion(str(key), _keys(_model_at(model, location[:-1])))}"
        )
    if kind == "literal_error":
        field = _model_at(model, location[:-1]).model_fields.get(str(key)) or _aliased(
            model, location
        )
        choices = [str(choice) for choice in _choices(field.annotation if field else None)]
        hint = suggestion(value, choices) if isinstance(value, str) else ""
        hint = f"; {hint}" if hint.startswith("did") else ""
        return f"one of {context.get('expected')} expected, not {found(key, value)}{hint}"
    if kind == "value_error" and "error" in context:
        text = str(context["error"])
        return f"{text}, not {found(key, value)}" if text.endswith("expected") else text
    expected = _EXPECTED.get(kind) or _BOUNDS.get(kind, "").format(**context)
    return f"{expected}, not {found(key, value)}" if expected else detail["msg"]


def _aliased(model: type[BaseModel], location: tuple[str | int, ...]) -> Any:
    fields = _model_at(model, location[:-1]).model_fields.values()
    return next((field for field in fields if field.alias == location[-1]), None)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel]:
    """The model of the table at a place; parts that are the user's own names lead into none."""
    for part in location:
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                model = next(_models(field.annotation), model)
                break
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _choices(annotation: Any) -> Iterable[Any]:
    for argument in get_args(annotation):
        if isinstance(argument, str):
            yield argument
        else:
            yield from _choices(argument)
