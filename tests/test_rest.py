"""A web API described in the configuration: every paging style, every login, and every description that does not fit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.server import Asked, Double, Told
from pydantic import ValidationError

from connectors.rest import RestConnector, RestOptions
from syncd.connector import Checkpoint, Context, Event, Record, Request, Resync, Tombstone
from syncd.errors import SourceDenied, SourceError
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
    with pytest.raises(SourceError, match="2 records came, and the API says that there are 5"):
        read(
            web, "offset", total="meta.total", size=3, params={"ignored": "yes"}, size_param="rows"
        )


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
