"""The machine's volumes from two texts: process 1's mountinfo and the agent's own."""

from functools import lru_cache

from holdfast_agent.probes.mountinfo import Mount, parse_mountinfo
from holdfast_agent.probes.volume_choice import Volume, choose_volumes


@lru_cache(maxsize=4)
def mounts_in(mountinfo: str) -> tuple[Mount, ...]:
    """Mounts change rarely and are read often."""
    return parse_mountinfo(mountinfo)


@lru_cache(maxsize=4)
def list_volumes(machine_mounts: str, own_mounts: str) -> tuple[Volume, ...]:
    """The volumes, by mountpoint; by the agent's own view alone where process 1's may not be read.

    Kept as the mounts are: a dozen probes ask for the same.
    """
    own = mounts_in(own_mounts)
    if not machine_mounts:
        return tuple(choose_volumes(own, own))
    machine = mounts_in(machine_mounts)
    known = {mount.number for mount in machine}
    # What only the agent sees is its unit's doing (PrivateTmp, ProtectHome) if it is in memory, else a real filesystem.
    extra = [mount for mount in own if mount.number not in known and mount.fstype not in ("tmpfs", "ramfs")]
    return tuple(choose_volumes([*machine, *extra], own))
