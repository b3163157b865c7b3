"""How the sandbox reads what the FluenzR reference leaves open: one switch for each [?].

The documented behaviour [I] [D] is the same under every reading. The default is the reading that a
person who tries a configuration is most likely to meet; tests go through the others.
"""

import random
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_type_hints

Mixing = Literal["merge", "replace"]

OPTIONAL = (  # what a sync has another way for, when an account lacks it
    "POST /contacts/bulk",
    "POST /groups/:id/contacts",
    "POST /contacts/:id/groups",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quirks:
    """One reading of the undocumented. Access switches (plan, key) are at the end.

    bulk_errors: what an entry of `errors` holds; `whole400` refuses everything for one bad row.
    bulk_skip_adds_groups: `onDuplicate: skip` leaves the fields alone, but still adds the groups.
    clear_refused: the value that is answered with 400 when it is sent to clear a field.
    unknown_custom_fields: names that are not in `Account.custom_field_names`; `accept` takes all.
    unknown_fields: names at the top level that the reference does not have.
    group_contacts_key: the key that POST /groups/:id/contacts reads.
    group_filter: the parameters that GET /contacts knows; it ignores others, and lists everyone.
    group_type: how a group tells its type: `type` in lower or upper case, `isDynamic`, not at all.
    group_names: whether two groups may have one name; `unique` answers 409.
    absent: endpoints that this account lacks ("POST /contacts/bulk"), answered by absent_status.
    sort: `sort=createdAt` as asked for, ignored (order of creation, for every sort), or by updatedAt.
    sort_updated: `sort=updatedAt` as asked for, ignored (order of creation), or answered with 400.
    opt_out_moves: somebody who opts out gets a new updatedAt.
    status_filter: `status` filters; or is ignored, and everybody is listed.
    status_total: `total` where `status` filters: right; absent; of everybody; or of no more than the page.
    webhook_words: how a webhook's state, a test and the log are told: in words or by flags.
    members: how GET /campaigns/:id/contacts shows one: the contact, its `contactId`, a `contact` inside, the bare id.
    enrol_errors: what an entry of `errors` names when somebody cannot be added to a campaign.
    enrol_skips: whoever is in a campaign already, or may not be mailed, is counted as skipped, or named in `errors`.
    campaign_answer: what starting, pausing, resuming and archiving answer.
    stats_nested: statistics, and the timeline, stand inside an object.
    campaign_names: whether two campaigns may have one name; `unique` answers 409.
    clock_ahead_s: the server's clock against ours.
    body_bytes_max: a larger body is answered with 413 and HTML, as a proxy does.
    """

    custom_fields_put: Mixing = "merge"
    custom_fields_bulk: Mixing = "merge"
    tags_put: Mixing = "replace"
    tags_bulk: Mixing = "merge"
    groups_put: Mixing = "replace"
    bulk_errors: Literal["index_email", "index", "email", "message", "whole400"] = "index_email"
    bulk_skip_adds_groups: bool = False
    clear_refused: Literal["none", "null", "empty"] = "none"
    unknown_custom_fields: Literal["accept", "drop", "refuse"] = "accept"
    unknown_fields: Literal["accept", "drop", "refuse"] = "accept"
    email_shown: Literal["as_sent", "lower"] = "as_sent"
    group_contacts_key: Literal["contactIds", "contacts"] = "contactIds"
    group_filter: Literal["both", "group", "groupId"] = "both"
    group_type: Literal["type", "upper", "is_dynamic", "absent"] = "type"
    group_names: Literal["any", "unique"] = "any"
    sort: Literal["honoured", "ignored", "updated_at"] = "honoured"
    sort_updated: Literal["honoured", "ignored", "refused"] = "honoured"
    opt_out_moves: bool = True
    status_filter: Literal["honoured", "ignored"] = "honoured"
    status_total: Literal["right", "absent", "everybody", "page"] = "right"
    members: Literal["contact", "contact_id", "nested", "id"] = "contact"
    enrol_errors: Literal["contact_id", "email", "message"] = "contact_id"
    enrol_skips: Literal["skipped", "errors"] = "skipped"
    campaign_answer: Literal["campaign", "status", "nothing"] = "campaign"
    stats_nested: bool = False
    campaign_names: Literal["any", "unique"] = "any"
    webhook_words: Literal["words", "flags"] = "words"
    total_pages: bool = True
    rate_headers: bool = True
    retry_after: bool = True
    date_header: bool = True
    absent: frozenset[str] = frozenset()
    absent_status: Literal[404, 405] = 404
    clock_ahead_s: float = 0.0
    body_bytes_max: int = 10 * 1024 * 1024
    read_only_key: bool = False
    plan_without_api: bool = False


def readings() -> dict[str, tuple[Any, ...]]:
    """Every switch with a closed list of readings that a sync must work under, and that list."""
    hints = get_type_hints(Quirks)
    closed = {name: get_args(hint) for name, hint in hints.items() if get_args(hint)}
    del closed["absent"]
    for name in ("status_filter", "status_total"):
        del closed[name]  # they cost requests, which those who go through all readings count
    for name in ("webhook_words", "campaign_answer", "campaign_names"):
        del closed[name]  # no sync asks for these
    switches = ["bulk_skip_adds_groups", "total_pages"]
    switches += ["rate_headers", "retry_after", "date_header"]
    # Newer ones stand last, so that what a seed has drawn before stays as it was.
    newer = {"sort_updated": closed.pop("sort_updated"), "opt_out_moves": (False, True)}
    newer |= {name: closed.pop(name) for name in ("members", "enrol_errors", "enrol_skips")}
    return closed | dict.fromkeys(switches, (False, True)) | newer


def draw(rng: random.Random) -> Quirks:
    """One reading of everything, by chance: for tests that go through many."""
    absent = rng.choice([frozenset(), frozenset(), *(frozenset({one}) for one in OPTIONAL)])
    chosen = {name: rng.choice(values) for name, values in readings().items()}
    return Quirks(absent=absent, **chosen)
