"""When the next request may start: the limiter's arithmetic, without clock, threads or HTTP.

Two things are known, and a request starts only when both allow it.

1. *Our own log.* Each request of ours occupies a slot from its start until a window after its
   answer; at most `cap` slots (our share of the limit) are occupied. Requests that a server counts
   together were at the server within one window, so when the last of them started, each of the
   others held its slot. Alone with the account we never exceed our share, under a fixed and under a
   sliding window: which of them FluenzR has is [?].
2. *The server's word.* Each answer says how many requests remain. What we sent since is taken off;
   below a floor we wait, for others use the account too. The word lapses at its reset; then one
   request goes ahead alone as a probe, and its answer is the next word. Under a sliding window our
   old requests are given back before the reset: then too it is a probe that finds out.

Source: FluenzR reference, "Transport": 1000 requests a minute, the X-RateLimit-* headers [I]; the
kind of window, Retry-After [?]. All times are seconds of a monotonic clock.
"""

import math
from collections import deque
from dataclasses import dataclass

WINDOW_S = 61.0  # the server's minute [I], and one more for servers that count in whole seconds
RESET_MARGIN_S = 1.0  # X-RateLimit-Reset is in whole seconds, rounded either way
WORD_S_MAX = 120.0  # a reset further away is nonsense: then a probe finds out
BACK_OFF_S, BACK_OFF_S_MAX = 10.0, 60.0  # after a 429 that does not say how long to wait
PROBE_S, PROBE_S_MAX = 1.0, 10.0  # from a probe that finds no room to the next one, doubling
RETRY_AFTER_S_MAX = 3600.0  # as long as we remember that we were told to wait
SLOTS_MAX = 60_000  # bounds the memory; more requests a minute than 16 connections can carry
STEP_S = 0.001  # the shortest wait, so that rounding never makes a busy loop

EPOCH_S_MIN = 1e9  # a larger reset is a time since 1970; a smaller one is seconds from now
EPOCH_MS_MIN = 1e11  # a larger one is in milliseconds


