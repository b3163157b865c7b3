"""Microsoft Dynamics 365 (Dataverse): contacts, and leads where they are wanted, with company, owner, lists and opt-outs.

A full read walks through all active people in the order of their ids, after it has fetched a token of change tracking. An
incremental read asks what has changed since that token, deletions included, and reads these people anew. Where change tracking
is off for the table, or the user may not read all rows of the organization, it asks by `modifiedon` instead, and deletions show
in a full read only; `check` says so. An inactive person is archived; a merged one has become another; a qualified lead its contact.
Companies that changed bring their people again; owners that were renamed show in a full read only.

`_opted_out`: `donotemail`, `donotbulkemail`, or an opt-out of any of the addresses in the consent center (Customer Insights -
Journeys), where the environment has one. A field of a lookup is the id, with "name" behind it the text that users see
(`ownerid`, `owneridname`); the same for choices (`statecode`, `statecodename`).

Login: an application user, by client credentials. Source: connectors reference, section 5 (Dynamics 365). Limits: 6,000 requests
and 20 minutes of work in 5 minutes [M], 5,000 rows a page [S4].
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from connectors.dynamics import lists, tracking
from connectors.dynamics.consents import CONSENTS
from connectors.dynamics.lists import LISTS
from connectors.dynamics.people import OPT_OUTS, OPTED_OUT
from connectors.dynamics.reading import JOINED, Reading, Wishes, one_row
from connectors.dynamics.vendor import DYNAMICS, PAGE_ROWS, Table, columns, needs, tables
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied, SourceError
from syncd.http import Api, BaseUrl, OAuth
from syncd.secret import Secret

LOGIN_URL = "https://login.microsoftonline.com"
HEADERS = {"OData-Version": "4.0", "OData-MaxVersion": "4.0"}
NAMED_MAX = 3  # lists in one line of `check`


class DynamicsOptions(Options):
    """The login is an app registration that is an application user of the environment."""

    base_url: BaseUrl
    """The environment's address (`https://NAME.crm4.dynamics.com`)."""
    client_id: Annotated[str, Field(min_length=1)]
    """Of the app registration."""
    client_secret: Secret
    """Of the same app registration."""
    tenant: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$")] | None = None
    """The directory's id or domain."""
    token_url: BaseUrl | None = None
    """Where tokens are handed out, for national clouds."""
    api_version: Annotated[str, Field(pattern=r"^9\.[0-9]$")] = "9.2"
    """Of the Web API."""
    tables: Annotated[tuple[Literal["contact", "lead"], ...], Field(min_length=1)] = ("contact",)
    """Whose records are read."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address too."""
    lists: tuple[str, ...] | None = None
    """The names of the marketing lists that `_lists` may hold; without it, all of them. A dynamic list whose query cannot be run (of
    another table, or a ranking) is refused: then name the others.
    """
    page_rows: Annotated[int, Field(ge=1, le=PAGE_ROWS)] = PAGE_ROWS
    """Fewer, where rows are so long that an answer becomes too large."""

    @model_validator(mode="after")
    def _fits(self) -> "DynamicsOptions":
        if self.tenant is None and self.token_url is None:
            raise ValueError("tenant, or token_url")
        if len(set(self.tables)) != len(self.tables):
            raise ValueError("each of the tables once")
        return self


