"""FluenzR's groups as the state knows them: a number of our own (gid) for each, whatever it is called today.

A gid stays with FluenzR's id through renames, so that nobody is enrolled twice because a group got another name.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from syncd.core.model import GroupKind
from syncd.errors import ConfigError
from syncd.state.store import State


@dataclass(frozen=True, slots=True)
class SeenGroup:
    """A group as FluenzR shows it."""

    rid: str
    name: str
    kind: GroupKind


class Groups:
    """The groups of one run, in memory: there are few. Write methods stand inside a transaction."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.kinds: dict[int, GroupKind] = {}
        self.names: dict[int, str] = {}
        self.rids: dict[int, str] = {}
        self._by_rid: dict[str, int] = {}
        self._aliases: dict[str, int] = {}
        self.load()

    def load(self) -> None:
        """Read what the state holds, also after a transaction was rolled back."""
        rows = self._state.rows("SELECT gid,name,rid,kind FROM grp")
        self.kinds = {row["gid"]: GroupKind(row["kind"]) for row in rows}
        self.names = {row["gid"]: row["name"] for row in rows}
        self.rids = {row["gid"]: row["rid"] for row in rows if row["rid"] is not None}
        self._by_rid = {rid: gid for gid, rid in self.rids.items()}
        self._aliases = self._state.pairs("SELECT name,gid FROM grp_name")

    def refresh(self, seen: Iterable[SeenGroup]) -> None:
        """Take over what GET /groups shows. A group that is gone loses its id, and its members their membership."""
        shown = {group.rid: group for group in seen}
        for rid, gone in self._by_rid.items():
            if rid not in shown:
                self._state.write("UPDATE grp SET rid=NULL WHERE gid=?", gone)
                self._forget_members(gone)
        without_id = {n: gid for gid, n in self.names.items() if self.rids.get(gid) not in shown}
        for group in shown.values():
            gid = self._by_rid.get(group.rid)
            if gid is None and group.name in without_id:
                # Made by us without an answer, or deleted and made again by hand: the same group to us, and to the ledger.
                gid = without_id.pop(group.name)
                self._note_kind(gid, group.kind)
                self._state.write(
                    "UPDATE grp SET rid=?,kind=? WHERE gid=?", group.rid, group.kind.value, gid
                )
            elif gid is None:
                self._state.write(
                    "INSERT INTO grp(name,rid,kind) VALUES(?,?,?)",
                    group.name,
                    group.rid,
                    group.kind.value,
                )
            elif (self.names[gid], self.kinds[gid]) != (group.name, group.kind):
                self._note_kind(gid, group.kind)
                self._state.write(
                    "UPDATE grp SET name=?,kind=? WHERE gid=?", group.name, group.kind.value, gid
                )
        self.load()

    def _note_kind(self, gid: int, kind: GroupKind) -> None:
        """A hand has made a group mail that did not, or the other way round.

        Whoever was to join it when it mailed nobody was no enrolment to the guards: these people are never enrolled there.
        """
        was_static, is_static = self.kinds[gid] is GroupKind.STATIC, kind is GroupKind.STATIC
        wants = "EXISTS (SELECT 1 FROM json_each(contact.want,'$.g') WHERE value=?1)"
        if was_static and not is_static:
            self._state.write(
                f"INSERT OR IGNORE INTO never SELECT ekey(email),'g'||?1,NULL,1 FROM contact WHERE {wants}",
                gid,
            )
        elif is_static and not was_static:  # whom it would have mailed may join it now
            self._state.write(f"UPDATE contact SET todo=1 WHERE {wants}", gid)

    def _forget_members(self, gid: int) -> None:
        """The group was deleted by hand: nobody is in it, whatever was sent."""
        members = self._state.rows(
            "SELECT cid,sent FROM contact WHERE EXISTS"
            " (SELECT 1 FROM json_each(contact.sent,'$.g') WHERE value=?)",
            gid,
        )
        for cid, text in members:
            sent = orjson.loads(text)
            sent["g"] = [g for g in sent["g"] if g != gid]
            self._state.write(
                "UPDATE contact SET sent=?,todo=1 WHERE cid=?",
                orjson.dumps(sent, option=orjson.OPT_SORT_KEYS).decode(),
                cid,
            )

    def gid(self, name: str) -> int:
        """The number of the group with this name (or id, `grp_...`), one to be created if there is none. Raises ConfigError."""
        known = self._aliases.get(name)
        if known is not None and (known in self.rids or not self._candidates(name)):
            return known
        gid = self._find(name)
        if gid is None:
            gid = self._state.db.execute(
                "INSERT INTO grp(name,rid,kind) VALUES(?,NULL,?)", (name, GroupKind.STATIC.value)
            ).lastrowid
            assert gid is not None
            self.names[gid], self.kinds[gid] = name, GroupKind.STATIC
        self._state.write("INSERT OR REPLACE INTO grp_name VALUES(?,?)", name, gid)
        self._aliases[name] = gid
        return gid

    def _candidates(self, name: str) -> list[int]:
        exact = [gid for gid, known in self.names.items() if known == name and gid in self.rids]
        return exact or [
            gid
            for gid, known in self.names.items()
            if known.casefold() == name.casefold() and gid in self.rids
        ]

    def _find(self, name: str) -> int | None:
        if name in self._by_rid:
            return self._by_rid[name]
        found = self._candidates(name)
        if len(found) > 1:
            ids = ", ".join(self.rids[gid] for gid in found)
            raise ConfigError(
                f"FluenzR has {len(found)} groups named {name!r}: {ids}",
                hint="Rename one of them in FluenzR, or write the group's id instead of its name",
            )
        return found[0] if found else None

    def exists(self, name: str) -> bool:
        """Whether FluenzR has a group of this name."""
        return any(known == name and gid in self.rids for gid, known in self.names.items())

    def to_create(self) -> list[int]:
        """Groups that a source or the configuration names and FluenzR does not have."""
        return sorted(gid for gid in set(self._aliases.values()) if gid not in self.rids)

    def created(self, gid: int, group: SeenGroup) -> None:
        """FluenzR has confirmed the group."""
        other = self._by_rid.get(group.rid)
        assert other is None or other == gid
        self._state.write(
            "UPDATE grp SET rid=?,kind=? WHERE gid=?", group.rid, group.kind.value, gid
        )
        self.rids[gid], self.kinds[gid] = group.rid, group.kind
        self._by_rid[group.rid] = gid

    def gids_of(self, rids: Iterable[str]) -> frozenset[int]:
        """The numbers of these groups; a group that was made since the last listing has none."""
        return frozenset(self._by_rid[rid] for rid in rids if rid in self._by_rid)
