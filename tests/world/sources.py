"""The sources: their records, what happens to them, and what they want of each address, computed apart from the engine."""

import dataclasses
import json
import random
from collections.abc import Collection
from pathlib import Path
from typing import Any

Record = dict[str, Any]
Key = tuple[str, str]  # the sync and the key of a record
Who = str | Key  # an address, or a record

BROKEN_LINE = '{"id": "cu'


@dataclasses.dataclass(slots=True)
class Flow:
    """One sync: its policy, and what it makes of a record."""

    name: str
    policy: str
    base: tuple[str, ...]
    tag: str
    hot: str  # the group of those with a score of 5 and more
    company: bool
    vip_group: str = ""
    opts_out: bool = False  # the source has a column that says who opted out
    hides: bool = False  # ... and a filter
    campaign: str = ""  # that it enrols people with a score of 4 and more in, once for ever

    def table(self) -> str:
        """Its part of the configuration."""
        groups = [json.dumps(name) for name in self.base]
        groups.append(f'{{ name = "{self.hot}", when = "score >= 5" }}')
        if self.vip_group:
            groups.append(f'{{ name = "{self.vip_group}", when = "vip" }}')
        company = 'company = "co"\n' if self.company else ""
        out = 'opted_out = "out"\n' if self.opts_out else ""
        where = 'where = "not hidden"\n' if self.hides else ""
        if self.campaign:
            where += f'campaigns = [{{ name = "{self.campaign}", when = "score >= 4" }}]\n'
        return (
            f'[source.{self.name}]\nconnector = "jsonl"\npath = "{self.name}.jsonl"\nkey = "id"\n'
            f'[sync.{self.name}]\nsource = "{self.name}"\non_removal = "{self.policy}"\n{out}{where}'
            f'groups = [{", ".join(groups)}]\ntags = ["{self.tag}", {{ name = "vip", when = "vip" }}]\n'
            f'[sync.{self.name}.fields]\nemail = "email"\nfirstName = "name"\n{company}'
            f'[sync.{self.name}.custom_fields]\nscore = {{ path = "score", as = "number" }}\n'
        )

    def takes(self, record: Record) -> bool:
        """Whether the record is wanted, if it has an address."""
        return not self.says_out(record) and not (self.hides and record["hidden"])

    def says_out(self, record: Record) -> bool:
        """Whether the source says that the person opted out."""
        return bool(self.opts_out and record["out"])

    def wants(self, record: Record) -> tuple[dict[str, Any], set[str], set[str]]:
        """Fields, groups and tags; None where a field is to be cleared."""
        fields: dict[str, Any] = {"firstName": record["name"], "score": record["score"]}
        if self.company:
            fields["company"] = record["co"] or None
        groups = {*self.base, *([self.hot] if record["score"] >= 5 else [])}
        groups |= {self.vip_group} if self.vip_group and record["vip"] else set()
        return fields, groups, {self.tag, *(["vip"] if record["vip"] else [])}

    def enrols(self, record: Record) -> set[str]:
        """The campaigns that the record asks for."""
        return {self.campaign} if self.campaign and record["score"] >= 4 else set()


def draw_flows(rng: random.Random, *, outs: bool) -> list[Flow]:
    """Three syncs. outs: one says who opted out, one has a filter."""
    policies = (
        ["delete"] * 3 if rng.random() < 0.35 else rng.choices(["keep", "ungroup", "delete"], k=3)
    )
    return [
        Flow("s1", policies[0], ("stat",), "t1", "dynhot", company=True, opts_out=outs),
        Flow(
            "s2",
            policies[1],
            ("dyn",),
            "t2",
            "hot",
            company=True,
            vip_group="made",
            hides=outs,
            campaign="drip",
        ),
        Flow("s3", policies[2], ("stat", "dyn"), "t3", "dynhot", company=False, campaign="news"),
    ]


@dataclasses.dataclass(slots=True)
class Wanted:
    """What the sources say of one address."""

    fields: dict[str, Any] = dataclasses.field(default_factory=dict)
    groups: set[str] = dataclasses.field(default_factory=set)
    tags: set[str] = dataclasses.field(default_factory=set)
    records: set[Key] = dataclasses.field(default_factory=set)
    campaigns: set[str] = dataclasses.field(default_factory=set)


def address(text: str) -> str | None:
    """The address of a record; None when it is none."""
    text = text.strip().lower()
    return text if text.count("@") == 1 and text.endswith("@example.com") else None


