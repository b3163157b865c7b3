"""What stands beside Apollo's contacts: lists, stages, users, custom fields, and who has unsubscribed in an e-mail.

Whether unsubscribing or joining a list changes a contact, nobody says [?]. So a cursor holds what the last read knew of it, and
whoever is new there is read again. Source: docs.apollo.io: labels, contact stages, users, custom fields, search for outreach emails.
"""

import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.apollo.vendor import (
    CUSTOM_FIELDS,
    LABELS,
    MESSAGES,
    STAGES,
    USERS,
    Row,
    ident,
    listed,
    reads,
    rows_of,
)
from syncd.errors import SourceError
from syncd.http import Api

# How a stage, or a reason why a sequence has ended, says that somebody wants no e-mail.
OUT = re.compile(r"unsubscri|opt(ed)?[ _-]?out|do[ _-]?not[ _-]?(contact|e-?mail|disturb)", re.I)
# An e-mail in which somebody has unsubscribed, and an answer that asks for it.
UNSUBSCRIBED = (
    {"emailer_message_stats[]": "unsubscribed"},
    {"emailer_message_reply_classes[]": "unsubscribe"},
)


@dataclass(frozen=True, slots=True)
class Label:
    """A list of contacts. state: another one when it has other members, as far as Apollo notices."""

    name: str
    count: int
    state: str


@dataclass(frozen=True, slots=True)
class CustomField:
    """A custom field of contacts. options: id -> name, where it has a choice of values."""

    name: str
    options: Mapping[str, str]

    def shown(self, value: Any) -> Any:
        """A value as people see it: names for ids."""
        if isinstance(value, list):
            return [self.shown(one) for one in value]
        return self.options.get(value, value) if isinstance(value, str) else value


def labels(api: Api) -> dict[str, Label]:
    """id -> list of contacts. The answer is a bare list, or has a name [?]."""
    found = api.get(LABELS, needs=reads(LABELS))
    rows = rows_of({"labels": found} if isinstance(found, list) else found, LABELS, "labels")
    return {
        ident(row): Label(
            str(row.get("name") or ""),
            row["cached_count"] if isinstance(row.get("cached_count"), int) else 0,
            f"{row.get('cached_count')} {row.get('updated_at')}",
        )
        for row in rows
        if row.get("modality") in (None, "contacts")
    }


def label_ids(known: Mapping[str, Label], names: Iterable[str]) -> list[str]:
    """The ids of the lists of these names. Raises SourceError where one is missing, or two have its name."""
    found = []
    for name in names:
        ids = [key for key, label in known.items() if label.name == name]
        if len(ids) != 1:
            raise SourceError(
                f"Apollo has {len(ids) or 'no'} list{'s' if ids else ''} {name!r} of contacts",
                hint="Correct the name in `lists`; rename one of two",
            )
        found += ids
    return found


def stages(api: Api) -> dict[str, str]:
    """id -> name of each stage of contacts."""
    rows = rows_of(api.get(STAGES, needs=reads(STAGES)), STAGES, "contact_stages")
    return {ident(row): str(row.get("display_name") or row.get("name") or "") for row in rows}


def users(api: Api) -> dict[str, dict[str, Any]]:
    """id -> user, as `_owner` has it."""
    found = {}
    for row in listed(api, USERS, "users"):
        name = row.get("name") or f"{row.get('first_name') or ''} {row.get('last_name') or ''}"
        email = row.get("email")
        found[ident(row)] = {"id": ident(row), "name": name.strip() or None, "email": email}
    return found


def custom_fields(api: Api) -> dict[str, CustomField]:
    """id -> custom field of contacts."""
    found = api.get(CUSTOM_FIELDS, needs=reads(CUSTOM_FIELDS))
    rows = rows_of(found, CUSTOM_FIELDS, "typed_custom_fields")
    return {
        ident(row): CustomField(str(row.get("name") or ""), _options(row))
        for row in rows
        if row.get("modality") in (None, "contact")
    }


def unsubscribed(api: Api) -> set[str]:
    """The ids of contacts who have unsubscribed in an e-mail of Apollo's, or asked for it in an answer, whenever that was."""
    return {
        str(row["contact_id"])
        for query in UNSUBSCRIBED
        for row in listed(api, MESSAGES, "emailer_messages", query)
        if row.get("contact_id")
    }


def pack(ids: Iterable[str]) -> str:
    """Ids for a cursor."""
    return b64encode(zlib.compress("\n".join(sorted(ids)).encode())).decode()


def unpack(text: Any) -> set[str] | None:
    """What was packed; None where that is no such text."""
    try:
        return set(zlib.decompress(b64decode(text, validate=True)).decode().split("\n")) - {""}
    except (TypeError, ValueError, zlib.error):
        return None


def _options(row: Row) -> dict[str, str]:
    return {
        str(one.get("id") or one.get("_id")): str(one["name"])
        for one in row.get("picklist_values") or ()
        if isinstance(one, dict) and one.get("name")
    }
