"""What `syncd why EMAIL` says: everything that is known about one person, in words.

The never-ledger is told by what it means. Of a forgotten address it says exactly what it says of one
that nobody knows.
"""

from dataclasses import asdict
from typing import Any

from syncd.report.past import change_object, change_words
from syncd.report.plan import SKIPPED
from syncd.report.text import ago, clean, iso, moment, say, say_json, shown, style
from syncd.state.quarantine import DROPPED_S
from syncd.state.story import LinkedRecord, Membership, Person
from syncd.state.undone import PutBack

NEVER = {
    "!": "opted out, bounced or blocked: never created, never added to a group, never mailed",
    "-": "a source said that the person opted out",
    "x": "was deleted by hand in FluenzR: is not created again until `syncd release`",
    "?": "was missing when a lost state was rebuilt: is not created until `syncd release`",
    "~": "replied: joins no dynamic group any more, so that no sequence begins anew",
    "*": "joins no dynamic group: was known before the state was rebuilt",
}
PARTS = {"f": "fields", "c": "custom_fields", "g": "groups", "t": "tags", "p": "campaigns"}
IN_FLIGHT = {
    "create": "a create was sent and is not confirmed yet",
    "update": "an update was sent and is not confirmed yet",
    "move": "a change of the address was sent and is not confirmed yet",
    "group": "an addition to groups was sent and is not confirmed yet",
    "enrol": "an enrolment in a campaign was sent and is not confirmed yet",
    "ungroup": "a removal from groups was sent and is not confirmed yet",
    "tag": "new tags were sent and are not confirmed yet",
    "untag": "a removal of tags was sent and is not confirmed yet",
    "delete": "a delete was sent and is not confirmed yet",
    "check": "is to be read in FluenzR before anything else happens",
}


def person_json(person: Person) -> None:
    """One object."""
    found = asdict(person)
    for name in ("not_before_s", "created_ms", "changes", "held", "never", "records"):
        found.pop(name)
    made_ms = person.created_ms
    say_json(
        {
            **found,
            "known": person.known,
            "records": [_record_object(record) for record in person.records],
            "not_before": iso(person.not_before_s or None),
            "created": iso(made_ms / 1000 if made_ms else None),
            "never": [ledger_words(what) for what in person.never],
            "held": [{"run": run, "sync": sync, **change} for run, sync, change in person.held],
            "changes": [change_object(change) for change in person.changes],
        }
    )


def _record_object(record: LinkedRecord) -> dict[str, Any]:
    data = record.data or {}
    mapped = {words: data.get(part) for part, words in PARTS.items()} if record.data else None
    return {**asdict(record), "data": mapped}


def person_words(person: Person, *, now_s: float) -> None:
    """A few blocks; what there is nothing to say about is left out."""
    say(style(clean(person.email), "bold"))
    if not person.known:
        say("  no source has this address, and nothing is known about it")
        say("  Next: look at the source; `syncd plan --email ADDRESS` reads it anew")
        return
    for line in _standing(person, now_s=now_s):
        say(f"  {line}")
    for title, lines in (
        ("never", [ledger_words(what) for what in person.never]),
        ("held", _held(person)),
        ("records, in the order in which they count", [_record(r) for r in person.records]),
        ("fields", _fields(person)),
        ("groups", [_group(g) for g in person.groups]),
        ("campaigns", [_campaign(c) for c in person.campaigns]),
        ("tags", [clean(", ".join(person.tags))] if person.tags else []),
        (
            "put back, until the sources want something else",
            [_put_back(p) for p in person.put_back],
        ),
        ("changes", [line for change in person.changes for line in change_words(change)]),
    ):
        if lines:
            say(f"  {title}:")
        for line in lines:
            say(f"    {line}")


def _put_back(one: PutBack) -> str:
    words = f"{clean(one.name)}: "
    if isinstance(one.instead, bool) and isinstance(one.undone, bool):
        words += "has it" if one.instead else "does not have it"
    else:
        words += f"{shown(one.instead)}, and not {shown(one.undone)}"
    return f"{words}; run {one.run} has undone run {one.of}"


