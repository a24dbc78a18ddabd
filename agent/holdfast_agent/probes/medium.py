"""What a disk is: memory, a cloud's disk of a known kind, a disk of a bare machine, or nothing that can be told.

A virtual disk of an unknown hypervisor has no class: KVM with `cache=unsafe` and VMware's independent-nonpersistent
disks look like any other from inside (catalogue A-11). The same goes for a disk on another machine, whose class is
that of the storage there. Only the operator can say: `[probes.devices]`, `classes` and `unidentified`.
"""

import re

from holdfast_agent.probes.durability import PERSISTENT, VOLATILE, Medium
from holdfast_agent.probes.media_raw import DeviceRaw, PlatformRaw
from holdfast_agent.probes.medium_cloud import CLOUD_MEDIA, cloud_medium

MEMORY = Medium("memory", VOLATILE, "memory", "memory")
LOCAL_DISK = Medium("local_disk", PERSISTENT, "a disk of this bare machine", "disks of this bare machine")
NETWORK_DISK = Medium(
    "network_disk",
    None,
    "a disk on another machine, whose class is that of the storage there",
    "disks on another machine, whose class is that of the storage there",
)
VIRTUAL_DISK = Medium(
    "virtual_disk",
    None,
    "a virtual disk that does not show what it lies on",
    "virtual disks that do not show what they lie on",
)
PERSISTENT_MEMORY = Medium(
    "persistent_memory",
    None,
    "memory that may or may not keep its content without power",
    "memory that may or may not keep its content without power",
)
OPTICAL = Medium("optical", None, "an optical drive", "optical drives")
UNKNOWN = Medium(
    "unknown", None, "a disk of a machine that may be virtual", "disks of a machine that may be virtual"
)
MEDIA = (
    MEMORY,
    LOCAL_DISK,
    NETWORK_DISK,
    VIRTUAL_DISK,
    PERSISTENT_MEMORY,
    OPTICAL,
    UNKNOWN,
    *CLOUD_MEDIA,
)
"""The closed set of the fact `medium`."""

_MEMORY_NAME = re.compile(r"(?:zram|ram|nullb)\d+")
_NETWORK_NAME = re.compile(r"(?:nbd|rbd|drbd)\d+")
_NETWORK_TRANSPORTS = frozenset({"iscsi", "fc", "tcp", "rdma"})
_VIRTUAL_TRANSPORTS = frozenset({"virtio", "xen", "vmbus"})
_VIRTUAL_MACHINE = re.compile(
    r"QEMU|KVM|KubeVirt|OpenStack|VMware|VirtualBox|innotek|\bXen\b|HVM domU|Bochs|Parallels|BHYVE|Nutanix|"
    r"Virtual Machine|Virtualization|Google|Amazon EC2|Alibaba|Tencent|DigitalOcean|Hetzner|Scaleway|OracleCloud",
    re.IGNORECASE,
)
"""What SMBIOS says in virtual machines and in clouds, after systemd's src/basic/virt.c."""


def medium_of(name: str, device: DeviceRaw, platform: PlatformRaw) -> Medium:
    """What a device that rests on no other is."""
    if _MEMORY_NAME.fullmatch(name) or _disk_of_memory(device):
        return MEMORY
    if name.startswith("pmem"):
        return PERSISTENT_MEMORY
    if name.startswith("sr"):
        return OPTICAL
    if known := cloud_medium(device, platform):
        return known
    transport = transport_of(device)
    if _NETWORK_NAME.fullmatch(name) or transport in _NETWORK_TRANSPORTS:
        return NETWORK_DISK
    bare = _bare(platform)
    if transport in _VIRTUAL_TRANSPORTS or bare is False:
        return VIRTUAL_DISK
    return LOCAL_DISK if bare else UNKNOWN


def transport_of(device: DeviceRaw) -> str:
    """How the disk is connected, by the way to it in sysfs; empty when that says nothing."""
    if device.transport:
        return "nvme" if device.transport == "pcie" else device.transport
    if device.vmbus_id:
        return "vmbus"
    path = f"/{device.path}/"
    return next((word for part, word in _TRANSPORTS if part in path), "")


_TRANSPORTS = (
    ("/virtio", "virtio"),
    ("/vbd-", "xen"),
    ("/session", "iscsi"),
    ("/rport-", "fc"),
    ("/usb", "usb"),
    ("/end_device-", "sas"),
    ("/ata", "sata"),
    ("/nvme", "nvme"),
    ("/mmc", "mmc"),
)
"""Part of the path in sysfs → word. The first that fits counts: a SCSI disk may hang on virtio."""


def _disk_of_memory(device: DeviceRaw) -> bool:
    """What a target offers from its own memory: LIO's RAM disk, the kernel's test disk."""
    if device.vendor == "LIO-ORG":
        return device.model.startswith("RAMDISK")
    return device.vendor == "Linux" and device.model == "scsi_debug"


def _bare(platform: PlatformRaw) -> bool | None:
    """Whether this is a machine and not a virtual one; None when nothing says so either way."""
    names = f"{platform.vendor} {platform.product} {platform.version}"
    if platform.hypervisor or _VIRTUAL_MACHINE.search(names):
        return False
    if platform.hypervisor is False:
        return True
    return True if platform.vendor else None
