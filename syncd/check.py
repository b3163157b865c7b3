"""What `syncd check` finds: everything that a run needs, looked at one after the other, as data.

Nothing is sent and nothing is changed, except that the state's folder and lock file are made, as a run
would. It decides what counts as a failure and what to do about it; how that is shown is
`syncd.report.checks`'s business.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from syncd import backup, registry
from syncd.clock import Clock
from syncd.config import Settings, SyncSettings
from syncd.connector import Connector, Context, Record, Request, SourceField
from syncd.core.mapping import compile_mapping
from syncd.core.model import GroupKind
from syncd.core.nearest import suggestion
from syncd.errors import AccessDenied, ConfigError, FluenzrError, SourceError, StateBusy, StateError
from syncd.fluenzr import FluenzR
from syncd.fluenzr.campaign_types import ENDED, Campaign, called
from syncd.fluenzr.types import Group
from syncd.init import NOTED_MAX, as_expression, either, like_opt_outs
from syncd.reading import ALWAYS_KNOWN, Feed, asking, unknown_names
from syncd.state import copy
from syncd.state.store import hold, open_state
from syncd.stream import Leash
from syncd.write_back import writer_of

KEY_SHAPE = re.compile(r"flz_sk_[A-Za-z0-9]{32}")  # [D]: another shape is only a warning
REQUEST_S_MAX = 60.0  # a request to FluenzR is over after this, whatever happens
FIELDS_SHOWN_MAX = 30  # of a source, where a name is not among them
SAMPLE_RECORDS = 1000  # read to see which names a source has that cannot list them
CONFIGURATION, UNREACHABLE = 2, 1  # exit codes


class Grade(StrEnum):
    """How a finding counts."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. what: its place or name. hint: what to do.

    exit_code: of a failure: 2 is the configuration's, 1 is something that cannot be reached.
    """

    what: str
    grade: Grade
    text: str
    hint: str = ""
    exit_code: int = 0


def findings(load: Callable[[], Settings], *, offline: bool, clock: Clock) -> Iterator[Finding]:
    """Everything, in the order in which a run needs it; each as soon as it is known.

    load: the configuration, or ConfigError. offline: FluenzR is not asked.
    """
    try:
        settings = load()
    except ConfigError as error:
        yield _failed("configuration", error)
        return
    sources, syncs = len(settings.sources), len(settings.syncs)
    yield _ok("configuration", f"{settings.path}: {sources} source(s), {syncs} sync(s)")
    yield from state(settings, clock)
    yield from _copies(settings, clock)
    yield from _settle(settings)
    yield from _page(settings)
    key = _key(settings)
    yield from key
    usable = key[0].grade is not Grade.FAILED
    there: _There | None = None
    if offline:
        yield Finding("fluenzr", Grade.NOTE, "not asked: --offline")
    elif usable:
        found = _fluenzr(settings, clock)
        if isinstance(found, Finding):
            yield found
        else:
            there = found
            yield _ok("fluenzr", f"reachable, the key is accepted, {len(there.groups)} group(s)")
    broken = set()
    for finding in _sources(settings, clock):
        yield finding
        if finding.grade is Grade.FAILED:
            broken.add(finding.what)
    for name, sync in settings.syncs.items():
        if f"source.{sync.source}" not in broken:  # its failure says it all
            yield from _names(settings, name, sync, clock)
        yield from _sync(name, sync, there)
        yield from _write_back(settings, name, clock)


def gravest(found: list[Finding]) -> int:
    """The exit code: 2 for the configuration, else 1 for what cannot be reached, else 0."""
    return max((one.exit_code for one in found if one.grade is Grade.FAILED), default=0)


def state(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Whether the state is sound, and can be written and locked."""
    path = settings.state.path
    try:
        with hold(path, wait_s=0.0, clock=clock), open_state(path, rehearsal=True) as opened:
            damaged = copy.damage(opened.db)
    except StateBusy:
        yield Finding(
            "state",
            Grade.NOTE,
            f"{path} is in use by another process just now: a run, or the daemon's",
        )
    except StateError as error:
        yield _failed("state", error)
    else:
        if damaged is not None:
            hint = "Restore a copy of it: syncd restore FILE"
            yield Finding("state", Grade.FAILED, f"{path} is damaged: {damaged}", hint, UNREACHABLE)
            return
        if path.exists() and not os.access(path, os.W_OK):
            yield Finding(
                "state",
                Grade.FAILED,
                f"{path} cannot be written",
                "Make it writable for the user that runs syncd",
                UNREACHABLE,
            )
            return
        words = (
            "is sound, can be written and locked"
            if path.exists()
            else "will be made by the first run"
        )
        yield _ok("state", f"{path} {words}")


