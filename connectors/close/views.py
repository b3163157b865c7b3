"""Who is in which Smart View, and for whom that has changed since the last read.

Entering or leaving a view changes no contact, so the members of all views in use are read whole each time. The cursor keeps the ids of
small views, so that whoever came or left is read again; of large ones it keeps a digest: then everything is read anew.

Source: developer.close.com/api/resources/smart-views/list: `s_query` is what the search takes; older views have a text instead.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from connectors.close.events import Gap
from connectors.close.search import MADE, Search
from connectors.close.vendor import READ_VIEWS, VIEWS, Row, ident, listed
from syncd.errors import SourceError
from syncd.http import Api

IDS_KEPT = 1_000  # of all views in a cursor: some 50 KB


@dataclass(frozen=True, slots=True)
class View:
    """One view as it is now. kind: of what it is a view, "contact" or "lead"."""

    name: str
    kind: str
    ids: frozenset[str]

    def holds(self, row: Row) -> bool:
        """Whether a contact is in it, or its lead."""
        return row.get("id" if self.kind == "contact" else "lead_id") in self.ids

    def digest(self) -> str:
        """Another one where somebody came or left."""
        digest = blake2b(self.kind.encode(), digest_size=12)
        for key in sorted(self.ids):
            digest.update(key.encode("utf-8", "replace"))
        return digest.hexdigest()


def find(api: Api, names: Iterable[str]) -> dict[str, Row]:
    """name -> view of contacts or leads. Raises SourceError where one is missing, is there twice, or cannot be run."""
    rows = listed(api, VIEWS, {"type__in": "contact,lead"}, needs=READ_VIEWS)
    found = {}
    for name in names:
        mine = [row for row in rows if row.get("name") == name]
        if len(mine) != 1:
            raise SourceError(
                f"Close has {len(mine) or 'no'} Smart View{'s' if mine else ''} {name!r} of contacts or leads",
                hint="Correct the name in `views`; share the view with the key's user; rename one of two",
            )
        search = mine[0].get("s_query")
        if mine[0].get("type") not in ("contact", "lead") or not (
            isinstance(search, dict) and isinstance(search.get("query"), dict)
        ):
            raise SourceError(
                f"Close: the Smart View {name!r} cannot be run here",
                why="It is of an older kind, or of neither contacts nor leads",
                hint="Open it in Close, and save it as a new one",
            )
        if search.get("results_limit") is not None:
            raise SourceError(
                f"Close: the Smart View {name!r} shows only its first {search['results_limit']}",
                hint="Take the limit out of the view, or leave the view out of `views`",
            )
        found[name] = mine[0]
    return found


def members(api: Api, search: Search, names: Iterable[str]) -> list[View]:
    """These views with everybody who is in them. Raises SourceError."""
    views = []
    for name, row in find(api, names).items():
        kind = str(row["type"])
        pages = search.everything(kind, ("id", MADE), [row["s_query"]["query"]])
        ids = frozenset(ident(one, kind) for page in pages for one in page)
        views.append(View(name, kind, ids))
    return views


def summary(views: Iterable[View]) -> dict[str, Any]:
    """What the next read needs to know: name -> digest, and ids where they are few."""
    kept: dict[str, Any] = {}
    left = IDS_KEPT
    for view in sorted(views, key=lambda view: len(view.ids)):
        left -= len(view.ids)
        kept[view.name] = [view.kind, view.digest(), sorted(view.ids) if left >= 0 else None]
    return kept


def changed(views: Iterable[View], before: Any) -> Mapping[str, set[str]]:
    """kind -> ids of those who came or left since the last read's summary. Raises Gap where nobody knows who."""
    found: dict[str, set[str]] = {"contact": set(), "lead": set()}
    for view in views:
        then = before.get(view.name) if isinstance(before, dict) else None
        if not isinstance(then, list) or len(then) != 3 or then[0] != view.kind:
            raise Gap("the cursor says nothing of a Smart View")
        if then[1] == view.digest():
            continue
        if not isinstance(then[2], list):
            raise Gap("a large Smart View has other members")
        found[view.kind] |= view.ids ^ set(then[2])
    return found