class Sources:
    """Three tables of records, and the files that the engine reads. mails: the addresses that there are."""

    def __init__(self, flows: list[Flow], folder: Path, mails: tuple[str, ...], wide: int) -> None:
        self.flows, self._folder, self._mails, self._wide = flows, folder, mails, wide
        self.tables: dict[str, dict[str, Record]] = {flow.name: {} for flow in flows}
        self._keys = 0
        self._former = dict[Key, Record]()  # what a record was before it changed
        self.due_out: set[Who] = set()  # who opted out in the files as they are
        self.due_seen: set[Who] = set()  # ... of those that can be read to their end

    def record(self, who: Key) -> Record | None:
        """One record as it is now."""
        return self.tables[who[0]].get(who[1])

    def everybody(self) -> set[Who]:
        """Every address and every key that stands in a source, wanted or not."""
        found: set[Who] = set()
        for name, records in self.tables.items():
            for key, record in records.items():
                email = address(record["email"])
                found |= {(name, key), *([email] if email else [])}
        return found

    def says_out(self) -> set[Who]:
        """Whose record says now that the person opted out."""
        found: set[Who] = set()
        for flow in self.flows:
            for key, record in self.tables[flow.name].items():
                if flow.says_out(record):
                    email = address(record["email"])
                    found |= {(flow.name, key), *([email] if email else [])}
        return found

    def wants_address(self, email: str, forgotten: Collection[Who]) -> bool:
        """Whether a record wants somebody at this address, people who were forgotten left out."""
        return email in self.wanted(forgotten)

    def frozen(self) -> bool:
        """Whether a record has no usable address."""
        return any(address(r["email"]) is None for rs in self.tables.values() for r in rs.values())

    def wanted(self, forgotten: Collection[Who]) -> dict[str, Wanted]:
        """Address -> what the sources say of it, people who were forgotten left out."""
        found: dict[str, Wanted] = {}
        for flow in self.flows:
            for key in sorted(self.tables[flow.name]):
                record = self.tables[flow.name][key]
                email = address(record["email"])
                if email is None or not flow.takes(record):
                    continue
                if email in forgotten or (flow.name, key) in forgotten:
                    continue
                want = found.setdefault(email, Wanted())
                fields, groups, tags = flow.wants(record)
                for name, value in fields.items():
                    if want.fields.get(name) is None:
                        want.fields[name] = value
                want.groups |= groups
                want.tags |= tags
                want.campaigns |= flow.enrols(record)
                want.records.add((flow.name, key))
        return found

    def write(self, broken: set[str], names: tuple[str, ...], forgotten: Collection[Who]) -> None:
        """Put the sources into their files; a broken one ends in the middle of a line. names: the syncs that are run."""
        self.due_out, self.due_seen = set(), set()
        for flow in self.flows:
            name, records = flow.name, self.tables[flow.name]
            read = list(records.items())[: len(records) // 2 if name in broken else len(records)]
            for key, record in read:
                email = address(record["email"])
                who: set[Who] = {(name, key)} | ({email} if email else set())
                # Of people who were forgotten nothing is read.
                if (
                    flow.says_out(record)
                    and (not names or name in names)
                    and not who & {*forgotten}
                ):
                    self.due_out |= who
                    self.due_seen |= who if name not in broken else set()
            lines = [json.dumps({"id": key, **record}) for key, record in records.items()]
            if name in broken:
                lines = [*lines[: len(lines) // 2], BROKEN_LINE]
            (self._folder / f"{name}.jsonl").write_text("".join(line + "\n" for line in lines))

    def fill_empty(self) -> None:
        """An empty source is always held, so at the end each has somebody."""
        for name, records in self.tables.items():
            if not records:
                email = f"last-{name}@example.com"
                records["last"] = {"email": email, "name": "n1", "co": "", "score": 1}
                records["last"] |= {"vip": False, "out": False, "hidden": False}

    # --- what happens to them ---------------------------------------------------------------------------------

    def mutate(self, rng: random.Random) -> str:
        """One source changes somehow; its name."""
        name = rng.choice(sorted(self.tables))
        records, chance = self.tables[name], rng.random()
        before = {key: dict(record) for key, record in records.items()}
        self._mutate(name, records, chance, rng)
        self._former.update(
            {(name, k): old for k, old in before.items() if k in records and records[k] != old}
        )
        return name

    def _mutate(  # noqa: C901 - one case a change
        self, name: str, records: dict[str, Record], chance: float, rng: random.Random
    ) -> None:
        key = rng.choice(sorted(records)) if records else ""
        if not key or (chance < 0.3 and len(records) < 6 + 3 * self._wide):
            self._keys += 1
            back = rng.random() < 0.3  # a key that comes back
            records[f"k{rng.randrange(1, 8) if back else 10 + self._keys}"] = {
                "email": _cased(rng, rng.choice(self._mails)), "name": rng.choice(["n1", "n2", "n3"]),
                "co": rng.choice(["", "c1", "c2"]), "score": rng.randrange(10), "vip": rng.random() < 0.5,
                "out": rng.random() < 0.1, "hidden": rng.random() < 0.15,
            }  # fmt: skip
        elif chance < 0.4:
            del records[key]
        elif chance < 0.55:
            records[key]["email"] = _cased(rng, rng.choice(self._mails))
        elif chance < 0.65 and len(records) > 1:
            other = records[rng.choice(sorted(records))]
            records[key]["email"], other["email"] = other["email"], records[key]["email"]
        elif chance < 0.72:
            emails = [record["email"] for record in records.values()]  # row numbers shift
            for record, email in zip(records.values(), emails[-1:] + emails[:-1], strict=True):
                record["email"] = email
        elif chance < 0.8:
            records[key]["email"] = rng.choice(["", "nonsense", "a@@b"])
        elif chance < 0.83:
            records.clear()
        elif chance < 0.86:
            items = list(records.items())
            rng.shuffle(items)
            records.clear()
            records.update(items)
        elif chance < 0.89:
            self._keys += 1  # another team takes somebody over
            self.tables[rng.choice(sorted(self.tables))][f"k{10 + self._keys}"] = records.pop(key)
        elif chance < 0.91 and (name, key) in self._former:
            records[key] = dict(self._former[name, key])  # back to what it was
        elif chance < 0.94:
            records[key].update(out=rng.random() < 0.5, hidden=rng.random() < 0.4)
        else:
            records[key].update(name=rng.choice(["n1", "n2", "n3"]), score=rng.randrange(10))
            records[key].update(vip=rng.random() < 0.5, co=rng.choice(["", "c1"]))


def _cased(rng: random.Random, email: str) -> str:
    return email.upper() if rng.random() < 0.2 else email
