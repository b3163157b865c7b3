"""What `campaigns` says: the account's campaigns, and first of all who would be mailed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from syncd.report.text import clean, count, iso, people, say, say_json, style, table

if TYPE_CHECKING:
    from syncd.campaigns import Creation, Shown, Step
    from syncd.enrolment import Enrolment
    from syncd.fluenzr.campaign_types import Campaign, Stats

COLOURS = {"active": "green", "paused": "yellow", "draft": "dim"}
REFUSED_SHOWN_MAX = 20  # --json has them all
STARTED = {"start": "started", "resume": "resumed", "pause": "paused"}
SETTINGS = ("sendDays", "sendHoursStart", "sendHoursEnd", "timezone", "maxEmailsPerHour")


def campaign_object(campaign: "Campaign") -> dict[str, Any]:
    """One campaign for programs, by the API's names."""
    return {
        "id": campaign.id,
        "name": campaign.name,
        "status": campaign.status,
        "description": campaign.description,
        "emailAccountId": campaign.email_account_id,
        "settings": campaign.settings,
        "createdAt": _time(campaign.created_ms),
        "startedAt": _time(campaign.started_ms),
        "updatedAt": _time(campaign.updated_ms),
        "stats": None if campaign.stats is None else campaign.stats.named(),
    }


def listed(found: "Sequence[Campaign]", *, json: bool) -> None:
    """All of them."""
    if json:
        for campaign in found:
            say_json(campaign_object(campaign))
        return
    if not found:
        say("FluenzR has no such campaigns. Next: syncd campaigns create FILE")
        return
    rows = [
        (campaign.id, campaign.name, campaign.status or "?", *numbers(campaign.stats))
        for campaign in found
    ]
    headers = ("id", "name", "status", "people", "sent", "opened", "clicked", "replied", "bounced")
    for line in table(rows, headers, right=range(3, len(headers))):
        say(line)


def numbers(stats: "Stats | None") -> tuple[str, ...]:
    """People, sent, and the rates; empty where FluenzR does not say."""
    if stats is None:
        return ("",) * 6
    rates = (stats.open_rate, stats.click_rate, stats.reply_rate, stats.bounce_rate)
    counts = (stats.total_contacts, stats.sent)
    return (
        *("" if one is None else count(one) for one in counts),
        *("" if one is None else f"{one:.1f} %" for one in rates),
    )


def shown_whole(found: "Shown", *, json: bool) -> None:
    """One campaign."""
    campaign, stats = found.campaign, found.stats
    if json:
        emails = [
            {"emailNodeId": one.node_id, "subject": one.subject, **one.stats.named()}
            for one in found.emails
        ]
        say_json(
            {
                **campaign_object(campaign),
                "workflow": campaign.workflow,
                "stats": stats.named(),
                "emails": emails,
            }
        )
        return
    status = style(campaign.status or "of unknown status", COLOURS.get(campaign.status, "bold"))
    say(f"{style(clean(campaign.name), 'bold')} ({campaign.id}): {status}")
    for line in _facts(campaign):
        say(f"  {line}")
    for name, value in stats.named().items():
        if value is not None:
            shown = f"{value:.1f} %" if name.endswith("Rate") else count(int(value))
            say(f"  {name}: {shown}")
    if found.emails:
        say()
        rows = [(one.subject or one.node_id, *numbers(one.stats)[1:]) for one in found.emails]
        headers = ("e-mail", "sent", "opened", "clicked", "replied", "bounced")
        for line in table(rows, headers, right=range(1, len(headers))):
            say(line)


def _facts(campaign: "Campaign") -> list[str]:
    lines = []
    if campaign.description:
        lines.append(clean(campaign.description))
    if campaign.email_account_id:
        lines.append(f"sent by the e-mail account {clean(campaign.email_account_id)}")
    settings = campaign.settings
    parts = [f"{name} {_listed(settings[name])}" for name in SETTINGS if name in settings]
    if parts:
        lines.append(", ".join(parts))
    steps = campaign.workflow.get("nodes")
    if isinstance(steps, list):
        lines.append(count(len(steps), "step"))
    if campaign.started_ms is not None:
        lines.append(f"started {_time(campaign.started_ms)}")
    return lines


