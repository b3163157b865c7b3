"""Dataverse's Web API as it is: errors, limits, pages by next links, what tables and columns there are.

Source: connectors reference, section 5; Microsoft's pages on paging ("follow the link as it is, with the same page size"), on
filters (`In` takes values in double quotes) and on change tracking (an expired version is 0x80044352).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from syncd.errors import SourceError, SourceTooLarge
from syncd.http import Answer, Api, Denied, Query, Refused, Trail, Vendor, Verdict, by_status

PAGE_ROWS = 5000  # the largest page [S4]
PAGE_ROWS_MIN = 50  # a page of so few rows that is too large stays an error
CELLS_MAX = 200_000  # rows times columns of one page: some 20 MB of JSON
IN_VALUES = 200  # ids in one filter: 9,000 characters of a URL that may have 32,768
SELECT_CHARS_MAX = 18_000  # with more, no columns are named, and all of them come
EXPIRED = "0x80044352"  # "Version stamp associated with the client has expired. Please perform a full sync."
NO_PRIVILEGE, NO_MEMBER = "0x80040220", "0x80072560"
FEW_LEFT, SLOW_S = 100, 1.0  # so few requests left of a server's window [M]: one a second
METADATA = "the privileges to read table and column definitions (the role Basic User has them)"

_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,127}")

Row = dict[str, Any]
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the metadata has it. path: of its rows. tracked: whether change tracking is on."""

    name: str
    path: str
    id: str
    tracked: bool


@dataclass(frozen=True, slots=True)
class Column:
    """A column that can be read. wire: its name in rows. label_of: it is the text that users see for that other column."""

    name: str
    wire: str
    label: str
    kind: str
    secured: bool
    label_of: str = ""


