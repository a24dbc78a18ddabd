"""fanotify(7) by ctypes, as far as filesystem errors go: Python has no call of its own for it.

    struct fanotify_event_metadata { u32 event_len; u8 vers, reserved; u16 metadata_len; u64 mask; s32 fd, pid; }
    struct fanotify_event_info_header { u8 info_type, pad; u16 len; }
    struct fanotify_event_info_error { header; s32 error; u32 error_count; }

linux/fanotify.h; the event itself: Documentation/admin-guide/filesystem-monitoring.rst.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from msgspec import Struct

from holdfast_agent.probe import Denied, Unsupported

_FAN_CLOEXEC, _FAN_NONBLOCK, _FAN_REPORT_FID = 0x1, 0x2, 0x200
_FAN_MARK_ADD, _FAN_MARK_FILESYSTEM = 0x1, 0x100
_FAN_FS_ERROR = 0x8000
_AT_FDCWD = -100
_INFO_FID, _INFO_ERROR = 1, 5
_EVENT = struct.Struct("=IBBHQii")
_HEADER = struct.Struct("=BBH")
_ERROR = struct.Struct("=iI")
_FSID = struct.Struct("=ii")
_BUFFER_BYTES = 1 << 16

RIGHT = (
    "to be told of filesystem errors by fanotify takes CAP_SYS_ADMIN, which is nearly all of root: a drop-in with "
    "AmbientCapabilities=CAP_SYS_ADMIN and CapabilityBoundingSet=CAP_SYS_ADMIN; without it `kernel_log` and "
    "`ext4_errors` see the same a little later"
)


class FilesystemError(Struct, frozen=True):
    """One report. Errors that come while one waits to be read are only counted."""

    fsid: int
    error: int
    """errno of the first one."""
    count: int


class ErrorWatch:
    """A fanotify group; its descriptor is readable when a marked filesystem met an error."""

    def __init__(self) -> None:
        """Raises `Unsupported` without fanotify or its error events (before 5.16), `Denied` without the right."""
        self._libc = ctypes.CDLL(None, use_errno=True)
        if not hasattr(self._libc, "fanotify_mark"):
            raise Unsupported("this system's C library has no fanotify")
        self._libc.fanotify_mark.argtypes = [
            ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p,
        ]  # fmt: skip
        flags = _FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_REPORT_FID
        self.descriptor: int = self._libc.fanotify_init(flags, os.O_RDONLY)
        if self.descriptor < 0:
            raise _refusal(ctypes.get_errno(), "fanotify_init")

    def close(self) -> None:
        os.close(self.descriptor)

    def mark(self, path: str) -> None:
        """Watch the filesystem of this path. Raises as the constructor, and OSError for the path's own trouble."""
        flags = _FAN_MARK_ADD | _FAN_MARK_FILESYSTEM
        if self._libc.fanotify_mark(self.descriptor, flags, _FAN_FS_ERROR, _AT_FDCWD, os.fsencode(path)) == 0:
            return
        code = ctypes.get_errno()
        if code in (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSYS):
            raise _refusal(code, "fanotify_mark")
        raise OSError(code, os.strerror(code), path)

    def errors(self) -> Iterator[FilesystemError]:
        """All that is there now."""
        while True:
            try:
                raw = os.read(self.descriptor, _BUFFER_BYTES)
            except BlockingIOError:
                return
            yield from parse_events(raw)


def parse_events(raw: bytes) -> Iterator[FilesystemError]:
    """The error events in what read(2) gave; events and records of other kinds are passed over."""
    while len(raw) >= _EVENT.size:
        length, _, _, metadata, mask, _, _ = _EVENT.unpack_from(raw)
        if length < _EVENT.size or length > len(raw):
            return
        if mask & _FAN_FS_ERROR:
            yield _error(raw[metadata:length])
        raw = raw[length:]


def _error(records: bytes) -> FilesystemError:
    fsid, error, count = 0, 0, 0
    while len(records) >= _HEADER.size:
        kind, _, length = _HEADER.unpack_from(records)
        if length < _HEADER.size or length > len(records):
            break
        body = records[_HEADER.size : length]
        if kind == _INFO_ERROR and len(body) >= _ERROR.size:
            error, count = _ERROR.unpack_from(body)
        elif kind == _INFO_FID and len(body) >= _FSID.size:
            fsid = fsid_of(*_FSID.unpack_from(body))
        records = records[length:]
    return FilesystemError(fsid, error, count)


def fsid_of(low: int, high: int) -> int:
    """As statvfs(3) gives it in f_fsid."""
    return ((high & 0xFFFFFFFF) << 32) | (low & 0xFFFFFFFF)


def _refusal(code: int, call: str) -> Denied | Unsupported:
    if code in (errno.EPERM, errno.EACCES):
        return Denied(RIGHT)
    if code in (errno.ENOSYS, errno.EINVAL):
        return Unsupported(f"{call}: {os.strerror(code)}; filesystem error events came with Linux 5.16")
    return Unsupported(f"{call}: {os.strerror(code)}")
