"""How the Odoo connector speaks to a server: protocols, logins, errors of both, pages, `check`."""

from collections.abc import Iterator
from typing import Any

import pytest
from doubles.odoo import HTML
from doubles.server import Told
from odoo_reads import KEY, Odoo, connector, cursor, keys, read

from connectors.odoo import OdooOptions
from connectors.odoo.vendor import vendor_for
from syncd.errors import ConfigError, SourceDenied, SourceError, SourceRefused

EVERYBODY = [str(key) for key in range(1, 8)]


def filled(version: int) -> Odoo:
    double = Odoo(version=version)
    for key in range(1, 8):
        double.put(key, email=f"p{key}@example.com")
    return double


@pytest.fixture(params=[14, 19])
def odoo(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Odoo]:
    monkeypatch.setenv("ODOO_KEY", KEY)
    with filled(request.param) as double:
        yield double


@pytest.fixture
def odoo19(monkeypatch: pytest.MonkeyPatch) -> Iterator[Odoo]:
    monkeypatch.setenv("ODOO_KEY", KEY)
    with filled(19) as double:
        yield double


@pytest.fixture
def odoo14(monkeypatch: pytest.MonkeyPatch) -> Iterator[Odoo]:
    monkeypatch.setenv("ODOO_KEY", KEY)
    with filled(14) as double:
        yield double


# Protocols


def test_the_version_chooses_the_protocol(odoo: Odoo) -> None:
    assert keys(read(odoo)) == EVERYBODY
    paths = set(odoo.paths()[1:])
    if odoo.version >= 19:
        assert all(path.startswith("POST /json/2/") for path in paths)
        assert all("authorization" not in one.headers for one in odoo.asked[:1])
    else:
        assert paths == {"POST /jsonrpc"}
        assert all("authorization" not in one.headers for one in odoo.asked)


def test_json_rpc_still_works_on_19_and_asks_for_no_version(odoo19: Odoo) -> None:
    assert keys(read(odoo19, protocol="jsonrpc")) == EVERYBODY
    assert set(odoo19.paths()) == {"POST /jsonrpc"}


def test_json_2_needs_neither_database_nor_user(odoo19: Odoo) -> None:
    assert keys(read(odoo19, protocol="json2", database="", user="")) == EVERYBODY


def test_where_json_rpc_is_gone_json_2_is_spoken(odoo19: Odoo) -> None:
    odoo19.has_rpc = False
    assert keys(read(odoo19)) == EVERYBODY


@pytest.mark.parametrize(("text", "path"), [("saas~19.1+e", "/json/2/"), ("saas~18.4", "/jsonrpc")])
def test_versions_of_odoo_online_are_understood(odoo19: Odoo, text: str, path: str) -> None:
    odoo19.faults = [Told(200, {"jsonrpc": "2.0", "id": 1, "result": {"server_version": text}})]
    assert keys(read(odoo19)) == EVERYBODY
    assert odoo19.asked[-1].path.startswith(path)


def test_a_server_without_a_version_is_asked_no_further(odoo19: Odoo) -> None:
    odoo19.faults = [Told(200, {"jsonrpc": "2.0", "id": 1, "result": "hello"})]
    with pytest.raises(SourceError, match="which version"):
        read(odoo19)


def test_an_old_odoo_needs_database_and_user(odoo14: Odoo) -> None:
    with pytest.raises(SourceError, match=r"14\.0 needs `database` and `user`"):
        read(odoo14, database="")
    with pytest.raises(ValueError, match="needs database and user"):
        OdooOptions.model_validate(
            {"base_url": odoo14.url, "token": "env:K", "protocol": "jsonrpc", "user": "x"}
        )


# Logins


