"""What a service's processes hold open for writing: by descriptors, and by shared mappings of the main one.

A descriptor knows what its name no longer does: the file was deleted (no name is left, but the process goes on writing), or a
mount was put over its folder, and the name leads to another file or nowhere (durability catalogue A-24, A-26; V14).
"""

import contextlib
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from msgspec import Struct

from holdfast_agent.probes.inside_root_linux import InsideRoot, mount_id
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.state_raw import OpenFile

DESCRIPTORS_MAX = 8000
"""For one service at one look."""
KEPT_MAX = 400
_WRITING = os.O_WRONLY | os.O_RDWR
_DELETED = " (deleted)"
_NO_FILES = ("/memfd:", "/dev/", "/SYSV", "/proc/", "/sys/", "/anon_hugepage")
_NAMELESS = re.compile(r".*/#\d+")
"""Made without a name (O_TMPFILE in open(2)): never meant to be kept."""
_SHARED_WRITTEN = re.compile(r" .w.s ")
_NO_SYNC = ("libeatmydata.so", "libnosync.so", "nosync.so", "libfsyncless.so")


class Held(Struct):
    """What was found of one service."""

    files: list[OpenFile]
    denied: bool = False
    cut: bool = False
    syncs_disabled_by: str = ""


def held_by(
    procfs: Path,
    pids: Collection[int],
    root: InsideRoot | None,
    mounts: Collection[int],
    hanging: Collection[int],
) -> Held:
    """The files that these processes hold open for writing.

    `root` and `mounts` (ids): the service's own view; without it nothing is called hidden. `hanging`: mounts that must not be
    asked. Processes and descriptors that vanish meanwhile are passed over.
    """
    held = Held([])
    left = DESCRIPTORS_MAX
    seen: set[tuple[str, int]] = set()
    for pid in pids:
        try:
            descriptors = os.listdir(procfs / str(pid) / "fd")
        except PermissionError:
            held.denied = True
            continue
        except OSError:
            continue
        if len(descriptors) > left:
            held.cut = True
        for descriptor in descriptors[:left]:
            with contextlib.suppress(OSError):
                file = _open_file(procfs / str(pid), pid, int(descriptor), root, mounts, hanging)
                if file is not None and (file.path, file.mount_id) not in seen:
                    seen.add((file.path, file.mount_id))
                    held.files.append(file)
        left = max(left - len(descriptors), 0)
    held.files.sort(key=lambda file: (not file.shadowed, not file.deleted, -file.bytes))
    held.cut = held.cut or len(held.files) > KEPT_MAX
    del held.files[KEPT_MAX:]
    return held


def _open_file(
    process: Path,
    pid: int,
    descriptor: int,
    root: InsideRoot | None,
    mounts: Collection[int],
    hanging: Collection[int],
) -> OpenFile | None:
    link = process / "fd" / str(descriptor)
    path = os.readlink(link)
    if not path.startswith("/") or path.startswith(_NO_FILES):
        return None
    about = read_small(f"{process}/fdinfo/{descriptor}")
    if not _flags(about) & _WRITING:
        return None
    on = mount_id(about)
    if on in hanging:
        return OpenFile(path=path, process=pid, descriptor=descriptor, mount_id=on)
    found = os.stat(link)
    if not stat.S_ISREG(found.st_mode):
        return None
    deleted = path.endswith(_DELETED) and found.st_nlink == 0
    path = path.removesuffix(_DELETED) if deleted else path
    if deleted and _NAMELESS.fullmatch(path):
        return None
    # A descriptor that was opened in another namespace is on a mount that this one does not list: nothing hides it here.
    shadowed = root is not None and not deleted and on in mounts and not root.same_file(path, on)
    return OpenFile(
        path=path,
        process=pid,
        descriptor=descriptor,
        mount_id=on,
        deleted=deleted,
        shadowed=shadowed,
        bytes=found.st_size,
    )


def _flags(fdinfo: str) -> int:
    return next((int(line[6:], 8) for line in fdinfo.splitlines() if line.startswith("flags:")), 0)


def mapped_by(procfs: Path, pid: int) -> tuple[list[str], str]:
    """Files that a process may write through shared mappings, and the library in it that turns fsync off, if any."""
    try:
        text = read_small(f"{procfs}/{pid}/maps")
    except OSError:
        return [], ""
    written: dict[str, None] = {}
    library = ""
    if not (_SHARED_WRITTEN.search(text) or any(name in text for name in _NO_SYNC)):
        return [], ""  # nearly all processes: a hundred lines each that need not be taken apart
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6:
            continue
        path = fields[5]
        if path.startswith("/") and path.rpartition("/")[2].startswith(_NO_SYNC):
            library = path.rpartition("/")[2]
        shared = fields[1][1:] in ("w-s", "wxs")
        if shared and path.startswith("/") and not path.startswith(_NO_FILES) and not path.endswith(_DELETED):
            written[path] = None
    return list(written), library
