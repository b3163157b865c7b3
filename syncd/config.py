"""The configuration: a TOML file with overrides from the environment, validated whole before
anything is done.

It finds and reads the file, lays the environment over it, and checks what no single table can know:
which sources and connectors exist, what a connector's options are. All mistakes are reported at
once. Whether a source can be reached, or a secret be read, is found out when it is used.
"""

import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from syncd import registry
from syncd.config_errors import Mistake, broken_toml, found, join, mistakes_of, refuse
from syncd.config_models import (
    AlertsSettings,
    BackupSettings,
    FluenzrSettings,
    GuardSettings,
    HttpSettings,
    MetricsSettings,
    Settings,
    SourceSettings,
    SourceTable,
    StateSettings,
    SyncSettings,
    Table,
    WebhooksSettings,
    WriteBackSettings,
    WriteBackTable,
)
from syncd.config_place import CONFIG_BYTES_MAX, find
from syncd.connector import Context, Options
from syncd.core.mapping import FLUENZR_FIELDS, RESERVED_NAMES
from syncd.core.nearest import suggestion
from syncd.errors import ConfigError
from syncd.writer import FieldOptions, Heard

__all__ = [
    "AlertsSettings",
    "BackupSettings",
    "FluenzrSettings",
    "GuardSettings",
    "HttpSettings",
    "MetricsSettings",
    "Settings",
    "SourceSettings",
    "StateSettings",
    "SyncSettings",
    "WebhooksSettings",
    "find",
    "load",
]

NAME_CHARS_MAX = 64  # of a source or a sync: it stands in tables and log lines
PREFIX: Final = "SYNCD_"
LEVEL: Final = "__"
WRITE_BACK: Final = "write_back"
SOURCE_KEYS: Final = {"connector", "time_limit"}  # of [source.NAME]; the others are its connector's
HEARD: Final = frozenset(
    {Heard.OPTED_OUT, Heard.BOUNCED}
)  # what a source is told unless the table says so

AnyTable = TypeVar("AnyTable", bound=Table)
Raw = dict[str, Any]


def load(path: Path | None) -> Settings:
    """The configuration of `path`, else of the first place that has one.

    Raises ConfigError with every mistake, each at its place; secrets are not read here.
    """
    file = find(path)
    check = _Check(file)
    settings = check.settings(_merged(file, read_toml(file), check.mistakes))
    if settings is None:
        raise refuse(file, map(_with_origin, check.mistakes))
    return settings


class _Tables(BaseSettings):
    """The tables, unchecked: pydantic-settings lays the environment over the file."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter=LEVEL, extra="forbid")

    fluenzr: Raw = {}
    state: Raw = {}
    backup: Raw | None = None
    guard: Raw = {}
    http: Raw | None = None
    webhooks: Raw | None = None
    metrics: Raw = {}
    alerts: Raw | None = None
    source: Raw = {}
    sync: Raw = {}

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced by ours
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - no .env is read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - see syncd.secret
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file (given as arguments), and there is nothing else."""
        return _Environment(settings_cls, init_settings()), init_settings


class _Environment(EnvSettingsSource):
    """SYNCD_SYNC__CUSTOMERS__FIELDS__FIRSTNAME: names in any letter case, as the file has them."""

    def __init__(self, settings_cls: type[BaseSettings], file: Raw) -> None:
        super().__init__(settings_cls)
        self._file = file

    def __call__(self) -> Raw:
        return _as_in(self._file, super().__call__())


def _as_in(file: Raw, over: Raw) -> Raw:
    """The same tables, with each key spelled as in the file where it only differs in letter case."""
    spelled = {key.lower(): key for key in file}
    result: Raw = {}
    for key, value in over.items():
        name = key if key in file else spelled.get(key.lower(), key)
        there = file.get(name)
        if isinstance(value, dict):
            result[name] = _as_in(there if isinstance(there, dict) else {}, value)
        else:
            result[name] = _written(value)
    return result


