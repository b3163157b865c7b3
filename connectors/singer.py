"""Singer taps: any program that writes records as Singer messages, run as a subprocess; a read counts only if it exits with 0.

The protocol is the Singer specification's. What a read is, the catalog's replication method says:

    FULL_TABLE   each read is everything there is; records are passed on as they come
    INCREMENTAL  the cursor is the last STATE of a completed run; deletions are seen by full reads only
    LOG_BASED    the same, and a record with `_sdc_deleted_at` is a deletion; a full read needs ACTIVATE_VERSION as proof of
                 having held the whole table, for some taps begin with what is left of the log

The last two may tell of one row many times: their records wait in files until the tap has ended, and the last of each key counts.
"""

import re
import shlex
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar

import orjson
import structlog
from pydantic import BeforeValidator, Field, ValidationInfo

from syncd.connector import (
    Abilities,
    Checkpoint,
    Context,
    Event,
    Options,
    Record,
    Request,
    Resync,
    SourceField,
    Tombstone,
)
from syncd.errors import ConfigError, SourceError
from syncd.process import Program, hider, lines, revealed, with_secrets
from syncd.secret import Secret
from syncd.temporary import Folder, Latest

SECRET_NOT_KEPT = "tap.secret_not_kept"  # noqa: S105  the new secret has no file to go to
CATALOG_BYTES_MAX = 64 * 1024 * 1024  # thousands of objects with hundreds of fields have 20 MiB
EXACT_FLOAT_MAX = 2**53  # from here on a float may stand for another whole number
NAMES_SHOWN_MAX = 20
FULL, INCREMENTAL, LOG_BASED = "FULL_TABLE", "INCREMENTAL", "LOG_BASED"
DELETIONS = {  # for `check`
    FULL: "each read is a full one, so deletions are seen",
    INCREMENTAL: "deletions are seen by full reads only",
    LOG_BASED: "deletions come with the log",
}
_DURATION = re.compile(r"([1-9]\d{0,5}) (second|minute|hour|day)s?")

_Position = dict[str, Any] | None  # see _since
_Value = Annotated[Any | Secret, Field(union_mode="left_to_right")]  # by _given, not again
_Text = Annotated[str | Secret, Field(union_mode="left_to_right")]
log = structlog.get_logger(__name__)


def _split(value: object) -> object:
    return shlex.split(value) if isinstance(value, str) else value


def _given(value: Any, info: ValidationInfo) -> Any:
    return with_secrets(value, (info.context or {}).get("folder"))


def _duration(value: object) -> timedelta:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('a duration is written as "10 minutes"; seconds, minutes, hours or days')
    return timedelta(**{found[2] + "s": int(found[1])})


class SingerOptions(Options):
    """One stream of a tap."""

    command: Annotated[tuple[str, ...], BeforeValidator(_split), Field(min_length=1)]
    """The program and its arguments, as a list or a line; no shell."""
    config: Annotated[dict[str, _Value], BeforeValidator(_given)] = Field({})
    """What the tap is given as its configuration; values may be references to secrets."""
    catalog: str | None = Field(default=None, min_length=1)
    """A file; without it, the tap is asked and `stream` selected."""
    stream: str = Field(min_length=1)
    """The stream whose records are people."""
    key: Annotated[str | tuple[str, ...], Field(min_length=1)] = "auto"
    """A field or several; `auto` for those of the schema."""
    replication_key: str | None = Field(default=None, min_length=1)
    """Makes the stream INCREMENTAL by this field."""
    environment: Annotated[dict[str, _Text], BeforeValidator(_given)] = Field({})
    """What the tap finds in its environment; values may be references to secrets."""
    timeout: Annotated[timedelta, BeforeValidator(_duration)] = timedelta(minutes=10)
    """How long the tap may be silent."""

    def keys(self) -> tuple[str, ...]:
        """The fields of `key`; none for "auto"."""
        if isinstance(self.key, tuple):
            return self.key
        return () if self.key == "auto" else (self.key,)


