"""Which mounts are volumes: the filesystems a machine's state can live on, each once.

A volume is a filesystem on a block device, on another machine, in a pool (ZFS), or in memory where somebody mounted it
for use. Not a volume:

- the kernel's own (proc, sysfs, cgroup, …): everything without a block device that is not named below;
- autofs: it is a trigger, and looking at it would mount;
- containers' root filesystems, and what container runtimes keep in memory: they come and go with the container, and
  the disk below is a volume itself;
- snap's squashfs images, and the FUSE helpers of desktops and of lxcfs;
- memory at places where nothing is expected to last: /run, /dev, /sys, /proc; and read-only memory, which nobody
  writes to. A tmpfs anywhere else (/tmp, a database's folder) counts, and says that it is volatile.

Mounts of one filesystem are one volume, named by its whole, shortest mount. Where two are mounted on one place the
later hides the earlier.

The machine's mounts are those of process 1. The agent's own may differ: a hardened unit sees everything read-only and
some things not at all, so its view is used only for the way there.
"""

from collections.abc import Iterable

from msgspec import Struct

from holdfast_agent.probes.mountinfo import Mount

NETWORK_TYPES = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.cephfs", "fuse.davfs2",
        "fuse.gcsfuse", "fuse.glusterfs", "fuse.juicefs", "fuse.mergerfs-net", "fuse.rclone", "fuse.s3fs",
        "fuse.seaweedfs", "fuse.sshfs", "fuse.vmhgfs-fuse", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
        "orangefs", "pvfs2", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs",
    }
)  # fmt: skip
"""Their data lives on another machine, the hypervisor's host included; they can hang."""
READ_ONLY_TYPES = frozenset({"cramfs", "erofs", "iso9660", "romfs", "squashfs"})
"""Formats that cannot be written: always full, never expected to be writable."""
MEMORY_TYPES = frozenset({"tmpfs", "ramfs"})
POOL_TYPES = frozenset({"bcachefs", "jffs2", "ubifs", "zfs"})
"""Local and lasting although mountinfo shows no block device."""
HELPER_TYPES = frozenset(
    {
        "fuse.gvfsd-fuse",
        "fuse.gvfs-fuse-daemon",
        "fuse.lxcfs",
        "fuse.portal",
        "fuse.snapfuse",
        "fuse.fuse-overlayfs",
    }
)
MEMORY_PLACES = ("/run", "/dev", "/sys", "/proc", "/var/run", "/var/lock")
CONTAINER_PLACES = (
    "/run/containerd", "/var/lib/containerd", "/var/lib/containers", "/var/lib/docker", "/var/lib/kubelet",
    "/var/lib/lxc", "/var/lib/lxd", "/var/snap/lxd", "/var/lib/machines", "/var/lib/rancher",
)  # fmt: skip
SNAP_PLACES = ("/snap", "/var/lib/snapd")
MEMORY_DEVICES = ("zram", "ram")
OVERLAY_UNSYNCED = frozenset({"volatile", "fsync=volatile"})
"""Options of an overlay that never syncs; newer kernels print the second for the first."""


class Volume(Struct, frozen=True, kw_only=True):
    """One filesystem to look at."""

    mount: Mount
    """As process 1 sees it."""
    path: str | None
    """Where the agent can reach it; None when its own view of the machine does not have it."""
    own_mount: Mount | None
    """The mount at that path, as the agent sees it."""
    network: bool
    volatile: bool

    @property
    def isolated(self) -> bool:
        """It may hang whoever asks, so only a child process does: another machine or a FUSE process answers."""
        return (
            self.network or self.mount.fstype == "fuse" or self.mount.fstype.startswith(("fuse.", "fuseblk"))
        )


def choose_volumes(machine: Iterable[Mount], own: Iterable[Mount]) -> list[Volume]:
    """The volumes among `machine`'s mounts, by mountpoint."""
    visible = _uppermost(machine)
    reachable: dict[str, list[Mount]] = {}
    for mount in _uppermost(own).values():
        reachable.setdefault(mount.number, []).append(mount)
    filesystems: dict[str, list[Mount]] = {}
    for mount in visible.values():
        if _is_volume(mount):
            filesystems.setdefault(mount.number, []).append(mount)
    chosen = [min(mounts, key=_preference) for mounts in filesystems.values()]
    return [
        _volume(mount, _way_to(mount, reachable), visible)
        for mount in sorted(chosen, key=lambda m: m.mountpoint)
    ]


def _uppermost(mounts: Iterable[Mount]) -> dict[str, Mount]:
    return {mount.mountpoint: mount for mount in mounts}


def _preference(mount: Mount) -> tuple[bool, int, str]:
    """The whole filesystem before a part of it, then the shortest place."""
    return (mount.root != "/", len(mount.mountpoint), mount.mountpoint)


def _way_to(mount: Mount, reachable: dict[str, list[Mount]]) -> Mount | None:
    ways = reachable.get(mount.number, [])
    return next((way for way in ways if way.mountpoint == mount.mountpoint), None) or min(
        ways, key=_preference, default=None
    )


def _is_volume(mount: Mount) -> bool:
    fstype, place = mount.fstype, mount.mountpoint
    if fstype in HELPER_TYPES or fstype == "autofs":
        return False
    if fstype in MEMORY_TYPES:
        return not (_below(place, MEMORY_PLACES + CONTAINER_PLACES) or "ro" in mount.options)
    if fstype == "overlay":
        return not _below(place, CONTAINER_PLACES)
    if fstype == "squashfs" and _below(place, SNAP_PLACES):
        return False
    if fstype in NETWORK_TYPES or fstype in POOL_TYPES or fstype.startswith("fuse."):
        return True
    return fstype == "fuse" or mount.major != 0 or mount.source.startswith("/dev/")


def _volume(mount: Mount, way: Mount | None, visible: dict[str, Mount]) -> Volume:
    return Volume(
        mount=mount,
        path=way.mountpoint if way else None,
        own_mount=way,
        network=mount.fstype in NETWORK_TYPES,
        volatile=_volatile(mount, visible),
    )


def _volatile(mount: Mount, visible: dict[str, Mount]) -> bool:
    """In memory itself, on a disk in memory, or an overlay whose writes go there (live systems) or are never synced."""
    if mount.fstype in MEMORY_TYPES:
        return True
    if mount.fstype == "overlay":
        upper = next((o[9:] for o in mount.super_options if o.startswith("upperdir=")), "")
        below = _mount_of(upper, visible)
        return bool(OVERLAY_UNSYNCED & set(mount.super_options)) or (
            below is not None and below.fstype in MEMORY_TYPES
        )
    device = mount.source.rpartition("/")[2]
    return mount.source.startswith("/dev/") and device.rstrip("0123456789") in MEMORY_DEVICES


def _mount_of(path: str, visible: dict[str, Mount]) -> Mount | None:
    holding = [mount for place, mount in visible.items() if _below(path, (place,))]
    return max(holding, key=lambda mount: len(mount.mountpoint), default=None)


def _below(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)
