"""A look beneath a mountpoint without unmounting anything: open_tree(2) with OPEN_TREE_CLONE.

The call gives a descriptor of a detached copy of one mount, without the mounts upon it. It appears in no namespace and
is gone when the descriptor is closed, so neither a private namespace nor a place to mount it is needed (fs/namespace.c,
since 5.2). It takes CAP_SYS_ADMIN.
"""

import contextlib
import ctypes
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator

from msgspec import Struct, field

from holdfast_agent.probe import Denied, Unsupported

_OPEN_TREE = 428
"""The same on every architecture but alpha: calls since 5.1 share their numbers."""
_OPEN_TREE_CLONE = 1
_AT_FDCWD = -100
ENTRIES_MAX = 10_000
SECONDS_MAX = 2.0
NAMES_MAX = 5
KEPT = frozenset(
    {"lost+found", ".keep", ".gitkeep", ".placeholder", ".nobackup", ".stfolder", "CACHEDIR.TAG"}
)
"""What mkfs and administrators put beneath mountpoints on purpose."""


class Hidden(Struct, frozen=True, kw_only=True):
    """What lies beneath a mountpoint."""

    entries: int = 0
    """Everything but directories, and what is left there on purpose."""
    bytes: int = 0
    names: list[str] = field(default_factory=list)
    """The first few, relative to the mountpoint."""
    more: bool = False
    """The count stopped at `ENTRIES_MAX` or `SECONDS_MAX`."""


@contextlib.contextmanager
def detached_mount(path: str) -> Iterator[int]:
    """A descriptor of the root directory of the mount at `path`, without what is mounted upon it.

    Raises `Denied` without the right, `Unsupported` on older kernels, OSError for the path's own trouble.
    """
    if sys.platform != "linux":
        raise Unsupported("only Linux has open_tree")
    libc = ctypes.CDLL(None, use_errno=True)
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    descriptor = libc.syscall(_OPEN_TREE, _AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), flags)
    if descriptor < 0:
        code = ctypes.get_errno()
        if code == errno.ENOSYS:
            raise Unsupported("to look beneath a mountpoint takes open_tree(2), which came with Linux 5.2")
        if code == errno.EPERM:
            raise Denied(
                "to look beneath a mountpoint takes CAP_SYS_ADMIN, which is nearly all of root: a drop-in with "
                "AmbientCapabilities=CAP_SYS_ADMIN CAP_DAC_READ_SEARCH, the same in CapabilityBoundingSet=, and "
                "SystemCallFilter=open_tree; or run `holdfast-agent once` as root now and then"
            )
        raise OSError(code, os.strerror(code), path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def hidden_below(root: int, place: str) -> Hidden:
    """Count what lies in the directory `place`, relative to the descriptor; nothing is followed or opened but folders."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has open_tree")
    entries, size, names, deadline = 0, 0, list[str](), time.monotonic() + SECONDS_MAX
    seen = 0
    for folder, folders, files, descriptor in os.fwalk(place, dir_fd=root):
        folders[:] = sorted(name for name in folders if name not in KEPT)
        for name in sorted(files):
            seen += 1
            if seen > ENTRIES_MAX or time.monotonic() > deadline:
                return Hidden(entries=entries, bytes=size, names=names, more=True)
            if name in KEPT:
                continue
            entries += 1
            if len(names) < NAMES_MAX:
                names.append(os.path.relpath(os.path.join(folder, name), place))
            with contextlib.suppress(OSError):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                size += found.st_size if stat.S_ISREG(found.st_mode) else 0
        seen += len(folders)
        if seen > ENTRIES_MAX:
            return Hidden(entries=entries, bytes=size, names=names, more=True)
    return Hidden(entries=entries, bytes=size, names=names)
