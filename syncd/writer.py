"""The contract of what writes back: opt-outs, bounces and replies, from FluenzR into a source.

A writer is a class of its own, found through the entry-point group `syncd.writers`: a connector only ever reads, and so does its
login, unless somebody has configured `[sync.NAME.write_back]`. A writer is told each thing at least once, so writing the same
again must change nothing. It imports what a connector may.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Protocol, Self

from pydantic import BeforeValidator, Field

from syncd.connector import Context, Options


class Heard(StrEnum):
    """What FluenzR has heard of a person."""

    OPTED_OUT = "opted_out"  # unsubscribed, or blocked by hand
    BOUNCED = "bounced"
    REPLIED = "replied"


@dataclass(frozen=True, slots=True)
class News:
    """One thing to be written. key: of the source's record. email: FluenzR's address. at: UTC, when we write it."""

    key: str
    email: str
    heard: Heard
    at: datetime

    @property
    def record(self) -> str:
        """The key of the record: a person's further address has that key and a mark after it, and no record of its own."""
        return self.key.partition("#")[0]


@dataclass(frozen=True, slots=True)
class Unwritten:
    """The source does not take this one. why: in its own words."""

    key: str
    why: str


class Place(Options):
    """One field of a record, and what it is set to. value: None stands for "yes", as the source writes it."""

    field: Annotated[str, Field(min_length=1)]
    """The field's name."""
    value: str | bool | None = None
    """What it is set to; without it, the source's own "yes"."""


def _place(given: object) -> object:
    return {"field": given} if isinstance(given, str) else given


ToField = Annotated[Place, BeforeValidator(_place), "text or table"]
"""A field's name, or a table with `field` and `value`."""


class FieldOptions(Options):
    """Options of a writer that sets fields of its records: for each thing that is heard, where it goes. Without a place it is not told."""

    opted_out: ToField | None = None
    """The field that says that a person has opted out."""
    bounced: ToField | None = None
    """The field that says that the address has bounced."""
    replied: ToField | None = None
    """The field that says that a person has replied."""

    def places(self) -> dict[Heard, Place]:
        """What is told, and where it goes."""
        found = {heard: getattr(self, heard.value) for heard in Heard}
        return {heard: place for heard, place in found.items() if place is not None}

    def place(self, one: News) -> Place | None:
        """Where this goes. Who opts out or replies by a further address does so as a person; its bounce says nothing of the others."""
        is_others = one.heard is Heard.BOUNCED and one.record != one.key
        return None if is_others else self.places().get(one.heard)

    def only(self, heard: Collection[Heard]) -> Self:
        """The same options, for telling nothing else."""
        return self.model_copy(update={one.value: None for one in Heard if one not in heard})


class Writer(Protocol):
    """One source that is written to. Construction is cheap and touches nothing outside.

    BATCH_MAX: so much news at a time. An option that the source's connector has too is taken from there unless it is given.
    """

    OPTIONS: ClassVar[type[Options]]
    SUMMARY: ClassVar[str]
    BATCH_MAX: ClassVar[int]

    def __init__(self, options: Any, context: Context) -> None:
        """options: an instance of OPTIONS."""

    def check(self) -> str:
        """Say in a few words where is written to. Raises SourceError when that cannot work; writes nothing."""

    def write(self, news: Sequence[News]) -> Iterator[Unwritten]:
        """Write all of it; yields what was refused. Raises SourceError: then none of it counts, and all of it comes again."""
