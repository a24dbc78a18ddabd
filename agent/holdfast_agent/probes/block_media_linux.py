"""Which disks a block device rests on, and whether one is known to be a temporary one."""

import os
from pathlib import Path

from msgspec import Struct

from holdfast_agent.probes.sysfs_linux import attributes, names_in


class Medium(Struct, frozen=True):
    """One disk at the bottom."""

    name: str
    model: str = ""
    """As the device calls itself; empty where it has no name."""
    azure_temporary: bool = False
    """Azure's udev rule calls it the temporary disk."""


_TEMPORARY = ("Amazon EC2 NVMe Instance Storage", "Microsoft NVMe Direct Disk", "nvme_card", "EphemeralDisk")
"""Models of disks that die with the host or the redeploy, by the clouds' own documentation; GCE's local SSD last two."""
_LASTING = ("Amazon Elastic Block Store", "MSFT NVMe Accelerator", "PersistentDisk", "nvme_card-pd")
_MEMORY = ("ram", "zram")


def media_below(sysfs: Path, rootfs: Path, name: str) -> list[Medium]:
    """The disks below a device, by way of `slaves` and partitions; itself when there is nothing below."""
    azure = os.path.realpath(rootfs / "dev" / "disk" / "azure" / "resource").rpartition("/")[2]
    found: dict[str, Medium] = {}
    ahead, seen = [name], set[str]()
    while ahead:
        current = ahead.pop()
        if current in seen:
            continue
        seen.add(current)
        folder = sysfs / "class" / "block" / current
        below = names_in(folder / "slaves")
        if not below and (folder / "partition").exists():
            below = [os.path.realpath(folder).split("/")[-2]]
        ahead += below
        if not below:
            model = attributes(folder / "device", ["model"]).get("model", "")
            found[current] = Medium(current, model, current == azure)
    return [found[key] for key in sorted(found)]


def temporary(media: list[Medium]) -> bool | None:
    """Whether any of the disks is a temporary one; None when nothing says so of one and not all are known to last."""
    if any(_temporary(medium) for medium in media):
        return True
    return False if media and all(medium.model in _LASTING for medium in media) else None


def _temporary(medium: Medium) -> bool:
    in_memory = medium.name.rstrip("0123456789") in _MEMORY
    return in_memory or medium.azure_temporary or medium.model in _TEMPORARY
