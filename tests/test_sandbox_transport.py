"""The sandbox as a server: keys, limits, faults, what it counts, how it starts and stops."""

import concurrent.futures
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.errors import Interrupted, UsageError
from syncd.sandbox import Faults, Quirks, Rule, Sandbox, draw, readings
from syncd.sandbox.exchange import Request
from syncd.sandbox.faults import Act, Cut, Drop, Garbage, Late, Page, Slow, Status, Throttle
from syncd.sandbox.routes import ENDPOINTS
from syncd.testing.clock import START_S, FakeClock

KEY = "flz_sk_" + "a" * 32
ANN = {"email": "ann@example.com"}


@pytest.fixture(scope="module")
def client():
    with httpx.Client(trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as opened:
        yield opened


@pytest.fixture
def opened(client):
    """Open a sandbox: the sandbox, and a function that asks it."""
    servers = []

    def open_sandbox(*rules, quirks=None, **options):
        sandbox = Sandbox(
            clock=FakeClock(), quirks=Quirks(**(quirks or {})), faults=Faults(*rules), **options
        )
        server = sandbox.serve()
        server.__enter__()
        servers.append(server)

        def ask(method, path, body=None, **options):
            return client.request(method, sandbox.url + path, json=body, **options)

        return sandbox, ask

    yield open_sandbox
    for server in servers:
        server.__exit__(None, None, None)


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


# keys and endpoints


@pytest.mark.parametrize(
    "header", ["", "Bearer", f"Basic {KEY}", "Bearer flz_sk_short", f"Bearer {KEY}a"]
)
def test_wrong_key_is_unauthorized(opened, header):
    _, ask = opened()
    assert code(ask("GET", "/contacts", headers={"Authorization": header})) == (401, "UNAUTHORIZED")


def test_configured_key_is_the_only_one(opened):
    _, ask = opened(api_key="flz_sk_" + "b" * 32)
    assert ask("GET", "/contacts").status_code == 401
    headers = {"Authorization": "Bearer flz_sk_" + "b" * 32}
    assert ask("GET", "/contacts", headers=headers).status_code == 200


def test_plan_without_api_and_read_only_key_are_forbidden(opened):
    _, ask = opened(quirks={"plan_without_api": True})
    answer = ask("GET", "/contacts")
    assert code(answer) == (403, "FORBIDDEN")
    assert answer.json()["error"]["message"] == "API access requires Pro plan"
    sandbox, ask = opened(quirks={"read_only_key": True})
    assert code(ask("POST", "/contacts", ANN)) == (403, "FORBIDDEN")
    assert sandbox.account.contacts_by_email() == {}
    assert ask("GET", "/contacts").status_code == 200
    assert ask("POST", "/contacts/search", {}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/contacts/", 404),
        ("GET", "/contacts/a/b/c", 404),
        ("PATCH", "/contacts", 405),
        ("GET", "/contacts/bulk", 405),
    ],
)
def test_unknown_endpoints_are_refused_in_the_envelope(opened, method, path, status):
    _, ask = opened()
    answer = ask(method, path)
    assert answer.status_code == status
    assert answer.json()["success"] is False


@pytest.mark.parametrize("body", [b"{", b"[]", b"5", b"\xff", b'{"a":'])
def test_body_that_is_no_object_is_refused(opened, body):
    _, ask = opened()
    answer = ask("POST", "/contacts", content=body)
    assert code(answer) == (400, "VALIDATION_ERROR")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = [
    *("email", "firstName", "tags", "groupIds", "customFields", "contacts", "contactIds"),
    *("onDuplicate", "filters", "query", "sort", "page", "perPage", "pipelineStageId"),
    *("name", "type", "emailAccountId", "settings", "url", "events", "secret"),
]
QUESTIONS = [(method, path) for path, methods in ENDPOINTS.items() for method in methods]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    question=st.sampled_from(QUESTIONS),
    target=st.sampled_from(["con_00000002", "grp_00000001", "cmp_00000003", "x"]),
    body=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4),
    query=st.dictionaries(st.sampled_from([*NAMES, "order", "from", "interval"]), st.text()),
)
def test_no_request_breaks_the_sandbox(question, target, body, query):
    sandbox = Sandbox(clock=FakeClock())
    sandbox.account.add_group("A")
    sandbox.account.add_contact("ann@example.com")
    sandbox.account.add_group("B", dynamic=True)
    method, path = question
    request = Request(method, path.replace(":id", target), query, f"Bearer {KEY}")
    request.body = httpx.Request("POST", "http://x", json=body).content
    assert sandbox.app.answer(request).status in {200, 201, 400, 404, 409}


