"""Data stranded beneath mountpoints: written while the right filesystem was not mounted, and hidden since it is.

Catalogue A-24. Nothing shows them but a look beneath, and they come to light when the mount is missing again: then an
old state of the service seems to be the current one. What lies there by intent (`lost+found`, `.keep`) does not count.

A mount wakes it; otherwise it looks every five minutes.
"""

from msgspec import Struct, field

from holdfast_agent.probe import NoData, Observation, Poll, Signal
from holdfast_agent.probes.hidden_tree_linux import Hidden, detached_mount, hidden_below
from holdfast_agent.probes.mount_awake_linux import MountAwake
from holdfast_agent.probes.mount_watch_linux import MOUNT
from holdfast_agent.probes.mounted_linux import Mounted, read_mounted
from holdfast_agent.probes.mountinfo import Mount
from holdfast_agent.probes.volume_choice import MEMORY_TYPES, NETWORK_TYPES, READ_ONLY_TYPES, Volume
from holdfast_agent.probes.volume_list import mounts_in
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value


class StrandedDataRaw(Struct, frozen=True, kw_only=True):
    """What lies beneath each volume's mountpoint."""

    mounted: Mounted
    hidden: dict[str, Hidden] = field(default_factory=dict)
    """Mountpoint → what lies beneath."""
    unread: dict[str, str] = field(default_factory=dict)
    """Mountpoint → why nobody could look."""


class StrandedData(Poll[StrandedDataRaw], MountAwake):
    """Looks beneath each volume on a local filesystem."""

    name = "stranded_data"
    platforms = frozenset({"linux"})
    cost = "nobody knows of data written while a filesystem was missing, which the mount hides now"
    period_seconds = 300.0
    timeout_seconds = 30.0
    emits = (("volume", "stranded_entries"), ("volume", "stranded_bytes"), ("volume", "stranded"))
    told_by = (Signal(by=MOUNT, facts=emits),)

    def read(self) -> StrandedDataRaw:
        mounted = read_mounted(self.context)
        hidden, unread = {}, {}
        for volume in mounted.volumes():
            beneath = mount_beneath(volume, mounts_in(mounted.own_mounts))
            if beneath is None or volume.path is None:
                continue
            place = volume.path.removeprefix(beneath.mountpoint).strip("/")
            try:
                with detached_mount(beneath.mountpoint) as root:
                    hidden[volume.mount.mountpoint] = hidden_below(root, place)
            except OSError as error:
                unread[volume.mount.mountpoint] = error.strerror or str(error)
        return StrandedDataRaw(mounted=mounted, hidden=hidden, unread=unread)

    def interpret(self, raw: StrandedDataRaw) -> Observation:
        if not raw.hidden and not raw.unread:
            raise NoData("no volume is mounted upon another local filesystem")
        below = {volume.mount.mountpoint: volume for volume in raw.mounted.volumes()}
        resources = [
            Resource(
                kind=ResourceKind.VOLUME,
                name=at[:512],
                facts=_facts(hidden, mount_beneath(below[at], mounts_in(raw.mounted.own_mounts))),
            )
            for at, hidden in sorted(raw.hidden.items())
            if at in below
        ]
        missing = {at: f"what lies beneath it: {reason}" for at, reason in raw.unread.items()}
        return Observation(resources=resources, missing=missing)


def mount_beneath(volume: Volume, own: tuple[Mount, ...]) -> Mount | None:
    """The mount whose directory the volume's mountpoint is; None for the root, and where nobody may or need look.

    Not on other machines and not through FUSE, which may hang; not in memory, where nothing lasts.
    """
    at = volume.path
    if at is None or at == "/":
        return None
    holding = [
        mount
        for mount in own
        if mount.mountpoint != at and (mount.mountpoint == "/" or at.startswith(mount.mountpoint + "/"))
    ]
    beneath = max(holding, key=lambda mount: len(mount.mountpoint), default=None)
    if beneath is None or beneath.fstype.startswith("fuse"):
        return None
    passed_over = NETWORK_TYPES | MEMORY_TYPES | READ_ONLY_TYPES | {"autofs"}
    return None if beneath.fstype in passed_over else beneath


def _facts(hidden: Hidden, beneath: Mount | None) -> dict[str, Value]:
    facts: dict[str, Value] = {
        "stranded_entries": hidden.entries,
        "stranded_bytes": hidden.bytes,
        "stranded": "",
    }
    if hidden.entries:
        many = "at least " if hidden.more else ""
        files = "file" if hidden.entries == 1 else "files"
        names = ", ".join(hidden.names) + (", …" if hidden.entries > len(hidden.names) else "")
        place = beneath.mountpoint if beneath else "/"
        facts["stranded"] = (
            f"{many}{hidden.entries} {files} on the filesystem of {place}, hidden by the mount: {names}"[
                :1000
            ]
        )
    return facts
