"""One request to FluenzR: the key, the limiter, 429, what the answer means, and the server's clock.

Endpoints and shapes are `fluenzr.py`'s business; the arithmetic of the limiter is `core/pace.py`'s,
the meaning of statuses `core/answer.py`'s. Here they meet threads and time. A write is sent once,
and again only after 429, which was certainly not applied; a read is tried several times.

Source: FluenzR reference, "Transport": bearer key, X-RateLimit-* [I]; Retry-After and Date [?].
"""

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from syncd.clock import Clock, SystemClock
from syncd.core import answer, pace
from syncd.core.answer import Question
from syncd.errors import ConfigError, FluenzrError, Interrupted, NoAnswer, Throttled, Unanswered
from syncd.http import Answer, HttpClient

GET_ATTEMPTS_MAX = 5  # a read: at once, and after 1, 2, 4 and 8 seconds
BACK_OFF_S = 1.0
THROTTLED_ATTEMPTS_MAX = 6  # times that one request is refused with 429
PATIENCE_S_MAX = 600.0  # one wait for the turn of one request: a limiter's minute and much more
LISTEN_S = 1.0  # real seconds between two looks at whether a stop was asked for

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Reply:
    """A success. date_ms: the Date header in epoch milliseconds, to the second; None without it."""

    data: Any
    meta: Mapping[str, Any]
    date_ms: int | None


