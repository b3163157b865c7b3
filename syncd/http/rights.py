"""What a login may not do: some of it may be done without, some is only worth a word in `check`."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from syncd.errors import SourceDenied

Found = TypeVar("Found")


def if_allowed(ask: Callable[[], Found], *, named: bool) -> Found | None:
    """What `ask` finds; None where this login may not, and nobody has asked for it by name. Raises SourceDenied where somebody has."""
    try:
        return ask()
    except SourceDenied:
        if named:
            raise
        return None


def lacking(probes: Iterable[tuple[str, str, Callable[[], object]]]) -> Iterator[str]:
    """What this login may not read, in words, of what a mapping may use. probes: (its name, the right that it takes, a try)."""
    for what, right, probe in probes:
        try:
            probe()
        except SourceDenied:
            yield f"not {what}: it takes {right}"
