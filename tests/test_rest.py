"""A web API described in the configuration: every paging style, every login, and every description that does not fit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.server import Asked, Double, Told
from pydantic import ValidationError
from raw_server import response, serving

from connectors.rest import RestConnector, RestOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError, SourceRefused
from syncd.http import parse_time, rfc3339
from syncd.testing import conformance
from syncd.testing.conformance import ConnectorSuite

TOKEN = "made-up-0123456789"


class People(Double):
    """An API whose paging is chosen by the path: /page, /offset, /cursor, /link, /header, /all."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, dict[str, Any]] = {}
        self.wanted = ("authorization", f"Bearer {TOKEN}")

    def put(self, key: str, **values: Any) -> None:
        changed = rfc3339(parse_time(self.clock.now_s()))
        self.rows[key] = {"id": int(key), **self.rows.get(key, {}), **values, "changed": changed}

    def answer(self, asked: Asked) -> Told:
        if asked.path == "/token":
            return Told(200, {"access_token": TOKEN, "expires_in": 600})
        name, value = self.wanted
        if asked.headers.get(name) != value:
            return Told(401, {"error": "who are you?"})
        query = asked.query if asked.method == "GET" else {k: str(v) for k, v in asked.json.items()}
        since = parse_time(query.get("since"))
        rows = [
            row for row in self.rows.values() if not since or parse_time(row["changed"]) >= since
        ]
        return self._page(asked.path, query, rows)

    def _page(self, path: str, query: dict[str, str], rows: list[dict[str, Any]]) -> Told:
        size = int(query.get("limit", "2"))
        start = int(query.get("start", query.get("cursor", "0")))
        if path == "/v1/page":
            start = (int(query["page"]) - 1) * size
        if path == "/v1/all":
            return Told(200, rows)
        part, more = rows[start : start + size], start + size < len(rows)
        body: dict[str, Any] = {"data": {"people": part}, "meta": {"total": len(rows)}}
        following = f"{self.url}{path}?limit={size}&start={start + size}"
        headers = {}
        if more and path == "/v1/cursor":
            body["meta"]["next"] = start + size
        if more and path == "/v1/link":
            body["meta"]["next"] = following
        if path == "/v1/header":
            headers["Link"] = f'<{self.url}{path}>; rel="first"' + (
                f', <{following}>; rel="next"' if more else ""
            )
        return Told(200, body, headers)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[People]:
    monkeypatch.setenv("WEB_TOKEN", TOKEN)
    with People() as double:
        for key in range(1, 6):
            double.put(str(key), email=f"p{key}@example.com")
        yield double


STYLES: dict[str, dict[str, Any]] = {
    "page": {"paging": "page", "size": 2},
    "offset": {"paging": "offset", "size": 2, "page_param": "start"},
    "cursor": {"paging": "cursor", "cursor": "meta.next"},
    "link": {"paging": "link", "cursor": "meta.next"},
    "header": {"paging": "link"},
    "all": {"records": ""},
}


def connector(web: People, style: str = "cursor", **options: Any) -> RestConnector:
    given = {
        "base_url": f"{web.url}/v1", "path": f"/{style}", "token": "env:WEB_TOKEN", "key": "id",
        "records": "data.people", **STYLES[style], **options,
    }  # fmt: skip
    return RestConnector(RestOptions.model_validate(given), Context(clock=web.clock))


def read(
    web: People, style: str = "cursor", cursor: str | None = None, **options: Any
) -> list[Event]:
    return list(connector(web, style, **options).read(Request(cursor=cursor)))


def keys(events: list[Event]) -> list[str]:
    return [event.key for event in events if isinstance(event, Record)]


def cursor(events: list[Event]) -> str:
    return [event.cursor for event in events if isinstance(event, Checkpoint)][-1]


INCREMENTAL = {"modified": "changed", "since_param": "since"}


@pytest.mark.parametrize("count", [0, 1, 4, 5])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_paging_gives_everything_once(web: People, style: str, count: int) -> None:
    web.rows = {key: row for key, row in web.rows.items() if int(key) <= count}
    assert keys(read(web, style)) == [str(key) for key in range(1, count + 1)]