def _standing(person: Person, *, now_s: float) -> list[str]:
    lines = [_place(person)]
    if person.created_ms:
        lines.append(f"created by a sync: {moment(person.created_ms / 1000)}")
    elif person.origin == "adopted":
        lines.append(
            "was in FluenzR before, or cannot be proven to be ours: never deleted by a sync"
        )
    if person.opted_out_here:
        lines.append("opted out in the source: taken out of every group and campaign")
    if person.move_to:
        lines.append(f"is to be moved to {clean(person.move_to)}")
    if person.in_flight:
        lines.append(IN_FLIGHT.get(person.in_flight, "a change is in flight"))
    if not person.tries and person.not_before_s >= DROPPED_S:
        lines.append("its change was dropped: nothing is sent until a source wants something else")
        lines.append("  take it up again: syncd quarantine retry ADDRESS")
    if person.tries:
        at_s = person.not_before_s
        when = "in the next run" if at_s <= now_s else f"{moment(at_s)} ({ago(at_s, now_s=now_s)})"
        lines.append(
            f"tried {person.tries} times, again {when}: {clean(person.error or 'no reason given')}"
        )
    return lines


def _place(person: Person) -> str:
    if person.in_fluenzr:
        return f"is in FluenzR, status {clean(person.status or 'not seen yet')}"
    return f"is not in FluenzR as far as is known: {_why_not(person)}"


def _why_not(person: Person) -> str:
    """The first reason that holds."""
    if person.held:
        run, sync, _ = person.held[0]
        return f"held by a guard in run {run} of {sync}"
    for what in ("x", "?", "!"):
        if what in person.never:
            return NEVER[what]
    if person.error:
        return clean(person.error)
    skipped = next((r for r in person.records if r.skip), None)
    if skipped is not None and not any(r.live and not r.skip for r in person.records):
        return _reason(skipped)
    if person.in_flight:
        return IN_FLIGHT.get(person.in_flight, "a change is in flight")
    if person.records:
        return "it is to be created in the next run"
    return "no source has this address"


def ledger_words(what: str) -> str:
    """One row of the ledger."""
    if what.startswith("g:"):
        return f'was added to the dynamic group "{clean(what[2:])}" once, or was to be before it was dynamic: is never added there again'
    if what.startswith("p:"):
        return f'is or was in the campaign "{clean(what[2:])}": is never enrolled there again'
    return NEVER.get(what, "is barred")


def _held(person: Person) -> list[str]:
    return [
        f"{change.get('change', 'a change')} of run {run}; release: syncd approve {run} {sync}"
        for run, sync, change in person.held
    ]


def _reason(record: LinkedRecord) -> str:
    words = SKIPPED.get(record.skip or "", record.skip or "")
    return clean(f"{words}: {record.note}" if record.note else words)


def _record(record: LinkedRecord) -> str:
    text = f"{record.sync}  key {record.key}"
    if record.email:
        text += f"  <{record.email}>"
    if record.skip:
        return clean(text) + f"  not wanted: {_reason(record)}"
    return clean(text) + ("" if record.live else "  no longer in the source")


def _fields(person: Person) -> list[str]:
    lines = []
    for value in person.values:
        source = f"  from {value.sync}" if value.sync else ""
        pending = "" if value.confirmed else "  (not confirmed in FluenzR yet)"
        lines.append(f"{clean(value.name)}: {shown(value.value)}{clean(source)}{pending}")
    return lines


def _campaign(campaign: Membership) -> str:
    kind = "takes nobody any more" if campaign.kind == "ended" else "mails whoever is enrolled"
    by = f", asked for by {', '.join(campaign.by)}" if campaign.by else ""
    if campaign.there:
        standing = "was enrolled, or was skipped by FluenzR"
    else:
        standing = "is not enrolled yet, or is not because of what stands under never"
    return clean(f'"{campaign.name}" ({kind}): {standing}{by}')


def _group(group: Membership) -> str:
    kind = "static" if group.kind == "static" else f"{group.kind}, mails whoever joins"
    by = f", asked for by {', '.join(group.by)}" if group.by else ""
    if group.there and group.wanted:
        standing = "is in it"
    elif group.there:
        standing = "is in it, and is to be taken out: no source asks for it any more"
    else:
        standing = "is not in it yet, or was not added because of what stands under never"
    return clean(f'"{group.name}" ({kind}): {standing}{by}')
