"""Campaigns and their statistics as FluenzR's endpoints return them, as values, and the reading from JSON.

As tolerant as `types.py`: what is not there is *not known*, what would mislead is a ShapeError.
Source: FluenzR reference, "Campaigns": the campaign, its statistics and the answer of an enrolment
[D]; the JSON of members, of single e-mails, of the timeline and of activities is [?].
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from syncd.core.answer import ShapeError, clean
from syncd.fluenzr.types import count, items, text, time_ms, words

COUNTS = (  # [D]
    "totalContacts",
    "sent",
    "delivered",
    "opened",
    "openRate",
    "clicked",
    "clickRate",
    "replied",
    "replyRate",
    "bounced",
    "bounceRate",
    "unsubscribed",
    "unsubscribeRate",
)
ENDED = frozenset({"completed", "archived"})  # they send nothing any more [D]
TIMES = (
    "date",
    "timestamp",
    "time",
    "period",
    "start",
    "from",
)  # when a point of a timeline is [?]

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Stats:
    """What a campaign has come to. Rates are in percent. None: FluenzR does not say."""

    total_contacts: int | None = None
    sent: int | None = None
    delivered: int | None = None
    opened: int | None = None
    open_rate: float | None = None
    clicked: int | None = None
    click_rate: float | None = None
    replied: int | None = None
    reply_rate: float | None = None
    bounced: int | None = None
    bounce_rate: float | None = None
    unsubscribed: int | None = None
    unsubscribe_rate: float | None = None

    def named(self) -> dict[str, float | None]:
        """The values under the names that the API gives them, in the API's order."""
        return {name: getattr(self, ATTRIBUTES[name]) for name in COUNTS}

    @classmethod
    def of_named(cls, named: Mapping[str, Any]) -> "Stats":
        """What `named` gave."""
        return cls(**{ATTRIBUTES[name]: named.get(name) for name in COUNTS})


ATTRIBUTES = dict(zip(COUNTS, Stats.__slots__, strict=True))


@dataclass(frozen=True, slots=True)
class Campaign:
    """A sequence of e-mails.

    status: draft, active, paused, completed, archived [D]; empty where none is shown. settings:
    `sendDays sendHoursStart sendHoursEnd timezone maxEmailsPerHour`; workflow: `nodes edges`.
    stats: None where the campaign is shown without. Times are epoch milliseconds.
    """

    id: str
    name: str
    status: str
    description: str = ""
    email_account_id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    workflow: dict[str, Any] = field(default_factory=dict)
    stats: Stats | None = None
    created_ms: int | None = None
    started_ms: int | None = None
    updated_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in a campaign. email, status: empty where they are not shown."""

    contact_id: str
    email: str
    status: str


@dataclass(frozen=True, slots=True)
class EnrolmentError:
    """Why one was not added. contact_id, email: where it is said whom it means [?]."""

    contact_id: str
    email: str
    message: str


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The answer of an enrolment. skipped: they were members already, or may not be mailed."""

    added: int
    skipped: int
    errors: tuple[EnrolmentError, ...]


@dataclass(frozen=True, slots=True)
class EmailStats:
    """What one e-mail of a campaign has come to. node_id: its place in the workflow."""

    node_id: str
    subject: str
    stats: Stats


