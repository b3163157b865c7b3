"""What goes wrong between the engine and FluenzR in one process, drawn by chance."""

import dataclasses
import random
from collections import Counter

from syncd.sandbox import Faults, Quirks
from syncd.sandbox.faults import Cut, Drop, Effect, Garbage, Late, Page, Rule, Slow, Throttle
from syncd.sandbox.faults import Status as Broken
from syncd.sandbox.people import Account

FAULT_KINDS = (
    "drop before", "drop after", "late", "5xx before", "5xx after", "page before", "page after",
    "garbage", "cut", "throttle", "slow", "unreadable", "no date", "crash", "stop", "broken source",
)  # fmt: skip


class Weather:
    """The faults of one account. wide: more answers come late. quirks: the account's own reading of the undocumented."""

    def __init__(self, account: Account, quirks: Quirks, *, wide: bool) -> None:
        self.faults = Faults()
        self._account, self._quirks, self._wide = account, quirks, wide

    def draw(self, rng: random.Random, share: float, fired: Counter[str]) -> None:
        """What goes wrong in the next process. share: of the requests that do."""
        seed = rng.random()
        if not share:
            return
        rules: list[tuple[str, Effect, float]] = [
            ("drop before", Drop(applied=False), 0.14), ("drop after", Drop(applied=True), 0.14),
            ("late", Late(after_s=rng.choice([2.0, 20.0, 60.0, 110.0])), 0.25 if self._wide else 0.1),
            ("5xx before", Broken(status=rng.choice([500, 502, 503, 504]), applied=False), 0.06),
            ("5xx after", Broken(status=rng.choice([500, 502, 503, 504]), applied=True), 0.1),
            ("page before", Page(applied=False), 0.03), ("page after", Page(applied=True), 0.05),
            ("garbage", Garbage(), 0.05), ("cut", Cut(), 0.05),
            ("throttle", Throttle(retry_after_s=rng.choice([None, 1, 70])), 0.08),
        ]  # fmt: skip
        self.faults.clear()
        self.faults._rng = random.Random(seed)
        self.faults.add(
            *(
                Rule(name=name, effect=effect, probability=share * part,
                     method="POST|PUT|DELETE" if name == "late" else ".*")
                for name, effect, part in rules
            )
        )  # fmt: skip
        # By count, not by chance: real milliseconds pass, and the answer is right.
        self.faults.add(Rule(name="slow", effect=Slow(seconds=0.01), nth=range(7, 1_000_000, 13)))
        if rng.random() < 0.15:  # nothing can be read of half the contacts
            rule = Rule(
                name="unreadable", effect=Broken(status=503, applied=False),
                method="GET", path=rf"/contacts/con_\d*[{rng.choice(['02468', '13579'])}]",
            )  # fmt: skip
            self.faults.add(rule)
        if self._quirks.date_header and rng.random() < 0.15:
            fired["no date"] += 1
            self._account.quirks = dataclasses.replace(self._quirks, date_header=False)
        else:
            self._account.quirks = self._quirks

    def clear(self, fired: Counter[str]) -> None:
        """No faults any more; those that struck are counted."""
        self.faults.clear()
        fired.update(self.faults.fired)
        self.faults.fired.clear()
