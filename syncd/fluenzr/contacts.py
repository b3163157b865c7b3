"""The endpoints of contacts: what is asked, and what counts as the expected answer.

Source: FluenzR reference, "Contacts": listing, reading, creating, updating and deleting [I]; bulk,
search, groups and tags of one contact [D].
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import orjson

from syncd.core.answer import ShapeError
from syncd.errors import Unanswered
from syncd.fluenzr import types
from syncd.fluenzr.endpoints import (
    PER_PAGE_MAX,
    Body,
    Endpoints,
    Rows,
    encode,
    every,
    listing,
    named,
    part,
)
from syncd.fluenzr.types import BulkAnswer, Contact, Created, Page, Receipt
from syncd.wire import Reply

FIND_PAGES_MAX = 100  # 10,000 addresses that contain one address: the filter does not filter


class Contacts(Endpoints):
    """Contacts. A body is JSON that is ready, or an object by the API's names: `email firstName lastName company
    jobTitle phone website groupIds tags customFields pipelineStageId` [D]; None clears a field.
    """

    def contacts(
        self,
        *,
        status: str | None = None,
        email: str | None = None,
        group_id: str | None = None,
        tag: str | None = None,
        sort: str | None = None,
        order: str | None = None,
    ) -> Iterator[Contact]:
        """Every contact that matches, page by page as they are taken. GET /contacts [I].

        email: a part of the address. order: "asc" or "desc". A filter that FluenzR ignores is
        applied here; an order that it ignores is not.
        """
        asked = _filters(status, email, group_id, sort, order) | {"tag": tag}
        for contact in self._listed("/contacts", types.contact, _identity, asked=asked):
            if _matches(contact, status, email, group_id, tag):
                yield contact

    def search(
        self,
        query: str = "",
        *,
        status: str | None = None,
        group_ids: Iterable[str] = (),
        custom_fields: Mapping[str, Any] | None = None,
        sort: str | None = None,
        order: str | None = None,
    ) -> Iterator[Contact]:
        """Every contact with `query` in it that matches, page by page. POST /contacts/search [D], paging [?].

        Raises NotSupported where the account lacks it.
        """
        filters = {"status": status, "groups": list(group_ids), "customFields": custom_fields}
        asked: dict[str, Any] = {
            "query": query,
            "filters": {name: value for name, value in filters.items() if value},
        }
        if sort is not None:
            asked["sort"] = {"field": sort, "order": order or "asc"}

        def page(number: int) -> Rows[Contact]:
            paging = {"page": number, "perPage": PER_PAGE_MAX}  # in the body or in the query [?]
            return self._wire.read(
                "/contacts/search",
                listing(types.contact),
                query=urlencode(paging),
                method="POST",
                body=orjson.dumps(asked | paging),
                optional=True,
            )

        return every("POST /contacts/search", page, _identity, counted=False)

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
        asked = _filters(status, email, group_id, sort, order)
        paging = {"page": page, "perPage": per_page}
        filters = {name: value for name, value in asked.items() if value is not None}
        query = urlencode(paging | filters)
        total, listed = self._wire.read("/contacts", listing(types.contact), query=query)
        return Page(listed, total, page)

    def contact(self, contact_id: str) -> Contact:
        """One contact. GET /contacts/:id [I]. Raises NotFound."""
        return self._wire.read(
            f"/contacts/{part(contact_id)}", lambda reply: _same(reply.data, contact_id)
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

    def create(self, body: Body) -> Created:
        """POST /contacts [I]. Raises Conflict when the address is taken."""
        return self._wire.write(
            "POST",
            "/contacts",
            encode(body),
            lambda reply: Created(types.contact(reply.data), reply.date_ms),
        )

    def bulk(self, body: Body) -> BulkAnswer:
        """POST /contacts/bulk [D]. Raises NotSupported where the account lacks it [?]."""
        return self._wire.write(
            "POST",
            "/contacts/bulk",
            encode(body),
            lambda reply: types.bulk(reply.data, reply.date_ms),
            optional=True,
        )

    def update(self, contact_id: str, body: Body) -> Receipt:
        """PUT /contacts/:id [I]. Raises NotFound; Conflict when its new address is taken."""
        return self._change("PUT", contact_id, "", encode(body))

    def delete(self, contact_id: str) -> Receipt:
        """DELETE /contacts/:id [I]: for ever. Raises NotFound."""
        return self._change("DELETE", contact_id, "", b"")

    def add_to_groups(self, contact_id: str, group_ids: Iterable[str]) -> Receipt:
        """POST /contacts/:id/groups [D]. A dynamic group mails this person."""
        return self._change("POST", contact_id, "/groups", named("groupIds", group_ids))

    def remove_from_groups(self, contact_id: str, group_ids: Iterable[str]) -> Receipt:
        """DELETE /contacts/:id/groups, with a body [D]."""
        return self._change("DELETE", contact_id, "/groups", named("groupIds", group_ids))

    def add_tags(self, contact_id: str, tags: Iterable[str]) -> Receipt:
        """POST /contacts/:id/tags [D]."""
        return self._change("POST", contact_id, "/tags", named("tags", tags))

    def remove_tags(self, contact_id: str, tags: Iterable[str]) -> Receipt:
        """DELETE /contacts/:id/tags, with a body [D]."""
        return self._change("DELETE", contact_id, "/tags", named("tags", tags))

    def _change(self, method: str, contact_id: str, rest: str, body: bytes) -> Receipt:
        return self._wire.write(
            method,
            f"/contacts/{part(contact_id)}{rest}",
            body,
            lambda reply: _receipt(reply, contact_id),
        )


def _filters(
    status: str | None, email: str | None, group_id: str | None, sort: str | None, order: str | None
) -> dict[str, str | None]:
    asked = {"status": status, "email": email, "sort": sort, "order": order}
    return asked | {"group": group_id, "groupId": group_id}  # [I] and [D] differ


def _identity(contact: Contact) -> str:
    return contact.id


def _matches(
    contact: Contact, status: str | None, email: str | None, group_id: str | None, tag: str | None
) -> bool:
    """Whether it is what was asked for, as far as it shows."""
    return not (
        (status is not None and contact.status not in ("", status))
        or (email is not None and email.strip().lower() not in contact.email.lower())
        or (
            group_id is not None
            and contact.group_ids is not None
            and group_id not in contact.group_ids
        )
        or (tag is not None and contact.tags is not None and tag not in contact.tags)
    )


def _same(data: Any, contact_id: str) -> Contact:
    contact = types.contact(data)
    if contact.id != contact_id:
        raise ShapeError("another contact came than the one asked for")
    return contact


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
