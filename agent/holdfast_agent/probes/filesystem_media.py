"""From a mounted filesystem to the media it ends on: block device, btrfs, ZFS, overlay, memory, another machine.

A file on a filesystem has the filesystem's class, so a loop device has that of the file behind it, and an overlay that
of its upper directory, which takes the writes.
"""

from collections.abc import Mapping

from msgspec import structs

from holdfast_agent.probes import durability
from holdfast_agent.probes.block_tree import BlockTree
from holdfast_agent.probes.durability import Standing
from holdfast_agent.probes.media_raw import BtrfsRaw, MediaRaw
from holdfast_agent.probes.medium import MEMORY
from holdfast_agent.probes.mountinfo import Mount
from holdfast_agent.probes.volume_choice import MEMORY_TYPES, NETWORK_TYPES, OVERLAY_UNSYNCED
from holdfast_agent.probes.zpool_layout import Vdev, parse_zpool_layout

_BTRFS_COPIES = {"raid1": 2, "raid1c3": 3, "raid1c4": 4, "raid10": 2}
_BTRFS_PARITY = {"raid5": 1, "raid6": 2}


class FilesystemMedia:
    """The standing of every mounted filesystem of a machine."""

    def __init__(
        self,
        raw: MediaRaw,
        mounts: Mapping[str, Mount],
        declared: Mapping[str, int],
        unidentified: int | None = None,
    ) -> None:
        """`mounts`: mountpoint → what is seen there. `declared`: mountpoint or path of a device → class."""
        self._raw = raw
        self._mounts = mounts
        self._declared = {path: level for path, level in declared.items() if not path.startswith("/dev/")}
        devices = {
            raw.paths.get(path, path.rpartition("/")[2]): level
            for path, level in declared.items()
            if path.startswith("/dev/")
        }
        self.tree = BlockTree(raw, devices, unidentified, self.of_file)
        self._pools = parse_zpool_layout(raw.zpool_status)
        self._asked: set[str] = set()

    def of_mount(self, mount: Mount) -> Standing:
        """Of the filesystem, whichever of its mounts this is."""
        place = mount.mountpoint
        if place in self._asked:
            return durability.nowhere(place, "what it lies on is not visible from here")
        self._asked.add(place)
        try:
            found = self._of_filesystem(mount)
        finally:
            self._asked.discard(place)
        level = self._declared.get(place)
        return found if level is None else durability.declared(place, found, level)

    def of_file(self, path: str) -> Standing:
        """Of a file, or of a device named by its path."""
        name = path.removeprefix("/dev/")
        if path.startswith("/dev/") and (name in self.tree.devices or path in self._raw.paths):
            return self.tree.standing(self._raw.paths.get(path, name))
        mount = holding(path.removesuffix(" (deleted)"), self._mounts)
        if mount is None:
            return durability.nowhere(path, "no mounted filesystem holds it")
        return durability.weakest(path, "", [self.of_mount(mount)])

    def _of_filesystem(self, mount: Mount) -> Standing:
        fstype, source = mount.fstype, mount.source
        if fstype in MEMORY_TYPES:
            return Standing(level=durability.VOLATILE, chain=fstype, leaves={fstype: MEMORY})
        if fstype == "overlay":
            return self._of_overlay(mount)
        if fstype in NETWORK_TYPES:
            return durability.nowhere(f"{fstype} {source}", "its class is that of the storage there")
        if fstype == "zfs":
            return self._of_pool(source.partition("/")[0])
        if fstype == "btrfs":
            return self._of_btrfs(self.device_of(mount))
        if fstype == "bcachefs":
            parts = [self.tree.standing(self._named(part)) for part in source.split(":")]
            return durability.weakest("bcachefs", "", parts)
        name = self.device_of(mount)
        if not name:
            return durability.nowhere(f"{fstype} {source}", "no device of this machine is below it")
        found = self.tree.standing(name)
        beside = [
            self.tree.standing(self._named(option.partition("=")[2]))
            for option in mount.super_options
            if option.startswith(("logdev=", "rtdev="))
        ]
        return durability.weakest(fstype, "", [found, *beside]) if beside else found

    def device_of(self, mount: Mount) -> str:
        """The kernel's name; empty when no device is below."""
        name = self.tree.named(mount.number) if mount.major else ""
        return name or (self._named(mount.source) if mount.source.startswith("/dev/") else "")

    def _named(self, path: str) -> str:
        return self._raw.paths.get(path, path.removeprefix("/dev/"))

    # ---- filesystems of several devices ------------------------------------------------------------------------------

    def _of_btrfs(self, name: str) -> Standing:
        filesystem = next((one for one in self._raw.btrfs.values() if name in one.devices), None)
        if filesystem is None or (len(filesystem.devices) == 1 and not filesystem.missing):
            return self.tree.standing(name)
        members = [self.tree.standing(device) for device in sorted(filesystem.devices)]
        found = [self._of_profile(profile, filesystem, members) for profile in filesystem.profiles]
        if not found:
            return durability.weakest("btrfs", "", members, "its profiles cannot be seen")
        # What stands worst decides: metadata without a copy is worth no more than data without one.
        return min(found, key=lambda one: -1 if one.level is None else one.level)

    def _of_profile(self, profile: str, filesystem: BtrfsRaw, members: list[Standing]) -> Standing:
        missing = filesystem.missing
        note = durability.missing(missing, "its devices")
        if profile in _BTRFS_COPIES:
            copies = max(_BTRFS_COPIES[profile] - missing, 1)
            return durability.mirrored("btrfs", profile, members, copies=copies, note=note)
        if profile in _BTRFS_PARITY:
            losses = _BTRFS_PARITY[profile] - missing
            return durability.parity("btrfs", profile, members, losses=losses, note=note)
        return durability.weakest("btrfs", profile, members, note)

    def _of_pool(self, pool: str) -> Standing:
        vdevs = self._pools.get(pool)
        if not vdevs:
            return durability.nowhere(
                f"zpool {pool}", self._raw.zpool_unreadable or "zpool status does not list it"
            )
        found = [self._of_vdev(vdev) for vdev in vdevs]
        return durability.weakest(f"zpool {pool}", "", found)

    def _of_vdev(self, vdev: Vdev) -> Standing:
        if not vdev.children:
            return self.of_file(vdev.name)
        kind = vdev.name.rpartition("-")[0]
        left = [child for child in vdev.children if child.present]
        members = [self._of_vdev(child) for child in left]
        gone = len(vdev.children) - len(left)
        note = durability.missing(gone, f"{vdev.name}'s devices")
        if kind in ("mirror", "replacing", "spare"):
            return durability.mirrored(vdev.name, "", members, note=note)
        if kind.startswith(("raidz", "draid")):
            losses = int(kind[5:6]) if kind[5:6].isdigit() else 1
            return durability.parity(vdev.name, "", members, losses=losses - gone, note=note)
        return durability.weakest(vdev.name, "", members, note)

    # ---- overlays ----------------------------------------------------------------------------------------------------

    def _of_overlay(self, mount: Mount) -> Standing:
        options = dict(option.partition("=")[::2] for option in mount.super_options)
        upper = options.get("upperdir", "").replace("\\:", ":").replace("\\\\", "\\")
        if not upper:
            return durability.nowhere("overlay", "it has no upper directory, so nothing is written")
        found = durability.weakest("overlay", "", [self.of_file(upper)])
        if syncs_ignored(mount):
            return structs.replace(
                found, level=durability.VOLATILE, note="mounted volatile: every sync is a no-op"
            )
        return found


def syncs_ignored(mount: Mount) -> bool:
    """An overlay mounted `volatile` makes every sync a no-op."""
    return mount.fstype == "overlay" and bool(OVERLAY_UNSYNCED & set(mount.super_options))


def holding(path: str, mounts: Mapping[str, Mount]) -> Mount | None:
    """The mount a path lies on, by the mountpoints alone."""
    found = [
        mount for place, mount in mounts.items() if path == place or path.startswith(place.rstrip("/") + "/")
    ]
    return max(found, key=lambda mount: len(mount.mountpoint), default=None)
