"""What one table (contact, lead) gives to a record: its columns, its joined objects, its opt-outs.

A secured column comes as null for a user who may not see it: it is not known then, and not empty. Labels of choices and
lookups come as annotations, and stand under the names that Dataverse's metadata has for them (`statecodename`).

Source: connectors reference, section 5.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.dynamics.vendor import (
    CELLS_MAX,
    FORMATTED,
    PAGE_ROWS,
    SELECT_CHARS_MAX,
    TARGET,
    Column,
    Pairs,
    Row,
    Table,
    ident,
)
from syncd.errors import SourceError
from syncd.http import domain_of, parse_time

ADDRESSES = ("emailaddress1", "emailaddress2", "emailaddress3")
OPT_OUTS = ("donotemail", "donotbulkemail")  # true: do not [M]
SYSTEM = ("modifiedon", "statecode", "merged", "masterid")
TYPED = frozenset({"Boolean", "DateTime"})
QUALIFIED = 1  # the state of a lead that has become a contact
# table -> what `_company` is made of
COMPANY = {"contact": ("parentcustomerid",), "lead": ("companyname", "websiteurl")}
OPTED_OUT = "_opted_out"

Consented = Callable[
    [str], bool
]  # address -> whether the consent center says that it has opted out


@dataclass(frozen=True, slots=True)
class Shape:
    """One table as a read wants it. values: (name, name in rows, kind, whether null is not known)."""

    table: Table
    query: tuple[tuple[str, str], ...]
    annotations: str
    rows_max: int
    values: tuple[tuple[str, str, str, bool], ...]
    joins: frozenset[str]

    def select(self, condition: str) -> Pairs:
        """The query of the rows for which a condition holds, in the order of their ids."""
        return [*self.query, ("$filter", condition), ("$orderby", self.table.id)]

    def fields(self, row: Row) -> dict[str, Any]:
        """The fields of a record, without those that are not known."""
        fields: dict[str, Any] = {}
        for name, wire, kind, unknown in self.values:
            value = row.get(wire, _ABSENT)
            if value is _ABSENT and kind == "Label":
                value = row.get(wire.removesuffix(FORMATTED), _ABSENT)
                value = None if value is None else _ABSENT  # nothing has no label
            if value is _ABSENT or (value is None and unknown):
                continue
            if kind in TYPED and value is not None:
                value = self._typed(name, kind, value)
            fields[name] = value
        if "_company" in self.joins:
            company = _company(self.table.name, row)
            if company is not _ABSENT:
                fields["_company"] = company
        return fields

    def _typed(self, name: str, kind: str, value: Any) -> Any:
        if kind == "DateTime":
            return (parse_time(value) or value) if "T" in str(value) else value
        if type(value) is not bool:
            raise SourceError(
                f"Dynamics 365: {name} of {self.table.name} is neither true nor false",
                hint="An opt-out may hang on it, so nothing of this read is used",
            )
        return value


def shape(
    table: Table,
    known: Mapping[str, Column],
    wanted: frozenset[str] | None,
    joins: frozenset[str],
    *,
    rows_max: int = PAGE_ROWS,
    leads: bool = False,
) -> Shape:
    """What to ask of a table. joins: those that can be read. leads: whether a contact's lead is asked for, too."""
    names = sorted(known if wanted is None else wanted & set(known))
    also = [*SYSTEM, *ADDRESSES]
    if "_company" in joins:
        also += COMPANY[table.name]
    if "_owner" in joins:
        also.append("ownerid")
    if OPTED_OUT in joins:
        also += OPT_OUTS
    asked = dict.fromkeys([table.id])
    asked |= dict.fromkeys(known[known[n].label_of or n].wire for n in names)
    asked |= dict.fromkeys(known[name].wire for name in also if name in known)
    labels = any(known[name].label_of for name in names)
    annotations = [FORMATTED[1:]] if labels else []
    annotations += [TARGET[1:]] if joins & {"_company", "_owner"} else []
    expand = []
    if "_company" in joins and table.name == "contact":
        expand.append("parentcustomerid_account($select=accountid,name,websiteurl)")
    if leads and "originatingleadid" in known:
        expand.append("originatingleadid($select=leadid,statecode)")
    query = [("$select", ",".join(asked))] if len(",".join(asked)) <= SELECT_CHARS_MAX else []
    query += [("$expand", ",".join(expand))] if expand else []
    width = len(asked) * (2 if labels else 1)
    return Shape(
        table,
        tuple(query),
        ",".join(annotations),
        max(1, min(rows_max, CELLS_MAX // width)),
        tuple(
            (name, one.wire, one.kind, one.secured or name in OPT_OUTS)
            for name, one in ((name, known[name]) for name in names)
        ),
        joins,
    )


def opted_out(row: Row, consented: Consented) -> bool | None:
    """Whether this person must not be mailed; None where that is not known."""
    flags = [row.get(name) for name in OPT_OUTS]
    if True in flags or any(consented(address) for address in addresses(row)):
        return True
    return False if flags == [False] * len(OPT_OUTS) else None


def addresses(row: Row) -> list[str]:
    """All addresses of a person."""
    return [text for name in ADDRESSES if isinstance(text := row.get(name), str) and text.strip()]


def qualified_lead(row: Row) -> str | None:
    """The lead that has become this contact."""
    lead = row.get("originatingleadid")
    if isinstance(lead, dict) and lead.get("statecode") == QUALIFIED:
        return ident(lead.get("leadid"))
    return None


def _company(table: str, row: Row) -> Any:
    """The joined company; _ABSENT where there is one that this user may not see."""
    if table == "lead":
        name = row.get("companyname")
        website = row.get("websiteurl")
        if not name:
            return None
        return {"id": None, "name": name, "domain": domain_of(website), "website": website}
    found = row.get("parentcustomerid_account")
    if isinstance(found, dict):
        return {
            "id": ident(found.get("accountid")),
            "name": found.get("name"),
            "domain": domain_of(found.get("websiteurl")),
            "website": found.get("websiteurl"),
        }
    value = row.get("_parentcustomerid_value", _ABSENT)
    if value is None or row.get(f"_parentcustomerid_value{TARGET}") == "contact":
        return None
    return _ABSENT


_ABSENT = object()
