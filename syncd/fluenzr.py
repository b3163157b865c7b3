"""FluenzR's endpoints, typed: what is asked, and what counts as the expected answer.

It decides paths, queries and shapes; pacing, retries and statuses are `wire.py`'s business, the
reading of objects `fluenzr_types.py`'s. All bodies are bytes: whoever sends a thousand contacts
joins payloads that are ready.

Errors of every method: Unanswered, Refused and what is below it, AccessDenied, Throttled; and
Interrupted when a stop was asked for. Reads are tried several times, changes are sent once.

Source: FluenzR reference, "Contacts" and "Groups" [I] [D].
"""

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import orjson

from syncd import fluenzr_types as types
from syncd.clock import Clock
from syncd.core.answer import ShapeError
from syncd.core.pace import BudgetView
from syncd.errors import Unanswered
from syncd.fluenzr_types import BulkAnswer, Campaign, Contact, Created, Group, Page, Receipt
from syncd.wire import Reply, Wire

BASE_URL = "https://api.fluenzr.co/v1"  # [I]
PER_PAGE_MAX = 100  # [I]
LISTING_PAGES_MAX = (
    1000  # 100,000 groups or campaigns: no account has them, so the pages do not end
)
FIND_PAGES_MAX = 100  # 10,000 addresses that contain one address: the filter does not filter

Item = TypeVar("Item")
Identified = TypeVar("Identified", Group, Campaign)


class FluenzR:
    """One FluenzR account; safe to use from up to 16 threads.

    requests_per_minute: an upper bound, the server's own headers can lower it. share: of the limit,
    the rest is left to others. timeout_s: of a single wait; a request is over after twice that.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = BASE_URL,
        requests_per_minute: int = 1000,
        share: float = 0.9,
        clock: Clock | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        self._wire = Wire(
            api_key,
            base_url=base_url,
            requests_per_minute=requests_per_minute,
            share=share,
            clock=clock,
            timeout_s=timeout_s,
        )

    def close(self) -> None:
        """Close every connection."""
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def requests(self) -> int:
        """How many requests were sent so far, retries included."""
        return self._wire.requests

    @property
    def throttled(self) -> int:
        """How many were answered with 429."""
        return self._wire.throttled

    def budget(self) -> BudgetView:
        """The limit, what is left of it for us now, and the wait for the next request."""
        return self._wire.budget()

    def server_time_ms(self) -> int | None:
        """A lower bound of FluenzR's clock now, in epoch ms; None until a Date was seen."""
        return self._wire.server_time_ms()

    def groups(self) -> list[Group]:
        """All groups. GET /groups [I]."""
        return self._all("/groups", types.group)

    def campaigns(self) -> list[Campaign]:
        """All campaigns, whatever their status. GET /campaigns [I]."""
        return self._all("/campaigns", types.campaign)

    def _all(self, path: str, parse: Callable[[Any], Identified]) -> list[Identified]:
        found: dict[str, Identified] = {}
        for page in range(1, LISTING_PAGES_MAX + 1):
            query = urlencode({"page": page, "perPage": PER_PAGE_MAX})
            total, listed = self._wire.read(path, _listing(parse), query=query)
            known = len(found)
            found.update((item.id, item) for item in listed)
            # Without a total, only a page that adds nothing is the last: a short one may just be
            # what a server gives that knows no perPage.
            if len(found) == known or (total is not None and len(found) >= total):
                return list(found.values())
        raise Unanswered(
            f"GET {path}: more than {LISTING_PAGES_MAX} pages",
            why="the pages do not end",
            hint="Check fluenzr.base_url",
            answered=True,
        )

    def contacts_page(
        self,
        page: int,
        *,
        status: str | None = None,
        email: str | None = None,
        group_id: str | None = None,
        sort: str | None = None,
        order: str | None = None,
        per_page: int = PER_PAGE_MAX,
    ) -> Page:
        """One page of the listing, from 1. GET /contacts [I].

        email: a part of the address. order: "asc" or "desc". A filter or order that FluenzR does
        not know may be ignored: whoever relies on one looks at what came.
        """
        asked: dict[str, Any] = {"page": page, "perPage": per_page, "status": status}
        asked |= {"email": email, "sort": sort, "order": order}
        asked |= {"group": group_id, "groupId": group_id}  # [I] and [D] differ
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        total, listed = self._wire.read("/contacts", _listing(types.contact), query=query)
        return Page(listed, total, page)

    def contact(self, contact_id: str) -> Contact:
        """One contact. GET /contacts/:id [I]. Raises NotFound."""
        return self._wire.read(
            f"/contacts/{_part(contact_id)}", lambda reply: _same(reply.data, contact_id)
        )

    def find(self, email: str) -> Contact | None:
        """The contact with exactly this address, in any case; None when there certainly is none.

        GET /contacts?email= is a contains match [D]: all pages are read before the answer is None.
        """
        wanted, seen = email.strip().lower(), set[str]()
        for number in range(1, FIND_PAGES_MAX + 1):
            page = self.contacts_page(number, email=wanted)
            for found in page.items:
                if found.email.strip().lower() == wanted:
                    return found
            known = len(seen)
            seen.update(found.id for found in page.items)
            if page.total is not None and len(seen) >= page.total:
                return None
            if len(seen) == known:
                if page.total is None:
                    return None
                raise _incomplete(f"{len(seen)} contacts came of {page.total}")
        raise _incomplete(f"more than {FIND_PAGES_MAX} pages: the e-mail filter does not filter")

    def create(self, body: bytes) -> Created:
        """POST /contacts [I]. Raises Conflict when the address is taken."""
        return self._wire.write(
            "POST",
            "/contacts",
            body,
            lambda reply: Created(types.contact(reply.data), reply.date_ms),
        )

    def bulk(self, body: bytes) -> BulkAnswer:
        """POST /contacts/bulk [D]. Raises NotSupported where the account lacks it [?]."""
        return self._wire.write(
            "POST",
            "/contacts/bulk",
            body,
            lambda reply: types.bulk(reply.data, reply.date_ms),
            optional=True,
        )

    def update(self, contact_id: str, body: bytes) -> Receipt:
        """PUT /contacts/:id [I]. Raises NotFound; Conflict when its new address is taken."""
        return self._change("PUT", contact_id, "", body)

    def delete(self, contact_id: str) -> Receipt:
        """DELETE /contacts/:id [I]: for ever. Raises NotFound."""
        return self._change("DELETE", contact_id, "", b"")

    def add_to_groups(self, contact_id: str, group_ids: Iterable[str]) -> Receipt:
        """POST /contacts/:id/groups [D]. A dynamic group mails this person."""
        return self._change("POST", contact_id, "/groups", _list("groupIds", group_ids))

    def remove_from_groups(self, contact_id: str, group_ids: Iterable[str]) -> Receipt:
        """DELETE /contacts/:id/groups, with a body [D]."""
        return self._change("DELETE", contact_id, "/groups", _list("groupIds", group_ids))

    def add_tags(self, contact_id: str, tags: Iterable[str]) -> Receipt:
        """POST /contacts/:id/tags [D]."""
        return self._change("POST", contact_id, "/tags", _list("tags", tags))

    def remove_tags(self, contact_id: str, tags: Iterable[str]) -> Receipt:
        """DELETE /contacts/:id/tags, with a body [D]."""
        return self._change("DELETE", contact_id, "/tags", _list("tags", tags))

    def add_contacts_to_group(self, group_id: str, contact_ids: Iterable[str]) -> Receipt:
        """POST /groups/:id/contacts [I], up to 1000 contacts; its body and its answer are [?].

        A dynamic group mails each of them. Raises NotSupported where the account lacks it, or where
        the group is not known.
        """
        return self._wire.write(
            "POST",
            f"/groups/{_part(group_id)}/contacts",
            _list("contactIds", contact_ids),
            _all_added,
            optional=True,
        )

    def remove_from_campaign(self, campaign_id: str, contact_ids: Iterable[str]) -> Receipt:
        """DELETE /campaigns/:id/contacts, with a body [D]: nothing more is sent to them by it.

        Raises NotSupported where the account lacks it, or where the campaign is not known.
        """
        return self._wire.write(
            "DELETE",
            f"/campaigns/{_part(campaign_id)}/contacts",
            _list("contactIds", contact_ids),
            lambda reply: Receipt(reply.date_ms, None),
            optional=True,
        )

    def create_group(self, name: str) -> Group:
        """POST /groups [I]: a static one. Whoever relies on that looks at its kind."""
        body = orjson.dumps({"name": name, "type": "static"})
        return self._wire.write("POST", "/groups", body, lambda reply: types.group(reply.data))

    def _change(self, method: str, contact_id: str, rest: str, body: bytes) -> Receipt:
        return self._wire.write(
            method,
            f"/contacts/{_part(contact_id)}{rest}",
            body,
            lambda reply: _receipt(reply, contact_id),
        )


