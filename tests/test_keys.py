"""What `syncd connectors NAME` and the reference say of a key: from the model that checks it, and nothing left out."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field
from shell import Shell, shell_fixture  # noqa: F401 - a fixture

from syncd import config_models, registry
from syncd.connector import Options
from syncd.report.keys import NEEDED, NONE, Key, about, inner, keys


class Login(Options):
    """How to log in."""

    token: str
    """Of the user,
    not of the account.
    """
    region: Literal["eu", "us"] = "eu"
    """Where the account is."""


class Shop(Login):
    region: Literal["eu", "us"] = "us"
    """Where the shop is."""
    every_s: Annotated[float, "duration"] = Field(default=90.0, alias="every")
    """How often."""
    wait: timedelta = timedelta(days=2)
    path: str | None = None
    "No docstring of three quotes, and said all the same."
    logins: tuple[Login, ...] = ()
    told: int = Field(default=3, description="By pydantic's own word.")


def test_a_key_is_told_as_it_is_written() -> None:
    assert keys(Shop) == [
        Key("token", "text", NEEDED, "Of the user, not of the account."),
        Key("region", '"eu" | "us"', "us", "Where the shop is."),
        Key("every", "duration", "90 seconds", "How often."),
        Key("wait", "duration", "2 days", ""),
        Key("path", "text", NONE, "No docstring of three quotes, and said all the same."),
        Key("logins", "list of tables", NONE, ""),
        Key("told", "whole number", "3", "By pydantic's own word."),
    ]
    assert list(inner(Shop)) == [("logins", Login)]
    assert (about(Login), about(Shop)) == ("How to log in.", "")


def tables() -> Iterator[type[BaseModel]]:
    """All tables that the configuration can have."""
    for found in vars(config_models).values():
        if isinstance(found, type) and issubclass(found, config_models.Table):
            yield found
    yield from (registry.load(name).OPTIONS for name in registry.names())
    yield from (registry.load_writer(name).OPTIONS for name in registry.writers())


@pytest.mark.parametrize("table", list(tables()), ids=lambda table: table.__name__)
def test_every_key_has_a_meaning(table: type[BaseModel]) -> None:
    """A docstring below its field: "what it is for" is known to whoever adds it, and to nobody later."""
    silent = [key.name for key in keys(table) if not key.meaning]
    silent += [
        f"{outer}.{key.name}" for outer, m in inner(table) for key in keys(m) if not key.meaning
    ]
    assert silent == []


@pytest.mark.parametrize("table", list(tables()), ids=lambda table: table.__name__)
def test_no_type_is_told_in_the_words_of_python(table: type[BaseModel]) -> None:
    for key in keys(table):
        assert not any(mark in key.kind for mark in ("[", "typing", "Annotated", "<")), key


def test_a_connector_tells_its_options(shell: Shell) -> None:
    said = shell.inside("connectors", "csv")
    assert "path: text, needed\n        A file or a pattern" in said.out
    assert "delimiter: text, default auto\n        One character, `tab`, or `auto`." in said.out
    assert "key: text\n        What identifies a record for ever" in said.out
