"""What one object (Contact, Lead) gives to a record: its columns, its joined objects, its values.

Values come as JSON from a query and as text from a bulk job; a record is the same either way. Compound fields are left out:
their parts are fields of their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.salesforce.soql import Row, truth
from connectors.salesforce.vendor import Column
from syncd.errors import SourceDenied, SourceError
from syncd.http import parse_time

EMAIL, OPT_OUT = "Email", "HasOptedOutOfEmail"
OWNER = {"id": "OwnerId", "name": "Owner.Name", "email": "Owner.Email"}
INDIVIDUAL = {
    "id": "IndividualId",
    "HasOptedOutProcessing": "Individual.HasOptedOutProcessing",
    "HasOptedOutSolicit": "Individual.HasOptedOutSolicit",
    "ShouldForget": "Individual.ShouldForget",
}
# table -> joined object -> its parts -> columns; the first one is there where the joined object is.
JOINS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "Contact": {
        "_company": {"id": "AccountId", "name": "Account.Name", "website": "Account.Website"},
        "_owner": OWNER,
        "_individual": INDIVIDUAL,
    },
    "Lead": {
        "_company": {"name": "Company", "website": "Website"},
        "_owner": OWNER,
        "_individual": INDIVIDUAL,
    },
}
COMPANY_PARTS = ("id", "name", "domain", "website")
# Objects beside the person's own whose changes a record must show; those of an owner are found by a full read.
WATCHED = {("Contact", "_company"): "Account", ("Contact", "_individual"): "Individual",
           ("Lead", "_individual"): "Individual"}  # fmt: skip
SYSTEM = ("Id", "SystemModstamp", "IsDeleted", "MasterRecordId")
PERSON_ACCOUNT = "IsPersonAccount"  # such a contact's account is the person again, and no company
CONVERTED = ("IsConverted", "ConvertedContactId")
NUMBERS = frozenset({"int", "long", "double", "currency", "percent"})

Visible = Callable[[str], frozenset[str]]  # table -> names of the columns that this user may see


@dataclass(frozen=True, slots=True)
class Shape:
    """One object as a read wants it. watched: parents whose changes make a person be read again. mails: fields of further addresses."""

    table: str
    columns: tuple[str, ...]
    watched: tuple[str, ...]
    mails: tuple[str, ...]
    values: tuple[tuple[str, str], ...]
    joins: tuple[tuple[str, Mapping[str, str]], ...]

    def fields(self, row: Row) -> dict[str, Any]:
        """The fields of a record, without those that the row lacks: they are not known."""
        fields: dict[str, Any] = {}
        for name, kind in self.values:
            value = row.get(name, _ABSENT)
            if value is _ABSENT:
                continue
            if kind == "boolean":
                # Never empty in Salesforce; if it were, it would not be known, and not be "no".
                if value is not None and value != "":
                    fields[name] = _boolean(name, value)
            elif value is None or value == "":
                fields[name] = None
            elif kind in NUMBERS:
                fields[name] = _number(value)
            else:
                fields[name] = parse_time(value) or value if kind == "datetime" else value
        for name, parts in self.joins:
            fields[name] = _joined(name, parts, row)
        return fields

    def further(self, row: Row) -> dict[str, str]:
        """field -> the further address in it; each address once, and without the first one."""
        told, found = {_address(row, EMAIL).lower()}, {}
        for name in self.mails:
            address = _address(row, name)
            if address and address.lower() not in told:
                told.add(address.lower())
                found[name] = address
        return found


def shape(
    table: str,
    columns: list[Column],
    wanted: frozenset[str] | None,
    visible: Visible,
    *,
    all_emails: bool,
) -> Shape:
    """What to ask of an object. wanted: names in use; None for all. Raises SourceDenied where an opt-out or a join is hidden."""
    kinds = {one.name: one.kind for one in columns}
    if wanted is not None and OPT_OUT in wanted and OPT_OUT not in kinds:
        raise SourceDenied(
            f"Salesforce: {OPT_OUT} of {table} is not shown to this user",
            why="Field-level security hides it, and so nobody knows who has opted out",
            hint="Give the user's profile or permission set read access to this field",
        )
    names = sorted(kinds if wanted is None else wanted & set(kinds))
    joins: list[tuple[str, Mapping[str, str]]] = []
    for name, parts in JOINS[table].items():
        if wanted is None or name in wanted:
            try:
                joins.append((name, _seen_parts(table, name, parts, frozenset(kinds), visible)))
            except SourceDenied:
                if wanted is not None:
                    raise
    also = [path for _, parts in joins for path in parts.values()]
    if also and PERSON_ACCOUNT in kinds:
        also.append(PERSON_ACCOUNT)
    mails = [name for name, kind in kinds.items() if kind == "email" and name != EMAIL]
    also += [*(name for name in kinds if name == EMAIL), *mails] if all_emails else []
    asked = dict.fromkeys([*SYSTEM, *(CONVERTED if table == "Lead" else ()), *names, *also])
    watched = [WATCHED[table, name] for name, _ in joins if (table, name) in WATCHED]
    values = tuple((name, kinds[name]) for name in names)
    further = tuple(sorted(mails)) if all_emails else ()
    return Shape(table, tuple(asked), tuple(watched), further, values, tuple(joins))


def _seen_parts(
    table: str, join: str, parts: Mapping[str, str], own: frozenset[str], visible: Visible
) -> Mapping[str, str]:
    """The parts of a joined object that this user may see. An opt-out among them is never left out."""
    seen = {}
    for part, path in parts.items():
        parent, _, name = path.rpartition(".")
        # An owner may be a user or a queue: what they have in common is always shown.
        if parent == "Owner" or name in (visible(parent) if parent else own):
            seen[part] = path
    anchor = next(iter(parts))
    if anchor not in seen or (join == "_individual" and len(seen) < len(parts)):
        hidden = ", ".join(path for part, path in parts.items() if part not in seen)
        raise SourceDenied(
            f"Salesforce: {join} of {table} cannot be read",
            why=f"{hidden} is not shown to this user (field-level security, or the feature is off)",
            hint=f"Give the user's profile or permission set read access to {hidden}",
        )
    return seen


def _joined(join: str, parts: Mapping[str, str], row: Row) -> dict[str, Any] | None:
    values = {part: _at(row, path) for part, path in parts.items()}
    if values[next(iter(parts))] is None:
        return None
    if join == "_company":
        if truth(row.get(PERSON_ACCOUNT)):
            return None
        return {part: values.get(part) for part in COMPANY_PARTS}
    if join == "_individual":
        return {p: v if p == "id" else _boolean(p, v) for p, v in values.items()}
    return values


def _at(row: Row, path: str) -> Any:
    """A column: `Account.Name` is nested in JSON, and a column of this name in a CSV file."""
    value = row.get(path)
    if value is None:
        parent, _, name = path.rpartition(".")
        held = row.get(parent) if parent else None
        value = held.get(name) if isinstance(held, dict) else None
    return None if value == "" else value


def _address(row: Row, name: str) -> str:
    return str(row.get(name) or "").strip()


def _boolean(name: str, value: Any) -> bool:
    if value is True or value == "true":
        return True
    if value is False or value == "false":
        return False
    raise SourceError(
        f"Salesforce: {name} is neither true nor false",
        hint="An opt-out may hang on it, so nothing of this read is used; the next run reads it anew",
    )


def _number(value: Any) -> Any:
    """10 comes as 10, 10.0 and "10.0": always the same number."""
    if type(value) is int:
        return value
    try:
        number = float(value)
        return int(number) if number.is_integer() else number
    except (ValueError, OverflowError, TypeError):
        return value


_ABSENT = object()
