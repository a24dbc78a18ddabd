"""Which volumes are witnessed, where their chain lies, and why the others are not. Pure.

A volume is witnessed when it claims to be durable and can be written: not one in memory, not a format or a mount that
takes no writes, not an overlay (its files lie on a volume below), not one on another machine unless that is wanted.
One filesystem has one chain, however often it is mounted: `volume_choice` lists each once.

The chain lies in the volume's own root folder. On the volume that holds the agent's state folder it may lie there
instead, which is where an agent without root can write; with `state_dir_only` nothing is written anywhere else.
"""

import fnmatch
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from msgspec import Struct

from holdfast_agent.probes.mountinfo import Mount
from holdfast_agent.probes.volume_choice import READ_ONLY_TYPES, Volume
from holdfast_wire.configuring import Seconds

FOLDER = ".holdfast"
CHAIN = "chain"


class WitnessConfig(Struct, frozen=True, kw_only=True):
    """`[witness]`"""

    enabled: bool = True
    interval: Seconds = 60.0
    intervals: dict[str, Seconds] = {}
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    network: bool = False
    state_dir_only: bool = False
    slots: int = 2048

    def interval_of(self, mountpoint: str) -> float:
        return self.intervals.get(mountpoint, self.interval)


class Candidate(Struct, frozen=True):
    """One place where a volume's chain may lie."""

    path: Path
    base: Path
    """The folder that is there already; what is made below it is made durable up to it."""


class WitnessedVolume(Struct, frozen=True, kw_only=True):
    """A volume that shall be witnessed."""

    volume: str
    """Its resource name: its mountpoint."""
    path: str
    """Where the agent reaches it."""
    number: str
    fstype: str
    source: str
    mount_root: str
    network: bool
    interval: float
    slots_max: int
    candidates: tuple[Candidate, ...]
    """The first where a chain lies is used; without any, the first that can be written."""


NOT_VISIBLE = "not visible from the agent's mount namespace"
"""The one reason that nobody chose: the volume could be witnessed, and the agent does not get there."""


class WitnessPlan(Struct, frozen=True, kw_only=True):
    """What shall be witnessed, and why the rest is not."""

    witnessed: dict[str, WitnessedVolume]
    refused: dict[str, str]
    """Mountpoint → why it is not witnessed."""


def choose(
    volumes: Iterable[Volume],
    own: Iterable[Mount],
    config: WitnessConfig,
    state_folder: Path,
    install_id: str,
) -> WitnessPlan:
    """`own`: the mounts as the agent sees them. `state_folder` is a real path, without links."""
    home = _number_holding(str(state_folder), own)
    witnessed: dict[str, WitnessedVolume] = {}
    refused: dict[str, str] = {}
    for volume in volumes:
        mountpoint = volume.mount.mountpoint[:512]
        holds_state = volume.mount.number == home
        why_not = _why_not(volume, config, holds_state=holds_state)
        if why_not or volume.path is None:
            refused[mountpoint] = why_not
            continue
        witnessed[mountpoint] = WitnessedVolume(
            volume=mountpoint,
            path=volume.path,
            number=volume.mount.number,
            fstype=volume.mount.fstype,
            source=volume.mount.source,
            mount_root=volume.mount.root,
            network=volume.network,
            interval=config.interval_of(mountpoint),
            slots_max=config.slots,
            candidates=_candidates(
                volume.path, config, state_folder if holds_state else None, install_id=install_id
            ),
        )
    return WitnessPlan(witnessed=witnessed, refused=refused)


def left_out(mountpoint: str, config: WitnessConfig) -> bool:
    """Whether the configuration names a mountpoint as not to be witnessed: then it is not missed, either."""
    included = _matches(mountpoint, config.include) and not _matches(mountpoint, config.exclude)
    return not (config.enabled and included)


def _why_not(volume: Volume, config: WitnessConfig, *, holds_state: bool) -> str:
    mount = volume.mount
    if not _matches(mount.mountpoint, config.include):
        return "not in witness.include"
    if _matches(mount.mountpoint, config.exclude):
        return "in witness.exclude"
    if volume.volatile:
        return "in memory: it claims nothing"
    if mount.fstype in READ_ONLY_TYPES or "ro" in mount.super_options:
        return "read-only"
    if mount.fstype == "overlay":
        return "an overlay: its files lie on a volume below, which is witnessed where the agent sees it"
    if volume.network and not config.network:
        return "on another machine; witness.network = true witnesses it all the same"
    if volume.isolated and not config.network:
        return "another process answers for it (FUSE); witness.network = true witnesses it all the same"
    if config.state_dir_only and not holds_state:
        return "witness.state_dir_only, and the state folder is elsewhere"
    if volume.path is None:
        return NOT_VISIBLE
    return ""


def _candidates(
    path: str, config: WitnessConfig, state_folder: Path | None, *, install_id: str
) -> tuple[Candidate, ...]:
    found = []
    if not config.state_dir_only:
        found.append(Candidate(Path(path) / FOLDER / install_id / CHAIN, Path(path)))
    if state_folder is not None:
        found.append(Candidate(state_folder / "witness" / CHAIN, state_folder))
    return tuple(found)


def _matches(mountpoint: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(mountpoint, pattern) for pattern in patterns)


def _number_holding(path: str, mounts: Iterable[Mount]) -> str:
    """The device number of the filesystem that a path is on. stat's st_dev will not do: btrfs has one per subvolume."""
    at = PurePosixPath(path)
    holding = [mount for mount in mounts if at.is_relative_to(mount.mountpoint)]
    deepest = max((len(mount.mountpoint) for mount in holding), default=0)
    # Of several at one place the last in the list hides the others.
    return next((m.number for m in reversed(holding) if len(m.mountpoint) == deepest), "")
