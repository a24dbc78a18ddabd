"""What is said of a volume, from what was read of it: room, and whether it takes writes and why not."""

import errno
import os

from holdfast_agent.probes.filesystem_raw import FilesystemRaw, Space, VolumesRaw
from holdfast_agent.probes.mountinfo import FstabEntry, Mount
from holdfast_agent.probes.volume_choice import READ_ONLY_TYPES, Volume
from holdfast_wire.message import Value

_EMERGENCY_SHOWN_SINCE = (6, 15)
"""The kernel from which ext4 shows `emergency_ro` (ext4: show 'emergency_ro' when EXT4_FLAGS_EMERGENCY_RO is set)."""


def volume_facts(
    volume: Volume, found: FilesystemRaw, raw: VolumesRaw, missing: dict[str, str]
) -> dict[str, Value]:
    mount = volume.mount
    facts: dict[str, Value] = {
        "mountpoint": mount.mountpoint,
        "source": mount.source,
        "fstype": mount.fstype,
        "device": found.device,
        "options": f"{','.join(mount.options)} - {','.join(mount.super_options)}"[:1000],
        "network": volume.network,
        "volatile": volume.volatile,
    }
    if volume.volatile:
        facts |= {"durability_class": 0, "durability_class_known": True}
    if found.ext4_errors is not None:
        facts["filesystem_errors_total"] = found.ext4_errors
    facts |= _space_facts(found.space, writable_format=mount.fstype not in READ_ONLY_TYPES)
    unreachable = _unreachable(found)
    if unreachable or found.space is not None or found.stat_errno == errno.EIO:
        facts["reachable"] = not unreachable
    if found.error and not unreachable:
        missing[mount.mountpoint] = f"its room: {found.error}"
    return facts | _write_facts(volume, found, raw, unreachable, missing)


def _space_facts(space: Space | None, *, writable_format: bool) -> dict[str, Value]:
    """Nothing of free room where nothing can ever be written: a full CD is no news."""
    if space is None or space.blocks == 0:
        return {}
    facts: dict[str, Value] = {"size_bytes": space.blocks * space.block_bytes}
    if writable_format:
        facts["free_bytes"] = space.blocks_available * space.block_bytes
        facts["free_ratio"] = space.blocks_available / space.blocks
    if space.inodes and writable_format:
        facts["inodes"] = space.inodes
        facts["inodes_free"] = space.inodes_available
        facts["inodes_free_ratio"] = space.inodes_available / space.inodes
    return facts


def _unreachable(found: FilesystemRaw) -> str:
    """Why the filesystem does not answer; empty when it does, or when it is only hidden from the agent."""
    if found.hung_seconds is not None:
        return "it does not answer"
    if found.error in _UNREACHABLE_ERRORS:
        return f"it does not answer: {found.error}"
    return ""


_UNREACHABLE_ERRORS = frozenset(
    os.strerror(code)
    for code in (
        errno.EIO,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.ETIMEDOUT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ECONNREFUSED,
    )
)


def _write_facts(
    volume: Volume, found: FilesystemRaw, raw: VolumesRaw, unreachable: str, missing: dict[str, str]
) -> dict[str, Value]:
    deaths = _deaths(volume.mount, found, raw)
    read_only = _read_only(volume, found, machine_seen=bool(raw.machine_mounts))
    reasons = [*deaths, *read_only]
    if found.device_read_only and not reasons:
        reasons.append(f"its device {found.device} is read-only")
    if unreachable:
        reasons.append(unreachable)
    facts: dict[str, Value] = {"read_only": bool(read_only), "dead": bool(deaths)}
    if not reasons and (doubt := _doubt(volume.mount, found, raw)):
        missing[f"{volume.mount.mountpoint} writable"] = doubt
        del facts["dead"]
        return facts
    return facts | {"writable": not reasons, "unwritable_reason": "; ".join(reasons)}


def _deaths(mount: Mount, found: FilesystemRaw, raw: VolumesRaw) -> list[str]:
    """What shows that the filesystem has given up although it looks mounted."""
    reasons = []
    if "emergency_ro" in mount.super_options:
        reasons.append("the filesystem found an error and went into emergency read-only; it still says rw")
    if "shutdown" in mount.super_options:
        reasons.append("the filesystem has shut down; it still says rw")
    if found.stat_errno == errno.EIO:
        reasons.append("the filesystem has shut down: its root directory gives an input/output error")
    if found.device_gone:
        reasons.append("its device is gone")
    if not reasons and (words := raw.given_up.get(found.device)):
        reasons.append(f"the filesystem gave up; in the kernel's words: {words}")
    return reasons


def _read_only(volume: Volume, found: FilesystemRaw, *, machine_seen: bool) -> list[str]:
    """What shows that it is mounted read-only, by the filesystem or by the mount.

    Without process 1's view, the mount's own flag may be the doing of the agent's unit and counts for nothing.
    """
    mount, own = volume.mount, volume.own_mount
    if mount.fstype in READ_ONLY_TYPES:
        return [f"{mount.fstype} cannot be written"]
    if "ro" in mount.super_options:
        return ["the filesystem is mounted read-only"]
    if machine_seen and "ro" in mount.options:
        return ["the mount is read-only, the filesystem is not"]
    if found.read_only_flag and own is not None and "ro" not in own.options:
        return ["statvfs says it is read-only, the mount options do not"]
    return []


def _doubt(mount: Mount, found: FilesystemRaw, raw: VolumesRaw) -> str:
    """Why nothing can be said of writes although nothing speaks against them; empty where all is clear.

    An ext4 error in this boot under errors=remount-ro has stopped all writes, unless the filesystem was mounted anew
    since. Kernels before 6.15 show that nowhere but in the log.
    """
    if (
        not found.ext4_errors
        or not raw.kernel_log_unreadable
        or _release(raw.kernel) >= _EMERGENCY_SHOWN_SINCE
    ):
        return ""
    stops = "errors=remount-ro" in found.ext4_options or "errors=remount-ro" in mount.super_options
    if not stops or found.ext4_last_error_at < raw.booted_at:
        return ""
    return (
        f"ext4 recorded an error in this boot, and kernel {raw.kernel} shows only in its log whether writes stopped: "
        f"{raw.kernel_log_unreadable}"
    )


def _release(kernel: str) -> tuple[int, int]:
    parts = kernel.replace("-", ".").split(".")
    try:
        return int(parts[0]), int(parts[1])
    except (IndexError, ValueError):
        return (0, 0)


def mounted_writable(mount: Mount, *, machine_seen: bool) -> bool:
    """Whoever mounted it meant it to be written, dead or not: a filesystem that died still says rw.

    Without process 1's view, the mount's own flag may be the doing of the agent's unit and counts for nothing.
    """
    return "ro" not in mount.super_options and not (machine_seen and "ro" in mount.options)


def expected_writable(mount: Mount, entry: FstabEntry | None, seen: bool) -> bool:
    """By fstab where it has the mount; a format that cannot be written never; else as it was mounted in this boot."""
    if mount.fstype in READ_ONLY_TYPES:
        return False
    if entry is not None:
        return "ro" not in entry.options
    return seen
