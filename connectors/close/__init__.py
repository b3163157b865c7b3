"""Close: contacts with the lead that they belong to, its status, an owner and Smart Views.

A full read searches all contacts in the order in which they were made, page by page from where the last one ended, so that neither the 30
seconds nor the 10,000 objects of a cursor matter. An incremental one searches those that were changed, and reads the log of events: who was
deleted, which leads were merged or renamed, who has unsubscribed, and whom the search does not know yet, for its index is late; these
are read one by one, in full reads too. Whoever has unsubscribed is listed whole in each read: that changes no contact [?]. A contact's own
fields stand under Close's names, custom ones under their ids (`cf_...`); those of its lead are in `_company`.

Source: connectors reference, section 9 (Close); developer.close.com. Limits: 20 requests a second and key, of one group of requests.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import ClassVar, Literal

from connectors.close import views
from connectors.close.beside import owner_field, unsubscribed, users
from connectors.close.events import READ_EVENTS, news
from connectors.close.people import MADE_OF, OPTED_OUT, REGULAR, custom_fields
from connectors.close.reading import Reading, Wishes
from connectors.close.search import Search
from connectors.close.vendor import CLOSE, READ_UNSUBSCRIBED, READ_USERS, READ_VIEWS
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.http import Api, BaseUrl, Basic, TokenOrApp, lacking

API_PATH, TOKEN_PATH = "/api/v1", "/oauth2/token/"


class CloseOptions(TokenOrApp):
    """token: an API key; or client_id, client_secret and refresh_token of an OAuth app."""

    base_url: BaseUrl = "https://api.close.com/api/v1"
    """Where the API is, for a proxy or a sandbox."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address too."""
    views: tuple[str, ...] = ()
    """Names of Smart Views, of contacts or of leads, whose members `_lists` tells; each costs a search of its members in every run."""
    owner: str = ""
    """The custom field (of type User) of contacts or leads that `_owner` is."""


class CloseConnector:
    """One Close organization."""

    OPTIONS: ClassVar[type[Options]] = CloseOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        tombstones=True,
        merges=True,
        fields_known=True,
        joins=frozenset({*MADE_OF, "_company", "_owner", "_lists"}),
        memberships=frozenset({"_lists"}),
        opt_outs=(OPTED_OUT,),
        caps="lists all unsubscribed addresses, and the members of `views`, in every read",
        sweep="needs a full read for renamed statuses and owners, and further addresses that were taken from a contact",
    )
    SUMMARY: ClassVar[str] = "Close: contacts, with lead, status, owner and Smart Views"

    def __init__(self, options: CloseOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = options.login(
            Basic, f"{options.base_url.removesuffix(API_PATH)}{TOKEN_PATH}", context.clock
        )

    def check(self) -> str:
        """Ask for one of everything; what a mapping may use and this login may not read is named."""
        with self._api() as api:
            mine = custom_fields(api, "contact")
            next(Search(api).everything("contact", ("id",)), None)
            if self._options.owner:
                owner_field(self._options.owner, mine, custom_fields(api, "lead"))
            missing = list(_missing(api, self._options))
        return ", ".join(["Close: contacts can be read", *missing])

    def fields(self) -> list[SourceField]:
        """What every contact has, then the custom fields by their ids."""
        with self._api() as api:
            custom = custom_fields(api, "contact")
        return [
            *(SourceField(name) for name in REGULAR),
            *(SourceField(field.id, field.name) for field in custom.values()),
        ]

    def preset(self) -> Preset:
        """Close's standard fields."""
        return Preset(
            fields={
                "email": "_email",
                "firstName": "_first_name",
                "lastName": "_last_name",
                "company": "_company.name",
                "jobTitle": "title",
                "phone": "_phone",
                "website": "_company.website",
            },
            opted_out=OPTED_OUT,
        )

    def token(self) -> None:
        """There is none: Close must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All contacts, or those for whom something has changed since the cursor."""
        options = self._options
        wishes = Wishes(options.emails == "all", options.views, options.owner)
        with self._api() as api:
            yield from Reading(api, request, wishes).events()

    def _api(self) -> Api:
        return Api(self._options.base_url, CLOSE, self._login, self._clock)


def _missing(api: Api, options: CloseOptions) -> Iterator[str]:
    """What else a read may need, and this login may not read."""
    probes: list[tuple[str, str, Callable[[], object]]] = [
        ("who was deleted", READ_EVENTS, lambda: _last_events(api)),
        (OPTED_OUT, READ_UNSUBSCRIBED, lambda: unsubscribed(api)),
        ("_lists", READ_VIEWS, lambda: views.find(api, options.views)),
    ]
    if options.owner:
        probes.append(("_owner", READ_USERS, lambda: users(api)))
    return lacking(probes)


def _last_events(api: Api) -> None:
    news(api, api.server_time() - timedelta(minutes=1), leads=False, opt_outs=False)