class SingerConnector:
    """One configured stream of one tap."""

    OPTIONS: ClassVar[type[Options]] = SingerOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        tombstones=True,
        fields_known=True,
        sweep="sees who was deleted from an INCREMENTAL stream in full reads only",
    )
    SUMMARY: ClassVar[str] = "Any Singer tap: one stream of it, full, incremental or from a log"

    def __init__(self, options: SingerOptions, context: Context) -> None:
        self._options, self._context = options, context
        self._known: _Stream | None = None

    def check(self) -> str:
        """Run the tap as far as its first record: so the login and the catalog are good."""
        with _Tap(self._options, self._context) as tap:
            stream = self._stream(tap)
            with closing(tap.rows(_Reading(stream, self._options, tap.name))) as rows:
                empty = ", no records" if next(rows, None) is None else ""
        by = f" by {stream.replication_key}" if stream.replication_key else ""
        return (
            f"{tap.name}, stream {self._options.stream}: {len(stream.fields)} fields{empty};"
            f" {stream.method}{by}: {DELETIONS[stream.method]}"
        )

    def fields(self) -> list[SourceField]:
        """The selected fields of the stream, as the catalog has them."""
        with _Tap(self._options, self._context) as tap:
            return [SourceField(name) for name in self._stream(tap).fields]

    def preset(self) -> None:
        """There is none: each tap has names of its own."""

    def token(self) -> None:
        """There is none: a tap does not tell whether it would give the same again."""

    def read(self, request: Request) -> Generator[Event, None, None]:
        """Yield what the tap tells of the stream, from the beginning or from the last STATE on."""
        with _Tap(self._options, self._context) as tap:
            stream = self._stream(tap)
            since = _since(request.cursor, stream)
            if request.cursor is not None and since is None:
                yield Resync("the cursor is not one of this stream, as the catalog has it now")
            try:
                yield from self._run(tap, stream, request.fields, since)
            except _OtherVersion:  # nothing was passed on yet
                yield Resync("the tap began a new version of the stream")
                yield from self._run(tap, stream, request.fields, None)

    def _run(
        self, tap: "_Tap", stream: "_Stream", fields: frozenset[str] | None, since: _Position
    ) -> Generator[Event, None, None]:
        reading = _Reading(stream, self._options, tap.name, fields, since)
        with closing(tap.rows(reading)) as rows:
            if stream.method == FULL:
                yield from rows
                return
            with Latest() as latest:
                broken = latest.take(rows)
                yield from latest
        if broken is not None:
            raise broken  # only now: what came before it may say who opted out
        if reading.state:
            by = (stream.method, stream.replication_key)
            cursor = {"by": by, "state": reading.state, "version": reading.version}
            yield Checkpoint(orjson.dumps(cursor).decode())

    def _stream(self, tap: "_Tap") -> "_Stream":
        """The stream, as the catalog has it. The tap is asked once only: it may take a minute."""
        if self._known is None:
            path = self._options.catalog
            try:
                file = path and self._context.folder / Path(path).expanduser()
                catalog = orjson.loads(file.read_bytes()) if file else tap.discover()
                self._known = _found(catalog, self._options, tap.name)
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise ConfigError(
                    f"The catalog {path or f'of {tap.name}'} cannot be used",
                    why=getattr(error, "strerror", None) or f"{type(error).__name__}: {error}",
                    hint="`catalog` is a JSON file, as the tap's --discover prints it",
                ) from None
        return self._known


def _since(cursor: str | None, stream: "_Stream") -> _Position:
    """Where a read goes on: the tap's own `state`, and the `version` of the stream then. None: nowhere."""
    with suppress(ValueError, LookupError, TypeError):
        found: dict[str, Any] = orjson.loads(cursor or "")
        if found["by"] == [stream.method, stream.replication_key]:
            return {"state": found["state"], "version": found["version"]}
    return None


