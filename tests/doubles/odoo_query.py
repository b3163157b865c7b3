"""search_read as Odoo 14 and 19 answer it: filters, hidden microseconds, missing fields, archived rows, blacklisted addresses.

Source: connectors-seen, Odoo, the table of date filters among others.
"""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doubles.odoo import Odoo

ROWS_MAX = 10_000  # of few fields; more in one answer and the worker is ended (limit_time_real)
WIDE_ROWS_MAX = 1_000
NARROW = 3  # fields


class Raised(Exception):
    """An exception of Odoo's, as the protocols tell it. status: of JSON-2."""

    def __init__(self, status: int, name: str, words: str) -> None:
        self.status, self.name, self.words = status, name, words


class Query:
    """One search_read."""

    def __init__(self, odoo: "Odoo", model: str, given: dict[str, Any]) -> None:
        self._odoo, self._model, self._given = odoo, model, given
        self._kinds = odoo.schema[model]
        self._rows = odoo.tables[model]

    def rows(self) -> list[dict[str, Any]]:
        given = self._given
        if not given.get("fields"):
            raise Raised(403, "odoo.exceptions.AccessError", "You do not have enough rights")
        for name in given["fields"]:
            self._known(name)
        limit = given.get("limit") or 10**9
        if limit > ROWS_MAX or (limit > WIDE_ROWS_MAX and len(given["fields"]) > NARROW):
            raise Raised(500, "odoo.http.WorkerKilled", "limit_time_real")
        domain = given.get("domain", [])
        active_test = given.get("context", {}).get("active_test", True)
        if active_test and not any(one[0] == "active" for one in domain if isinstance(one, list)):
            domain = [["active", "=", True], *domain]
        found = [row for row in self._rows.values() if self._fits(row, domain)]
        order = given.get("order", "id")
        found.sort(key=lambda row: tuple(row.get(name.strip()) or 0 for name in order.split(",")))
        start = given.get("offset", 0)
        return [self._told(row) for row in found[start : start + limit]]

    def _known(self, name: str) -> None:
        if name not in self._kinds:
            words = f"Invalid field '{name}' on model '{self._model}'"
            raise Raised(500, "builtins.ValueError", words)

    def _told(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"id": row["id"]} | {name: self._value(row, name) for name in self._given["fields"]}

    def _value(self, row: dict[str, Any], name: str) -> Any:
        kind = self._kinds[name]
        value = self.held(row, name)
        if kind["type"] == "many2one" and value:
            other = self._odoo.tables[kind["relation"]].get(value, {})
            return [value, other.get("name") or f"{kind['relation']},{value}"]
        if kind["type"] in {"many2many", "one2many"}:
            return list(value or [])
        if kind["type"] == "datetime" and value:
            return shown(value)
        if kind["type"] in {"integer", "float", "monetary"}:
            return value or 0
        return False if value is None else value  # an empty text is stored as it was sent [9]

    def held(self, row: dict[str, Any], name: str) -> Any:
        """The stored value, or the computed one."""
        if name == "email_normalized":
            return self._normalised(row)
        if name == "is_blacklisted":
            first = self._normalised(row)
            listed = self._odoo.tables["mail.blacklist"].values()
            return bool(first) and any(one["email"] == first and one["active"] for one in listed)
        return row.get(name)

    def _normalised(self, row: dict[str, Any]) -> Any:
        """The first address; Odoo 14 has none where there are several [7]."""
        found = re.findall(
            r"[^\s<>,;\"]+@[^\s<>,;\"]+", str(row.get("email") or row.get("email_from") or "")
        )
        if not found or (len(found) > 1 and self._odoo.version < 19):
            return False
        return found[0].lower()

    def _fits(self, row: dict[str, Any], domain: list[Any]) -> bool:
        stack: list[bool] = []
        for one in reversed(domain):
            if one in ("&", "|"):
                left, right = stack.pop(), stack.pop()
                stack.append((left and right) if one == "&" else (left or right))
            else:
                stack.append(self._meets(row, *one))
        return all(stack)

    def _meets(self, row: dict[str, Any], name: str, operator: str, value: Any) -> bool:
        self._known(name)
        held = self.held(row, name)
        if self._kinds[name]["type"] == "datetime" and isinstance(value, str):
            return self._at(held, operator, value)
        many = isinstance(held, list)
        match operator:
            case "=" | "!=":
                same = not held if value is False and held != "" else held == value
                same = value in held if many and value is not False else same
                return same if operator == "=" else not same
            case "in":
                return bool(set(held) & set(value)) if many else held in value
            case "ilike":
                return str(value).lower() in str(held or "").lower()
            case ">":
                return (held or 0) > value
            case ">=":
                return (held or 0) >= value
        raise Raised(500, "builtins.ValueError", f"Invalid operator {operator!r}")

    def _at(self, held: Any, operator: str, text: str) -> bool:
        """The table of date filters: 14 compares with the hidden microseconds, 19 whole seconds; a zone is an error in 19."""
        new = self._odoo.version >= 19
        if new and not re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?", text):
            raise Raised(500, "builtins.ValueError", f"time data {text!r} does not match format")
        wanted = datetime.fromisoformat(text.replace("Z", "")).replace(tzinfo=UTC).timestamp()
        if not held:
            return False
        if new:
            held, wanted = int(held), int(wanted)
        compared = {
            ">=": held >= wanted,
            ">": held > wanted,
            "<": held < wanted,
            "=": held == wanted,
        }
        return compared[operator]


def shown(seconds: float) -> str:
    """On the wire: whole seconds, UTC, no zone."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
