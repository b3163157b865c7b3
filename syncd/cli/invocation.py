"""What every command is given: the options before its name, the clock, and the configuration when it asks.

Reading the configuration also tells the log which secrets must never be shown.
"""

import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncd.clock import SystemClock
from syncd.errors import ConfigError

if TYPE_CHECKING:
    from syncd.config import Settings


@dataclass(slots=True)
class Invocation:
    """One call of the command. path: of the configuration, None for the usual places."""

    path: Path | None = None
    debug: bool = False
    clock: SystemClock = field(default_factory=SystemClock)

    def settings(self, *, service: bool = False) -> "Settings":
        """The configuration. service: the log says what goes on. Raises ConfigError."""
        from syncd import config

        settings = config.load(self.path)
        self.log(service=service, secrets=_secrets(settings))
        return settings

    def log(self, *, service: bool = False, secrets: tuple[str, ...] = ()) -> None:
        """Set the log up: on a terminal only what is wrong, for the progress bar tells the rest."""
        from syncd import log

        level = logging.INFO if service or not sys.stderr.isatty() else logging.WARNING
        log.configure(level=logging.DEBUG if self.debug else level, secrets=secrets)


def _secrets(settings: "Settings") -> tuple[str, ...]:
    """The values of all secrets that can be read now; one that cannot is reported when it is used."""
    values: list[str] = []
    tables = [
        settings.fluenzr,
        settings.webhooks,
        settings.http,
        settings.alerts,
        *(s.validated for s in settings.sources.values()),
    ]
    for secret in _references(tables):
        try:
            values += {secret.reveal(), *secret.reveal().splitlines()}
        except ConfigError:
            continue
    return tuple(values)


def _references(value: Any) -> Iterator[Any]:
    """Every Secret in models, dicts and lists."""
    from pydantic import BaseModel

    from syncd.secret import Secret

    if isinstance(value, Secret):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _references(getattr(value, name))
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _references(inner)
