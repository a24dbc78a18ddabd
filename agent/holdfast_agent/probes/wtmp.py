"""Records of wtmp: when the machine booted, and whether it was shut down in between (utmp(5), glibc's bits/utmp.h).

Only the two kinds that systemd-update-utmp and sysvinit write for the machine itself are kept.
"""

import struct

from msgspec import Struct

_RUN_LEVEL, _BOOT_TIME = 1, 2
# type, pid, line, id, user, host, exit status, session, seconds, …: 384 bytes where glibc keeps 32-bit times for the
# sake of old programs (x86, ppc64, s390x), 400 where it never had to (aarch64, riscv64).
_COMPAT = struct.Struct("<h2xi32s4s32s256s4siii16s20s")
_NATIVE = struct.Struct("<h2xi32s4s32s256s4sqqq16s20s4x")
RECORD_BYTES = {384: _COMPAT, 400: _NATIVE}


class WtmpRecord(Struct, frozen=True):
    """The machine came up or went down."""

    kind: str
    """`boot` or `shutdown`."""
    at: float


def record_bytes(machine: str) -> int:
    """The size of a record on this architecture (`uname -m`)."""
    return 384 if machine.startswith(("x86", "i", "ppc", "powerpc", "s390", "mips", "sparc", "arm")) else 400


def parse_wtmp(data: bytes, size: int) -> list[WtmpRecord]:
    """The machine's own records in `data`, whose records have `size` bytes, oldest first."""
    layout = RECORD_BYTES[size]
    assert layout.size == size
    found = []
    for fields in layout.iter_unpack(data[len(data) % size :]):
        kind, user, seconds = fields[0], fields[4].rstrip(b"\0"), fields[8]
        if kind == _BOOT_TIME and user == b"reboot":
            found.append(WtmpRecord("boot", float(seconds)))
        elif kind == _RUN_LEVEL and user == b"shutdown":
            found.append(WtmpRecord("shutdown", float(seconds)))
    return found
