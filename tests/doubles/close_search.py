"""What Close's search understands: a query becomes a condition on one object as the index knows it."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

from syncd.http import parse_time

Condition = Callable[[dict[str, Any]], bool]


class BadQuery(Exception):
    """The search answers 400."""


@cache
def moment(text: str) -> datetime:
    found = parse_time(text)
    assert found is not None
    return found


def condition(query: dict[str, Any], kind: str) -> Condition:
    match query["type"]:
        case "and":
            parts = [condition(one, kind) for one in query["queries"]]
            return lambda row: all(part(row) for part in parts)
        case "or" if all(one["type"] == "id" for one in query["queries"]):
            ids = {one["value"] for one in query["queries"]}
            return lambda row: row["id"] in ids
        case "or":
            parts = [condition(one, kind) for one in query["queries"]]
            return lambda row: any(part(row) for part in parts)
        case "object_type":
            return lambda _: bool(query["object_type"] == kind)
        case "match_all":
            return lambda _: True
        case "has_related":
            if (query["this_object_type"], query["related_object_type"]) == (kind, "contact_email"):
                related = condition(query["related_query"], "contact_email")
                return lambda row: any(related(one) for one in row["emails"])
        case "field_condition":
            return _of_field(query["field"], query["condition"], kind)
    raise BadQuery(query["type"])


def _of_field(field: dict[str, Any], wanted: dict[str, Any], kind: str) -> Condition:
    if (field["type"], field["object_type"]) != ("regular_field", kind):
        raise BadQuery("field")
    name = field["field_name"]
    match wanted["type"]:
        case "moment_range" if wanted["on_or_after"]["type"] == "fixed_utc":
            since = moment(wanted["on_or_after"]["value"])
            return lambda row: moment(row[name]) >= since
        case "text" if wanted["mode"] == "phrase":
            text = str(wanted["value"]).lower()
            return lambda row: text in str(row.get(name)).lower()
    raise BadQuery("condition")
