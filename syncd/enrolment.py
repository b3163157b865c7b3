"""Enrolling people in a campaign by command: who is meant, who may be, how many would be mailed, and sending it.

It is no run of a sync, but goes the same way: the lock, what is in doubt first, opt-outs before all, the guard, the
ledger before each request. So nobody is enrolled twice, by whatever command or sync, and whatever gets lost.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from syncd.clock import Clock
from syncd.config_models import Settings
from syncd.core.guard import allowed
from syncd.core.model import GroupKind
from syncd.core.nearest import suggestion
from syncd.core.person import EMPTY, Person, why_not_enrolled
from syncd.errors import UsageError
from syncd.fluenzr import FluenzR
from syncd.fluenzr.campaign_types import ENDED, Campaign, called
from syncd.fluenzr.types import Contact
from syncd.state import chosen, contacts, ledger, listed, queue, runs
from syncd.state.links import new_contact
from syncd.state.store import hold, open_state
from syncd.upload import campaigns, listing
from syncd.upload.pool import Job
from syncd.upload.recover import recover
from syncd.upload.session import Session, opened
from syncd.watch import Watch

KIND = "enrol"  # of the run, in the history
PAGE_ROWS = 100  # contacts that are looked at in one transaction
UNMADE = 0  # the number of a campaign that is not there yet: no group has it


@dataclass(frozen=True, slots=True)
class Choice:
    """Who is meant: everybody in these groups (names or ids), and these addresses."""

    groups: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()


@dataclass(slots=True)
class Enrolment:
    """What an enrolment comes to, in people. skipped: reason -> people; refused: (address, FluenzR's words).

    eligible: who would be enrolled, and mailed; held: what the guard says, then nothing was sent. run: in the history.
    """

    campaign: str
    eligible: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    enrolled: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    doubtful: int = 0
    held: str = ""
    run: int | None = None
    requests: int = 0
    mailed: int = 0  # would be, by this command: also those who wait in the campaign already

    @property
    def unsent(self) -> int:
        """People who were eligible, and of whom nothing was sent after all."""
        if self.run is None:
            return 0
        return self.eligible - self.enrolled - len(self.refused) - self.doubtful

    @property
    def left(self) -> int:
        """People of whom it is not known, or not done."""
        return len(self.refused) + self.doubtful


@contextmanager
def sitting(
    settings: Settings,
    *,
    api: FluenzR,
    clock: Clock,
    watch: Watch,
    wait_s: float,
    rehearsal: bool,
) -> Iterator["Sitting"]:
    """The state is held, what was in doubt has been read, and who has opted out is known. rehearsal: nothing is kept.

    Raises StateError, FluenzrError, Interrupted.
    """
    path, settle_s = settings.state.path, settings.fluenzr.settle_s
    with (
        hold(path, wait_s=wait_s, clock=clock),
        open_state(path, rehearsal=rehearsal) as state,
        opened(state, api, clock, watch, kind=KIND, settle_s=settle_s) as session,
    ):
        listing.read_groups(session)
        found = campaigns.read_campaigns(session)
        if not rehearsal:
            recover(session)
        listing.refresh_opt_outs(session)
        chosen.prepare_chosen(state)
        yield Sitting(settings, session, found)
        with state.tx():
            runs.end_run(state, session.run, [], now_s=session.now_s())


def enrol(
    settings: Settings,
    name: str,
    choice: Choice,
    *,
    allow: int | None,
    dry_run: bool,
    api: FluenzR,
    clock: Clock,
    watch: Watch,
    wait_s: float,
) -> Enrolment:
    """Enrol whoever is chosen in a campaign that is there. allow: so many at most, whatever the guard's limit.

    Raises UsageError, StateError, FluenzrError, Interrupted.
    """
    with sitting(
        settings, api=api, clock=clock, watch=watch, wait_s=wait_s, rehearsal=dry_run
    ) as found:
        campaign = the_one(found.campaigns, name)
        found.choose(choice, campaign)
        result = found.forecast(campaign.name, allow=allow, mailed_by="")
        if not result.held and not dry_run:
            found.send(result, campaign)
        result.requests = api.requests
        return result


def the_one(found: Iterable[Campaign], name: str) -> Campaign:
    """The campaign of this name or id that takes people. Raises UsageError."""
    every = list(found)
    matching = called(every, name)
    if len(matching) > 1:
        ids = ", ".join(one.id for one in matching)
        raise UsageError(
            f"FluenzR has {len(matching)} campaigns named {name!r}: {ids}",
            hint="Give the id instead of the name",
        )
    if not matching:
        near = suggestion(name, [one.name for one in every])
        raise UsageError(
            f"FluenzR has no campaign {name!r}", why=near, hint="See `syncd campaigns list`"
        )
    if matching[0].status in ENDED:
        raise UsageError(
            f"The campaign {name!r} is {matching[0].status}: it takes nobody any more",
            hint="See `syncd campaigns list`",
        )
    return matching[0]


class Sitting:
    """One command's work with the state and the account."""

    def __init__(self, settings: Settings, session: Session, found: list[Campaign]) -> None:
        self.settings, self.session, self.state = settings, session, session.state
        self.campaigns = found
        self._refused: list[tuple[str, str]] = []

    # --- who is meant ---------------------------------------------------------------------------------------------

    def choose(self, choice: Choice, campaign: Campaign | None) -> None:
        """Look at everybody who is meant. campaign: None for one that is not there yet. Raises UsageError."""
        gid = UNMADE
        if campaign is not None:
            gid = self.session.groups.gid_of(campaign.id)
            campaigns.note_members(self.session, gid)
        for name in choice.groups:
            self._look_at(self.session.api.contacts(group_id=self._group(name)), gid)
        unknown = []
        for email in choice.emails:
            contact = self.session.api.find(email)
            if contact is None:
                unknown.append(email)
            else:
                self._look_at([contact], gid)
        if unknown:
            raise UsageError(
                f"FluenzR has no contact {', '.join(unknown)}",
                hint="Nothing was sent: correct the address, or let a sync create the contact first",
            )

    def _group(self, name: str) -> str:
        groups = self.session.groups
        gid = groups.there(name)
        if gid is None:
            known = [groups.names[one] for one in groups.rids if groups.is_group(one)]
            raise UsageError(
                f"FluenzR has no group {name!r}",
                why=suggestion(name, known),
                hint="Nothing was sent",
            )
        return groups.rids[gid]

    def _look_at(self, found: Iterable[Contact], gid: int) -> None:
        page: list[Contact] = []
        for contact in found:
            page.append(contact)
            if len(page) >= PAGE_ROWS:
                self._take(page, gid)
                page = []
        self._take(page, gid)

    def _take(self, page: list[Contact], gid: int) -> None:
        listing.latch(self.session, page)
        with self.state.tx(scratch_only=True):
            for contact in page:
                listing.note_listed(self.session, contact)
                email = contact.email.strip().lower()
                chosen.choose(self.state, email, self._why_not(contact, gid))
        self.session.watch.advance(len(page))

    def _why_not(self, contact: Contact, gid: int) -> str:
        person = self._person(contact)
        if queue.contested(self.state, person):
            return (
                "a record of a source has just got this address"  # perhaps it is one who opted out
            )
        return why_not_enrolled(person, gid)

    def _person(self, contact: Contact) -> Person:
        """As FluenzR shows the contact now, with all that is known of it here."""
        email = contact.email.strip().lower()
        barred = ledger.of_keys(self.state, [self.state.address_key(email) or ""])
        cid = queue.cid_of(self.state, contact.id, email)
        known = None if cid is None else contacts.person(self.state, cid)
        if known is None:
            known = Person(
                0, email, contact.id, None, None, "ok", None, None, EMPTY, None, barred
            )  # fmt: skip
        return replace(known, status=contact.status, never=known.never | barred)

    # --- how many, and whether that is too many -------------------------------------------------------------------

    def forecast(
        self, campaign: str, *, allow: int | None, mailed_by: str, more: int = 0
    ) -> Enrolment:
        """What would be sent. more: people besides who would be mailed; mailed_by: how, if not at once."""
        counts = chosen.counts(self.state)
        result = Enrolment(campaign, eligible=counts.pop("", 0), skipped=counts)
        limit = allowed(self.settings.guard.max_enrolments, queue.known_count(self.state))
        result.mailed = mailed = result.eligible + more
        if mailed > max(limit, allow or 0):
            result.held = (
                f"{mailed:,} people would be mailed by the campaign {campaign!r}{mailed_by};"
                f" the limit is {limit:,} (max_enrolments)"
            )
        return result

    # --- sending --------------------------------------------------------------------------------------------------

    def send(self, result: Enrolment, campaign: Campaign) -> None:
        """Enrol everybody who was chosen and may be; what came of it is added to the result."""
        session, gid = self.session, self.session.groups.gid_of(campaign.id)
        session.watch.phase("", "upload", result.eligible)
        session.pool.drive(self._jobs(gid))
        recover(session)
        counts = [books.get("enrolled", 0) for books in session.books.counts.values()]
        result.enrolled = sum(counts)
        result.refused = self._refused
        result.doubtful = len(queue.enrolling(self.state))
        result.run = session.run

    def _jobs(self, gid: int) -> Iterator[Job]:
        for emails in chosen.eligible(self.state, campaigns.ROWS_MAX):
            with self.state.tx():
                found = [self._adopted(email, gid) for email in emails]
            people = [person for person in found if person is not None]
            if people:
                yield campaigns.enter_many(self.session, gid, people, refuse=self._refuse(people))

    def _adopted(self, email: str, gid: int) -> Person | None:
        """The contact as this command has read it, known to the state from now on; None: it may not be enrolled after all."""
        state, seen = self.state, listed.find(self.state, email)
        assert seen is not None
        cid = queue.cid_of(state, seen.shown.rid, email)
        if cid is None:
            cid = new_contact(state, email)
        elif queue.is_in_flight(state, cid):
            return None  # its doubt could not be ended
        contacts.absorb(state, cid, seen.shown, run=self.session.run)
        cid = queue.cid_of(state, seen.shown.rid, email)
        person = None if cid is None else contacts.person(state, cid)
        if person is None or person.rid != seen.shown.rid or person.state != "ok":
            return None
        may = person.may_join(gid, GroupKind.CAMPAIGN)
        return person if may and not queue.contested(state, person) else None

    def _refuse(self, people: list[Person]) -> Callable[[int, str], None]:
        emails = {person.cid: person.email for person in people}
        return lambda cid, words: self._refused.append((emails[cid], words))
