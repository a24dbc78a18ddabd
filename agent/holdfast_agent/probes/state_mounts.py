"""From a mount in one service's view to the volume it is on the machine.

The same filesystem has one number (major:minor of its superblock) in every view, and `root` says which of its folders is
mounted; the two together say where a path of one view is in another. The volume is the one that the `volumes` probe names.
"""

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Literal

from msgspec import Struct

from holdfast_agent.probes.kubelet_volumes import PodVolume, host_path, pod_volume
from holdfast_agent.probes.mountinfo import Mount, parse_mountinfo
from holdfast_agent.probes.state_roles import below
from holdfast_agent.probes.volume_choice import (
    MEMORY_DEVICES,
    MEMORY_TYPES,
    NETWORK_TYPES,
    OVERLAY_UNSYNCED,
    choose_volumes,
)

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_VOLUME = re.compile(r"(?:^|/)volumes/([^/]+)/_data(?:/|$)")
_LAYERS = frozenset({"overlay", "aufs", "fuse.fuse-overlayfs"})
_PRIVATE_TMP = re.compile(r"/(?:var/)?tmp/systemd-private-")
_UNSYNCED: dict[str, frozenset[str]] = {
    "overlay": OVERLAY_UNSYNCED,
    "cifs": frozenset({"nostrictsync"}),
    "smb3": frozenset({"nostrictsync"}),
}
"""Filesystem → options with which fsync is nothing, or does not reach the server (A-08, A-21)."""


@lru_cache(maxsize=64)
def parsed(mountinfo: str) -> tuple[Mount, ...]:
    """A list of mounts; they change rarely and are asked for many paths."""
    return parse_mountinfo(mountinfo)


@lru_cache(maxsize=64)
def mount_ids(mountinfo: str) -> frozenset[int]:
    """The ids of all mounts of a list."""
    return frozenset(mount.mount_id for mount in parsed(mountinfo))


@lru_cache(maxsize=64)
def hanging_in(mountinfo: str) -> Mapping[str, int]:
    """`hanging_mounts` of a list: hundreds of services have the same."""
    return hanging_mounts(parsed(mountinfo))


class Ending(Struct, frozen=True, kw_only=True):
    """What a path's mount is on the machine."""

    mountpoint: str = ""
    """The volume; empty when no volume holds it."""
    machine_path: str = ""
    machine_mountpoint: str = ""
    """The machine's mount right below the path, which may be a part of the volume mounted elsewhere."""
    volatile: bool = False
    container_layer: bool = False
    container_volume: str = ""
    syncs_ignored: bool = False


class Machine:
    """The machine's mounts, asked for many paths."""

    def __init__(self, machine: str, own: str) -> None:
        mounts = parsed(machine or own)
        self._mounts: Mapping[str, Mount] = {mount.mountpoint: mount for mount in mounts}
        self._by_number: dict[str, list[Mount]] = {}
        for mount in self._mounts.values():
            self._by_number.setdefault(mount.number, []).append(mount)
        volumes = choose_volumes(mounts, parsed(own or machine))
        self._volumes = {volume.mount.number: volume for volume in volumes}
        root = self._mounts.get("/")
        self.root_number = root.number if root else ""
        self.mountpoints = frozenset(self._mounts)

    def holding(self, path: str) -> Mount | None:
        """The uppermost mount on which a path of the machine lies."""
        while path not in self._mounts:
            if path == "/":
                return None
            path = posixpath.dirname(path)
        return self._mounts[path]

    def ending(self, mount: Mount, path: str, *, container: bool) -> Ending:
        """What is at `path`, which lies on `mount` of a service's view."""
        inside = posixpath.normpath(posixpath.join(mount.root, _rest(path, mount.mountpoint)))
        there = self._place_of(mount.number, inside)
        volume = self._volumes.get(mount.number)
        layer = container and volume is None and mount.fstype in _LAYERS
        upper = _option(mount, "upperdir")
        if layer and upper:
            below_it = self.holding(upper)
            volume = self._volumes.get(below_it.number) if below_it else None
        named = _VOLUME.search(mount.root)
        how = "" if not container or layer or mount.fstype in MEMORY_TYPES else "bind"
        if how and named:
            how = "anonymous" if _ANONYMOUS.fullmatch(named[1]) else "named"
        how = "" if layer else self._pod_volume(mount, inside) or how
        on = self.holding(there) if there else None
        return Ending(
            mountpoint=volume.mount.mountpoint[:512] if volume else "",
            machine_path=there,
            machine_mountpoint=on.mountpoint if on else "",
            volatile=self._volatile(mount, upper) or bool(_PRIVATE_TMP.match(there)),
            container_layer=layer,
            container_volume=how,
            syncs_ignored=bool(_UNSYNCED.get(mount.fstype, frozenset()) & set(mount.super_options)),
        )

    def pod_volumes(self, service: str, mounts: Iterable[Mount]) -> dict[int, PodVolume]:
        """Mount's id → which volume of its pod it is, of a container's mounts."""
        found: dict[int, PodVolume] = {}
        for mount in mounts:
            if kind := self._pod_volume(mount, mount.root):
                found[mount.mount_id] = kind
            elif host_path(service, mount):
                found[mount.mount_id] = "host_path"
        return found

    def _pod_volume(self, mount: Mount, inside: str) -> PodVolume | Literal[""]:
        places = [_place(way, inside) for way in self._ways(mount.number, inside)]
        return pod_volume([inside, *places], mount.fstype)

    def _place_of(self, number: str, inside: str) -> str:
        """Where the machine sees a folder of a filesystem; empty when it does not."""
        ways = self._ways(number, inside)
        if not ways:
            return ""
        return _place(max(ways, key=lambda mount: (len(mount.root), -len(mount.mountpoint))), inside)

    def _ways(self, number: str, inside: str) -> list[Mount]:
        return [mount for mount in self._by_number.get(number, ()) if below(inside, mount.root)]

    def _volatile(self, mount: Mount, upper: str) -> bool:
        if mount.fstype in MEMORY_TYPES:
            return True
        if mount.fstype in _LAYERS and upper:
            under = self.holding(upper)
            return under is not None and under.fstype in MEMORY_TYPES
        device = mount.source.rpartition("/")[2]
        return mount.source.startswith("/dev/") and device.rstrip("0123456789") in MEMORY_DEVICES


def hanging_mounts(mounts: Sequence[Mount]) -> dict[str, int]:
    """mountpoint → id of what must not be touched: another machine, a process, or a trigger answers there.

    Where one is hidden by a mount that was put over it, it is not in the way.
    """
    uppermost = {mount.mountpoint: mount for mount in mounts}
    return {
        place: mount.mount_id
        for place, mount in uppermost.items()
        if mount.fstype in NETWORK_TYPES or mount.fstype.startswith("fuse") or mount.fstype == "autofs"
    }


def _place(way: Mount, inside: str) -> str:
    """A folder of a filesystem, by one of the filesystem's mounts."""
    return posixpath.normpath(posixpath.join(way.mountpoint, _rest(inside, way.root)))


def _rest(path: str, place: str) -> str:
    """What is left of the path below the place, relative."""
    return path[len(place.rstrip("/")) :].lstrip("/")


def _option(mount: Mount, name: str) -> str:
    return next((o[len(name) + 1 :] for o in mount.super_options if o.startswith(f"{name}=")), "")
