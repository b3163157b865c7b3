"""The tables of the configuration as values: what each key may hold, and its default.

A shorthand becomes its table before it is checked ("email" is { path = "email" }), so that each
mistake has one place. Every path and expression is compiled once here, for its mistakes alone; a
run compiles its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictBool,
    StrictInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from syncd.config_values import (
    BaseUrl,
    Convert,
    DurationS,
    Expression,
    GuardLimit,
    HostAndPort,
    NameText,
    Origin,
    PathText,
    PublicUrl,
    Region,
    ScheduleText,
    StrictExpression,
    Timezone,
    Value,
    absolute_path,
)
from syncd.connector import Options
from syncd.core import alert
from syncd.core.alert import DAY_S
from syncd.core.guard import Limits
from syncd.core.limit import Limit
from syncd.core.mapping import FieldRule, MappingRules, NameRule
from syncd.secret import Secret
from syncd.writer import Heard

FLUENZR_URL: Final = "https://api.fluenzr.co/v1"  # [I]
EVERY_S_MIN: Final = 60.0  # of copies: each takes the state's lock for its while
KEEP_MAX: Final = 1000  # copies; each is opened when another one is made


class Table(BaseModel):
    """A table of the file: an unknown key is a mistake, and what was read never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class FluenzrSettings(Table):
    """`[fluenzr]`: the account, and how much of its limit is used."""

    api_key: Secret
    """The key of the account (Pro plan), as a reference."""
    base_url: BaseUrl = FLUENZR_URL
    """Where the API is; the sandbox has an address of its own."""
    requests_per_minute: Annotated[StrictInt, Field(ge=1, le=100_000)] = 1000  # Pro: 1000 [I]
    """An upper bound: the server's own headers can lower it."""
    share: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.9
    """Of the window; the rest is left to the account's other users."""
    bulk: Literal["auto", "on", "off"] = "auto"
    """Requests for up to 1000 people at once; `auto` wherever the account has them."""
    settle_s: DurationS = Field(default=120.0, alias="settle")
    """How long a request that got no answer may still take effect: nothing of it is read before."""


class StateSettings(Table):
    """`[state]`: what was sent and confirmed."""

    path: Path = Field(default=Path("syncd.db"), validate_default=True)
    """The file, below the configuration's folder unless absolute. Never delete it by hand: `syncd reconcile` builds a lost one anew."""

    @field_validator("path", mode="before")
    @classmethod
    def _absolute(cls, value: object, info: ValidationInfo) -> Path:
        path = absolute_path(value, info, what="file")
        if path.is_dir():
            raise ValueError(f"the path of a file expected, and {path} is a folder")
        return path


class BackupSettings(Table):
    """`[backup]`: copies of the state; without this table the daemon makes none."""

    folder: Path
    """Where they are kept, best on another disk; below the configuration's folder unless absolute."""
    every_s: DurationS = Field(default=86400.0, alias="every", ge=EVERY_S_MIN)
    """How often the daemon makes one; at least a minute."""
    keep: Annotated[StrictInt, Field(ge=1, le=KEEP_MAX)] = 7
    """How many stay; the oldest ones leave."""

    @field_validator("folder", mode="before")
    @classmethod
    def _absolute(cls, value: object, info: ValidationInfo) -> Path:
        path = absolute_path(value, info, what="folder")
        if path.exists() and not path.is_dir():
            raise ValueError(f"the path of a folder expected, and {path} is a file")
        return path


class GuardSettings(Table):
    """`[guard]`: per run and sync, a number of contacts or a share."""

    max_enrolments: GuardLimit = Limit(count=100)
    """People who would join a dynamic group or a campaign, and so be mailed."""
    max_removals: GuardLimit = Limit(share=0.1)
    """People who would leave the sync, or any one group."""
    max_creates: GuardLimit = Limit(share=1.0)
    """People who would be created, after the first run."""
    max_field_changes: GuardLimit = Limit(share=0.5)
    """People of whom one field would change, the address too, as when a column slips."""
    max_shrink: GuardLimit = Limit(share=0.5)
    """How much smaller than the last one a full read may be; an empty one is always held."""
    max_bounce_rate: GuardLimit = Limit(share=0.05)
    """Of a source's or a list's people have bounced: nobody more is mailed."""

    def limits(self) -> Limits:
        """The same as plain values, for the guards."""
        return Limits(**dict(self))


class HttpSettings(Table):
    """`[http]`: the daemon's one listener; without this table it listens nowhere."""

    listen: HostAndPort = (
        "127.0.0.1",
        8787,
    )
    """Host and port; TLS is the work of a proxy before it."""
    token: Secret | None = None
    """What opens the page to look at, at least 16 characters; without it the page is off."""
    public_url: Origin | None = None
    """Where a browser reaches the page through a proxy; without it under localhost and IP addresses only."""


