"""`plan`, `sync` and `run`: what would change, changing it, and doing so on a schedule."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli import completion
from syncd.cli.invocation import Invocation
from syncd.cli.signals import stopping
from syncd.errors import Interrupted, SyncdError, UsageError
from syncd.report.progress import watcher
from syncd.report.text import failures, shown

if TYPE_CHECKING:
    from syncd.clock import SystemClock
    from syncd.config import Settings
    from syncd.core.result import PlanResult, SyncResult
    from syncd.run import Order
    from syncd.sealed import Writer

NUMBER_MAX = 1_000_000_000  # more than there are people in any account, or runs in any history

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="SYNC", help="All by default.", autocompletion=completion.syncs),
]
Json = Annotated[bool, typer.Option("--json", help="JSON alone on stdout, one object per sync.")]
Email = Annotated[
    str | None,
    typer.Option("--email", metavar="ADDRESS", help="Only this person: a careful first try."),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit",
        metavar="N",
        min=1,
        max=NUMBER_MAX,
        help="Only the first N people who would change.",
    ),
]
Wait = Annotated[
    float,
    typer.Option(
        "--wait", metavar="SECONDS", min=0, help="How long to wait while another process works."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Seal the plan: `syncd sync --plan FILE` sends it."),
]
Plan = Annotated[
    Path | None,
    typer.Option(
        "--plan", metavar="FILE", help="Exactly this sealed plan; what has moved since is listed."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example:  syncd plan customers --limit 10 --out friday.plan")(plan)
    app.command(epilog="Example:  syncd sync customers --email ann@example.com")(sync)
    app.command(epilog="Example:  syncd --config /etc/fluenzr-syncd/config.toml run")(run)


def plan(
    context: typer.Context,
    names: Names = None,
    *,
    json: Json = False,
    email: Email = None,
    limit: Limit = None,
    wait: Wait = 0.0,
    out: Out = None,
) -> None:
    """Show what would change, first of all who would be mailed.

    Sends nothing, keeps nothing. Exit code 0 whenever the plan could be made, also when a guard
    would hold it.
    """
    order = _order(names, full=False, wait=wait, email=email, limit=limit)
    raise typer.Exit(_plan(context.obj, order, json=json, out=out))


def sync(
    context: typer.Context,
    names: Names = None,
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Read the sources whole, also where less would do.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="The same as `syncd plan`: send nothing.")
    ] = False,
    json: Json = False,
    wait: Wait = 0.0,
    email: Email = None,
    limit: Limit = None,
    sealed: Plan = None,
) -> None:
    """One run of each named sync.

    \b
    Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 finished, but something
    could not be delivered; 4 held by a guard; 5 another process holds the state; 130 stopped.
    """
    order = _order(names, full=full, wait=wait, email=email, limit=limit)
    if sealed is not None:
        if names or full or dry_run or order.chosen:
            raise UsageError(
                "--plan is exactly that plan: it takes no SYNC, --full, --dry-run, --email or --limit",
                hint=f"syncd sync --plan {sealed}",
            )
        order = _order_of(sealed, wait=wait)
    invocation: Invocation = context.obj
    if dry_run:
        raise typer.Exit(_plan(invocation, order, json=json))
    from syncd import run as engine
    from syncd.report import outcome

    settings = invocation.settings()
    clock = invocation.clock
    with _looking(settings, clock), stopping(clock), watcher(wanted=not json) as watch:
        results = engine.sync(settings, order, clock=clock, watch=watch)
    (outcome.as_json if json else outcome.in_words)(results)
    failures(((result.sync, result.error) for result in results), json=json)
    if not any(result.error for result in results):  # where something fails, this would too
        _keep_statistics(settings, clock)
    raise typer.Exit(exit_code(results))


@contextmanager
def _looking(settings: "Settings", clock: "SystemClock") -> Iterator[None]:
    """After the run, also one that failed: its metrics and alerts; its outcome does not hang on them."""
    from syncd.lookout import look

    try:
        yield
    except Interrupted:
        raise  # somebody waits for the end
    except SyncdError:
        look(settings, clock=clock)
        raise
    look(settings, clock=clock)


def _keep_statistics(settings: "Settings", clock: "SystemClock") -> None:
    """Once a day, after the run: its outcome does not hang on it."""
    from syncd import statistics
    from syncd.check import client

    if statistics.is_due(settings, clock):
        with client(settings, clock) as api, stopping(clock):
            statistics.keep(settings, api=api, clock=clock)


def run(context: typer.Context) -> None:
    """The daemon: run each sync on its schedule.

    SIGTERM ends it with exit code 0; SIGHUP makes it read the configuration again.
    """
    from syncd.daemon import serve

    invocation: Invocation = context.obj
    invocation.settings(service=True)
    raise typer.Exit(serve(invocation.path, clock=invocation.clock))


def exit_code(results: "Iterable[SyncResult]") -> int:
    """That of the gravest; where every failure is the configuration's, it is 2."""
    from syncd.core.result import Status, gravest

    listed = list(results)
    failures = {result.exit_code or 1 for result in listed if result.status is Status.FAILED}
    return failures.pop() if len(failures) == 1 else gravest([result.status for result in listed])


