"""HubSpot's API as it is: limits, errors, scopes, pages. Source: connectors reference, section 1."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from syncd.errors import SourceError
from syncd.http import (
    Again,
    Answer,
    Api,
    Denied,
    Exhausted,
    Pace,
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
DAILY = b"DAILY"  # in `policyName` of a 429: the day's requests are used up [M]


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status == 429:
        if DAILY in answer.body:
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


def pages(
    api: Api, path: str, query: Mapping[str, str | int], *, needs: str
) -> Iterator[list[dict[str, Any]]]:
    """All pages of a listing, by its cursor `after`."""
    trail = Trail(f"HubSpot: {path}")
    after: dict[str, str] = {}
    while True:
        found = api.get(path, {**query, **after}, needs=needs)
        yield rows_of(found, path)
        following = ((found.get("paging") or {}).get("next") or {}).get("after")
        if not following:
            return
        trail.step(following)
        after = {"after": following}


def rows_of(found: Any, path: str) -> list[dict[str, Any]]:
    rows = found.get("results") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise SourceError(
            f"HubSpot: {path} answered without `results`",
            hint="Check base_url: is this HubSpot's API?",
        )
    return rows


def properties(api: Api) -> list[dict[str, Any]]:
    return rows_of(api.get("/crm/v3/properties/contacts", needs=READ_SCHEMAS), "the properties")
