"""One change, as `plan` shows it, as `held` keeps it and as the history tells it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson


class ChangeKind(StrEnum):
    """What happens to a contact; where several things do, the first of this order names the change."""

    CREATE = "create"
    MOVE = "move"
    REMOVE = "remove"
    UPDATE = "update"
    GROUP = "group"
    UNGROUP = "ungroup"


@dataclass(frozen=True, slots=True)
class Edit:
    """Names that are added and taken away, sorted."""

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)

    def contract(self) -> dict[str, list[str]]:
        """As `syncd plan --json` shows it."""
        return {"add": list(self.add), "remove": list(self.remove)}


@dataclass(frozen=True, slots=True)
class Change:
    """One contact's change. fields: name -> (old, new); a custom field is named `customFields.NAME`.

    campaigns: names of those that it would be enrolled in. enrol: names of the dynamic groups and campaigns that it would
    join, and so be mailed by. why: words for people.
    """

    email: str
    sync: str
    kind: ChangeKind
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    groups: Edit = Edit()
    tags: Edit = Edit()
    campaigns: tuple[str, ...] = ()
    enrol: tuple[str, ...] = ()
    why: str = ""

    def contract(self) -> dict[str, Any]:
        """One entry of `changes` in `syncd plan --json`."""
        return {
            "email": self.email,
            "change": self.kind.value,
            "fields": {name: list(pair) for name, pair in self.fields.items()},
            "groups": self.groups.contract(),
            "tags": self.tags.contract(),
            "why": self.why,
            "campaigns": Edit(self.campaigns).contract(),
        }

    def dump(self) -> bytes:
        """For the scratch database of a plan; `load` reads it."""
        return orjson.dumps(
            {**self.contract(), "sync": self.sync, "enrol": list(self.enrol)},
            option=orjson.OPT_SORT_KEYS,
        )

    @classmethod
    def load(cls, text: bytes) -> "Change":
        """What `dump` wrote."""
        data = orjson.loads(text)
        return cls.of_contract(data, sync=data["sync"])

    @classmethod
    def of_contract(cls, data: dict[str, Any], *, sync: str) -> "Change":
        """What `contract` says, with the names under `enrol`: so is it kept while a guard holds it."""
        return cls(
            email=data["email"],
            sync=sync,
            kind=ChangeKind(data["change"]),
            fields={name: (old, new) for name, (old, new) in data["fields"].items()},
            groups=Edit(tuple(data["groups"]["add"]), tuple(data["groups"]["remove"])),
            tags=Edit(tuple(data["tags"]["add"]), tuple(data["tags"]["remove"])),
            campaigns=tuple(data.get("campaigns", {}).get("add", ())),
            enrol=tuple(data["enrol"]),
            why=data["why"],
        )
