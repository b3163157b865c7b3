"""A vendor's API as connectors read it: what is waited for, tried again, renewed, given up, and never shown."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from doubles.server import Asked, Double, Told

from syncd.errors import (
    ConfigError,
    Interrupted,
    SourceDenied,
    SourceError,
    SourceExhausted,
    SourceRefused,
)
from syncd.http import (
    Answer,
    Api,
    Basic,
    Exhausted,
    HighWater,
    Lookup,
    OAuth,
    Open,
    Pace,
    Token,
    Trail,
    Vendor,
    Verdict,
    by_status,
    parse_time,
    read_cursor,
    rfc3339,
    since_of,
    write_cursor,
)
from syncd.secret import Secret

TOKEN = "token-made-up-0123456789"


class Acme(Double):
    """Answers {"ok": true} to everybody with a good token; hands out tokens at /token."""

    def __init__(self) -> None:
        super().__init__()
        self.good = {TOKEN}
        self.rotating = False

    def answer(self, asked: Asked) -> Told:
        if asked.path in {"/token", "/token/"}:
            if asked.form.get("refresh_token") not in {"refresh-1", "refresh-2"}:
                return Told(400, {"error": "invalid_grant"})
            self.good = {f"access-{len(self.asked)}"}
            told = {"access_token": next(iter(self.good)), "expires_in": 600, "api_domain": "eu"}
            return Told(200, told | ({"refresh_token": "refresh-2"} if self.rotating else {}))
        held = asked.headers.get("authorization", "").removeprefix("Bearer ")
        return Told(200, {"ok": True}) if held in self.good else Told(401, {"why": held})


def words(answer: Answer) -> str:
    return answer.body.decode()


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[Acme]:
    monkeypatch.setenv("ACME_TOKEN", TOKEN)
    monkeypatch.setenv("ACME_REFRESH", "refresh-1")
    with Acme() as double:
        yield double


def api(acme: Acme, login: Any = None, **vendor: Any) -> Api:
    held = login or Token(Secret("env:ACME_TOKEN"))
    return Api(acme.url, Vendor("Acme", **{"words": words, **vendor}), held, acme.clock)


def waited_s(acme: Acme, **vendor: Any) -> float:
    before_s = acme.clock.now_s()
    with api(acme, **vendor) as asked:
        assert asked.get("/x") == {"ok": True}
    return acme.clock.now_s() - before_s


# Again, and how long


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 524, 529])
def test_what_may_pass_is_tried_again(acme: Acme, status: int) -> None:
    acme.faults = [Told(status, b"<html>oops</html>")] * 4
    assert waited_s(acme) == 1 + 2 + 4 + 8


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("17", 17), ("0", 1), ("2.5", 2.5), ("-3", 1), ("nan", 1), ("date", 30), ("soon", 1), ("", 1)],
)
def test_the_vendor_says_how_long(acme: Acme, header: str, seconds: float) -> None:
    if header == "date":
        moment = datetime.fromtimestamp(acme.clock.now_s() + 30, UTC)
        header = moment.strftime("%a, %d %b %Y %H:%M:%S GMT")
    acme.faults = [Told(429, b"", {"Retry-After": header})]
    assert waited_s(acme) == seconds


def test_who_says_no_seconds_at_all_is_not_asked_five_times_at_once(acme: Acme) -> None:
    acme.faults = [Told(429, b"", {"Retry-After": "0"})] * 4
    assert waited_s(acme) == 1 + 2 + 4 + 8


@pytest.mark.parametrize("ahead_s", [-7200, 7200])
def test_a_date_is_taken_by_the_clock_that_wrote_it(acme: Acme, ahead_s: float) -> None:
    """Our own clock may be wrong by hours: that is no reason to give up, or to ask at once."""
    theirs_s = acme.clock.now_s() + ahead_s
    dates = {
        name: datetime.fromtimestamp(moment_s, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        for name, moment_s in (("Date", theirs_s), ("Retry-After", theirs_s + 30))
    }
    acme.date = False
    acme.faults = [Told(429, b"", dates)]
    assert waited_s(acme) == 30


def test_after_five_tries_the_read_fails(acme: Acme) -> None:
    acme.faults = [Told(503, b"maintenance")] * 9
    with api(acme) as asked, pytest.raises(SourceError, match="maintenance"):
        asked.get("/x")
    assert len(acme.asked) == 5


def test_nobody_waits_longer_than_two_minutes_for_a_page(acme: Acme) -> None:
    acme.faults = [Told(429, b"", {"Retry-After": "7200"})]
    before_s = acme.clock.now_s()
    with api(acme) as asked, pytest.raises(SourceError, match="7,200 seconds"):
        asked.get("/x")
    assert acme.clock.now_s() == before_s


def test_two_minutes_of_slow_failures_are_told_as_what_they_were(acme: Acme) -> None:
    acme.before_answer = lambda _: acme.clock.advance_s(50)
    acme.date = False
    acme.faults = []
    acme.answer = lambda _: Told(503, b"slow")  # type: ignore[method-assign]
    with api(acme) as client, pytest.raises(SourceError, match="HTTP 503") as caught:
        client.get("/people")
    assert len(acme.asked) == 3
    assert "it failed 3 times" in caught.value.what
    assert "left alone" not in str(caught.value)


def test_a_stop_ends_the_waiting(acme: Acme) -> None:
    acme.faults = [Told(503)]
    acme.before_answer = lambda asked: acme.clock.stop()
    acme.clock.stop()
    with api(acme) as asked, pytest.raises(Interrupted):
        asked.get("/x")


def test_html_with_status_200_is_no_answer(acme: Acme) -> None:
    page = Told(200, b"<html>Please log in</html>", {"Content-Type": "text/html; charset=utf-8"})
    acme.faults = [page] * 5
    with api(acme) as asked, pytest.raises(SourceError, match=r"not JSON.*text/html") as caught:
        asked.get("/x")
    assert "log in" not in str(caught.value)


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (rb"cut \ud83d", "cut \ufffd"),
        (rb"\uDE00 cut", "\ufffd cut"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\\ud83d \ud83d", r"\ud83d" + " \ufffd"),
        (rb"\u0000 \ud83d \"", '\x00 \ufffd "'),
    ],
)
def test_half_an_emoji_makes_no_read_fail(acme: Acme, sent: bytes, seen: str) -> None:
    """As a vendor leaves it that cuts a long text in the middle of a character."""
    acme.faults = [Told(200, b'{"name":"' + sent + b'"}')]
    with api(acme) as asked:
        assert asked.get("/x") == {"name": seen}
    assert len(acme.asked) == 1


def test_an_empty_answer_is_nothing(acme: Acme) -> None:
    acme.faults = [Told(204), Told(200, {"ok": True})]
    with api(acme) as asked:
        assert asked.get("/x") is None
        assert asked.ask("GET", "/x", plain=True).body == b'{"ok": true}'


def test_a_server_that_is_not_there_is_said_so(acme: Acme) -> None:
    gone = Api("http://127.0.0.1:1", Vendor("Acme"), Open(), acme.clock)
    with gone, pytest.raises(SourceError, match="no connection"):
        gone.get("/x", {"email": "ann@example.com"})


# Pace


def test_no_more_requests_start_than_the_pace_allows(acme: Acme) -> None:
    with api(acme, pace=Pace(3, 10.0)) as asked:
        before_s, starts = acme.clock.now_s(), []
        for _ in range(7):
            asked.get("/x")
            starts.append(acme.clock.now_s() - before_s)
    assert starts == [0, 0, 0, 10, 10, 10, 20]


def test_headers_of_good_answers_are_heeded(acme: Acme) -> None:
    with api(acme, heed=lambda answer, now_s: 5.0) as asked:
        before_s = acme.clock.now_s()
        asked.get("/x")
        asked.get("/x")
    assert acme.clock.now_s() - before_s == 5


def test_the_days_requests_are_not_waited_for(acme: Acme) -> None:
    def judge(answer: Answer, now_s: float) -> Verdict:
        return Exhausted("tomorrow") if answer.status == 429 else by_status(answer, now_s)

    acme.faults = [Told(429, b"quota")]
    with api(acme, judge=judge) as asked, pytest.raises(SourceExhausted, match="tomorrow"):
        asked.get("/x")
    assert len(acme.asked) == 1


# Login


def test_a_right_that_is_missing_is_named(acme: Acme) -> None:
    acme.faults = [Told(403, b"no")]
    with api(acme) as asked, pytest.raises(SourceDenied, match=r"the scope people\.read"):
        asked.get("/x", needs="the scope people.read")
    assert len(acme.asked) == 1


def test_a_token_that_is_not_taken_is_not_tried_twice(acme: Acme) -> None:
    acme.good = set()
    with api(acme) as asked, pytest.raises(SourceDenied) as caught:
        asked.get("/x")
    assert len(acme.asked) == 1
    assert TOKEN not in str(caught.value)  # the server echoes it
    assert "(secret)" in str(caught.value)


def test_a_wrong_request_is_refused_in_the_vendors_words(acme: Acme) -> None:
    acme.faults = [Told(400, b"no person ann.lee@example.com here")]
    with api(acme) as asked, pytest.raises(SourceRefused, match=r"no person \(address\)") as caught:
        asked.get("/x")
    assert caught.value.status == 400
    assert "ann.lee" not in str(caught.value)


def test_an_address_within_a_url_is_not_shown(acme: Acme) -> None:
    acme.faults = [
        Told(400, b"not found: /people?email=ann.lee%40example.com&x=1 or bob@example.com.")
    ]
    with api(acme) as asked, pytest.raises(SourceRefused) as caught:
        asked.get("/x")
    assert "email=(address)&x=1 or (address)" in str(caught.value)


def test_basic_takes_a_secret_as_the_name(acme: Acme) -> None:
    acme.faults = [Told(400, b"token-made-up-0123456789 dG9rZW4tbWFkZS11cC0wMTIzNDU2Nzg5Og==")]
    held = Basic(Secret("env:ACME_TOKEN"))
    with api(acme, held) as asked, pytest.raises(SourceRefused) as caught:
        asked.get("/x")
    assert acme.asked[0].headers["authorization"].startswith("Basic dG9rZW4t")
    assert "dG9r" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def oauth(acme: Acme, refresh: str = "env:ACME_REFRESH", folder: Path | None = None) -> OAuth:
    form = {"grant_type": "refresh_token", "refresh_token": Secret(refresh, folder=folder)}
    return OAuth(f"{acme.url}/token", form, clock=acme.clock)


def test_an_access_token_is_fetched_once_and_renewed_before_it_ends(acme: Acme) -> None:
    with api(acme, oauth(acme)) as asked:
        asked.get("/x")
        acme.clock.advance_s(500)
        asked.get("/x")
        assert acme.paths().count("POST /token") == 1
        acme.clock.advance_s(50)
        asked.get("/x")
    assert acme.paths().count("POST /token") == 2


def test_a_token_is_fetched_at_the_address_as_it_is_written(acme: Acme) -> None:
    """A slash at its end is part of it: without, some servers redirect, and a redirected POST is no login."""
    form = {"refresh_token": Secret("env:ACME_REFRESH")}
    with api(acme, OAuth(f"{acme.url}/token/", form, clock=acme.clock)) as asked:
        asked.get("/x")
    assert acme.paths() == ["POST /token/", "GET /x"]


def test_an_access_token_that_was_revoked_is_renewed_once(acme: Acme) -> None:
    with api(acme, oauth(acme)) as asked:
        asked.get("/x")
        acme.good = set()
        assert asked.get("/x") == {"ok": True}
        acme.faults = [Told(401), None, Told(401)]
        with pytest.raises(SourceDenied):
            asked.get("/x")


def test_a_refresh_token_that_is_replaced_is_written_back(acme: Acme, tmp_path: Path) -> None:
    acme.rotating = True
    file = tmp_path / "refresh"
    file.write_text("refresh-1\n")
    with api(acme, oauth(acme, "file:refresh", tmp_path)) as asked:
        asked.get("/x")
    assert file.read_text() == "refresh-2\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["refresh"]


def test_a_refresh_token_that_cannot_be_kept_is_said_at_once(acme: Acme) -> None:
    acme.rotating = True
    with api(acme, oauth(acme)) as asked, pytest.raises(ConfigError, match="file:PATH") as caught:
        asked.get("/x")
    assert "refresh-2" not in str(caught.value)


def test_a_refused_refresh_token_says_what_to_check(acme: Acme, monkeypatch: Any) -> None:
    monkeypatch.setenv("ACME_REFRESH", "revoked-made-up")
    with api(acme, oauth(acme)) as asked, pytest.raises(SourceDenied, match="invalid_grant"):
        asked.get("/x")


# Times, cursors, joins


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20T10:15:30Z", "2026-11-20T10:15:30.000000Z"),
        ("2026-11-20T10:15:30.123456789Z", "2026-11-20T10:15:30.123456Z"),
        ("2026-11-20T10:15:30.5+0530", "2026-11-20T04:45:30.500000Z"),
        ("2026-11-20T10:15:30.000+0000", "2026-11-20T10:15:30.000000Z"),
        ("2026-11-20 10:15:30", "2026-11-20T10:15:30.000000Z"),
        ("2026-11-20T10:15:30+02:00", "2026-11-20T08:15:30.000000Z"),
        ("1763633730123", "2025-11-20T10:15:30.123000Z"),
        (1763633730, "2025-11-20T10:15:30.000000Z"),
        ("2026-11-20", "2026-11-20T00:00:00.000000Z"),
    ],
)
def test_times_of_all_vendors_are_read(text: Any, expected: str) -> None:
    found = parse_time(text)
    assert found is not None
    assert rfc3339(found, timespec="microseconds") == expected


@pytest.mark.parametrize("text", ["", "soon", None, True, [], "2026-13-01", "99999999999999999"])
def test_what_is_no_time_is_none(text: Any) -> None:
    assert parse_time(text) is None


def test_a_loop_of_any_length_is_found() -> None:
    for length in (1, 2, 3, 7, 50):
        tokens = (f"page {step % length}" for step in range(4 * length + 4))
        trail = Trail("Acme")
        with pytest.raises(SourceError, match="does not end"):
            list(map(trail.step, tokens))
    for before in (1, 5, 100):  # pages that come once, and then the loop
        tokens = (step if step < before else before + step % 3 for step in range(1_000))
        trail = Trail("Acme")
        with pytest.raises(SourceError, match="does not end"):
            list(map(trail.step, tokens))
    trail = Trail("Acme")
    for steps in range(1_000):
        trail.step(steps)


def test_the_high_water_is_never_later_than_the_beginning_of_the_read() -> None:
    began = datetime(2026, 11, 20, 10, tzinfo=UTC)
    water = HighWater(began=began, since=None)
    assert water.reached() is None
    water.see(began - timedelta(hours=1))
    assert water.reached() == began - timedelta(hours=1)
    water.see(began + timedelta(hours=1))
    assert water.reached() == began
    assert HighWater(began=began, since=began).reached() == began


def test_cursors_of_other_versions_are_of_no_use() -> None:
    moment = datetime(2026, 11, 20, 10, 0, 0, 5, tzinfo=UTC)
    text = write_cursor(2, since=moment, last="7")
    assert read_cursor(text, 2) == {"since": "2026-11-20T10:00:00.000005Z", "last": "7"}
    assert [read_cursor(one, 1) for one in (text, "?", "[]", "1")] == [None] * 4
    assert since_of(text, 2, timedelta(seconds=10)) == moment - timedelta(seconds=10)
    assert since_of(None, 2, timedelta()) is None


def test_joined_objects_are_fetched_once_in_batches() -> None:
    asked: list[list[str]] = []

    def fetch(ids: Any) -> dict[str, dict[str, str]]:
        asked.append(list(ids))
        return {one: {"id": one} for one in ids if one != "404"}

    lookup = Lookup(fetch, batch=2)
    assert lookup.of(["1", None, "2", "404", "1", ""]) == {
        "1": {"id": "1"},
        "2": {"id": "2"},
        "404": None,
    }
    assert lookup.of(["404", "1", "3"])["3"] == {"id": "3"}
    assert asked == [["1", "2"], ["404"], ["3"]]
