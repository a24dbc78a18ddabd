"""One service looked at: its engine's files, its unit, what it holds open, and where every path leads.

In the order of trust (durability catalogue C2): what the operator declared, what the engine's own files and command line say,
what the unit or the container engine declares, what is open for writing. A path that two of them know has the first one's role.
"""

import os
import posixpath
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from msgspec import Struct, field, structs

from holdfast_agent.probes.container_raw import ContainerRaw
from holdfast_agent.probes.container_state import engine_of_image, found_in, told
from holdfast_agent.probes.engines.engine import Discovery, Found, Running
from holdfast_agent.probes.engines.known import engine_of
from holdfast_agent.probes.inside_root_linux import InsideRoot, mount_id_of_path
from holdfast_agent.probes.kubelet_volumes import found_in_pod
from holdfast_agent.probes.open_files_linux import Held, held_by, mapped_by
from holdfast_agent.probes.process_table import Process, surroundings
from holdfast_agent.probes.service_processes import Group
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.state_mounts import Machine, hanging_in, hanging_mounts, mount_ids, parsed
from holdfast_agent.probes.state_raw import RIGHTS, OpenFile, Place, ServiceRaw, UnitRaw, View
from holdfast_agent.probes.state_roles import below, role_of_place
from holdfast_agent.probes.unit_paths import declared_paths

PATHS_MAX = 40
ENGINES_MAX = 8
PROCESSES_MAX = 200
OPEN_PATHS_MAX = 6
OPEN_FILES = "open files"
_RIGHTS = f"grant {RIGHTS}"
_FIRST_BELOW = ("/var/lib", "/var/log", "/srv", "/opt", "/var/opt", "/var/spool", "/var/mail")
"""Folders whose folders are one thing each."""


class Survey(Struct, frozen=True, kw_only=True):
    """How services are looked at."""

    procfs: Path
    machine: Machine
    own_mounts: str
    """The agent's mountinfo: what it sees where it may not see a service's."""
    declared: Sequence[tuple[str, Found]]
    """(service, path) of the operator's."""
    lists: dict[tuple[int, str], str] = field(default_factory=dict)
    """Mount namespace and root → mountinfo, as far as they were read at this look."""

    def running(
        self, group: Group, unit: UnitRaw | None, container: ContainerRaw | None = None
    ) -> ServiceRaw | None:
        """A service that has processes; None when they are gone before they could be looked at."""
        engines = group.engines[:ENGINES_MAX]
        main = _main(group, unit, engines)
        entered = self._entered(main.pid)
        if entered is None:
            return None
        view, root = entered
        with root:
            ids = mount_ids(view.mountinfo)
            discoveries = [self._discover(process, unit, root, ids) for process in engines]
            denied = [each for each in root.unreadable if each]
            hanging = set(hanging_in(view.mountinfo).values())
            pids = [process.pid for process in group.processes[:PROCESSES_MAX]]
            held = held_by(self.procfs, pids, None if view.denied else root, ids, hanging)
            mapped, library = mapped_by(self.procfs, main.pid)
            held.syncs_disabled_by = library or next((d.syncs_disabled_by for d in discoveries), "")
            engine = next(iter(engines), None)
            name = group.name or _own_name(engine, discoveries)
            if container and not group.unit:
                name = container.service
            known = [each.path for discovery in discoveries for each in discovery.paths]
            mounted = found_in(container, known) if container else []
            if group.name and not group.unit and not view.denied:
                mounts = parsed(view.mountinfo)
                pods = self.machine.pod_volumes(group.name, mounts)
                mounted += found_in_pod(mounts, pods, [*known, *(each.path for each in mounted)])
            found = self._paths(name, discoveries, unit, mounted, held, mapped, ids)
            by_engine = container is not None and bool(view.denied)
            return ServiceRaw(
                name=name,
                unit=unit,
                engine=_engine_name(engine),
                found=tuple(found),
                places={
                    each.path: _place(each.path, root, container if by_engine else None) for each in found
                },
                container=container,
                followed_by_engine=by_engine,
                open_files=tuple(file for file in held.files if file.deleted or file.shadowed),
                view=view,
                missing=tuple(_missing(discoveries, held, denied, view)),
                blind=held.denied,
                syncs_disabled_by=held.syncs_disabled_by,
            )

    def contained(self, container: ContainerRaw) -> ServiceRaw | None:
        """A container without processes, or without any that may be seen; None when it is not known to keep anything."""
        named = found_in(container)
        if all(found.confidence == "low" for found in named):
            return None
        found = self._merged([self._declared(container.service), named])
        with InsideRoot(Path("/"), hanging_mounts(parsed(self.own_mounts))) as root:
            return ServiceRaw(
                name=container.service,
                running=container.pid > 0,
                engine=engine_of_image(container),
                found=tuple(found),
                places={each.path: _place(each.path, root, container) for each in found},
                view=View(mountinfo=self.own_mounts),
                blind=True,
                container=container,
                followed_by_engine=True,
            )

    def stopped(self, name: str, unit: UnitRaw | None, engine: str, known: Iterable[Found]) -> ServiceRaw:
        """A service without processes: where its paths lead as the machine sees them."""
        found = self._merged([self._declared(name), list(known)])
        with InsideRoot(Path("/"), hanging_in(self.own_mounts)) as root:
            return ServiceRaw(
                name=name,
                unit=unit,
                running=False,
                engine=engine,
                found=tuple(found),
                places={each.path: root.place(each.path) for each in found},
                view=View(
                    mountinfo=self.own_mounts,
                    denied="it does not run, and its own view of the machine is gone",
                ),
                missing=(
                    "it does not run: what it holds open, and a layout it would take up, are not known",
                ),
                blind=True,
            )

    def _entered(self, pid: int) -> tuple[View, InsideRoot] | None:
        """A process's mounts and root; the agent's own where those may not be seen; None when the process is gone."""
        process = self.procfs / str(pid)
        try:
            view = View(mountinfo=self._mounts_of(process))
            return view, InsideRoot(process / "root", hanging_in(view.mountinfo))
        except PermissionError:
            denied = f"its own view of the machine may not be read; {_RIGHTS}"
            own = hanging_in(self.own_mounts)
            return View(mountinfo=self.own_mounts, denied=denied), InsideRoot(Path("/"), own)
        except OSError:
            return None

    def _mounts_of(self, process: Path) -> str:
        """Its mountinfo. Raises OSError.

        Processes of one namespace and root have one text, read once: on a machine with hundreds of mounts and services
        all of them together would be megabytes.
        """
        try:
            key = (os.stat(process / "ns" / "mnt").st_ino, os.readlink(process / "root"))
        except FileNotFoundError:
            return read_small(process / "mountinfo")  # the process is gone, or this procfs is a recorded one
        if key not in self.lists:
            self.lists[key] = read_small(process / "mountinfo")
        return self.lists[key]

    def _discover(
        self, process: Process, unit: UnitRaw | None, root: InsideRoot, mounts: Collection[int]
    ) -> Discovery:
        around = surroundings(process.pid)
        # On a mount that was detached lazily, names begin at the mount's own root and are somebody else's.
        on = mount_id_of_path(self.procfs / str(process.pid) / "cwd")
        detached = on != 0 and on not in mounts
        running = Running(
            arguments=process.arguments,
            environment=around.environment,
            directory="" if detached else around.directory,
            started_as=unit.started_as if unit else (),
        )
        engine = engine_of(running)
        assert engine is not None, "only engines are asked"
        discovery = engine.find(running, root)
        if around.denied:
            said = (*discovery.missing, f"its environment and working directory may not be read; {_RIGHTS}")
            discovery = structs.replace(discovery, missing=said)
        return discovery

    def _declared(self, name: str) -> list[Found]:
        return [found for service, found in self.declared if service == name]

    def _paths(
        self,
        name: str,
        discoveries: list[Discovery],
        unit: UnitRaw | None,
        mounted: list[Found],
        held: Held,
        mapped: list[str],
        mounts: Collection[int],
    ) -> list[Found]:
        ranks = [
            self._declared(name),
            [found for discovery in discoveries for found in discovery.paths],
            [*mounted, *(declared_paths(unit) if unit else [])],
        ]
        known = self._merged(ranks)
        files = [
            *(file for file in held.files if file.mount_id in mounts),
            *(OpenFile(path=path, process=0) for path in mapped),
        ]
        return (known + _open_paths(files, known))[:PATHS_MAX]

    @staticmethod
    def _merged(ranks: list[list[Found]]) -> list[Found]:
        merged: dict[str, Found] = {}
        for rank in ranks:
            for found in rank:
                path = posixpath.normpath(found.path)
                merged.setdefault(path, structs.replace(found, path=path))
        return list(merged.values())[:PATHS_MAX]


