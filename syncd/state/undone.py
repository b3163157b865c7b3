"""What was put back by `syncd undo`, and what a run did: the state's side of undoing.

A row of `undone` is an exception from what the sources want; it ends when they want something else (`core.undo`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from syncd.core.person import EMPTY, Person, load
from syncd.core.undo import CUSTOM, Deed, Exemption, Part
from syncd.state.store import Connection, State

CHUNK_ROWS = 500

# Everybody to whom one of these runs did something. A contact that was deleted since has no row of its own any more.
PEOPLE = """
SELECT cid FROM (SELECT cid FROM change WHERE run IN ({runs}) UNION SELECT cid FROM contact WHERE made_run IN ({runs}))
WHERE cid>? ORDER BY cid LIMIT ?
"""


# --- exceptions ---------------------------------------------------------------------------------------------------


def of_contacts(state: State, cids: Iterable[int]) -> dict[int, list[Exemption]]:
    """cid -> what of the contact was put back; contacts without exceptions are left out."""
    if state.value("SELECT 1 FROM undone LIMIT 1") is None:
        return {}
    found: dict[int, list[Exemption]] = {}
    for cid in cids:
        for row in state.rows("SELECT * FROM undone WHERE cid=? ORDER BY part,name", cid):
            part = Part(row["part"])
            one = Exemption(
                part=part,
                name=int(row["name"]) if part is Part.GROUP else row["name"],
                undone=orjson.loads(row["undone"]),
                instead=orjson.loads(row["instead"]),
                left=bool(row["left_all"]),
                of=row["of"],
            )
            found.setdefault(cid, []).append(one)
    return found


def save(state: State, cid: int, exemptions: Iterable[Exemption], *, run: int) -> None:
    """From now on these hold, and the contact is merged again (inside a transaction). run: the one that undoes."""
    for one in exemptions:
        state.write(
            "INSERT OR REPLACE INTO undone VALUES(?,?,?,?,?,?,?,?)",
            cid, one.part.value, str(one.name), orjson.dumps(one.undone).decode(),
            orjson.dumps(one.instead).decode(), int(one.left), one.of, run,
        )  # fmt: skip
    state.write("UPDATE contact SET touch=1 WHERE cid=?", cid)


def end(state: State, cid: int, ended: Iterable[Exemption]) -> None:
    """These hold no longer (inside a transaction)."""
    for one in ended:
        state.write(
            "DELETE FROM undone WHERE cid=? AND part=? AND name=?",
            cid,
            one.part.value,
            str(one.name),
        )


@dataclass(frozen=True, slots=True)
class PutBack:
    """One exception, for people. name: as the history names it; of, run: which run undid which."""

    name: str
    undone: Any
    instead: Any
    of: int
    run: int


def put_back(db: Connection, cid: int, names: Mapping[int, str]) -> list[PutBack]:
    """What of a contact was put back and still holds. names: of groups, by gid."""
    prefixes = {"f": "", "c": CUSTOM, "g": "group ", "t": "tag "}
    return [
        PutBack(
            prefixes[row["part"]]
            + (names.get(int(row["name"]), "") if row["part"] == "g" else row["name"]),
            orjson.loads(row["undone"]),
            orjson.loads(row["instead"]),
            row["of"],
            row["run"],
        )
        for row in db.execute("SELECT * FROM undone WHERE cid=? ORDER BY part,name", (cid,))
    ]


def people_of_undoing(state: State, run: int) -> list[int]:
    """Contacts of whom this run has put something back that still holds."""
    return [row[0] for row in state.rows("SELECT DISTINCT cid FROM undone WHERE run=?", run)]


def made_by(state: State, cid: int, run: int) -> list[Exemption]:
    """What this run has put back of one contact."""
    names = {
        (row["part"], row["name"])
        for row in state.rows("SELECT part,name FROM undone WHERE cid=? AND run=?", cid, run)
    }
    found = of_contacts(state, [cid]).get(cid, [])
    return [one for one in found if (one.part.value, str(one.name)) in names]


# --- what a run did -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Past:
    """What the runs in question did to one contact. later: run -> names that it changed afterwards.

    joined, enrolled: names of groups, and of campaigns.
    """

    cid: int
    deed: Deed = field(default_factory=Deed)
    later: dict[int, set[str]] = field(default_factory=dict)
    joined: list[str] = field(default_factory=list)
    enrolled: list[str] = field(default_factory=list)
    before: Person | None = None  # as FluenzR was known to have it, before it was read for this


def pasts(state: State, runs: Sequence[int], *, names: Mapping[int, str]) -> Iterator[Past]:
    """What these runs did, contact by contact. names: of groups, by gid."""
    last = 0
    query = PEOPLE.format(runs=",".join(map(str, runs)))
    while rows := state.rows(query, last, CHUNK_ROWS):
        last = rows[-1]["cid"]
        for row in rows:
            yield _past(state, row["cid"], runs, names)


def _past(state: State, cid: int, runs: Sequence[int], names: Mapping[int, str]) -> Past:
    past, lost = Past(cid), dict[str, Any]()
    changes = [
        (row["run"], row["kind"], row["email"], orjson.loads(row["detail"]))
        for row in state.rows(
            "SELECT run,kind,email,detail FROM change WHERE cid=? ORDER BY id", cid
        )
    ]
    made = state.one("SELECT email,sent FROM contact WHERE cid=? AND made_run IN ("
                     + ",".join(map(str, runs)) + ")", cid)  # fmt: skip
    if made is not None:
        _take_create(past, made["email"], made["sent"], changes, names)
    for run, kind, email, detail in changes:
        if (
            kind == "lost"
        ):  # sent without an answer, and sent again: then the old values stand here only
            for name, (old, _) in detail["fields"].items():
                lost.setdefault(name, old)
            continue
        fields = {
            name: [lost.pop(name) if old is None and name in lost else old, new]
            for name, (old, new) in detail.get("fields", {}).items()
        }
        if run in runs:
            past.deed.take(email, {**detail, "fields": fields})
            past.joined += detail.get("groups", {}).get("add", ())
            past.enrolled += detail.get("campaigns", {}).get("add", ())
        elif run > max(runs):
            past.later.setdefault(run, set()).update(_changed(detail))
    return past


def _take_create(
    past: Past,
    email: str,
    sent: str | None,
    changes: Sequence[tuple[Any, ...]],
    names: Mapping[int, str],
) -> None:
    """A create is told by the contact itself: what it has now, less what was given afterwards, is what it was made with."""
    have = load(sent) or EMPTY
    groups, tags = {names[gid] for gid in have.groups}, set(have.tags)
    for _, _, _, detail in reversed(changes):
        for part, held in (("groups", groups), ("tags", tags)):
            edit = detail.get(part, {})
            held -= set(edit.get("add", ()))
            held |= set(edit.get("remove", ()))
    past.deed.created, past.deed.email = True, email
    past.deed.groups = dict.fromkeys(groups, True)
    past.deed.tags = dict.fromkeys(tags, True)
    past.joined += sorted(groups)


def _changed(detail: Mapping[str, Any]) -> Iterator[str]:
    yield from detail.get("fields", {})
    for part, word in (("groups", "group"), ("tags", "tag")):
        edit = detail.get(part, {})
        yield from (f"{word} {name}" for name in (*edit.get("add", ()), *edit.get("remove", ())))


def undoings(state: State) -> set[int]:
    """The runs that were undoings themselves."""
    return {row[0] for row in state.rows("SELECT run FROM run WHERE kind='undo'")}


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a run did. kind: of the run. last: nothing has run since."""

    kind: str
    changed: int
    created: int
    last: bool


def extent(db: Connection, run: int) -> Extent | None:
    """How many people a run has changed and created; None: there is no such run."""

    def value(sql: str) -> Any:
        found = db.execute(sql, (run,)).fetchone()
        return None if found is None else found[0]

    kind = value("SELECT kind FROM run WHERE run=?")
    if kind is None:
        return None
    made = "SELECT count(*) FROM contact WHERE made_run=?"
    return Extent(
        kind,
        value("SELECT count(DISTINCT cid) FROM change WHERE run=? AND kind<>'lost'"),
        value(made),
        value("SELECT max(run)=? FROM run"),
    )
