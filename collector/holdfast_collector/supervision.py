"""What the service manager is told: sd_notify(3), the datagram protocol of systemd. Without a manager, nothing.

READY=1        listening, and the state restored: the collector works, with or without a broker
STATUS=…       one line for `systemctl status`
WATCHDOG=1     the loop turns and the store's thread answers
RELOADING=1    the configuration is being read again
STOPPING=1     the end has begun
"""

import os
import socket
import time
from collections.abc import Mapping


class Supervisor:
    """The service manager's end of the line."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._watchdog_seconds = 0.0
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        if for_us and environment.get("WATCHDOG_USEC", "").isdecimal():
            self._watchdog_seconds = int(environment["WATCHDOG_USEC"]) / 1e6

    @property
    def ping_seconds(self) -> float:
        """How often to ping: half of what the manager waits for (sd_watchdog_enabled(3)); 10 s when it does not."""
        return self._watchdog_seconds / 2 if self._watchdog_seconds else 10.0

    def ready(self, status: str) -> None:
        """The collector works, or works again after a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for people."""
        self._send(f"STATUS={status}")

    def ping(self) -> None:
        """Nothing hangs."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # An abstract socket is written with an @ (sd_notify(3)).
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.sendto(message.encode(), address)
        except OSError:
            # The manager is gone or its socket is not ours to write to; it will notice by itself.
            return
