"""`status`, `history`, `why` and `approve`: what the state tells, and the release of what a guard holds."""

import contextlib
import getpass
import os
from typing import Annotated

import typer

from syncd.cli import completion
from syncd.cli.invocation import Invocation
from syncd.cli.sync import NUMBER_MAX, address
from syncd.report.text import count, say, talk

RUNS_SHOWN_MAX = 20  # of the history; one run is shown by its number, however old
STUCK_SHOWN_MAX = 20
APPROVE_WAIT_S = 60.0  # a run of the daemon is usually over by then

Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object a line.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example:  syncd status --json")(status)
    app.command(epilog="Example:  syncd history 12")(history)
    app.command(epilog="Example:  syncd why ann@example.com")(why)
    app.command(epilog="Example:  syncd approve 12 customers")(approve)


def status(context: typer.Context, *, json: Json = False) -> None:
    """How each sync stands, and what waits.

    Last and next run, numbers, the age of its data, what is held or refused and why.
    """
    from syncd.report import past
    from syncd.state import marker, quarantine, story, unusable

    invocation: Invocation = context.obj
    settings = invocation.settings()
    now_s = invocation.clock.now_s()
    if marker.standing(settings.state.path) is marker.Standing.RESTORED:
        talk("This state is not the newest one: nothing is sent before `syncd reconcile`")
    with story.reading(settings.state.path) as db:
        blocks = past.outlook(settings, db, now_s=now_s)
        account = story.account(db) if db else None
        stuck = quarantine.stuck(db, limit=STUCK_SHOWN_MAX) if db else []
        records = unusable.known(db, limit=STUCK_SHOWN_MAX) if db else ([], 0)
    if json:
        for one in blocks:
            past.status_json(one, now_s=now_s)
        return
    past.status_words(blocks, now_s=now_s)
    if account is not None:
        budget = settings.fluenzr.requests_per_minute * settings.fluenzr.share
        past.account_words(account, requests_per_minute=budget, now_s=now_s)
        past.waiting_words(stuck, now_s=now_s)
        past.unusable_words(*records)


def history(
    context: typer.Context,
    number: Annotated[
        int | None, typer.Argument(metavar="RUN", max=NUMBER_MAX, help="One run in detail.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Past runs; with RUN, what that one did."""
    from syncd.report import past
    from syncd.state import story

    invocation: Invocation = context.obj
    with story.reading(invocation.settings().state.path) as db:
        if number is not None:
            run = story.run(db, number) if db else story.no_run(number)
            changes = story.changes_of_run(db, number) if db else []
            if json:
                past.run_json(run, changes)
            else:
                past.run_words(run, changes)
            return
        runs = story.runs(db, limit=RUNS_SHOWN_MAX) if db else []
    if json:
        for one in runs:
            past.run_json(one)
    else:
        past.history_words(runs)


def why(
    context: typer.Context,
    email: Annotated[str, typer.Argument(metavar="EMAIL")],
    *,
    json: Json = False,
) -> None:
    """Everything that is known about one person.

    Records, by which rule and of which sync each value and group is, what was sent when and who
    approved it; or why somebody is not in FluenzR, and since when.
    """
    from syncd.report.person import person_json, person_words
    from syncd.state import dossier, story

    invocation: Invocation = context.obj
    settings = invocation.settings()
    wanted, path = address(email), settings.state.path
    with story.reading(path) as db:
        person, reads = dossier.of_address(path, db, wanted, list(settings.syncs))
    rules = {name: sync.rules() for name, sync in settings.syncs.items()}
    if json:
        person_json(person)
    else:
        person_words(person, now_s=invocation.clock.now_s(), rules=rules, reads=reads)


def approve(
    context: typer.Context,
    run: Annotated[
        int, typer.Argument(metavar="RUN", max=NUMBER_MAX, help="The run whose changes are held.")
    ],
    sync: Annotated[
        str | None,
        typer.Argument(
            metavar="SYNC", help="All of it by default.", autocompletion=completion.syncs
        ),
    ] = None,
) -> None:
    """Release what a guard held in that run, once.

    Exactly the changes that were held: the next `syncd sync` sends them; what is new and exceeds a
    limit is held again.
    """
    from syncd.state import approvals, store, story

    invocation: Invocation = context.obj
    path, by, now_s = invocation.settings().state.path, _user(), invocation.clock.now_s()
    with story.reading(path) as db:
        if db is None:
            story.no_run(run)
    released = store.change(
        path,
        lambda state: approvals.approve(state.db, run, sync, by=by, now_s=now_s),
        clock=invocation.clock,
        wait_s=APPROVE_WAIT_S,
    )
    say(f"Approved: {count(released, 'change')} of run {run}" + (f", {sync}" if sync else ""))
    say(f"Next: syncd sync{' ' + sync if sync else ''}  (or wait for the daemon)")


def _user() -> str:
    """Who types: for `why` and `history`."""
    with contextlib.suppress(KeyError, OSError):
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return f"user {os.getuid()}"  # a container need not know its users
