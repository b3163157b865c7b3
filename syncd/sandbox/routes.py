"""Which endpoint a request means: the table of FluenzR's endpoints.

Source: FluenzR reference [I] and [D]; `Quirks.absent` takes endpoints away, as some accounts lack
those of the detail pages [?].
"""

from collections.abc import Callable

from syncd.sandbox import campaigns, contacts, groups, webhooks
from syncd.sandbox.exchange import Answer, Refusal, Request, missing
from syncd.sandbox.quirks import Quirks
from syncd.sandbox.store import Store

Handler = Callable[[Store, Request, str], Answer]

ENDPOINTS: dict[str, dict[str, Handler]] = {
    "/contacts": {"GET": contacts.list_contacts, "POST": contacts.create},
    "/contacts/bulk": {"POST": contacts.bulk},
    "/contacts/search": {"POST": contacts.search},
    "/contacts/:id": {"GET": contacts.get, "PUT": contacts.update, "DELETE": contacts.delete},
    "/contacts/:id/groups": {"POST": contacts.add_groups, "DELETE": contacts.remove_groups},
    "/contacts/:id/tags": {"POST": contacts.add_tags, "DELETE": contacts.remove_tags},
    "/groups": {"GET": groups.list_groups, "POST": groups.create},
    "/groups/:id": {"GET": groups.get, "PUT": groups.update, "DELETE": groups.delete},
    "/groups/:id/contacts": {"POST": groups.add_contacts},
    "/campaigns": {"GET": campaigns.list_campaigns, "POST": campaigns.create},
    "/campaigns/:id": {"GET": campaigns.get, "PUT": campaigns.update},
    "/campaigns/:id/start": {"POST": campaigns.start},
    "/campaigns/:id/pause": {"POST": campaigns.pause},
    "/campaigns/:id/resume": {"POST": campaigns.resume},
    "/campaigns/:id/archive": {"POST": campaigns.archive},
    "/campaigns/:id/contacts": {
        "GET": campaigns.list_members,
        "POST": campaigns.add_members,
        "DELETE": campaigns.remove_members,
    },
    "/campaigns/:id/stats": {"GET": campaigns.stats},
    "/campaigns/:id/stats/emails": {"GET": campaigns.stats_emails},
    "/campaigns/:id/stats/timeline": {"GET": campaigns.stats_timeline},
    "/campaigns/:id/activity": {"GET": campaigns.activity},
    "/webhooks": {"GET": webhooks.list_webhooks, "POST": webhooks.create},
    "/webhooks/:id": {"PUT": webhooks.update, "DELETE": webhooks.delete},
    "/webhooks/:id/test": {"POST": webhooks.test},
    "/webhooks/:id/logs": {"GET": webhooks.logs},
}
READS = ("POST /contacts/search",)  # the one POST that changes nothing


def split(path: str) -> tuple[str, str]:
    """The endpoint that a path means, and the id in it: "/contacts/:id/tags", "con_1"."""
    parts = path.split("/")
    if path in ENDPOINTS or len(parts) < 3:
        return path, ""
    item_id, parts[2] = parts[2], ":id"
    return "/".join(parts), item_id


def is_write(method: str, endpoint: str) -> bool:
    """Whether the request may change something."""
    return method != "GET" and f"{method} {endpoint}" not in READS


def handler(quirks: Quirks, method: str, endpoint: str) -> Handler:
    """Who answers. Raises Refusal: 404 for no such endpoint, 405 for no such method on it."""
    methods = ENDPOINTS.get(endpoint)
    if methods is None:
        raise missing("Endpoint")
    if f"{method} {endpoint}" in quirks.absent:
        raise _absent(quirks.absent_status)
    if method not in methods:
        raise _absent(405)
    return methods[method]


def _absent(status: int) -> Refusal:
    if status == 404:
        return missing("Endpoint")
    return Refusal(405, "METHOD_NOT_ALLOWED", "Method not allowed")
