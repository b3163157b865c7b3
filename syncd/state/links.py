"""From staged records to wanted contacts: promote, link, merge. Every function here stands inside one transaction.

SQL finds what is touched; what happens to one touched record or contact is decided by `core.link` and `core.merge`.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from syncd.core.link import Link, LinkFacts, decide_link
from syncd.core.merge import Contribution, merge
from syncd.core.model import GroupKind
from syncd.core.undo import Exemption, lay_over
from syncd.state import ledger, newcomers, undone
from syncd.state.groups import Groups
from syncd.state.newcomers import NOBODY, Newcomers
from syncd.state.reads import SyncRow, record_counts
from syncd.state.store import State

CHUNK_ROWS = 500  # touched contacts merged at a time; bounds memory, not correctness
UNCONFIGURED_RANK = 1_000_000  # a sync that left the configuration comes after all that are in it


@dataclass(frozen=True, slots=True)
class SyncRule:
    """What linking and merging need to know of a sync. rank: position in the configuration. source: its name."""

    rank: int
    policy: str
    leaves_alone: bool
    source: str


GONE_SYNC = SyncRule(UNCONFIGURED_RANK, "keep", leaves_alone=False, source="")


# A staged record of somebody who was forgotten. ?: the sync.
FORGOTTEN = "EXISTS (SELECT 1 FROM never WHERE what='#' AND (k=ekey(s.email) OR k=rkey(?,s.key)))"


@dataclass(slots=True)
class Promoted:
    """What a promotion did to the records. first_new: rowno from which on they are new."""

    first_new: int
    live_before: int = 0
    same: int = 0  # another raw record, the same mapped one
    newcomers: Newcomers = NOBODY


def strike_forgotten(state: State, sync: SyncRow) -> int:
    """Take records of forgotten people out of the stage; how many.

    One that was somebody else's before wants that contact no more: it counts as gone, until its address is another one.
    """
    if state.value("SELECT 1 FROM never WHERE what='#' LIMIT 1") is None:
        return 0
    state.write(
        "UPDATE contact SET touch=1 WHERE cid IN (SELECT r.cid FROM record r JOIN scratch.stage s USING(rowno)"
        f" WHERE r.live=1 AND {FORGOTTEN})",
        sync.sync,
    )
    state.write(
        "UPDATE record SET live=0,dirty=0,skip='gone',note=NULL WHERE live=1 AND rowno IN"
        f" (SELECT rowno FROM scratch.stage s WHERE {FORGOTTEN})",
        sync.sync,
    )
    return state.write(f"DELETE FROM scratch.stage AS s WHERE {FORGOTTEN}", sync.sync)


def apply_opt_outs(state: State, sync: SyncRow) -> int:
    """The source's opt-outs of this read, into the ledger and onto contacts; how many are new.

    Done before and apart from the promotion: no guard, and no failure of the read, holds it up.
    """
    _carry_over_merges(state, sync)
    new = 0
    rows = state.db.execute(
        "SELECT s.key,s.email,r.cid FROM scratch.stage s LEFT JOIN record r ON r.sync=? AND r.key=s.key"
        f" WHERE s.kind IS NULL AND s.skip='opted_out' AND NOT {FORGOTTEN}",
        (sync.sync, sync.sync),
    )
    for key, email, cid in rows.fetchall():
        new += ledger.bar_record(state, sync.sync, key, "-")
        ledger.bar_record(state, sync.sync, key, "!")
        if cid is not None:
            state.write("UPDATE contact SET touch=1 WHERE cid=?", cid)
        if email is not None:
            ledger.bar_address(state, email, "-")
            ledger.bar_address(state, email, "!")
            state.write(
                "INSERT INTO contact(email,state,touch,todo,sync) VALUES(?,'new',1,1,?)"
                " ON CONFLICT(email) DO UPDATE SET touch=1",
                email, sync.sync,
            )  # fmt: skip
    return new


def _carry_over_merges(state: State, sync: SyncRow) -> None:
    """Whoever was merged into another record takes along what holds for it: an opt-out is one of the person, not of the record."""
    rows = state.rows(
        "SELECT m.loser,m.winner,c.email,w.cid FROM scratch.merged m"
        " LEFT JOIN record l ON l.sync=?1 AND l.key=m.loser LEFT JOIN contact c ON c.cid=l.cid"
        " LEFT JOIN record w ON w.sync=?1 AND w.key=m.winner",
        sync.sync,
    )
    for loser, winner, email, cid in rows:
        target = state.record_key(sync.sync, winner)
        ledger.copy(state, state.record_key(sync.sync, loser), target)
        if email is not None:
            ledger.copy(state, state.address_key(email), target)
        if cid is not None:
            state.write("UPDATE contact SET touch=1 WHERE cid=?", cid)


def promote(state: State, sync: SyncRow, rule: SyncRule, groups: Groups) -> Promoted:
    """Make the staged records the known ones; newcomers have their contacts at once."""
    done = Promoted(_first_free(state, sync), live_count(state, sync))
    _prepare(state)
    state.write("DELETE FROM scratch.left")
    state.write(
        "INSERT OR IGNORE INTO scratch.left SELECT cid FROM record WHERE live=1 AND cid IS NOT NULL AND rowno IN"
        " (SELECT rowno FROM scratch.gone UNION ALL"
        " SELECT rowno FROM scratch.stage WHERE kind IS NULL AND skip IN ('filtered','opted_out'))"
    )
    # Somebody at such an address may have waited for a record that could not be read.
    state.write(
        "UPDATE contact SET touch=1 WHERE email IN (SELECT email FROM record WHERE cid IS NULL AND skip='blocked'"
        " AND rowno IN (SELECT rowno FROM scratch.stage WHERE kind IS NULL UNION ALL SELECT rowno FROM scratch.gone))"
    )
    _keep_unread_parts(state)
    done.same = _promote_changed(state)
    gids = newcomers.set_odd_apart(state, sync, groups)
    done.newcomers = newcomers.promote(
        state, sync, gids, first_rowno=done.first_new, policy=rule.policy
    )
    state.write(
        "UPDATE contact SET touch=1 WHERE cid IN (SELECT r.cid FROM scratch.gone g CROSS JOIN record r USING(rowno))"
    )
    state.write(
        "UPDATE record SET live=0,dirty=0,skip='gone',note=NULL WHERE rowno IN (SELECT rowno FROM scratch.gone)"
    )
    # A record that is gone and never was anybody's tells nothing any more.
    state.write(
        "DELETE FROM record WHERE rowno IN (SELECT rowno FROM scratch.gone) AND cid IS NULL"
    )
    return done


def live_count(state: State, sync: SyncRow) -> int:
    """Records of this sync that contribute to a contact."""
    return sum(count for (_, live), count in record_counts(state, sync).items() if live)


def _first_free(state: State, sync: SyncRow) -> int:
    top = state.value(
        "SELECT max(rowno) FROM record WHERE rowno BETWEEN ? AND ?",
        sync.first_rowno,
        sync.last_rowno,
    )
    return (top or sync.first_rowno) + 1


def _keep_unread_parts(state: State) -> None:
    """Memberships that this read did not give are not known: what was known stays."""
    rows = state.rows(
        "SELECT s.id,s.data,r.data FROM scratch.stage s LEFT JOIN record r USING(rowno)"
        " WHERE s.kind IS NULL AND s.data IS NOT NULL AND (json_extract(s.data,'$.\"g?\"') OR json_extract(s.data,'$.\"t?\"'))"
    )
    for row, text, before_text in rows:
        data, before = orjson.loads(text), orjson.loads(before_text or "{}")
        for part, mark in (("g", "g?"), ("t", "t?")):
            if data.pop(mark, False):
                data[part] = sorted({*data[part], *before.get(part, ())})
        merged = orjson.dumps(data, option=orjson.OPT_SORT_KEYS).decode()
        state.write("UPDATE scratch.stage SET data=? WHERE id=?", merged, row)


def _promote_changed(state: State) -> int:
    """Records that were there before; how many mean the same as before."""
    same = state.write(
        "UPDATE record SET fingerprint=s.fingerprint FROM scratch.stage s WHERE s.kind IS NULL AND record.rowno=s.rowno"
        " AND s.skip IS NULL AND record.live=1 AND record.skip IS NULL AND record.email=s.email AND record.data=s.data"
    )
    state.write(
        "UPDATE scratch.stage SET same=1 WHERE rowno IN (SELECT r.rowno FROM record r JOIN scratch.stage s USING(rowno)"
        " WHERE s.kind IS NULL AND s.skip IS NULL AND r.live=1 AND r.skip IS NULL AND r.email=s.email AND r.data=s.data)"
    )
    # Another address: whatever FluenzR refused before is a new question now.
    state.write(
        "UPDATE contact SET tries=0,not_before=0 WHERE cid IN (SELECT r.cid FROM record r JOIN scratch.stage s"
        " USING(rowno) WHERE s.kind IS NULL AND s.skip IS NULL AND r.email IS NOT s.email)"
    )
    state.write(f"INSERT OR IGNORE INTO scratch.staying {STAYING_OF_STAGE}")
    state.write(
        "UPDATE record SET email=s.email,fingerprint=s.fingerprint,data=s.data,skip=NULL,note=NULL,live=1,"
        "dirty=NOT EXISTS(SELECT 1 FROM scratch.staying t WHERE t.cid=record.cid AND t.rowno=record.rowno)"
        " FROM scratch.stage s WHERE s.kind IS NULL AND record.rowno=s.rowno AND s.skip IS NULL AND s.same=0"
    )
    # No usable address, or not to be understood: frozen at its last good state. What was gone stays gone.
    state.write(
        "UPDATE record SET fingerprint=s.fingerprint,skip=s.skip,note=s.note FROM scratch.stage s"
        " WHERE s.kind IS NULL AND record.rowno=s.rowno AND s.skip IN ('address','blocked')"
    )
    state.write(
        "UPDATE contact SET touch=1 WHERE cid IN (SELECT r.cid FROM record r JOIN scratch.stage s USING(rowno)"
        " WHERE s.kind IS NULL AND s.skip IS NOT NULL)"
    )
    state.write(
        "UPDATE record SET fingerprint=s.fingerprint,skip=s.skip,note=s.note,live=0,dirty=0,email=coalesce(s.email,record.email)"
        " FROM scratch.stage s WHERE s.kind IS NULL AND record.rowno=s.rowno AND s.skip IN ('filtered','opted_out')"
    )
    return same


# --- link ---------------------------------------------------------------------------------------------------------


def unlink(state: State, rowno: int, sync: int, key: str, cid: int | None, to: int | None) -> None:
    """Move a record from one contact to another; what holds for the old one's address travels with it."""
    if cid is not None:
        email = state.value("SELECT email FROM contact WHERE cid=?", cid)
        ledger.copy(state, state.address_key(email), state.record_key(sync, key))
        state.write("UPDATE contact SET touch=1 WHERE cid=?", cid)
    state.write("UPDATE record SET cid=? WHERE rowno=?", to, rowno)
    if to is not None:
        state.write("UPDATE contact SET touch=1 WHERE cid=?", to)


