"""What `syncd notify` says: who was told what, and whom it did not reach."""

from collections.abc import Iterable

from syncd.alerts import Delivery
from syncd.report.text import clean, say, talk


def delivered(found: Iterable[Delivery]) -> None:
    """A line for each address."""
    told = list(found)
    for one in told:
        if one.error:
            talk(f"{one.place} was not told: {clean(one.error)}")
        else:
            say(f"{one.place} was told: {clean(one.title)}")
    if not told:
        say("Nothing has changed since everybody was told last.")
