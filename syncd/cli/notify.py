"""`notify`: telling whoever is to be told."""

from typing import Annotated

import typer

from syncd.cli.invocation import Invocation

FAILED = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example:  syncd notify --test")(notify)


def notify(
    context: typer.Context,
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Send a made-up alert to every address instead.")
    ] = False,
) -> None:
    """Tell what has begun to be wrong, and what is over.

    The daemon and `syncd sync` do so themselves where the configuration has [alerts]. A timer that
    runs this tells of what they cannot: that neither of them runs any more. Nothing is told twice.

    \b
    Exit codes: 0 everybody knows; 1 somebody could not be told; 2 wrong configuration.
    """
    from syncd import alerts
    from syncd.report.alerts import delivered

    invocation: Invocation = context.obj
    settings = invocation.settings()
    alerts.configured(settings)
    found = alerts.test(settings) if test else alerts.tell(settings, clock=invocation.clock)
    delivered(found)
    raise typer.Exit(FAILED if any(one.error for one in found) else 0)
