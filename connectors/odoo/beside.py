"""What Odoo keeps beside its people: the blacklist, the tags, the mailing lists; each read whole in each read.

Source: connectors reference, section 6; connectors-seen, Odoo, points 2, 7, 8 and 12.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from connectors.odoo.marks import Marks
from connectors.odoo.model import Choice, Kinds, People
from connectors.odoo.person import addresses, mentioned
from connectors.odoo.vendor import Row, Server, fields_of, pages, search
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.http import Lookup

SCAN_ROWS = 10_000  # rows of one or two short fields: less than a megabyte
TAGS_BATCH = 500
READ_BLACKLIST = "the right to read mail.blacklist (the group Email Marketing / User, or an access right of its own)"
READ_LISTS = "the right to read mailing lists (the group Email Marketing / User)"
READ_TAGS = "the right to read tags"
SUBSCRIPTIONS = frozenset({"mailing.subscription", "mailing.contact.subscription"})


class Absent(SourceError):
    """This Odoo does not have it: a module is not installed, or its version is too old or too new."""


class Beside:
    """All of it that is wanted, once `read` was called.

    blacklist, tags, lists: None where it was not read. read_names: what was, and how; another answer makes a cursor useless.
    """

    def __init__(
        self,
        server: Server,
        fields: frozenset[str] | None,
        choice: Choice,
        kinds: Kinds,
        people: People,
    ) -> None:
        self._server, self._fields, self._choice = server, fields, choice
        self._kinds, self._people = kinds, people
        self.marks = Marks()
        self.read_names: list[str] = []
        self.blacklist: Blacklist | None = None
        self.tags: Tags | None = None
        self.lists: dict[str, tuple[str, ...]] | None = None

    def read(self) -> None:
        """Read what is in use. Where everything is asked for, what may not be read is left out. Raises SourceError."""
        for join, raw, read in (
            ("_opted_out", "is_blacklisted", self._read_opt_outs),
            ("_tags", self._choice.model.tags, self._read_tags),
            ("_lists", "", self._read_lists),
        ):
            if not self._is_used(join, raw):
                continue
            try:
                self.read_names.append(read())
            except (SourceDenied, Absent):
                if self._fields is not None:
                    raise

    def _is_used(self, join: str, raw: str) -> bool:
        """Whether the join is, or the field of Odoo's that changes as unseen as what the join is made of."""
        fields = self._fields
        return fields is None or join in fields or (raw in fields and raw in self._kinds)

    def _read_opt_outs(self) -> str:
        model = self._choice.model.name
        if "is_blacklisted" not in self._kinds:
            if "opt_out" not in self._kinds:
                raise Absent(
                    f"This Odoo shows no opt-outs of {model}: neither is_blacklisted nor opt_out",
                    hint="Install the module Discuss (mail), or take `_opted_out` out of the mapping",
                )
            self.blacklist = Blacklist(frozenset())  # until Odoo 12 `opt_out` is all there is
            return "opt_out"
        try:
            self.blacklist = _read_blacklist(self._server, self.marks)
        except SourceDenied:
            self.blacklist = Blacklist(None)
            _note_blacklisted(self._server, model, self.marks)
            return "is_blacklisted"
        return "blacklist"

    def _read_tags(self) -> str:
        model = self._choice.model
        relation = self._kinds.get(model.tags, {}).get("relation")
        if not isinstance(relation, str):
            raise Absent(f"This Odoo has no tags of {model.name} that may be read")
        tags = Tags(self._server, model.tags, relation)
        tags.note(model.name, self._people.domain, self.marks)
        self.tags = tags
        return "tags"

    def _read_lists(self) -> str:
        self.lists = _read_lists(self._server, self._choice.lists, self.marks)
        return "lists"


class Blacklist:
    """Who must not be written to, by address; and by id where the list itself may not be read.

    readable: whether mail.blacklist was. Where it was not, Odoo's own `is_blacklisted` knows the first address only.
    """

    def __init__(self, held: Collection[str] | None) -> None:
        self._held = None if held is None else frozenset(held)

    @property
    def readable(self) -> bool:
        """Whether every address can be asked for."""
        return self._held is not None

    def has(self, texts: Iterable[object]) -> bool | None:
        """Whether any address in these texts is on it; None where that is not known."""
        if self._held is None:
            return None
        for text in texts:
            found = mentioned(text)
            if found is None:
                return None
            if not self._held.isdisjoint(found):
                return True
        return False


def _read_blacklist(server: Server, marks: Marks) -> Blacklist:
    """The active rows of mail.blacklist: an archived one is an opt-out that was taken back. Raises SourceDenied, SourceError."""
    held: set[str] = set()
    domain = [["active", "=", True]]
    for rows in pages(
        server,
        "mail.blacklist",
        domain,
        ["email"],
        rows_max=SCAN_ROWS,
        archived=True,
        needs=READ_BLACKLIST,
    ):
        for row in rows:
            held.update(mentioned(row.get("email")) or ())
    for address in held:
        marks.of_address(address, "blacklist")
    return Blacklist(held)


