"""Airtable: the records of one table, with linked tables, collaborators and views.

The columns are the user's own, so there is no mapping beforehand: `syncd init` writes one from their names and kinds. A full read lists all
records of the table; an incremental one those that were changed or made since, and those in which a changed record of another table
shows. A deleted record is told nowhere: the next full read finds it. With a column in use whose changes Airtable does not tell
(`check` names these), each read is a whole one. A link shows the names of the records that it leads to.

Source: connectors reference, section 11 (Airtable). Limits: 5 requests a second for a base, else none for 30 seconds [S2]; 1,000 or
100,000 requests a month on the smaller plans [S4].
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from connectors.airtable.reading import JOINED, Reading, Wishes
from connectors.airtable.schema import SYNCED, Base, Table, Untold, read_base
from connectors.airtable.vendor import AIRTABLE, records
from syncd.connector import Abilities, Context, Event, Options, Request, SourceField
from syncd.http import Api, BaseUrl, Token, TokenOrApp

NAMED_MAX = 3  # columns in one line of `check`
HOLDS = {
    "email": "email",
    "phoneNumber": "phone",
    "url": "website",
}  # a column's kind -> FluenzR's field


class AirtableOptions(TokenOrApp):
    """token: a personal access token; or client_id, client_secret and refresh_token of an OAuth integration, the last as file:PATH, for
    Airtable replaces it at each use.
    """

    base: Annotated[str, Field(pattern=r"^app[A-Za-z0-9]+$")]
    """The id in the base's address (`app...`)."""
    table: Annotated[str, Field(min_length=1)]
    """Its name or id."""
    base_url: BaseUrl = "https://api.airtable.com"
    """Where the API is, for a proxy or a sandbox."""
    token_url: BaseUrl = "https://airtable.com/oauth2/v1/token"  # noqa: S105  an address
    """Where tokens are handed out, for a proxy or a sandbox."""
    emails: tuple[str, ...] = ()
    """The columns that hold addresses: `_email` is the first, each other one makes a person of its own."""
    company: str | None = None
    """The column of links whose first one is `_company`."""
    owner: str | None = None
    """The column of links or collaborators whose first one is `_owner`."""
    views: tuple[str, ...] = ()
    """Names of views, whose members `_lists` tells; each costs a listing of its members in every run, and everybody is read when they are
    others.
    """

    @model_validator(mode="after")
    def _kept(self) -> "AirtableOptions":
        if self.refresh_token and not self.refresh_token.reference.startswith("file:"):
            raise ValueError("refresh_token as file:PATH: Airtable replaces it at each use")
        return self


class AirtableConnector:
    """One table of one base."""

    OPTIONS: ClassVar[type[Options]] = AirtableOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        fields_known=True,
        joins=JOINED,
        memberships=frozenset({"_lists"}),
        caps="answers 100 records a request, 5 requests a second and, on smaller plans, 1,000 or 100,000 a month",
        sweep="needs a full read for deleted records; each read is a whole one where a column's changes are not told (`check` names it)",
    )
    SUMMARY: ClassVar[str] = "Airtable: a table, with linked records, collaborators and views"

    def __init__(self, options: AirtableOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = options.login(Token, options.token_url, context.clock, basic=True)

    def check(self) -> str:
        """Ask for the base and for one page; a column or view of the options that is not there is named."""
        with self._table() as (api, base, table):
            Reading(api, Request(), base, table, self._wishes())
            next(records(api, base.path(table), [table.primary]))
        found = f"Airtable: the table {table.name!r} with {len(table.columns)} columns can be read"
        return ", ".join([found, *_whole_reads(base, table)])

    def fields(self) -> list[SourceField]:
        """The table's columns, by their names."""
        with self._table() as (_, _, table):
            return [
                SourceField(one.name, one.kind, holds=HOLDS.get(one.kind, ""))
                for one in table.columns.values()
                if one.name not in JOINED
            ]

    def preset(self) -> None:
        """There is none: the columns are the user's own, and one that was guessed wrong would hide an opt-out."""

    def token(self) -> None:
        """There is none: Airtable must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All records, or what has changed since the cursor."""
        with self._table() as (api, base, table):
            yield from Reading(api, request, base, table, self._wishes()).events()

    def _wishes(self) -> Wishes:
        options = self._options
        return Wishes(options.emails, options.company, options.owner, options.views)

    @contextmanager
    def _table(self) -> Iterator[tuple[Api, Base, Table]]:
        with Api(self._options.base_url, AIRTABLE, self._login, self._clock) as api:
            base = read_base(api, self._options.base)
            yield api, base, base.table(self._options.table)


def _whole_reads(base: Base, table: Table) -> Iterator[str]:
    """What makes each read a whole one."""
    if any(one.kind == SYNCED for one in table.columns.values()):
        yield "each read is a whole one: the table is synced from elsewhere"
        return
    untold = []
    for one in table.columns.values():
        try:
            base.links_behind(table, one)
        except Untold:
            untold.append(repr(one.name))
    if untold:
        more = f" and {len(untold) - NAMED_MAX} more" if len(untold) > NAMED_MAX else ""
        yield f"each read is a whole one where one of these is mapped: {', '.join(untold[:NAMED_MAX])}{more}"
