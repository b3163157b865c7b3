"""Odoo: contacts (or leads) with their company, owner, tags, mailing lists and opt-outs.

A full read lists all people in the order of their ids. An incremental read lists, by id too, whose `write_date` is not before the
last read's latest change, less an overlap; then everybody for whom something has changed beside the contact: the blacklist, tags
and mailing lists move no `write_date`, so they are read whole each time and compared by sums in the cursor. Archived contacts,
and those who became companies or internal users, are told as gone. Contacts that were deleted for good leave no trace: the next
full read finds them; merged ones are told where the message of the merge can be read and is in English.

People are contacts that are no company, have a name (an address without one is a place) and are no internal user. Odoo has one
name: exactly two words are taken for first and last name, anything else is the first name as it stands (`names = "whole"`: always).

Source: connectors reference, section 6; connectors-seen, Odoo. Limits: none but Odoo Online's, about one request a second [M].
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from connectors.odoo.beside import READ_BLACKLIST, READ_LISTS, READ_TAGS
from connectors.odoo.merges import READ_MESSAGES
from connectors.odoo.model import CONTACT, LEAD, Choice
from connectors.odoo.reading import READ_PEOPLE, Reading
from connectors.odoo.record import READ_USERS
from connectors.odoo.vendor import Key, Protocol, Server, fields_of, search, vendor_for
from syncd.connector import Abilities, Context, Event, Options, Preset, Request, SourceField
from syncd.errors import SourceDenied, SourceRefused
from syncd.http import Api, BaseUrl, parse_time
from syncd.secret import Secret

SAY_EXPIRY_DAYS = (
    30  # before an API key ends; one lives three months unless an administrator allows more
)
KEYS_MAX = 100


class OdooOptions(Options):
    """token: an API key of the user whose rights count (until Odoo 13 a password)."""

    base_url: BaseUrl
    """The address of the server."""
    token: Secret
    """Of the user whose rights count (until Odoo 13 a password)."""
    database: str = ""
    """Until Odoo 18 always, later where one server has several databases."""
    user: str = ""
    """The user's login: until Odoo 18 always, later where one server has several databases."""
    protocol: Protocol = "auto"
    """`auto` asks the server for its version."""
    model: Literal["res.partner", "crm.lead"] = "res.partner"
    """Whose records are read."""
    emails: Literal["primary", "all"] = "primary"
    """`all` makes a person of each further address in a contact's field."""
    names: Literal["split", "whole"] = "split"
    """`whole` never splits a name into first and last."""
    internal_users: bool = False
    """Whether one's own colleagues are people too."""
    lists: tuple[str, ...] | None = None
    """The mailing lists that `_lists` may hold; without it, all of them."""

    @model_validator(mode="after")
    def _login_of_the_protocol(self) -> "OdooOptions":
        if self.protocol == "jsonrpc" and not (self.database and self.user):
            raise ValueError('protocol = "jsonrpc" needs database and user')
        return self


