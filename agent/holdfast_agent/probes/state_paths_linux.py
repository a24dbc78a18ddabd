"""State paths: where each service keeps what must last, and on which volume that ends.

    service ──▶ path (role) ──▶ mount ──▶ device

A mount, a device and a service can each be in order while the state is lost at the next reboot, because the path between
them leads somewhere else than everybody thinks: a link onto the temporary disk, a private /tmp, a container's layer,
a mount put over the folder while the database writes on beneath it. So every path is followed as its service sees it
(`inside_root_linux`), to the mount's id, and named by the volume that `volumes` reports.

It looks every five minutes, which costs a hundredth of a percent of a core, and at once when something is mounted or
unmounted, but not more often than every ten seconds: container runtimes mount all day.

What is known of a service stays known while it does not run: it may not run because its volume is gone.
"""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from holdfast_agent.errors import Denied, Unsupported
from holdfast_agent.probe import (
    Emit,
    NoData,
    Observation,
    Poll,
    ProbeContext,
    Refresh,
    Signal,
    Watch,
    facts_of,
)
from holdfast_agent.probes.backup_media import backup_facts
from holdfast_agent.probes.block_devices_linux import name_of_number, name_of_path
from holdfast_agent.probes.block_sysfs_linux import read_btrfs, read_devices
from holdfast_agent.probes.cleaners import cleaners
from holdfast_agent.probes.container_socket_linux import read_containers
from holdfast_agent.probes.engines.engine import Found
from holdfast_agent.probes.media_raw import MediaRaw
from holdfast_agent.probes.missing_volumes import missing_volumes
from holdfast_agent.probes.mount_watch_linux import MOUNT, mount_changes
from holdfast_agent.probes.mountinfo import parse_fstab
from holdfast_agent.probes.paced_refresh import paced
from holdfast_agent.probes.process_table import processes
from holdfast_agent.probes.service_processes import containers_of, groups
from holdfast_agent.probes.service_survey_linux import Survey
from holdfast_agent.probes.small_file import read_small
from holdfast_agent.probes.state_facts import Surroundings, name_of, path_facts, service_facts
from holdfast_agent.probes.state_memory import Memory, Notes
from holdfast_agent.probes.state_mounts import Machine, parsed
from holdfast_agent.probes.state_raw import RIGHTS, ServiceRaw, StatePathsRaw, UnitRaw
from holdfast_agent.probes.state_roles import REQUIRED_CLASS, Role
from holdfast_agent.probes.systemd_bus_linux import BusLost
from holdfast_agent.probes.unit_reading_linux import read_units
from holdfast_wire import Resource
from holdfast_wire.fact import ResourceKind
from holdfast_wire.message import Value

T = TypeVar("T")

PATHS_MAX = 150
"""Of one node."""
SECTION_BYTES_MAX = 160_000
"""Of the section; a message carries 256 KiB, and other sections may come along."""
MOUNT_STORM_SECONDS = 10.0
LOOKS_MAX = 3
"""On a machine whose mounts never rest the last one counts."""
_KNOWN_NOTE, _SEEN_NOTE = "known", "seen"
_DAY = r"^(\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01]))?$"
_TMPFILES = ("etc/tmpfiles.d", "run/tmpfiles.d", "usr/local/lib/tmpfiles.d", "usr/lib/tmpfiles.d")
"""The first that has a file of a name counts (tmpfiles.d(5))."""