@dataclass(frozen=True, slots=True)
class _Stream:
    """What the catalog says. names: under which its messages may come. fields: those selected."""

    names: frozenset[str]
    fields: tuple[str, ...]
    method: str
    replication_key: str
    catalog: Any


def _found(catalog: Any, options: SingerOptions, tap: str) -> _Stream:
    """The stream that is configured; where the tap was asked, it is selected and no other. Raises ConfigError."""
    entries = {each.get("tap_stream_id") or each["stream"]: each for each in catalog["streams"]}
    names = [name for name, each in entries.items() if each.get("stream") == options.stream]
    name = options.stream if options.stream in entries else names[0] if len(names) == 1 else None
    if name is None:
        raise _no_such(
            f"{tap} has {'more than one' if names else 'no'} stream", options.stream, entries
        )
    entry = entries[name]
    root = _facts(entry)
    properties = (entry.get("schema") or {}).get("properties") or {}
    if options.catalog is None:
        for each in entries.values():
            _facts(each)["selected"] = each is entry
        for field in properties:
            facts = _facts(entry, "properties", field)
            facts["selected"] = facts.get("inclusion") != "unsupported"
    fields = tuple(field for field in properties if _selected(entry, field))
    for key in (*options.keys(), *filter(None, [options.replication_key])):
        if key not in fields:
            raise _no_such(f"The stream {name} of {tap} has no selected field", key, fields)
    if not fields:
        raise ConfigError(
            f"The catalog of {tap} does not say which fields the stream {name} has",
            hint="Write a catalog with `schema.properties`, and name it as `catalog`",
        )
    if options.replication_key:
        root["replication-method"] = entry["replication_method"] = INCREMENTAL
        root["replication-key"] = entry["replication_key"] = options.replication_key
    said = (root.get("replication-method"), entry.get("replication_method"))
    method = next(filter(None, (*said, root.get("forced-replication-method"))), FULL)
    root["replication-method"] = method
    if method not in DELETIONS:
        raise _no_such(f"The catalog of {tap} has a replication method", method, DELETIONS)
    by = method == INCREMENTAL and (root.get("replication-key") or entry.get("replication_key"))
    others = [e for e in entries.values() if _facts(e).get("selected") is not False]
    taken = {e.get(n) for e in others if e is not entry for n in ("tap_stream_id", "stream")}
    accepted = frozenset({name, entry.get("stream") or name} - taken)
    return _Stream(accepted, fields, method, by or "", catalog)


def _facts(entry: dict[str, Any], *breadcrumb: str) -> dict[str, Any]:
    """What the metadata of a stream say of itself, or of a part of it; to be changed in place."""
    metadata = entry["metadata"] = entry.get("metadata") or []
    for each in metadata:
        if tuple(each["breadcrumb"]) == breadcrumb:
            return each["metadata"]  # type: ignore[no-any-return]
    metadata.append({"breadcrumb": list(breadcrumb), "metadata": {}})
    return metadata[-1]["metadata"]  # type: ignore[no-any-return]


def _selected(entry: dict[str, Any], field: str) -> bool:
    facts = _facts(entry, "properties", field)
    if (inclusion := facts.get("inclusion")) in ("automatic", "unsupported"):
        return bool(inclusion == "automatic")
    chosen = facts.get("selected")
    return bool(facts.get("selected-by-default", True) if chosen is None else chosen)


def _no_such(what: str, name: str, known: Iterable[str]) -> ConfigError:
    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names[:NAMES_SHOWN_MAX]) + (" ..." if names[NAMES_SHOWN_MAX:] else "")
    return ConfigError(
        f"{what} {name!r}",
        why=f"It has {listed or 'none'}",
        hint=f"Did you mean {near[0]!r}?" if near and near[0] != name else "Write one of these",
    )


class _OtherVersion(Exception):
    """The stream has another version than the cursor: its rows from before are gone, so it is to be read from the beginning."""


class _Broken(Exception):
    """A message that cannot be used; why."""


