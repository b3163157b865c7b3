"""The events of the log, found in the source text: each constant of the form noun.past_participle that is given to the log.

What an event means is the comment beside its constant; its level and fields are those of the calls. An event that
is written where it is logged has no place for its meaning, and so is found to have none.
"""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from handbook.markdown import table

ROOT = Path(__file__).parents[1]
MORE = "and more"  # `**numbers`
LEVELS = ("debug", "info", "warning", "error", "critical", "exception")

_MAY = re.compile(
    r"structlog|^[A-Z_]+ = \"[a-z_]+\.[a-z_]+\"", re.MULTILINE
)  # to parse all takes seconds
_EVENT = re.compile(r"[a-z_]+\.[a-z_]+")
_COMMENT = re.compile(r"#(?! noqa)\s*(.+)|# noqa: \w+\s+#?\s*(.+)")


@dataclass(slots=True)
class Event:
    """One event. levels, fields: of all the places that log it."""

    name: str
    meaning: str
    levels: set[str] = field(default_factory=set)
    fields: list[str] = field(default_factory=list)


def events() -> list[Event]:
    """Every event that the product can log, by name."""
    sources = sorted(p for top in ("syncd", "connectors") for p in (ROOT / top).rglob("*.py"))
    return found_in([path.read_text("utf-8") for path in sources])


def found_in(sources: list[str]) -> list[Event]:
    """Every event that these source texts log, by name."""
    sources = [source for source in sources if _MAY.search(source)]
    trees = [ast.parse(source) for source in sources]
    constants: dict[str, Event] = {}
    for source, tree in zip(sources, trees, strict=True):
        constants |= dict(_constants(source, tree))
    logged: dict[str, Event] = {}
    for tree in trees:
        for name, call, levels in _calls(tree, constants.keys()):
            event = constants.get(name) or (Event(name, "") if _EVENT.fullmatch(name) else None)
            if event is None:
                continue
            event = logged.setdefault(event.name, event)
            event.levels |= levels
            given = [word.arg or MORE for word in call.keywords if word.arg != "exc_info"]
            event.fields += [one for one in given if one not in event.fields]
    return sorted(logged.values(), key=lambda event: event.name)


def _constants(source: str, tree: ast.Module) -> Iterator[tuple[str, Event]]:
    lines = source.splitlines()
    for node in tree.body:
        match node:
            case ast.Assign(
                targets=[ast.Name(id=name)], value=ast.Constant(value=str(text)) as value
            ) if _EVENT.fullmatch(text):
                comment = _COMMENT.search(lines[value.lineno - 1], value.end_col_offset or 0)
                yield name, Event(text, (comment[1] or comment[2]) if comment else "")


def _calls(tree: ast.Module, known: Collection[str]) -> Iterator[tuple[str, ast.Call, set[str]]]:
    """(name of the constant, or the event itself; the call; its levels) of each call that logs."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    for call in calls:
        name = _name(call.args[0])
        if _is_log(call.func):
            assert isinstance(call.func, ast.Attribute)
            yield name, call, {call.func.attr}
        elif name in known and (chosen := _chosen(tree, call)):
            yield name, call, chosen


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
            return name
    return ""


def _is_log(node: ast.expr) -> bool:
    """`log.info`, or `structlog.get_logger(...).debug`."""
    match node:
        case ast.Attribute(value=ast.Name(id="log"), attr=level):
            return level in LEVELS
        case ast.Attribute(value=ast.Call(func=ast.Attribute(attr="get_logger")), attr=level):
            return level in LEVELS
    return False


def _chosen(tree: ast.Module, call: ast.Call) -> set[str]:
    """The levels of `levels.get(...)(EVENT)`: all that its function names without calling them."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and any(n is call for n in ast.walk(function)):
            nodes = list(ast.walk(function))
            called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
            return {
                node.attr
                for node in nodes
                if isinstance(node, ast.Attribute) and _is_log(node) and id(node) not in called
            }
    return set()


def markdown() -> str:
    """A row an event."""
    return table(
        ("event", "level", "fields", "meaning"),
        [
            (
                f"`{event.name}`",
                ", ".join(level for level in LEVELS if level in event.levels),
                " ".join(name if name == MORE else f"`{name}`" for name in event.fields),
                event.meaning,
            )
            for event in events()
        ],
    )