def _listed(value: object) -> str:
    return clean(" ".join(map(str, value)) if isinstance(value, list) else str(value))


def enrolled(found: "Enrolment", *, again: str, dry_run: bool, json: bool) -> None:
    """What an enrolment came to."""
    if json:
        say_json(_enrolment_object(found))
        return
    _chosen(found)
    _end(found, again=again, dry_run=dry_run)


def created(found: "Creation", *, again: str, dry_run: bool, json: bool) -> None:
    """What `create` came to."""
    campaign, enrolment = found.campaign, found.enrolment
    if json:
        say_json(
            {
                "id": None if campaign is None else campaign.id,
                **_enrolment_object(enrolment),
                "created": found.made,
                "started": found.started,
            }
        )
        return
    name = style(clean(enrolment.campaign), "bold")
    if found.made and campaign is not None:
        say(f"{name}: created ({campaign.id})")
    elif campaign is not None:
        say(f"{name}: is there already ({campaign.id}, {campaign.status}), left as it is")
    else:
        say(f"{name}: is to be created")
    _chosen(enrolment)
    if found.started:
        say("Started: whoever is in it is mailed")
    _end(enrolment, again=again, dry_run=dry_run)


def stepped(found: "Step", step: str, *, again: str, json: bool) -> None:
    """What starting, resuming or pausing came to."""
    campaign = found.campaign
    if json:
        say_json(
            {
                "id": campaign.id,
                "campaign": campaign.name,
                "status": found.status,
                "changed": found.done,
                "people": found.people,
                "held": found.held or None,
            }
        )
        return
    name = style(clean(campaign.name), "bold")
    if found.held:
        _held(found.held, again=again, needed=found.people)
    elif not found.done:
        say(f"{name} is {found.status} already")
    else:
        mailed = "" if found.people is None else f": {people(found.people)} in it"
        say(f"{name}: {STARTED[step]}{mailed}")


def _enrolment_object(found: "Enrolment") -> dict[str, Any]:
    return {
        "campaign": found.campaign,
        "run": found.run,
        "eligible": found.eligible,
        "skipped": found.skipped,
        "enrolled": found.enrolled,
        "refused": [{"email": email, "why": why} for email, why in found.refused],
        "doubtful": found.doubtful,
        "held": found.held or None,
        "requests": found.requests,
    }


def _chosen(found: "Enrolment") -> None:
    if not found.eligible and not found.skipped:
        say("Nobody is to be enrolled")
        return
    say(f"{people(found.eligible)} to be enrolled in {clean(found.campaign)}, and mailed by it")
    for reason, number in sorted(found.skipped.items()):
        say(f"  {people(number)} left out: {reason}")


def _end(found: "Enrolment", *, again: str, dry_run: bool) -> None:
    if found.held:
        _held(found.held, again=again, needed=found.mailed)
        return
    if dry_run:
        say(f"Nothing was sent. Next: {again}")
        return
    say(
        f"{style('Done', 'green')}: {people(found.enrolled)} enrolled, {count(found.requests, 'request')}"
    )
    for email, why in found.refused[:REFUSED_SHOWN_MAX]:
        say(f"  FluenzR refused {clean(email)}: {clean(why)}")
    if len(found.refused) > REFUSED_SHOWN_MAX:
        say(f"  and {count(len(found.refused) - REFUSED_SHOWN_MAX)} more; --json shows them all")
    if found.doubtful:
        say(
            f"  {people(found.doubtful)} in doubt: the answer was lost; the next run finds out, and mails nobody twice"
        )
    if found.unsent:
        say(
            f"  {people(found.unsent)} not enrolled: something else about them has changed meanwhile"
        )


def _held(words: str, *, again: str, needed: int | None) -> None:
    say(f"{style('Held', 'yellow')}: {clean(words)}")
    allow = "N" if needed is None else str(needed)
    say(f"Nothing was sent. Next: {again} --allow {allow}")


def _time(ms: int | None) -> str | None:
    return None if ms is None else iso(ms / 1000)
