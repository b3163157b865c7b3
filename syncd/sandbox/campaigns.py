"""The endpoints of campaigns and their statistics.

Source: FluenzR reference, "Campaigns": list, get, create, update, start, pause, add, stats [I];
resume, archive, members, stats by e-mail, timeline and activity [D]; the JSON of these is [?].
"""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from syncd.sandbox import groups
from syncd.sandbox.bodies import strings, text
from syncd.sandbox.contacts import matching
from syncd.sandbox.exchange import Answer, Request, conflict, invalid, paged, success
from syncd.sandbox.store import Activity, Campaign, Contact, Store

STATUSES = ("draft", "active", "paused", "completed", "archived")  # [D]
COUNTED = ("sent", "delivered", "opened", "clicked", "replied", "bounced", "unsubscribed")  # [D]
RATES = {  # [D], in percent of what was delivered
    "opened": "openRate",
    "clicked": "clickRate",
    "replied": "replyRate",
    "bounced": "bounceRate",
    "unsubscribed": "unsubscribeRate",
}
EMAIL_NODE = "node_1"  # a sandbox campaign has one e-mail


def list_campaigns(store: Store, request: Request, _: str) -> Answer:
    """GET /campaigns [I], filter `status`."""
    status = request.query.get("status")
    if status is not None and status not in STATUSES:
        raise invalid(f"status must be one of {', '.join(STATUSES)}")
    every = [one for one in store.campaigns.values() if status in (None, one.status)]
    return paged(every, view, request.query, total_pages=store.quirks.total_pages)


def get(store: Store, _request: Request, campaign_id: str) -> Answer:
    """GET /campaigns/:id [I]."""
    return success(view(store.campaign_by_id(campaign_id)))


def create(store: Store, request: Request, _: str) -> Answer:
    """POST /campaigns [I]: `name` and `emailAccountId` are required."""
    body, now = request.json(), store.now()
    name, account_id = text(body, "name"), text(body, "emailAccountId")
    if store.quirks.campaign_names == "unique" and any(
        one.name == name for one in store.campaigns.values()
    ):
        raise conflict("A campaign with this name already exists")
    campaign = Campaign(store.new_id("cmp"), name, now, now, email_account_id=account_id)
    _describe(campaign, body)
    store.campaigns[campaign.id] = campaign
    return success(view(campaign), status=201)


def update(store: Store, request: Request, campaign_id: str) -> Answer:
    """PUT /campaigns/:id [I]: draft or paused only."""
    campaign, body = store.campaign_by_id(campaign_id), request.json()
    _check_status(campaign, "changed", "draft", "paused")
    if "name" in body:
        campaign.name = text(body, "name")
    if "emailAccountId" in body:
        campaign.email_account_id = text(body, "emailAccountId")
    _describe(campaign, body)
    campaign.updated_at = store.now()
    return success(view(campaign))


def start(store: Store, _request: Request, campaign_id: str) -> Answer:
    """POST /campaigns/:id/start [I]: those who wait in it are mailed."""
    campaign = store.campaign_by_id(campaign_id)
    _check_status(campaign, "started", "draft")
    return _activate(store, campaign)


def pause(store: Store, _request: Request, campaign_id: str) -> Answer:
    """POST /campaigns/:id/pause [I]."""
    campaign = store.campaign_by_id(campaign_id)
    _check_status(campaign, "paused", "active")
    return _set_status(store, campaign, "paused")


def resume(store: Store, _request: Request, campaign_id: str) -> Answer:
    """POST /campaigns/:id/resume [D]: those who wait in it are mailed."""
    campaign = store.campaign_by_id(campaign_id)
    _check_status(campaign, "resumed", "paused")
    return _activate(store, campaign)


def archive(store: Store, _request: Request, campaign_id: str) -> Answer:
    """POST /campaigns/:id/archive [D]."""
    campaign = store.campaign_by_id(campaign_id)
    _check_status(campaign, "archived", *STATUSES[:-1])
    return _set_status(store, campaign, "archived")