def test_a_search_by_post_pages_in_its_body(web: People) -> None:
    assert keys(read(web, method="POST", body={"filter": "all"})) == ["1", "2", "3", "4", "5"]
    assert [asked.json.get("cursor") for asked in web.asked] == [None, "2", "4"]
    assert web.asked[0].json["filter"] == "all"


@pytest.mark.parametrize("login", ["header", "basic", "oauth"])
def test_every_login(web: People, login: str) -> None:
    if login == "header":
        web.wanted = ("x-token", TOKEN)
        options = {"auth": "header", "header": "X-Token"}
    elif login == "basic":
        web.wanted = ("authorization", "Basic dTptYWRlLXVwLTAxMjM0NTY3ODk=")
        options = {"token": None, "username": "u", "password": "env:WEB_TOKEN"}
    else:
        options = {
            "token": None, "token_url": f"{web.url}/token", "client_id": "c",
            "client_secret": "env:WEB_TOKEN",
        }  # fmt: skip
    assert len(keys(read(web, **options))) == 5
    web.wanted = ("authorization", "nobody")
    with pytest.raises(SourceDenied):
        read(web, **options)


def test_only_what_was_changed_is_read(web: People) -> None:
    web.clock.advance_s(3600)
    web.put("5", name="Last")
    first = read(web, **INCREMENTAL)
    web.clock.advance_s(3600)
    web.put("3", name="New")
    second = read(web, cursor=cursor(first), **INCREMENTAL)
    assert keys(second) == ["3", "5"]
    assert not any(isinstance(e, Resync) for e in second)


@pytest.mark.parametrize("form", ["rfc3339", "seconds", "milliseconds", "date"])
def test_the_time_is_written_as_the_api_wants_it(web: People, form: str) -> None:
    first = read(web, **INCREMENTAL)
    web.clock.advance_s(3600)
    web.put("3", name="New")
    events = read(web, cursor=cursor(first), since_format=form, **INCREMENTAL)
    assert "3" in keys(events)


@pytest.mark.parametrize(
    ("value", "gone"),
    [
        (True, True),
        ("yes", True),
        ("2026-01-01T00:00:00Z", True),
        (None, False),
        ("false", False),
        (0, False),
    ],
)
def test_deleted_records_are_tombstones(web: People, value: Any, gone: bool) -> None:
    web.put("2", deleted=value)
    events = read(web, deleted="deleted")
    assert (Tombstone("2") in events) is gone
    assert ("2" in keys(events)) is not gone


def test_a_deletion_that_is_neither_yes_nor_no_is_no_read(web: People) -> None:
    web.put("2", deleted="perhaps")
    with pytest.raises(SourceError, match="neither yes nor no"):
        read(web, deleted="deleted")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"records": "items"}, "no list of records at 'items'.*data, meta"),
        ({"key": "uid"}, "no key at 'uid'"),
        ({"total": "meta.count"}, "no number at 'meta.count'"),
        ({"modified": "email", "since_param": "since"}, "is no time"),
    ],
)
def test_a_description_that_does_not_fit_says_so(web: People, options: Any, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        read(web, **options)


def test_rows_that_move_between_pages_are_noticed_by_the_total(web: People) -> None:
    """Page 2 of an offset listing begins later after a deletion on page 1: somebody is never listed."""
    options = {"total": "meta.total"}
    assert len(keys(read(web, "offset", **options))) == 5

    def remove(asked: Asked) -> None:
        if asked.query.get("start") == "2":
            web.rows.pop("1", None)

    web.before_answer = remove
    with pytest.raises(SourceError, match="there were 5 records, and then 4"):
        read(web, "offset", **options)


def test_fewer_records_than_the_total_are_no_read(web: People) -> None:
    answer = web.answer

    def one_more(asked: Asked) -> Told:
        told = answer(asked)
        told.body["meta"]["total"] += 1
        return told

    web.answer = one_more  # type: ignore[method-assign]
    for style in ("offset", "cursor"):
        with pytest.raises(SourceError, match="5 records came, and the API says that there are 6"):
            read(web, style, total="meta.total")


@pytest.mark.parametrize("style", ["page", "offset"])
def test_a_page_that_is_always_shorter_than_size_is_not_the_last(web: People, style: str) -> None:
    """The API gives two at once, whatever it is asked for: the read would end there, and everybody else would be gone."""
    with pytest.raises(SourceError, match="a page has 2 records, not 3") as caught:
        read(web, style, size=3, size_param="rows")
    assert "Set size = 2" in str(caught.value)


@pytest.mark.parametrize("status", [200, 404])
def test_a_single_short_page_is_the_last_where_nothing_follows(web: People, status: int) -> None:
    if status == 404:
        web.faults = [None, Told(404, {"detail": "Invalid page."})]
    assert len(keys(read(web, "page", size=9))) == 5
    assert len(web.asked) == 2


def test_a_page_that_is_refused_later_is_no_end(web: People) -> None:
    web.faults = [None, None, Told(404, {"detail": "Invalid page."})]
    with pytest.raises(SourceRefused):
        read(web, "page")


def test_nothing_is_asked_beyond_the_total(web: People) -> None:
    """Some APIs answer with an error behind the last page, also where that was full."""
    web.put("6", email="p6@example.com")
    assert len(keys(read(web, "page", total="meta.total"))) == 6
    assert [asked.query["page"] for asked in web.asked] == ["1", "2", "3"]


@pytest.mark.parametrize("style", ["page", "offset"])
def test_an_api_that_takes_no_notice_of_the_page_is_no_read(web: People, style: str) -> None:
    web.rows = {key: web.rows[key] for key in ("1", "2")}
    options = {"page_param": "seite", "key": None}
    web.answer = lambda asked: Told(200, {"data": {"people": list(web.rows.values())}})  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="the same page came twice"):
        read(web, style, **options)


