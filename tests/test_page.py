"""The page to look at: who gets in, what it shows, that it changes nothing but by `approve`, and that everything is escaped."""

import re

import httpx
import pytest
from house import House, house_fixture, row  # noqa: F401 - a fixture
from page_house import (
    MARKUP,
    TOKEN,
    TURNED,
    Stand,
    add_people,
    held_house,
    stand_fixture,  # noqa: F401 - a fixture
)

from syncd.state.store import hold
from syncd.web import door
from syncd.web.chart import HEIGHT, chart

PAGES = (
    "/",
    "/held/people",
    "/plan/people",
    "/runs",
    "/runs/1",
    "/quarantine",
    "/person",
    "/campaigns",
)
ANN = "ann@example.com"


# --- the door -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PAGES, "/person/0123", "/held/nobody"])
def test_without_a_login_every_page_leads_to_it(stand: Stand, path: str) -> None:
    answer = stand.answer_to(path)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert ANN not in answer.text


def test_without_a_token_the_page_is_off_and_says_how_to_switch_it_on(stand: Stand) -> None:
    inside = stand.visitor()
    stand.configure('listen = "127.0.0.1:8787"')
    for answer in (inside.get("/"), inside.get("/login"), inside.post("/login", {"token": ""})):
        assert answer.status_code == 403
        assert "[http]: token = &#34;env:SYNCD_PAGE_TOKEN&#34;" in answer.text
    assert stand.answer_to("/healthz").status_code == 200


def test_a_token_that_could_be_guessed_or_cannot_be_read_opens_nothing(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNCD_PAGE_TOKEN", "secret")
    short = stand.answer_to("/login")
    assert short.status_code == 403
    monkeypatch.delenv("SYNCD_PAGE_TOKEN")
    missing = stand.answer_to("/login")
    assert missing.status_code == 403
    for answer in (short, missing):  # a stranger is not told where secrets are kept
        assert "Its token cannot be used" in answer.text
        assert "SYNCD_PAGE_TOKEN" not in answer.text


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "ü" * 20, TOKEN.upper()])
def test_another_token_opens_nothing(stand: Stand, token: str) -> None:
    visitor = stand.visitor(inside=False)
    assert visitor.login(token).status_code == 403
    assert "syncd_session" not in visitor.http.cookies
    assert visitor.get("/").status_code == 303


def test_the_cookie_is_for_this_page_alone(stand: Stand) -> None:
    visitor = stand.visitor(inside=False)
    [plain] = [c for c in _cookies(visitor.login()) if c.startswith("syncd_session=")]
    assert "; HttpOnly" in plain
    assert "; SameSite=strict" in plain
    assert "; Path=/" in plain
    assert "Secure" not in plain  # over http a browser would not keep it
    behind = stand.visitor(inside=False).login(headers={"X-Forwarded-Proto": "https"})
    assert all("; Secure" in cookie for cookie in _cookies(behind))


def _cookies(answer: httpx.Response) -> list[str]:
    return answer.headers.get_list("set-cookie")


def test_wrong_tokens_are_limited_and_the_right_one_waits_too(stand: Stand) -> None:
    visitor = stand.visitor(inside=False)
    for _ in range(door.ATTEMPTS_MAX):
        assert visitor.login("wrong").status_code == 403
    assert visitor.login("wrong").status_code == 429
    refused = visitor.login()
    assert refused.status_code == 429
    assert "Wait a minute" in refused.text
    stand.house.clock.advance_s(door.ATTEMPTS_S)
    assert visitor.login().status_code == 303


def test_a_session_ends_by_logging_out_by_time_and_with_its_token(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    visitor = stand.visitor()
    cookie = visitor.http.cookies["syncd_session"]
    assert visitor.post("/logout", {"csrf": visitor.csrf()}).status_code == 303
    visitor.http.cookies.set("syncd_session", cookie)  # somebody has kept it
    assert visitor.get("/").status_code == 303
    late = stand.visitor()
    stand.house.clock.advance_s(door.SESSION_S + 1)
    assert late.get("/").status_code == 303
    replaced = stand.visitor()
    monkeypatch.setenv("SYNCD_PAGE_TOKEN", "another-" + TOKEN)
    assert replaced.get("/").status_code == 303


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example.com", "", "localhost.evil.example.com:80"]
)
def test_a_foreign_name_that_leads_here_gets_nothing(stand: Stand, host: str) -> None:
    """DNS rebinding: the browser believes that this machine is somebody else's."""
    visitor = stand.visitor()
    answer = visitor.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "people" not in answer.text
    assert visitor.get("/login", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8787", "127.0.0.1:1", "[::1]:8787", "192.0.2.7"]
)
def test_an_address_and_localhost_are_no_foreign_names(stand: Stand, host: str) -> None:
    assert stand.visitor().get("/", headers={"Host": host}).status_code == 200


