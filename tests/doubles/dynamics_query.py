"""As much of OData's filters and of FetchXML as the Dynamics connector may send, parsed strictly: anything else is a 400."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote
from xml.etree import ElementTree

from syncd.http import parse_time

CONDITIONS_MAX = 500
_SIMPLE = re.compile(r"([\w/]+) (eq|ne|ge|le|gt|lt) (\S+)")
_IN = re.compile(r"Microsoft\.Dynamics\.CRM\.In\(PropertyName='(\w+)',PropertyValues=(\[.*\])\)")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

Row = Mapping[str, Any]
At = Callable[[Row, str], Any]  # the value of a property or a path; raises Malformed


class Malformed(Exception):
    """Not a query that Dataverse (or this double) takes."""


def holds(text: str, row: Row, at: At) -> bool:
    """Whether a filter holds for a row."""
    for part in text.split(" or "):
        results = [_one(condition, row, at) for condition in part.split(" and ")]
        if all(results):
            return True
    return False


def _one(text: str, row: Row, at: At) -> bool:
    if found := _IN.fullmatch(text):
        values = json.loads(found[2])
        if not values or len(values) > CONDITIONS_MAX:
            raise Malformed("Number of conditions in query exceeded maximum limit.")
        held = at(row, found[1])
        return held is not None and held.lower() in {value.lower() for value in values}
    found = _SIMPLE.fullmatch(text)
    if not found:
        raise Malformed(f"Syntax error at position 0 in '{text}'.")
    held, value = at(row, found[1]), _literal(found[3])
    if _TIME.fullmatch(found[3]):
        held = parse_time(held)
    if found[2] in {"eq", "ne"}:
        return (held == value) == (found[2] == "eq")
    if held is None:
        return False
    return {"ge": held >= value, "le": held <= value, "gt": held > value, "lt": held < value}[
        found[2]
    ]


def _literal(text: str) -> Any:
    if text in {"true", "false", "null"}:
        return {"true": True, "false": False, "null": None}[text]
    if _TIME.fullmatch(text):
        return parse_time(text)
    if text.isdigit():
        return int(text)
    if re.fullmatch(r"'[^']*'", text):
        return text[1:-1]
    raise Malformed(f"Invalid literal {text!r}")


class Fetch:
    """One FetchXML query. table: of the root entity."""

    def __init__(self, text: str) -> None:
        try:
            self._root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise Malformed(f"Invalid XML. {error}") from None
        entity = self._root.find("entity")
        if self._root.tag != "fetch" or entity is None:
            raise Malformed("Invalid FetchXml")
        self._entity = entity
        self.table = entity.get("name", "")
        self.columns = [one.get("name", "") for one in entity.findall("attribute")]
        self.orders = [one.get("attribute", "") for one in entity.findall("order")]
        self.count = int(self._root.get("count", "5000"))
        self.page = int(self._root.get("page", "1"))

    def after(self, id_name: str) -> str:
        """The last id of the page before. A page by its number alone is refused: it would be one of moving rows."""
        if self.page == 1:
            return ""
        cookie = self._root.get("paging-cookie", "")
        element = ElementTree.fromstring(cookie or "<none/>").find(id_name)
        if element is None:
            raise Malformed("Paging cookie is required when trying to retrieve a set of records")
        return element.get("last", "").strip("{}").lower()

    def cookie(self, id_name: str, last: str) -> str:
        """What the next query needs: a cookie within a cookie, encoded twice."""
        inner = f'<cookie page="{self.page}"><{id_name} last="{{{last.upper()}}}" /></cookie>'
        twice = quote(quote(inner, safe=""), safe="")
        return f'<cookie pagenumber="{self.page + 1}" pagingcookie="{twice}" istracking="False" />'

    def finds(self, row: Row, at: At, parents: Callable[[Row, str], Row | None]) -> bool:
        """Whether a row is found. parents: the row that a lookup leads to."""
        if not self._all(self._entity, row, at):
            return False
        for link in self._entity.findall("link-entity"):
            parent = parents(row, link.get("to", ""))
            if parent is None or not self._all(link, parent, lambda one, name: one.get(name)):
                return False
        return True

    def _all(self, element: ElementTree.Element, row: Row, at: At) -> bool:
        return all(
            str(at(row, one.get("attribute", ""))).lower() == one.get("value", "").lower()
            for one in element.findall("filter/condition")
            if one.get("operator") == "eq"
        )


def twice_decoded(text: str) -> str:
    return unquote(unquote(text))
