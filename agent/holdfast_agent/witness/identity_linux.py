"""What volumes and the machine are known by, read without root where that is possible."""

import contextlib
import os
import re
import struct
import sys
from pathlib import Path
from uuid import UUID

from holdfast_agent.witness.host_linux import host_digest
from holdfast_wire import Machine

SYSFS = Path("/sys")
_FS_IOC_GETFSUUID = 0x80111500
"""_IOR(0x15, 0, struct fsuuid2) of <linux/fs.h>, kernels since 6.9: the filesystem itself says its UUID, to anybody."""
_SUPERBLOCKS = {
    "ext4": (1024 + 0x68, 1024 + 0x38, b"\x53\xef"),
    "ext3": (1024 + 0x68, 1024 + 0x38, b"\x53\xef"),
    "ext2": (1024 + 0x68, 1024 + 0x38, b"\x53\xef"),
    "xfs": (32, 0, b"XFSB"),
    "btrfs": (0x10000 + 0x20, 0x10000 + 0x40, b"_BHRfS_M"),
}
"""Type → where the UUID lies, where the magic lies, the magic."""
_CLOUD_INSTANCE = re.compile(r"i-[0-9a-f]{8,}")
_MEANINGLESS = frozenset({"", "none", "not specified", "default string", "to be filled by o.e.m.", "0"})


def filesystem_id(path: str, fstype: str, device: str, number: str) -> str:
    """The UUID of the filesystem mounted at `path`; empty where nobody tells. `number`: its device's major:minor."""
    said = _asked_of_kernel(path)
    if said or not device:
        return said
    return (
        _by_link(Path("/dev/disk/by-uuid"), device)
        or _by_udev(Path("/run/udev/data"), number)
        or _by_superblock(Path("/dev") / device, fstype)
    )


def device_id(device: str, sysfs: Path = SYSFS) -> str:
    """What the device itself is known by: WWID, serial or device-mapper's UUID, with the partition's number."""
    if not device:
        return ""
    folder = Path(os.path.realpath(sysfs / "class" / "block" / device))
    partition = _line(folder / "partition")
    whole = folder.parent if partition else folder
    names = ("wwid", "device/wwid", "device/serial", "serial", "dm/uuid", "md/uuid")
    known = next((found for name in names if (found := _line(whole / name))), "")
    return f"{known}-part{partition}" if known and partition else known


def machine(rootfs: Path = Path("/"), sysfs: Path = SYSFS) -> Machine:
    """What the machine is known by. The instance's id is one that nobody needs a network to read."""
    dmi = sysfs / "class" / "dmi" / "id"
    tag = _line(dmi / "board_asset_tag")
    # What cloud-init wrote in this boot; its file in /var comes along with a copied disk.
    cloud = _line(rootfs / "run" / "cloud-init" / ".instance-id")
    uuid = _line(dmi / "product_uuid").lower()
    candidates = (
        tag if _CLOUD_INSTANCE.fullmatch(tag) else "",
        uuid,
        cloud.removeprefix("iid-datasource-none"),
    )
    return Machine(
        machine_id=_line(rootfs / "etc" / "machine-id"),
        instance_id=next((each for each in candidates if each.lower() not in _MEANINGLESS), ""),
        host=host_digest(rootfs),
    )


def _asked_of_kernel(path: str) -> str:
    if sys.platform != "linux":
        return ""
    import fcntl

    buffer = bytearray(17)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GETFSUUID, buffer)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return str(UUID(bytes=bytes(buffer[1:17]))) if buffer[0] == 16 else bytes(buffer[1 : 1 + buffer[0]]).hex()


def _by_link(folder: Path, device: str) -> str:
    try:
        for link in folder.iterdir():
            if os.path.realpath(link).rpartition("/")[2] == device:
                return link.name
    except OSError:
        pass
    return ""


def _by_udev(folder: Path, number: str) -> str:
    with contextlib.suppress(OSError):
        for line in (folder / f"b{number}").read_text("utf-8", "replace").splitlines():
            if line.startswith("E:ID_FS_UUID="):
                return line.partition("=")[2]
    return ""


def _by_superblock(device: Path, fstype: str) -> str:
    """As blkid reads it; needs the right to read the device."""
    layout = _SUPERBLOCKS.get(fstype)
    if layout is None:
        return ""
    place, magic_place, magic = layout
    try:
        with device.open("rb", buffering=0) as file:
            file.seek(magic_place)
            if file.read(len(magic)) != magic:
                return ""
            file.seek(place)
            (raw,) = struct.unpack("16s", file.read(16))
    except (OSError, struct.error):
        return ""
    return str(UUID(bytes=raw))


def _line(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""
