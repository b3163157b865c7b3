"""The sandbox's groups, campaigns and outbox: who would be mailed, and by what."""

import hashlib
import hmac

import httpx
import orjson
import pytest
from raw_server import response, serving

from syncd.sandbox import Mail, Quirks, Sandbox
from syncd.testing.clock import FakeClock

KEY = "flz_sk_" + "a" * 32


@pytest.fixture(scope="module")
def client():
    with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as opened:
        yield opened


@pytest.fixture
def opened(client):
    """Open a sandbox with these quirks: the sandbox, and a function that asks it."""
    servers = []

    def open_sandbox(**quirks):
        sandbox = Sandbox(clock=FakeClock(), quirks=Quirks(**quirks))
        server = sandbox.serve()
        server.__enter__()
        servers.append(server)

        def ask(method, path, body=None, **query):
            return client.request(method, sandbox.url + path, json=body, params=query)

        return sandbox, ask

    yield open_sandbox
    for server in servers:
        server.__exit__(None, None, None)


def create(ask, sandbox, group):
    ask("POST", "/contacts", {"email": "ann@example.com", "groupIds": [group.id]})


def bulk_create(ask, sandbox, group):
    rows = [{"email": "ann@example.com"}]
    ask("POST", "/contacts/bulk", {"contacts": rows, "groupIds": [group.id]})


def bulk_update(ask, sandbox, group):
    sandbox.account.add_contact("ann@example.com")
    rows = [{"email": "ann@example.com"}]
    body = {"contacts": rows, "groupIds": [group.id], "onDuplicate": "update"}
    ask("POST", "/contacts/bulk", body)


def put(ask, sandbox, group):
    ann = sandbox.account.add_contact("ann@example.com")
    ask("PUT", f"/contacts/{ann.id}", {"groupIds": [group.id]})


def contact_groups(ask, sandbox, group):
    ann = sandbox.account.add_contact("ann@example.com")
    ask("POST", f"/contacts/{ann.id}/groups", {"groupIds": [group.id]})


def group_contacts(ask, sandbox, group):
    ann = sandbox.account.add_contact("ann@example.com")
    ask("POST", f"/groups/{group.id}/contacts", {"contactIds": [ann.id]})


def by_hand(ask, sandbox, group):
    sandbox.account.add_contact("ann@example.com", groups=[group.name])


WAYS = [create, bulk_create, bulk_update, put, contact_groups, group_contacts, by_hand]