def test_every_switch_has_its_readings():
    assert readings()["custom_fields_put"] == ("merge", "replace")
    assert readings()["date_header"] == (False, True)
    assert not {"plan_without_api", "read_only_key", "clock_ahead_s"} & set(readings())
    rng = random.Random(0)
    assert len({draw(rng) for _ in range(30)}) == 30


# limits


def rate(answer):
    names = ("limit", "remaining", "reset")
    return tuple(int(answer.headers[f"x-ratelimit-{name}"]) for name in names)


def test_every_answer_carries_what_is_left(opened):
    sandbox, ask = opened(limit=10)
    sandbox.clock.advance_s(5)
    assert rate(ask("GET", "/contacts")) == (10, 9, START_S + 60)
    assert rate(ask("GET", "/nothing")) == (10, 8, START_S + 60)
    assert rate(ask("GET", "/contacts", headers={"Authorization": "x"})) == (10, 7, START_S + 60)
    sandbox.consume(100)
    refused = ask("POST", "/contacts", ANN)
    assert code(refused) == (429, "RATE_LIMITED")
    assert rate(refused) == (10, 0, START_S + 60)
    assert refused.headers["retry-after"] == "55"
    assert sandbox.throttled == 1
    assert sandbox.account.contacts_by_email() == {}


def test_headers_may_be_absent(opened):
    quirks = {"rate_headers": False, "retry_after": False, "date_header": False}
    _, ask = opened(limit=1, quirks=quirks)
    for _ in range(2):
        answer = ask("GET", "/contacts")
        assert set(answer.headers) == {"content-type", "content-length"}
    assert answer.status_code == 429


def test_fixed_window_opens_at_the_full_minute(opened):
    sandbox, ask = opened(limit=2)
    sandbox.clock.advance_s(59)
    assert [ask("GET", "/groups").status_code for _ in range(3)] == [200, 200, 429]
    sandbox.clock.advance_s(1)
    assert [ask("GET", "/groups").status_code for _ in range(3)] == [200, 200, 429]


def test_sliding_window_gives_back_one_by_one(opened):
    sandbox, ask = opened(limit=2, window="sliding")
    assert rate(ask("GET", "/groups")) == (2, 1, START_S + 60)
    sandbox.clock.advance_s(50)
    assert rate(ask("GET", "/groups")) == (2, 0, START_S + 60)
    assert ask("GET", "/groups").headers["retry-after"] == "10"
    sandbox.clock.advance_s(10)
    assert [ask("GET", "/groups").status_code for _ in range(2)] == [200, 429]
    sandbox.clock.advance_s(50)
    assert rate(ask("GET", "/groups")) == (2, 0, START_S + 120)


def test_clock_of_the_server_may_be_ahead(opened):
    _, ask = opened(quirks={"clock_ahead_s": 3600.0})
    answer = ask("POST", "/contacts", ANN)
    assert parsedate_to_datetime(answer.headers["date"]).timestamp() == START_S + 3600
    assert answer.json()["data"]["createdAt"] == "2026-01-01T11:00:00.000Z"
    assert rate(answer)[2] == START_S + 3660


# faults


def everyone(sandbox):
    return list(sandbox.account.contacts_by_email())


