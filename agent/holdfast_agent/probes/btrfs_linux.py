"""btrfs: what its devices did wrong, which are missing, how much is left to hand out, when it was scrubbed.

All from sysfs, without a right (catalogue A-34): /sys/fs/btrfs/UUID/devinfo/N/error_stats (since 5.14), `missing`,
allocation/*/…; the counters stand on the disk until `btrfs device stats -z`. The kernel wakes nobody for them, so an
error is seen within the period of 30 s; `kernel_log` may be sooner.

statvfs shows free room that btrfs cannot use when all of it is handed out to data and metadata needs a chunk; writes
then fail with ENOSPC and the filesystem may turn read-only. So what is unallocated and free for metadata counts here.

Scrubs are on record where btrfs-progs keeps it, /var/lib/btrfs/scrub.status.UUID, which is root's.
"""

import contextlib
import os
from pathlib import Path

from msgspec import Struct, field

from holdfast_agent.probe import NoData, Observation, Poll
from holdfast_agent.probes.mount_awake_linux import MountAwake
from holdfast_agent.probes.mounted_linux import Mounted, number_in, read_mounted, text_of
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_STATS = {
    "write_errs": "btrfs_write_errors_total",
    "read_errs": "btrfs_read_errors_total",
    "flush_errs": "btrfs_flush_errors_total",
    "corruption_errs": "btrfs_corruption_errors_total",
    "generation_errs": "btrfs_generation_errors_total",
}
_SECTOR_BYTES = 512
"""The unit of sysfs's `size`, whatever the device's own is."""


class BtrfsDevice(Struct, frozen=True, kw_only=True):
    """One device of a btrfs, by its number there."""

    error_stats: str
    missing: bool


class BtrfsRaw(Struct, frozen=True, kw_only=True):
    """One mounted btrfs."""

    uuid: str
    device_bytes: int
    """Of all its devices that are there."""
    devices: dict[str, BtrfsDevice] = field(default_factory=dict)
    disk_totals: dict[str, int] = field(default_factory=dict)
    """`data`, `metadata`, `system` → bytes handed out to it, copies included."""
    metadata_total: int = 0
    metadata_used: int = 0
    scrub_status: str = ""
    scrub_unread: str = ""
    """Why the record of scrubs could not be read; empty when it was, or there is none."""


class AllBtrfsRaw(Struct, frozen=True, kw_only=True):
    """Every mounted btrfs."""

    mounted: Mounted
    at: float
    """Unix seconds."""
    filesystems: dict[str, BtrfsRaw] = field(default_factory=dict)
    """By mountpoint."""


class Btrfs(Poll[AllBtrfsRaw], MountAwake):
    """Every mounted btrfs by its own account."""

    name = "btrfs"
    platforms = frozenset({"linux"})
    cost = "errors of a btrfs's devices, a missing one, and exhausted metadata show only when the filesystem fails"
    period_seconds = 30.0
    emits = tuple(
        ("volume", fact)
        for fact in (
            *_STATS.values(), "btrfs_errors", "btrfs_devices_missing", "btrfs_unallocated_bytes",
            "btrfs_metadata_free_ratio", "scrub_age_seconds", "scrub_uncorrectable_errors",
        )
    )  # fmt: skip

    def read(self) -> AllBtrfsRaw:
        mounted = read_mounted(self.context)
        folders = {}
        for folder in (self.context.sysfs / "fs" / "btrfs").glob("*-*"):
            with contextlib.suppress(OSError):
                folders.update(dict.fromkeys(os.listdir(folder / "devices"), folder))
        found = {}
        for volume in mounted.volumes():
            at = volume.mount.mountpoint
            own = folders.get(mounted.devices.get(at, ""))
            if volume.mount.fstype == "btrfs" and own is not None:
                found[at] = self._filesystem(own)
        return AllBtrfsRaw(mounted=mounted, at=self.context.wall_clock(), filesystems=found)

    def interpret(self, raw: AllBtrfsRaw) -> Observation:
        if not raw.filesystems:
            raise NoData("no btrfs is mounted here")
        missing = {
            f"{at} scrub": found.scrub_unread for at, found in raw.filesystems.items() if found.scrub_unread
        }
        resources = [
            Resource(kind=ResourceKind.VOLUME, name=at[:512], facts=_facts(found, raw.at))
            for at, found in sorted(raw.filesystems.items())
        ]
        return Observation(resources=resources, missing=missing)

    def _filesystem(self, folder: Path) -> BtrfsRaw:
        scrub, unread = self._scrub(folder.name)
        kinds = ("data", "metadata", "system")
        return BtrfsRaw(
            uuid=folder.name,
            device_bytes=sum(
                (number_in(device / "size") or 0) * _SECTOR_BYTES for device in (folder / "devices").glob("*")
            ),
            devices={
                info.name: BtrfsDevice(
                    error_stats=text_of(info / "error_stats"), missing=number_in(info / "missing") == 1
                )
                for info in sorted((folder / "devinfo").glob("*"))
            },
            disk_totals={kind: number_in(folder / "allocation" / kind / "disk_total") or 0 for kind in kinds},
            metadata_total=number_in(folder / "allocation" / "metadata" / "total_bytes") or 0,
            metadata_used=number_in(folder / "allocation" / "metadata" / "bytes_used") or 0,
            scrub_status=scrub,
            scrub_unread=unread,
        )

    def _scrub(self, uuid: str) -> tuple[str, str]:
        path = self.context.rootfs / "var" / "lib" / "btrfs" / f"scrub.status.{uuid}"
        try:
            return path.read_text("utf-8", "replace"), ""
        except PermissionError:
            return "", f"{path} is root's; grant CAP_DAC_READ_SEARCH, or let a group read it"
        except OSError:
            return "", ""


def _facts(found: BtrfsRaw, at: float) -> dict[str, Value]:
    facts: dict[str, Value] = {"btrfs_devices_missing": sum(one.missing for one in found.devices.values())}
    stats = {number: _numbers(one.error_stats) for number, one in found.devices.items()}
    if any(stats.values()):
        facts |= {fact: sum(of.get(name, 0) for of in stats.values()) for name, fact in _STATS.items()}
        facts["btrfs_errors"] = "; ".join(
            f"device {number}: "
            + ", ".join(f"{of[name]} {name.removesuffix('_errs')}" for name in _STATS if of.get(name))
            for number, of in stats.items()
            if any(of.values())
        )
    if found.device_bytes:
        facts["btrfs_unallocated_bytes"] = max(0, found.device_bytes - sum(found.disk_totals.values()))
    if found.metadata_total:
        facts["btrfs_metadata_free_ratio"] = 1 - found.metadata_used / found.metadata_total
    return facts | _scrub_facts(found.scrub_status, at)


def _numbers(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _scrub_facts(status: str, at: float) -> dict[str, Value]:
    """By the oldest start among the devices: a scrub is as old as what it has read first."""
    devices = [
        dict(part.partition(":")[::2] for part in line.split("|")[1:])
        for line in status.splitlines()
        if "|" in line
    ]
    finished = [one for one in devices if one.get("finished") == "1" and one.get("t_start", "").isdigit()]
    if not devices or len(finished) < len(devices):
        return {}
    return {
        "scrub_age_seconds": max(0.0, at - min(int(one["t_start"]) for one in finished)),
        "scrub_uncorrectable_errors": sum(
            int(one["uncorrectable_errors"])
            for one in finished
            if one.get("uncorrectable_errors", "").isdigit()
        ),
    }