@pytest.mark.parametrize("join", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("dynamic", [True, False], ids=["dynamic", "static"])
def test_every_way_into_a_dynamic_group_mails(opened, join, dynamic):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers", dynamic=dynamic)
    join(ask, sandbox, group)
    assert sandbox.account.members("Customers") == {"ann@example.com"}
    ann = sandbox.account.contact("ann@example.com")["id"]
    when = "2026-01-01T10:00:00.000Z"
    mail = Mail(when, "ann@example.com", ann, "Customers", "Campaign of Customers")
    assert sandbox.account.outbox == ([mail] if dynamic else [])


@pytest.mark.parametrize("status", ["unsubscribed", "bounced", "replied", "blocked"])
def test_only_active_people_are_mailed(opened, status):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers", dynamic=True)
    ann = sandbox.account.add_contact("ann@example.com", status=status)
    ask("POST", f"/contacts/{ann.id}/groups", {"groupIds": [group.id]})
    assert sandbox.account.members("Customers") == {"ann@example.com"}
    assert sandbox.account.mailed() == []


def test_member_is_not_mailed_again_but_who_joins_again_is(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers", dynamic=True)
    ann = sandbox.account.add_contact("ann@example.com", groups=["Customers"])
    path = f"/contacts/{ann.id}/groups"
    ask("POST", path, {"groupIds": [group.id]})
    assert sandbox.account.mailed() == ["ann@example.com"]
    ask("DELETE", path, {"groupIds": [group.id]})
    assert sandbox.account.contact("ann@example.com")["groups"] == []
    ask("POST", path, {"groupIds": [group.id]})
    assert sandbox.account.mailed() == ["ann@example.com", "ann@example.com"]


def test_paused_campaign_mails_nobody(opened):
    sandbox, ask = opened()
    sandbox.account.add_group("Customers", dynamic=True)
    campaign = sandbox.account.campaign("Campaign of Customers")
    assert ask("POST", f"/campaigns/{campaign.id}/pause").json()["data"]["status"] == "paused"
    sandbox.account.add_contact("ann@example.com", groups=["Customers"])
    assert sandbox.account.mailed() == []
    ask("POST", f"/campaigns/{campaign.id}/resume")
    sandbox.account.add_contact("bob@example.com", groups=["Customers"])
    assert sandbox.account.mailed() == ["bob@example.com"]


# groups


def test_groups_are_created_changed_listed_and_deleted(opened):
    sandbox, ask = opened()
    created = ask("POST", "/groups", {"name": "Customers", "description": "Ours"})
    assert created.status_code == 201
    group = created.json()["data"]
    assert (group["name"], group["type"], group["contactCount"]) == ("Customers", "static", 0)
    path = f"/groups/{group['id']}"
    sandbox.account.add_contact("ann@example.com", groups=["Customers"])
    assert ask("PUT", path, {"name": "Clients"}).json()["data"]["description"] == "Ours"
    assert ask("GET", path).json()["data"]["contactCount"] == 1
    assert ask("GET", "/groups").json()["data"] == [ask("GET", path).json()["data"]]
    assert ask("DELETE", path).json()["data"] == {"id": group["id"], "deleted": True}
    assert ask("GET", path).status_code == 404
    assert sandbox.account.contact("ann@example.com")["groups"] == []


def test_groups_are_paged_like_everything(opened):
    sandbox, ask = opened()
    for number in range(25):
        sandbox.account.add_group(f"Group {number}")
    answer = ask("GET", "/groups").json()
    assert (len(answer["data"]), answer["meta"]["total"]) == (20, 25)


@pytest.mark.parametrize("body", [{}, {"name": " "}, {"name": "A", "type": "clever"}])
def test_refused_group_is_not_created(opened, body):
    sandbox, ask = opened()
    assert ask("POST", "/groups", body).status_code == 400
    assert sandbox.account.groups == {}


@pytest.mark.parametrize(
    ("reading", "shown"),
    [
        ("type", {"type": "dynamic"}),
        ("upper", {"type": "DYNAMIC"}),
        ("is_dynamic", {"isDynamic": True}),
        ("absent", {}),
    ],
)
def test_group_tells_its_type_in_four_ways(opened, reading, shown):
    sandbox, ask = opened(group_type=reading)
    sandbox.account.add_group("Customers", dynamic=True)
    (group,) = ask("GET", "/groups").json()["data"]
    assert {key: group[key] for key in ("type", "isDynamic") if key in group} == shown


@pytest.mark.parametrize(("reading", "status"), [("any", 201), ("unique", 409)])
def test_two_groups_may_or_may_not_share_a_name(opened, reading, status):
    sandbox, ask = opened(group_names=reading)
    sandbox.account.add_group("Customers")
    assert ask("POST", "/groups", {"name": "Customers"}).status_code == status


def test_contacts_are_added_to_a_group_by_id(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers")
    ids = [sandbox.account.add_contact(f"{name}@example.com").id for name in ("ann", "bob")]
    sandbox.account.put_in("ann@example.com", "Customers")
    path = f"/groups/{group.id}/contacts"
    data = ask("POST", path, {"contactIds": [*ids, "con_x"]}).json()["data"]
    assert (data["added"], data["skipped"], len(data["errors"])) == (1, 1, 1)
    assert sandbox.account.members("Customers") == {"ann@example.com", "bob@example.com"}
    assert ask("POST", path, {"contactIds": ["x"] * 1001}).status_code == 400
    assert ask("POST", path, {"contactIds": "x"}).status_code == 400


def test_group_contacts_may_want_another_key_or_be_absent(opened):
    sandbox, ask = opened(group_contacts_key="contacts")
    path = f"/groups/{sandbox.account.add_group('A').id}/contacts"
    ann = sandbox.account.add_contact("ann@example.com").id
    assert ask("POST", path, {"contactIds": [ann]}).status_code == 400
    assert ask("POST", path, {"contacts": [ann]}).json()["data"]["added"] == 1
    sandbox, ask = opened(absent=frozenset({"POST /groups/:id/contacts"}))
    path = f"/groups/{sandbox.account.add_group('A').id}/contacts"
    assert ask("POST", path, {"contactIds": []}).status_code == 404


# campaigns


def test_campaign_goes_from_draft_to_archive(opened):
    sandbox, ask = opened()
    body = {"name": "Spring", "emailAccountId": "acc_1", "settings": {"maxEmailsPerHour": 10}}
    created = ask("POST", "/campaigns", body)
    assert (created.status_code, created.json()["data"]["status"]) == (201, "draft")
    path = f"/campaigns/{created.json()['data']['id']}"
    ann = sandbox.account.add_contact("ann@example.com").id
    bob = sandbox.account.add_contact("bob@example.com", status="bounced").id
    added = ask("POST", f"{path}/contacts", {"contactIds": [ann, ann, bob, "con_x"]}).json()["data"]
    assert (added["added"], added["skipped"], len(added["errors"])) == (1, 2, 1)
    assert sandbox.account.mailed() == []
    assert ask("PUT", path, {"name": "Summer"}).json()["data"]["settings"] == body["settings"]
    steps = {"start": "active", "pause": "paused", "resume": "active", "archive": "archived"}
    for step, status in steps.items():
        assert ask("POST", f"{path}/{step}").json()["data"]["status"] == status
        assert ask("POST", f"{path}/{step}").status_code == 400
        assert sandbox.account.mailed() == ["ann@example.com"]
    assert ask("PUT", path, {"name": "Autumn"}).status_code == 400
    assert ask("GET", path).json()["data"]["name"] == "Summer"
    assert ask("GET", "/campaigns", status="active").json()["data"] == []
    assert len(ask("GET", "/campaigns", status="archived").json()["data"]) == 1


def test_campaign_needs_name_and_account(opened):
    _, ask = opened()
    assert ask("POST", "/campaigns", {"name": "Spring"}).status_code == 400
    assert ask("POST", "/campaigns", {"emailAccountId": "acc_1"}).status_code == 400
    assert ask("GET", "/campaigns", status="odd").status_code == 400
    assert ask("GET", "/campaigns/cmp_x").status_code == 404


def test_members_come_by_group_or_filter_and_go(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers")
    ann = sandbox.account.add_contact("ann@example.com", groups=["Customers"])
    bob = sandbox.account.add_contact("bob@example.com", custom_fields={"score": 1})
    body = {"name": "Spring", "emailAccountId": "acc_1"}
    path = f"/campaigns/{ask('POST', '/campaigns', body).json()['data']['id']}/contacts"
    assert ask("POST", path, {"groupIds": [group.id]}).json()["data"]["added"] == 1
    filters = {"customFields": {"score": 1}}
    assert ask("POST", path, {"filters": filters}).json()["data"]["added"] == 1
    assert ask("POST", path, {}).status_code == 400
    members = ask("GET", path).json()["data"]
    assert [member["id"] for member in members] == [ann.id, bob.id]
    removed = ask("DELETE", path, {"contactIds": [ann.id, ann.id, "con_x"]})
    assert removed.json()["data"] == {"removed": 1}
    assert [member["id"] for member in ask("GET", path).json()["data"]] == [bob.id]


@pytest.mark.parametrize(
    ("reading", "shown"),
    [
        ("contact", {"id": "con_00000002", "email": "ann@example.com", "status": "active"}),
        ("contact_id", {"id": "mem_con_00000002", "contactId": "con_00000002"}),
        (
            "nested",
            {
                "contact": {"id": "con_00000002", "email": "ann@example.com", "status": "active"},
                "status": "active",
            },
        ),
        ("id", "con_00000002"),
    ],
)
def test_members_are_shown_in_four_ways(opened, reading, shown):
    sandbox, ask = opened(members=reading)
    campaign = sandbox.account.add_campaign("Spring")
    sandbox.account.add_contact("ann@example.com")
    sandbox.account.enrol_by_hand("ann@example.com", "Spring")
    assert ask("GET", f"/campaigns/{campaign.id}/contacts").json()["data"] == [shown]
    assert sandbox.account.enrolled("Spring") == {"ann@example.com"}


@pytest.mark.parametrize("names", ["contact_id", "email", "message"])
@pytest.mark.parametrize("skips", ["skipped", "errors"])
def test_who_cannot_be_enrolled_is_skipped_or_named(opened, skips, names):
    sandbox, ask = opened(enrol_skips=skips, enrol_errors=names)
    campaign = sandbox.account.add_campaign("Spring")
    ann = sandbox.account.add_contact("ann@example.com", status="bounced")
    path = f"/campaigns/{campaign.id}/contacts"
    answer = ask("POST", path, {"contactIds": [ann.id]}).json()["data"]
    assert (answer["added"], answer["skipped"]) == (0, int(skips == "skipped"))
    named = {"contact_id": {"contactId": ann.id}, "email": {"email": ann.email}, "message": {}}
    refused = [{**named[names], "message": "Cannot be enrolled"}]
    assert answer["errors"] == (refused if skips == "errors" else [])
    assert ask("POST", path, {"contactIds": ["x"] * 1001}).status_code == 400


def test_an_ended_campaign_takes_nobody(opened):
    sandbox, ask = opened()
    campaign = sandbox.account.add_campaign("Spring", status="completed")
    ann = sandbox.account.add_contact("ann@example.com")
    answer = ask("POST", f"/campaigns/{campaign.id}/contacts", {"contactIds": [ann.id]})
    assert (answer.status_code, sandbox.account.mailed()) == (400, [])


@pytest.mark.parametrize(
    ("reading", "shown"),
    [("status", {"id": "cmp_00000001", "status": "active"}), ("nothing", None)],
)
def test_a_step_may_answer_little(opened, reading, shown):
    sandbox, ask = opened(campaign_answer=reading)
    campaign = sandbox.account.add_campaign("Spring", status="draft")
    assert ask("POST", f"/campaigns/{campaign.id}/start").json()["data"] == shown


@pytest.mark.parametrize(("reading", "status"), [("any", 201), ("unique", 409)])
def test_two_campaigns_may_or_may_not_share_a_name(opened, reading, status):
    _, ask = opened(campaign_names=reading)
    body = {"name": "Spring", "emailAccountId": "acc_1"}
    assert ask("POST", "/campaigns", body).status_code == 201
    assert ask("POST", "/campaigns", body).status_code == status


def test_the_page_shows_campaigns(opened):
    sandbox, _ = opened()
    sandbox.account.add_campaign("Spring <b>")
    page = httpx.get(sandbox.page_url, trust_env=False).text
    assert "Spring &lt;b&gt;" in page
    assert "active</span>, adding mails" in page


def test_statistics_follow_what_happens(opened):
    sandbox, ask = opened()
    sandbox.account.add_group("A", dynamic=True)
    for name in ("ann", "bob", "eve", "lee"):
        sandbox.account.add_contact(f"{name}@example.com", groups=["A"])
    sandbox.clock.advance_s(86_400)
    name = "Campaign of A"
    sandbox.account.happens("opened", "ann@example.com", campaign=name)
    sandbox.account.happens("replied", "ann@example.com", campaign=name)
    sandbox.account.happens("unsubscribed", "bob@example.com", campaign=name)
    path = f"/campaigns/{sandbox.account.campaign(name).id}"
    stats = ask("GET", f"{path}/stats").json()["data"]
    assert stats == {
        "totalContacts": 4,
        "sent": 4,
        "delivered": 4,
        "opened": 1,
        "openRate": 25.0,
        "clicked": 0,
        "clickRate": 0.0,
        "replied": 1,
        "replyRate": 25.0,
        "bounced": 0,
        "bounceRate": 0.0,
        "unsubscribed": 1,
        "unsubscribeRate": 25.0,
    }
    assert ask("GET", path).json()["data"]["stats"] == stats
    assert ask("GET", f"{path}/stats/emails").json()["data"][0]["sent"] == 4
    assert sandbox.account.contact("ann@example.com")["status"] == "replied"
    assert sandbox.account.contact("bob@example.com")["status"] == "unsubscribed"
    days = ask("GET", f"{path}/stats/timeline").json()["data"]
    assert [(day["date"][:10], day["sent"], day["opened"]) for day in days] == [
        ("2026-01-01", 4, 0),
        ("2026-01-02", 0, 1),
    ]
    weeks = ask("GET", f"{path}/stats/timeline", interval="week").json()["data"]
    assert [week["date"][:10] for week in weeks] == ["2025-12-29"]
    hours = ask("GET", f"{path}/stats/timeline", interval="hour", to="2026-01-01")
    assert [hour["date"] for hour in hours.json()["data"]] == ["2026-01-01T10:00:00Z"]
    assert ask("GET", f"{path}/stats/timeline", interval="year").status_code == 400


def test_activity_is_filtered(opened):
    sandbox, ask = opened()
    sandbox.account.add_group("A", dynamic=True)
    ann = sandbox.account.add_contact("ann@example.com", groups=["A"])
    sandbox.account.add_contact("bob@example.com", groups=["A"])
    path = f"/campaigns/{sandbox.account.campaign('Campaign of A').id}/activity"
    assert ask("GET", path).json()["meta"]["total"] == 4
    (entry,) = ask("GET", path, type="sent", contactId=ann.id).json()["data"]
    assert (entry["contactEmail"], entry["timestamp"]) == (
        "ann@example.com",
        "2026-01-01T10:00:00.000Z",
    )
    assert ask("GET", path, **{"from": "2026-01-02"}).json()["data"] == []


# webhooks


def test_webhooks_are_kept_and_their_secret_never_shown(opened):
    _, ask = opened()
    body = {"url": "https://sync.example.com/x", "events": ["email.sent"], "secret": "s3cret"}
    created = ask("POST", "/webhooks", body)
    webhook = created.json()["data"]
    assert (created.status_code, webhook["events"]) == (201, ["email.sent"])
    path = f"/webhooks/{webhook['id']}"
    changed = ask("PUT", path, {"events": ["contact.deleted"]}).json()["data"]
    assert (changed["url"], changed["events"]) == (body["url"], ["contact.deleted"])
    assert ask("GET", "/webhooks").json()["data"] == [changed]
    assert "s3cret" not in created.text + ask("GET", "/webhooks").text
    assert ask("GET", f"{path}/logs").json()["data"] == []
    assert ask("DELETE", path).json()["data"]["deleted"] is True
    assert ask("DELETE", path).status_code == 404


@pytest.mark.parametrize(
    "change", [{"url": "x"}, {"url": ""}, {"events": ["email.odd"]}, {"events": []}, {"secret": ""}]
)
def test_refused_webhook_is_not_kept(opened, change):
    _, ask = opened()
    body = {"url": "https://sync.example.com/x", "events": ["email.sent"], "secret": "s"}
    assert ask("POST", "/webhooks", body | change).status_code == 400
    assert ask("GET", "/webhooks").json()["data"] == []


@pytest.mark.parametrize("words", ["words", "flags"])
@pytest.mark.parametrize("status", ["204 No Content", "500 Oops"])
def test_an_event_is_signed_delivered_and_noted(opened, words, status):
    sandbox, ask = opened(webhook_words=words)
    with serving(response(b"", status=status)) as receiver:
        url = f"http://127.0.0.1:{receiver.port}/hooks?x=1"
        body = {"url": url, "events": ["email.sent", "email.bounced"], "secret": "s3cret"}
        path = f"/webhooks/{ask('POST', '/webhooks', body).json()['data']['id']}"
        shown = ask("POST", f"{path}/test").json()["data"]
        (attempt,) = sandbox.account.deliver("email.bounced", {"contactEmail": "ann@example.com"})
        assert sandbox.account.deliver("email.opened", {}) == []
    code = int(status[:3])
    assert attempt.status == code
    assert shown.get("delivered", shown.get("status") == "success") == (code == 204)
    entries = ask("GET", f"{path}/logs").json()["data"]
    assert [entry.get("type", entry.get("event")) for entry in entries] == [
        "email.bounced",
        "email.sent",
    ]
    assert {entry.get("responseStatus", entry.get("statusCode")) for entry in entries} == {code}
    head, _, raw = receiver.requests[1].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hooks?x=1 ")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head.decode().split("\r\n"))
    }
    signed = headers["x-fluenzr-timestamp"].encode() + b"." + raw
    digest = hmac.new(b"s3cret", signed, hashlib.sha256).hexdigest()
    assert headers["x-fluenzr-signature"] == f"sha256={digest}"
    event = orjson.loads(raw)
    assert (event["type"], event["data"]) == ("email.bounced", {"contactEmail": "ann@example.com"})


def test_an_event_that_nobody_takes_is_noted_with_the_reason(opened):
    _, ask = opened()
    with serving(b"") as receiver:
        url = f"http://127.0.0.1:{receiver.port}/"
    body = {"url": url, "events": ["email.sent"], "secret": "s3cret"}
    path = f"/webhooks/{ask('POST', '/webhooks', body).json()['data']['id']}"
    assert ask("POST", f"{path}/test").json()["data"]["status"] == "failed"
    (entry,) = ask("GET", f"{path}/logs").json()["data"]
    assert entry["responseStatus"] is None
    assert entry["error"]
