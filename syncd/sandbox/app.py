"""From a request to an answer: faults, rate limit, key, endpoint, envelope, and what was seen.

Everything happens under the account's lock, one request at a time, as in one transaction each.
Source: FluenzR reference, "Transport" [I]; the order in which limit and key are checked is [?].
"""

import math
import re
from collections import Counter, deque
from email.utils import formatdate
from typing import NamedTuple, assert_never

from syncd.sandbox import routes
from syncd.sandbox.exchange import Answer, Refusal, Request, failure, html
from syncd.sandbox.faults import (
    Act,
    Cut,
    Drop,
    Effect,
    Faults,
    Garbage,
    Late,
    Page,
    Slow,
    Status,
    Throttle,
)
from syncd.sandbox.limits import Budget, Limit
from syncd.sandbox.people import Account

BASE_PATH = "/v1"  # [I]
KEY = re.compile(r"flz_sk_[A-Za-z0-9]{32}")  # [D]
SEEN_MAX = 10_000  # requests kept for tests and for the page
BODIES_MAX = 50  # bodies of writes kept for tests; a bulk one may have a megabyte

PROXY_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1><hr>nginx</body></html>"
LOGIN_PAGE = "<html><body><form method='post'>Please sign in</form></body></html>"


class Seen(NamedTuple):
    """One request. path: without base path and query; status: 0 when the answer was dropped."""

    method: str
    path: str
    status: int


class App:
    """FluenzR's API over one account. api_key: the only one that is accepted; None takes any."""

    def __init__(
        self, account: Account, *, faults: Faults, limit: Limit, api_key: str | None
    ) -> None:
        self._account = account
        self._faults = faults
        self._limit = limit
        self._api_key = api_key
        self._late: list[tuple[float | None, Request]] = []  # due at, epoch seconds
        self.requests: deque[Seen] = deque(maxlen=SEEN_MAX)
        self.bodies: deque[tuple[str, str, bytes]] = deque(maxlen=BODIES_MAX)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.writes = 0
        self.throttled = 0

    def answer(self, request: Request) -> Answer:
        """What goes back, and everything that the request causes."""
        with self._account.lock:
            self.settle(only_due=True)
            endpoint, _ = routes.split(request.path)
            self.counts[request.method, endpoint] += 1
            if routes.is_write(request.method, endpoint):
                self.bodies.append((request.method, request.path, request.body))
            effect = self._faults.strike(request.method, request.path)
            answer = self._answer(request) if effect is None else self._struck(request, effect)
            if self._account.quirks.date_header:
                date = formatdate(self._account.now_s(), usegmt=True)
                answer.headers.append((b"date", date.encode()))
            status = 0 if answer.dropped else answer.status
            self.requests.append(Seen(request.method, request.path, status))
            if status and routes.is_write(request.method, endpoint):
                self.writes += 1
            return answer

    def settle(self, *, only_due: bool = False) -> None:
        """Let the late requests, or those that are due, take effect in the order of arrival."""
        with self._account.lock:
            waiting, self._late = self._late, []
            now_s = self._account.now_s()
            for due_s, request in waiting:
                if only_due and (due_s is None or due_s > now_s):
                    self._late.append((due_s, request))
                else:
                    self._apply(request)

    def _answer(self, request: Request) -> Answer:
        """Without faults: the limit, then the API."""
        budget = self._limit.take()
        if budget.allowed:
            return self._with_rate(self._apply(request), budget)
        self.throttled += 1
        answer = self._too_many(max(1, math.ceil(budget.reset_s - self._account.now_s())))
        return self._with_rate(answer, budget)

    def _apply(self, request: Request) -> Answer:
        """Key and endpoint; what the request means takes effect here, and nowhere else."""
        account = self._account
        if len(request.body) > account.quirks.body_bytes_max:
            return html(PROXY_PAGE.format("413 Request Entity Too Large"), status=413)
        try:
            endpoint, item_id = routes.split(request.path)
            self._check_access(request, endpoint)
            handler = routes.handler(account.quirks, request.method, endpoint)
            return handler(account, request, item_id)
        except Refusal as refusal:
            return failure(refusal)

    def _check_access(self, request: Request, endpoint: str) -> None:
        scheme, _, key = request.authorization.partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refusal(401, "UNAUTHORIZED", "Missing API key")
        known = KEY.fullmatch(key) if self._api_key is None else key == self._api_key
        if not known:
            raise Refusal(401, "UNAUTHORIZED", "Invalid API key")
        if self._account.quirks.plan_without_api:
            raise Refusal(403, "FORBIDDEN", "API access requires Pro plan")
        if self._account.quirks.read_only_key and routes.is_write(request.method, endpoint):
            raise Refusal(403, "FORBIDDEN", "This API key is read-only")

    def _struck(self, request: Request, effect: Effect) -> Answer:  # noqa: C901 - one case an effect
        """What a fault makes of the request; what never arrived costs nothing of the limit."""
        match effect:
            case Drop(applied=applied):
                answer = self._answer(request) if applied else Answer(0, b"")
                answer.dropped = True
            case Late(after_s=after_s):
                due_s = None if after_s is None else self._account.now_s() + after_s
                self._late.append((due_s, request))
                answer = Answer(0, b"", dropped=True)
            case Status(status=status, applied=applied):
                answer = self._broken(status, self._answer(request) if applied else None)
            case Page(applied=applied):
                if applied:
                    self._answer(request)
                answer = html(LOGIN_PAGE)
            case Garbage():
                answer = self._answer(request)
                answer.body = b'{"success": tru'
            case Cut():
                answer = self._answer(request)
                answer.cut = True
            case Slow(seconds=seconds):
                answer = self._answer(request)
                answer.slow_s = seconds
            case Throttle(retry_after_s=retry_after_s):
                answer = self._with_rate(self._too_many(retry_after_s), self._limit.look())
            case Act(action=action, after=after):
                if not after:
                    action()
                answer = self._answer(request)
                if after:
                    action()
            case _:
                assert_never(effect)
        return answer

    def _broken(self, status: int, reached: Answer | None) -> Answer:
        """reached: what FluenzR answered, when the request got there."""
        if status != 500:
            return html(PROXY_PAGE.format(f"{status} from the proxy"), status=status)
        answer = failure(Refusal(500, "INTERNAL", "Internal server error"))
        if reached is None:
            return self._with_rate(answer, self._limit.take())
        answer.headers = reached.headers
        return answer

    def _too_many(self, retry_after_s: int | None) -> Answer:
        answer = failure(Refusal(429, "RATE_LIMITED", "Rate limit exceeded"))
        if retry_after_s is not None and self._account.quirks.retry_after:
            answer.headers.append((b"retry-after", str(retry_after_s).encode()))
        return answer

    def _with_rate(self, answer: Answer, budget: Budget) -> Answer:
        if self._account.quirks.rate_headers:
            answer.headers += [
                (b"x-ratelimit-limit", str(budget.limit).encode()),
                (b"x-ratelimit-remaining", str(budget.remaining).encode()),
                (b"x-ratelimit-reset", str(budget.reset_s).encode()),
            ]
        return answer
