"""Attio: people with their company, an owner and lists.

Attio tells neither when a record was changed nor who was deleted or merged (webhooks do, which need a public address): everybody is read in
each run, in the order in which people were made, page by page from where the last one ended; so whoever left is always seen. All values
of a person come, whatever is in use: a query of Attio's cannot ask for less. An attribute stands under its slug: a text as a text,
choices by their titles, a list where it takes several values, `name` with `first_name`, `last_name` and `full_name`. There is no
opt-out of Attio's own: name the attribute that is yours.

Source: connectors reference, section 8 (Attio). Limits: 100 requests a second; queries have one of their own [S5][S6].
"""

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

from connectors.attio.beside import (
    Companies,
    find_lists,
    members,
    owner_attribute,
    workspace_members,
)
from connectors.attio.people import FIRST_OF, attributes
from connectors.attio.reading import Reading, Wishes
from connectors.attio.vendor import (
    ATTIO,
    PEOPLE,
    READ_ENTRIES,
    READ_MEMBERS,
    READ_RECORDS,
    query,
    records,
)
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.http import Api, BaseUrl, Token, lacking
from syncd.secret import Secret

NOBODY = "00000000-0000-4000-8000-000000000000"


class AttioOptions(Options):
    """token: an access token of the workspace, or of an app (they do not end)."""

    token: Secret
    """An access token of the workspace, or of an app."""
    base_url: BaseUrl = "https://api.attio.com"
    """Where the API is, for a proxy or a sandbox."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address too."""
    lists: tuple[str, ...] | None = None
    """The names of the lists that `_lists` may hold; without it, all of them."""
    owner: str = ""
    """The attribute (of type User) that `_owner` is, by its slug or title."""


class AttioConnector:
    """One Attio workspace."""

    OPTIONS: ClassVar[type[Options]] = AttioOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        fields_known=True,
        joins=frozenset({*FIRST_OF, "_company", "_owner", "_lists"}),
        memberships=frozenset({"_lists"}),
        caps="tells neither changes nor deletions nor merges: everybody, and everybody in each list that is in use, is read in every run",
    )
    SUMMARY: ClassVar[str] = "Attio: people, with company, owner and lists"

    def __init__(self, options: AttioOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login = Token(options.token)

    def check(self) -> str:
        """Ask for one of everything; what a mapping may use and this token may not read is named."""
        with self._api() as api:
            known = attributes(api)
            next(query(api, records(PEOPLE), name="record_id", needs=READ_RECORDS), None)
            if self._options.owner:
                owner_attribute(self._options.owner, known)
            missing = list(_missing(api, self._options))
        return ", ".join(["Attio: people can be read", *missing])

    def fields(self) -> list[SourceField]:
        """All attributes of people."""
        with self._api() as api:
            return [SourceField(one.slug, one.title) for one in attributes(api).values()]

    def preset(self) -> Preset:
        """Attio's standard attributes. It has no opt-out: that is left to the user."""
        return Preset(
            fields={
                "email": "_email",
                "firstName": "name.first_name",
                "lastName": "name.last_name",
                "company": "_company.name",
                "jobTitle": "job_title",
                "phone": "_phone",
                "website": "_company.domain",
            }
        )

    def token(self) -> None:
        """There is none: Attio must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All people."""
        options = self._options
        wishes = Wishes(options.emails == "all", options.lists, options.owner)
        with self._api() as api:
            yield from Reading(api, request, wishes).events()

    def _api(self) -> Api:
        return Api(self._options.base_url, ATTIO, self._login, self._clock)


def _missing(api: Api, options: AttioOptions) -> Iterator[str]:
    """What else a mapping may use, and this token may not read."""
    probes: list[tuple[str, str, Callable[[], object]]] = [
        ("_company", READ_RECORDS, lambda: Companies(api).of([NOBODY])),
        ("_lists", READ_ENTRIES, lambda: _entries(api, options.lists)),
    ]
    if options.owner:
        probes.append(("_owner", READ_MEMBERS, lambda: workspace_members(api)))
    return lacking(probes)


def _entries(api: Api, names: tuple[str, ...] | None) -> None:
    """One list's are enough to know."""
    found = find_lists(api, names)
    if found:
        members(api, (str(found[0].get("name")),))
