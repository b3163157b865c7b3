"""What a shell may complete beside commands and options: the names of syncs and of connectors.

Nothing here fails or is slow, for somebody is waiting with a key pressed: the names of syncs are those that stand in
the file, whether or not it is right, and no connector is imported for its name.
"""

import tomllib
from pathlib import Path

import typer

from syncd import registry
from syncd.config_place import CONFIG_BYTES_MAX, find
from syncd.errors import SyncdError


def syncs(context: typer.Context, incomplete: str) -> list[str]:
    """The syncs of the configuration that begin so and are not named yet."""
    named = context.find_root().params.get("config")
    before = context.params.get("names") or ()
    found = _syncs(named if isinstance(named, Path) else None)
    return [name for name in found if name.startswith(incomplete) and name not in before]


def connectors(incomplete: str) -> list[str]:
    """The installed connectors that begin so."""
    return [name for name in registry.names() if name.startswith(incomplete)]


def _syncs(path: Path | None) -> list[str]:
    try:
        file = find(path)
        if file.stat().st_size > CONFIG_BYTES_MAX:
            return []
        table = tomllib.loads(file.read_text("utf-8-sig")).get("sync")
    except (SyncdError, OSError, ValueError, RecursionError):  # `check` says what is wrong there
        return []
    return list(table) if isinstance(table, dict) else []
