"""Records of /dev/kmsg: bytes → what the kernel said, where and when.

One read(2) gives one record (Documentation/ABI/testing/dev-kmsg):

    4,1234,98765432,-,caller=T17;EXT4-fs (sda1): recovery complete
     SUBSYSTEM=block
     DEVICE=b8:1

priority and facility, sequence number, microseconds since boot, flag; then the text, its non-printable bytes as
`\\xNN`; then lines of a dictionary, each behind one space.

Only facility 0 is the kernel's own: whatever user space writes into /dev/kmsg is put into another facility by the
kernel (`devkmsg_write` in kernel/printk/printk.c), so nobody can forge a kernel line.
"""

import re

from msgspec import Struct, field

FACILITY_KERNEL = 0

_ESCAPED = re.compile(rb"\\x([0-9a-fA-F]{2})")


class KmsgRecord(Struct, frozen=True, kw_only=True):
    """One record of the kernel log."""

    seq: int
    """Counts records from boot; a hole means records were overwritten unread."""
    usec: int
    """When, in microseconds of the clock that printk uses: since boot, time in suspend not included."""
    level: int
    """0 (emergency) to 7 (debug), as in syslog(2)."""
    facility: int
    fragment: bool = False
    """The record continues the text of the one before (`KERN_CONT` that the kernel could not merge)."""
    text: str
    dictionary: dict[str, str] = field(default_factory=dict)

    @property
    def from_kernel(self) -> bool:
        return self.facility == FACILITY_KERNEL


def parse_record(raw: bytes) -> KmsgRecord | None:
    """The record in `raw`, or None when it is none: a kernel that changes the format must not end the watch."""
    prefix, semicolon, rest = raw.partition(b";")
    fields = prefix.split(b",")
    if not semicolon or len(fields) < 4:
        return None
    try:
        priority, seq, usec = int(fields[0]), int(fields[1]), int(fields[2])
    except ValueError:
        return None
    text, *lines = rest.rstrip(b"\n").split(b"\n")
    return KmsgRecord(
        seq=seq,
        usec=usec,
        level=priority & 7,
        facility=priority >> 3,
        fragment=fields[3] == b"c",
        text=_decode(text),
        dictionary=dict(_dictionary(lines)),
    )


def _dictionary(lines: list[bytes]) -> list[tuple[str, str]]:
    found = []
    for line in lines:
        key, equals, value = line.strip().partition(b"=")
        if equals:
            found.append((_decode(key), _decode(value)))
    return found


def _decode(raw: bytes) -> str:
    if b"\\x" in raw:
        raw = _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), raw)
    return raw.decode("utf-8", "replace")
