"""Pipedrive: persons with their organization, owner, labels and saved filters.

A full read lists all persons in the order of their ids; an incremental one those that were updated within a fixed window, also by id, so
that nothing moves between two pages, and the persons of organizations that were updated. Deleted and merged persons are left out of
the listing; the old log of recent changes tells of them, as long as it is there, and the next full read finds the others (a row that
does come with `is_deleted` counts as deleted). Whether
unsubscribing updates a person, nobody says: where opt-outs are in use, everybody's `marketing_status` is compared in each read. It comes
with the Campaigns add-on; without that, Pipedrive has no opt-out, and `_opted_out` is false. A label or an
owner that was renamed, and a filter that has other members, makes everybody be read. A custom field stands under its key of 40
characters, as in Pipedrive's API; `syncd init` shows its name.

Source: connectors reference, section 3 (Pipedrive). Limits: 20 requests in 2 s on the smallest plan, 10 tokens a page of 500 [S7][S9].
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from connectors.pipedrive.account import Account
from connectors.pipedrive.beside import filter_ids
from connectors.pipedrive.person_fields import ADDED, ALWAYS, added_fields, person_fields
from connectors.pipedrive.reading import Reading
from connectors.pipedrive.vendor import (
    ORGANIZATIONS,
    PERSONS,
    PIPEDRIVE,
    READ_CONTACTS,
    READ_USERS,
    USERS,
    rows_of,
)
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied
from syncd.http import Api


class PipedriveOptions(Account):
    """token: an API token; or client_id, client_secret and refresh_token of an app."""

    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address too."""
    filters: tuple[str, ...] = ()
    """Names of saved filters, whose members `_lists` tells; each costs a listing of its members in every run."""


class PipedriveConnector:
    """One Pipedrive account."""

    OPTIONS: ClassVar[type[Options]] = PipedriveOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        fields_known=True,
        joins=frozenset(
            {"_company", "_owner", "_email", "_phone", "_opted_out", "_tags", "_lists"}
        ),
        memberships=frozenset({"_lists"}),
        opt_outs=("_opted_out",),
        caps="has a daily budget of tokens, 10 for 500 persons; with the Campaigns add-on all are listed in each read, for opt-outs",
        sweep="needs a full read for deleted and merged persons of whom the log of recent changes does not tell, and addresses that were"
        " taken from one",
    )
    SUMMARY: ClassVar[str] = "Pipedrive: persons, with organization, owner, labels and filters"

    def __init__(self, options: PipedriveOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = options.account_login(context)

    def check(self) -> str:
        """Ask for one of everything; what a mapping may use and this login may not read is named."""
        with self._api() as api:
            rows_of(api.get(PERSONS, {"limit": 1}, needs=READ_CONTACTS), PERSONS)
            person_fields(api)
            if self._options.filters:
                filter_ids(api, self._options.filters)
            lacking = list(_lacking(api))
        return ", ".join(["Pipedrive: persons can be read", *lacking])

    def fields(self) -> list[SourceField]:
        """What every person has in this account, then the custom fields by their keys."""
        with self._api() as api:
            custom, added = person_fields(api), added_fields(api)
        return [
            *(SourceField(name) for name in ALWAYS if name in added or name not in ADDED),
            *(SourceField(one.key, one.name) for one in custom.values() if one.key not in ALWAYS),
        ]

    def preset(self) -> Preset:
        """Pipedrive's standard fields."""
        return Preset(
            fields={
                "email": "_email",
                "firstName": "first_name",
                "lastName": "last_name",
                "company": "_company.name",
                "jobTitle": "job_title",
                "phone": "_phone",
                "website": "_company.website",
            },
            opted_out="_opted_out",
        )

    def token(self) -> None:
        """There is none: Pipedrive must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All persons, or those that were updated since the cursor."""
        with self._api() as api:
            yield from Reading(
                api,
                request,
                all_emails=self._options.emails == "all",
                filters=self._options.filters,
            ).events()

    def _api(self) -> Api:
        return Api(self._options.host(self._login), PIPEDRIVE, self._login, self._clock)


def _lacking(api: Api) -> Iterator[str]:
    if not added_fields(api):
        yield "not marketing_status: the account has no Campaigns add-on, so nobody counts as opted out"
    try:
        api.get(ORGANIZATIONS, {"limit": 1})
    except SourceDenied:
        yield f"not _company: {READ_CONTACTS} does not cover organizations"
    try:
        api.get(USERS)
    except SourceDenied:
        yield f"not _owner: {READ_USERS} is missing"