def drop(state: State, cid: int, *, to: int | None = None) -> None:
    """Remove a contact's row; the ledger stays, its records go to `to` or are decided anew."""
    for rowno, sync, key in state.rows("SELECT rowno,sync,key FROM record WHERE cid=?", cid):
        unlink(state, rowno, sync, key, cid, to)
        state.write("UPDATE record SET dirty=live WHERE rowno=?", rowno)
    if to is not None:  # the same person, whom the guards have judged
        state.write("INSERT OR IGNORE INTO judged SELECT ?,gid FROM judged WHERE cid=?", to, cid)
    state.write("DELETE FROM contact WHERE cid=?", cid)


FACTS = """
SELECT r.rowno, r.sync, r.key, r.email, r.cid, c.email AS contact_email, c.state AS contact_state,
  c.move_to IS NOT NULL AS moves,
  (SELECT d.cid FROM contact d WHERE d.email=r.email AND d.state<>'forget') AS has_it,
  (SELECT d.cid FROM contact d WHERE d.move_to=r.email AND d.state<>'forget') AS waits,
  c.cid IS NOT NULL AND EXISTS(SELECT 1 FROM record o WHERE o.email=c.email AND o.live=1) AS old_wanted,
  EXISTS(SELECT 1 FROM never WHERE k=ekey(r.email) AND what='#') AS forgotten,
  EXISTS(SELECT 1 FROM never WHERE k=ekey(r.email) AND what='!') AS opted
FROM record r LEFT JOIN contact c ON c.cid=r.cid WHERE r.rowno=?
"""


