"""ext4's own record of errors: what it found first and last, and the moment it records another; and what it delays.

The record lives in the superblock, survives unmounting and reboots, and only e2fsck clears it (catalogue A-31). The
kernel wakes pollers of /sys/fs/ext4/DEVICE/errors_count when it grows (fs/ext4/sysfs.c, `ext4_notify_error_sysfs`,
since 5.11), which takes no right at all: a millisecond on 6.18. The poll, once a minute, is for older kernels; `volumes`
counts the errors as well.

Data that could not be written moves nothing here: that is `kernel_log`'s to tell.

Beside the record stands how much was written and has no place on the disk yet (`delayed_allocation_blocks`, since 2.6.27):
a power cut would take it, unless a program flushes it first (catalogue A-47: exposure, never loss). It is told in
whole steps, so that a machine that writes little has not another report each minute.
"""

import asyncio
import contextlib
import os
import select
import sys
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Self

from msgspec import Struct, field

from holdfast_agent.probe import (
    Emit,
    Happening,
    NoData,
    Observation,
    Poll,
    Refresh,
    Signal,
    Unsupported,
    Watch,
    facts_of,
)
from holdfast_agent.probes.mount_watch_linux import mount_changes
from holdfast_agent.probes.mounted_linux import Mounted, read_mounted, text_of
from holdfast_agent.probes.volume_choice import Volume
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_EPOLLPRI = 0x2
_RECORDS = tuple(
    f"{which}_error_{part}"
    for which in ("first", "last")
    for part in ("time", "func", "line", "ino", "block", "errcode")
)
_ERRCODES = (
    "", "", "EIO", "ENOMEM", "EFSBADCRC", "EFSCORRUPTED", "ENOSPC", "ENOKEY", "EROFS", "EFBIG", "EEXIST", "ERANGE",
    "EOVERFLOW", "EBUSY", "ENOTDIR", "ENOTEMPTY", "ESHUTDOWN", "EFAULT",
)  # fmt: skip
"""The superblock's own numbers (fs/ext4/ext4.h, EXT4_ERR_*)."""

_DELAYED = "delayed_allocation_blocks"
_DELAYED_STEP_BYTES = 16 << 20
"""Less than that every machine has at any time."""


class Ext4ErrorsRaw(Struct, frozen=True, kw_only=True):
    """The records of every mounted ext4."""

    mounted: Mounted
    records: dict[str, dict[str, str]] = field(default_factory=dict)
    """Device → name of the file in /sys/fs/ext4/DEVICE → its text."""
    block_bytes: dict[str, int] = field(default_factory=dict)
    """Device → size of its blocks, of those that delay any."""