class WebhooksSettings(Table):
    """`[webhooks]`: FluenzR's events, which arrive at /webhooks/fluenzr."""

    secret: Secret
    """What FluenzR signs its events with; `file:PATH` is written by `register` and replaced by `rotate`."""
    public_url: PublicUrl | None = None
    """Where FluenzR reaches the listener, the path included."""


class MetricsSettings(Table):
    """`[metrics]`: Prometheus's numbers as a file; the daemon's listener has them at /metrics."""

    textfile: Path | None = None
    """A file for node_exporter's textfile collector, written after each run: it must end with .prom, and everybody may read it."""

    @field_validator("textfile", mode="before")
    @classmethod
    def _absolute(cls, value: object, info: ValidationInfo) -> Path:
        folder: Path = (info.context or {}).get("folder", Path())
        if not isinstance(value, str | Path) or not str(value).endswith(".prom"):
            raise ValueError("the path of a file that ends with .prom expected")
        return (folder / value).absolute()


class AlertsSettings(Table):
    """`[alerts]`: who is told, once, when something begins to be wrong, and once when it is over."""

    urls: Annotated[tuple[Secret, ...], Field(min_length=1)]
    """Addresses as Apprise writes them, each by reference: mail, Slack, Teams, a web address..."""
    silence_after_s: Annotated[DurationS, Field(gt=0)] = Field(default=DAY_S, alias="silence_after")
    """It is told when nothing has succeeded for so long after it was due."""
    failures: Annotated[StrictInt, Field(ge=1)] = 2
    """It is told when a sync has failed so many times in a row."""

    def limits(self) -> alert.Limits:
        """The same as plain values, for what decides."""
        return alert.Limits(failures=self.failures, silence_s=self.silence_after_s)


class FieldSettings(Table):
    """One entry of `[sync.NAME.fields]` or `.custom_fields`; a text alone is a path."""

    path: PathText | None = None
    """Where the value is in the record: names with dots between, or any column name."""
    expr: Expression | None = None
    """A Jinja expression over the record, instead of `path`."""
    value: Value = None
    """The same value for everybody, instead of `path`."""
    convert: Convert | None = Field(default=None, alias="as")
    """What the value is converted to."""
    region: Region | None = None
    """With `as = "phone"`: the country whose national numbers are understood."""
    default: Value = None
    """Instead of an empty or missing value."""
    send_as: NameText | None = None
    """The name under which FluenzR gets it; needed for a name that is not FluenzR's own."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, written: object) -> object:
        if isinstance(written, str):
            return {"path": written}
        if not isinstance(written, dict):
            raise ValueError("a path, or a table with path, expr or value, expected")  # noqa: TRY004
        return written

    @model_validator(mode="after")
    def _one_origin(self) -> "FieldSettings":
        if sum(origin is not None for origin in (self.path, self.expr, self.value)) != 1:
            raise ValueError("exactly one of path, expr and value is needed")
        if self.region is not None and self.convert != "phone":
            raise ValueError('region is for as = "phone" only')
        if self.value is not None and (self.convert is not None or self.default is not None):
            raise ValueError("value is sent as it is: neither as nor default goes with it")
        return self

    def rule(self, name: str) -> FieldRule:
        """The same as a plain value, for the mapping."""
        return FieldRule(name=name, **dict(self))


class NameSettings(Table):
    """One entry of `groups` or `tags`; a text alone is a name."""

    name: NameText | None = None
    """The name."""
    when: Expression | None = None
    """An expression: those of whom it is true."""
    source: PathText | None = Field(default=None, alias="from")
    """Where the record lists names, instead of `name`."""
    prefix: str = ""
    """What stands before each of these names in FluenzR."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, written: object) -> object:
        if isinstance(written, str):
            return {"name": written}
        if not isinstance(written, dict):
            raise ValueError("a name, or a table with name or from, expected")  # noqa: TRY004
        return written

    @model_validator(mode="after")
    def _one_origin(self) -> "NameSettings":
        if (self.name is None) == (self.source is None):
            raise ValueError("exactly one of name and from is needed")
        if self.source is not None and self.when is not None:
            raise ValueError("when goes with name only")
        if self.name is not None and self.prefix:
            raise ValueError("prefix goes with from only")
        return self

    def rule(self) -> NameRule:
        """The same as a plain value, for the mapping."""
        return NameRule(**dict(self))


