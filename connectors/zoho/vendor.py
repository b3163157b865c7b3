"""Zoho CRM's API as it is: regions, errors, pages by token, deleted records. Source: connectors reference, section 4."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

import orjson

from syncd.errors import SourceError
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
COQL_ROWS = 2_000
READ_FIELDS = "the scope ZohoCRM.settings.fields.READ"
READ_VIEWS = "the scope ZohoCRM.settings.custom_views.READ"
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


def since_header(since: datetime) -> dict[str, str]:
    """If-Modified-Since as Zoho wants it: ISO 8601 with an offset, not an HTTP date [S1]."""
    return {"If-Modified-Since": rfc3339(since).replace("Z", "+00:00")}


def pages(
    api: Api,
    path: str,
    query: Mapping[str, str | int],
    *,
    since: datetime | None = None,
    needs: str = "",
) -> Iterator[list[dict[str, Any]]]:
    """All pages of a listing by their tokens: numbered pages end at 2,000 rows. Everything else stays the same on each page [S5]."""
    trail, headers = Trail(f"Zoho: {path}"), since_header(since) if since else {}
    token: dict[str, str] = {}
    while True:
        found = api.get(
            path, {**query, "per_page": PAGE_ROWS, **token}, headers=headers, needs=needs
        )
        rows = rows_of(found, path)
        yield rows
        info = (found or {}).get("info") or {}
        if not rows or not info.get("more_records"):
            return
        following = info.get("next_page_token")
        if not following:
            raise SourceError(
                f"Zoho: {path} says that there are more records, and not where",
                hint="This is Zoho's mistake, mostly for a moment: the next run reads it anew",
            )
        trail.step(following)
        token = {"page_token": str(following)}


def deleted(api: Api, module: str, since: datetime) -> Iterator[list[dict[str, Any]]]:
    """What was deleted since then, page by page: this listing has numbers, no tokens [S2]."""
    path, number = f"/crm/v8/{module}/deleted", 1
    trail = Trail(f"Zoho: {path}")
    while True:
        query = {"type": "all", "page": number, "per_page": PAGE_ROWS}
        found = api.get(path, query, headers=since_header(since), needs=read_module(module))
        rows = rows_of(found, path)
        yield rows
        if not rows or not ((found or {}).get("info") or {}).get("more_records"):
            return
        number += 1
        trail.step(number)
