"""What `syncd check` and `syncd connectors` show: a line for each thing that was looked at, and what to do."""

from collections.abc import Iterable, Mapping
from typing import Any

from syncd.check import Finding, Grade
from syncd.connector import Abilities, Connector
from syncd.report.keys import NEEDED, NONE, about, keys
from syncd.report.text import clean, count, say, say_json, style, table

COLOURS = {Grade.OK: "green", Grade.NOTE: "dim", Grade.WARNING: "yellow", Grade.FAILED: "red"}
MARK_CHARS = max(map(len, Grade))
ABILITIES = {
    "incremental": "reads only what changed since the last run",
    "tombstones": "tells what was deleted between full reads",
    "archivals": "tells what was archived between full reads",
    "merges": "tells which records were merged",
    "token": "tells an unchanged source without reading it",
    "fields_known": "knows all its fields, so that a wrong name is found before a run",
}
PROBED = {
    "put_custom_fields": "custom fields in an update of one contact",
    "bulk_custom_fields": "custom fields in a bulk update",
    "put_tags": "tags in an update of one contact",
    "bulk_tags": "tags in a bulk update",
    "clearing": "what clears a field",
    "bulk_errors": "what a bulk request says of a bad row",
    "sorting": "listing by creation, newest first",
}


def finding_json(finding: Finding) -> None:
    """One object a finding."""
    say_json(
        {
            "check": finding.what,
            "grade": finding.grade.value,
            "text": finding.text,
            "hint": finding.hint,
        }
    )


def finding_words(finding: Finding) -> None:
    """A line, and below it what to do."""
    mark = style(finding.grade.value.ljust(MARK_CHARS), COLOURS[finding.grade])
    say(f"{mark}  {clean(finding.what)}: {clean(finding.text, lines=True)}")
    if finding.hint:
        say(f"{' ' * MARK_CHARS}  next: {clean(finding.hint, lines=True)}")


def verdict(findings: list[Finding]) -> None:
    """The last line: how many of what, and what to type."""
    failed = sum(one.grade is Grade.FAILED for one in findings)
    warned = sum(one.grade is Grade.WARNING for one in findings)
    say()
    if failed:
        say(
            f"{count(failed, 'failure')}, {count(warned, 'warning')}. Next: put them right, then syncd check"
        )
    else:
        say(f"Ready, {count(warned, 'warning')}. Next: syncd plan")


def probe_words(answers: Mapping[str, Any]) -> None:
    """What the probe has found out."""
    rows = [(words, str(answers.get(name, "unknown"))) for name, words in PROBED.items()]
    say("What this account does where the API's reference leaves it open:")
    for line in table(rows):
        say(f"  {line}")


def connector_list(found: Iterable[tuple[str, str]]) -> None:
    """Name and summary of each; the summary of a broken one says why it is."""
    for line in table(list(found), ("connector", "reads")):
        say(line)
    say()
    say("Next: syncd connectors NAME")


def connector_words(name: str, connector: type[Connector]) -> None:
    """What one connector can do, and its options."""
    say(f"{style(name, 'bold')}: {clean(connector.SUMMARY)}")
    say("  It")
    for words in abilities(connector.ABILITIES):
        say(f"    - {words}")
    if words := about(connector.OPTIONS):
        say()
        for line in words.splitlines():
            say(f"  {clean(line)}".rstrip())
        say()
    say("  Options:")
    for key in keys(connector.OPTIONS):
        default = {NEEDED: ", needed", NONE: ""}.get(key.default, f", default {clean(key.default)}")
        say(f"    {style(key.name, 'bold')}: {key.kind}{default}")
        if key.meaning:
            say(f"        {clean(key.meaning)}")
    say()
    say(f"Next: syncd init --connector {name}")


def abilities(abilities: Abilities) -> list[str]:
    """What a connector can do, a line each."""
    words = [text for name, text in ABILITIES.items() if getattr(abilities, name)]
    if not abilities.incremental:
        words.insert(0, "reads everything in each run, so it always sees who left")
    if abilities.joins:
        words.append(f"brings along {', '.join(sorted(abilities.joins))}")
    if abilities.memberships:
        words.append(f"reads {', '.join(sorted(abilities.memberships))} whole each time")
    if abilities.opt_outs:
        words.append(f"usually holds opt-outs in {', '.join(abilities.opt_outs)}")
    words += [text for text in (abilities.caps, abilities.sweep) if text]
    return words
