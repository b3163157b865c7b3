"""FluenzR's groups and campaigns as the state knows them: a number of our own (gid) for each, whatever it is called today.

A gid stays with FluenzR's id through renames, so that nobody is enrolled twice because a group got another name. A campaign is
one of them, for one is enrolled in it as in a dynamic group; but it is never made here, and nobody is taken out by its gid.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import orjson

from syncd.core.model import GroupKind
from syncd.errors import ConfigError
from syncd.state.store import State

CAMPAIGNS = frozenset({GroupKind.CAMPAIGN, GroupKind.ENDED})


@dataclass(frozen=True, slots=True)
class SeenGroup:
    """A group or campaign as FluenzR shows it."""

    rid: str
    name: str
    kind: GroupKind


class Groups:
    """The groups and campaigns of one run, in memory: there are few. Write methods stand inside a transaction.

    campaigns: gids of those that the last listing has shown, ended or not.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self.kinds: dict[int, GroupKind] = {}
        self.names: dict[int, str] = {}
        self.rids: dict[int, str] = {}
        self._by_rid: dict[str, int] = {}
        self._aliases: dict[str, int] = {}
        self._campaign_aliases: dict[str, int] = {}
        self.campaigns: frozenset[int] = frozenset()
        self.load()

    def load(self) -> None:
        """Read what the state holds, also after a transaction was rolled back."""
        rows = self._state.rows("SELECT gid,name,rid,kind FROM grp")
        self.kinds = {row["gid"]: GroupKind(row["kind"]) for row in rows}
        self.names = {row["gid"]: row["name"] for row in rows}
        self.rids = {row["gid"]: row["rid"] for row in rows if row["rid"] is not None}
        self._by_rid = {rid: gid for gid, rid in self.rids.items()}
        self._aliases = self._state.pairs("SELECT name,gid FROM grp_name")
        self._campaign_aliases = self._state.pairs("SELECT name,gid FROM campaign_name")

    def refresh(self, seen: Iterable[SeenGroup]) -> None:
        """Take over what GET /groups shows. A group that is gone loses its id, and its members their membership."""
        shown = {group.rid: group for group in seen}
        for rid, gone in self._by_rid.items():
            if rid not in shown and self.is_group(gone):
                self._state.write("UPDATE grp SET rid=NULL WHERE gid=?", gone)
                self._forget_members(gone)
        without_id = {
            name: gid
            for gid, name in self.names.items()
            if self.rids.get(gid) not in shown and self.is_group(gid)
        }
        for group in shown.values():
            gid = self._by_rid.get(group.rid)
            if gid is None and group.name in without_id:
                # Made by us without an answer, or deleted and made again by hand: the same group to us, and to the ledger.
                self._state.write(
                    "UPDATE grp SET rid=?,kind=? WHERE gid=?",
                    group.rid, group.kind.value, without_id.pop(group.name),
                )  # fmt: skip
            else:
                self._take(gid, group)
        self.load()

    def _take(self, gid: int | None, seen: SeenGroup) -> None:
        """A group or campaign that is new, or known under this id."""
        if gid is None:
            self._state.write(
                "INSERT INTO grp(name,rid,kind) VALUES(?,?,?)", seen.name, seen.rid, seen.kind.value
            )
        elif (self.names[gid], self.kinds[gid]) != (seen.name, seen.kind):
            self._state.write(
                "UPDATE grp SET name=?,kind=? WHERE gid=?", seen.name, seen.kind.value, gid
            )

    def is_group(self, gid: int) -> bool:
        """Whether this is a group, and not a campaign."""
        return self.kinds[gid] not in CAMPAIGNS

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
                "UPDATE contact SET sent_as=?,todo=1 WHERE cid=?",
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
        groups = {gid: self.names[gid] for gid in self.rids if self.is_group(gid)}
        return _called(groups, name)

    def _find(self, name: str) -> int | None:
        if name in self._by_rid and self.is_group(self._by_rid[name]):
            return self._by_rid[name]
        found = self._candidates(name)
        if len(found) > 1:
            ids = ", ".join(self.rids[gid] for gid in found)
            raise ConfigError(
                f"FluenzR has {len(found)} groups named {name!r}: {ids}",
                hint="Rename one of them in FluenzR, or write the group's id instead of its name",
            )
        return found[0] if found else None

    def there(self, name: str) -> int | None:
        """The number of the group with this name or id that FluenzR has. Raises ConfigError for two of one name."""
        return self._find(name)

    def gid_of(self, rid: str) -> int:
        """The number of the group or campaign with FluenzR's id."""
        return self._by_rid[rid]

    def exists(self, name: str) -> bool:
        """Whether FluenzR has a group of this name."""
        return any(self.names[gid] == name for gid in self.rids if self.is_group(gid))

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

    # --- campaigns ------------------------------------------------------------------------------------------------

    def refresh_campaigns(self, seen: Iterable[SeenGroup]) -> None:
        """Take over what GET /campaigns shows. One that is gone has ended; its number stays, and with it the ledger."""
        shown = {campaign.rid: campaign for campaign in seen}
        known = [gid for gid in self.kinds if not self.is_group(gid)]
        unseen = {self.names[gid]: gid for gid in known if self.rids.get(gid) not in shown}
        for campaign in shown.values():
            gid = self._by_rid.get(campaign.rid)
            if gid is None and campaign.name in unseen:
                # Named before it was seen, or deleted and made again by hand: the same campaign to us, and to the ledger.
                gid = unseen.pop(campaign.name)
                self._state.write(
                    "UPDATE grp SET rid=?,members_at=NULL WHERE gid=?", campaign.rid, gid
                )
            self._take(gid, campaign)
        for gid in unseen.values():
            self._state.write("UPDATE grp SET kind=? WHERE gid=?", GroupKind.ENDED.value, gid)
        self.load()
        self.campaigns = frozenset(self._by_rid[rid] for rid in shown)

    def campaign(self, name: str) -> int:
        """The number of the campaign with this name (or id, `cmp_...`); of an ended one where there is none. Raises ConfigError."""
        known = self._campaign_aliases.get(name)
        if known is not None and (self.kinds[known] is GroupKind.CAMPAIGN or not self.campaigns):
            return known
        gid = self._find_campaign(name)
        if gid is None:
            gid = known
        if gid is None:
            gid = self._state.db.execute(
                "INSERT INTO grp(name,rid,kind) VALUES(?,NULL,?)", (name, GroupKind.ENDED.value)
            ).lastrowid
            assert gid is not None
            self.names[gid], self.kinds[gid] = name, GroupKind.ENDED
        self._state.write("INSERT OR REPLACE INTO campaign_name VALUES(?,?)", name, gid)
        self._campaign_aliases[name] = gid
        return gid

    def _find_campaign(self, name: str) -> int | None:
        """Of the campaigns that are there; one that takes people before one that has ended."""
        if self._by_rid.get(name) in self.campaigns:
            return self._by_rid[name]
        found = _called({gid: self.names[gid] for gid in sorted(self.campaigns)}, name)
        still = [gid for gid in found if self.kinds[gid] is GroupKind.CAMPAIGN]
        if len(still) > 1:
            ids = ", ".join(self.rids[gid] for gid in still)
            raise ConfigError(
                f"FluenzR has {len(still)} campaigns named {name!r}: {ids}",
                hint="Rename one of them in FluenzR, or write the campaign's id instead of its name",
            )
        return next(iter(still or found[-1:]), None)

    def end_campaign(self, gid: int) -> None:
        """It takes nobody any more."""
        self._state.write("UPDATE grp SET kind=? WHERE gid=?", GroupKind.ENDED.value, gid)
        self.kinds[gid] = GroupKind.ENDED

    def unread_campaigns(self, gids: Iterable[int]) -> list[int]:
        """Those of these campaigns whose members have never been read."""
        read = self._state.pairs("SELECT gid,members_at FROM grp WHERE members_at IS NOT NULL")
        return [
            gid
            for gid in self.campaigns.intersection(gids)
            if gid not in read and self.kinds[gid] is GroupKind.CAMPAIGN
        ]

    def note_members_read(self, gid: int, *, now_s: int) -> None:
        """Everybody who is in the campaign stands in the ledger."""
        self._state.write("UPDATE grp SET members_at=? WHERE gid=?", now_s, gid)


def _called(names: dict[int, str], name: str) -> list[int]:
    """Those with this name; where there is none, those with it in another letter case."""
    exact = [gid for gid, known in names.items() if known == name]
    return exact or [gid for gid, known in names.items() if known.casefold() == name.casefold()]
