"""What is true of the account and its people, whatever the engine believes; and what of it nobody can know after a rebuild."""

import dataclasses
from typing import Any

from world.peek import Peek
from world.sources import Wanted, Who

OPTED_OUT = ("unsubscribed", "bounced", "blocked")
CAMPAIGNS = ("drip", "news")


class Violation(Exception):
    """An invariant does not hold."""


@dataclasses.dataclass(slots=True)
class Known:
    """A contact as it was when the world last looked."""

    email: str
    status: str
    by_hand: bool
    created_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """Something that was put back, and what the sources wanted of the address then: as long as they do, it stays."""

    want: Wanted
    instead: Any


@dataclasses.dataclass(slots=True)
class Truth:
    """Sets of addresses, of records (`Who`), and of contacts' ids."""

    known: dict[str, Known] = dataclasses.field(default_factory=dict)  # by id
    mails_seen: int = 0
    unmanaged: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)  # by id

    # People's hands. touched: addresses of contacts deleted, renamed or regrouped by hand.
    touched: set[str] = dataclasses.field(default_factory=set)
    edited: set[str] = dataclasses.field(default_factory=set)  # ids of whom a hand changed the name
    renamed: set[str] = dataclasses.field(default_factory=set)  # ids
    removed: dict[str, float] = dataclasses.field(default_factory=dict)  # address -> when deleted

    # FluenzR's opt-outs. opted: addresses at which somebody ever opted out.
    opted: set[str] = dataclasses.field(default_factory=set)
    opt_mail: set[Who] = dataclasses.field(default_factory=set)
    opt_moved: set[Who] = dataclasses.field(default_factory=set)  # renamed to it by hand
    opt_record: set[Who] = dataclasses.field(default_factory=set)
    replied: set[str] = dataclasses.field(default_factory=set)  # whoever ever did
    observed: set[str] = dataclasses.field(default_factory=set)  # an answer has shown one there

    # The sources' opt-outs. latched: in what an earlier request of the engine can have known.
    latched: set[Who] = dataclasses.field(default_factory=set)
    seen_out: set[Who] = dataclasses.field(default_factory=set)  # promoted or held: groups go too
    emptied: set[str] = dataclasses.field(default_factory=set)  # ids, taken out of every group

    # What the engine made. undated: nothing proves that they are accidents; hidden: id -> why it must be undone.
    made_at: dict[str, str] = dataclasses.field(default_factory=dict)  # id -> address
    undated: set[str] = dataclasses.field(default_factory=set)
    hidden: dict[str, str] = dataclasses.field(default_factory=dict)
    shown: dict[str, float] = dataclasses.field(default_factory=dict)  # id -> when, last
    shown_as: dict[str, str] = dataclasses.field(default_factory=dict)  # id -> under which address
    enrolled: dict[tuple[Who, str], str] = dataclasses.field(default_factory=dict)

    # Operators. forget_ids: contacts that stood behind a forgotten address.
    forgotten: set[Who] = dataclasses.field(default_factory=set)
    forget_ids: set[str] = dataclasses.field(default_factory=set)
    barred: set[Who] = dataclasses.field(default_factory=set)  # nobody of them is ever enrolled
    absent: set[Who] = dataclasses.field(default_factory=set)  # not to be created until `release`
    rebuilt: bool = False
    found: set[str] = dataclasses.field(default_factory=set)  # ids that stood there at a rebuild
    standing: dict[tuple[str, str, str], Standing] = dataclasses.field(default_factory=dict)

    # Runs that met nothing bad. did: run -> (id, name, address) -> what it was before; saying: who opted out in their sources.
    did: dict[int, dict[tuple[str, str, str], Any]] = dataclasses.field(default_factory=dict)
    saying: set[Who] = dataclasses.field(default_factory=set)
    good_s: float = 0.0  # when the last one began
    opted_at: dict[str, float] = dataclasses.field(default_factory=dict)  # id -> when

    def opted_out(self, who: Who) -> bool:
        """EXEMPT (the engine cannot know): a contact was renamed by hand to an address, opted out before or after that, and is gone
        from it again, and in between no answer has shown an opted-out contact there. It stays a violation if one answer has, and
        for every record that is linked to the contact.
        """
        moved = who in self.opt_moved and who in self.observed
        return who in self.opt_record or who in self.opt_mail or who in self.latched or moved

    def is_forgotten(self, contact_id: str, email: str) -> bool:
        """Whether `forget` may delete it.

        EXEMPT (the engine cannot know): read at a forgotten address, then renamed by hand before the deletion arrives.
        """
        shown = self.shown_as.get(contact_id)
        return email in self.forgotten or shown in self.forgotten or contact_id in self.forget_ids

    # --- a rebuild --------------------------------------------------------------------------------------------

    def note_rebuilt(
        self, *, sources: set[Who], unreachable: set[Who], due_out: set[Who], copy: Peek | None
    ) -> None:
        """The state was put together from FluenzR, the sources and perhaps a copy. `known` must be up to date.

        sources: everybody who stands in them. unreachable: those of them who are not in FluenzR. due_out: who opted out in them.
        EXEMPT (nobody can know): whoever has left the sources and FluenzR, and stands in no copy; who was absent at a rebuild before
        this one, of which no copy tells, and is not absent now.
        """
        account = {known.email for known in self.known.values()}
        live: set[Who] = sources | account
        of_copy = copy.people() if copy else set()
        every = {who for who, _ in self.enrolled} | self.opt_mail | self.opt_moved | self.opt_record
        every |= self.latched | self.seen_out | self.absent | self.barred
        marks = copy.marks(every) if copy else {who: set() for who in every}
        self.enrolled = {
            (who, group): email
            for (who, group), email in self.enrolled.items()
            if who in live or group in marks[who]
        }
        for people in (self.opt_mail, self.opt_moved, self.opt_record):
            people.intersection_update({who for who in every if who in live or "!" in marks[who]})
        for people in (self.latched, self.seen_out):
            people.intersection_update({who for who in every if "-" in marks[who]} | due_out)
        self.absent = {who for who in self.absent if "?" in marks[who]}
        self.barred = {who for who in self.barred if who in live or "*" in marks[who]}
        self.absent |= unreachable
        self.barred |= live | of_copy
        self.rebuilt = True
        self.found |= self.known.keys()
        self.undated |= self.known.keys()
        self.hidden.clear()
        self.standing.clear()
        # A copy may be from before the id was learned.
        made = "SELECT coalesce(rid,email) FROM contact WHERE origin='created'"
        proven = {row[0] for row in (copy.query(made) if copy else ())}
        for contact_id, known in self.known.items():
            if copy is None:
                known.by_hand = True  # nothing proves whose they are: nobody is deleted
            elif contact_id in self.made_at and {contact_id, self.made_at[contact_id]} & proven:
                known.by_hand = False  # a copy from before a loss has the proof again
