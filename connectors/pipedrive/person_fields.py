"""The fields of Pipedrive's persons: their keys, names and choices, and how their values are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from connectors.pipedrive.vendor import PERSON_FIELDS, PERSONS, pages, rows_of
from syncd.errors import SourceError, SourceRefused
from syncd.http import Api

KEY_CHARS = 40  # of a custom field
ALWAYS = (
    "id", "name", "first_name", "last_name", "emails", "phones", "org_id", "owner_id", "label_ids",
    "add_time", "update_time", "visible_to", "picture_id", "marketing_status", "doi_status",
    "job_title",  # only where the account syncs contacts [S1]; elsewhere it is not told, so not known
)  # fmt: skip
# Sent only with the Campaigns add-on [S1]: asked for where they are used.
ADDED = ("marketing_status", "doi_status")
STATUS, UNSUBSCRIBED = "marketing_status", "unsubscribed"
LABELS = "label_ids"
RENAMED = frozenset({"email", "phone", "label", "im"})  # metadata of v1 for what v2 names otherwise


@dataclass(frozen=True, slots=True)
class PersonField:
    """One field of persons. options: id -> label, where it has a choice of values. kind: Pipedrive's word ("varchar", "enum")."""

    key: str
    name: str
    options: Mapping[str, str]
    kind: str = ""

    @property
    def is_custom(self) -> bool:
        """Whether somebody has made it in this account."""
        return len(self.key) == KEY_CHARS

    def shown(self, value: Any) -> Any:
        """A value as people see it: labels for ids."""
        if isinstance(value, dict):
            value = value.get("value")
        if not self.options or value is None:
            return value
        if isinstance(value, list):
            return [self.options.get(str(one), str(one)) for one in value]
        return self.options.get(str(value), value)


def person_fields(api: Api) -> dict[str, PersonField]:
    """key -> field. Named field_code and field_name, or key and name as in v1 [?]: both are read."""
    found = {}
    for rows in pages(api, PERSON_FIELDS, {}):
        for row in rows:
            key = str(row.get("field_code") or row.get("key") or "")
            if not key:
                raise SourceError("Pipedrive: a field of persons has no key")
            options = {str(one["id"]): str(one["label"]) for one in row.get("options") or ()}
            name = str(row.get("field_name") or row.get("name") or "")
            if key not in RENAMED:
                found[key] = PersonField(key, name, options, str(row.get("field_type") or ""))
            elif key == "label":
                found[LABELS] = PersonField(LABELS, name, options)
    return found


def added_fields(api: Api) -> frozenset[str]:
    """Which fields of the Campaigns add-on this account has; where it has no person yet, nobody can say, and they count as there.

    Without the add-on the request is refused, or they are left out of the answer [?].
    """
    try:
        found = api.get(PERSONS, {"limit": 1, "include_fields": ",".join(ADDED)})
    except SourceRefused:
        return frozenset()
    rows = rows_of(found, PERSONS)
    return frozenset(name for name in ADDED if all(name in row for row in rows))
