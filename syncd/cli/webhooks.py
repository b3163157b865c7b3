"""`webhooks`: FluenzR's events, received and registered."""

from typing import Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping

Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object a line.")]

webhooks = typer.Typer(
    name="webhooks",
    help="FluenzR's events: opt-outs within a second.",
    epilog="Example:  syncd webhooks register",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    webhooks.command(epilog="Example:  syncd webhooks serve")(serve)
    webhooks.command("list", epilog="Example:  syncd webhooks list --json")(list_webhooks)
    webhooks.command("register", epilog="Example:  syncd webhooks register")(register_webhook)
    webhooks.command(epilog="Example:  syncd webhooks delete whk_1a2b3c")(delete)
    webhooks.command(epilog="Example:  syncd webhooks rotate")(rotate)
    app.add_typer(webhooks)


def serve(context: typer.Context) -> None:
    """Receive events without the daemon, until SIGTERM or Ctrl-C.

    `syncd run` does so itself where the configuration has [http] and [webhooks]. What comes is kept on
    the disk before it is answered, and applied as soon as no other command holds the state.
    """
    from syncd import webhooks as engine
    from syncd.config_models import HttpSettings
    from syncd.report import webhooks as report

    invocation: Invocation = context.obj
    settings = invocation.settings(service=True)
    address = (settings.http or HttpSettings()).listen
    with stopping(invocation.clock):
        engine.receive(settings, address, clock=invocation.clock, on_ready=report.ready)


def list_webhooks(context: typer.Context, *, json: Json = False) -> None:
    """The account's webhooks, ours marked."""
    from syncd.check import client
    from syncd.report import webhooks as report

    invocation: Invocation = context.obj
    settings = invocation.settings()
    with client(settings, invocation.clock) as api, stopping(invocation.clock):
        found = api.webhooks()
    ours = settings.webhooks.public_url if settings.webhooks else None
    report.listed(found, ours=ours, json=json)


def register_webhook(context: typer.Context) -> None:
    """Ask FluenzR to send its events to [webhooks] public_url.

    A second time changes nothing. Where the secret is a file that is not there yet, it is made.
    """
    from syncd import webhooks as engine
    from syncd.check import client
    from syncd.report import webhooks as report

    invocation: Invocation = context.obj
    settings = invocation.settings()
    with client(settings, invocation.clock) as api, stopping(invocation.clock):
        webhook, changed = engine.register(settings, api)
    report.registered(webhook, changed=changed, listens=settings.http is not None)


def delete(
    context: typer.Context, webhook_id: Annotated[str, typer.Argument(metavar="ID")]
) -> None:
    """Ask FluenzR to send nothing there any more."""
    from syncd.check import client
    from syncd.report import webhooks as report

    invocation: Invocation = context.obj
    with client(invocation.settings(), invocation.clock) as api, stopping(invocation.clock):
        api.delete_webhook(webhook_id)
    report.deleted(webhook_id)


def rotate(context: typer.Context) -> None:
    """Replace the secret that FluenzR signs its events with.

    While it is replaced both are taken, so that no event is refused; a daemon that runs goes on.
    """
    from syncd import webhooks as engine
    from syncd.check import client
    from syncd.report import webhooks as report

    invocation: Invocation = context.obj
    settings = invocation.settings()
    with client(settings, invocation.clock) as api, stopping(invocation.clock):
        report.rotated(engine.rotate(settings, api))