def _error(answer: Answer) -> tuple[str, str]:
    """(code, message) of an error; empty where the body is no such thing."""
    try:
        error = orjson.loads(answer.body)["error"]
        return str(error["code"]), str(error["message"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return "", ""


def _judge(answer: Answer, now_s: float) -> Verdict:
    if answer.fault or answer.status < 400:
        return by_status(answer, now_s)
    code, _ = _error(answer)
    if answer.status == 410 or code == EXPIRED:  # whatever status comes with it, 500 included
        return Refused("Everything is read anew")
    if code == NO_MEMBER:
        return Denied(
            "Make an application user for this client id in the environment (Power Platform admin center)"
        )
    if code == NO_PRIVILEGE and answer.status != 401:  # that is a token that has ended
        return Denied()
    return by_status(answer, now_s)


def _words(answer: Answer) -> str:
    code, message = _error(answer)
    return f"{code}: {message}" if code or message else ""


def _heed(answer: Answer, _: float) -> float:
    left = answer.headers.get("x-ms-ratelimit-burst-remaining-xrm-requests", "").strip()
    return SLOW_S if left.isdigit() and int(left) < FEW_LEFT else 0.0


DYNAMICS = Vendor("Dynamics 365", judge=_judge, words=_words, heed=_heed)


def needs(table: str) -> str:
    """What the application user's security role must allow."""
    return f"a security role that may read the table {table} (level Organization, else rows are missing)"


def ident(value: Any) -> str:
    """A row's id: a GUID in small letters. Raises SourceError for anything else: ids stand in filters."""
    text = value.strip("{}").lower() if isinstance(value, str) else ""
    if not _GUID.fullmatch(text):
        raise SourceError(
            "Dynamics 365: a row without an id that is a GUID",
            hint="Nothing is lost: the next run reads it anew",
        )
    return text


def among(column: str, values: Sequence[str]) -> str:
    """The condition that a column holds one of at most IN_VALUES values."""
    listed = orjson.dumps(list(values)).decode()
    return f"Microsoft.Dynamics.CRM.In(PropertyName='{column}',PropertyValues={listed})"


def batches(values: Sequence[str], size: int = IN_VALUES) -> Iterator[Sequence[str]]:
    """As many values at a time as one filter takes."""
    return (values[start : start + size] for start in range(0, len(values), size))


def rows_of(found: Any, path: str) -> list[Row]:
    """The rows of an answer."""
    rows = found.get("value") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        raise SourceError(
            f"Dynamics 365: {path} answered without `value`",
            hint="Check base_url: is this a Dataverse environment (https://NAME.crm4.dynamics.com)?",
        )
    return rows


def answers(
    api: Api, path: str, query: Query, *, prefer: Sequence[str] = (), needs: str = ""
) -> Iterator[Row]:
    """All answers of a listing, one a page. `prefer` goes with each page [S4]; an answer without a body is an empty one."""
    trail = Trail(f"Dynamics 365: {path}")
    headers = {"Prefer": ",".join(prefer)} if prefer else {}
    while True:
        found = api.get(path, query, headers=headers, needs=needs)
        found = {} if found is None else found
        if not isinstance(found, dict):
            raise SourceError(f"Dynamics 365: {path} answered without an object")
        yield found
        link = found.get("@odata.nextLink")
        if not link:
            return
        trail.step(link)
        path, query = within(api.base_url, link)


def pages(
    api: Api,
    path: str,
    query: Pairs,
    *,
    rows_max: int = PAGE_ROWS,
    annotations: str = "",
    needs: str = "",
) -> Iterator[list[Row]]:
    """All pages of a listing. Where the first one is too large, the listing starts again with smaller ones."""
    prefer = [f"odata.maxpagesize={rows_max}"]
    prefer += [f'odata.include-annotations="{annotations}"'] if annotations else []
    started = False
    try:
        for found in answers(api, path, query, prefer=prefer, needs=needs):
            started = True
            yield rows_of(found, path)
    except SourceTooLarge as error:
        fewer = max(PAGE_ROWS_MIN, rows_max // 10)
        if started or rows_max <= fewer:  # all pages of a listing have one size [S4]
            hint = f"Write page_rows = {max(1, rows_max // 10)}"
            raise SourceTooLarge(error.what, why=error.why, hint=hint) from None
        yield from pages(api, path, query, rows_max=fewer, annotations=annotations, needs=needs)


def within(base_url: str, link: Any) -> tuple[str, str]:
    """(path, query) of a link that Dataverse hands out, as it stands there [S4]. A link to anywhere else would take the login there."""
    parts, ours = urlsplit(str(link)), urlsplit(base_url)
    same = (parts.scheme, parts.netloc.lower()) == (ours.scheme, ours.netloc.lower())
    if not same or not parts.path.startswith(f"{ours.path}/api/data/"):
        raise SourceError(
            f"Dynamics 365: the next page is at {parts.netloc or 'no host'}, outside of base_url",
            hint="Write the address that the environment itself uses as base_url",
        )
    return parts.path.removeprefix(ours.path), parts.query


def tables(api: Api, base: str, names: Sequence[str]) -> dict[str, Table]:
    """Those of the tables that the environment has. Which ones depends on the apps in it."""
    path = f"{base}/EntityDefinitions"
    query = [
        ("$select", "LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled"),
        ("$filter", " or ".join([f"LogicalName eq '{name}'" for name in names])),
    ]
    found = {}
    for answer in answers(api, path, query, needs=METADATA):
        for row in rows_of(answer, path):
            name, rows_name = row["LogicalName"], row["EntitySetName"]
            if name in names and _NAME.fullmatch(str(rows_name)):
                found[name] = Table(
                    name,
                    f"{base}/{rows_name}",
                    str(row.get("PrimaryIdAttribute") or f"{name}id"),
                    row.get("ChangeTrackingEnabled") is True,
                )
    return found


def columns(api: Api, base: str, table: str) -> dict[str, Column]:
    """The columns of a table that can be read, and the labels of choices and lookups under Dataverse's names (`statecodename`)."""
    path = f"{base}/EntityDefinitions(LogicalName='{table}')/Attributes"
    select = (
        "LogicalName,AttributeType,AttributeTypeName,AttributeOf,IsValidForRead,IsValidODataAttribute,"
        "IsSecured,DisplayName"
    )
    rows = [
        row
        for answer in answers(api, path, [("$select", select)], needs=METADATA)
        for row in rows_of(answer, path)
        if _NAME.fullmatch(str(row["LogicalName"]))
    ]
    found = {}
    for row in rows:
        kind = _kind(row)
        if (
            kind
            and row.get("AttributeOf") is None
            and row.get("IsValidODataAttribute") is not False
        ):
            name = row["LogicalName"]
            wire = f"_{name}_value" if kind in LOOKUPS else name
            found[name] = Column(name, wire, _label(row), kind, row.get("IsSecured") is True)
    for row in rows:
        held = found.get(row.get("AttributeOf") or "")
        if held is not None and row["LogicalName"] == f"{held.name}name":
            name, wire = row["LogicalName"], f"{held.wire}{FORMATTED}"
            label = _label(row) or held.label
            found.setdefault(name, Column(name, wire, label, "Label", held.secured, held.name))
    return found


LOOKUPS = frozenset({"Lookup", "Customer", "Owner"})
FORMATTED = "@OData.Community.Display.V1.FormattedValue"
TARGET = "@Microsoft.Dynamics.CRM.lookuplogicalname"
# What is no value of a row: pictures and files, parts of other columns, lists of parties.
NO_VALUE = frozenset({"Virtual", "EntityName", "ManagedProperty", "CalendarRules", "PartyList"})


def _kind(row: Mapping[str, Any]) -> str:
    """The type of a column; empty where it cannot be selected."""
    if row.get("IsValidForRead") is False:
        return ""
    kind = str(row.get("AttributeType") or "")
    if (row.get("AttributeTypeName") or {}).get("Value") == "MultiSelectPicklistType":
        return "Choices"
    return "" if kind in NO_VALUE else kind


def _label(row: Mapping[str, Any]) -> str:
    label = ((row.get("DisplayName") or {}).get("UserLocalizedLabel") or {}).get("Label")
    return str(label or "")
