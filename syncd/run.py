"""One run: read -> map -> diff -> guard -> upload -> record. The only place where everything meets.

    lock, list the groups, read what is in flight, read FluenzR's opt-outs
    per sync: read the source, note its opt-outs, promote the read unless a guard holds it
    take whoever opted out in a source out of every group and campaign
    upload what is wanted and not there; read what is in doubt; close the books

Every commit point is in `state`; a run that is killed anywhere goes on with the next one.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

from syncd import registry
from syncd.backup import after_run
from syncd.clock import Clock, SystemClock
from syncd.config import Settings, SyncSettings
from syncd.connector import Context
from syncd.core.change import Change
from syncd.core.mapping import compile_mapping
from syncd.core.nearest import suggestion
from syncd.core.result import PlanResult, Status, SyncResult
from syncd.errors import ConfigError, FluenzrError, SourceError, SyncdError, UsageError
from syncd.fluenzr import FluenzR
from syncd.part import Books, Part
from syncd.planning import Forecast, pending
from syncd.promotion import Ground, meet_pending, promote_read
from syncd.reading import Feed, Latecomers, check_names, read, read_apart
from syncd.sealed import SealedPlan
from syncd.state import books, events, links, listed, queue, reads, runs, sealed, steps, unusable
from syncd.state.groups import Groups
from syncd.state.links import SyncRule
from syncd.state.reads import Read, SyncRow
from syncd.state.store import State, hold, open_state
from syncd.stream import LateError, Leash, SilentError
from syncd.upload import listing
from syncd.upload.campaigns import meet_campaigns, read_campaigns
from syncd.upload.pool import Pool
from syncd.upload.recover import recover
from syncd.upload.refresh import note_account_listed, refresh_account
from syncd.upload.rounds import opt_out, upload
from syncd.upload.session import Session
from syncd.watch import Watch
from syncd.write_back import write_back

UNUSABLE_SHOWN_MAX = 5  # records without a usable address that a plan names


@dataclass(frozen=True, slots=True)
class Order:
    """What was asked for. names: syncs, () for all. full: read whole even where a cursor is there.

    wait_s: for the lock. email: only this person. limit: only the first so many people who would change.
    sealed: only the changes of this plan.
    """

    names: tuple[str, ...] = ()
    full: bool = False
    wait_s: float = 0.0
    email: str | None = None
    limit: int | None = None
    sealed: SealedPlan | None = None

    @property
    def chosen(self) -> bool:
        """Whether only some people are meant."""
        return self.email is not None or self.limit is not None


def sync(
    settings: Settings,
    order: Order,
    *,
    clock: Clock,
    watch: Watch,
    late: Latecomers | None = None,
) -> list[SyncResult]:
    """One run of the named syncs; their results, in the order of the configuration.

    Raises ConfigError, UsageError, StateError, Interrupted; what a source or FluenzR refuses is in the results.
    late: for whoever goes on to other runs meanwhile. A sync whose source is silent is put there instead of being waited for, is none
    of the results, and is taken from there when it is named again.
    """
    with _opened(settings, order, clock, watch, rehearsal=False, late=late) as run:
        results = run.execute()
        after_run(settings, run.state, results)
        return results


def plan(
    settings: Settings,
    order: Order,
    *,
    clock: Clock,
    watch: Watch,
    show: Callable[[Change], None],
    seal: Callable[[Change], None] | None = None,
) -> list[PlanResult]:
    """What `sync` would do. Sends nothing but reads, keeps nothing. show: called once per change, as they are found.

    seal: called once per person and sync with everything that would be sent, for a sealed plan.
    """
    with _opened(settings, order, clock, watch, rehearsal=True) as run:
        return run.rehearse(show, seal)


def versions(settings: Settings, names: tuple[str, ...]) -> dict[str, str]:
    """name -> version of the mapping and the source's options, of the named syncs: what a sealed plan was made for."""
    clock = SystemClock()  # asked by nobody: nothing is read
    return {sync.name: feed_of(settings, sync, clock).version for sync in _named(settings, names)}