def _part(identity: str) -> str:
    """An id as a part of a path. Dots are quoted too: `..` would lead elsewhere."""
    return quote(identity, safe="").replace(".", "%2E")


def _list(name: str, values: Iterable[str]) -> bytes:
    return orjson.dumps({name: list(values)})


def _listing(
    parse: Callable[[Any], Item],
) -> Callable[[Reply], tuple[int | None, list[Item]]]:
    return lambda reply: (types.count(reply.meta, "total"), types.items(reply.data, parse))


def _same(data: Any, contact_id: str) -> Contact:
    contact = types.contact(data)
    if contact.id != contact_id:
        raise ShapeError("another contact came than the one asked for")
    return contact


def _all_added(reply: Reply) -> Receipt:
    """The answer's shape is [?]; one that lists errors, as that of campaigns does, has not added everybody."""
    if isinstance(reply.data, dict) and reply.data.get("errors"):
        raise ShapeError("it says that not everybody was added")
    return Receipt(reply.date_ms, None)


def _receipt(reply: Reply, contact_id: str) -> Receipt:
    """The answer of a change: the contact, `{"id","deleted":true}` [D], or anything that agrees."""
    data = reply.data
    if not isinstance(data, dict):
        return Receipt(reply.date_ms, None)
    if data.get("deleted") is False:
        raise ShapeError("it says that nothing was deleted")
    if "id" in data and data["id"] != contact_id:
        raise ShapeError("another contact came than the one asked for")
    if "email" not in data or "id" not in data:
        return Receipt(reply.date_ms, None)
    return Receipt(reply.date_ms, types.contact(data))


def _incomplete(why: str) -> Unanswered:
    return Unanswered(
        "GET /contacts: the search for an address did not end",
        why=why,
        hint="It is tried again later; if this goes on, check fluenzr.base_url",
        answered=True,
    )
