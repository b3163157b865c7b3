"""`stats`: what the account's campaigns have come to, day by day, and out of here."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.errors import UsageError

DAYS_DEFAULT, DAYS_MAX = 7, 400  # the history reaches back no further

Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object a line.")]
Days = Annotated[
    int,
    typer.Option("--days", metavar="N", min=1, max=DAYS_MAX, help="How far to look back."),
]


class Form(StrEnum):
    """What an export is written as."""

    CSV = "csv"
    JSON = "json"
    SQLITE = "sqlite"


stats = typer.Typer(
    name="stats",
    help="What the campaigns have come to.",
    epilog="Example:  syncd stats --days 30",
    invoke_without_command=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    stats.callback(epilog="Example:  syncd stats --campaign Spring --days 30")(show)
    stats.command(epilog="Example:  syncd stats export --format csv --out stats.csv")(export)
    app.add_typer(stats)


def show(
    context: typer.Context,
    *,
    campaign: Annotated[
        str | None,
        typer.Option("--campaign", metavar="CAMPAIGN", help="Only this one, day by day."),
    ] = None,
    days: Days = DAYS_DEFAULT,
    json: Json = False,
) -> None:
    """All campaigns in a table, and how much of it is new; or one of them day by day.

    Where FluenzR has no timeline, the totals are compared that the first run of each day keeps.
    """
    if context.invoked_subcommand is not None:
        return
    from syncd import campaigns, statistics
    from syncd.check import client
    from syncd.report import statistics as report

    invocation: Invocation = context.obj
    settings, clock = invocation.settings(), invocation.clock
    with client(settings, clock) as api, stopping(clock):
        if campaign is None:
            found = statistics.standings(settings, api=api, clock=clock, days=days)
        else:
            one = campaigns.find(campaign, api=api)
            told = statistics.timeline(settings, one, api=api, clock=clock, days=days)
    if campaign is None:
        report.standings(found, days=days, json=json)
    else:
        report.timeline(told, json=json)


def export(
    context: typer.Context,
    *,
    form: Annotated[Form, typer.Option("--format", help="csv, json or sqlite.")] = Form.CSV,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Else to stdout; SQLite needs a file."),
    ] = None,
    daily: Annotated[
        bool, typer.Option("--daily", help="What was kept of each day, instead of now.")
    ] = False,
    days: Days = DAYS_MAX,
) -> None:
    """All campaigns with their statistics, a row each, by the names of FluenzR's API.

    SQLite gets two tables, `campaign` and `campaign_day`; a row that is there is replaced, so that
    the same file can be written to each day.
    """
    from syncd import statistics
    from syncd.check import client
    from syncd.report import statistics as report

    if form is Form.SQLITE and out is None:
        raise UsageError("SQLite needs a file", hint="Name it: --out stats.db")
    invocation: Invocation = context.obj
    settings, clock = invocation.settings(), invocation.clock
    with client(settings, clock) as api, stopping(clock):
        found = statistics.standings(settings, api=api, clock=clock, days=days)
    kept = statistics.kept(settings, clock, days)
    report.export(found, kept, form=form.value, out=out, daily=daily)
