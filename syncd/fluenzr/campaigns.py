"""The endpoints of campaigns, of who is in them, and of their statistics.

Whoever is added to a campaign that is active is mailed; so is whoever waits in one when it starts or
is resumed. Source: FluenzR reference, "Campaigns": list, get, create, update, start, pause, add,
stats [I]; resume, archive, members, stats by e-mail, timeline, activity [D].
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import urlencode

from syncd.fluenzr import campaign_types as types
from syncd.fluenzr.campaign_types import (
    Activity,
    Campaign,
    EmailStats,
    Enrolled,
    Member,
    Stats,
    TimelinePoint,
)
from syncd.fluenzr.endpoints import Body, Endpoints, encode, given, named, part
from syncd.fluenzr.types import Receipt, words
from syncd.wire import Reply

Interval = Literal["hour", "day", "week"]


class Campaigns(Endpoints):
    """Campaigns. What is marked [D] raises NotSupported where the account lacks it, or the campaign is not known."""

    def campaigns(self, *, status: str | None = None) -> list[Campaign]:
        """All campaigns, or those with this status. GET /campaigns [I]."""
        asked = {"status": status}
        every = self._listed("/campaigns", types.campaign, lambda one: one.id, asked=asked)
        return [one for one in every if status is None or one.status in ("", status)]

    def campaign(self, campaign_id: str) -> Campaign:
        """One campaign. GET /campaigns/:id [I]. Raises NotFound."""
        return self._wire.read(_path(campaign_id), _campaign)

    def create_campaign(
        self,
        name: str,
        email_account_id: str,
        *,
        description: str | None = None,
        settings: Mapping[str, Any] | None = None,
        workflow: Mapping[str, Any] | None = None,
    ) -> Campaign:
        """POST /campaigns [I]: a draft, which mails nobody."""
        body = given(
            name=name,
            emailAccountId=email_account_id,
            description=description,
            settings=settings,
            workflow=workflow,
        )
        return self._wire.write("POST", "/campaigns", body, _campaign)

    def update_campaign(self, campaign_id: str, body: Body) -> Campaign:
        """PUT /campaigns/:id [I]: draft or paused only. body: by the API's names. Raises NotFound."""
        return self._wire.write("PUT", _path(campaign_id), encode(body), _campaign)

    def start_campaign(self, campaign_id: str) -> str:
        """POST /campaigns/:id/start [I]; the status that is shown then. Mails whoever is in it."""
        return self._step(campaign_id, "start")

    def pause_campaign(self, campaign_id: str) -> str:
        """POST /campaigns/:id/pause [I]; the status that is shown then."""
        return self._step(campaign_id, "pause")

    def resume_campaign(self, campaign_id: str) -> str:
        """POST /campaigns/:id/resume [D]; the status that is shown then. Mails whoever waits in it."""
        return self._step(campaign_id, "resume", optional=True)

    def archive_campaign(self, campaign_id: str) -> str:
        """POST /campaigns/:id/archive [D]; the status that is shown then."""
        return self._step(campaign_id, "archive", optional=True)

    def add_to_campaign(
        self,
        campaign_id: str,
        *,
        contact_ids: Iterable[str] | None = None,
        group_ids: Iterable[str] | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> Enrolled:
        """POST /campaigns/:id/contacts [I]: exactly one of the three. An active campaign mails them. Raises NotFound."""
        chosen = {
            "contactIds": None if contact_ids is None else list(contact_ids),
            "groupIds": None if group_ids is None else list(group_ids),
            "filters": None if filters is None else dict(filters),
        }
        if sum(value is not None for value in chosen.values()) != 1:
            raise TypeError("exactly one of contact_ids, group_ids and filters")
        return self._wire.write(
            "POST",
            f"{_path(campaign_id)}/contacts",
            given(**chosen),
            lambda reply: types.enrolled(reply.data),
        )

    def remove_from_campaign(self, campaign_id: str, contact_ids: Iterable[str]) -> Receipt:
        """DELETE /campaigns/:id/contacts, with a body [D]: nothing more is sent to them by it."""
        return self._wire.write(
            "DELETE",
            f"{_path(campaign_id)}/contacts",
            named("contactIds", contact_ids),
            lambda reply: Receipt(reply.date_ms, None),
            optional=True,
        )

    def campaign_members(self, campaign_id: str) -> Iterator[Member]:
        """Everybody in the campaign, page by page. GET /campaigns/:id/contacts [D]."""
        path = f"{_path(campaign_id)}/contacts"
        return self._listed(path, types.member, lambda one: one.contact_id, optional=True)

    def campaign_stats(self, campaign_id: str) -> Stats:
        """What the campaign has come to so far. GET /campaigns/:id/stats [I]. Raises NotFound."""
        return self._wire.read(f"{_path(campaign_id)}/stats", lambda reply: types.stats(reply.data))

    def campaign_email_stats(self, campaign_id: str) -> list[EmailStats]:
        """The same for each e-mail of the sequence. GET /campaigns/:id/stats/emails [D]."""
        path = f"{_path(campaign_id)}/stats/emails"
        return self._wire.read(path, lambda reply: types.email_stats(reply.data), optional=True)

    def campaign_timeline(
        self,
        campaign_id: str,
        *,
        interval: Interval = "day",
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[TimelinePoint]:
        """What happened per interval, oldest first. GET /campaigns/:id/stats/timeline [D]."""
        query = urlencode({"interval": interval} | _between(start, end))
        path = f"{_path(campaign_id)}/stats/timeline"
        points = self._wire.read(
            path, lambda reply: types.timeline(reply.data), query=query, optional=True
        )
        return sorted(points, key=lambda point: point.start_ms)

    def campaign_activity(
        self,
        campaign_id: str,
        *,
        kind: str | None = None,
        contact_id: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[Activity]:
        """What happened to whom, page by page. GET /campaigns/:id/activity [D]. kind: see `Activity`."""
        asked = {"type": kind, "contactId": contact_id} | _between(start, end)
        path = f"{_path(campaign_id)}/activity"
        every = self._listed(path, types.activity, lambda _: "", asked=asked, optional=True)
        for one in every:
            if kind in (None, one.kind) and contact_id in (None, one.contact_id):
                yield one

    def _step(self, campaign_id: str, step: str, *, optional: bool = False) -> str:
        """One step of a campaign's life; the answer's shape is [?]: the campaign, its status, or nothing."""
        path = f"{_path(campaign_id)}/{step}"
        return self._wire.write("POST", path, b"", _status, optional=optional)


def _path(campaign_id: str) -> str:
    return f"/campaigns/{part(campaign_id)}"


def _campaign(reply: Reply) -> Campaign:
    return types.campaign(reply.data)


def _status(reply: Reply) -> str:
    return words(reply.data, "status") if isinstance(reply.data, dict) else ""


def _between(start: datetime | None, end: datetime | None) -> dict[str, str]:
    """The two times as ISO 8601. Raises ValueError for one without a zone."""
    times = {"from": start, "to": end}
    for when in times.values():
        if when is not None and when.tzinfo is None:
            raise ValueError("a time needs its zone: datetime(..., tzinfo=UTC)")
    return {name: _written(when) for name, when in times.items() if when is not None}


def _written(when: datetime) -> str:
    """As FluenzR writes its own times."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
