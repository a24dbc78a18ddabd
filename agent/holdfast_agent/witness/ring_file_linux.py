"""A chain's file: made once, read from the medium, written one slot at a time.

Nothing is held open between two calls: an open file, even a folder's descriptor, makes `umount` fail with EBUSY. So
each append opens the file anew and looks whether it is still the one that was read (device, inode and mount), and
whether the chain and its newest record are still in it: a volume that was exchanged or a file that was written over in
between must be read before it is written.

O_DIRECT goes past the page cache: what is read comes from the device, and what is written is not read back from memory
by mistake. Its buffers must be aligned (open(2)); anonymous mappings are. Where a filesystem has no O_DIRECT, the cache
is asked to forget (POSIX_FADV_DONTNEED) and the reading is called `buffered`, for it is a request, not an order.

The ring is made of written zeros, not of fallocate(2): later overwrites then change no metadata of the file, so that an
append measures the device, and a full disk hits others first. Copy-on-write filesystems allocate all the same.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import stat
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from msgspec import Struct

from holdfast_agent.core.chain import (
    SLOT_BYTES,
    SLOTS_MAX,
    ZEROS,
    ChainHeader,
    decode_header,
    decode_record,
    encode_header,
    ring_bytes,
    slot_hash,
    slot_of,
)
from holdfast_agent.core.chain_reading import ChainFound, ChainReading
from holdfast_agent.durable_file import sync_folder
from holdfast_agent.errors import Unsupported

ReadMode = Literal["direct", "buffered"]
CHUNK_SLOTS = 64
_AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, _STX_MNT_ID = 0x1000, 0x4000, 144
"""statx(2); the last is the offset of stx_mnt_id in struct statx."""
ROOM_FACTOR = 4
"""A ring is only made where four of its kind have room: it must not be what fills a disk."""


class Place(Struct, frozen=True):
    """Which file it is: another one at the same path is another volume's, or of another mount."""

    device: int
    inode: int
    mount_id: int


class RingRead(Struct, frozen=True, kw_only=True):
    """A chain's file as it was read."""

    found: ChainFound
    place: Place
    mode: ReadMode
    cache_differs: bool
    flush_errno: int = 0
    """Why what was written before could not be flushed before it was read; 0: it was."""


class RingMoved(Exception):
    """The file at the path is not the one that was read, does not hold what was, or there is none any more."""


class AppendFailed(Exception):
    """A record may or may not be on the medium; nobody may be told that it is."""

    def __init__(self, stage: str, code: int) -> None:
        super().__init__(f"{error_name(code)} at {stage}: {os.strerror(code)}")
        self.stage = stage
        self.errno = code


def error_name(code: int) -> str:
    """`EIO` for 5."""
    return errno.errorcode.get(code, str(code))


