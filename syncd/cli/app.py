"""The commands of `syncd` and the options before them.

One module a group of commands; each command imports what it needs itself, so that `--help` and the small
commands start fast.
"""

from pathlib import Path
from typing import Annotated

import typer

from syncd import __version__
from syncd.cli import (
    backup,
    campaigns,
    notify,
    past,
    people,
    reconcile,
    setup,
    statistics,
    sync,
    trial,
    undo,
    webhooks,
)
from syncd.cli.invocation import Invocation
from syncd.report.text import say

app = typer.Typer(
    name="syncd",
    help="Keeps FluenzR equal to your CRM, a file or a database, and mails nobody by mistake.",
    epilog="First time? `syncd demo` shows the whole story; `syncd init` writes a configuration.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for group in (
    setup,
    sync,
    past,
    undo,
    people,
    reconcile,
    backup,
    campaigns,
    statistics,
    webhooks,
    notify,
    trial,
):
    group.register(app)


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted:
        say(f"syncd {__version__}")
        raise typer.Exit(0)


@app.callback()
def options(
    context: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            metavar="FILE",
            help="The configuration; else $SYNCD_CONFIG, ./config.toml,"
            " ~/.config/fluenzr-syncd/config.toml, /etc/fluenzr-syncd/config.toml.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Log everything, addresses too, to stderr.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option("--version", "-V", callback=_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    """What stands before the command."""
    invocation = Invocation(config, debug)
    if debug:
        invocation.log()
    context.obj = invocation
