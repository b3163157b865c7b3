"""The endpoints of contacts.

Source: FluenzR reference, "Contacts": listing, reading, creating, updating and deleting [I]; bulk,
search, groups and tags of one contact [D]; everything that `Quirks` switches is [?].
"""

from collections.abc import Callable
from typing import Any

from syncd.sandbox.bodies import change_of, email_of, strings
from syncd.sandbox.exchange import Answer, Refusal, Request, invalid, paged, success
from syncd.sandbox.store import FIELDS, STATUSES, Contact, Mixed, Store

BULK_CONTACTS_MAX = 1000  # [D]
DUPLICATES = ("skip", "update")
SORTS: dict[str, Callable[[Contact], str]] = {
    "createdAt": lambda contact: contact.created_at,
    "updatedAt": lambda contact: contact.updated_at,
    "email": lambda contact: contact.email.lower(),
    "firstName": lambda contact: contact.fields.get("firstName") or "",
    "lastName": lambda contact: contact.fields.get("lastName") or "",
    "company": lambda contact: contact.fields.get("company") or "",
}


def view(store: Store, contact: Contact) -> dict[str, Any]:
    """The contact as the API shows it [D]."""
    shown: dict[str, Any] = {"id": contact.id, "email": contact.email}
    for name in FIELDS:
        shown[name] = contact.fields.get(name)
    shown["status"] = contact.status
    shown["groups"] = [{"id": one, "name": store.groups[one].name} for one in contact.groups]
    shown["tags"] = contact.tags
    shown["customFields"] = contact.custom_fields
    stage = contact.stage_id
    shown["pipelineStage"] = stage and {"id": stage, "name": store.stages[stage]}
    shown["createdAt"], shown["updatedAt"] = contact.created_at, contact.updated_at
    return contact.extra | shown


def list_contacts(store: Store, request: Request, _: str) -> Answer:
    """GET /contacts: `email` is a contains match [I]."""
    asked = request.query
    wanted = {"status": asked.get("status"), "tag": asked.get("tag"), "email": asked.get("email")}
    names = (
        ("group", "groupId")
        if store.quirks.group_filter == "both"
        else (store.quirks.group_filter,)
    )
    wanted["group"] = next((asked[name] for name in names if name in asked), None)
    key = tuple(sorted((name, value) for name, value in wanted.items() if value is not None))
    found = store.listed(
        (key, asked.get("sort"), asked.get("order")), lambda: _find(store, wanted, asked)
    )
    return _page(store, found, asked)


def search(store: Store, request: Request, _: str) -> Answer:
    """POST /contacts/search [D]: paging in the body or in the query [?]."""
    body = request.json()
    filters, sort = body.get("filters") or {}, body.get("sort") or {}
    if not isinstance(filters, dict) or not isinstance(sort, dict):
        raise invalid("filters and sort must be objects")
    found = matching(store, str(body.get("query") or ""), filters)
    found = _sorted(store, found, sort.get("field"), sort.get("order"))
    return _page(store, found, request.query | body)


def matching(store: Store, query: str, filters: dict[str, Any]) -> list[Contact]:
    """Those with `query` in a text of theirs, who match `status`, `groups` and `customFields`."""
    groups = strings(filters, "groups") if filters.get("groups") else []
    custom = filters.get("customFields") or {}
    if not isinstance(custom, dict):
        raise invalid("customFields must be an object")
    query = query.lower()
    return [
        contact
        for contact in _find(store, {"status": filters.get("status")}, {})
        if any(query in text.lower() for text in (contact.email, *_texts(contact)))
        and (not groups or any(one in contact.groups for one in groups))
        and all(contact.custom_fields.get(name) == value for name, value in custom.items())
    ]


def get(store: Store, _request: Request, contact_id: str) -> Answer:
    """GET /contacts/:id [I]."""
    return success(view(store, store.contact_by_id(contact_id)))


def create(store: Store, request: Request, _: str) -> Answer:
    """POST /contacts [I]: 201, or 409 for an address that is there [D]."""
    body = request.json()
    email_of(store, body.get("email"))
    contact = store.create(change_of(store, body))
    return success(view(store, contact), status=201)


def update(store: Store, request: Request, contact_id: str) -> Answer:
    """PUT /contacts/:id [I]: only provided fields are updated [D]."""
    contact = store.contact_by_id(contact_id)
    quirks = store.quirks
    mixed = Mixed(
        custom_fields=quirks.custom_fields_put, tags=quirks.tags_put, groups=quirks.groups_put
    )
    store.update(contact, change_of(store, request.json()), mixed)
    return success(view(store, contact))


def delete(store: Store, _request: Request, contact_id: str) -> Answer:
    """DELETE /contacts/:id [I]: permanent."""
    store.delete(store.contact_by_id(contact_id))
    return success({"id": contact_id, "deleted": True})