class DynamicsConnector:
    """One Dataverse environment."""

    OPTIONS: ClassVar[type[Options]] = DynamicsOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        archivals=True,
        merges=True,
        fields_known=True,
        joins=frozenset(JOINED),
        memberships=frozenset({"_lists"}),
        opt_outs=(OPTED_OUT, *OPT_OUTS),
        caps="6,000 requests in 5 minutes; reads everything after 7 days without a read",
        sweep=(
            "needs a full read a day for owners that were renamed, and, where change tracking is off or not allowed (`check` says so),"
            " for what was deleted"
        ),
    )
    SUMMARY: ClassVar[str] = (
        "Dynamics 365: contacts and leads, with company, owner, lists, opt-outs"
    )

    def __init__(self, options: DynamicsOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._base = f"/api/data/v{options.api_version}"
        self._login = OAuth(
            options.token_url or f"{LOGIN_URL}/{options.tenant}/oauth2/v2.0/token",
            {
                "grant_type": "client_credentials",
                "client_id": options.client_id,
                "client_secret": options.client_secret,
                "scope": f"{options.base_url}/.default",
            },
            clock=context.clock,
        )

    def check(self) -> str:
        """Ask for one of everything: what a run would be refused is named, and whether deletions can be seen."""
        with self._api() as api:
            found = tables(api, self._base, [*self._options.tables, *JOINED.values()])
            said: list[str] = []
            for name in self._options.tables:
                one_row(api, self._of(found, name))
                said += _about(api, self._base, found[name])
            said += self._lacking(api, found)
        names = " and ".join(self._options.tables)
        return ", ".join([f"Dynamics 365: {names} can be read", *said])

    def fields(self) -> list[SourceField]:
        """All columns of the tables that are read, and the labels of choices and lookups."""
        found: dict[str, str] = {}
        with self._api() as api:
            for name in self._options.tables:
                for one in columns(api, self._base, name).values():
                    found.setdefault(one.name, one.label)
        return [SourceField(name, label) for name, label in sorted(found.items())]

    def preset(self) -> Preset:
        """The standard columns, which contacts and leads have both; a lead's company stands in `_company`, too."""
        return Preset(
            fields={
                "email": "emailaddress1",
                "firstName": "firstname",
                "lastName": "lastname",
                "company": "_company.name",
                "jobTitle": "jobtitle",
                "phone": {"expr": "telephone1 or mobilephone"},
                "website": "websiteurl",
            },
            opted_out=OPTED_OUT,
        )

    def token(self) -> None:
        """There is none: Dataverse must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All people, or what was changed, deleted, deactivated, merged or put into a list since the cursor."""
        options = self._options
        wishes = Wishes(
            base=self._base,
            people=options.tables,
            lists=options.lists,
            all_emails=options.emails == "all",
            rows_max=options.page_rows,
        )
        with self._api() as api:
            yield from Reading(api, request, wishes).events()

    def _api(self) -> Api:
        return Api(self._options.base_url, DYNAMICS, self._login, self._clock, headers=HEADERS)

    def _of(self, found: dict[str, Table], name: str) -> Table:
        if name not in found:
            raise SourceError(
                f"Dynamics 365: this environment has no table {name}",
                hint="Leads come with the Sales app: leave them out of `tables`, or install it",
            )
        return found[name]

    def _lacking(self, api: Api, found: dict[str, Table]) -> Iterator[str]:
        """What else a mapping may use and this login may not read."""
        for join, name in JOINED.items():
            if name not in found:
                if name != CONSENTS:
                    yield f"not {join}: the environment has no table {name}"
                continue
            try:
                one_row(api, found[name])
            except SourceDenied:
                yield f"not {join}: {needs(name)} is missing"
                continue
            if name == LISTS:
                yield from self._not_runnable(api, found)

    def _not_runnable(self, api: Api, found: dict[str, Table]) -> Iterator[str]:
        people: dict[str, Table] = {name: found[name] for name in self._options.tables}
        names = lists.not_runnable(api, found[LISTS], people, self._options.lists)
        if names:
            shown = ", ".join(names[:NAMED_MAX]) + (", ..." if len(names) > NAMED_MAX else "")
            yield f"not _lists: the queries of dynamic lists cannot be run ({shown}): name the others in `lists`"


def _about(api: Api, base: str, table: Table) -> Iterator[str]:
    """How changes of a table are seen, and which opt-outs may be hidden."""
    reason = tracking.untracked(api, table)
    if reason:
        yield f"deletions of {table.name} show in a full read only: {reason}"
    else:
        yield f"changes and deletions of {table.name} are tracked"
    known = columns(api, base, table.name)
    for name in OPT_OUTS:
        if name not in known:
            yield f"not {name} of {table.name}: the column is not shown"
        elif known[name].secured:
            yield f"{name} of {table.name} is a secured column: the user needs a column security profile that may read it"
