"""Reading a source beside the state: what is new, changed, unchanged or gone, without holding either in memory.

Records stand in the state in the order in which the source first gave them (`rowno`). A cursor over the state walks along with
the source; while the keys agree, one comparison of fingerprints decides. Out of step, the key is looked up, and
the walk goes on from there. Only new and changed records are mapped and staged; "seen" is one bit a row.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import orjson

from syncd.core.model import Outcome, Wanted
from syncd.errors import SourceError
from syncd.migrations import ROWNO_BITS
from syncd.state.store import State

LEFT_OUT_MAX = (
    8  # records in a row that a source may have left out without a look-up of the next one
)
STAGE_ROWS = 1000  # rows a statement; other sizes were within the noise
KINDS_MAX = (
    1000  # sets of groups and tags that are kept apart; people of any other are decided one by one
)
ALL_SEEN = 0xFF  # a byte of eight records
GONE = "gone"  # record.skip of a row that the source no longer has


@dataclass(frozen=True, slots=True)
class SyncRow:
    """What the state knows of one sync before a read. Times are epoch seconds."""

    sync: int
    name: str
    version: str | None
    token: str | None
    cursor: str | None
    promoted_at: int | None
    full_at: int | None
    completed_at: int | None
    read_count: int | None
    listed: bool

    @property
    def first_rowno(self) -> int:
        """Where this sync's range of `record.rowno` begins."""
        return self.sync << ROWNO_BITS

    @property
    def last_rowno(self) -> int:
        """Where it ends."""
        return ((self.sync + 1) << ROWNO_BITS) - 1


def sync_row(state: State, name: str) -> SyncRow:
    """The row of a sync, made at its first mention (inside a transaction)."""
    state.write("INSERT OR IGNORE INTO sync(name) VALUES(?)", name)
    row = state.one(
        "SELECT sync,name,version,token,cursor,promoted_at,full_at,completed_at,read_count,listed"
        " FROM sync WHERE name=?",
        name,
    )
    assert row is not None
    return SyncRow(**{**dict(row), "listed": bool(row["listed"])})


# kind: of a new record that is wanted, which groups and tags; NULL: whatever needs a second look. Few do, so they have an index.
STAGE = """
CREATE TABLE IF NOT EXISTS scratch.stage(
  id INTEGER PRIMARY KEY, rowno INTEGER, nth INTEGER, key TEXT NOT NULL, email TEXT, fingerprint BLOB NOT NULL,
  data TEXT, kind INTEGER, skip TEXT, note TEXT, place TEXT NOT NULL,
  same INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS scratch.stage_rare ON stage(rowno) WHERE kind IS NULL;
CREATE TABLE IF NOT EXISTS scratch.kind(kind INTEGER PRIMARY KEY, names TEXT NOT NULL, cut INTEGER NOT NULL, want TEXT);
CREATE TABLE IF NOT EXISTS scratch.gone(rowno INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS scratch.merged(loser TEXT NOT NULL, winner TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS scratch.left(cid INTEGER PRIMARY KEY);
DROP INDEX IF EXISTS scratch.stage_key;
DELETE FROM scratch.stage;
DELETE FROM scratch.kind;
DELETE FROM scratch.gone;
DELETE FROM scratch.merged
"""


def prepare_stage(state: State) -> None:
    """Empty the scratch tables of a read."""
    for statement in STAGE.split(";\n"):
        state.db.execute(statement)


# One record of the state, as the walk compares it: key, fingerprint, skip, rowno. As SQLite gives it, for there is one a row.
Known = tuple[str, bytes, str | None, int]


@dataclass(frozen=True, slots=True)
class Lost:
    """What a read had said so far of a record that is gone: it was staged; or it was the same as before, which was `skip`."""

    staged: bool
    same: bool = False
    skip: str | None = None


