"""The client as a library: every endpoint beyond what the sync uses, under each reading of FluenzR's reference."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from raw_server import response, serving

from syncd.core.answer import ShapeError
from syncd.core.model import GroupKind
from syncd.errors import (
    AccessDenied,
    KeyNotAccepted,
    NotFound,
    NotSupported,
    PlanWithoutApi,
    ReadOnlyKey,
    Refused,
    Unanswered,
)
from syncd.fluenzr import FluenzR, campaign_types, webhook_types
from syncd.fluenzr.campaign_types import EnrolmentError, Member, Stats
from syncd.fluenzr.endpoints import every
from syncd.sandbox import Faults, Quirks, Rule, Sandbox
from syncd.sandbox.faults import Drop
from syncd.testing.clock import START_S, FakeClock

KEY = "flz_sk_" + "k" * 32
START_MS = int(START_S) * 1000
HOOK = "https://sync.example.com/webhooks/fluenzr"


@contextmanager
def opened(*rules: Rule, **quirks: Any) -> Iterator[tuple[Sandbox, FluenzR]]:
    """A sandbox and a client of it."""
    clock = FakeClock()
    sandbox = Sandbox(clock=clock, quirks=Quirks(**quirks), faults=Faults(*rules))
    with (
        sandbox.serve(),
        FluenzR(KEY, base_url=sandbox.url, clock=clock, timeout_s=5.0) as fluenzr,
    ):
        yield sandbox, fluenzr


# contacts


def test_plain_values_create_and_change_a_contact() -> None:
    with opened() as (sandbox, fluenzr):
        made = fluenzr.create(
            {
                "email": "ann@example.com",
                "firstName": "Ann",
                "tags": ("crm",),
                "customFields": {"score": 5},
            }
        ).contact
        assert (made.fields["firstName"], made.tags, made.custom_fields) == (
            "Ann",
            frozenset({"crm"}),
            {"score": 5},
        )
        fluenzr.update(made.id, {"firstName": None, "pipelineStageId": "stg_2"})
        again = fluenzr.contact(made.id)
        assert again.fields["firstName"] is None
        assert again.stage is not None
        assert (again.stage.id, again.stage.name) == ("stg_2", "Contacted")
        answer = fluenzr.bulk({"contacts": [{"email": "bob@example.com"}], "onDuplicate": "skip"})
        assert answer.created == 1
        assert len(sandbox.account.contacts) == 2


@pytest.mark.parametrize("status_filter", ["honoured", "ignored"])
@pytest.mark.parametrize("status_total", ["right", "absent", "everybody", "page"])
def test_contacts_gives_exactly_those_with_the_status(
    status_filter: str, status_total: str
) -> None:
    with opened(status_filter=status_filter, status_total=status_total) as (sandbox, fluenzr):
        for number in range(230):
            status = "unsubscribed" if number % 2 else "active"
            sandbox.account.add_contact(f"p{number}@example.com", status=status)
        found = [contact.email for contact in fluenzr.contacts(status="active")]
        assert found == [f"p{number}@example.com" for number in range(0, 230, 2)]


@pytest.mark.parametrize("known", ["both", "group", "groupId"])
def test_contacts_are_filtered_by_group_tag_and_address(known: str) -> None:
    with opened(group_filter=known) as (sandbox, fluenzr):
        staff = sandbox.account.add_group("Staff")
        sandbox.account.add_contact("ann@example.com", tags=["a"], groups=["Staff"])
        sandbox.account.add_contact("joann@example.com", tags=["b"])
        assert [one.email for one in fluenzr.contacts(group_id=staff.id)] == ["ann@example.com"]
        assert [one.email for one in fluenzr.contacts(tag="b")] == ["joann@example.com"]
        assert len(list(fluenzr.contacts(email="ANN@"))) == 2


def test_contacts_are_sorted_as_asked_and_read_page_by_page() -> None:
    with opened() as (sandbox, fluenzr):
        for number in range(250):
            sandbox.clock.sleep_s(1.0)
            sandbox.account.add_contact(f"p{number}@example.com")
        listed = fluenzr.contacts(sort="createdAt", order="desc")
        assert next(listed).email == "p249@example.com"
        assert fluenzr.requests == 1
        # Somebody new moves everybody on by one: whoever is on two pages comes once.
        sandbox.account.add_contact("new@example.com")
        rest = [contact.email for contact in listed]
        assert rest == [f"p{number}@example.com" for number in reversed(range(249))]
        assert fluenzr.requests == 3


def test_search_finds_by_words_and_filters() -> None:
    with opened() as (sandbox, fluenzr):
        staff = sandbox.account.add_group("Staff")
        for number in range(120):
            sandbox.account.add_contact(f"p{number}@example.com", company="Acme", groups=["Staff"])
        sandbox.account.add_contact("x@example.com", company="Acme", custom_fields={"score": 1})
        assert len(list(fluenzr.search("acme"))) == 121
        assert len(list(fluenzr.search("acme", group_ids=[staff.id]))) == 120
        (found,) = fluenzr.search(custom_fields={"score": 1})
        assert found.email == "x@example.com"
        first = next(fluenzr.search("p", sort="email", order="desc"))
        assert first.email == "x@example.com"


def test_a_search_is_a_read_and_so_it_is_tried_again() -> None:
    lost = Rule(name="lost", effect=Drop(applied=True), path="/contacts/search", times=1)
    with opened(lost, read_only_key=True) as (sandbox, fluenzr):
        sandbox.account.add_contact("ann@example.com")
        assert [one.email for one in fluenzr.search("ann")] == ["ann@example.com"]
        assert sandbox.faults.fired["lost"] == 1


# listings


def pages(*pages: list[str], total: int | None) -> Callable[[int], tuple[int | None, list[str]]]:
    return lambda number: (total, pages[number - 1] if number <= len(pages) else [])


@pytest.mark.parametrize(
    ("given", "total", "counted", "came"),
    [
        ([["a", "b"], ["c"]], 3, True, "abc"),
        ([["a", "b"], ["c"]], None, True, "abc"),
        ([["a", "b"], ["b", "c"]], 4, True, "abc"),  # moved on by one meanwhile
        ([["a"], ["b"], ["c"]], 1, False, "abc"),  # the total of a filtered listing is [?]
        ([["a", "b"]], 9, False, "ab"),
        ([["a", "b"], ["a", "b"]], None, True, "ab"),  # a server without pages
        ([], 0, True, ""),
        ([], None, True, ""),
    ],
)
def test_a_listing_gives_each_item_once(
    given: list[list[str]], total: int | None, counted: bool, came: str
) -> None:
    found = every("GET /x", pages(*given, total=total), lambda item: item, counted=counted)
    assert "".join(found) == came


@pytest.mark.parametrize(
    ("given", "counted"), [([["a", "b"]], True), ([["a", "b"], ["a", "b"]], False)]
)
def test_a_listing_that_ends_too_soon_is_no_listing(given: list[list[str]], counted: bool) -> None:
    found = every("GET /x", pages(*given, total=5), lambda item: item, counted=counted)
    with pytest.raises(Unanswered, match="2 came of 5"):
        list(found)


# groups


def test_groups_are_created_changed_read_and_deleted() -> None:
    with opened() as (sandbox, fluenzr):
        made = fluenzr.create_group(
            "News", kind=GroupKind.DYNAMIC, description="Ours", color="#fff"
        )
        assert (made.kind, made.description, made.color) == (GroupKind.DYNAMIC, "Ours", "#fff")
        assert fluenzr.update_group(made.id, name="Letters").description == "Ours"
        assert fluenzr.group(made.id).name == "Letters"
        fluenzr.delete_group(made.id)
        assert sandbox.account.groups == {}
        for ask in (fluenzr.group, fluenzr.delete_group):
            with pytest.raises(NotFound):
                ask(made.id)


# campaigns


def spring(fluenzr: FluenzR) -> str:
    return fluenzr.create_campaign("Spring", "acc_1").id


def test_a_campaign_lives_from_draft_to_archive() -> None:
    with opened() as (sandbox, fluenzr):
        settings = {"maxEmailsPerHour": 10, "timezone": "Europe/Paris"}
        made = fluenzr.create_campaign("Spring", "acc_1", description="D", settings=settings)
        assert (made.status, made.email_account_id, made.settings) == ("draft", "acc_1", settings)
        assert (made.created_ms, made.started_ms, made.workflow) == (START_MS, None, {})
        assert fluenzr.update_campaign(made.id, {"name": "Summer"}).settings == settings
        ann = sandbox.account.add_contact("ann@example.com")
        bob = sandbox.account.add_contact("bob@example.com", status="bounced")
        answer = fluenzr.add_to_campaign(made.id, contact_ids=[ann.id, bob.id, "con_x"])
        assert (answer.added, answer.skipped) == (1, 1)
        assert answer.errors == (EnrolmentError("con_x", "", "Contact not found"),)
        assert sandbox.account.mailed() == []
        assert fluenzr.start_campaign(made.id) == "active"
        assert sandbox.account.mailed() == ["ann@example.com"]
        assert fluenzr.pause_campaign(made.id) == "paused"
        assert fluenzr.resume_campaign(made.id) == "active"
        assert [one.id for one in fluenzr.campaigns(status="active")] == [made.id]
        assert fluenzr.archive_campaign(made.id) == "archived"
        assert fluenzr.campaigns(status="active") == []
        assert fluenzr.campaign(made.id).started_ms == START_MS
        with pytest.raises(Refused, match="archived cannot be started"):
            fluenzr.start_campaign(made.id)


def test_people_are_added_by_group_or_filter_listed_and_taken_out() -> None:
    with opened() as (sandbox, fluenzr):
        staff = sandbox.account.add_group("Staff")
        for number in range(130):
            sandbox.account.add_contact(f"p{number}@example.com", groups=["Staff"])
        bob = sandbox.account.add_contact("bob@example.com", custom_fields={"score": 1})
        campaign = spring(fluenzr)
        assert fluenzr.add_to_campaign(campaign, group_ids=[staff.id]).added == 130
        filters = {"customFields": {"score": 1}}
        assert fluenzr.add_to_campaign(campaign, filters=filters).added == 1
        members = list(fluenzr.campaign_members(campaign))
        assert len(members) == 131
        assert members[-1] == Member(bob.id, "bob@example.com", "active")
        fluenzr.remove_from_campaign(campaign, [bob.id])
        assert len(list(fluenzr.campaign_members(campaign))) == 130


def test_exactly_one_choice_of_people_is_sent() -> None:
    with opened() as (_, fluenzr):
        for choice in ({}, {"contact_ids": ["con_1"], "filters": {}}):
            with pytest.raises(TypeError, match="exactly one"):
                fluenzr.add_to_campaign("cmp_1", **choice)
        assert fluenzr.requests == 0


def test_statistics_of_every_kind() -> None:
    with opened() as (sandbox, fluenzr):
        sandbox.account.add_group("A", dynamic=True)
        for name in ("ann", "bob"):
            sandbox.account.add_contact(f"{name}@example.com", groups=["A"])
        sandbox.clock.advance_s(86_400)
        sandbox.account.happens("opened", "ann@example.com", campaign="Campaign of A")
        (campaign,) = fluenzr.campaigns()
        stats = fluenzr.campaign_stats(campaign.id)
        assert (stats.total_contacts, stats.sent, stats.opened, stats.open_rate) == (2, 2, 1, 50.0)
        assert campaign.stats == stats
        assert list(stats.named()) == list(campaign_types.COUNTS)
        assert stats.named()["openRate"] == 50.0
        (email,) = fluenzr.campaign_email_stats(campaign.id)
        assert (email.subject, email.stats) == ("Campaign of A", stats)
        day = timedelta(days=1)
        points = fluenzr.campaign_timeline(campaign.id)
        assert [(point.stats.sent, point.stats.opened) for point in points] == [(2, 0), (0, 1)]
        assert points[1].start_ms - points[0].start_ms == day // timedelta(milliseconds=1)
        start = datetime(2026, 1, 2, tzinfo=UTC)
        (point,) = fluenzr.campaign_timeline(
            campaign.id, interval="hour", start=start, end=start + day
        )
        assert point.stats.opened == 1
        ann = sandbox.account.contact("ann@example.com")["id"]
        (opened_,) = fluenzr.campaign_activity(campaign.id, kind="opened", contact_id=ann)
        assert (opened_.email, opened_.time_ms) == ("ann@example.com", START_MS + 86_400_000)
        assert len(list(fluenzr.campaign_activity(campaign.id))) == 5
        assert len(list(fluenzr.campaign_activity(campaign.id, start=start))) == 1


def test_a_time_without_zone_is_refused_before_anything_is_sent() -> None:
    with opened() as (_, fluenzr), pytest.raises(ValueError, match="zone"):
        fluenzr.campaign_timeline("cmp_1", start=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake


DETAILS: list[tuple[str, Callable[[FluenzR], Any]]] = [
    ("POST /contacts/search", lambda fluenzr: list(fluenzr.search("x"))),
    ("POST /campaigns/:id/resume", lambda fluenzr: fluenzr.resume_campaign("cmp_1")),
    ("POST /campaigns/:id/archive", lambda fluenzr: fluenzr.archive_campaign("cmp_1")),
    ("GET /campaigns/:id/contacts", lambda fluenzr: list(fluenzr.campaign_members("cmp_1"))),
    ("DELETE /campaigns/:id/contacts", lambda fluenzr: fluenzr.remove_from_campaign("cmp_1", [])),
    ("GET /campaigns/:id/stats/emails", lambda fluenzr: fluenzr.campaign_email_stats("cmp_1")),
    ("GET /campaigns/:id/stats/timeline", lambda fluenzr: fluenzr.campaign_timeline("cmp_1")),
    ("GET /campaigns/:id/activity", lambda fluenzr: list(fluenzr.campaign_activity("cmp_1"))),
    ("PUT /webhooks/:id", lambda fluenzr: fluenzr.update_webhook("whk_1", url=HOOK)),
    ("POST /webhooks/:id/test", lambda fluenzr: fluenzr.test_webhook("whk_1")),
    ("GET /webhooks/:id/logs", lambda fluenzr: list(fluenzr.webhook_log("whk_1"))),
]


@pytest.mark.parametrize("status", [404, 405])
def test_what_is_only_in_the_detail_pages_may_be_missing(status: int) -> None:
    absent = frozenset(endpoint for endpoint, _ in DETAILS)
    with opened(absent=absent, absent_status=status) as (_, fluenzr):
        for _, ask in DETAILS:
            with pytest.raises(NotSupported):
                ask(fluenzr)


@pytest.mark.parametrize(
    ("item", "member"),
    [
        (
            {"id": "con_1", "email": "a@example.com", "status": "active"},
            ("con_1", "a@example.com", "active"),
        ),
        ({"id": "mem_1", "contactId": "con_1"}, ("con_1", "", "")),
        ({"contact": {"id": "con_1", "email": "a@example.com"}}, ("con_1", "a@example.com", "")),
        ("con_1", ("con_1", "", "")),
    ],
)
def test_members_of_every_shape(item: Any, member: tuple[str, str, str]) -> None:
    assert campaign_types.member(item) == Member(*member)


@pytest.mark.parametrize(
    "data",
    [
        [{"date": "2026-01-01", "sent": 3}],
        {"timeline": [{"timestamp": "2026-01-01T00:00:00Z", "sent": 3}]},
        {"interval": "day", "data": [{"period": "2026-01-01", "stats": {"sent": "3"}}]},
    ],
)
def test_timelines_of_every_shape(data: Any) -> None:
    (point,) = campaign_types.timeline(data)
    assert (point.start_ms, point.stats.sent) == (1_767_225_600_000, 3)


def test_statistics_that_are_not_there_are_not_known() -> None:
    assert campaign_types.stats(
        {"sent": 3, "openRate": "45.5%", "clicked": "many", "replied": True}
    ) == Stats(sent=3, open_rate=45.5)


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (campaign_types.campaign, {"id": "cmp_1"}),
        (campaign_types.campaign, []),
        (campaign_types.stats, None),
        (campaign_types.member, {"email": "a@example.com"}),
        (campaign_types.enrolled, {"skipped": 1}),
        (campaign_types.enrolled, {"added": 1, "errors": "many"}),
        (campaign_types.timeline, [{"sent": 1}]),
        (campaign_types.timeline, {"a": [], "b": []}),
        (campaign_types.activity, {"contactId": "con_1"}),
        (webhook_types.webhook, {"id": "whk_1"}),
        (webhook_types.delivery, "x"),
    ],
)
def test_what_would_mislead_is_no_answer(parse: Callable[[Any], Any], data: Any) -> None:
    with pytest.raises(ShapeError):
        parse(data)


# webhooks


@pytest.mark.parametrize("words", ["words", "flags"])
def test_webhooks_are_registered_changed_tested_listed_and_deleted(words: str) -> None:
    with opened(webhook_words=words) as (sandbox, fluenzr), serving(response(b"")) as receiver:
        made = fluenzr.create_webhook(
            HOOK, ["email.bounced", "email.unsubscribed"], secret="s3cret"
        )
        assert (made.url, made.events, made.active) == (
            HOOK,
            ("email.bounced", "email.unsubscribed"),
            True,
        )
        assert fluenzr.webhooks() == [made]
        changed = fluenzr.update_webhook(made.id, events=["contact.deleted"])
        assert (changed.url, changed.events) == (HOOK, ("contact.deleted",))
        assert list(fluenzr.webhook_log(made.id)) == []
        fluenzr.update_webhook(made.id, url=receiver.url)
        test = fluenzr.test_webhook(made.id)
        assert (test.delivered, test.status) == (True, 200)
        (entry,) = fluenzr.webhook_log(made.id)
        assert (entry.event, entry.delivered, entry.status) == ("contact.deleted", True, 200)
        assert entry.time_ms == START_MS
        fluenzr.delete_webhook(made.id)
        assert sandbox.account.webhooks == {}
        with pytest.raises(NotFound):
            fluenzr.delete_webhook(made.id)
        assert "s3cret" not in repr(made)


@pytest.mark.parametrize(
    ("item", "delivered", "status"),
    [
        ({"id": "log_1", "event": "email.sent", "success": True, "statusCode": 200}, True, 200),
        (
            {"id": "log_1", "type": "email.sent", "status": "failed", "responseStatus": 500},
            False,
            500,
        ),
        ({"id": "log_1", "eventType": "email.sent", "status": 204}, True, 204),
        ({"event": "email.sent"}, None, None),
    ],
)
def test_entries_of_the_log_of_every_shape(
    item: Any, delivered: bool | None, status: int | None
) -> None:
    entry = webhook_types.delivery(item)
    assert (entry.event, entry.delivered, entry.status) == ("email.sent", delivered, status)


# access


@pytest.mark.parametrize(
    ("quirks", "error"),
    [({"read_only_key": True}, ReadOnlyKey), ({"plan_without_api": True}, PlanWithoutApi)],
)
def test_each_denial_has_its_own_error(quirks: dict[str, bool], error: type[AccessDenied]) -> None:
    with opened(**quirks) as (_, fluenzr), pytest.raises(error):
        fluenzr.create_campaign("Spring", "acc_1")


def test_a_wrong_key_has_its_own_error() -> None:
    refused = response(
        b'{"success": false, "error": {"code": "UNAUTHORIZED"}}', status="401 Unauthorized"
    )
    with (
        serving(refused) as server,
        FluenzR(KEY, base_url=server.url, clock=FakeClock()) as fluenzr,
        pytest.raises(KeyNotAccepted),
    ):
        fluenzr.campaigns()
