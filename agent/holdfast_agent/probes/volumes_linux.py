"""Volumes: room, inodes, and whether a filesystem takes writes, as far as that shows without writing.

A filesystem that refuses writes hides it (durability catalogue A-20). In use here, any one suffices:

- `ro` among the mount's or the filesystem's options;
- `emergency_ro` (ext4 after an error, kernels since 6.15) or `shutdown` among the filesystem's options;
- statvfs's read-only flag, where the mount itself is not shown read-only;
- stat(2) of the mountpoint fails with EIO: a shut-down XFS, whose options and statvfs show nothing (`xfs_vn_getattr`);
- the kernel log says the filesystem gave up, and has not said since that it was mounted anew: the only sign of an ext4
  emergency before 6.15;
- the device is gone, or has itself turned read-only.

Inside a hardened unit every mount looks read-only (ProtectSystem=strict), to statvfs too; so the options are those
that process 1 sees, and the agent's own view is only the way to ask for room.
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from holdfast_agent.probe import (
    Emit,
    NoData,
    Observation,
    Poll,
    ProbeContext,
    ProbeStop,
    Refresh,
    Signal,
    Unsupported,
    Watch,
    facts_of,
)
from holdfast_agent.probes.block_devices_linux import name_of_number, name_of_path
from holdfast_agent.probes.filesystem_raw import FilesystemRaw, Space, VolumesRaw
from holdfast_agent.probes.given_up_linux import GivenUp, speaks_of_filesystems
from holdfast_agent.probes.isolated_statfs_linux import IsolatedStatfs
from holdfast_agent.probes.kmsg_device_linux import KmsgReader, open_kmsg
from holdfast_agent.probes.mount_watch_linux import MOUNT, mount_changes
from holdfast_agent.probes.mountinfo import Mount, parse_fstab
from holdfast_agent.probes.paced_refresh import paced
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.volume_choice import Volume
from holdfast_agent.probes.volume_facts import expected_writable, mounted_writable, volume_facts
from holdfast_agent.probes.volume_list import list_volumes
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind

_SEEN_WRITABLE = "seen-writable"
_ST_RDONLY = 1


class _SeenWritable(Struct, frozen=True):
    """The cursor's note: what was mounted to be written in this boot."""

    boot_id: str
    mounts: list[str]
    """`<source> on <mountpoint>`."""


