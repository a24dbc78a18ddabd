"""What the kernel's killer for want of memory did to running services, and whom it would rather spare.

systemd tells of a kill only where it ends the service: under `OOMPolicy=continue`, which databases with many processes
and container engines use, a killed process leaves no trace in the unit (systemd.service(5)). The service's control group
counts it all the same (`oom_kill` of memory.events in cgroup-v2.rst, of memory.oom_control under version 1).

To read every group at every look would cost a file per service. The kernel also counts all such kills of the machine in
one place (`oom_kill` of /proc/vmstat, since Linux 4.13), so the groups are read when that has moved, and a group also
when its unit's details are asked for anyway.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec.structs import replace

from holdfast_agent.probes.service_units import ServiceUnit
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.sysfs_linux import number

_COUNTS = ("{sysfs}/fs/cgroup{group}/memory.events", "{sysfs}/fs/cgroup/memory{group}/memory.oom_control")
"""Of version 2, and of version 1 beside it."""


class ServiceMemory:
    """Counts of control groups, read anew when a process was killed somewhere."""

    def __init__(self, procfs: Path, sysfs: Path) -> None:
        self._procfs = procfs
        self._sysfs = sysfs
        self._kills: int | None = None

    def looked_at(self, units: Mapping[str, ServiceUnit], due: Collection[str]) -> dict[str, ServiceUnit]:
        """The units whose counts were read now: those due, and all when the kernel has killed since the last look."""
        # Before the groups are read: a kill in between is found by the next look.
        kills = oom_kills(_text(f"{self._procfs}/vmstat"))
        moved, self._kills = kills != self._kills, kills
        return {id_: self._read(unit) for id_, unit in units.items() if moved or id_ in due}

    def _read(self, unit: ServiceUnit) -> ServiceUnit:
        score = number(_text(f"{self._procfs}/{unit.main_pid}/oom_score_adj")) if unit.main_pid else None
        return replace(
            unit,
            oom_kills=self._group_kills(unit.control_group),
            oom_score_adj=unit.oom_score_adj if score is None else score,
        )

    def _group_kills(self, group: str) -> int | None:
        """None for a unit without processes, and where the kernel keeps no account of the group's memory."""
        if not group.startswith("/"):
            return None
        for place in _COUNTS:
            kills = oom_kills(_text(place.format(sysfs=self._sysfs, group=group)))
            if kills is not None:
                return kills
        return None


def oom_kills(text: str) -> int | None:
    """`oom_kill` of a file of names and numbers; None without one."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return number(value)
    return None


def _text(path: str) -> str:
    try:
        return read_small(path)
    except OSError:
        return ""
