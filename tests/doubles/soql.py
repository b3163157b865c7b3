"""As much SOQL as the Salesforce connector sends, parsed strictly: anything else is a MALFORMED_QUERY.

    SELECT COUNT() FROM Table
    SELECT column, Parent.column FROM Table [WHERE condition AND condition] [ORDER BY Id LIMIT n]

A condition is `column op value` with a quoted id, an unquoted time, true, false or null; or `column IN ('id', 'id')`.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from syncd.http import parse_time

QUERY_CHARS_MAX = 100_000
_QUERY = re.compile(
    r"SELECT (?P<columns>COUNT\(\)|[\w.]+(?:,[\w.]+)*) FROM (?P<table>\w+)"
    r"(?: WHERE (?P<where>.+?))?(?: ORDER BY Id LIMIT (?P<limit>\d+))?"
)
_CONDITION = re.compile(
    r"(?P<column>[\w.]+) (?:(?P<op>>=|<=|!=|>|<|=) (?P<value>\S+)|IN \((?P<ids>.+)\))"
)
_ID = re.compile(r"'(\w{18})'")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Malformed(Exception):
    """Not a query that Salesforce (or this double) takes."""


@dataclass
class Condition:
    column: str
    op: str
    value: Any

    def holds(self, held: Any) -> bool:
        value = self.value
        if self.op == "IN":
            return held in value
        if isinstance(value, datetime):
            held = parse_time(held)
        if self.op in {"=", "!="}:
            return (held == value) == (self.op == "=")
        if held is None:
            return False
        return {">": held > value, ">=": held >= value, "<": held < value, "<=": held <= value}[
            self.op
        ]


@dataclass
class Query:
    """columns: None for COUNT()."""

    table: str
    columns: list[str] | None
    conditions: list[Condition]
    limit: int | None


def parse(text: str) -> Query:
    found = _QUERY.fullmatch(text)
    if found is None or len(text) > QUERY_CHARS_MAX:
        raise Malformed(f"unexpected token in {text[:80]}")
    columns = None if found["columns"] == "COUNT()" else found["columns"].split(",")
    if columns is not None and len(set(columns)) < len(columns):
        raise Malformed("duplicate field selected")
    parts = found["where"].split(" AND ") if found["where"] else []
    limit = int(found["limit"]) if found["limit"] else None
    return Query(found["table"], columns, [_condition(part) for part in parts], limit)


def _condition(text: str) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise Malformed(f"unexpected token in {text[:80]}")
    if found["ids"] is not None:
        ids = [_ID.fullmatch(one) for one in found["ids"].split(",")]
        if None in ids:
            raise Malformed("invalid ID field")
        return Condition(found["column"], "IN", {one[1] for one in ids if one})
    return Condition(found["column"], found["op"], _literal(found["value"]))


def _literal(text: str) -> Any:
    if text in {"true", "false", "null"}:
        return {"true": True, "false": False, "null": None}[text]
    if _TIME.fullmatch(text):  # never quoted
        return parse_time(text)
    found = _ID.fullmatch(text)
    if found is None:
        raise Malformed(f"{text[:40]} is neither an id nor a time")
    return found[1]
