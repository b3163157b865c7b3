"""The account as the people who use FluenzR see it: what they do by hand, and what a test asks.

Every method takes the account's lock, so that a test's thread may use it while requests arrive.
Contacts go by their e-mail address, groups by their name.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from syncd.sandbox import contacts, webhooks
from syncd.sandbox.delivery import Attempt
from syncd.sandbox.quirks import Quirks
from syncd.sandbox.store import FIELDS, Activity, Campaign, Change, Contact, Group, Mixed, Store

BY_HAND = Mixed(custom_fields="merge", tags="replace", groups="merge")
STATUS_AFTER = {"unsubscribed": "unsubscribed", "bounced": "bounced", "replied": "replied"}  # [D]


class Account(Store):
    """One account with its people's hands. `outbox` is what would have been mailed, in order."""

    def __init__(self, now_s: Callable[[], float], quirks: Quirks) -> None:
        super().__init__(now_s, quirks)
        self.lock = threading.RLock()

    # what is there

    def contact(self, email: str) -> dict[str, Any]:
        """One contact as the API shows it. Raises KeyError."""
        with self.lock:
            return contacts.view(self, self._contact(email))

    def contacts_by_email(self) -> dict[str, dict[str, Any]]:
        """Every contact as the API shows it, under its address in lower case."""
        with self.lock:
            return {one.email.lower(): contacts.view(self, one) for one in self.contacts.values()}

    def groups_of(self, email: str) -> set[str]:
        """The names of a contact's groups. Raises KeyError."""
        with self.lock:
            return {self.groups[one].name for one in self._contact(email).groups}

    def members(self, group: str) -> set[str]:
        """The addresses in a group, in lower case. Raises KeyError."""
        with self.lock:
            group_id = self.group(group).id
            every = self.contacts.values()
            return {one.email.lower() for one in every if group_id in one.groups}

    def mailed(self) -> list[str]:
        """The addresses in the outbox, in lower case, in order: once for each e-mail."""
        with self.lock:
            return [mail.email.lower() for mail in self.outbox]

    def group(self, name: str) -> Group:
        """The first group of this name. Raises KeyError."""
        with self.lock:
            for group in self.groups.values():
                if group.name == name:
                    return group
        raise KeyError(name)

    def campaign(self, name: str) -> Campaign:
        """The first campaign of this name. Raises KeyError."""
        with self.lock:
            for campaign in self.campaigns.values():
                if campaign.name == name:
                    return campaign
        raise KeyError(name)

    # contacts, by hand

    def add_contact(
        self,
        email: str,
        *,
        status: str = "active",
        groups: Iterable[str] = (),
        tags: Iterable[str] = (),
        custom_fields: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Contact:
        """A new contact; dynamic groups mail. fields: by the API's names (firstName="Ann")."""
        with self.lock:
            change = _change(fields, custom_fields, tags)
            change.email = email
            contact = self.create(change)
            contact.status = status
            self.join(contact, [self.group(name).id for name in groups])
            return contact

    def edit(
        self,
        email: str,
        *,
        tags: Iterable[str] | None = None,
        custom_fields: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Change fields and custom fields; tags become exactly these. Raises KeyError."""
        with self.lock:
            self.update(self._contact(email), _change(fields, custom_fields, tags), BY_HAND)

    def rename(self, email: str, new_email: str) -> None:
        """Change an address. Raises KeyError, Refusal when another contact has it."""
        with self.lock:
            self.update(self._contact(email), Change(email=new_email), BY_HAND)

    def remove(self, email: str) -> None:
        """Delete a contact. Raises KeyError."""
        with self.lock:
            self.delete(self._contact(email))

    def opt_out(self, email: str, *, status: str = "unsubscribed") -> None:
        """The person unsubscribes, or gets another status, `active` too. Raises KeyError."""
        with self.lock:
            self._set_status(self._contact(email), status)

    def put_in(self, email: str, *groups: str) -> None:
        """Add a contact to groups; dynamic ones mail. Raises KeyError."""
        with self.lock:
            self.join(self._contact(email), [self.group(name).id for name in groups])

    def take_out(self, email: str, *groups: str) -> None:
        """Take a contact out of groups. Raises KeyError."""
        with self.lock:
            self.leave(self._contact(email), [self.group(name).id for name in groups])

    def refuse(self, email: str, message: str = "This address is not accepted") -> None:
        """From now on the API refuses this address, with these words."""
        with self.lock:
            self.refusals[email.lower()] = message

    def accept(self, email: str) -> None:
        """The API takes this address again."""
        with self.lock:
            self.refusals.pop(email.lower(), None)

    # groups and campaigns, by hand

    def add_group(self, name: str, *, dynamic: bool = False) -> Group:
        """A new group; a dynamic one with an active campaign that mails whoever joins."""
        with self.lock:
            return self.create_group(name, dynamic=dynamic)

    def add_campaign(self, name: str, *, status: str = "active") -> Campaign:
        """A new campaign that no group is linked to."""
        with self.lock:
            now = self.now()
            campaign = Campaign(self.new_id("cmp"), name, now, now, status)
            self.campaigns[campaign.id] = campaign
            return campaign

    def enrolled(self, campaign: str) -> set[str]:
        """The addresses in a campaign, in lower case. Raises KeyError."""
        with self.lock:
            members = self.campaign(campaign).members
            return {self.contacts[one].email.lower() for one in members}

    def enrol_by_hand(self, email: str, campaign: str) -> None:
        """Somebody adds a contact to a campaign. Raises KeyError."""
        with self.lock:
            self.enrol(self.campaign(campaign), self._contact(email))

    def remove_group(self, name: str) -> None:
        """Delete a group. Raises KeyError."""
        with self.lock:
            self.delete_group(self.group(name))

    def happens(self, kind: str, email: str, *, campaign: str) -> None:
        """One `Activity` of a person in a campaign: opened, clicked, bounced... Raises KeyError."""
        with self.lock:
            contact = self._contact(email)
            entry = Activity(kind, self.now(), contact.id, contact.email)
            self.campaign(campaign).activity.append(entry)
            if kind in STATUS_AFTER:
                self._set_status(contact, STATUS_AFTER[kind])

    def deliver(self, event: str, data: dict[str, Any]) -> list[Attempt]:
        """Send one event, signed, to every webhook that asks for it; what came of it."""
        with self.lock:
            asked = [one for one in self.webhooks.values() if event in one["events"]]
            return [webhooks.attempted(self, one, event, data) for one in asked]

    def _contact(self, email: str) -> Contact:
        found = self.contact_by_email(email)
        if found is None:
            raise KeyError(email)
        return found

    def _set_status(self, contact: Contact, status: str) -> None:
        contact.status = status
        moves = self.quirks.opt_out_moves
        self._touch(contact, self.now() if moves else contact.updated_at)


def _change(
    fields: dict[str, Any], custom_fields: dict[str, Any] | None, tags: Iterable[str] | None
) -> Change:
    unknown = sorted(set(fields) - set(FIELDS))
    if unknown:
        raise TypeError(f"FluenzR has no field {', '.join(unknown)}; custom ones: custom_fields")
    tags = None if tags is None else list(tags)
    return Change(fields=fields, custom_fields=custom_fields, tags=tags)