def _written(value: object) -> object:
    """A variable's text as the value that it would be in the file; what is no TOML is text."""
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return value
    return parsed if isinstance(parsed, bool | int | float | list | dict) else value


def read_toml(file: Path, *, other: str = "--config FILE") -> Raw:
    """The tables of a TOML file. other: how another file is named. Raises ConfigError."""
    try:
        content = file.read_bytes() if file.stat().st_size <= CONFIG_BYTES_MAX else None
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read",
            why=error.strerror or "",
            hint=f"Make it readable for the user that runs syncd, or name another: {other}",
        ) from None
    if content is None:
        raise ConfigError(
            f"{file} is larger than {CONFIG_BYTES_MAX} bytes", hint="Name the right file"
        )
    try:
        text = content.decode("utf-8-sig")  # some editors begin a file with a mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{file.name} is not UTF-8: line {line}", hint="Save it as UTF-8"
        ) from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise broken_toml(file, text, error) from None


def _merged(file: Path, tables: Raw, mistakes: list[Mistake]) -> Raw:
    known = list(_Tables.model_fields)
    usable: Raw = {}
    for name, table in tables.items():
        if name not in known:
            what = "table" if isinstance(table, dict) else "key"
            mistakes.append(
                Mistake(join(name), f"there is no such {what}; {suggestion(name, known)}")
            )
        elif not isinstance(table, dict):
            mistakes.append(Mistake(name, f"a table expected, not {found(name, table)}"))
        else:
            usable[name] = table
    for variable in sorted(os.environ):
        table_name, level, _ = variable.removeprefix(PREFIX).partition(LEVEL)
        ours = variable.startswith(PREFIX) and level
        if ours and table_name.lower() not in known:
            text = f"there is no table {table_name.lower()}; {suggestion(table_name, known)}"
            mistakes.append(Mistake(f"${variable}", text))
    try:
        return _Tables(**usable).model_dump()
    except (SettingsError, ValidationError):
        raise ConfigError(
            f"The environment variables {PREFIX}... do not fit {file.name}",
            hint=f"A variable names one key: {PREFIX}FLUENZR{LEVEL}BASE_URL",
        ) from None