def _copies(settings: Settings, clock: Clock) -> Iterator[Finding]:
    """Whether copies of the state are made, and the newest one is sound."""
    try:
        shelf = backup.shelf(settings, now_s=clock.now_s())
    except StateError as error:
        yield _failed("backup", error, exit_code=UNREACHABLE)
        return
    if shelf is None:
        hint = (
            'Write [backup] with folder = "backups", best on another disk; cron users: syncd backup'
        )
        yield Finding("backup", Grade.NOTE, "nobody makes copies of the state", hint)
    elif shelf.damaged:
        text = f"{', '.join(map(str, shelf.damaged))}: damaged, and useless as a copy"
        hint = "Look at that disk, delete it, then run `syncd backup`"
        yield Finding("backup", Grade.WARNING, text, hint)
    elif not shelf.copies:
        text = f"no copy is in {shelf.folder} yet"
        hint = "`syncd run` makes one after its first run; else: syncd backup"
        yield Finding("backup", Grade.NOTE, text, hint)
    else:
        made_s = shelf.copies[0].made_s or 0
        made = datetime.fromtimestamp(made_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
        text = f"{len(shelf.copies)} in {shelf.folder}, the newest of {made}"
        if shelf.late:
            hint = "Look why in the daemon's log (backup.failed), or run `syncd backup`"
            yield Finding("backup", Grade.WARNING, f"{text}: another one is overdue", hint)
        else:
            yield _ok("backup", f"{text}: it is sound")


def _settle(settings: Settings) -> Iterator[Finding]:
    settle_s = settings.fluenzr.settle_s
    if settle_s < REQUEST_S_MAX:
        yield Finding(
            "fluenzr.settle",
            Grade.WARNING,
            f"{settle_s:g} s is shorter than a request may take ({REQUEST_S_MAX:g} s):"
            " a change that got no answer could still take effect after it was looked up",
            'Write settle = "2 minutes", unless this is a sandbox',
        )


def _page(settings: Settings) -> Iterator[Finding]:
    from syncd.web.door import token_of

    if settings.http is None or settings.http.token is None:
        return
    try:
        token_of(settings.http.token)
    except ConfigError as error:
        yield _failed("http.token", error)
    else:
        yield _ok("http.token", "is there")


def _key(settings: Settings) -> list[Finding]:
    try:
        value = settings.fluenzr.api_key.reveal()
    except ConfigError as error:
        return [_failed("fluenzr.api_key", error)]
    if not KEY_SHAPE.fullmatch(value):
        return [
            Finding(
                "fluenzr.api_key",
                Grade.WARNING,
                "is there, but does not look like flz_sk_ and 32 letters and digits",
                "Copy the key again from FluenzR's settings, without quotes or spaces",
            )
        ]
    return [_ok("fluenzr.api_key", "is there")]


@dataclass(frozen=True, slots=True)
class _There:
    """What the account has. campaigns: asked for only where a sync names some."""

    groups: list[Group]
    campaigns: list[Campaign]


def _fluenzr(settings: Settings, clock: Clock) -> _There | Finding:
    """The groups and campaigns of the account, or what is in the way."""
    named = any(sync.campaigns for sync in settings.syncs.values())
    try:
        with client(settings, clock) as api:
            return _There(api.groups(), api.campaigns() if named else [])
    except AccessDenied as error:
        return _failed("fluenzr", error, exit_code=CONFIGURATION)
    except (FluenzrError, ConfigError) as error:
        return _failed("fluenzr", error)


def client(settings: Settings, clock: Clock) -> FluenzR:
    """FluenzR, as the configuration has it. Raises ConfigError."""
    fluenzr = settings.fluenzr
    return FluenzR(
        fluenzr.api_key.reveal(),
        base_url=fluenzr.base_url,
        requests_per_minute=fluenzr.requests_per_minute,
        share=fluenzr.share,
        clock=clock,
    )


def _sources(settings: Settings, clock: Clock) -> Iterator[Finding]:
    used = {sync.source for sync in settings.syncs.values()}
    for name, source in settings.sources.items():
        place = f"source.{name}"
        if name not in used:
            yield Finding(
                place, Grade.WARNING, "no sync uses it", f'Write source = "{name}" in a [sync.NAME]'
            )
            continue
        try:
            with asking(name):
                found = _connector(settings, name, clock).check()
            yield _ok(place, found)
        except (SourceError, ConfigError) as error:
            yield _failed(place, error)
            continue
        if "key" in type(source.validated).model_fields and not getattr(
            source.validated, "key", None
        ):
            yield Finding(
                f"{place}.key",
                Grade.WARNING,
                "no column identifies a row, so the e-mail address does: a changed address is"
                " another person, removed under the old one and created under the new one",
                'Write key = "the column that never changes", such as a customer number',
            )


def _connector(settings: Settings, name: str, clock: Clock) -> Connector:
    source = settings.sources[name]
    return registry.load(source.connector)(
        source.validated, Context(folder=settings.folder, clock=clock)
    )


def _write_back(settings: Settings, name: str, clock: Clock) -> Iterator[Finding]:
    """Whether the source can be told what FluenzR hears; nothing is written."""
    writer = writer_of(settings, name, clock)
    if writer is None:
        return
    place = f"sync.{name}.write_back"
    try:
        with asking(settings.write_backs[name].writer):
            yield _ok(place, writer.check())
    except (SourceError, ConfigError) as error:
        yield _failed(place, error)


def _sync(name: str, sync: SyncSettings, there: _There | None) -> Iterator[Finding]:
    place = f"sync.{name}"
    if there is not None:
        yield from _groups(place, sync, there.groups)
        for entry in sync.campaigns:
            what = f'{place}.campaigns "{entry.name}"'
            yield _campaign(what, entry.when, called(there.campaigns, entry.name))
    if sync.on_removal == "delete":
        yield Finding(
            f"{place}.on_removal",
            Grade.NOTE,
            "deletes need a run of all syncs (`syncd sync` without names), none of them failed or"
            " held, and proof that the contact was made by a sync; anybody else is only taken out"
            " of groups",
        )


def _names(settings: Settings, name: str, sync: SyncSettings, clock: Clock) -> Iterator[Finding]:
    """Whether the source has every name that the mapping uses."""
    place = f"sync.{name}.fields"
    connector = _connector(settings, sync.source, clock)
    limit_s = settings.sources[sync.source].time_limit_s
    feed = Feed(sync, connector, compile_mapping(sync.rules()), "", limit_s, Leash(clock))
    abilities = feed.connector.ABILITIES
    try:
        if abilities.fields_known:
            with asking(feed.settings.source):
                fields = feed.connector.fields()
            known = {field.name for field in fields}
            lacking = list(unknown_names(feed))
            for where, text in lacking:
                hint = f"Write one of its fields: {', '.join(sorted(known)[:FIELDS_SHOWN_MAX])}"
                yield Finding(where, Grade.FAILED, text, hint, CONFIGURATION)
            if not lacking:
                yield _ok(place, f"every name is known to {sync.source}")
        else:
            known, count = _sampled(feed)
            fields = [SourceField(column) for column in sorted(known)]
            yield from _unseen(name, feed, known | abilities.joins | ALWAYS_KNOWN, count)
    except ConfigError as error:
        yield _failed(place, error)
        return
    except SourceError:
        return  # said of the source already
    yield from _opt_outs(name, feed, fields)


def _opt_outs(name: str, feed: Feed, fields: Sequence[SourceField]) -> Iterator[Finding]:
    """Whether everything is read that may say who has opted out."""
    sync, abilities = feed.settings, feed.connector.ABILITIES
    there = {field.name for field in fields} | abilities.joins
    columns = [column for column in abilities.opt_outs if column in there]
    alike = [column for column in like_opt_outs(fields) if column not in abilities.opt_outs]
    place = f"sync.{name}.opted_out"
    if sync.opted_out is None and (columns or alike):
        likely = columns or alike[:1]
        yield Finding(
            place,
            Grade.WARNING,
            f"{sync.source} has {', '.join(likely)}, which usually holds an opt-out, and no"
            " opt-out is read",
            f"Write opted_out = '{as_expression(likely[0])}'",
        )
    elif unread := [column for column in alike if column not in feed.mapping.names]:
        yield Finding(
            place,
            Grade.NOTE,
            f"{', '.join(unread[:NOTED_MAX])}: this looks like an opt-out too, and is not read",
            f"If it is one, write opted_out = '{either(sync.opted_out or '', unread[0])}'",
        )


def _sampled(feed: Feed) -> tuple[set[str], int]:
    """The names in the first records, and how many records these were."""
    names: set[str] = set()
    count = 0
    used = feed.mapping.names
    events = feed.connector.read(Request(fields=None if "record" in used else used))
    try:
        for event in islice(events, SAMPLE_RECORDS):
            if isinstance(event, Record):
                names.update(event.fields)
                count += 1
    finally:
        close = getattr(events, "close", None)  # a generator has one: it frees what it holds
        if close is not None:
            close()
    return names, count


def _unseen(name: str, feed: Feed, known: set[str], count: int) -> Iterator[Finding]:
    place = f"sync.{name}.fields"
    if not count:
        yield Finding(
            place, Grade.WARNING, "the source has no records, so no name could be looked at"
        )
        return
    missing = False
    for use in feed.mapping.uses:
        if use.names and not known.intersection(use.names):
            missing = True
            yield Finding(
                f"sync.{name}.{use.place}",
                Grade.WARNING,
                f"none of the first {count} records has {use.names[0]!r}",
                suggestion(use.names[0], known),
            )
    if not missing:
        yield _ok(place, f"every name is in the first {count} records")


def _groups(place: str, sync: SyncSettings, groups: list[Group]) -> Iterator[Finding]:
    """Whether each group is there, once, and what it does to those who join it."""
    for entry in sync.groups:
        if entry.name is None:
            yield Finding(
                f"{place}.groups",
                Grade.NOTE,
                f"names come from the records ({entry.source}): `syncd plan` shows whom a dynamic"
                " group among them would mail",
            )
            continue
        matching = [g for g in groups if entry.name in (g.id, g.name)] or [
            g for g in groups if g.name.casefold() == entry.name.casefold()
        ]
        yield _group(f'{place}.groups "{entry.name}"', sync, entry.when, matching)


def _group(what: str, sync: SyncSettings, when: str | None, matching: list[Group]) -> Finding:
    if len(matching) > 1:
        return Finding(
            what,
            Grade.FAILED,
            f"FluenzR has {len(matching)} groups of this name: {', '.join(g.id for g in matching)}",
            "Rename one of them in FluenzR, or write the group's id instead of its name",
            CONFIGURATION,
        )
    if not matching:
        if sync.create_groups:
            return Finding(
                what, Grade.NOTE, "is not there: the first run creates it, as a static one"
            )
        return Finding(
            what,
            Grade.FAILED,
            "is not there, and create_groups is false",
            "Create it in FluenzR, or correct the name",
            CONFIGURATION,
        )
    if matching[0].kind is GroupKind.STATIC:
        return _ok(what, "is there, static: joining it mails nobody")
    if matching[0].kind is GroupKind.DYNAMIC:
        text = (
            "is DYNAMIC: whoever joins it is mailed at once, by every active campaign linked to it"
        )
    else:
        text = (
            "has a type that FluenzR does not tell: it counts as dynamic, joining it may send mail"
        )
    hint = (
        "" if when else "Give it to a few with { name = ..., when = ... }, and look at `syncd plan`"
    )
    return Finding(what, Grade.WARNING, text, hint)


def _campaign(what: str, when: str | None, matching: list[Campaign]) -> Finding:
    """Whether a campaign is there, once, and what it does to those who are enrolled."""
    if len(matching) != 1:
        ids = ", ".join(campaign.id for campaign in matching)
        return Finding(
            what,
            Grade.FAILED,
            f"FluenzR has {len(matching)} campaigns of this name: {ids}" if ids else "is not there",
            "Rename one of them in FluenzR, or write the campaign's id instead of its name"
            if ids
            else "Create it (`syncd campaigns create FILE`), or correct the name",
            CONFIGURATION,
        )
    status = matching[0].status or "of a status that FluenzR does not tell"
    if status in ENDED:
        text = f"is {status}: nobody is enrolled any more"
        return Finding(what, Grade.WARNING, text, "Take it out of the configuration")
    mails = "mails whoever is enrolled" + ("" if status == "active" else ", as soon as it runs")
    hint = "Enrol a few with { name = ..., when = ... }, and look at `syncd plan`"
    return Finding(what, Grade.WARNING, f"is {status}: {mails}", "" if when else hint)


def _ok(what: str, text: str) -> Finding:
    return Finding(what, Grade.OK, text)


def _failed(
    what: str,
    error: ConfigError | SourceError | StateError | FluenzrError,
    *,
    exit_code: int | None = None,
) -> Finding:
    """A failure in an error's own words."""
    code = exit_code or (CONFIGURATION if isinstance(error, ConfigError) else UNREACHABLE)
    text = ". ".join(part.rstrip(".") for part in (error.what, error.why) if part)
    return Finding(what, Grade.FAILED, text, error.hint, code)