class CampaignSettings(Table):
    """One entry of `campaigns`; a text alone is a name."""

    name: NameText
    """The name of a campaign that is there (`syncd campaigns list`)."""
    when: Expression | None = None
    """An expression: those of whom it is true."""

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, written: object) -> object:
        if isinstance(written, str):
            return {"name": written}
        if not isinstance(written, dict):
            raise ValueError("a name, or a table with name, expected")  # noqa: TRY004
        return written

    def rule(self) -> NameRule:
        """The same as a plain value, for the mapping."""
        return NameRule(**dict(self))


class SyncSettings(Table):
    """`[sync.NAME]`: who of a source is wanted in FluenzR, and with what. The order in the file is the priority."""

    source: str
    """The NAME of a `[source.NAME]`."""
    schedule: ScheduleText | None = None
    """`every 15 minutes` (seconds, minutes, hours, days), or cron: `*/15 7-19 * * 1-5`; without it, by hand only."""
    timezone: Timezone = "UTC"
    """Of cron schedules."""
    full_every_s: DurationS = Field(default=86400.0, alias="full_every")
    """How often everything is read; incremental reads between, where the connector can do them."""
    where: Expression | None = None
    """An expression: only those of whom it is true are wanted."""
    opted_out: StrictExpression | None = None
    """An expression; true: never created, taken out of groups and campaigns."""
    groups: tuple[NameSettings, ...] = ()
    """Groups that each person joins: a name, or a table."""
    tags: tuple[NameSettings, ...] = ()
    """Tags that each person gets: a name, or a table."""
    campaigns: tuple[CampaignSettings, ...] = ()
    """Campaigns in which each person is enrolled, once for ever, and mailed: a name, or a table."""
    create_groups: StrictBool = True
    """Missing groups are created, static."""
    on_removal: Literal["keep", "ungroup", "delete"] = "ungroup"
    """What happens to who has left the source."""
    on_existing: Literal["update", "skip"] = "update"
    """Whether people who were in FluenzR before are updated."""
    empty: Literal["clear", "keep"] = "clear"
    """What an empty value does to a field that the sync itself had written."""
    fields: dict[str, FieldSettings] = {}
    """FluenzR's name = a path in the record, or a table. Without it, the connector's own mapping, where it has one."""
    custom_fields: dict[str, FieldSettings] = {}
    """The same by FluenzR's technical name."""
    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        """The NAME of `[sync.NAME]`."""
        return self._name

    def named(self, name: str) -> "SyncSettings":
        """The same, knowing its name: the key of the table, not in it."""
        self._name = name
        return self

    def rules(self) -> MappingRules:
        """All that decides what a record becomes, as plain values."""
        return MappingRules(
            fields=tuple(entry.rule(name) for name, entry in self.fields.items()),
            custom_fields=tuple(entry.rule(name) for name, entry in self.custom_fields.items()),
            where=self.where,
            opted_out=self.opted_out,
            groups=tuple(entry.rule() for entry in self.groups),
            tags=tuple(entry.rule() for entry in self.tags),
            campaigns=tuple(entry.rule() for entry in self.campaigns),
            empty=self.empty,
        )


class SourceTable(Table):
    """`[source.NAME]` without the connector's own options."""

    connector: str
    """Which kind of source: `syncd connectors` lists what is installed."""
    time_limit_s: Annotated[DurationS, Field(gt=0)] = Field(default=86400.0, alias="time_limit")
    """How long a run waits for this source in all, before it cuts it off and goes on with the other syncs."""


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """`[source.NAME]`. options: as written; validated: the same as the connector's own model."""

    name: str
    connector: str
    options: Mapping[str, Any] = field(repr=False)
    validated: Options = field(repr=False)
    time_limit_s: float


class WriteBackTable(Table):
    """`[sync.NAME.write_back]`: what the source is told; the writer's own options stand beside these."""

    writer: str | None = None
    """Who writes; without it, the writer of the source's connector."""
    heard: Annotated[frozenset[Heard], Field(min_length=1)] | None = None
    """What is told; without it opt-outs and bounces, or what the writer has a field for."""


@dataclass(frozen=True, slots=True)
class WriteBackSettings:
    """What of FluenzR a sync's source is told, and by which writer. validated: the writer's own model."""

    writer: str
    heard: frozenset[Heard]
    validated: Options = field(repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. path: the file; folder: where relative paths start. syncs: in file
    order, the priority.
    """

    path: Path
    folder: Path
    fluenzr: FluenzrSettings
    state: StateSettings
    backup: BackupSettings | None  # None: the daemon makes no copies
    guard: GuardSettings
    http: HttpSettings | None  # None: the daemon does not listen
    webhooks: WebhooksSettings | None
    metrics: MetricsSettings
    alerts: AlertsSettings | None
    sources: Mapping[str, SourceSettings]
    syncs: Mapping[str, SyncSettings]
    write_backs: Mapping[str, WriteBackSettings]  # by the sync's name
