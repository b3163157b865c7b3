"""The connectors and writers that are part of the product: what each can do, and its options."""

from collections.abc import Iterator

from pydantic import BaseModel

from handbook.configuration import key_table
from handbook.markdown import table
from syncd import registry
from syncd.report.checks import abilities
from syncd.report.keys import about, inner, keys


def markdown() -> str:
    """A section a connector."""
    return "\n\n".join("\n\n".join(_connector(name)) for name in registry.names())


def writers() -> str:
    """A section a writer."""
    return "\n\n".join("\n\n".join(_writer(name)) for name in registry.writers())


def summaries() -> str:
    """Each connector in a line."""
    rows = [(f"[`{name}`](#{name})", registry.load(name).SUMMARY) for name in registry.names()]
    return table(("connector", "reads"), rows)


def _connector(name: str) -> Iterator[str]:
    kind = registry.load(name)
    yield f"## {name}"
    yield f"{kind.SUMMARY}. It"
    yield "\n".join(f"* {words}" for words in abilities(kind.ABILITIES))
    yield from _options(kind.OPTIONS)


def _writer(name: str) -> Iterator[str]:
    kind = registry.load_writer(name)
    yield f"## {name}"
    yield f"{kind.SUMMARY}."
    yield from _options(kind.OPTIONS)


def _options(model: type[BaseModel]) -> Iterator[str]:
    if words := about(model):
        yield words
    yield key_table(keys(model), "option")
    for name, further in inner(model):
        if f"{name} = " not in words:
            yield f"The table `{name}`:"
            yield key_table(keys(further))