def _plan(invocation: Invocation, order: "Order", *, json: bool, out: Path | None = None) -> int:
    from syncd import run as engine
    from syncd.report.plan import PlanJson, PlanWords, sealed_words

    settings = invocation.settings()
    clock = invocation.clock
    then = _then(order) if out is None else f"syncd sync --plan {out}"
    with _sealing(out, settings, order, now_s=clock.now_s()) as seal:
        with PlanJson() if json else PlanWords(then) as report:
            with stopping(clock), watcher(wanted=not json) as watch:
                results = engine.plan(
                    settings, order, clock=clock, watch=watch,
                    show=report.show, seal=None if seal is None else seal.add,
                )  # fmt: skip
            report.finish(results)
        failures(((result.sync, result.error) for result in results), json=json)
        code = _planned(results)
        if seal is not None and code == 0:
            seal.finish()
        if out is not None:
            sealed_words(out, None if seal is None or code else seal.count)
    return code


def _sealing(
    out: Path | None, settings: "Settings", order: "Order", *, now_s: float
) -> "AbstractContextManager[Writer | None]":
    if out is None:
        return nullcontext()
    from syncd import run as engine
    from syncd.report.text import iso
    from syncd.sealed import Head, Writer

    syncs = engine.versions(settings, order.names)
    return Writer(out, Head(settings.fluenzr.base_url, syncs, iso(now_s) or ""))


def _planned(results: "Iterable[PlanResult]") -> int:
    """0 whenever every plan could be made, also when a guard would hold it."""
    failures = {result.exit_code or 1 for result in results if result.error}
    return failures.pop() if len(failures) == 1 else int(bool(failures))


def _order(
    names: list[str] | None, *, full: bool, wait: float, email: str | None, limit: int | None
) -> "Order":
    from syncd.run import Order

    return Order(
        names=tuple(dict.fromkeys(names or ())),
        full=full,
        wait_s=wait,
        email=None if email is None else address(email),
        limit=limit,
    )


def _order_of(file: Path, *, wait: float) -> "Order":
    """What a sealed plan asks for. Raises UsageError."""
    from syncd.run import Order
    from syncd.sealed import read

    plan = read(file)
    return Order(names=tuple(plan.head.syncs), wait_s=wait, sealed=plan)


def address(text: str) -> str:
    """An address as the state has it. Raises UsageError."""
    from syncd.core.address import AddressError, normalise_address

    try:
        return normalise_address(text)
    except AddressError as error:
        raise UsageError(
            f"{shown(text)} cannot be used as an e-mail address",
            why=str(error),
            hint="Write one such as ann@example.com",
        ) from None


def _then(order: "Order") -> str:
    """The command that carries this plan out."""
    words = ["syncd", "sync", *order.names]
    words += ["--full"] if order.full else []
    words += ["--email", order.email] if order.email else []
    words += ["--limit", str(order.limit)] if order.limit else []
    return " ".join(words)
