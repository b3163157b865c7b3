"""What a service manager is told: ready, busy with what, alive, stopping.

systemd's protocol (sd_notify(3)): a datagram to the socket $NOTIFY_SOCKET; none: silence.
When something is worth telling is decided in `syncd.daemon`.
"""

import os
import socket

STATUS_CHARS_MAX = 200  # one line of `systemctl status`


class Notifier:
    """One service manager, or none. Safe to use from several threads; it never raises."""

    def __init__(self, address: str | None = None) -> None:
        """address: that of the socket; None: $NOTIFY_SOCKET."""
        self._address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # Linux's abstract sockets

    def ready(self) -> None:
        """Started, or done with a reload."""
        self._send("READY=1")

    def status(self, words: str) -> None:
        """One line for people."""
        self._send("STATUS=" + " ".join(words.split())[:STATUS_CHARS_MAX])

    def watchdog(self) -> None:
        """Progress was made just now."""
        self._send("WATCHDOG=1")

    def reloading(self, *, monotonic_s: float) -> None:
        """The configuration is read again; `ready` ends it. monotonic_s: by CLOCK_MONOTONIC."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic_s * 1_000_000)}")

    def stopping(self) -> None:
        """On the way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(1.0)
                channel.connect(self._address)
                channel.sendall(message.encode())
        except OSError:
            # A service manager that does not listen is no reason to stop: its watchdog acts.
            return
