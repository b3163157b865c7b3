"""The keys of one table of the configuration as its users read them, from the model that checks the table.

What a key means is the docstring below its field, where whoever changes the field sees it. It is read from the source
text, and only when somebody asks: pydantic can do the same, but does so at each start. A type that has no plain name says
it beside its validators: `Annotated[float, BeforeValidator(parse), "duration"]`.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from syncd.report.text import count

NEEDED = "(needed)"
NONE = "(none)"
NAMES = {
    "Any": "any value",
    "Path": "path",
    "Secret": "secret",
    "bool": "true or false",
    "float": "number",
    "int": "whole number",
    "str": "text",
    "timedelta": "duration",
}
UNITS_S = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True, slots=True)
class Key:
    """One key. default: as it would be written, or NEEDED or NONE. meaning: empty where nobody says."""

    name: str
    kind: str
    default: str
    meaning: str


def keys(model: type[BaseModel]) -> list[Key]:
    """Each key of the table that this model checks, in the model's order."""
    said = dict(_docstrings(model))
    return [
        Key(
            info.alias or name,
            kind := _named(info.metadata) or _kind(info.annotation),
            _default(info, kind),
            info.description or said.get(name, ""),
        )
        for name, info in model.model_fields.items()
    ]


def about(model: type[BaseModel]) -> str:
    """What the model's own docstring says of the table."""
    return inspect.cleandoc(model.__dict__.get("__doc__") or "")


def inner(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """(key, model) of each key whose value is a table with keys of its own, or holds such tables."""
    for name, info in model.model_fields.items():
        for found in _models(info.annotation):
            yield info.alias or name, found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _docstrings(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """(field, the text below it) of the model and what it inherits; what comes later counts."""
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        except (OSError, TypeError, SyntaxError):  # without its source text, nobody says
            continue
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    yield name, " ".join(text.split())


def _named(metadata: Any) -> str | None:
    return next((part for part in metadata if isinstance(part, str)), None)


def _kind(annotation: Any) -> str:
    """The type in the words of the configuration."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(f'"{part}"' for part in parts)
    if origin is Annotated:
        return _named(parts[1:]) or _kind(parts[0])
    if origin in {tuple, list, set, frozenset}:
        kind = _kind(parts[0])
        return f"list of {kind}s" if kind == "table" else f"list of {kind}"
    if origin in {dict, Mapping}:
        return "table"
    if origin in {Union, UnionType}:
        found = [_kind(part) for part in parts if part is not NoneType]
        return " or ".join(dict.fromkeys(found))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return " | ".join(f'"{one.value}"' for one in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return NAMES.get(name.removeprefix("typing."), name)


def _default(info: FieldInfo, kind: str) -> str:
    if info.is_required():
        return NEEDED
    value = info.get_default(call_default_factory=True)
    match value:
        case None | "" | () | [] | {}:
            return NONE
        case bool():
            return str(value).lower()
        case timedelta():
            return _duration(value.total_seconds())
        case int() | float() if kind == "duration":
            return _duration(value)
        case (str(host), int(port)):
            return f"{host}:{port}"
        case tuple() | list() | frozenset():
            return ", ".join(str(one) for one in value)
        case BaseModel():
            return str(next(iter(value.model_dump().values())))
    return str(value)


def _duration(seconds: float) -> str:
    """As it is written in the configuration: 2 minutes, 1 day."""
    if not seconds:
        return "0"
    size, name = next((size, name) for size, name in UNITS_S if seconds % size == 0)
    return count(round(seconds / size), name)
