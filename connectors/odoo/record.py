"""A row of Odoo becomes a record: plain values, and what the connector adds (`_email`, `_opted_out`, `_company`, ...)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from connectors.odoo.beside import Beside
from connectors.odoo.model import Choice, Kinds
from connectors.odoo.person import addresses, converter
from connectors.odoo.vendor import Row, Server, search
from syncd.connector import Record
from syncd.http import Lookup, domain_of, further_key, split_name

BATCH_IDS = 500
READ_USERS = "the right to read users"
NO_ADDRESSES = frozenset({"email_normalized", "email_formatted"})  # made by Odoo of `email`
NOBODYS_COMPANY = {"id": None, "name": None, "domain": None, "website": None}

Add = Callable[[Row, dict[str, Any]], None]


class Records:
    """The records of a read. fields: those that are wanted, None for all; beside: what was read beside the people.

    shown: the fields that come. mails: the fields whose addresses may become a person's, so that their opt-outs count.
    """

    def __init__(
        self,
        server: Server,
        choice: Choice,
        kinds: Kinds,
        fields: frozenset[str] | None,
        beside: Beside,
    ) -> None:
        self._server, self._choice, self._model = server, choice, choice.model
        self._kinds, self._fields, self._beside = kinds, fields, beside
        shown = sorted(kinds if fields is None else fields & kinds.keys())
        if (
            fields is None
        ):  # what is not stored is computed row by row; lines of other models may be forbidden
            shown = [name for name in shown if _is_held(kinds[name])]
        self.shown = shown
        self._plain = [(name, converter(kinds[name])) for name in shown]
        email = self._model.email
        self.mails = [email, *(n for n in shown if n != email and _is_mail(n, kinds[n]))]
        self._companies = Lookup(self._fetch_companies, batch=BATCH_IDS)
        self._owners = Lookup(self._fetch_owners, batch=BATCH_IDS)

    def needed(self) -> set[str]:
        """The fields to ask for, as far as this Odoo has them: a missing one is an error."""
        names = {"id", "write_date", "active", self._model.email}
        if self._wants("_opted_out"):
            names |= {"is_blacklisted", "opt_out", "email_normalized"}
        if self._wants("_company"):
            names |= {"commercial_partner_id", "parent_id", "company_name", "partner_name"}
        if self._wants("_owner"):
            names.add("user_id")
        if self._wants("_tags"):
            names.add(self._model.tags)
        if self._wants("_first_name", "_last_name"):
            names |= {"firstname", "lastname", self._model.person}
        if self._wants("_phone"):
            names |= {"phone", "mobile"}
        return (names & self._kinds.keys()) | set(self.shown)

    def of(self, rows: Sequence[Row]) -> Iterator[Record]:
        """One record of each row, or of each address where all are wanted."""
        adds = self._adds(rows)
        for row in rows:
            key = str(row["id"])
            fields = {
                name: row[name] if convert is None else convert(row[name])
                for name, convert in self._plain
                if name in row
            }
            for add in adds:
                add(row, fields)
            place = f"{self._model.name} {key}"
            yield Record(key, fields, place)
            for further, address in self._further(row):
                also = {self._model.email: address, "_email": address}
                changed = {name: also[name] for name in also.keys() & fields.keys()}
                yield Record(further, {**fields, **changed}, f"{place}, another address")

    def keys(self, row: Row) -> list[str]:
        """All keys that a row has."""
        return [str(row["id"]), *(key for key, _ in self._further(row))]

    def _further(self, row: Row) -> Iterator[tuple[str, str]]:
        """(key, address) of each further address of a person, where they are wanted."""
        if self._choice.all_emails:
            for address in addresses(row.get(self._model.email))[1:]:
                yield further_key(str(row["id"]), address), address

    def _wants(self, *joins: str) -> bool:
        return self._fields is None or not self._fields.isdisjoint(joins)

    def _adds(self, rows: Sequence[Row]) -> list[Add]:
        """What is added to each of these rows, of what is in use."""
        adds: list[Add] = []
        if self._wants("_email"):
            adds.append(self._add_email)
        if self._wants("_first_name", "_last_name"):
            adds.append(self._add_names)
        if self._wants("_phone"):
            adds.append(_add_phone)
        if self._beside.blacklist is not None and self._wants("_opted_out"):
            adds.append(self._add_opted_out)
        if self._beside.tags is not None and self._wants("_tags"):
            adds.append(self._beside.tags.adding(rows))
        if self._beside.lists is not None and self._wants("_lists"):
            adds.append(self._add_lists)
        if self._wants("_company"):
            adds.append(self._adding_company(rows))
        if self._wants("_owner"):
            adds.append(self._adding_owner(rows))
        return adds

    def _add_email(self, row: Row, fields: dict[str, Any]) -> None:
        """The first address; a text without any as it is, so that it is reported as none."""
        text = row.get(self._model.email)
        found = addresses(text)
        fields["_email"] = found[0] if found else text or None

    def _add_names(self, row: Row, fields: dict[str, Any]) -> None:
        """Those of the module partner_firstname where they are; else made of the whole name."""
        first, last = row.get("firstname") or None, row.get("lastname") or None
        if not first and not last:
            whole = row.get(self._model.person) or None
            first, last = (whole, None) if self._choice.whole_names else split_name(whole)
        if self._wants("_first_name"):
            fields["_first_name"] = first
        if self._wants("_last_name"):
            fields["_last_name"] = last

    def _add_opted_out(self, row: Row, fields: dict[str, Any]) -> None:
        """Left out where it is not known: a strict expression then blocks the person."""
        known = self._opted_out(row)
        if known is not None:
            fields["_opted_out"] = known

    def _opted_out(self, row: Row) -> bool | None:
        blacklist = self._beside.blacklist
        if row.get("is_blacklisted") or row.get("opt_out"):
            return True
        if blacklist is None or self._model.email not in row:
            return None
        for name in ("is_blacklisted", "opt_out"):
            if name in self._kinds and row.get(name) is not False:
                return None
        texts = [row[name] for name in self.mails if row.get(name)]
        if blacklist.readable:
            return blacklist.has(texts)
        # Odoo knows of the one address that it has normalised, and of no other.
        known = row.get("email_normalized")
        return False if all(_is_just(text, known) for text in texts) else None

    def _add_lists(self, row: Row, fields: dict[str, Any]) -> None:
        lists = self._beside.lists or {}
        found = (one.lower() for one in addresses(row.get(self._model.email)))
        fields["_lists"] = sorted({name for one in found for name in lists.get(one, ())})

    def _adding_company(self, rows: Sequence[Row]) -> Add:
        if not self._model.companies:
            return _add_company_of_lead
        companies = self._companies.of(_company_id(row) for row in rows)

        def add(row: Row, fields: dict[str, Any]) -> None:
            key = _company_id(row)
            found = companies.get(key) if key else None
            if key and found is None:  # it may not be read: what is not known is left out
                fields["_company"] = _link(row.get("commercial_partner_id") or row.get("parent_id"))
            elif found is not None and found["is_company"]:
                website = found["website"] or None
                fields["_company"] = {
                    "id": key,
                    "name": found["name"] or None,
                    "domain": domain_of(website),
                    "website": website,
                }
            else:
                fields["_company"] = _named(row.get("company_name"))

        return add

    def _adding_owner(self, rows: Sequence[Row]) -> Add:
        owners = self._owners.of(_id(row.get("user_id")) for row in rows)

        def add(row: Row, fields: dict[str, Any]) -> None:
            link = row.get("user_id")
            key = _id(link)
            fields["_owner"] = (owners[key] or _link(link)) if key else None

        return add if "user_id" in self._kinds else lambda _row, _fields: None

    def _fetch_companies(self, ids: Sequence[str]) -> dict[str, Row]:
        fields = ["name", "website", "is_company"]
        return self._fetch("res.partner", ids, fields, needs="")

    def _fetch_owners(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        found = self._fetch("res.users", ids, ["name", "email"], needs=READ_USERS)
        return {
            key: {"id": key, "name": row["name"] or None, "email": row["email"] or None}
            for key, row in found.items()
        }

    def _fetch(
        self, model: str, ids: Sequence[str], fields: Sequence[str], *, needs: str
    ) -> dict[str, Row]:
        """Archived ones too: the company of a person may be."""
        domain = [["id", "in", [int(key) for key in ids]]]
        rows = search(
            self._server, model, domain, fields, rows_max=len(ids), archived=True, needs=needs
        )
        return {str(row["id"]): row for row in rows}


def _is_held(kind: Mapping[str, Any]) -> bool:
    return bool(kind.get("store", True)) and kind.get("type") != "one2many"


def _is_mail(name: str, kind: Mapping[str, Any]) -> bool:
    """Whether a mapping may take the address from this field: then an opt-out of it counts too."""
    return kind.get("type") == "char" and "mail" in name and name not in NO_ADDRESSES


def _is_just(text: object, address: object) -> bool:
    return isinstance(address, str) and [n.lower() for n in addresses(text)] == [address.lower()]


def _id(link: Any) -> str | None:
    return str(link[0]) if isinstance(link, list) and link else None


def _link(link: Any) -> dict[str, Any]:
    """What a link itself says of an object that may not be read."""
    return {"id": str(link[0]), "name": link[1] or None}


def _company_id(row: Row) -> str | None:
    """The company that a person belongs to: for somebody without any, Odoo names the person."""
    found = _id(row.get("commercial_partner_id")) or _id(row.get("parent_id"))
    return None if found == str(row["id"]) else found


def _named(name: Any) -> dict[str, Any] | None:
    """A company of which only the name is written down."""
    return {**NOBODYS_COMPANY, "name": name} if name else None


def _add_company_of_lead(row: Row, fields: dict[str, Any]) -> None:
    fields["_company"] = _named(row.get("partner_name"))


def _add_phone(row: Row, fields: dict[str, Any]) -> None:
    """`mobile` is gone in Odoo 19."""
    fields["_phone"] = row.get("phone") or row.get("mobile") or None
