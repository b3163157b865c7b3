"""Where the configuration stands: the file that is named, else the first of the usual places that has one.

It reads nothing of it, and imports little: a shell that completes a word waits for it.
"""

import os
from pathlib import Path
from typing import Final

from syncd.errors import ConfigError

CONFIG_BYTES_MAX = 1024 * 1024  # a hundred syncs take a tenth of it: larger is another file
PLACES: Final = (
    "config.toml",
    "~/.config/fluenzr-syncd/config.toml",
    "/etc/fluenzr-syncd/config.toml",
)


def find(path: Path | None) -> Path:
    """The file that holds the configuration, absolute. Raises ConfigError when there is none."""
    named = path or (Path(os.environ["SYNCD_CONFIG"]) if os.environ.get("SYNCD_CONFIG") else None)
    if named is not None:
        if not _is_file(named):
            origin = "" if path else ", as $SYNCD_CONFIG says"
            if _is_folder(named):
                raise ConfigError(
                    f"{named} is a folder{origin}", hint=f"Name the file: {named / 'config.toml'}"
                )
            raise ConfigError(
                f"There is no configuration file {named}{origin}",
                hint="Correct the path, or write a new configuration: syncd init",
            )
        return named.absolute()
    for place in PLACES:
        try:
            candidate = Path(place).expanduser()
        except RuntimeError:  # a container's user without a home folder
            continue
        if _is_file(candidate):
            return candidate.absolute()
    raise ConfigError(
        "There is no configuration",
        why=f"Looked for $SYNCD_CONFIG, ./{', '.join(PLACES)}",
        hint="Write one: syncd init, or name it: syncd --config FILE",
    )


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no permission, a name too long: the read that follows says so
        return True
