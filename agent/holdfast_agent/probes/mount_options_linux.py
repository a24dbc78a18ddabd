"""Mount options that weaken durability: whether `fsync` still means what applications take it for.

Catalogue A-21. What mountinfo shows is what was asked for; ext4 shows what is in force, the superblock's defaults
included, in /proc/fs/ext4/DEVICE/options (fs/ext4/super.c, `_ext4_show_options` with `nodefs`).

- barriers off (`nobarrier`; also how `barrier=0` is shown): fsync does not flush the device's cache. XFS has no such
  option any more and refuses the mount.
- syncs ignored: overlayfs `volatile` (shown as `fsync=volatile` by newer kernels), CIFS `nostrictsync`.
- `data=writeback`: after a crash a file may hold stale blocks. `commit=N`: how long what nobody synced may be lost.
- `errors=continue`: the filesystem goes on taking writes after it found itself damaged.
- btrfs `degraded`: it runs without one of its devices; `nodatasum`, `nodatacow`: no checksums over data.
- NFS and CIFS `soft`: a server that does not answer in time turns writes into errors, which few applications check.

A mount wakes it; a remount too. Otherwise it looks once a minute.
"""

from msgspec import Struct, field

from holdfast_agent.probe import NoData, Observation, Poll, Signal
from holdfast_agent.probes.block_devices_linux import name_of_path
from holdfast_agent.probes.mount_awake_linux import MountAwake
from holdfast_agent.probes.mount_watch_linux import MOUNT
from holdfast_agent.probes.mounted_linux import Mounted, read_mounted, text_of
from holdfast_agent.probes.volume_choice import NETWORK_TYPES, OVERLAY_UNSYNCED, Volume
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_DEFAULT_COMMIT_SECONDS = {"ext3": 5, "ext4": 5, "btrfs": 30}
"""ext4(5), btrfs(5)."""
_JOURNALED = ("ext3", "ext4")


class MountOptionsRaw(Struct, frozen=True, kw_only=True):
    """Mounts, and what sysfs and procfs add to them."""

    mounted: Mounted
    ext4_options: dict[str, str] = field(default_factory=dict)
    """Mountpoint → all options in force; those that could not be read are left out."""
    write_caches: dict[str, str] = field(default_factory=dict)
    """Mountpoint → the disk's `queue/write_cache`: `write back` or `write through`."""


class MountOptions(Poll[MountOptionsRaw], MountAwake):
    """How each volume is mounted, as far as it bears on what survives."""

    name = "mount_options"
    platforms = frozenset({"linux"})
    cost = "nobody knows that a filesystem is mounted so that fsync keeps nothing, or with too long a commit interval"
    period_seconds = 60.0
    emits = tuple(
        ("volume", fact)
        for fact in (
            "barriers_disabled", "write_cache_volatile", "syncs_ignored", "errors_behaviour", "data_mode",
            "commit_interval_seconds", "btrfs_degraded", "checksums_disabled", "network_soft", "weakened_by",
        )
    )  # fmt: skip
    told_by = (Signal(by=MOUNT, facts=tuple(pair for pair in emits if pair[1] != "write_cache_volatile")),)

    def read(self) -> MountOptionsRaw:
        mounted = read_mounted(self.context)
        ext4_options, write_caches = {}, {}
        for volume in mounted.volumes():
            at = volume.mount.mountpoint
            device = mounted.devices.get(at, "")
            if not device:
                continue
            in_force = self.context.procfs / "fs" / volume.mount.fstype / device / "options"
            if volume.mount.fstype in _JOURNALED and (options := text_of(in_force)):
                ext4_options[at] = options
            if cache := self._write_cache(device):
                write_caches[at] = cache
        return MountOptionsRaw(mounted=mounted, ext4_options=ext4_options, write_caches=write_caches)

    def interpret(self, raw: MountOptionsRaw) -> Observation:
        volumes = raw.mounted.volumes()
        if not volumes:
            raise NoData("no filesystem here keeps anything")
        resources = []
        for volume in volumes:
            at = volume.mount.mountpoint
            facts = option_facts(volume, raw.ext4_options.get(at, ""), raw.write_caches.get(at, ""))
            resources.append(Resource(kind=ResourceKind.VOLUME, name=at[:512], facts=facts))
        return Observation(resources=resources)

    def _write_cache(self, device: str) -> str:
        """Of the whole disk: a partition's folder has no `queue`."""
        folder = self.context.sysfs / "class" / "block" / device
        own = text_of(folder / "queue" / "write_cache").strip()
        if own:
            return own
        disk = name_of_path(str(folder.resolve().parent))
        return text_of(self.context.sysfs / "class" / "block" / disk / "queue" / "write_cache").strip()