def _note_blacklisted(server: Server, model: str, marks: Marks) -> None:
    """Where the list may not be read: who is on it by Odoo's own search, which everybody may ask."""
    for rows in pages(server, model, [["is_blacklisted", "=", True]], ["id"], rows_max=SCAN_ROWS):
        for row in rows:
            marks.of_id(row["id"], "blacklist")


class Tags:
    """The tags of people, by name; an archived tag is none."""

    def __init__(self, server: Server, field: str, tag_model: str) -> None:
        self._server, self._model, self._field = server, tag_model, field
        self._names = Lookup(self._fetch, batch=TAGS_BATCH)

    def note(self, model: str, people: Sequence[Any], marks: Marks) -> None:
        """Mark everybody who has a tag. Raises SourceError."""
        domain = [*people, [self._field, "!=", False]]
        for rows in pages(self._server, model, domain, [self._field], rows_max=SCAN_ROWS):
            names = self._named(rows)
            for row in rows:
                for name in self._of(row, names):
                    marks.of_id(row["id"], f"tag {name}")

    def adding(self, rows: Sequence[Row]) -> Callable[[Row, dict[str, Any]], None]:
        """What adds `_tags` to the fields of one of these rows."""
        names = self._named(rows)

        def add(row: Row, fields: dict[str, Any]) -> None:
            if self._field in row:
                fields["_tags"] = self._of(row, names)

        return add

    def _named(self, rows: Iterable[Row]) -> Mapping[str, Any]:
        return self._names.of(str(key) for row in rows for key in row.get(self._field) or ())

    def _of(self, row: Row, names: Mapping[str, Any]) -> list[str]:
        """Sorted, each once."""
        found = (names.get(str(key)) for key in row.get(self._field) or ())
        return sorted({one["name"] for one in found if one and one["name"]})

    def _fetch(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        domain = [["id", "in", [int(key) for key in ids]]]
        rows = search(
            self._server, self._model, domain, ["name"], rows_max=len(ids), needs=READ_TAGS
        )
        return {str(row["id"]): {"name": row.get("name") or ""} for row in rows}


def _read_lists(
    server: Server, names: tuple[str, ...] | None, marks: Marks
) -> dict[str, tuple[str, ...]]:
    """address -> names of the mailing lists in which it is and has not opted out. names: only these. Raises SourceError.

    A subscription has no time of its own (`write_date` is false on rows made through `list_ids`), and opting out of a list moves
    nothing else: so all of it is read.
    """
    model = _subscription_model(server)
    titles: dict[int, str] = {}
    for rows in pages(server, "mailing.list", [], ["name"], rows_max=SCAN_ROWS, needs=READ_LISTS):
        titles |= {row["id"]: str(row.get("name") or "") for row in rows}
    unknown = set(names or ()) - set(titles.values())
    if unknown:
        raise SourceError(
            f"Odoo has no mailing list {sorted(unknown)[0]!r}",
            hint="Correct the name in `lists`, or leave `lists` out for all",
        )
    chosen = {key: name for key, name in titles.items() if names is None or name in names}
    of_contact: dict[int, set[str]] = {}
    domain = [["list_id", "in", sorted(chosen)], ["opt_out", "=", False]]
    for rows in pages(
        server, model, domain, ["contact_id", "list_id"], rows_max=SCAN_ROWS, needs=READ_LISTS
    ):
        for row in rows:
            if row["contact_id"] and row["list_id"]:
                of_contact.setdefault(row["contact_id"][0], set()).add(chosen[row["list_id"][0]])
    found: dict[str, set[str]] = {}
    domain = [["list_ids", "in", sorted(chosen)]]
    for rows in pages(
        server, "mailing.contact", domain, ["email"], rows_max=SCAN_ROWS, needs=READ_LISTS
    ):
        for row in rows:
            for address in addresses(row.get("email")) if row["id"] in of_contact else ():
                found.setdefault(address.lower(), set()).update(of_contact[row["id"]])
    lists = {address: tuple(sorted(held)) for address, held in found.items()}
    for address, held in lists.items():
        marks.of_address(address, f"lists {held}")
    return lists


def _subscription_model(server: Server) -> str:
    """`mailing.subscription`, which was `mailing.contact.subscription` until 16: the contacts' own field says which."""
    try:
        kinds = fields_of(server, "mailing.contact", READ_LISTS)
    except SourceRefused as error:
        raise Absent(
            "This Odoo has no mailing lists",
            why=error.why,
            hint="Install the module Email Marketing, or take `_lists` out of the mapping",
        ) from None
    for kind in kinds.values():
        relation = str(kind.get("relation") or "")
        if kind.get("type") == "one2many" and relation in SUBSCRIPTIONS:
            return relation
    raise Absent(
        "Odoo's mailing contacts do not say who is in which list",
        hint="Take `_lists` out of the mapping: this version of Odoo is not known here",
    )
