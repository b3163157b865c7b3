"""The listener of FluenzR's events against bad input: right answers, nothing lost, nothing twice."""

import hashlib
import hmac
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import orjson
import pytest

from syncd.config_models import WebhooksSettings
from syncd.config_values import WEBHOOKS_PATH
from syncd.errors import StateError, UsageError
from syncd.state import inbox
from syncd.state.inbox import Inbox
from syncd.testing.clock import START_S, FakeClock
from syncd.web import listener, receive
from syncd.web.app import serving

SECRET = "s3cret-of-the-webhook"
NOW_S = int(START_S)


def event(number: int = 1, kind: str = "email.replied") -> bytes:
    data = {"contactId": f"con_{number}", "contactEmail": f"p{number}@example.com"}
    return orjson.dumps({"id": f"evt_{number}", "type": kind, "data": data})


def headers(body: bytes, *, secret: str = SECRET, timestamp: int = NOW_S) -> dict[str, str]:
    text = f"{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), text, hashlib.sha256).hexdigest()
    return {"X-FluenzR-Signature": f"sha256={digest}", "X-FluenzR-Timestamp": str(timestamp)}


@dataclass
class Door:
    """The listener and what has come through it."""

    state: Path
    place: tuple[str, int]
    http: httpx.Client
    secret_file: Path

    def post(self, body: bytes, **how: object) -> int:
        signed = headers(body, **how)  # type: ignore[arg-type]
        return self.http.post(WEBHOOKS_PATH, content=body, headers=signed).status_code

    def kept(self) -> int:
        with inbox.opened(self.state) as box:
            return box.waiting_count()

    def connection(self) -> socket.socket:
        return socket.create_connection(self.place, timeout=20)


@pytest.fixture(name="door")
def door_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    secret_file = tmp_path / "webhook.secret"
    secret_file.write_text(SECRET + "\n")
    table = WebhooksSettings.model_validate(
        {"secret": "file:webhook.secret"}, context={"folder": tmp_path}
    )
    state = tmp_path / "syncd.db"
    with (
        serving(table, state, ("127.0.0.1", 0), clock=FakeClock(), on_news=lambda: None) as place,
        httpx.Client(base_url=f"http://{place[0]}:{place[1]}", trust_env=False) as http,
    ):
        yield Door(state, place, http, secret_file)


def test_a_genuine_event_is_on_the_disk_when_it_is_answered(door: Door) -> None:
    assert door.post(event()) == 200
    assert door.kept() == 1


def test_a_replay_is_answered_and_not_kept_again(door: Door) -> None:
    assert [door.post(event()), door.post(event())] == [200, 200]
    assert door.kept() == 1


@pytest.mark.parametrize(
    ("how", "status"),
    [
        ({"secret": "another"}, 401),
        ({"timestamp": NOW_S - 301}, 400),
        ({"timestamp": NOW_S + 301}, 400),
    ],
)
def test_what_is_not_of_now_or_not_of_fluenzr_is_refused(
    door: Door, how: dict[str, object], status: int
) -> None:
    assert door.post(event(), **how) == status
    assert door.kept() == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b'{"id":"evt_1"}'])
def test_what_is_no_event_is_refused_for_good(door: Door, body: bytes) -> None:
    assert door.post(body) == 400
    assert door.kept() == 0


def test_without_a_signature_nothing_is_taken(door: Door) -> None:
    assert door.http.post(WEBHOOKS_PATH, content=event()).status_code == 401


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_refused(door: Door, method: str) -> None:
    assert door.http.request(method, WEBHOOKS_PATH).status_code == 405


def test_another_path_is_not_there(door: Door) -> None:
    assert door.http.post("/webhooks", content=event()).status_code == 404


def test_the_process_says_that_it_is_alive(door: Door) -> None:
    assert door.http.get("/healthz").status_code == 200


def test_ten_megabytes_are_refused_unread(door: Door) -> None:
    with door.connection() as peer:
        peer.sendall(
            f"POST {WEBHOOKS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n".encode()
        )
        assert b"413" in peer.recv(4096)


def test_ten_megabytes_without_their_length_are_refused(door: Door) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(160):
            yield b"x" * 65536

    try:
        answer = door.http.post(WEBHOOKS_PATH, content=body()).status_code
    except httpx.TransportError:  # the connection ends while we still send
        answer = 413
    assert answer == 413
    assert door.kept() == 0


def test_a_body_that_comes_a_letter_at_a_time_is_given_up(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "BODY_S_MAX", 0.1)
    with door.connection() as peer:
        peer.sendall(
            f"POST {WEBHOOKS_PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{{".encode()
        )
        assert b"408" in peer.recv(4096)


@pytest.mark.parametrize("sent", [b"", b"POST /webhooks/fluenzr HTTP/1.1\r\nHost"])
def test_a_connection_that_asks_nothing_is_ended(
    door: Door, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(listener, "HEAD_S_MAX", 0.1)
    with door.connection() as peer:
        peer.sendall(sent)
        assert peer.recv(4096) == b""


@pytest.mark.parametrize(
    "begun",
    [b"POST /", b"POST / HTTP/1.1\r\nX: ", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /"],
)
def test_a_head_without_an_end_is_not_kept_in_memory(door: Door, begun: bytes) -> None:
    endless = begun + b"x" * 64 * 2**20
    with door.connection() as peer, pytest.raises(OSError, match=r"reset|[Bb]roken"):
        peer.sendall(endless)


def test_a_secret_may_be_replaced_while_it_listens(door: Door) -> None:
    door.secret_file.write_text(f"new\n{SECRET}\n")
    assert door.post(event(1)) == 200
    assert door.post(event(2), secret="new") == 200
    door.secret_file.write_text("new\n")
    assert door.post(event(3)) == 401


def test_a_secret_that_cannot_be_read_lets_fluenzr_try_again(door: Door) -> None:
    door.secret_file.unlink()
    assert door.post(event()) == 503


def test_an_inbox_that_cannot_be_written_lets_fluenzr_try_again(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise StateError("The disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(Inbox, "put", full)
        assert door.post(event()) == 503
    assert door.post(event()) == 200
    assert door.kept() == 1


def test_many_at_once_are_all_kept_once(door: Door) -> None:
    """Each event is sent twice, by sixteen senders at once."""
    numbers = [*range(300), *range(300)]
    with ThreadPoolExecutor(16) as senders:
        answers = set(senders.map(lambda number: door.post(event(number)), numbers))
    assert answers == {200}
    assert door.kept() == 300


def test_an_address_that_is_taken_is_said(door: Door, tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match="another address"),
        serving(None, tmp_path / "x.db", door.place, clock=FakeClock(), on_news=lambda: None),
    ):
        pass
