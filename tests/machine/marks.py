"""What is held against an address or a record: what the engine must know, and what it may believe.

The engine knows less than the truth (an opt-out that nobody has shown it), and by design it also believes more (an opt-out follows
the record to an address that never opted out). So there are two bounds. `must` accuses: who has a mark there is never created, or
enrolled. `may` excuses: only who has a mark there may be missing at the end.

    ! opted out   - by the word of the source   x deleted by hand   # forgotten   ? * written by a rebuild   @name enrolled there
"""

from collections import defaultdict
from collections.abc import Iterable

Who = str | tuple[str, str]  # an address, or sync and key of a record
Held = dict[Who, set[str]]


def _copy(held: Held) -> Held:
    return defaultdict(set, {who: set(what) for who, what in held.items()})


class Marks:
    """Both bounds. before: `must` at the beginning of the process that runs now, or ran last."""

    def __init__(self) -> None:
        self.must: Held = defaultdict(set)
        self.may: Held = defaultdict(set)
        self.before: Held = defaultdict(set)
        self._unproven: set[tuple[Who, str]] = set()

    def add(self, who: Who, *what: str, sure: bool) -> None:
        """These marks hold; sure: and the engine knows."""
        self.may[who] |= set(what)
        if sure:
            self.must[who] |= set(what)

    def told(self, who: Who, what: str) -> None:
        """A process was told so: it knows for good when it ends well."""
        if what not in self.must[who]:
            self._unproven.add((who, what))
        self.add(who, what, sure=True)

    def begin(self) -> None:
        """A process begins."""
        self.before = _copy(self.must)
        self._unproven.clear()

    def end(self, *, kept: bool) -> None:
        """It has ended. kept: everything that it was told is in its state."""
        if not kept:
            for who, what in self._unproven:
                self.must[who].discard(what)
        self._unproven.clear()

    def sure(self, who: Who, what: str) -> bool:
        """Whether the engine must know this mark of exactly this node."""
        return what in self.must[who]

    def known(self, everybody: Iterable[Who]) -> set[str]:
        """What the engine must know of any of these."""
        return set[str]().union(*(self.must[who] for who in everybody))

    def possible(self, everybody: Iterable[Who]) -> set[str]:
        """What it may believe of any of these."""
        return set[str]().union(*(self.may[who] for who in everybody))

    def pass_on(self, source: Who, target: Who, *, sure: bool) -> None:
        """What holds for one holds for the other; being forgotten does not travel."""
        self.may[target] |= self.may[source] - {"#"}
        if sure:
            self.must[target] |= self.must[source] - {"#"}

    def hand_on(self, who: Who, email: str) -> None:
        """A record leaves an address: what was held against that before this process goes with it."""
        self.must[who] |= self.before[email] - {"#"}
        self.pass_on(email, who, sure=False)

    def release(self, everybody: Iterable[Who], ended: Iterable[str]) -> None:
        """These marks have ended."""
        for who in everybody:
            self.must[who] -= set(ended)
            self.may[who] -= set(ended)

    def remember(self) -> Held:
        """What a backup knows."""
        return _copy(self.must)

    def lose(self, known: Held) -> None:
        """The state is another one now, which knows this; who was forgotten stands in a file of its own."""
        forgotten = {who for who, what in self.must.items() if "#" in what}
        self.must = _copy(known)
        for who in forgotten:
            self.must[who].add("#")
