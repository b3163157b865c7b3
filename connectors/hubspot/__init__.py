"""HubSpot: contacts with their company, owner and lists.

A full read lists all contacts in the order of their ids. An incremental read searches what was changed within a fixed window, page by
page by id, so that neither the search's limit of 10,000 hits nor thousands of contacts with one time matter, and reads them by their ids,
for the search's index is late; before come the archived contacts, and after them, where they are in use, everybody who joined a list,
whoever has opted out since, and the opt-outs of further addresses. Deleted is what is archived; a contact that was deleted for good
(privacy) shows in a full read only. Values are text but for booleans and numbers, by the property's type.

Source: connectors reference, section 1 (HubSpot). Limits: 100 requests in 10 s, 4 searches a second [S6], 10,000 hits [S4].
"""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import ClassVar, Literal

from connectors.hubspot.addresses import opt_outs
from connectors.hubspot.lists import lists_of
from connectors.hubspot.reading import Reading, Wishes
from connectors.hubspot.vendor import (
    CONTACTS,
    HUBSPOT,
    HUBSPOT_SEARCH,
    READ_COMPANIES,
    READ_CONTACTS,
    READ_LISTS,
    READ_OPT_OUTS,
    READ_OWNERS,
    READ_SCHEMAS,
    Portal,
    properties,
)
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied
from syncd.http import Api, Vendor


class HubspotOptions(Portal):
    """token: of a private app; or client_id, client_secret and refresh_token of an OAuth app."""

    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address too."""
    lists: tuple[str, ...] | None = None
    """The names of the lists that `_lists` may hold; without it, all of them."""


class HubspotConnector:
    """One HubSpot account."""

    OPTIONS: ClassVar[type[Options]] = HubspotOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        tombstones=True,
        merges=True,
        fields_known=True,
        joins=frozenset({"_company", "_owner", "_lists"}),
        memberships=frozenset({"_lists"}),
        opt_outs=("hs_email_optout",),
        caps="searches 4 times a second; lists who is archived, who has opted out, and who is in a list that is in use, in every read",
        sweep="needs a full read a day for contacts that were deleted for good or restored, and for renamed companies and owners",
    )
    SUMMARY: ClassVar[str] = "HubSpot: contacts, with company, owner and lists"

    def __init__(self, options: HubspotOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = options.portal_login(context)

    def check(self) -> str:
        """Ask for one of everything: what a run would be refused is named here, with its scope."""
        with self._api() as api:
            api.get(CONTACTS, {"limit": 1}, needs=READ_CONTACTS)
            api.get("/crm/v3/properties/contacts", needs=READ_SCHEMAS)
            lacking = list(_lacking(api, all_emails=self._options.emails == "all"))
        return ", ".join(["HubSpot: contacts can be read", *lacking])

    def fields(self) -> list[SourceField]:
        """All properties of contacts."""
        with self._api() as api:
            return [
                SourceField(one["name"], str(one.get("label") or "")) for one in properties(api)
            ]

    def preset(self) -> Preset:
        """HubSpot's standard properties."""
        return Preset(
            fields={
                "email": "email",
                "firstName": "firstname",
                "lastName": "lastname",
                "company": {"expr": "_company.name or company"},
                "jobTitle": "jobtitle",
                "phone": {"expr": "phone or mobilephone"},
                "website": {"expr": "website or _company.website"},
            },
            opted_out="hs_email_optout",
        )

    def token(self) -> None:
        """There is none: HubSpot must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All contacts, or what was changed, archived, merged or put into a list since the cursor."""
        with ExitStack() as stack:
            api = stack.enter_context(self._api())
            search = stack.enter_context(self._api(HUBSPOT_SEARCH))
            wishes = Wishes(self._options.emails == "all", self._options.lists)
            yield from Reading(api, search, request, wishes).events()

    def _api(self, vendor: Vendor = HUBSPOT) -> Api:
        return Api(self._options.base_url, vendor, self._login, self._clock)


def _lacking(api: Api, *, all_emails: bool) -> Iterator[str]:
    """What else a mapping may use and this login may not read."""
    try:
        api.get("/crm/v3/objects/companies", {"limit": 1})
    except SourceDenied:
        yield f"not _company: {READ_COMPANIES} is missing"
    try:
        api.get("/crm/v3/owners", {"limit": 1})
    except SourceDenied:
        yield f"not _owner: {READ_OWNERS} is missing"
    try:
        next(lists_of(api), None)
    except SourceDenied:
        yield f"not _lists: {READ_LISTS} is missing"
    try:
        opt_outs(api, ["nobody@example.com"] if all_emails else [])
    except SourceDenied:
        yield f"not the opt-outs of further addresses: {READ_OPT_OUTS} is missing"