@pytest.mark.parametrize("body", [b"", b"null"])
def test_an_answer_without_anything_is_not_an_empty_list(web: People, body: bytes) -> None:
    web.faults = [Told(200, body)]
    with pytest.raises(SourceError, match="no list of records"):
        read(web)
    web.faults = [Told(204)]
    assert keys(read(web)) == []


def test_a_cursor_must_be_one(web: People) -> None:
    web.faults = [Told(200, {"data": {"people": []}, "meta": {"next": {"page": 2}}})]
    with pytest.raises(SourceError, match="is no cursor"):
        read(web)


def test_a_link_is_followed_as_it_is() -> None:
    """A name may stand in it twice, and a value may be empty."""
    first = b'[{"id": 1}]'
    link = 'Link: </v1/people?with%5B%5D=a&with%5B%5D=b&empty=>; rel="next"'
    answers = [response(b'[{"id": 2}]'), response(first, link)]
    with serving(lambda connection: connection.sendall(answers.pop())) as server:
        options = {"base_url": server.url, "path": "/people", "key": "id", "paging": "link"}
        source = RestConnector(RestOptions.model_validate(options), Context())
        assert keys(list(source.read(Request()))) == ["1", "2"]
    assert b"/v1/people?with%5B%5D=a&with%5B%5D=b&empty= " in server.requests[1]


@pytest.mark.parametrize(
    ("header", "followed"),
    [
        ('<{url}?start=4>; rel="last next"', True),
        ('<{url}?start=2>; rel="prev", <{url}?start=4>; title="a, b"; rel=next', True),
        ('<{url}?start=4>; REL="Next"', True),
        ('<{url}?start=4>; rel="next-archive"', False),
        ('<{url}?start=4>; rel="prev"; title="rel=next"', False),
    ],
)
def test_the_link_header_in_all_its_forms(web: People, header: str, followed: bool) -> None:
    held = {"Link": header.format(url=f"{web.url}/v1/header")}
    web.faults = [Told(200, {"data": {"people": []}}, held)]
    assert (keys(read(web, "header")) == ["5"]) is followed


@pytest.mark.parametrize("path", ["/v1evil/link", "/v2/link", "/link"])
def test_a_link_to_another_part_of_the_host_is_not_followed(web: People, path: str) -> None:
    web.faults = [Told(200, {"data": {"people": []}, "meta": {"next": f"{web.url}{path}"}})]
    with pytest.raises(SourceError, match="outside of base_url"):
        read(web, "link")
    assert len(web.asked) == 1


