"""One source, read beside the state into the scratch tables: what is new, changed, unchanged or gone.

Nothing here changes the state: a read counts only once it is promoted. A read that does not complete raises SourceError.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

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
from syncd.stream import LateError, Leash, Stream
from syncd.watch import Watch

T = TypeVar("T")
log = structlog.get_logger(__name__)

PROGRESS_ROWS = 1000  # records between two steps of the progress bar
SOURCE_BROKEN = "source.broken"  # a connector raised what it should not; the traceback
PLACES_MAX = 5  # of records that cannot even be named by a key
ALWAYS_KNOWN = frozenset({"record", "_id"})  # names that every record has


@dataclass(slots=True)
class Feed:
    """One sync's side of a read: its settings, its source, its compiled mapping. names_known: they were compared with the source's.

    time_limit_s: how long the source is waited for in all. leash: the clock that its connector was given. late: a read that goes on
    apart from any run, and that the next one takes.
    """

    settings: SyncSettings
    connector: Connector
    mapping: Mapping
    version: str  # of the mapping and of the source's options: another one forces a full read
    time_limit_s: float
    leash: Leash
    names_known: bool = False
    late: "Late | None" = None

    @property
    def name(self) -> str:
        """The sync's name."""
        return self.settings.name

    def is_like(self, other: "Feed") -> bool:
        """Whether the other would read the same in the same way."""
        return (self.settings, self.version, self.time_limit_s) == (
            other.settings,
            other.version,
            other.time_limit_s,
        )


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
    stream = _stream(feed, partial(_compared, feed))
    try:
        stream.drain(lambda _: None)
    finally:
        stream.close()


def _compared(feed: Feed) -> Iterator[None]:
    if not feed.names_known:
        lines = [f"{place}: {text}" for place, text in unknown_names(feed)]
        feed.names_known = not lines
        if lines:
            raise ConfigError(
                "\n".join(lines), hint="Correct the names, or the source; then run: syncd check"
            )
    yield from ()


@dataclass(frozen=True, slots=True)
class Asked:
    """What a read begins with. unchanged: the source says so by its token, and nothing follows. cursor: None for a full read."""

    token: str | None
    cursor: str | None
    unchanged: bool = False


Given = Asked | Event | Table


@dataclass(slots=True)
class Late:
    """A read that goes on apart from any run. sync, full: what it was asked by. called: a run is to take it."""

    stream: Stream[Given]
    sync: SyncRow
    full: bool
    called: bool = False


@dataclass(slots=True)
class Latecomers:
    """Whom nobody waits for. feeds: by sync, those that are being read apart. apart: syncs that are always read so.

    Always, because their sources have fallen silent in the middle: what had been read until then was read in vain, and others waited.
    """

    feeds: dict[str, Feed] = dataclasses.field(default_factory=dict)
    apart: set[str] = dataclasses.field(default_factory=set)

    def expects(self, feed: Feed, sync: SyncRow, *, full: bool) -> Feed | None:
        """The feed whose read can be taken for what is asked now. One that cannot is let go."""
        kept = self.feeds.get(feed.name)
        if kept is None or kept.late is None:
            return None
        if kept.is_like(feed) and (kept.late.sync, kept.late.full) == (sync, full):
            return kept
        self.let_go(feed.name)
        return None

    def waiting(self) -> dict[str, Late]:
        """By sync, the reads that no run was called for yet."""
        late = {name: feed.late for name, feed in self.feeds.copy().items()}
        return {name: one for name, one in late.items() if one is not None and not one.called}

    def let_go(self, name: str) -> None:
        """Nobody takes this read any more."""
        feed = self.feeds.pop(name, None)
        if feed is not None and feed.late is not None:
            feed.late.stream.let_go()

    def clear(self) -> None:
        """Everything is asked anew."""
        self.apart.clear()
        for name in self.feeds.copy():
            self.let_go(name)


def _stream(feed: Feed, make: Callable[[], Iterator[T]]) -> Stream[T]:
    return Stream(make, source=feed.settings.source, limit_s=feed.time_limit_s, leash=feed.leash)


def ask(feed: Feed, sync: SyncRow, *, full: bool, now_s: int) -> Stream[Given]:
    """A read of the source, as far as its state tells what of it is needed."""
    return _stream(feed, partial(_ask, feed, sync, full=full, now_s=now_s))


def read_apart(feed: Feed, sync: SyncRow, *, full: bool, now_s: int) -> None:
    """Begin to read the source into a file, for a run to come. Raises SourceError where there is no room."""
    stream = ask(feed, sync, full=full, now_s=now_s)
    stream.begin_apart()
    feed.late = Late(stream, sync, full)


