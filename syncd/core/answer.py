"""What an answer of FluenzR means: success, a definite refusal, or no answer that can be trusted.

It knows statuses and the envelope; the shape of the data is the endpoint's business (`fluenzr.py`).
The rule behind it: only what says itself that it comes from FluenzR counts as its word about a
person. A proxy's 404 is not "this contact is gone", and a gateway's 504 is not "it was not done".

Source: FluenzR reference, "Transport": envelopes and status codes [I], 409, FORBIDDEN and read-only
keys [D], 405, 413, 502, 503, 504 and HTML [?].
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import orjson

from syncd.errors import (
    AccessDenied,
    Conflict,
    FluenzrError,
    KeyNotAccepted,
    NotFound,
    NotSupported,
    PlanWithoutApi,
    ReadOnlyKey,
    Refused,
    Unanswered,
)

WORDS_CHARACTERS_MAX = 300  # of what FluenzR says: enough to understand it, one line in a table
KEY = re.compile(r"flz_sk_\w+")  # [D]
MASK = "flz_sk_***"

DENIED = frozenset({401, 402, 403, 407})  # the account, not this contact: others fare no better
LOST = frozenset({408, 425})  # 4xx by number only: the request did not come through
QUOTES = re.compile(r"[@{]")
CHECK_BASE_URL = "Check fluenzr.base_url"


class ShapeError(ValueError):
    """The data of an answer are not what the endpoint gives; becomes Unanswered."""


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked: for the texts, and for what a 404 means.

    path: without the query. optional: an endpoint that some accounts lack, so that its 404 may mean
    that it is not there.
    """

    method: str
    path: str
    host: str
    optional: bool = False

    def __str__(self) -> str:
        return f"{self.method} {self.path} at {self.host}"


@dataclass(frozen=True, slots=True)
class Content:
    """A body, read. envelope: its JSON object, or None; then `why` says what it is instead."""

    envelope: dict[str, Any] | None
    why: str = ""


def read(body: bytes, fault: str = "") -> Content:
    """Parse a body. fault: why it did not come whole, if it did not."""
    if fault:
        return Content(None, fault)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        if body.lstrip()[:1] == b"<":
            return Content(
                None,
                "an HTML page came instead of JSON: a proxy, a firewall or a login page stands "
                "between",
            )
        return Content(None, "what came is not JSON" if body.strip() else "an empty body came")
    if not isinstance(value, dict):
        return Content(None, "what came is JSON of another shape than FluenzR's answers")
    return Content(value)


def failure(
    question: Question, status: int, content: Content, *, secret: str
) -> FluenzrError | None:
    """The error that this answer is, not yet raised; None for success. 429 is not judged here.

    secret: the key, masked wherever FluenzR repeats it.
    """
    envelope = content.envelope or {}
    code, words = _words(envelope, secret)
    if 200 <= status < 300:
        return _garbled(question, status, content, code, words)
    if 300 <= status < 400:
        return Unanswered(
            f"{question}: redirected with status {status}, which is not followed",
            status=status,
            why="FluenzR's API does not redirect",
            hint=f"{CHECK_BASE_URL}: https, the right host, no login page between",
            answered=True,
        )
    why = words or content.why
    if status in DENIED:
        if QUOTES.search(words):
            why = code  # a denial is about the account: what quotes a request may name people
        return _denied(question, status, code, why, named=envelope.get("success") is False)
    if status >= 500 or status < 200 or status in LOST:
        return _broken(question, status, code, why, named=envelope.get("success") is False)
    return _refused(question, status, code, why, named=envelope.get("success") is False)


def shapeless(question: Question, status: int, why: str) -> Unanswered:
    """Success, as it says, but its data are not what this endpoint gives."""
    return Unanswered(
        f"{question}: the answer is not what was expected",
        status=status,
        why=why,
        hint="It is read again before anything else is done; if this goes on, report it",
        answered=True,
    )


def clean(text: str, secret: str = "") -> str:
    """Somebody else's words, fit for a line of ours: no control characters, no key, not long."""
    text = text[: WORDS_CHARACTERS_MAX * 10]  # a message can be as large as a body
    printable = "".join(" " if unicodedata.category(one)[0] in "CZ" else one for one in text)
    line = " ".join(printable.split())
    if secret:  # before its shape: a key may hold other signs than most
        line = line.replace(secret, MASK)
    line = KEY.sub(MASK, line)
    if len(line) > WORDS_CHARACTERS_MAX:
        return line[: WORDS_CHARACTERS_MAX - 1] + "…"
    return line


