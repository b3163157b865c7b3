"""`campaigns`: which there are, making one from a file, enrolling people, starting and pausing."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.cli.sync import address
from syncd.errors import UsageError
from syncd.report.progress import watcher

if TYPE_CHECKING:
    from syncd.campaigns import Step

WAIT_S = 60.0  # for the lock: a run of the daemon is usually over by then
EXIT_NOT_ALL, EXIT_HELD = 3, 4
PEOPLE_MAX = 1_000_000_000  # more than there are in any account

Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object a line.")]
Name = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Its name, or its id.")]
Allow = Annotated[
    int | None,
    typer.Option(
        "--allow",
        metavar="N",
        min=0,
        max=PEOPLE_MAX,
        help="Mail up to N people, whatever max_enrolments of [guard] says.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say who would be mailed, and send nothing.")
]

campaigns = typer.Typer(
    name="campaigns",
    help="FluenzR's campaigns: list, create, enrol people, start, pause.",
    epilog="Example:  syncd campaigns list",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    campaigns.command("list", epilog="Example:  syncd campaigns list --status active")(
        list_campaigns
    )
    campaigns.command(epilog='Example:  syncd campaigns show "Spring 2026"')(show)
    campaigns.command(epilog="Example:  syncd campaigns create spring.toml --dry-run")(create)
    campaigns.command(epilog="Example:  syncd campaigns start Spring")(start)
    campaigns.command(epilog="Example:  syncd campaigns pause Spring")(pause)
    campaigns.command(epilog="Example:  syncd campaigns resume Spring")(resume)
    campaigns.command(epilog="Example:  syncd campaigns enrol Spring --group Customers")(enrol)
    app.add_typer(campaigns)


def list_campaigns(
    context: typer.Context,
    *,
    status: Annotated[
        str | None,
        typer.Option("--status", help="Only draft, active, paused, completed or archived ones."),
    ] = None,
    json: Json = False,
) -> None:
    """The account's campaigns, with what they have come to."""
    from syncd.check import client
    from syncd.report import campaigns as report

    invocation: Invocation = context.obj
    with client(invocation.settings(), invocation.clock) as api, stopping(invocation.clock):
        found = api.campaigns(status=status)
    report.listed(found, json=json)


def show(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """One campaign: its settings, and what it and each of its e-mails have come to."""
    from syncd import campaigns as engine
    from syncd.check import client
    from syncd.report import campaigns as report

    invocation: Invocation = context.obj
    with client(invocation.settings(), invocation.clock) as api, stopping(invocation.clock):
        found = engine.show(name, api=api)
    report.shown_whole(found, json=json)


def create(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A campaign in TOML.")],
    *,
    allow: Allow = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Make a campaign from a file, with its people, and start it.

    A second time changes nothing: what is there is left as it is, and nobody is enrolled twice.

    \b
    name = "Spring"
    emailAccountId = "acc_1"
    groups = ["Customers"]      # everybody in them is enrolled
    start = true                # else it stays a draft
    [settings]
    sendDays = ["monday"]
    maxEmailsPerHour = 50
    [workflow]
    nodes = [...]               # as FluenzR's API has them
    edges = [...]

    \b
    Exit codes: 0 done; 3 somebody was refused or is in doubt; 4 more people would be mailed than
    max_enrolments of [guard] allows, and nothing was sent.
    """
    from syncd import campaign_file
    from syncd import campaigns as engine
    from syncd.check import client
    from syncd.report import campaigns as report

    invocation: Invocation = context.obj
    settings, clock = invocation.settings(), invocation.clock
    file = campaign_file.load(path)
    with client(settings, clock) as api, stopping(clock), watcher(wanted=not json) as watch:
        found = engine.create(
            settings, file, allow=allow, dry_run=dry_run,
            api=api, clock=clock, watch=watch, wait_s=WAIT_S,
        )  # fmt: skip
    report.created(found, again=f"syncd campaigns create {path}", dry_run=dry_run, json=json)
    raise typer.Exit(_exit_code(found.enrolment.held, found.enrolment.left))


def enrol(
    context: typer.Context,
    name: Name,
    *,
    groups: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="GROUP", help="Everybody in it; may be given again."),
    ] = None,
    emails: Annotated[
        list[str] | None,
        typer.Option("--email", metavar="ADDRESS", help="This person; may be given again."),
    ] = None,
    allow: Allow = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Enrol people in a campaign, each once for ever. An active campaign mails them at once.

    Who has opted out, replied, or was in the campaign before is left out.

    \b
    Exit codes: 0 done; 3 somebody was refused or is in doubt; 4 more people would be mailed than
    max_enrolments of [guard] allows, and nothing was sent.
    """
    from syncd import enrolment as engine
    from syncd.check import client
    from syncd.report import campaigns as report

    choice = engine.Choice(tuple(groups or ()), tuple(address(one) for one in emails or ()))
    if not choice.groups and not choice.emails:
        raise UsageError("Nobody is named", hint="Say who: --group GROUP, or --email ADDRESS")
    invocation: Invocation = context.obj
    settings, clock = invocation.settings(), invocation.clock
    with client(settings, clock) as api, stopping(clock), watcher(wanted=not json) as watch:
        found = engine.enrol(
            settings, name, choice, allow=allow, dry_run=dry_run,
            api=api, clock=clock, watch=watch, wait_s=WAIT_S,
        )  # fmt: skip
    report.enrolled(found, again=_again(name, choice), dry_run=dry_run, json=json)
    raise typer.Exit(_exit_code(found.held, found.left))


def start(context: typer.Context, name: Name, *, allow: Allow = None, json: Json = False) -> None:
    """Start a draft: whoever is in it is mailed.

    Exit code 4: more people are in it than max_enrolments of [guard] allows; nothing was sent.
    """
    _step(context.obj, name, "start", allow=allow, json=json)


def resume(context: typer.Context, name: Name, *, allow: Allow = None, json: Json = False) -> None:
    """Go on with a paused campaign: whoever waits in it is mailed.

    Exit code 4: more people are in it than max_enrolments of [guard] allows; nothing was sent.
    """
    _step(context.obj, name, "resume", allow=allow, json=json)


def pause(context: typer.Context, name: Name, *, json: Json = False) -> None:
    """Stop a campaign's e-mails until it is resumed."""
    _step(context.obj, name, "pause", allow=None, json=json)


def _step(invocation: Invocation, name: str, step: str, *, allow: int | None, json: bool) -> None:
    from syncd import campaigns as engine
    from syncd.check import client
    from syncd.report import campaigns as report

    settings = invocation.settings()
    with client(settings, invocation.clock) as api, stopping(invocation.clock):
        found: Step = engine.step(settings, name, step, allow=allow, api=api)
    report.stepped(found, step, again=f"syncd campaigns {step} {_quoted(name)}", json=json)
    raise typer.Exit(_exit_code(found.held, 0))


def _exit_code(held: str, left: int) -> int:
    if held:
        return EXIT_HELD
    return EXIT_NOT_ALL if left else 0


def _again(name: str, choice: "object") -> str:
    from syncd.enrolment import Choice

    assert isinstance(choice, Choice)
    words = [f"--group {_quoted(group)}" for group in choice.groups]
    words += [f"--email {email}" for email in choice.emails]
    return " ".join(["syncd campaigns enrol", _quoted(name), *words])


def _quoted(text: str) -> str:
    """As a shell takes it."""
    import shlex

    return shlex.quote(text)
