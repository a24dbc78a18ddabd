"""The kernel's names of block devices: by number, by path, by SCSI address, from sysfs."""

import os
from pathlib import Path


def name_of_number(sysfs: Path, number: str) -> str | None:
    """`8:1` → `sda1`, through /sys/dev/block; None when the device is gone or sysfs is not there."""
    try:
        return os.readlink(sysfs / "dev" / "block" / number).rpartition("/")[2]
    except OSError:
        return None


def name_of_scsi(sysfs: Path, address: str) -> str | None:
    """`2:0:0:0` → `sda`; None when no disk hangs there (any more)."""
    try:
        return min(os.listdir(sysfs / "bus" / "scsi" / "devices" / address / "block"), default=None)
    except OSError:
        return None


def name_of_path(path: str) -> str:
    """`/dev/mapper/vg-data` → `dm-3`, `/dev/sda1` → `sda1`: the name behind every link of udev's."""
    return os.path.realpath(path).rpartition("/")[2] if path.startswith("/") else path


def is_gone(sysfs: Path, name: str) -> bool:
    """Whether the machine has no block device and no controller of this name. False where nobody can say."""
    classes = sysfs / "class"
    if name.startswith("ata") or not (classes / "block").is_dir():
        return False  # a link of an ATA controller stays; in a container sysfs shows nothing
    return not any((classes / kind / name).exists() for kind in ("block", "nvme"))
