"""What is said of devices and volumes: on which medium they end, and which class that makes."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from holdfast_agent.probes.durability import CLASSES, PERSISTENT, Standing
from holdfast_agent.probes.filesystem_media import FilesystemMedia
from holdfast_agent.probes.media_raw import DeviceRaw, MediaRaw
from holdfast_agent.probes.medium import transport_of
from holdfast_agent.probes.medium_cloud import azure_disk
from holdfast_agent.probes.mountinfo import Mount, parse_mountinfo
from holdfast_agent.probes.volume_choice import SNAP_PLACES, Volume, choose_volumes
from holdfast_wire.message import Value

DurabilityClass = Literal["D0", "D1", "D2", "D3", "D4"]
AbsolutePath = Annotated[str, Meta(pattern="^/", description="an absolute path")]


class MediaSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[probes.devices]`"""

    classes: dict[AbsolutePath, DurabilityClass] = field(default_factory=dict)
    """Mountpoint, or path of a device → its class. It counts for everything that rests on it."""
    unidentified: Literal["", "D0", "D1", "D2", "D3", "D4"] = ""
    """The class of virtual disks that do not show what they lie on."""

    @property
    def levels(self) -> dict[str, int]:
        return {path: CLASSES.index(word) for path, word in self.classes.items()}

    @property
    def unidentified_level(self) -> int | None:
        return CLASSES.index(self.unidentified) if self.unidentified else None


class Media(Struct, frozen=True):
    """A machine's media as they are taken to be, and as they are without the operator's word."""

    volumes: list[Volume]
    taken: FilesystemMedia
    found: FilesystemMedia


def machine_media(raw: MediaRaw, settings: MediaSettings) -> Media:
    """Everything that `raw` tells."""
    volumes, mounts = seen_volumes(raw.machine_mounts, raw.own_mounts)
    return Media(
        volumes=volumes,
        taken=FilesystemMedia(raw, mounts, settings.levels, settings.unidentified_level),
        found=FilesystemMedia(raw, mounts, {}),
    )


def seen_volumes(machine_mounts: str, own_mounts: str) -> tuple[list[Volume], dict[str, Mount]]:
    """The volumes, named as the probe `volumes` names them, and what is mounted at each place."""
    own = parse_mountinfo(own_mounts)
    machine = parse_mountinfo(machine_mounts) or own
    known = {mount.number for mount in machine}
    # What only the agent sees is its unit's doing if it is in memory, else a real filesystem.
    extra = [m for m in own if m.number not in known and m.fstype not in ("tmpfs", "ramfs")]
    return choose_volumes([*machine, *extra], own), {mount.mountpoint: mount for mount in [*machine, *extra]}


def volume_media_facts(volume: Volume, media: Media, raw: MediaRaw) -> dict[str, Value]:
    """Of one volume. The class is absent where nobody knows it; the reason says why."""
    mount = volume.mount
    standing = media.taken.of_mount(mount)
    facts = _class_facts(standing, raw)
    facts["durability_class_known"] = standing.level is not None
    facts["media"] = ", ".join(sorted({medium.word for medium in standing.leaves.values()}))
    turning = [raw.devices[name].rotational if name in raw.devices else None for name in standing.leaves]
    if turning and None not in turning:
        facts["rotational"] = all(turning)
    found = media.found.of_mount(mount).level if standing.declared else None
    if found is not None:
        facts["durability_class_found"] = found
    facts["durability_class_overstated"] = found is not None and found < min(PERSISTENT, standing.level or 0)
    if standing.level is not None:
        facts["partly_host_local"] = _partly_host_local(standing)
    if uuid := _filesystem_uuid(mount, raw, media.taken):
        facts["filesystem_uuid"] = uuid
    caches = [
        azure.caching
        for name in standing.leaves
        if name in raw.devices and (azure := azure_disk(raw.devices[name], raw.platform)) is not None
    ]
    if host_cache := next((mode for mode in ("ReadWrite", "ReadOnly", "None") if mode in caches), ""):
        facts["host_cache"] = host_cache
    return facts


def device_facts(name: str, device: DeviceRaw, media: Media, raw: MediaRaw) -> dict[str, Value]:
    """Of one device. What only a disk has – model, queue, transport – its partitions do not repeat."""
    tree = media.taken.tree
    standing = tree.standing(name)
    below = [device.whole] if device.whole else device.slaves
    facts: dict[str, Value] = _class_facts(standing, raw) | {
        "type": tree.layer(name),
        "size_bytes": device.size_bytes,
        "read_only": device.read_only,
        "parents": ", ".join(below),
    }
    if list(standing.leaves) == [name]:
        facts["medium"] = standing.leaves[name].word
        facts |= _identity_facts(device)
        if (azure := azure_disk(device, raw.platform)) is not None and azure.caching:
            facts["host_cache"] = azure.caching
    if device.rotational is not None:
        facts["rotational"] = device.rotational
    if device.io_timeout_ms is not None:
        facts["queue_io_timeout_seconds"] = device.io_timeout_ms / 1000
    return facts


def device_matters(name: str, device: DeviceRaw) -> bool:
    """Whether state can lie on it: not on empty drives, unused loop devices, images of snaps or a disk's second path."""
    if device.hidden or device.size_bytes == 0 or name.startswith(("sr", "fd", "ram")):
        return False
    if name.startswith("loop"):
        return bool(device.loop_file) and not device.loop_file.startswith(SNAP_PLACES)
    return True


def unmet_declarations(settings: MediaSettings, media: Media, raw: MediaRaw) -> dict[str, str]:
    """Declarations of what is not there: a class nobody has is a misspelt path, or a volume that is not mounted."""
    unmet = {}
    places = {volume.mount.mountpoint for volume in media.volumes}
    paths = {path for path, name in raw.paths.items() if name in raw.devices}
    paths |= {f"/dev/{name}" for name in raw.devices}
    for path in settings.classes:
        device = path.startswith("/dev/")
        known = paths if device else places
        if path not in known:
            near = difflib.get_close_matches(path, sorted(known), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            unmet[f"classes {path}"] = f"there is no such {'device' if device else 'volume'}{hint}"
    return unmet


def _class_facts(standing: Standing, raw: MediaRaw) -> dict[str, Value]:
    facts: dict[str, Value] = {
        "durability_class_reason": standing.reason[:1000],
        "durability_class_declared": standing.declared,
        "leaf_devices": ", ".join(name for name in standing.leaves if name in raw.devices),
    }
    if standing.level is not None:
        facts["durability_class"] = standing.level
    return facts


def _partly_host_local(standing: Standing) -> bool:
    """Whether a disk that goes with the host, or memory, decides although another outlives it, or may."""
    levels = [medium.level for medium in standing.leaves.values()]
    lowest = min((level for level in levels if level is not None), default=PERSISTENT)
    others = any(level is None or level >= PERSISTENT for level in levels)
    return standing.level == lowest and lowest < PERSISTENT and others


def _identity_facts(device: DeviceRaw) -> dict[str, Value]:
    stated = {"model": device.model, "serial": device.serial, "transport": transport_of(device)}
    return {name: value for name, value in stated.items() if value}


def _filesystem_uuid(mount: Mount, raw: MediaRaw, media: FilesystemMedia) -> str:
    asked = raw.filesystem_uuids.get(mount.mountpoint, "")
    name = media.device_of(mount)
    known = raw.devices.get(name)
    btrfs: Mapping[str, str] = {device: uuid for uuid, one in raw.btrfs.items() for device in one.devices}
    return asked or (known.filesystem_uuid if known else "") or btrfs.get(name, "")
