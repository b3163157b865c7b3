"""The tables of the configuration, and the guards, from the models that check them."""

import re
from collections.abc import Iterator

from pydantic import BaseModel

from handbook.markdown import table
from syncd import config_models
from syncd.core import guard
from syncd.report.keys import NEEDED, NONE, Key, about, keys

FLOORS = {  # below which a share never goes
    "max_removals": guard.REMOVALS_FLOOR,
    "max_creates": guard.CREATES_FLOOR,
    "max_field_changes": guard.FIELD_CHANGES_FLOOR,
    "max_bounce_rate": guard.BOUNCED_FLOOR,
}
_ABOUT = re.compile(r"(.+?)(?:[:;.] (.+))?", re.DOTALL)


def tables() -> list[type[BaseModel]]:
    """The models of all tables of the configuration, in the order of their module."""
    found = vars(config_models).values()
    return [one for one in found if isinstance(one, type) and _is_table(one)]


def _is_table(one: type) -> bool:
    return issubclass(one, config_models.Table) and one is not config_models.Table


def markdown() -> str:
    """A section a table."""
    return "\n\n".join("\n\n".join(_section(model)) for model in tables())


def _section(model: type[BaseModel]) -> Iterator[str]:
    match = _ABOUT.fullmatch(" ".join(about(model).split()).removesuffix("."))
    assert match, f"{model.__name__} does not say what it is"
    heading, words = match[1], match[2]
    yield f"## {heading}"
    if words:
        yield f"{words[0].upper()}{words[1:]}."
    yield key_table(keys(model))


def key_table(found: list[Key], first: str = "key") -> str:
    """Each key with its type, default and meaning."""
    return table(
        (first, "type", "default", "meaning"),
        [(f"`{key.name}`", key.kind, _default(key), key.meaning) for key in found],
    )


def _default(key: Key) -> str:
    return {NEEDED: "needed", NONE: ""}.get(key.default, f"`{key.default}`")


def guards() -> str:
    """Each limit with its default, and the number below which a share never goes."""
    return table(
        ("limit", "default", "a share is never below", "judges"),
        [
            (f"`{key.name}`", f"`{key.default}`", f"{FLOORS.get(key.name, '')}", key.meaning)
            for key in keys(config_models.GuardSettings)
        ],
    )