class _Reading:
    """The messages of one run, and what they add up to."""

    def __init__(
        self,
        stream: _Stream,
        options: SingerOptions,
        tap: str,
        fields: frozenset[str] | None = None,
        since: _Position = None,
    ) -> None:
        self.stream, self.since, self._tap, self._title = stream, since, tap, options.stream
        every = frozenset(stream.fields)
        self._wanted = every if fields is None else every & fields
        self._given = self._keys = options.keys()
        self._name: str | None = None  # under which its messages come
        self._others: dict[str, None] = {}
        self._open = self._activated = False  # open: rows came after the last ACTIVATE_VERSION
        self.version = since["version"] if since else None
        self._versioned = False
        self.state: Any = None

    def rows(self, written: Iterable[bytes]) -> Iterator[Record | Tombstone]:
        """The rows of the stream, out of all lines. Raises SourceError."""
        loads, wanted, prefix, count = orjson.loads, self._wanted, f"{self._title} record ", 0
        for number, line in enumerate(written, 1):
            try:
                message = loads(line)
                kind = message["type"]
                if kind != "RECORD":
                    self._other(kind, message)
                    continue
                name = message["stream"]
                if name != self._name and not self._is_ours(name):
                    continue
                row, version = message["record"], message.get("version")
                count += 1
                key = self._key(row)
                if version is not None:
                    self._of_version(version)
                    self._open = True
                deleted = row.get("_sdc_deleted_at")
                fields = {field: row[field] for field in row if field in wanted}
            except (_Broken, ValueError, LookupError, TypeError, AttributeError) as error:
                if not line.strip():
                    continue
                raise SourceError(
                    f"{self._tap} wrote a message that cannot be used, in line {number}",
                    why=f"There is no {error}" if isinstance(error, KeyError) else str(error),
                    hint="If another version of the tap does so too, tell its authors",
                ) from None
            yield Tombstone(key) if deleted else Record(key, fields, f"{prefix}{count}")

    def _other(self, kind: str, message: dict[str, Any]) -> None:
        if kind == "STATE":
            self.state = message["value"]
        elif kind not in ("SCHEMA", "ACTIVATE_VERSION", "BATCH"):
            raise _Broken(f"Messages of the type {kind!r} are not known")
        elif not self._is_ours(message["stream"]):
            self._others.setdefault(message["stream"])
        elif kind == "SCHEMA":
            self._described(tuple(message.get("key_properties") or ()))
        elif kind == "ACTIVATE_VERSION":
            self._of_version(message["version"])
            self._open, self._activated = False, True
        else:
            raise _Broken("It is a BATCH: leave `batch_config` out of the tap's config")

    def _is_ours(self, name: str) -> bool:
        if name in self.stream.names and name != (self._name or name):
            raise _Broken(f"{self._name} and {name} may both be the stream {self._title}")
        if name in self.stream.names:
            self._name = name
        return name == self._name

    def _described(self, keys: tuple[str, ...]) -> None:
        if not (self._given or keys):
            raise ConfigError(
                f"The stream {self._title} of {self._tap} has no key of its own",
                why=f"Its fields are {', '.join(self.stream.fields)}",
                hint="Set `key` to the field that identifies a record for ever",
            )
        if not self._given and self._keys not in ((), keys):
            raise _Broken("It changes the key of the stream: set `key`")
        self._keys = self._given or keys

    def _of_version(self, version: Any) -> None:
        if version == self.version:
            self._versioned = True
        elif self._versioned:
            raise _Broken("It begins a second version of the stream, so the first is not valid")
        elif self.since is not None:
            raise _OtherVersion
        else:
            self.version, self._versioned = version, True

    def _key(self, row: Mapping[str, Any]) -> str:
        """The key of a row: one field as text, several as a JSON array of texts."""
        if len(self._keys) == 1:
            value = row[self._keys[0]]
            return value if type(value) is str and value else _key_text(value)
        if not self._keys:
            raise _Broken("It is a record before the SCHEMA")
        return orjson.dumps([_key_text(row[name]) for name in self._keys]).decode()

    def judge(self) -> None:
        """The tap ended well: whether this was all. Raises SourceError."""
        if self.since is not None:
            return
        if self._name is None:
            raise SourceError(
                f"{self._tap} sent nothing of the stream {self._title}, not even its SCHEMA",
                why=f"It sent {', '.join(list(self._others)[:NAMES_SHOWN_MAX]) or 'no stream'}",
                hint="Is it selected in the catalog? Does the tap take --catalog?",
            )
        if self.stream.method == FULL and self._open:
            raise SourceError(
                f"{self._tap} did not finish the stream {self._title}",
                why="Its rows have a version, and no ACTIVATE_VERSION came after the last of them",
                hint="If its config has `emit_activate_version_messages`, leave that out",
            )
        if self.stream.method == LOG_BASED and not self._activated:
            raise SourceError(
                f"{self._tap} does not say that its log held the whole stream {self._title}",
                why="A LOG_BASED read from the beginning needs an ACTIVATE_VERSION",
                hint="Let the tap begin with the whole table, or use FULL_TABLE or INCREMENTAL",
            )


