"""What is true of the sources and of people, in plain dicts: independent of the engine, but for which read it has promoted.

Every address and every record key is a node that carries marks (`marks.py`). What is wanted of an address follows from the records
that were promoted last, frozen ones included.
"""

import csv
import dataclasses
import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from machine.marks import Marks, Who

MAILS = tuple(f"{name}@example.com" for name in ("ann", "joann", "bob", "cat", "dan"))
REFUSED = "zed@example.com"  # FluenzR does not take this address, until the weather clears
UNUSABLE = ("", "nonsense", "a@@b")
KEYS = ("k1", "k2", "k3", "k4", "k5")
DYNAMIC = ("dyn", "dynhot")  # these exist from the beginning, with `stat`
STATIC = ("stat", "made", "hot")
OPTED_OUT = ("unsubscribed", "bounced", "blocked")
HUMAN = "human"  # the group and the tag that nobody's source gives
FORBID_CREATE = frozenset({"!", "-", "x", "#", "?"})
FORBID_GROUP = frozenset({"!", "-", "#", "?"})
FORBID_ENROL = frozenset({"x", "*"})

Policy = Literal["keep", "ungroup", "delete"]


@dataclass(frozen=True, slots=True)
class Row:
    """One record as its source has it."""

    email: str
    first: str = "n1"
    company: str = ""
    score: int = 1
    vip: bool = False
    out: bool = False  # the source says that the person opted out
    hidden: bool = False  # the filter leaves it out


