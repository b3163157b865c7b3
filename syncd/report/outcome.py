"""What `syncd sync` says when it is done: one block per sync, in numbers, and what to do next."""

from collections.abc import Iterable
from dataclasses import asdict

from syncd.core.result import Status, SyncResult
from syncd.report.plan import skipped_words
from syncd.report.text import clean, count, duration, people, say, say_json, style

COLOURS = {
    Status.OK: "green",
    Status.PARTIAL: "yellow",
    Status.HELD: "yellow",
    Status.FAILED: "red",
}
REFUSED_SHOWN_MAX = 20  # changes of a sealed plan; --json has them all
DONE = ("created", "updated", "moved", "removed", "grouped", "ungrouped")


def as_json(results: Iterable[SyncResult]) -> None:
    """One object per sync."""
    for result in results:
        if result.refused is None:
            say_json(result.contract())
            continue
        refused = [asdict(one) for one in result.refused]
        say_json({**result.contract(), "refused": refused, "unplanned": result.unplanned})


def in_words(results: Iterable[SyncResult]) -> None:
    """One block per sync."""
    for result in results:
        say(
            f"{style(clean(result.sync), 'bold')}: {style(result.status.value, COLOURS[result.status])}"
            f"  (run {result.run}, {duration(result.seconds)}, {count(result.requests, 'request')})"
        )
        for line in _lines(result):
            say(f"  {line}")


def _lines(result: SyncResult) -> list[str]:
    name = clean(result.sync)
    lines = []
    if result.error:
        lines.append(clean(result.error))
    if result.status is Status.FAILED:
        lines.append(
            "What was sent is recorded, and the next run goes on from there"
            if result.read
            else "Nothing of the source was used; what was sent before is kept, the next run goes on"
        )
    if result.read or result.gone:
        lines.append(_records(result))
    done = [f"{word} {count(getattr(result, word))}" for word in DONE if getattr(result, word)]
    if done or result.status in (Status.OK, Status.PARTIAL):
        lines.append(f"people: {', '.join(done) or 'nothing to send'}")
    if result.enrolled:
        lines.append(f"mailed: {people(result.enrolled)}, on joining dynamic groups and campaigns")
    lines += _of_a_plan(result)
    lines += _written_back(result)
    if result.status is Status.HELD:
        lines += [f"held: {clean(trip)}" for trip in result.trips]
        if result.held:
            lines.append(f"{people(result.held)} held; of them, nothing was sent")
        lines.append(f"look at it:  syncd plan {name}")
        lines.append(f"release it:  syncd approve {result.run} {name}")
        lines.append("or put the source right: the next run then goes on by itself")
    lines += _undelivered(result)
    return lines


def _undelivered(result: SyncResult) -> list[str]:
    """Who did not get what was wanted, and what to do."""
    lines = []
    if (
        result.quarantined and result.status is Status.FAILED
    ):  # not tried: they are in no quarantine
        lines.append(f"{people(result.quarantined)} not sent yet: the next run goes on with them")
    elif result.quarantined:
        # Exit code 0: nothing new of it, but it is not forgotten either.
        still = "still " if result.status is Status.OK else ""
        lines.append(
            f"{people(result.quarantined)} {still}could not be delivered:"
            " `syncd quarantine list` says who, and why"
        )
    if result.alike:
        lines.append(f"FluenzR gives everybody the same answer: {clean(result.alike)}")
        lines.append("put that right first, then: syncd quarantine retry --all")
    return lines


def _written_back(result: SyncResult) -> list[str]:
    """What the source was told, and what it was not."""
    lines = []
    if result.written_back:
        lines.append(
            f"told the source: {people(result.written_back)} who opted out, bounced or replied"
        )
    if result.back_refused:
        lines.append(
            f"{people(result.back_refused)} of whom the source does not take it: `syncd quarantine list` says why"
        )
    if result.back_error:
        lines.append(f"the source was not told everything: {clean(result.back_error)}")
        lines.append("the next run tells it again")
    return lines


def _of_a_plan(result: SyncResult) -> list[str]:
    """What a sealed plan had and was not sent, and what is due beside it."""
    lines = []
    if result.refused:
        lines.append(
            f"{count(len(result.refused), 'change')} of the plan not sent, not the same any more:"
        )
        shown = result.refused[:REFUSED_SHOWN_MAX]
        lines += [f"  {clean(one.email)}  {one.change}: {one.why}" for one in shown]
        if len(result.refused) > len(shown):
            lines.append(
                f"  and {count(len(result.refused) - len(shown))} more; --json has them all"
            )
    if result.unplanned:
        lines.append(
            f"{people(result.unplanned)} with changes that the plan does not have: nothing of them"
            f" was sent; syncd plan {clean(result.sync)}"
        )
    return lines


def _records(result: SyncResult) -> str:
    parts = [f"{count(result.read)} read", f"{count(result.unchanged)} unchanged"]
    parts += [f"{count(result.changed)} changed"] if result.changed else []
    parts += [f"{count(result.gone)} gone"] if result.gone else []
    parts += [f"{count(result.opted_out)} opted out"] if result.opted_out else []
    if result.skipped:
        by = skipped_words(result.skipped_by)
        parts.append(f"{count(result.skipped)} skipped" + (f" ({by})" if by else ""))
    return f"records: {', '.join(parts)}"