def _key_text(value: Any) -> str:
    if type(value) is str and value:
        return value
    if type(value) is int or (
        type(value) is float and value.is_integer() and abs(value) < EXACT_FLOAT_MAX
    ):
        return str(int(value))
    raise _Broken("It has no usable key: a text that is not empty, or a whole number")


class _Tap:
    """The program, and the files for one read of it; a context manager."""

    def __init__(self, options: SingerOptions, context: Context) -> None:
        self._options, self._context = options, context
        self.name = Path(options.command[0]).name

    def __enter__(self) -> "_Tap":
        options, secrets = self._options, list[str]()
        self._config = revealed(options.config, secrets)
        self._program = Program(
            command=options.command,
            folder=self._context.folder,
            environment=revealed(options.environment, secrets),
            silence_s_max=options.timeout.total_seconds(),
            clock=self._context.clock,
            hide=hider(secrets),
        )
        self._folder = Folder()
        return self

    def __exit__(self, *exc: object) -> None:
        self._folder.__exit__()

    def rows(self, reading: _Reading) -> Generator[Record | Tombstone, None, None]:
        """What one run tells, as it tells it. Raises SourceError unless it is complete; ConfigError."""
        arguments = ["--catalog", self._folder.write("catalog.json", reading.stream.catalog)]
        if reading.since is not None:
            arguments += ["--state", self._folder.write("state.json", reading.since["state"])]
        with closing(self._run(*arguments)) as chunks:
            yield from reading.rows(lines(chunks, self.name))
        reading.judge()

    def discover(self) -> Any:
        """The catalog, as the tap has it. Raises SourceError, ConfigError."""
        found = bytearray()
        with closing(self._run("--discover")) as chunks:
            for chunk in chunks:
                found += chunk
                if len(found) > CATALOG_BYTES_MAX:
                    found.clear()  # what is there by chance could be read as a whole
                    break
        try:
            return orjson.loads(found)
        except orjson.JSONDecodeError as error:
            raise SourceError(
                f"{self.name} --discover did not print a catalog of at most {CATALOG_BYTES_MAX} bytes",
                why=str(error),
                hint="Write a catalog yourself, and name it as `catalog`",
            ) from None

    def _run(self, *arguments: str) -> Generator[bytes, None, None]:
        config = self._folder.write("config.json", self._config)
        try:
            yield from self._program.output("--config", config, *arguments)
        finally:
            self._keep(self._folder.read("config.json"))

    def _keep(self, config: Any) -> None:
        """A tap may have replaced a refresh token in its config: where it came from a file, it goes back."""
        for name, given in self._options.config.items():
            value = config.get(name) if isinstance(config, dict) else None
            if isinstance(given, Secret) and value and value != self._config[name]:
                self._config[name] = value
                if given.reference.startswith("file:"):
                    given.replace(str(value))
                else:
                    log.warning(SECRET_NOT_KEPT, tap=self.name, option=name, hint="Use file:PATH")
