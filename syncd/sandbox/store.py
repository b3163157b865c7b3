"""What one FluenzR account holds, and what changing it causes: here alone does mail "go out".

It knows the objects and their rules; bodies and answers are the handlers' business. Not locked: the
application and `Account` hold the lock.

Source: FluenzR reference, "Contacts", "Groups", "Campaigns" [D]. A dynamic group enrols an active
contact, however it is added, in every active campaign linked to the group, and the first e-mail
goes out at once [D]. Here each dynamic group is born with one active campaign, so that joining
always mails; and joining again mails again: the sandbox protects nobody, it shows mistakes.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from syncd.sandbox.exchange import conflict, invalid, missing
from syncd.sandbox.quirks import Mixing, Quirks

FIELDS = ("firstName", "lastName", "company", "jobTitle", "phone", "website")  # [D]
STATUSES = ("active", "unsubscribed", "bounced", "replied", "blocked")  # [D]
LISTINGS_KEPT_MAX = 8  # each holds a reference to every contact it lists
GROUP_COLOR = "#4f46e5"


@dataclass(slots=True)
class Contact:
    """One contact. groups: ids in the order of joining; extra: fields FluenzR does not name."""

    id: str
    email: str
    created_at: str
    updated_at: str
    status: str = "active"
    fields: dict[str, Any] = field(default_factory=dict)
    custom_fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    groups: dict[str, None] = field(default_factory=dict)
    stage_id: str | None = None


@dataclass(slots=True)
class Group:
    """One group. size: its members, counted."""

    id: str
    name: str
    dynamic: bool
    created_at: str
    updated_at: str
    description: str = ""
    color: str = GROUP_COLOR
    size: int = 0


@dataclass(slots=True)
class Activity:
    """Something that happened to one contact in one campaign."""

    type: str  # sent delivered opened clicked replied bounced unsubscribed
    when: str
    contact_id: str
    email: str


@dataclass(slots=True)
class Campaign:
    """One campaign. members: contact id -> whether it was mailed; groups: ids of those linked."""

    id: str
    name: str
    created_at: str
    updated_at: str
    status: str = "draft"  # draft active paused completed archived
    description: str = ""
    email_account_id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    workflow: dict[str, Any] = field(default_factory=dict)
    started_at: str | None = None
    groups: set[str] = field(default_factory=set)
    members: dict[str, bool] = field(default_factory=dict)
    activity: list[Activity] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mail:
    """One e-mail that would have gone out. group: the one that caused it, empty for none."""

    when: str
    email: str
    contact_id: str
    group: str
    campaign: str


@dataclass(slots=True)
class Change:
    """A body, validated: what it says of a contact. None: the body does not say it.

    fields, custom_fields, extra: a value of None clears. stage_id: "" clears.
    """

    email: str | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    custom_fields: dict[str, Any] | None = None
    tags: list[str] | None = None
    group_ids: list[str] | None = None
    stage_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixed:
    """How one endpoint mixes what it is given into what is there [?]."""

    custom_fields: Mixing
    tags: Mixing
    groups: Mixing


class Store:
    """The objects of one account. now_s: the server's clock, epoch seconds."""

    def __init__(self, now_s: Callable[[], float], quirks: Quirks) -> None:
        self.now_s = now_s
        self.quirks = quirks
        self.contacts: dict[str, Contact] = {}
        self.groups: dict[str, Group] = {}
        self.campaigns: dict[str, Campaign] = {}
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.stages: dict[str, str] = {"stg_1": "New", "stg_2": "Contacted"}
        self.custom_field_names: set[str] = set()
        self.refusals: dict[str, str] = {}  # address -> the words with which it is refused
        self.outbox: list[Mail] = []
        self.version = 0  # counts changes, so that listings can be kept between them
        self._by_email: dict[str, Contact] = {}
        self._listings: dict[Hashable, list[Contact]] = {}
        self._listings_version = 0
        self._ids = 0

    def now(self) -> str:
        """The server's time, ISO 8601 in UTC with milliseconds."""
        moment = datetime.fromtimestamp(self.now_s(), UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def new_id(self, prefix: str) -> str:
        """An id that was never used before."""
        self._ids += 1
        return f"{prefix}_{self._ids:08d}"

    # contacts

    def contact_by_id(self, contact_id: str) -> Contact:
        """Raises Refusal (404)."""
        found = self.contacts.get(contact_id)
        if found is None:
            raise missing("Contact")
        return found

    def contact_by_email(self, email: str) -> Contact | None:
        """Compared without regard to letter case [D]."""
        return self._by_email.get(email.lower())

    def containing(self, part: str) -> list[Contact]:
        """Those whose address contains `part`, whatever the letter case [I]."""
        if not part:
            return list(self.contacts.values())
        part = part.lower()
        return [contact for email, contact in self._by_email.items() if part in email]

    def listed(self, key: Hashable, find: Callable[[], list[Contact]]) -> list[Contact]:
        """What `find` returns; found once for all pages of a listing, until something changes."""
        if self._listings_version != self.version:
            self._listings.clear()
            self._listings_version = self.version
        if key not in self._listings:
            if len(self._listings) >= LISTINGS_KEPT_MAX:
                self._listings.clear()
            self._listings[key] = find()
        return self._listings[key]

    def create(self, change: Change) -> Contact:
        """A new contact, in the groups that the change names. Raises Refusal (409)."""
        email = change.email or ""
        if email.lower() in self._by_email:
            raise conflict("Email already exists")
        now = self.now()
        contact = Contact(self.new_id("con"), self._shown(email), now, now)
        self.contacts[contact.id] = self._by_email[email.lower()] = contact
        every = Mixed(custom_fields="merge", tags="merge", groups="merge")
        self._mix(contact, change, every, now)
        return contact

    def update(self, contact: Contact, change: Change, mixed: Mixed) -> None:
        """Only what the change says. Raises Refusal (409) when the address is another contact's."""
        if change.email is not None:
            self._rename(contact, change.email)
        self._mix(contact, change, mixed, self.now())

    def delete(self, contact: Contact) -> None:
        """For good [D]."""
        self.leave(contact, list(contact.groups))
        for campaign in self.campaigns.values():
            campaign.members.pop(contact.id, None)
        del self.contacts[contact.id]
        del self._by_email[contact.email.lower()]
        self.version += 1

    def set_tags(self, contact: Contact, tags: Iterable[str]) -> None:
        """Exactly these tags, each once."""
        contact.tags = list(dict.fromkeys(tags))
        self._touch(contact, self.now())

    def _shown(self, email: str) -> str:
        return email.lower() if self.quirks.email_shown == "lower" else email

    def _rename(self, contact: Contact, email: str) -> None:
        other = self._by_email.get(email.lower())
        if other is not None and other is not contact:
            raise conflict("Email already exists")
        del self._by_email[contact.email.lower()]
        contact.email = self._shown(email)
        self._by_email[email.lower()] = contact

    def _mix(self, contact: Contact, change: Change, mixed: Mixed, now: str) -> None:
        contact.fields.update(change.fields)
        contact.extra.update(change.extra)
        if change.custom_fields is not None:
            if mixed.custom_fields == "replace":
                contact.custom_fields.clear()
            for name, value in change.custom_fields.items():
                if value is None:
                    contact.custom_fields.pop(name, None)
                else:
                    contact.custom_fields[name] = value
        if change.tags is not None:
            kept = contact.tags if mixed.tags == "merge" else []
            contact.tags = list(dict.fromkeys([*kept, *change.tags]))
        if change.stage_id is not None:
            contact.stage_id = change.stage_id or None
        if change.group_ids is not None:
            if mixed.groups == "replace":
                self.leave(contact, [one for one in contact.groups if one not in change.group_ids])
            self.join(contact, change.group_ids)
        self._touch(contact, now)

    def _touch(self, contact: Contact, now: str) -> None:
        contact.updated_at = now
        self.version += 1

    # groups

    def group_by_id(self, group_id: str) -> Group:
        """Raises Refusal (404)."""
        found = self.groups.get(group_id)
        if found is None:
            raise missing("Group")
        return found

    def known_groups(self, group_ids: list[str]) -> list[str]:
        """The same ids. Raises Refusal (400) when the account has not all of them."""
        unknown = [one for one in group_ids if one not in self.groups]
        if unknown:
            raise invalid("Unknown group", {"groupIds": unknown})
        return group_ids

    def create_group(self, name: str, *, dynamic: bool) -> Group:
        """A new group; a dynamic one with an active campaign. Raises Refusal (409) [?]."""
        self._check_group_name(name, None)
        now = self.now()
        group = Group(self.new_id("grp"), name, dynamic, now, now)
        self.groups[group.id] = group
        if dynamic:
            campaign = Campaign(self.new_id("cmp"), f"Campaign of {name}", now, now, "active")
            campaign.started_at = now
            campaign.groups.add(group.id)
            self.campaigns[campaign.id] = campaign
        self.version += 1
        return group

    def rename_group(self, group: Group, name: str) -> None:
        """Raises Refusal (409) [?]."""
        self._check_group_name(name, group)
        group.name = name
        group.updated_at = self.now()

    def delete_group(self, group: Group) -> None:
        """Its members stay contacts, its campaigns stay campaigns."""
        for contact in self.contacts.values():
            contact.groups.pop(group.id, None)
        for campaign in self.campaigns.values():
            campaign.groups.discard(group.id)
        del self.groups[group.id]
        self.version += 1

    def join(self, contact: Contact, group_ids: Iterable[str]) -> int:
        """Add a contact to groups, and mail where that means mail. Returns how many were new."""
        added = 0
        for group_id in group_ids:
            if group_id in contact.groups:
                continue
            group = self.groups[group_id]
            contact.groups[group_id] = None
            group.size += 1
            added += 1
            self.version += 1
            if group.dynamic and contact.status == "active":
                self._enrol_for(group, contact)
        return added

    def leave(self, contact: Contact, group_ids: Iterable[str]) -> int:
        """Take a contact out of groups; it stays a contact [D]. Returns how many it was in."""
        removed = 0
        for group_id in group_ids:
            if group_id in contact.groups:
                del contact.groups[group_id]
                self.groups[group_id].size -= 1
                removed += 1
                self.version += 1
        return removed

    def _check_group_name(self, name: str, own: Group | None) -> None:
        if self.quirks.group_names == "unique" and any(
            group.name == name and group is not own for group in self.groups.values()
        ):
            raise conflict("A group with this name already exists")

    # campaigns

    def campaign_by_id(self, campaign_id: str) -> Campaign:
        """Raises Refusal (404)."""
        found = self.campaigns.get(campaign_id)
        if found is None:
            raise missing("Campaign")
        return found

    def enrol(self, campaign: Campaign, contact: Contact) -> Literal["added", "skipped"]:
        """Add one contact to a campaign by hand; whoever is in it, or not active, is skipped."""
        if contact.id in campaign.members or contact.status != "active":
            return "skipped"
        campaign.members[contact.id] = False
        if campaign.status == "active":
            self._mail(campaign, contact, "")
        return "added"

    def mail_waiting(self, campaign: Campaign) -> None:
        """The campaign has become active: whom it has not mailed yet gets the first e-mail."""
        for contact_id, mailed in campaign.members.items():
            contact = self.contacts[contact_id]
            if not mailed and contact.status == "active":
                self._mail(campaign, contact, "")

    def _enrol_for(self, group: Group, contact: Contact) -> None:
        for campaign in self.campaigns.values():
            if campaign.status == "active" and group.id in campaign.groups:
                self._mail(campaign, contact, group.name)

    def _mail(self, campaign: Campaign, contact: Contact, group: str) -> None:
        when = self.now()
        campaign.members[contact.id] = True
        self.outbox.append(Mail(when, contact.email, contact.id, group, campaign.name))
        for kind in ("sent", "delivered"):
            campaign.activity.append(Activity(kind, when, contact.id, contact.email))