@pytest.mark.parametrize("applied", [True, False])
def test_dropped_request_is_applied_or_not(opened, applied):
    sandbox, ask = opened(Rule(name="lost", effect=Drop(applied=applied), method="POST"))
    with pytest.raises(httpx.RemoteProtocolError):
        ask("POST", "/contacts", ANN)
    assert everyone(sandbox) == (["ann@example.com"] if applied else [])
    assert sandbox.faults.fired == {"lost": 1}
    assert ask("GET", "/contacts").status_code == 200
    assert list(sandbox.requests) == [("POST", "/contacts", 0), ("GET", "/contacts", 200)]
    assert sandbox.writes() == 0


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("applied", [True, False])
def test_server_error_is_applied_or_not(opened, status, applied):
    effect = Status(status=status, applied=applied)
    sandbox, ask = opened(Rule(name="down", effect=effect, times=1))
    answer = ask("POST", "/contacts", ANN)
    assert answer.status_code == status
    assert everyone(sandbox) == (["ann@example.com"] if applied else [])
    if status == 500:
        assert code(answer) == (500, "INTERNAL")
        assert rate(answer)[1] == 999
    else:
        assert "x-ratelimit-limit" not in answer.headers
        assert answer.text.startswith("<html>")
    assert ask("GET", "/contacts").status_code == 200


@pytest.mark.parametrize("applied", [True, False])
def test_login_page_has_status_200(opened, applied):
    sandbox, ask = opened(Rule(name="page", effect=Page(applied=applied)))
    answer = ask("POST", "/contacts", ANN)
    assert (answer.status_code, answer.headers["content-type"][:9]) == (200, "text/html")
    assert everyone(sandbox) == (["ann@example.com"] if applied else [])


def test_garbage_and_cut_answers_are_applied(opened):
    sandbox, ask = opened(
        Rule(name="garbage", effect=Garbage(), nth={1}), Rule(name="cut", effect=Cut(), nth={1})
    )
    answer = ask("POST", "/contacts", ANN)
    assert answer.status_code == 201
    with pytest.raises(ValueError, match=r"Expecting|JSON"):
        answer.json()
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        ask("POST", "/contacts", {"email": "bob@example.com"})
    assert everyone(sandbox) == ["ann@example.com", "bob@example.com"]
    assert ask("GET", "/contacts").json()["meta"]["total"] == 2


def test_slow_answer_arrives_whole_or_too_late(opened):
    sandbox, ask = opened(Rule(name="slow", effect=Slow(seconds=0.2)))
    assert ask("POST", "/contacts", ANN).json()["data"]["email"] == "ann@example.com"
    with pytest.raises(httpx.ReadTimeout):
        ask("POST", "/contacts", {"email": "bob@example.com"}, timeout=0.05)
    assert everyone(sandbox) == ["ann@example.com", "bob@example.com"]
    with pytest.raises(ValueError, match="real seconds"):
        sandbox.faults.add(Rule(name="for ever", effect=Slow(seconds=60)))


@pytest.mark.parametrize(("retry_after_s", "header"), [(7, "7"), (None, None)])
def test_throttle_comes_although_there_was_room(opened, retry_after_s, header):
    sandbox, ask = opened(Rule(name="no", effect=Throttle(retry_after_s=retry_after_s), times=1))
    answer = ask("POST", "/contacts", ANN)
    assert code(answer) == (429, "RATE_LIMITED")
    assert answer.headers.get("retry-after") == header
    assert (rate(answer)[1], sandbox.throttled) == (1000, 0)
    assert everyone(sandbox) == []


def test_late_request_takes_effect_when_it_is_due(opened):
    sandbox, ask = opened(Rule(name="late", effect=Late(after_s=30), method="POST"))
    with pytest.raises(httpx.RemoteProtocolError):
        ask("POST", "/contacts", ANN)
    sandbox.clock.advance_s(29)
    assert ask("GET", "/contacts").json()["data"] == []
    sandbox.clock.advance_s(1)
    (ann,) = ask("GET", "/contacts").json()["data"]
    assert ann["createdAt"] == "2026-01-01T10:00:30.000Z"


