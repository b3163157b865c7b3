"""What a run says about one sync: the numbers of `syncd sync --json` and `syncd plan --json` (their names are the contract)."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How one sync's part of a run ended."""

    OK = "ok"
    PARTIAL = (
        "partial"  # something new could not be delivered: quarantined or postponed in this run
    )
    HELD = "held"  # a guard tripped: nothing of it was sent, opt-outs excepted
    FAILED = "failed"


EXIT_CODES = {Status.OK: 0, Status.FAILED: 1, Status.PARTIAL: 3, Status.HELD: 4}
GRAVITY = (Status.FAILED, Status.HELD, Status.PARTIAL, Status.OK)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A change of a sealed plan that was not sent, for it is not the same any more; why: in words."""

    email: str
    change: str
    why: str


@dataclass(slots=True)
class SyncResult:
    """One sync's part of a run.

    read gone skipped opted_out unchanged changed count records; `records_*` hold the record counts of what the contract counts in
    people. created updated moved removed grouped ungrouped quarantined held enrolled count people.
    """

    run: int
    sync: str
    status: Status = Status.OK
    read: int = 0
    gone: int = 0
    skipped: int = 0
    opted_out: int = 0
    changed: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    moved: int = 0
    grouped: int = 0
    ungrouped: int = 0
    quarantined: int = 0
    held: int = 0
    enrolled: int = 0
    written_back: int = 0  # records whose source was told what FluenzR has heard
    requests: int = 0
    seconds: float = 0.0
    error: str | None = None
    # beside the contract, for words and checks
    back_refused: int = 0  # records of which the source does not take it
    back_error: str = ""  # why the source was not told the rest
    skipped_by: dict[str, int] = field(default_factory=dict)  # reason -> records
    trips: list[str] = field(default_factory=list)  # what each guard says
    records_quarantined: int = 0
    records_held: int = 0
    alike: str = ""  # FluenzR's words, where it refused everybody with the same
    refused: list[Refusal] | None = None  # of a sealed plan; None: there was none
    unplanned: int = 0  # people with changes that the sealed plan does not have
    exit_code: int | None = (
        None  # where an error decides it (a configuration error found by a read: 2)
    )

    def contract(self) -> dict[str, Any]:
        """The object of `syncd sync --json`."""
        beside = {"skipped_by", "trips", "records_quarantined", "records_held", "exit_code"}
        beside |= {"alike", "refused", "unplanned", "back_refused", "back_error"}
        return {k: v for k, v in asdict(self).items() if k not in beside}

    def missing(self) -> int:
        """Records that the books do not account for.

        0 when `read + gone = skipped + opted_out + quarantined + held + unchanged + changed`.
        """
        known = self.skipped + self.opted_out + self.records_quarantined + self.records_held
        return self.read + self.gone - known - self.unchanged - self.changed


@dataclass(slots=True)
class PlanResult:
    """What would happen to one sync; `changes` are streamed apart, they may be many."""

    sync: str
    create: int = 0
    update: int = 0
    move: int = 0
    remove: int = 0
    group: int = 0
    ungroup: int = 0
    enrol: int = 0
    quarantine: int = 0
    held: int = 0
    requests: int = 0
    seconds_at_limit: float = 0.0
    # beside the contract
    read: int = 0
    unchanged: int = 0
    opted_out: int = 0
    skipped_by: dict[str, int] = field(default_factory=dict)
    unusable: list[tuple[str, str]] = field(default_factory=list)  # place, why: the first ones
    trips: list[str] = field(default_factory=list)
    enrol_by_group: dict[str, int] = field(
        default_factory=dict
    )  # group name -> people who would be mailed
    new_groups: list[str] = field(default_factory=list)  # would be created, static
    sees_removals: bool = True  # whether this read is sure to see everybody who left
    error: str | None = None
    exit_code: int | None = None


def gravest(statuses: list[Status]) -> int:
    """The exit code of several syncs: the gravest of 1, 4, 3, 0 in this order."""
    return EXIT_CODES[min(statuses, key=GRAVITY.index, default=Status.OK)]
