"""An open /dev/kmsg: every record once, and the holes between them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from holdfast_agent.probe import Denied, Unsupported
from holdfast_agent.probes.kmsg import KmsgRecord, parse_record

RECORD_BYTES_MAX = 8192
"""No record is longer (CONSOLE_EXT_LOG_MAX, later PRINTK_MESSAGE_MAX); read(2) refuses a buffer that is too small."""


class KmsgGap(Struct, frozen=True):
    """Records that were overwritten before they were read."""

    lost: int
    next_seq: int
    """The first record that could be read again."""


def open_kmsg(path: Path, *, at_end: bool = False) -> int:
    """A non-blocking descriptor at the oldest record, or behind the newest one.

    Raises `Unsupported` without such a device and `Denied` without the right to read it.
    """
    if sys.platform != "linux":
        raise Unsupported("only Linux has /dev/kmsg")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Unsupported(f"there is no {path}: a container does not see its host's kernel log") from None
    except PermissionError:
        raise Denied(
            f"{path} may not be read; grant CAP_SYSLOG (AmbientCapabilities=CAP_SYSLOG in the unit), "
            "or set kernel.dmesg_restrict=0"
        ) from None
    if os.path.samestat(os.fstat(descriptor), os.stat(os.devnull)):
        os.close(descriptor)  # nothing would ever be read, and epoll(7) refuses to wait for it
        raise Unsupported(f"{path} is {os.devnull}: a container does not see its host's kernel log")
    try:
        os.lseek(descriptor, 0, os.SEEK_END if at_end else os.SEEK_SET)
    except OSError as error:
        os.close(descriptor)
        raise Unsupported(f"{path} is no kernel log: {error.strerror}") from None
    return descriptor


class KmsgReader:
    """Reads an open /dev/kmsg to its end, again and again.

    `after` is the newest record already known in this boot, -1 for none: earlier ones are passed over, and a hole
    behind it is reported. None when nobody has read in this boot: whatever is there is news, and no hole is known.
    """

    def __init__(self, descriptor: int, after: int | None) -> None:
        self._descriptor = descriptor
        self._expected = None if after is None else after + 1

    @property
    def newest(self) -> int:
        """The sequence number of the newest record that was read or skipped; -1 before the first."""
        return -1 if self._expected is None else self._expected - 1

    def read_available(self) -> Iterator[KmsgRecord | KmsgGap]:
        """Everything that is there now, in order. Other OSErrors than a full or an empty log's pass through."""
        while True:
            try:
                raw = os.read(self._descriptor, RECORD_BYTES_MAX)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # overwritten under our feet: the next read goes on at the oldest record still there
            if not raw:
                return
            record = parse_record(raw)
            if record is not None:
                yield from self._in_order(record)

    def _in_order(self, record: KmsgRecord) -> Iterator[KmsgRecord | KmsgGap]:
        expected = self._expected
        if expected is not None and record.seq < expected:
            return
        self._expected = record.seq + 1
        if expected is not None and record.seq > expected:
            yield KmsgGap(record.seq - expected, record.seq)
        yield record
