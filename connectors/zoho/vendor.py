"""Zoho CRM's API as it is: regions, errors, pages by token, deleted records. Source: connectors reference, section 4."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import orjson

from syncd.errors import SourceError, SourceRefused
from syncd.http import (
    Again,
    Answer,
    Api,
    Denied,
    Exhausted,
    Good,
    Pace,
    Trail,
    Vendor,
    Verdict,
    by_status,
    rfc3339,
)

Region = Literal["com", "eu", "in", "com.au", "jp", "ca", "sa", "com.cn"]
SUFFIXES: Mapping[str, str] = {"ca": "zohocloud.ca"}  # where it is not zoho.REGION, zohoapis.REGION
PAGE_ROWS, BATCH_IDS, FIELDS_MAX = 200, 100, 50  # the largest that are allowed [S1][S3]
TOKEN_ROWS_MAX = 100_000  # rows that page tokens reach [M]
COQL, COQL_ROWS, COQL_IN_MAX = "/crm/v8/coql", 2_000, 50  # rows of an answer, values of one `in`
DELETED_PAGES_MAX = 500  # beyond, reading everybody is cheaper
NUMBERED_ROWS_MAX = (
    2_000  # rows that numbered pages reach [S3]; of the deleted records' listing nobody says [?]
)
READ_FIELDS = "the scope ZohoCRM.settings.fields.READ"
READ_VIEWS = "the scope ZohoCRM.settings.custom_views.READ"
READ_TAGS = "the scope ZohoCRM.settings.tags.READ"
READ_COQL = "the scope ZohoCRM.coql.READ"
READ_ACCOUNTS = "the scope ZohoCRM.modules.accounts.READ"


def read_module(module: str) -> str:
    """The right that reading a module needs."""
    return f"the scope ZohoCRM.modules.{module.lower()}.READ"


def accounts_url(region: str) -> str:
    """Where tokens are handed out."""
    return f"https://accounts.{SUFFIXES.get(region, f'zoho.{region}')}/oauth/v2/token"


def api_url(region: str) -> str:
    """Where the API is, unless the token says so."""
    return f"https://www.zohoapis.{'ca' if region == 'ca' else region}"


def _code(answer: Answer) -> str:
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return ""
    return str(found.get("code", "")) if isinstance(found, dict) else ""


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status == 304:
        return Good()  # nothing was changed since
    if answer.status == 401 and _code(answer) == "OAUTH_SCOPE_MISMATCH":
        return Denied()  # another token has the same scopes
    if answer.status == 429:
        if answer.headers.get("x-api-credits-remaining", "").strip() == "0":
            return Exhausted("as the last 24 hours roll on")
        return Again()  # Zoho says neither which limit it was nor how long [S3]
    return by_status(answer, now_s)


def _words(answer: Answer) -> str:
    found = orjson.loads(answer.body)
    return f"{found['code']}: {found['message']}"


ZOHO = Vendor("Zoho", Pace(5, 1.0), _judge, _words)


def rows_of(found: Any, path: str, name: str = "data") -> list[dict[str, Any]]:
    """The rows of an answer; no answer (204, 304) is none."""
    if found is None:
        return []
    rows = found.get(name) if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise SourceError(
            f"Zoho: {path} answered without `{name}`", hint="Check base_url and region"
        )
    return rows


class Gap(Exception):
    """Zoho does not tell what has changed: everything must be read. Its text is the reason."""


def zoned(moment: datetime) -> str:
    """A time as Zoho wants it: ISO 8601 with an offset, not an HTTP date, and not with a Z [S1]."""
    return rfc3339(moment).replace("Z", "+00:00")


def pages(
    api: Api,
    path: str,
    query: Mapping[str, str | int],
    *,
    since: datetime | None = None,
    needs: str = "",
) -> Iterator[list[dict[str, Any]]]:
    """All pages of a listing by their tokens: numbered pages end at 2,000 rows. Everything else stays the same on each page [S5].

    Nothing at all is 204, or 304 where `since` was asked: anything else that is empty is no answer, for everybody would count as gone.
    """
    trail = Trail(f"Zoho: {path}")
    token: dict[str, str] = {}
    while True:
        asked = {**query, "per_page": PAGE_ROWS, **token}
        rows, more = _page(api, path, asked, since, needs)
        if token and not rows:
            raise _cut_short(path, "says that there are more records, and then shows none")
        yield rows
        if not more:
            return
        following = more.get("next_page_token")
        if not following:
            raise _cut_short(path, "says that there are more records, and not where")
        trail.step(following)
        token = {"page_token": str(following)}


def deleted(api: Api, module: str, since: datetime) -> Iterator[list[dict[str, Any]]]:
    """What was deleted since then, page by page: this listing has numbers, no tokens [S2].

    Raises Gap where it ends before its end: at 2,000 rows [?], with an error or without.
    """
    path, number, count = f"/crm/v8/{module}/deleted", 1, 0
    gap = Gap("more records were deleted than Zoho tells")
    while True:
        query: dict[str, str | int] = {"type": "all", "page": number, "per_page": PAGE_ROWS}
        try:
            rows, more = _page(api, path, query, since, read_module(module))
        except SourceRefused:
            if number == 1:
                raise
            raise gap from None
        yield rows
        count += len(rows)
        if not more:
            if count == NUMBERED_ROWS_MAX or (number > 1 and not rows):
                raise gap
            return
        number += 1
        if number > DELETED_PAGES_MAX:
            raise gap


def _page(
    api: Api, path: str, query: Mapping[str, str | int], since: datetime | None, needs: str
) -> tuple[list[dict[str, Any]], Mapping[str, Any] | None]:
    """(rows, what Zoho says of the page after it); None where this is the last one."""
    headers = {"If-Modified-Since": zoned(since)} if since else {}
    reply = api.ask("GET", path, query=query, headers=headers, needs=needs)
    if reply.value is None:
        if reply.status != 204 and (reply.status != 304 or since is None):
            raise _cut_short(path, f"answered {reply.status} and nothing else")
        return [], None
    rows = rows_of(reply.value, path)
    info = reply.value.get("info")
    more = info.get("more_records") if isinstance(info, dict) else None
    if not isinstance(more, bool):
        raise _cut_short(path, "does not say whether there are more records")
    if more and not rows:
        raise _cut_short(path, "says that there are more records, and shows none")
    return rows, info if more else None


def _cut_short(path: str, what: str) -> SourceError:
    return SourceError(
        f"Zoho: {path} {what}",
        hint="This is Zoho's mistake, mostly for a moment: the next run reads it anew",
    )
