"""The exit codes: what `syncd sync --help` says of each, and the errors that end a command with it."""

import re
from collections.abc import Iterator

from handbook.commands import commands, paragraph
from handbook.markdown import table
from syncd.core.result import EXIT_CODES
from syncd.errors import SyncdError

_CODES = re.compile(r"Exit codes: (.+)\.$")
_CODE = re.compile(r"(\d+) (.+)")


def meanings(words: str = "syncd sync") -> dict[int, str]:
    """What this command's help says of its exit codes; nothing where it says nothing."""
    [command] = [one for one in commands() if one.words == words]
    for text in command.text:
        if match := _CODES.match(paragraph(text)):
            parts = [_CODE.fullmatch(part.strip()) for part in match[1].split(";")]
            return {int(part[1]): part[2] for part in parts if part}
    return {}


def errors() -> dict[int, list[type[SyncdError]]]:
    """The errors of each exit code, in the order of their tree."""
    found: dict[int, list[type[SyncdError]]] = {}
    for one in _tree(SyncdError):
        found.setdefault(one.exit_code, []).append(one)
    return found


def _tree(error: type[SyncdError]) -> Iterator[type[SyncdError]]:
    for one in error.__subclasses__():
        if one.__module__ == error.__module__:
            yield one
            yield from _tree(one)


def markdown() -> str:
    """The codes, then the errors behind them, then what single commands make of them."""
    status = {code: one.value for one, code in EXIT_CODES.items()}
    codes = table(
        ("exit code", "meaning", "status in `--json`"),
        [
            (f"{code}", text, f"`{status[code]}`" if code in status else "")
            for code, text in meanings().items()
        ],
    )
    behind = table(
        ("exit code", "error", "what happened"),
        [
            (f"{code}", f"`{one.__name__}`", paragraph((one.__doc__ or "").split("\n\n")[0]))
            for code, found in sorted(errors().items())
            for one in found
        ],
    )
    others = [
        f"* `{one.words}`: " + "; ".join(f"{code} {text}" for code, text in said.items())
        for one in commands()
        if one.words != "syncd sync" and (said := meanings(one.words))
    ]
    return "\n\n".join(
        [codes, "Commands that say more:", "\n".join(others), "## The errors behind them", behind]
    )