def _garbled(
    question: Question, status: int, content: Content, code: str, words: str
) -> FluenzrError | None:
    if content.envelope is None:
        why, hint = content.why, CHECK_BASE_URL
    elif content.envelope.get("success") is True:
        return None
    elif content.envelope.get("success") is False:
        why, hint = words or "it says success: false", "See FluenzR's words"
    else:
        why, hint = "the answer does not say success: true", CHECK_BASE_URL
    return Unanswered(
        f"{question}: status {status}, but no success",
        status=status,
        code=code,
        why=why,
        hint=hint,
        answered=True,
    )


def _denied(question: Question, status: int, code: str, why: str, *, named: bool) -> AccessDenied:
    kind = AccessDenied
    if status == 401:
        kind = KeyNotAccepted
        what = f"{question}: FluenzR does not accept the API key"
        hint = "Check fluenzr.api_key: the whole key, of this account, not revoked"
    elif status != 403 or not named:
        what = f"{question}: refused with status {status}"
        hint = (
            "Check FluenzR's plan and billing"
            if named
            else "These are not FluenzR's words: check any proxy or firewall between"
        )
    elif re.search(r"\bplan\b", why, re.IGNORECASE):
        kind = PlanWithoutApi
        what = f"{question}: this FluenzR plan has no API"
        hint = "The API needs FluenzR's Pro plan: change the plan, or use a key of a Pro account"
    elif question.method != "GET":
        kind = ReadOnlyKey
        what = f"{question}: this API key may not write"
        hint = "The key is read-only, or was restricted: make one that may write"
    else:
        what = f"{question}: this API key may not read this"
        hint = "Make a key in FluenzR's settings that may read and write contacts and groups"
    return kind(what, status=status, code=code, why=why, hint=hint)


def _broken(question: Question, status: int, code: str, why: str, *, named: bool) -> Unanswered:
    # 502 and 504 are a gateway's word that it stopped waiting: what stands behind may be at work.
    settled = named and status not in {502, 504}
    return Unanswered(
        f"{question}: FluenzR is in trouble, status {status}",
        status=status,
        code=code,
        why=why,
        hint="It is tried again later; nothing is sent twice unseen",
        answered=settled,
    )


def _refused(
    question: Question, status: int, code: str, why: str, *, named: bool
) -> Refused | Unanswered:
    if status == 405 or (status == 404 and question.optional):
        return NotSupported(
            f"{question}: this account does not have it, or what it is asked about is unknown",
            status=status,
            code=code,
            why=why,
            hint="Another endpoint is used where there is one",
        )
    if status == 404:
        if not named:  # a wrong base URL would otherwise look like everybody deleted by hand
            return Unanswered(
                f"{question}: status 404, but not in FluenzR's words",
                status=status,
                why=why or "the answer does not say success: false",
                hint=f"{CHECK_BASE_URL}: a proxy or another server seems to answer",
                answered=True,
            )
        hint = "It may have been deleted by hand in FluenzR"
        return NotFound(f"{question}: not there", status=status, code=code, why=why, hint=hint)
    if status == 409:
        what = f"{question}: the address or name is taken"
        hint = "Another contact in FluenzR has it"
        return Conflict(what, status=status, code=code, why=why, hint=hint)
    return Refused(
        f"{question}: refused with status {status}",
        status=status,
        code=code,
        why=why,
        hint="Correct the value in the source or the mapping; it is tried again when it changes",
    )


def _words(envelope: dict[str, Any], secret: str) -> tuple[str, str]:
    """(code, message and details) of the error in an envelope [I]; a bare string is its message."""
    error = envelope.get("error")
    if isinstance(error, str):
        return "", clean(error, secret)
    if not isinstance(error, dict):
        return "", ""
    code, message, details = error.get("code"), error.get("message"), error.get("details")
    code = clean(code, secret) if isinstance(code, str) else ""
    parts = [code, message if isinstance(message, str) else ""]
    if details:
        parts.append(details if isinstance(details, str) else orjson.dumps(details).decode())
    return code, clean(": ".join(part for part in parts if part), secret)
