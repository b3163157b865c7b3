"""What a contact of Close gives to a record: its own values, custom fields under their ids, and what is put together of them.

Everything here is a pure function of a row. A custom field without a value is left out of Close's answers.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.close.events import addresses_of
from connectors.close.search import MADE
from connectors.close.vendor import CUSTOM, READ_CONTACTS, Row, ident, rows_of
from syncd.http import Api, further_key, split_name

SCHEMA = "/custom_field_schema/"
OPTED_OUT = "_opted_out"
REGULAR = (
    "id", "name", "display_name", "title", "emails", "phones", "urls", "lead_id", "organization_id",
    "date_created", "date_updated", "created_by", "updated_by", "timezone",
)  # fmt: skip
# what is put together -> of what
MADE_OF = {
    "_email": "emails",
    OPTED_OUT: "emails",
    "_phone": "phones",
    "_first_name": "name",
    "_last_name": "name",
}
ALWAYS = ("id", MADE, "date_updated", "lead_id")


@dataclass(frozen=True, slots=True)
class CustomField:
    """One custom field, of contacts or of leads. kind: "text", "number", "choices", "user", ..."""

    id: str
    name: str
    kind: str


def custom_fields(api: Api, kind: str) -> dict[str, CustomField]:
    """id -> custom field of these objects ("contact", "lead"), the shared ones too."""
    path = f"{SCHEMA}{kind}/"
    rows = rows_of(api.get(path, needs=READ_CONTACTS), path, "fields")
    fields = (
        CustomField(
            ident(row, "custom field"), str(row.get("name") or ""), str(row.get("type") or "")
        )
        for row in rows
    )
    return {field.id: field for field in fields}


class Shape:
    """What is asked of a contact, and what becomes of it. wanted: top-level names in use; None for all."""

    def __init__(
        self,
        wanted: frozenset[str] | None,
        custom: Mapping[str, CustomField],
        *,
        all_emails: bool,
        unsubscribed: Callable[[str], bool] | None,
    ) -> None:
        self._regular = [name for name in REGULAR if wanted is None or name in wanted]
        self._custom = [key for key in custom if wanted is None or key in wanted]
        self._made = [name for name in MADE_OF if wanted is None or name in wanted]
        self._all_emails, self._unsubscribed = all_emails, unsubscribed

    def fields(self) -> tuple[str, ...]:
        """The names to ask for."""
        made_of = [MADE_OF[name] for name in self._made]
        further = ["emails"] if self._all_emails else []
        custom = [f"{CUSTOM}{key}" for key in self._custom]
        return tuple(dict.fromkeys([*ALWAYS, *self._regular, *made_of, *further, *custom]))

    def values(self, row: Row) -> dict[str, Any]:
        """The fields of the record of a contact; what did not come is left out: it is not known."""
        found = {name: row[name] for name in self._regular if name in row}
        found |= {key: row.get(f"{CUSTOM}{key}") for key in self._custom}
        for name in self._made:
            if name == OPTED_OUT:
                out = self._opted_out(row.get("emails"))
                if out is not None:
                    found[name] = out
            elif MADE_OF[name] in row:
                found[name] = _made(name, row[MADE_OF[name]])
        return found

    def further(self, row: Row) -> Iterator[tuple[str, str]]:
        """(key, address) of each further address, where they are wanted."""
        addresses = addresses_of(row.get("emails")) if self._all_emails else []
        told = {addresses[0].lower()} if addresses else set()
        for address in addresses[1:]:
            if address.lower() not in told:
                told.add(address.lower())
                yield further_key(str(row["id"]), address), address

    def _opted_out(self, entries: Any) -> bool | None:
        """Whether any address has unsubscribed; None where the addresses, or who has unsubscribed, are not known.

        The flag may be as old as the search's index; the list of all who have unsubscribed is not.
        """
        if not isinstance(entries, list) or self._unsubscribed is None:
            return None
        if any(isinstance(one, dict) and one.get("is_unsubscribed") is True for one in entries):
            return True
        return any(self._unsubscribed(address.lower()) for address in addresses_of(entries))


def _made(name: str, value: Any) -> str | None:
    match name:
        case "_email":
            return next(iter(addresses_of(value)), None)
        case "_phone":
            rows = value if isinstance(value, list) else ()
            texts = (row.get("phone") for row in rows if isinstance(row, dict))
            return next((text for text in texts if isinstance(text, str) and text.strip()), None)
        case "_first_name":
            return split_name(value)[0]
    return split_name(value)[1]