class Walk:
    """The state's side of a read. One instance a read; `stage` and `unstage` fill the scratch tables."""

    def __init__(self, state: State, sync: SyncRow) -> None:
        self._state, self._sync = state, sync
        self._base = sync.first_rowno
        top = state.value(
            "SELECT max(rowno) FROM record WHERE rowno BETWEEN ? AND ?",
            sync.first_rowno,
            sync.last_rowno,
        )
        self._empty = top is None
        self._seen = bytearray(((top or self._base) - self._base) // 8 + 1)
        self._rows: list[tuple[object, ...]] = []
        self._kinds: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[int, bytes]] = {}
        self._cursor: sqlite3.Cursor
        self._ahead: list[Known] = []  # rows of the state that come next, from `_at` on
        self._at = 0
        self._new = 0  # new records on the stage so far
        self._go_on_after(self._base - 1)

    def _go_on_after(self, rowno: int) -> None:
        self._cursor = self._state.db.execute(
            "SELECT key,fingerprint,skip,rowno FROM record WHERE rowno>? AND rowno<=? ORDER BY rowno",
            (rowno, self._sync.last_rowno),
        )
        self._cursor.row_factory = None
        self._ahead, self._at = [], 0

    def _look_ahead(self, rows: int) -> None:
        """Have so many rows of the state at hand, if there are."""
        if len(self._ahead) - self._at < rows:
            self._ahead = self._ahead[self._at :]
            self._ahead += self._cursor.fetchmany(rows)
            self._at = 0

    def find_all(self, keys: Sequence[str], place: Callable[[int], str]) -> Sequence[Known | None]:
        """The record of each key, marked as seen; None for a new one. Raises SourceError when one was seen in this read.

        In step, one comparison tells it of all; else each is looked for.
        """
        count = len(keys)
        if self._empty:
            return [None] * count
        self._look_ahead(count)
        ahead = self._ahead[self._at : self._at + count]
        if [row[0] for row in ahead] == keys and self._see_range(ahead[0][3], ahead[-1][3], count):
            self._at += count
            return ahead
        return [self.find(key, place(index)) for index, key in enumerate(keys)]

    def find(self, key: str, place: str) -> Known | None:
        """The record of this key, marked as seen; None for a new one. Raises SourceError when it was seen in this read."""
        if self._empty:
            return None
        self._look_ahead(1)
        row = next(
            (r for r in self._ahead[self._at : self._at + LEFT_OUT_MAX] if r[0] == key), None
        )
        if row is not None:
            self._at = self._ahead.index(row, self._at) + 1
        else:
            found = self._state.db.execute(
                "SELECT key,fingerprint,skip,rowno FROM record WHERE sync=? AND key=?",
                (self._sync.sync, key),
            ).fetchone()
            if found is None:
                return None
            row = (found[0], found[1], found[2], found[3])
            self._go_on_after(row[3])
        at = row[3] - self._base
        if self._seen[at >> 3] & (1 << (at & 7)):
            raise DuplicateKey(key, place)
        self._seen[at >> 3] |= 1 << (at & 7)
        return row

    def _see_range(self, first: int, last: int, count: int) -> bool:
        """Mark records that follow one another as seen, unless there are gaps, or one of them was seen already."""
        low, high = first - self._base, last - self._base
        if high - low != count - 1:
            return False
        here = slice(low >> 3, (high >> 3) + 1)
        marks = ((1 << count) - 1) << (low & 7)
        seen = int.from_bytes(self._seen[here], "little")
        if seen & marks:
            return False
        self._seen[here] = (seen | marks).to_bytes(here.stop - here.start, "little")
        return True

    def close(self) -> None:
        """End the walk: nothing of the state is being read any more."""
        self._cursor.close()

    def was_seen(self, rowno: int) -> bool:
        """Whether this read has given that record."""
        at = rowno - self._base
        return bool(self._seen[at >> 3] & (1 << (at & 7)))

    def stage(
        self, known: Known | None, key: str, fingerprint: bytes, outcome: Outcome, place: str
    ) -> None:
        """Keep a new or changed record for the promotion. Raises DuplicateKey."""
        rowno, nth = known[3] if known else None, None
        if known is None:  # counted here: in SQL that costs half of what their insertion does
            self._new = nth = self._new + 1
        row: tuple[object, ...]
        if isinstance(outcome, Wanted):
            kind, data = self._dumped(outcome)
            if known is not None:
                kind = None
            row = (rowno, nth, key, outcome.email, fingerprint, data, kind, None, None, place)
        else:
            row = (
                rowno, nth, key, outcome.email, fingerprint, None, None, outcome.reason.value, outcome.detail, place,
            )  # fmt: skip
        self._rows.append(row)
        if len(self._rows) >= STAGE_ROWS:
            self.flush()

    def _dumped(self, wanted: Wanted) -> tuple[int | None, str]:
        """The mapped record as the state keeps it, and its kind: which groups and tags it ends with."""
        if not (wanted.groups_complete and wanted.tags_complete) or wanted.campaigns:
            return None, dump(wanted)  # campaigns: whoever is to be mailed by one is looked at
        names = (wanted.groups, wanted.tags)
        known = self._kinds.get(names)
        if known is None:
            tail = _json({"g": wanted.groups, "t": wanted.tags})[1:]
            known = (len(self._kinds), tail)
            if len(self._kinds) < KINDS_MAX:
                self._kinds[names] = known
                self._state.db.execute(
                    "INSERT INTO scratch.kind VALUES(?,?,?,NULL)",
                    (known[0], f"{{{tail.decode()}", len(tail.decode())),
                )
        kind, tail = known
        head = _json({"c": wanted.custom_fields, "f": wanted.fields})
        text = b"%b,%b" % (head[:-1], tail)
        return kind if kind < KINDS_MAX else None, text.decode()

    def finish(self) -> None:
        """The read is complete. Raises DuplicateKey when two of its records have the same key."""
        self.flush()
        twice = self._state.value(
            "SELECT key FROM scratch.stage WHERE rowno IS NULL GROUP BY key HAVING count(*)>1 LIMIT 1"
        )
        if twice is not None:
            first, second = self._state.rows(
                "SELECT place FROM scratch.stage WHERE key=? ORDER BY id LIMIT 2", twice
            )
            raise DuplicateKey(twice, second[0], first=first[0])

    def flush(self) -> None:
        """Write what is staged so far."""
        self._insert(self._rows)
        self._rows.clear()

    def keep_opt_outs(self) -> None:
        """The read is broken: of what is not written yet only the opt-outs count."""
        self._insert([row for row in self._rows if row[7] == "opted_out"])
        self._rows.clear()

    def _insert(self, rows: list[tuple[object, ...]]) -> None:
        self._state.db.executemany(
            "INSERT INTO scratch.stage(rowno,nth,key,email,fingerprint,data,kind,skip,note,place)"
            " VALUES(?,?,?,?,?,?,?,?,?,?)",
            rows,
        )

    def mark_gone(self, rownos: Iterable[int]) -> None:
        """Note records that the source no longer has."""
        self._state.db.executemany(
            "INSERT OR IGNORE INTO scratch.gone VALUES(?)", ((n,) for n in rownos)
        )

    def lose(self, key: str) -> "Lost":
        """The source says that this record is gone, perhaps after it was given in the same read: the later word counts."""
        self.flush()
        self._state.write("CREATE INDEX IF NOT EXISTS scratch.stage_key ON stage(key)")
        staged = self._state.write("DELETE FROM scratch.stage WHERE key=?", key) > 0
        row = self._state.one(
            "SELECT rowno,skip FROM record WHERE sync=? AND key=?", self._sync.sync, key
        )
        if row is None or row["skip"] == GONE:
            return Lost(staged=staged)
        given = self.was_seen(row["rowno"])
        at = row["rowno"] - self._base
        self._seen[at >> 3] |= 1 << (at & 7)
        first = self._state.write("INSERT OR IGNORE INTO scratch.gone VALUES(?)", row["rowno"]) > 0
        return Lost(staged=staged, same=given and first and not staged, skip=row["skip"])

    def note_merge(self, loser: str, winner: str) -> None:
        """Note that what holds for one record holds for the other too."""
        self._state.db.execute("INSERT INTO scratch.merged VALUES(?,?)", (loser, winner))

    def unseen(self) -> Iterator[int]:
        """Rows that a complete full read has not given, and that were not gone before."""
        for place, marks in enumerate(self._seen):
            if marks == ALL_SEEN:
                continue
            for bit in range(8):
                rowno = self._base + (place << 3) + bit
                if not marks & (1 << bit) and self._state.value(
                    "SELECT 1 FROM record WHERE rowno=? AND skip IS NOT 'gone'", rowno
                ):
                    yield rowno