def _ask(feed: Feed, sync: SyncRow, *, full: bool, now_s: int) -> Iterator[Given]:
    """In the source's own thread: Asked, as soon as the source begins to answer; then the events of the read."""
    same_version = sync.version == feed.version
    with asking(feed.settings.source):
        token = feed.connector.token() if feed.connector.ABILITIES.token else None
    if token is not None and token == sync.token and same_version and not full:
        yield Asked(token, None, unchanged=True)
        return
    with contextlib.suppress(SourceError):  # the read itself says it, after what it can still give
        list(_compared(feed))
    age_s = -1 if sync.full_at is None else now_s - sync.full_at
    due_full = not 0 <= age_s < feed.settings.full_every_s  # below 0: our clock was ahead then
    cursor = None if full or due_full or not same_version else sync.cursor
    names = feed.mapping.names
    request = Request(cursor=cursor, fields=None if "record" in names else names)
    with asking(feed.settings.source), contextlib.closing(_events(feed, request)) as events:
        first = next(events, None)
        yield Asked(token, cursor)
        if first is not None:
            yield first
            yield from events


def _with_id(feed: Feed) -> bool:
    return "_id" in feed.mapping.names or "record" in feed.mapping.names


def _events(feed: Feed, request: Request) -> Generator[Event | Table, None, None]:
    connector = feed.connector
    if connector.ABILITIES.tables and not _with_id(feed):
        yield from cast("Tabular", connector).tables(request)
    else:
        yield from connector.read(request)


def read(
    state: State,
    sync: SyncRow,
    feed: Feed,
    *,
    full: bool,
    now_s: int,
    watch: Watch,
    patient: bool = True,
) -> Read:
    """Read the whole source into the scratch tables. Raises SourceError, ConfigError: then nothing of it counts.

    Not patient, where the source is silent: LateError, and `feed.late` is for a run to come; or SilentError, in the middle.
    """
    prepare_stage(state)  # first of all: whatever fails, nothing of an earlier read stands there
    late, feed.late = feed.late, None
    stream = late.stream if late else ask(feed, sync, full=full, now_s=now_s)
    try:
        return _taken(state, sync, feed, stream, watch, patient=patient)
    except LateError:
        feed.late = Late(stream, sync, full)
        raise
    finally:
        if feed.late is None:
            stream.close()


def _taken(
    state: State, sync: SyncRow, feed: Feed, stream: Stream[Given], watch: Watch, *, patient: bool
) -> Read:
    watch.phase(feed.name, "read", sync.read_count)
    broken: SourceError | None = None
    with state.tx(scratch_only=True):
        reading = _Reading(state, sync, feed, watch)
        try:
            found = reading.take(stream, patient=patient)
        except DuplicateKey as error:
            broken = reading.with_first_place(error) if stream.close() else error
        except SourceError as error:
            broken = error  # what was read until then stays on the stage: it may say who opted out
    if broken is not None:
        raise broken
    return tally_all_same(state, sync) if found.unchanged_source else found


class _Reading:
    """The events of one read, one after the other."""

    def __init__(self, state: State, sync: SyncRow, feed: Feed, watch: Watch) -> None:
        self._state, self._sync, self._feed, self._watch = state, sync, feed, watch
        self._walk = Walk(state, sync)
        self._found = Read()
        self._with_id = _with_id(feed)

    def take(self, stream: Stream[Given], *, patient: bool) -> Read:
        """Everything until its end. Raises SourceError, LateError."""
        found = self._found
        try:
            stream.drain(self._event, patient=patient)
            self._walk.finish()
        except SourceError:
            self._walk.keep_opt_outs()
            raise
        finally:
            self._walk.close()
        if found.full:
            self._walk.mark_gone(list(self._walk.unseen()))
        count_staged(self._state, found)
        return found

    def _event(self, event: Given) -> None:
        if type(event) is Table:  # the hot paths first
            self._table(event)
        elif type(event) is Record:
            self._record(event)
        else:
            self._other(event)

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
        differing = [
            index
            for index, (before, fingerprint) in enumerate(zip(known, fingerprints, strict=True))
            if before is None or before[1] != fingerprint or before[2] is not None
        ]
        found.same += count - len(differing)
        for index in differing:
            before, fingerprint = known[index], fingerprints[index]
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

    def _other(self, event: Given) -> None:
        found = self._found
        match event:
            case Asked(token, cursor, unchanged):
                found.token, found.unchanged_source = token, unchanged
                found.full = cursor is None and not unchanged
            case Checkpoint(cursor):
                found.cursor = cursor
            case Resync(reason):
                found.full, found.resync = True, reason
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

    def with_first_place(self, error: DuplicateKey) -> DuplicateKey:
        """Where the key stood first is known only for staged records; else the source is asked once more."""
        if error.first:
            return error
        names = self._feed.mapping.names
        request = Request(fields=None if "record" in names else names)

        def look(event: Event) -> None:
            if isinstance(event, Record):
                key = event.key or self._feed.mapping.map(event.fields).email or ""
                if key == error.key and event.place != error.place:
                    raise DuplicateKey(error.key, error.place, first=event.place)

        stream = _stream(self._feed, lambda: self._feed.connector.read(request))
        try:
            stream.drain(look)
        except DuplicateKey as told:
            return told
        finally:
            stream.close()
        return error
