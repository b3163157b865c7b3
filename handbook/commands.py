"""The commands, as `--help` tells them: walked once, for the site and for the man page."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from typer.main import get_command

from handbook.markdown import code, table
from syncd.cli.app import app

HELP = "--help"  # every command has it: said once


@dataclass(frozen=True, slots=True)
class Part:
    """An argument or an option. names: as it is typed, with what it takes."""

    names: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Command:
    """What one command says of itself. text: paragraphs; lines of one that begins with a break stay as they are."""

    words: str
    usage: str
    summary: str
    text: tuple[str, ...]
    arguments: tuple[Part, ...]
    options: tuple[Part, ...]
    example: str


@cache
def commands() -> tuple[Command, ...]:
    """Every command that does something itself, in the order of `--help`; the first one is `syncd` with its own options."""
    root = get_command(app)
    return (_command("syncd", root), *_below("syncd", root))


def _below(words: str, group: Any) -> Iterator[Command]:
    for name, command in group.commands.items():
        inner = hasattr(command, "commands")
        if not inner or command.invoke_without_command:
            yield _command(f"{words} {name}", command)
        if inner:
            yield from _below(f"{words} {name}", command)


def _command(words: str, command: Any) -> Command:
    context = command.make_context(words, [], resilient_parsing=True)
    parts: dict[str, list[Part]] = {"argument": [], "option": []}
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is None or HELP in record[0]:
            continue
        names = param.metavar if param.param_type_name == "argument" else record[0]
        parts[param.param_type_name].append(Part(names, record[1]))
    paragraphs = [part.strip() for part in (command.help or "").split("\n\n") if part.strip()]
    return Command(
        words,
        " ".join([words, *command.collect_usage_pieces(context)]),
        paragraphs[0],
        tuple(paragraphs[1:]),
        tuple(parts["argument"]),
        tuple(parts["option"]),
        (command.epilog or "").removeprefix("Example:").strip(),
    )


def paragraph(text: str) -> str:
    """As one line; the mark that keeps a terminal's lines apart is no character of the text."""
    return " ".join(text.replace("\b", " ").split())


def markdown() -> str:
    """A section a command."""
    return "\n\n".join("\n\n".join(_section(command)) for command in commands())


def _section(command: Command) -> Iterator[str]:
    yield f"## {command.words}"
    yield paragraph(command.summary)
    yield code(command.usage)
    yield from (paragraph(text) for text in command.text)
    for kind, parts in (("argument", command.arguments), ("option", command.options)):
        if parts:
            yield table((kind, "meaning"), [(f"`{part.names}`", part.meaning) for part in parts])
    if command.words == "syncd":
        yield command.example
    else:
        yield "For example:"
        yield code(command.example, "sh")
