"""What goes wrong between a client and the sandbox, on order: lost, late and broken answers.

It decides which request is struck and by what, and counts it; the application carries it out. Every
rule has a name, so that a test can assert that each fault it ordered has really happened.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass

SLOW_S_MAX = 5.0  # real seconds: a test that waits longer waits for a mistake


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """The connection closes without a byte. applied: the request took effect before that."""

    applied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """The connection closes without a byte, and the request takes effect later.

    after_s: seconds of the sandbox's clock; None waits for `Sandbox.settle()`.
    """

    after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A 5xx: 500 in FluenzR's envelope, the others as HTML from a proxy, without rate headers."""

    status: int
    applied: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Status 200 with an HTML page, as from a proxy that wants a login."""

    applied: bool


@dataclass(frozen=True, slots=True)
class Garbage:
    """The request takes effect; the answer has its status and a body that is not JSON."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The request takes effect; the connection closes in the middle of the answer's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """The request takes effect; the second half of the body comes real seconds after the first."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttle:
    """429 although there were requests left. retry_after_s: None sends no Retry-After."""

    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Somebody does something at this very moment; the request itself is answered as usual.

    after: the action comes after the request took effect, and before it is answered.
    """

    action: Callable[[], object]
    after: bool = False


Effect = Drop | Late | Status | Page | Garbage | Cut | Slow | Throttle | Act


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which requests are struck.

    method, path: regular expressions for the whole of it; the path is without the base path and the
    query ("/contacts/bulk"). nth: which of the matching requests, from 1, not counting those that a
    rule before it has struck; None for all. probability: of those. times: how often at most.
    """

    name: str
    effect: Effect
    method: str = ".*"
    path: str = ".*"
    nth: Container[int] | None = None
    probability: float = 1.0
    times: int | None = None


class Faults:
    """A plan of faults; the first rule that strikes a request is carried out.

    fired: how often each rule has struck, by name.
    """

    def __init__(self, *rules: Rule, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random(0)  # noqa: S311 - chance for tests, nothing secret
        self._rules: list[Rule] = []
        self._matched: Counter[int] = Counter()
        self.fired: Counter[str] = Counter()
        self.add(*rules)

    def add(self, *rules: Rule) -> None:
        """More rules, after those that are there."""
        for rule in rules:
            if isinstance(rule.effect, Slow) and rule.effect.seconds > SLOW_S_MAX:
                raise ValueError(f"{rule.name}: at most {SLOW_S_MAX} s, these are real seconds")
        self._rules = [*self._rules, *rules]

    def clear(self) -> None:
        """No rules any more; what has fired stays counted."""
        self._rules = []
        self._matched.clear()

    def unfired(self) -> list[str]:
        """The rules that have never struck."""
        return [rule.name for rule in self._rules if not self.fired[rule.name]]

    def strike(self, method: str, path: str) -> Effect | None:
        """What happens to this request; None: nothing."""
        for rule in self._rules:
            if re.fullmatch(rule.method, method) and re.fullmatch(rule.path, path):
                self._matched[id(rule)] += 1
                if self._strikes(rule):
                    self.fired[rule.name] += 1
                    return rule.effect
        return None

    def _strikes(self, rule: Rule) -> bool:
        if rule.nth is not None and self._matched[id(rule)] not in rule.nth:
            return False
        if rule.times is not None and self.fired[rule.name] >= rule.times:
            return False
        return rule.probability >= 1.0 or self._rng.random() < rule.probability