def test_the_name_of_the_proxy_is_known_from_the_configuration(stand: Stand) -> None:
    named = {"Host": "sync.example.com"}
    unknown = stand.answer_to("/login", **named)
    assert 'public_url = "https://sync.example.com"' in unknown.text
    stand.configure('token = "env:SYNCD_PAGE_TOKEN"\npublic_url = "https://sync.example.com"')
    answer = stand.answer_to("/login", **named)
    assert answer.status_code == 200
    assert all("; Secure" in cookie for cookie in _cookies(answer))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_form_of_another_site_does_nothing(stand: Stand, site: str) -> None:
    run = held_house(stand)
    visitor = stand.visitor()
    form = {**visitor.form("/held/people"), "sure": "on"}
    answer = visitor.post("/held/people", form, headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 403
    assert approved(stand.house, run) == 0


@pytest.mark.parametrize("path", ["/held/people", "/person", "/logout"])
@pytest.mark.parametrize("csrf", ["", "guessed", "ü"])
def test_a_form_without_the_sessions_own_mark_does_nothing(
    stand: Stand, path: str, csrf: str
) -> None:
    run = held_house(stand)
    visitor = stand.visitor()
    other = stand.visitor().csrf()
    form = {**visitor.form("/held/people"), "sure": "on", "email": ANN}
    for wrong in (csrf, other):
        assert visitor.post(path, form | {"csrf": wrong}).status_code == 403
    assert visitor.get("/").status_code == 200
    assert approved(stand.house, run) == 0


def test_the_form_of_the_login_is_bound_to_the_browser(stand: Stand) -> None:
    visitor = stand.visitor(inside=False)
    assert visitor.post("/login", {"csrf": "x", "token": TOKEN}).status_code == 403
    form = {"csrf": visitor.csrf("/login"), "token": TOKEN}
    visitor.http.cookies.clear()
    assert visitor.post("/login", form).status_code == 403
    assert visitor.post("/login", {"token": TOKEN}).status_code == 403


@pytest.mark.parametrize("body", [b"\xff\xfe=1", b"a=1&" * 30, b"x" * 20_000, b"%ff=%fe"])
def test_a_body_that_is_no_form_is_refused(stand: Stand, body: bytes) -> None:
    visitor = stand.visitor()
    assert visitor.http.post("/person", content=body).status_code in (400, 403)
    assert visitor.get("/").status_code == 200


def test_every_answer_has_the_strict_headers(stand: Stand) -> None:
    held_house(stand)
    visitor, stranger = stand.visitor(), stand.visitor(inside=False)
    answers = [visitor.get(path) for path in PAGES] + [visitor.get("/runs/999")]
    answers += [stranger.get("/"), stranger.get("/login"), stranger.login("wrong")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "style=" not in answer.text
        assert "<script" not in answer.text


# --- what it shows --------------------------------------------------------------------------------------------------


def test_before_the_first_run_every_page_is_there(stand: Stand) -> None:
    visitor = stand.visitor()
    for path in PAGES:
        assert visitor.get(path).status_code == (409 if path == "/runs/1" else 200), path
    assert "has never run" in visitor.get("/").text


def test_looking_changes_nothing_and_takes_no_lock(stand: Stand) -> None:
    held_house(stand)
    visitor = stand.visitor()
    before = stand.house.tables()
    with hold(stand.house.state, wait_s=0, clock=stand.house.clock):
        for path in PAGES:
            assert visitor.get(path).status_code == 200, path
        assert visitor.story(ANN)
    assert stand.house.tables() == before


def test_the_overview_says_what_status_says(stand: Stand) -> None:
    run = held_house(stand)
    text = stand.visitor().get("/").text
    assert "2 people" in text
    assert f"syncd approve {run} people" in text
    assert (
        "3 people would join &#39;Newsletter&#39; and be mailed; the limit is 2 (max_enrolments)"
        in text
    )
    assert "budget: at most 900 requests a minute" in text


def test_the_trend_is_that_of_the_runs(stand: Stand) -> None:
    house = stand.house
    house.configure(groups=["Customers"])
    stand.configure('token = "env:SYNCD_PAGE_TOKEN"')
    house.write(row(1, ANN), row(2, "bob@example.com"))
    house.sync()
    house.later(days=1)
    house.write(row(1, ANN, first="Anna"))
    house.sync()
    text = stand.visitor().get("/").text
    assert "2 created" in text
    assert "1 updated" in text
    assert "1 removed" in text
    assert len(re.findall(r'<rect class="(created|updated|removed)"', text)) == 3


def test_a_run_shows_old_and_new(stand: Stand) -> None:
    house = stand.house
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    house.write(row(1, ANN, first="Anna"))
    run = house.sync().run
    visitor = stand.visitor()
    assert f'href="/runs/{run}"' in visitor.get("/runs").text
    assert "firstName: Ann -&gt; Anna" in visitor.get(f"/runs/{run}").text
    assert ANN in visitor.get("/runs/1").text  # created
    assert visitor.get("/runs/999999999999999999999").status_code == 409


def test_a_story_is_what_why_says(stand: Stand) -> None:
    held_house(stand)
    text = stand.visitor().story("  ANN@example.com ")
    assert "is in FluenzR, status active" in text
    assert "from people, <code>first</code>" in text
    assert "&#34;Newsletter&#34; (dynamic, mails whoever joins): is in it" in text
    assert "no source had this address" in stand.visitor().story("nobody@example.com")


def test_no_address_ever_stands_in_a_url(stand: Stand) -> None:
    """A browser's history and a proxy's log would have it for years."""
    stand.house.account.refuse("new1@example.com", "never heard of")
    held_house(stand, guard=100)
    visitor = stand.visitor()
    visitor.story(ANN)
    for path in PAGES:
        visitor.get(path)
    for answer in visitor.answers:
        assert "example.com" not in str(answer.url) + answer.headers.get("location", "")
        assert not re.findall(r'(?:href|action)="[^"]*(?:@|%40)', answer.text)


def test_a_link_to_somebody_that_is_too_old_says_so(stand: Stand) -> None:
    answer = stand.visitor().get("/person/00ff")
    assert answer.status_code == 404
    assert "Look the person up again" in answer.text


@pytest.mark.parametrize("email", ["", "ann", "<script>", "a@b", "x" * 300 + "@example.com"])
def test_what_is_no_address_is_said(stand: Stand, email: str) -> None:
    visitor = stand.visitor()
    answer = visitor.post("/person", {"csrf": visitor.csrf(), "email": email})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text


def test_who_is_refused_is_in_the_quarantine_with_fluenzrs_words(stand: Stand) -> None:
    house = stand.house
    house.account.refuse(ANN, f"no, {MARKUP}")
    house.write(row(1, ANN), row(2, "not an address"))
    house.sync()
    visitor = stand.visitor()
    text = visitor.get("/quarantine").text
    assert "no, &lt;script&gt;" in text
    assert "not usable" in text
    [link] = re.findall(r'href="(/person/[0-9a-f]+)"', text)
    assert "in quarantine, tried 1 time" in visitor.get(link).text


def test_hostile_records_are_only_ever_text(stand: Stand) -> None:
    house = stand.house
    house.write(row(1, ANN, first="Ann"))
    house.sync()
    house.write(row(MARKUP, ANN, first=MARKUP, last=TURNED))
    house.configure(guard={"max_field_changes": 0, "max_removals": 0}, tags=[MARKUP[:40]])
    stand.configure('token = "env:SYNCD_PAGE_TOKEN"')
    house.sync()
    visitor = stand.visitor()
    pages = [visitor.get(path).text for path in PAGES] + [visitor.story(ANN)]
    assert any("&lt;script&gt;" in text for text in pages)
    for text in pages:
        assert "<script" not in text
        assert "<img" not in text
        assert "\u202e" not in text


def test_campaigns_are_told_from_what_was_kept(stand: Stand) -> None:
    from syncd import statistics
    from syncd.check import client

    house = stand.house
    house.write(row(1, ANN))
    house.sync()
    name = f"Q1 {MARKUP} {TURNED}"
    house.account.add_campaign(name)
    for email in (ANN, "bob@example.com"):
        if email != ANN:
            house.account.add_contact(email)
        house.account.enrol_by_hand(email, name)
        with client(house.settings, house.clock) as api:
            statistics.keep(house.settings, api=api, clock=house.clock)
        house.later(days=1)
    asked = len(house.sandbox.requests)
    text = stand.visitor().get("/campaigns").text
    assert "Q1 &lt;script&gt;" in text
    assert "\u202e" not in text
    assert "+1" in text
    assert '<rect class="sent"' in text
    assert len(house.sandbox.requests) == asked


def test_a_lost_state_is_said(stand: Stand) -> None:
    held_house(stand)
    visitor = stand.visitor()
    for file in stand.house.folder.glob("syncd.db*"):
        if file.suffix not in (".installed", ".forgotten"):
            file.unlink()
    answer = visitor.get("/")
    assert answer.status_code == 503
    assert "syncd reconcile" in answer.text


# --- approve --------------------------------------------------------------------------------------------------------


def approved(house: House, run: int) -> int:
    return len(house.query("SELECT 1 FROM held WHERE run=? AND approved=1", run))


def test_what_was_shown_is_approved_once_and_the_next_run_sends_it(stand: Stand) -> None:
    run = held_house(stand)
    visitor = stand.visitor()
    text = visitor.get("/held/people").text
    assert "<strong>3 people would be mailed</strong>, on joining &#34;Newsletter&#34; (3)" in text
    assert text.index("new0@example.com") < text.index(
        "ann@example.com"
    )  # who is mailed comes first
    assert "<del>Ann</del>" in text
    assert "<ins>Anna</ins>" in text
    form = {**visitor.form("/held/people"), "sure": "on"}
    answer = visitor.post("/held/people", form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/held/people")
    assert approved(stand.house, run) == 4
    assert "Approved: 4 people" in visitor.get("/held/people").text
    again = visitor.post("/held/people", form)
    assert again.status_code == 409
    assert "approved already" in again.text
    assert stand.house.sync().enrolled == 3
    assert "approved by somebody on the page" in visitor.story("new0@example.com")


def test_what_was_replaced_meanwhile_is_not_approved(stand: Stand) -> None:
    held_house(stand)
    visitor = stand.visitor()
    form = {**visitor.form("/held/people"), "sure": "on"}
    add_people(stand.house, 4)
    later = stand.house.sync().run
    answer = visitor.post("/held/people", form)
    assert answer.status_code == 409
    assert "Nothing is held in run" in answer.text.replace("of people is", "is")
    assert approved(stand.house, later) == 0


def test_another_set_under_the_same_number_is_not_approved(stand: Stand) -> None:
    """The number alone is not what was looked at: every change is."""
    run = held_house(stand)
    visitor = stand.visitor()
    form = {**visitor.form("/held/people"), "sure": "on"}
    for seal in ("", "00", "zz", form["seal"][:-2] + "00"):
        answer = visitor.post("/held/people", form | {"seal": seal})
        assert answer.status_code == 409, seal
        assert "is not what was shown" in answer.text
    assert approved(stand.house, run) == 0


def test_those_who_will_be_mailed_are_confirmed(stand: Stand) -> None:
    run = held_house(stand)
    visitor = stand.visitor()
    form = visitor.form("/held/people")
    assert visitor.post("/held/people", form).status_code == 409
    assert approved(stand.house, run) == 0


def test_while_a_run_is_at_work_nothing_is_approved_and_that_is_said(stand: Stand) -> None:
    run = held_house(stand)
    visitor = stand.visitor()
    form = {**visitor.form("/held/people"), "sure": "on"}
    with hold(stand.house.state, wait_s=0, clock=stand.house.clock):
        answer = visitor.post("/held/people", form)
    assert answer.status_code == 409
    assert "Another process is using" in answer.text
    assert approved(stand.house, run) == 0
    assert visitor.post("/held/people", form).status_code == 303


def test_a_shrunken_source_can_be_approved(stand: Stand) -> None:
    house = stand.house
    house.write(row(1, ANN), row(2, "bob@example.com"))
    house.sync()
    house.write()
    run = house.sync().run
    visitor = stand.visitor()
    assert "The source has shrunk" in visitor.get("/held/people").text
    assert visitor.post("/held/people", visitor.form("/held/people")).status_code == 303
    assert approved(house, run) > 0


def test_many_changes_are_shown_on_several_pages(stand: Stand) -> None:
    held_house(stand, more=120)
    visitor = stand.visitor()
    found = set()
    for number in (1, 2, 3):
        found |= set(re.findall(r"new\d+@", visitor.get(f"/held/people?page={number}").text))
    assert len(found) == 120
    for odd in ("0", "99", "-1", "x", "9" * 50):
        assert visitor.get(f"/held/people?page={odd}").status_code == 200
    assert visitor.get("/held/nobody").status_code == 409


# --- the drawing ----------------------------------------------------------------------------------------------------


def test_bars_stand_on_the_line_and_removals_hang_below_it() -> None:
    drawn = chart(
        [[("created", 3), ("updated", 3), ("removed", 6)], [("created", 0)]], below="removed"
    )
    assert (drawn.top, drawn.base) == (6, HEIGHT / 2)
    created, updated, removed = drawn.bars
    assert created.y + created.height == drawn.base
    assert updated.y + updated.height == created.y
    assert (removed.y, removed.y + removed.height) == (drawn.base, HEIGHT)


def test_nothing_at_all_is_drawn_as_nothing() -> None:
    assert chart([]).bars == []
    assert chart([[("created", 0)]]).bars == []
