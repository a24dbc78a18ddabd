"""Paths as one process sees them: followed component by component inside its root, to the mount they end on.

The name of a path says nothing about where it leads: a service may have mounts of its own (PrivateTmp=, BindPaths=, a
container), and links on the way may be absolute, which to the kernel means the root of whoever follows them. So every
component is opened with O_PATH below /proc/PID/root, and a link starts anew from there. The mount is the `mnt_id` of
the descriptor (proc_pid_fdinfo(5)), which mountinfo lists; st_dev would be wrong on btrfs, where subvolumes have
numbers that mountinfo does not show.

Nothing here waits for another machine: a component that is a mountpoint of a network filesystem, of FUSE or of
autofs is not touched.
"""

import contextlib
import os
import stat
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from msgspec import Struct

from holdfast_agent.probe import Unsupported
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.state_raw import REFUSED, Place

_LINKS_MAX = 40
"""As the kernel's own limit (path_resolution(7))."""
_TEXT_BYTES_MAX = 1 << 20
_NAMES_MAX = 4000
_COUNTED_MAX = 200
"""Files up to which the size of a folder is added up."""


class _Way(Struct):
    """How far a path was followed."""

    descriptors: list[int]
    names: list[str]
    link_mount_ids: list[int]
    rest: list[str]
    """What is left of it, because nothing is there, or it must not be touched."""
    error: OSError | None = None
    untouchable: int = 0
    """The id of the mount that must not be touched."""
    dead: int = 0
    """The id of the mount that lets itself be entered, and answers nothing any more."""


class InsideRoot:
    """A process's root directory, held open until the block ends. Raises OSError when it may not be entered."""

    def __init__(self, root: Path, avoid: Mapping[str, int]) -> None:
        """`avoid`: mountpoint → mount id of what must not be touched, in the process's view."""
        self._avoid = avoid
        self._root = _entered(root)
        self.unreadable: list[str] = []
        """Files and folders that are there but may not be read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._root)

    def place(self, path: str) -> Place:
        """Where a path leads."""
        with self._followed(path) as way:
            end = way.descriptors[-1]
            resolved = "/" + "/".join([*way.names, *way.rest])
            links = tuple(way.link_mount_ids)
            if way.untouchable:
                return Place(
                    error="on another machine or in user space: not touched, because it may hang",
                    resolved_path=resolved,
                    mount_id=way.untouchable,
                    link_mount_ids=links,
                )
            absent = isinstance(way.error, FileNotFoundError | NotADirectoryError)
            if way.error is not None and not absent:
                return Place(
                    error=_words(way.error), resolved_path=resolved, mount_id=way.dead, link_mount_ids=links
                )
            found = os.fstat(end)
            return Place(
                exists=not absent,
                resolved_path=resolved,
                mount_id=mount_id_of(end),
                link_mount_ids=links,
                folder=not absent and stat.S_ISDIR(found.st_mode),
                inode=0 if absent else found.st_ino,
                filesystem_id=0 if absent else _filesystem_id(end),
                bytes=None if absent else _bytes(end, found),
            )

    def same_file(self, path: str, mount_id: int) -> bool:
        """Whether the path's end, or its nearest existing ancestor, lies on that mount."""
        with self._followed(path) as way:
            if way.error is not None and not isinstance(way.error, FileNotFoundError | NotADirectoryError):
                return True  # nobody can tell, and what nobody can tell is no accusation
            return (way.untouchable or mount_id_of(way.descriptors[-1])) == mount_id

    def text(self, path: str) -> str | None:
        """A file's text, its first MiB; None when it is not there, is no file, or may not be read."""
        with self._opened(path, folder=False) as descriptor:
            try:
                if descriptor is None or not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                return os.read(descriptor, _TEXT_BYTES_MAX).decode("utf-8", "replace")
            except OSError:
                self.unreadable.append(path)
                return None

    def names(self, path: str) -> list[str] | None:
        """The names in a folder, at most 4,000; None as for `text`."""
        with self._opened(path, folder=True) as descriptor:
            try:
                return None if descriptor is None else os.listdir(descriptor)[:_NAMES_MAX]
            except OSError:
                self.unreadable.append(path)
                return None

    def link(self, path: str) -> str | None:
        """Where a symbolic link points; None when the path is not one."""
        folder, _, name = path.rpartition("/")
        with self._followed(folder or "/") as way:
            if way.error is not None or way.untouchable:
                return None
            try:
                return os.readlink(name, dir_fd=way.descriptors[-1])
            except OSError:
                return None

    @contextlib.contextmanager
    def _opened(self, path: str, *, folder: bool) -> Iterator[int | None]:
        with self._followed(path) as way:
            error, descriptor = way.error, None
            if error is None and not way.untouchable:
                try:
                    descriptor = _reopened(way.descriptors[-1], folder=folder)
                except OSError as refused:
                    error = refused
            if isinstance(error, PermissionError):
                self.unreadable.append(path)
            try:
                yield descriptor
            finally:
                if descriptor is not None:
                    os.close(descriptor)

    @contextlib.contextmanager
    def _followed(self, path: str) -> Iterator[_Way]:
        way = _Way([os.dup(self._root)], [], [], [])
        try:
            self._follow(path, way)
            yield way
        finally:
            for descriptor in way.descriptors:
                os.close(descriptor)

    def _follow(self, path: str, way: _Way) -> None:
        if sys.platform != "linux":
            raise Unsupported("paths can be followed like this on Linux only")
        left = deque(path.split("/"))
        links = 0
        while left:
            name = left.popleft()
            if name in ("", "."):
                continue
            if name == "..":
                if way.names:
                    way.names.pop()
                    os.close(way.descriptors.pop())
                continue
            way.untouchable = self._avoid.get("/" + "/".join([*way.names, name]), 0)
            if way.untouchable:
                way.rest = [name, *left]
                return
            try:
                child = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=way.descriptors[-1])
            except OSError as error:
                way.error, way.rest = error, [name, *(each for each in left if each)]
                return
            try:
                link = stat.S_ISLNK(os.fstat(child).st_mode)
            except OSError as error:
                way.error, way.rest = error, [name, *(each for each in left if each)]
                way.dead = mount_id_of(child)
                os.close(child)
                return
            if not link:
                way.descriptors.append(child)
                way.names.append(name)
                continue
            way.link_mount_ids.append(mount_id_of(child))
            os.close(child)
            links += 1
            if links > _LINKS_MAX:
                way.error, way.rest = OSError(40, "Too many levels of symbolic links"), [name, *left]
                return
            target = os.readlink(name, dir_fd=way.descriptors[-1])
            if target.startswith("/"):
                while way.names:
                    way.names.pop()
                    os.close(way.descriptors.pop())
            left.extendleft(reversed(target.split("/")))


