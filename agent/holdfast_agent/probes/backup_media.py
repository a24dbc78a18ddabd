"""Backups that rest on the disk they are to replace (durability catalogue C-22). Pure.

    data ──▶ mount ──▶ leaves ┐
                              ├─ one in common: one failure takes both
    backup ─▶ mount ──▶ leaves ┘

Leaves are the disks at the end of partitions, LVM, RAID, loop devices and the like, a ZFS pool, a file server, memory. Two
disks that one storage system far away makes of the same spindles look like two.

A backup belongs to the service it is found at or declared for. A service that has nothing but backups keeps those of all
the others.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from holdfast_agent.probes.filesystem_media import FilesystemMedia
from holdfast_agent.probes.media_facts import seen_volumes
from holdfast_agent.probes.media_raw import MediaRaw
from holdfast_agent.probes.mountinfo import Mount
from holdfast_agent.probes.state_mounts import Machine
from holdfast_agent.probes.state_roles import PROMISED
from holdfast_agent.probes.volume_choice import NETWORK_TYPES
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

TEXT_MAX = 500
_SERVER = re.compile(r"(?://)?(\[[^]]+\]|[^:/]+)")


class _Kept(Struct, frozen=True):
    """One path that matters here."""

    name: str
    service: str
    leaves: frozenset[str]
    """Empty where nobody knows."""


def backup_facts(resources: Sequence[Resource], machine: Machine, media: MediaRaw) -> list[Resource]:
    """The resources, the backups' state paths with what they share added."""
    _, mounts = seen_volumes(media.machine_mounts, media.own_mounts)
    found = FilesystemMedia(media, mounts, {})
    promised = [
        _kept(each, machine, found)
        for each in resources
        if each.facts.get("role") in PROMISED and each.facts.get("confidence") != "low"
    ]
    return [
        structs.replace(each, facts=each.facts | _shared(_kept(each, machine, found), promised))
        if each.kind == ResourceKind.STATE_PATH and each.facts.get("role") == "backup"
        else each
        for each in resources
    ]


def leaves_of(mount: Mount, media: FilesystemMedia) -> frozenset[str]:
    """What the filesystem ends on; empty when nobody knows."""
    if mount.fstype == "zfs":
        return frozenset({f"zpool {mount.source.partition('/')[0]}"})
    if mount.fstype in NETWORK_TYPES:
        server = _SERVER.match(mount.source)
        return frozenset({f"server {server[1]}"} if server else ())
    return frozenset(media.of_mount(mount).leaves)


def _kept(resource: Resource, machine: Machine, media: FilesystemMedia) -> _Kept:
    facts = resource.facts
    place = facts.get("machine_path") or facts.get("mountpoint") or ""
    mount = machine.holding(str(place)) if place else None
    leaves = leaves_of(mount, media) if mount is not None else frozenset[str]()
    return _Kept(resource.name, str(facts.get("service", "")), leaves)


def _shared(backup: _Kept, promised: Iterable[_Kept]) -> dict[str, Value]:
    """Absent where one of the two is unknown and no other shares a leaf, and where nothing is there to be backed up."""
    everything = list(promised)
    its = [each for each in everything if each.service == backup.service] or everything
    common = {each.name: sorted(each.leaves & backup.leaves) for each in its if each.leaves & backup.leaves}
    if common:
        said = "; ".join(f"{name} on {', '.join(leaves)}" for name, leaves in sorted(common.items()))
        return {"same_disk_as_data": True, "same_disk_as": said[:TEXT_MAX]}
    if not its or not backup.leaves or not all(each.leaves for each in its):
        return {}
    return {"same_disk_as_data": False, "same_disk_as": ""}
