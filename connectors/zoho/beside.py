"""What stands beside Zoho's records and changes without their `Modified_Time`: opt-outs, tags' names, the members of views.

Whether an unsubscribing by a link moves `Modified_Time`, nobody says [?]; a tag or an account that is renamed does not. So a cursor
holds what the last read knew of them.
"""

from collections.abc import Iterable

from connectors.zoho.vendor import (
    READ_TAGS,
    READ_VIEWS,
    TOKEN_ROWS_MAX,
    pages,
    read_module,
    rows_of,
)
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.http import Api, digests

VIEWS, TAGS = "/crm/v8/settings/custom_views", "/crm/v8/settings/tags"


def view_ids(api: Api, module: str, names: Iterable[str]) -> dict[str, str]:
    """name -> id of each of these views. Raises SourceError where one is missing, or two have its name."""
    rows = rows_of(api.get(VIEWS, {"module": module}, needs=READ_VIEWS), VIEWS, "custom_views")
    found = {}
    for name in names:
        ids = [
            str(row["id"]) for row in rows if name == (row.get("display_value") or row.get("name"))
        ]
        if len(ids) != 1:
            raise SourceError(
                f"Zoho has {len(ids) or 'no'} view{'s' if ids else ''} {name!r} of {module}",
                hint="Correct the name in `views`; share the view with the token's user; rename one of two",
            )
        found[name] = ids[0]
    return found


def view_members(api: Api, module: str, names: Iterable[str]) -> list[tuple[str, frozenset[str]]]:
    """(name, ids of its members) of each of these views."""
    found = []
    for name, key in view_ids(api, module, names).items():
        listing = {"fields": "id", "cvid": key}  # a view has its own order [S3]
        listed = pages(api, f"/crm/v8/{module}", listing, needs=read_module(module))
        ids = frozenset(str(row["id"]) for page in listed for row in page)
        if len(ids) >= TOKEN_ROWS_MAX:
            raise SourceError(f"Zoho: the view {name!r} has more members than can be listed")
        found.append((name, ids))
    return found


def tag_digests(api: Api, module: str) -> dict[str, str]:
    """tag -> digest of its name. Where tags may not be listed there are none: a full read finds who has a renamed one."""
    try:
        found = api.get(TAGS, {"module": module}, needs=READ_TAGS)
    except (SourceDenied, SourceRefused):
        return {}
    return digests({str(row["id"]): str(row["name"]) for row in rows_of(found, TAGS, "tags")})
