"""One sync's part of a run, and its books: every record that was read or is gone stands in exactly one column.

`read + gone = skipped + opted_out + quarantined + held + unchanged + changed`; where it does not add up, the run has failed.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from syncd.core.result import Refusal, Status, SyncResult
from syncd.reading import Feed
from syncd.state import books, sealed
from syncd.state.reads import Read, SyncRow
from syncd.upload.session import Session


@dataclass(slots=True)
class Part:
    """One sync's part of the run."""

    feed: Feed
    row: SyncRow
    result: SyncResult
    read: Read | None = None
    same: int = 0  # changed records that mean the same after mapping
    struck: int = 0  # records of forgotten people
    held_fates: dict[str, int] = field(default_factory=dict)
    promoted: bool = False  # the read counts, or there was nothing to promote
    ended: bool = False  # failed or held: nothing more happens to it in this run
    late: bool = False  # its source is silent: it is no part of this run after all
    unusable: list[tuple[str, str]] = field(
        default_factory=list
    )  # place and why, of the first ones


_REFUSED = {
    True: "another change is due now",
    False: "nothing is to be done any more: it was done meanwhile, or the source has gone back",
}


def _fate_of(skip: str) -> str:
    """In which book a record stands that is not wanted."""
    return {"opted_out": "opted_out", "blocked": "quarantined"}.get(skip, f"skipped:{skip}")


@dataclass(frozen=True, slots=True)
class Books:
    """The books of one sync: every record that was read or is gone is in exactly one of them."""

    session: Session
    part: Part

    def close(self) -> None:
        """Fill the result's numbers, and check that they balance."""
        part, result = self.part, self.part.result
        for name, people in self.session.books.of(part.row.sync).items():
            setattr(result, name, getattr(result, name) + people)
        result.alike = self.session.refused_alike.get(part.row.sync, "")
        found = part.read
        if found is None:
            return
        fates = self.unchanged()
        fates.update(self._done() if part.promoted else part.held_fates or self.staged())
        result.read, result.gone = found.read, found.gone
        result.unchanged, result.changed = fates["unchanged"], fates["changed"]
        result.opted_out, result.records_quarantined = fates["opted_out"], fates["quarantined"]
        result.records_held = fates["held"]
        result.skipped_by = self.skipped(fates)
        result.skipped = sum(result.skipped_by.values())
        self._note_refused()
        stuck = fates["quarantined"] - (found.same_skipped or {}).get("blocked", 0)
        if result.status is Status.OK and (stuck or result.quarantined or result.refused):
            result.status = Status.PARTIAL
        # A record that cannot be read is one person who is not delivered.
        result.quarantined = max(result.quarantined, fates["quarantined"])
        if result.missing() and result.status is not Status.FAILED:
            result.status = Status.FAILED
            result.error = (
                f"The books do not balance: {result.missing()} records are not accounted for."
                " Nothing is lost; please report this with the log of the run."
            )

    def _note_refused(self) -> None:
        """What of a sealed plan was not sent, for it is not the same any more."""
        part, result = self.part, self.part.result
        if result.refused is None or not part.promoted:
            return
        state, name = self.session.state, part.row.name
        result.unplanned = sealed.unplanned(state, name)
        result.refused = [
            Refusal(one.email, one.kind, _REFUSED[one.differs]) for one in sealed.unmet(state, name)
        ]

    def unchanged(self) -> Counter[str]:
        """Records that the read gave as before, or that cannot be told apart: fate -> records."""
        found = self.part.read
        assert found is not None
        fates = Counter({"unchanged": found.same + self.part.same, "held": found.passed_over})
        fates["skipped:forgotten"] += self.part.struck
        fates["skipped:address"] += found.nameless
        for skip, count in (found.same_skipped or {}).items():
            fates[_fate_of(skip)] += count
        return fates

    def staged(self) -> Counter[str]:
        """New, changed and gone records, as the read gave them."""
        found = self.part.read
        assert found is not None
        fates: Counter[str] = Counter()
        for skip, count in found.staged_skipped.items():
            fates["held" if skip is None else _fate_of(skip)] += count
        for skip, count in found.gone_skipped.items():
            # What could not be read and is gone was never anybody's: nothing of it waits any more.
            gone = "skipped:blocked" if skip == "blocked" else _fate_of(skip or "")
            fates["held" if skip is None else gone] += count
        return fates

    def _done(self) -> Counter[str]:
        now_s = self.session.now_s()
        return Counter(
            books.fates(self.session.state, self.part.row, run=self.session.run, now_s=now_s)
        )

    @staticmethod
    def skipped(fates: Mapping[str, int]) -> dict[str, int]:
        """Reason -> records that are not wanted."""
        return {
            fate.partition(":")[2]: count
            for fate, count in sorted(fates.items())
            if fate.startswith("skipped:") and count
        }