# Records that stay where they are, as most that have changed do: their contact has their address. Nothing else depends on it, so
# they are decided together (by `decide_link`: Link.KEEP), and their contacts are merged without having been marked as touched: each
# of these writes would go through as many pages as there are people.
STAYING = """
CREATE TABLE IF NOT EXISTS scratch.staying(cid INTEGER NOT NULL, rowno INTEGER NOT NULL, PRIMARY KEY(cid, rowno)) WITHOUT ROWID
"""

# ... of those that a read has changed; whoever is forgotten is on no stage. +: found by its number, in the order of the file.
STAYING_OF_STAGE = """
SELECT r.cid,r.rowno FROM scratch.stage s CROSS JOIN record r ON r.rowno=s.rowno CROSS JOIN contact c ON c.cid=r.cid
WHERE s.kind IS NULL AND s.skip IS NULL AND s.same=0 AND s.email=+c.email
"""

# ... of those that had to wait.
STAYING_OF_DIRTY = """
SELECT r.cid,r.rowno FROM record r INDEXED BY record_dirty CROSS JOIN contact c ON c.cid=r.cid
WHERE r.dirty=1 AND r.live=1 AND r.email=+c.email AND NOT EXISTS(SELECT 1 FROM never WHERE k=ekey(r.email) AND what='#')
"""