class Wire:
    """The way to one FluenzR account; safe to use from several threads.

    api_key: sent with each request, and nowhere else. requests_per_minute, share: see `Pace`.
    requests, throttled: how many were sent so far, retries included, and how many met a 429.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str,
        requests_per_minute: int,
        share: float,
        clock: Clock | None,
        timeout_s: float,
    ) -> None:
        if not api_key.isascii() or not api_key.isprintable() or not api_key or " " in api_key:
            raise ConfigError(
                "The API key has characters that no key has",
                place="fluenzr.api_key",
                hint="It begins with flz_sk_ and goes on with letters and digits",
            )
        self._http = HttpClient(
            base_url,
            headers={"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
            timeout_s=timeout_s,
        )
        self._api_key = api_key
        self._clock = clock or SystemClock()
        self._pace = pace.Pace(requests_per_minute, share)
        self._news = threading.Condition()  # guards everything below and `_pace`; told of answers
        self._turn = threading.Lock()  # held by the one thread that waits for the limiter
        self._date: tuple[int, float] | None = None  # Date in ms, and our monotonic time then
        self.requests = 0
        self.throttled = 0

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def digest(self, salt: bytes) -> str:
        """The same for the same key at the same base URL; nobody can tell either from it."""
        text = f"{self._http.base_url}\0{self._api_key}".encode()
        return hashlib.blake2b(text, key=salt, digest_size=16).hexdigest()

    def budget(self) -> pace.BudgetView:
        """The limit, what is left of it for us, and the wait."""
        with self._news:
            return self._pace.budget(self._clock.monotonic_s())

    def server_time_ms(self) -> int | None:
        """A lower bound of the server's clock now; None until an answer had a Date header.

        The Date was written before the answer arrived, and rounded down; since then it is our time.
        """
        with self._news:
            if self._date is None:
                return None
            date_ms, then_s = self._date
            return date_ms + int((self._clock.monotonic_s() - then_s) * 1000)

    def read(
        self,
        path: str,
        parse: Callable[[Reply], Value],
        *,
        query: str = "",
        method: str = "GET",
        body: bytes = b"",
        optional: bool = False,
    ) -> Value:
        """What changes nothing, tried again while no answer can be trusted. parse: raises ShapeError.

        optional: as in `write`.
        """
        question = self._question(method, path, optional=optional)
        for attempt in range(GET_ATTEMPTS_MAX - 1):
            try:
                return self._ask(question, parse, query=query, body=body)
            except Unanswered:
                self._clock.sleep_s(BACK_OFF_S * 2.0**attempt)
        return self._ask(question, parse, query=query, body=body)

    def write(
        self,
        method: str,
        path: str,
        body: bytes,
        parse: Callable[[Reply], Value],
        *,
        optional: bool = False,
    ) -> Value:
        """A change, sent once. optional: an endpoint that may be missing: 404 is NotSupported."""
        question = self._question(method, path, optional=optional)
        return self._ask(question, parse, body=body)

    def _question(self, method: str, path: str, *, optional: bool = False) -> Question:
        return Question(method, path, self._http.host, optional)

    def _ask(
        self,
        question: Question,
        parse: Callable[[Reply], Value],
        *,
        query: str = "",
        body: bytes = b"",
    ) -> Value:
        for _ in range(THROTTLED_ATTEMPTS_MAX):
            got = self._exchange(question, query, body)
            if got.status != 429:
                return self._value(question, got, parse)
        raise Throttled(
            f"{question}: refused {THROTTLED_ATTEMPTS_MAX} times for too many requests",
            status=429,
            hint="Something else uses the account's limit: lower fluenzr.share, or try again later",
        )

    def _value(self, question: Question, got: Answer, parse: Callable[[Reply], Value]) -> Value:
        content = answer.read(got.body, got.fault)
        error = answer.failure(question, got.status, content, secret=self._api_key)
        if error is not None:
            raise error
        envelope = content.envelope or {}
        meta = envelope.get("meta")
        date_s = _http_date_s(got.headers.get("date"))
        reply = Reply(
            envelope.get("data"),
            meta if isinstance(meta, dict) else {},
            None if date_s is None else int(date_s) * 1000,
        )
        try:
            return parse(reply)
        except answer.ShapeError as error:
            raise answer.shapeless(question, got.status, str(error)) from None

    def _exchange(self, question: Question, query: str, body: bytes) -> Answer:
        """Wait for the turn, send, and tell the limiter how it went, whatever happens."""
        ticket = self._admit(question)
        got: Answer | None = None
        try:
            headers = {"Content-Type": "application/json"} if body else None
            got = self._http.send(
                question.method, question.path, query=query, body=body, headers=headers
            )
        except NoAnswer as error:
            raise Unanswered(
                error.what, why=error.why, hint=error.hint, answered=not error.sent
            ) from None
        finally:
            self._learn(ticket, got)
        return got

    def _admit(self, question: Question) -> pace.Ticket:
        """Return when the request may start. One thread waits for time or news; the rest for it."""
        with self._turn:
            waited_s = 0.0
            while True:
                if self._clock.stopped():
                    raise Interrupted("Stopped on request")
                with self._news:
                    now_s = self._clock.monotonic_s()
                    wait_s = self._pace.wait_s(now_s)
                    if wait_s == 0.0:
                        self.requests += 1
                        return self._pace.start(now_s)
                    if math.isinf(wait_s):  # only an answer helps, and answers keep real time
                        self._news.wait(timeout=LISTEN_S)
                        continue
                waited_s += wait_s
                if waited_s > PATIENCE_S_MAX:
                    raise _impatient(question, wait_s)
                self._clock.sleep_s(wait_s)

    def _learn(self, ticket: pace.Ticket, got: Answer | None) -> None:
        with self._news:
            now_s = self._clock.monotonic_s()
            if got is None:
                self._pace.finish(ticket, now_s, None)
            else:
                date_s = _http_date_s(got.headers.get("date"))
                if date_s is not None:
                    self._date = (int(date_s) * 1000, now_s)
                server_s = self._clock.now_s() if date_s is None else date_s
                seen = _seen(got.headers, server_s)
                if got.status == 429:
                    self.throttled += 1
                    after_s = _retry_after_s(got.headers.get("retry-after"), server_s)
                    self._pace.throttled(ticket, now_s, retry_after_s=after_s, seen=seen)
                else:
                    self._pace.finish(ticket, now_s, seen)
            self._news.notify_all()


def _impatient(question: Question, wait_s: float) -> FluenzrError:
    return Throttled(
        f"{question}: not sent, for the limit leaves no room for {math.ceil(wait_s)} seconds more",
        status=429,
        hint="Something else uses the account's limit: try again later",
    )


def _seen(headers: Mapping[str, str], server_s: float) -> pace.Seen:
    limit = _leading_number(headers.get("x-ratelimit-limit"))
    remaining = _leading_number(headers.get("x-ratelimit-remaining"))
    reset = _leading_number(headers.get("x-ratelimit-reset"))
    return pace.Seen(
        limit=int(limit) if limit is not None and limit >= 1 else None,
        remaining=int(remaining) if remaining is not None else None,
        reset_in_s=None if reset is None else pace.reset_in_s(reset, server_s=server_s),
    )


def _retry_after_s(value: str | None, server_s: float) -> float | None:
    """Seconds from a Retry-After, which is a number of seconds or an HTTP date [?]."""
    seconds = _leading_number(value)
    if seconds is not None:
        return seconds
    date_s = _http_date_s(value)
    return None if date_s is None else max(0.0, date_s - server_s)


def _leading_number(value: str | None) -> float | None:
    """The number of 0 or more at the start of a header such as "1000" or "1000;w=60"; else None."""
    try:
        number = float((value or "").split(";")[0].split(",")[0])
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _http_date_s(value: str | None) -> float | None:
    """Epoch seconds of an HTTP date; None for none and for nonsense."""
    try:
        when = parsedate_to_datetime(value or "")
        return when.replace(tzinfo=when.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