def bulk(store: Store, request: Request, _: str) -> Answer:
    """POST /contacts/bulk [D]: counts, no ids; the shape of `errors` is [?]."""
    body = request.json()
    rows = body.get("contacts")
    if not isinstance(rows, list) or not rows:
        raise invalid("contacts must be a list that is not empty")
    if len(rows) > BULK_CONTACTS_MAX:
        raise invalid(f"contacts must have at most {BULK_CONTACTS_MAX} entries")
    duplicates = body.get("onDuplicate", "skip")
    if duplicates not in DUPLICATES:
        raise invalid("onDuplicate must be skip or update")
    group_ids = store.known_groups(strings(body, "groupIds")) if "groupIds" in body else []
    if store.quirks.bulk_errors == "whole400":
        _check_all(store, rows)
    counts = {"created": 0, "updated": 0, "skipped": 0}
    errors = []
    for index, row in enumerate(rows):
        try:
            outcome = _bulk_row(store, row, group_ids, update=duplicates == "update")
        except Refusal as refusal:
            errors.append(_error(store, index, row, refusal))
        else:
            counts[outcome] += 1
    return success({**counts, "errors": errors})


def add_groups(store: Store, request: Request, contact_id: str) -> Answer:
    """POST /contacts/:id/groups [D]."""
    contact = store.contact_by_id(contact_id)
    store.join(contact, store.known_groups(strings(request.json(), "groupIds")))
    return success(view(store, contact))


def remove_groups(store: Store, request: Request, contact_id: str) -> Answer:
    """DELETE /contacts/:id/groups [D]: the contact stays."""
    contact = store.contact_by_id(contact_id)
    store.leave(contact, strings(request.json(), "groupIds"))
    return success(view(store, contact))


def add_tags(store: Store, request: Request, contact_id: str) -> Answer:
    """POST /contacts/:id/tags [D]."""
    contact = store.contact_by_id(contact_id)
    store.set_tags(contact, [*contact.tags, *strings(request.json(), "tags")])
    return success(view(store, contact))


def remove_tags(store: Store, request: Request, contact_id: str) -> Answer:
    """DELETE /contacts/:id/tags [D]."""
    contact = store.contact_by_id(contact_id)
    gone = set(strings(request.json(), "tags"))
    store.set_tags(contact, [tag for tag in contact.tags if tag not in gone])
    return success(view(store, contact))


def _page(store: Store, found: list[Contact], asked: dict[str, Any]) -> Answer:
    def total(count: int, rows: int) -> int | None:
        totals = {"absent": None, "everybody": len(store.contacts), "page": rows}
        return totals.get(store.quirks.status_total, count) if asked.get("status") else count

    return paged(
        found,
        lambda contact: view(store, contact),
        asked,
        total_pages=store.quirks.total_pages,
        total=total,
    )


def _find(store: Store, wanted: dict[str, Any], asked: dict[str, Any]) -> list[Contact]:
    """Those who match every filter, in the order asked for. Raises Refusal."""
    found = store.containing(wanted.get("email") or "")
    if wanted["status"] is not None:
        if wanted["status"] not in STATUSES:
            raise invalid(f"status must be one of {', '.join(STATUSES)}")
        if store.quirks.status_filter == "honoured":
            found = [contact for contact in found if contact.status == wanted["status"]]
    if wanted.get("group") is not None:
        found = [contact for contact in found if wanted["group"] in contact.groups]
    if wanted.get("tag") is not None:
        found = [contact for contact in found if wanted["tag"] in contact.tags]
    return _sorted(store, found, asked.get("sort"), asked.get("order"))


def _sorted(store: Store, found: list[Contact], sort: Any, order: Any) -> list[Contact]:
    if sort is None:
        return found
    if not isinstance(sort, str) or sort not in SORTS or order not in ("asc", "desc", None):
        raise invalid(f"sort must be one of {', '.join(SORTS)}, order asc or desc")
    quirks = store.quirks
    if sort == "updatedAt" and quirks.sort_updated == "refused":
        raise invalid(f"sort must not be {sort}")
    if quirks.sort == "ignored" or (sort == "updatedAt" and quirks.sort_updated == "ignored"):
        return found
    if quirks.sort == "updated_at":
        sort = "updatedAt"
    found = sorted(found, key=SORTS[sort])
    return found[::-1] if order == "desc" else found


def _texts(contact: Contact) -> list[str]:
    return [value for value in contact.fields.values() if value]


def _bulk_row(store: Store, row: Any, group_ids: list[str], *, update: bool) -> str:
    """What became of one row: created, updated or skipped. Raises Refusal."""
    change = change_of(store, row)
    email = email_of(store, change.email)
    contact = store.contact_by_email(email)
    if contact is None:
        contact = store.create(change)
        store.join(contact, group_ids)
        return "created"
    if not update:
        if store.quirks.bulk_skip_adds_groups:
            store.join(contact, group_ids)
        return "skipped"
    change.email = None  # letter case is no change
    quirks = store.quirks
    mixed = Mixed(custom_fields=quirks.custom_fields_bulk, tags=quirks.tags_bulk, groups="merge")
    store.update(contact, change, mixed)
    store.join(contact, group_ids)
    return "updated"


def _check_all(store: Store, rows: list[Any]) -> None:
    for index, row in enumerate(rows):
        try:
            email_of(store, change_of(store, row).email)
        except Refusal as refusal:
            raise invalid("Validation failed", {"index": index, "message": str(refusal)}) from None


def _error(store: Store, index: int, row: Any, refusal: Refusal) -> dict[str, Any]:
    """One entry of `errors`, in the shape that the quirk says [?]."""
    entry: dict[str, Any] = {"message": refusal.message}
    if "index" in store.quirks.bulk_errors:
        entry["index"] = index
    if "email" in store.quirks.bulk_errors:
        entry["email"] = row.get("email") if isinstance(row, dict) else None
    return entry
