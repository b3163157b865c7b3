"""What a service manager is told: ready, busy with what, alive, stopping.

systemd's protocol (sd_notify(3)): a datagram to the socket $NOTIFY_SOCKET; none: silence.
When something is worth telling is decided in `syncd.daemon`.
"""

import os
import socket

STATUS_CHARS_MAX = 200  # one line of `systemctl status`
WAIT_S_MAX = (
    1.0  # for a service manager that does not listen just now, when it must not miss a message
)


class Notifier:
    """One service manager, or none. Safe to use from several threads; it never raises.

    Status and watchdog never wait: the next one says it again.
    """

    def __init__(self, address: str | None = None) -> None:
        """address: that of the socket; None: $NOTIFY_SOCKET."""
        self._address = os.environ.get("NOTIFY_SOCKET", "") if address is None else address
        if self._address.startswith("@"):
            self._address = "\0" + self._address[1:]  # Linux's abstract sockets

    def ready(self) -> None:
        """Started, or done with a reload."""
        self._send("READY=1", wait_s=WAIT_S_MAX)

    def status(self, words: str) -> None:
        """One line for people."""
        self._send("STATUS=" + " ".join(words.split())[:STATUS_CHARS_MAX])

    def watchdog(self) -> None:
        """Progress was made just now."""
        self._send("WATCHDOG=1")

    def reloading(self, *, monotonic_s: float) -> None:
        """The configuration is read again; `ready` ends it. monotonic_s: by CLOCK_MONOTONIC."""
        message = f"RELOADING=1\nMONOTONIC_USEC={int(monotonic_s * 1_000_000)}"
        self._send(message, wait_s=WAIT_S_MAX)

    def stopping(self) -> None:
        """On the way out."""
        self._send("STOPPING=1", wait_s=WAIT_S_MAX)

    def _send(self, message: str, *, wait_s: float = 0.0) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(wait_s)
                channel.connect(self._address)
                channel.sendall(message.encode())
        except OSError:
            # A service manager that does not listen is no reason to stop: its watchdog acts.
            return
