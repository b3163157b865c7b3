"""`undo`: putting back what a run changed."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.cli.sync import NUMBER_MAX
from syncd.errors import UsageError
from syncd.report.progress import watcher

if TYPE_CHECKING:
    from syncd.state.undone import Extent

WAIT_S = 60.0  # for the lock: a run of the daemon is usually over by then


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example:  syncd undo 12")(undo)


def undo(
    context: typer.Context,
    number: Annotated[
        int, typer.Argument(metavar="RUN", max=NUMBER_MAX, help="See `syncd history`.")
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="JSON alone on stdout, one object a line.")
    ] = False,
) -> None:
    """Put back what a run changed.

    Fields, tags and groups get what they had before the run, where nobody has touched them since. What
    cannot be undone is listed, first of all who was mailed. Nobody is created, deleted or mailed by it.

    What is put back stays so in the next runs, as long as the sources want what was undone; when they want
    something else, that is sent. Undoing the undoing gives the word back to the sources at once.

    \b
    Exit codes: 0 all of it is undone; 3 some of it is not; 1 failed: run it again.
    """
    from syncd import undo as engine
    from syncd.check import client
    from syncd.report import undo as report

    invocation: Invocation = context.obj
    settings = invocation.settings()
    clock = invocation.clock
    if not yes:
        _ask(number, _extent(invocation, number))
    with report.UndoJson() if json else report.UndoWords() as told:
        with client(settings, clock) as api, stopping(clock), watcher(wanted=not json) as watch:
            result = engine.undo(
                settings, number, api=api, clock=clock, watch=watch, show=told.show, wait_s=WAIT_S
            )
        told.finish(result)
    raise typer.Exit(result.exit_code)


def _extent(invocation: Invocation, number: int) -> "Extent":
    from syncd.state import story, undone

    with story.reading(invocation.settings().state.path) as db:
        if db is None:
            story.no_run(number)
        story.run(db, number)
        found = undone.extent(db, number)
    assert found is not None
    return found


def _ask(number: int, extent: "Extent") -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "`syncd undo` asks before it changes anything, and there is nobody to ask",
            hint="Add --yes; nothing was done",
        )
    from syncd.report.undo import question

    if not typer.confirm(question(number, extent), err=True):
        raise UsageError("Not confirmed", hint="Nothing was done")
