"""HubSpot's API as it is: limits, errors, scopes, pages. Source: connectors reference, section 1."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from syncd.connector import Context
from syncd.errors import SourceError, SourceTooLarge
from syncd.http import (
    Again,
    Answer,
    Api,
    BaseUrl,
    Denied,
    Exhausted,
    Login,
    Pace,
    Token,
    TokenOrApp,
    Trail,
    Vendor,
    Verdict,
    by_status,
    retry_after_s,
)

CONTACTS, SEARCH = "/crm/v3/objects/contacts", "/crm/v3/objects/contacts/search"
READ_CONTACTS = "the scope crm.objects.contacts.read"
READ_SCHEMAS = "the scope crm.schemas.contacts.read"
READ_LISTS = "the scope crm.lists.read"
READ_COMPANIES = "the scope crm.objects.companies.read"
READ_OWNERS = "the scope crm.objects.owners.read"
READ_OPT_OUTS = "the scope communication_preferences.read"
BATCH_IDS = 100  # objects in one batch [S1]
DAILY = b"daily"  # in `policyName` or the words of a 429: the day's requests are used up [M]
NOT_FOUND = "OBJECT_NOT_FOUND"  # in a batch: deleted meanwhile, or merged


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status == 429:
        if DAILY in answer.body.lower():
            return Exhausted("after midnight in the portal's time zone")
        wait_s = retry_after_s(answer.headers, now_s)
        return Again(10.0 if wait_s is None else wait_s)  # the window that was exceeded has 10 s
    if answer.status == 530:
        return Denied("The token is not written as a token is: copy it whole")
    return by_status(answer, now_s)


def _heed(answer: Answer, _: float) -> float:
    """With nothing left in the window, its whole length: HubSpot does not say when it began."""
    left = answer.headers.get("x-hubspot-ratelimit-remaining", "")
    length = answer.headers.get("x-hubspot-ratelimit-interval-milliseconds", "")
    return int(length) / 1000 if left == "0" and length.isdigit() else 0.0


def _words(answer: Answer) -> str:
    found = orjson.loads(answer.body)
    return f"{found['category']}: {found['message']}" if "category" in found else found["message"]


HUBSPOT = Vendor("HubSpot", Pace(90, 10.0), _judge, _words, _heed)
HUBSPOT_SEARCH = Vendor("HubSpot", Pace(4, 1.0), _judge, _words, _heed)


class Portal(TokenOrApp):
    """One account, and the login to it. token: of a private app; or client_id, client_secret and refresh_token of an OAuth app."""

    base_url: BaseUrl = "https://api.hubapi.com"
    """Where the API is, for a proxy or a sandbox."""

    def portal_login(self, context: Context) -> Login:
        """The login that these options are."""
        return self.login(Token, f"{self.base_url}/oauth/v1/token", context.clock)


def pages(
    api: Api, path: str, query: Mapping[str, str | int], *, needs: str
) -> Iterator[list[dict[str, Any]]]:
    """All pages of a listing, by its cursor `after`. A page that is too large is asked for again, half as long."""
    trail = Trail(f"HubSpot: {path}")
    asked = dict(query)
    while True:
        try:
            found = api.get(path, asked, needs=needs)
        except SourceTooLarge:
            asked["limit"] = half(int(asked["limit"]))
            continue
        yield rows_of(found, path)
        following = ((found.get("paging") or {}).get("next") or {}).get("after")
        if not following:
            return
        trail.step(following)
        asked["after"] = following


def batch(
    api: Api,
    path: str,
    ids: Sequence[str],
    wanted: Mapping[str, Any],
    *,
    needs: str,
    size: int = BATCH_IDS,
) -> Iterator[dict[str, Any]]:
    """The objects of these ids, as far as they are there, each once and under the id that was asked for.

    Who was merged away is answered as the winner, under the winner's id: that one comes by itself. wanted: the body beside `inputs`.
    """
    start = 0
    while start < len(ids):
        some = dict.fromkeys(ids[start : start + size])
        body = {"inputs": [{"id": key} for key in some], **wanted}
        try:
            found = api.post(path, body, needs=needs)
        except SourceTooLarge:
            size = half(size)
            continue
        start += size
        for row in whole(found, path):
            key = str(row["id"])
            if key in some and row["properties"].get("hs_object_id") in (None, key):
                del some[key]
                yield row


def whole(found: Any, path: str) -> list[dict[str, Any]]:
    """The rows of a batch that was done. What is not there was deleted; anything else that is missing makes it no answer."""
    rows = rows_of(found, path)
    missed = [one for one in found.get("errors") or () if one.get("category") != NOT_FOUND]
    if missed or found.get("status", "COMPLETE") != "COMPLETE":
        raise SourceError(
            f"HubSpot: {path} did not answer for all that was asked",
            why=str(missed[0].get("category") if missed else found["status"])[:100],
            hint="HubSpot may be in trouble just now: the next run tries again",
        )
    return rows


def half(size: int) -> int:
    """Of a page that was larger than an answer may be. Raises SourceTooLarge for a page of one."""
    if size <= 1:
        raise SourceTooLarge(
            "HubSpot: one contact is larger than an answer may be",
            hint="Map fewer properties",
        )
    return size // 2


def rows_of(found: Any, path: str) -> list[dict[str, Any]]:
    """The rows of an answer. Raises SourceError where it has none, which is not the same as an empty list."""
    rows = found.get("results") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise SourceError(
            f"HubSpot: {path} answered without `results`",
            hint="Check base_url: is this HubSpot's API?",
        )
    return rows


def properties(api: Api) -> list[dict[str, Any]]:
    """All properties of contacts."""
    return rows_of(api.get("/crm/v3/properties/contacts", needs=READ_SCHEMAS), "the properties")