def _entered(root: Path) -> int:
    if sys.platform != "linux":
        raise Unsupported("paths can be followed like this on Linux only")
    return os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _reopened(descriptor: int, *, folder: bool) -> int:
    """A descriptor to read with, of what an O_PATH descriptor names. A FIFO does not make it wait."""
    if sys.platform != "linux":
        raise Unsupported("paths can be followed like this on Linux only")
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_DIRECTORY if folder else 0)
    return os.open(f"/proc/self/fd/{descriptor}", flags)


def mount_id_of(descriptor: int, process: str = "self") -> int:
    """The mount a descriptor is on, by fdinfo; 0 when nobody can tell."""
    try:
        return mount_id(read_small(f"/proc/{process}/fdinfo/{descriptor}"))
    except OSError:
        return 0


def mount_id_of_path(path: Path) -> int:
    """The mount that a link of /proc, such as a process's working directory, leads to; 0 when nobody can tell."""
    try:
        descriptor = _entered(path)
    except OSError:
        return 0
    try:
        return mount_id_of(descriptor)
    finally:
        os.close(descriptor)


def mount_id(fdinfo: str) -> int:
    """`mnt_id` in a text of fdinfo (since Linux 3.15)."""
    return next((int(line[7:]) for line in fdinfo.splitlines() if line.startswith("mnt_id:")), 0)


def _filesystem_id(descriptor: int) -> int:
    if sys.platform != "linux":
        return 0
    try:
        # By its /proc name: fstatvfs(3) refuses O_PATH descriptors on old kernels.
        return os.statvfs(f"/proc/self/fd/{descriptor}").f_fsid
    except OSError:
        return 0


def _bytes(descriptor: int, found: os.stat_result) -> int | None:
    """What a file, or a folder of a few files, takes; None when it would take long to count."""
    if stat.S_ISREG(found.st_mode):
        return found.st_size
    if not stat.S_ISDIR(found.st_mode):
        return None
    total = 0
    try:
        with os.scandir(f"/proc/self/fd/{descriptor}") as entries:
            for count, entry in enumerate(entries):
                if count >= _COUNTED_MAX or entry.is_dir(follow_symlinks=False):
                    return None
                total += entry.stat(follow_symlinks=False).st_size
    except OSError:
        return None
    return total


def _words(error: OSError) -> str:
    return REFUSED if isinstance(error, PermissionError) else error.strerror or str(error)