def list_members(store: Store, request: Request, campaign_id: str) -> Answer:
    """GET /campaigns/:id/contacts [D]."""
    campaign = store.campaign_by_id(campaign_id)

    def member(contact_id: str) -> Any:
        contact = store.contacts[contact_id]
        shown = {"id": contact.id, "email": contact.email, "status": contact.status}
        match store.quirks.members:
            case "contact":
                return shown
            case "contact_id":
                return {"id": f"mem_{contact.id}", "contactId": contact.id}
            case "nested":
                return {"contact": shown, "status": "active"}
            case "id":
                return contact.id

    return paged(
        list(campaign.members), member, request.query, total_pages=store.quirks.total_pages
    )


def add_members(store: Store, request: Request, campaign_id: str) -> Answer:
    """POST /campaigns/:id/contacts [I]: `contactIds`, `groupIds` or `filters`."""
    campaign, body = store.campaign_by_id(campaign_id), request.json()
    if campaign.status in ("completed", "archived"):
        raise invalid(f"A campaign that is {campaign.status} takes nobody")
    contacts, errors = _chosen(store, body)
    counts = {"added": 0, "skipped": 0}
    for contact in contacts:
        outcome = store.enrol(campaign, contact)
        if outcome == "skipped" and store.quirks.enrol_skips == "errors":
            errors.append(_enrol_error(store, contact.id, contact.email, "Cannot be enrolled"))
        else:
            counts[outcome] += 1
    return success({**counts, "errors": errors})


def remove_members(store: Store, request: Request, campaign_id: str) -> Answer:
    """DELETE /campaigns/:id/contacts [D]."""
    campaign = store.campaign_by_id(campaign_id)
    gone = set(strings(request.json(), "contactIds")) & campaign.members.keys()
    for contact_id in gone:
        del campaign.members[contact_id]
    return success({"removed": len(gone)})


def stats(store: Store, _request: Request, campaign_id: str) -> Answer:
    """GET /campaigns/:id/stats [I]."""
    shown = _stats(store.campaign_by_id(campaign_id))
    return success(
        {"campaignId": campaign_id, "stats": shown} if store.quirks.stats_nested else shown
    )


def stats_emails(store: Store, _request: Request, campaign_id: str) -> Answer:
    """GET /campaigns/:id/stats/emails [D]: one row, for the one e-mail of a sandbox campaign."""
    campaign = store.campaign_by_id(campaign_id)
    return success([{"emailNodeId": EMAIL_NODE, "subject": campaign.name, **_stats(campaign)}])


def stats_timeline(store: Store, request: Request, campaign_id: str) -> Answer:
    """GET /campaigns/:id/stats/timeline [D]: counts per hour, day or week."""
    interval = request.query.get("interval", "day")
    if interval not in ("hour", "day", "week"):
        raise invalid("interval must be hour, day or week")
    counts: dict[str, Counter[str]] = {}
    for entry in _between(store.campaign_by_id(campaign_id).activity, request.query):
        counts.setdefault(_start_of(interval, entry.when), Counter())[entry.type] += 1
    points = [
        {"date": date, **{name: counts[date][name] for name in COUNTED}} for date in sorted(counts)
    ]
    nested = {"interval": interval, "timeline": points}
    return success(nested if store.quirks.stats_nested else points)


def activity(store: Store, request: Request, campaign_id: str) -> Answer:
    """GET /campaigns/:id/activity [D]: filters `type`, `contactId`, `from`, `to`."""
    kind, contact_id = request.query.get("type"), request.query.get("contactId")
    found = [
        entry
        for entry in _between(store.campaign_by_id(campaign_id).activity, request.query)
        if kind in (None, entry.type) and contact_id in (None, entry.contact_id)
    ]
    return paged(found, _entry, request.query, total_pages=store.quirks.total_pages)


