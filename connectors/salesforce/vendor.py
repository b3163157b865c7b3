"""Salesforce's API as it is: errors, limits, what its objects have. Source: connectors reference, section 2."""

import re
from dataclasses import dataclass
from typing import Any

import orjson

from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.http import (
    Again,
    Answer,
    Api,
    Denied,
    Exhausted,
    Pace,
    Refused,
    Vendor,
    Verdict,
    by_status,
)

CONCURRENT_S = 20.0  # requests that run longer than this count as concurrent ones [M]
POLL_S = 10.0  # between two questions whether a job is done
PASSING = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "QUERY_TIMEOUT",
        "SERVER_UNAVAILABLE",
        "REQUEST_RUNNING_TOO_LONG",
    }
)
UNSEEN = frozenset({"INVALID_FIELD", "INVALID_TYPE", "INSUFFICIENT_ACCESS"})
API_OFF = frozenset({"API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"})
COMPOSITE = b'{"compositeResponse"'  # how an answer begins that holds other answers
# What cannot be one column of a query: compound fields (their parts are fields of their own) and files.
COMPOUND = frozenset({"address", "location", "base64", "complexvalue", "anyType", "json"})

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,254}")
_ID = re.compile(r"[A-Za-z0-9]{18}")


@dataclass(frozen=True, slots=True)
class Column:
    """A field of an object, as `describe` shows it to this user."""

    name: str
    label: str
    kind: str
    updateable: bool = True


def _inner(answer: Answer) -> Answer:
    """The one answer within a composite answer."""
    if not answer.body.startswith(COMPOSITE):
        return answer
    one = orjson.loads(answer.body)["compositeResponse"][0]
    return Answer(one["httpStatusCode"], answer.headers, orjson.dumps(one["body"]))


def _code(answer: Answer) -> tuple[str, str]:
    """The code and the words of an error: a list of objects, or one; both empty where the body is neither."""
    try:
        found = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return "", ""
    first = found[0] if isinstance(found, list) and found else found
    if not isinstance(first, dict):
        return "", ""
    return str(first.get("errorCode") or ""), str(first.get("message") or "")


def _judge(answer: Answer, now_s: float) -> Verdict:
    try:
        answer = _inner(answer)
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return Again()  # a composite answer without its answer
    if answer.fault or answer.status < 400:
        return by_status(answer, now_s)
    code, words = _code(answer)
    if code == "REQUEST_LIMIT_EXCEEDED":  # with status 403, not 429
        if "Concurrent" in words:
            return Again(CONCURRENT_S)
        return Exhausted("as the requests of the last 24 hours become fewer")
    if code in PASSING:
        return Again()
    if code in UNSEEN:
        return Denied(
            "Give the user's profile or permission set access to the object and to the field (field-level security)"
        )
    if code in API_OFF:
        return Denied("Switch the API on for this edition and user (the permission API Enabled)")
    if answer.status == 404:
        return Refused("Does this org have the API of `api_version`?")
    return by_status(answer, now_s)


def _words(answer: Answer) -> str:
    code, words = _code(_inner(answer))
    if code == "INVALID_SESSION_ID":
        words += " (also said where the app is blocked, or this machine's address is not allowed)"
    return f"{code}: {words}" if code else ""


SALESFORCE = Vendor("Salesforce", judge=_judge, words=_words)
SALESFORCE_JOBS = Vendor("Salesforce", Pace(1, POLL_S), _judge, _words)


def needs(table: str) -> str:
    """What a login must be allowed to read an object."""
    return f"the permission API Enabled, and read access to {table} and to the fields in use"


def describe(api: Api, version: str, table: str) -> list[Column]:
    """The fields of an object that this user may see, without compound ones. Raises SourceDenied where the object is not shown."""
    path = f"/services/data/v{version}/sobjects/{table}/describe"
    try:
        found = api.get(path, needs=needs(table))
    except SourceRefused as error:
        if error.status != 404:
            raise
        raise SourceDenied(
            f"Salesforce: {table} is not shown to this user",
            why=error.why,
            hint=f"Give the user {needs(table)}; or does the org lack the API of `api_version`?",
        ) from None
    fields = found.get("fields") if isinstance(found, dict) else None
    if not isinstance(fields, list):
        raise SourceError(
            f"Salesforce: {path} answered without `fields`",
            hint="Check login_url: is this Salesforce's API?",
        )
    return [
        Column(
            one["name"],
            str(one.get("label") or ""),
            str(one.get("type") or ""),
            updateable=one.get("updateable") is not False,
        )
        for one in fields
        if _NAME.fullmatch(one["name"])  # only such a name can stand in a query
        and one.get("type") not in COMPOUND
        and not one.get("deprecatedAndHidden")
    ]


def ident(value: Any) -> str:
    """An id as Salesforce writes it: 18 letters and digits. Raises SourceError for anything else: ids stand in queries."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise SourceError(
            "Salesforce: a row without an id of 18 letters and digits",
            hint="Nothing is lost: the next run reads it anew",
        )
    return value