class OdooConnector:
    """One Odoo database."""

    OPTIONS: ClassVar[type[Options]] = OdooOptions
    ABILITIES: ClassVar[Abilities] = Abilities(
        incremental=True,
        archivals=True,
        merges=True,
        fields_known=True,
        joins=frozenset(
            {
                "_email",
                "_first_name",
                "_last_name",
                "_phone",
                "_opted_out",
                "_tags",
                "_lists",
                "_company",
                "_owner",
            }
        ),
        memberships=frozenset({"_tags", "_lists"}),
        opt_outs=("_opted_out", "is_blacklisted", "opt_out"),
        caps="Odoo Online is asked once a second",
        sweep=(
            "needs a full read a day for what was deleted for good, for merges of leads and those made in another language than"
            " English, and for a company's website"
        ),
    )
    SUMMARY: ClassVar[str] = "Odoo: contacts or leads, with company, owner, tags, lists, opt-outs"

    def __init__(self, options: OdooOptions, context: Context) -> None:
        self._options, self._clock = options, context.clock
        self._model = LEAD if options.model == LEAD.name else CONTACT

    def check(self) -> str:
        """Ask for one of everything: what this user may not read is named, and a key that ends soon."""
        with self._server() as server:
            kinds = fields_of(server, self._model.name, READ_PEOPLE)
            search(server, self._model.name, [], ["id"], rows_max=1, needs=READ_PEOPLE)
            found = [*_lacking(server, self._model.tags, kinds), *self._ending_keys(server)]
            return ", ".join([f"{server.title}: {self._model.name} can be read", *found])

    def fields(self) -> list[SourceField]:
        """All fields of the model but pictures and files."""
        with self._server() as server:
            found = fields_of(server, self._model.name, READ_PEOPLE)
        return [
            SourceField(name, str(kind.get("string") or ""))
            for name, kind in sorted(found.items())
            if kind.get("type") != "binary"
        ]

    def preset(self) -> Preset:
        """The same for both models: what differs stands in the connector's own names."""
        return Preset(
            fields={
                "email": "_email",
                "firstName": "_first_name",
                "lastName": "_last_name",
                "company": "_company.name",
                "jobTitle": "function",
                "phone": "_phone",
                "website": {"expr": "website or _company.website"},
            },
            opted_out="_opted_out",
        )

    def token(self) -> None:
        """There is none: Odoo must be asked."""

    def read(self, request: Request) -> Iterator[Event]:
        """All people, or who was changed, archived, merged, tagged, subscribed or opted out since the cursor."""
        options = self._options
        choice = Choice(
            self._model,
            all_emails=options.emails == "all",
            internal_users=options.internal_users,
            whole_names=options.names == "whole",
            lists=options.lists,
        )
        with self._server() as server:
            yield from Reading(server, request, choice).events()

    @contextmanager
    def _server(self) -> Iterator[Server]:
        options = self._options
        key, vendor = Key(options.token), vendor_for(options.base_url)
        headers = {"X-Odoo-Database": options.database} if options.database else {}
        with Api(options.base_url, vendor, key, self._clock, headers=headers) as api:
            yield Server(
                api, key, protocol=options.protocol, database=options.database, user=options.user
            )

    def _ending_keys(self, server: Server) -> Iterator[str]:
        """Which of the user's keys is ours, Odoo does not say: the next that ends. Until Odoo 17 keys do not end."""
        try:
            if "expiration_date" not in fields_of(server, "res.users.apikeys"):
                return
            uid = server.uid()
            own = [["user_id", "=", uid]] if uid else []
            rows = search(server, "res.users.apikeys", own, ["expiration_date"], rows_max=KEYS_MAX)
        except (SourceDenied, SourceRefused):
            return
        now = server.api.server_time()
        ends = [moment for row in rows if (moment := parse_time(row.get("expiration_date") or ""))]
        soonest = min((moment for moment in ends if moment >= now), default=None)
        if soonest is not None and soonest - now <= timedelta(days=SAY_EXPIRY_DAYS):
            yield f"an API key of this user ends on {soonest:%Y-%m-%d}: make a new one before"


def _lacking(server: Server, tags: str, kinds: dict[str, Any]) -> Iterator[str]:
    """What else a mapping may use and this user may not read."""
    if not kinds.keys() & {"is_blacklisted", "opt_out"}:
        yield "not _opted_out: this Odoo has no field for it"
    tag_model = kinds.get(tags, {}).get("relation")
    for model, what, needs in (
        (
            "mail.blacklist" if "is_blacklisted" in kinds else None,
            "_opted_out of people with several addresses, who are held back",
            READ_BLACKLIST,
        ),
        (tag_model, "_tags", READ_TAGS),
        ("mailing.list", "_lists", READ_LISTS),
        ("res.users", "_owner", READ_USERS),
        ("mail.message" if "message_ids" in kinds else None, "merges", READ_MESSAGES),
    ):
        if model is None:
            continue
        try:
            search(server, model, [], ["id"], rows_max=1)
        except SourceDenied:
            yield f"not {what}: {needs} is missing"
        except SourceRefused:
            yield f"not {what}: this Odoo has no {model}"
