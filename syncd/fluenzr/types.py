"""Contacts and groups as FluenzR's endpoints return them, as values, and the reading of them from JSON.

Tolerant of what is not there, strict about what would mislead: a missing key is *not known*, a
value of the wrong type is a ShapeError, and then the answer counts as none. By hand and not by
pydantic, for a listing of a million contacts passes here.

Campaigns and webhooks have modules of their own. Source: FluenzR reference, "Contacts" [D], "Groups"
[D]; JSON of groups and of bulk errors [?].
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from syncd.core.answer import ShapeError, clean
from syncd.core.model import GroupKind

FIELDS = ("firstName", "lastName", "company", "jobTitle", "phone", "website")  # [D]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Group:
    """A group. kind: what FluenzR says; UNKNOWN where it says nothing."""

    id: str
    name: str
    kind: GroupKind
    contact_count: int | None
    description: str = ""
    color: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of the pipeline."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Contact:
    """A contact as FluenzR shows it.

    email: in FluenzR's spelling. status: in lower case; empty where none is shown, unknown ones are kept. fields:
    those of FIELDS that are shown. group_ids, tags: None where they are not shown: not known.
    created_ms, updated_ms: epoch milliseconds by FluenzR's clock. stage: of the pipeline, where it
    has one.
    """

    id: str
    email: str
    status: str
    fields: dict[str, Any]
    custom_fields: dict[str, Any]
    group_ids: frozenset[str] | None
    tags: frozenset[str] | None
    created_ms: int | None
    updated_ms: int | None
    stage: Stage | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing. total: of all pages, where FluenzR says it. page: from 1."""

    items: list[Contact]
    total: int | None
    page: int


@dataclass(frozen=True, slots=True)
class Created:
    """A created contact. date_ms: the answer's Date, whole seconds; None without it."""

    contact: Contact
    date_ms: int | None


@dataclass(frozen=True, slots=True)
class BulkError:
    """What FluenzR says of one row of a bulk request; index, email: where it names the row [?]."""

    index: int | None
    email: str | None
    message: str
    code: str


@dataclass(frozen=True, slots=True)
class BulkAnswer:
    """The counts of a bulk request; nothing says that they add up. date_ms: as in `Created`."""

    created: int
    updated: int
    skipped: int
    errors: tuple[BulkError, ...]
    date_ms: int | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A change that was made. contact: where the answer shows it. date_ms: as in `Created`."""

    date_ms: int | None
    contact: Contact | None


def contact(item: Any) -> Contact:
    """A contact from its JSON. Raises ShapeError."""
    if not isinstance(item, dict):
        raise ShapeError("a contact is not an object")
    get = item.get
    custom_fields = get("customFields") or {}
    if not isinstance(custom_fields, dict):
        raise ShapeError("a contact's customFields are not an object")
    status = get("status")
    return Contact(
        text(item, "id", "contact"),
        text(item, "email", "contact"),
        status.strip().lower() if isinstance(status, str) else "",
        {name: item[name] for name in FIELDS if name in item},
        custom_fields,
        _names(get("groups"), "id"),
        _names(get("tags"), "name"),
        time_ms(get("createdAt")),
        time_ms(get("updatedAt")),
        _stage(get("pipelineStage")),
    )


def group(item: Any) -> Group:
    """A group from its JSON. Raises ShapeError."""
    if not isinstance(item, dict):
        raise ShapeError("a group is not an object")
    kind, is_dynamic = item.get("type"), item.get("isDynamic")
    if isinstance(kind, str) and kind.lower() in {GroupKind.STATIC, GroupKind.DYNAMIC}:
        known = GroupKind(kind.lower())
    elif isinstance(is_dynamic, bool):
        known = GroupKind.DYNAMIC if is_dynamic else GroupKind.STATIC
    else:
        known = GroupKind.UNKNOWN
    return Group(
        text(item, "id", "group"),
        text(item, "name", "group"),
        known,
        count(item, "contactCount"),
        words(item, "description"),
        words(item, "color"),
    )


def items(data: Any, parse: Callable[[Any], Item]) -> list[Item]:
    """The objects of a listing. Raises ShapeError."""
    if not isinstance(data, list):
        raise ShapeError("a listing is not a list")
    return [parse(item) for item in data]


def bulk(data: Any, date_ms: int | None) -> BulkAnswer:
    """The answer of a bulk request. Raises ShapeError when it does not count."""
    if not isinstance(data, dict):
        raise ShapeError("the answer of a bulk request is not an object")
    created, updated = count(data, "created"), count(data, "updated")
    if created is None or (updated is None and "updated" in data):
        raise ShapeError("the answer of a bulk request does not count what it did")
    skipped = count(data, "skipped")
    if skipped is None and "skipped" in data:
        raise ShapeError("the answer of a bulk request does not count what it skipped")
    errors = data.get("errors") or []
    if not isinstance(errors, list):
        raise ShapeError("the errors of a bulk request are not a list")
    told = tuple(_bulk_error(error) for error in errors)
    return BulkAnswer(created, updated or 0, skipped or 0, told, date_ms)


def count(data: Mapping[str, Any], name: str) -> int | None:
    """A whole number of 0 or more under this name; None for anything else."""
    value = data.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None


def text(item: Mapping[str, Any], name: str, whose: str) -> str:
    """A string that must be there. Raises ShapeError."""
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise ShapeError(f"a {whose} has no {name}")
    return value


def words(item: Mapping[str, Any], *names: str) -> str:
    """The first string under these names; empty for none."""
    found = (item.get(name) for name in names)
    return next((value for value in found if isinstance(value, str)), "")


def time_ms(value: Any) -> int | None:
    """Epoch milliseconds of an ISO 8601 time; one without a zone is UTC; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (when.replace(tzinfo=when.tzinfo or UTC) - _EPOCH) // _MS


def _stage(value: Any) -> Stage | None:
    if not isinstance(value, dict):
        return None
    identity = words(value, "id")
    return Stage(identity, words(value, "name")) if identity else None


def _bulk_error(error: Any) -> BulkError:
    if isinstance(error, str):
        return BulkError(None, None, clean(error), "")
    if not isinstance(error, dict):
        return BulkError(None, None, "FluenzR does not say why", "")
    said = error.get("error")
    inner = said if isinstance(said, dict) else error
    message = inner.get("message") or (said if isinstance(said, str) else None)
    code, email = inner.get("code"), error.get("email")
    return BulkError(
        count(error, "index"),
        email if isinstance(email, str) and email else None,
        clean(message) if isinstance(message, str) else "FluenzR does not say why",
        clean(code) if isinstance(code, str) else "",
    )


def _names(value: Any, key: str) -> frozenset[str] | None:
    """Strings, or the string under `key` of objects."""
    if value is None:
        return None
    if not isinstance(value, list):
        raise ShapeError("a contact's groups or tags are not a list")
    names: list[Any] = [one.get(key) if isinstance(one, dict) else one for one in value]
    for name in names:
        if not isinstance(name, str) or not name:
            raise ShapeError("a contact's groups or tags are not named")
    return frozenset(names)
