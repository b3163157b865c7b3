"""Who looks on while a run works: the progress bar of a terminal, the watchdog of a service, nobody."""

from typing import Protocol


class Watch(Protocol):
    """Told of real progress, from the run's own thread."""

    def phase(self, sync: str, phase: str, total: int | None) -> None:
        """A phase begins: `read`, `list`, `check`, `upload`. total: how many steps it has, None where nobody knows."""

    def advance(self, steps: int, *, detail: str = "") -> None:
        """So many steps of the phase are done. detail: a few words, such as the budget that is left."""

    def done(self) -> None:
        """The last phase is over."""


class Nobody:
    """Looks away."""

    def phase(self, sync: str, phase: str, total: int | None) -> None:
        """Ignored."""

    def advance(self, steps: int, *, detail: str = "") -> None:
        """Ignored."""

    def done(self) -> None:
        """Ignored."""
