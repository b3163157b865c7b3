"""Pipedrive's API as it is: two budgets, two versions, pages by cursor. Source: connectors reference, section 3."""

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

PERSONS, ORGANIZATIONS = "/api/v2/persons", "/api/v2/organizations"
PERSON_FIELDS, USERS, FILTERS = "/api/v2/personFields", "/api/v1/users", "/api/v1/filters"
RECENTS = "/api/v1/recents"
READ_CONTACTS = "the scope contacts:read"
READ_USERS = "the scope users:read"
PAGE_ROWS, BATCH_IDS = 500, 100  # the largest that are allowed
EPOCH_FROM_S = 1e9  # a reset time as large as this is a moment, not a number of seconds


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.status == 429:
        # The day's tokens: Retry-After is of no use then [S10].
        if answer.headers.get("x-daily-ratelimit-token-remaining", "").strip() == "0":
            return Exhausted("after midnight, UTC")
        wait_s = retry_after_s(answer.headers, now_s)
        return Again(_reset_s(answer, now_s) if wait_s is None else wait_s)
    if answer.status == 403 and not _is_json(answer):
        # Who goes on after too many 429s is shut out by what stands before Pipedrive, without a word of Pipedrive's [M].
        return Exhausted("once Pipedrive lets this machine in again, mostly within the hour")
    if answer.status == 402:
        return Denied("The account's subscription has ended: Pipedrive says what is to be paid")
    return by_status(answer, now_s)


def _is_json(answer: Answer) -> bool:
    try:
        return isinstance(orjson.loads(answer.body), dict)
    except orjson.JSONDecodeError:
        return False


def _heed(answer: Answer, now_s: float) -> float:
    left = answer.headers.get("x-ratelimit-remaining", "").strip()
    return (_reset_s(answer, now_s) or 0.0) if left == "0" else 0.0


def _reset_s(answer: Answer, now_s: float) -> float | None:
    """Seconds until the burst budget is whole again: the header is a number of seconds, or a moment [M]."""
    try:
        value = float(answer.headers.get("x-ratelimit-reset", ""))
    except ValueError:
        return None
    return max(0.0, value - now_s) if value >= EPOCH_FROM_S else max(0.0, value)


def _words(answer: Answer) -> str:
    found = orjson.loads(answer.body)
    return " ".join(str(found[name]) for name in ("error", "error_info") if found.get(name))


PIPEDRIVE = Vendor("Pipedrive", Pace(18, 2.0), _judge, _words, _heed)


def rows_of(found: Any, path: str) -> list[dict[str, Any]]:
    """The rows of an answer; null is none. Raises SourceError where it is no answer of Pipedrive's."""
    if not isinstance(found, dict) or found.get("success") is False or "data" not in found:
        raise SourceError(
            f"Pipedrive: {path} answered without `data`",
            hint="Check base_url: is this Pipedrive's API?",
        )
    rows = found["data"]
    if rows is not None and not isinstance(rows, list):
        raise SourceError(f"Pipedrive: {path} answered with no list in `data`")
    return rows or []


def pages(
    api: Api, path: str, query: Mapping[str, str | int], *, needs: str = READ_CONTACTS
) -> Iterator[list[dict[str, Any]]]:
    """All pages of a v2 listing, by its cursor."""
    trail = Trail(f"Pipedrive: {path}")
    cursor: dict[str, str] = {}
    while True:
        found = api.get(path, {"limit": PAGE_ROWS, **query, **cursor}, needs=needs)
        yield rows_of(found, path)
        following = (found.get("additional_data") or {}).get("next_cursor")
        if not following:
            return
        trail.step(following)
        cursor = {"cursor": str(following)}


def people(api: Api, query: Mapping[str, str | int]) -> Iterator[list[dict[str, Any]]]:
    """Pages of persons in the order of their ids: in any other, a person who is changed meanwhile moves, and others are passed over."""
    last = 0
    for rows in pages(api, PERSONS, {**query, "sort_by": "id", "sort_direction": "asc"}):
        for row in rows:
            if int(row["id"]) <= last:
                raise SourceError(
                    f"Pipedrive: {PERSONS} does not keep to the order of ids",
                    hint="Nothing is lost: the next run reads it anew",
                )
            last = int(row["id"])
        yield rows
