"""EspoCRM: contacts and leads with their account, owner and target lists.

A full read lists everybody in the order of ids. An incremental one lists everybody who has opted out, for an opt-out belongs to an
address, is shared by all records that have it, and changes without changing them; then whoever changed since the cursor, also by id, so
that nothing moves between two pages; then the contacts of changed accounts. EspoCRM itself takes an opt-out back when somebody creates a
record with the same address: to refuse that is the engine's part. Deletions are in a log of which only administrators see everything, and
a merge shows there as the deletion of one: what is not seen is found by the full read. Whoever opted out of a target list is in
`_lists_opted_out` and not in `_lists`. An opt-out that is null was not told, and is left out; so it is for those without any address.

Source: connectors reference, section 7 (EspoCRM), corrected by what a server of version 10 answered ("seen", 1 to 21).
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from connectors.espocrm.attributes import attributes_of
from connectors.espocrm.lists import LISTS
from connectors.espocrm.people import (
    ACCOUNT,
    CHANGED,
    EMAIL,
    JOINS,
    OPTED_OUT,
    USER,
    may_read,
)
from connectors.espocrm.reading import Reading
from connectors.espocrm.vendor import ESPOCRM, Espo, Hmac, WhereName
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied, SourceError
from syncd.http import Api, BaseUrl, Basic, Login, Token
from syncd.secret import Secret

API = "/api/v1"


class EspocrmOptions(Options):
    """token: of an API user, and with `secret` of one that signs its requests; or username and password of an administrator, who sees
    what others deleted.
    """

    base_url: BaseUrl
    """The address of the CRM."""
    token: Secret | None = None
    """The key of an API user."""
    secret: Secret | None = None
    """Of an API user that signs its requests (HMAC)."""
    username: str | None = None
    """Of an administrator, instead of `token`."""
    password: Secret | None = None
    """Of the same administrator."""
    digest: Literal["hex", "raw"] = "hex"
    """`raw` for HMAC before EspoCRM 8.4.1."""
    entities: tuple[Literal["Contact", "Lead"], ...] = Field(default=("Contact",), min_length=1)
    """Whose records are read."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address too, and asks for each person alone."""
    lists: tuple[str, ...] | None = None
    """The names of the target lists that `_lists` may hold; without it, all of them."""
    where_name: WhereName = "where"
    """`whereGroup` where a firewall dislikes `where`."""

    @model_validator(mode="after")
    def _fit_together(self) -> "EspocrmOptions":
        missing = [self.token, self.username, self.password].count(None)
        if missing != (1 if self.token is None else 2) or (self.secret and self.token is None):
            raise ValueError("either token (with secret for HMAC), or username and password")
        if len(set(self.entities)) != len(self.entities):
            raise ValueError("each of the entities once")
        return self


class EspocrmConnector:
    """One EspoCRM."""

    OPTIONS: ClassVar[type[Options]] = EspocrmOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        fields_known=True,
        joins=JOINS,
        memberships=frozenset({"_lists", "_lists_opted_out"}),
        opt_outs=(OPTED_OUT,),
        caps='asks for 200 people at once, for each alone with emails = "all"',
        sweep="needs a full read a day for deleted and merged people, for renamed owners, "
        "and for opt-outs of further addresses that are nobody's first",
    )
    SUMMARY: ClassVar[str] = "EspoCRM: contacts and leads, with account, owner and target lists"

    def __init__(self, options: EspocrmOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._login, self._hmac = _login(options)

    def check(self) -> str:
        """Ask for one of everything; what a mapping may use and this login may not read is named."""
        with self._api() as api:
            espo = self._espo(api)
            for entity in self._options.entities:
                rows, _ = espo.rows(
                    f"/{entity}", select=f"id,{EMAIL},{OPTED_OUT},{CHANGED}", count=1
                )
                for name in (EMAIL, OPTED_OUT, CHANGED):
                    if rows and name not in rows[0]:
                        raise SourceDenied(
                            f"EspoCRM gives no `{name}` of {entity}",
                            hint="Let the role read this field (Roles, Field Level)",
                        )
            lacking = [
                f"not {join}: read access to {entity} is missing in the role"
                for join, entity in (
                    ("_company", ACCOUNT), ("_owner", USER), ("_lists", LISTS.removeprefix("/"))
                )
                if not may_read(espo, entity)
            ]  # fmt: skip
        return ", ".join([f"EspoCRM: {' and '.join(self._options.entities)} can be read", *lacking])

    def fields(self) -> list[SourceField]:
        """By the metadata, and by a row: each may have a name that the other lacks. Raises SourceError where there is neither."""
        names: dict[str, None] = {}
        with self._api() as api:
            espo = self._espo(api)
            for entity in self._options.entities:
                rows, _ = espo.rows(f"/{entity}", count=1)
                known = attributes_of(espo, entity)
                if known is None and not rows:
                    raise SourceError(
                        f"The fields of {entity} cannot be told",
                        why="EspoCRM gives its metadata not to this login, and there is no row to look at",
                        hint="Check the names in the mapping by hand",
                    )
                found = {*(known or ()), *(rows[0] if rows else ())}
                names |= dict.fromkeys(sorted(found))
        return [SourceField(name) for name in names]

    def preset(self) -> Preset:
        """EspoCRM's standard fields. Whoever has no address has no opt-out: that is no reason to call it unreadable."""
        return Preset(
            fields={
                "email": EMAIL,
                "firstName": "firstName",
                "lastName": "lastName",
                "company": "_company.name",
                "jobTitle": "title",
                "phone": "phoneNumber",
                "website": "_company.website",
            },
            opted_out=f"{EMAIL} and {OPTED_OUT}",
        )

    def token(self) -> None:
        """There is none: EspoCRM must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """Everybody, or whoever may have changed since the cursor."""
        with self._api() as api:
            yield from Reading(
                self._espo(api),
                request,
                entities=self._options.entities,
                all_emails=self._options.emails == "all",
                lists=self._options.lists,
            ).events()

    def _api(self) -> Api:
        root = self._options.base_url.removesuffix(API)
        return Api(f"{root}{API}", ESPOCRM, self._login, self._clock)

    def _espo(self, api: Api) -> Espo:
        return Espo(api, self._hmac, self._options.where_name)


def _login(options: EspocrmOptions) -> tuple[Login, Hmac | None]:
    """How this login is made, and what signs its requests if they are to be signed."""
    if options.token is not None and options.secret is not None:
        signed = Hmac(options.token, options.secret, options.digest)
        return signed, signed
    if options.token is not None:
        return Token(options.token, header="X-Api-Key", prefix=""), None
    if options.username is None or options.password is None:
        raise AssertionError("the options have one login or another")
    return Basic(options.username, options.password), None