def test_late_requests_wait_for_settle_and_keep_their_order(opened):
    sandbox, ask = opened(Rule(name="late", effect=Late(), method="POST"))
    for first_name in ("Ann", "Anna"):
        with pytest.raises(httpx.RemoteProtocolError):
            ask("POST", "/contacts", {**ANN, "firstName": first_name})
    sandbox.clock.advance_s(10**6)
    assert ask("GET", "/contacts").json()["data"] == []
    sandbox.settle()
    sandbox.settle()
    assert [one["firstName"] for one in ask("GET", "/contacts").json()["data"]] == ["Ann"]


@pytest.mark.parametrize(("after", "groups"), [(False, []), (True, ["Customers"])])
def test_people_act_in_the_middle_of_a_request(opened, after, groups):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers", dynamic=True)
    ann = sandbox.account.add_contact("ann@example.com")
    act = Act(action=lambda: sandbox.account.opt_out("ann@example.com"), after=after)
    sandbox.faults.add(Rule(name="opts out", effect=act, path="/contacts/.*/groups"))
    answer = ask("POST", f"/contacts/{ann.id}/groups", {"groupIds": [group.id]})
    assert answer.status_code == 200
    assert [mail.group for mail in sandbox.account.outbox] == groups
    assert sandbox.account.contact("ann@example.com")["status"] == "unsubscribed"


def test_rules_choose_by_count_chance_and_order(opened):
    sandbox, ask = opened(
        Rule(name="second and third", effect=Page(applied=False), path="/groups", nth=range(2, 4)),
        Rule(name="half", effect=Status(status=503, applied=False), probability=0.5),
        Rule(name="never", effect=Garbage(), path="/other"),
    )
    answers = [ask("GET", "/groups") for _ in range(40)]
    kinds = [(answer.status_code, answer.headers["content-type"][:9]) for answer in answers]
    assert kinds[1:3] == [(200, "text/html")] * 2
    assert kinds.count((503, "text/html")) == sandbox.faults.fired["half"]
    assert 8 <= sandbox.faults.fired["half"] <= 30
    assert sandbox.faults.unfired() == ["never"]
    sandbox.faults.clear()
    assert {ask("GET", "/groups").status_code for _ in range(10)} == {200}
    assert sandbox.faults.fired["second and third"] == 2


# what is seen


def test_requests_are_counted_by_endpoint_and_writes_apart(opened):
    sandbox, ask = opened()
    contact_id = ask("POST", "/contacts", ANN).json()["data"]["id"]
    ask("GET", f"/contacts/{contact_id}")
    ask("GET", "/contacts/con_x")
    ask("POST", "/contacts/search", {})
    ask("DELETE", f"/contacts/{contact_id}/tags", {"tags": ["x"]})
    assert sandbox.counts == {
        ("POST", "/contacts"): 1,
        ("GET", "/contacts/:id"): 2,
        ("POST", "/contacts/search"): 1,
        ("DELETE", "/contacts/:id/tags"): 1,
    }
    assert sandbox.writes() == 2
    assert sandbox.requests[2] == ("GET", "/contacts/con_x", 404)
    assert [(method, path) for method, path, _ in sandbox.bodies] == [
        ("POST", "/contacts"),
        ("DELETE", f"/contacts/{contact_id}/tags"),
    ]
    assert b"ann@example.com" in sandbox.bodies[0][2]


def test_many_clients_and_hands_at_once_lose_nothing(opened):
    sandbox, ask = opened()
    group = sandbox.account.add_group("Customers", dynamic=True)

    def post(number):
        body = {"email": f"p{number}@example.com", "groupIds": [group.id]}
        return ask("POST", "/contacts", body).status_code

    def hand(number):
        sandbox.account.add_contact(f"h{number}@example.com", groups=["Customers"])
        return 201

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        posted = pool.map(post, range(60))
        handed = pool.map(hand, range(60))
        assert {*posted, *handed} == {201}
    assert len(sandbox.account.members("Customers")) == 120
    assert sorted(sandbox.account.mailed()) == sorted(sandbox.account.contacts_by_email())


