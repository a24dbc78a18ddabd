"""What systemd is told: sd_notify(3), one datagram per message. Outside systemd everything here does nothing.

Nothing here waits. A sender blocks while the receiver's queue is full (unix(7)), and PID 1 is slow on just the
machines whose reports are needed. A change of state that found the queue full goes before the next message.
"""

import socket
import sys
import time
from collections import deque
from collections.abc import Mapping

_OWED_MAX = 8
"""Reloads can pile up while systemd reads nothing; the newest say how things are."""


class ServiceNotify:
    """The service manager's ear. Made from the environment once, at the composition root."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the null byte of the abstract namespace (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        usec = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(usec) / 1e6 if self._address and usec.isdigit() else 0.0
        """How long systemd waits for a ping before it restarts us; 0 when it does not."""
        self._status = ""
        self._owed: deque[str] = deque(maxlen=_OWED_MAX)

    def ready(self) -> None:
        self._announce("READY=1")

    def reloading(self) -> None:
        """`ready` must follow. systemd wants the time with it (Type=notify-reload, systemd 253)."""
        self._announce(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._announce("STOPPING=1")

    def alive(self) -> None:
        self._flush()
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`; sent only when it changed."""
        self._flush()
        if text != self._status and self._send(f"STATUS={text}"):
            self._status = text

    def _announce(self, message: str) -> None:
        self._owed.append(message)
        self._flush()

    def _flush(self) -> None:
        while self._owed and self._send(self._owed[0]):
            self._owed.popleft()

    def _send(self, message: str) -> bool:
        """Whether there is no use in sending it again."""
        if sys.platform == "win32" or not self._address:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.setblocking(False)
            try:
                out.sendto(message.encode(), self._address)
            except BlockingIOError:
                return False
            except OSError:
                pass  # nobody listens; the watchdog is then not waiting either
        return True
