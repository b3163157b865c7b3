"""What the service manager hears."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.notify import STATUS_CHARS_MAX, Notifier


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """The address of a service manager, and its end of the line."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(address)
        end.settimeout(5.0)
        yield address, end


def test_each_message_is_one_datagram_in_the_words_of_the_protocol(
    listener: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, end = listener
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notifier = Notifier()
    notifier.ready()
    notifier.status("reading\ncustomers")
    notifier.watchdog()
    notifier.reloading(monotonic_s=12.5)
    notifier.stopping()
    assert [end.recv(4096) for _ in range(5)] == [
        b"READY=1",
        b"STATUS=reading customers",  # a line break would begin another assignment
        b"WATCHDOG=1",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"STOPPING=1",
    ]


def test_status_is_one_short_line(listener: tuple[str, socket.socket]) -> None:
    address, end = listener
    Notifier(address).status("x" * 10_000)
    assert len(end.recv(65536)) == len("STATUS=") + STATUS_CHARS_MAX


def test_abstract_socket_is_reached(tmp_path: Path) -> None:
    name = f"fluenzr-syncd-{tmp_path.name}-{id(tmp_path)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind("\0" + name)
        end.settimeout(5.0)
        Notifier("@" + name).ready()
        assert end.recv(100) == b"READY=1"


def test_nobody_listens_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Notifier(str(tmp_path / "gone")).ready()
    Notifier("x" * 500).ready()  # longer than an address can be
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready()


def test_manager_that_does_not_read_holds_up_no_work(listener: tuple[str, socket.socket]) -> None:
    """The kernel keeps a few messages; the others are dropped at once."""
    address, end = listener
    notifier = Notifier(address)
    began = time.monotonic()
    for _ in range(1000):
        notifier.watchdog()
    assert time.monotonic() - began < 5.0
    assert end.recv(100) == b"WATCHDOG=1"
