"""Campaigns by command: making one from a file, with its people, and starting, pausing and resuming.

Everything can be done twice, and after a crash again: a campaign is looked up by its name before it is made, and one that may
have been made is waited for. Who would be mailed is counted before anything is sent.
"""

import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from syncd.campaign_file import CampaignFile
from syncd.clock import Clock
from syncd.config_models import Settings
from syncd.core.guard import allowed
from syncd.enrolment import Choice, Enrolment, Sitting, sitting, the_one
from syncd.errors import Conflict, FluenzrError, NotSupported, Refused, Unanswered, UsageError
from syncd.fluenzr import FluenzR
from syncd.fluenzr.campaign_types import ENDED, Campaign, EmailStats, Stats, called
from syncd.upload.campaigns import read_campaigns
from syncd.upload.session import NOT_SENT
from syncd.watch import Watch

STEPS = {  # step -> the status before and after it
    "start": ("draft", "active"),
    "resume": ("paused", "active"),
    "pause": ("active", "paused"),
}
PAST = {"start": "started", "resume": "resumed", "pause": "paused"}
STEPS_MAX = (
    3  # times that starting, pausing or resuming is sent while no answer comes: twice does no harm
)
MAKING = "campaigns.making"  # in the state: name -> epoch s of a create that is not confirmed


@dataclass(slots=True)
class Creation:
    """What `create` came to. campaign: None where nothing was made, for a guard or in a rehearsal."""

    campaign: Campaign | None
    made: bool
    started: bool
    enrolment: Enrolment


@dataclass(frozen=True, slots=True)
class Step:
    """What starting, pausing or resuming came to. people: who would be mailed; held: what the guard says."""

    campaign: Campaign
    status: str
    done: bool
    people: int | None = None
    held: str = ""


def create(
    settings: Settings,
    file: CampaignFile,
    *,
    allow: int | None,
    dry_run: bool,
    api: FluenzR,
    clock: Clock,
    watch: Watch,
    wait_s: float,
) -> Creation:
    """Make FluenzR have this campaign, with these people, started or not. What is there already is left as it is.

    allow: so many people at most, whatever the guard's limit. Raises UsageError, StateError, FluenzrError, Interrupted.
    """
    with sitting(
        settings, api=api, clock=clock, watch=watch, wait_s=wait_s, rehearsal=dry_run
    ) as found:
        campaign = _there(found, file.name)
        found.choose(Choice(groups=file.groups), campaign)
        starts = file.start and (campaign is None or campaign.status == "draft")
        waiting = 0
        if starts and campaign is not None:
            waiting = people_of(api, campaign) or 0
        how = ", which would be started" if starts else ""
        enrolment = found.forecast(file.name, allow=allow, mailed_by=how, more=waiting)
        result = Creation(campaign, made=False, started=False, enrolment=enrolment)
        if not enrolment.held and not dry_run:
            _carry_out(found, file, result)
        enrolment.requests = api.requests
        return result


def _carry_out(found: Sitting, file: CampaignFile, result: Creation) -> None:
    if result.campaign is None:
        result.campaign = _make(found, file)
        result.made = True
        found.campaigns = read_campaigns(found.session)
    found.send(result.enrolment, result.campaign)
    if file.start and result.campaign.status in ("", "draft"):
        _until(found.session.api, result.campaign, "start", "active")
        result.started = True


def _there(found: Sitting, name: str) -> Campaign | None:
    """The campaign of this name, waited for where a create of it may still take effect. Raises UsageError."""
    state, session = found.state, found.session
    making = state.meta(MAKING) or {}
    if name in making and not state.rehearsal:
        # As long as it could still take effect; our clock may have been set back meanwhile.
        passed_s = max(0.0, session.clock.now_s() - making[name])
        session.watch.phase("", "settle", None)
        session.clock.sleep_s(max(0.0, session.settle_s - passed_s))
        found.campaigns = read_campaigns(session)
        _note_making(found, name, making=False)
    matching = called(found.campaigns, name)
    if matching and all(one.status in ENDED for one in matching):
        raise UsageError(
            f"The campaign {name!r} is there, and is {matching[0].status}",
            why="Making it anew would mail its people a second time",
            hint="Nothing was sent: give a new campaign a name of its own",
        )
    return the_one(found.campaigns, name) if matching else None


def _note_making(found: Sitting, name: str, *, making: bool) -> None:
    with found.state.tx():
        known = found.state.meta(MAKING) or {}
        known.pop(name, None)
        if making:
            known[name] = found.session.now_s()
        found.state.set_meta(MAKING, known)


def _make(found: Sitting, file: CampaignFile) -> Campaign:
    """POST /campaigns, once; where the answer is lost, the name tells whether it was made."""
    session = found.session
    _note_making(found, file.name, making=True)
    try:
        campaign = session.api.create_campaign(
            file.name,
            file.emailAccountId,
            description=file.description or None,
            settings=file.settings.model_dump(exclude_none=True) or None,
            workflow=file.workflow.model_dump(exclude_defaults=True) or None,
        )
    except NOT_SENT:
        _note_making(found, file.name, making=False)
        raise
    except Conflict as error:  # made by somebody meanwhile, or by an earlier request that came late
        campaign = _made_after_all(found, file.name, error)
    except Refused:
        _note_making(found, file.name, making=False)
        raise
    except Unanswered as error:
        if not error.answered:
            session.watch.phase("", "settle", None)
            session.clock.sleep_s(session.settle_s)
        campaign = _made_after_all(found, file.name, error)
    _note_making(found, file.name, making=False)
    return campaign


