"""What `syncd why EMAIL` says: the chain from records and rules to what was sent, who approved it, and what FluenzR has.

The never-ledger is told by what it means. Of a forgotten address it says exactly what it says of one
that nobody knows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from syncd.core.mapping import MappingRules
from syncd.report.past import approval_words, change_object, change_words
from syncd.report.plan import SKIPPED
from syncd.report.rules import name_rule, value_rule
from syncd.report.text import ago, clean, count, iso, moment, say, say_json, shown, style
from syncd.state.dossier import Held, LastRead, LinkedRecord, Membership, Person
from syncd.state.quarantine import DROPPED_S
from syncd.state.undone import PutBack

Rules = Mapping[str, MappingRules]  # by the sync's name, as the configuration has them today

NEVER = {
    "!": "opted out, bounced or blocked: never created, never added to a group, never mailed",
    "-": "a source said that the person opted out",
    "x": "was deleted by hand in FluenzR: is not created again until `syncd release`",
    "?": "was missing when a lost state was rebuilt: is not created until `syncd release`",
    "~": "replied: joins no dynamic group any more, so that no sequence begins anew",
    "*": "joins no dynamic group: was known before the state was rebuilt, or was released",
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
    for name in (
        "not_before_s",
        "created_ms",
        "changes",
        "held",
        "never",
        "records",
        "since_s",
        "approvals",
    ):
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
            "never_since": [iso(person.since_s.get(what)) for what in person.never],
            "held": [
                {"run": one.run, "sync": one.sync, "guards": one.trips, **one.change}
                for one in person.held
            ],
            "changes": [
                {
                    **change_object(change),
                    "approved": [asdict(one) for one in person.approvals.get(change.run, ())],
                }
                for change in person.changes
            ],
        }
    )


def _record_object(record: LinkedRecord) -> dict[str, Any]:
    data = record.data or {}
    mapped = {words: data.get(part) for part, words in PARTS.items()} if record.data else None
    return {**asdict(record), "data": mapped}


def person_words(
    person: Person, *, now_s: float, rules: Rules | None = None, reads: Sequence[LastRead] = ()
) -> None:
    """A few blocks; what there is nothing to say about is left out.

    reads: when each source was last read, for whoever is in none.
    """
    say(style(clean(person.email), "bold"))
    for title, lines in person_blocks(person, now_s=now_s, rules=rules, reads=reads):
        if title:
            say(f"  {title}:")
        for line in lines:
            say(f"    {line}" if title else f"  {line}")


def person_blocks(
    person: Person, *, now_s: float, rules: Rules | None = None, reads: Sequence[LastRead] = ()
) -> list[tuple[str, list[str]]]:
    """(title, lines) of each block; the first one, how the person stands, has no title. What belongs to a line is indented."""
    rules = rules or {}
    if not person.known:
        return [("", _unknown(person, reads, now_s=now_s))]
    blocks = [
        ("", _standing(person, rules, now_s=now_s)),
        ("never", [_barred(person, what) for what in person.never]),
        ("held", _held(person)),
        ("records, in the order in which they count", [_record(r, rules) for r in person.records]),
        ("fields", _fields(person, rules)),
        ("groups", [_group(g, person, rules) for g in person.groups]),
        ("campaigns", [_campaign(c) for c in person.campaigns]),
        ("tags", [clean(", ".join(person.tags))] if person.tags else []),
        (
            "put back, until the sources want something else",
            [_put_back(p) for p in person.put_back],
        ),
        ("changes, each confirmed by FluenzR", _changes(person)),
    ]
    return [(title, lines) for title, lines in blocks if lines]


def _unknown(person: Person, reads: Sequence[LastRead], *, now_s: float) -> list[str]:
    """Of a forgotten address exactly the same."""
    read = [one for one in reads if one.at_s is not None]
    if not read:
        first = "nothing is known about it: no source has been read yet"
    else:
        first = "no source had this address when it was last read, and nothing is known about it"
    lines = [first]
    for one in reads:
        when = "never" if one.at_s is None else f"{moment(one.at_s)} ({ago(one.at_s, now_s=now_s)})"
        lines.append(f"  {clean(one.sync)}: last read {when}")
    email = clean(person.email)
    return [*lines, f"Next: look for it in the source; syncd plan --email {email} reads that anew"]


def _barred(person: Person, what: str) -> str:
    since_s = person.since_s.get(what)
    return ledger_words(what) + (f" (since {moment(since_s)})" if since_s else "")


def _changes(person: Person) -> list[str]:
    lines = []
    for change in person.changes:
        head, *rest = change_words(change)
        approved = "".join(
            f"; {approval_words(one)}" for one in person.approvals.get(change.run, ())
        )
        lost = "; its answer was lost, a read has shown it" if change.detail.get("answer") else ""
        lines += [f"{head}{lost}{approved}", *rest]
    return lines


def _put_back(one: PutBack) -> str:
    words = f"{clean(one.name)}: "
    if isinstance(one.instead, bool) and isinstance(one.undone, bool):
        words += "has it" if one.instead else "does not have it"
    else:
        words += f"{shown(one.instead)}, and not {shown(one.undone)}"
    return f"{words}; run {one.run} has undone run {one.of}"


def _standing(person: Person, rules: Rules, *, now_s: float) -> list[str]:
    lines = [_place(person, rules)]
    if person.in_fluenzr and (person.created_ms or person.created_run):
        run = f" in run {person.created_run}" if person.created_run else ""
        at = f", {moment(person.created_ms / 1000)}" if person.created_ms else ""
        given = person.approvals.get(person.created_run or 0, ())
        approved = "".join(f"; {approval_words(one)}" for one in given)
        lines.append(f"created by a sync{run}{at}{approved}")
    if person.in_fluenzr and person.origin == "adopted":
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
        lines.append(f"  take it up again: syncd quarantine retry {clean(person.email)}")
    if person.tries:
        at_s = person.not_before_s
        when = "in the next run" if at_s <= now_s else f"{moment(at_s)} ({ago(at_s, now_s=now_s)})"
        lines.append(
            f"in quarantine, tried {count(person.tries, 'time')}, again {when}:"
            f" {clean(person.error or 'no reason given')}"
        )
    return lines


def _place(person: Person, rules: Rules) -> str:
    if person.in_fluenzr:
        return f"is in FluenzR, status {clean(person.status or 'not seen yet')}"
    return f"is not in FluenzR as far as is known: {_why_not(person, rules)}"


def _why_not(person: Person, rules: Rules) -> str:
    """The first reason that holds."""
    if person.held:
        return f"held by a guard: {_guard(person.held[0])}"
    for what in ("x", "?", "!"):
        if what in person.never:
            return _barred(person, what)
    skipped = next((r for r in person.records if r.skip), None)
    if skipped is not None and not any(r.live and not r.skip for r in person.records):
        return _reason(skipped, rules)
    if person.error:
        return clean(person.error)
    if person.in_flight:
        return IN_FLIGHT.get(person.in_flight, "a change is in flight")
    if person.records:
        return "it is to be created in the next run"
    return "no source has this address"


def ledger_words(what: str) -> str:
    """One row of the ledger."""
    if what.startswith("g:"):
        return (
            f'was added to the dynamic group "{clean(what[2:])}" once: is never added there again'
        )
    if what.startswith("p:"):
        return f'is or was in the campaign "{clean(what[2:])}": is never enrolled there again'
    return NEVER.get(what, "is barred")


def _guard(held: Held) -> str:
    guards = "; ".join(held.trips)
    return clean(f"run {held.run} of {held.sync}" + (f", because {guards}" if guards else ""))


def _held(person: Person) -> list[str]:
    return [
        f"{clean(str(one.change.get('change', 'a change')))} of {_guard(one)};"
        f" release: syncd approve {one.run} {clean(one.sync)}"
        for one in person.held
    ]


def _reason(record: LinkedRecord, rules: Rules) -> str:
    known = rules.get(record.sync)
    if record.skip == "filtered" and known is not None and known.where is not None:
        return clean(f"left out by where = '{known.where}' of {record.sync}")
    if record.skip == "opted_out" and known is not None and known.opted_out is not None:
        return clean(f"opted out in the source: opted_out = '{known.opted_out}' of {record.sync}")
    words = SKIPPED.get(record.skip or "", record.skip or "")
    return clean(f"{words}: {record.note}" if record.note else words)


def _record(record: LinkedRecord, rules: Rules) -> str:
    text = f"{record.sync}  key {record.key}"
    if record.email:
        text += f"  <{record.email}>"
    if record.skip:
        return clean(text) + f"  not wanted: {_reason(record, rules)}"
    return clean(text) + ("" if record.live else "  no longer in the source")


def _fields(person: Person, rules: Rules) -> list[str]:
    lines = []
    for value in person.values:
        source = f"  from {value.sync}" if value.sync else ""
        rule = value_rule(rules.get(value.sync or ""), value.name)
        by = f", {rule}" if rule and source else ""
        pending = (
            "" if value.confirmed or not person.in_fluenzr else "  (not confirmed in FluenzR yet)"
        )
        lines.append(f"{clean(value.name)}: {shown(value.value)}{clean(source + by)}{pending}")
    return lines


def _campaign(campaign: Membership) -> str:
    kind = "takes nobody any more" if campaign.kind == "ended" else "mails whoever is enrolled"
    by = f", asked for by {', '.join(campaign.by)}" if campaign.by else ""
    if campaign.there:
        standing = "was enrolled, or was skipped by FluenzR"
    else:
        standing = "is not enrolled yet, or is not because of what stands under never"
    return clean(f'"{campaign.name}" ({kind}): {standing}{by}')


def _group(group: Membership, person: Person, rules: Rules) -> str:
    kind = "static" if group.kind == "static" else f"{group.kind}, mails whoever joins"
    if group.there and group.wanted:
        standing = "is in it"
    elif group.there:
        standing = "is in it, and is to be taken out: no source asks for it any more"
    else:
        standing = _not_in(group, person)
    return clean(f'"{group.name}" ({kind}): {standing}{_asked_for(group, rules)}')


def _asked_for(group: Membership, rules: Rules) -> str:
    if not group.by:
        return ""
    told = []
    for sync in group.by:
        known = rules.get(sync)
        rule = name_rule(known.groups, group.names) if known is not None else ""
        told.append(f"{sync} ({rule})" if rule else sync)
    return f", asked for by {', '.join(told)}"


def _not_in(group: Membership, person: Person) -> str:
    """Why somebody who is wanted in a group is not in it."""
    mails = group.kind != "static"
    if mails and f"g:{group.name}" in person.never:
        return "is not in it: was added once, and never is again"
    bars = ("!", "?", *(("*", "x", "~") if mails else ()))
    if person.opted_out_here or any(what in person.never for what in bars):
        return "is not in it, because of what stands under never"
    if not person.in_fluenzr:
        return "is not in it: is not in FluenzR"
    return "is not in it yet"