class _Check:
    """One pass over all tables: what is right becomes settings, what is wrong becomes mistakes."""

    def __init__(self, file: Path) -> None:
        self._file, self._folder = file, file.parent
        self.mistakes: list[Mistake] = []

    def settings(self, tables: Raw) -> Settings | None:
        """The whole as settings; None when there is any mistake."""
        fluenzr = self._table(FluenzrSettings, tables["fluenzr"], "fluenzr")
        state = self._table(StateSettings, tables["state"], "state")
        backup = self._optional(BackupSettings, tables, "backup")
        guard = self._table(GuardSettings, tables["guard"], "guard")
        http = self._optional(HttpSettings, tables, "http")
        webhooks = self._optional(WebhooksSettings, tables, "webhooks")
        metrics = self._table(MetricsSettings, tables["metrics"], "metrics")
        alerts = self._optional(AlertsSettings, tables, "alerts")
        sources = dict(self._sources(tables["source"]))
        write_backs = dict(self._write_backs(tables["sync"], sources))
        syncs = dict(self._syncs(tables["sync"], list(tables["source"]), sources))
        if self.mistakes or not (fluenzr and state and guard and metrics):
            return None
        return Settings(
            self._file, self._folder, fluenzr, state, backup, guard, http, webhooks, metrics, alerts,
            sources, syncs, write_backs,
        )  # fmt: skip

    def _mistake(self, text: str, *place: str | int) -> None:
        self.mistakes.append(Mistake(join(*place), text))

    def _table(self, model: type[AnyTable], table: object, *place: str) -> AnyTable | None:
        try:
            return model.model_validate(table, context={"folder": self._folder})
        except ValidationError as error:
            self.mistakes += _with_hints(mistakes_of(error, model, table, *place))
            return None

    def _optional(self, model: type[AnyTable], tables: Raw, name: str) -> AnyTable | None:
        """A table whose absence means something."""
        return None if tables[name] is None else self._table(model, tables[name], name)

    def _named(self, kind: str, tables: Raw) -> Iterator[tuple[str, Raw]]:
        """The tables of one kind whose name can be used."""
        for name, table in tables.items():
            if not isinstance(table, dict):
                self._mistake(
                    f"a table [{kind}.NAME] expected, not {found(name, table)}", kind, name
                )
            elif not name.replace("-", "").replace("_", "").isalnum() or len(name) > NAME_CHARS_MAX:
                self._mistake("a name of letters, digits, - and _ expected", kind, name)
            else:
                yield name, table

    def _sources(self, tables: Raw) -> Iterator[tuple[str, SourceSettings]]:
        for name, table in self._named("source", tables):
            place = ("source", name)
            ours = {key: value for key, value in table.items() if key in SOURCE_KEYS}
            options = {key: value for key, value in table.items() if key not in SOURCE_KEYS}
            connector = table.get("connector")
            installed = registry.names()
            if connector is None:
                listed = ", ".join(installed)
                self._mistake(f"is missing: one of {listed} expected", *place, "connector")
                continue
            if connector not in installed:
                hint = suggestion(str(connector), installed)
                text = f"there is no connector {found('', connector)}; {hint}"
                self._mistake(text, *place, "connector")
                continue
            known = self._table(SourceTable, ours, *place)
            try:
                model = registry.load(connector).OPTIONS
                validated = model.model_validate(options, context={"folder": self._folder})
            except ValidationError as error:
                self.mistakes += mistakes_of(error, model, options, *place)
            except ConfigError as error:
                self._mistake(str(error), *place, "connector")
            else:
                if known is not None:
                    limit_s = known.time_limit_s
                    yield name, SourceSettings(name, connector, options, validated, limit_s)

    def _syncs(
        self, tables: Raw, names: list[str], sources: dict[str, SourceSettings]
    ) -> Iterator[tuple[str, SyncSettings]]:
        if not tables:
            text = "at least one sync is needed: [sync.customers] with source and fields"
            self._mistake(text, "sync")
        for name, table in self._named("sync", tables):
            origin = table.get("source")
            if isinstance(origin, str) and origin not in names:
                hint = suggestion(origin, names) or f"add [source.{origin}]"
                self._mistake(f'there is no source "{origin}"; {hint}', "sync", name, "source")
            source = sources.get(origin) if isinstance(origin, str) else None
            if "fields" not in table and source is not None:
                table = {**self._preset(source), **table}
            self._fields(table.get("fields", {}), "sync", name, "fields")
            table = {key: value for key, value in table.items() if key != WRITE_BACK}
            settings = self._table(SyncSettings, table, "sync", name)
            if settings is not None:
                self._sent_names(settings, "sync", name, "fields")
                yield name, settings.named(name)

    def _write_backs(
        self, tables: Raw, sources: dict[str, SourceSettings]
    ) -> Iterator[tuple[str, WriteBackSettings]]:
        for name, sync in tables.items():
            table = sync.get(WRITE_BACK) if isinstance(sync, dict) else None
            source = sources.get(str(sync.get("source"))) if isinstance(sync, dict) else None
            if table is None or source is None:
                continue
            place = ("sync", name, WRITE_BACK)
            if not isinstance(table, dict):
                self._mistake(f"a table expected, not {found(WRITE_BACK, table)}", *place)
                continue
            ours = {key: table[key] for key in WriteBackTable.model_fields if key in table}
            settings = self._table(WriteBackTable, ours, *place)
            writer = settings.writer or source.connector if settings else None
            if settings is None or writer is None:
                continue
            if writer not in registry.writers():
                hint = suggestion(writer, registry.writers())
                self._mistake(f'there is no writer "{writer}"; {hint}', *place, "writer")
                continue
            validated = self._writer_options(writer, table, source, *place)
            if validated is not None:
                yield name, self._told(writer, settings.heard, validated, *place)

    def _told(
        self, writer: str, asked: frozenset[Heard] | None, options: Options, *place: str
    ) -> WriteBackSettings:
        """What is told: all that is asked for; else what has a field, where the writer sets fields."""
        if not isinstance(options, FieldOptions):
            return WriteBackSettings(writer, asked or HEARD, options)
        fields = frozenset(options.places())
        for one in sorted((asked or fields) - fields):
            self._mistake(
                f'"{one}" is written nowhere; name the field: {one} = "FIELD"', *place, "heard"
            )
        heard = asked or fields
        return WriteBackSettings(writer, heard, options.only(heard))

    def _writer_options(
        self, writer: str, table: Raw, source: SourceSettings, *place: str
    ) -> Options | None:
        """The writer's own options; what is not given, and is the same for reading, comes from the source."""
        try:
            model = registry.load_writer(writer).OPTIONS
        except ConfigError as error:
            self._mistake(str(error), *place, "writer")
            return None
        shared = source.options if writer == source.connector else {}
        given = {k: v for k, v in table.items() if k not in WriteBackTable.model_fields}
        own = model.TOGETHER if model.TOGETHER & given.keys() else frozenset()
        options = {k: v for k, v in shared.items() if k in model.model_fields and k not in own}
        options |= given
        try:
            return model.model_validate(options, context={"folder": self._folder})
        except ValidationError as error:
            self.mistakes += mistakes_of(error, model, options, *place)
            return None

    def _preset(self, source: SourceSettings) -> Raw:
        """What the source's connector maps by itself, as a sync's table would say it."""
        kind = registry.load(source.connector)
        preset = kind(source.validated, Context(folder=self._folder)).preset()
        if preset is None:
            return {}
        return {"fields": dict(preset.fields)} | (
            {"opted_out": preset.opted_out} if preset.opted_out else {}
        )

    def _fields(self, fields: object, *place: str) -> None:
        """The names of a fields table: FluenzR's, or anything that says under which name it is
        sent.
        """
        if not isinstance(fields, dict):
            return
        valid = ("email", *FLUENZR_FIELDS)
        for name, entry in fields.items():
            if name not in valid and not (isinstance(entry, dict) and "send_as" in entry):
                hint = f"{suggestion(name, valid)} Any other name needs send_as"
                self._mistake(f"FluenzR has no such field; {hint}", *place, name)
        email = fields.get("email")
        if email is None:
            self._mistake(
                'is missing: where the address is, as in email = "email"', *place, "email"
            )
        elif isinstance(email, dict) and ("value" in email or "send_as" in email):
            text = "a path or expr expected: each record has its own address"
            self._mistake(text, *place, "email")

    def _sent_names(self, settings: SyncSettings, *place: str) -> None:
        """What fields are sent as: each name once, and none that reaches past the guards."""
        sent: dict[str, str] = {}
        for name, entry in settings.fields.items():
            target = entry.send_as or name
            if entry.send_as in RESERVED_NAMES:
                text = (
                    f'"{target}" is not for a field: groups, tags and status have their own rules'
                )
                self._mistake(text, *place, name, "send_as")
            elif target in sent:
                self._mistake(f'"{target}" is what {sent[target]} is sent as', *place, name)
            sent.setdefault(target, name)


def _with_origin(mistake: Mistake) -> Mistake:
    """A value that does not stand in the file says where it comes from."""
    wanted = PREFIX + mistake.place.replace(".", LEVEL).upper()
    for variable in os.environ:
        if variable.upper() == wanted:
            return Mistake(mistake.place, f"{mistake.text} (it comes from ${variable})")
    return mistake


def _with_hints(mistakes: list[Mistake]) -> Iterator[Mistake]:
    """The one mistake that everybody makes once says how to put it right."""
    for mistake in mistakes:
        if mistake == Mistake("fluenzr.api_key", "is missing"):
            hint = 'is missing: a reference such as api_key = "env:FLUENZR_API_KEY" expected'
            yield Mistake(mistake.place, hint)
        else:
            yield mistake
