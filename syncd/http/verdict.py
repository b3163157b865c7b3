"""What an answer of a web API means for a read: one table, that a vendor's module refines where it differs.

Source: connectors reference, part A.3.1.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

from syncd.http.client import Answer

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, *range(520, 528), 529})


@dataclass(frozen=True, slots=True)
class Good:
    """The answer can be used."""


@dataclass(frozen=True, slots=True)
class Again:
    """Ask once more. wait_s: seconds that the vendor wants to be left alone; None where it did not say."""

    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The day's (or month's) requests are used up: nothing more until `until`, in words ("midnight in the portal's time zone")."""

    until: str = "tomorrow"


@dataclass(frozen=True, slots=True)
class Expired:
    """The token is no longer taken: a new one is fetched, once."""


@dataclass(frozen=True, slots=True)
class Denied:
    """The login is fine, and may not do this. hint: what to allow, and where ("Add the scope crm.lists.read to ...")."""

    hint: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is wrong for this vendor, and will be the next time too."""

    hint: str = ""


Verdict = Good | Again | Exhausted | Expired | Denied | Refused
Judge = Callable[[Answer, float], Verdict]  # (answer, now in epoch seconds)


@dataclass(frozen=True, slots=True)
class Pace:
    """At most `count` requests start within any `seconds`."""

    count: int
    seconds: float = 1.0


def by_status(answer: Answer, now_s: float) -> Verdict:
    """The usual meaning of a status."""
    status = answer.status
    if answer.fault or status in AGAIN:
        return Again(retry_after_s(answer.headers, now_s))
    if 200 <= status < 300:
        return Good()
    if status == 401:
        return Expired()
    return Denied() if status == 403 else Refused()


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds to wait by the Retry-After header: a number, or an HTTP date (Attio). None without a usable one.

    A date is taken by the clock that wrote it (the Date header): ours may be minutes away. now_s: ours, where there is no such header.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    until_s = date_s(text)
    if until_s is None:
        return None
    theirs_s = date_s(headers.get("date", ""))
    return max(0.0, until_s - (now_s if theirs_s is None else theirs_s))


def date_s(text: str) -> float | None:
    """Epoch seconds of an HTTP date; None where it is none."""
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
