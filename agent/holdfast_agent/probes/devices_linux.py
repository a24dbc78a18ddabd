"""Devices and media: on which medium each block device and each volume ends, and what it survives by that.

Reads sysfs, and udev's database where there is one; asks `dmsetup table` and `zpool status` where there are such
devices, for only they tell a mirror from a stripe there. It opens no block device.

A class comes from what a disk says of itself, or from the operator (`classes`, `unidentified`), whose word counts.
Where neither says anything there is none: nothing is taken for durable because it looks like a disk.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable

import msgspec

from holdfast_agent.probe import (
    Emit,
    Lag,
    Observation,
    Poll,
    ProbeContext,
    Refresh,
    Signal,
    Unsupported,
    Watch,
)
from holdfast_agent.probes.azure_storage import AzureStorage, ask_storage_profile
from holdfast_agent.probes.block_devices_linux import name_of_path
from holdfast_agent.probes.block_sysfs_linux import read_btrfs, read_devices, read_platform
from holdfast_agent.probes.media_facts import (
    MediaSettings,
    device_facts,
    device_matters,
    machine_media,
    seen_volumes,
    unmet_declarations,
    volume_media_facts,
)
from holdfast_agent.probes.media_raw import DeviceRaw, MediaRaw, PlatformRaw
from holdfast_agent.probes.medium_cloud import AZURE_ASSET_TAG
from holdfast_agent.probes.metadata_service import METADATA_ADDRESS
from holdfast_agent.probes.mount_watch_linux import MOUNT, mount_changes
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.volume_choice import MEMORY_TYPES, Volume
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind

TOOL_TIMEOUT_SECONDS = 5.0
_METADATA_SECONDS = 3600.0
_METADATA_RETRY_SECONDS = 600.0
_FS_IOC_GETFSUUID = 0x80111500
"""_IOR(0x15, 0, struct fsuuid2), since Linux 6.9 (include/uapi/linux/fs.h)."""
_UUID_BYTES = 16


class Devices(Poll[MediaRaw], Watch):
    """The machine's block devices, and the media of its volumes."""

    azure_metadata = METADATA_ADDRESS

    name = "devices"
    platforms = frozenset({"linux"})
    cost = "nobody knows on which medium a volume lies, and so not what it survives"
    period_seconds = 60.0
    timeout_seconds = 15.0
    settings_type = MediaSettings
    emits = tuple(
        ("device", fact)
        for fact in (
            "type", "medium", "model", "serial", "transport", "size_bytes", "rotational", "read_only",
            "parents", "leaf_devices", "durability_class", "durability_class_reason", "durability_class_declared",
            "queue_io_timeout_seconds", "host_cache",
        )
    ) + tuple(
        ("volume", fact)
        for fact in (
            "durability_class", "durability_class_known", "durability_class_reason", "durability_class_declared",
            "durability_class_found", "durability_class_overstated", "leaf_devices", "media", "rotational",
            "filesystem_uuid", "partly_host_local", "host_cache",
        )
    )  # fmt: skip
    lags = (
        Lag(
            by="Azure's metadata service is asked once an hour",
            facts=(("device", "host_cache"), ("volume", "host_cache")),
            seconds=_METADATA_SECONDS,
        ),
    )
    told_by = (Signal(by=MOUNT, facts=tuple(pair for pair in emits if pair[0] == "volume")),)

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._settings = settings if isinstance(settings, MediaSettings) else MediaSettings()
        self._machine: PlatformRaw | None = None
        self._azure: AzureStorage | None = None
        self._azure_unreadable = ""
        self._azure_asked_at: float | None = None

    def check(self) -> None:
        if not (self.context.sysfs / "class" / "block").is_dir():
            raise Unsupported(f"there is no {self.context.sysfs}/class/block")

    def read(self) -> MediaRaw:
        self.check()
        context = self.context
        machine, own = self._mountinfo("1"), self._mountinfo("self")
        volumes, mounts = seen_volumes(machine, own)
        devices = read_devices(context.sysfs, context.rootfs)
        tables, unreadable = _mapper_tables(devices)
        pools, pools_unreadable = "", ""
        if any(mount.fstype == "zfs" for mount in mounts.values()):
            pools, pools_unreadable = _output("zpool", "status", "-P", "-L")
        sources = [mount.source for mount in mounts.values()]
        named = [path for path in (*sources, *self._settings.classes) if path.startswith("/dev/")]
        return MediaRaw(
            machine_mounts=machine,
            own_mounts=own,
            platform=self._platform(),
            azure_unreadable=self._azure_unreadable,
            devices=devices,
            mapper_tables=tables,
            mapper_unreadable=unreadable,
            btrfs=read_btrfs(context.sysfs),
            zpool_status=pools,
            zpool_unreadable=pools_unreadable,
            paths={path: name_of_path(path) for path in sorted(set(named))},
            filesystem_uuids=_filesystem_uuids(volumes),
        )

    def interpret(self, raw: MediaRaw) -> Observation:
        media = machine_media(raw, self._settings)
        resources = [
            Resource(kind=ResourceKind.DEVICE, name=name, facts=device_facts(name, device, media, raw))
            for name, device in sorted(raw.devices.items())
            if device_matters(name, device)
        ]
        resources += [
            Resource(
                kind=ResourceKind.VOLUME,
                name=volume.mount.mountpoint[:512],
                facts=volume_media_facts(volume, media, raw),
            )
            for volume in media.volumes
        ]
        missing = unmet_declarations(self._settings, media, raw)
        if raw.mapper_unreadable:
            missing["how device mapper lays out its devices"] = raw.mapper_unreadable
        if raw.azure_unreadable:
            missing["what Azure says of its disks"] = raw.azure_unreadable
        if raw.zpool_unreadable:
            missing["what ZFS pools lie on"] = raw.zpool_unreadable
        return Observation(resources=resources, missing=missing)

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look at once when something is mounted or unmounted: a new volume has its class from the beginning."""
        with mount_changes(self.context.procfs, refresh):
            await asyncio.Event().wait()

    def _platform(self) -> PlatformRaw:
        """With what Azure says of its disks: asked once an hour, every ten minutes while there is no answer.

        No answer is no news: what it said before stands.
        """
        platform = self._machine = self._machine or read_platform(self.context.sysfs, self.context.procfs)
        if platform.chassis_asset_tag != AZURE_ASSET_TAG:
            return platform
        now = self.context.boot_clock()
        wait = _METADATA_SECONDS if not self._azure_unreadable else _METADATA_RETRY_SECONDS
        if self._azure_asked_at is None or now - self._azure_asked_at >= wait:
            self._azure_asked_at = now
            answer, self._azure_unreadable = ask_storage_profile(self.azure_metadata)
            self._azure = answer or self._azure
        return msgspec.structs.replace(platform, azure=self._azure)

    def _mountinfo(self, process: str) -> str:
        try:
            return read_small(self.context.procfs / process / "mountinfo")
        except OSError:
            return ""


def _mapper_tables(devices: dict[str, DeviceRaw]) -> tuple[str, str]:
    if not any(device.mapper_name for device in devices.values()):
        return "", ""
    if not os.access("/dev/mapper/control", os.R_OK | os.W_OK):
        return "", "only root may ask for it: without it no mirror or cache below a volume is known"
    return _output("dmsetup", "table")


def _output(*command: str) -> tuple[str, str]:
    """What a tool prints, or why it prints nothing."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TOOL_TIMEOUT_SECONDS, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin", "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        return "", f"{command[0]} is not installed"
    except subprocess.TimeoutExpired:
        return "", f"{' '.join(command)} did not answer within {TOOL_TIMEOUT_SECONDS:g} s"
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no word"])[0]
        return "", f"{' '.join(command)}: {said}"
    return done.stdout, ""


def _filesystem_uuids(volumes: Iterable[Volume]) -> dict[str, str]:
    """Asked of each local filesystem; older kernels and some filesystems do not answer, then udev's word counts."""
    found = {}
    for volume in volumes:
        if volume.path is None or volume.isolated or volume.mount.fstype in (*MEMORY_TYPES, "overlay"):
            continue
        if uuid := _filesystem_uuid(volume):
            found[volume.mount.mountpoint] = uuid
    return found


def _filesystem_uuid(volume: Volume) -> str:
    if sys.platform != "linux":
        raise Unsupported("this way of asking is Linux's")
    import fcntl

    assert volume.path is not None, "only volumes within reach are asked"
    try:
        descriptor = os.open(volume.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return ""
    try:
        device = os.fstat(descriptor).st_dev
        if volume.mount.major and volume.mount.number != f"{os.major(device)}:{os.minor(device)}":
            return ""  # another mount hides it
        answer = fcntl.ioctl(descriptor, _FS_IOC_GETFSUUID, bytes(1 + _UUID_BYTES))
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    text = answer[1:].hex()
    if answer[0] != _UUID_BYTES or not answer[1:].strip(b"\0"):
        return ""
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
