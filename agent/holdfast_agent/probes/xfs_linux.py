"""XFS: how long it tries again when metadata cannot be written, before it shuts down.

/sys/fs/xfs/DEVICE/error/metadata/{EIO,ENOSPC,ENODEV,default}/{max_retries,retry_timeout_seconds}; -1 is for ever, the
default for all but ENODEV (Documentation/admin-guide/xfs.rst). For ever means that a filesystem on a full thin pool or
a lost path hangs instead of failing: nothing is lost, and nothing goes on either (catalogue A-33).
"""

from msgspec import Struct, field

from holdfast_agent.probe import NoData, Observation, Poll
from holdfast_agent.probes.mount_awake_linux import MountAwake
from holdfast_agent.probes.mounted_linux import Mounted, number_in, read_mounted
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

_ERRORS = ("EIO", "ENOSPC", "ENODEV", "default")


class Retries(Struct, frozen=True):
    """For one kind of error; -1: no limit."""

    count: int
    seconds: int

    @property
    def forever(self) -> bool:
        return self.count == -1 and self.seconds == -1


class XfsRaw(Struct, frozen=True, kw_only=True):
    """The settings of every mounted XFS."""

    mounted: Mounted
    retries: dict[str, dict[str, Retries]] = field(default_factory=dict)
    """Mountpoint → error → limits."""


class Xfs(Poll[XfsRaw], MountAwake):
    """Whether XFS would ever give up."""

    name = "xfs"
    platforms = frozenset({"linux"})
    cost = "nobody knows whether an XFS would hang or shut down when its disk fails"
    period_seconds = 300.0
    emits = (("volume", "xfs_retries_forever"), ("volume", "xfs_retries"))

    def read(self) -> XfsRaw:
        mounted = read_mounted(self.context)
        retries = {}
        for volume in mounted.volumes():
            at = volume.mount.mountpoint
            if volume.mount.fstype == "xfs" and (found := self._retries(mounted.devices.get(at, ""))):
                retries[at] = found
        return XfsRaw(mounted=mounted, retries=retries)

    def interpret(self, raw: XfsRaw) -> Observation:
        if not raw.retries:
            raise NoData("no XFS is mounted here")
        return Observation(
            resources=[
                Resource(kind=ResourceKind.VOLUME, name=at[:512], facts=_facts(found))
                for at, found in sorted(raw.retries.items())
            ]
        )

    def _retries(self, device: str) -> dict[str, Retries]:
        found = {}
        for error in _ERRORS:
            folder = self.context.sysfs / "fs" / "xfs" / device / "error" / "metadata" / error
            count = number_in(folder / "max_retries")
            seconds = number_in(folder / "retry_timeout_seconds")
            if count is not None and seconds is not None:
                found[error] = Retries(count, seconds)
        return found


def _facts(found: dict[str, Retries]) -> dict[str, Value]:
    said = []
    for error, retries in found.items():
        limits = [f"{retries.count} times"] if retries.count > 0 else []
        limits += [f"for {retries.seconds} s"] if retries.seconds > 0 else []
        said.append(f"{error} {'for ever' if retries.forever else ', '.join(limits) or 'not at all'}")
    return {
        "xfs_retries_forever": any(found[error].forever for error in ("EIO", "ENOSPC") if error in found),
        "xfs_retries": "; ".join(said),
    }
