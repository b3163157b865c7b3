"""The connectors and writers that are installed, ours and everybody's, found by their entry-point groups.

A third party's package declares a name and a class under that group; it is installed beside the
product and needs nothing else. Only the connector that is asked for is imported, so that a broken
or heavy one never harms a run that does not use it.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from importlib.metadata import Distribution, EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, cast

from syncd.errors import ConfigError

if TYPE_CHECKING:  # a shell that completes a connector's name waits for this module
    from syncd.connector import Connector
    from syncd.writer import Writer

GROUP = "syncd.connectors"
CONTRACT = ("OPTIONS", "ABILITIES", "SUMMARY", "check", "fields", "preset", "token", "read")
WRITERS = "syncd.writers"
WRITER_CONTRACT = ("OPTIONS", "SUMMARY", "BATCH_MAX", "check", "write")

_EXTRA = re.compile(r"([\w.-]+).*;.*\bextra\s*==\s*['\"]([\w.-]+)['\"]")


def names() -> list[str]:
    """The names of all connectors, sorted; none of them is imported."""
    return _names(GROUP)


def writers() -> list[str]:
    """The names of all writers, sorted; none of them is imported."""
    return _names(WRITERS)


def load(name: str) -> "type[Connector]":
    """The class of the connector called `name`; unknown or unusable, ConfigError."""
    return cast("type[Connector]", _load(GROUP, name, "connector", CONTRACT))


def load_writer(name: str) -> "type[Writer]":
    """The class of the writer called `name`; unknown or unusable, ConfigError."""
    return cast("type[Writer]", _load(WRITERS, name, "writer", WRITER_CONTRACT))


def _names(group: str) -> list[str]:
    return sorted({point.name for point in _installed(group)})


def _installed(group: str) -> EntryPoints:
    return _read(group, tuple(_places()))


def _places() -> Iterator[tuple[str, int]]:
    """Where packages are installed, and when something was last installed there."""
    for place in map(Path, sys.path):
        with suppress(OSError):  # it does not exist
            yield str(place), place.stat().st_mtime_ns


@lru_cache
def _read(group: str, _places: tuple[tuple[str, int], ...]) -> EntryPoints:
    """It reads a file of each package, 10 ms; a configuration asks for each of its sources."""
    return entry_points(group=group)


def _load(group: str, name: str, what: str, contract: tuple[str, ...]) -> type:
    point = _only(group, name, what)
    try:
        loaded = point.load()
    except Exception as error:  # whatever a third party's module raises
        raise ConfigError(
            f"The {what} {name!r} of the package {_package(point)} cannot be loaded",
            why=f"{type(error).__name__}: {error}",
            hint=_remedy(point, error),
        ) from error
    lacking = [part for part in contract if not hasattr(loaded, part)]
    if not isinstance(loaded, type) or lacking:
        raise ConfigError(
            f"{point.value} of the package {_package(point)} is not a {what}",
            why=f"It has no {', '.join(lacking)}" if lacking else "It is not a class",
            hint="Tell the package's author, or install another version",
        )
    return loaded


def _only(group: str, name: str, what: str) -> EntryPoint:
    """The one entry point called `name`; the same one twice (two paths to one package) is one."""
    found = {(point.value, _package(point)): point for point in _installed(group).select(name=name)}
    if not found:
        near = get_close_matches(name, _names(group), n=1, cutoff=0.5)
        raise ConfigError(
            f"There is no {what} {name!r}",
            why=f"Installed are {', '.join(_names(group)) or 'none'}",
            hint=f"Did you mean {near[0]!r}?" if near else "Install the package that has it",
        )
    if len(found) > 1:
        packages = sorted(package for _, package in found)
        raise ConfigError(
            f"There are several {what}s {name!r}",
            why=f"They come from {' and '.join(packages)}",
            hint="Uninstall all but one of these packages",
        )
    return next(iter(found.values()))


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "(unknown)"


def _remedy(point: EntryPoint, error: Exception) -> str:
    """What to install, when a module is missing that an extra of the package would bring along."""
    if isinstance(error, ModuleNotFoundError) and error.name and point.dist:
        extra = _extra(point.dist, error.name.partition(".")[0])
        if extra:
            return f"Run: pip install '{point.dist.name}[{extra}]'"
        return f"Run: pip install --force-reinstall '{point.dist.name}'"
    return f"Update or reinstall the package {_package(point)}"


def _extra(package: Distribution, module: str) -> str | None:
    for requirement in package.requires or ():
        match = _EXTRA.match(requirement)
        if match and _same(match[1], module):
            return match[2]
    return None


def _same(package: str, module: str) -> bool:
    return re.sub(r"[-_.]+", "-", package).lower() == re.sub(r"[-_.]+", "-", module).lower()