class Ext4Errors(Poll[Ext4ErrorsRaw], Watch):
    """What ext4 has recorded, in words, and at once when it records more."""

    name = "ext4_errors"
    platforms = frozenset({"linux"})
    cost = "damage that ext4 finds is seen some seconds later, and without what and where it was"
    period_seconds = 60.0
    emits = (
        ("volume", "filesystem_first_error"),
        ("volume", "filesystem_last_error"),
        ("volume", "filesystem_warnings_total"),
        ("volume", "delayed_allocation_bytes"),
    )
    events = ("filesystem_damage",)
    told_by = (
        Signal(
            by="growth of an ext4's own record of errors",
            facts=facts_of("volume", "filesystem_first_error", "filesystem_last_error"),
            events=events,
        ),
    )

    def check(self) -> None:
        if not (self.context.sysfs / "fs" / "ext4").is_dir():
            raise Unsupported("this kernel has no ext4, or sysfs does not show it")

    def read(self) -> Ext4ErrorsRaw:
        self.check()
        mounted = read_mounted(self.context)
        records, block_bytes = {}, {}
        for volume in mounted.volumes():
            device = mounted.devices.get(volume.mount.mountpoint, "")
            if volume.mount.fstype.startswith("ext") and device:
                folder = self.context.sysfs / "fs" / "ext4" / device
                if found := _record(folder):
                    records[device] = found
                    if found.get(_DELAYED, "0") != "0" and (size := _block_bytes(volume)):
                        block_bytes[device] = size
        return Ext4ErrorsRaw(mounted=mounted, records=records, block_bytes=block_bytes)

    def interpret(self, raw: Ext4ErrorsRaw) -> Observation:
        if not raw.records:
            raise NoData("no ext4 is mounted here")
        return Observation(
            resources=[
                Resource(
                    kind=ResourceKind.VOLUME,
                    name=at[:512],
                    facts=_facts(raw.records[device]) | _delayed(raw, device),
                )
                for at, device in sorted(raw.mounted.devices.items())
                if device in raw.records
            ]
        )

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Report each growth of a record; what is mounted meanwhile is taken up."""
        self.check()
        loop, stirred = asyncio.get_running_loop(), asyncio.Event()
        with mount_changes(self.context.procfs, stirred.set), _Counters(self.context.sysfs) as counters:
            loop.add_reader(counters.descriptor, stirred.set)
            try:
                while True:
                    stirred.clear()
                    known = counters.devices
                    for device, count in counters.grown():
                        if happening := self._happening(device, count):
                            await emit(happening)
                            refresh()
                    counters.follow()
                    if counters.devices != known:
                        refresh()
                    await stirred.wait()
            finally:
                loop.remove_reader(counters.descriptor)

    def _happening(self, device: str, count: int) -> Happening | None:
        mounted = read_mounted(self.context)
        at = next((place for place, name in mounted.devices.items() if name == device), None)
        if at is None:
            return None
        last = _words(_record(self.context.sysfs / "fs" / "ext4" / device), "last")
        return Happening(
            type="filesystem_damage",
            resource_kind=ResourceKind.VOLUME,
            resource=at[:512],
            at=self.context.wall_clock(),
            summary=f"ext4 on {device} recorded an error: {last or 'without details'}; {count} in all",
            fields={"boot_id": self.context.boot_id, "device": device, "errors": count},
        )


class _Counters:
    """The open errors_count files of all mounted ext4, in one epoll set whose descriptor wakes when one grows.

    An open file of sysfs does not keep its filesystem from being unmounted; reading it then gives ENODEV.
    """

    _epoll: Any
    """A `select.epoll`, which has no name on other systems."""

    def __init__(self, sysfs: Path) -> None:
        self._folder = sysfs / "fs" / "ext4"
        self._files: dict[str, FileIO] = {}
        self._counts: dict[str, int] = {}
        if sys.platform != "linux":
            raise Unsupported("only Linux has ext4")
        self._epoll = select.epoll()
        self.descriptor: int = self._epoll.fileno()
        self.follow()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        for file in self._files.values():
            file.close()
        self._epoll.close()

    def grown(self) -> list[tuple[str, int]]:
        """(device, errors) of those that grew since the last call; forgets those that are gone."""
        self._epoll.poll(0)
        found = []
        for device in list(self._files):
            count = self._count(device)
            if count is None:
                # Closing it takes it out of the epoll set.
                self._files.pop(device).close()
                del self._counts[device]
            else:
                if count > self._counts[device]:
                    found.append((device, count))
                self._counts[device] = count
        return found

    @property
    def devices(self) -> set[str]:
        """Those that are followed."""
        return set(self._files)

    def follow(self) -> None:
        """Take up filesystems that were mounted meanwhile. What they recorded before is no event."""
        try:
            new = set(os.listdir(self._folder)) - {"features", *self._files}
        except OSError:
            return
        for device in new:
            with contextlib.suppress(OSError):
                self._files[device] = FileIO(self._folder / device / "errors_count")
                self._counts[device] = self._count(device) or 0
                self._epoll.register(self._files[device], _EPOLLPRI)

    def _count(self, device: str) -> int | None:
        """None when the filesystem is gone. Reading the file also makes its pollers wait again (kernfs)."""
        file = self._files[device]
        try:
            file.seek(0)
            return int(file.read(32))
        except (OSError, ValueError):
            return None


def _block_bytes(volume: Volume) -> int:
    """0 when it cannot be asked. ext4 answers from memory, without its device."""
    if sys.platform == "win32" or volume.path is None:
        return 0
    try:
        return os.statvfs(volume.path).f_frsize
    except OSError:
        return 0


def _record(folder: Path) -> dict[str, str]:
    names = ("errors_count", "warning_count", _DELAYED, *_RECORDS)
    return {name: text.strip() for name in names if (text := text_of(folder / name))}


def _facts(record: dict[str, str]) -> dict[str, Value]:
    facts: dict[str, Value] = {
        "filesystem_first_error": _words(record, "first"),
        "filesystem_last_error": _words(record, "last"),
    }
    if record.get("warning_count", "").isdigit():
        facts["filesystem_warnings_total"] = int(record["warning_count"])
    return facts


def _delayed(raw: Ext4ErrorsRaw, device: str) -> dict[str, Value]:
    """Nothing where the kernel does not say how much, or nobody how large a block is."""
    blocks = raw.records[device].get(_DELAYED, "")
    size = raw.block_bytes.get(device)
    if not blocks.isdigit() or (size is None and int(blocks)):
        return {}
    waiting = int(blocks) * (size or 0)
    return {"delayed_allocation_bytes": waiting // _DELAYED_STEP_BYTES * _DELAYED_STEP_BYTES}


def _words(record: dict[str, str], which: str) -> str:
    """`EIO in ext4_find_entry:1658, inode 12, block 34, at 2026-01-02 03:04:05 UTC`; empty where there was none."""
    at = record.get(f"{which}_error_time", "0")
    if not at.isdigit() or int(at) == 0:
        return ""
    number = record.get(f"{which}_error_errcode", "")
    code = _ERRCODES[int(number)] if number.isdigit() and int(number) < len(_ERRCODES) else ""
    where = f"{record.get(f'{which}_error_func', '')}:{record.get(f'{which}_error_line', '')}"
    said = [f"{code or 'an error'} in {where}"]
    for part, name in (("ino", "inode"), ("block", "block")):
        value = record.get(f"{which}_error_{part}", "0")
        if value != "0":
            said.append(f"{name} {value}")
    said.append(datetime.fromtimestamp(int(at), UTC).strftime("at %Y-%m-%d %H:%M:%S UTC"))
    return ", ".join(said)