def view(campaign: Campaign) -> dict[str, Any]:
    """The campaign as the API shows it [D]."""
    return {
        "id": campaign.id,
        "name": campaign.name,
        "description": campaign.description,
        "status": campaign.status,
        "emailAccountId": campaign.email_account_id,
        "settings": campaign.settings,
        "workflow": campaign.workflow,
        "stats": _stats(campaign),
        "createdAt": campaign.created_at,
        "startedAt": campaign.started_at,
        "updatedAt": campaign.updated_at,
    }


def _stats(campaign: Campaign) -> dict[str, Any]:
    counts = Counter(entry.type for entry in campaign.activity)
    shown: dict[str, Any] = {"totalContacts": len(campaign.members)}
    for name in COUNTED:
        shown[name] = counts[name]
        if name in RATES:
            share = counts[name] / counts["delivered"] if counts["delivered"] else 0.0
            shown[RATES[name]] = round(100 * share, 2)
    return shown


def _entry(entry: Activity) -> dict[str, Any]:
    return {
        "type": entry.type,
        "timestamp": entry.when,
        "contactId": entry.contact_id,
        "contactEmail": entry.email,
        "emailNodeId": EMAIL_NODE,
    }


def _describe(campaign: Campaign, body: dict[str, Any]) -> None:
    for name in ("settings", "workflow"):
        if name in body:
            if not isinstance(body[name], dict):
                raise invalid(f"{name} must be an object")
            setattr(campaign, name, body[name])
    campaign.description = str(body.get("description") or campaign.description)


def _check_status(campaign: Campaign, done: str, *allowed: str) -> None:
    if campaign.status not in allowed:
        raise invalid(f"A campaign that is {campaign.status} cannot be {done}")


def _activate(store: Store, campaign: Campaign) -> Answer:
    campaign.started_at = campaign.started_at or store.now()
    answer = _set_status(store, campaign, "active")
    store.mail_waiting(campaign)
    return answer


def _set_status(store: Store, campaign: Campaign, status: str) -> Answer:
    campaign.status = status
    campaign.updated_at = store.now()
    match store.quirks.campaign_answer:
        case "campaign":
            return success(view(campaign))
        case "status":
            return success({"id": campaign.id, "status": status})
        case "nothing":
            return success(None)


def _enrol_error(store: Store, contact_id: str, email: str, message: str) -> dict[str, str]:
    """One entry of `errors`, naming whom the quirk says [?]."""
    named = {"contact_id": {"contactId": contact_id}, "email": {"email": email}, "message": {}}
    return {**named[store.quirks.enrol_errors], "message": message}


def _chosen(store: Store, body: dict[str, Any]) -> tuple[list[Contact], list[dict[str, str]]]:
    if "contactIds" in body:
        contact_ids = strings(body, "contactIds", most=groups.CONTACT_IDS_MAX)
        found, errors = groups.resolve(store, contact_ids)
        unknown = (error["contactId"] for error in errors)
        return found, [_enrol_error(store, one, "", "Contact not found") for one in unknown]
    if "groupIds" in body:
        wanted = store.known_groups(strings(body, "groupIds"))
        every = store.contacts.values()
        return [one for one in every if any(group in one.groups for group in wanted)], []
    filters = body.get("filters")
    if not isinstance(filters, dict):
        raise invalid("contactIds, groupIds or filters is required")
    return matching(store, "", filters), []


def _between(entries: Iterable[Activity], query: dict[str, str]) -> Iterable[Activity]:
    """From `from` to `to`, both included; they may be dates or times [?]."""
    start, end = query.get("from", ""), query.get("to", "")
    return (
        entry
        for entry in entries
        if entry.when >= start and (not end or entry.when[: len(end)] <= end)
    )


def _start_of(interval: str, when: str) -> str:
    moment = datetime.fromisoformat(when).replace(minute=0, second=0, microsecond=0)
    if interval != "hour":
        moment = moment.replace(hour=0)
    if interval == "week":
        moment -= timedelta(days=moment.weekday())
    return moment.isoformat().replace("+00:00", "Z")
