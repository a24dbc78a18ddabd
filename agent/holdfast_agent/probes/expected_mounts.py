"""What is to be said of expected and actual mounts; pure."""

from collections.abc import Sequence

from msgspec import Struct

from holdfast_agent.probes.kubelet_volumes import pod_volume
from holdfast_agent.probes.mount_table import ExpectedMount
from holdfast_agent.probes.mountinfo import Mount
from holdfast_agent.probes.volume_choice import POOL_TYPES, Volume
from holdfast_agent.probes.volume_list import mounts_in
from holdfast_wire.message import Value

_BOOT_PLACES = frozenset({"/", "/usr", "/sysroot"})
"""The initramfs mounts them whatever fstab says."""
_PASSING_PLACES = ("/media/", "/run/", "/mnt/wsl")
"""Where desktops and installers mount what is plugged in: not meant to stay."""


class Findings(Struct, frozen=True):
    """How mounts and wishes name devices; fields as in `ExpectedMountsRaw`."""

    devices: dict[str, str]
    links: dict[str, str]
    identities: dict[str, list[str]]
    members: dict[str, list[str]]
    places: dict[str, str]

    def differs(self, wanted: ExpectedMount, mount: Mount) -> bool | None:
        """Whether another filesystem is mounted than the one wanted; None when that cannot be told."""
        if wanted.bind or mount.fstype in POOL_TYPES:
            return None
        tag, value = wanted.tag
        if not tag and ":" in value and not value.startswith("/"):
            return value.rstrip("/") != mount.source.rstrip("/")
        device = self.devices.get(mount.mountpoint, "")
        family = self.members.get(device, [device])
        known = [
            each.partition("=")[2].lower()
            for name in family
            for each in self.identities.get(name, [])
            if tag and each.startswith(f"{tag}=")
        ]
        if known:
            return value.lower() not in known
        link = self.links.get(wanted.source)
        return link not in family if link and device else None


def mount_findings(
    configured: Sequence[ExpectedMount], volumes: Sequence[Volume], mountinfo: str, named: Findings
) -> dict[str, dict[str, Value]]:
    """Mountpoint → facts, for every volume and for every expected mount that is absent."""
    mounts = mounts_in(mountinfo)
    occupied = {mount.mountpoint: mount for mount in mounts}
    wanted = {named.places.get(one.mountpoint, one.mountpoint): one for one in configured if one.wanted}
    again = {named.places.get(one.mountpoint, one.mountpoint) for one in configured}
    found: dict[str, dict[str, Value]] = {}
    for volume in volumes:
        at = volume.mount.mountpoint
        facts: dict[str, Value] = {"mounted": True, "expected_mounted": at in wanted}
        trouble = ""
        if at in wanted:
            facts["expected_source"] = wanted[at].source
            differs = named.differs(wanted[at], volume.mount)
            if differs is not None:
                facts["source_differs"] = differs
            if differs:
                trouble = f"{wanted[at].origin} wants {wanted[at].source} here, but {volume.mount.source} is mounted"
        comes_again = _comes_again(volume, mounts, again)
        if comes_again is not None:
            facts["mount_configured"] = comes_again
        if comes_again is False:
            trouble = "mounted by hand: neither fstab nor a mount unit will mount it after a reboot"
        found[at] = facts | {"mount_trouble": trouble}
    for at, one in wanted.items():
        if at not in occupied:
            found[at] = _absent(at, one, occupied)
    return found


def _absent(at: str, wanted: ExpectedMount, occupied: dict[str, Mount]) -> dict[str, Value]:
    below = max(
        (place for place in occupied if place == "/" or at.startswith(place + "/")), key=len, default="/"
    )
    return {
        "mountpoint": at,
        "mounted": False,
        "expected_mounted": True,
        "expected_source": wanted.source,
        "mount_trouble": (
            f"{wanted.origin} wants {wanted.source} here, and nothing is mounted: "
            f"what is written here goes to the filesystem of {below}"
        ),
    }


def _comes_again(volume: Volume, mounts: Sequence[Mount], configured: set[str]) -> bool | None:
    """Whether something mounts it after a reboot; None where nobody expects it to (or nobody can tell)."""
    mount = volume.mount
    root = next((each for each in mounts if each.mountpoint == "/"), None)
    if root is None or root.fstype == "overlay":
        return None  # a container, or a live system: whoever made it mounts
    if volume.volatile or mount.fstype in POOL_TYPES or mount.fstype == "overlay":
        return None
    if mount.mountpoint.startswith(_PASSING_PLACES) or mount.fstype.startswith("fuse"):
        return None  # what was plugged in; what lives as long as the process that serves it
    if (mount.root != "/" and mount.fstype != "btrfs") or pod_volume([mount.mountpoint], mount.fstype):
        return None  # a part of another; what the kubelet mounts where the pod runs next
    places = {each.mountpoint for each in mounts if each.number == mount.number}
    triggers = [each.mountpoint for each in mounts if each.fstype == "autofs"]
    if any(place == at or place.startswith(at + "/") for place in places for at in triggers):
        return True
    return bool(places & (configured | _BOOT_PLACES))
