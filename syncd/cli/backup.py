"""`backup` and `restore`: copies of the state, and putting one back."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.errors import StateBusy, SyncdError, UsageError
from syncd.report.progress import watcher

WAIT_S = 60.0  # for the lock: a run of the daemon is usually over by then
EXIT_HELD, EXIT_NOT_YET = 4, 3

Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example:  syncd backup /mnt/backup/syncd.db")(backup)
    app.command(epilog="Example:  syncd restore backups/syncd-20260114T030000Z.db")(restore)


def backup(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Where to; else the folder of [backup]."),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Copy the state, and look whether the copy is sound.

    Without FILE into the folder of [backup], where the newest `keep` copies stay; the daemon does that
    by itself, `every` so often. It waits up to a minute for a run to end. A copy is for the owner's
    eyes: it knows everybody, and who opted out.

    \b
    Exit codes: 0 done; 1 failed, nothing is left of the copy, and the state is untouched; 2 FILE or the
    configuration is wrong; 5 another process holds the state.
    """
    from syncd import backup as engine
    from syncd.report import backup as report

    invocation: Invocation = context.obj
    settings = invocation.settings()
    clock = invocation.clock
    with stopping(clock), watcher(wanted=not json) as watch:
        made = engine.back_up(settings, file, clock=clock, watch=watch, wait_s=WAIT_S)
    (report.made_json if json else report.made_words)(made)


def restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Put a copy of the state back; it mails nobody.

    The copy is looked at first, then brought up to date: reconciled with FluenzR and the sources (see `syncd reconcile`),
    for it does not know who was mailed since it was made. What stood there before is kept until that
    has succeeded, and put back when it does not. Whoever was forgotten stays forgotten.

    \b
    Exit codes: 0 done; 1 failed, the state is what it was; 2 FILE is no sound copy of this state, or
    the configuration is wrong; 3 some people could not be read; 4 a guard holds what a source says now;
    5 another process holds the state.
    """
    from syncd import restore as engine
    from syncd.check import client
    from syncd.report import backup as report
    from syncd.report import reconcile

    invocation: Invocation = context.obj
    settings = invocation.settings()
    clock = invocation.clock
    offer = engine.offer(settings, file)
    if not yes:
        report.offer_words(offer, settings.state.path, now_s=clock.now_s())
        _ask()
    with client(settings, clock) as api, stopping(clock), watcher(wanted=not json) as watch:
        try:
            done = engine.restore(settings, file, api=api, clock=clock, watch=watch, wait_s=WAIT_S)
        except SyncdError as error:
            if not isinstance(error, StateBusy):
                report.not_restored(engine.standing(settings))
            raise
    (reconcile.as_json if json else reconcile.in_words)(done)
    if done.held:
        raise typer.Exit(EXIT_HELD)
    raise typer.Exit(EXIT_NOT_YET if done.repaired.doubtful else 0)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "`syncd restore` asks before it replaces the state, and there is nobody to ask",
            hint="Add --yes; nothing was done",
        )
    if not typer.confirm("Go on?", err=True):
        raise UsageError("Not confirmed", hint="Nothing was done")
