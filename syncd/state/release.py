"""Releasing people: the one way in which anything of the never-ledger ends. Every function stands inside one transaction.

Deleted by hand (`x`) and absent when the state was rebuilt (`?`) end by the word of whoever releases. The source's opt-out (`-`) ends
only where both sides agree by now: FluenzR shows no opt-out, and the source says that there is none. FluenzR's own
opt-out (`!` alone) is not ours to end; nor is one of both where FluenzR has nobody any more who could show it. While an opt-out
stays, nothing else ends either: `x` and `?` say that FluenzR had the person. Whoever is released joins no dynamic group (`*`).
"""

from dataclasses import dataclass, replace

from syncd.core.model import OPTED_OUT_STATUSES
from syncd.core.person import load
from syncd.errors import UsageError
from syncd.state import ledger
from syncd.state.store import Row, State

ENDS = frozenset({"x", "?"})
LATCH = frozenset({"-", "!"})

RECORDS = """
SELECT r.sync, r.key, r.skip, r.live, s.name FROM record r JOIN sync s ON s.sync=r.sync
WHERE r.rowno IN (SELECT rowno FROM record WHERE email=?1 UNION SELECT rowno FROM record WHERE cid=?2) ORDER BY s.sync, r.key
"""


@dataclass(frozen=True, slots=True)
class Released:
    """What became of one address. ended: marks of the ledger that hold no more; kept: why the opt-out stays.

    kept is one of `fluenzr` (FluenzR shows it), `source` (a source says so), `silent` (no source says the contrary), or "".
    wanted: a source has the person, so that a run sends it. there: FluenzR is known to have it.
    """

    email: str
    ended: frozenset[str]
    kept: str
    syncs: tuple[str, ...]  # which say that the person opted out
    wanted: bool
    there: bool


def release(state: State, emails: list[str]) -> list[Released]:
    """Release these addresses (lower case), all or none. Raises UsageError when one of them is not known."""
    facts = {email: _facts(state, email) for email in emails}
    unknown = [email for email, found in facts.items() if found is None]
    if unknown:
        raise UsageError(
            f"Nothing is known about {', '.join(unknown)}",
            why="No source has it, and nothing stands against it",
            hint="Nothing was released; look for a typing error, or leave it out",
        )
    return [_release(state, email, found) for email, found in facts.items() if found is not None]


@dataclass(frozen=True, slots=True)
class _Facts:
    contact: Row | None
    records: list[Row]
    keys: list[str]
    marks: frozenset[str]


def _facts(state: State, email: str) -> _Facts | None:
    """What is known of an address; of a forgotten one as little as of one that nobody knows."""
    contact = state.one(
        "SELECT * FROM contact WHERE email=?1 OR move_to=?1 ORDER BY email<>?1 LIMIT 1", email
    )
    if contact is not None and contact["state"] == "forget":
        return None
    records = state.rows(RECORDS, email, None if contact is None else contact["cid"])
    keys = [state.address_key(email), *(state.record_key(r["sync"], r["key"]) for r in records)]
    known = [key for key in keys if key is not None]
    marks = ledger.of_keys(state, known)
    if "#" in marks or not (contact is not None or records or marks):
        return None
    return _Facts(contact, records, known, marks)


def _release(state: State, email: str, facts: _Facts) -> Released:
    kept, syncs = _latch(facts)
    ended = frozenset[str]() if kept else facts.marks & (ENDS | LATCH)
    contact = facts.contact
    if ended:
        for key in facts.keys:
            ledger.end(state, key, ended)
        ledger.bar_address(state, email, "*")
        if contact is not None:
            _wake(state, contact, opted_in="-" in ended)
    return Released(
        email=email,
        ended=ended,
        kept=kept,
        syncs=syncs,
        wanted=any(r["live"] for r in facts.records),
        there=contact is not None and contact["state"] == "ok",
    )


def _latch(facts: _Facts) -> tuple[str, tuple[str, ...]]:
    """Why an opt-out stays, and which syncs say so; ("", ()) when there is none, or when it may end."""
    if not facts.marks & LATCH:
        return "", ()
    contact = facts.contact
    there = contact is not None and contact["state"] == "ok"
    status = None if contact is None else contact["status"]
    if "-" not in facts.marks or status in OPTED_OUT_STATUSES:
        return "fluenzr", ()
    if facts.marks & ENDS and not there:
        return "fluenzr", ()  # it was there, and may have opted out there as well
    says = sorted({r["name"] for r in facts.records if r["skip"] in ("opted_out", "blocked")})
    if says:
        return "source", tuple(says)
    # A record that is wanted or filtered out has been asked, and said no; one that is gone says nothing.
    asked = any(r["skip"] in (None, "filtered") for r in facts.records)
    return ("" if asked else "silent"), ()


def _wake(state: State, contact: Row, *, opted_in: bool) -> None:
    """The next run looks at the contact again, from the beginning."""
    sent = contact["sent"]
    if opted_in and sent is not None:
        # Should the source say it once more, the person is taken out of everything once more.
        known = load(sent)
        assert known is not None
        sent = None if contact["state"] == "new" else replace(known, out=False).dump()
    state.write(
        "UPDATE contact SET sent_as=?,touch=1,todo=1,tries=0,not_before=0 WHERE cid=?",
        sent, contact["cid"],
    )  # fmt: skip