class Volumes(Poll[VolumesRaw], Watch):
    """The machine's volumes."""

    name = "volumes"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a filesystem fills up, turned read-only or died"
    period_seconds = 10.0
    timeout_seconds = 5.0
    emits = tuple(
        ("volume", fact)
        for fact in (
            "mountpoint", "source", "fstype", "device", "options", "size_bytes", "free_bytes", "free_ratio", "inodes",
            "inodes_free", "inodes_free_ratio", "read_only", "dead", "writable", "expected_writable",
            "unwritable_reason", "filesystem_errors_total", "reachable", "network", "volatile",
        )
    )  # fmt: skip
    told_by = (
        Signal(
            by=MOUNT,
            facts=facts_of(
                "volume", "mountpoint", "source", "fstype", "device", "options", "read_only", "writable",
                "expected_writable", "unwritable_reason", "network", "volatile",
            ),
        ),
        Signal(
            by="what the kernel log says of a filesystem",
            facts=facts_of("volume", "dead", "writable", "unwritable_reason", "filesystem_errors_total"),
        ),
    )  # fmt: skip

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        self._isolated = IsolatedStatfs()
        self._kernel_log = GivenUp(context.rootfs / "dev" / "kmsg", sysfs=context.sysfs)

    def check(self) -> None:
        if not (self.context.procfs / "self" / "mountinfo").exists():
            raise Unsupported(f"there is no {self.context.procfs}/self/mountinfo")

    def read(self) -> VolumesRaw:
        self.check()
        machine, own = self._mountinfo("1"), self._mountinfo("self")
        volumes = list_volumes(machine, own)
        answers = self._isolated.ask([v.path for v in volumes if v.isolated and v.path is not None])
        filesystems = {}
        for volume in volumes:
            found = self._device_of(volume.mount)
            if volume.path is None:
                found = msgspec.structs.replace(found, error="not visible from the agent's mount namespace")
            elif volume.isolated:
                answer = answers[volume.path]
                found = msgspec.structs.replace(
                    found, space=answer.space, error=answer.error, hung_seconds=answer.hung_seconds
                )
            else:
                found = _ask_local(volume, volume.path, found)
            filesystems[volume.mount.mountpoint] = found
        self._kernel_log.follow()
        return VolumesRaw(
            machine_mounts=machine,
            own_mounts=own,
            fstab=_text(self.context.rootfs / "etc" / "fstab"),
            kernel=_text(self.context.procfs / "sys" / "kernel" / "osrelease").strip(),
            booted_at=self.context.wall_clock() - self.context.boot_clock(),
            filesystems=filesystems,
            given_up=dict(self._kernel_log.devices),
            kernel_log_unreadable=self._kernel_log.unreadable,
        )

    def interpret(self, raw: VolumesRaw) -> Observation:
        volumes = list_volumes(raw.machine_mounts, raw.own_mounts)
        if not volumes:
            raise NoData("no filesystem here keeps anything: only the kernel's own and memory are mounted")
        fstab = parse_fstab(raw.fstab)
        missing: dict[str, str] = {}
        resources = []
        seen, mounted = self._seen_writable(), set[str]()
        for volume in volumes:
            mountpoint = volume.mount.mountpoint
            found = raw.filesystems.get(mountpoint, FilesystemRaw(error="not looked at"))
            facts = volume_facts(volume, found, raw, missing)
            identity = f"{volume.mount.source} on {mountpoint}"
            mounted.add(identity)
            if mounted_writable(volume.mount, machine_seen=bool(raw.machine_mounts)):
                seen.add(identity)
            facts["expected_writable"] = expected_writable(
                volume.mount, fstab.get(mountpoint), identity in seen
            )
            resources.append(Resource(kind=ResourceKind.VOLUME, name=mountpoint[:512], facts=facts))
        self._keep_seen_writable(seen & mounted)
        return Observation(resources=resources, missing=missing)

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look at once when something is mounted, unmounted or remounted, or when the kernel log speaks of it.

        A filesystem that dies does not wake pollers of mountinfo; only the kernel log tells (measured on 6.1 and 6.18).
        """
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as held:
            held.enter_context(mount_changes(self.context.procfs, refresh))
            try:
                descriptor = open_kmsg(self.context.rootfs / "dev" / "kmsg", at_end=True)
            except ProbeStop:
                pass  # the poll finds it, only later; `kernel_log` says what is missing
            else:
                held.callback(os.close, descriptor)
                reader = KmsgReader(descriptor, after=None)
                look = paced(refresh)
                loop.add_reader(descriptor, lambda: look() if speaks_of_filesystems(reader) else None)
                held.callback(loop.remove_reader, descriptor)
            await asyncio.Event().wait()

    def _mountinfo(self, process: str) -> str:
        try:
            return read_small(self.context.procfs / process / "mountinfo")
        except OSError:
            return ""

    def _device_of(self, mount: Mount) -> FilesystemRaw:
        """The block device below, and what it and ext4 say in sysfs."""
        sysfs = self.context.sysfs
        on_device = mount.source.startswith("/dev/") and not mount.fstype.startswith("fuse")
        name = name_of_number(sysfs, mount.number) if mount.major else None
        gone = name is None and mount.major != 0 and (sysfs / "dev" / "block").is_dir()
        if name is None and on_device:
            name = name_of_path(mount.source)
        if not name:
            return FilesystemRaw()
        errors = _number(sysfs / "fs" / "ext4" / name / "errors_count") if mount.fstype == "ext4" else None
        return FilesystemRaw(
            device=name,
            device_gone=gone,
            device_read_only=_number(sysfs / "class" / "block" / name / "ro") == 1,
            ext4_errors=errors,
            ext4_last_error_at=float(_number(sysfs / "fs" / "ext4" / name / "last_error_time") or 0)
            if errors
            else 0.0,
            ext4_options=_text(self.context.procfs / "fs" / "ext4" / name / "options") if errors else "",
        )

    def _seen_writable(self) -> set[str]:
        try:
            note = msgspec.json.decode(
                self.context.cursors.load(_SEEN_WRITABLE) or b"null", type=_SeenWritable | None
            )
        except msgspec.DecodeError:
            return set()
        return set(note.mounts) if note and note.boot_id == self.context.boot_id else set()

    def _keep_seen_writable(self, seen: set[str]) -> None:
        note = _SeenWritable(self.context.boot_id, sorted(seen))
        self.context.cursors.store(_SEEN_WRITABLE, msgspec.json.encode(note))


def _ask_local(volume: Volume, path: str, found: FilesystemRaw) -> FilesystemRaw:
    """Local filesystems answer both calls from memory (their root inode stays there), so they cannot hang on a disk."""
    if sys.platform != "linux":
        raise Unsupported("this way of asking is Linux's")
    stat_errno = 0
    try:
        device = os.stat(path).st_dev
        if volume.mount.major and volume.mount.number != f"{os.major(device)}:{os.minor(device)}":
            return msgspec.structs.replace(found, error="another mount hides it")
    except OSError as error:
        stat_errno = error.errno or 0
    try:
        result = os.statvfs(path)
    except OSError as error:
        return msgspec.structs.replace(found, error=error.strerror or str(error), stat_errno=stat_errno)
    return msgspec.structs.replace(
        found,
        space=Space(result.f_frsize, result.f_blocks, result.f_bavail, result.f_files, result.f_favail),
        read_only_flag=bool(result.f_flag & _ST_RDONLY),
        stat_errno=stat_errno,
    )


def _text(path: Path) -> str:
    try:
        return read_small(path)
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(_text(path))
    except ValueError:
        return None