def _place(path: str, root: InsideRoot, container: ContainerRaw | None) -> Place:
    """Where a path leads; on the machine, where a container is given, to where its engine says it is."""
    if container is None:
        return root.place(path)
    there = told(container, path)
    return (
        root.place(there.machine_path) if there.machine_path else Place(error="its engine does not say where")
    )


def _main(group: Group, unit: UnitRaw | None, engines: list[Process]) -> Process:
    if engines:
        return engines[0]
    named = [each for each in group.processes if unit is not None and each.pid == unit.main_pid]
    return named[0] if named else group.processes[0]


def _engine_name(process: Process | None) -> str:
    engine = engine_of(Running(arguments=process.arguments)) if process else None
    return engine.name if engine else ""


def _own_name(process: Process | None, discoveries: list[Discovery]) -> str:
    """A database that no service manager knows is named by what it is and where it keeps its data."""
    paths = [found.path for discovery in discoveries for found in discovery.paths]
    return ":".join([_engine_name(process) or "process", *paths[:1]])


def _open_paths(files: Iterable[OpenFile], known: Iterable[Found]) -> list[Found]:
    """Folders in which files are open for writing that nothing else explains: nobody says what they are."""
    folders: dict[str, None] = {}
    for file in files:
        if any(below(file.path, found.path) for found in known):
            continue
        folder = _folder(file.path)
        if role_of_place(folder) not in ("runtime", "temp") and folder != "/":
            folders[folder] = None
    outermost = [one for one in folders if not any(below(one, other) and one != other for other in folders)]
    return [
        Found(path=folder, role=role_of_place(folder), source=OPEN_FILES, confidence="low")
        for folder in sorted(outermost)[:OPEN_PATHS_MAX]
    ]


def _folder(path: str) -> str:
    """The folder that a file stands for: `/var/lib/x` for all below it, else the one it is in."""
    for place in _FIRST_BELOW:
        inside = path.removeprefix(f"{place}/")
        if inside != path and "/" in inside:
            return f"{place}/{inside.partition('/')[0]}"
    return posixpath.dirname(path)


def _missing(discoveries: list[Discovery], held: Held, unreadable: list[str], view: View) -> list[str]:
    said = [each for discovery in discoveries for each in discovery.missing]
    if unreadable:
        said.append(f"{', '.join(unreadable[:5])}: may not or cannot be read; {_RIGHTS}, or look at its disk")
    if view.denied:
        said.append(f"{view.denied}; mounts of its own stay unknown")
    if held.denied:
        said.append(f"what it holds open may not be read; {_RIGHTS}; deleted and hidden files stay unknown")
    if held.cut:
        said.append("it holds more files open than are looked at")
    return said
