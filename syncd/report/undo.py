"""What `syncd undo` says: what was put back, what was not and why, and what that means for the next runs."""

from typing import Self

from syncd.core.undo import NotUndone, Reason
from syncd.report.text import clean, count, duration, people, say, say_json, style
from syncd.state.undone import Extent
from syncd.undo import UndoResult

SHOWN_MAX = 20  # of each reason; --json has them all
TITLES = {
    Reason.MAILED: "were mailed: nothing calls that back",
    Reason.DELETED: "were deleted in FluenzR: that cannot be undone",
    Reason.CREATED: "were created: they stay, without the groups and tags that the run gave",
    Reason.OPTED_OUT: "opted out: their groups are left alone",
    Reason.WOULD_MAIL: "would be mailed by going back into a dynamic group",
    Reason.MOVED: "got another address, which stays",
    Reason.TOUCHED: "were changed in FluenzR since",
    Reason.LATER_RUN: "were changed again by a later run: undo that one first",
    Reason.WANTED: "are wanted otherwise by the sources meanwhile",
    Reason.GONE: "are not there any more",
    Reason.UNREADABLE: "could not be read just now",
    Reason.WAITS: "wait",
}


def question(number: int, extent: Extent) -> str:
    """What is asked first."""
    if extent.kind == "undo":
        return (
            f"Run {number} was an undoing. Undoing it sends what the sources want again; nobody is mailed."
            "\nGo on?"
        )
    return (
        f"Run {number} changed {people(extent.changed)} and created {count(extent.created)}."
        " Each is read in FluenzR, then gets back what it had before, where nobody has touched it since."
        "\nGo on?"
    )


class UndoJson:
    """One object for each thing that is not undone, then one with the numbers."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, found: NotUndone) -> None:
        """One thing that stays as it is."""
        say_json({"email": found.email, "not_undone": found.reason.value, "what": found.what})

    def finish(self, result: UndoResult) -> None:
        """The numbers."""
        say_json(
            {
                "run": result.run,
                "undone_run": result.of,
                "people": result.people,
                "fields": result.fields,
                "groups": result.groups,
                "tags": result.tags,
                "not_undone": result.not_undone,
                "requests": result.requests,
                "seconds": result.seconds,
                "error": result.error,
            }
        )


class UndoWords:
    """For people: what is not undone by reason, the first ones of each; then the rest."""

    def __init__(self) -> None:
        self._found: dict[Reason, list[NotUndone]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def show(self, found: NotUndone) -> None:
        """Keep the first ones."""
        kept = self._found.setdefault(found.reason, [])
        if len(kept) < SHOWN_MAX:
            kept.append(found)

    def finish(self, result: UndoResult) -> None:
        """All of it, the gravest first."""
        for reason in Reason:
            kept = self._found.get(reason)
            if kept:
                self._block(reason, kept, result.not_undone[reason.value])
        if result.error:
            say(f"{style('Not finished:', 'red')} {clean(result.error)}")
        say(
            f"{style('Put back', 'bold')} of run {result.of}: {count(result.fields, 'field')},"
            f" {count(result.groups, 'group membership')}, {count(result.tags, 'tag')} of {people(result.people)}"
            f"  (run {result.run}, {duration(result.seconds)}, {count(result.requests, 'request')})"
        )
        if result.error:
            say(f"Next: syncd undo {result.of}  (it goes on where it stopped)")
            return
        if not result.people and not result.not_undone:
            say(f"Nothing of run {result.of} is to be put back: everything is as before it")
        if result.people:
            say(
                "The next runs leave that so, as long as the sources want what was undone; when they want"
            )
            say("something else, that is sent. To let the sources have their way again at once:")
            say(f"  syncd undo {result.run}")

    def _block(self, reason: Reason, kept: list[NotUndone], total: int) -> None:
        say(f"{style(f'{total:,}', 'bold')} not undone: {TITLES[reason]}")
        for one in kept:
            say(f"  {clean(one.email)}  {clean(one.what)}")
        if total > len(kept):
            say(f"  and {count(total - len(kept))} more; --json has them all")
