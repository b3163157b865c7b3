"""One world: an account, three sources, a state, people and operators, and what is true of them."""

import dataclasses
import random
from collections import Counter
from pathlib import Path
from typing import Any

from syncd import config
from syncd.sandbox import Quirks, Sandbox
from syncd.sandbox.people import Account
from syncd.sandbox.quirks import draw
from world.clock import SharedTime
from world.hands import DYNAMIC, MAILS, Hands
from world.judge import Judge, Tap
from world.peek import Peek
from world.process import Disk, Engine
from world.sources import Sources, draw_flows
from world.truth import CAMPAIGNS, Truth
from world.weather import Weather

KEY = "flz_sk_" + "w" * 32
WIDE_MAILS = tuple(f"{name}@example.com" for name in ("hal", "ivy", "joe", "kim", "leo"))
REFUSED = "zed@example.com"  # FluenzR does not take this address, until the end
SETTLE_S = 120.0
FEW = "max_enrolments = 1\nmax_removals = 1\nmax_creates = 2\nmax_field_changes = 2\nmax_shrink = '50%'\n"
MANY = "max_enrolments = 100\nmax_removals = 100\nmax_creates = 100\nmax_field_changes = 100\nmax_shrink = 100\n"


class World:
    """Who lives in it is decided by the seed.

    humans: people change the account by hand. wide: more people at once, more lost answers, busier hands. guarded: the guards hold
    much. lossy: the state is lost, and restored. jumpy: how probably the clock jumps in a process. judged: what was looked at, counted.
    """

    def __init__(
        self, seed: int, folder: Path, host: Sandbox, *, tracing: bool = False, forked: bool = False
    ) -> None:
        rng = random.Random(seed)
        self.seed, self.folder, self.forked = seed, folder, forked
        self.humans = seed % 3 != 0
        self.wide = seed % 4 >= 2
        self.guarded = seed % 5 == 4
        self.lossy = seed % 5 in (1, 3)
        self.jumpy = 0.15 if seed % 2 else 0.0
        self.trace: list[str] | None = [] if tracing else None
        self.fired, self.judged = Counter[str](), Counter[str]()
        self.time, self.truth = SharedTime(), Truth()
        self.quirks = _reading(random.Random(seed + 1))
        self.account = Account(self.time.now_s, self.quirks)
        self.weather = Weather(self.account, self.quirks, wide=self.wide)
        self.tap = host.app = Tap(self, self.account, self.weather.faults)
        for name in ("stat", "dyn", "dynhot", "hot", "human"):
            self.account.add_group(name, dynamic=name in DYNAMIC)
        for name in CAMPAIGNS:
            self.account.add_campaign(name)
        self.account.custom_field_names = {"score", "note"}
        self.account.refuse(REFUSED)
        self.dynamic = (
            {*DYNAMIC, "stat", "hot", "made"} if self.quirks.group_type == "absent" else DYNAMIC
        )
        self.mails = (*MAILS, REFUSED, *(WIDE_MAILS if self.wide else ()))
        self.flows = draw_flows(rng, outs=seed % 7 in (2, 5))
        self.sources = Sources(self.flows, folder, self.mails, self.wide)
        self.disk = Disk(folder / "disk") if forked else None
        self._configure(host.url)
        self.judge, self.hands, self.engine = Judge(self), Hands(self), Engine(self)
        for email in rng.sample(MAILS, 3):
            self.hands.create(email, rng)

    def _configure(self, url: str) -> None:
        path = "disk/syncd.db" if self.disk else "syncd.db"
        (self.folder / "config.toml").write_text(
            f'[fluenzr]\napi_key = "env:SYNCD_WORLD_KEY"\nbase_url = "{url}"\nsettle = "{SETTLE_S:g} seconds"\n'
            f'[state]\npath = "{path}"\n[guard]\n{FEW if self.guarded else MANY}'
            + "".join(flow.table() for flow in self.flows)
        )
        self.settings = config.load(self.folder / "config.toml")
        self.state = Peek(self.settings.state.path)

    def close(self) -> None:
        """Leave nothing behind."""
        if self.disk is not None:
            self.disk.close()

    def say(self, text: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(text)

    def shown_values(self) -> dict[tuple[str, str], Any]:
        """(id, name) -> the value of each field of ours, and whether somebody is in a group or has a tag."""
        found: dict[tuple[str, str], Any] = {}
        for contact in self.account.contacts.values():
            have = {**contact.fields, **contact.custom_fields}
            found |= {(contact.id, n): have.get(n) for n in ("firstName", "company", "score")}
            for group in self.account.groups.values():
                found[contact.id, f"group {group.name}"] = group.id in contact.groups
            for tag in ("t1", "t2", "t3", "vip"):
                found[contact.id, f"tag {tag}"] = tag in contact.tags
        return found

    def write_sources(self, broken: set[str], names: tuple[str, ...] = ()) -> None:
        """Put the sources into their files. names: the syncs that are run, () for all."""
        self.fired["broken source"] += len(broken)
        self.sources.write(broken, names, self.truth.forgotten)
        if self.truth.standing:
            wanted = self.sources.wanted(self.truth.forgotten)
            self.truth.standing = {
                place: one
                for place, one in self.truth.standing.items()
                if wanted.get(place[0]) == one.want and place[0] not in self.truth.touched
            }


def _reading(rng: random.Random) -> Quirks:
    quirks = draw(rng)
    if "POST /contacts/:id/groups" in quirks.absent:
        # The other way into a group is then the only one, so it must be the one that is asked for.
        quirks = dataclasses.replace(quirks, group_contacts_key="contactIds")
    if rng.random() < 0.3:  # nobody can tell who is in a campaign
        absent = quirks.absent | {"GET /campaigns/:id/contacts"}
        quirks = dataclasses.replace(quirks, absent=absent)
    return quirks
