"""`forget`, `release` and `quarantine`: what somebody decides about single people."""

import sys
from typing import Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.cli.sync import address
from syncd.errors import UsageError
from syncd.report.progress import watcher

WAIT_S = 60.0  # for the lock: a run of the daemon is usually over by then
EXIT_NOT_YET = 3

Emails = Annotated[list[str], typer.Argument(metavar="EMAIL")]
Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object a line.")]

quarantine = typer.Typer(
    name="quarantine",
    help="What FluenzR refuses and why, and what is postponed.",
    epilog="Example:  syncd quarantine list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example:  syncd forget ann@example.com --yes")(forget)
    app.command(epilog="Example:  syncd release ann@example.com bob@example.com")(release)
    quarantine.command("list", epilog="Example:  syncd quarantine list --json")(list_quarantine)
    quarantine.command(epilog="Example:  syncd quarantine retry ann@example.com")(retry)
    quarantine.command(epilog="Example:  syncd quarantine drop ann@example.com")(drop)
    app.add_typer(quarantine)


def forget(
    context: typer.Context,
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Erase one person, for ever (GDPR).

    Deletes the contact in FluenzR, and everything that the state knows. A keyed hash stays, so that
    the person is never created again, whatever a source says.

    \b
    Exit codes: 0 deleted; 3 erased here, and FluenzR could not delete yet: the next run does.
    """
    from syncd import forget as engine
    from syncd.check import client
    from syncd.report import people

    wanted = address(email)
    invocation: Invocation = context.obj
    settings = invocation.settings()
    if not yes:
        _ask()
    clock = invocation.clock
    with client(settings, clock) as api, stopping(clock), watcher(wanted=True) as watch:
        problems = engine.forget(settings, wanted, api=api, clock=clock, watch=watch, wait_s=WAIT_S)
    people.forgotten(problems)
    raise typer.Exit(EXIT_NOT_YET if problems else 0)


def _ask() -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "`syncd forget` asks before it deletes, and there is nobody to ask",
            hint="Add --yes; nothing was done",
        )
    question = (
        "This deletes the person in FluenzR, and everything that the state knows. There is no undo."
        "\nGo on?"
    )
    if not typer.confirm(question, err=True):
        raise UsageError("Not confirmed", hint="Nothing was done")


def release(context: typer.Context, emails: Emails) -> None:
    """Let people be created again who were deleted by hand.

    Also those who were missing when a lost state was rebuilt, and those whose source took an opt-out
    back, where FluenzR shows none either. They get their static groups; they join no dynamic group,
    so nobody is mailed by it.
    """
    from syncd.report import people
    from syncd.state import release as ledger
    from syncd.state import store

    wanted = _addresses(emails)
    invocation: Invocation = context.obj
    released: list[ledger.Released] = store.change(
        invocation.settings().state.path,
        lambda state: ledger.release(state, wanted),
        clock=invocation.clock,
        wait_s=WAIT_S,
    )
    people.released(released)


def list_quarantine(context: typer.Context, *, json: Json = False) -> None:
    """Who waits, until when, and FluenzR's words; and what a source does not take back."""
    from syncd.report import people
    from syncd.state import quarantine as state
    from syncd.state import story, unusable, write_back

    invocation: Invocation = context.obj
    with story.reading(invocation.settings().state.path) as db:
        stuck = state.stuck(db) if db else []
        records, total = unusable.unreadable(db) if db else ([], 0)
        untold = write_back.stuck(db) if db else []
    if json:
        people.quarantine_json(stuck, records)
        people.untold_json(untold)
    else:
        people.quarantine_words(stuck, records, total, now_s=invocation.clock.now_s())
        people.untold_words(untold)


def retry(
    context: typer.Context,
    emails: Annotated[list[str] | None, typer.Argument(metavar="EMAIL")] = None,
    *,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody in quarantine.")] = False,
) -> None:
    """Try again in the next run, without a back-off.

    With an address also a change that was dropped.
    """
    from syncd.report import people
    from syncd.state import quarantine as state
    from syncd.state import store, write_back

    if bool(emails) == everybody:
        raise UsageError(
            "Name the addresses, or give --all",
            hint="`syncd quarantine list` shows who waits",
        )
    wanted = _addresses(emails or [])
    invocation: Invocation = context.obj
    count = store.change(
        invocation.settings().state.path,
        lambda opened: state.retry(opened, wanted) + (write_back.retry(opened) if everybody else 0),
        clock=invocation.clock,
        wait_s=WAIT_S,
    )
    people.retried(count)


def drop(context: typer.Context, emails: Emails) -> None:
    """Give the waiting change up.

    The contact stays in FluenzR as it is, or stays absent, until a source wants something else of it.
    """
    from syncd.report import people
    from syncd.state import quarantine as state
    from syncd.state import store

    wanted = _addresses(emails)
    invocation: Invocation = context.obj
    count = store.change(
        invocation.settings().state.path,
        lambda opened: state.drop(opened, wanted),
        clock=invocation.clock,
        wait_s=WAIT_S,
    )
    people.dropped(count)


def _addresses(emails: list[str]) -> list[str]:
    return list(dict.fromkeys(address(email) for email in emails))