def _prepare(state: State) -> None:
    state.db.execute(STAYING)
    state.db.execute(TOUCHED_BEFORE)


def link(state: State, rules: Mapping[int, SyncRule], undecided: set[int]) -> None:
    """Decide the link of every dirty live record, by priority of its sync. undecided: contacts not to be moved now."""
    for (cid,) in state.rows("SELECT cid FROM contact WHERE move_to IS NOT NULL"):
        if cid not in undecided:
            state.write("UPDATE contact SET move_to=NULL WHERE cid=?", cid)
    _prepare(state)
    state.write(f"INSERT OR IGNORE INTO scratch.staying {STAYING_OF_DIRTY}")
    state.write(
        "UPDATE record INDEXED BY record_dirty SET dirty=0 WHERE dirty=1"
        " AND EXISTS(SELECT 1 FROM scratch.staying t WHERE t.cid=record.cid AND t.rowno=record.rowno)"
    )
    syncs = [row[0] for row in state.rows("SELECT sync FROM sync")]
    for sync in sorted(syncs, key=lambda s: (rules.get(s, GONE_SYNC).rank, s)):
        rownos = state.db.execute(
            "SELECT rowno FROM record INDEXED BY record_dirty WHERE dirty=1 AND live=1 AND sync=? ORDER BY key",
            (sync,),
        ).fetchall()
        for (rowno,) in rownos:
            _link_one(state, rowno, undecided)


def _link_one(state: State, rowno: int, undecided: set[int]) -> None:
    row = state.one(FACTS, rowno)
    assert row is not None
    target = row["has_it"] if row["has_it"] is not None else row["waits"]
    facts = LinkFacts(
        email=row["email"],
        cid=row["cid"],
        contact_email=row["contact_email"],
        contact_state=row["contact_state"],
        contact_moves=bool(row["moves"]),
        undecided=row["cid"] in undecided,
        target_cid=target,
        target_has_it=row["has_it"] is not None,
        old_address_wanted=bool(row["old_wanted"]),
        address_forgotten=bool(row["forgotten"]),
        address_opted_out=bool(row["opted"]),
    )
    decision = decide_link(facts)
    move = (state, rowno, row["sync"], row["key"], row["cid"])
    match decision:
        case Link.ERASE:
            unlink(*move, None)
            state.write("DELETE FROM record WHERE rowno=?", rowno)
        case Link.KEEP:
            state.write("UPDATE contact SET touch=1 WHERE cid=?", row["cid"])
        case Link.JOIN | Link.JOIN_LATER if target != row["cid"]:
            unlink(*move, target)
        case Link.NEW if (
            row["cid"] is None
        ):  # the common case of a first load: nothing to carry along
            state.write(
                "UPDATE record SET cid=?,dirty=0 WHERE rowno=?",
                new_contact(state, row["email"]),
                rowno,
            )
            return
        case Link.NEW:
            unlink(*move, new_contact(state, row["email"]))
        case Link.MOVE:
            state.write(
                "UPDATE contact SET move_to=?,touch=1 WHERE cid=?", row["email"], row["cid"]
            )
        case _:
            pass  # WAIT, or joined already
    if decision not in (Link.WAIT, Link.JOIN_LATER, Link.MOVE):
        state.write("UPDATE record SET dirty=0 WHERE rowno=?", rowno)


def new_contact(state: State, email: str) -> int:
    """A contact that is not in FluenzR as far as we know."""
    cid = state.db.execute(
        "INSERT INTO contact(email,state,touch,todo) VALUES(?,'new',1,1)", (email,)
    ).lastrowid
    assert cid is not None
    return cid


# --- merge --------------------------------------------------------------------------------------------------------

TOUCHED = """
SELECT c.cid, c.email, c.state, c.origin, c.policy, c.want, c.sent, c.inflight, r.sync, r.key, r.live, r.data, r.skip,
  EXISTS(SELECT 1 FROM never n WHERE n.what='-' AND (n.k=ekey(c.email) OR n.k=rkey(r.sync,r.key))) AS out
FROM (SELECT * FROM contact WHERE {which} ORDER BY cid LIMIT ?2) c LEFT JOIN record r ON r.cid=c.cid ORDER BY c.cid
"""