def _made_after_all(found: Sitting, name: str, error: FluenzrError) -> Campaign:
    """The campaign, where it is there in spite of the error; whatever may still have come has come by now."""
    found.campaigns = read_campaigns(found.session)
    if called(found.campaigns, name):
        return the_one(found.campaigns, name)
    _note_making(found, name, making=False)
    raise Unanswered(
        f"The campaign {name!r} could not be created",
        why=error.why or error.what,
        hint="It is not there: run the command again",
        answered=True,
    )


# --- looking ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shown:
    """One campaign with its statistics. emails: empty where the account does not tell them."""

    campaign: Campaign
    stats: Stats
    emails: list[EmailStats]


def find(name: str, *, api: FluenzR) -> Campaign:
    """The campaign of this name or id, ended or not. Raises UsageError, FluenzrError."""
    found = api.campaigns()
    matching = called(found, name)
    return matching[0] if len(matching) == 1 else the_one(found, name)


def show(name: str, *, api: FluenzR) -> Shown:
    """Everything about one campaign, ended or not. Raises UsageError, FluenzrError."""
    one = find(name, api=api)
    emails: list[EmailStats] = []
    with suppress(NotSupported):
        emails = api.campaign_email_stats(one.id)
    return Shown(api.campaign(one.id), api.campaign_stats(one.id), emails)


# --- starting, pausing, resuming ----------------------------------------------------------------------------------


def step(settings: Settings, name: str, step: str, *, allow: int | None, api: FluenzR) -> Step:
    """start a draft, pause what is active, resume what is paused. Starting and resuming mail whoever waits in it.

    Raises UsageError, FluenzrError.
    """
    before, wanted = STEPS[step]
    campaign = the_one(api.campaigns(), name)
    if campaign.status == wanted:
        return Step(campaign, wanted, done=False)
    if campaign.status not in ("", before):
        other = {before: name for name, (before, _) in STEPS.items()}.get(campaign.status)
        raise UsageError(
            f"The campaign {campaign.name!r} is {campaign.status}: it cannot be {PAST[step]}",
            hint=f"syncd campaigns {other} {shlex.quote(name)}"
            if other
            else "See `syncd campaigns list`",
        )
    people: int | None = None
    if wanted == "active":
        people = people_of(api, campaign)
        held = _held(campaign, people, limit=_limit(settings, api), allow=allow)
        if held:
            return Step(campaign, campaign.status, done=False, people=people, held=held)
    _until(api, campaign, step, wanted)
    return Step(campaign, wanted, done=True, people=people)


def _limit(settings: Settings, api: FluenzR) -> int:
    """max_enrolments; a share is one of the account's contacts."""
    limit = settings.guard.max_enrolments
    return allowed(limit, 0 if limit.share is None else api.contacts_page(1, per_page=1).total or 0)


def _held(campaign: Campaign, people: int | None, *, limit: int, allow: int | None) -> str:
    if people is None:
        if allow is not None:
            return ""
        return f"FluenzR does not tell how many people are in the campaign {campaign.name!r}, and so how many would be mailed"
    if people <= max(limit, allow or 0):
        return ""
    return (
        f"{people:,} people are in the campaign {campaign.name!r} and would be mailed;"
        f" the limit is {limit:,} (max_enrolments)"
    )


def people_of(api: FluenzR, campaign: Campaign) -> int | None:
    """How many people are in a campaign; None where FluenzR tells in no way."""
    try:
        return sum(1 for _ in api.campaign_members(campaign.id))
    except NotSupported:
        return api.campaign_stats(campaign.id).total_contacts


def _until(api: FluenzR, campaign: Campaign, step: str, wanted: str) -> None:
    """Send one step until FluenzR shows what is wanted. Raises FluenzrError."""
    steps: dict[str, Callable[[str], str]] = {
        "start": api.start_campaign,
        "resume": api.resume_campaign,
        "pause": api.pause_campaign,
    }
    for attempt in range(STEPS_MAX):
        try:
            shown = steps[step](campaign.id)
        except Unanswered:
            last = attempt == STEPS_MAX - 1
            if api.campaign(campaign.id).status == wanted:
                return
            if last:
                raise
        except Refused:
            if api.campaign(campaign.id).status == wanted:
                return  # somebody else has done it meanwhile, or an earlier request of ours
            raise
        else:
            if shown in ("", wanted) or api.campaign(campaign.id).status == wanted:
                return
    raise Unanswered(
        f"The campaign {campaign.name!r} is not {PAST[step]}",
        why="FluenzR took the request, and shows another status",
        hint="See `syncd campaigns list`; then run the command again",
        answered=True,
    )
