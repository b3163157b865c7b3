"""The endpoints of groups.

Source: FluenzR reference, "Groups": listing, reading, creating, updating, deleting and adding [I]; whoever
leaves one does it by DELETE /contacts/:id/groups (`contacts.py`).
"""

from collections.abc import Iterable

from syncd.core.answer import ShapeError
from syncd.core.model import GroupKind
from syncd.fluenzr import types
from syncd.fluenzr.endpoints import Endpoints, given, named, part
from syncd.fluenzr.types import Group, Receipt
from syncd.wire import Reply


class Groups(Endpoints):
    """Groups. A dynamic one mails whoever joins it; so may one whose kind FluenzR does not tell."""

    def groups(self) -> list[Group]:
        """All groups. GET /groups [I]."""
        return list(self._listed("/groups", types.group, lambda group: group.id))

    def group(self, group_id: str) -> Group:
        """One group. GET /groups/:id [I]. Raises NotFound."""
        return self._wire.read(f"/groups/{part(group_id)}", _group)

    def create_group(
        self,
        name: str,
        *,
        kind: GroupKind = GroupKind.STATIC,
        description: str | None = None,
        color: str | None = None,
    ) -> Group:
        """POST /groups [I]. Whoever relies on the kind looks at the one that came."""
        body = given(name=name, type=kind.value, description=description, color=color)
        return self._wire.write("POST", "/groups", body, _group)

    def update_group(
        self,
        group_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        color: str | None = None,
    ) -> Group:
        """PUT /groups/:id [I]: what is given, nothing else. Raises NotFound."""
        body = given(name=name, description=description, color=color)
        return self._wire.write("PUT", f"/groups/{part(group_id)}", body, _group)

    def delete_group(self, group_id: str) -> None:
        """DELETE /groups/:id [I]: its members stay contacts. Raises NotFound."""
        self._wire.write("DELETE", f"/groups/{part(group_id)}", b"", lambda _: None)

    def add_contacts_to_group(self, group_id: str, contact_ids: Iterable[str]) -> Receipt:
        """POST /groups/:id/contacts [I], up to 1000 contacts; its body and its answer are [?].

        A dynamic group mails each of them. Raises NotSupported where the account lacks it, or where
        the group is not known.
        """
        return self._wire.write(
            "POST",
            f"/groups/{part(group_id)}/contacts",
            named("contactIds", contact_ids),
            _all_added,
            optional=True,
        )


def _group(reply: Reply) -> Group:
    return types.group(reply.data)


def _all_added(reply: Reply) -> Receipt:
    """The answer's shape is [?]; one that lists errors, as that of campaigns does, has not added everybody."""
    if isinstance(reply.data, dict) and reply.data.get("errors"):
        raise ShapeError("it says that not everybody was added")
    return Receipt(reply.date_ms, None)
