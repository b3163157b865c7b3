"""The two models whose rows are people, contacts and leads, and what a configuration chooses of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.odoo.vendor import Row

Kinds = Mapping[str, Mapping[str, Any]]  # the fields of a model, as Odoo describes them


@dataclass(frozen=True, slots=True)
class Model:
    """What differs between the two.

    name: Odoo's. email, person, tags: the fields with the address, the person's name, the tags. people: the filter of those rows
    that are people; each of its conditions is one field that is, or is not, a boolean. companies: a row may belong to another one.
    """

    name: str
    email: str
    person: str
    tags: str
    people: tuple[tuple[str, str, bool], ...]
    companies: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """The options that shape a read."""

    model: Model
    all_emails: bool
    internal_users: bool
    whole_names: bool
    lists: tuple[str, ...] | None


# Child addresses (delivery, invoice, other) are contacts too, and the only ones that may have no name.
CONTACT = Model(
    name="res.partner",
    email="email",
    person="name",
    tags="category_id",
    people=(("is_company", "=", False), ("name", "!=", False)),
    companies=True,
)
LEAD = Model(
    name="crm.lead",
    email="email_from",
    person="contact_name",
    tags="tag_ids",
    people=(),
    companies=False,
)


class People:
    """Which rows are people: as a filter for Odoo, and as a test of a row, which must say the same.

    Internal users are left out. A customer with a portal login is a user as well, so they are told by `partner_share`, where
    this Odoo has that.
    """

    def __init__(self, choice: Choice, kinds: Kinds) -> None:
        conditions = list(choice.model.people)
        if choice.model.companies and not choice.internal_users:
            if "partner_share" in kinds:
                conditions.append(("partner_share", "=", True))
            elif "user_ids" in kinds:
                conditions.append(("user_ids", "=", False))
        self._conditions = conditions
        self.domain = [list(one) for one in conditions]
        self.fields = {name for name, _, _ in conditions}

    def __contains__(self, row: Row) -> bool:
        return all(
            _meets(row.get(name), operator, wanted) for name, operator, wanted in self._conditions
        )


def _meets(value: Any, operator: str, wanted: bool) -> bool:  # noqa: FBT001  a value like any other
    """An empty list is Odoo's false as well; an empty text is not."""
    held = False if value == [] else value
    same = bool(held) is wanted if isinstance(held, list) else held is wanted
    return same if operator == "=" else not same