@dataclass(frozen=True, slots=True)
class TimelinePoint:
    """What happened from `start_ms` (epoch milliseconds) on, for one interval."""

    start_ms: int
    stats: Stats


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that happened to one contact in one campaign.

    kind: `sent delivered opened clicked replied bounced unsubscribed`. details: everything that came.
    """

    kind: str
    time_ms: int | None
    contact_id: str
    email: str
    node_id: str
    details: dict[str, Any]


def called(campaigns: Iterable[Campaign], name: str) -> list[Campaign]:
    """Those with this id or name (else in another letter case); ended ones only where no other has it."""
    every = list(campaigns)
    found = [one for one in every if one.id == name]
    found = found or [one for one in every if one.name == name]
    found = found or [one for one in every if one.name.casefold() == name.casefold()]
    return [one for one in found if one.status not in ENDED] or found


def campaign(item: Any) -> Campaign:
    """A campaign from its JSON. Raises ShapeError."""
    got = _object(item, "a campaign")
    return Campaign(
        text(got, "id", "campaign"),
        text(got, "name", "campaign"),
        words(got, "status"),
        words(got, "description"),
        words(got, "emailAccountId"),
        _inner(got, "settings"),
        _inner(got, "workflow"),
        stats(got["stats"]) if isinstance(got.get("stats"), dict) else None,
        time_ms(got.get("createdAt")),
        time_ms(got.get("startedAt")),
        time_ms(got.get("updatedAt")),
    )


def stats(item: Any) -> Stats:
    """Statistics from their JSON; also where they stand under `stats`. Raises ShapeError."""
    got = _object(item, "the statistics")
    got = got["stats"] if isinstance(got.get("stats"), dict) else got
    return Stats(*(_number(got.get(name), rate=name.endswith("Rate")) for name in COUNTS))  # type: ignore[arg-type]


def member(item: Any) -> Member:
    """A member: a contact, an object that names one or holds one, or the bare id [?]. Raises ShapeError."""
    if isinstance(item, str) and item:
        return Member(item, "", "")
    got = _object(item, "a member")
    if isinstance(got.get("contact"), dict):
        got = got["contact"] | {"status": got.get("status") or got["contact"].get("status")}
    named = words(got, "contactId") or text(got, "id", "member")
    return Member(named, words(got, "email", "contactEmail"), words(got, "status"))


def enrolled(item: Any) -> Enrolled:
    """The answer of an enrolment. Raises ShapeError when it does not count."""
    got = _object(item, "the answer of an enrolment")
    added, skipped = count(got, "added"), count(got, "skipped")
    if added is None or (skipped is None and "skipped" in got):
        raise ShapeError("the answer of an enrolment does not count what it did")
    errors = got.get("errors") or []
    if not isinstance(errors, list):
        raise ShapeError("the errors of an enrolment are not a list")
    return Enrolled(added, skipped or 0, tuple(_error(error) for error in errors))


def email_stats(data: Any) -> list[EmailStats]:
    """The statistics per e-mail. Raises ShapeError."""
    return [
        EmailStats(
            words(item, "emailNodeId", "nodeId", "id"), words(item, "subject", "name"), stats(item)
        )
        for item in _rows(data, "emails", lambda item: _object(item, "an e-mail's statistics"))
    ]


def timeline(data: Any) -> list[TimelinePoint]:
    """The points of a timeline, as they came. Raises ShapeError."""
    return _rows(data, "timeline", _point)


def activity(item: Any) -> Activity:
    """An activity from its JSON. Raises ShapeError. kind: without `email.` before it."""
    got = _object(item, "an activity")
    when = (time_ms(got.get(name)) for name in ("timestamp", "createdAt", "occurredAt", "date"))
    return Activity(
        (words(got, "type", "event") or text(got, "type", "activity")).removeprefix("email."),
        next((ms for ms in when if ms is not None), None),
        words(got, "contactId"),
        words(got, "contactEmail", "email"),
        words(got, "emailNodeId", "nodeId"),
        got,
    )


def _object(item: Any, what: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ShapeError(f"{what} is not an object")
    return item


def _inner(item: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = item.get(name)
    return value if isinstance(value, dict) else {}


def _rows(data: Any, name: str, parse: Callable[[Any], Item]) -> list[Item]:
    """A list, or the list in an object: under `name`, or the only one there is [?]."""
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
        data = data.get(name, lists[0] if len(lists) == 1 else None)
    return items(data, parse)


def _point(item: Any) -> TimelinePoint:
    got = _object(item, "a point of the timeline")
    when = (time_ms(got.get(name)) for name in TIMES)
    start_ms = next((ms for ms in when if ms is not None), None)
    if start_ms is None:
        raise ShapeError("a point of the timeline has no date")
    return TimelinePoint(start_ms, stats(got))


def _number(value: Any, *, rate: bool) -> float | None:
    """A count, or a rate, which may be text with a percent sign [?]; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("%"))
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e15:
        return None
    return float(value) if rate else int(value)


def _error(error: Any) -> EnrolmentError:
    if isinstance(error, str):
        return EnrolmentError("", "", clean(error))
    got = error if isinstance(error, dict) else {}
    said = got.get("error")
    message = words(got, "message", "error", "reason") or words(
        said if isinstance(said, dict) else {}, "message"
    )
    return EnrolmentError(
        words(got, "contactId", "id"),
        words(got, "email", "contactEmail"),
        clean(message) or "FluenzR does not say why",
    )
