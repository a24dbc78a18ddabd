"""Loop devices: whether the file behind one is still whole, and whether there is room for what it has yet to hold.

A backing file that was cut gives EIO to readers without a line in the kernel log; one on a full filesystem lets fsync
fail while ext4 records no error and stays rw; one that was deleted lives until the device is detached, and no backup
has it. All three show in sizes (/sys/block/loopN/loop/backing_file, stat(2), statvfs(3)); nobody is woken for them, so
they are seen within the period of 30 s.
"""

import os
import sys
from pathlib import Path

from msgspec import Struct, field

from holdfast_agent.probe import NoData, Observation, Poll, Unsupported
from holdfast_agent.probes.mounted_linux import number_in, text_of
from holdfast_agent.probes.mountinfo import unescape
from holdfast_agent.probes.partitions_linux import sized_devices
from holdfast_agent.probes.volume_choice import HELPER_TYPES, NETWORK_TYPES
from holdfast_agent.probes.volume_list import mounts_in
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_SECTOR_BYTES = 512
_DELETED = " (deleted)"


class Backing(Struct, frozen=True, kw_only=True):
    """A loop device and the file behind it."""

    file: str
    """As the kernel names it, ` (deleted)` behind it when it is."""
    device_bytes: int
    """Of the device, and where in the file it begins."""
    offset_bytes: int = 0
    read_only: bool = False
    file_bytes: int | None = None
    """None when the agent may not look at the file."""
    allocated_bytes: int = 0
    free_bytes: int = 0
    """Of the filesystem the file lies on."""
    unread: str = ""


class LoopBackingRaw(Struct, frozen=True, kw_only=True):
    """By the device's kernel name."""

    devices: dict[str, Backing] = field(default_factory=dict)


class LoopBacking(Poll[LoopBackingRaw]):
    """The files behind loop devices."""

    name = "loop_backing"
    platforms = frozenset({"linux"})
    cost = "nobody knows that the file behind a loop device was cut, deleted, or will find no room to grow"
    period_seconds = 30.0
    emits = tuple(
        ("device", fact)
        for fact in (
            "backing_file", "backing_missing_bytes", "backing_deleted", "backing_unallocated_bytes",
            "backing_free_bytes",
        )
    )  # fmt: skip

    def read(self) -> LoopBackingRaw:
        remote = self._remote_places()
        devices = {}
        for folder in self._bound():
            named = unescape(text_of(folder / "backing_file").rstrip("\n"))
            size = number_in(folder.parent / "size")
            if named and size:
                backing = Backing(
                    file=named,
                    device_bytes=size * _SECTOR_BYTES,
                    offset_bytes=number_in(folder / "offset") or 0,
                    read_only=number_in(folder.parent / "ro") == 1,
                )
                devices[folder.parent.name] = _measured(backing, remote)
        return LoopBackingRaw(devices=devices)

    def interpret(self, raw: LoopBackingRaw) -> Observation:
        if not raw.devices:
            raise NoData("no loop device is in use")
        return Observation(
            resources=[
                Resource(kind=ResourceKind.DEVICE, name=name, facts=_facts(backing))
                for name, backing in raw.devices.items()
            ],
            missing={f"{name} backing": one.unread for name, one in raw.devices.items() if one.unread},
        )

    def _bound(self) -> list[Path]:
        """The folders of the loop devices that have a file behind them."""
        block = self.context.sysfs / "block"
        names = sorted(name for name in sized_devices(self.context.procfs) if name.startswith("loop"))
        return [block / name / "loop" for name in names if os.path.exists(f"{block}/{name}/loop")]

    def _remote_places(self) -> tuple[str, ...]:
        """Where looking may hang: other machines' filesystems and FUSE."""
        mounts = mounts_in(text_of(self.context.procfs / "self" / "mountinfo"))
        return tuple(
            mount.mountpoint
            for mount in mounts
            if mount.fstype in NETWORK_TYPES | HELPER_TYPES or mount.fstype.startswith("fuse")
        )


def _measured(backing: Backing, remote: tuple[str, ...]) -> Backing:
    """With the file's sizes, if it has a name and can be looked at without danger."""
    if sys.platform != "linux":
        raise Unsupported("only Linux has loop devices")
    path = backing.file
    if path.endswith(_DELETED):
        return backing
    if any(path.startswith(place.rstrip("/") + "/") for place in remote):
        return _unread(backing, "it lies where looking may hang (network or FUSE)")
    try:
        found, room = os.stat(path), os.statvfs(Path(path).parent)
    except PermissionError:
        return _unread(
            backing, f"{path} may not be looked at; let the agent's user pass its folders (chmod o+x)"
        )
    except OSError as error:
        return _unread(backing, f"{path}: {error.strerror}")
    return Backing(
        file=backing.file,
        device_bytes=backing.device_bytes,
        offset_bytes=backing.offset_bytes,
        read_only=backing.read_only,
        file_bytes=found.st_size,
        allocated_bytes=found.st_blocks * _SECTOR_BYTES,
        free_bytes=room.f_bavail * room.f_frsize,
    )


def _unread(backing: Backing, why: str) -> Backing:
    return Backing(
        file=backing.file,
        device_bytes=backing.device_bytes,
        offset_bytes=backing.offset_bytes,
        read_only=backing.read_only,
        unread=why,
    )


def _facts(backing: Backing) -> dict[str, Value]:
    facts: dict[str, Value] = {
        "backing_file": backing.file.removesuffix(_DELETED),
        "backing_deleted": backing.file.endswith(_DELETED),
    }
    if backing.file_bytes is None:
        return facts
    needed = backing.offset_bytes + backing.device_bytes
    facts["backing_missing_bytes"] = max(0, needed - backing.file_bytes)
    if not backing.read_only:
        facts["backing_unallocated_bytes"] = max(0, backing.file_bytes - backing.allocated_bytes)
        facts["backing_free_bytes"] = backing.free_bytes
    return facts
