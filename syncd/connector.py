"""The connector contract: what a connector yields, what it declares, what it is given.

A connector is a class found through the entry-point group `syncd.connectors`. It imports this module, `syncd.errors`,
`syncd.secret`, `syncd.http` and `syncd.files`, and nothing else of `syncd`. It yields events, in any order that its source
gives them, and either ends normally (the read is complete) or raises SourceError (the read is no read).
What it did not read it leaves out: a missing name is *not known*, which is not the same as empty.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from syncd.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class Record:
    """One row or object of the source.

    key: identifies it for ever within the source; never empty, but where the options have a `key` that is not set:
    there it is "" in every record, and the engine takes the mapped address as the key. fields: the source's own names
    at the top level; what the connector adds begins with an underscore (`_company`, `_owner`, `_lists`, `_tags`).
    place: where it stands, for error texts ("people.csv:12").
    """

    key: str
    fields: Mapping[str, Any]
    place: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Many records at once, for connectors whose records are rows of one table: nothing is made for each.

    names: of the columns. keys, rows: as many of each; a row has its values in the order of `names`. place: of the row at an index.
    """

    names: Sequence[str]
    keys: Sequence[str]
    rows: Sequence[Sequence[Any]]
    place: Callable[[int], str]

    def records(self) -> Iterator[Record]:
        """The same, one by one."""
        for index, (key, row) in enumerate(zip(self.keys, self.rows, strict=True)):
            yield Record(key, dict(zip(self.names, row, strict=True)), self.place(index))

    def __reduce__(self) -> tuple[object, ...]:
        """For pickle, which cannot keep what `place` is made of."""
        places = [self.place(index) for index in range(len(self.keys))]
        return (Table, (self.names, self.keys, self.rows, places.__getitem__))


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The source says that this record is gone."""

    key: str
    kind: Literal["deleted", "archived"] = "deleted"


@dataclass(frozen=True, slots=True)
class Merged:
    """The source says that `loser` was merged into `winner`: the loser is gone, and who had opted out as the loser has as the winner.

    The winner comes as a record of its own, in this read or an earlier one.
    """

    loser: str
    winner: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the next incremental read goes on, once this read is complete. The last one counts.

    Only when everything before it has been yielded, and never later than the beginning of the read: see `syncd.http.HighWater`.
    """

    cursor: str


@dataclass(frozen=True, slots=True)
class Resync:
    """The cursor is of no use any more: what this read yields is everything there is."""

    reason: str


Event = Record | Tombstone | Merged | Checkpoint | Resync


@dataclass(frozen=True, slots=True)
class Request:
    """One read. cursor: None for a full read. fields: top-level names in use; None asks for all of them."""

    cursor: str | None = None
    fields: frozenset[str] | None = None

    def chosen(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of a row's fields, those that are asked for."""
        if self.fields is None:
            return row
        return {name: value for name, value in row.items() if name in self.fields}


@dataclass(frozen=True, slots=True)
class SourceField:
    """One field that a source has, for `check` and `init`. example: shown to the user, may be empty.

    holds: FluenzR's name for what the source itself says that it holds (`email`, `phone`, `website`), whatever its own name.
    """

    name: str
    label: str = ""
    example: str = ""
    holds: str = ""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a connector can do; the engine and the conformance suite ask this, never the connector's name.

    incremental: it yields Checkpoint and accepts a cursor. tombstones, archivals, merges: an incremental read shows who was deleted,
    archived (a Tombstone too), merged. What it does not show is found by the next full read. token: `token()` tells an unchanged
    source without reading it. fields_known: `fields()` lists every name there is, so that another name in a mapping is a mistake.
    joins: names with an underscore that its records may carry. memberships: those of them that are lists of names, read whole each
    time. opt_outs: field names that usually hold an opt-out, for `init` and `check`. caps: limits of the vendor that shape a read,
    in words. sweep: how often a full read is needed beside incremental ones, in words, and for what. tables: it is `Tabular`.
    """

    incremental: bool = False
    tombstones: bool = False
    archivals: bool = False
    merges: bool = False
    token: bool = False
    fields_known: bool = False
    joins: frozenset[str] = frozenset()
    memberships: frozenset[str] = frozenset()
    opt_outs: tuple[str, ...] = ()
    caps: str = ""
    sweep: str = ""
    tables: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """The mapping of a source whose fields are known beforehand; it applies to a sync that has no `fields` of its own.

    fields: FluenzR's name -> a path, or a table as `[sync.NAME.fields]` may have. opted_out: an expression, may be empty.
    """

    fields: Mapping[str, str | Mapping[str, Any]]
    opted_out: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a connector is given besides its options.

    folder: that of the configuration; relative paths start there. clock: time, for everything that waits or asks for it.
    """

    folder: Path = field(default_factory=Path)
    clock: Clock = field(default_factory=SystemClock)


class Options(BaseModel):
    """The base of each connector's options: an unknown key is an error, and values are never changed afterwards.

    TOGETHER: options that are given as one, such as a login: who gives one of them elsewhere takes over none of the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    TOGETHER: ClassVar[frozenset[str]] = frozenset()


class Connector(Protocol):
    """One configured source. Construction is cheap and touches nothing outside.

    Whoever inherits this class leaves out what there is not: a preset, a token.
    """

    OPTIONS: ClassVar[type[Options]]
    ABILITIES: ClassVar[Abilities]
    SUMMARY: ClassVar[str]  # one line for `syncd connectors`

    def __init__(self, options: Any, context: Context) -> None:
        """options: an instance of OPTIONS."""

    def check(self) -> str:
        """Reach the source and say in a few words what was found ("people.csv, 5,020 rows"). Raises SourceError."""

    def fields(self) -> list[SourceField]:
        """The fields of the source, read cheaply (a header, a catalogue). Raises SourceError."""

    def preset(self) -> Preset | None:
        """The mapping for whoever has none yet; None where the fields are the user's own. Touches nothing outside."""
        return None

    def token(self) -> str | None:
        """A digest of what a read would yield, far cheaper than the read; None where there is none. Raises SourceError."""
        return None

    def read(self, request: Request) -> Iterator[Event]:
        """Yield the events of one read, lazily. Closing the generator early frees everything. Raises SourceError."""


class Tabular(Connector, Protocol):
    """A connector that can also give its records as tables: a full read costs half of what one record after the other does."""

    def tables(self, request: Request) -> Iterator[Table]:
        """The same records as those of `read`, in the same order, many at a time; it raises where `read` does."""