def make_ring(path: Path, header: ChainHeader, base: Path) -> None:
    """Make a chain's file, whole or not at all. On return its name survives a power cut, up to the folder `base`.

    Raises OSError.
    """
    if sys.platform != "linux":
        raise Unsupported("chains are made on Linux only")
    folder = path.parent
    size = ring_bytes(header.slots)
    room = os.statvfs(base)
    if room.f_bavail * room.f_frsize < ROOM_FACTOR * size:
        raise OSError(errno.ENOSPC, f"less than {ROOM_FACTOR * size >> 20} MiB are free")
    folder.parent.mkdir(mode=0o755, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    try:
        with fresh.open("wb") as file:
            file.write(encode_header(header))
            for _ in range(header.slots):
                file.write(ZEROS)
            file.flush()
            os.fsync(file.fileno())
        os.rename(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    within = folder
    while True:
        sync_folder(within)
        if within in (base, within.parent):
            break
        within = within.parent


def read_ring(path: Path, remembered_chain_id: str = "") -> RingRead:
    """Read the file from the medium and, where that is possible, through the cache too.

    First it is flushed: an agent that was killed before its fdatasync came back may have left a record, or a renamed
    file beside it, that is read now and that nobody was promised.

    Raises OSError: FileNotFoundError when there is none, EIO when not one slot can be read.
    """
    if sys.platform != "linux":
        raise Unsupported("chains are read on Linux only")
    with _opened(path) as (direct, mode), contextlib.ExitStack() as held:
        status = os.fstat(direct)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is no regular file")
        flush_errno = _flushed(direct, path.parent)
        cached = held.enter_context(_descriptor(path, os.O_RDONLY)) if mode == "direct" else None
        slots = _slots(direct, status.st_size)
        reading = ChainReading(slots, remembered_chain_id)
        differs = False
        readable = status.st_size < SLOT_BYTES  # of a file cut to nothing the disk gave what there is
        for first in range(0, slots + 1, CHUNK_SLOTS):
            count = min(CHUNK_SLOTS, slots + 1 - first)
            medium = _read_slots(direct, first, count)
            readable = readable or any(content is not None for content in medium)
            for slot, content in enumerate(medium, first):
                reading.take(slot, content)
            if cached is not None:
                through = _read_slots(cached, first, count)
                differs = differs or any(map(_hides, through, medium))
        if not readable:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        for descriptor in filter(None, (cached, direct)):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return RingRead(
            found=reading.found(),
            place=_place(direct, status),
            mode=mode,
            cache_differs=differs,
            flush_errno=flush_errno,
        )


def _flushed(descriptor: int, folder: Path) -> int:
    """Flush a ring's file and its folder; the errno, 0 where both went well."""
    if sys.platform == "win32":
        raise Unsupported("only POSIX has fdatasync")
    try:
        os.fdatasync(descriptor)
        sync_folder(folder)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


class RingAppender:
    """Writes slots of one chain's file, through one aligned buffer."""

    def __init__(self, path: Path, read: RingRead) -> None:
        """`read`: of the file at `path`."""
        self._path = path
        self._place = read.place
        self._mode = read.mode
        self._chain_id = read.found.chain_id
        self._slots = read.found.slots
        self._buffer = mmap.mmap(-1, SLOT_BYTES)

    def append(self, slot: int, content: bytes, previous_seq: int, previous_hash: bytes) -> float:
        """Write and synchronise one slot; the seconds that took. `previous_…`: the newest record that must be there
        already; 0: none. Raises AppendFailed, or RingMoved: nothing written."""
        if sys.platform != "linux":
            raise Unsupported("chains are written on Linux only")
        self._buffer[:] = content
        stage = "open"
        flags = os.O_RDWR | (os.O_DIRECT if self._mode == "direct" else 0)
        try:
            with _descriptor(self._path, flags) as descriptor:
                status = os.fstat(descriptor)
                if _place(descriptor, status) != self._place or status.st_size < ring_bytes(self._slots):
                    raise RingMoved(str(self._path))
                stage = "read"
                if not self._holds(descriptor, previous_seq, previous_hash):
                    raise RingMoved(str(self._path))
                stage = "write"
                began = time.monotonic()
                if os.pwrite(descriptor, self._buffer, slot * SLOT_BYTES) != SLOT_BYTES:
                    raise OSError(errno.EIO, "a short write")
                stage = "fdatasync"
                os.fdatasync(descriptor)
                return time.monotonic() - began
        except FileNotFoundError:
            raise RingMoved(str(self._path)) from None
        except OSError as error:
            raise AppendFailed(stage, error.errno or errno.EIO) from None

    def _holds(self, descriptor: int, seq: int, digest: bytes) -> bool:
        """Whether the file still holds this chain and this record of it: in place, too, a file can be written over.

        A slot that the disk does not give back says nothing here: the write that follows tells how the disk is.
        """
        first = _read_slots(descriptor, 0, 1)[0]
        header = decode_header(first) if first is not None else None
        if first is not None and (header is None or header.chain_id != self._chain_id):
            return False
        newest = _read_slots(descriptor, slot_of(seq, self._slots), 1)[0] if seq else None
        return newest is None or slot_hash(newest) == digest


def freeze_ring(path: Path, chain_id: str) -> Path:
    """Put a chain aside as evidence; where it lies now. Raises OSError."""
    aside = path.with_name(f"{path.name}.{chain_id or 'unknown'}.frozen")
    os.rename(path, aside)
    sync_folder(path.parent)
    return aside


def mount_holding(path: Path, number: str) -> int:
    """The id of the mount that `path` is on, as the agent sees it, if that is of the filesystem `number`; else 0.

    A mountpoint whose mount is gone is a folder of the volume above, where another volume's chain must not be begun.
    Raises OSError.
    """
    if sys.platform != "linux":
        raise Unsupported("only Linux numbers its mounts")
    with _descriptor(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        mount_id, unique = _listed_mount_id(descriptor), _mount_id(descriptor)
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        fields = line.split(" ", 3)
        if fields[0] == str(mount_id):
            return unique if fields[2] == number else 0
    return 0


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def sync_filesystem(path: Path) -> None:
    """syncfs(2) on a fresh descriptor. Raises OSError: some file of this filesystem lost data since somebody last asked
    (kernels since 5.8)."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has syncfs")
    with _descriptor(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        if _libc().syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))


@contextlib.contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    if sys.platform == "win32":
        raise Unsupported("only POSIX has these flags")
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[int, ReadMode]]:
    """The file for reading past the cache, or as near to that as the filesystem lets us."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has O_DIRECT")
    if takes_direct_reads(path):
        with _descriptor(path, os.O_RDONLY | os.O_DIRECT) as descriptor:
            yield descriptor, "direct"
        return
    with _descriptor(path, os.O_RDONLY) as descriptor:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        yield descriptor, "buffered"


def takes_direct_reads(path: Path) -> bool:
    """EINVAL, at open or at the first read, is how a filesystem says that it does not; any other error is the disk's."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has O_DIRECT")
    try:
        with _descriptor(path, os.O_RDONLY | os.O_DIRECT) as descriptor, mmap.mmap(-1, SLOT_BYTES) as buffer:
            try:
                os.preadv(descriptor, [buffer], 0)
            except OSError as error:
                return error.errno != errno.EINVAL
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _slots(descriptor: int, size: int) -> int:
    """By the header; by the file's size where that is not whole."""
    first = _read_slots(descriptor, 0, 1)[0]
    header = decode_header(first) if first is not None else None
    by_size = max(1, size // SLOT_BYTES - 1)
    return min(header.slots if header is not None else by_size, SLOTS_MAX)


def _read_slots(descriptor: int, first: int, count: int) -> list[bytes | None]:
    """The slots' bytes; None for one that cannot be read or is not there. One unreadable slot hides no other."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has preadv")
    with mmap.mmap(-1, count * SLOT_BYTES) as buffer:
        try:
            got = os.preadv(descriptor, [buffer], first * SLOT_BYTES)
        except OSError as error:
            if error.errno not in (errno.EIO, errno.EILSEQ, errno.EBADMSG, errno.EUCLEAN, errno.ENODATA):
                raise
            got = 0
        content = buffer[: got - got % SLOT_BYTES]
    slots: list[bytes | None] = [content[at : at + SLOT_BYTES] for at in range(0, len(content), SLOT_BYTES)]
    if len(slots) == count:
        return slots
    if count == 1:
        return [None]
    # Before a block that cannot be read btrfs ends the call early, without an error: what follows may be whole.
    return slots + [_read_slots(descriptor, first + each, 1)[0] for each in range(len(slots), count)]


def _hides(through_cache: bytes | None, on_medium: bytes | None) -> bool:
    """Whether the cache shows a whole slot that the medium does not have."""
    if through_cache is None or through_cache == on_medium:
        return False
    return decode_record(through_cache) is not None or decode_header(through_cache) is not None


def _place(descriptor: int, status: os.stat_result) -> Place:
    return Place(status.st_dev, status.st_ino, _mount_id(descriptor))


def _mount_id(descriptor: int) -> int:
    """Of the mount that an open file is on: the one that is never used again, where the kernel has it (6.8)."""
    answer = ctypes.create_string_buffer(256)
    if _libc().statx(descriptor, b"", _AT_EMPTY_PATH, _STATX_MNT_ID_UNIQUE, answer) == 0:
        mask = int.from_bytes(answer.raw[:4], sys.byteorder)
        if mask & _STATX_MNT_ID_UNIQUE:
            return int.from_bytes(answer.raw[_STX_MNT_ID : _STX_MNT_ID + 8], sys.byteorder)
    return _listed_mount_id(descriptor)


def _listed_mount_id(descriptor: int) -> int:
    """As in mountinfo, by `mnt_id` of /proc/PID/fdinfo (proc_pid_fdinfo(5)); a mount made later may get the same."""
    try:
        lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    return next((int(line[7:]) for line in lines if line.startswith("mnt_id:")), 0)
