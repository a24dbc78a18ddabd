"""What the `devices` probe reads: plain data, so that a recording of any machine is a test of what is made of it."""

from msgspec import Struct, field

from holdfast_agent.probes.azure_storage import AzureStorage


class MdRaw(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`/sys/block/mdN/md` (kernel: Documentation/admin-guide/md.rst)."""

    level: str = ""
    """`raid1`, `raid5`, …; empty while the array does not run."""
    layout: int = 0
    degraded: int = 0
    """How many members are missing."""
    members: dict[str, str] = field(default_factory=dict)
    """Kernel's name → its state: `in_sync`, `in_sync,write_mostly`, `spare`, `faulty`, …"""


class DeviceRaw(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One entry of /sys/class/block, with what udev knows of it."""

    number: str
    """major:minor."""
    path: str = ""
    """Where it hangs, below /sys: `devices/pci0000:00/…/block/sda/sda1`."""
    whole: str = ""
    """Of a partition: the disk it is a part of."""
    size_bytes: int = 0
    read_only: bool = False
    hidden: bool = False
    """One path of an NVMe disk with several, which is no device of its own."""
    rotational: bool | None = None
    io_timeout_ms: int | None = None
    vendor: str = ""
    model: str = ""
    serial: str = ""
    transport: str = ""
    """Of an NVMe controller: `pcie`, `tcp`, `rdma`, `fc`."""
    namespace_id: int | None = None
    vmbus_id: str = ""
    """Of the Hyper-V controller it hangs on: `{f8b3781a-1e82-4818-a1c3-63d806ec15bb}`."""
    slaves: list[str] = field(default_factory=list)
    mapper_name: str = ""
    mapper_uuid: str = ""
    md: MdRaw | None = None
    loop_file: str = ""
    bcache_mode: str = ""
    """`writethrough [writeback] writearound none`."""
    bcache_cache: bool = False
    """It is the cache of a bcache, not what is cached."""
    filesystem_uuid: str = ""


class BtrfsRaw(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`/sys/fs/btrfs/UUID`."""

    devices: list[str] = field(default_factory=list)
    profiles: list[str] = field(default_factory=list)
    """Of all kinds of chunk that are there: `single`, `dup`, `raid1`, …"""
    missing: int = 0
    """Devices that belong to it and are not there."""


class PlatformRaw(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What shows what kind of machine this is."""

    vendor: str = ""
    product: str = ""
    version: str = ""
    chassis_asset_tag: str = ""
    hypervisor: bool | None = None
    """What the processor says (x86) or the device tree; None when neither can tell."""
    azure: AzureStorage | None = None
    """What Azure's metadata service last said of the disks."""


class MediaRaw(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that decides on which medium a mounted filesystem ends."""

    machine_mounts: str = ""
    own_mounts: str = ""
    platform: PlatformRaw = PlatformRaw()
    devices: dict[str, DeviceRaw] = field(default_factory=dict)
    """By the kernel's name."""
    mapper_tables: str = ""
    """`dmsetup table`; empty where the agent may not ask."""
    mapper_unreadable: str = ""
    """Why it gave nothing, where there are such devices."""
    btrfs: dict[str, BtrfsRaw] = field(default_factory=dict)
    """By UUID."""
    zpool_status: str = ""
    """`zpool status -P -L`."""
    zpool_unreadable: str = ""
    azure_unreadable: str = ""
    """Why Azure's metadata service last said nothing."""
    paths: dict[str, str] = field(default_factory=dict)
    """Paths of devices in mounts and in the configuration → the kernel's names."""
    filesystem_uuids: dict[str, str] = field(default_factory=dict)
    """Mountpoint → UUID, asked of the filesystem itself."""
