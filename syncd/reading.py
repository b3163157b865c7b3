"""One source, read beside the state into the scratch tables: what is new, changed, unchanged or gone.

Nothing here changes the state: a read counts only once it is promoted. A read that does not complete raises SourceError.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import structlog

from syncd.config import SyncSettings
from syncd.connector import (
    Checkpoint,
    Connector,
    Event,
    Merged,
    Record,
    Request,
    Resync,
    Table,
    Tabular,
    Tombstone,
)
from syncd.core.mapping import Mapping
from syncd.core.nearest import suggestion
from syncd.errors import ConfigError, SourceError, SyncdError
from syncd.state.reads import (
    GONE,
    DuplicateKey,
    Read,
    SyncRow,
    Walk,
    count_staged,
    prepare_stage,
    tally_all_same,
)
from syncd.state.store import State
from syncd.watch import Watch

log = structlog.get_logger(__name__)

PROGRESS_ROWS = 1000  # records between two steps of the progress bar
SOURCE_BROKEN = "source.broken"  # a connector raised what it should not; the traceback
PLACES_MAX = 5  # of records that cannot even be named by a key
ALWAYS_KNOWN = frozenset({"record", "_id"})  # names that every record has


@dataclass(slots=True)
class Feed:
    """One sync's side of a read: its settings, its source, its compiled mapping. names_known: they were compared with the source's."""

    settings: SyncSettings
    connector: Connector
    mapping: Mapping
    version: str  # of the mapping and of the source's options: another one forces a full read
    names_known: bool = False

    @property
    def name(self) -> str:
        """The sync's name."""
        return self.settings.name


@contextlib.contextmanager
def asking(source: str) -> Iterator[None]:
    """Around every call of a connector: what it raises beside our own errors is its mistake, and fails its source alone."""
    try:
        yield
    except SyncdError:
        raise
    except Exception as error:
        log.debug(SOURCE_BROKEN, source=source, exc_info=True)
        raise SourceError(
            f"The source {source!r} could not be read: {type(error).__name__} in its connector",
            why="This is a mistake in the connector, or an answer that it does not expect",
            hint="Run it again with `syncd --debug`, which shows the place, and tell the connector's author",
        ) from error


def unknown_names(feed: Feed) -> Iterator[tuple[str, str]]:
    """(place, what is wrong) of each use of a name that the source lacks, where the source can tell. Raises SourceError."""
    abilities = feed.connector.ABILITIES
    if not abilities.fields_known:
        return
    with asking(feed.settings.source):
        fields = {field.name for field in feed.connector.fields()} | abilities.joins
    known = fields | ALWAYS_KNOWN
    for use in feed.mapping.uses:
        if use.names and not known.intersection(use.names):
            hint = suggestion(use.names[0], fields)
            yield (
                f"sync.{feed.name}.{use.place}",
                f'the source "{feed.settings.source}" has no field "{use.names[0]}"; {hint}',
            )


def check_names(feed: Feed) -> None:
    """Every name that the mapping uses exists in the source, where the source can tell. Raises ConfigError, SourceError."""
    if feed.names_known:
        return
    lines = [f"{place}: {text}" for place, text in unknown_names(feed)]
    feed.names_known = not lines
    if lines:
        raise ConfigError(
            "\n".join(lines), hint="Correct the names, or the source; then run: syncd check"
        )


def read(state: State, sync: SyncRow, feed: Feed, *, full: bool, now_s: int, watch: Watch) -> Read:
    """Read one source into the scratch tables. Raises SourceError, ConfigError: then nothing of it counts."""
    prepare_stage(state)  # first of all: whatever fails, nothing of an earlier read stands there
    same_version = sync.version == feed.version
    with asking(feed.settings.source):
        token = feed.connector.token() if feed.connector.ABILITIES.token else None
    if token is not None and token == sync.token and same_version and not full:
        return tally_all_same(state, sync)
    with contextlib.suppress(SourceError):  # the read itself says it, after what it can still give
        check_names(feed)
    age_s = -1 if sync.full_at is None else now_s - sync.full_at
    due_full = not 0 <= age_s < feed.settings.full_every_s  # below 0: our clock was ahead then
    cursor = None if full or due_full or not same_version else sync.cursor
    watch.phase(feed.name, "read", sync.read_count)
    broken: SourceError | None = None
    with state.tx(scratch_only=True):
        reading = _Reading(state, sync, feed, watch)
        try:
            found = reading.take(cursor)
        except SourceError as error:
            broken = error  # what was read until then stays on the stage: it may say who opted out
    if broken is not None:
        raise broken
    found.token = token
    return found


def _guarded(events: Iterator[Event | Table], source: str) -> Iterator[Event | Table]:
    with asking(source):
        yield from events


