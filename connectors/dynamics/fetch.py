"""FetchXML of dynamic marketing lists: which queries can be run for the ids of their people, and how.

A query can be run if it is one of the people themselves. Then everything in it that filters is kept (also joins), everything that
names columns or an order is taken out, and ids in their order are put in. Sums and rankings have no people.

Source: connectors reference, section 5 [M]; Microsoft's pages on FetchXML: a page's cookie is URL-encoded twice, and goes as an
attribute into the next query; the annotations that tell it must be asked for.
"""

from collections.abc import Iterator
from urllib.parse import unquote
from xml.etree import ElementTree

from connectors.dynamics.vendor import PAGE_ROWS, Table, ident, needs, rows_of
from syncd.errors import SourceError
from syncd.http import Api, Trail

XML_CHARS_MAX = 20_000  # of a query; in a URL it becomes up to half as long again, of 32,768
MORE = "@Microsoft.Dynamics.CRM.morerecords"
COOKIE = "@Microsoft.Dynamics.CRM.fetchxmlpagingcookie"
HEADERS = {"Prefer": 'odata.include-annotations="Microsoft.Dynamics.CRM.*"'}


def query_for_ids(text: object, table: Table) -> str | None:
    """The query with nothing but ids in their order; None where it cannot be run here."""
    if not isinstance(text, str) or len(text) > XML_CHARS_MAX or "<!" in text:
        return None  # "<!": a document type could make a short text endless
    try:
        root = ElementTree.fromstring(text)  # noqa: S314  without a document type, and of limited length
    except ElementTree.ParseError:
        return None
    entities = root.findall("entity")
    aggregate = root.get("aggregate") == "true" or root.get("top") is not None
    if root.tag != "fetch" or len(entities) != 1 or aggregate:
        return None
    entity = entities[0]
    if entity.get("name") != table.name:
        return None
    for parent in entity.iter():
        for name in ("attribute", "all-attributes", "order"):
            for one in parent.findall(name):
                parent.remove(one)
    entity.insert(0, ElementTree.Element("attribute", {"name": table.id}))
    entity.append(ElementTree.Element("order", {"attribute": table.id}))
    root.set("distinct", "true")  # a join may find a person twice
    root.set("count", str(PAGE_ROWS))
    return ElementTree.tostring(root, encoding="unicode")


def people(api: Api, table: Table, query: str, name: str) -> Iterator[str]:
    """The ids of everybody whom a query finds. name: of its list, for errors."""
    trail, number = Trail(f"Dynamics 365: the list {name!r}"), 1
    while True:
        found = api.get(table.path, [("fetchXml", query)], headers=HEADERS, needs=needs(table.name))
        rows = rows_of(found, table.path)
        yield from (ident(row.get(table.id)) for row in rows)
        more = found.get(MORE)
        if more is False or (more is None and len(rows) < PAGE_ROWS):
            return
        number += 1
        cookie = _cookie(found.get(COOKIE))
        if not cookie:
            raise SourceError(
                f"Dynamics 365: the list {name!r} has more people, and no page of them after the first {PAGE_ROWS:,}",
                hint="Make the list a static one (Copy to static), or leave it out of `lists`",
            )
        trail.step(cookie)
        root = ElementTree.fromstring(query)  # noqa: S314  our own text
        root.set("page", str(number))
        root.set("paging-cookie", cookie)
        query = ElementTree.tostring(root, encoding="unicode")


def _cookie(text: object) -> str:
    if not isinstance(text, str) or "<!" in text:
        return ""
    try:
        element = ElementTree.fromstring(text)  # noqa: S314  as above
    except ElementTree.ParseError:
        return ""
    return unquote(unquote(element.get("pagingcookie") or ""))