def test_an_import_is_not_read_again_for_ever(web: People) -> None:
    first = read(web, **INCREMENTAL)
    web.clock.advance_s(2 * 86_400)
    second = read(web, cursor=cursor(first), **INCREMENTAL)
    assert len(keys(second)) == 5
    web.clock.advance_s(3600)
    assert keys(read(web, cursor=cursor(second), **INCREMENTAL)) == []


def test_a_row_that_is_listed_again_because_it_changed_comes_once(web: People) -> None:
    first = read(web, **INCREMENTAL)
    web.clock.advance_s(60)

    def change(asked: Asked) -> None:
        if asked.query.get("cursor") == "4" and "9" not in web.rows:
            web.put("9", email="p9@example.com")
            web.rows["10"] = web.rows["1"]

    web.before_answer = change
    assert sorted(keys(read(web, cursor=cursor(first), **INCREMENTAL))) == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "9",
    ]


def test_what_becomes_visible_late_is_not_missed(web: People) -> None:
    web.clock.advance_s(3600)
    web.put("3", name="Late")
    hidden = web.rows.pop("3")
    web.clock.advance_s(240)
    web.put("5", name="Last")
    first = read(web, **INCREMENTAL)
    web.rows["3"] = hidden
    assert keys(read(web, cursor=cursor(first), **INCREMENTAL)) == ["5", "3"]


def test_a_date_is_early_enough_for_every_zone(web: People) -> None:
    """The day of an API in another zone begins half a day later than ours; and "after a day" may mean after its end."""
    first = read(web, **INCREMENTAL)
    read(web, cursor=cursor(first), since_format="date", **INCREMENTAL)
    since = parse_time(web.asked[-1].query["since"])
    changed = parse_time(web.rows["1"]["changed"])
    assert since is not None
    assert changed is not None
    assert (changed - since).days >= 2


def test_a_paging_that_goes_round_in_circles_is_no_read(web: People) -> None:
    web.answer = lambda asked: Told(200, {"data": {"people": []}, "meta": {"next": "7"}})  # type: ignore[method-assign]
    with pytest.raises(SourceError, match="does not end"):
        read(web)


def test_a_link_to_elsewhere_is_not_followed(web: People) -> None:
    body = {"data": {"people": []}, "meta": {"next": "https://elsewhere.example.com/v1/link?p=2"}}
    web.faults = [Told(200, body)]
    with pytest.raises(SourceError, match="outside of base_url"):
        read(web, "link")


@pytest.mark.parametrize(
    "options",
    [
        {"username": "u", "token": "env:A"},
        {"modified": "changed"},
        {"modified": "changed", "since_param": "since"},
        {"deleted": "gone"},
        {"overlap_minutes": 0},
        {"paging": "cursor"},
        {"paging": "page"},
        {"body": {"a": 1}},
        {"token_url": "https://example.com/token"},
        {"base_url": "https://user:secret@example.com"},
        {"path": "people"},
    ],
)
def test_options_that_do_not_fit_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RestOptions.model_validate({"base_url": "https://example.com", "path": "/x", **options})


def test_check_and_fields_show_what_is_there(web: People) -> None:
    assert connector(web).check() == f"{web.url}/v1/cursor, 2 records on the first page"
    known = {one.name: one.example for one in connector(web).fields()}
    assert known["email"] == "p1@example.com"


class TestRest(ConnectorSuite):
    """The promises of every connector."""

    many = 2_000

    @pytest.fixture(autouse=True)
    def _double(self) -> Iterator[None]:
        with People() as self.web:
            self.web.wanted = ("authorization", f"Bearer {conformance.SECRET}")
            yield

    def source(self, folder: Path, records: Any) -> RestConnector:
        self.web.rows.clear()
        self.web.broken_after = None
        self.change(folder, records)
        options = {**INCREMENTAL, "deleted": "gone", "params": {"limit": 200}}
        return connector(self.web, token=conformance.SECRET_REFERENCE, **options)

    def break_source(self, folder: Path) -> None:
        self.web.broken_after = len(self.web.asked) + 3

    def change(self, folder: Path, records: Any) -> None:
        self.web.clock.advance_s(60)
        for row in records:
            self.web.put(row["id"], email=row["email"], name=row["name"])
        self.web.clock.advance_s(60)