def test_a_wrong_key_is_said_at_once_and_not_shown(
    odoo: Odoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODOO_KEY", "wrong-key-made-up")
    with pytest.raises(SourceDenied) as caught:
        read(odoo)
    assert "wrong-key-made-up" not in str(caught.value)
    assert "`token`" in str(caught.value)
    assert len(odoo.asked) == 2


def test_a_key_that_ends_while_reading_ends_the_read(odoo: Odoo) -> None:
    def end(asked: Any) -> None:
        odoo.key = "another" if b'"write_date"' in asked.body else odoo.key

    odoo.before_answer = end
    with pytest.raises(SourceDenied, match="Check `token`"):
        read(odoo)


def test_an_unknown_database_is_said_at_once(odoo: Odoo) -> None:
    with pytest.raises(SourceRefused, match="`database`"):
        read(odoo, database="typo")
    assert len(odoo.asked) == 2


def test_a_key_with_a_line_break_is_said_without_the_key(
    odoo19: Odoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODOO_KEY", "half\nof-a-key")
    with pytest.raises(ConfigError, match="`token`") as caught:
        read(odoo19)
    assert "of-a-key" not in str(caught.value)


# Errors of the server


def test_a_field_that_is_called_error_is_no_error(odoo: Odoo) -> None:
    odoo.schema["res.partner"] = {"error": {"type": "char"}, **odoo.schema["res.partner"]}
    odoo.put(1, error="x")
    assert keys(read(odoo, None, "error")) == EVERYBODY


@pytest.mark.parametrize("number", [0, 200])
def test_the_number_of_an_rpc_error_says_nothing(odoo14: Odoo, number: int) -> None:
    data = {
        "name": "odoo.exceptions.AccessError",
        "message": "Not allowed: 'Contact' (res.partner)",
    }
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": number, "message": "m", "data": data}}
    odoo14.faults = [None, None, Told(200, body)]
    with pytest.raises(SourceDenied, match="Not allowed") as caught:
        read(odoo14)
    assert "the right to read contacts" in str(caught.value)
    assert len(odoo14.asked) == 3


def test_a_500_that_will_stay_is_not_tried_again(odoo: Odoo) -> None:
    """A module was removed after its fields had been listed: the answer will be the same."""

    def remove(asked: Any) -> None:
        if b'"write_date"' in asked.body:
            del odoo.schema["res.partner"]["email"]

    odoo.before_answer = remove
    count = len(odoo.asked)
    with pytest.raises(SourceRefused, match=r"ValueError: Invalid field"):
        read(odoo)
    assert sum(b'"write_date"' in one.body for one in odoo.asked[count:]) == 1


@pytest.mark.parametrize("name", ["psycopg2.errors.SerializationFailure", "builtins.MemoryError"])
def test_a_500_that_may_pass_is_tried_again(odoo: Odoo, name: str) -> None:
    error = {"name": name, "message": "just now"}
    rpc = {"jsonrpc": "2.0", "id": 1, "error": {"code": 200, "message": "m", "data": error}}
    fault = Told(500, error) if odoo.version >= 19 else Told(200, rpc)
    odoo.faults = [None, None, fault, Told(502, b"<html>Bad Gateway</html>", HTML)]
    assert keys(read(odoo)) == EVERYBODY


def test_a_page_of_html_is_no_read(odoo: Odoo) -> None:
    odoo.faults = [None, None, *[Told(200, b"<html>Login</html>", HTML)] * 5]
    with pytest.raises(SourceError, match="not JSON"):
        read(odoo)


@pytest.mark.parametrize("body", [b"<h1>Not Found</h1>", b'{"title": "no route", "status": 404}'])
def test_another_server_names_what_to_correct(odoo19: Odoo, body: bytes) -> None:
    odoo19.faults = [None, Told(404, body)]
    with pytest.raises(SourceRefused, match="`base_url` and `database`"):
        read(odoo19)


def test_a_redirect_names_what_to_correct(odoo: Odoo) -> None:
    odoo.faults = [None, Told(303, b"", {"Location": "/web/database/selector"})]
    with pytest.raises(SourceRefused, match="`base_url` and `database`"):
        read(odoo)


@pytest.mark.parametrize("value", [{}, "text", [{"name": "without id"}], [{"id": "7"}], [7], None])
def test_an_answer_of_another_shape_is_no_read(odoo19: Odoo, value: Any) -> None:
    odoo19.faults = [None, None, Told(200, value)]
    with pytest.raises(SourceError, match="something else than its rows"):
        read(odoo19, protocol="auto")


def test_no_secret_and_no_address_is_in_an_error(odoo: Odoo) -> None:
    words = f"User ann@example.com may not, with {KEY}"
    named = {"name": "odoo.exceptions.UserError", "message": words}
    rpc = {"jsonrpc": "2.0", "id": 1, "error": {"code": 200, "message": "m", "data": named}}
    odoo.faults = [None, None, Told(422, named) if odoo.version >= 19 else Told(200, rpc)]
    with pytest.raises(SourceError) as caught:
        read(odoo)
    assert "User (address) may not, with (secret)" in str(caught.value)


# Pages


@pytest.mark.parametrize("ids", [[1, 2, 3], [9, 8], [9, 9]])
def test_the_same_page_again_or_another_order_is_no_read(odoo19: Odoo, ids: list[int]) -> None:
    page = [{"id": key, "email": "x@example.com"} for key in ids]
    odoo19.faults = [None, None, None, Told(200, page), Told(200, page)]
    with pytest.raises(SourceError, match="order of their ids"):
        read(odoo19)


def test_pages_that_are_shorter_than_asked_for_lose_nobody(odoo: Odoo) -> None:
    """A module may cap what one call gives: a short page is not the end."""
    odoo.rows_cap = 3
    assert keys(read(odoo)) == EVERYBODY
    odoo.clock.advance_s(60)
    for key in range(1, 8):
        odoo.put(key, phone="+41")
    assert keys(read(odoo, cursor(read(odoo)))) == EVERYBODY


def test_the_whole_last_page_is_read(odoo: Odoo) -> None:
    for key in range(1, 2_002):
        odoo.put(key, email=f"p{key}@example.com")
    assert len(keys(read(odoo))) == 2_001


def test_odoo_online_is_asked_once_a_second() -> None:
    assert vendor_for("https://example.odoo.com").pace.count == 1
    assert vendor_for("https://odoo.example.com").pace.count == 10
    assert vendor_for("https://x.odoo.com.example.com").pace.count == 10


# Check


def test_check_names_version_and_each_missing_right(odoo: Odoo) -> None:
    title = "Odoo 19.0 by JSON-2" if odoo.version >= 19 else "Odoo 14.0 by JSON-RPC"
    assert connector(odoo).check() == f"{title}: res.partner can be read"
    odoo.rights -= {"mail.blacklist", "mailing.list"}
    odoo.refused |= {"res.partner.category", "res.users", "mail.message"}
    words = connector(odoo).check()
    assert (
        "not _opted_out of people with several addresses, who are held back: the right to read mail.blacklist"
        in words
    )
    for part in ("not _tags: ", "not _lists: ", "not _owner: ", "not merges: "):
        assert part in words
    odoo.refused.add("res.partner")
    with pytest.raises(SourceDenied, match="the right to read contacts"):
        connector(odoo).check()


def test_check_names_what_is_not_installed(odoo: Odoo) -> None:
    del odoo.schema["mailing.list"]
    del odoo.schema["res.partner"]["is_blacklisted"]
    words = connector(odoo).check()
    assert "not _lists: this Odoo has no mailing.list" in words
    assert "not _opted_out: this Odoo has no field for it" in words


def test_check_says_when_a_key_ends_soon(odoo19: Odoo) -> None:
    now_s = odoo19.clock.now_s()
    odoo19.add("res.users.apikeys", user_id=8, expiration_date=now_s + 86_400)  # somebody else's
    odoo19.add("res.users.apikeys", user_id=7, expiration_date=now_s - 86_400)  # ended
    key = odoo19.add("res.users.apikeys", user_id=7, expiration_date=now_s + 31 * 86_400)
    odoo19.add("res.users.apikeys", user_id=7, expiration_date=False)
    assert "ends on" not in connector(odoo19).check()
    odoo19.add("res.users.apikeys", key, expiration_date=now_s + 29 * 86_400)
    assert "an API key of this user ends on 2026-01-30" in connector(odoo19).check()
    odoo19.refused.add("res.users.apikeys")
    assert "ends on" not in connector(odoo19).check()
