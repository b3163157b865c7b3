"""`syncd demo`: the whole story in a folder of its own, with made-up people and the sandbox in this process.

It uses the same run as everybody: what it tells are the results of real syncs against a server that counts
the requests and the e-mails. People are drawn from a fixed seed, so the story is the same each time.
"""

import csv
import random
import secrets
import string
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from syncd import config, run
from syncd.clock import Clock
from syncd.core.change import Change
from syncd.core.result import PlanResult, Status, SyncResult
from syncd.errors import SyncdError, UsageError
from syncd.run import Order
from syncd.sandbox import Sandbox
from syncd.watch import Nobody

PEOPLE, CHANGED, NEW = 5_000, 52, 20
SEED = 20_260_101
FIRST = (
    "Ann",
    "Ben",
    "Chloé",
    "David",
    "Emma",
    "Félix",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Lea",
    "Max",
)
LAST = (
    "Bauer",
    "Costa",
    "Dubois",
    "Evans",
    "Fischer",
    "Garcia",
    "Keller",
    "Lefèvre",
    "Moreau",
    "Rossi",
)
COMPANIES = ("Acme", "Borealis", "Cobalt", "Delphi", "Elm & Co", "Fjord", "Granite", "Harbour")
COLUMNS = ("id", "email", "first_name", "last_name", "company", "score", "unsubscribed")
HOT = 99  # from this score on a person joins the dynamic group: about one in a hundred
SLIP = 9  # what somebody types instead of it
CONFIG = """\
# The configuration of `syncd demo`. The sandbox that it names is gone when the demo is over: to go on,
# start one with `syncd sandbox` and write its address here.

[fluenzr]
api_key = "file:api_key"
base_url = "{url}"

[state]
path = "syncd.db"

[guard]
max_enrolments = 100         # people who would be mailed by one run

[source.crm]
connector = "csv"
path = "people.csv"
key = "id"

[sync.customers]
source = "crm"
schedule = "every 15 minutes"
opted_out = "unsubscribed"
groups = [
  "Customers",               # static: joining it mails nobody
  {{ name = "Drip", when = "score|number >= {hot}" }},   # dynamic: joining it mails
]

[sync.customers.fields]
email = "email"
firstName = "first_name"
lastName = "last_name"
company = "company"

[sync.customers.custom_fields]
score = {{ path = "score", as = "number" }}
"""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One part of the story: what somebody types or does, and what came of it."""

    title: str
    facts: list[str]


class Demo:
    """The folder, the sandbox and the story; a context manager. folder: an empty one, None: a new one."""

    def __init__(self, folder: Path | None, *, clock: Clock) -> None:
        self._given, self._clock = folder, clock
        self._stack = ExitStack()
        self._people = _people(random.Random(SEED))  # noqa: S311 - made-up people, always the same

    def __enter__(self) -> Self:
        self.folder = _empty(self._given)
        self._sandbox = Sandbox(clock=self._clock)
        self._stack.enter_context(self._sandbox.serve())
        self._sandbox.account.add_group("Drip", dynamic=True)
        alphabet = string.ascii_letters + string.digits
        key = "flz_sk_" + "".join(secrets.choice(alphabet) for _ in range(32))
        (self.folder / "api_key").write_text(key, "ascii")
        (self.folder / "api_key").chmod(0o600)
        self._write_people()
        self._write_config(HOT)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    @property
    def config(self) -> Path:
        """The configuration that the demo has written."""
        return self.folder / "config.toml"

    def chapters(self) -> Iterator[Chapter]:
        """The story, each part as soon as it has happened. Raises SyncdError when it goes otherwise."""
        yield Chapter(
            f"{PEOPLE:,} made-up people in people.csv, and an empty FluenzR (the sandbox)",
            [f"folder: {self.folder}"],
        )
        yield self._plan()
        yield self._first()
        yield self._nothing_new()
        yield self._some_changes()
        yield self._mistake()
        yield self._put_right()

    def example(self) -> str:
        """Somebody who was mailed, for `syncd why`."""
        return self._sandbox.account.mailed()[0]

    def _plan(self) -> Chapter:
        result = self._planned()
        return Chapter(
            "syncd plan: what would happen, nothing is sent",
            [
                f"{result.create:,} people would be created",
                f"{result.enrol:,} of them would join the dynamic group Drip, and so be mailed",
                (
                    f"{result.requests:,} requests so far and to come, {result.seconds_at_limit:g} s at the"
                    " API's limit"
                ),
                f"e-mails sent: {self._mails():,}",
            ],
        )

    def _first(self) -> Chapter:
        result = self._synced()
        return Chapter(
            "syncd sync: the first run",
            [
                (
                    f"{result.created:,} people created in {result.seconds:.1f} s, with"
                    f" {result.requests:,} requests (one POST each would have taken {PEOPLE / 1000:g}"
                    " minutes at the API's limit)"
                ),
                f"e-mails sent: {self._mails():,}, to exactly those who were in the plan",
            ],
        )

    def _nothing_new(self) -> Chapter:
        writes, mails = self._sandbox.writes(), self._mails()
        result = self._synced()
        return Chapter(
            "syncd sync: again, with nothing new",
            [
                (
                    f"{result.unchanged:,} people unchanged, {self._sandbox.writes() - writes} changes sent,"
                    f" {result.requests:,} requests, all of them reads, {result.seconds:.1f} s"
                ),
                f"e-mails sent: {self._mails() - mails}",
            ],
        )

    def _some_changes(self) -> Chapter:
        self._edit_people()
        writes, mails = self._sandbox.writes(), self._mails()
        result = self._synced()
        count = result.created + result.updated
        return Chapter(
            f"{CHANGED} people get another company, {NEW} are new; syncd sync",
            [
                (
                    f"{count} of {result.read:,} people sent: {result.created} created, {result.updated}"
                    f" updated, by {self._sandbox.writes() - writes} requests that change something,"
                    f" {result.requests} in all, {result.seconds:.1f} s"
                ),
                f"e-mails sent: {self._mails() - mails}",
            ],
        )

    def _mistake(self) -> Chapter:
        """A slip of the keyboard in the configuration that would mail thousands."""
        mails = self._mails()
        self._write_config(SLIP)
        result = self._synced(expect=Status.HELD)
        return Chapter(
            f"A mistake: somebody types score >= {SLIP} instead of {HOT}; syncd sync",
            [
                *(f"held: {trip}" for trip in result.trips),
                f"{result.held:,} people held, nothing of it was sent; the exit code is 4",
                f"e-mails sent: {self._mails() - mails}",
                f"had it been meant: syncd approve {result.run} customers",
            ],
        )

    def _put_right(self) -> Chapter:
        writes = self._sandbox.writes()
        self._write_config(HOT)
        self._synced()
        return Chapter(
            f"The {HOT} is back; syncd sync",
            [
                f"done, {self._sandbox.writes() - writes} changes to send: the mistake has left no trace"
            ],
        )

    def _planned(self) -> PlanResult:
        changes: list[Change] = []
        settings = config.load(self.config)
        (result,) = run.plan(
            settings, Order(), clock=self._clock, watch=Nobody(), show=changes.append
        )
        if result.error or len(changes) != PEOPLE:
            raise _surprise(result.error)
        return result

    def _synced(self, *, expect: Status = Status.OK) -> SyncResult:
        settings = config.load(self.config)
        (result,) = run.sync(settings, Order(), clock=self._clock, watch=Nobody())
        if result.status is not expect:
            raise _surprise(result.error or "; ".join(result.trips))
        return result

    def _mails(self) -> int:
        return len(self._sandbox.account.outbox)

    def _write_config(self, hot: int) -> None:
        self.config.write_text(CONFIG.format(url=self._sandbox.url, hot=hot), "utf-8")

    def _write_people(self) -> None:
        """As another program should: whole, then renamed."""
        part = self.folder / "people.csv.part"
        with part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(self._people)
        part.replace(self.folder / "people.csv")

    def _edit_people(self) -> None:
        rng = random.Random(SEED + 1)  # noqa: S311 - see above
        for number in rng.sample(range(PEOPLE), CHANGED):
            row = self._people[number]
            self._people[number] = (*row[:4], f"{row[4]} Group", *row[5:])
        self._people += [_person(rng, PEOPLE + 1 + n, score=n) for n in range(NEW)]
        self._write_people()


def _people(rng: random.Random) -> list[tuple[str, ...]]:
    return [_person(rng, number, score=rng.randrange(100)) for number in range(1, PEOPLE + 1)]


def _person(rng: random.Random, number: int, *, score: int) -> tuple[str, ...]:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    email = f"person{number:05}@example.com"
    return (str(number), email, first, last, rng.choice(COMPANIES), str(score), "no")


def _empty(folder: Path | None) -> Path:
    """The folder, made if need be. Raises UsageError when there is something in it."""
    if folder is None:
        return Path(tempfile.mkdtemp(prefix="syncd-demo-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        full = any(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder} cannot be used", why=error.strerror or "") from None
    if full:
        raise UsageError(f"{folder} is not empty", hint="Name an empty folder, or a new one")
    return folder.absolute()


def _surprise(why: str | None) -> SyncdError:
    return SyncdError("The demo did not go as it should", why=why or "", hint="Please report it")
