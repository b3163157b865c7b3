"""The HTTP client against servers that misbehave, byte by byte."""

import gzip
import logging
import socket
import ssl
import time
import traceback

import pytest
from raw_server import response, serving

from syncd.errors import NoAnswer
from syncd.http import HttpClient

KEY = "flz_sk_" + "k" * 32
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
TIMEOUT_S = 0.4
DRIP_S = 5.0  # how long a server drips


def client(port: int, *, scheme: str = "http", body_bytes_max: int = 1000) -> HttpClient:
    return HttpClient(
        f"{scheme}://127.0.0.1:{port}/v1/",
        headers={"Authorization": f"Bearer {KEY}"},
        timeout_s=TIMEOUT_S,
        body_bytes_max=body_bytes_max,
    )


def drip(connection: socket.socket, start: bytes, step: bytes) -> None:
    """Never more than 0.05 s without a byte, and no end for long."""
    connection.sendall(start)
    for _ in range(int(DRIP_S / 0.05)):
        connection.sendall(step)
        time.sleep(0.05)


def test_what_is_sent_is_what_was_said() -> None:
    with serving(OK) as server, client(server.port) as http:
        got = http.send("DELETE", "/contacts/con_1", query="email=a%2Bb%40example.com", body=b"{}")
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert got.status == 200
    assert got.body == b"ok"
    assert head.startswith(b"DELETE /v1/contacts/con_1?email=a%2Bb%40example.com HTTP/1.1\r\n")
    assert f"Authorization: Bearer {KEY}".encode() in head
    assert b"User-Agent: fluenzr-syncd/" in head
    assert body == b"{}"


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with serving(OK) as elsewhere:
        there = f"Location: http://127.0.0.1:{elsewhere.port}/"
        moved = response(b"", there, status="307 Temporary Redirect")
        with serving(moved) as server, client(server.port) as http:
            assert http.send("POST", "/contacts", body=b"{}").status == 307
    assert elsewhere.requests == []


def test_certificates_are_verified() -> None:
    with client(1, scheme="https") as http:
        context = http._client._transport._pool._ssl_context  # type: ignore[attr-defined]
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


# how long


@pytest.mark.parametrize("through_proxy", [False, True])
@pytest.mark.parametrize(
    "step", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 100 Continue\r\n\r\n", b""], ids=len
)
def test_headers_that_drip_end_by_the_deadline(
    step: bytes, through_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(connection: socket.socket) -> None:
        if not step:
            time.sleep(TIMEOUT_S * 1.5)  # no byte at all: a single time-out
        elif step.endswith(b"\r\n\r\n"):
            drip(connection, b"", step)
        else:
            drip(connection, step, b"a")

    with serving(script) as server:
        if through_proxy:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
            monkeypatch.setenv("NO_PROXY", "")
        with client(server.port) as http:
            start_s = time.monotonic()
            with pytest.raises(NoAnswer) as caught:
                http.send("POST", "/contacts", body=b"{}")
            assert time.monotonic() - start_s < DRIP_S - 1.0
            assert caught.value.sent
            wait_s = TIMEOUT_S * 2 if step else TIMEOUT_S
            assert f"within {wait_s:g} seconds" in str(caught.value)
        target = server.requests[0].split(b" ")[1]
        assert target.startswith(b"http://") is through_proxy


def test_a_body_that_drips_ends_by_the_deadline() -> None:
    def script(connection: socket.socket) -> None:
        drip(connection, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 1000\r\n\r\n", b"a")

    with serving(script) as server, client(server.port) as http:
        start_s = time.monotonic()
        got = http.send("GET", "/groups")
        assert time.monotonic() - start_s < DRIP_S - 1.0
    assert (got.status, got.body, got.fault) == (401, b"", "its body did not arrive in time")


# how large


@pytest.mark.parametrize(
    ("answer", "body", "fault"),
    [
        (response(b"a" * 1000), b"a" * 1000, ""),
        (response(b"a" * 1001), b"", "its body is larger than 1000 bytes"),
        (response(gzip.compress(b"a" * 1000), "Content-Encoding: gzip"), b"a" * 1000, ""),
        (
            response(gzip.compress(b"a" * 10**6), "Content-Encoding: gzip"),
            b"",
            "its body is larger than 1000 bytes",
        ),
        (
            response(gzip.compress(gzip.compress(b"a")), "Content-Encoding: gzip, gzip"),
            b"",
            "its body is compressed more than once",
        ),
        (
            response(b"not gzip", "Content-Encoding: gzip"),
            b"",
            "its body is compressed in a broken way",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", b"", "its body ended early"),
    ],
)
def test_a_body_comes_whole_or_not_at_all(answer: bytes, body: bytes, fault: str) -> None:
    with serving(answer) as server, client(server.port) as http:
        got = http.send("GET", "/groups")
    assert (got.status, got.body, got.fault) == (200, body, fault)


# what failed


@pytest.mark.parametrize(
    ("bytes_back", "words"),
    [(b"", "without an answer"), (b"SSH-2.0-OpenSSH_9.6\r\n", "not HTTP")],
)
def test_what_broke_after_it_was_sent_may_have_arrived(bytes_back: bytes, words: str) -> None:
    with (
        serving(bytes_back) as server,
        client(server.port) as http,
        pytest.raises(NoAnswer, match=words) as caught,
    ):
        http.send("POST", "/contacts", body=b"{}")
    assert caught.value.sent


def test_nothing_was_sent_without_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with client(port) as http, pytest.raises(NoAnswer, match="Connection refused") as caught:
        http.send("POST", "/contacts", body=b"{}")
    assert not caught.value.sent


def test_nothing_was_sent_without_tls() -> None:
    with (
        serving(OK) as server,
        client(server.port, scheme="https") as http,
        pytest.raises(NoAnswer, match="TLS failed") as caught,
    ):
        http.send("POST", "/contacts", body=b"{}")
    assert not caught.value.sent


def test_nothing_was_sent_to_what_is_no_url() -> None:
    with HttpClient("ftp://127.0.0.1/v1") as http, pytest.raises(NoAnswer) as caught:
        http.send("GET", "/groups")
    assert not caught.value.sent


def test_a_key_with_a_line_break_is_not_sent_and_not_shown() -> None:
    headers = {"Authorization": f"Bearer {KEY}\n"}
    with (
        serving(OK) as server,
        HttpClient(server.url, headers=headers) as http,
        pytest.raises(NoAnswer, match="header") as caught,
    ):
        http.send("GET", "/groups")
    assert not caught.value.sent
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_no_text_holds_a_key_an_address_or_a_body(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(b"HTTP/1.1 200 flz\x00\r\n") as broken, serving(OK) as good:
        with client(broken.port) as http, pytest.raises(NoAnswer) as caught:
            http.send(
                "PUT", "/contacts/con_1", query="email=ann%40example.com", body=b'{"a":"bob"}'
            )
        with client(good.port) as http:
            http.send("GET", "/contacts", query="email=ann%40example.com")
    text = caplog.text + "".join(traceback.format_exception(caught.value)) + repr(http)
    assert "PUT /contacts/con_1 at 127.0.0.1" in text
    assert KEY not in text
    assert "ann" not in text.replace("cannot", "")
    assert "bob" not in text
