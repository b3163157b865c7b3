"""Who is in which target list, and who has opted out of it: all are read whole each time, for it does not change a person (seen, 15)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from connectors.espocrm.vendor import Espo
from syncd.errors import SourceError

LISTS, OPTED_OUT = "/TargetList", "targetListIsOptedOut"
LINKS = {"Contact": "contacts", "Lead": "leads"}


@dataclass(frozen=True, slots=True)
class TargetList:
    """One target list. members: entity -> ids of who is in it and has not opted out of it; out: of those who have."""

    name: str
    members: dict[str, frozenset[str]]
    out: dict[str, frozenset[str]]


def target_lists(
    espo: Espo, names: tuple[str, ...] | None, entities: Sequence[str]
) -> Iterator[TargetList]:
    """The lists of these names, or all. Raises SourceError where there is no such list."""
    rows = [row for page in espo.pages(LISTS, select="id,name") for row in page]
    found = [(str(row["id"]), str(row.get("name") or "")) for row in rows]
    for name in names or ():
        if name not in {known for _, known in found}:
            raise SourceError(
                f"EspoCRM has no target list {name!r} that this login can see",
                hint="Correct the name in `lists`, or leave `lists` out for all",
            )
    for key, name in found:
        if names is None or name in names:
            sides = {entity: _members(espo, key, entity) for entity in entities}
            yield TargetList(
                name, {e: one for e, (one, _) in sides.items()}, {e: out for e, (_, out) in sides.items()}
            )  # fmt: skip


def _members(espo: Espo, key: str, entity: str) -> tuple[frozenset[str], frozenset[str]]:
    """(members, who opted out). The flag is right in this listing only: anywhere else it is false by default (seen, 16)."""
    members, out = set[str](), set[str]()
    path = f"{LISTS}/{key}/{LINKS[entity]}"
    for rows in espo.pages(path, select=f"id,{OPTED_OUT}"):
        for row in rows:
            flag = row.get(OPTED_OUT)
            if not isinstance(flag, bool):
                raise SourceError(
                    f"EspoCRM: {path} does not say who has opted out of the list",
                    why=f"`{OPTED_OUT}` is missing in a member",
                    hint="Leave _lists out of the mapping, or ask who runs the CRM",
                )
            (out if flag else members).add(str(row["id"]))
    return frozenset(members), frozenset(out)


def digest_of(lists: Sequence[TargetList]) -> str:
    """Changes whenever somebody joins, leaves or opts out; empty without lists."""
    digest = blake2b(digest_size=12)
    for one in lists:
        for entity in sorted(one.members):
            said = (one.name, entity, sorted(one.members[entity]), sorted(one.out[entity]))
            digest.update(repr(said).encode())
    return digest.hexdigest() if lists else ""
