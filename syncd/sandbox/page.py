"""The page for people: what is in the account, and the e-mails that would have gone out.

Rendered on the server, without scripts and without anything from elsewhere; all data is escaped.
"""

import functools
from collections.abc import Iterable
from itertools import islice
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from syncd.sandbox import campaigns, contacts
from syncd.sandbox.app import Seen
from syncd.sandbox.exchange import Answer, html
from syncd.sandbox.people import Account
from syncd.sandbox.store import Contact

CONTACTS_SHOWN_MAX = 100
MAILS_SHOWN_MAX = 200
REQUESTS_SHOWN_MAX = 50


def page(account: Account, requests: Iterable[Seen], query: dict[str, str]) -> Answer:
    """GET / of the sandbox. query: `q` searches the contacts."""
    with account.lock:
        return html(_template().render(_facts(account, list(requests), query.get("q", "").strip())))


def _facts(account: Account, requests: list[Seen], search: str) -> dict[str, Any]:
    found = [one for one in account.contacts.values() if _matches(one, search.lower())]
    return {
        "search": search,
        "contact_count": len(account.contacts),
        "found_count": len(found),
        "contacts": [contacts.view(account, one) for one in found[:CONTACTS_SHOWN_MAX]],
        "groups": list(account.groups.values()),
        "campaigns": [campaigns.view(one) for one in account.campaigns.values()],
        "mail_count": len(account.outbox),
        "mails": list(islice(reversed(account.outbox), MAILS_SHOWN_MAX)),
        "requests": requests[: -REQUESTS_SHOWN_MAX - 1 : -1],
    }


def _matches(contact: Contact, search: str) -> bool:
    texts = (contact.email, *(value for value in contact.fields.values() if value))
    return any(search in text.lower() for text in texts)


@functools.cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("syncd.sandbox", package_path=""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")