class DuplicateKey(SourceError):
    """Two records of one read have the same key; `first` is the place of the first, where it is known."""

    def __init__(self, key: str, place: str, *, first: str = "") -> None:
        self.key, self.place, self.first = key, place, first
        places = f"{first} and {place}" if first else place
        super().__init__(
            f"The key {key!r} stands twice in the source: {places}",
            why="A key identifies one record for ever; nothing of this read was used",
            hint="Remove one of the two rows, or choose another key",
        )


def dump(wanted: Wanted) -> str:
    """The mapped record as the state keeps it. A part that was not read whole says so (`g?`, `t?`)."""
    data: dict[str, object] = {
        "f": wanted.fields, "c": wanted.custom_fields, "g": wanted.groups, "t": wanted.tags,
    }  # fmt: skip
    if wanted.campaigns:
        data["p"] = wanted.campaigns
    if not wanted.groups_complete:
        data["g?"] = True
    if not wanted.tags_complete:
        data["t?"] = True
    return _json(data).decode()


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@dataclass(slots=True)
class Read:
    """What one read found: new and changed records are on the stage, the rest of `read` is unchanged, by what it was."""

    read: int = 0
    full: bool = True
    same: int = 0  # unchanged and wanted
    same_skipped: dict[str, int] | None = None  # unchanged and not wanted: reason -> records
    nameless: int = 0  # no key and no address: cannot be kept apart from others
    nameless_places: list[str] = field(default_factory=list)  # of the first ones
    staged_skipped: dict[str | None, int] = field(default_factory=dict)  # staged, by why not wanted
    gone: int = 0
    gone_skipped: dict[str | None, int] = field(default_factory=dict)  # gone, by what they were
    passed_over: int = 0  # not chosen: left for a run of everybody
    cursor: str | None = None
    token: str | None = None
    unchanged_source: bool = False
    resync: str | None = None

    def add_same(self, skip: str | None, count: int = 1) -> None:
        """Count an unchanged record; count -1: it is none after all."""
        if skip is None:
            self.same += count
        else:
            counts = self.same_skipped = self.same_skipped or {}
            counts[skip] = counts.get(skip, 0) + count


