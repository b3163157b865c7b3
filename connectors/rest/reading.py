"""One read of a described API: its pages, one after the other, and the records in them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from connectors.rest.shape import Shape, at, text_key
from syncd.connector import Checkpoint, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api, HighWater, Reply, Trail, parse_time, read_cursor, write_cursor

VERSION = 1  # of the cursor
# How far back of the last read the latest change may be: else an import is read again for ever.
LATE_MAX = timedelta(days=1)
NO_SUCH_PAGE = frozenset({400, 404, 416})
_LINK = re.compile(r"<([^<>]*)>([^<]*)")
_REL = re.compile(r'\brel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)

Row = Mapping[str, Any]
Params = dict[str, str | int | bool]


@dataclass(frozen=True, slots=True)
class _Page:
    """One request of a listing. token: what tells it from every other."""

    path: str
    params: Params
    token: str
    query: str = ""  # of a link: as it is, with names that stand there twice
    perhaps: bool = False  # the page before was short, and the first: this one should not be there


class Reading:
    """One read."""

    def __init__(self, api: Api, shape: Shape, request: Request) -> None:
        self._api, self._shape, self._request = api, shape, request
        self._total: int | None = None

    def events(self) -> Iterator[Event]:
        """Everything that this read tells."""
        shape, request = self._shape, self._request
        since = None if shape.since_param is None else self._since()
        if request.cursor is not None and since is None:
            yield Resync("the cursor is of no use")
        water: HighWater | None = None
        began: datetime | None = None
        told, count = set[str](), 0
        for rows in self.pages(since):
            began = began or self._api.server_time()
            water = water or HighWater(began=began, since=since)
            for row in rows:
                count += 1
                event = self._event(row, count, water)
                if since is not None:  # a row that changes while it is listed may be listed again
                    if event.key in told:
                        continue
                    told.add(event.key)
                yield event
        if since is None and self._total is not None and self._total != count:
            raise SourceError(
                f"{shape.path}: {count:,} records came, and the API says that there are {self._total:,}",
                why="Rows moved while the pages were read, or the paging is described wrongly",
                hint="Sort by something that does not change (params), and look at paging, size and page_param",
            )
        reached = water.reached() if water and shape.modified else None
        if reached is not None:
            yield Checkpoint(write_cursor(VERSION, at=began, since=reached))

    def _since(self) -> datetime | None:
        """Where to go on: an overlap before the latest change that was seen, and no more than a day before the last read."""
        cursor = self._request.cursor
        parts = None if cursor is None else read_cursor(cursor, VERSION)
        since, at = (parse_time(parts.get(name)) if parts else None for name in ("since", "at"))
        if since is None:
            return None
        return (since if at is None else max(since, at - LATE_MAX)) - self._shape.overlap

    def _event(self, row: Row, number: int, water: HighWater) -> Record | Tombstone:
        shape = self._shape
        if shape.modified is not None:
            changed = at(row, shape.modified)
            moment = parse_time(changed)
            if changed is not None and moment is None:
                raise SourceError(
                    f"{shape.path}: {str(changed)[:40]!r} at {shape.modified!r} is no time",
                    hint="Correct `modified`: the path of the time of a record's last change",
                )
            water.see(moment)
        key = "" if shape.key is None else text_key(at(row, shape.key))
        if key is None:
            raise SourceError(
                f"{shape.path}: record {number} has no key at {shape.key!r}",
                why="A key is a text that is not empty, or a whole number",
                hint="Correct `key`: the path of what identifies a record for ever",
            )
        if key and shape.deleted is not None and _is_true(at(row, shape.deleted), shape.deleted):
            return Tombstone(key)
        return Record(key, self._request.chosen(row), f"record {key or number}")

    # Pages

    def pages(self, since: datetime | None) -> Iterator[list[Row]]:
        """The records, page by page; in full, or those that were changed since then."""
        trail, count = Trail(self._shape.path), 0
        following: _Page | None = _Page(self._shape.path, self._first(since), "")
        before: list[Row] = []
        while following is not None:
            page = following
            trail.step(page.token)
            try:
                reply = self._ask(page)
            except SourceRefused as error:
                if page.perhaps and error.status in NO_SUCH_PAGE:
                    return
                raise
            rows = self._rows(reply)
            if rows and page.perhaps:
                raise self._short(len(before))
            if rows and rows == before:
                raise SourceError(
                    f"{self._shape.path}: the same page came twice",
                    why="The API takes no notice of how the next page was asked for",
                    hint="Look at paging, page_param, cursor_param and size_param",
                )
            yield rows
            before = rows
            count += len(rows)
            following = self._following(page, reply, len(rows), count)

    def _short(self, rows: int) -> SourceError:
        size = self._shape.size
        return SourceError(
            f"{self._shape.path}: a page has {rows:,} records, not {size:,}, and others follow",
            why="The API gives fewer records at once than `size`, so that the last page cannot be told by being short",
            hint=f"Set size = {rows}, and give `total` where the API tells it",
        )

    def _first(self, since: datetime | None) -> Params:
        shape = self._shape
        params = dict(shape.params)
        if since is not None and shape.since_param is not None:
            params[shape.since_param] = shape.since(since)
        if shape.size is not None:
            params[shape.size_param] = shape.size
        if shape.paging == "page":
            params[shape.page_param] = shape.first_page
        elif shape.paging == "offset":
            params[shape.page_param] = 0
        return params

    def _following(self, page: "_Page", reply: Reply, rows: int, count: int) -> "_Page | None":
        """The next page; None after the last."""
        shape = self._shape
        match shape.paging:
            case "none":
                return None
            case "page" | "offset":
                short = rows < (shape.size or 1)
                if rows == 0 or (self._total is not None and count >= self._total):
                    return None
                if short and page.token:  # full pages came before: `size` is what the API gives
                    return None
                number = (
                    count if shape.paging == "offset" else int(page.params[shape.page_param]) + 1
                )
                params = {**page.params, shape.page_param: number}
                return _Page(page.path, params, str(number), perhaps=short)
            case "cursor":
                cursor = at(reply.value, shape.cursor or "")
                if cursor is None or cursor is False or cursor == "":
                    return None
                if not isinstance(cursor, str | int):
                    raise SourceError(
                        f"{shape.path}: what stands at {shape.cursor!r} is no cursor",
                        hint="Correct `cursor`: the path of the next page's cursor",
                    )
                return _Page(
                    page.path, {**page.params, shape.cursor_param: str(cursor)}, str(cursor)
                )
            case "link":
                link = self._link(reply)
                return None if link is None else self._within(link)

    def _ask(self, page: _Page) -> Reply:
        if self._shape.method == "POST":
            body = {**(self._shape.body or {}), **page.params}
            return self._api.ask("POST", page.path, json=body)
        if page.query:
            return self._api.ask("GET", page.path, query=page.query)
        query = {
            name: str(value).lower() if isinstance(value, bool) else value
            for name, value in page.params.items()
        }
        return self._api.ask("GET", page.path, query=query)

    def _rows(self, reply: Reply) -> list[Row]:
        shape, value = self._shape, reply.value
        rows = at(value, shape.records)
        if reply.status == 204:  # nothing there; an empty body of another status says nothing
            rows = []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            known = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            raise SourceError(
                f"{shape.path}: there is no list of records at {shape.records or 'the top'!r}",
                why=f"The answer has: {known[:200]}",
                hint="Correct `records`: the path of the list in the answer",
            )
        if shape.total is not None and reply.status != 204:
            total = at(value, shape.total)
            if not isinstance(total, int) or isinstance(total, bool):
                raise SourceError(
                    f"{shape.path}: there is no number at {shape.total!r}", hint="Correct `total`"
                )
            if self._total not in (
                None,
                total,
            ):  # the count may fit all the same: somebody fell through
                raise SourceError(
                    f"{shape.path}: there were {self._total:,} records, and then {total:,}, while the pages were read",
                    why="Rows that come or go move the others to pages that were read already",
                    hint="The next run tries again; pages by a cursor do not have this trouble",
                )
            self._total = total
        return rows

    def _link(self, reply: Reply) -> str | None:
        if self._shape.cursor is not None:
            link = at(reply.value, self._shape.cursor)
            return str(link) if link else None
        for target, rest in _LINK.findall(reply.headers.get("link", "")):
            rel = _REL.search(rest)
            if rel and "next" in (rel[1] or rel[2] or "").lower().split():
                return str(target)
        return None

    def _within(self, link: str) -> _Page:
        """The next page by its URL. A link to anywhere else would take the login there."""
        base = self._api.base_url
        parts = urlsplit(urljoin(base + self._shape.path, link))
        ours = urlsplit(base)
        inside = parts.path == ours.path or parts.path.startswith(f"{ours.path}/")
        if (parts.scheme, parts.netloc) != (ours.scheme, ours.netloc) or not inside:
            raise SourceError(
                f"{self._shape.path}: the next page is at {parts.netloc}, outside of base_url",
                hint="Where this is right, write what both have in common as base_url",
            )
        path = parts.path.removeprefix(ours.path)
        if self._shape.method == "POST":
            return _Page(path, dict(parse_qsl(parts.query, keep_blank_values=True)), link)
        return _Page(path, {}, link, parts.query)


def _is_true(value: Any, path: str) -> bool:
    if value in (None, "", False, 0):
        return False
    if value is True or value == 1:
        return True
    text = str(value).strip().lower()
    if text in {"true", "yes", "1", "false", "no", "0"}:
        return text in {"true", "yes", "1"}
    if parse_time(value) is not None:  # deletedAt: a time says that it happened
        return True
    raise SourceError(
        f"{text[:40]!r} at {path!r} says neither yes nor no",
        hint="Correct `deleted`: the path of a boolean, or of the time of the deletion",
    )
