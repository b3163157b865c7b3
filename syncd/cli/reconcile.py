"""`reconcile`: the state is made to agree with FluenzR again, or built anew where it was lost."""

from typing import Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.cli.sync import Wait
from syncd.report.progress import watcher

EXIT_HELD, EXIT_NOT_YET = 4, 3


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example:  syncd reconcile --wait 60")(reconcile)


def reconcile(
    context: typer.Context,
    *,
    lost: Annotated[
        bool,
        typer.Option(
            "--lost",
            help="Rebuild, although nothing here shows that a state was lost: on another machine, or"
            " after a backup of the whole folder was put back.",
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object.")] = False,
    wait: Wait = 0.0,
) -> None:
    """Make the state agree with FluenzR again; it mails nobody.

    Lists everybody in FluenzR. A state that is there is repaired: ids, statuses, and what was changed
    by hand. One that is lost, or was restored from a backup, is rebuilt from FluenzR and the sources:
    whoever is not in FluenzR is not created until `syncd release`, and nobody who is known today ever
    joins a dynamic group, for nobody can tell who was mailed already.

    \b
    Exit codes: 0 done; 1 failed, nothing was rebuilt; 2 the configuration is wrong; 3 some people
    could not be read; 4 a guard holds what a source says now; 5 another process holds the state.
    """
    from syncd import reconcile as engine
    from syncd.check import client
    from syncd.report import reconcile as report

    invocation: Invocation = context.obj
    settings = invocation.settings()
    clock = invocation.clock
    with client(settings, clock) as api, stopping(clock), watcher(wanted=not json) as watch:
        done = engine.reconcile(settings, api=api, clock=clock, watch=watch, wait_s=wait, lost=lost)
    (report.as_json if json else report.in_words)(done)
    if done.held:
        raise typer.Exit(EXIT_HELD)
    raise typer.Exit(EXIT_NOT_YET if done.repaired.doubtful else 0)