class DeclaredPath(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[[probes.state_paths.declare]]`: what an operator knows, and which wins over all that is found."""

    service: str
    path: str
    role: Role
    required_class: int = -1
    """-1: what the role needs."""
    until: Annotated[str, Meta(pattern=_DAY, description='a day as "2027-01-31"')] = ""
    """The last day on which this class holds, as the exception that it is; empty: for good."""


class StatePathSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[probes.state_paths]`."""

    declare: tuple[DeclaredPath, ...] = ()


class KnownService(Struct, frozen=True):
    """What was found of a service when it last ran."""

    engine: str
    found: tuple[Found, ...]


class StatePaths(Poll[StatePathsRaw], Watch):
    """The services' paths."""

    name = "state_paths"
    platforms = frozenset({"linux"})
    cost = "nobody knows which volume a service's data is on, or that it is on none that lasts"
    period_seconds = 300.0
    timeout_seconds = 30.0
    settings_type = StatePathSettings
    emits = (
        ("volume", "missing_under_state"),
        ("volume", "missing_for"),
        ("node", "services_out_of_sight"),
        ("node", "services_out_of_sight_right"),
        *(
            ("service", fact)
            for fact in (
                "description", "stateful", "engine", "state_paths", "state_paths_unresolved", "state_unresolved", "state_denied", "syncs_disabled",
                "syncs_disabled_by", "needs_daemon_reload",
            )
        ),
        *(
            ("state_path", fact)
            for fact in (
                "service", "path", "role", "required_class", "source", "confidence", "exists", "resolved",
                "resolved_path", "machine_path", "crosses_mounts", "mountpoint", "mount_id", "fstype", "device",
                "volatile", "container_layer", "container_volume", "syncs_ignored", "same_disk_as_data", "same_disk_as", "bytes", "fingerprint", "moved",
                "moved_from", "mount_missing", "missing_mountpoint", "shadowed", "shadowed_file",
                "deleted_open_bytes", "deleted_open_file", "cleaned", "cleaned_by", "mount_dependency",
                "exception_until", "exception_expired",
            )
        ),
    )  # fmt: skip
    told_by = (
        Signal(
            by=MOUNT,
            facts=(
                *facts_of("volume", "missing_under_state", "missing_for"),
                *facts_of("service", "state_paths_unresolved", "state_unresolved"),
                *facts_of(
                    "state_path", "exists", "resolved", "resolved_path", "machine_path", "crosses_mounts", "mountpoint",
                    "mount_id", "fstype", "device", "volatile", "syncs_ignored", "moved", "moved_from", "mount_missing",
                    "missing_mountpoint", "shadowed", "shadowed_file",
                ),
            ),
        ),
    )  # fmt: skip

    def __init__(self, context: ProbeContext) -> None:
        super().__init__(context)
        settings = context.settings
        self._settings = settings if isinstance(settings, StatePathSettings) else StatePathSettings()
        self._known = self._note(_KNOWN_NOTE, dict[str, KnownService]) or {}

    def check(self) -> None:
        if not (self.context.procfs / "self" / "mountinfo").exists():
            raise Unsupported(f"there is no {self.context.procfs}/self/mountinfo")

    async def watch(self, emit: Emit, refresh: Refresh) -> None:
        """Look when something is mounted or unmounted: paths may lead elsewhere now."""
        look = paced(refresh, at_once=1, per_second=1 / MOUNT_STORM_SECONDS)
        with mount_changes(self.context.procfs, look):
            await asyncio.Event().wait()

    def read(self) -> StatePathsRaw:
        """One look, and another when the mounts changed meanwhile.

        Names of files and lists of mounts would not belong together: what lies on a mount that was detached lazily is
        called by names that begin at the mount's own root, and they are somebody else's.
        """
        self.check()
        known = self._known
        for _ in range(LOOKS_MAX):
            self._known = known
            raw = self._look()
            if raw.machine_mounts == self._machine_mounts():
                break
        return raw

    def _machine_mounts(self) -> str:
        return _text(self.context.procfs / "1" / "mountinfo")

    def _look(self) -> StatePathsRaw:
        procfs = self.context.procfs
        machine, own = self._machine_mounts(), _text(procfs / "self" / "mountinfo")
        running, cut = processes()
        found = groups(running, {each.pid: _text(procfs / str(each.pid) / "cgroup") for each in running})
        wanted = {group.name for group in found if group.unit} | self._known.keys() | set(self._declared())
        units, systemd_missing = self._units(wanted)
        survey = Survey(
            procfs=procfs, machine=Machine(machine, own), own_mounts=own, declared=self._declarations()
        )
        engines = read_containers(self.context.rootfs)
        by_group = containers_of(found, engines.containers)
        services = [
            *(survey.running(group, units.get(group.name), by_group.get(group.name)) for group in found),
            *(survey.contained(each) for each in engines.containers if each not in by_group.values()),
        ]
        alive = [service for service in services if service is not None]
        stopped = self._stopped(survey, units, {service.name for service in alive})
        raw = StatePathsRaw(
            machine_mounts=machine,
            own_mounts=own,
            fstab=_text(self.context.rootfs / "etc" / "fstab"),
            tmpfiles=tuple(_tmpfiles(self.context.rootfs)),
            services=sorted([*alive, *stopped], key=lambda service: service.name),
            uptime_seconds=self.context.boot_clock(),
            wall=self.context.wall_clock(),
            systemd_missing=systemd_missing,
            containers_missing=engines.missing,
            cut=f"{cut} processes were not looked at" if cut else "",
        )
        self._remember(alive, units)
        return msgspec.structs.replace(raw, devices=self._devices(raw), media=self._media(raw))

    def interpret(self, raw: StatePathsRaw) -> Observation:
        if not raw.services:
            raise NoData("no service and no known database runs here")
        memory = Memory(self._note(_SEEN_NOTE, Notes) or Notes(), self.context.boot_id)
        around = Surroundings(
            machine=Machine(raw.machine_mounts, raw.own_mounts),
            fstab=parse_fstab(raw.fstab),
            cleaners=cleaners(raw.tmpfiles),
            devices=raw.devices,
            uptime_seconds=raw.uptime_seconds,
            today=datetime.fromtimestamp(raw.wall, UTC).date().isoformat(),
        )
        resources: list[Resource] = []
        missing: dict[str, str] = {}
        left, room = PATHS_MAX, SECTION_BYTES_MAX
        for service in sorted(raw.services, key=_weight):
            unresolved: dict[str, str] = {}
            stated: list[Resource] = []
            for found in service.found[:left]:
                facts, why = path_facts(service, found, around, memory)
                if why and facts["required_class"] != 0:
                    unresolved[found.path] = why
                name = name_of(service.name, found.path)
                stated.append(Resource(kind=ResourceKind.STATE_PATH, name=name, facts=facts))
            left = max(left - len(service.found), 0)
            facts = service_facts(service, unresolved)
            stated.append(Resource(kind=ResourceKind.SERVICE, name=service.name[:512], facts=facts))
            room -= sum(len(msgspec.json.encode(each)) for each in stated)
            if room < 0:
                left = 0
                break
            resources += stated
            if service.missing and facts.get("stateful", True) and (service.found or service.engine):
                missing[service.name[:200]] = "; ".join(service.missing)[:1000]
        if raw.media is not None:
            resources = backup_facts(resources, around.machine, raw.media)
        resources += [*missing_volumes(resources), self._node(resources)]
        if left == 0:
            missing["state paths"] = "there are more than a report carries; those of databases come first"
        if raw.systemd_missing:
            missing["units"] = f"{raw.systemd_missing}; what units declare and depend on is not known"
        for place, why in raw.containers_missing.items():
            missing[place] = f"{why}; without it containers that do not run, and their names, are not known"
        if raw.cut:
            missing["processes"] = raw.cut
        self.context.cursors.store(_SEEN_NOTE, msgspec.json.encode(memory.notes()))
        return Observation(resources=resources, missing=missing)

    def _node(self, resources: list[Resource]) -> Resource:
        """One missing right is one fact of the node, however many services it hides."""
        denied = sum(each.facts.get("state_denied") is True for each in resources)
        facts: dict[str, Value] = {"services_out_of_sight": denied}
        facts["services_out_of_sight_right"] = RIGHTS if denied else ""
        return Resource(kind=ResourceKind.NODE, name=self.context.node, facts=facts)

    def _declared(self) -> list[str]:
        return [each.service for each in self._settings.declare]

    def _declarations(self) -> list[tuple[str, Found]]:
        return [
            (
                each.service,
                Found(
                    path=each.path,
                    role=each.role,
                    source="declared",
                    required_class=REQUIRED_CLASS[each.role]
                    if each.required_class < 0
                    else each.required_class,
                    until=each.until,
                ),
            )
            for each in self._settings.declare
        ]

    def _units(self, wanted: set[str]) -> tuple[dict[str, UnitRaw], str]:
        """The units wanted, and why there are none."""
        if not (self.context.rootfs / "run" / "systemd" / "system").is_dir():
            return {}, ""  # sd_booted(3): no systemd, so there are no units to know
        try:
            return read_units(self.context.rootfs, wanted), ""
        except (Denied, Unsupported) as stop:
            return {}, stop.reason
        except (BusLost, TimeoutError) as error:
            return {}, str(error) or "systemd did not answer"

    def _stopped(self, survey: Survey, units: dict[str, UnitRaw], alive: set[str]) -> list[ServiceRaw]:
        """Services that do not run: those an operator declared, and those known that systemd still has."""
        names = [name for name in {**self._known, **dict.fromkeys(self._declared())} if name not in alive]
        stopped = []
        for name in names:
            known = self._known.get(name, KnownService("", ()))
            if name in units or name in self._declared():
                stopped.append(survey.stopped(name, units.get(name), known.engine, known.found))
        return stopped

    def _remember(self, alive: list[ServiceRaw], units: dict[str, UnitRaw]) -> None:
        self._known = dict(self._known)
        for service in alive:
            lasting = tuple(found for found in service.found if found.confidence != "low")
            if service.name in units and lasting:
                self._known[service.name] = KnownService(service.engine, lasting)
        if units:
            self._known = {name: known for name, known in self._known.items() if name in units}
        self.context.cursors.store(_KNOWN_NOTE, msgspec.json.encode(self._known))

    def _devices(self, raw: StatePathsRaw) -> dict[str, str]:
        devices = {}
        texts = {raw.machine_mounts, *(service.view.mountinfo for service in raw.services)}
        for mount in (mount for text in texts for mount in parsed(text)):
            if mount.number in devices:
                continue
            name = name_of_number(self.context.sysfs, mount.number) if mount.major else None
            if name is None and mount.source.startswith("/dev/"):
                name = name_of_path(mount.source)
            if name:
                devices[mount.number] = name
        return devices

    def _media(self, raw: StatePathsRaw) -> MediaRaw | None:
        """What lies below all mounts, where a backup has to be told from what it is one of."""
        if not any(found.role == "backup" for service in raw.services for found in service.found):
            return None
        sources = {mount.source for text in (raw.machine_mounts, raw.own_mounts) for mount in parsed(text)}
        return MediaRaw(
            machine_mounts=raw.machine_mounts,
            own_mounts=raw.own_mounts,
            devices=read_devices(self.context.sysfs, self.context.rootfs),
            btrfs=read_btrfs(self.context.sysfs),
            paths={path: name_of_path(path) for path in sorted(sources) if path.startswith("/dev/")},
        )

    def _note(self, name: str, type_: type[T]) -> T | None:
        try:
            note = self.context.cursors.load(name)
            return None if note is None else msgspec.json.decode(note, type=type_)
        except msgspec.DecodeError:
            return None


def _weight(service: ServiceRaw) -> tuple[bool, bool, str]:
    """Databases first, then what declares state, then the rest: a node with too much loses from the end."""
    return (not service.engine, not any(found.confidence != "low" for found in service.found), service.name)


def _tmpfiles(rootfs: Path) -> list[str]:
    files: dict[str, Path] = {}
    for folder in _TMPFILES:
        for path in sorted((rootfs / folder).glob("*.conf")):
            files.setdefault(path.name, path)
    return [line for name in sorted(files) for line in _text(files[name]).splitlines() if line.strip()]


def _text(path: Path) -> str:
    try:
        return read_small(path)
    except OSError:
        return ""