class _Reading:
    """The events of one read, one after the other."""

    def __init__(self, state: State, sync: SyncRow, feed: Feed, watch: Watch) -> None:
        self._state, self._sync, self._feed, self._watch = state, sync, feed, watch
        self._walk = Walk(state, sync)
        self._found = Read()
        self._with_id = "_id" in feed.mapping.names or "record" in feed.mapping.names

    def take(self, cursor: str | None) -> Read:
        feed, found = self._feed, self._found
        found.full = cursor is None
        names = feed.mapping.names
        fields = None if "record" in names else names
        events = self._events(Request(cursor=cursor, fields=fields))
        try:
            for event in _guarded(events, feed.settings.source):
                if type(event) is Table:  # the hot paths first
                    self._table(event)
                elif type(event) is Record:
                    self._record(event)
                else:
                    self._other(event)
            self._walk.finish()
        except SourceError as error:
            self._walk.keep_opt_outs()
            if isinstance(error, DuplicateKey):
                raise self._with_first_place(error, fields) from None
            raise
        finally:
            self._walk.close()
            close = getattr(events, "close", None)
            if close is not None:
                close()
        if found.full:
            self._walk.mark_gone(list(self._walk.unseen()))
        count_staged(self._state, found)
        return found

    def _events(self, request: Request) -> Iterator[Event | Table]:
        connector = self._feed.connector
        if connector.ABILITIES.tables and not self._with_id:
            return cast("Tabular", connector).tables(request)
        return connector.read(request)

    def _table(self, table: Table) -> None:
        """Many records at once: where all are as before, nothing is done for each but its fingerprint."""
        mapping, found, count = self._feed.mapping, self._found, len(table.keys)
        fingerprints = mapping.fingerprints(table.names, table.rows)
        if fingerprints is None or not count or not table.keys[0]:  # no key: the address is mapped
            for record in table.records():
                self._record(record)
            return
        found.read += count
        self._watch.advance(count)
        known = self._walk.find_all(table.keys, table.place)
        wanted = [one is not None and one[2] is None for one in known]
        if all(wanted) and fingerprints == [one and one[1] for one in known]:
            found.same += count
            return
        for index, (before, fingerprint) in enumerate(zip(known, fingerprints, strict=True)):
            if before is not None and before[1] == fingerprint and before[2] != GONE:
                found.add_same(before[2])
                continue
            fields = dict(zip(table.names, table.rows[index], strict=True))
            self._walk.stage(
                before, table.keys[index], fingerprint, mapping.map(fields), table.place(index)
            )

    def _record(self, record: Record) -> None:
        found, mapping = self._found, self._feed.mapping
        found.read += 1
        if found.read % PROGRESS_ROWS == 0:
            self._watch.advance(PROGRESS_ROWS)
        key, fields, outcome = record.key, record.fields, None
        if self._with_id and key:
            fields = {**fields, "_id": key}
        fingerprint = mapping.fingerprint(fields)
        if not key:
            outcome = mapping.map(fields)
            key = outcome.email or ""
            if not key:
                found.nameless += 1  # no key and no address: reported, never sent
                if found.nameless <= PLACES_MAX:
                    found.nameless_places.append(record.place)
                return
        known = self._walk.find(key, record.place)
        if known is not None and known[1] == fingerprint and known[2] != GONE:
            found.add_same(known[2])
            return
        self._walk.stage(known, key, fingerprint, outcome or mapping.map(fields), record.place)

    def _other(self, event: Event | Table) -> None:
        match event:
            case Checkpoint(cursor):
                self._found.cursor = cursor
            case Resync(reason):
                self._found.full, self._found.resync = True, reason
            case Tombstone(key):
                self._gone(key)
            case Merged(loser, winner):
                self._gone(loser)
                self._walk.note_merge(loser, winner)
            case _:
                raise SourceError(
                    f"The connector of {self._feed.name!r} yielded {type(event).__name__}"
                )

    def _gone(self, key: str) -> None:
        lost = self._walk.lose(key)
        if lost.staged or lost.same:
            self._found.read -= 1
        if lost.same:
            self._found.add_same(lost.skip, -1)

    def _with_first_place(self, error: DuplicateKey, fields: frozenset[str] | None) -> DuplicateKey:
        """Where the key stood first is known only for staged records; else the source is asked once more."""
        if error.first:
            return error
        for event in self._feed.connector.read(Request(fields=fields)):
            if isinstance(event, Record):
                key = event.key or self._feed.mapping.map(event.fields).email or ""
                if key == error.key and event.place != error.place:
                    return DuplicateKey(error.key, error.place, first=event.place)
        return error
