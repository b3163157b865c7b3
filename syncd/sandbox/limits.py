"""The rate limit of the account: how many requests are left, and when there are more.

Source: FluenzR reference, "Transport": 1000 requests a minute, X-RateLimit-* on each response [I];
whether the window is fixed or sliding is [?].
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Literal, NamedTuple

WINDOW_S = 60.0
REQUESTS_PER_MINUTE = 1000  # [I]

Window = Literal["fixed", "sliding"]


class Budget(NamedTuple):
    """What is known after one request. reset_s: the epoch second when there are more again."""

    allowed: bool
    limit: int
    remaining: int
    reset_s: int


class Limit:
    """One account's window. now_s: the server's clock. Not locked: the application holds the lock.

    A fixed window is a minute of the clock. A refused request costs nothing.
    """

    def __init__(self, now_s: Callable[[], float], *, requests: int, window: Window) -> None:
        self._now_s = now_s
        self.requests = requests
        self.window = window
        self._minute = -1.0
        self._spent: deque[float] = deque()  # the time of each request in the window

    def take(self) -> Budget:
        """Ask for one request."""
        budget = self.look()
        if not budget.allowed:
            return budget
        self._spent.append(self._now_s())
        return budget._replace(remaining=budget.remaining - 1)

    def look(self) -> Budget:
        """What asking for one request would say; costs nothing."""
        now_s = self._now_s()
        self._forget_until(now_s)
        remaining = self.requests - len(self._spent)
        opened_s = self._minute * WINDOW_S if self.window == "fixed" else self._oldest_s(now_s)
        return Budget(remaining > 0, self.requests, remaining, math.ceil(opened_s + WINDOW_S))

    def consume(self, requests: int) -> None:
        """Another user of the account takes so many, as far as there are."""
        now_s = self._now_s()
        self._forget_until(now_s)
        self._spent.extend([now_s] * min(requests, self.requests - len(self._spent)))

    def _forget_until(self, now_s: float) -> None:
        if self.window == "fixed":
            minute = now_s // WINDOW_S
            if minute != self._minute:
                self._minute = minute
                self._spent.clear()
        else:
            while self._spent and self._spent[0] <= now_s - WINDOW_S:
                self._spent.popleft()

    def _oldest_s(self, now_s: float) -> float:
        return self._spent[0] if self._spent else now_s
