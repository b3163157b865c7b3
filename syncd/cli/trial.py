"""`sandbox` and `demo`: trying everything without an account."""

from pathlib import Path
from typing import Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.report import trial

HOST = "127.0.0.1"
PORT = 8025
KEY = "flz_sk_" + "0" * 32  # the sandbox takes any key of the right shape


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example:  syncd sandbox --port 8025")(sandbox)
    app.command(epilog="Example:  syncd demo --folder ./demo")(demo)


def sandbox(
    context: typer.Context,
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = PORT,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="Requests a minute.")
    ] = 1000,
) -> None:
    """A FluenzR-compatible server on this machine.

    With a small page that shows contacts, groups, and the e-mails that would have gone out.
    """
    from syncd.sandbox import Sandbox

    invocation: Invocation = context.obj
    server = Sandbox(clock=invocation.clock, limit=limit)
    server.run_forever(
        HOST, port, on_ready=lambda s: trial.sandbox_ready(url=s.url, page_url=s.page_url, key=KEY)
    )


def demo(
    context: typer.Context,
    *,
    folder: Annotated[
        Path | None, typer.Option("--folder", help="An empty one; a temporary one by default.")
    ] = None,
) -> None:
    """The whole story, in a folder of its own.

    5,000 made-up people and a sandbox: a plan, a first sync, a second with nothing to do, some
    changes, and a mistake that is held. Takes a few seconds.
    """
    from syncd.demo import Demo

    invocation: Invocation = context.obj
    with stopping(invocation.clock), Demo(folder, clock=invocation.clock) as story:
        for number, part in enumerate(story.chapters(), start=1):
            trial.chapter(number, part)
        trial.demo_over(story)
