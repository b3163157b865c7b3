"""Newcomers: new records of people of whom nothing is known, promoted, linked and merged in a few statements.

Nearly everybody of a first load is one, and most who are new on any day. Whoever is *odd* is decided one by one in `state.links`:
the address is somebody's or stands twice in the read, FluenzR listed it, the ledger knows it or the record, or the person would be
mailed by a group or campaign. A test gives the same people to both and compares. Everything stands inside the promotion's transaction.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import orjson

from syncd.core.model import GroupKind
from syncd.state.groups import Groups
from syncd.state.reads import SyncRow
from syncd.state.store import State

# From so many new records on that also outnumber the known ones, indexes in random order are built at the end: sorting costs
# 1 us a record each; inserting at a million costs 5 to 10, and writes every page many times.
LARGE_ROWS_MIN = 10_000

RANDOM_INDEXES = ("record_key", "record_email", "contact_email")

# The address is somebody's, or somebody waits for it, or a record has it, be it one that cannot be read; FluenzR showed it in this run.
KNOWN = """
UPDATE scratch.stage AS s SET kind=NULL WHERE s.kind IS NOT NULL AND (
  EXISTS(SELECT 1 FROM contact c WHERE c.email=s.email) OR EXISTS(SELECT 1 FROM contact c WHERE c.move_to=s.email)
  OR EXISTS(SELECT 1 FROM record r WHERE r.email=s.email)
  OR EXISTS(SELECT 1 FROM scratch.listed l WHERE l.email=s.email))
"""

TWICE = """
UPDATE scratch.stage SET kind=NULL WHERE kind IS NOT NULL
AND email IN (SELECT email FROM scratch.stage WHERE email IS NOT NULL GROUP BY email HAVING count(*)>1)
"""

LEDGER_HAS_ADDRESS = """
UPDATE scratch.stage AS s SET kind=NULL WHERE s.kind IS NOT NULL AND EXISTS(SELECT 1 FROM never WHERE k=ekey(s.email))
"""

LEDGER_HAS_RECORD = """
UPDATE scratch.stage AS s SET kind=NULL WHERE s.kind IS NOT NULL AND EXISTS(SELECT 1 FROM never WHERE k=rkey(?,s.key))
"""

RECORDS = """
INSERT INTO record(rowno,sync,key,email,fingerprint,data,skip,note,live,dirty,cid)
SELECT ?1+nth-1,?2,key,email,fingerprint,data,skip,note,skip IS NULL,skip IS NULL AND kind IS NULL,
  iif(kind IS NULL,NULL,?3+id)
FROM scratch.stage WHERE rowno IS NULL ORDER BY id
"""

CONTACTS = """
INSERT INTO contact(cid,email,state,sync,policy,want,todo)
SELECT ?1+s.id,s.email,'new',?2,?3,substr(s.data,1,length(s.data)-k.cut)||k.want,1
FROM scratch.stage s CROSS JOIN scratch.kind k ON k.kind=s.kind WHERE s.kind IS NOT NULL ORDER BY s.id
"""


@dataclass(frozen=True, slots=True)
class Newcomers:
    """The contacts of one promotion that are newcomers: those with cid in first..last. gids: what groups they want, all static."""

    first: int
    last: int
    count: int
    gids: frozenset[int]


NOBODY = Newcomers(0, -1, 0, frozenset())


def set_odd_apart(state: State, sync: SyncRow, groups: Groups) -> frozenset[int]:
    """Of the new records on the stage, leave a kind only to newcomers; the groups that these want."""
    state.write(KNOWN)
    state.write(TWICE)
    if state.value("SELECT 1 FROM never WHERE k<'r:' LIMIT 1") is not None:
        state.write(LEDGER_HAS_ADDRESS)
    if state.value("SELECT 1 FROM never WHERE k>='r:' LIMIT 1") is not None:
        state.write(LEDGER_HAS_RECORD, sync.sync)
    wanted: set[int] = set()
    for kind, names in state.rows(
        "SELECT kind,names FROM scratch.kind WHERE kind IN (SELECT kind FROM scratch.stage)"
    ):
        data = orjson.loads(names)
        gids = {groups.gid(name) for name in data["g"]}
        if any(groups.kinds[gid] is not GroupKind.STATIC for gid in gids):
            # Whoever would be mailed is looked at one by one.
            state.write("UPDATE scratch.stage SET kind=NULL WHERE kind=?", kind)
            continue
        want = orjson.dumps({"g": sorted(gids), "t": data["t"]}).decode()[1:]
        state.write("UPDATE scratch.kind SET want=? WHERE kind=?", want, kind)
        wanted |= gids
    return frozenset(wanted)


def promote(
    state: State, sync: SyncRow, gids: frozenset[int], *, first_rowno: int, policy: str
) -> Newcomers:
    """Make all new records known ones, and newcomers people who are to be created.

    gids: the groups that newcomers want. policy: what happens when they leave.
    """
    top = state.value("SELECT seq FROM sqlite_sequence WHERE name='contact'") or 0
    count = state.value("SELECT count(*) FROM scratch.stage WHERE kind IS NOT NULL")
    with _sorted_at_the_end(state, count):
        state.write(RECORDS, first_rowno, sync.sync, top)
        state.write(CONTACTS, top, sync.sync, policy)
    last = state.value("SELECT seq FROM sqlite_sequence WHERE name='contact'") or 0
    return Newcomers(top + 1, last, count, gids) if count else NOBODY


@contextmanager
def _sorted_at_the_end(state: State, count: int) -> Iterator[None]:
    """Around a large load: the indexes whose order is not that of the load are built when it is there."""
    large = (
        count >= LARGE_ROWS_MIN
        and state.value("SELECT count(*) FROM (SELECT 1 FROM record LIMIT ?)", count) < count
    )
    if not large:
        yield
        return
    marks = ",".join("?" * len(RANDOM_INDEXES))
    made = state.rows(
        f"SELECT name,sql FROM sqlite_master WHERE name IN ({marks})", *RANDOM_INDEXES
    )
    assert len(made) == len(RANDOM_INDEXES)
    for name, _ in made:
        state.db.execute(f"DROP INDEX main.{name}")
    yield
    for _, sql in made:
        state.db.execute(sql)
