"""To which contact a record belongs: the decision about one record whose address is new or has changed.

The address is the identity. A contact moves (its address is changed in FluenzR) only if no live record wants the old address and
nobody has, or waits for, the new one; else the record is linked anew, so that swaps, chains and shifted rows become field updates.
Source: `docs/architecture.md`, "Identity"; tried on the executable model of the algorithm.
"""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """What the decision needs to know of a record and the contacts around it. cid: of the contact it is linked to now."""

    email: str
    cid: int | None
    contact_email: str | None
    contact_state: str | None
    contact_moves: bool  # somebody else decided already that it moves
    undecided: bool  # the contact is in flight, unreadable, in back-off or being erased
    target_cid: int | None  # the contact that has this address, or waits for it
    target_has_it: bool  # ... has it already
    old_address_wanted: bool  # a live record wants the address that the contact has now
    address_forgotten: bool
    address_opted_out: bool


class Link(Enum):
    """What becomes of the record's link."""

    ERASE = auto()  # the address was forgotten after the record was read
    KEEP = auto()  # already right
    WAIT = auto()  # not to be decided now: stays dirty
    JOIN = auto()  # to the contact that has the address
    JOIN_LATER = auto()  # to the contact that waits for it: stays dirty until it has it
    NEW = auto()  # a contact of its own
    MOVE = auto()  # the contact changes its address: stays dirty until it has


def decide_link(facts: LinkFacts) -> Link:
    """What becomes of one live record whose link is open. Records are decided one after the other, by priority."""
    if facts.address_forgotten:
        return Link.ERASE
    if facts.cid is not None and facts.contact_email == facts.email:
        return Link.KEEP
    if facts.cid is not None and facts.undecided:
        return Link.WAIT
    if facts.target_cid is not None:
        # Somebody is there: two records are one person, or the address went over to somebody else.
        return Link.JOIN if facts.target_has_it else Link.JOIN_LATER
    if facts.cid is None:
        return Link.NEW
    if facts.contact_state == "new" or facts.contact_moves or facts.old_address_wanted:
        # Never created, or others stay behind at the old address: moving it would hand their history to this one.
        return Link.NEW
    if facts.address_opted_out:
        # Moving somebody onto an address that opted out would make it reachable again.
        return Link.NEW
    return Link.MOVE
