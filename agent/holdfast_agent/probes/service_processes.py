"""Processes → the services they belong to, by control group (cgroups(7)); and the databases that belong to none.

A unit is the deepest part of the path that ends in `.service`; a container is recognised by its runtime's name for it.
Users' own units and sessions are no services of the machine, but a database is one wherever somebody started it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from holdfast_agent.probes.container_raw import ContainerRaw
from holdfast_agent.probes.engines.engine import Running
from holdfast_agent.probes.engines.known import engine_of
from holdfast_agent.probes.process_table import Process

_CONTAINER = re.compile(r"(docker|libpod|cri-containerd|crio)-([0-9a-f]{12})[0-9a-f]*(?:\.scope)?$")
_CGROUPFS_CONTAINER = re.compile(r"(?:^|/)(docker|libpod)/([0-9a-f]{12})[0-9a-f]{52}(?:/|$)")


_PLUMBING = "systemd-"
"""systemd's own units: what they keep is of this boot, or made anew."""


class Group(Struct, frozen=True, kw_only=True):
    """One service's processes."""

    name: str
    """Empty for a database that no service manager started: it is named when its folder is known."""
    processes: tuple[Process, ...]
    unit: bool
    """Whether the name is a unit's."""

    @property
    def engines(self) -> list[Process]:
        """Main processes of known engines."""
        return [each for each in self.processes if engine_of(Running(arguments=each.arguments)) is not None]


def service_of(cgroup: str) -> tuple[str, bool]:
    """(name, whether it is a unit) by the text of /proc/PID/cgroup; an empty name for what is no service."""
    for line in cgroup.splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if (hierarchy == "0" and controllers == "") or controllers == "name=systemd":
            if match := _CGROUPFS_CONTAINER.search(path):
                return f"{match[1]}-{match[2]}", False
            parts = path.split("/")
            for part in reversed(parts):
                if match := _CONTAINER.match(part):
                    return f"{match[1]}-{match[2]}", False
            if any(part.startswith("user@") for part in parts):
                continue
            for part in reversed(parts):
                if part.endswith(".service"):
                    return ("", False) if part.startswith(_PLUMBING) else (part, True)
    return "", False


def containers_of(found: Iterable[Group], containers: Sequence[ContainerRaw]) -> dict[str, ContainerRaw]:
    """Name of a group → the container that it is; a unit that runs a container has the container's main process."""
    by_pid = {each.pid: each for each in containers if each.pid}
    by_name = {f"{each.runtime}-{each.id[:12]}": each for each in containers}
    belonging: dict[str, ContainerRaw] = {}
    for group in found:
        container = by_name.get(group.name) or next(
            (by_pid[process.pid] for process in group.processes if process.pid in by_pid), None
        )
        if group.name and container is not None:
            belonging[group.name] = container
    return belonging


def groups(processes: Iterable[Process], cgroups: Mapping[int, str]) -> list[Group]:
    """The services among the processes, and every engine that runs outside of one with its descendants."""
    named: dict[tuple[str, bool], list[Process]] = {}
    loose: dict[int, Process] = {}
    for process in processes:
        if _starting(process):
            continue
        name, unit = service_of(cgroups.get(process.pid, ""))
        if name:
            named.setdefault((name, unit), []).append(process)
        else:
            loose[process.pid] = process
    found = [
        Group(name=name, processes=tuple(members), unit=unit)
        for (name, unit), members in sorted(named.items())
    ]
    found += [
        Group(name="", processes=(process, *_descendants(process.pid, loose)), unit=False)
        for process in loose.values()
        if engine_of(Running(arguments=process.arguments)) is not None
    ]
    return found


def _starting(process: Process) -> bool:
    """Whether it is systemd's own child yet, on the way to become a service (`rename_process_from_path` in src/core).

    A unit that is nothing else at this moment keeps nothing, and would be taken for one that no longer does.
    """
    title, *others = process.arguments
    return title.startswith("(") and title.endswith(")") and not any(others)


def _descendants(pid: int, processes: Mapping[int, Process]) -> list[Process]:
    found: list[Process] = []
    parents = {pid}
    for process in processes.values():  # by pid, and a child's is nearly always the larger
        if process.parent in parents:
            parents.add(process.pid)
            found.append(process)
    return found
