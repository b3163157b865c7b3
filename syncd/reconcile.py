"""`reconcile`: the state is made to agree with FluenzR again. Sends nothing to people, and changes no contact.

    repair   the state is there: ids, statuses, and what was changed by hand, of everybody; what is missing is read alone
    rebuild  it is lost, or a backup stands in its place: nobody knows who was mailed since. What the backup knows, what FluenzR
             shows and what the sources have is put together; then everybody known is barred from dynamic groups for ever,
             and whoever is not in FluenzR from being created, until `release`

A rebuild is one transaction: all of it, or nothing, whenever the process dies. A repair goes on where it was.
Source of the rules: `docs/architecture.md`, "A lost state".
"""

from dataclasses import dataclass, field

from syncd.clock import Clock
from syncd.config import Settings
from syncd.errors import SourceError, StateError
from syncd.fluenzr import FluenzR
from syncd.promotion import Ground, promote_read
from syncd.reading import Feed, read
from syncd.run import feed_of, rules_of
from syncd.state import aside, links, listed, marker, opt_outs, reads, rebuild, runs
from syncd.state.links import SyncRule
from syncd.state.marker import Standing
from syncd.state.rebuild import People, Repaired
from syncd.state.store import hold, open_state
from syncd.upload import listing
from syncd.upload.campaigns import read_campaigns
from syncd.upload.readback import verify_job
from syncd.upload.recover import recover
from syncd.upload.refresh import note_account_listed
from syncd.upload.session import Session, opened
from syncd.watch import Watch

KIND = "reconcile"  # of the run, in the history


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was done. was: how the state stood before.

    people: after a rebuild. held: sync -> what its guards say; its changes wait, as those of any run.
    """

    run: int
    was: Standing
    repaired: Repaired
    people: People | None = None
    held: dict[str, list[str]] = field(default_factory=dict)
    requests: int = 0
    seconds: float = 0.0


def reconcile(
    settings: Settings, *, api: FluenzR, clock: Clock, watch: Watch, wait_s: float, lost: bool
) -> Reconciled:
    """Repair the state that is there, or rebuild it. wait_s: for the lock.

    lost: what is here is not the newest state, although nothing shows it: there is no trace of it (another machine), or the whole
    folder was put back.
    Raises StateError, SourceError (nothing was rebuilt), FluenzrError, ConfigError, Interrupted.
    """
    with hold(settings.state.path, wait_s=wait_s, clock=clock):
        return reconcile_held(settings, api=api, clock=clock, watch=watch, lost=lost)


def reconcile_held(
    settings: Settings, *, api: FluenzR, clock: Clock, watch: Watch, lost: bool
) -> Reconciled:
    """The same for the holder of the lock."""
    path, settle_s = settings.state.path, settings.fluenzr.settle_s
    was = marker.standing(path)
    if was is Standing.ABSENT and not lost:
        raise StateError(
            f"There is no state at {path}",
            why="Nothing was synchronised from here, or everything was lost, its neighbours too",
            hint="Begin with `syncd plan`; but if this account was synchronised before, run `syncd reconcile --lost`",
        )
    if was is Standing.GOOD and not lost:
        with (
            open_state(path) as state,
            opened(state, api, clock, watch, kind=KIND, settle_s=settle_s) as session,
        ):
            return _Work(settings, session, was).repair()
    # What the lost state had sent may still take effect, and must not come after the listing.
    watch.phase("", "settle", None)
    clock.sleep_s(settle_s)
    with (
        open_state(path, rebuild=True) as state,
        opened(state, api, clock, watch, kind=KIND, settle_s=settle_s) as session,
    ):
        done = _Work(settings, session, was).rebuild()
    aside.drop(path)  # of a restoring that was killed: this has ended it
    return done


class _Work:
    """The steps of one reconciliation, with what they share."""

    def __init__(self, settings: Settings, session: Session, was: Standing) -> None:
        self.settings, self.session, self.state, self.was = settings, session, session.state, was
        self._started_s = session.clock.monotonic_s()
        self._repaired = Repaired()

    def repair(self) -> Reconciled:
        """The state is there: everybody in it becomes what FluenzR shows."""
        listing.read_groups(self.session)
        recover(self.session)
        self._take_over_account()
        return self._done()

    def rebuild(self) -> Reconciled:
        """Put together what a backup knows (or nothing), what FluenzR shows, and what the sources have."""
        listing.read_groups(self.session)
        if any(sync.campaigns for sync in self.settings.syncs.values()):
            read_campaigns(self.session)
        with self.state.tx():
            rebuild.distrust(self.state)
            rebuild.bar_known(self.state)
            rules = rules_of(self.settings, self.state)
        self._take_over_account()
        held = {}
        for sync in self.settings.syncs.values():
            trips = self._promote(feed_of(self.settings, sync, self.session.clock), rules)
            if trips:
                held[sync.name] = trips
        with self.state.tx():
            rebuild.bar_everybody(self.state)
        result = self._done(people=rebuild.people(self.state), held=held)
        self.state.keep()
        return result

    def _take_over_account(self) -> None:
        """List everybody, opt-outs first of all; read alone who is missing or looks otherwise than expected."""
        session, state = self.session, self.state
        with state.tx():
            rebuild.note_before(state)
        session.watch.phase("", "list", None)
        listing.list_account(session)
        for rows in rebuild.take_over_listed(state, run=session.run):
            session.watch.advance(rows)
        cids = listed.to_verify(state, run=session.run)
        session.watch.phase("", "check", len(cids))
        session.pool.drive(verify_job(session, cid) for cid in cids)
        recover(session)  # a renaming by hand may have put another contact into doubt
        with state.tx():
            opt_outs.start_anew(
                state
            )  # an order of listings that was distrusted is given another chance
        note_account_listed(session)
        self._repaired = rebuild.repaired(state)

    def _promote(self, feed: Feed, rules: dict[int, SyncRule]) -> list[str]:
        """Read one source whole, bar whom it has, and promote it; what the guards say if they hold it."""
        session, state = self.session, self.state
        with state.tx():
            row = reads.sync_row(state, feed.name)
        try:
            found = read(state, row, feed, full=True, now_s=session.now_s(), watch=session.watch)
        except SourceError as error:
            raise SourceError(
                f"Nothing was rebuilt, for the source of {feed.name!r} could not be read: {error.what}",
                why=error.why,
                hint=error.hint or "Put the source right, then run `syncd reconcile` again",
            ) from None
        with state.tx():
            links.apply_opt_outs(state, row)
            rebuild.bar_staged(state, row)
        ground = Ground(session, rules, self.settings.guard.limits())
        step = promote_read(ground, row, feed, found)
        if not step.trips:
            with state.tx():
                rebuild.mark_listed(state, row)
        return step.trips

    def _done(
        self, *, people: People | None = None, held: dict[str, list[str]] | None = None
    ) -> Reconciled:
        session = self.session
        with self.state.tx():
            runs.end_run(self.state, session.run, [], now_s=session.now_s())
        return Reconciled(
            run=session.run,
            was=self.was,
            repaired=self._repaired,
            people=people,
            held=held or {},
            requests=session.api.requests,
            seconds=round(session.clock.monotonic_s() - self._started_s, 3),
        )
