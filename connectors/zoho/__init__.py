"""Zoho CRM: contacts or leads with their account, owner, tags and custom views.

A full read lists all records in the order of their ids, by page tokens up to their limit of 100,000 rows and by COQL beyond. An incremental
read lists who was deleted, who was modified, whose account was, and who has opted out, for nobody says whether that modifies a record.
A merged record is listed as deleted, and nobody says into which. A tag that was renamed, and a view that has other members, makes
everybody be read. Records that wait for approval, and converted leads, count as gone.

Scopes: ZohoCRM.modules.contacts.READ (or leads), .modules.accounts.READ, .settings.fields.READ, .settings.tags.READ,
.settings.custom_views.READ, and ZohoCRM.coql.READ for opt-outs and changed accounts.

Source: connectors reference, section 4 (Zoho CRM). Limits: 50 fields a request, credits in a rolling 24 hours [S3].
"""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal
from urllib.parse import urlsplit

from connectors.zoho.beside import TAGS, VIEWS, view_ids
from connectors.zoho.listing import ACCOUNTS
from connectors.zoho.reading import Reading, module_fields
from connectors.zoho.vendor import (
    COQL,
    READ_ACCOUNTS,
    READ_COQL,
    READ_TAGS,
    READ_VIEWS,
    ZOHO,
    Region,
    accounts_url,
    api_url,
    read_module,
)
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied, SourceError
from syncd.http import Api, BaseUrl, OAuth
from syncd.secret import Secret


class ZohoOptions(Options):
    """The login is a self client, or another OAuth app."""

    client_id: str
    """Of the app."""
    client_secret: Secret
    """Of the same app."""
    refresh_token: Secret
    """The app's token for this account."""
    region: Region = "com"
    """The end of the address at which you log in (zoho.eu: `eu`)."""
    base_url: BaseUrl | None = None
    """Where the API is, instead of the region's own."""
    token_url: BaseUrl | None = None
    """Where tokens are handed out, instead of the region's own."""
    module: Literal["Contacts", "Leads"] = "Contacts"
    """Whose records are read."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of the secondary address too."""
    views: tuple[str, ...] = ()
    """Names of custom views, whose members `_lists` tells; each costs a listing of its members in every run."""


class ZohoConnector:
    """One Zoho CRM organization."""

    OPTIONS: ClassVar[type[Options]] = ZohoOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        tombstones=True,
        fields_known=True,
        joins=frozenset({"_company", "_owner", "_tags", "_lists"}),
        memberships=frozenset({"_lists"}),
        opt_outs=("Email_Opt_Out",),
        caps="has credits for a rolling 24 hours, one for 200 records and 50 fields",
        sweep="needs a full read for owners that were renamed, and tags if giving one modifies nobody; merged records are told as deleted",
    )
    SUMMARY: ClassVar[str] = "Zoho CRM: contacts or leads, with account, owner, tags and views"

    def __init__(self, options: ZohoOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = OAuth(
            options.token_url or accounts_url(options.region),
            {
                "grant_type": "refresh_token",
                "client_id": options.client_id,
                "client_secret": options.client_secret,
                "refresh_token": options.refresh_token,
            },
            clock=context.clock,
            scheme="Zoho-oauthtoken",
        )

    def check(self) -> str:
        """Ask for one of everything; what a mapping may use and this login may not read is named."""
        module = self._options.module
        with self._api() as api:
            api.get(
                f"/crm/v8/{module}",
                {"fields": "id", "per_page": 1},
                needs=read_module(module),
            )
            module_fields(api, module)
            if self._options.views:
                view_ids(api, module, self._options.views)
            lacking = list(_lacking(api, module))
        return ", ".join([f"Zoho: {module.lower()} can be read", *lacking])

    def fields(self) -> list[SourceField]:
        """All fields of the module, by their API names."""
        with self._api() as api:
            found = module_fields(api, self._options.module)
        return [SourceField(name, field.label) for name, field in found.items()]

    def preset(self) -> Preset:
        """Zoho's standard fields."""
        leads = self._options.module == "Leads"
        return Preset(
            fields={
                "email": "Email",
                "firstName": "First_Name",
                "lastName": "Last_Name",
                "company": "Company" if leads else "_company.name",
                "jobTitle": "Designation" if leads else "Title",
                "phone": {"expr": "Phone or Mobile"},
                "website": "Website" if leads else "_company.website",
            },
            opted_out="Email_Opt_Out",
        )

    def token(self) -> None:
        """There is none: Zoho must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All records, or what was modified or deleted since the cursor."""
        options = self._options
        with self._api() as api:
            yield from Reading(
                api,
                request,
                module=options.module,
                all_emails=options.emails == "all",
                views=options.views,
            ).events()

    def _api(self) -> Api:
        base_url = self._options.base_url
        if base_url is None:
            self._login.headers()  # the token tells the data centre: others do not know it
            base_url = str(self._login.granted.get("api_domain") or api_url(self._options.region))
            token_url = self._options.token_url or accounts_url(self._options.region)
            if urlsplit(base_url).scheme != urlsplit(token_url).scheme:
                raise SourceError("Zoho: the login names no host of the account (api_domain)")
        return Api(base_url, ZOHO, self._login, self._clock)


def _lacking(api: Api, module: str) -> Iterator[str]:
    """What else a read may need, and this login may not read."""
    query = {"select_query": f"select id from {module} where id > 0 limit 0, 1"}  # noqa: S608
    probes: list[tuple[str, str, Callable[[], object]]] = [
        ("changes of Email_Opt_Out", READ_COQL, lambda: api.post(COQL, query)),
        ("renamed _tags", READ_TAGS, lambda: api.get(TAGS, {"module": module})),
        ("_lists", READ_VIEWS, lambda: api.get(VIEWS, {"module": module})),
    ]
    if module == "Contacts":
        accounts = {"fields": "id", "per_page": 1}
        probes.append(("_company", READ_ACCOUNTS, lambda: api.get(ACCOUNTS, accounts)))
    for what, scope, probe in probes:
        try:
            probe()
        except SourceDenied:
            yield f"not {what}: {scope} is missing"