# the page


def test_page_shows_who_would_be_mailed_and_escapes_everything(opened, client):
    sandbox, ask = opened()
    assert "Nobody would have been mailed" in client.get(sandbox.page_url).text
    nasty = "<script>alert(1)</script>"
    sandbox.account.add_group(nasty, dynamic=True)
    sandbox.account.add_contact(
        "ann@example.com",
        groups=[nasty],
        tags=[nasty],
        custom_fields={nasty: nasty},
        firstName=nasty,
        company=nasty,
    )
    sandbox.account.add_contact("bob@example.com")
    ask("GET", f"/{nasty}")
    answer = client.get(sandbox.page_url, params={"q": "ANN"})
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<script" not in answer.text
    assert "ann@example.com" in answer.text
    assert "bob@example.com" not in answer.text
    assert answer.text.count("&lt;script&gt;") >= 8
    assert "<script" not in client.get(sandbox.page_url, params={"q": nasty}).text
    assert client.get(sandbox.page_url + "nothing").status_code == 404


def test_page_is_bounded(opened, client):
    sandbox, ask = opened()
    sandbox.account.add_group("A", dynamic=True)
    for number in range(300):
        sandbox.account.add_contact(f"p{number}@example.com", groups=["A"])
    for number in range(60):
        ask("GET", f"/contacts/con_x{number}")
    text = client.get(sandbox.page_url).text
    assert "<b>300</b> contacts" in text
    assert text.count("<tr>") == (1 + 200) + 2 * (1 + 1) + (1 + 100) + (1 + 50)
    assert "con_x9<" not in text
    assert "con_x59<" in text


# starting and stopping


def test_server_starts_and_stops_quickly_and_leaves_nothing(client):
    threads = threading.active_count()
    started_s = time.perf_counter()
    for _ in range(10):
        with Sandbox().serve():
            pass
        with Sandbox().serve() as sandbox:
            url = sandbox.url
            assert client.get(url + "/contacts").status_code == 200
    assert time.perf_counter() - started_s < 5
    assert threading.active_count() == threads
    with pytest.raises(httpx.ConnectError):
        client.get(url + "/contacts")


def test_server_stops_while_an_answer_is_on_its_way():
    sandbox = Sandbox(faults=Faults(Rule(name="slow", effect=Slow(seconds=5))))
    with sandbox.serve(), socket.create_connection(sandbox.address) as connection:
        connection.sendall(b"GET /v1/contacts HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401")
        started_s = time.perf_counter()
    assert time.perf_counter() - started_s < 2


def test_taken_port_is_said_so():
    with (
        Sandbox().serve() as sandbox,
        pytest.raises(UsageError, match=f"127.0.0.1:{sandbox.address[1]}.*another port"),
        Sandbox().serve(port=sandbox.address[1]),
    ):
        pass


SERVE = """
import sys
from syncd.sandbox import Sandbox
Sandbox().run_forever("127.0.0.1", 0, on_ready=lambda sandbox: print(sandbox.url, flush=True))
print("stopped")
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_foreground_serves_until_a_signal_and_returns(client, stop):
    command = [sys.executable, "-W", "error", "-c", SERVE]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip()
        assert client.get(url + "/contacts").status_code == 200
        process.send_signal(stop)
        assert process.communicate(timeout=20) == ("stopped\n", "")
    assert process.returncode == 0


# the clock of tests


def test_fake_clock_moves_by_sleeping_and_by_hand():
    clock = FakeClock(100.0)
    clock.sleep_s(5)
    clock.sleep_s(-1)
    clock.advance_s(2)
    assert (clock.now_s(), clock.monotonic_s()) == (107.0, 7.0)


def test_stopped_fake_clock_wakes_its_sleepers():
    clock = FakeClock(100.0)
    assert not clock.stopped()
    clock.stop()
    with pytest.raises(Interrupted):
        clock.sleep_s(0)
    assert (clock.now_s(), clock.stopped()) == (100.0, True)
