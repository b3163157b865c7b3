"""The attributes of Attio's people, and their values as a mapping sees them.

Every value is a list of value objects, with the time from which and until which it holds. A mapping sees what holds now, without what
stands around it: a text for a text, names of choices, a list where an attribute takes several. Everything but `attributes` is pure.

Source: docs.attio.com/docs/attribute-types.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors.attio.vendor import PEOPLE, READ_RECORDS, Row, listed
from syncd.errors import SourceError
from syncd.http import Api, further_key

EMAILS, PHONES, COMPANY = "email_addresses", "phone_numbers", "company"
# what is put together -> the attribute of which it is the first value
FIRST_OF = {"_email": EMAILS, "_phone": PHONES}
AROUND = frozenset({"active_from", "active_until", "created_by_actor", "attribute_type"})
# the type of an attribute -> where its plain value stands; types with several parts keep them
PLAIN = {
    "text": "value", "number": "value", "checkbox": "value", "date": "value", "timestamp": "value",
    "rating": "value", "currency": "currency_value", "domain": "domain",
    "email-address": "email_address", "phone-number": "phone_number",
    "record-reference": "target_record_id", "actor-reference": "referenced_actor_id",
    "interaction": "interacted_at",
}  # fmt: skip
NAMED = {"select": "option", "status": "status"}  # choices, by their titles


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of people. several: whether it takes more than one value."""

    slug: str
    title: str
    kind: str
    several: bool


def attributes(api: Api) -> dict[str, Attribute]:
    """slug -> attribute of people, without those that are archived."""
    path = f"/v2/objects/{PEOPLE}/attributes"
    found = {}
    for row in listed(api, path, needs=READ_RECORDS):
        slug = row.get("api_slug")
        if not isinstance(slug, str) or not slug:
            raise SourceError("Attio: an attribute of people came without its slug")
        if row.get("is_archived") is not True:
            kind, several = str(row.get("type") or ""), row.get("is_multiselect") is True
            found[slug] = Attribute(slug, str(row.get("title") or ""), kind, several)
    return found


def now(values: Mapping[str, Any], slug: str) -> list[Row]:
    """The value objects of an attribute that hold now; of those that did once, the end is known."""
    held = values.get(slug)
    found = [one for one in held if isinstance(one, dict)] if isinstance(held, list) else []
    return [one for one in found if one.get("active_until") is None]


def plain(value: Row) -> Any:
    """A value object without what stands around it; one that is not as its type has it, with all its parts."""
    kind = str(value.get("attribute_type") or "")
    if kind in NAMED:
        choice = value.get(NAMED[kind])
        return choice.get("title") if isinstance(choice, dict) else choice
    if PLAIN.get(kind) in value:
        return value[PLAIN[kind]]
    return {name: part for name, part in value.items() if name not in AROUND}


def texts(values: Mapping[str, Any], slug: str) -> list[str]:
    """All texts of an attribute."""
    found = map(plain, now(values, slug))
    return [text.strip() for text in found if isinstance(text, str) and text.strip()]


def company_id(values: Mapping[str, Any]) -> str | None:
    """The id of a person's company."""
    held = now(values, COMPANY)
    key = plain(held[0]) if held else None
    return key if isinstance(key, str) and key else None


class Shape:
    """What becomes of a person. wanted: top-level names in use; None for all."""

    def __init__(
        self,
        wanted: frozenset[str] | None,
        known: Mapping[str, Attribute],
        *,
        all_emails: bool,
    ) -> None:
        self._shown = [one for slug, one in known.items() if wanted is None or slug in wanted]
        self._first_of = [name for name in FIRST_OF if wanted is None or name in wanted]
        self._all_emails = all_emails
        self._gaps_are_empty = True

    def look_at(self, rows: Sequence[Row]) -> None:
        """Whether attributes without a value are left out, or shown as an empty list: nobody says [?], so the pages show it.

        Where empty ones are shown, one that is missing was not read.
        """
        self._gaps_are_empty = self._gaps_are_empty and not any(
            held == [] for row in rows for held in values_of(row).values()
        )

    def came(self, values: Mapping[str, Any], slug: str) -> bool:
        """Whether this attribute was read, be it empty."""
        return isinstance(values.get(slug, [] if self._gaps_are_empty else None), list)

    def values(self, row: Row) -> dict[str, Any]:
        """The fields of the record of a person; what did not come is left out: it is not known."""
        values, found = values_of(row), dict[str, Any]()
        for one in self._shown:
            if self.came(values, one.slug):
                shown = [plain(value) for value in now(values, one.slug)]
                found[one.slug] = shown if one.several else next(iter(shown), None)
        for name in self._first_of:
            if self.came(values, FIRST_OF[name]):
                found[name] = next(iter(texts(values, FIRST_OF[name])), None)
        return found

    def further(self, key: str, row: Row) -> Iterator[tuple[str, str]]:
        """(key, address) of each further address, where they are wanted."""
        addresses = texts(values_of(row), EMAILS) if self._all_emails else []
        told = {addresses[0].lower()} if addresses else set()
        for address in addresses[1:]:
            if address.lower() not in told:
                told.add(address.lower())
                yield further_key(key, address), address


def values_of(row: Row) -> Mapping[str, Any]:
    """The values of a record. Raises SourceError where it has none at all."""
    values = row.get("values")
    if not isinstance(values, dict):
        raise SourceError(
            "Attio: a record came without `values`", hint="Check base_url: is this Attio's API?"
        )
    return values
