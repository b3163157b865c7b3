"""Apollo: the contacts that a team has saved, with account, owner, lists and stage.

A full read lists all contacts, the newest first; an incremental one those that were changed since, the latest first, until two pages
have nothing new. Beside the contacts it asks who has unsubscribed in an e-mail, and which lists have other members, for nobody says
whether that changes a contact. Deleted contacts are told nowhere: the next full read finds them. A search of Apollo's shows 50,000
rows; by creation, 100,000 contacts are within reach, and with `lists` as many of each list.

`_opted_out`: `email_unsubscribed`, an e-mail in which the contact unsubscribed or asked for it, a stage such as "Do Not Contact", or a
sequence that ended for such a reason. `email` is empty where Apollo shows a placeholder for an address that was not paid for.

Reading saved contacts costs no credits. Source: connectors reference, section 10 (Apollo). Limits: 200 requests a minute, 400 an hour,
2,000 a day on the smaller plans [S3].
"""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

from connectors.apollo.beside import (
    custom_fields,
    label_ids,
    labels,
    stages,
    unsubscribed,
    users,
)
from connectors.apollo.person import FIELDS
from connectors.apollo.reading import JOINED, Reading
from connectors.apollo.vendor import (
    APOLLO,
    BY_CREATION,
    CUSTOM_FIELDS,
    LABELS,
    MESSAGES,
    STAGES,
    USERS,
    contacts,
    reads,
)
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied
from syncd.http import Api, BaseUrl, Token, TokenOrApp


class ApolloOptions(TokenOrApp):
    """token: an API key, best a master key; or client_id, client_secret and refresh_token of a partner's app."""

    base_url: BaseUrl = "https://api.apollo.io/api/v1"
    """Where the API is, for a proxy or a sandbox."""
    token_url: BaseUrl = "https://app.apollo.io/api/v1/oauth/token"  # noqa: S105  an address
    """Where tokens are handed out, for a proxy or a sandbox."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address too."""
    lists: tuple[str, ...] = ()
    """Names of lists; then only their contacts are read."""


class ApolloConnector:
    """One team's Apollo."""

    OPTIONS: ClassVar[type[Options]] = ApolloOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        fields_known=True,
        joins=JOINED,
        memberships=frozenset({"_lists"}),
        opt_outs=("_opted_out", "email_unsubscribed"),
        caps="answers 100 contacts a request, 400 requests an hour and 2,000 a day on the smaller plans; shows 100,000 contacts",
        sweep="needs a full read for deleted contacts, accounts that were renamed, and long lists if joining one changes no contact",
    )
    SUMMARY: ClassVar[str] = "Apollo: saved contacts, with account, owner, lists and stage"

    def __init__(self, options: ApolloOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = options.login(
            lambda token: Token(token, header="x-api-key", prefix=""),
            options.token_url,
            context.clock,
        )

    def check(self) -> str:
        """Ask for one of everything; what a mapping may use and this key may not read is named."""
        with self._api() as api:
            total = contacts(api, 1, sort=BY_CREATION).total
            if self._options.lists:
                label_ids(labels(api), self._options.lists)
            lacking = list(_lacking(api))
        return ", ".join([f"Apollo: {total:,} contacts can be read", *lacking])

    def fields(self) -> list[SourceField]:
        """The custom fields by their ids, then what every contact may have."""
        with self._api() as api:
            custom = custom_fields(api)
        return [
            *(SourceField(key, one.name) for key, one in custom.items() if key not in FIELDS),
            *(SourceField(name) for name in FIELDS),
        ]

    def preset(self) -> Preset:
        """Apollo's standard fields."""
        return Preset(
            fields={
                "email": "email",
                "firstName": "first_name",
                "lastName": "last_name",
                "company": "_company.name",
                "jobTitle": "title",
                "phone": "_phone",
                "website": "_company.website",
            },
            opted_out="_opted_out",
        )

    def token(self) -> None:
        """There is none: Apollo must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All contacts, or those for whom something has changed since the cursor."""
        options = self._options
        with self._api() as api:
            yield from Reading(
                api, request, all_emails=options.emails == "all", lists=options.lists
            ).events()

    def _api(self) -> Api:
        return Api(self._options.base_url, APOLLO, self._login, self._clock)


def _lacking(api: Api) -> Iterator[str]:
    """What else a read may need, and this key may not read."""
    probes: list[tuple[str, str, Callable[[Api], object]]] = [
        ("_lists", LABELS, labels),
        ("_stage and _opted_out", STAGES, stages),
        ("_opted_out", MESSAGES, unsubscribed),
        ("_owner", USERS, users),
        ("custom fields", CUSTOM_FIELDS, custom_fields),
    ]
    for what, endpoint, probe in probes:
        try:
            probe(api)
        except SourceDenied:
            yield f"not {what}: {reads(endpoint)}"
