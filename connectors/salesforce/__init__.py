"""Salesforce: contacts, and leads where they are wanted, with company, owner and campaigns.

A full read lists all people in the order of their ids, or lets a job of the Bulk API do so where there are very many. An
incremental read asks for what was changed within a fixed time, recycle bin included, so that it sees deletions and merges; a
list of deletions shows what left the bin already. Where Salesforce cannot show that (15 days; an emptied bin), everything is
read anew. A lead that was converted is merged into its contact. Companies and `_individual` that changed bring their people
again; owners that were renamed show in a full read only.

Source: connectors reference, section 2 (Salesforce). Limits: a day's requests per org; 2,000 rows a query; 15 days [S1] [S5].
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectors.salesforce.org import Org
from connectors.salesforce.people import OPT_OUT
from connectors.salesforce.reading import Reading, Wishes
from connectors.salesforce.soql import select
from connectors.salesforce.vendor import SALESFORCE, SALESFORCE_JOBS, Column, describe, needs
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied
from syncd.http import Api, Vendor


class SalesforceOptions(Org):
    """The login is a connected app: with a refresh_token, or by client credentials."""

    lists: tuple[str, ...] | None = None
    """The names of the campaigns that `_lists` may hold; without it, all of them."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of the address in each further field of type e-mail too."""
    bulk: Literal["auto", "on", "off"] = "auto"
    """Full reads by the Bulk API; `auto` from 50,000 people on."""
    overlap_minutes: Annotated[int, Field(ge=1, le=720)] = 10
    """How late a change may become visible; 30 where long batches run."""


class SalesforceConnector:
    """One Salesforce org."""

    OPTIONS: ClassVar[type[Options]] = SalesforceOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        tombstones=True,
        merges=True,
        fields_known=True,
        joins=frozenset({"_company", "_owner", "_individual", "_lists"}),
        memberships=frozenset({"_lists"}),
        opt_outs=(OPT_OUT,),
        caps="2,000 people a query, a day's requests per org; reads everything after 15 days without a read",
        sweep="needs a full read a day for owners that were renamed, and people that sharing rules hide or show",
    )
    SUMMARY: ClassVar[str] = "Salesforce: contacts and leads, with company, owner and campaigns"

    def __init__(self, options: SalesforceOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = options.login(context)

    def check(self) -> str:
        """Ask for one of everything: what a run would be refused is named here."""
        with ExitStack() as stack:
            api = self._api(stack)
            lacking, used = [], ""
            for table in self._options.objects:
                columns = {one.name for one in describe(api, self._options.api_version, table)}
                used = self._one_row(api, table) or used
                if OPT_OUT not in columns:
                    lacking.append(f"not {OPT_OUT} of {table}: field-level security hides it")
            lacking += self._lacking(api)
        found = f"Salesforce: {' and '.join(self._options.objects)} can be read"
        return ", ".join([found, *([f"requests of the day: {used}"] if used else []), *lacking])

    def fields(self) -> list[SourceField]:
        """All fields of the objects that are read, without compound ones."""
        found: dict[str, Column] = {}
        with ExitStack() as stack:
            api = self._api(stack)
            for table in self._options.objects:
                for one in describe(api, self._options.api_version, table):
                    found.setdefault(one.name, one)
        return [
            SourceField(one.name, one.label, holds="email" if one.kind == "email" else "")
            for one in found.values()
        ]

    def preset(self) -> Preset:
        """The standard fields, which contacts and leads have both; a lead's company stands in `_company`, too."""
        return Preset(
            fields={
                "email": "Email",
                "firstName": "FirstName",
                "lastName": "LastName",
                "company": "_company.name",
                "jobTitle": "Title",
                "phone": {"expr": "Phone or MobilePhone"},
                "website": "_company.website",
            },
            opted_out=OPT_OUT,
        )

    def token(self) -> None:
        """There is none: Salesforce must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All people, or what was changed, deleted, merged, converted or put into a campaign since the cursor."""
        options = self._options
        wishes = Wishes(
            version=options.api_version,
            tables=options.objects,
            lists=options.lists,
            bulk=options.bulk,
            overlap=timedelta(minutes=options.overlap_minutes),
            all_emails=options.emails == "all",
        )
        with ExitStack() as stack:
            api = self._api(stack)
            patient = partial(self._api, stack, SALESFORCE_JOBS)
            yield from Reading(api, patient, request, wishes).events()

    def _api(self, stack: ExitStack, vendor: Vendor = SALESFORCE) -> Api:
        return stack.enter_context(
            Api(self._options.instance(self._login), vendor, self._login, self._clock)
        )

    def _one_row(self, api: Api, table: str) -> str:
        """Read one id; how many of the day's requests are used ("18/5000"), where Salesforce says so."""
        query = {"q": select(["Id"], table, limit=1)}
        path = f"/services/data/v{self._options.api_version}/query"
        reply = api.ask("GET", path, query=query, needs=needs(table))
        return reply.headers.get("sforce-limit-info", "").removeprefix("api-usage=").split(",")[0]

    def _lacking(self, api: Api) -> Iterator[str]:
        """What else a mapping may use and this login may not read."""
        for table, join in (
            ("Account", "_company"),
            ("Campaign", "_lists"),
            ("CampaignMember", "_lists"),
        ):
            if table == "Account" and "Contact" not in self._options.objects:
                continue
            try:
                self._one_row(api, table)
            except SourceDenied:
                yield f"not {join}: {table} is not shown to this user"