def option_facts(volume: Volume, in_force: str, write_cache: str) -> dict[str, Value]:
    """What the options mean; a fact is absent where the filesystem has nothing of the kind or does not say."""
    mount = volume.mount
    options = [*mount.options, *mount.super_options, *in_force.split()]
    facts: dict[str, Value] = {"syncs_ignored": _syncs_ignored(mount.fstype, options)}
    if mount.fstype in (*_JOURNALED, "btrfs"):
        facts["barriers_disabled"] = "nobarrier" in options or "barrier=0" in options
        interval = _value("commit", options)
        facts["commit_interval_seconds"] = (
            int(interval) if interval.isdigit() else _DEFAULT_COMMIT_SECONDS[mount.fstype]
        )
    elif mount.fstype == "xfs":
        facts["barriers_disabled"] = False
    if write_cache:
        facts["write_cache_volatile"] = write_cache == "write back"
    for fact, option in (("errors_behaviour", "errors"), ("data_mode", "data")):
        if mount.fstype in _JOURNALED and (value := _value(option, options)):
            facts[fact] = value
    if mount.fstype == "btrfs":
        facts["btrfs_degraded"] = "degraded" in options
        facts["checksums_disabled"] = "nodatasum" in options or "nodatacow" in options
    if mount.fstype in NETWORK_TYPES:
        facts["network_soft"] = bool({"soft", "softerr"} & set(options))
    facts["weakened_by"] = "; ".join(_words(facts))
    return facts


def _syncs_ignored(fstype: str, options: list[str]) -> bool:
    if fstype == "overlay":
        return bool(OVERLAY_UNSYNCED & set(options))
    return fstype in ("cifs", "smb3") and "nostrictsync" in options


def _value(name: str, options: list[str]) -> str:
    """The last `name=value` wins: what is in force stands behind what was asked for."""
    return next(
        (option.partition("=")[2] for option in reversed(options) if option.startswith(f"{name}=")), ""
    )


def _words(facts: dict[str, Value]) -> list[str]:
    said = []
    if facts["syncs_ignored"]:
        said.append("it ignores fsync: nothing is written to the disk when an application asks for it")
    if facts.get("barriers_disabled"):
        cache = {True: "which has one", False: "which has none"}
        known = facts.get("write_cache_volatile")
        device = f", {cache[known]}" if isinstance(known, bool) else ""
        said.append(f"write barriers are off: fsync does not flush the volatile cache of the device{device}")
    if facts.get("data_mode") == "writeback":
        said.append("data=writeback: after a crash files may hold what was on the disk before")
    interval = facts.get("commit_interval_seconds")
    if isinstance(interval, int) and interval > 30:
        said.append(f"commit={interval}: a crash loses up to {interval} s of what nobody synced")
    if facts.get("btrfs_degraded"):
        said.append("degraded: it runs without one of its devices")
    if facts.get("checksums_disabled"):
        said.append("no checksums over data: damage on the disk is not noticed")
    if facts.get("network_soft"):
        said.append("soft: a slow server makes writes fail, and what was in flight is lost")
    return said
