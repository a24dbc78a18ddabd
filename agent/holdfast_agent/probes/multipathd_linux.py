"""Asks multipathd over its socket, as `multipathd show …` does.

A question is its length (the machine's size_t), then the text with a closing NUL; the answer likewise (libmpathcmd,
mpath_cmd.c). Users other than root may ask to be shown things and nothing else (multipathd(8)). The socket is in the
abstract namespace; since 0.11 there is one in /run too.
"""

import socket
import struct
import sys
from pathlib import Path

from holdfast_agent.errors import Unsupported

ABSTRACT = "\0/org/kernel/linux/storage/multipathd"
PATHS = ("run/multipathd.socket",)
_LENGTH = struct.Struct("@N")
_REPLY_BYTES_MAX = 4_000_000
_ANSWER_SECONDS = 4.0
"""As libmpathcmd waits (DEFAULT_REPLY_TIMEOUT)."""


def show_maps(rootfs: Path, abstract: str = ABSTRACT) -> str | None:
    """All maps as JSON; None when no multipathd runs. Raises OSError when it does not answer, or not as it should."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has multipathd")
    for address in (abstract, *(str(rootfs / path) for path in PATHS)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            try:
                connection.connect(address)
            except (ConnectionRefusedError, FileNotFoundError):
                continue
            return _asked(connection, "show maps json")
    return None


def _asked(connection: socket.socket, question: str) -> str:
    text = question.encode() + b"\0"
    connection.sendall(_LENGTH.pack(len(text)) + text)
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if length > _REPLY_BYTES_MAX:
        raise OSError(f"multipathd announces an answer of {length} bytes")
    return _exactly(connection, length).rstrip(b"\0").decode("utf-8", "replace")


def _exactly(connection: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(min(65536, length - len(parts)))
        if not part:
            raise OSError("multipathd hung up in the middle of its answer")
        parts += part
    return bytes(parts)