def tally_all_same(state: State, sync: SyncRow) -> Read:
    """The books of a source that answered "unchanged": the records of its last read, as read and unchanged."""
    found = Read(full=False, unchanged_source=True)
    for (skip, _), count in record_counts(state, sync).items():
        if skip == "gone":
            continue
        found.read += count
        found.add_same(skip, count)
    return found


def record_counts(state: State, sync: SyncRow) -> dict[tuple[str | None, int], int]:
    """(why it is not wanted, whether it contributes to a contact) -> how many records. Not all of them are looked at."""
    total = state.value("SELECT count(*) FROM record WHERE sync=?", sync.sync)
    rows = state.rows(
        "SELECT skip,live,count(*) FROM record INDEXED BY record_odd WHERE (skip IS NOT NULL OR live=0) AND rowno BETWEEN ? AND ?"
        " GROUP BY skip,live",
        sync.first_rowno,
        sync.last_rowno,
    )
    odd = {(skip, live): count for skip, live, count in rows}
    return {(None, 1): total - sum(odd.values()), **odd}


def count_staged(state: State, found: Read) -> None:
    """Fill the counts of what is on the stage."""
    found.staged_skipped = state.pairs("SELECT skip,count(*) FROM scratch.stage GROUP BY skip")
    found.gone_skipped = state.pairs(
        "SELECT CASE WHEN r.live=1 THEN NULL ELSE r.skip END AS was,count(*) FROM scratch.gone g"
        " CROSS JOIN record r USING(rowno) GROUP BY was"
    )
    found.gone = sum(found.gone_skipped.values())


def keep_only_chosen(state: State, found: Read, *, email: str | None, limit: int | None) -> None:
    """Leave on the stage only one person, or the first so many; nobody leaves the sync by such a read."""
    before = state.value("SELECT count(*) FROM scratch.stage WHERE skip IS NULL")
    left = found.gone + state.write(  # also whom the filter takes out
        "DELETE FROM scratch.stage WHERE skip='filtered' AND rowno IN (SELECT rowno FROM record WHERE live=1)"
    )
    state.write("DELETE FROM scratch.gone")
    if email is not None:
        state.write(
            "DELETE FROM scratch.stage WHERE skip IS NULL AND email<>?", email.strip().lower()
        )
    if limit is not None:
        state.write(
            "DELETE FROM scratch.stage WHERE skip IS NULL AND id NOT IN"
            " (SELECT id FROM scratch.stage WHERE skip IS NULL ORDER BY id LIMIT ?)",
            limit,
        )
    kept = state.value("SELECT count(*) FROM scratch.stage WHERE skip IS NULL")
    found.passed_over, found.full = before - kept + left, False
