"""The man page, from the same walk as the reference of the site: `python -m handbook.man` prints it."""

import sys
from collections.abc import Iterator

from handbook.commands import Command, Part, commands, paragraph
from handbook.exit_codes import meanings
from syncd import __version__
from syncd.config_place import PLACES


def page() -> str:
    """The whole page, as roff."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    first, *rest = commands()
    yield '.\\" Made by `make man` from what --help says: change it there.'
    yield f'.TH SYNCD 1 "" "fluenzr-syncd {__version__}" "User Commands"'
    yield from (
        ".SH NAME",
        "syncd \\- " + _text("keep FluenzR equal to a CRM, a file or a database"),
    )
    yield from (".SH SYNOPSIS", f".B {_text(first.words)}")
    yield _text(first.usage.removeprefix(first.words).strip())
    yield from (".SH DESCRIPTION", _text(first.summary), ".PP", _text(first.example))
    yield ".SH OPTIONS"
    yield "These stand before the command."
    yield from _parts(first.options)
    yield ".SH COMMANDS"
    for command in rest:
        yield from _command(command)
    yield ".SH EXIT STATUS"
    for code, meaning in meanings().items():
        yield from (".TP", f".B {code}", _text(meaning))
    yield ".SH ENVIRONMENT"
    yield from _parts((Part("SYNCD_CONFIG", "The configuration, where --config does not name one."),
                       Part("SYNCD_TABLE__KEY", "A key of the configuration, such as SYNCD_STATE__PATH: it wins over the file."),
                       Part("NO_COLOR", "Where it is set, nothing is coloured.")))  # fmt: skip
    yield from (".SH FILES", "The first of these is the configuration:")
    for place in PLACES:
        yield from (".TP", f".I {_text(place)}")
    yield from (".SH SEE ALSO", _text("syncd COMMAND --help; syncd connectors NAME"))


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_text(command.usage)}"
    yield _text(paragraph(command.summary))
    for text in command.text:
        yield from (".PP", _text(paragraph(text)))
    yield from _parts((*command.arguments, *command.options))
    yield from (".PP", "Example:", ".PP", ".nf", ".RS", _text(command.example), ".RE", ".fi")


def _parts(parts: tuple[Part, ...]) -> Iterator[str]:
    for part in parts:
        yield from (".TP", f".B {_text(part.names)}", _text(paragraph(part.meaning)) or "\\&")


def _text(text: str) -> str:
    """As it stands: nothing of it is an instruction to roff, and a hyphen can be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    sys.stdout.write(page())
