"""/sys/class/block, /sys/fs/btrfs and udev's database, read into plain data. Nothing here needs a privilege."""

import contextlib
import os
import re
from pathlib import Path

from holdfast_agent.probes.media_raw import BtrfsRaw, DeviceRaw, MdRaw, PlatformRaw
from holdfast_agent.probes.small_file import read_small

SECTOR_BYTES = 512
"""Of `size` in sysfs, whatever the device's own sector is (Documentation/ABI/stable/sysfs-block)."""
_SERIAL_PAGE_HEADER_BYTES = 4
_GUID = re.compile(r"\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}")


def read_devices(sysfs: Path, rootfs: Path) -> dict[str, DeviceRaw]:
    """Every block device by the kernel's name. One that goes away meanwhile is left out."""
    devices = {}
    for name in _names(sysfs / "class" / "block"):
        with contextlib.suppress(OSError):
            devices[name] = _device(sysfs, rootfs, name)
    return devices


def read_btrfs(sysfs: Path) -> dict[str, BtrfsRaw]:
    """Every mounted btrfs by UUID (Documentation/ABI/testing/sysfs-fs-btrfs)."""
    found = {}
    for uuid in _names(sysfs / "fs" / "btrfs"):
        folder = sysfs / "fs" / "btrfs" / uuid
        if not (folder / "devices").is_dir():
            continue
        profiles = {
            entry.name
            for kind in ("data", "metadata", "system", "mixed")
            for entry in _folders(folder / "allocation" / kind)
        }
        missing = sum(_line(entry / "missing") == "1" for entry in _folders(folder / "devinfo"))
        found[uuid] = BtrfsRaw(devices=_names(folder / "devices"), profiles=sorted(profiles), missing=missing)
    return found


def read_platform(sysfs: Path, procfs: Path) -> PlatformRaw:
    """What SMBIOS says, and whether the processor knows of a hypervisor."""
    dmi = sysfs / "class" / "dmi" / "id"
    return PlatformRaw(
        vendor=_line(dmi / "sys_vendor"),
        product=_line(dmi / "product_name"),
        version=_line(dmi / "product_version"),
        chassis_asset_tag=_line(dmi / "chassis_asset_tag"),
        hypervisor=_hypervisor(sysfs, procfs),
    )


def _hypervisor(sysfs: Path, procfs: Path) -> bool | None:
    if (sysfs / "hypervisor" / "type").exists() or (procfs / "device-tree" / "hypervisor").exists():
        return True
    try:
        # The first processor says it; on a machine with hundreds the whole file costs milliseconds.
        with (procfs / "cpuinfo").open("r", encoding="utf-8", errors="replace") as lines:
            flags = next((line for line in lines if line.startswith("flags")), "")
    except OSError:
        return None
    return "hypervisor" in flags.split() if flags else None


def _device(sysfs: Path, rootfs: Path, name: str) -> DeviceRaw:
    entry = sysfs / "class" / "block" / name
    number, size = _line(f"{entry}/dev"), _number(f"{entry}/size") or 0
    if not number:
        raise FileNotFoundError(entry)
    if not size and not name.startswith("md"):
        return DeviceRaw(number=number)  # a loop device nobody uses, an empty drive
    real = entry.resolve(strict=True)
    # What is not there is not asked for: most devices have few of these.
    there = set(os.listdir(entry))
    partition, device = "partition" in there, entry / "device"
    udev = _udev(rootfs / "run" / "udev" / "data" / f"b{number}")
    disk = not partition and "device" in there
    return DeviceRaw(
        number=number,
        path=str(real.relative_to(sysfs.resolve())),
        whole=real.parent.name if partition else "",
        size_bytes=size * SECTOR_BYTES,
        read_only=_line(entry / "ro") == "1",
        hidden="hidden" in there and _line(entry / "hidden") == "1",
        rotational=None if partition else _flag(entry / "queue" / "rotational"),
        io_timeout_ms=None if partition else _number(entry / "queue" / "io_timeout"),
        vendor=_line(device / "vendor") if disk else "",
        model=_line(device / "model") if disk else "",
        serial="" if partition else _serial(entry, there, udev),
        transport=_nvme_transport(device) if disk else "",
        namespace_id=None if partition or "nsid" not in there else _number(entry / "nsid"),
        vmbus_id="" if partition or "virtual" in real.parts else _vmbus_id(real, sysfs),
        slaves=_names(entry / "slaves"),
        mapper_name=_line(entry / "dm" / "name") if "dm" in there else "",
        mapper_uuid=_line(entry / "dm" / "uuid") if "dm" in there else "",
        md=_md(entry / "md") if not partition and "md" in there else None,
        loop_file=_line(entry / "loop" / "backing_file") if "loop" in there else "",
        bcache_mode=_line(entry / "bcache" / "cache_mode") if "bcache" in there else "",
        bcache_cache="bcache" in there and (entry / "bcache" / "cache_replacement_policy").exists(),
        filesystem_uuid=udev.get("ID_FS_UUID", ""),
    )


def _md(folder: Path) -> MdRaw:
    return MdRaw(
        level=_line(folder / "level"),
        layout=_number(folder / "layout") or 0,
        degraded=_number(folder / "degraded") or 0,
        members={
            entry.name.removeprefix("dev-"): _line(entry / "state")
            for entry in _folders(folder)
            if entry.name.startswith("dev-")
        },
    )


def _serial(entry: Path, there: set[str], udev: dict[str, str]) -> str:
    """Of virtio the disk's own, of NVMe the controller's, of SCSI page 80 of its vital product data."""
    known = _line(entry / "serial") if "serial" in there else ""
    if not known and "device" in there:
        known = _line(entry / "device" / "serial")
    known = known or udev.get("ID_SERIAL_SHORT", "")
    if known or "device" not in there:
        return known
    try:
        page = (entry / "device" / "vpd_pg80").read_bytes()[_SERIAL_PAGE_HEADER_BYTES:]
    except OSError:
        return ""
    return page.decode("ascii", "replace").strip("\0 ")


def _nvme_transport(device: Path) -> str:
    """Of the controller, or of the first one below a subsystem with several."""
    direct = _line(device / "transport")
    return direct or next(
        (_line(entry / "transport") for entry in _folders(device) if entry.name.startswith("nvme")), ""
    )


def _vmbus_id(real: Path, sysfs: Path) -> str:
    """`device_id` of the nearest Hyper-V device above the disk. Its bus goes by VMBUS:00, MSFT1000:00 and other names."""
    for above in real.parents:
        if above == sysfs.resolve():
            break
        if _GUID.fullmatch(found := _line(above / "device_id")):
            return found
    return ""


def _udev(path: Path) -> dict[str, str]:
    """The properties udev keeps of a device: lines `E:NAME=value` (src/libsystemd/sd-device)."""
    properties = {}
    for line in _text(path).splitlines():
        name, equals, value = line[2:].partition("=")
        if line.startswith("E:") and equals:
            properties[name] = value
    return properties


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder) if (folder / name).is_dir()]


def _flag(path: Path) -> bool | None:
    word = _line(path)
    return word == "1" if word else None


def _number(path: str | Path) -> int | None:
    try:
        return int(_line(path))
    except ValueError:
        return None


def _line(path: str | Path) -> str:
    return _text(path).strip("\0\n ")


def _text(path: str | Path) -> str:
    try:
        return read_small(path)
    except OSError:
        return ""
