"""The kernel's announcements of devices (uevents), from netlink.

A message is `ACTION@DEVPATH` and then `KEY=VALUE` fields, each ended by a NUL (lib/kobject_uevent.c). Everybody may
listen to the kernel's group; udev's own go to another one. In a network namespace that is not the machine's, as in a container,
nothing arrives.
"""

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator

from holdfast_agent.errors import Denied, Unsupported

_PROTOCOL = 15
"""NETLINK_KOBJECT_UEVENT (linux/netlink.h)."""
_KERNEL_GROUP = 1
_BYTES = 16_384
"""UEVENT_BUFFER_SIZE is 2048; the rest is room."""
_AT_ONCE = 64
"""Messages taken before others get their turn."""

Uevent = dict[str, str]
"""ACTION, DEVPATH, SUBSYSTEM and what else the kernel says."""


def parse_uevent(message: bytes) -> Uevent | None:
    """None for what is no message of the kernel's (udev's begin with `libudev`)."""
    head, *fields = message.split(b"\0")
    if b"@" not in head:
        return None
    pairs = (field.decode("utf-8", "replace").partition("=") for field in fields if b"=" in field)
    return {key: value for key, _, value in pairs}


@contextlib.contextmanager
def uevents() -> Iterator[socket.socket]:
    """A socket that is readable when something was announced. Raises Denied or Unsupported."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has uevents")
    try:
        opened = socket.socket(
            socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _PROTOCOL
        )
    except PermissionError:
        raise Denied("netlink is forbidden; the unit needs AF_NETLINK in RestrictAddressFamilies=") from None
    except OSError as error:
        raise Unsupported(
            f"no netlink here: {error.strerror}; does RestrictAddressFamilies= have AF_NETLINK?"
        ) from None
    with opened:
        opened.bind((0, _KERNEL_GROUP))
        yield opened


def take(listener: socket.socket, on_event: Callable[[Uevent], None]) -> None:
    """Hand over what waits. What did not fit into the socket's buffer is lost, and `on_event` gets an empty message."""
    for _ in range(_AT_ONCE):
        try:
            message, sender = listener.recvfrom(_BYTES)
        except BlockingIOError:
            return
        except OSError:
            on_event({})  # ENOBUFS: something was announced that nobody will ever read
            continue
        # Only the kernel is port 0; another process could send to us as well.
        if sender[0] == 0 and (found := parse_uevent(message)) is not None:
            on_event(found)