@contextlib.contextmanager
def _opened(
    settings: Settings,
    order: Order,
    clock: Clock,
    watch: Watch,
    *,
    rehearsal: bool,
    late: Latecomers | None = None,
) -> Iterator["_Run"]:
    """Everything that a run needs, taken in the order in which it can fail, and given back."""
    feeds = [feed_of(settings, sync, clock) for sync in _named(settings, order.names)]
    if order.sealed is not None:
        current = {feed.name: feed.version for feed in feeds}
        order.sealed.check(fluenzr=settings.fluenzr.base_url, syncs=current)
    # With several, one source that lost a column does not stop the others; with `late`, one that hangs does not.
    if len(feeds) == 1 and late is None:
        with contextlib.suppress(SourceError):  # said again, and counted, when the source is read
            check_names(feeds[0])
    fluenzr = settings.fluenzr
    api = FluenzR(
        fluenzr.api_key.reveal(),
        base_url=fluenzr.base_url,
        requests_per_minute=fluenzr.requests_per_minute,
        share=fluenzr.share,
        clock=clock,
    )
    path = settings.state.path
    with (
        api,
        hold(path, wait_s=order.wait_s, clock=clock),
        open_state(path, rehearsal=rehearsal) as state,
    ):
        meanwhile = None if rehearsal else partial(events.take_over, state)
        pool = Pool(clock, api, meanwhile=meanwhile)
        try:
            yield _Run(settings, order, feeds, state, api, pool, clock, watch, late)
        finally:
            pool.close()


def _named(settings: Settings, names: tuple[str, ...]) -> list[SyncSettings]:
    for name in names:
        if name not in settings.syncs:
            raise UsageError(
                f"There is no sync {name!r} in {settings.path}",
                hint=suggestion(name, settings.syncs),
            )
    return [sync for name, sync in settings.syncs.items() if not names or name in names]


def feed_of(settings: Settings, sync: SyncSettings, clock: Clock) -> Feed:
    """One sync with its source and its compiled mapping, ready to be read."""
    source = settings.sources[sync.source]
    leash = Leash(clock)
    context = Context(folder=settings.folder, clock=leash)
    connector = registry.load(source.connector)(source.validated, context)
    mapping = compile_mapping(sync.rules())
    options = repr((source.connector, sorted(source.options.items())))
    version = hashlib.blake2b(f"{mapping.version}{options}".encode(), digest_size=16).hexdigest()
    return Feed(sync, connector, mapping, version, source.time_limit_s, leash)


def rules_of(settings: Settings, state: State) -> dict[int, SyncRule]:
    """What linking and merging need of every configured sync, by its number in the state (inside a transaction)."""
    return {
        reads.sync_row(state, name).sync: SyncRule(
            rank, sync.on_removal, sync.on_existing == "skip", sync.source
        )
        for rank, (name, sync) in enumerate(settings.syncs.items())
    }