@dataclass(frozen=True, slots=True)
class Flow:
    """One sync: its file, and what it makes of a record."""

    name: str
    kind: Literal["jsonl", "csv"]
    policy: Policy
    base: str  # the group of everybody
    hot: str  # ... of those with a score of 5 and more
    tag: str
    vip_group: str = ""
    custom: bool = False  # it gives a custom field, which makes the engine read before it writes

    def table(self) -> str:
        """Its part of the configuration."""
        hot = "score >= 5" if self.kind == "jsonl" else "(score | int) >= 5"
        groups = [f'"{self.base}"', f'{{ name = "{self.hot}", when = "{hot}" }}']
        if self.vip_group:
            groups.append(f'{{ name = "{self.vip_group}", when = "vip == \'1\'" }}')
        score = 'score = { path = "score", as = "number" }'
        custom = f"[sync.{self.name}.custom_fields]\n{score}\n" if self.custom else ""
        return (
            f'[source.{self.name}]\nconnector = "{self.kind}"\npath = "{self.name}.{self.kind}"\nkey = "id"\n'
            f'[sync.{self.name}]\nsource = "{self.name}"\non_removal = "{self.policy}"\n'
            f"opted_out = \"out == '1'\"\nwhere = \"hidden != '1'\"\n"
            f'groups = [{", ".join(groups)}]\ntags = ["{self.tag}", {{ name = "vip", when = "vip == \'1\'" }}]\n'
            f'[sync.{self.name}.fields]\nemail = "email"\nfirstName = "first"\ncompany = "company"\n'
            f"{custom}"
        )

    def write(self, folder: Path, rows: dict[str, Row], *, broken: bool) -> dict[str, Row]:
        """Put the records into the file; the part of them that a read can give. broken: it ends in the middle of a line."""
        path, read = folder / f"{self.name}.{self.kind}", dict(rows)
        if broken:
            read = dict(list(rows.items())[: len(rows) // 2])
        lines = [{"id": key, **_plain(row)} for key, row in read.items()]
        with path.open("w", newline="") as file:
            if self.kind == "jsonl":
                file.writelines(json.dumps(line) + "\n" for line in lines)
                file.write('{"id": "cu\n' if broken else "")
            else:
                names = ["id", *(part.name for part in dataclasses.fields(Row))]
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(lines)
                file.write("a row that was cut\n" if broken else "")
        return read

    def wants(self, row: Row) -> "Want":
        """What one record asks for."""
        groups = {self.base, *([self.hot] if row.score >= 5 else [])}
        groups |= {self.vip_group} if self.vip_group and row.vip else set()
        fields: dict[str, Any] = {"firstName": row.first, "company": row.company or None}
        fields |= {"score": row.score} if self.custom else {}
        return Want(fields, groups, {self.tag, *(["vip"] if row.vip else [])})


def _plain(row: Row) -> dict[str, Any]:
    flags = {name: "1" if getattr(row, name) else "" for name in ("vip", "out", "hidden")}
    return {**dataclasses.asdict(row), **flags}


def address(text: str) -> str | None:
    """The address of a record; None when it is none."""
    text = text.strip().lower()
    return text if text.count("@") == 1 and text.endswith("@example.com") else None


@dataclass(slots=True)
class Want:
    """What the sources say of one address."""

    fields: dict[str, Any] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    tags: set[str] = field(default_factory=set)

    def add(self, other: "Want") -> None:
        """Per field the first value; groups and tags are the union."""
        for name, value in other.fields.items():
            if self.fields.get(name) is None:
                self.fields[name] = value
        self.groups |= other.groups
        self.tags |= other.tags

    def part(self, name: str) -> Any:
        """One thing that is wanted, by the name that the account's differences have: `firstName`, `group stat`, `tag t1`."""
        kind, _, rest = name.partition(" ")
        if kind == "group":
            return rest in self.groups
        return rest in self.tags if kind == "tag" else self.fields.get(name)


@dataclass(slots=True)
class Own:
    """What people gave to a contact of theirs; it must stay."""

    phone: str | None
    note: str | None
    tag: bool
    group: bool


Promoted = dict[str, dict[str, Row]]  # sync -> key -> the record, with its usable address


class Model:
    """The sources, what of them was promoted, what is held against whom, and what hands have done."""

    def __init__(self, flows: list[Flow]) -> None:
        self.flows = flows
        self.sources: Promoted = {flow.name: {} for flow in flows}
        self.promoted: Promoted = {flow.name: {} for flow in flows}
        self.left: dict[Who, Row] = {}  # records that nobody has any more, as they were
        self.marks = Marks()
        self.own: dict[str, Own] = {}  # by the id of the contact
        self.by_hand: set[str] = set()  # ids of contacts that the engine has not made
        self.adopted: set[str] = set()  # ids of which a rebuild cannot know whose they were
        self.been: dict[Who, set[str]] = defaultdict(set)  # where a record has ever been
        self.hidden: dict[str, str] = {}  # id -> address, of accidents of a bulk update
        self.undated: set[str] = set()  # ids made while FluenzR sent no Date
        self.regrouped: set[str] = set()  # ids that hands have put into groups of ours
        self.emptied: set[str] = (
            set()
        )  # ids that a source's opt-out may have taken out of everything
        self.touched: set[str] = (
            set()
        )  # addresses where hands have been, or nobody knows whose they are
        self.drift: dict[str, set[str]] = defaultdict(
            set
        )  # address -> parts that hands have changed
        self.put_back: dict[str, dict[str, Any]] = defaultdict(
            dict
        )  # ... that were undone, and what was wanted
        self.forgotten: dict[str, bool] = {}  # address -> whether no trace may be left any more

    # --- what is wanted -----------------------------------------------------------------------------------------

    def flow(self, name: str) -> Flow:
        """The sync of this name."""
        return next(flow for flow in self.flows if flow.name == name)

    def keys_at(self, email: str, promoted: Promoted | None = None) -> list[Who]:
        """The records that want this address."""
        known = self.promoted if promoted is None else promoted
        return [
            (name, key)
            for name, rows in known.items()
            for key, row in rows.items()
            if row.email == email
        ]

    def wanted(self) -> dict[str, Want]:
        """address -> what all records together want."""
        found: dict[str, Want] = {}
        for flow in self.flows:
            for _, row in sorted(self.promoted[flow.name].items()):
                found.setdefault(row.email, Want()).add(flow.wants(row))
        return found

    def lingering(self, email: str) -> bool:
        """Whether a record that left, and goes on contributing, may still be linked to whoever is at this address."""
        return any(
            row.email == email and self.flow(who[0]).policy == "keep"
            for who, row in self.left.items()
        )

    def everybody(self, email: str) -> list[Who]:
        """An address with its records."""
        return [email, *self.keys_at(email)]

    # --- a read -------------------------------------------------------------------------------------------------

    def folded(self, name: str, rows: dict[str, Row], before: dict[str, Row]) -> dict[str, Row]:
        """The live records of a sync when this read is promoted upon those before."""
        after: dict[str, Row] = {}
        for key, row in rows.items():
            email, known = address(row.email), before.get(key)
            forgotten = self.marks.sure((name, key), "#") or (
                email is not None and self.marks.sure(email, "#")
            )
            if forgotten or (email is None and not row.out):
                if known is not None:
                    after[key] = known  # struck from the read, or frozen at its last good state
            elif not (row.out or row.hidden):
                assert email is not None
                after[key] = dataclasses.replace(row, email=email)
        return after

    def opting_out(self, name: str, rows: dict[str, Row]) -> set[Who]:
        """Who opted out in this part of a read."""
        found: set[Who] = set()
        for key, row in rows.items():
            if row.out:
                found |= {(name, key), *([email] if (email := address(row.email)) else [])}
        return {who for who in found if not self.marks.sure(who, "#")}

    def may_read(self, name: str, rows: dict[str, Row]) -> None:
        """A process is about to read this: what may follow from it is possible from now on."""
        for key, row in rows.items():
            email, who = address(row.email), (name, key)
            known = self.promoted[name].get(key) or self.left.get(who)
            if known is not None:
                self.marks.pass_on(known.email, who, sure=False)
                if row.out:
                    self.marks.add(known.email, "-", "!", sure=False)
            if row.out:
                self.marks.add(who, "-", "!", sure=False)
            if email is not None:
                if row.out:
                    self.marks.add(email, "-", "!", sure=False)
                self.marks.pass_on(who, email, sure=False)

    def promote(self, name: str, after: dict[str, Row]) -> None:
        """The engine has promoted this. `marks.before` must be those of the beginning of its process."""
        before = self.promoted[name]
        for key, row in before.items():
            if key not in after:
                self.left[name, key] = row
            if key not in after or after[key].email != row.email:
                self.marks.hand_on((name, key), row.email)
        for key, row in after.items():
            self.left.pop((name, key), None)
            self.been[name, key].add(row.email)
        self.promoted[name] = after

    def moved(self, old: str, new: str) -> None:
        """The engine has given a contact another address: what is known of it goes along."""
        self.marks.pass_on(old, new, sure=True)
        self.marks.pass_on(old, new, sure=False)
        self.drift[new] |= self.drift[old]
        self.put_back[new].update(self.put_back[old])
        if old in self.touched:
            self.touched.add(new)
