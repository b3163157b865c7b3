"""What stands beside Attio's people: companies, workspace members, and lists with everybody who is in them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from connectors.attio.people import Attribute, now, plain, texts, values_of
from connectors.attio.vendor import (
    COMPANIES,
    LISTS,
    MEMBERS,
    PEOPLE,
    READ_ENTRIES,
    READ_MEMBERS,
    READ_RECORDS,
    Row,
    ident,
    listed,
    query,
    records,
    rows_of,
)
from syncd.errors import SourceError
from syncd.http import Api, Lookup

BATCH_IDS = 100


class Companies:
    """The companies of one read. One that this token does not see is not known."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lookup = Lookup(self._fetch, batch=BATCH_IDS)

    def of(self, ids: Iterable[str]) -> Mapping[str, Mapping[str, Any] | None]:
        """id -> company, as `_company` has them, for the people of one page."""
        return self._lookup.of(ids)

    def _fetch(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        path = records(COMPANIES)
        body = {"filter": {"record_id": {"$in": list(ids)}}, "limit": len(ids)}
        found = {}
        for row in rows_of(self._api.post(path, body, needs=READ_RECORDS), path):
            key, values = ident(row, "record_id"), values_of(row)
            name, domain = (next(iter(texts(values, slug)), None) for slug in ("name", "domains"))
            found[key] = {"id": key, "name": name, "domain": domain}
        return found


@dataclass(frozen=True, slots=True)
class Members:
    """One list, and the ids of the people in it."""

    name: str
    ids: frozenset[str]


def find_lists(api: Api, names: tuple[str, ...] | None) -> list[Row]:
    """The lists of people, or those of these names. Raises SourceError where one is missing, or is there twice."""
    rows = [
        row
        for row in listed(api, LISTS, needs=READ_ENTRIES)
        if PEOPLE in (row.get("parent_object") or ())
    ]
    for name in names or ():
        count = sum(row.get("name") == name for row in rows)
        if count != 1:
            raise SourceError(
                f"Attio has {count or 'no'} list{'s' if count else ''} {name!r} of people that this token can see",
                hint="Correct the name in `lists`; rename one of two; leave `lists` out for all",
            )
    return [row for row in rows if names is None or row.get("name") in names]


def members(api: Api, names: tuple[str, ...] | None) -> list[Members]:
    """These lists with everybody who is in them. Somebody may be in one twice."""
    found = []
    for row in find_lists(api, names):
        path = f"{LISTS}/{quote(ident(row, 'list_id'), safe='')}/entries/query"
        pages = query(api, path, name="entry_id", needs=READ_ENTRIES)
        ids = frozenset(_person(entry) for page in pages for entry in page)
        found.append(Members(str(row.get("name") or ""), ids))
    return found


def _person(entry: Row) -> str:
    """Whom an entry is about; in a list with companies too, their ids do no harm."""
    key = entry.get("parent_record_id")
    if not isinstance(key, str) or not key:
        raise SourceError("Attio: an entry of a list came without its record")
    return key


def owner_attribute(name: str, known: Mapping[str, Attribute]) -> str:
    """The slug of the attribute that names an owner. Raises SourceError."""
    for one in known.values():
        if name in (one.slug, one.title) and one.kind == "actor-reference":
            return one.slug
    raise SourceError(
        f"Attio has no attribute {name!r} of people that holds a user",
        hint="Correct `owner`: the slug or the title of an attribute of the type User",
    )


def owner_of(values: Mapping[str, Any], slug: str) -> str:
    """The id of the workspace member that this attribute holds; empty for none."""
    held = [
        one
        for one in now(values, slug)
        if one.get("referenced_actor_type") in (None, "workspace-member")
    ]
    return str(plain(held[0])) if held else ""


def workspace_members(api: Api) -> dict[str, dict[str, Any]]:
    """id -> member, as `_owner` has them."""
    found = {}
    for row in listed(api, MEMBERS, needs=READ_MEMBERS):
        key = ident(row, "workspace_member_id")
        name = f"{row.get('first_name') or ''} {row.get('last_name') or ''}".strip()
        found[key] = {"id": key, "name": name or None, "email": row.get("email_address")}
    return found
