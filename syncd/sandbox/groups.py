"""The endpoints of groups.

Source: FluenzR reference, "Groups" [I]; the exact JSON, the body of POST /groups/:id/contacts and
the uniqueness of names are [?], switched by `Quirks`. Members are removed by DELETE
/contacts/:id/groups only.
"""

from typing import Any

from syncd.sandbox.bodies import strings, text
from syncd.sandbox.exchange import Answer, Request, invalid, missing, paged, success
from syncd.sandbox.store import Contact, Group, Store

CONTACT_IDS_MAX = 1000  # by analogy with the bulk of contacts [?]


def view(store: Store, group: Group) -> dict[str, Any]:
    """The group as the API shows it [?]."""
    shown: dict[str, Any] = {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "color": group.color,
        "contactCount": group.size,
        "createdAt": group.created_at,
        "updatedAt": group.updated_at,
    }
    kind = "dynamic" if group.dynamic else "static"
    match store.quirks.group_type:
        case "type":
            shown["type"] = kind
        case "upper":
            shown["type"] = kind.upper()
        case "is_dynamic":
            shown["isDynamic"] = group.dynamic
        case "absent":
            pass
    return shown


def list_groups(store: Store, request: Request, _: str) -> Answer:
    """GET /groups [I], paged like every list [I]."""
    return paged(
        list(store.groups.values()),
        lambda group: view(store, group),
        request.query,
        total_pages=store.quirks.total_pages,
    )


def get(store: Store, _request: Request, group_id: str) -> Answer:
    """GET /groups/:id [I]."""
    return success(view(store, store.group_by_id(group_id)))


def create(store: Store, request: Request, _: str) -> Answer:
    """POST /groups [I]: static unless the body says otherwise [?]."""
    body = request.json()
    kind = str(body.get("type") or "static").lower()
    if kind not in ("static", "dynamic"):
        raise invalid("type must be static or dynamic")
    group = store.create_group(text(body, "name"), dynamic=kind == "dynamic")
    _describe(group, body)
    return success(view(store, group), status=201)


def update(store: Store, request: Request, group_id: str) -> Answer:
    """PUT /groups/:id [I]: the type stays."""
    group, body = store.group_by_id(group_id), request.json()
    if "name" in body:
        store.rename_group(group, text(body, "name"))
    _describe(group, body)
    return success(view(store, group))


def delete(store: Store, _request: Request, group_id: str) -> Answer:
    """DELETE /groups/:id [I]: its members stay contacts."""
    store.delete_group(store.group_by_id(group_id))
    return success({"id": group_id, "deleted": True})


def add_contacts(store: Store, request: Request, group_id: str) -> Answer:
    """POST /groups/:id/contacts [I]: unknown ids are named in `errors` [?]."""
    group, key = store.group_by_id(group_id), store.quirks.group_contacts_key
    contact_ids = strings(request.json(), key, most=CONTACT_IDS_MAX)
    contacts, errors = resolve(store, contact_ids)
    added = sum(store.join(contact, [group.id]) for contact in contacts)
    return success({"added": added, "skipped": len(contacts) - added, "errors": errors})


def resolve(store: Store, contact_ids: list[str]) -> tuple[list[Contact], list[dict[str, str]]]:
    """The contacts of these ids, and an error for each id that is none."""
    found = [store.contacts[one] for one in contact_ids if one in store.contacts]
    errors = [
        {"contactId": one, "message": str(missing("Contact"))}
        for one in contact_ids
        if one not in store.contacts
    ]
    return found, errors


def _describe(group: Group, body: dict[str, Any]) -> None:
    group.description = str(body.get("description") or group.description)
    group.color = str(body.get("color") or group.color)
