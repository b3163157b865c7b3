"""Airtable's cells as a mapping wants them.

A cell that was asked for and did not come is empty: an unchecked box is false. A computed cell with an error is not known, and
neither is anything in a column whose formula or link is broken. Links to files are left out, for they are others in each answer.

Source: airtable.com/developers/web/api, "Field types and cell values"; errors of formulas: {"error": "#ERROR!"}, {"specialValue": "NaN"}.
"""

from collections.abc import Callable, Mapping
from typing import Any

from connectors.airtable.schema import LINK, LOOKUP, Column

UNKNOWN = object()  # what is left out of a record

PLAIN = (str, int, float, bool)
EMPTY: Mapping[str, Any] = {
    "checkbox": False, "multipleSelects": (), "multipleCollaborators": (), "multipleAttachments": (), LINK: (),
}  # fmt: skip
FILE_PARTS = (
    "id",
    "filename",
    "type",
    "size",
)  # without `url` and `thumbnails`, which end after 2 hours
PERSON_PARTS = ("id", "name", "email")
GENERATED = frozenset({"generated", "empty"})  # states of an AI's text that is there

Cells = Mapping[str, Any]


def reader(column: Column) -> Callable[[Cells], Any]:
    """A function from a record's cells, by ids, to the value of one column; or to UNKNOWN."""
    if column.is_broken:
        return lambda _: UNKNOWN
    key, kind = column.id, column.shows
    empty = EMPTY.get(kind)
    if column.kind == LOOKUP:
        empty = False if kind == "checkbox" else None

    def read(cells: Cells) -> Any:
        value = cells.get(key)
        if value is None:
            return empty
        if isinstance(value, PLAIN):
            return value
        found = _shown(value, kind)
        return _looked_up(found, kind) if column.kind == LOOKUP else found

    return read


def linked_ids(value: Any) -> list[str]:
    """The ids in a cell of links: texts, or objects that have them."""
    links = value if isinstance(value, list) else ()
    ids = [one.get("id") if isinstance(one, dict) else one for one in links]
    return [one for one in ids if isinstance(one, str)]


def person_of(value: Any) -> dict[str, Any] | None:
    """A collaborator, or the first of several."""
    first = value[0] if isinstance(value, list) and value else value
    return {name: first.get(name) for name in PERSON_PARTS} if isinstance(first, dict) else None


def _shown(value: Any, kind: str) -> Any:
    if isinstance(value, dict):
        return _part(value, kind)
    if isinstance(value, list):
        found = [_shown(one, kind) for one in value]
        return UNKNOWN if any(one is UNKNOWN for one in found) else found
    return value


def _part(value: Mapping[str, Any], kind: str) -> Any:
    if kind == "aiText" or "isStale" in value:
        return value.get("value") if value.get("state") in GENERATED else UNKNOWN
    if "error" in value or "specialValue" in value:
        return UNKNOWN
    if kind == "multipleAttachments":
        return {name: value[name] for name in FILE_PARTS if name in value}
    if kind == "barcode":
        return value.get("text")
    if kind == "button":
        return value.get("url")
    if "email" in value or "permissionLevel" in value:
        return {name: value[name] for name in PERSON_PARTS if name in value}
    return dict(value)


def _looked_up(found: Any, kind: str) -> Any:
    """A lookup shows a list: one value is that value, and of several boxes one that is checked is enough."""
    if not isinstance(found, list):
        return found
    values = [one for one in found if one not in (None, "")]
    if kind == "checkbox":
        return any(one is True for one in values)
    if len(values) > 1:
        return values
    return values[0] if values else None
