"""The attributes of an entity: what its fields are called in the API. Source: connectors reference, EspoCRM [S2], and its metadata."""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors.espocrm.vendor import Espo
from syncd.errors import SourceDenied, SourceRefused

# What a field of a type is made of, beside an attribute of its own name ("{}"). Types that are not here have just that.
PARTS: Mapping[str, tuple[str, ...]] = {
    "email": ("{}", "{}IsOptedOut", "{}IsInvalid", "{}Data"),
    "phone": ("{}", "{}IsOptedOut", "{}IsInvalid", "{}Data"),
    "address": ("{}Street", "{}City", "{}State", "{}Country", "{}PostalCode"),
    "link": ("{}Id", "{}Name"),
    "linkOne": ("{}Id", "{}Name"),
    "file": ("{}Id", "{}Name"),
    "image": ("{}Id", "{}Name"),
    "linkParent": ("{}Id", "{}Type", "{}Name"),
    "linkMultiple": ("{}Ids", "{}Names"),
    "attachmentMultiple": ("{}Ids", "{}Names"),
    "currency": ("{}", "{}Currency", "{}Converted"),
    "datetimeOptional": ("{}", "{}Date"),
}
# `name` of a person is put together of these.
OF_NAME = ("name", "salutationName", "firstName", "lastName", "middleName")


def attributes_of(espo: Espo, entity: str) -> frozenset[str] | None:
    """The attributes of an entity; None where the metadata is not to be had: another version, or not for this login [M]."""
    try:
        found = espo.get("/Metadata", {"key": f"entityDefs.{entity}.fields"})
    except (SourceDenied, SourceRefused):
        return None
    if isinstance(found, dict) and isinstance(found.get("entityDefs"), dict):
        # `key` is known since 8.2; a server before gives everything.
        found = (found["entityDefs"].get(entity) or {}).get("fields")
    if not isinstance(found, dict) or not found:
        return None
    return frozenset({"id", *_attributes(found)})


def _attributes(fields: Mapping[str, Any]) -> Iterator[str]:
    for name, field in fields.items():
        kind = str(field.get("type") or "") if isinstance(field, dict) else ""
        if kind == "personName":
            yield from OF_NAME
        yield from (part.format(name) for part in PARTS.get(kind, ("{}",)))