class _Run:
    """The steps of one run, with what they share."""

    def __init__(
        self,
        settings: Settings,
        order: Order,
        feeds: list[Feed],
        state: State,
        api: FluenzR,
        pool: Pool,
        clock: Clock,
        watch: Watch,
        late: Latecomers | None,
    ) -> None:
        self.settings, self.order, self.state, self.clock = settings, order, state, clock
        self._late = late
        self._started_s, self.account_listed = clock.monotonic_s(), False
        with state.tx():
            number = runs.start_run(state, now_s=int(clock.now_s()))
            self.rules = rules_of(settings, state)
            rows = [reads.sync_row(state, feed.name) for feed in feeds]
        books.prepare_books(state)
        probe = state.meta("probe") or {}
        self.session = Session(
            state, api, pool, Groups(state), clock, watch, number,
            bulk=settings.fluenzr.bulk,
            settle_s=settings.fluenzr.settle_s,
            custom_fields_merge=probe.get("bulk_custom_fields") == "merge",
            clears_with="" if probe.get("clearing") == "empty_string" else None,
        )  # fmt: skip
        listed.prepare_listed(state)
        if order.sealed is not None:
            sealed.prepare(state, order.sealed.rows())
            self.session.only_stepped = True
        steps.prepare_stepped(state)
        self.parts = [
            Part(
                self._begun(feed, row),
                row,
                SyncResult(number, feed.name, refused=[] if order.sealed else None),
            )
            for feed, row in zip(feeds, rows, strict=True)
        ]

    def _begun(self, feed: Feed, row: SyncRow) -> Feed:
        """Where a run before has begun to read this sync, with the same words: go on with that."""
        late = self._late
        return (late and late.expects(feed, row, full=self.order.full)) or feed

    # --- a real run -------------------------------------------------------------------------------------------

    def execute(self) -> list[SyncResult]:
        """Do it, and close the books whatever happens."""
        try:
            self._prepare()
            for part in self.parts:
                self._step(part, self._ground())
            self.parts = [part for part in self.parts if not part.late]
            opt_out(self.session, self.rules)
            if self.order.sealed:
                self._meet_pending()
            self.session.may_delete = self._may_delete()
            upload(self.session, self.rules)
        except FluenzrError as error:
            self._fail_all(error)
        except SyncdError as error:
            self._fail_all(error)
            self._close_books()
            raise
        if not (self.order.chosen or self.order.sealed):  # a careful try touches nobody else
            self._write_back()
        self._close_books()
        return [part.result for part in self.parts]

    def _write_back(self) -> None:
        """Tell the sources what FluenzR has heard, also where something else has failed."""
        for part in self.parts:
            told = write_back(
                self.settings, self.state, part.row, clock=self.clock, watch=self.session.watch
            )
            part.result.written_back, part.result.back_refused = told.written, told.refused
            part.result.back_error = told.error
            if (told.error or told.refused) and part.result.status is Status.OK:
                part.result.status = Status.PARTIAL

    def _prepare(self) -> None:
        """Before anything else: the groups' types, what is in flight, who has opted out."""
        with self.state.tx():
            queue.rein_in(self.state, now_s=self.session.now_s())
        self._read_groups()
        recover(self.session)
        listing.refresh_opt_outs(self.session)
        self.account_listed = refresh_account(self.session)
        recover(self.session)
        if self.account_listed:
            note_account_listed(self.session)
        elif any(part.row.promoted_at is None for part in self.parts):  # a first run lists it
            listing.begin_listing(self.session)

    def _read_groups(self) -> None:
        listing.read_groups(self.session)
        if any(sync.campaigns for sync in self.settings.syncs.values()):
            read_campaigns(self.session)

    def _ground(self) -> Ground:
        return Ground(
            self.session,
            self.rules,
            self.settings.guard.limits(),
            chosen=self.order.chosen,
            sealed=self.order.sealed is not None,
        )

    def _meet_pending(self) -> None:
        for part in self.parts:
            meet_pending(self._ground(), part.row)

    def _step(self, part: Part, ground: Ground) -> None:
        """Read one source and promote it, or say why not. Other syncs go on."""
        before = self.session.api.requests
        try:
            self._read(part)
            assert part.read is not None
            if self._needs_listing(part.row, part.read):
                listing.list_account(self.session)
                self.account_listed = True
                note_account_listed(self.session)
            part.promoted = part.read.unchanged_source and ground.chosen
            if not part.promoted:
                if not part.read.unchanged_source:
                    names = [entry.name for entry in part.feed.settings.campaigns]
                    meet_campaigns(self.session, names, sync=part.feed.name)
                step = promote_read(ground, part.row, part.feed, part.read)
                part.same, part.struck = step.same, step.struck
                part.held_fates = step.held_fates
                part.result.trips, part.result.held = step.trips, step.held
                part.promoted = not step.trips
                if step.trips:
                    part.result.status, part.ended = Status.HELD, True
        except LateError:
            assert self._late is not None
            part.late, self._late.feeds[part.feed.name] = True, part.feed
        except (SourceError, ConfigError) as error:
            self._fail(part, error)
        part.result.requests += self.session.api.requests - before

    def _read(self, part: Part) -> None:
        state, late = self.state, self._late
        if late is not None:
            # From here on nobody else takes it; a run that has failed before has not begun.
            late.feeds.pop(part.feed.name, None)
            if part.feed.name in late.apart and part.feed.late is None:
                self._read_apart(part)
        try:
            part.read = read(
                state,
                part.row,
                part.feed,
                full=self.order.full,
                now_s=self.session.now_s(),
                watch=self.session.watch,
                patient=late is None,
            )
        except (SourceError, ConfigError) as error:
            with state.tx():
                # What was read of a broken read still says who must not be mailed.
                links.apply_opt_outs(state, part.row)
            if late is not None and isinstance(error, SilentError):
                late.apart.add(part.feed.name)
                # A connector of its own: the other one hangs.
                part.feed = feed_of(self.settings, part.feed.settings, self.clock)
                self._read_apart(part)
            raise
        with state.tx():
            links.apply_opt_outs(state, part.row)
            if self.order.chosen:
                reads.keep_only_chosen(
                    state, part.read, email=self.order.email, limit=self.order.limit
                )
                self.session.only_stepped = True

    def _read_apart(self, part: Part) -> NoReturn:
        read_apart(part.feed, part.row, full=self.order.full, now_s=self.session.now_s())
        raise LateError

    def _needs_listing(self, row: SyncRow, found: Read) -> bool:
        """A sync's first records meet whoever is in FluenzR already: the account is listed once, before anything is sent."""
        return not row.listed and found.read > 0 and not self.account_listed

    def _may_delete(self) -> bool:
        """Deleting needs the word of every source: all were read in this run, none is held or failed."""
        everything = {part.feed.name for part in self.parts} == set(self.settings.syncs)
        whole = not any(part.ended or (part.read and part.read.passed_over) for part in self.parts)
        return everything and not self.order.chosen and whole

    def _fail(self, part: Part, error: SyncdError) -> None:
        part.result.status, part.result.error, part.ended = Status.FAILED, str(error), True
        part.result.exit_code = error.exit_code
        part.read = None
        with self.state.tx():
            steps.drop_token(self.state, part.row)

    def _fail_all(self, error: SyncdError) -> None:
        for part in self.parts:
            part.result.status, part.result.error = Status.FAILED, part.result.error or str(error)

    def _close_books(self) -> None:
        """Count what became of every record; a run whose books do not balance is a failed one."""
        seconds = round(self.clock.monotonic_s() - self._started_s, 3)
        counted = sum(part.result.requests for part in self.parts)
        if self.parts:  # what all syncs share is told with the first
            self.parts[0].result.requests += self.session.api.requests - counted
        for part in self.parts:
            part.result.seconds = seconds
            Books(self.session, part).close()
        with self.state.tx():
            steps.forget_judged(self.state)
            runs.end_run(
                self.state,
                self.session.run,
                [p.result for p in self.parts],
                now_s=self.session.now_s(),
            )

    # --- a plan -----------------------------------------------------------------------------------------------

    def rehearse(
        self, show: Callable[[Change], None], seal: Callable[[Change], None] | None
    ) -> list[PlanResult]:
        """The same steps inside one transaction that is rolled back; nothing is uploaded."""
        self._read_groups()
        listing.refresh_opt_outs(self.session)
        results = []
        for part in self.parts:
            forecast = Forecast(part.feed.name, self.session, show)
            ground = replace(self._ground(), show=forecast.note, cost=forecast.cost, seal=seal)
            self._step(part, ground)
            if part.read is not None:
                part.unusable = unusable.of_read(
                    self.state, part.row, part.read, limit=UNUSABLE_SHOWN_MAX
                )
            results.append((part, forecast))
        for part, forecast in results:
            for change in pending(forecast, part.row):
                forecast.note(change)
                if seal is not None:
                    seal(change)
        return [self._planned(part, forecast) for part, forecast in results]

    def _planned(self, part: Part, forecast: Forecast) -> PlanResult:
        result, found = forecast.result, part.read
        result.trips, result.held = part.result.trips, part.result.held
        result.error, result.exit_code = part.result.error, part.result.exit_code
        if found is not None:
            of_sync = Books(self.session, part)
            fates = of_sync.unchanged() + of_sync.staged()
            result.skipped_by = of_sync.skipped(fates)
            if fates["quarantined"]:
                result.skipped_by["blocked"] = fates["quarantined"] + fates["skipped:blocked"]
            result.opted_out, result.unusable = fates["opted_out"], part.unusable
            result.read, result.unchanged = found.read, found.same + part.same
            told = of_sync.part.feed.connector.ABILITIES.tombstones
            result.sees_removals = found.full or found.unchanged_source or told
        result.new_groups = sorted(
            g for g in forecast.groups() if not self.session.groups.exists(g)
        )
        result.requests += len(result.new_groups)
        result.quarantine = books.backlog(
            self.state, part.row.sync, now_s=self.session.now_s()
        ).quarantined
        per_minute = self.settings.fluenzr.requests_per_minute * self.settings.fluenzr.share
        result.requests += part.result.requests
        if part is self.parts[0]:
            counted = sum(p.result.requests for p in self.parts)
            result.requests += self.session.api.requests - counted
        result.seconds_at_limit = round(result.requests * 60 / per_minute, 1)
        return result
