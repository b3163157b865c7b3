"""What `forget`, `release` and `quarantine` say: what happened to whom, and what to type next.

`forget` never names the person: what it says may stand in somebody's log for years.
"""

from collections.abc import Iterable

from syncd.report.past import again, unusable_words
from syncd.report.text import clean, count, iso, people, say, say_json, table
from syncd.state.quarantine import Stuck
from syncd.state.release import Released
from syncd.state.unusable import Unusable
from syncd.state.write_back import Untold

ENDED = {
    "x": "was deleted by hand in FluenzR",
    "?": "was missing when a lost state was rebuilt",
    "-": "a source had said that the person opted out; it takes that back, and FluenzR shows no opt-out",
}
STUCK = ("email", "sync", "tries", "again", "because")
UNTOLD = ("email", "sync", "key", "because")
NOBODY_STUCK = "Nobody is in quarantine: FluenzR has taken everything."
NEXT_RUN = "Next: syncd sync  (or wait for the daemon)"


def forgotten(problems: list[str]) -> None:
    """problems: what is in the way; none: it is done."""
    if not problems:
        say("Forgotten: FluenzR has nobody of this address, and the state only a keyed hash of it.")
        say("The person is never created again, whatever a source says.")
        say(
            "Next: delete the person in the source, too, in backups of the state, and in files that you"
        )
        say("      had written by `syncd plan --out` or `write_back`.")
        return
    say("Not finished: the person is never created again, but not everything is deleted yet.")
    for problem in problems:
        say(f"  {clean(problem)}")
    say("The state keeps nothing but the address until then. The next run goes on with it.")
    say(NEXT_RUN)


def released(found: Iterable[Released]) -> None:
    """One block a person."""
    listed = list(found)
    for one in listed:
        for number, line in enumerate(_released(one)):
            say(clean(one.email) + ": " + line if not number else f"  {line}")
    if any(one.ended for one in listed):
        say(NEXT_RUN)


def _released(one: Released) -> list[str]:
    kept = _kept(one)
    if not one.ended:
        return ["not released", kept] if kept else ["nothing to release: nothing stands against it"]
    lines = ["released"] + [f"{words}" for mark, words in ENDED.items() if mark in one.ended]
    if kept:
        return [*lines, f"but {kept}"]
    if one.there:
        lines.append("is in FluenzR: the next run gives back the fields, tags and static groups")
    elif one.wanted:
        lines.append("the next run creates it, with its static groups")
    else:
        lines.append("no source wants it now: nothing is created until one does")
    return [*lines, "joins no dynamic group: nobody is mailed by this"]


def _kept(one: Released) -> str:
    if one.kept == "fluenzr":
        return (
            "opted out in FluenzR, bounced or blocked: that stays, and nothing is created or added"
        )
    if one.kept == "source":
        return (
            f"{clean(', '.join(one.syncs))} says that the person opted out, or with a value that could"
            " not be read: that stays. Correct it there, `syncd sync`, then release"
        )
    if one.kept == "silent":
        return (
            "a source said that the person opted out, and none says the contrary: that stays."
            " If one should have the person, `syncd sync` first, then release"
        )
    return ""


def quarantine_json(stuck: Iterable[Stuck], records: Iterable[Unusable]) -> None:
    """One object a person, then one a record that cannot be read: it has a key, and no next try."""
    for one in stuck:
        say_json(
            {
                "email": one.email,
                "sync": one.sync,
                "tries": one.tries,
                "next_try": iso(one.not_before_s),
                "error": one.error,
            }
        )
    for record in records:
        say_json(
            {
                "email": record.email,
                "sync": record.sync,
                "key": record.key,
                "tries": 0,
                "next_try": None,
                "error": record.note,
            }
        )


def quarantine_words(
    stuck: list[Stuck], records: list[Unusable], total: int, *, now_s: float
) -> None:
    """A table, and what can be done."""
    if not stuck:
        say(NOBODY_STUCK)
    else:
        for line in table(stuck_rows(stuck, now_s=now_s), STUCK, right=[2]):
            say(line)
        say()
        say(f"{people(len(stuck))}. A record that changes in its source is tried at once.")
        say("Next: syncd quarantine retry EMAIL  (without waiting; or --all)")
        say("      syncd quarantine drop EMAIL   (give the change up)")
    unusable_words(records, total)


def stuck_rows(stuck: list[Stuck], *, now_s: float) -> list[tuple[str, ...]]:
    """The columns of `STUCK`, a row a person."""
    return [
        (one.email, one.sync or "", str(one.tries), again(one, now_s=now_s), one.error or "")
        for one in stuck
    ]


def untold_json(untold: Iterable[Untold]) -> None:
    """One object a record whose source does not take what FluenzR has heard."""
    for one in untold:
        say_json(
            {
                "email": one.email,
                "sync": one.sync,
                "key": one.key,
                "tries": one.tries,
                "next_try": iso(one.not_before_s),
                "error": one.error,
                "write_back": True,
            }
        )


def untold_words(untold: list[Untold]) -> None:
    """Whom sources do not take back."""
    if not untold:
        return
    say()
    say(f"{people(len(untold))} of whom a source does not take what FluenzR has heard:")
    for line in table(untold_rows(untold), UNTOLD):
        say(line)
    say("They are told again later; without waiting: syncd quarantine retry --all")


def untold_rows(untold: list[Untold]) -> list[tuple[str, ...]]:
    """The columns of `UNTOLD`, a row a record."""
    return [(one.email, one.sync, one.key, one.error) for one in untold]


def retried(number: int) -> None:
    """How many."""
    if not number:
        say("Nobody is in quarantine: nothing to try again.")
        return
    say(f"{count(number, 'change')} will be tried again in the next run.")
    say(NEXT_RUN)


def dropped(number: int) -> None:
    """How many."""
    say(f"Dropped: {count(number, 'change')}. Nothing is sent until a source wants something else.")
    say("What is in FluenzR stays as it is; who is not there is not created.")
    say("To take one up again all the same: syncd quarantine retry EMAIL")
