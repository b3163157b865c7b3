"""What a body may say of a contact: validation as FluenzR does it, as far as that is known.

Source: FluenzR reference, "Contacts" [D]: 400 with "Email is required", "Invalid email format".
Values that clear a field, unknown custom fields and unknown fields are [?]: see `Quirks`.
"""

import re
from typing import Any

from syncd.sandbox.exchange import invalid
from syncd.sandbox.quirks import Quirks
from syncd.sandbox.store import FIELDS, Change, Store

EMAIL_CHARACTERS_MAX = 254
EMAIL = re.compile(r"[^@\s<>()\[\],;:\"]+@[^@\s.,;:_]+(?:\.[^@\s.,;:_]+)+")
READ_ONLY = ("id", "status", "groups", "pipelineStage", "createdAt", "updatedAt")  # ignored [?]


def email_of(store: Store, value: Any) -> str:
    """The address, when FluenzR takes it. Raises Refusal."""
    if value is None or value == "":
        raise invalid("Email is required")
    if (
        not isinstance(value, str)
        or len(value) > EMAIL_CHARACTERS_MAX
        or not EMAIL.fullmatch(value)
    ):
        raise invalid("Invalid email format")
    refusal = store.refusals.get(value.lower())
    if refusal is not None:
        raise invalid(refusal)
    return value


def change_of(store: Store, body: Any) -> Change:
    """What this body says of a contact. Raises Refusal."""
    if not isinstance(body, dict):
        raise invalid("A contact must be an object")
    change = Change()
    for name, value in body.items():
        if name in FIELDS:
            change.fields[name] = _text(store.quirks, name, value)
        elif name == "email":
            change.email = email_of(store, value)
        elif name == "customFields":
            change.custom_fields = _custom_fields(store, value)
        elif name == "tags":
            change.tags = strings(body, "tags")
        elif name == "groupIds":
            change.group_ids = store.known_groups(strings(body, "groupIds"))
        elif name == "pipelineStageId":
            change.stage_id = _stage(store, value)
        elif name not in READ_ONLY:
            _extra(store.quirks, change, name, value)
    return change


def strings(body: dict[str, Any], name: str, *, most: int | None = None) -> list[str]:
    """The list of strings under `name`. Raises Refusal: not there, not strings, over `most`."""
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise invalid(f"{name} must be a list of strings")
    if most is not None and len(value) > most:
        raise invalid(f"{name} must have at most {most} entries")
    return value


def text(body: dict[str, Any], name: str) -> str:
    """A string that must be there. Raises Refusal."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise invalid(f"{name} is required")
    return value


def _text(quirks: Quirks, name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise invalid(f"{name} must be a string")
    _check_clearing(quirks, name, value)
    return value


def _check_clearing(quirks: Quirks, name: str, value: Any) -> None:
    if value is None and quirks.clear_refused == "null":
        raise invalid(f"{name} must not be null")
    if value == "" and quirks.clear_refused == "empty":
        raise invalid(f"{name} must not be empty")


def _custom_fields(store: Store, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise invalid("customFields must be an object")
    taken = {}
    for name, one in value.items():
        if isinstance(one, dict):
            raise invalid(f"The custom field {name} must be a plain value")
        _check_clearing(store.quirks, name, one)
        if store.quirks.unknown_custom_fields == "accept" or name in store.custom_field_names:
            taken[name] = one
        elif store.quirks.unknown_custom_fields == "refuse":
            raise invalid(f"Unknown custom field: {name}", {"customFields": [name]})
    return taken


def _stage(store: Store, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or value not in store.stages:
        raise invalid("Unknown pipeline stage", {"pipelineStageId": value})
    return value


def _extra(quirks: Quirks, change: Change, name: str, value: Any) -> None:
    if quirks.unknown_fields == "refuse":
        raise invalid(f"Unknown field: {name}", {"field": name})
    if quirks.unknown_fields == "accept":
        _check_clearing(quirks, name, value)
        change.extra[name] = value