TO_MERGE = """
cid IN (SELECT cid FROM contact WHERE touch=1 AND cid>?1 UNION SELECT cid FROM scratch.staying WHERE cid>?1 ORDER BY 1 LIMIT ?2)
"""

# ... only those of whom a source says that they opted out: by their address, or by a record of theirs.
OPTED_OUT = """
touch=1 AND cid>?1 AND (EXISTS(SELECT 1 FROM never WHERE what='-' AND k=ekey(contact.email))
  OR EXISTS(SELECT 1 FROM record o JOIN never n ON n.k=rkey(o.sync,o.key) WHERE o.cid=contact.cid AND n.what='-'))
"""

TOUCHED_BEFORE = """
CREATE TABLE IF NOT EXISTS scratch.touched(cid INTEGER PRIMARY KEY, want TEXT, policy TEXT)
"""


def merge_touched(
    state: State, rules: Mapping[int, SyncRule], groups: Groups, *, only_opted_out: bool = False
) -> None:
    """Merge every touched contact, and those of staying records; what they wanted before is kept in `scratch.touched` for the guards.

    only_opted_out: only those whom a source has opted out.
    """
    _prepare(state)
    query, last = TOUCHED.format(which=OPTED_OUT if only_opted_out else TO_MERGE), 0
    while rows := state.rows(query, last, CHUNK_ROWS):
        last = rows[-1]["cid"]
        exempt = undone.of_contacts(state, {row["cid"]: None for row in rows})
        for linked in _by_contact(rows):
            _merge_one(state, linked, rules, groups, exempt.get(linked[0]["cid"], ()))
    state.write("DELETE FROM scratch.staying")


def _by_contact(rows: list[sqlite3.Row]) -> Iterator[list[sqlite3.Row]]:
    linked: list[sqlite3.Row] = []
    for row in rows:
        if linked and linked[0]["cid"] != row["cid"]:
            yield linked
            linked = []
        linked.append(row)
    if linked:
        yield linked


def _contribution(row: sqlite3.Row, rules: Mapping[int, SyncRule]) -> Contribution:
    rule = rules.get(row["sync"], GONE_SYNC)
    # An opt-out of the source does not go on contributing under "keep".
    data = orjson.loads(row["data"]) if row["data"] and row["skip"] != "opted_out" else None
    return Contribution(
        rule.rank, row["sync"], row["key"], bool(row["live"]), rule.policy, data, rule.leaves_alone
    )


def _merge_one(
    state: State,
    linked: list[sqlite3.Row],
    rules: Mapping[int, SyncRule],
    groups: Groups,
    exempt: Sequence[Exemption],
) -> None:
    contact = linked[0]
    records = [_contribution(row, rules) for row in linked if row["sync"] is not None]
    out = any(row["out"] for row in linked)
    cid = contact["cid"]
    if (
        contact["state"] == "new"
        and contact["inflight"] is None
        and not any(r.live for r in records)
    ):
        already_looked = '"out":true' in (contact["sent"] or "")
        if not out or already_looked:
            drop(state, cid)  # never was created, and nobody wants it any more
            return
    names = {n: groups.gid(n) for r in records if r.data for n in r.data["g"]}
    campaigns = {n: groups.campaign(n) for r in records if r.data for n in r.data.get("p", ())}
    # Not wanted of one that takes nobody: should it take people again, they are new to the guards.
    campaigns = {n: gid for n, gid in campaigns.items() if groups.kinds[gid] is GroupKind.CAMPAIGN}
    merged = merge(
        records,
        adopted=contact["origin"] == "adopted",
        out=out,
        policy_before=contact["policy"],
        groups=names,
        campaigns=campaigns,
    )
    wanted, ended = lay_over(merged.want, exempt)
    undone.end(state, cid, ended)
    want = wanted.dump() if wanted else None
    state.write(
        "INSERT OR IGNORE INTO scratch.touched VALUES(?,?,?)",
        cid,
        contact["want"],
        contact["policy"],
    )
    reset = ",tries=0,not_before=0,err=NULL" if want != contact["want"] else ""
    state.write(
        "UPDATE contact SET want=?,policy=?,sync=coalesce(?,sync),touch=0,todo=1" + reset + " WHERE cid=?",
        want, merged.policy, merged.sync, cid,
    )  # fmt: skip
