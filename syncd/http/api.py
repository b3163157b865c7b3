"""A vendor's web API as a connector reads it: paced, retried, logged in, and with errors that hold neither secret nor address.

A connector says where and what, and gets the answer's JSON, or a SourceError with the vendor's own words. One page is tried five
times within two minutes, then the read fails: incomplete, never short. A request may be sent more than once: it reads, or writes what may
be written again.
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

import orjson
import stamina
import stamina.instrumentation
import structlog

from syncd.clock import Clock
from syncd.errors import (
    NoAnswer,
    SourceDenied,
    SourceError,
    SourceExhausted,
    SourceRefused,
    SourceTooLarge,
)
from syncd.http.client import Answer, HttpClient
from syncd.http.login import Login
from syncd.http.verdict import (
    Again,
    Denied,
    Exhausted,
    Expired,
    Good,
    Judge,
    Pace,
    Refused,
    by_status,
    date_s,
)

TRIES_MAX = 5  # of one page,
PAGE_S_MAX = 120.0  # within two minutes
BACK_OFF_S = 1.0  # then 2, 4, 8: where the vendor does not say how long
WORDS_MAX = 300  # characters of a vendor's own words
TEN_A_SECOND = Pace(10, 1.0)
SOURCE_RETRIED = "source.retried"  # one request to a vendor's API is sent again, and why
SOURCE_WAITING = "source.waiting"  # the vendor's limit is used up for so many seconds
SAY_WAIT_FROM_S = 5.0  # a shorter wait is not worth a line

# A text goes as it stands: the query of a link that a vendor has handed out, which is to be followed as it is.
Query = str | Mapping[str, object] | Iterable[tuple[str, object]]

log = structlog.get_logger(__name__)
# An escape of JSON: a pair of surrogates, half of one, or any other.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\."
)
_ADDRESS = re.compile(r"[^\s\"'<>(),;:=&?]+(?:@|%40)[^\s\"'<>(),;:&]+", re.IGNORECASE)


def _no_words(_: Answer) -> str:
    return ""


def _no_wait(_: Answer, __: float) -> float:
    return 0.0


@dataclass(frozen=True, slots=True)
class Vendor:
    """What one vendor does in its own way.

    name: for the errors. judge: what an answer means. words: the vendor's own words in the body of an error. heed: seconds that
    nothing should be asked after this answer, by the vendor's headers of what is left (also of good answers).
    """

    name: str
    pace: Pace = TEN_A_SECOND
    judge: Judge = by_status
    words: Callable[[Answer], str] = _no_words
    heed: Callable[[Answer, float], float] = _no_wait


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that can be used. value: its JSON; None where it has no body (204, 304), or is plain."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    value: Any


class _Retry(Exception):
    """This try has failed, another may not. wait_s: as the vendor wants it. renew: with another token only."""

    def __init__(
        self, error: SourceError, *, wait_s: float | None = None, renew: bool = False
    ) -> None:
        self.error, self.wait_s, self.renew = error, wait_s, renew
        super().__init__()


class Api:
    """One vendor's API under one base URL, for one read: to be used by one thread, in a `with`.

    timeout_s: for one wait on the network. clock: everything that waits sleeps on it, and stops with it.
    """

    def __init__(
        self,
        base_url: str,
        vendor: Vendor,
        login: Login,
        clock: Clock,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._vendor, self._login, self._clock = vendor, login, clock
        self.base_url = base_url.rstrip("/")
        self._http = HttpClient(
            base_url, headers={"Accept": "application/json", **(headers or {})}, timeout_s=timeout_s
        )
        self._starts: deque[float] = deque(maxlen=vendor.pace.count)
        self._free_s = clock.monotonic_s()  # nothing is asked before
        self._server_s: float | None = None
        # Its own line for each retry would name a Python block; ours says who waits for whom.
        stamina.instrumentation.set_on_retry_hooks([])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.close()

    def get(
        self,
        path: str,
        query: Query = (),
        *,
        headers: Mapping[str, str] | None = None,
        needs: str = "",
    ) -> Any:
        """The JSON of a GET; None where the answer has no body (204, 304)."""
        return self.ask("GET", path, query=query, headers=headers, needs=needs).value

    def post(
        self,
        path: str,
        body: Any,
        query: Query = (),
        *,
        headers: Mapping[str, str] | None = None,
        needs: str = "",
    ) -> Any:
        """The JSON that a POST of this JSON gives: a search, or a change that may be made twice."""
        return self.ask("POST", path, query=query, json=body, headers=headers, needs=needs).value

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        plain: bool = False,
        needs: str = "",
    ) -> Reply:
        """One request until it is answered well.

        path: URL-encoded, with its first slash. plain: the body need not be JSON. needs: what the login must be allowed, for the
        error that says so ("the scope crm.lists.read").

        Raises SourceError: SourceDenied (login or rights), SourceRefused (the request), SourceExhausted (the day's requests).
        """
        asked = _Asked(method, path, _encoded(query), json, dict(headers or {}), plain, needs)
        ends_s = self._clock.monotonic_s() + PAGE_S_MAX
        renewed, backed_off = False, 0
        try:
            for attempt in stamina.retry_context(
                on=_Retry, attempts=TRIES_MAX, timeout=None, wait_initial=0.0, wait_max=0.0,
                wait_jitter=0.0,
            ):  # fmt: skip
                with attempt:  # stamina counts; the waiting is ours, so that a stop ends it
                    try:
                        return self._once(asked, ends_s, attempt.num)
                    except _Retry as retry:
                        if retry.renew and (renewed or not self._login.renew()):
                            raise retry.error from None
                        renewed = renewed or retry.renew
                        self._wait_after(retry, backed_off)
                        backed_off += not retry.wait_s
                        if not retry.wait_s and self._free_s > ends_s:
                            raise retry.error from None  # slow failures: nobody asked us to wait
                        raise
        except _Retry as retry:
            raise retry.error from None
        raise AssertionError("stamina ends with a value or an error")

    def plain(self, words: str) -> str:
        """A vendor's words, without anybody's address and without what we logged in with; cut."""
        for secret in self._login.secrets():
            words = words.replace(secret, "(secret)")
        return " ".join(_ADDRESS.sub("(address)", words).split())[:WORDS_MAX]

    def server_time(self) -> datetime:
        """The vendor's clock at its last answer (the Date header, whole seconds); ours where it sends none."""
        seconds = self._clock.now_s() if self._server_s is None else self._server_s
        return datetime.fromtimestamp(seconds, UTC)

    def _once(self, asked: "_Asked", ends_s: float, tried: int) -> Reply:
        """One try, the `tried`th. Raises _Retry, SourceError."""
        self._wait_turn(ends_s)
        place = f"{self._vendor.name}: {asked.shown} at {self._http.host}"
        headers = {**self._login.headers(), **asked.headers}
        if asked.json is not None:
            headers["Content-Type"] = "application/json"
        body = b"" if asked.json is None else orjson.dumps(asked.json)
        try:
            answer = self._http.send(
                asked.method, asked.path, query=asked.query, body=body, headers=headers
            )
        except NoAnswer as error:
            raise _Retry(SourceError(place, why=error.why, hint=error.hint)) from None
        self._note_time(answer)
        if answer.too_large:
            raise SourceTooLarge(
                place, why=answer.fault, hint="Read fewer records, or fewer fields, at a time"
            )
        now_s = self._clock.now_s()
        self._not_before(self._vendor.heed(answer, now_s))
        match self._vendor.judge(answer, now_s):
            case Good():
                value = None if asked.plain else self._value(place, answer)
                return Reply(answer.status, answer.headers, answer.body, value)
            case Again(wait_s):
                raise _Retry(self._again(place, answer, tried), wait_s=wait_s)
            case Expired():
                raise _Retry(self._expired(answer), wait_s=0.0, renew=True)
            case Exhausted(until):
                raise SourceExhausted(
                    f"{self._vendor.name}: the requests that it allows are used up",
                    why=self._words(answer),
                    hint=f"It goes on by itself {until}; read less often, or ask the vendor for more",
                )
            case Denied(hint):
                raise self._denied(asked, answer, hint)
            case Refused(hint):
                raise SourceRefused(place, status=answer.status, why=self._words(answer), hint=hint)

    def _wait_turn(self, ends_s: float) -> None:
        """Wait until the pace and the vendor's wishes allow a request; a wait beyond the patience of one page fails the read."""
        pace, now_s = self._vendor.pace, self._clock.monotonic_s()
        turn_s = self._free_s
        if len(self._starts) == pace.count:
            turn_s = max(turn_s, self._starts[0] + pace.seconds)
        if turn_s > ends_s:
            raise SourceError(
                f"{self._vendor.name}: it wants to be left alone for {turn_s - now_s:,.0f} seconds",
                why=f"One page is waited for {PAGE_S_MAX:.0f} seconds, never longer",
                hint="The next run goes on; who else uses this account's API?",
            )
        if turn_s > now_s:
            if turn_s - now_s >= SAY_WAIT_FROM_S:
                log.info(SOURCE_WAITING, vendor=self._vendor.name, seconds=round(turn_s - now_s))
            self._clock.sleep_s(turn_s - now_s)
        self._starts.append(self._clock.monotonic_s())

    def _wait_after(self, retry: _Retry, backed_off: int) -> None:
        """Some say 0 where they mean a part of a second, and all five tries would be over at once."""
        wait_s = retry.wait_s or 0.0
        if wait_s <= 0 and not retry.renew:
            wait_s = BACK_OFF_S * 2**backed_off
        self._not_before(wait_s)
        log.info(SOURCE_RETRIED, vendor=self._vendor.name, why=retry.error.why)

    def _not_before(self, wait_s: float) -> None:
        self._free_s = max(self._free_s, self._clock.monotonic_s() + wait_s)

    def _note_time(self, answer: Answer) -> None:
        moment_s = date_s(answer.headers.get("date", ""))
        self._server_s = self._server_s if moment_s is None else moment_s

    def _again(self, place: str, answer: Answer, tried: int) -> SourceError:
        words = answer.fault or self._words(answer)
        hint = "The vendor or the network may be in trouble just now: the next run tries again"
        return SourceError(f"{place}: it failed {tried} times", why=words, hint=hint)

    def _value(self, place: str, answer: Answer) -> Any:
        if not answer.body:
            return None
        try:
            return _loads(answer.body)
        except orjson.JSONDecodeError:
            kind = answer.headers.get("content-type", "nothing known").partition(";")[0]
            raise _Retry(
                SourceError(
                    f"{place}: the answer is not JSON",
                    why=f"HTTP {answer.status} with {kind}",
                    hint="A proxy, a login page or a wrong base_url answers like this",
                )
            ) from None

    def _expired(self, answer: Answer) -> SourceDenied:
        return SourceDenied(
            f"{self._vendor.name} refuses the login",
            why=self._words(answer),
            hint="Check the token: revoked, expired, or of another account?",
        )

    def _denied(self, asked: "_Asked", answer: Answer, hint: str) -> SourceDenied:
        wanted = asked.needs or "the right to read this"
        return SourceDenied(
            f"{self._vendor.name}: {asked.shown} is not allowed",
            why=self._words(answer),
            hint=hint or f"Give the token, or the user it belongs to, {wanted}",
        )

    def _words(self, answer: Answer) -> str:
        """The vendor's words, without anybody's address and without what we logged in with."""
        try:
            words = self._vendor.words(answer)
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ):  # a body unlike any that is known
            words = ""
        words = self.plain(words)
        return f"HTTP {answer.status}: {words}" if words else f"HTTP {answer.status}"


@dataclass(frozen=True, slots=True)
class _Asked:
    method: str
    path: str
    query: str
    json: Any
    headers: dict[str, str]
    plain: bool
    needs: str

    @property
    def shown(self) -> str:
        """Method and path, as an error may show them: an address in the path is left out."""
        parts = ["(address)" if _ADDRESS.fullmatch(part) else part for part in self.path.split("/")]
        return f"{self.method} {'/'.join(parts)}"


def _loads(body: bytes) -> Any:
    """The value of a JSON body. Half an emoji, as a vendor leaves it that cuts a long text, becomes the replacement character.

    Else one such contact would make every read fail. Raises orjson.JSONDecodeError.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        whole = _ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], body)
        if whole == body:
            raise
        return orjson.loads(whole)


def _encoded(query: Query) -> str:
    if isinstance(query, str):
        return query
    pairs = query.items() if isinstance(query, Mapping) else query
    return urlencode(list(pairs), quote_via=quote)
