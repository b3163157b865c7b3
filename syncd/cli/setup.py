"""`init`, `check` and `connectors`: from nothing to a configuration that is known to work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli import completion
from syncd.cli.invocation import Invocation
from syncd.errors import ConfigError, UsageError
from syncd.report.text import say, say_json, talk

if TYPE_CHECKING:
    from syncd.config import Settings

Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object a line.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example:  syncd init --connector csv --yes --set path=people.csv")(init)
    app.command(epilog="Example:  syncd check --offline")(check)
    app.command(epilog="Example:  syncd connectors csv")(connectors)


def init(
    context: typer.Context,
    *,
    connector: Annotated[
        str | None,
        typer.Option(
            "--connector",
            metavar="NAME",
            help="See `syncd connectors`.",
            autocompletion=completion.connectors,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
    given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the connector; repeatable."),
    ] = None,
) -> None:
    """Write a commented configuration.

    Asks for the source, the mapping (suggested from the source's own fields) and the groups.
    """
    from syncd import init as initial

    invocation: Invocation = context.obj
    invocation.log()
    path = (invocation.path or Path("config.toml")).absolute()
    if path.exists():
        raise UsageError(
            f"{path} is there already",
            hint="Name another: syncd --config FILE init, or move it away",
        )
    options = dict(_pair(text) for text in given or ())
    if yes:
        if connector is None:
            raise UsageError(
                "--yes asks nothing, so it needs --connector NAME", hint="See: syncd connectors"
            )
        wish = initial.Wish(connector=connector, options=options)
    else:
        wish = initial.ask(connector, options, folder=path.parent)
    draft = initial.draft(wish, folder=path.parent)
    initial.write(path, draft.text)
    say(f"Wrote {path}")
    for note in draft.notes:
        say(f"  {note}")
    say(f"Next: {_prefix(invocation)}check")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r} cannot be read", hint="Write --set path=people.csv")
    return key.strip(), value


def _prefix(invocation: Invocation) -> str:
    """How the next command begins, so that it finds the same file."""
    return f"syncd --config {invocation.path} " if invocation.path else "syncd "


def check(
    context: typer.Context,
    *,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask FluenzR.")] = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Find out what the API's reference leaves open, with one made-up contact that is"
            " created and deleted again.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Look at everything that a run needs.

    Each failure comes with what to do.

    \b
    Exit codes: 0 fine; 1 something cannot be reached; 2 the configuration is wrong.
    """
    from syncd.check import Finding, findings, gravest
    from syncd.cli.signals import stopping
    from syncd.report.checks import finding_json, finding_words, verdict

    if offline and probe:
        raise UsageError("--offline and --probe exclude each other")
    invocation: Invocation = context.obj
    found: list[Finding] = []
    with stopping(invocation.clock):
        for finding in findings(invocation.settings, offline=offline, clock=invocation.clock):
            found.append(finding)
            (finding_json if json else finding_words)(finding)
    code = gravest(found)
    if probe and not code:
        _probe(invocation, invocation.settings(), json=json)
    if not json:
        verdict(found)
    raise typer.Exit(code)


def _probe(invocation: Invocation, settings: "Settings", *, json: bool) -> None:
    from syncd import probe
    from syncd.check import client
    from syncd.report.checks import probe_words
    from syncd.state.store import save_probe

    email = probe.address()
    talk(f"Creating the made-up contact {email}, in no group, and deleting it again")
    with client(settings, invocation.clock) as api:
        answers = probe.probe(api, email, probe.custom_fields(settings))
    save_probe(settings.state.path, dict(answers), clock=invocation.clock)
    if json:
        say_json({"probe": answers})
    else:
        say()
        probe_words(answers)


def connectors(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One in detail.", autocompletion=completion.connectors),
    ] = None,
) -> None:
    """The installed connectors, their options."""
    from syncd import registry
    from syncd.report.checks import connector_list, connector_words

    if name is not None:
        connector_words(name, registry.load(name))
        return
    found = []
    for one in registry.names():
        try:
            found.append((one, registry.load(one).SUMMARY))
        except ConfigError as error:
            found.append((one, f"cannot be used: {error}"))
    connector_list(found)
