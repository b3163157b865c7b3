"""What `syncd reconcile` says when it is done: what was known wrongly, who was found, and who now needs somebody's word."""

from dataclasses import asdict

from syncd.reconcile import Reconciled
from syncd.report.text import clean, count, duration, people, say, say_json
from syncd.state.marker import Standing
from syncd.state.rebuild import People, Repaired

HEADS = {
    Standing.GOOD: "Compared the state with FluenzR, and repaired it",
    Standing.RESTORED: "Brought a state up to date that is not the newest one",
    Standing.LOST: "Rebuilt the lost state",
    Standing.ABSENT: "Rebuilt the lost state",
}


def as_json(done: Reconciled) -> None:
    """One object; the numbers of a rebuild are null after a repair."""
    found = done.people
    say_json(
        {
            "run": done.run,
            "was": done.was.value,
            "found": None if found is None else found.present,
            "absent": None if found is None else found.absent,
            "opted_out": None if found is None else found.opted_out,
            "listed": None if found is None else found.listed,
            "repaired": asdict(done.repaired),
            "held": done.held,
            "requests": done.requests,
            "seconds": done.seconds,
        }
    )


def in_words(done: Reconciled) -> None:
    """A head line, what was found, what to type next."""
    took = f"run {done.run}, {duration(done.seconds)}, {count(done.requests, 'request')}"
    head = HEADS[Standing.RESTORED if done.people and done.was is Standing.GOOD else done.was]
    say(f"{head}: nobody was mailed, nothing was sent  ({took})")
    lines = _repaired(done.repaired)
    if done.people is not None:
        lines += _rebuilt(done.people)
    elif not lines:
        lines = ["everything was as FluenzR shows it"]
    for line in lines:
        say(f"  {line}")
    for sync, trips in done.held.items():
        for trip in trips:
            say(f"  {clean(sync)}: held: {clean(trip)}")
        say(f"  {clean(sync)}: look at it: syncd plan {clean(sync)};"
            f" release it: syncd approve {done.run} {clean(sync)}")  # fmt: skip
    say("Next: syncd plan")


def _repaired(done: Repaired) -> list[str]:
    told = (
        (done.ids, "whose id in FluenzR was not known"),
        (done.statuses, "with another status than was known"),
        (done.edited, "whose fields, tags or groups are not as they were sent: the next run puts them right"),
        (done.renamed, "with another address in FluenzR than was known"),
        (done.deleted, "deleted in FluenzR: they stay deleted, until `syncd release`"),
        (done.back, "who were not known to be in FluenzR"),
        (done.doubtful, "could not be read: the next run tries again"),
    )  # fmt: skip
    return [f"{people(number)} {words}" for number, words in told if number]


def _rebuilt(found: People) -> list[str]:
    lines = [
        f"{people(found.present)} found in FluenzR, of {people(found.listed)} there: taken over",
        f"{people(found.opted_out)} opted out: never created, never mailed",
        "Nobody who is known today joins a dynamic group any more: who was mailed already, nobody can tell",
    ]
    if found.unwanted:
        lines.append(
            f"{count(found.unwanted, 'record')} not wanted today, or without a usable address: the same holds for them"
        )
    if found.absent:
        lines.append(
            f"{people(found.absent)} not in FluenzR: not created until `syncd release EMAIL`, for they may have been deleted there"
        )
        lines += [f"  {clean(email)}" for email in found.examples]
        if found.absent > len(found.examples):
            lines.append(f"  and {count(found.absent - len(found.examples))} more")
    return lines