@dataclass(frozen=True, slots=True)
class Seen:
    """What the headers of an answer said; None where they said nothing that makes sense.

    reset_in_s: from the moment of the answer, by the server's clock.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """One request in flight. answered_before: how many were answered before it started."""

    number: int
    answered_before: int
    started_s: float


@dataclass(frozen=True, slots=True)
class BudgetView:
    """For people: the limit in force, what is left of it for us now, and the wait, in seconds."""

    limit: int
    remaining: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class _Word:
    """The last word of the server: on the request that started last. remaining: None for none."""

    ticket: Ticket
    remaining: int | None
    lapsed_before: int  # how many of our slots were free again when it arrived
    until_s: float


def reset_in_s(value: float, *, server_s: float) -> float | None:
    """Seconds until the reset, from what X-RateLimit-Reset holds; None for nonsense.

    value: epoch seconds [I]; seconds from now and epoch milliseconds are recognised.
    server_s: epoch seconds by the server's clock.
    """
    if not math.isfinite(value) or value < 0:
        return None
    if value >= EPOCH_MS_MIN:
        value /= 1000
    left_s = value - server_s if value >= EPOCH_S_MIN else value
    return min(max(left_s, 0.0), WORD_S_MAX)


class Pace:
    """The limiter's memory. Not locked: one thread at a time.

    limit: requests a minute at most; the server's word can lower it. share: of the limit, above 0.0
    up to 1.0; the rest is left to the account's other users.
    """

    def __init__(self, limit: int, share: float) -> None:
        self._limit_max, self._limit, self._share = limit, limit, min(share, 1.0)
        self._answers: deque[float] = deque()  # when each request that holds a slot was answered
        self._started = self._answered = self._lapsed = 0  # counts: ever started, answered, freed
        self._word: _Word | None = None
        self._probe: Ticket | None = None
        self._closed_until_s = -math.inf  # after a 429
        self._closed_number = 0  # tickets up to this one started before the last 429
        self._vain = 0  # probes in a row that found no room; the 429s of one moment are one

    def wait_s(self, now_s: float) -> float:
        """Seconds to wait before the next request may start; 0.0 when it may start now.

        math.inf: an answer must come first; ask again after the next `finish`, or in a second.
        """
        self._lapse(now_s)
        if now_s < self._closed_until_s:
            return max(self._closed_until_s - now_s, STEP_S)
        beyond = self._occupied() - self._cap()
        if beyond >= 0:
            if beyond >= len(self._answers):
                return math.inf
            return max(self._answers[beyond] + WINDOW_S - now_s, STEP_S)
        return self._wait_for_word_s(now_s)

    def start(self, now_s: float) -> Ticket:
        """Take a slot, after `wait_s` said 0.0 at this same moment."""
        self._started += 1
        ticket = Ticket(self._started, self._answered, now_s)
        if not self._flows(now_s):
            self._probe = ticket
        return ticket

    def finish(self, ticket: Ticket, now_s: float, seen: Seen | None) -> None:
        """The request was answered, with any status but 429; seen=None: no answer came."""
        probed = ticket == self._probe
        self._end(ticket, now_s)
        if seen is None or ticket.number <= self._closed_number:
            return  # what was asked before a 429 says less than the 429
        self._obey(seen.limit)
        word = self._word
        if word is not None and now_s < word.until_s:
            if ticket.number < word.ticket.number:
                return
            if seen.remaining is None and word.remaining is not None:
                return  # a proxy's answer does not undo what FluenzR said
        if seen.remaining is None or seen.remaining > self._floor():
            self._vain = 0
        elif probed:
            self._vain += 1
        left_s = WINDOW_S if seen.reset_in_s is None else seen.reset_in_s + RESET_MARGIN_S
        until_s = now_s + min(max(left_s, self._between_probes_s()), WORD_S_MAX)
        self._word = _Word(ticket, seen.remaining, self._lapsed, until_s)

    def throttled(
        self, ticket: Ticket, now_s: float, *, retry_after_s: float | None, seen: Seen
    ) -> None:
        """The request was answered with 429: nothing starts before it may, and then one probe."""
        self._end(ticket, now_s)
        self._obey(seen.limit)
        if ticket.number > self._closed_number:
            self._vain += 1
            self._closed_number = self._started
        if retry_after_s is not None:
            told_s = min(retry_after_s, RETRY_AFTER_S_MAX)
        elif seen.reset_in_s is not None:
            told_s = seen.reset_in_s + RESET_MARGIN_S
        else:
            told_s = min(BACK_OFF_S * 2.0 ** min(max(self._vain - 1, 0), 8), BACK_OFF_S_MAX)
        closed_s = max(told_s, self._between_probes_s())
        self._closed_until_s = max(self._closed_until_s, now_s + closed_s)
        self._word = None

    def budget(self, now_s: float) -> BudgetView:
        """The state in three numbers. wait_s is finite: 0.0 where only an answer is awaited."""
        wait_s = self.wait_s(now_s)
        remaining = self._cap() - self._occupied()
        word = self._word
        if word is not None and word.remaining is not None and now_s < word.until_s:
            remaining = min(remaining, self._certain(word, word.remaining) - self._floor())
        if math.isinf(wait_s):
            wait_s = 0.0
        return BudgetView(self._limit, max(0, remaining), wait_s)

    def _wait_for_word_s(self, now_s: float) -> float:
        if self._flows(now_s):
            return 0.0
        word = self._word
        if word is None or word.remaining is None or now_s >= word.until_s:
            probing = self._probe is not None and now_s < self._probe.started_s + WORD_S_MAX
            return math.inf if probing else 0.0
        if self._flying():  # some may be counted twice, in the word and as sent since: answers tell
            return math.inf
        if word.remaining > self._floor():  # alone, its answer counts nothing twice
            return 0.0
        given_back = max(0, min(self._lapsed, word.ticket.answered_before) - word.lapsed_before)
        if given_back and word.remaining + given_back > self._limit - self._cap():
            return 0.0  # room again, if the window slides; if it does not, one probe costs little
        free_s = self._answers[0] + WINDOW_S if self._answers else math.inf
        return max(min(word.until_s, free_s) - now_s, STEP_S)

    def _flows(self, now_s: float) -> bool:
        """Whether requests may start side by side: the word holds, and leaves room."""
        word = self._word
        if word is None or now_s >= word.until_s:
            return False
        return word.remaining is None or self._certain(word, word.remaining) > self._floor()

    def _between_probes_s(self) -> float:
        """Where the reset is always near, as in a sliding window, it must not draw a 429 a second."""
        return min(PROBE_S * 2.0 ** min(max(self._vain - 1, 0), 8), PROBE_S_MAX)

    def _cap(self) -> int:
        """How many slots are ours."""
        return min(max(1, math.floor(self._limit * self._share + 1e-9)), SLOTS_MAX)

    def _floor(self) -> int:
        """What we leave untouched: half of what is not ours, as counting twice must not stop us."""
        return (self._limit - self._cap()) // 2

    def _flying(self) -> int:
        return self._started - self._answered

    def _occupied(self) -> int:
        return self._flying() + len(self._answers)

    def _obey(self, limit: int | None) -> None:
        if limit is not None:
            self._limit = max(1, min(self._limit_max, limit))

    def _certain(self, word: _Word, remaining: int) -> int:
        """What remains at least: whatever was in flight since the word's request began is off."""
        since = self._answered - word.ticket.answered_before - 1
        return remaining - self._flying() - since

    def _end(self, ticket: Ticket, now_s: float) -> None:
        self._lapse(now_s)
        self._answered += 1
        self._answers.append(now_s)
        if ticket == self._probe:
            self._probe = None

    def _lapse(self, now_s: float) -> None:
        while self._answers and self._answers[0] + WINDOW_S <= now_s:
            self._answers.popleft()
            self._lapsed += 1
